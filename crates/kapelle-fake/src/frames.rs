//! Answers as the bytes that leave, one frame an event, with the noise that a script wants between them.

use bytes::Bytes;
use serde_json::Value;

use crate::anthropic::write::Writing;
use crate::fault;
use crate::openai::write::Chat;
use crate::script::rule::Chosen;
use crate::script::{Delivery, Script};

/// How fast the answer comes: what the rule says, then what the script says.
pub(crate) fn delivery(script: &Script, chosen: Option<&Chosen<'_>>) -> Delivery {
    let all = &script.delivery;
    let Some(own) = chosen.map(|chosen| &chosen.rule.delivery) else { return all.clone() };
    Delivery {
        latency_ms: own.latency_ms.or(all.latency_ms),
        first_byte_ms: own.first_byte_ms.or(all.first_byte_ms),
        event_ms: own.event_ms.or(all.event_ms),
        delta_bytes: own.delta_bytes.or(all.delta_bytes),
        ping_every: own.ping_every.or(all.ping_every),
        unknown_every: own.unknown_every.or(all.unknown_every),
        no_usage: own.no_usage.or(all.no_usage),
    }
}

/// A whole message, or the events of its stream.
pub(crate) fn anthropic(writing: &Writing<'_>) -> Vec<Bytes> {
    if !writing.asked.stream {
        return vec![Bytes::from(writing.whole().to_string())];
    }
    let named = |event: &Value| fault::event(event["type"].as_str().unwrap_or_default(), event);
    let unknown = serde_json::json!({ "type": "fake_novelty", "novelty": true });
    let ping = serde_json::json!({ "type": "ping" });
    let frames = writing.events().iter().map(named).collect();
    with_noise(frames, writing.delivery, &named(&ping), &named(&unknown))
}

/// A whole completion, or the chunks of its stream.
pub(crate) fn openai(chat: &Chat<'_>) -> Vec<Bytes> {
    if !chat.writing.asked.stream {
        return vec![Bytes::from(chat.whole().to_string())];
    }
    let mut chunks = chat.chunks();
    let every = chat.writing.delivery.unknown_every;
    for (index, chunk) in chunks.iter_mut().enumerate() {
        if every.is_some_and(|every| (index as u64 + 1).is_multiple_of(every)) {
            chunk["fake_novelty"] = Value::Bool(true);
        }
    }
    let mut frames: Vec<Bytes> = chunks.iter().map(fault::data).collect();
    frames.push(Bytes::from_static(b"data: [DONE]\n\n"));
    let pings = Delivery { unknown_every: None, ..chat.writing.delivery.clone() };
    with_noise(frames, &pings, &Bytes::from_static(b": ping\n\n"), &Bytes::new())
}

/// The frames with pings and unknown events between them, none after the last.
fn with_noise(
    frames: Vec<Bytes>,
    delivery: &Delivery,
    ping: &Bytes,
    unknown: &Bytes,
) -> Vec<Bytes> {
    let due = |every: Option<u64>, index: usize| {
        every.is_some_and(|every| (index as u64 + 1).is_multiple_of(every))
    };
    let last = frames.len().saturating_sub(1);
    let mut noisy = Vec::with_capacity(frames.len());
    for (index, frame) in frames.into_iter().enumerate() {
        noisy.push(frame);
        if index < last && due(delivery.ping_every, index) {
            noisy.push(ping.clone());
        }
        if index < last && due(delivery.unknown_every, index) {
            noisy.push(unknown.clone());
        }
    }
    noisy
}
