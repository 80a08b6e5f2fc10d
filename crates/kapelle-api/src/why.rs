//! Why a run or a step stands where it stands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// `GET /runs/{run}/why`, `GET /runs/{run}/steps/{step}/why`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// The run.
    pub run: String,
    /// The step, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Where it stands, in the words of `Run` and `Step`.
    pub status: String,
    /// Why, in sentences; the first one says the most.
    pub reasons: Vec<String>,
    /// What would get it on, if somebody has to do something.
    pub unblock: Vec<Help>,
    /// Who does the step, and why this one; none for a run and where a person does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Chosen>,
    /// The step's attempts, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// The step's calls of models, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ModelCall>,
    /// Of a run: the steps on which there is something to say, those first that hold it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Line>,
    /// Of a run: how many more such steps there are.
    #[serde(default)]
    pub more_steps: u64,
    /// What it took so far.
    pub cost: Cost,
}

/// Something that somebody can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Help {
    /// What.
    pub what: String,
    /// The arguments of the command `kapelle` that do it, if one does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

/// An agent, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Chosen {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// One attempt of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// Who made it.
    pub agent: String,
    /// When it began.
    pub began_at: String,
    /// When it ended; none: it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How long it has taken.
    pub elapsed_ms: u64,
    /// `running`, `completed`, `failed` or `in_doubt`.
    pub outcome: String,
    /// How it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Why there was another one after it, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
}

/// One call of a model that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelCall {
    /// Who answered: `provider/model`.
    pub model: String,
    /// Where the key of the call was found; none: there was no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The provider's name for its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Tokens read anew.
    pub fresh_tokens: u64,
    /// Tokens read out of the provider's cache.
    pub cached_tokens: u64,
    /// Tokens read anew and put into the cache.
    pub stored_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// What it cost in billionths of a dollar; none: its price is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_usd: Option<i64>,
    /// What the prompt was made of, in bytes: `instructions`, `tools`, `task`, `said` by the model
    /// before, `told` by tools.
    #[serde(default)]
    pub prompt: BTreeMap<String, u64>,
    /// Models that were asked before it and did not answer, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<String>,
}

/// A step in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Line {
    /// Its id.
    pub step: String,
    /// Where it stands.
    pub status: String,
    /// Why.
    pub reason: String,
}

/// What a run or a step took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cost {
    /// From its first attempt to its end, or to now.
    pub elapsed_ms: u64,
    /// The time of all attempts together.
    pub working_ms: u64,
    /// How many attempts were begun.
    pub attempts: u64,
    /// Outside calls that were recorded: they are not made again.
    pub effects: u64,
    /// Bytes of what the attempts were given.
    pub input_bytes: u64,
    /// Bytes of what came out, artifacts included.
    pub output_bytes: u64,
    /// Tokens that models read.
    pub input_tokens: u64,
    /// Tokens that models wrote.
    pub output_tokens: u64,
    /// Nano-dollars, as far as agents tell.
    pub cost_nanos: i64,
}
