//! The messages of a request, and whether they hold together.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read::{check_message, check_tagged};
use crate::asked::Piece;
use crate::refusal::Refusal;

/// Reads the messages; every call has its result, and every result its call.
pub(super) fn read(body: &Value) -> Result<Vec<Value>, Refusal> {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    if messages.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
        return Err(Refusal::invalid(message).param("messages").code("empty_array"));
    }
    let mut open = Open::default();
    for (index, message) in messages.iter().enumerate() {
        check_message(message, index)?;
        check_parts(message, index)?;
        open.take(message, index)?;
    }
    open.close(messages.len() - 1)?;
    Ok(messages)
}

/// The calls whose results have not come yet.
#[derive(Default)]
struct Open<'a> {
    /// The message that has them.
    at: usize,
    ids: Vec<&'a str>,
    answered: BTreeSet<&'a str>,
}

impl<'a> Open<'a> {
    fn take(&mut self, message: &'a Value, index: usize) -> Result<(), Refusal> {
        if message["role"] == "tool" {
            return self.answer(message["tool_call_id"].as_str().unwrap_or_default(), index);
        }
        self.close(index)?;
        let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<&str> = calls.iter().filter_map(|call| call["id"].as_str()).collect();
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        if unique.len() < ids.len() {
            let message = format!(
                "Duplicate value for 'tool_call_id' in message with role 'assistant' at messages[{index}]."
            );
            return Err(Refusal::invalid(message).param(format!("messages[{index}].tool_calls")));
        }
        if message["role"] == "assistant"
            && ids.is_empty()
            && message["content"].is_null()
            && message["refusal"].is_null()
        {
            let message = format!(
                "Invalid value for 'content': expected a string, got null, in messages[{index}]."
            );
            return Err(Refusal::invalid(message).param(format!("messages[{index}].content")));
        }
        *self = Self { at: index, ids, answered: BTreeSet::new() };
        Ok(())
    }

    fn answer(&mut self, id: &'a str, index: usize) -> Result<(), Refusal> {
        let param = format!("messages[{index}].role");
        if self.ids.is_empty() {
            let message = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
            return Err(Refusal::invalid(message).param(param));
        }
        if !self.ids.contains(&id) || !self.answered.insert(id) {
            let message = format!(
                "Invalid parameter: 'tool_call_id' of '{id}' not found in 'tool_calls' of previous message."
            );
            return Err(Refusal::invalid(message).param(format!("messages[{index}].tool_call_id")));
        }
        Ok(())
    }

    /// No more results come.
    fn close(&self, index: usize) -> Result<(), Refusal> {
        let missing = self.ids.iter().copied().filter(|id| !self.answered.contains(id));
        let missing: Vec<&str> = missing.collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. (messages[{}]) The following tool_call_ids did not have response messages: {}",
            self.at,
            missing.join(", ")
        );
        Err(Refusal::invalid(message).param(format!("messages[{index}].role")))
    }
}

fn check_parts(message: &Value, index: usize) -> Result<(), Refusal> {
    let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_user = message["role"] == "user";
    for (number, part) in parts.iter().enumerate() {
        let (index, number) = (index.to_string(), number.to_string());
        check_tagged("part", part, &["messages", &index, "content", &number])?;
        let kind = part["type"].as_str().unwrap_or_default();
        let fits = match kind {
            "text" => true,
            "refusal" => message["role"] == "assistant",
            _ => is_user,
        };
        if !fits {
            let message = format!("Invalid content type '{kind}' for this role.");
            return Err(
                Refusal::invalid(message).param(format!("messages[{index}].content[{number}]"))
            );
        }
    }
    Ok(())
}

/// The words of a message.
pub(super) fn words(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

pub(super) fn system(messages: &[Value]) -> String {
    let system = messages.iter().filter(|m| m["role"] == "system" || m["role"] == "developer");
    system.map(words).collect::<Vec<_>>().join("\n")
}

/// What the user said last.
pub(super) fn last_words(messages: &[Value]) -> String {
    messages.iter().rev().find(|message| message["role"] == "user").map(words).unwrap_or_default()
}

/// The results at the end.
pub(super) fn results(messages: &[Value]) -> Vec<String> {
    let last = messages.iter().rev().take_while(|message| message["role"] == "tool");
    let mut results: Vec<String> = last.map(words).collect();
    results.reverse();
    results
}

/// A message as part of the prompt.
pub(super) fn piece(message: &Value) -> Piece {
    let role = match message["role"].as_str() {
        Some("assistant") => "assistant",
        Some("tool") => "tool result",
        Some("user") => "user",
        _ => "system",
    };
    let is_plain = message["content"].is_string() && message["tool_calls"].is_null();
    Piece::text(role, if is_plain { words(message) } else { message.to_string() })
}
