//! What happened in a run: the facts that the journal keeps.
//!
//! **Invariants:** events are journal format: variants and fields are added, never changed or
//! removed; unknown fields are ignored. Steps are written by arena number. Everything that was
//! evaluated is recorded as what it gave, so that applying an event evaluates nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::port::agent::{Failure, OnUnknown, Question, Safety, Usage};
use crate::{Artifact, Attempt, Digest, RunId, StepNo, Timestamp, Value};

/// Written with its type inside, as the journal has it; read by way of a twin whose type is outside
/// (`decode`), because serde would put every event aside as a tree first to find its type.
macro_rules! tagged {
    ($(#[$about:meta])* pub enum $name:ident { $($variants:tt)* }) => {
        $(#[$about])*
        #[derive(Serialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum $name { $($variants)* }

        #[derive(Deserialize)]
        #[serde(remote = "Event", rename_all = "snake_case")]
        pub(super) enum Untagged { $($variants)* }
    };
}

tagged! {
/// A fact of one run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The run exists; always its first event.
    RunCreated(Box<Created>),
    /// It goes on from what another run has done; in its first entry, if it does.
    RunForked(Box<Forked>),
    /// Its first step was taken up.
    RunStarted,
    /// A node took the run over; what was running with the one before is decided next.
    RunAdopted,
    /// No new attempts from here on.
    RunPaused {
        /// Who wanted it.
        by: Box<str>,
        /// Why.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        reason: Box<str>,
    },
    /// New attempts again.
    RunResumed {
        /// Who wanted it.
        by: Box<str>,
    },
    /// The run is to end early: nothing new starts, what runs is told to stop.
    RunStopping {
        /// How it will end.
        verdict: Verdict,
        /// Who wanted it, or `kapelle` for a limit.
        by: Box<str>,
        /// Why.
        reason: Box<str>,
    },
    /// The run has ended; always its last event.
    RunCompleted {
        /// How.
        verdict: Verdict,
        /// What it gave.
        output: Value,
        /// Why, where the verdict does not say it all.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        detail: Box<str>,
    },
    /// An attempt began.
    StepStarted {
        /// Which step.
        step: StepNo,
        /// Which try.
        attempt: Attempt,
        /// How many definite failures the call had before: part of its key.
        #[serde(default, skip_serializing_if = "is_zero")]
        generation: u32,
        /// Who does it.
        agent: Box<str>,
        /// The rendered input, or only the digest of a long one.
        input: Value,
        /// When it is given up.
        deadline: Timestamp,
        /// What to do if its end stays unknown.
        on_unknown: OnUnknown,
    },
    /// An attempt failed, and another one follows.
    StepRetrying {
        /// Which step.
        step: StepNo,
        /// The attempt that failed.
        attempt: Attempt,
        /// How.
        failure: Failure,
        /// When the next one may begin.
        at: Timestamp,
        /// Whether the call itself definitely failed: the next one has a new key.
        definite: bool,
    },
    /// The step ended well.
    StepCompleted {
        /// Which step.
        step: StepNo,
        /// The attempt that did it; `None` where no agent did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<Attempt>,
        /// Its output.
        value: Value,
        /// What it made.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        artifacts: Vec<Artifact>,
        /// What it used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
        /// How it was made: `rules` or `model`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        engine: Option<Box<str>>,
    },
    /// The step ended badly.
    StepFailed {
        /// Which step.
        step: StepNo,
        /// Its last attempt; `None` where none was begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<Attempt>,
        /// How.
        failure: Failure,
    },
    /// The step will not be done.
    StepSkipped {
        /// Which step.
        step: StepNo,
        /// Why not.
        why: Skipped,
    },
    /// The step cannot go on without somebody's help.
    StepBlocked {
        /// Which step.
        step: StepNo,
        /// The attempt it is about, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<Attempt>,
        /// Why.
        why: Blocked,
    },
    /// Somebody said what to do about a blocked step.
    StepResolved {
        /// Which step.
        step: StepNo,
        /// What.
        how: Resolved,
        /// Who.
        by: Box<str>,
        /// What they said.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        comment: Box<str>,
    },
    /// A person is asked.
    ApprovalRequested {
        /// Which step.
        step: StepNo,
        /// Until when; `None`: for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// The step itself still has to be done afterwards (manual mode).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        gate: bool,
    },
    /// A person answered, or the time was up.
    ApprovalDecided {
        /// Which step.
        step: StepNo,
        /// What.
        approved: bool,
        /// Who, or `kapelle` for a timeout.
        by: Box<str>,
        /// What they said.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        comment: Box<str>,
    },
    /// New steps take the place of a step until they are joined.
    StepsGrown {
        /// The step that waits for them.
        by: StepNo,
        /// How many, or what they are called.
        parts: Parts,
        /// When the step has ended; the same in each growth of one step.
        join: Join,
        /// The list whose items they are for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        list: Option<Value>,
    },
    /// Steps that are not wanted any more: a lost race, a vote that is decided.
    StepsDropped {
        /// Which.
        steps: Vec<StepNo>,
    },
    /// More may be spent.
    BudgetRaised {
        /// By which step; `None`: by the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepNo>,
        /// So many more tokens.
        tokens: u64,
        /// So many more nano-dollars.
        nanos: i64,
        /// So many more milliseconds.
        #[serde(default, skip_serializing_if = "is_zero")]
        ms: u64,
        /// Who says so.
        by: Box<str>,
    },
    /// An outside call that is unsafe, or costs, is about to be made.
    EffectStarted {
        /// In which step.
        step: StepNo,
        /// In which attempt.
        attempt: Attempt,
        /// The call.
        #[serde(flatten)]
        effect: EffectId,
        /// What it may use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reserve: Option<Usage>,
    },
    /// An outside call has ended, and its end will be replayed.
    #[serde(deserialize_with = "super::decode::effect_recorded")]
    EffectRecorded {
        /// In which step.
        step: StepNo,
        /// In which attempt.
        attempt: Attempt,
        /// The call.
        #[serde(flatten)]
        effect: EffectId,
        /// How it ended.
        outcome: Outcome,
        /// What it used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        used: Option<Usage>,
    },
    /// A step has said something to other steps; in one entry with the record of the call that did.
    MessageSent {
        /// The step that said it.
        step: StepNo,
        /// In which attempt.
        attempt: Attempt,
        /// Which call of it that was.
        ordinal: u32,
        /// To whom.
        to: Vec<StepNo>,
        /// What it said.
        text: Arc<str>,
    },
    /// A step wants to know something of a person.
    QuestionAsked {
        /// Which step.
        step: StepNo,
        /// In which attempt.
        attempt: Attempt,
        /// The call whose end the answer will be.
        #[serde(flatten)]
        effect: EffectId,
        /// What it wants to know.
        question: Question,
    },
    /// A person answered: that is how the call has ended.
    QuestionAnswered {
        /// The step that asked.
        step: StepNo,
        /// In which call.
        ordinal: u32,
        /// The answer: `{"answer", "by"}`.
        answer: Value,
        /// Who.
        by: Box<str>,
    },
}
}

impl Event {
    /// The step it is about, if it is about one.
    #[must_use]
    pub const fn step(&self) -> Option<StepNo> {
        match self {
            Self::StepStarted { step, .. }
            | Self::StepRetrying { step, .. }
            | Self::StepCompleted { step, .. }
            | Self::StepFailed { step, .. }
            | Self::StepSkipped { step, .. }
            | Self::StepBlocked { step, .. }
            | Self::StepResolved { step, .. }
            | Self::ApprovalRequested { step, .. }
            | Self::ApprovalDecided { step, .. }
            | Self::StepsGrown { by: step, .. }
            | Self::EffectStarted { step, .. }
            | Self::EffectRecorded { step, .. }
            | Self::MessageSent { step, .. }
            | Self::QuestionAsked { step, .. }
            | Self::QuestionAnswered { step, .. } => Some(*step),
            Self::RunCreated(_)
            | Self::RunForked(_)
            | Self::RunStarted
            | Self::RunAdopted
            | Self::RunPaused { .. }
            | Self::RunResumed { .. }
            | Self::RunStopping { .. }
            | Self::RunCompleted { .. }
            | Self::StepsDropped { .. }
            | Self::BudgetRaised { .. } => None,
        }
    }
}

fn is_zero<N: Default + PartialEq>(n: &N) -> bool {
    *n == N::default()
}

/// What a run is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// The id of the workflow.
    pub workflow: Box<str>,
    /// A [`crate::plan::Plan`].
    pub plan: Value,
    /// An object: the inputs, defaults included.
    pub inputs: Value,
    /// The submitter's folder, absolute: relative paths start there.
    pub root: Box<str>,
    /// The client's own name for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Box<str>>,
    /// What those of its agents were that have a definition, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<Box<str>, Value>,
}

