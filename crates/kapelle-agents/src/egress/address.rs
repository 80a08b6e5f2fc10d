//! What kind of place an IP address is.
//!
//! **Invariant:** what is not known to be harmless is [`Reach::Never`]: only `2000::/3` without its
//! special blocks is global, and an address that carries another one is judged by that.
//! After the IANA special-purpose registries and the documents of the large clouds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Somewhere on the internet.
    Global,
    /// This machine, or a network of one's own.
    Private,
    /// Nowhere that a request has any business, and why.
    Never(&'static str),
}

/// What kind of place `address` is.
#[must_use]
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    use Reach::{Global, Never, Private};
    match address.octets() {
        [0, ..] => Never("an unspecified address"),
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [100, 100, 100, 200]
        | [168, 63, 129, 16] => Never("a metadata service"),
        [169, 254, ..] => Never("a link-local address"),
        [127, ..] | [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Private,
        [192, 0, 0, _] => Never("an address of protocols"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Never("a documentation address"),
        [192, 88, 99, _] => Never("a 6to4 relay"),
        [192, 31, 196, _] | [192, 52, 193, _] | [192, 175, 48, _] => {
            Never("an address of protocols")
        }
        [198, 18 | 19, ..] => Never("a benchmark address"),
        [224..=239, ..] => Never("a multicast address"),
        [240..=255, ..] => Never("a reserved address"),
        _ => Global,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    use Reach::{Global, Never, Private};
    const EC2: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const EC2_TIME: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x123);
    const EKS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23);
    const GCE: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    if matches!(address, EC2 | EC2_TIME | EKS | GCE) {
        return Never("a metadata service");
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => reach_v4(carried(address)),
        [0, 0, 0, 0, 0, 0, 0, 0] => Never("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Private,
        // A translator leads to what it carries; our own networks are not reached through one.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => match reach_v4(carried(address)) {
            Private => Never("a private address behind a translator"),
            other => other,
        },
        [0x64, 0xff9b, ..] => Never("an address of a local translator"),
        [0xfc00..=0xfdff, ..] => Private,
        [0xfe80..=0xfebf, ..] => Never("a link-local address"),
        [0xfec0..=0xfeff, ..] => Never("a site-local address"),
        [0xff00..=0xffff, ..] => Never("a multicast address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Never("a documentation address"),
        [0x2001, 0, ..] => Never("a Teredo tunnel"),
        [0x2001, 0..=0x1ff, ..] => Never("an address of protocols"),
        [0x2002, ..] => Never("a 6to4 tunnel"),
        [0x2620, 0x4f, 0x8000, ..] => Never("an address of protocols"),
        [0x2000..=0x3fff, ..] => Global,
        _ => Never("a reserved address"),
    }
}

/// The IPv4 address in the last 32 bits.
fn carried(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests;
