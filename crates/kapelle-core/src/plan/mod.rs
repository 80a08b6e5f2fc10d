//! The steps of one run and their needs, as data.
//!
//! A plan is checked before it becomes a run (`check`), so everything behind that may rely on it:
//! ids are unique, needs exist and have no cycle, expressions parse, numbers are in range.
//! The plan of a run is in its first event, so its shape is journal format: fields are added, never changed.

pub mod analysis;
pub mod check;
pub mod draw;
pub(crate) mod finding;
mod inputs;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::port::agent::{FailureKind, OnUnknown};
use crate::{Json, StepId};

pub use analysis::{Analysis, Graph, StepAnalysis, analyze};
pub use check::check;
pub use inputs::inputs;

/// The steps of one run and their needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The id of the workflow it was made from.
    pub workflow: Box<str>,
    /// For people; `workflow` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    /// In the order in which they were written.
    pub steps: Vec<Step>,
    /// The run's output: JSON whose strings may hold `{{ }}`. `None`: the outputs of the steps that
    /// nothing needs, by id (of the only one: itself).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// How many attempts of the run may go on at once.
    #[serde(default = "default_max_parallel")]
    pub max_parallel: u32,
    /// The limit of the run's active time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The limit of the run's time by the wall clock, in milliseconds since its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Every step waits for a person's word before it starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub manual: bool,
    /// What its steps may spend together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// JSON Schema of each input, by name: what values given later are checked against.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<Box<str>, Json>,
}

/// How many attempts of a run go on at once where nothing is said.
pub const fn default_max_parallel() -> u32 {
    3
}

/// One node of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the plan.
    pub id: StepId,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Box<str>>,
    /// Who does it.
    pub work: Work,
    /// The steps that must have ended before, those that templates refer to included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<StepId>,
    /// An expression; the step is skipped where it gives `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Box<str>>,
    /// Done once for every item of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// From 1 to 10, 10 first.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// The limit of one attempt, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// When and how often it is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// What its failure means for the run.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What to do when an attempt's end is unknown; `None`: as the agent says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unknown: Option<OnUnknown>,
    /// JSON Schema of its output; another output is a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// What it may spend, each of its items by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// How long it is expected to take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_ms: Option<u64>,
}

/// What may be spent: on calls that cost, and in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Tokens, read and written; `None`: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Nano-dollars; `None`: any sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nanos: Option<i64>,
    /// Milliseconds: of a run those in which something runs or could, of a step those of its attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// What happens to a step whose next call would be too much.
    #[serde(default)]
    pub on_exceeded: OnExceeded,
}

/// What happens to a step whose next call would be too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExceeded {
    /// It waits until somebody raises the limit.
    #[default]
    Pause,
    /// It fails.
    Fail,
}

/// The priority where nothing is said.
pub const fn default_priority() -> u8 {
    5
}

/// The limit of an attempt where nothing is said: five minutes.
pub const fn default_timeout_ms() -> u64 {
    300_000
}

/// Who does a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// An agent.
    Agent {
        /// Its name.
        agent: Box<str>,
        /// Its verb; may be left out where it has only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<Box<str>>,
        /// JSON whose strings may hold `{{ }}`.
        #[serde(default)]
        input: Json,
        /// Prose that may hold `{{ }}`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt: Option<Box<str>>,
    },
    /// A person.
    Approval {
        /// Who may decide; empty: anyone.
        #[serde(default)]
        by: Vec<Box<str>>,
        /// How long to wait, in milliseconds; `None`: for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
        /// What it means that nobody decided in time.
        #[serde(default)]
        on_timeout: OnTimeout,
    },
}

/// What it means that nobody decided in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// No.
    #[default]
    Reject,
    /// Yes.
    Approve,
}

/// A step done once for every item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForEach {
    /// An expression that gives the list.
    pub list: Box<str>,
    /// What the item is called in the step's expressions (`item` always works too).
    #[serde(rename = "as")]
    pub name: Box<str>,
    /// How many items at once; `None`: as the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
}

/// When and how often a failed attempt is followed by another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// How many attempts there are at the most, from 1; those that were lost do not count.
    pub attempts_max: u32,
    /// The wait before the second attempt.
    pub initial_ms: u64,
    /// How much longer each wait is than the one before.
    pub factor: f64,
    /// The longest wait.
    pub wait_max_ms: u64,
    /// Whether a wait is a random part of what the above says.
    pub jitter: bool,
    /// The failures that are worth another attempt.
    pub on: Vec<FailureKind>,
    /// With so many workers lost in a row, from 1, a person is asked.
    #[serde(default = "lost_max", skip_serializing_if = "is_lost_max")]
    pub lost_max: u32,
}

const fn lost_max() -> u32 {
    5
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_lost_max(lost: &u32) -> bool {
    *lost == lost_max()
}

impl Default for Retry {
    fn default() -> Self {
        use FailureKind::{Crashed, RateLimited, Timeout, Unavailable};
        Self {
            attempts_max: 3,
            initial_ms: 1_000,
            factor: 2.0,
            wait_max_ms: 30_000,
            jitter: true,
            on: vec![Timeout, RateLimited, Unavailable, Crashed],
            lost_max: lost_max(),
        }
    }
}

/// What the failure of a step means for its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// What needs it is skipped; the run ends `failed`.
    #[default]
    Fail,
    /// What needs it runs with `null`; the run ends `completed_with_errors`.
    Continue,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn a_step_that_says_nothing_of_itself_is_neither_pressing_nor_idle() {
        let step: Step =
            serde_json::from_str(r#"{"id": "a", "work": {"approval": {}}}"#).expect("a step");
        assert_eq!((step.priority, step.timeout_ms), (5, 300_000));
    }

    /// A plan of echo steps with these ids and needs.
    pub(crate) fn plan(steps: &[(&str, &[&str])]) -> Plan {
        let steps = steps.iter().map(|(id, needs)| Step {
            id: id.parse().unwrap(),
            description: None,
            work: Work::Agent {
                agent: "echo".into(),
                action: None,
                input: serde_json::json!({"value": 1}),
                prompt: None,
            },
            needs: needs.iter().map(|need| need.parse().unwrap()).collect(),
            when: None,
            for_each: None,
            priority: default_priority(),
            timeout_ms: default_timeout_ms(),
            retry: Retry::default(),
            on_failure: OnFailure::default(),
            on_unknown: None,
            output: None,
            budget: None,
            estimate_ms: None,
        });
        Plan {
            workflow: "test".into(),
            steps: steps.collect(),
            max_parallel: default_max_parallel(),
            ..Plan::default()
        }
    }
}
