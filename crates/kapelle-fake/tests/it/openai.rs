//! OpenAI's Chat Completions.

use serde_json::{Value, json};

use crate::support::{ask, fake, openai};

fn hello(more: &Value) -> Value {
    let mut body = json!({
        "model": "gpt-6-sol",
        "messages": [{ "role": "system", "content": "be brief" }, { "role": "user", "content": "hello" }],
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn without_a_script_words_are_echoed_and_counted() {
    let fake = fake("");
    let got = openai(&fake, &hello(&json!({})));
    let answer = got.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "hello");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["prompt_tokens"], 12);
    assert_eq!(answer["usage"]["total_tokens"], 14);
    assert!(got.header("x-request-id").is_some());
}

#[test]
fn calls_come_in_pieces_by_their_index_and_usage_last() {
    let script = "
delivery: {delta_bytes: 4, unknown_every: 3, ping_every: 2}
rules:
  - answer:
      - thinking: unseen
      - tool: {name: read, input: {path: \"{{user}}\"}}
      - tool: {name: list}
";
    let tool = |name| json!({ "type": "function", "function": { "name": name, "parameters": {} } });
    let options = json!({ "include_usage": true });
    let more =
        json!({ "tools": [tool("read"), tool("list")], "stream": true, "stream_options": options });
    let got = openai(&fake(script), &hello(&more));
    let chunks = got.events();
    let mut calls: [(String, String); 2] = Default::default();
    let deltas = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    for call in deltas
        .flat_map(|choice| choice["delta"]["tool_calls"].as_array().cloned().unwrap_or_default())
    {
        let place = &mut calls[call["index"].as_u64().unwrap() as usize];
        place.0.push_str(call["function"]["name"].as_str().unwrap_or_default());
        place.1.push_str(call["function"]["arguments"].as_str().unwrap());
    }
    assert_eq!(calls[0], ("read".to_owned(), r#"{"path":"hello"}"#.to_owned()));
    assert_eq!(calls[1], ("list".to_owned(), "{}".to_owned()));
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
    assert!(got.body.ends_with("data: [DONE]\n\n") && got.body.contains(": ping"));
}

#[test]
fn a_prefix_that_came_before_is_read_from_the_cache() {
    let fake = fake("");
    let long = "x".repeat(6_000);
    let ask = |tail: &str| {
        let system = json!({ "role": "system", "content": long });
        let user = json!({ "role": "user", "content": tail });
        let answer = openai(&fake, &hello(&json!({ "messages": [system, user] }))).json();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(ask("one"), 0);
    // 1,500 tokens are 11 steps of 128 and a rest.
    assert_eq!(ask("two"), 1_408);
}

#[test]
fn the_models_of_both_wires_are_told_apart() {
    let fake = fake("models: [{id: tiny, provider: openai, window: 10}]");
    let key = ("authorization", "Bearer k");
    let version = ("anthropic-version", "2026-10-21");
    let names = |path: &str, headers: &[(&str, &str)]| {
        let list = ask(&fake, "GET", path, headers, "").json();
        let data = list["data"].as_array().unwrap().iter();
        data.map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("/v1/models", &[key])[0], "tiny");
    assert!(names("/v1/models", &[key, version])[0].starts_with("claude"));
    assert!(names("/openai/v1/models", &[key, version]).contains(&"tiny".to_owned()));
    let one = ask(&fake, "GET", "/v1/models/tiny", &[key], "").json();
    assert_eq!(one["object"], "model");
    let long = openai(&fake, &hello(&json!({ "model": "tiny" })));
    assert_eq!(long.json()["error"]["code"], "context_length_exceeded");
}

#[test]
fn what_means_nothing_alone_or_twice_is_refused() {
    let fake = fake("");
    let tool = json!({ "type": "function", "function": { "name": "read", "parameters": {} } });
    let name = json!([{ "role": "user", "content": "hello", "name": "a b" }]);
    for (more, words) in [
        (json!({ "tools": [tool, tool] }), "function 'read' is defined twice"),
        (json!({ "parallel_tool_calls": true }), "only allowed when 'tools' are specified"),
        (json!({ "top_logprobs": 3 }), "'logprobs' parameter must be set"),
        (json!({ "messages": name }), "messages[0].name"),
    ] {
        let got = openai(&fake, &hello(&more));
        assert_eq!(got.status, 400, "{more}");
        let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message}");
    }
    let sound = json!({ "tools": [tool], "parallel_tool_calls": false, "logprobs": true, "top_logprobs": 1 });
    assert_eq!(openai(&fake, &hello(&sound)).status, 200);
}
