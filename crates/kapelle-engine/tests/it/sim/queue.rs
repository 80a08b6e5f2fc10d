//! What is on its way, by when it comes.
//!
//! **Invariant:** what comes at the same time comes in the order in which it was sent.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::world::Coming;

/// When something comes, and its number among all that was sent.
pub(super) type When = (i64, u64);

/// A heap of times, and what comes at each: that is too large to be moved about while sorting.
#[derive(Default)]
pub(super) struct Queue {
    times: BinaryHeap<Reverse<(When, usize)>>,
    comings: Vec<Option<(When, Coming)>>,
    free: Vec<usize>,
}

impl Queue {
    pub(super) fn push(&mut self, when: When, coming: Coming) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.comings.push(None);
            self.comings.len() - 1
        });
        self.comings[slot] = Some((when, coming));
        self.times.push(Reverse((when, slot)));
    }

    /// When the next thing comes.
    pub(super) fn next(&mut self) -> Option<When> {
        while let Some(Reverse((when, slot))) = self.times.peek() {
            if self.comings[*slot].is_some() {
                return Some(*when);
            }
            self.free.push(*slot);
            self.times.pop();
        }
        None
    }

    /// What comes next.
    pub(super) fn pop(&mut self) -> Option<(When, Coming)> {
        self.next()?;
        let Reverse((_, slot)) = self.times.pop()?;
        self.free.push(slot);
        self.comings[slot].take()
    }

    /// All that is on its way, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (When, &Coming)> {
        self.comings.iter().flatten().map(|(when, coming)| (*when, coming))
    }

    /// Does away with what was to come then.
    pub(super) fn take_back(&mut self, when: When) {
        let coming = self
            .comings
            .iter_mut()
            .find(|coming| coming.as_ref().is_some_and(|(other, _)| *other == when));
        // Its time stays in the heap until it is up.
        coming.map(Option::take);
    }
}
