//! From a request's JSON to what it asks, or to the provider's 400.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::turns;
use crate::asked::{Asked, Calls, Piece, Thinking};
use crate::models::Models;
use crate::refusal::Refusal;
use crate::script::{Forbidden, Model, Provider};
use crate::shape::{Misfit, Shapes, What};
use crate::strict::{self, Dialect};

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| Shapes::new(include_str!("shape.json")));

/// A request for an answer.
pub(crate) fn chat(models: &Models, body: &Value) -> Result<Asked, Refusal> {
    SHAPES.check("request", body, &[]).map_err(|misfit| told(&misfit))?;
    let id = body["model"].as_str().unwrap_or_default();
    let Some(model) = models.find(Provider::Openai, id) else {
        let message = format!("The model `{id}` does not exist or you do not have access to it.");
        return Err(Refusal::new(404, "invalid_request_error", message).code("model_not_found"));
    };
    let output_max = output_max(body, model)?;
    let tools = tools(body)?;
    let calls = calls(body)?;
    let messages = turns::read(body)?;
    let schema = schema(body)?;
    let any_json = any_json(body, &messages)?;
    check_needs(body)?;
    if body["stream_options"].is_object() && body["stream"] != Value::Bool(true) {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Refusal::invalid(message).param("stream_options"));
    }
    let pieces = tools.iter().map(|tool| Piece::text("tool", tool.to_string()));
    let asked = Asked {
        provider: Provider::Openai,
        model: id.to_owned(),
        system: turns::system(&messages),
        user: turns::last_words(&messages),
        opening: String::new(),
        turn: messages.iter().filter(|message| message["role"] == "assistant").count() as u64,
        results: turns::results(&messages),
        tools: names(&tools),
        calls,
        forced: forced(body),
        thinking: if body["reasoning_effort"] == "none" { Thinking::Off } else { Thinking::Shown },
        schema,
        any_json,
        stream: body["stream"] == Value::Bool(true),
        include_usage: body["stream_options"]["include_usage"] == Value::Bool(true),
        output_max,
        stops: stops(&body["stop"]),
        choices: body["n"].as_u64().unwrap_or(1),
        prompt: pieces.chain(messages.iter().map(turns::piece)).collect(),
        cache_key: body["prompt_cache_key"].as_str().unwrap_or_default().to_owned(),
    };
    check_window(&asked, model)?;
    Ok(asked)
}

/// Checks fields that mean something only beside others.
fn check_needs(body: &Value) -> Result<(), Refusal> {
    let no_tools = body["tools"].as_array().is_none_or(Vec::is_empty);
    let (param, message) = match () {
        () if !body["parallel_tool_calls"].is_null() && no_tools => (
            "parallel_tool_calls",
            "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when 'tools' are specified.",
        ),
        () if !body["top_logprobs"].is_null() && body["logprobs"] != Value::Bool(true) => {
            ("top_logprobs", "The 'logprobs' parameter must be set to true to use 'top_logprobs'.")
        }
        () => return Ok(()),
    };
    Err(Refusal::invalid(message).param(param))
}

fn check_window(asked: &Asked, model: &Model) -> Result<(), Refusal> {
    let tokens = asked.prompt_tokens();
    if tokens <= model.window {
        return Ok(());
    }
    let message = format!(
        "This model's maximum context length is {} tokens. However, your messages resulted in {tokens} tokens. Please reduce the length of the messages.",
        model.window
    );
    Err(Refusal::invalid(message).param("messages").code("context_length_exceeded"))
}

/// A fault in the provider's words.
fn told(misfit: &Misfit) -> Refusal {
    let at = place(&misfit.path);
    match &misfit.what {
        What::Missing => Refusal::invalid(format!("Missing required parameter: '{at}'."))
            .code("missing_required_parameter"),
        What::Unknown => {
            Refusal::invalid(format!("Unknown parameter: '{at}'.")).code("unknown_parameter")
        }
        What::Kind(kind) => {
            Refusal::invalid(format!("Invalid value: '{kind}'.")).code("invalid_value")
        }
        What::Wrong(why) => {
            Refusal::invalid(format!("Invalid value for '{at}': {why}.")).code("invalid_value")
        }
    }
    .param(at)
}