/// What a run has taken over of another one, which need not be there any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forked {
    /// That run,
    pub run: RunId,
    /// as it was after this event.
    pub seq: u64,
    /// The step from which on it is done anew.
    pub from: StepNo,
    /// What was done there.
    pub taken: Vec<Taken>,
}

/// A step that was done in another run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// Which step.
    pub step: StepNo,
    /// How it ended.
    pub end: TakenEnd,
    /// When its first attempt began there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended there.
    pub ended_at: Timestamp,
}

/// How a step ended in another run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenEnd {
    /// Well.
    Completed {
        /// Its output; never one that is made of other steps.
        value: Value,
        /// What it made, and what the steps made that it had grown.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        artifacts: Vec<Artifact>,
    },
    /// Badly, and the plan puts up with it.
    Failed {
        /// How.
        failure: Failure,
    },
    /// Not at all.
    Skipped {
        /// Why not.
        why: Skipped,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every step that was to be done was done.
    Completed,
    /// The same, but for failures that the plan puts up with.
    CompletedWithErrors,
    /// A step failed, or a limit was reached.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl Verdict {
    /// The word used in journals and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::CompletedWithErrors => "completed_with_errors",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a step is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skipped {
    /// Its `when` gave `false`.
    Condition,
    /// It needs a step that was not done.
    Needs {
        /// That step.
        step: StepNo,
        /// The step that failed first.
        blame: StepNo,
    },
    /// Somebody said so.
    Person,
}

