//! The Chat Completions format, as the cloud and local servers speak it.
//!
//! **Invariant:** what local servers leave out or do in their own way is understood where its meaning
//! is clear: no usage, no ids of calls, arguments that are an object, no `[DONE]`.

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde_json::json;
use url::Url;

use super::{Delta, Part, Prompt, Reply, Role, Stop, Tokens, Turn, error, figure, part_of, schema};

/// What a server calls the longest answer. Many read one of the two alone, and some refuse a request with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxTokensAs {
    /// `max_tokens`: all but the vendor's models that think.
    MaxTokens,
    /// `max_completion_tokens`: the vendor's, wherever they are served.
    MaxCompletionTokens,
}

impl MaxTokensAs {
    /// What `model` at `url` takes, as far as one can see.
    pub(super) fn of(url: &Url, model: &str) -> Self {
        let host = url.host_str().unwrap_or_default();
        let home = ["openai.com", "azure.com"].iter().any(|home| {
            host.strip_suffix(home).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        if home || thinks(model) { Self::MaxCompletionTokens } else { Self::MaxTokens }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// Whether a model is one of the vendor's that think, by its name: `gpt-5` and later, `o3` and its like. The older
/// ones take both words, and local servers like to call theirs as those.
fn thinks(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    if let Some(version) = name.strip_prefix("gpt-") {
        let major: String = version.chars().take_while(char::is_ascii_digit).collect();
        return major.parse().is_ok_and(|major: u32| major >= 5);
    }
    let mut rest = name.strip_prefix('o').unwrap_or_default().chars();
    rest.next().is_some_and(|c| c.is_ascii_digit()) && matches!(rest.next(), None | Some('-'))
}

/// The request for `prompt`, for an answer of at most `tokens_max`, in that word.
pub(super) fn body(prompt: &Prompt, tokens_max: u64, word: MaxTokensAs) -> Json {
    let format = prompt.schema.as_ref().filter(|schema| schema::is_of_object(schema));
    let words = prompt.schema.as_ref().filter(|_| format.is_none()).map(super::in_words);
    let system = prompt.system.as_deref().into_iter().chain(words.as_deref());
    let system = system.map(|text| json!({"role": "system", "content": text}));
    let messages: Vec<Json> = system.chain(prompt.turns.iter().flat_map(messages)).collect();
    let mut body = json!({
        "model": prompt.model,
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    body[word.name()] = json!(tokens_max);
    if !prompt.tools.is_empty() {
        let tools = prompt.tools.iter().map(|tool| {
            let function = json!({
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.input,
            });
            json!({"type": "function", "function": function})
        });
        body["tools"] = tools.collect();
    }
    if let Some(schema) = format {
        let format = json!({"name": "answer", "schema": schema, "strict": is_strict(schema)});
        body["response_format"] = json!({"type": "json_schema", "json_schema": format});
    }
    if let Some(effort) = &prompt.effort {
        body["reasoning_effort"] = json!(effort);
    }
    body
}

/// Whether the provider can hold the model to a schema: every object says all that it has.
fn is_strict(of: &Json) -> bool {
    match of {
        Json::Object(map) => {
            let properties = map.get("properties").and_then(Json::as_object);
            let required = map.get("required").and_then(Json::as_array);
            let has = |name: &String| {
                required.is_some_and(|required| required.iter().any(|r| r == name.as_str()))
            };
            let closed = map.get("additionalProperties") == Some(&json!(false));
            let all = properties.is_none_or(|properties| properties.keys().all(has));
            let sound = !schema::is_of_object(of) || (closed && all);
            sound && map.values().all(is_strict)
        }
        Json::Array(items) => items.iter().all(is_strict),
        _ => true,
    }
}

/// The messages that a turn is.
fn messages(turn: &Turn) -> Vec<Json> {
    if turn.role == Role::Assistant {
        return answered(turn).into_iter().collect();
    }
    let mut messages = Vec::new();
    let mut said = String::new();
    for part in &turn.parts {
        match part {
            Part::ToolResult { id, text, .. } => {
                messages.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
            }
            Part::Text { text } if !part.is_empty() => {
                said.push_str(if said.is_empty() { "" } else { "\n\n" });
                said.push_str(text);
            }
            Part::Text { .. } | Part::ToolCall { .. } | Part::Raw { .. } => {}
        }
    }
    if !said.is_empty() {
        messages.push(json!({"role": "user", "content": said}));
    }
    messages
}

/// What the model said, unless that was nothing.
fn answered(turn: &Turn) -> Option<Json> {
    let (mut said, mut calls) = (String::new(), Vec::new());
    for part in &turn.parts {
        match part {
            Part::Text { text } => said.push_str(text),
            Part::ToolCall { id, name, input } => {
                let arguments = match input {
                    Json::String(text) => text.clone(),
                    input => input.to_string(),
                };
                let function = json!({"name": name, "arguments": arguments});
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
            // Thoughts of another provider's model mean nothing here.
            Part::ToolResult { .. } | Part::Raw { .. } => {}
        }
    }
    let is_silent = said.trim().is_empty();
    if is_silent && calls.is_empty() {
        return None;
    }
    let content = if is_silent { Json::Null } else { said.into() };
    let mut message = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    Some(message)
}

/// An answer on its way.
#[derive(Debug, Default)]
pub(super) struct Answer {
    model: Box<str>,
    text: String,
    refusal: String,
    calls: Vec<Called>,
    finish: Option<Box<str>>,
    usage: Json,
}

/// A call of a tool on its way.
#[derive(Debug, Default)]
struct Called {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Answer {
    /// Takes note of an event.
    pub(super) fn take(
        &mut self,
        mut chunk: Json,
        on: &mut dyn FnMut(Delta<'_>),
    ) -> Result<(), Failure> {
        if let Some(fault) = error::of(&chunk) {
            return Err(error::in_stream(fault));
        }
        if let Some(model) = chunk["model"].as_str().filter(|_| self.model.is_empty()) {
            self.model = model.into();
        }
        if chunk["usage"].is_object() {
            self.usage = chunk["usage"].take();
        }
        let choice = &chunk["choices"][0];
        if let Some(finish) = choice["finish_reason"].as_str() {
            self.finish = Some(finish.into());
        }
        // Some send the whole of it as one chunk.
        let has_words = choice["delta"].as_object().is_some_and(|delta| !delta.is_empty());
        let words = if has_words { "delta" } else { "message" };
        self.delta(&choice[words], on);
        Ok(())
    }

    /// The answer that is not told in pieces; `None` if it is none.
    pub(super) fn whole(
        json: Json,
        on: &mut dyn FnMut(Delta<'_>),
    ) -> Option<Result<Reply, Failure>> {
        if !json["choices"][0]["message"].is_object() {
            return None;
        }
        let mut answer = Self { finish: Some("stop".into()), ..Self::default() };
        Some(answer.take(json, on).and_then(|()| answer.finish()))
    }

    fn delta(&mut self, delta: &Json, on: &mut dyn FnMut(Delta<'_>)) {
        self.content(&delta["content"], on);
        let thought = delta["reasoning_content"].as_str().or(delta["reasoning"].as_str());
        if let Some(thought) = thought.filter(|thought| !thought.is_empty()) {
            on(Delta::Thought(thought));
        }
        self.refusal.push_str(delta["refusal"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call, on);
        }
        // As calls were told before there could be several.
        if delta["function_call"].is_object() {
            self.call(&json!({"function": delta["function_call"]}), on);
        }
    }

    /// What is said: a text, or a list of parts.
    fn content(&mut self, content: &Json, on: &mut dyn FnMut(Delta<'_>)) {
        for part in content.as_array().into_iter().flatten() {
            match part["type"].as_str() {
                Some("thinking") => {
                    let thoughts = part["thinking"].as_array().into_iter().flatten();
                    let thoughts = thoughts.filter_map(|thought| thought["text"].as_str());
                    thoughts.for_each(|thought| on(Delta::Thought(thought)));
                }
                _ => self.content(&part["text"], on),
            }
        }
        if let Some(text) = content.as_str().filter(|text| !text.is_empty()) {
            self.text.push_str(text);
            on(Delta::Text(text));
        }
    }

    /// More of a call, or a new one. Not all servers count their calls: many leave the index out, or say 0
    /// for each.
    fn call(&mut self, call: &Json, on: &mut dyn FnMut(Delta<'_>)) {
        let index = call["index"].as_u64();
        let (id, function) = (call["id"].as_str().unwrap_or_default(), &call["function"]);
        let name = function["name"].as_str().unwrap_or_default();
        let of_index = |known: &Called| index.is_none() || known.index == index;
        let is_it = |known: &Called| of_index(known) && !id.is_empty() && *known.id == *id;
        let place = self.calls.iter().rposition(is_it);
        let place = place.or_else(|| self.calls.iter().rposition(of_index));
        let place = place.filter(|place| !self.calls[*place].is_before(id, name));
        let place = place.unwrap_or_else(|| {
            self.calls.push(Called { index, ..Called::default() });
            self.calls.len() - 1
        });
        let known = &mut self.calls[place];
        if known.id.is_empty() {
            id.clone_into(&mut known.id);
        }
        if known.name.is_empty() && !name.is_empty() {
            name.clone_into(&mut known.name);
            on(Delta::Tool(name));
        }
        match &function["arguments"] {
            Json::String(piece) => known.arguments.push_str(piece),
            Json::Null => {}
            whole => known.arguments = whole.to_string(),
        }
    }

    /// The answer, if all of it has come.
    pub(super) fn finish(self) -> Result<Reply, Failure> {
        let Some(finish) = self.finish else { return Err(error::cut()) };
        let stop = match &*finish {
            "content_filter" => Stop::Refused("a filter of the provider".into()),
            _ if !self.refusal.is_empty() => Stop::Refused(self.refusal.into()),
            "length" => Stop::Length,
            _ if !self.calls.is_empty() => Stop::Tools,
            _ => Stop::End,
        };
        let text = (!self.text.is_empty()).then(|| Part::Text { text: self.text.into() });
        let calls = self.calls.into_iter().enumerate().map(|(place, call)| call.part(place));
        let parts: Vec<Part> = text.into_iter().chain(calls).collect();
        Ok(Reply {
            tokens: Tokens::told(tokens(&self.usage)).of(&parts),
            parts,
            stop,
            model: self.model,
            request: None,
        })
    }
}

impl Called {
    /// Whether a piece with this id and name begins the next call. Some say the name, or a new id, with every
    /// piece of one call.
    fn is_before(&self, id: &str, name: &str) -> bool {
        if name.is_empty() || self.name.is_empty() {
            return false;
        }
        if !id.is_empty() && !self.id.is_empty() {
            return self.id != id;
        }
        self.name != name || serde_json::from_str::<Json>(&self.arguments).is_ok()
    }

    fn part(self, place: usize) -> Part {
        let id = if self.id.is_empty() { format!("call_{place}") } else { self.id };
        let arguments = self.arguments.trim();
        let input =
            if arguments.is_empty() { Ok(json!({})) } else { serde_json::from_str(arguments) };
        let input = input.unwrap_or(Json::String(self.arguments));
        Part::ToolCall { id: id.into(), name: self.name.into(), input }
    }
}

fn tokens(usage: &Json) -> Option<Tokens> {
    let details = &usage["prompt_tokens_details"];
    let cached = part_of(&details["cached_tokens"])?;
    let stored = part_of(&details["cache_write_tokens"])?;
    Some(Tokens {
        fresh: figure(&usage["prompt_tokens"])?.saturating_sub(cached + stored),
        cached,
        stored,
        stored_long: 0,
        written: figure(&usage["completion_tokens"])?,
        thought: part_of(&usage["completion_tokens_details"]["reasoning_tokens"])?,
        unknown: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[Json]) -> Result<Reply, Failure> {
        let mut answer = Answer::default();
        for chunk in chunks {
            answer.take(chunk.clone(), &mut |_| {})?;
        }
        // What `[DONE]` is read as.
        answer.take(Json::Null, &mut |_| {})?;
        answer.finish()
    }

    fn chunk(delta: &Json) -> Json {
        json!({"model": "m-1", "choices": [{"index": 0, "delta": delta}]})
    }

    fn end(reason: &str) -> Json {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    }

    fn called(id: &str, name: &str, input: Json) -> Part {
        Part::ToolCall { id: id.into(), name: name.into(), input }
    }

    #[test]
    fn usage_that_cannot_be_is_none() {
        let details = json!({"cached_tokens": u64::MAX, "cache_write_tokens": u64::MAX});
        let usage =
            json!({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": details});
        let end = json!({"choices": [], "usage": usage});
        let reply = read(&[chunk(&json!({"content": "hi"})), super::tests::end("stop"), end]);
        assert!(reply.unwrap().tokens.unknown);
    }

    #[test]
    fn an_answer_is_put_together_from_its_pieces() {
        let part = |index: u64, more: &Json| {
            let mut call = json!({"index": index});
            call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            chunk(&json!({"tool_calls": [call]}))
        };
        let details = json!({"cached_tokens": 60, "cache_write_tokens": 10});
        let reply = read(&[
            chunk(&json!({"role": "assistant", "content": ""})),
            chunk(&json!({"content": "I "})),
            chunk(&json!({"content": "look"})),
            part(0, &json!({"id": "c1", "function": {"name": "read", "arguments": ""}})),
            part(1, &json!({"id": "c2", "function": {"name": "list", "arguments": "{}"}})),
            part(0, &json!({"function": {"arguments": "{\"path\":"}})),
            part(0, &json!({"function": {"arguments": "\"a\"}"}})),
            end("tool_calls"),
            json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 7,
                "prompt_tokens_details": details,
                "completion_tokens_details": {"reasoning_tokens": 3}}}),
        ]);
        let reply = reply.unwrap();
        let parts = [
            Part::Text { text: "I look".into() },
            called("c1", "read", json!({"path": "a"})),
            called("c2", "list", json!({})),
        ];
        assert_eq!(
            (&reply.parts[..], &reply.stop, &*reply.model),
            (&parts[..], &Stop::Tools, "m-1")
        );
        let tokens = Tokens {
            fresh: 30,
            cached: 60,
            stored: 10,
            written: 7,
            thought: 3,
            ..Tokens::default()
        };
        assert_eq!(reply.tokens, tokens);
    }

    #[test]
    fn the_ways_of_local_servers_are_understood() {
        // No ids, arguments that are an object, `stop` with calls, no usage.
        let call = json!({"function": {"name": "read", "arguments": {"path": "a"}}});
        let reply = read(&[chunk(&json!({"tool_calls": [call]})), end("stop")]).unwrap();
        assert_eq!(reply.parts, [called("call_0", "read", json!({"path": "a"}))]);
        assert_eq!((reply.stop, reply.tokens.unknown), (Stop::Tools, true));
        let cut = read(&[chunk(&json!({"content": "hal"}))]).unwrap_err();
        assert_eq!((&*cut.code, cut.certain), ("cut", false));
        let error =
            read(&[json!({"error": {"message": "no slot", "type": "unavailable"}})]).unwrap_err();
        assert_eq!((&*error.code, error.certain), ("unavailable", false));
    }

    #[test]
    fn the_longest_answer_is_told_in_the_word_that_a_server_reads() {
        let of = |url: &str, model| MaxTokensAs::of(&url.parse().unwrap(), model).name();
        let (old, new) = ("max_tokens", "max_completion_tokens");
        assert_eq!(of("https://api.openai.com/v1", "gpt-4.1"), new);
        assert_eq!(of("https://eu.api.openai.com/v1", "any"), new);
        assert_eq!(of("https://mine.openai.azure.com/v1", "deployed"), new);
        assert_eq!(of("https://notopenai.com/v1", "any"), old);
        let local = "http://localhost:11434/v1";
        for model in ["qwen3", "gpt-oss:20b", "openai/gpt-oss-120b", "gpt-4", "olmo-2", "o", "o3d"]
        {
            assert_eq!(of(local, model), old, "{model}");
        }
        for model in ["gpt-5.4-mini", "openai/gpt-6-sol", "gpt-10", "o3", "o4-mini"] {
            assert_eq!(of(local, model), new, "{model}");
        }
    }

    #[test]
    fn odd_figures_are_unknown_and_never_nothing() {
        let told = |usage: &Json| {
            let said = json!({"content": "hello"});
            read(&[chunk(&said), end("stop"), json!({"choices": [], "usage": usage})])
                .unwrap()
                .tokens
        };
        let whole = told(&json!({"prompt_tokens": 10.0, "completion_tokens": 5.0}));
        assert_eq!((whole.fresh, whole.written, whole.unknown), (10, 5, false));
        for usage in [
            json!({"completion_tokens": 5, "total_tokens": 15}),
            json!({"prompt_tokens": 10}),
            json!({"prompt_tokens": 0, "completion_tokens": 0}),
            json!({"prompt_tokens": 10, "completion_tokens": 0}),
            json!({"prompt_tokens": -1, "completion_tokens": 5}),
            json!({"prompt_tokens": 10, "completion_tokens": -1.0}),
            json!({"prompt_tokens": 10, "completion_tokens": 5.5}),
            json!({"prompt_tokens": "10", "completion_tokens": 5}),
            json!({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": -3}}),
            json!({}),
        ] {
            assert!(told(&usage).unknown, "{usage}");
        }
        // Who says nothing may have written nothing.
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}});
        assert!(!read(&[chunk(&json!({})), end("stop"), usage]).unwrap().tokens.unknown);
    }

    #[test]
    fn calls_are_told_apart_however_a_server_counts_them() {
        let piece = |index: &Json, id: &Json, name: &Json, arguments: &str| {
            let function = json!({"name": name, "arguments": arguments});
            json!({"index": index, "id": id, "type": "function", "function": function})
        };
        let both = |first: [Json; 2], second: [Json; 2]| {
            let call = |[index, id]: [Json; 2], path: &str| {
                piece(&index, &id, &json!("read"), &format!("{{\"path\":\"{path}\"}}"))
            };
            [call(first, "one"), call(second, "two")]
        };
        let none = Json::Null;
        let shapes = [
            both([json!(0), json!("a")], [json!(0), json!("b")]),
            both([none.clone(), json!("a")], [none.clone(), json!("b")]),
            both([none.clone(), json!("")], [none.clone(), json!("")]),
            both([json!(0), none.clone()], [json!(0), none.clone()]),
            both([json!(0), json!("a")], [json!(1), json!("a")]),
        ];
        let paths = |reply: Reply| {
            let path = |part: Part| match part {
                Part::ToolCall { input, .. } => input["path"].as_str().unwrap_or("?").to_owned(),
                part => panic!("{part:?}"),
            };
            reply.parts.into_iter().map(path).collect::<Vec<_>>()
        };
        for [one, two] in shapes {
            let together = read(&[chunk(&json!({"tool_calls": [one, two]})), end("stop")]).unwrap();
            assert_eq!(paths(together), ["one", "two"], "{one} {two}");
            let chunks = [&one, &two].map(|call| chunk(&json!({"tool_calls": [call]})));
            let [first, second] = chunks;
            let apart = read(&[first, second, end("tool_calls")]).unwrap();
            assert_eq!(paths(apart), ["one", "two"], "{one} {two}");
        }
        // The name, or a new id, with each piece of one call.
        for [first, next] in [[json!("a"), json!("a")], [json!(""), none.clone()]] {
            let name = json!("read");
            let reply = read(&[
                chunk(&json!({"tool_calls": [piece(&none, &first, &name, "")]})),
                chunk(&json!({"tool_calls": [piece(&none, &next, &name, "{\"path\":")]})),
                chunk(&json!({"tool_calls": [piece(&none, &json!("x"), &none, "\"one\"}")]})),
                end("tool_calls"),
            ]);
            assert_eq!(paths(reply.unwrap()), ["one"]);
        }
    }

    #[test]
    fn a_conversation_becomes_messages_in_their_order() {
        let text = |text: &str| Part::Text { text: text.into() };
        let result =
            |id: &str| Part::ToolResult { id: id.into(), text: "ok".into(), failed: false };
        let turn = |role, parts| Turn { role, by: None, parts };
        let calls =
            vec![called("c1", "read", json!({"a": 1})), called("c2", "list", json!("{cut"))];
        let prompt = Prompt {
            model: "m".into(),
            system: Some("You are.".into()),
            shared: 0,
            turns: vec![
                turn(Role::User, vec![text("one"), text("two")]),
                turn(Role::Assistant, calls),
                turn(Role::User, vec![result("c1"), result("c2"), text("go on")]),
            ],
            tools: Vec::new(),
            schema: Some(json!({"type": "object", "properties": {"a": {}}, "required": ["a"]})),
            tokens_max: 9,
            effort: None,
        };
        let body = body(&prompt, 9, MaxTokensAs::MaxTokens);
        let roles =
            body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap());
        assert_eq!(
            roles.collect::<Vec<_>>(),
            ["system", "user", "assistant", "tool", "tool", "user"]
        );
        assert_eq!(body["messages"][1]["content"], "one\n\ntwo");
        assert_eq!(body["messages"][2]["content"], Json::Null);
        assert_eq!(body["messages"][2]["tool_calls"][1]["function"]["arguments"], "{cut");
        assert_eq!(body["response_format"]["json_schema"]["strict"], false);
        let strict = json!({"type": "object", "properties": {}, "additionalProperties": false});
        assert!(is_strict(&strict));
    }
}
