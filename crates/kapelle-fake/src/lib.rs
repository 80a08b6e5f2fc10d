//! A model provider that is scripted: Anthropic's Messages and OpenAI's Chat Completions on the wire.
//!
//! **Invariants:** it is as strict as the providers, so what it takes they take; the same script, seed
//! and order of requests give the same answers; every request is in its journal before its answer
//! leaves; no secret is.
//!
//! It depends on none of our crates, so that what is tested against it shares no mistake with it.
//! A request goes from `serve` to `provider`, is read by `anthropic` or `openai`, matched by
//! `script`, made an `answer`, and leaves as a `reply`. The language of scripts: `docs/fake-model.md`.

mod answer;
mod anthropic;
mod asked;
mod cache;
mod clock;
mod dice;
mod fault;
mod frames;
mod generate;
mod journal;
mod limit;
mod models;
mod openai;
mod provider;
mod refusal;
mod reply;
pub mod script;
mod serve;
mod shape;
mod sign;
mod strict;

pub use asked::tokens;
pub use clock::Clock;
pub use journal::{Counts, Early, Entry};
pub use script::Script;
pub use serve::{Fake, Options};
