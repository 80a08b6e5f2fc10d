//! Steps that may take their node, or their workers, down with them: each death counts, and with the third one,
//! or with as many workers as the plan says, a person is asked.
//!
//! **Invariant:** a death is a fact of the journal (a lost attempt with the code [`DIED`]), so that
//! every node counts the same. What it proves: the first two may fall on whatever had just begun on
//! that node. After them the step begins in a lane of its own, in which a node begins one at a time
//! ([`super::Lane::Alone`]): the third one is told of the only suspect there was.

use std::time::Duration;

use super::event::{Blocked, Event};
use super::step::Step;
use super::{Run, Takeover};
use crate::port::agent::{Failure, FailureKind, WORKER_LOST};
use crate::{Attempt, StepNo, Timestamp};

/// How long an attempt is suspected of the death of its node, and no other suspect begins there.
pub const SUSPECT_FOR: Duration = Duration::from_secs(60);
/// The code of an attempt whose node died so soon.
pub(super) const DIED: &str = "node_died";
/// From so many deaths on the step begins alone.
const DEATHS_ALONE: u32 = 2;
/// With so many a person is asked.
const DEATHS_MAX: u32 = 3;

impl Step {
    /// How often in a row a node died soon after it began an attempt of this step.
    #[must_use]
    pub const fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Whether it begins only while no other such step has just begun on the node.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.deaths >= DEATHS_ALONE
    }

    /// Takes note of how an attempt failed: one that was lost otherwise says nothing, one that a
    /// living node reports says that the step lets its node live.
    pub(super) fn count_death(&mut self, failure: &Failure) {
        if &*failure.code == DIED && failure.kind == FailureKind::Lost {
            self.deaths = self.deaths.saturating_add(1);
        } else if failure.kind != FailureKind::Lost {
            self.deaths = 0;
        }
    }

    /// Takes note of a worker that was lost: in a row are those between which nothing else was heard.
    pub(super) fn count_worker(&mut self, failure: &Failure) {
        if self.loses_worker(failure) {
            self.workers = self.workers.saturating_add(1);
        } else if failure.kind != FailureKind::Lost || &*failure.code == WORKER_LOST {
            self.workers = 0;
        }
    }

    /// Whether its worker was lost and had got nowhere.
    fn loses_worker(&self, failure: &Failure) -> bool {
        let is_lost = failure.kind == FailureKind::Lost && &*failure.code == WORKER_LOST;
        is_lost && !self.attempt.is_some_and(|attempt| self.has_recorded(attempt))
    }

    /// Whether the attempt recorded anything outside.
    fn has_recorded(&self, attempt: Attempt) -> bool {
        let effects = self.effects.as_deref();
        effects.is_some_and(|all| all.values().any(|effect| effect.attempt == attempt))
    }
}

impl Run {
    /// Why a person is asked before another worker gets the step, if that is so.
    pub(super) fn loses_too_many(&self, no: StepNo, failure: &Failure) -> Option<Blocked> {
        let step = &self.steps[no.index()];
        let workers = step.workers.saturating_add(1);
        let too_many = step.loses_worker(failure) && workers >= self.spec(no).retry.lost_max;
        too_many.then_some(Blocked::InDoubt { ordinal: 0, deaths: 0, workers })
    }

    /// What becomes of an attempt whose node is gone. When a node died is not known, only when
    /// another one found it dead: where that took too long, nobody is blamed.
    pub(super) fn lost(
        &self,
        no: StepNo,
        attempt: Attempt,
        takeover: Takeover,
        now: Timestamp,
    ) -> Event {
        let step = &self.steps[no.index()];
        let soon = now.since(step.begun_at) < SUSPECT_FOR;
        if !takeover.died || !soon || step.has_recorded(attempt) {
            let failure = Failure::new(FailureKind::Lost, "lost", "the node that did it is gone");
            return self.after_failure(no, attempt, failure.uncertain(), now);
        }
        let deaths = step.deaths.saturating_add(1);
        let then = self.after_failure(no, attempt, died(deaths), now);
        let again = matches!(then, Event::StepRetrying { .. });
        if again && deaths >= DEATHS_MAX && !takeover.watched {
            let why = Blocked::InDoubt { ordinal: 0, deaths, workers: 0 };
            return Event::StepBlocked { step: no, attempt: Some(attempt), why };
        }
        then
    }
}

fn died(deaths: u32) -> Failure {
    let times = if deaths > 1 { format!(", {deaths} times in a row") } else { String::new() };
    let message = format!("its node died within {SUSPECT_FOR:?} of its start{times}");
    Failure::new(FailureKind::Lost, DIED, message).uncertain()
}
