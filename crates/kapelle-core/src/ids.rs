//! Names of things: runs, steps, attempts, shards, tenants.
//!
//! **Invariant:** an id is parsed once, at the edge; inside, a wrong id cannot be written down.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A text that is not the id it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct BadId {
    text: String,
    expected: &'static str,
}

impl BadId {
    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), expected }
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str($crate::ids::AsText::<Self>::default())
            }
        }
    };
}
pub(crate) use serde_as_text;

/// Reads a text where it is, without a copy.
pub(crate) struct AsText<T>(PhantomData<T>);

impl<T> Default for AsText<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromStr<Err: fmt::Display>> serde::de::Visitor<'_> for AsText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// The id of a run: a `UUIDv7` whose last byte is its shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId([u8; 16]);

impl RunId {
    /// An id for a run created at `now` in `shard`; `random` makes it unique.
    #[must_use]
    pub fn new(now: Timestamp, random: [u8; 10], shard: Shard) -> Self {
        let ms = u64::try_from(now.0 / 1000).unwrap_or(0);
        let mut bytes =
            *uuid::Builder::from_unix_timestamp_millis(ms, &random).as_uuid().as_bytes();
        bytes[15] = shard.0;
        Self(bytes)
    }

    /// The id made of these bytes, as a store keeps them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Its 32 digits without anything between them: as the id of a trace.
    #[must_use]
    pub fn simple(&self) -> String {
        uuid::Uuid::from_bytes(self.0).simple().to_string()
    }

    /// When it was made, to the millisecond.
    #[must_use]
    pub fn made_at(&self) -> Timestamp {
        let ms = self.0[..6].iter().fold(0_i64, |ms, byte| ms << 8 | i64::from(*byte));
        Timestamp(ms * 1000)
    }

    /// The shard that holds the run.
    #[must_use]
    pub const fn shard(&self) -> Shard {
        Shard(self.0[15])
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let uuid = uuid::Uuid::try_parse(text).map_err(|_| BadId::new(text, "a run id"))?;
        Ok(Self(*uuid.as_bytes()))
    }
}

serde_as_text!(RunId);

/// One of the 256 shares of the runs: one sequence of entries, one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shard(pub u8);

impl Shard {
    /// All shards, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }
}

/// How often a shard has been claimed: an append with an older epoch is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Whose runs these are. Everything belongs to `default` until tenants can be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The tenant with this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self::new("default")
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The process that works on a shard, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The node with this name: lower-case letters, digits and `-`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a step in its plan: `[A-Za-z0-9_-]{1,64}`; a grown step's is its
/// template's and a path, as in `per-file.3.inner`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(Arc<str>);

impl StepId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the part `inner` of this step.
    #[must_use]
    pub fn grown(&self, inner: &str) -> Self {
        Self(format!("{}.{inner}", self.0).into())
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for StepId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for StepId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let part = |part: &str| {
            (1..=64).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if text.split('.').all(part) {
            Ok(Self(text.into()))
        } else {
            Err(BadId::new(text, "a step id (letters, digits, `_` and `-`, at most 64)"))
        }
    }
}

serde_as_text!(StepId);

/// The place of a step in its run's arena: what the journal writes instead of the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepNo(pub u32);

impl StepNo {
    /// The place as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a plan has fewer than 2^32 steps"))
    }
}

/// The n-th try of a step, from 1: the fence of its answers, never part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_carries_its_shard_and_its_time() {
        let id = RunId::new(Timestamp(1_700_000_000_000_000), [7; 10], Shard(0xab));
        assert_eq!(id.shard(), Shard(0xab));
        assert!(id.to_string().starts_with("018bcfe5-6800-7"), "{id}");
        assert_eq!(id.to_string().parse::<RunId>(), Ok(id));
        assert_eq!(format!("{id:?}"), id.to_string());
        assert_eq!(id.as_bytes()[..4], [0x01, 0x8b, 0xcf, 0xe5]);
    }

    #[test]
    fn step_ids_are_checked() {
        assert!("a-b_C9".parse::<StepId>().is_ok());
        assert!("per-file.3.inner".parse::<StepId>().is_ok());
        for bad in ["", "a b", "ä", "a..b", &"x".repeat(65)] {
            assert!(bad.parse::<StepId>().is_err(), "{bad}");
        }
        let wrong = serde_json::from_str::<StepId>("7").unwrap_err().to_string();
        assert!(wrong.contains("integer `7`, expected a string"), "{wrong}");
    }

    #[test]
    fn names_are_shown_as_they_are() {
        let (tenant, node) = (Tenant::new("acme"), NodeId::new("n-1"));
        assert_eq!((tenant.as_str(), &*tenant.to_string()), ("acme", "acme"));
        assert_eq!((node.as_str(), &*node.to_string()), ("n-1", "n-1"));
        assert_eq!(Tenant::default().as_str(), "default");
        let step: StepId = "each.3".parse().unwrap();
        assert_eq!((step.to_string(), format!("{step:?}")), ("each.3".into(), "\"each.3\"".into()));
        assert_eq!((Attempt(3).to_string(), Attempt(3).next()), ("3".to_owned(), Attempt(4)));
    }

    #[test]
    fn shards_are_all_there() {
        let all: Vec<_> = Shard::all().collect();
        assert_eq!((all.len(), all[0], all[255]), (256, Shard(0), Shard(255)));
    }
}
