//! Answers in the shape of Chat Completions, whole and as the chunks of a stream.

use serde_json::{Value, json};

use crate::answer::{Answer, Said};
use crate::anthropic::write::{Writing, pieces};
use crate::limit::{Kind, Level};
use crate::models::Models;
use crate::script::{Model, Provider};

/// An answer, and when it was made.
pub(crate) struct Chat<'a> {
    pub(crate) writing: Writing<'a>,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

impl Chat<'_> {
    pub(crate) fn usage(&self) -> Value {
        let Writing { billed, answer, asked, .. } = &self.writing;
        let output = answer.output_tokens() * asked.choices;
        json!({
            "prompt_tokens": billed.prompt(),
            "completion_tokens": output,
            "total_tokens": billed.prompt() + output,
            "prompt_tokens_details": { "cached_tokens": billed.read },
            "completion_tokens_details": {
                "reasoning_tokens": answer.thinking_tokens * asked.choices,
            },
        })
    }

    pub(crate) fn whole(&self) -> Value {
        let answer = self.writing.answer;
        let choice = |index| {
            json!({
                "index": index, "message": message(answer), "logprobs": null,
                "finish_reason": finish(&answer.stop),
            })
        };
        let choices: Vec<Value> = (0..self.writing.asked.choices).map(choice).collect();
        let mut whole = self.head("chat.completion");
        whole["choices"] = choices.into();
        whole["usage"] = self.usage();
        whole
    }

    fn head(&self, object: &str) -> Value {
        json!({
            "id": self.writing.id, "object": object, "created": self.created,
            "model": self.writing.asked.model, "service_tier": "default",
        })
    }

    /// The chunks of a stream, in order, without the mark of its end.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let asked = self.writing.asked;
        let mut chunks = Vec::new();
        for index in 0..asked.choices {
            let mut finish = Some(finish(&self.writing.answer.stop));
            let deltas = self.deltas();
            let count = deltas.len();
            for (number, delta) in deltas.into_iter().enumerate() {
                let reason = if number + 1 == count { finish.take() } else { None };
                let choice = json!({
                    "index": index, "delta": delta, "logprobs": null, "finish_reason": reason,
                });
                chunks.push(self.chunk(&json!([choice])));
            }
        }
        if self.tells_usage() {
            let mut last = self.chunk(&json!([]));
            last["usage"] = self.usage();
            chunks.push(last);
        }
        chunks
    }

    fn tells_usage(&self) -> bool {
        let Writing { asked, delivery, .. } = &self.writing;
        asked.include_usage && delivery.no_usage != Some(true)
    }

    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = self.head("chat.completion.chunk");
        chunk["choices"] = choices.clone();
        if self.tells_usage() {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn deltas(&self) -> Vec<Value> {
        let mut deltas = vec![json!({ "role": "assistant", "content": "", "refusal": null })];
        let mut calls = 0;
        for said in &self.writing.answer.said {
            match said {
                Said::Text(text) => {
                    let texts = pieces(text, self.writing.delivery);
                    deltas.extend(texts.map(|text| json!({ "content": text })));
                }
                Said::Call { id, name, input } => {
                    let function = json!({ "name": name, "arguments": "" });
                    deltas.push(json!({ "tool_calls": [
                        { "index": calls, "id": id, "type": "function", "function": function },
                    ] }));
                    let parts = pieces(input, self.writing.delivery);
                    deltas.extend(parts.map(|part| {
                        json!({ "tool_calls": [
                        { "index": calls, "function": { "arguments": part } },
                    ] })
                    }));
                    calls += 1;
                }
                Said::Thought { .. } | Said::Block(_) => {}
            }
        }
        deltas.push(json!({}));
        deltas
    }
}

fn message(answer: &Answer) -> Value {
    let texts: Vec<&str> = answer.said.iter().filter_map(text).collect();
    let call = |said: &Said| match said {
        Said::Call { id, name, input } => Some(json!({
            "id": id, "type": "function", "function": { "name": name, "arguments": input },
        })),
        Said::Text(_) | Said::Thought { .. } | Said::Block(_) => None,
    };
    let calls: Vec<Value> = answer.said.iter().filter_map(call).collect();
    let content = if texts.is_empty() { Value::Null } else { texts.concat().into() };
    let mut message =
        json!({ "role": "assistant", "content": content, "refusal": null, "annotations": [] });
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

fn text(said: &Said) -> Option<&str> {
    match said {
        Said::Text(text) => Some(text),
        Said::Thought { .. } | Said::Call { .. } | Said::Block(_) => None,
    }
}

/// Why it stopped, in this provider's words.
fn finish(stop: &str) -> &str {
    match stop {
        "end_turn" | "stop_sequence" | "pause_turn" => "stop",
        "tool_use" => "tool_calls",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "refusal" => "content_filter",
        other => other,
    }
}

/// The headers that tell where the buckets of a key stand.
pub(crate) fn rate_headers(levels: &[Level]) -> Vec<(String, String)> {
    let kind = |kind| match kind {
        Kind::Requests => Some("requests"),
        Kind::Tokens => Some("tokens"),
        Kind::Input | Kind::Output => None,
    };
    let known = levels.iter().filter_map(|level| Some((level, kind(level.kind)?)));
    let header = |(level, kind): (&Level, &str)| {
        let name = |what: &str| format!("x-ratelimit-{what}-{kind}");
        [
            (name("limit"), level.limit.to_string()),
            (name("remaining"), level.remaining.to_string()),
            (name("reset"), span(level.full_in_ms)),
        ]
    };
    known.flat_map(header).collect()
}

/// A span as the provider writes it: `20ms`, `1.500s`, `6m0s`.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        1_000..60_000 => format!("{}.{:03}s", ms / 1_000, ms % 1_000),
        _ => format!("{}m{}s", ms / 60_000, ms / 1_000 % 60),
    }
}

pub(crate) fn models(models: &Models) -> Value {
    let data: Vec<Value> = models.of(Provider::Openai).map(model).collect();
    json!({ "object": "list", "data": data })
}

/// A model as the list of models shows it.
pub(crate) fn model(model: &Model) -> Value {
    json!({ "id": model.id, "object": "model", "created": 1_767_225_600, "owned_by": "fake" })
}
