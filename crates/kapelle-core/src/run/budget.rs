//! How many attempts of a run may be retries: trouble is not answered with more load.
//!
//! What a step's `retry` allows is for that step; what all steps of a wide run ask for together
//! would fall upon a service that is in trouble. Each step's own limit stays below what is free.

use super::Run;
use super::event::Event;
use crate::Attempt;
use crate::port::agent::{Failure, FailureKind};

/// So many retries a run has in any case: more than one step may ask for.
const FREE: u64 = 100;
/// Of more, one for so many steps that were begun.
const BEGUN_PER_RETRY: u64 = 5;

/// What has been spent on retries, and what it is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// Steps that were begun, grown ones included.
    begun: u64,
    /// Retries that count.
    spent: u64,
}

impl Budget {
    /// Takes note of an attempt.
    pub(super) fn begin(&mut self, attempt: Attempt) {
        self.begun += u64::from(attempt == Attempt(1));
    }

    /// Takes note of a retry.
    pub(super) fn retry(&mut self, failure: &Failure) {
        self.spent += u64::from(counts(failure));
    }

    fn allows(&self, failure: &Failure) -> bool {
        !counts(failure) || self.spent < FREE.max(self.begun / BEGUN_PER_RETRY)
    }
}

impl Run {
    /// The same events, but for retries that are more than the run may have: they end their steps.
    pub(super) fn within_budget(&self, mut events: Vec<Event>) -> Vec<Event> {
        let mut budget = self.budget;
        for event in &mut events {
            let Event::StepRetrying { step, attempt, failure, .. } = event else { continue };
            if budget.allows(failure) {
                budget.retry(failure);
                continue;
            }
            let (step, attempt) = (*step, Some(*attempt));
            *event = Event::StepFailed { step, attempt, failure: given_up(failure) };
        }
        events
    }
}

/// Whether an attempt after that is load that nobody asked for: not where the other side said when to
/// come again, nor where the attempt before ended by no fault of its own or with a bad answer.
pub(super) fn counts(failure: &Failure) -> bool {
    let asked = failure.retry_after_ms.is_some() || &*failure.code == super::decide::BAD_OUTPUT;
    !asked && failure.kind != FailureKind::Lost
}

/// What went wrong stays what it was; why that is the end is said with it.
fn given_up(failure: &Failure) -> Failure {
    let why = "not tried again, the run has used up its retries (`retry_budget`)";
    let message = format!("{}; {why}", failure.message).into();
    Failure { message, ..failure.clone() }
}
