//! The Messages format: what is asked, and what comes back piece by piece.
//!
//! **Invariant:** blocks, events and deltas that we do not know are passed over or passed back, never
//! an error.

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde_json::{Map, json};

use super::{Delta, Part, Prompt, Reply, Role, Stop, Tokens, error, figure, part_of, schema};

/// The request for `prompt`, for an answer of at most `tokens_max`. What will be read again is marked for the
/// provider's cache, which costs more where it is not: tools and system prompt, what other calls share, and
/// the conversation so far where there are tools to go on with.
pub(super) fn body(prompt: &Prompt, tokens_max: u64) -> Json {
    let cached = json!({"type": "ephemeral"});
    let mut body = json!({
        "model": prompt.model,
        "max_tokens": tokens_max,
        "stream": true,
        "messages": prompt.turns.iter().filter_map(turn).collect::<Vec<_>>(),
    });
    let mut system = Vec::new();
    if let Some(text) = &prompt.system {
        system.push(json!({"type": "text", "text": text, "cache_control": cached}));
    }
    let asked = prompt.schema.as_ref();
    let format = asked.and_then(schema::adapted);
    if let Some(asked) = asked.filter(|_| format.is_none()) {
        system.push(json!({"type": "text", "text": super::in_words(asked)}));
    }
    if !system.is_empty() {
        body["system"] = system.into();
    }
    let shared = prompt.shared.checked_sub(1).map(|last| &mut body["messages"][0]["content"][last]);
    if let Some(Json::Object(block)) = shared {
        block.insert("cache_control".into(), cached.clone());
    }
    if let Some(last) = last_block(&mut body).filter(|_| !prompt.tools.is_empty()) {
        last.insert("cache_control".into(), cached);
    }
    if !prompt.tools.is_empty() {
        let tools = prompt.tools.iter().map(|tool| {
            json!({
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.input,
            })
        });
        body["tools"] = tools.collect();
    }
    let mut output = Map::new();
    if let Some(schema) = format {
        output.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
    }
    if let Some(effort) = &prompt.effort {
        // Its least.
        let effort = if matches!(&**effort, "none" | "minimal") { "low" } else { effort };
        output.insert("effort".into(), json!(effort));
    }
    if !output.is_empty() {
        body["output_config"] = output.into();
    }
    body
}

/// The last block of the conversation, if it is one that can carry a mark.
fn last_block(body: &mut Json) -> Option<&mut Map<String, Json>> {
    let message = body["messages"].as_array_mut()?.last_mut()?;
    let block = message["content"].as_array_mut()?.last_mut()?;
    let marked = matches!(block["type"].as_str()?, "text" | "tool_result");
    block.as_object_mut().filter(|_| marked)
}

/// A turn, unless nothing is said in it: turns of one side in a row are one to the provider.
fn turn(turn: &super::Turn) -> Option<Json> {
    let role = if turn.role == Role::User { "user" } else { "assistant" };
    let is_result = |part: &&Part| matches!(part, Part::ToolResult { .. });
    // Answers of tools come first, whatever else is said.
    let (first, rest): (Vec<_>, Vec<_>) =
        turn.parts.iter().filter(|part| !part.is_empty()).partition(is_result);
    let blocks: Vec<Json> = first.into_iter().chain(rest).map(block).collect();
    // Nor are thoughts without anything said.
    let is_said =
        |block: &Json| !matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"));
    blocks.iter().any(is_said).then(|| json!({"role": role, "content": blocks}))
}

fn block(part: &Part) -> Json {
    match part {
        Part::Text { text } => json!({"type": "text", "text": text}),
        Part::ToolCall { id, name, input } => {
            let input = if input.is_object() { input.clone() } else { json!({"unread": input}) };
            json!({"type": "tool_use", "id": id, "name": name, "input": input})
        }
        Part::ToolResult { id, text, failed } => {
            let mut block = json!({"type": "tool_result", "tool_use_id": id, "content": text});
            if *failed {
                block["is_error"] = json!(true);
            }
            block
        }
        Part::Raw { block } => block.clone(),
    }
}

/// An answer on its way.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The message so far, without its content.
    message: Json,
    blocks: Vec<Block>,
    complete: bool,
}

