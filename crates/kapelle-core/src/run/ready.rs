//! The steps that can begin, each in the lane of what it takes to begin it.
//!
//! Within a lane the order is priority, then the longest remaining path, then the plan's order, so
//! that the makespan stays near its lower bound.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::StepNo;

/// What it takes to begin a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Nothing but a decision: an approval, a step that grows.
    Free,
    /// A slot of an agent: its number among the agents of the plan.
    Agent(u32),
    /// The same for a retry that is load nobody asked for: within what its agent is allowed of them.
    Again(u32),
    /// The same for a step that nodes may have died of: while no other one has just begun there.
    Alone(u32),
}

impl Lane {
    /// The number of the agent of which it takes a slot.
    #[must_use]
    pub const fn agent(self) -> Option<u32> {
        match self {
            Self::Free => None,
            Self::Agent(number) | Self::Again(number) | Self::Alone(number) => Some(number),
        }
    }
}

/// Where a step stands in its lane: smaller is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    priority: Reverse<u8>,
    remaining: Reverse<u64>,
    step: StepNo,
}

impl Rank {
    pub(super) const fn new(priority: u8, remaining: u64, step: StepNo) -> Self {
        Self { priority: Reverse(priority), remaining: Reverse(remaining), step }
    }
}

/// The steps that can begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ready {
    lanes: BTreeMap<Lane, BTreeSet<Rank>>,
    len: usize,
}

impl Ready {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, lane: Lane, rank: Rank) {
        self.len += usize::from(self.lanes.entry(lane).or_default().insert(rank));
    }

    pub(super) fn remove(&mut self, lane: Lane, rank: Rank) {
        if let Some(ranks) = self.lanes.get_mut(&lane) {
            self.len -= usize::from(ranks.remove(&rank));
            if ranks.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    /// The best step of the lanes that `open` lets through and that is not in `aside`.
    pub(super) fn best(
        &self,
        open: impl Fn(Lane) -> bool,
        aside: &BTreeSet<StepNo>,
    ) -> Option<StepNo> {
        let firsts = self.lanes.iter().filter(|(lane, _)| open(**lane));
        let ranks =
            firsts.filter_map(|(_, ranks)| ranks.iter().find(|rank| !aside.contains(&rank.step)));
        ranks.min().map(|rank| rank.step)
    }
}
