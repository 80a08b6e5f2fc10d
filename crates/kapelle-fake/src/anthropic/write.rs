//! Answers in the shape of Messages, whole and as the events of a stream.

use serde_json::{Value, json};

use crate::answer::{Answer, Said};
use crate::asked::Asked;
use crate::cache::Billed;
use crate::clock::rfc3339;
use crate::limit::{Kind, Level};
use crate::models::Models;
use crate::script::{Delivery, Forbidden, Model, Provider};

/// An answer and what its shape needs besides.
pub(crate) struct Writing<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) answer: &'a Answer,
    pub(crate) billed: Billed,
    pub(crate) id: String,
    pub(crate) delivery: &'a Delivery,
}

impl Writing<'_> {
    pub(crate) fn usage(&self) -> Value {
        self.usage_at(self.answer.output_tokens())
    }

    fn usage_at(&self, output_tokens: u64) -> Value {
        let billed = &self.billed;
        json!({
            "input_tokens": billed.fresh,
            "cache_creation_input_tokens": billed.written_5m + billed.written_1h,
            "cache_read_input_tokens": billed.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": billed.written_5m,
                "ephemeral_1h_input_tokens": billed.written_1h,
            },
            "output_tokens": output_tokens,
            "output_tokens_details": {
                "thinking_tokens": self.answer.thinking_tokens.min(output_tokens),
            },
            "service_tier": "standard",
        })
    }

    pub(crate) fn whole(&self) -> Value {
        let content: Vec<Value> = self.answer.said.iter().map(whole_block).collect();
        let mut message = self.message(&content, &self.usage());
        for (key, value) in self.ending().as_object().into_iter().flatten() {
            message[key] = value.clone();
        }
        message
    }

    fn message(&self, content: &[Value], usage: &Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.asked.model,
            "content": content, "stop_reason": null, "stop_sequence": null, "usage": usage,
        })
    }

    fn ending(&self) -> Value {
        let answer = self.answer;
        let mut ending =
            json!({ "stop_reason": answer.stop, "stop_sequence": answer.stop_sequence });
        if answer.stop == "refusal" {
            let explanation = "the script says so";
            ending["stop_details"] =
                json!({ "type": "refusal", "category": null, "explanation": explanation });
        }
        ending
    }

    /// The events of a stream, in order.
    pub(crate) fn events(&self) -> Vec<Value> {
        let message = self.message(&[], &self.usage_at(1));
        let mut events = vec![json!({ "type": "message_start", "message": message })];
        for (index, said) in self.answer.said.iter().enumerate() {
            events.push(json!({
                "type": "content_block_start", "index": index, "content_block": empty_block(said),
            }));
            if index == 0 {
                events.push(json!({ "type": "ping" }));
            }
            let deltas = self.deltas(said).into_iter();
            events.extend(deltas.map(
                |delta| json!({ "type": "content_block_delta", "index": index, "delta": delta }),
            ));
            events.push(json!({ "type": "content_block_stop", "index": index }));
        }
        let mut usage = self.usage();
        if let Some(map) = usage.as_object_mut() {
            // The end of a stream sums up; how caches were written was said at its beginning.
            map.retain(|key, _| !matches!(key.as_str(), "cache_creation" | "service_tier"));
        }
        events.push(json!({ "type": "message_delta", "delta": self.ending(), "usage": usage }));
        events.push(json!({ "type": "message_stop" }));
        events
    }

    fn deltas(&self, said: &Said) -> Vec<Value> {
        let pieces = |text| pieces(text, self.delivery);
        match said {
            Said::Text(text) => {
                pieces(text).map(|text| json!({ "type": "text_delta", "text": text })).collect()
            }
            Said::Thought { text, signature } => {
                let words =
                    pieces(text).map(|text| json!({ "type": "thinking_delta", "thinking": text }));
                let seal = json!({ "type": "signature_delta", "signature": signature });
                words.chain([seal]).collect()
            }
            Said::Call { input, .. } => {
                // The first piece is empty; so is all there is of an input without members.
                let input = if input == "{}" { "" } else { input };
                let parts = [""].into_iter().chain(pieces(input));
                parts
                    .map(|json| json!({ "type": "input_json_delta", "partial_json": json }))
                    .collect()
            }
            Said::Block(_) => Vec::new(),
        }
    }
}