/// A block of it: as it began, and what has come since.
#[derive(Debug)]
struct Block {
    /// What the provider counts it by.
    index: u64,
    json: Json,
    text: String,
    signature: String,
}

impl Answer {
    /// Takes note of an event.
    pub(super) fn take(
        &mut self,
        mut event: Json,
        on: &mut dyn FnMut(Delta<'_>),
    ) -> Result<(), Failure> {
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                self.message = object(event["message"].take());
                self.message["usage"] = object(self.message["usage"].take());
                // A placeholder: what was written is told at the end.
                self.message["usage"]["output_tokens"] = Json::Null;
            }
            "content_block_start" => {
                let json = event["content_block"].take();
                if !json.is_object() {
                    return Err(error::odd("a block of it is no object"));
                }
                if let Some(name) = json["name"].as_str() {
                    on(Delta::Tool(name));
                }
                let text = json["text"].as_str().or(json["thinking"].as_str());
                let text = text.unwrap_or_default().to_owned();
                // Whoever does not count begins them one after the other.
                let index = event["index"].as_u64().unwrap_or(self.blocks.len() as u64);
                self.blocks.push(Block { index, json, text, signature: String::new() });
            }
            "content_block_delta" => self.delta(&event["delta"], &event["index"], on),
            "message_delta" => self.end(&mut event),
            "message_stop" => self.complete = true,
            "error" => return Err(error::in_stream(&event["error"])),
            _ => {}
        }
        Ok(())
    }

    /// The answer that is not told in pieces; `None` if it is none.
    pub(super) fn whole(
        mut json: Json,
        on: &mut dyn FnMut(Delta<'_>),
    ) -> Option<Result<Reply, Failure>> {
        let Json::Array(blocks) = json.get_mut("content")?.take() else { return None };
        let mut answer = Self { message: json, complete: true, ..Self::default() };
        for json in blocks {
            let event = json!({"type": "content_block_start", "content_block": json});
            if let Some(text) = json["text"].as_str() {
                on(Delta::Text(text));
            }
            if let Err(failure) = answer.take(event, on) {
                return Some(Err(failure));
            }
        }
        Some(answer.finish())
    }

    fn delta(&mut self, delta: &Json, index: &Json, on: &mut dyn FnMut(Delta<'_>)) {
        let index = index.as_u64().unwrap_or((self.blocks.len() as u64).saturating_sub(1));
        let mut blocks = self.blocks.iter_mut().rev();
        let Some(block) = blocks.find(|block| block.index == index) else { return };
        let piece = |name: &str| delta[name].as_str().unwrap_or_default();
        match delta["type"].as_str().unwrap_or_default() {
            "text_delta" => {
                block.text.push_str(piece("text"));
                on(Delta::Text(piece("text")));
            }
            "thinking_delta" => {
                block.text.push_str(piece("thinking"));
                on(Delta::Thought(piece("thinking")));
            }
            "input_json_delta" => block.text.push_str(piece("partial_json")),
            "signature_delta" => block.signature.push_str(piece("signature")),
            "citations_delta" => {
                if let Some(citations) =
                    block.json.get_mut("citations").and_then(Json::as_array_mut)
                {
                    citations.push(delta["citation"].clone());
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, event: &mut Json) {
        for name in ["stop_reason", "stop_details"] {
            let told = event.get_mut("delta").and_then(|delta| delta.get_mut(name));
            self.message[name] = told.map(Json::take).unwrap_or_default();
        }
        // Figures are cumulative, and some are left out.
        let more = event["usage"].as_object().into_iter().flatten();
        for (name, figure) in more.filter(|(_, figure)| !figure.is_null()) {
            self.message["usage"][name] = figure.clone();
        }
    }

    /// The answer, if all of it has come.
    pub(super) fn finish(mut self) -> Result<Reply, Failure> {
        if !self.complete {
            return Err(error::cut());
        }
        self.blocks.sort_by_key(|block| block.index);
        let stop = stop(&self.message);
        let parts: Vec<Part> = self.blocks.into_iter().map(Block::part).collect();
        Ok(Reply {
            tokens: Tokens::told(tokens(&self.message["usage"])).of(&parts),
            parts,
            stop,
            model: self.message["model"].as_str().unwrap_or_default().into(),
            request: None,
        })
    }
}

impl Block {
    fn part(mut self) -> Part {
        match self.json["type"].as_str().unwrap_or_default() {
            "text" if self.json["citations"].as_array().is_none_or(Vec::is_empty) => {
                Part::Text { text: self.text.into() }
            }
            "text" => {
                self.json["text"] = self.text.into();
                Part::Raw { block: self.json }
            }
            "tool_use" => Part::ToolCall {
                id: self.json["id"].as_str().unwrap_or_default().into(),
                name: self.json["name"].as_str().unwrap_or_default().into(),
                input: self.input(),
            },
            "thinking" => {
                self.json["thinking"] = self.text.into();
                if !self.signature.is_empty() {
                    self.json["signature"] = self.signature.into();
                }
                Part::Raw { block: self.json }
            }
            // Calls of the provider's own tools come in pieces as well.
            _ => {
                if !self.text.is_empty() && self.json.get("input").is_some() {
                    self.json["input"] = self.input();
                }
                Part::Raw { block: self.json }
            }
        }
    }

    /// What a tool is called with: a text if it is no JSON, for then it was cut off.
    fn input(&self) -> Json {
        if self.text.is_empty() {
            let input = self.json["input"].clone();
            return if input.is_null() { json!({}) } else { input };
        }
        serde_json::from_str(&self.text).unwrap_or_else(|_| Json::String(self.text.clone()))
    }
}

/// Nothing where it is no object.
fn object(json: Json) -> Json {
    if json.is_object() { json } else { Json::Null }
}

fn stop(message: &Json) -> Stop {
    match message["stop_reason"].as_str().unwrap_or_default() {
        "tool_use" => Stop::Tools,
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "pause_turn" => Stop::Paused,
        "refusal" => {
            let details = &message["stop_details"];
            let why = details["explanation"].as_str().or(details["category"].as_str());
            Stop::Refused(why.unwrap_or("it does not say why").into())
        }
        _ => Stop::End,
    }
}

fn tokens(usage: &Json) -> Option<Tokens> {
    let stored_long = part_of(&usage["cache_creation"]["ephemeral_1h_input_tokens"])?;
    Some(Tokens {
        fresh: figure(&usage["input_tokens"])?,
        cached: part_of(&usage["cache_read_input_tokens"])?,
        stored: part_of(&usage["cache_creation_input_tokens"])?.saturating_sub(stored_long),
        stored_long,
        written: figure(&usage["output_tokens"])?,
        thought: part_of(&usage["output_tokens_details"]["thinking_tokens"])?,
        unknown: false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Tool, Turn};
    use super::*;

    fn read(events: &[Json]) -> (Result<Reply, Failure>, String) {
        let (mut answer, mut heard) = (Answer::default(), String::new());
        for event in events {
            let on = &mut |delta: Delta<'_>| match delta {
                Delta::Text(text) => heard.push_str(text),
                Delta::Thought(text) => heard.push_str(&format!("({text})")),
                Delta::Tool(name) => heard.push_str(&format!("<{name}>")),
                Delta::Begun(_) => {}
            };
            if let Err(failure) = answer.take(event.clone(), on) {
                return (Err(failure), heard);
            }
        }
        (answer.finish(), heard)
    }

    fn delta(index: u64, delta: &Json) -> Json {
        json!({"type": "content_block_delta", "index": index, "delta": delta})
    }

    fn start(index: u64, block: &Json) -> Json {
        json!({"type": "content_block_start", "index": index, "content_block": block})
    }

    #[test]
    fn an_answer_is_put_together_from_its_pieces() {
        let begun = json!({"id": "msg_1", "model": "m-1", "content": [],
            "usage": {"input_tokens": 9, "cache_read_input_tokens": 100, "output_tokens": 1}});
        let usage = json!({"output_tokens": 40, "input_tokens": null, "cache_creation_input_tokens": 7,
            "cache_creation": {"ephemeral_1h_input_tokens": 2}});
        let (reply, heard) = read(&[
            json!({"type": "message_start", "message": begun}),
            start(0, &json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, &json!({"type": "thinking_delta", "thinking": "hm"})),
            delta(0, &json!({"type": "signature_delta", "signature": "sig"})),
            json!({"type": "ping"}),
            json!({"type": "news", "of": "tomorrow"}),
            start(1, &json!({"type": "text", "text": ""})),
            delta(1, &json!({"type": "text_delta", "text": "Let me "})),
            delta(1, &json!({"type": "text_delta", "text": "look."})),
            delta(1, &json!({"type": "later_delta", "x": 1})),
            start(3, &json!({"type": "tool_use", "id": "t2", "name": "list", "input": {}})),
            start(2, &json!({"type": "tool_use", "id": "t1", "name": "read", "input": {}})),
            delta(2, &json!({"type": "input_json_delta", "partial_json": "{\"path\":"})),
            delta(2, &json!({"type": "input_json_delta", "partial_json": "\"a\"}"})),
            start(4, &json!({"type": "hologram", "of": "tomorrow"})),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": usage}),
            json!({"type": "message_stop"}),
        ]);
        assert_eq!(heard, "(hm)Let me look.<list><read>");
        let reply = reply.unwrap();
        assert_eq!(reply.stop, Stop::Tools);
        let tokens = Tokens {
            fresh: 9,
            cached: 100,
            stored: 5,
            stored_long: 2,
            written: 40,
            ..Tokens::default()
        };
        assert_eq!((reply.tokens, reply.tokens.read()), (tokens, 116));
        let thought = json!({"type": "thinking", "thinking": "hm", "signature": "sig"});
        let call = |id: &str, name: &str, input| Part::ToolCall {
            id: id.into(),
            name: name.into(),
            input,
        };
        assert_eq!(
            reply.parts,
            [
                Part::Raw { block: thought.clone() },
                Part::Text { text: "Let me look.".into() },
                call("t1", "read", json!({"path": "a"})),
                call("t2", "list", json!({})),
                Part::Raw { block: json!({"type": "hologram", "of": "tomorrow"}) },
            ]
        );
        let odd = json!({"type": "message_start", "message": "hi"});
        assert!(read(&[odd, json!({"type": "message_delta"})]).0.is_err());
        // What the provider wants back as it was goes back as it was.
        let turn = turn(&Turn { role: Role::Assistant, by: None, parts: reply.parts }).unwrap();
        assert_eq!(turn["content"][0], thought);
        assert_eq!(turn["content"][2]["input"], json!({"path": "a"}));
    }

    /// As some gateways send them: what is odd is no bug of ours.
    #[test]
    fn odd_pieces_of_an_answer_are_told_or_passed_over() {
        let text = json!({"type": "text", "text": "hi"});
        let cites = json!({"type": "citations_delta", "citation": {"url": "x"}});
        let stop = json!({"type": "message_stop"});
        for odd in [json!("x"), json!([1]), json!(1), Json::Null] {
            let end = json!({"type": "message_delta", "delta": odd, "usage": odd});
            let (reply, _) = read(&[start(0, &text), delta(0, &cites), end, stop.clone()]);
            assert_eq!(reply.unwrap().parts, [Part::Text { text: "hi".into() }], "{odd}");
            let (reply, _) = read(&[start(0, &odd), delta(0, &cites), stop.clone()]);
            let failure = reply.unwrap_err();
            assert_eq!((&*failure.code, failure.certain), ("garbled", false), "{odd}");
        }
        let usage = json!({"input_tokens": u64::MAX, "cache_read_input_tokens": u64::MAX, "output_tokens": 1});
        let end = json!({"type": "message_delta", "delta": {}, "usage": usage});
        let (reply, _) = read(&[start(0, &text), end, stop]);
        assert!(reply.unwrap().tokens.unknown, "no figure is that large");
    }

    #[test]
    fn an_answer_that_is_cut_off_is_of_unknown_end() {
        let begun = json!({"type": "message_start", "message": {"model": "m", "usage": {}}});
        let (cut, _) = read(std::slice::from_ref(&begun));
        let cut = cut.unwrap_err();
        assert_eq!((&*cut.code, cut.certain), ("cut", false));
        let error = json!({"type": "overloaded_error", "message": "busy"});
        let (broken, _) = read(&[begun.clone(), json!({"type": "error", "error": error})]);
        let broken = broken.unwrap_err();
        assert_eq!((&*broken.code, broken.certain), ("overloaded_error", false));
        // Cut by the limit of tokens in the middle of a call: what there is of it stays a text.
        let (reply, _) = read(&[
            begun,
            start(0, &json!({"type": "tool_use", "id": "t", "name": "w", "input": {}})),
            delta(0, &json!({"type": "input_json_delta", "partial_json": "{\"a"})),
            json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 3}}),
            json!({"type": "message_stop"}),
        ]);
        let reply = reply.unwrap();
        assert_eq!(reply.stop, Stop::Length);
        assert!(matches!(&reply.parts[0], Part::ToolCall { input, .. } if input == "{\"a"));
    }

    #[test]
    fn odd_figures_are_unknown_and_never_nothing() {
        let told = |begun: &Json, at_end: &Json| {
            let message = json!({"model": "m", "usage": begun});
            let (reply, _) = read(&[
                json!({"type": "message_start", "message": message}),
                start(0, &json!({"type": "text", "text": "hello"})),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": at_end}),
                json!({"type": "message_stop"}),
            ]);
            reply.unwrap().tokens
        };
        let begun = json!({"input_tokens": 9.0, "output_tokens": 1});
        let whole = told(&begun, &json!({"output_tokens": 4.0}));
        assert_eq!((whole.fresh, whole.written, whole.unknown), (9, 4, false));
        assert!(!told(&Json::Null, &json!({"input_tokens": 9, "output_tokens": 4})).unknown);
        let cached = json!({"input_tokens": 0, "cache_read_input_tokens": 2_000});
        assert!(!told(&cached, &json!({"output_tokens": 4})).unknown);
        let (zero, null) = (json!({"input_tokens": 0}), Json::Null);
        for (begun, at_end) in [
            (&begun, &null),
            (&begun, &json!({})),
            (&begun, &json!({"output_tokens": 0})),
            (&begun, &json!({"output_tokens": -4})),
            (&zero, &json!({"output_tokens": 4})),
            (&json!({"input_tokens": -9}), &json!({"output_tokens": 4})),
            (&null, &json!({"output_tokens": 4})),
            (&json!("nine"), &json!({"output_tokens": 4})),
        ] {
            assert!(told(begun, at_end).unknown, "{begun} {at_end}");
        }
    }

    #[test]
    fn a_prompt_is_marked_for_the_cache_where_it_is_common() {
        let tool = Tool {
            name: "read".into(),
            description: "Reads.".into(),
            input: json!({"type": "object"}),
        };
        let said = Part::Text { text: "and this".into() };
        let result = Part::ToolResult { id: "t".into(), text: "no".into(), failed: true };
        let prompt = Prompt {
            model: "m".into(),
            system: Some("You are.".into()),
            shared: 0,
            turns: vec![Turn { role: Role::User, by: None, parts: vec![said, result] }],
            tools: vec![tool],
            schema: Some(json!({"type": "object", "properties": {"a": {"type": "string"}}})),
            tokens_max: 99,
            effort: Some("minimal".into()),
        };
        let body = body(&prompt, 9);
        let mark = json!({"type": "ephemeral"});
        assert_eq!(body["system"][0]["cache_control"], mark);
        let content = &body["messages"][0]["content"];
        assert_eq!(
            (&content[0]["type"], &content[0]["is_error"]),
            (&json!("tool_result"), &json!(true))
        );
        assert_eq!(
            (&content[0]["cache_control"], &content[1]["cache_control"]),
            (&Json::Null, &mark)
        );
        assert_eq!(body["output_config"]["format"]["schema"]["additionalProperties"], false);
        assert_eq!(body["output_config"]["effort"], "low");
        // Nothing goes on without tools, and only what is shared is read again.
        let text = |text: &str| Part::Text { text: text.into() };
        let parts = vec![text("long"), text("one's own")];
        let turns = vec![Turn { role: Role::User, by: None, parts }];
        let once = super::body(&Prompt { tools: Vec::new(), shared: 1, turns, ..prompt }, 9);
        let content = &once["messages"][0]["content"];
        assert_eq!(
            (&content[0]["cache_control"], &content[1]["cache_control"]),
            (&mark, &Json::Null)
        );
        assert!(body.get("temperature").is_none() && body.get("tool_choice").is_none());
    }
}
