//! How many requests are taken: of each key and each address so many a second, as many at once.
//!
//! **Invariants:** control calls (pause, cancel, approve, probes) have a lane of their own, so that whoever
//! asks too much can still stop what they began. What is remembered is bounded: beyond it those who are not
//! remembered share one bucket.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Caller;
use super::permission::Permission;
use crate::server::problem::Problem;

/// How many keys and how many addresses are remembered in a lane.
const BUCKETS_MAX: usize = 10_000;

/// What may come in a second; 0: whatever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Of each key, and of each address.
    pub(crate) requests: u32,
    /// The same of control calls.
    pub(crate) control: u32,
    /// What is refused since nobody knows who asks, of each address.
    pub(crate) unknown: u32,
}

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Lane {
    Requests,
    Control,
}

impl Lane {
    /// The lane of a route that needs that.
    pub(in crate::server) const fn of(needs: Option<Permission>) -> Self {
        match needs {
            None | Some(Permission::TaskCancel | Permission::RunApprove) => Self::Control,
            Some(_) => Self::Requests,
        }
    }
}

/// Who has asked how much.
pub(crate) struct Limits {
    rates: Rates,
    lanes: [Mutex<Buckets>; 2],
    unknown: Mutex<Kept<IpAddr>>,
}

#[derive(Default)]
struct Buckets {
    keys: Kept<Box<str>>,
    addresses: Kept<IpAddr>,
}

/// Buckets by whose they are, and one for all who are not remembered.
struct Kept<K> {
    buckets: HashMap<K, Bucket>,
    rest: Option<Bucket>,
    /// When it was last looked for those that are full again.
    swept: Option<Instant>,
}

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self { buckets: HashMap::new(), rest: None, swept: None }
    }
}

/// What is left of a second's requests, as of then.
struct Bucket {
    left: f64,
    at: Instant,
}

impl Limits {
    pub(crate) fn new(rates: Rates) -> Self {
        Self { rates, lanes: Default::default(), unknown: Mutex::default() }
    }

    /// Takes a request of `caller`, or refuses it.
    pub(in crate::server) fn take(
        &self,
        lane: Lane,
        caller: &Caller,
        peer: IpAddr,
    ) -> Result<(), Problem> {
        let rate = match lane {
            Lane::Requests => self.rates.requests,
            Lane::Control => self.rates.control,
        };
        if rate == 0 {
            return Ok(());
        }
        let (now, peer) = (Instant::now(), network_of(peer));
        let mut lane = self.lanes[lane as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if !lane.addresses.take(&peer, || peer, rate, now) {
            return Err(Problem::too_many("this address asks"));
        }
        let name = &*caller.name;
        if !caller.is_nobody() && !lane.keys.take(name, || name.into(), rate, now) {
            return Err(Problem::too_many(&format!("`{name}` asks")));
        }
        Ok(())
    }

    /// Takes a request of somebody unknown that was refused for that, or refuses to say so once more.
    pub(super) fn take_unknown(&self, peer: IpAddr) -> Result<(), Problem> {
        let (rate, peer) = (self.rates.unknown, network_of(peer));
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if rate == 0 || unknown.take(&peer, || peer, rate, Instant::now()) {
            return Ok(());
        }
        Err(Problem::too_many("this address asks without a key that opens anything"))
    }
}

impl<K: Eq + Hash> Kept<K> {
    fn take<Q: Eq + Hash + ?Sized>(
        &mut self,
        who: &Q,
        own: impl FnOnce() -> K,
        rate: u32,
        now: Instant,
    ) -> bool
    where
        K: Borrow<Q>,
    {
        if let Some(bucket) = self.buckets.get_mut(who) {
            return bucket.take(rate, now);
        }
        let sweeps = self.swept.is_none_or(|swept| now - swept >= Duration::from_secs(1));
        if self.buckets.len() >= BUCKETS_MAX && sweeps {
            self.swept = Some(now);
            // Whoever has not asked for a second is as if they never had.
            self.buckets.retain(|_, bucket| bucket.filled(rate, now) < f64::from(rate));
        }
        let full = || Bucket { left: f64::from(rate), at: now };
        if self.buckets.len() >= BUCKETS_MAX {
            return self.rest.get_or_insert_with(full).take(rate, now);
        }
        self.buckets.entry(own()).or_insert_with(full).take(rate, now)
    }
}

impl Bucket {
    /// What is left by now.
    fn filled(&self, rate: u32, now: Instant) -> f64 {
        let rate = f64::from(rate);
        (self.left + now.saturating_duration_since(self.at).as_secs_f64() * rate).min(rate)
    }

    fn take(&mut self, rate: u32, now: Instant) -> bool {
        self.left = self.filled(rate, now);
        self.at = now;
        let has = self.left >= 1.0;
        if has {
            self.left -= 1.0;
        }
        has
    }
}

/// An address of IPv6 is one of so many that one host has: those count as one.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { requests: 10, control: 3, unknown: 2 };

    fn key(name: &str) -> Caller {
        Caller { name: name.into(), is_owner: false, ..Caller::owner() }
    }

    fn taken(limits: &Limits, lane: Lane, caller: &Caller, peer: &str) -> usize {
        let peer = peer.parse().unwrap();
        (0..100).take_while(|_| limits.take(lane, caller, peer).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_asks_too_much_is_refused_for_a_while_and_may_still_stop_things() {
        let limits = Limits::new(RATES);
        let (a, b) = (key("a"), key("b"));
        assert_eq!(taken(&limits, Lane::Requests, &a, "10.0.0.1"), 10);
        // From elsewhere it is the same key; from there another one is the same address.
        assert_eq!(taken(&limits, Lane::Requests, &a, "10.0.0.2"), 0);
        assert_eq!(taken(&limits, Lane::Requests, &b, "10.0.0.1"), 0);
        assert_eq!(taken(&limits, Lane::Requests, &b, "10.0.0.3"), 10);
        assert_eq!(taken(&limits, Lane::Control, &a, "10.0.0.1"), 3);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(taken(&limits, Lane::Requests, &a, "10.0.0.1"), 5);
        assert_eq!(taken(&limits, Lane::Control, &a, "10.0.0.1"), 1);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(taken(&limits, Lane::Requests, &a, "10.0.0.1"), 10);
        let open = Limits::new(Rates { requests: 0, control: 0, unknown: 0 });
        assert_eq!(taken(&open, Lane::Requests, &a, "10.0.0.1"), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_addresses_are_remembered_and_the_others_share() {
        let limits = Limits::new(RATES);
        let take = |n: u32| limits.take_unknown(IpAddr::V4(n.into())).is_ok();
        assert!((0..10_000).all(take));
        // All others together, and each of the first as before.
        assert_eq!((20_000..20_100).filter(|n| take(*n)).count(), 2);
        assert!(take(7) && !take(7));
        assert_eq!(limits.unknown.lock().unwrap().buckets.len(), BUCKETS_MAX);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(take(30_000));
        assert!(limits.unknown.lock().unwrap().buckets.len() < 10);
        // One host of IPv6 has many addresses.
        let six = |text: &str| limits.take_unknown(text.parse().unwrap()).is_ok();
        assert!(six("2001:db8::1") && six("2001:db8::2") && !six("2001:db8::3"));
        assert!(six("2001:db8:0:1::1"));
    }
}
