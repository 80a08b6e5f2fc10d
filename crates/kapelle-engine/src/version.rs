//! Whether anything has happened in a run since it was read: what was read under a version is as it is on disk for
//! as long as the version is the same.
//!
//! **Invariants:** a version changes before anybody is told what has happened. There is one only of runs whose shard is
//! this node's, for nobody else writes to those; but for pruning, which takes runs that have ended.

use std::sync::atomic::{AtomicU64, Ordering};

use kapelle_core::{RunId, Shard};

/// How many counters there are: runs that share one are read again when something happens in the other.
const COUNTERS: usize = 4_096;

/// The state of a run, without saying what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    claim: u64,
    changes: u64,
}

/// The versions of all runs.
pub(crate) struct Versions {
    /// By shard: which claim of it holds; 0: none.
    claims: Box<[AtomicU64]>,
    /// By run, many to one.
    changes: Box<[AtomicU64]>,
    last: AtomicU64,
}

impl Default for Versions {
    fn default() -> Self {
        let zeros = |count| std::iter::repeat_with(AtomicU64::default).take(count).collect();
        let shards = usize::from(u8::MAX) + 1;
        Self { claims: zeros(shards), changes: zeros(COUNTERS), last: AtomicU64::new(0) }
    }
}

impl Versions {
    /// The version of a run, if nobody else may change it.
    pub(crate) fn of(&self, run: RunId) -> Option<Version> {
        let claim = self.claims[usize::from(run.shard().0)].load(Ordering::Acquire);
        let changes = self.counter(run).load(Ordering::Acquire);
        (claim > 0).then_some(Version { claim, changes })
    }

    /// Something has happened in a run.
    pub(crate) fn change(&self, run: RunId) {
        self.counter(run).fetch_add(1, Ordering::Release);
    }

    /// A shard is this node's from here on.
    pub(crate) fn hold(&self, shard: Shard) {
        let claim = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.claims[usize::from(shard.0)].store(claim, Ordering::Release);
    }

    /// It is not any more.
    pub(crate) fn leave(&self, shard: Shard) {
        self.claims[usize::from(shard.0)].store(0, Ordering::Release);
    }

    fn counter(&self, run: RunId) -> &AtomicU64 {
        // Past the time, which many have in common, and before the shard.
        let bytes = run.as_bytes();
        let number = usize::from(bytes[13]) << 8 | usize::from(bytes[14]);
        &self.changes[number % COUNTERS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_ends_with_a_change_and_with_a_claim() {
        let (versions, run) = (Versions::default(), RunId::from_bytes([7; 16]));
        assert_eq!(versions.of(run), None, "it is nobody's");
        versions.hold(run.shard());
        let first = versions.of(run);
        assert!(first.is_some() && first == versions.of(run));
        versions.change(run);
        let second = versions.of(run);
        assert_ne!(first, second);
        versions.leave(run.shard());
        assert_eq!(versions.of(run), None);
        versions.hold(run.shard());
        assert!(![None, first, second].contains(&versions.of(run)));
    }
}
