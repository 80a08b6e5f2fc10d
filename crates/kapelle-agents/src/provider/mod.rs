//! Model providers: what is asked of a model, what it answers, and the two wire formats for it.
//!
//! **Invariants:** what a provider sends and we do not know is passed back unchanged; usage is counted
//! as the provider says; a key is never shown, logged or written, nor what comes back with it. One call is one request: retries,
//! budgets and records are the business of whoever calls.

mod anthropic;
mod client;
mod error;
mod governor;
mod key;
mod models;
mod openai;
mod pause;
mod prices;
mod schema;
mod sse;
mod veil;

use serde::{Deserialize, Serialize};

use kapelle_core::Json;

pub use client::{LIMITS, Provider, Trouble, Wire};
pub use governor::{Governor, Held, Leave};
pub use key::{Key, KeySource};
pub use models::{Choice, Line, Models, TIERS};
pub use openai::MaxTokensAs;
pub use prices::{Over, Prices, Row};
pub use veil::without_keys;

/// What is asked of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The model, by the provider's name for it.
    pub model: Box<str>,
    /// What holds for the whole conversation.
    pub system: Option<Box<str>>,
    /// The conversation so far; the last turn is the user's.
    pub turns: Vec<Turn>,
    /// So many parts of the first turn are the same in other calls at about this time.
    pub shared: usize,
    /// What the model may call, in a stable order: it is part of the cached prefix.
    pub tools: Vec<Tool>,
    /// JSON Schema that the answer is to obey.
    pub schema: Option<Json>,
    /// So many tokens may be written.
    pub tokens_max: u64,
    /// How hard it is to think: `low`, `medium`, `high`, `xhigh` or `max`.
    pub effort: Option<Box<str>>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Whose.
    pub role: Role,
    /// The model that said it, as `provider/model`: its thoughts mean nothing to another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<str>>,
    /// What was said, in order.
    pub parts: Vec<Part>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// We do: people, files, and what tools answered.
    User,
    /// The model.
    Assistant,
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Prose.
    Text {
        /// It.
        text: Box<str>,
    },
    /// The model wants a tool called.
    ToolCall {
        /// The provider's name for this call.
        id: Box<str>,
        /// Which tool.
        name: Box<str>,
        /// With what; a text where it is no JSON.
        input: Json,
    },
    /// What a tool answered.
    ToolResult {
        /// The `id` of the call.
        id: Box<str>,
        /// For the model.
        text: Box<str>,
        /// It did not work.
        failed: bool,
    },
    /// What the provider wants back as it was: thoughts with their signatures, and what we do not know.
    Raw {
        /// As it came.
        block: Json,
    },
}

impl Part {
    /// A text that says nothing: providers do not take it back.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Text { text } if text.trim().is_empty())
    }
}

/// A schema, where a provider cannot be told of it but in words.
fn in_words(schema: &Json) -> String {
    let schema = kapelle_core::canonical(schema);
    format!("Answer with nothing but JSON that obeys this JSON Schema: {schema}")
}

/// What a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// At most 64 of `[A-Za-z0-9_-]`.
    pub name: Box<str>,
    /// When to use it, and what comes of it.
    pub description: Box<str>,
    /// JSON Schema of its input: an object.
    pub input: Json,
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Its turn.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub stop: Stop,
    /// What it used.
    pub tokens: Tokens,
    /// The model that answered, by the provider's name.
    pub model: Box<str>,
    /// The provider's name for this answer, for questions to its support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<str>>,
}

impl Reply {
    /// All that it said in prose.
    #[must_use]
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text { text } => Some(&**text),
            _ => None,
        });
        texts.collect()
    }
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It is complete.
    End,
    /// It waits for what tools answer.
    Tools,
    /// It has reached the limit of tokens, of the answer or of the model.
    Length,
    /// It has paused: sent back, it goes on.
    Paused,
    /// The model or a filter refuses, and why.
    Refused(Box<str>),
}

/// The tokens of one call, as the provider counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Read anew.
    #[serde(skip_serializing_if = "is_zero")]
    pub fresh: u64,
    /// Read out of the provider's cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Read anew and put into the cache for five minutes.
    #[serde(skip_serializing_if = "is_zero")]
    pub stored: u64,
    /// The same for an hour.
    #[serde(skip_serializing_if = "is_zero")]
    pub stored_long: u64,
    /// Written, thoughts included.
    #[serde(skip_serializing_if = "is_zero")]
    pub written: u64,
    /// How many of those were thoughts.
    #[serde(skip_serializing_if = "is_zero")]
    pub thought: u64,
    /// The provider did not say: the figures are no figures.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

/// A figure of a provider; nothing where it is none, or an odd one. Some servers count in floats.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a whole number in range"
)]
fn figure(of: &Json) -> Option<u64> {
    let whole = |number: &f64| (0.0..1e15).contains(number) && number.fract() == 0.0;
    of.as_u64()
        .filter(|number| *number < 1_000_000_000_000_000)
        .or_else(|| of.as_f64().filter(whole).map(|number| number as u64))
}

/// A part of a figure, which not all tell: 0 where it is not there.
fn part_of(of: &Json) -> Option<u64> {
    if of.is_null() { Some(0) } else { figure(of) }
}

impl Tokens {
    /// Figures that are not there, or odd, are no figures.
    fn told(figures: Option<Self>) -> Self {
        figures.unwrap_or(Self { unknown: true, ..Self::default() })
    }

    /// The figures of an answer that has these parts: no prompt is of no tokens, and no words are.
    fn of(self, parts: &[Part]) -> Self {
        let said = parts.iter().any(|part| !part.is_empty());
        let unknown = self.unknown || self.read() == 0 || (said && self.written == 0);
        Self { unknown, ..self }
    }

    /// All that was read.
    #[must_use]
    pub const fn read(&self) -> u64 {
        self.fresh + self.cached + self.stored + self.stored_long
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What comes while a model is answering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta<'a> {
    /// The provider has let the call in, and tells in these headers what is left of its limits.
    Begun(&'a reqwest::header::HeaderMap),
    /// More of the answer.
    Text(&'a str),
    /// More of its thoughts, where it tells them.
    Thought(&'a str),
    /// It begins a call of this tool.
    Tool(&'a str),
}