/// A path as the provider writes it: `messages[0].content`.
fn place(path: &[String]) -> String {
    let mut place = String::new();
    for part in path {
        if part.parse::<usize>().is_ok() {
            place.push_str(&format!("[{part}]"));
        } else {
            let dot = if place.is_empty() { "" } else { "." };
            place.push_str(&format!("{dot}{part}"));
        }
    }
    place
}

/// Checks what says by `type` which of our shapes `prefix_*` it is.
pub(super) fn check_tagged(prefix: &str, value: &Value, path: &[&str]) -> Result<(), Refusal> {
    SHAPES.check_tagged(prefix, value, path).map_err(|misfit| told(&misfit))
}

/// Checks a message by its role.
pub(super) fn check_message(message: &Value, index: usize) -> Result<(), Refusal> {
    let at = index.to_string();
    let path = ["messages", &at];
    let Some(role) = message["role"].as_str() else {
        let path = path.iter().chain(&["role"]).map(ToString::to_string).collect();
        return Err(told(&Misfit { path, what: What::Missing }));
    };
    let name = format!("role_{role}");
    if !SHAPES.has(&name) {
        let message = format!(
            "Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'tool', and 'developer'."
        );
        let param = format!("messages[{index}].role");
        return Err(Refusal::invalid(message).param(param).code("invalid_value"));
    }
    SHAPES.check(&name, message, &path).map_err(|misfit| told(&misfit))
}

fn output_max(body: &Value, model: &Model) -> Result<u64, Refusal> {
    let old = body["max_tokens"].as_u64();
    if old.is_some() && model.forbids(Forbidden::MaxTokens) {
        let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
        return Err(Refusal::invalid(message).param("max_tokens").code("unsupported_parameter"));
    }
    let wanted = body["max_completion_tokens"].as_u64().or(old);
    match wanted.filter(|wanted| *wanted > model.output_max) {
        Some(wanted) => {
            let name = if old.is_some() { "max_tokens" } else { "max_completion_tokens" };
            let message = format!(
                "{name} is too large: {wanted}. This model supports at most {} completion tokens, whereas you provided {wanted}.",
                model.output_max
            );
            Err(Refusal::invalid(message).param(name).code("invalid_value"))
        }
        None => Ok(wanted.unwrap_or(model.output_max)),
    }
}

fn tools(body: &Value) -> Result<Vec<Value>, Refusal> {
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    let mut seen = BTreeSet::new();
    for (index, tool) in tools.iter().enumerate() {
        check_tagged("tool", tool, &["tools", &index.to_string()])?;
        let function = &tool["function"];
        let name = function["name"].as_str().unwrap_or_default();
        if !name.is_empty() && !seen.insert(name) {
            let message = format!("Invalid value for 'tools': function '{name}' is defined twice.");
            return Err(Refusal::invalid(message).param("tools").code("invalid_value"));
        }
        let Some(parameters) = function.get("parameters") else { continue };
        let is_strict = function["strict"] == Value::Bool(true);
        check_schema(parameters, is_strict, &format!("function '{name}'"), index)?;
    }
    Ok(tools)
}

fn check_schema(schema: &Value, strict: bool, of: &str, index: usize) -> Result<(), Refusal> {
    let bad = if strict {
        strict::check(schema, Dialect::Openai).err().map(|bad| (bad.context, bad.why))
    } else {
        strict::check_loose(schema).err().map(|why| ("()".to_owned(), why))
    };
    let Some((context, why)) = bad else { return Ok(()) };
    let message = format!("Invalid schema for {of}: In context={context}, {why}.");
    let param = format!("tools[{index}].function.parameters");
    Err(Refusal::invalid(message).param(param).code("invalid_function_parameters"))
}

