//! What each key may use: token buckets, and whether it kept what a 429 told it.
//!
//! **Invariant:** a request is let in or not as a whole: no bucket pays for one that is refused.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::script::{Limit, Limits};

/// The buckets of all keys.
#[derive(Debug, Default)]
pub(crate) struct Limiter(HashMap<String, Buckets>);

/// A request that came although a 429 had told its key to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Early {
    /// How long it still had to wait.
    pub left_ms: u64,
    /// How long ago it was told: what was on its way by then could not know.
    pub since_ms: u64,
    /// Whether it is the very request that was refused.
    pub same: bool,
}

/// Where a bucket stands, for the headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub(crate) kind: Kind,
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// How long until it is full.
    pub(crate) full_in_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Requests,
    Input,
    Output,
    Tokens,
}

#[derive(Debug, Default)]
struct Buckets {
    buckets: Vec<Bucket>,
    silent: bool,
    /// When each refused body, and any at all, was told to wait, and until when.
    told: HashMap<Option<[u8; 32]>, (u64, u64)>,
}

#[derive(Debug)]
struct Bucket {
    kind: Kind,
    per_minute: u64,
    size: f64,
    level: f64,
    at_ms: u64,
}

impl Limiter {
    /// Whether the key should still have waited with this body.
    pub(crate) fn early(&mut self, key: &str, body: [u8; 32], now_ms: u64) -> Option<Early> {
        let told = &self.0.get(key)?.told;
        let still = |who: Option<[u8; 32]>| told.get(&who).filter(|(_, until)| now_ms < *until);
        let (same, (at, until)) = match (still(Some(body)), still(None)) {
            (Some(told), _) => (true, told),
            (None, Some(told)) => (false, told),
            (None, None) => return None,
        };
        Some(Early { left_ms: until - now_ms, since_ms: now_ms.saturating_sub(*at), same })
    }

    /// Takes one request and its prompt's tokens, or says in how many milliseconds there is room.
    pub(crate) fn take(
        &mut self,
        key: &str,
        limits: &Limits,
        tokens: u64,
        now_ms: u64,
    ) -> Result<(), u64> {
        let buckets = self.of(key, limits, now_ms);
        let costs = |kind: Kind| match kind {
            Kind::Requests => 1,
            Kind::Input | Kind::Tokens => tokens,
            Kind::Output => 0,
        };
        let fill = |bucket: &mut Bucket| bucket.fill(now_ms);
        buckets.buckets.iter_mut().for_each(fill);
        let waits = buckets.buckets.iter().map(|bucket| bucket.wait_ms(costs(bucket.kind)));
        match waits.max().unwrap_or(0) {
            0 => {
                buckets.buckets.iter_mut().for_each(|bucket| bucket.pay(costs(bucket.kind)));
                Ok(())
            }
            wait_ms => Err(wait_ms),
        }
    }

    /// Pays for an answer, which may leave a debt.
    pub(crate) fn answered(&mut self, key: &str, tokens: u64) {
        let Some(buckets) = self.0.get_mut(key) else { return };
        let paying = |b: &&mut Bucket| matches!(b.kind, Kind::Output | Kind::Tokens);
        buckets.buckets.iter_mut().filter(paying).for_each(|bucket| bucket.pay(tokens));
    }

    /// Notes that the key was told to wait.
    pub(crate) fn told(&mut self, key: &str, body: [u8; 32], now_ms: u64, wait_ms: u64) {
        let buckets = self.0.entry(key.to_owned());
        let buckets = buckets.or_default();
        buckets.told.retain(|_, (_, until)| now_ms < *until);
        for who in [None, Some(body)] {
            let told = buckets.told.entry(who).or_insert((now_ms, 0));
            if told.1 < now_ms + wait_ms {
                *told = (now_ms, now_ms + wait_ms);
            }
        }
    }

    pub(crate) fn levels(&self, key: &str) -> Vec<Level> {
        let told = self.0.get(key).filter(|buckets| !buckets.silent);
        told.into_iter().flat_map(|buckets| &buckets.buckets).map(Bucket::told).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn of(&mut self, key: &str, limits: &Limits, now_ms: u64) -> &mut Buckets {
        let buckets = self.0.entry(key.to_owned());
        let buckets = buckets.or_default();
        if buckets.buckets.is_empty() {
            let kinds = [
                (Kind::Requests, limits.requests),
                (Kind::Input, limits.input_tokens),
                (Kind::Output, limits.output_tokens),
                (Kind::Tokens, limits.tokens),
            ];
            let bucket =
                |(kind, limit): (Kind, Option<Limit>)| Some(Bucket::new(kind, limit?, now_ms));
            buckets.buckets = kinds.into_iter().filter_map(bucket).collect();
            buckets.silent = limits.silent;
        }
        buckets
    }
}

impl Bucket {
    fn new(kind: Kind, limit: Limit, now_ms: u64) -> Self {
        let size = float(limit.burst.unwrap_or(limit.per_minute));
        Self { kind, per_minute: limit.per_minute, size, level: size, at_ms: now_ms }
    }

    fn per_ms(&self) -> f64 {
        float(self.per_minute) / 60_000.0
    }

    fn fill(&mut self, now_ms: u64) {
        let since = float(now_ms.saturating_sub(self.at_ms));
        self.level = self.size.min(self.level + since * self.per_ms());
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// In how long it could pay; a price beyond its size is due when it is full.
    fn wait_ms(&self, price: u64) -> u64 {
        // A bucket that pays afterwards has to be out of debt at least.
        let needed = float(price.max(1)).min(self.size);
        self.ms_until(needed)
    }

    fn ms_until(&self, level: f64) -> u64 {
        // What is missing by a millionth is an error of floating point.
        let missing = (level - self.level - 0.000_001).max(0.0);
        whole((missing / self.per_ms()).ceil())
    }

    fn pay(&mut self, price: u64) {
        self.level -= float(price);
    }

    fn told(&self) -> Level {
        Level {
            kind: self.kind,
            limit: self.per_minute,
            remaining: whole(self.level.floor()),
            full_in_ms: self.ms_until(self.size),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}

/// The number without what is behind the point; nothing below 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate, and below 0 is 0 here"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
