//! From a request's JSON to what it asks, or to the provider's 400.

use std::sync::LazyLock;

use http::HeaderMap;
use serde_json::Value;

use super::turns;
use crate::asked::{Asked, Calls, Piece, Thinking, Ttl};
use crate::models::Models;
use crate::refusal::Refusal;
use crate::script::{Forbidden, Model, Provider};
use crate::shape::{Misfit, Shapes, What};
use crate::sign::Signer;
use crate::strict::{self, Dialect};

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| Shapes::new(include_str!("shape.json")));

/// The version that took `temperature` and its like away.
const CURRENT: &str = "2026-10-21";
const VERSIONS: [&str; 3] = [CURRENT, "2023-06-01", "2023-01-01"];
const MARKERS_MAX: usize = 4;

/// What requests are read against.
pub(crate) struct Reader<'a> {
    pub(crate) models: &'a Models,
    pub(crate) signer: &'a Signer,
}

/// Whether the headers are in order, and name the current version.
pub(crate) fn version(headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(version) = headers.get("anthropic-version") else {
        return Err(Refusal::invalid("anthropic-version: header is required"));
    };
    let version = version.to_str().unwrap_or_default();
    if !VERSIONS.contains(&version) {
        let message = format!("anthropic-version: \"{version}\" is not a valid version");
        return Err(Refusal::invalid(message));
    }
    Ok(version == CURRENT)
}

impl Reader<'_> {
    /// A request for an answer.
    pub(crate) fn message(&self, headers: &HeaderMap, body: &Value) -> Result<Asked, Refusal> {
        let is_current = version(headers)?;
        SHAPES.check("request", body, &[]).map_err(|misfit| told(&misfit))?;
        let removed =
            ["temperature", "top_p", "top_k"].into_iter().find(|key| body.get(key).is_some());
        if let Some(removed) = removed.filter(|_| is_current) {
            return Err(Refusal::invalid(format!("{removed}: Extra inputs are not permitted")));
        }
        let (model, mut asked) = self.common(body, is_current)?;
        let output_max = body["max_tokens"].as_u64().unwrap_or(0);
        if output_max > model.output_max {
            return Err(Refusal::invalid(format!(
                "max_tokens: {output_max} > {}, which is the maximum allowed number of output tokens for {}",
                model.output_max, model.id
            )));
        }
        if body["thinking"]["budget_tokens"].as_u64().is_some_and(|budget| budget >= output_max) {
            let message = "`max_tokens` must be greater than `thinking.budget_tokens`.";
            return Err(Refusal::invalid(message));
        }
        asked.output_max = output_max;
        asked.stream = body["stream"] == Value::Bool(true);
        asked.stops = texts(&body["stop_sequences"]);
        Ok(asked)
    }

    /// A request to count tokens: the same without what only an answer needs.
    pub(crate) fn count(&self, headers: &HeaderMap, body: &Value) -> Result<Asked, Refusal> {
        let is_current = version(headers)?;
        SHAPES.check("count", body, &[]).map_err(|misfit| told(&misfit))?;
        Ok(self.common(body, is_current)?.1)
    }

    fn common(&self, body: &Value, is_current: bool) -> Result<(&Model, Asked), Refusal> {
        let id = body["model"].as_str().unwrap_or_default();
        let Some(model) = self.models.find(Provider::Anthropic, id) else {
            return Err(Refusal::new(404, "not_found_error", format!("model: {id}")));
        };
        let mut prompt = tools(body)?;
        prompt.extend(system(body)?);
        let thinking = thinking(body, model)?;
        let calls = calls(body, model)?;
        let schema = schema(body)?;
        let turns = turns::read(body, is_current)?;
        turns::check(&turns, model)?;
        self.check_thoughts(&turns, id, thinking)?;
        let messages = turns.iter().flat_map(|turn| turn.pieces());
        prompt.extend(messages);
        let automatic = ttl(&body["cache_control"]);
        check_markers(&prompt, automatic.is_some())?;
        if let (Some(ttl), Some(last)) = (automatic, prompt.last_mut()) {
            last.marker.get_or_insert(ttl);
        }
        let asked = Asked {
            provider: Provider::Anthropic,
            model: id.to_owned(),
            system: texts_of_blocks(&body["system"]),
            user: turns::last_words(&turns),
            opening: turns::opening(&turns),
            turn: turns.iter().filter(|turn| turn.is_assistant).count() as u64,
            results: turns::results(&turns),
            tools: names(&body["tools"]),
            calls,
            forced: forced(body),
            thinking,
            schema,
            any_json: false,
            stream: false,
            include_usage: true,
            output_max: 0,
            stops: Vec::new(),
            choices: 1,
            prompt,
            cache_key: String::new(),
        };
        let tokens = asked.prompt_tokens();
        if tokens > model.window {
            let message = format!("prompt is too long: {tokens} tokens > {} maximum", model.window);
            return Err(Refusal::invalid(message));
        }
        Ok((model, asked))
    }

    /// Thoughts must be ours, of this model and this conversation, and not left out.
    fn check_thoughts(
        &self,
        turns: &[turns::Turn<'_>],
        model: &str,
        thinking: Thinking,
    ) -> Result<(), Refusal> {
        let opening = turns::opening(turns);
        for (at, block) in turns.iter().flat_map(|turn| &turn.blocks) {
            let text = |field: &str| block[field].as_str().unwrap_or_default();
            if block["type"] == "thinking"
                && self.signer.thought(model, &opening, text("thinking")) != text("signature")
            {
                let message = format!("{at}: Invalid `signature` in `thinking` block");
                return Err(Refusal::invalid(message));
            }
            if block["type"] == "redacted_thinking" {
                let message = format!("{at}: Invalid `data` in `redacted_thinking` block");
                return Err(Refusal::invalid(message));
            }
        }
        let Some(turn) = turns.iter().rev().find(|turn| turn.is_assistant) else { return Ok(()) };
        let is_thought = |block: &Value| block["type"] == "thinking";
        let due = turn
            .blocks
            .iter()
            .find(|(_, block)| block["id"].as_str().is_some_and(|id| self.signer.had_thought(id)));
        match due {
            Some((at, _))
                if thinking != Thinking::Off && !turn.blocks.iter().any(|(_, b)| is_thought(b)) =>
            {
                Err(Refusal::invalid(format!(
                    "{at}: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, the thinking blocks of the latest assistant turn must be passed back unchanged."
                )))
            }
            _ => Ok(()),
        }
    }
}

