//! Runs, their steps and what they made.

use serde::{Deserialize, Serialize};

use crate::{Failure, Forked, Json};

/// `POST /runs`: a workflow or a plan, and what to do it with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// The text of a workflow file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// What problems call that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Or a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Json>,
    /// An object.
    #[serde(default)]
    pub inputs: Json,
    /// The client's own name for the run: the same one never makes a second run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// The absolute folder where relative paths start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// How many attempts of the run may go on at once, instead of what the workflow says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// Every step waits for a person's word before it starts.
    #[serde(default)]
    pub manual: bool,
}

/// The answer to a submit: the run is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Submitted {
    /// Its id.
    pub id: String,
    /// It was there before, under the same `task_id` and with the same content.
    pub existing: bool,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "{T}Page"))]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// The `cursor` of the next one; none: this is the last.
    pub next_cursor: Option<String>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunsQuery {
    /// Only those with this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Only those of this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// At most so many, 1 to 1,000; 100 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunSummary {
    /// Its id.
    pub id: String,
    /// The id of its workflow.
    pub workflow: String,
    /// The client's own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// `pending`, `running`, `waiting`, `paused`, `stopping`, or its verdict.
    pub status: String,
    /// When it was created.
    pub created_at: String,
    /// When its status last changed.
    pub updated_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The id of its workflow.
    pub workflow: String,
    /// The client's own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// `pending`, `running`, `waiting`, `paused`, `stopping`, or its verdict.
    pub status: String,
    /// Why, where the status does not say it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where it was forked from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked: Option<Forked>,
    /// Its steps, grown ones included.
    pub steps: Vec<Step>,
    /// What it gave; `null` until it ended.
    pub output: Json,
    /// What was made.
    pub artifacts: Vec<Artifact>,
    /// What its steps have said to each other, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// How many bytes it takes in the store now; not told of a moment before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What it was given.
    pub inputs: Json,
    /// Where relative paths start.
    pub root: String,
    /// The number of its last event.
    pub seq: u64,
    /// When it was created.
    pub created_at: String,
    /// When its last event happened.
    #[serde(default)]
    pub updated_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// The living node that owns it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
}

/// What a step has said to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Message {
    /// When.
    pub at: String,
    /// The step that said it.
    pub from: String,
    /// To which steps.
    pub to: Vec<String>,
    /// What.
    pub text: String,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// Its id.
    pub id: String,
    /// `waiting`, `ready`, `running`, `retrying`, `waiting_approval`, `blocked`, `completed`,
    /// `failed`, `skipped`, `dropped`, or `cancelled` with its run.
    pub status: String,
    /// Who does it; `None`: a person.
    pub agent: Option<String>,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the first one began.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// What it gave; `null` unless completed.
    pub output: Json,
    /// How its last attempt failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Why it was skipped or is blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A payload with a name and a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Artifact {
    /// A relative path.
    pub name: String,
    /// Of the content.
    pub digest: String,
    /// The media type.
    #[serde(rename = "type")]
    pub media_type: String,
    /// In bytes.
    pub len: u64,
    /// The step that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The file it was written to, where it was.
    #[serde(default)]
    pub path: Option<String>,
}

/// A process that works on a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Node {
    /// Its name.
    pub id: String,
    /// Its process id.
    pub pid: u32,
    /// Its version of kapelle.
    pub version: String,
    /// The path of its socket.
    #[serde(default)]
    pub socket: Option<String>,
}

/// `POST /runs/{run}/pause`, `/resume`, `/cancel`. All fields may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Who wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to a command: it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Told {
    /// The run's id.
    pub id: String,
    /// Where it stands.
    pub status: String,
    /// The number of its last event.
    pub seq: u64,
    /// Whether a node works on it; if not, `kapelle runs resume` does.
    pub worked_on: bool,
}

/// `POST /runs/{run}/approvals/{step}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// What.
    pub decision: Decision,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A person's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Yes.
    Approve,
    /// No.
    Reject,
}

/// `POST /runs/{run}/steps/{step}/resolve`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// What to do about the step.
    pub action: Resolve,
    /// For `complete`, which needs it: what it gave, which may be `null`.
    #[serde(default, deserialize_with = "told", skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A value that is told, also `null`: nobody has to have left it out.
fn told<'de, D: serde::Deserializer<'de>>(of: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(of).map(Some)
}

/// `POST /runs/{run}/steps/{step}/answer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What the step wants to know.
    pub answer: String,
    /// To which of its questions, by the number of the call; absent: to the one that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u32>,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What to do about a blocked step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Resolve {
    /// Try again, with the same key.
    Retry,
    /// The call was made; go on with its output.
    Complete,
    /// Do without the step.
    Skip,
    /// Take it as failed.
    Fail,
}
