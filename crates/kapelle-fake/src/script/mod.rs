//! What the fake answers to what: a YAML or JSON file of rules over the request.
//!
//! **Invariant:** a script is checked whole before anything is served, and everything wrong with
//! it is told at once, each with its line and field. [`schema`] is the language as JSON Schema.
//!
//! `rule` matches and counts, `read` checks; how an answer is made of a rule is in `answer`.

mod read;
pub(crate) mod rule;
pub(crate) mod template;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use read::{Problem, Problems};

/// The script that is nothing but defaults: any key is taken, and what a user says is echoed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// What the dice of faults and the secret of signatures come from.
    pub seed: u64,
    /// The keys that are known. With none, any key is taken, under the name `any`.
    pub keys: Vec<Key>,
    /// Models beside those that are built in, or in their place.
    pub models: Vec<Model>,
    /// The limits of each key that has none of its own.
    pub limits: Limits,
    /// How fast answers come, unless the rule says otherwise.
    pub delivery: Delivery,
    /// What may go wrong with every request for an answer that was in order.
    pub faults: Vec<Fault>,
    /// The first one that matches answers.
    pub rules: Vec<Rule>,
    /// What is answered when no rule matches; nothing at all means an echo.
    pub default: Vec<Part>,
}

/// Who may ask.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What journals and counts call it.
    pub name: String,
    /// The secret itself. It is in no journal and no answer.
    pub key: String,
    /// Known but not allowed: 403.
    #[serde(default)]
    pub denied: bool,
    /// Instead of the script's.
    #[serde(default)]
    pub limits: Option<Limits>,
}

/// A model and what it allows.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What requests call it.
    pub id: String,
    /// Whose wire it speaks.
    pub provider: Provider,
    /// How many tokens it sees, prompt and answer together.
    #[serde(default = "window")]
    pub window: u64,
    /// How many tokens it may answer.
    #[serde(default = "output_max")]
    pub output_max: u64,
    /// From how many tokens on a prefix is cached.
    #[serde(default = "cache_min")]
    pub cache_min: u64,
    /// What it refuses, each in the provider's words.
    #[serde(default)]
    pub forbids: Vec<Forbidden>,
}

/// What some models refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forbidden {
    /// `tool_choice` of `any` and `tool`.
    ForcedTools,
    /// A conversation that ends with the assistant.
    Prefill,
    /// `thinking` of `disabled`.
    ThinkingDisabled,
    /// `thinking` of `enabled`, with a budget.
    ThinkingEnabled,
    /// `thinking` of `adaptive`.
    ThinkingAdaptive,
    /// `thinking` of `between_tools`.
    ThinkingBetweenTools,
    /// `max_tokens` of OpenAI's older models.
    MaxTokens,
}

/// A wire format.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Messages.
    Anthropic,
    /// Chat Completions.
    Openai,
}

/// What a key may use per minute; what is not there is not limited.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests for an answer.
    pub requests: Option<Limit>,
    /// Tokens of prompts, without those read from a cache.
    pub input_tokens: Option<Limit>,
    /// Tokens of answers.
    pub output_tokens: Option<Limit>,
    /// Tokens of both.
    pub tokens: Option<Limit>,
    /// No header tells of them, only a 429: many servers of one's own are like that.
    pub silent: bool,
}

/// A bucket that fills at an even pace.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// How much flows in.
    #[schemars(range(min = 1))]
    pub per_minute: u64,
    /// How much it holds; as much as flows in a minute unless told.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub burst: Option<u64>,
}

/// How fast an answer comes, and in which pieces.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Delivery {
    /// Before the head of the answer.
    pub latency_ms: Option<u64>,
    /// Between the head and the first byte.
    pub first_byte_ms: Option<u64>,
    /// Before every event of a stream but the first.
    pub event_ms: Option<u64>,
    /// Bytes of text or JSON in one delta; 20 unless told.
    #[schemars(range(min = 1))]
    pub delta_bytes: Option<u64>,
    /// A `ping` after so many events, besides the one at the beginning; a comment on OpenAI's wire.
    #[schemars(range(min = 1))]
    pub ping_every: Option<u64>,
    /// An event nobody knows after so many events; a field nobody knows on OpenAI's wire.
    #[schemars(range(min = 1))]
    pub unknown_every: Option<u64>,
    /// A stream does not say what it used, as some servers of OpenAI's wire do.
    pub no_usage: Option<bool>,
}