/// A text in as many pieces as the delivery says.
pub(crate) fn pieces<'t>(
    text: &'t str,
    delivery: &Delivery,
) -> impl Iterator<Item = &'t str> + use<'t> {
    let size = delivery.delta_bytes.and_then(|size| usize::try_from(size).ok()).unwrap_or(20);
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
        rest = after;
        Some(piece)
    })
}

fn whole_block(said: &Said) -> Value {
    match said {
        Said::Text(text) => json!({ "type": "text", "text": text, "citations": null }),
        Said::Thought { text, signature } => {
            json!({ "type": "thinking", "thinking": text, "signature": signature })
        }
        Said::Call { id, name, input } => {
            let input: Value = serde_json::from_str(input).unwrap_or_else(|_| json!({}));
            json!({ "type": "tool_use", "id": id, "name": name, "input": input })
        }
        Said::Block(block) => block.clone(),
    }
}

fn empty_block(said: &Said) -> Value {
    match said {
        Said::Text(_) => json!({ "type": "text", "text": "" }),
        Said::Thought { .. } => json!({ "type": "thinking", "thinking": "", "signature": "" }),
        Said::Call { id, name, .. } => {
            json!({ "type": "tool_use", "id": id, "name": name, "input": {} })
        }
        Said::Block(block) => block.clone(),
    }
}

/// The headers that tell where the buckets of a key stand.
pub(crate) fn rate_headers(levels: &[Level], now_ms: u64) -> Vec<(String, String)> {
    let header = |level: &Level| {
        let kind = match level.kind {
            Kind::Requests => "requests",
            Kind::Input => "input-tokens",
            Kind::Output => "output-tokens",
            Kind::Tokens => "tokens",
        };
        let name = |what: &str| format!("anthropic-ratelimit-{kind}-{what}");
        [
            (name("limit"), level.limit.to_string()),
            (name("remaining"), level.remaining.to_string()),
            (name("reset"), rfc3339(now_ms + level.full_in_ms)),
        ]
    };
    levels.iter().flat_map(header).collect()
}

/// The page of models that a query asks for.
pub(crate) fn models(models: &Models, query: &str) -> Value {
    let param = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let all: Vec<&Model> = models.of(Provider::Anthropic).collect();
    let place = |id: &str| all.iter().position(|model| model.id == id);
    let begin = param("after_id").and_then(|id| place(&id)).map_or(0, |index| index + 1);
    let end = param("before_id").and_then(|id| place(&id)).unwrap_or(all.len()).max(begin);
    let limit =
        param("limit").and_then(|limit| limit.parse().ok()).unwrap_or(20usize).clamp(1, 1_000);
    let page: Vec<Value> = all[begin..end].iter().take(limit).map(|m| model(m)).collect();
    let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
    json!({
        "has_more": end - begin > page.len(),
        "first_id": id(page.first()), "last_id": id(page.last()), "data": page,
    })
}

/// A model as the list of models shows it.
pub(crate) fn model(model: &Model) -> Value {
    let can = |forbidden| json!({ "supported": !model.forbids(forbidden) });
    json!({
        "type": "model", "id": model.id, "display_name": model.id,
        "created_at": "2026-01-01T00:00:00Z", "lifecycle": "active",
        "max_input_tokens": model.window, "max_tokens": model.output_max,
        "capabilities": {
            "structured_outputs": { "supported": true },
            "thinking": { "supported": true, "types": {
                "adaptive": can(Forbidden::ThinkingAdaptive),
                "between_tools": can(Forbidden::ThinkingBetweenTools),
                "disabled": can(Forbidden::ThinkingDisabled),
                "enabled": can(Forbidden::ThinkingEnabled),
            } },
        },
    })
}
