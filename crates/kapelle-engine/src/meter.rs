//! What a node's engine tells of its work in numbers, to whoever counts.
//!
//! **Invariant:** nothing depends on it: who counts is told after the fact, from threads that go on with
//! their work, and so must not block.

use std::time::Duration;

use kapelle_core::port::agent::FailureKind;

use crate::shards::Published;

/// Who counts.
pub trait Meter: Send + Sync {
    /// These events of a run are on disk.
    fn happened(&self, published: &Published);

    /// A loop has gone round once.
    fn turned(&self, took: Duration);

    /// An append has settled.
    fn committed(&self, commit: Commit);

    /// An attempt of `agent` has ended: well, or as this.
    fn performed(&self, agent: &str, took: Duration, failed: Option<FailureKind>);
}

/// An append that has settled.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// How long that took.
    pub took: Duration,
    /// Of how many runs there was something in it.
    pub runs: usize,
    /// How many events.
    pub events: u64,
    /// How many bytes these are, as JSON.
    pub bytes: u64,
    /// The store took it.
    pub is_well: bool,
}

/// What there is at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Open runs in memory.
    pub runs: usize,
    /// Offers that wait for a turn.
    pub queued: usize,
    /// Runs that may have something to begin, and those of them that find no slot.
    pub hungry: usize,
    /// Attempts that are under way.
    pub attempts: usize,
    /// Appends that are under way.
    pub appends: usize,
}

impl std::ops::AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.queued += other.queued;
        self.hungry += other.hungry;
        self.attempts += other.attempts;
        self.appends += other.appends;
    }
}