/// A fault in the provider's words.
pub(super) fn told(misfit: &Misfit) -> Refusal {
    let at = misfit.path.join(".");
    Refusal::invalid(match &misfit.what {
        What::Missing => format!("{at}: Field required"),
        What::Unknown => format!("{at}: Extra inputs are not permitted"),
        What::Kind(tag) => format!(
            "{at}: Input tag '{tag}' found using 'type' does not match any of the expected tags"
        ),
        What::Wrong(why) => format!("{at}: {why}"),
    })
}

/// Checks a block that is a `prefix_*` of our shapes.
pub(super) fn check_block(prefix: &str, block: &Value, at: &str) -> Result<(), Refusal> {
    let path: Vec<&str> = at.split('.').collect();
    SHAPES.check_tagged(prefix, block, &path).map_err(|misfit| told(&misfit))?;
    let text = block["text"].as_str().filter(|_| block["type"] == "text");
    let blank = match text {
        Some("") => Some("text content blocks must be non-empty"),
        Some(text) if text.trim().is_empty() => {
            Some("text content blocks must contain non-whitespace text")
        }
        _ => None,
    };
    if let Some(why) = blank {
        return Err(Refusal::invalid(format!("{at}: {why}")));
    }
    if block["type"] == "image" { check_image(&block["source"], at) } else { Ok(()) }
}

