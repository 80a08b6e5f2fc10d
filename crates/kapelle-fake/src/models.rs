//! The models there are, with what they forbid.
//!
//! Figures of windows and caches are round; what is forbidden follows the providers' pages.

use crate::script::{Forbidden, Model, Provider, Script};

use Forbidden::{
    ForcedTools, MaxTokens, Prefill, ThinkingAdaptive, ThinkingBetweenTools, ThinkingDisabled,
    ThinkingEnabled,
};

/// The newest: think by themselves, and call no tool by force.
const NEWEST: &[Forbidden] = &[ForcedTools, Prefill, ThinkingEnabled, ThinkingBetweenTools];
/// As the newest, and never without thought.
const THINKS: &[Forbidden] =
    &[ForcedTools, Prefill, ThinkingEnabled, ThinkingBetweenTools, ThinkingDisabled];
/// As the newest, with its own word for less thought.
const BETWEEN: &[Forbidden] = &[ForcedTools, Prefill, ThinkingEnabled, ThinkingDisabled];
/// What came before.
const RECENT: &[Forbidden] = &[Prefill, ThinkingEnabled, ThinkingBetweenTools];
const OLDER: &[Forbidden] = &[Prefill, ThinkingBetweenTools];
/// What needs a budget to think.
const OLDEST: &[Forbidden] = &[ThinkingAdaptive, ThinkingBetweenTools];

/// Name, window, longest answer, shortest cached prefix, what it forbids.
type Row = (&'static str, u64, u64, u64, &'static [Forbidden]);

const ANTHROPIC: [Row; 15] = [
    ("claude-fable-5-2", 1_000_000, 128_000, 1_024, NEWEST),
    ("claude-fable-5-1", 1_000_000, 128_000, 1_024, NEWEST),
    ("claude-fable-5", 1_000_000, 128_000, 1_024, RECENT),
    ("claude-opus-5-5", 1_000_000, 128_000, 1_024, THINKS),
    ("claude-sonnet-5-5", 1_000_000, 128_000, 1_024, BETWEEN),
    ("claude-haiku-5-5", 400_000, 64_000, 2_048, RECENT),
    ("claude-opus-5", 1_000_000, 128_000, 1_024, RECENT),
    ("claude-sonnet-5", 1_000_000, 128_000, 1_024, RECENT),
    ("claude-opus-4-8", 1_000_000, 128_000, 1_024, RECENT),
    ("claude-opus-4-7", 1_000_000, 128_000, 1_024, RECENT),
    ("claude-opus-4-6", 200_000, 128_000, 1_024, OLDER),
    ("claude-sonnet-4-6", 200_000, 64_000, 1_024, OLDER),
    ("claude-opus-4-5", 200_000, 64_000, 1_024, OLDEST),
    ("claude-sonnet-4-5", 200_000, 64_000, 1_024, OLDEST),
    ("claude-haiku-4-5", 200_000, 64_000, 2_048, OLDEST),
];

const OPENAI: [Row; 11] = [
    ("gpt-6-astra", 1_000_000, 128_000, 1_024, &[MaxTokens]),
    ("gpt-6.1-sol", 400_000, 128_000, 1_024, &[MaxTokens]),
    ("gpt-6.1-terra", 400_000, 128_000, 1_024, &[MaxTokens]),
    ("gpt-6-sol", 400_000, 128_000, 1_024, &[MaxTokens]),
    ("gpt-6-luna", 400_000, 128_000, 1_024, &[MaxTokens]),
    ("gpt-5.6-sol", 400_000, 128_000, 1_024, &[MaxTokens]),
    ("gpt-5.5", 400_000, 128_000, 1_024, &[MaxTokens]),
    ("gpt-5.4", 400_000, 128_000, 1_024, &[MaxTokens]),
    ("gpt-5.4-mini", 400_000, 128_000, 1_024, &[MaxTokens]),
    ("gpt-4.1", 1_000_000, 32_768, 1_024, &[]),
    // What a local server may call its model.
    ("local", 32_768, 8_192, 1_024, &[]),
];

/// The models of a script and those built in.
#[derive(Clone, Debug)]
pub(crate) struct Models(Vec<Model>);

impl Models {
    pub(crate) fn new(script: &Script) -> Self {
        let mut models = script.models.clone();
        let built_in = rows(&ANTHROPIC, Provider::Anthropic).chain(rows(&OPENAI, Provider::Openai));
        for model in built_in {
            if !models.iter().any(|m| m.id == model.id && m.provider == model.provider) {
                models.push(model);
            }
        }
        Self(models)
    }

    pub(crate) fn find(&self, provider: Provider, id: &str) -> Option<&Model> {
        self.of(provider).find(|model| model.id == id)
    }

    pub(crate) fn of(&self, provider: Provider) -> impl Iterator<Item = &Model> {
        self.0.iter().filter(move |model| model.provider == provider)
    }
}

impl Model {
    pub(crate) fn forbids(&self, what: Forbidden) -> bool {
        self.forbids.contains(&what)
    }
}

fn rows(rows: &'static [Row], provider: Provider) -> impl Iterator<Item = Model> {
    rows.iter().map(move |(id, window, output_max, cache_min, forbids)| Model {
        id: (*id).to_owned(),
        provider,
        window: *window,
        output_max: *output_max,
        cache_min: *cache_min,
        forbids: forbids.to_vec(),
    })
}
