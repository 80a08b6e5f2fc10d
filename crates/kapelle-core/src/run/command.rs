//! Wishes that may be refused.

use std::sync::Arc;

use super::event::{EffectId, Join, Outcome, Parts};
use crate::port::agent::{Failure, Question, Usage};
use crate::{Artifact, Attempt, Json, StepId, StepNo, Value};

/// What somebody wants of a run.
#[derive(Clone, Debug)]
pub enum Command {
    /// An attempt ended well.
    Answered {
        /// Of which step.
        step: StepNo,
        /// The fence.
        attempt: Attempt,
        /// With what.
        answer: Box<Produced>,
    },
    /// An attempt ended badly.
    Failed {
        /// Of which step.
        step: StepNo,
        /// The fence.
        attempt: Attempt,
        /// How.
        failure: Failure,
    },
    /// An agent is about to make an outside call that is unsafe, or costs.
    StartEffect {
        /// Of which step.
        step: StepNo,
        /// The fence.
        attempt: Attempt,
        /// Which call.
        effect: EffectId,
        /// What it may use, if it costs.
        reserve: Option<Usage>,
    },
    /// An agent's outside call has ended.
    RecordEffect {
        /// Of which step.
        step: StepNo,
        /// The fence.
        attempt: Attempt,
        /// Which call.
        effect: EffectId,
        /// How it ended.
        outcome: Outcome,
        /// What it used, if it costs.
        used: Option<Usage>,
    },
    /// A step says something to others; the call that does is recorded with it.
    Send {
        /// Which step.
        step: StepNo,
        /// The fence.
        attempt: Attempt,
        /// Which call.
        effect: EffectId,
        /// To a step by its id, or to all steps of an agent.
        to: Box<str>,
        /// What.
        text: Arc<str>,
    },
    /// A step wants to know something of a person.
    Ask {
        /// Which step.
        step: StepNo,
        /// The fence.
        attempt: Attempt,
        /// The call whose end the answer will be.
        effect: EffectId,
        /// What.
        question: Question,
    },
    /// A person's answer to a question.
    Reply {
        /// To which step.
        step: StepId,
        /// To which call of it; `None`: to the one that it waits for.
        ordinal: Option<u32>,
        /// What.
        answer: Box<str>,
        /// Who.
        by: Box<str>,
    },
    /// More may be spent.
    Raise {
        /// By which step; `None`: by the run.
        step: Option<StepId>,
        /// So much more.
        more: super::Sum,
        /// Who says so.
        by: Box<str>,
    },
    /// Time has passed.
    Tick,
    /// A node took the run over, and of its attempts only those of these steps go on: others do their work.
    Adopt(Takeover, Vec<StepNo>),
    /// An agent of this name is at hand that was not.
    Arrived {
        /// Its name.
        agent: Box<str>,
    },
    /// No new attempts.
    Pause {
        /// Who wants it.
        by: Box<str>,
        /// Why.
        reason: Box<str>,
    },
    /// New attempts again.
    Resume {
        /// Who wants it.
        by: Box<str>,
    },
    /// The run is to end.
    Cancel {
        /// Who wants it.
        by: Box<str>,
        /// Why.
        reason: Box<str>,
    },
    /// A person's answer.
    Approve {
        /// To which step.
        step: StepId,
        /// What.
        approved: bool,
        /// Who.
        by: Box<str>,
        /// What they say.
        comment: Box<str>,
    },
    /// What a person says of a blocked step.
    Resolve {
        /// Which step.
        step: StepId,
        /// What.
        how: super::event::Resolved,
        /// Who.
        by: Box<str>,
        /// What they say.
        comment: Box<str>,
    },
    /// A step is to wait for new ones.
    Grow {
        /// Which step.
        by: StepNo,
        /// The new ones.
        parts: Parts,
        /// When it has ended.
        join: Join,
    },
    /// A loop has gone round often enough.
    Enough {
        /// Which step.
        by: StepNo,
    },
}

/// How a run comes to another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// Children of the node before may still be at work: nothing is called again unasked.
    pub doubt: bool,
    /// The node before died; else it gave the run up, and what it did is not to blame.
    pub died: bool,
    /// A person watches the run here: a step that seems to kill its nodes is not kept from them.
    pub watched: bool,
}

/// An agent's answer, made ready for the journal by its attempt.
#[derive(Clone, Debug)]
pub struct Produced {
    /// The output as the journal knows it.
    pub value: Value,
    /// The output itself.
    pub json: Arc<Json>,
    /// What was made.
    pub artifacts: Vec<Artifact>,
    /// What was used.
    pub usage: Option<Usage>,
    /// How it was made.
    pub engine: Option<Box<str>>,
}

/// The domain says no: nothing has changed, and the user can act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is over.
    #[error("the run has ended: {0}")]
    Ended(&'static str),
    /// It is being stopped.
    #[error("the run is being stopped")]
    Stopping,
    /// It goes on already.
    #[error("the run is not paused")]
    NotPaused,
    /// There is no such step.
    #[error("there is no step `{0}`")]
    NoStep(Box<str>),
    /// A late answer, or one given twice.
    #[error("step `{step}` is not on attempt {attempt}")]
    StaleAttempt {
        /// Which step.
        step: StepId,
        /// The attempt of the answer.
        attempt: Attempt,
    },
    /// An outside call was made already; its end is replayed.
    #[error("call {ordinal} of step `{step}` is recorded already")]
    Recorded {
        /// Of which step.
        step: StepId,
        /// Which call.
        ordinal: u32,
    },
    /// Nobody asked.
    #[error("step `{0}` does not wait for an approval")]
    NotAsked(StepId),
    /// Somebody else is to decide.
    #[error("step `{step}` is to be decided by {by}")]
    NotYours {
        /// Which step.
        step: StepId,
        /// Who may.
        by: Box<str>,
    },
    /// There is nothing to resolve.
    #[error("step `{0}` is not blocked")]
    NotBlocked(StepId),
    /// The call is more than may be spent.
    #[error("{0}")]
    OverBudget(super::Exceeded),
    /// There is no limit to raise.
    #[error("{0}")]
    NoBudget(Box<str>),
    /// A message reaches nobody.
    #[error("{0}")]
    Undelivered(Box<str>),
    /// Nobody wants to know that.
    #[error("step `{0}` does not wait for an answer")]
    NoQuestion(StepId),
    /// It is no answer to the question.
    #[error("{0}")]
    NoAnswer(Box<str>),
    /// It is not a step that grows.
    #[error("step `{0}` cannot grow now")]
    CannotGrow(StepId),
}

impl Refusal {
    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Ended(_) => "run_ended",
            Self::Stopping => "run_stopping",
            Self::NotPaused => "not_paused",
            Self::NoStep(_) => "step_not_found",
            Self::StaleAttempt { .. } => "stale_attempt",
            Self::Recorded { .. } => "effect_recorded",
            Self::NotAsked(_) => "not_asked",
            Self::NotYours { .. } => "not_yours",
            Self::NotBlocked(_) => "not_blocked",
            Self::OverBudget(_) => "over_budget",
            Self::NoBudget(_) => "no_budget",
            Self::Undelivered(_) => "undelivered",
            Self::NoQuestion(_) => "no_question",
            Self::NoAnswer(_) => "no_answer",
            Self::CannotGrow(_) => "cannot_grow",
        }
    }
}