/// What an image is made of, where the request holds it.
fn check_image(source: &Value, at: &str) -> Result<(), Refusal> {
    const KINDS: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
    if source["type"] != "base64" {
        return Ok(());
    }
    let at = format!("{at}.source.base64");
    if !KINDS.iter().any(|kind| source["media_type"] == *kind) {
        let kinds = KINDS.map(|kind| format!("'{kind}'")).join(", ");
        return Err(Refusal::invalid(format!("{at}.media_type: Input should be {kinds}")));
    }
    let data = source["data"].as_str().unwrap_or_default().trim_end_matches('=');
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    if data.is_empty() || data.len() % 4 == 1 || !data.bytes().all(is_sound) {
        return Err(Refusal::invalid(format!("{at}.data: invalid base64 data")));
    }
    Ok(())
}

pub(super) fn check_message(message: &Value, at: &str) -> Result<(), Refusal> {
    let path: Vec<&str> = at.split('.').collect();
    SHAPES.check("message", message, &path).map_err(|misfit| told(&misfit))
}

fn tools(body: &Value) -> Result<Vec<Piece>, Refusal> {
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut seen: Vec<&str> = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        let at = index.to_string();
        let is_custom = tool["type"].is_null() || tool["type"] == "custom";
        let shape = if is_custom { "tool" } else { "served_tool" };
        SHAPES.check(shape, tool, &["tools", &at]).map_err(|misfit| told(&misfit))?;
        check_input_schema(tool, index)?;
        let Some(name) = tool["name"].as_str() else { continue };
        if seen.contains(&name) {
            return Err(Refusal::invalid("tools: Tool names must be unique."));
        }
        seen.push(name);
    }
    Ok(tools.iter().map(|tool| piece("tool", tool)).collect())
}

fn check_input_schema(tool: &Value, index: usize) -> Result<(), Refusal> {
    let Some(schema) = tool.get("input_schema") else { return Ok(()) };
    let at = format!("tools.{index}.custom");
    if tool["strict"] == Value::Bool(true) {
        let strict = strict::check(schema, Dialect::Anthropic);
        return strict
            .map_err(|bad| Refusal::invalid(format!("{at}: {}: {}", bad.context, bad.why)));
    }
    strict::check_loose(schema).map_err(|_| {
        Refusal::invalid(format!(
            "{at}.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12"
        ))
    })
}

