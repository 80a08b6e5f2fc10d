//! Anthropic's Messages.

use serde_json::{Value, json};

use crate::support::{Got, anthropic, ask, fake};

fn hello(more: &Value) -> Value {
    let mut body = json!({
        "model": "claude-sonnet-4-6", "max_tokens": 100,
        "messages": [{ "role": "user", "content": "hello" }],
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn without_a_script_words_are_echoed_and_counted() {
    let fake = fake("");
    let got = anthropic(&fake, &hello(&json!({})));
    assert_eq!(got.status, 200, "{got:?}");
    let message = got.json();
    assert_eq!(message["content"], json!([{ "type": "text", "text": "hello", "citations": null }]));
    assert_eq!(message["stop_reason"], "end_turn");
    assert_eq!(message["usage"]["input_tokens"], 6);
    assert_eq!(message["usage"]["output_tokens"], 2);
    assert!(got.header("request-id").unwrap().starts_with("req_"));
    let journal = fake.journal();
    assert_eq!(journal.len(), 1);
    assert_eq!(journal[0].usage.as_ref().unwrap(), &message["usage"]);
    assert_eq!(journal[0].body["messages"][0]["content"], "hello");
}

#[test]
fn a_stream_has_the_same_as_the_whole() {
    let script = "
delivery: {delta_bytes: 3, ping_every: 4, unknown_every: 5}
rules:
  - answer:
      - thinking: hm, let me see
      - text: I look at both
      - tool: {name: read, input: {path: a.txt}}
      - tool: {name: list}
";
    let tools = json!([
        { "name": "read", "input_schema": { "type": "object" } },
        { "name": "list", "input_schema": { "type": "object" } },
    ]);
    let body = hello(&json!({ "tools": tools, "thinking": { "type": "adaptive" } }));
    let whole = anthropic(&fake(script), &body).json();
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let got = anthropic(&fake(script), &streamed);
    assert_eq!(got.header("content-type").unwrap(), "text/event-stream; charset=utf-8");
    let joined = joined(&got.events());
    for field in ["content", "stop_reason", "id", "model"] {
        assert_eq!(plain(&whole)[field], joined[field], "{field}");
    }
    assert_eq!(whole["usage"]["output_tokens"], joined["usage"]["output_tokens"]);
    assert_eq!(whole["stop_reason"], "tool_use");
    assert_eq!(whole["content"].as_array().unwrap().len(), 4);
    let kinds: Vec<Value> = got.events().iter().map(|event| event["type"].clone()).collect();
    assert!(kinds.contains(&json!("fake_novelty")) && kinds.contains(&json!("ping")));
    assert_eq!(kinds.last().unwrap(), "message_stop");
}

fn plain(message: &Value) -> Value {
    let mut message = message.clone();
    for block in message["content"].as_array_mut().unwrap() {
        block.as_object_mut().unwrap().remove("citations");
    }
    message
}

/// What a client makes of the events.
fn joined(events: &[Value]) -> Value {
    let mut message = Value::Null;
    let mut inputs: Vec<String> = Vec::new();
    for event in events {
        let index = event["index"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                let blocks = message["content"].as_array_mut().unwrap();
                assert_eq!(blocks.len(), index);
                blocks.push(event["content_block"].clone());
                inputs.push(String::new());
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                if let Some(json) = delta["partial_json"].as_str() {
                    inputs[index].push_str(json);
                }
                for field in ["text", "thinking", "signature"] {
                    let Some(more) = delta[field].as_str() else { continue };
                    let block = &mut message["content"][index];
                    block[field] = format!("{}{more}", block[field].as_str().unwrap()).into();
                }
            }
            "content_block_stop" if !inputs[index].is_empty() => {
                message["content"][index]["input"] = serde_json::from_str(&inputs[index]).unwrap();
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["usage"] = event["usage"].clone();
            }
            _ => {}
        }
    }
    message
}

#[test]
fn thoughts_are_taken_back_unchanged_only() {
    let fake = fake("rules: [{answer: [{thinking: deep}, {tool: {name: read}}], times: 1}]");
    let tools = json!([{ "name": "read", "input_schema": { "type": "object" } }]);
    let first = hello(&json!({ "tools": tools, "thinking": { "type": "adaptive" } }));
    let said = anthropic(&fake, &first).json()["content"].clone();
    let next = |content: &Value, model: &str| {
        let result =
            json!([{ "type": "tool_result", "tool_use_id": said[1]["id"], "content": "x" }]);
        let mut body = first.clone();
        body["model"] = json!(model);
        let turns = body["messages"].as_array_mut().unwrap();
        turns.push(json!({ "role": "assistant", "content": content }));
        turns.push(json!({ "role": "user", "content": result }));
        anthropic(&fake, &body)
    };
    assert_eq!(next(&said, "claude-sonnet-4-6").status, 200);
    let refused = |got: Got, words: &str| {
        let (status, kind, message) = got.refusal();
        assert_eq!((status, kind.as_str()), (400, "invalid_request_error"));
        assert!(message.contains(words), "{message}");
    };
    let mut altered = said.clone();
    altered[0]["thinking"] = json!("shallow");
    refused(next(&altered, "claude-sonnet-4-6"), "Invalid `signature`");
    let mut unsigned = said.clone();
    unsigned[0]["signature"] = json!("");
    refused(next(&unsigned, "claude-sonnet-4-6"), "Invalid `signature`");
    refused(next(&said, "claude-opus-4-6"), "Invalid `signature`");
    refused(next(&json!([said[1]]), "claude-sonnet-4-6"), "Expected `thinking`");
}

#[test]
fn json_obeys_the_schema_unless_the_script_breaks_it() {
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["name", "kind"],
        "properties": { "name": { "type": "string" }, "kind": { "enum": ["a", "b"] } },
    });
    let format = json!({ "format": { "type": "json_schema", "schema": schema } });
    let body = hello(&json!({ "output_config": format }));
    let script = "
rules:
  - {when: {nth: [1]}, answer: [{json: {name: x, kind: b}}]}
  - {when: {nth: [1]}, answer: [{json: {name: x}}], violate: true}
  - {when: {nth: [1]}, answer: [{json: {name: x}}]}
";
    let fake = fake(script);
    let said = || {
        let message = anthropic(&fake, &body).json();
        serde_json::from_str::<Value>(message["content"][0]["text"].as_str().unwrap()).unwrap()
    };
    assert_eq!(said(), json!({ "name": "x", "kind": "b" }));
    assert_eq!(said(), json!({ "name": "x" }));
    assert_eq!(anthropic(&fake, &body).status, 500, "the script's mistake is told");
    let made_up = said();
    assert!(["a", "b"].contains(&made_up["kind"].as_str().unwrap()), "{made_up}");
}

