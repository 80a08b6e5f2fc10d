//! A step of a run: where it stands.

use std::collections::BTreeMap;

use super::event::{Blocked, EffectId, Join, Outcome, Skipped};
use crate::port::agent::{Failure, OnUnknown, Question, Usage};
use crate::{Artifact, Attempt, StepId, StepNo, Timestamp, Value};

/// One node of a run's plan, written or grown.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its id; a grown one's is its template's and a path.
    pub id: StepId,
    /// Where it stands.
    pub status: Status,
    /// Its last attempt; `None` if none was begun.
    pub attempt: Option<Attempt>,
    /// When its first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its output; `null` unless completed.
    pub value: Value,
    /// What it made.
    pub artifacts: Vec<Artifact>,
    /// How its last attempt failed, if it did.
    pub failure: Option<Box<Failure>>,
    /// Its place in the plan; a grown one's is its template's.
    pub(super) spec: u32,
    /// The step that waits for it, and its place there.
    pub(super) part_of: Option<(StepNo, u32)>,
    pub(super) unmet: u32,
    /// Definite or timed-out attempts: what `attempts_max` counts.
    pub(super) tries: u32,
    pub(super) generation: u32,
    pub(super) bad_outputs: u32,
    pub(super) deaths: u32,
    /// Workers that were lost with it in a row.
    pub(super) workers: u32,
    /// Its next attempt is a retry that counts.
    pub(super) extra: bool,
    pub(super) on_unknown: OnUnknown,
    pub(super) deadline: Timestamp,
    /// When its last attempt began.
    pub(super) begun_at: Timestamp,
    /// Since when it stands where it stands: the time of the event before, at the latest.
    pub(super) since: Timestamp,
    /// The input of its last attempt.
    pub(super) input: Option<Value>,
    /// A person let it go on (manual mode).
    pub(super) released: bool,
    /// It was done by the run that this one was forked from.
    pub(super) taken: bool,
    pub(super) effects: Option<Box<Effects>>,
    pub(super) ledger: Option<Box<super::Ledger>>,
    pub(super) group: Option<Box<Group>>,
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its needs have not ended, or its turn among its siblings has not come.
    Waiting,
    /// It can begin.
    Ready,
    /// An attempt is under way.
    Running,
    /// It waits for its next attempt.
    Retrying(Timestamp),
    /// A person is asked.
    Asked,
    /// Somebody has to help.
    Blocked(Blocked),
    /// It waits for the steps that it grew.
    Grown,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// It will not be done.
    Skipped(Skipped),
    /// It is not wanted any more.
    Dropped,
}

impl Status {
    /// Whether nothing will happen to it any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Skipped(_) | Self::Dropped)
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running | Self::Grown => "running",
            Self::Retrying(_) => "retrying",
            Self::Asked => "waiting_approval",
            Self::Blocked(_) => "blocked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped(_) => "skipped",
            Self::Dropped => "dropped",
        }
    }
}

/// What a step did with its outside calls, by ordinal.
pub type Effects = BTreeMap<u32, Effect>;

/// An outside call that was begun, and how it ended if it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Which call.
    pub id: EffectId,
    /// The attempt that made it.
    pub attempt: Attempt,
    /// Where it stands.
    pub state: EffectState,
    /// What it has reserved, while it is under way.
    pub reserved: Option<Usage>,
}

/// Where an outside call stands.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectState {
    /// It was about to be made.
    Started,
    /// It has ended, and this is replayed.
    Recorded(Outcome),
    /// A person is asked, whose answer will be its end.
    Asked(Question),
    /// It is to be made again, under the generation in its id.
    Forgotten,
}

/// The steps that a step has grown.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// In order.
    pub parts: Vec<StepNo>,
    /// When the step has ended.
    pub join: Join,
    /// The list whose items they are for.
    pub list: Option<Value>,
    /// The next one to be let in.
    pub(super) next: usize,
    pub(super) ended: usize,
    /// Those that succeeded, in the order of success.
    pub(super) succeeded: Vec<StepNo>,
    /// The first that failed, and how many did.
    pub(super) failed: Option<(StepNo, usize)>,
    /// A loop has gone round and waits for a decision.
    pub(super) deciding: bool,
}

impl Step {
    pub(super) fn fresh(id: StepId, spec: u32, unmet: u32) -> Self {
        Self {
            id,
            status: Status::Waiting,
            attempt: None,
            started_at: None,
            ended_at: None,
            value: Value::null(),
            artifacts: Vec::new(),
            failure: None,
            spec,
            part_of: None,
            unmet,
            tries: 0,
            generation: 0,
            bad_outputs: 0,
            deaths: 0,
            workers: 0,
            extra: false,
            on_unknown: OnUnknown::Retry,
            deadline: Timestamp::default(),
            begun_at: Timestamp::default(),
            since: Timestamp::default(),
            input: None,
            released: false,
            taken: false,
            effects: None,
            ledger: None,
            group: None,
        }
    }

    /// What was wrong with the answer of the attempt before, if that is why there is another one.
    #[must_use]
    pub fn complaint(&self) -> Option<&str> {
        let failure = self.failure.as_deref()?;
        (&*failure.code == super::decide::BAD_OUTPUT).then_some(&*failure.message)
    }

    /// Until when its attempt may go on, or a person may answer.
    #[must_use]
    pub const fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Since when it stands where it stands.
    #[must_use]
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// How often its own call has definitely failed: the last part of its key.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// What is to be done when the end of its attempt is not known.
    #[must_use]
    pub const fn on_unknown(&self) -> OnUnknown {
        self.on_unknown
    }

    /// The number of its last attempt, 0 if none was begun.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempt.map_or(0, |attempt| attempt.0)
    }

    /// Whether it was done by the run that this one was forked from.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.taken
    }

    /// The step that grew it.
    #[must_use]
    pub fn grown_by(&self) -> Option<StepNo> {
        self.part_of.map(|(by, _)| by)
    }

    /// What it has spent, and what is on its way.
    #[must_use]
    pub fn ledger(&self) -> super::Ledger {
        self.ledger.as_deref().copied().unwrap_or_default()
    }

    /// The steps that it has grown, in order.
    #[must_use]
    pub fn parts(&self) -> &[StepNo] {
        self.group.as_deref().map_or(&[], |group| &group.parts)
    }
}