fn system(body: &Value) -> Result<Vec<Piece>, Refusal> {
    match &body["system"] {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Piece::text("system", text)]),
        Value::Array(blocks) => {
            for (index, block) in blocks.iter().enumerate() {
                check_block("system", block, &format!("system.{index}"))?;
            }
            Ok(blocks.iter().map(|block| piece("system", block)).collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn thinking(body: &Value, model: &Model) -> Result<Thinking, Refusal> {
    let Some(thinking) = body.get("thinking") else {
        let always = model.forbids(Forbidden::ThinkingDisabled);
        return Ok(if always { Thinking::Shown } else { Thinking::Off });
    };
    SHAPES.check_tagged("thinking", thinking, &["thinking"]).map_err(|misfit| told(&misfit))?;
    let kind = thinking["type"].as_str().unwrap_or_default();
    let forbidden = match kind {
        "enabled" => Forbidden::ThinkingEnabled,
        "disabled" => Forbidden::ThinkingDisabled,
        "between_tools" => Forbidden::ThinkingBetweenTools,
        _ => Forbidden::ThinkingAdaptive,
    };
    if model.forbids(forbidden) {
        return Err(Refusal::invalid(format!(
            "thinking.type: \"{kind}\" is not supported for the model {}",
            model.id
        )));
    }
    Ok(match (kind, thinking["display"].as_str()) {
        ("disabled", _) => Thinking::Off,
        (_, Some("omitted")) => Thinking::Omitted,
        _ => Thinking::Shown,
    })
}

fn calls(body: &Value, model: &Model) -> Result<Calls, Refusal> {
    let tools = names(&body["tools"]);
    let Some(choice) = body.get("tool_choice") else { return Ok(Calls::Many) };
    SHAPES.check_tagged("choice", choice, &["tool_choice"]).map_err(|misfit| told(&misfit))?;
    let kind = choice["type"].as_str().unwrap_or_default();
    if tools.is_empty() && kind != "none" {
        let message = "tool_choice: tool_choice may only be specified while providing tools";
        return Err(Refusal::invalid(message));
    }
    if matches!(kind, "any" | "tool") {
        if model.forbids(Forbidden::ForcedTools) {
            return Err(Refusal::invalid(format!(
                "tool_choice.type: \"{kind}\" is not supported for the model {}: only \"auto\" and \"none\" are",
                model.id
            )));
        }
        if matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive")) {
            let message = "Thinking may not be enabled when tool_choice forces tool use.";
            return Err(Refusal::invalid(message));
        }
    }
    let name = choice["name"].as_str().unwrap_or_default();
    if kind == "tool" && !tools.iter().any(|tool| tool == name) {
        let message = format!("tool_choice: Tool '{name}' not found in provided tools");
        return Err(Refusal::invalid(message));
    }
    Ok(match kind {
        "none" => Calls::None,
        _ if choice["disable_parallel_tool_use"] == Value::Bool(true) => Calls::One,
        _ => Calls::Many,
    })
}

/// The tool that `tool_choice` wants called; any will do means the first.
fn forced(body: &Value) -> Option<(String, Value)> {
    let choice = &body["tool_choice"];
    let is_it = |tool: &&Value| choice["type"] == "any" || tool["name"] == choice["name"];
    let tools =
        body["tools"].as_array().filter(|_| choice["type"] == "any" || choice["type"] == "tool");
    let tool = tools.into_iter().flatten().find(is_it)?;
    Some((tool["name"].as_str()?.to_owned(), tool["input_schema"].clone()))
}

fn schema(body: &Value) -> Result<Option<Value>, Refusal> {
    let Some(schema) = body["output_config"]["format"].get("schema") else { return Ok(None) };
    strict::check(schema, Dialect::Anthropic).map_err(|bad| {
        Refusal::invalid(format!("output_config.format.schema: {}: {}", bad.context, bad.why))
    })?;
    Ok(Some(schema.clone()))
}

fn check_markers(prompt: &[Piece], is_automatic: bool) -> Result<(), Refusal> {
    let markers: Vec<Ttl> = prompt.iter().filter_map(|piece| piece.marker).collect();
    let count = markers.len() + usize::from(is_automatic);
    if count > MARKERS_MAX {
        return Err(Refusal::invalid(format!(
            "A maximum of {MARKERS_MAX} blocks with cache_control may be provided. Found {count}."
        )));
    }
    if markers.windows(2).any(|pair| pair[0] < pair[1]) {
        return Err(Refusal::invalid(
            "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block.",
        ));
    }
    Ok(())
}

/// A block as part of the prompt.
pub(super) fn piece(role: &'static str, block: &Value) -> Piece {
    let mut piece = match block["type"].as_str() {
        Some("text") => Piece::text(role, block["text"].as_str().unwrap_or_default()),
        kind => {
            let mut bare = block.clone();
            if let Some(map) = bare.as_object_mut() {
                map.remove("cache_control");
            }
            match kind {
                Some("image" | "document") => Piece::media(role, bare.to_string()),
                _ => Piece::text(role, bare.to_string()),
            }
        }
    };
    piece.marker = ttl(&block["cache_control"]);
    piece
}

fn ttl(marker: &Value) -> Option<Ttl> {
    let hour = marker["ttl"] == "1h";
    marker.is_object().then_some(if hour { Ttl::Hour } else { Ttl::FiveMinutes })
}

/// A text, or the texts of blocks below one another.
pub(super) fn texts_of_blocks(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks.iter().filter_map(|block| block["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn names(tools: &Value) -> Vec<String> {
    let names = tools.as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str());
    names.map(str::to_owned).collect()
}

fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}
