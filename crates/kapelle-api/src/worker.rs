//! Agents whose work others do: registering them, and what workers and the server tell each other.

use serde::{Deserialize, Serialize};

use crate::Json;

/// `POST /agents`: an agent whose work workers do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewAgent {
    /// As `agentName` in workflows: 1 to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its verbs; none: one, `run`, that takes anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<NewAction>,
    /// What it can do, for those who look for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// What it knows about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// How long a worker may be silent while it works, as in `30s`; absent: so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// What is to be done where a worker was lost, if the step does not say: `retry` (absent), `ask` or `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unknown: Option<String>,
}

/// A verb of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewAction {
    /// As `action` in workflows.
    pub name: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON Schema of the input; absent: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Json>,
    /// JSON Schema of the output; absent: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
}

/// `PATCH /agents/{name}`: what is given takes the place of what was registered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AgentPatch {
    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All its verbs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<NewAction>>,
    /// All that it can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// All that it knows about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<Vec<String>>,
    /// How long a worker may be silent while it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// What is to be done where a worker was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unknown: Option<String>,
}

/// `GET /agents`: which ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AgentsQuery {
    /// Those that name this domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Those that name this capability, or have an action of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// Those of this health: `ok` or `absent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
}

/// `GET /agents/{name}/work`: how long to wait for some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkQuery {
    /// As in `20s`, at most a minute; absent: 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// The answer to it, if there is something to do: from here on the worker's lease counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Assignment {
    /// What the worker's words are about: `/attempts/{attempt}/…`.
    pub attempt: String,
    /// As whom it works.
    pub agent: String,
    /// The run.
    pub run: String,
    /// The run's workflow.
    pub workflow: String,
    /// The step.
    pub step: String,
    /// Its how many-th attempt this is, from 1.
    pub number: u32,
    /// What makes the work idempotent outside: it stays the same until a definite failure is reported.
    pub key: String,
    /// The verb.
    pub action: String,
    /// Its input.
    pub input: Json,
    /// Prose, for those who read prose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What was wrong with the answer of the attempt before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complaint: Option<String>,
    /// JSON Schema that the step asks of the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Json>,
    /// When the attempt is given up, whatever its worker says.
    pub deadline: String,
    /// How long the worker may be silent, in milliseconds.
    pub lease_ms: u64,
    /// What earlier attempts have on record: not to be done again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recorded: Vec<Recorded>,
}

/// An outside call on record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Recorded {
    /// Its place among the calls of the step, from 1.
    pub ordinal: u32,
    /// What it is.
    pub name: String,
    /// `recorded`: `output` or `failure` is its end; `begun`: it is to be made, or was, and has no end yet.
    pub status: String,
    /// What makes the call idempotent outside.
    pub key: String,
    /// What it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// How it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<crate::Failure>,
}

/// `POST /attempts/{attempt}/heartbeat`: the worker lives, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Beat {
    /// A line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// From 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
}

/// The answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heard {
    /// The attempt is not wanted any more: end it, and say so with `fail`.
    pub cancel: bool,
    /// How long the worker may be silent from here on, in milliseconds.
    pub lease_ms: u64,
}

/// `POST /attempts/{attempt}/effects`: an outside call that is about to be made, or that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewEffect {
    /// Its place among the calls of the step, from 1: the same in every attempt.
    pub ordinal: u32,
    /// What it is, such as `charge`.
    pub name: String,
    /// What it is about: another one in the same place is refused.
    #[serde(default)]
    pub input: Json,
    /// It must not be made twice: of unknown end, a person is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// What it gave, where it has ended well.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// How it failed, where that is certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<NewFailure>,
}

/// `POST /attempts/{attempt}/complete`: the attempt ended well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// The step's output.
    #[serde(default)]
    pub output: Json,
    /// Files to be kept with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<NewArtifact>,
}

/// A file that a worker made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewArtifact {
    /// A relative path without `..`.
    pub name: String,
    /// Its media type; absent: `text/plain` for `text`, else `application/octet-stream`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its content as text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// or its bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// `POST /attempts/{attempt}/fail`: the attempt, or a call in it, ended badly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewFailure {
    /// What retry policies go by: `invalid`, `refused`, `denied`, `timeout`, `rate_limited`, `unavailable`,
    /// `crashed` (absent) or `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A stable word; absent: the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// For a person.
    pub message: String,
    /// It may have been done: tried again under the same key, where that is safe.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
    /// Not to be tried again before so long, as in `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// What is on record from this call on is to be done again by the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_from: Option<u32>,
}

/// The answer to the last word on an attempt: it is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Settled {
    /// `completed`; `failed`, also where the output is not what the step asks for.
    pub status: String,
    /// What is wrong with the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Something that somebody should look after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Alert {
    /// `no_agent`: nothing of this name is registered or at hand; `no_worker`: it is registered, and none
    /// of its workers was heard of lately.
    pub kind: String,
    /// The agent.
    pub agent: String,
    /// In words, with what helps.
    pub message: String,
    /// Since when a step waits for that.
    pub since: String,
    /// How many runs wait.
    pub waiting: u64,
    /// Their ids, at most a hundred.
    pub runs: Vec<String>,
}

/// A value that is there is told from none, also where it is `null`.
fn some<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(from).map(Some)
}