/// Something that goes wrong. Exactly one of `status`, `rate_limit`, `spend_cap`, `cut`,
/// `cut_at`, `stall_at`, `malformed` and `stream_error` says what.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// An error instead of an answer: 400 to 599, such as 500 or 529.
    #[schemars(range(min = 400, max = 599))]
    pub status: Option<u16>,
    /// 429 with `retry-after` of so many seconds.
    pub rate_limit: Option<u64>,
    /// 429 without `retry-after`: a cap on what may be spent.
    pub spend_cap: bool,
    /// The connection ends somewhere in the body, where the dice say.
    pub cut: bool,
    /// The connection ends after so many bytes of the body.
    pub cut_at: Option<u64>,
    /// Nothing more comes after so many bytes of the body, but the connection stays.
    pub stall_at: Option<u64>,
    /// JSON that is none: the whole body, or one event of a stream.
    pub malformed: bool,
    /// An `error` event of this type in the middle of a stream, and its end.
    pub stream_error: Option<String>,
    /// How often, from 0 to 1. Always, if neither this nor `at` is there.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: Option<f64>,
    /// At which requests, counted from 1: of this rule, or of all where the fault is the script's.
    pub at: Vec<u64>,
    /// An error with a status that comes with `retry-after` of so many seconds.
    pub retry_after: Option<u64>,
}

/// An answer and when it is given.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// What journals and counts call it; `rule 1` and so on unless told.
    pub name: Option<String>,
    /// All of it must be so; nothing is always so.
    pub when: When,
    /// It answers so often and is passed over from then on.
    pub times: Option<u64>,
    /// What is answered, in order; nothing at all means an echo.
    pub answer: Vec<Part>,
    /// Instead of what follows from the answer.
    pub stop: Option<String>,
    /// For `json`: whether it may break the schema that the request asked for.
    pub violate: bool,
    /// What differs from the script's.
    pub delivery: Delivery,
    /// Before those of the script.
    pub faults: Vec<Fault>,
}

/// Conditions on a request.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The wire it came over.
    pub provider: Option<Provider>,
    /// The name of its key.
    pub key: Option<String>,
    /// The model it names.
    pub model: Option<String>,
    /// A text in its system prompt.
    pub system_contains: Option<String>,
    /// A regular expression over its system prompt.
    pub system_matches: Option<String>,
    /// A text in what the user said last.
    pub user_contains: Option<String>,
    /// A regular expression over it; what its groups took is `{{1}}`, `{{2}}` and so on.
    pub user_matches: Option<String>,
    /// How many messages of the assistant it has.
    pub turn: Option<u64>,
    /// At least so many.
    pub turn_min: Option<u64>,
    /// Whether its last message brings results of tools.
    pub tool_results: Option<bool>,
    /// A text in one of these results.
    pub tool_result_contains: Option<String>,
    /// A tool it offers.
    pub offers_tool: Option<String>,
    /// Whether it asks for JSON by a schema.
    pub schema: Option<bool>,
    /// Whether it wants a stream.
    pub stream: Option<bool>,
    /// Headers and the texts they hold.
    pub headers: BTreeMap<String, String>,
    /// The how manieth time, from 1, that all the rest is so.
    pub nth: Vec<u64>,
}

/// A piece of an answer: exactly one of its fields.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Part {
    /// Words, with `{{user}}`, `{{system}}`, `{{model}}`, `{{turn}}`, `{{nth}}`, `{{n}}`,
    /// `{{tool_result}}` and `{{1}}` replaced.
    pub text: Option<String>,
    /// A thought, if the request lets the model think.
    pub thinking: Option<String>,
    /// A call of a tool.
    pub tool: Option<ToolCall>,
    /// JSON as text. It must obey the schema that the request asked for.
    pub json: Option<Value>,
    /// A block that is sent as it stands, on Anthropic's wire alone.
    pub block: Option<Value>,
}

/// A call of a tool.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Which one.
    pub name: String,
    /// With what; texts in it may have the same names in braces as `text`.
    #[serde(default)]
    pub input: serde_json::Map<String, Value>,
}

impl Script {
    /// Reads a script, or says everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        read::script(text)
    }
}

/// The language as JSON Schema, for editors.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Script).to_value()
}

const fn window() -> u64 {
    200_000
}

const fn output_max() -> u64 {
    64_000
}

const fn cache_min() -> u64 {
    1_024
}

impl Provider {
    pub(crate) fn is_anthropic(self) -> bool {
        self == Self::Anthropic
    }
}
