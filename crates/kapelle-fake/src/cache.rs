//! Prompt caches, as the providers keep them: by prefix, per key and model, for a time.
//!
//! **Invariants:** a prefix can be read only from when its answer began, so requests at one time do
//! not read each other's; reading keeps it for its time anew; what is shorter than the model's least
//! is not kept.

use std::collections::HashMap;

use crate::asked::{Asked, Piece, Ttl};
use crate::script::{Model, Provider};

/// How far before a marker a kept prefix is looked for, in pieces.
const LOOKBACK: usize = 20;
/// Anthropic's: how long each kind is kept.
const FIVE_MINUTES_MS: u64 = 5 * 60_000;
const HOUR_MS: u64 = 60 * 60_000;
/// OpenAI's: how long, and in which steps.
const AUTOMATIC_MS: u64 = 10 * 60_000;
const STEP_TOKENS: u64 = 128;

type Prefix = [u8; 32];

/// All prefixes that are kept.
#[derive(Debug, Default)]
pub(crate) struct Cache(HashMap<Prefix, Kept>);

#[derive(Clone, Copy, Debug)]
struct Kept {
    from_ms: u64,
    until_ms: u64,
    for_ms: u64,
}

/// How a prompt is billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Billed {
    /// Neither read nor written.
    pub(crate) fresh: u64,
    pub(crate) read: u64,
    pub(crate) written_5m: u64,
    pub(crate) written_1h: u64,
}

impl Billed {
    pub(crate) fn prompt(&self) -> u64 {
        self.fresh + self.read + self.written_5m + self.written_1h
    }
}

/// What a request found, and what it will leave behind if it is answered.
pub(crate) struct Looked {
    pub(crate) billed: Billed,
    kept: Vec<(Prefix, u64)>,
}

impl Cache {
    /// Looks what of the prompt is there, and changes nothing.
    pub(crate) fn look(&self, asked: &Asked, owner: &str, model: &Model, now_ms: u64) -> Looked {
        match asked.provider {
            Provider::Anthropic => self.look_marked(asked, owner, model, now_ms),
            Provider::Openai => self.look_automatic(asked, owner, model, now_ms),
        }
    }

    /// Keeps what was looked at, to be read from `from_ms` on.
    pub(crate) fn keep(&mut self, looked: &Looked, from_ms: u64) {
        for (prefix, for_ms) in &looked.kept {
            let kept = self.0.entry(*prefix);
            let kept = kept.or_insert(Kept { from_ms, until_ms: 0, for_ms: *for_ms });
            if kept.until_ms < from_ms {
                *kept = Kept { from_ms, until_ms: 0, for_ms: *for_ms };
            }
            kept.for_ms = kept.for_ms.max(*for_ms);
            kept.until_ms = kept.until_ms.max(from_ms + kept.for_ms);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn has(&self, prefix: &Prefix, now_ms: u64) -> bool {
        self.0.get(prefix).is_some_and(|kept| (kept.from_ms..kept.until_ms).contains(&now_ms))
    }

    fn look_marked(&self, asked: &Asked, owner: &str, model: &Model, now_ms: u64) -> Looked {
        let ends = ends(&asked.prompt, seed(owner, asked));
        let marks = asked.prompt.iter().enumerate().filter_map(|(i, p)| Some((i, p.marker?)));
        let marks: Vec<(usize, Ttl)> =
            marks.filter(|(index, _)| ends[*index].tokens >= model.cache_min).collect();
        let hit = marks.iter().rev().find_map(|(mark, _)| {
            let near = mark.saturating_sub(LOOKBACK)..=*mark;
            near.rev().find(|index| self.has(&ends[*index].prefix, now_ms))
        });
        let read = hit.map_or(0, |index| ends[index].tokens);
        let last_hour = marks.iter().rev().find(|(_, ttl)| *ttl == Ttl::Hour);
        let until_hour = last_hour.map_or(read, |(index, _)| ends[*index].tokens.max(read));
        let until_last = marks.last().map_or(read, |(index, _)| ends[*index].tokens.max(read));
        let all = ends.last().map_or(0, |end| end.tokens);
        let billed = Billed {
            fresh: all - until_last,
            read,
            written_1h: until_hour - read,
            written_5m: until_last - until_hour,
        };
        let written = marks.iter().map(|(index, ttl)| (ends[*index].prefix, lasts(*ttl)));
        // What was read lives on as long as it was written for.
        let refreshed = hit.map(|index| (ends[index].prefix, 0));
        Looked { billed, kept: written.chain(refreshed).collect() }
    }

    fn look_automatic(&self, asked: &Asked, owner: &str, model: &Model, now_ms: u64) -> Looked {
        let all: u64 = asked.prompt_tokens();
        let text: String = asked.prompt.iter().map(|piece| piece.text.as_str()).collect();
        let step = usize::try_from(STEP_TOKENS * 4).unwrap_or(512);
        let mut hash = seed(owner, asked);
        let (mut read, mut kept) = (0, Vec::new());
        for (index, chunk) in text.as_bytes().chunks_exact(step).enumerate() {
            hash.update(chunk);
            let tokens = (index as u64 + 1) * STEP_TOKENS;
            if tokens < model.cache_min {
                continue;
            }
            let prefix = *hash.finalize().as_bytes();
            if self.has(&prefix, now_ms) {
                read = tokens;
            }
            kept.push((prefix, AUTOMATIC_MS));
        }
        Looked { billed: Billed { fresh: all - read, read, ..Billed::default() }, kept }
    }
}

/// The prompt up to the end of a piece.
struct End {
    prefix: Prefix,
    tokens: u64,
}

fn ends(prompt: &[Piece], mut hash: blake3::Hasher) -> Vec<End> {
    let mut tokens = 0;
    let end = |piece: &Piece| {
        for text in [piece.role, &piece.text] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        tokens += piece.tokens;
        End { prefix: *hash.finalize().as_bytes(), tokens }
    };
    prompt.iter().map(end).collect()
}

fn seed(owner: &str, asked: &Asked) -> blake3::Hasher {
    let mut hash = blake3::Hasher::new();
    for text in [owner, &asked.model, &asked.cache_key] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash
}

const fn lasts(ttl: Ttl) -> u64 {
    match ttl {
        Ttl::FiveMinutes => FIVE_MINUTES_MS,
        Ttl::Hour => HOUR_MS,
    }
}
