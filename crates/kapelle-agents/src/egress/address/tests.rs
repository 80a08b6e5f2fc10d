//! Every special block at its first and last address, in the middle, and just outside.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Global,
    Private,
    Never,
}
use Kind::{Global, Never, Private};

fn kind(address: IpAddr) -> Kind {
    match reach(address) {
        Reach::Global => Global,
        Reach::Private => Private,
        Reach::Never(_) => Never,
    }
}

/// A block, its kind, and the kinds of its neighbours below and above.
type Block = (&'static str, u32, Kind, Option<Kind>, Option<Kind>);

const V4: [Block; 23] = [
    ("0.0.0.0", 8, Never, None, Some(Global)),
    ("10.0.0.0", 8, Private, Some(Global), Some(Global)),
    ("100.64.0.0", 10, Private, Some(Global), Some(Global)),
    ("127.0.0.0", 8, Private, Some(Global), Some(Global)),
    ("169.254.0.0", 16, Never, Some(Global), Some(Global)),
    ("169.254.169.254", 32, Never, Some(Never), Some(Never)),
    ("100.100.100.200", 32, Never, Some(Private), Some(Private)),
    ("168.63.129.16", 32, Never, Some(Global), Some(Global)),
    ("172.16.0.0", 12, Private, Some(Global), Some(Global)),
    ("192.0.0.0", 24, Never, Some(Global), Some(Global)),
    ("192.0.2.0", 24, Never, Some(Global), Some(Global)),
    ("192.31.196.0", 24, Never, Some(Global), Some(Global)),
    ("192.52.193.0", 24, Never, Some(Global), Some(Global)),
    ("192.88.99.0", 24, Never, Some(Global), Some(Global)),
    ("192.168.0.0", 16, Private, Some(Global), Some(Global)),
    ("192.175.48.0", 24, Never, Some(Global), Some(Global)),
    ("198.18.0.0", 15, Never, Some(Global), Some(Global)),
    ("198.51.100.0", 24, Never, Some(Global), Some(Global)),
    ("203.0.113.0", 24, Never, Some(Global), Some(Global)),
    ("224.0.0.0", 4, Never, Some(Global), Some(Never)),
    ("240.0.0.0", 4, Never, Some(Never), None),
    ("255.255.255.255", 32, Never, Some(Never), None),
    ("8.8.8.8", 32, Global, Some(Global), Some(Global)),
];

const V6: [Block; 27] = [
    ("::", 128, Never, None, Some(Private)),
    ("::1", 128, Private, Some(Never), Some(Never)),
    ("::ffff:0:0", 104, Never, Some(Never), Some(Global)),
    ("::ffff:7f00:0", 104, Private, Some(Global), Some(Global)),
    ("::ffff:a9fe:a9fe", 128, Never, Some(Never), Some(Never)),
    ("::ffff:808:808", 128, Global, Some(Global), Some(Global)),
    ("64:ff9b::808:808", 128, Global, Some(Global), Some(Global)),
    ("64:ff9b::a00:0", 104, Never, Some(Global), Some(Global)),
    ("64:ff9b::7f00:0", 104, Never, Some(Global), Some(Global)),
    ("64:ff9b::a9fe:0", 112, Never, Some(Global), Some(Global)),
    ("64:ff9b:1::", 48, Never, Some(Never), Some(Never)),
    ("100::", 64, Never, Some(Never), Some(Never)),
    ("2001::", 32, Never, Some(Global), Some(Never)),
    ("2001::", 23, Never, Some(Global), Some(Global)),
    ("2001:db8::", 32, Never, Some(Global), Some(Global)),
    ("2002::", 16, Never, Some(Global), Some(Global)),
    ("2606:4700::", 32, Global, Some(Global), Some(Global)),
    ("2620:4f:8000::", 48, Never, Some(Global), Some(Global)),
    ("3fff::", 20, Never, Some(Global), Some(Global)),
    ("2000::", 16, Global, Some(Never), Some(Never)),
    ("4000::", 3, Never, Some(Global), Some(Never)),
    ("fc00::", 8, Private, Some(Never), Some(Private)),
    ("fd00:ec2::254", 128, Never, Some(Private), Some(Private)),
    ("fd20:ce::254", 128, Never, Some(Private), Some(Private)),
    ("fe80::", 10, Never, Some(Never), Some(Never)),
    ("fec0::", 10, Never, Some(Never), Some(Never)),
    ("ff00::", 8, Never, Some(Never), None),
];

#[test]
fn every_block_of_ipv4_is_judged_to_its_edges() {
    let mut judged = 0;
    for (first, prefix, expected, below, above) in V4 {
        let first = u32::from(first.parse::<Ipv4Addr>().unwrap());
        let last = first | u32::MAX.checked_shr(prefix).unwrap_or(0);
        // Metadata services lie within larger blocks and are in the table themselves.
        let inside = [first, first + (last - first) / 3, last];
        let outside = [below.map(|kind| (first - 1, kind)), above.map(|kind| (last + 1, kind))];
        let expected = inside.map(|address| (address, expected));
        for (address, expected) in expected.into_iter().chain(outside.into_iter().flatten()) {
            let address = Ipv4Addr::from(address);
            assert_eq!(kind(address.into()), expected, "{address}");
            assert_eq!(kind(address.to_ipv6_mapped().into()), expected, "mapped {address}");
            judged += 2;
        }
    }
    assert!(judged > 200, "{judged}");
}

#[test]
fn every_block_of_ipv6_is_judged_to_its_edges() {
    let mut judged = 0;
    for (first, prefix, expected, below, above) in V6 {
        let first = u128::from(first.parse::<Ipv6Addr>().unwrap());
        let last = first | u128::MAX.checked_shr(prefix).unwrap_or(0);
        let inside = [first, first + (last - first) / 3, last];
        let outside = [below.map(|kind| (first - 1, kind)), above.map(|kind| (last + 1, kind))];
        let expected = inside.map(|address| (address, expected));
        for (address, expected) in expected.into_iter().chain(outside.into_iter().flatten()) {
            let address = Ipv6Addr::from(address);
            assert_eq!(kind(address.into()), expected, "{address}");
            judged += 1;
        }
    }
    assert!(judged > 100, "{judged}");
}

#[test]
fn an_address_behind_a_translator_is_never_private() {
    for carried in 0..=u16::MAX {
        let [a, b] = carried.to_be_bytes();
        let plain = Ipv4Addr::new(a, b, 1, 1);
        let behind = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, carried, 0x0101);
        let expected = if kind(plain.into()) == Global { Global } else { Never };
        assert_eq!(kind(behind.into()), expected, "{plain}");
    }
}
