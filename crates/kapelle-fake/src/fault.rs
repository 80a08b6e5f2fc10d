//! Which fault hits a request, and what it does to the answer.

use bytes::Bytes;
use serde_json::Value;

use crate::dice::Dice;
use crate::refusal::Refusal;
use crate::script::{Fault, Provider};

/// Something goes wrong.
pub(crate) struct Hit {
    /// What the journal calls it.
    pub(crate) name: String,
    pub(crate) harm: Harm,
}

pub(crate) enum Harm {
    /// There is no answer.
    Refuse(Refusal),
    /// The connection ends after so many bytes, or anywhere.
    Cut(Option<u64>),
    /// Nothing comes any more after so many bytes.
    Stall(u64),
    Malformed,
    /// The stream ends with an error of this type.
    StreamError(String),
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    Cut(u64),
    Stall(u64),
}

/// The first of the faults that hits at the `count`th request; `salt` keeps their throws apart.
pub(crate) fn first(
    faults: &[Fault],
    count: u64,
    salt: u64,
    dice: Dice,
    provider: Provider,
) -> Option<Hit> {
    let hits = |(index, fault): &(usize, &Fault)| {
        let counted = fault.at.contains(&count);
        let always = fault.at.is_empty() && fault.probability.is_none();
        let thrown = fault.probability.is_some_and(|p| dice.hits(salt + *index as u64, p));
        counted || always || thrown
    };
    let (_, fault) = faults.iter().enumerate().find(hits)?;
    Some(hit(fault, provider))
}

fn hit(fault: &Fault, provider: Provider) -> Hit {
    let named = |name: &str, harm| Hit { name: name.to_owned(), harm };
    if let Some(status) = fault.status {
        let mut refusal = Refusal::of_status(provider, status);
        refusal.retry_after_ms = fault.retry_after.map(|seconds| seconds * 1_000);
        return named(&format!("status {status}"), Harm::Refuse(refusal));
    }
    if let Some(seconds) = fault.rate_limit {
        let refusal = Refusal::of_status(provider, 429).after_ms(seconds * 1_000);
        return named("rate_limit", Harm::Refuse(refusal));
    }
    if fault.spend_cap {
        return named("spend_cap", Harm::Refuse(Refusal::spent(provider)));
    }
    if let Some(byte) = fault.stall_at {
        return named("stall", Harm::Stall(byte));
    }
    if let Some(kind) = &fault.stream_error {
        return named("stream_error", Harm::StreamError(kind.clone()));
    }
    if fault.malformed {
        return named("malformed", Harm::Malformed);
    }
    named("cut", Harm::Cut(fault.cut_at))
}

/// What the faults of an answer need to know.
pub(crate) struct Spoiling<'a> {
    pub(crate) provider: Provider,
    pub(crate) request_id: &'a str,
    pub(crate) dice: Dice,
}

impl Spoiling<'_> {
    /// Does harm to the frames of an answer.
    pub(crate) fn spoil(&self, harm: &Harm, frames: &mut Vec<Bytes>) -> End {
        let bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
        match harm {
            Harm::Refuse(_) => End::Whole,
            Harm::Cut(Some(at)) => End::Cut((*at).min(bytes)),
            Harm::Cut(None) => End::Cut(self.dice.below(1_001, bytes)),
            Harm::Stall(at) => End::Stall((*at).min(bytes)),
            Harm::Malformed => {
                let index = self.dice.below(1_002, frames.len() as u64);
                if let Some(frame) = frames.get_mut(usize::try_from(index).unwrap_or(0)) {
                    *frame = malformed(frame);
                }
                End::Whole
            }
            Harm::StreamError(kind) => {
                frames.truncate(frames.len().div_ceil(2));
                let refusal = Refusal::new(200, kind, "the script ends this stream");
                let body = refusal.body(self.provider, self.request_id);
                frames.push(match self.provider {
                    Provider::Anthropic => event("error", &body),
                    Provider::Openai => data(&body),
                });
                End::Whole
            }
        }
    }
}

/// The frame with its JSON broken off in the middle.
fn malformed(frame: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(frame);
    let body = text.trim_end();
    let middle = body.len() - body.len().saturating_sub(body.find('{').unwrap_or(0)).div_ceil(2);
    let cut = &body[..body.floor_char_boundary(middle)];
    let end = &text[body.len()..];
    Bytes::from(format!("{cut}{end}"))
}

/// An event of a stream that has a name.
pub(crate) fn event(name: &str, json: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {json}\n\n"))
}

/// An event of a stream that has none.
pub(crate) fn data(json: &Value) -> Bytes {
    Bytes::from(format!("data: {json}\n\n"))
}