/// Why a step cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocked {
    /// It is not known whether an outside call was made. Ordinal 0: the call of the agent itself.
    InDoubt {
        /// Which call.
        ordinal: u32,
        /// It would be made again, but so many nodes died of it in a row, as it seems. 0: it would not.
        #[serde(default, skip_serializing_if = "is_zero")]
        deaths: u32,
        /// The same, but so many workers in a row were lost with it.
        #[serde(default, skip_serializing_if = "is_zero")]
        workers: u32,
    },
    /// No agent of this name is at hand, or none that can work there.
    NoAgent {
        /// Its name.
        agent: Box<str>,
        /// In words: what it lacks. Empty: there is none.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        lacks: Box<str>,
    },
    /// Its next call is more than may be spent.
    Budget {
        /// Whose limit that is: its own, or the run's.
        own: bool,
        /// In words: what is left, and what the call may use.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        said: Box<str>,
    },
    /// Its next call is more than its tenant or its agent may spend in all runs together.
    Account {
        /// In words: whose limit, what is left of it, and when it begins anew.
        limit: Box<str>,
        /// When it goes on by itself; it also does when another node begins to work on the run.
        until: Option<Timestamp>,
    },
    /// A person is to answer it.
    Question {
        /// In which call it asks.
        ordinal: u32,
        /// What it wants to know.
        question: Question,
    },
}

/// What somebody said about a blocked step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolved {
    /// Try again, with the same key.
    Retry,
    /// The call was made, and gave this.
    Done(Value),
    /// Do without the step.
    Skip,
    /// Take it as failed.
    Fail,
}

/// The names of grown steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parts {
    /// So many, called `0`, `1`, `2`…, on from those there are.
    Count(u32),
    /// Called so.
    Named(Vec<Box<str>>),
}

impl Blocked {
    /// Nobody knows whether the call of that ordinal was made.
    pub(super) const fn in_doubt(ordinal: u32) -> Self {
        Self::InDoubt { ordinal, deaths: 0, workers: 0 }
    }
}

impl Parts {
    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Count(n) => *n as usize,
            Self::Named(names) => names.len(),
        }
    }
}

/// When a step that grew others has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// When all have.
    All,
    /// With the first one that succeeded.
    First,
    /// When so many have succeeded.
    Quorum(u32),
    /// When somebody says so after one has ended, else another one is grown.
    Until,
}

/// Which outside call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectId {
    /// Its place among the calls of the step, from 1.
    pub ordinal: u32,
    /// What it is, such as `fetch`.
    pub name: Box<str>,
    /// Of what it is about.
    pub input: Digest,
    /// How often it was forgotten after definite failures: part of its key.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
    /// Whether it may be repeated.
    pub safety: Safety,
}

/// How an outside call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Well, with this.
    Done(Value),
    /// Badly, and for certain.
    Failed(Failure),
}
