//! What happens in a run, a JSON object each.
//!
//! **Invariants:** an event with a `seq` is on disk; `seq` counts from 1 without gaps and is the
//! stream's id. [`EventKind::StepProgress`] is live only and has none. Types and fields are added,
//! never changed; a type that this version does not know is [`EventKind::Other`].

use serde::{Deserialize, Serialize};

use crate::{Artifact, Json};

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Its number in the run; none if it is live only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// In which run.
    pub run: String,
    /// About which step, if about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// The run exists; always its first event.
    RunCreated {
        /// The id of its workflow.
        workflow: String,
        /// The client's own name for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task_id: Option<String>,
        /// The folder where relative paths start.
        root: String,
    },
    /// It goes on from what another run has done.
    RunForked {
        /// That run,
        parent: String,
        /// as it was after this event.
        parent_seq: u64,
        /// The step from which on it is done anew.
        from: String,
        /// How many steps it has taken over.
        taken: usize,
    },
    /// Its first step was taken up.
    RunStarted {},
    /// Another process took it over.
    RunAdopted {},
    /// No new attempts from here on. Without `seq`: nobody works on it any more.
    RunPaused {
        /// Who wanted it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why.
        reason: String,
        /// The command to go on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
    },
    /// New attempts again.
    RunResumed {
        /// Who wanted it.
        by: String,
    },
    /// More may be spent.
    BudgetRaised {
        /// So many more tokens.
        tokens: u64,
        /// So many more nano-dollars.
        nano_usd: i64,
        /// So many more milliseconds.
        #[serde(default, skip_serializing_if = "crate::is_zero")]
        time_ms: u64,
        /// Who says so.
        by: String,
    },
    /// It is to end early.
    RunStopping {
        /// How it will end.
        verdict: String,
        /// Who wanted it.
        by: String,
        /// Why.
        reason: String,
    },
    /// It has ended; always its last event.
    RunCompleted {
        /// `completed`, `completed_with_errors`, `failed` or `cancelled`.
        verdict: String,
        /// What it gave.
        output: Json,
        /// What was made.
        artifacts: Vec<Artifact>,
        /// From its creation to its end.
        elapsed_ms: u64,
        /// Why, where the verdict does not say it all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// An attempt began.
    StepStarted {
        /// Which.
        attempt: u32,
        /// Who does it.
        agent: String,
        /// When it is given up.
        deadline: String,
    },
    /// An attempt failed, and another one follows.
    StepRetrying {
        /// The one that failed.
        attempt: u32,
        /// How.
        failure: Failure,
        /// When the next one may begin.
        retry_at: String,
    },
    /// The step ended well.
    StepCompleted {
        /// The attempt that did it; none where no agent did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// What it gave, if small.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Json>,
        /// The digest of what it gave, if large: `GET /artifacts/{digest}`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output_digest: Option<String>,
        /// What it made.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        artifacts: Vec<Artifact>,
        /// Who did it, where its agent says so: `rules` or `model`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        engine: Option<String>,
    },
    /// The step ended badly.
    StepFailed {
        /// Its last attempt; none where none was begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// How.
        failure: Failure,
    },
    /// The step will not be done.
    StepSkipped {
        /// `condition`, `needs` or `person`.
        reason: String,
        /// The step that it needs and that was not done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        needs: Option<String>,
        /// The step that failed first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blame: Option<String>,
    },
    /// The step cannot go on without somebody's help.
    StepBlocked {
        /// `in_doubt`, `no_agent`, `budget`, `run_budget`, `account` or `question`, or `poison`: node after node died soon after it had begun it.
        reason: String,
        /// The attempt it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// The agent that is not at hand, or lacks there what `limit` tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
        /// The limit that has no room: whose, what is left, what the call may use; of all runs together,
        /// also when it begins anew. Of `no_agent`: what the agent lacks, such as a key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<String>,
        /// The outside call that is in doubt, or asks; 0: the call of the agent itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ordinal: Option<u32>,
        /// What it wants to know of a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        question: Option<String>,
        /// The answers there are; empty: any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        choices: Vec<String>,
    },
    /// Somebody said what to do about a blocked step.
    StepResolved {
        /// `retry`, `complete`, `skip` or `fail`.
        action: String,
        /// Who.
        by: String,
        /// What they said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        comment: String,
    },
    /// A person is asked.
    ApprovalRequested {
        /// Until when; none: for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<String>,
        /// The step itself still has to be done afterwards (manual mode).
        gate: bool,
        /// Who may answer; empty: anyone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        by: Vec<String>,
    },
    /// A person answered, or the time was up.
    ApprovalDecided {
        /// What.
        approved: bool,
        /// Who, or `kapelle` for a timeout.
        by: String,
        /// What they said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        comment: String,
    },
    /// New steps take the place of a step until they are joined.
    StepsGrown {
        /// How many.
        count: usize,
    },
    /// Steps that are not wanted any more.
    StepsDropped {
        /// Which.
        steps: Vec<String>,
    },
    /// An unsafe outside call is about to be made.
    EffectStarted {
        /// In which attempt.
        attempt: u32,
        /// Which call of the step, from 1.
        ordinal: u32,
        /// What it is.
        name: String,
    },
    /// An outside call has ended, and its end will be replayed.
    EffectRecorded {
        /// In which attempt.
        attempt: u32,
        /// Which call of the step, from 1.
        ordinal: u32,
        /// What it is.
        name: String,
        /// How it failed, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// A model asked for this tool and may not have it: nothing was called.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        denied: bool,
        /// What a person is to know of it: files that lost their names when a command ended.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// A step has said something to other steps.
    MessageSent {
        /// In which attempt.
        attempt: u32,
        /// In which call of the step, from 1.
        ordinal: u32,
        /// To which steps.
        to: Vec<String>,
        /// What.
        text: String,
    },
    /// A step wants to know something of a person. It waits once it is blocked by that.
    QuestionAsked {
        /// In which attempt.
        attempt: u32,
        /// In which call of the step, from 1.
        ordinal: u32,
        /// What.
        question: String,
        /// The answers there are; empty: any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        choices: Vec<String>,
    },
    /// A person answered.
    QuestionAnswered {
        /// In which call of the step, from 1.
        ordinal: u32,
        /// What.
        answer: String,
        /// Who.
        by: String,
    },
    /// How far an attempt is. Live only: no `seq`.
    StepProgress {
        /// Which attempt.
        attempt: u32,
        /// A line for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// From 0 to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fraction: Option<f64>,
    },
    /// A type that this version does not know, as it came.
    #[serde(untagged)]
    Other(serde_json::Map<String, Json>),
}

/// How an attempt or an outside call ended badly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failure {
    /// Which kind: what retry policies go by.
    pub kind: String,
    /// A stable word, such as `exit_1`.
    pub code: String,
    /// For a person.
    pub message: String,
    /// Whether it is known that the call did not succeed.
    pub certain: bool,
}

impl Event {
    /// Whether it is the last one of its run.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self.kind, EventKind::RunCompleted { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_flat_object() {
        let event = json!({"seq": 3, "at": "2026-01-01T00:00:00Z", "run": "r", "step": "a",
            "type": "step_started", "attempt": 1, "agent": "echo", "deadline": "2026-01-01T00:05:00Z"});
        let parsed: Event = serde_json::from_value(event.clone()).unwrap();
        assert!(matches!(&parsed.kind, EventKind::StepStarted { attempt: 1, .. }), "{parsed:?}");
        assert_eq!(serde_json::to_value(&parsed).unwrap(), event);
    }

    #[test]
    fn a_type_of_a_later_version_passes_through() {
        let event = json!({"seq": 9, "run": "r", "type": "step_dreamt", "of": ["sheep"]});
        let parsed: Event = serde_json::from_value(event.clone()).unwrap();
        assert_eq!(serde_json::to_value(&parsed).unwrap(), event);
    }
}