fn calls(body: &Value) -> Result<Calls, Refusal> {
    let choice = &body["tool_choice"];
    let tools = names(body["tools"].as_array().map(Vec::as_slice).unwrap_or_default());
    if !choice.is_null() && choice != "none" && tools.is_empty() {
        let message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
        return Err(Refusal::invalid(message).param("tool_choice"));
    }
    match choice.as_str() {
        Some("none") => return Ok(Calls::None),
        Some("auto" | "required") => {}
        Some(other) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'none', 'auto', and 'required'."
            );
            return Err(Refusal::invalid(message).param("tool_choice").code("invalid_value"));
        }
        None if choice.is_object() => check_tagged("choice", choice, &["tool_choice"])?,
        None => {}
    }
    let named = choice["function"]["name"].as_str();
    if let Some(name) = named.filter(|name| !tools.iter().any(|tool| tool == name)) {
        let message = format!(
            "Tool choice '{{\"function\":{{\"name\":\"{name}\"}},\"type\":\"function\"}}' not found in 'tools' parameter."
        );
        return Err(Refusal::invalid(message).param("tool_choice"));
    }
    let parallel = body["parallel_tool_calls"] != Value::Bool(false);
    Ok(if parallel { Calls::Many } else { Calls::One })
}

/// The tool that `tool_choice` wants called; `required` means the first.
fn forced(body: &Value) -> Option<(String, Value)> {
    let choice = &body["tool_choice"];
    let named = &choice["function"]["name"];
    let tools = body["tools"].as_array().filter(|_| choice == "required" || named.is_string());
    let is_it = |tool: &&Value| choice == "required" || tool["function"]["name"] == *named;
    let function = &tools.into_iter().flatten().find(is_it)?["function"];
    let schema = function
        .get("parameters")
        .cloned()
        .unwrap_or_else(|| serde_json::json!({ "type": "object" }));
    Some((function["name"].as_str()?.to_owned(), schema))
}

fn schema(body: &Value) -> Result<Option<Value>, Refusal> {
    let format = &body["response_format"];
    if format.is_null() {
        return Ok(None);
    }
    check_tagged("format", format, &["response_format"])?;
    let asked = &format["json_schema"];
    let Some(schema) = asked.get("schema") else { return Ok(None) };
    let name = asked["name"].as_str().unwrap_or_default();
    let bad = if asked["strict"] == Value::Bool(true) {
        strict::check(schema, Dialect::Openai).err().map(|bad| (bad.context, bad.why))
    } else {
        strict::check_loose(schema).err().map(|why| ("()".to_owned(), why))
    };
    match bad {
        Some((context, why)) => {
            let message = format!(
                "Invalid schema for response_format '{name}': In context={context}, {why}."
            );
            Err(Refusal::invalid(message).param("response_format"))
        }
        None => Ok(Some(schema.clone())),
    }
}

fn any_json(body: &Value, messages: &[Value]) -> Result<bool, Refusal> {
    if body["response_format"]["type"] != "json_object" {
        return Ok(false);
    }
    let mut said = messages.iter().map(|message| turns::words(message).to_lowercase());
    if said.any(|words| words.contains("json")) {
        return Ok(true);
    }
    let message = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.";
    Err(Refusal::invalid(message).param("messages"))
}

fn names(tools: &[Value]) -> Vec<String> {
    let names = tools.iter().filter_map(|tool| tool["function"]["name"].as_str());
    names.map(str::to_owned).collect()
}

fn stops(stop: &Value) -> Vec<String> {
    let one = stop.as_str().into_iter();
    let many = stop.as_array().into_iter().flatten().filter_map(Value::as_str);
    one.chain(many).filter(|stop| !stop.is_empty()).map(str::to_owned).collect()
}