#[test]
fn words_before_a_call_are_as_they_are_where_json_is_asked_for() {
    let schema = json!({ "type": "object", "additionalProperties": false, "properties": {} });
    let format = json!({ "format": { "type": "json_schema", "schema": schema } });
    let tools = json!([{ "name": "read", "input_schema": { "type": "object" } }]);
    let fake = fake("rules: [{answer: [{text: I look first}, {tool: {name: read}}]}]");
    let look = hello(&json!({ "output_config": format, "tools": tools }));
    assert_eq!(anthropic(&fake, &look).json()["content"][0]["text"], "I look first");
    let plain = anthropic(
        &fake,
        &hello(
            &json!({ "output_config": format, "tools": tools, "tool_choice": { "type": "none" } }),
        ),
    );
    assert_eq!(plain.json()["content"][0]["text"], "{}", "there is no call: it is the answer");
}

#[test]
fn answers_end_at_a_stop_sequence_and_where_tokens_run_out() {
    let fake = fake("rules: [{answer: [{text: one two three four}]}]");
    let stopped = anthropic(&fake, &hello(&json!({ "stop_sequences": ["three"] }))).json();
    assert_eq!(stopped["content"][0]["text"], "one two ");
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("three"))
    );
    let cut = anthropic(&fake, &hello(&json!({ "max_tokens": 2 }))).json();
    assert_eq!(cut["content"][0]["text"], "one two ");
    assert_eq!(
        (&cut["stop_reason"], &cut["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(2))
    );
}

#[test]
fn keys_are_known_by_name_and_never_told() {
    let script = "
keys:
  - {name: main, key: sk-canary-1}
  - {name: old, key: sk-canary-2, denied: true}
";
    let fake = fake(script);
    let with = |headers: &[(&str, &str)]| {
        let version = ("anthropic-version", "2026-10-21");
        let headers: Vec<_> = headers.iter().copied().chain([version]).collect();
        ask(&fake, "POST", "/v1/messages", &headers, &hello(&json!({})).to_string())
    };
    assert_eq!(with(&[("x-api-key", "sk-canary-1")]).status, 200);
    assert_eq!(with(&[("authorization", "Bearer sk-canary-1")]).status, 200);
    assert_eq!(with(&[("x-api-key", "sk-canary-2")]).refusal().1, "permission_error");
    assert_eq!(with(&[("x-api-key", "sk-other")]).refusal().1, "authentication_error");
    assert_eq!(with(&[]).status, 401);
    let keys: Vec<_> = fake.journal().into_iter().map(|entry| entry.key).collect();
    let main = Some("main".to_owned());
    assert_eq!(keys, [main.clone(), main, Some("old".to_owned()), None, None]);
    let told = ask(&fake, "GET", "/__journal", &[], "").body;
    assert!(told.contains("hello") && !told.contains("canary"));
}

#[test]
fn blank_texts_and_images_that_are_none_are_refused() {
    let fake = fake("");
    let image = |kind: &str, data: &str| {
        let source = json!({ "type": "base64", "media_type": kind, "data": data });
        json!({ "type": "image", "source": source })
    };
    let asked = |block: Value| {
        let message =
            json!({ "role": "user", "content": [block, { "type": "text", "text": "hi" }] });
        anthropic(&fake, &hello(&json!({ "messages": [message] })))
    };
    for (block, words) in [
        (json!({ "type": "text", "text": " \n" }), "must contain non-whitespace text"),
        (image("image/bmp", "aGk="), "media_type: Input should be 'image/jpeg'"),
        (image("image/png", "!!"), "invalid base64 data"),
    ] {
        let got = asked(block);
        assert_eq!(got.status, 400, "{words}");
        let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(asked(image("image/png", "aGk=")).status, 200);
}
