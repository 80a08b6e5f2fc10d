//! The messages of a request as turns, and whether they hold together.
//!
//! Messages of one role in a row are one turn, as the provider has it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::read::{check_block, check_message, piece, texts_of_blocks};
use crate::asked::Piece;
use crate::refusal::Refusal;
use crate::script::{Forbidden, Model};

/// What one side says before the other does.
pub(super) struct Turn<'a> {
    pub(super) is_assistant: bool,
    /// The number of its first message.
    index: usize,
    /// Where each block stands in the request, and the block.
    pub(super) blocks: Vec<(String, Cow<'a, Value>)>,
}

/// Reads the messages; each block is one that may stand there.
pub(super) fn read(body: &Value, is_current: bool) -> Result<Vec<Turn<'_>>, Refusal> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        check_message(message, &format!("messages.{index}"))?;
        let is_assistant = message["role"] == "assistant";
        let is_last = index + 1 == messages.len();
        let blocks = blocks(message, index)?;
        if blocks.is_empty() && !(is_assistant && is_last) {
            return Err(Refusal::invalid(format!(
                "messages.{index}: all messages must have non-empty content except for the optional final assistant message"
            )));
        }
        for (at, block) in &blocks {
            check(at, block, is_assistant, is_current)?;
        }
        match turns.last_mut().filter(|turn| turn.is_assistant == is_assistant) {
            Some(turn) => turn.blocks.extend(blocks),
            None => turns.push(Turn { is_assistant, index, blocks }),
        }
    }
    return Ok(turns);

    fn check(at: &str, block: &Value, assistant: bool, is_current: bool) -> Result<(), Refusal> {
        check_block(if assistant { "assistant" } else { "user" }, block, at)?;
        if assistant && is_current && block["type"] == "document" {
            let message =
                format!("{at}: `document` blocks are not permitted in assistant messages");
            return Err(Refusal::invalid(message));
        }
        let cites = block["citations"].as_array().is_some_and(|list| !list.is_empty());
        if !assistant && is_current && block["type"] == "text" && cites {
            let message = format!("{at}.citations: citations are not permitted in user messages");
            return Err(Refusal::invalid(message));
        }
        let parts = block["content"].as_array().filter(|_| block["type"] == "tool_result");
        for (index, part) in parts.into_iter().flatten().enumerate() {
            check_block("result", part, &format!("{at}.content.{index}"))?;
        }
        Ok(())
    }
}

fn blocks(message: &Value, index: usize) -> Result<Vec<(String, Cow<'_, Value>)>, Refusal> {
    match &message["content"] {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => {
            let block = json!({ "type": "text", "text": text });
            Ok(vec![(format!("messages.{index}.content"), Cow::Owned(block))])
        }
        Value::Array(blocks) => {
            let at = |(number, block)| {
                (format!("messages.{index}.content.{number}"), Cow::Borrowed(block))
            };
            Ok(blocks.iter().enumerate().map(at).collect())
        }
        _ => Err(Refusal::invalid(format!("messages.{index}.content: Field required"))),
    }
}

/// Whether every call has its result, and every result its call.
pub(super) fn check(turns: &[Turn<'_>], model: &Model) -> Result<(), Refusal> {
    let Some(first) = turns.first() else {
        return Err(Refusal::invalid("messages: at least one message is required"));
    };
    if first.is_assistant {
        return Err(Refusal::invalid("messages: first message must use the \"user\" role"));
    }
    let mut seen = BTreeSet::new();
    let mut calls: Vec<&str> = Vec::new();
    for (index, turn) in turns.iter().enumerate() {
        if !turn.is_assistant {
            turn.check_results(&calls)?;
            continue;
        }
        calls = turn.ids("tool_use", "id").map(|(_, id)| id).collect();
        for (at, id) in turn.ids("tool_use", "id") {
            if !seen.insert(id) {
                return Err(Refusal::invalid(format!("{at}: `tool_use` ids must be unique")));
            }
        }
        let results = turns.get(index + 1).map(Turn::first_results).unwrap_or_default();
        let missing: Vec<&str> = calls.iter().copied().filter(|id| !results.contains(id)).collect();
        if !missing.is_empty() {
            return Err(Refusal::invalid(format!(
                "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
                turn.index,
                missing.join(", ")
            )));
        }
    }
    check_prefill(turns, model)
}

/// Whether the conversation may end as it does.
fn check_prefill(turns: &[Turn<'_>], model: &Model) -> Result<(), Refusal> {
    let Some(last) = turns.last().filter(|turn| turn.is_assistant) else { return Ok(()) };
    let served =
        |block: &Value| block["type"].as_str().is_some_and(|kind| kind.contains("server_tool"));
    if model.forbids(Forbidden::Prefill) && !last.blocks.iter().any(|(_, block)| served(block)) {
        return Err(Refusal::invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ));
    }
    let words = last.blocks.last().and_then(|(_, block)| block["text"].as_str());
    if words.is_some_and(|text| text.ends_with(char::is_whitespace)) {
        let message = "messages: final assistant content cannot end with trailing whitespace";
        return Err(Refusal::invalid(message));
    }
    Ok(())
}

impl Turn<'_> {
    /// The blocks of this type: where they stand, and the id they name.
    fn ids<'b>(
        &'b self,
        kind: &'static str,
        field: &'static str,
    ) -> impl Iterator<Item = (&'b str, &'b str)> {
        let blocks = self.blocks.iter().filter(move |(_, block)| block["type"] == kind);
        blocks.map(move |(at, block)| (at.as_str(), block[field].as_str().unwrap_or_default()))
    }

    /// The results before anything else.
    fn first_results(&self) -> Vec<&str> {
        let blocks = self.blocks.iter().map(|(_, block)| block);
        let results = blocks.take_while(|block| block["type"] == "tool_result");
        results.filter_map(|block| block["tool_use_id"].as_str()).collect()
    }

    fn check_results(&self, calls: &[&str]) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        for (at, id) in self.ids("tool_result", "tool_use_id") {
            if !calls.contains(&id) {
                return Err(Refusal::invalid(format!(
                    "{at}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                )));
            }
            if !seen.insert(id) {
                return Err(Refusal::invalid(format!(
                    "{at}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}"
                )));
            }
        }
        Ok(())
    }

    /// Its blocks as parts of the prompt.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        let role = if self.is_assistant { "assistant" } else { "user" };
        self.blocks.iter().map(move |(_, block)| piece(role, block))
    }

    fn words(&self) -> String {
        let texts = self.blocks.iter().filter(|(_, block)| block["type"] == "text");
        let texts = texts.filter_map(|(_, block)| block["text"].as_str());
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// What the user said last, passing over turns of nothing but results.
pub(super) fn last_words(turns: &[Turn<'_>]) -> String {
    let users = turns.iter().rev().filter(|turn| !turn.is_assistant);
    users.map(Turn::words).find(|words| !words.is_empty()).unwrap_or_default()
}

/// What the conversation began with.
pub(super) fn opening(turns: &[Turn<'_>]) -> String {
    turns.first().map(Turn::words).unwrap_or_default()
}

/// The results in the last turn.
pub(super) fn results(turns: &[Turn<'_>]) -> Vec<String> {
    let last = turns.last().into_iter().flat_map(|turn| &turn.blocks);
    let results = last.filter(|(_, block)| block["type"] == "tool_result");
    results.map(|(_, block)| texts_of_blocks(&block["content"])).collect()
}
