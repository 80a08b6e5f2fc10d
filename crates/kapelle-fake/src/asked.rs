//! What a request asks, whichever wire it came over.

use serde_json::Value;

use crate::script::Provider;

/// A request for an answer that was in order.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) provider: Provider,
    pub(crate) model: String,
    pub(crate) system: String,
    /// What the user said last.
    pub(crate) user: String,
    /// What the user said first: what tells one conversation from another.
    pub(crate) opening: String,
    /// How many messages of the assistant there are.
    pub(crate) turn: u64,
    /// The results of tools in the last message, or in those after the last of the assistant.
    pub(crate) results: Vec<String>,
    /// The names of the tools it offers.
    pub(crate) tools: Vec<String>,
    pub(crate) calls: Calls,
    /// The tool that has to be called, with the schema of its input.
    pub(crate) forced: Option<(String, Value)>,
    pub(crate) thinking: Thinking,
    /// The schema of the JSON it wants.
    pub(crate) schema: Option<Value>,
    /// JSON, but by no schema.
    pub(crate) any_json: bool,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// How many tokens it takes.
    pub(crate) output_max: u64,
    pub(crate) stops: Vec<String>,
    /// How many answers it wants.
    pub(crate) choices: u64,
    /// What the model reads, in order: tools, system, messages.
    pub(crate) prompt: Vec<Piece>,
    /// Caches are kept apart by it.
    pub(crate) cache_key: String,
}

/// Which tools may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    None,
    One,
    Many,
}

/// What becomes of thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thinking {
    Off,
    Shown,
    /// Signed and counted, but without its text.
    Omitted,
}

/// A part of a prompt as it is counted and cached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    /// Whose words they are; pieces that differ in it are different.
    pub(crate) role: &'static str,
    pub(crate) text: String,
    pub(crate) tokens: u64,
    /// A marker stands here: the prompt up to its end is to be cached.
    pub(crate) marker: Option<Ttl>,
}

/// What a piece costs besides its text.
const OVERHEAD_TOKENS: u64 = 4;
/// What an image or a document costs, whatever is in it.
const MEDIA_TOKENS: u64 = 1_600;

/// How long a prefix is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ttl {
    FiveMinutes,
    Hour,
}

impl Piece {
    pub(crate) fn text(role: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        let tokens = tokens(&text) + OVERHEAD_TOKENS;
        Self { role, text, tokens, marker: None }
    }

    pub(crate) fn media(role: &'static str, text: String) -> Self {
        Self { role, text, tokens: MEDIA_TOKENS, marker: None }
    }
}

impl Asked {
    pub(crate) fn prompt_tokens(&self) -> u64 {
        self.prompt.iter().map(|piece| piece.tokens).sum()
    }
}

/// How many tokens a text has here: one for every four bytes begun.
#[must_use]
pub fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}
