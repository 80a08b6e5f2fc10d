//! The shape of a workflow file, as types: the JSON Schema that editors use and that files are
//! checked with is made from these.
//!
//! **Invariant:** every field is optional for serde, so that a file with mistakes can still be read
//! in part; the schema says which must be there.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::Json;
use crate::time::DURATION_PATTERN;

/// What an id looks like.
pub(super) const ID: &str = "^[A-Za-z0-9_-]{1,64}$";

/// A workflow.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Kapelle workflow")]
pub(super) struct File {
    /// The workflow's id: letters, digits, `_` and `-`.
    #[schemars(required, regex(pattern = ID))]
    pub(super) id: Option<String>,
    /// What people call it.
    pub(super) name: Option<String>,
    /// What it is for.
    pub(super) description: Option<String>,
    /// Its version, a number or a text.
    pub(super) version: Option<Version>,
    /// What kind of work it is.
    pub(super) category: Option<Category>,
    /// Words to find it by.
    pub(super) tags: Option<Vec<String>>,
    /// How hard it is.
    pub(super) complexity: Option<Complexity>,
    /// How long it takes, in seconds.
    #[schemars(range(min = 0))]
    pub(super) estimated_duration: Option<f64>,
    /// A JSON Schema for each input; one with a `default` may be left out.
    pub(super) inputs: Option<BTreeMap<String, InputSchema>>,
    /// How it runs.
    pub(super) config: Option<Config>,
    /// The steps.
    #[schemars(required)]
    pub(super) tasks: Option<Vec<Task>>,
    /// The run's output; its strings may hold `{{ }}`.
    #[schemars(extend("default" = null))]
    pub(super) output: Option<Json>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Category {
    #[default]
    Development,
    Security,
    Testing,
    Performance,
    Devops,
    Quality,
    Research,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Complexity {
    Simple,
    Moderate,
    Complex,
}

/// How a workflow runs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Config {
    /// How many steps run at once.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) max_parallel_agents: Option<u32>,
    /// The limit of the time in which something runs or could.
    pub(super) global_timeout: Option<Duration>,
    /// The limit of the time by the wall clock.
    pub(super) deadline: Option<Duration>,
    /// `manual`: every step waits for a person's word.
    pub(super) mode: Option<Mode>,
    /// What all steps may spend together.
    pub(super) budget: Option<Budget>,
}

/// What may be spent: on models, and in time.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Budget {
    /// Tokens, read and written.
    #[schemars(range(min = 1))]
    pub(super) tokens: Option<u64>,
    /// US dollars.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(super) usd: Option<f64>,
    /// Of a run the time in which something runs or could, of a step the time of its attempts.
    pub(super) time: Option<Duration>,
    /// What happens to a step whose next call would be too much: it waits for more, or fails.
    pub(super) on_exceeded: Option<OnExceeded>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum OnExceeded {
    Pause,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Mode {
    Auto,
    Manual,
}

/// A step.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Task {
    /// The step's id: letters, digits, `_` and `-`.
    #[schemars(required, regex(pattern = ID))]
    pub(super) id: Option<String>,
    /// Who does it.
    #[schemars(length(min = 1, max = 128))]
    pub(super) agent_name: Option<String>,
    /// The agent's verb; may be left out where it has only one.
    pub(super) action: Option<String>,
    /// What the agent is given; strings may hold `{{ }}`.
    pub(super) input: Option<serde_json::Map<String, Json>>,
    /// Prose for agents that read prose; may hold `{{ }}`.
    pub(super) prompt: Option<String>,
    /// What it is for.
    pub(super) description: Option<String>,
    /// The steps that must have ended before.
    pub(super) dependencies: Option<Vec<String>>,
    /// An expression: the step is skipped where it is false.
    pub(super) when: Option<Condition>,
    /// An expression that gives a list: the step is done for each of its items.
    pub(super) for_each: Option<String>,
    /// What the item is called.
    #[serde(rename = "as")]
    pub(super) item_name: Option<String>,
    /// How many items at once.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) max_parallel: Option<u32>,
    /// From 1 to 10, 10 first.
    #[schemars(range(min = 1, max = 10))]
    pub(super) priority: Option<u8>,
    /// The limit of one attempt.
    pub(super) timeout: Option<Duration>,
    /// When and how often it is tried again.
    pub(super) retry: Option<Retry>,
    /// A JSON Schema of its output.
    pub(super) output: Option<InputSchema>,
    /// What its failure means for the run.
    pub(super) on_failure: Option<OnFailure>,
    /// What to do when nobody knows how an attempt ended.
    pub(super) on_unknown: Option<OnUnknown>,
    /// How long it takes, in seconds.
    #[schemars(range(min = 0))]
    pub(super) estimated_duration: Option<f64>,
    /// What it may spend; each item of a `forEach` by itself.
    pub(super) budget: Option<Budget>,
    /// A person decides, instead of an agent.
    pub(super) approval: Option<Approval>,
}

/// When and how often a step is tried again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Retry {
    /// How many attempts there are at the most.
    #[schemars(range(min = 1, max = 100))]
    pub(super) max_attempts: Option<u32>,
    /// The wait before the second attempt.
    pub(super) initial: Option<Duration>,
    /// How much longer each wait is than the one before.
    #[schemars(range(min = 1, max = 100))]
    pub(super) factor: Option<f64>,
    /// The longest wait.
    pub(super) max: Option<Duration>,
    /// Whether waits are random parts of that.
    pub(super) jitter: Option<bool>,
    /// Which failures are worth another attempt.
    pub(super) on: Option<Vec<RetryOn>>,
    /// With so many workers lost in a row a person is asked.
    #[schemars(range(min = 1, max = 100))]
    pub(super) max_lost: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(super) enum RetryOn {
    Timeout,
    RateLimited,
    Unavailable,
    Crashed,
    Invalid,
    Refused,
    Denied,
    Bug,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum OnFailure {
    Fail,
    Continue,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum OnUnknown {
    Retry,
    Ask,
    Fail,
}

/// A person's decision.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Approval {
    /// Who may decide; nobody named: anyone.
    pub(super) by: Option<Vec<String>>,
    /// How long to wait; without: for ever.
    pub(super) timeout: Option<Duration>,
    /// What it means that nobody decided in time.
    pub(super) on_timeout: Option<OnTimeout>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum OnTimeout {
    Reject,
    Approve,
}

/// A duration as it was written, in milliseconds; `None` if it cannot be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duration(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(from)?;
        let ms = match &json {
            Json::String(text) => crate::parse_duration(text)
                .and_then(|duration| u64::try_from(duration.as_millis()).ok()),
            other => other.as_u64().filter(|ms| *ms <= 100 * 366 * 24 * 3_600_000),
        };
        Ok(Self(ms))
    }
}

macro_rules! schema_by_hand {
    ($type:ty, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

schema_by_hand!(Duration, {
    "description": "As in `10ms`, `30s`, `5m`, `24h`, `1h30m`, or a number of milliseconds.",
    "type": ["string", "integer"], "pattern": DURATION_PATTERN, "minimum": 0
});

/// A JSON Schema, as it was written.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct InputSchema(pub(super) Json);

schema_by_hand!(InputSchema, { "description": "A JSON Schema.", "type": ["object", "boolean"] });

/// An expression, or `true` or `false` themselves.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Condition(pub(super) Json);

schema_by_hand!(Condition, { "type": ["string", "boolean"] });

/// A number or a text.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Version(pub(super) Json);

schema_by_hand!(Version, { "type": ["string", "number"] });

/// The JSON Schema of a workflow file.
pub(super) fn schema() -> Json {
    schemars::schema_for!(File).to_value()
}
