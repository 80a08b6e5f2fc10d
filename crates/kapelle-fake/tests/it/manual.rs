//! What the manual shows.

use serde_json::{Value, json};

use crate::support::{anthropic, fake};

const MANUAL: &str = include_str!("../../../../docs/fake-model.md");

#[test]
fn the_script_of_the_manual_does_what_it_says() {
    let script = MANUAL.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    // Neither its dice nor its keys are what is shown here.
    let script = script.replace("probability: 0.1", "probability: 0");
    let script = script.replace("probability: 0.05", "probability: 0").replace("sk-test-main", "k");
    let fake = fake(&script);
    let ask = |more: Value| {
        let mut body = json!({ "model": "claude-sonnet-4-6", "max_tokens": 200 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        anthropic(&fake, &body)
    };
    let user = |content: Value| json!({ "role": "user", "content": content });
    let tool = json!({ "name": "read_file", "input_schema": { "type": "object" } });
    let begin = user(json!("look at it"));
    let review = json!({ "system": "you are a reviewer", "tools": [tool], "messages": [begin] });
    let said = ask(review.clone()).json()["content"].clone();
    assert_eq!(
        (said[0]["text"].as_str(), said.as_array().unwrap().len()),
        (Some("Let me look."), 3)
    );
    let result = |index: usize, text: &str| json!({ "type": "tool_result", "tool_use_id": said[index]["id"], "content": text });
    let results = json!([result(1, "fn a"), result(2, "fn b")]);
    let assistant = json!({ "role": "assistant", "content": said });
    let mut next = review;
    next["messages"] = json!([begin, assistant, user(results)]);
    let verdict = ask(next).json()["content"][0]["text"].clone();
    assert_eq!(verdict, json!({ "verdict": "ok", "seen": "fn a\nfn b" }).to_string());
    let greeting = || ask(json!({ "messages": [user(json!("my name is Ada"))] }));
    assert_eq!(greeting().header("retry-after"), Some("2"));
    assert_eq!(greeting().json()["content"][0]["text"], "Hello Ada, this is answer 2");
    let other = ask(json!({ "messages": [user(json!("hm"))] })).json();
    assert_eq!(other["content"][0]["text"], "I have nothing to say");
}
