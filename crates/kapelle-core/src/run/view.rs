//! Looking at a run: where it stands, and what should be under way.

use super::event::Blocked;
use super::step::Status as StepStatus;
use super::{Run, Verdict};
use crate::{Attempt, StepId, StepNo, Timestamp};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing was begun yet.
    Pending,
    /// It goes on.
    Running,
    /// Only a person can help.
    Waiting,
    /// No new attempts.
    Paused,
    /// It is being stopped.
    Stopping,
    /// It has ended.
    Ended(Verdict),
}

impl Status {
    /// The word used in lists and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Ended(verdict) => verdict.as_str(),
        }
    }
}

/// What should be under way now: the engine starts what is missing and stops what is extra.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Attempts that should be running.
    pub running: Vec<(StepId, Attempt)>,
    /// Steps that can begin.
    pub ready: Vec<StepId>,
    /// Attempts to come, and when.
    pub retries: Vec<(StepId, Timestamp)>,
    /// Persons to ask.
    pub approvals: Vec<StepId>,
    /// Steps that somebody has to help.
    pub blocked: Vec<(StepId, Blocked)>,
    /// Loops that wait for a decision.
    pub deciding: Vec<StepId>,
    /// The next moment at which time alone makes something happen.
    pub timer: Option<Timestamp>,
    /// Whether the run's own end is due.
    pub end: bool,
}

/// A step with its number.
#[derive(Clone, Copy, Debug)]
pub struct StepView<'a> {
    /// Its place in the arena.
    pub no: StepNo,
    /// The step.
    pub step: &'a super::Step,
    /// Who does it; `None`: a person.
    pub agent: Option<&'a str>,
}

impl Run {
    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        if let Some(ended) = &self.ended {
            Status::Ended(ended.verdict)
        } else if self.stopping.is_some() {
            Status::Stopping
        } else if self.paused.is_some() {
            Status::Paused
        } else if self.waits_for_people() {
            Status::Waiting
        } else if self.started {
            Status::Running
        } else {
            Status::Pending
        }
    }

    /// Whether nothing goes on unless a person does something.
    #[must_use]
    pub fn waits_for_people(&self) -> bool {
        let asked = !self.asked.is_empty() || !self.blocked.is_empty();
        let active = !self.running.is_empty() || self.ready.len() > 0 || !self.retries.is_empty();
        asked && !active
    }

    /// Why it is paused, if it is.
    #[must_use]
    pub fn paused(&self) -> Option<&str> {
        self.paused.as_deref()
    }

    /// How many attempts are under way.
    #[must_use]
    pub fn running(&self) -> impl ExactSizeIterator<Item = (StepNo, Attempt)> + '_ {
        self.running.iter().map(|no| (*no, self.steps[no.index()].attempt.unwrap_or(Attempt(1))))
    }

    /// The steps that somebody has to help, and why.
    pub fn blocked(&self) -> impl Iterator<Item = (StepNo, &Blocked)> + '_ {
        self.blocked.iter().filter_map(|no| match &self.steps[no.index()].status {
            StepStatus::Blocked(why) => Some((*no, why)),
            _ => None,
        })
    }

    /// When time alone makes something happen, if it does.
    #[must_use]
    pub fn next_timer(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let retry = self.retries.first().map(|(at, _)| *at);
        timer.into_iter().chain(retry).min()
    }

    /// What should be under way now.
    #[must_use]
    pub fn wants(&self) -> Wants {
        let name = |no: StepNo| self.steps[no.index()].id.clone();
        let all = || (0..self.steps.len()).map(StepNo::from_index);
        let step = |no: StepNo| &self.steps[no.index()];
        let retry = |no: StepNo| match step(no).status {
            StepStatus::Retrying(at) => Some((name(no), at)),
            _ => None,
        };
        let blocked = self.blocked.iter().filter_map(|no| match &step(*no).status {
            StepStatus::Blocked(why) => Some((name(*no), why.clone())),
            _ => None,
        });
        let deciding = |no: &StepNo| step(*no).group.as_deref().is_some_and(|g| g.deciding);
        // A run that is being stopped begins nothing and asks nobody.
        let over = self.ended.is_some() || self.stopping.is_some();
        Wants {
            running: self.running().map(|(no, attempt)| (name(no), attempt)).collect(),
            ready: all()
                .filter(|no| !over && step(*no).status == StepStatus::Ready)
                .map(name)
                .collect(),
            retries: all().filter(|_| !over).filter_map(retry).collect(),
            approvals: self.asked.iter().filter(|_| !over).map(|no| name(*no)).collect(),
            blocked: blocked.filter(|_| !over).collect(),
            deciding: all()
                .filter(|no| !over && step(*no).status == StepStatus::Grown && deciding(no))
                .map(name)
                .collect(),
            timer: self.next_timer(),
            end: self.is_ending(),
        }
    }

    /// All steps with their agents, in arena order.
    pub fn view(&self) -> impl Iterator<Item = StepView<'_>> {
        self.steps.all().iter().enumerate().map(|(index, step)| {
            let no = StepNo::from_index(index);
            let agent = match &self.spec(no).work {
                crate::plan::Work::Agent { agent, .. } => Some(&**agent),
                crate::plan::Work::Approval { .. } => None,
            };
            StepView { no, step, agent }
        })
    }
}
