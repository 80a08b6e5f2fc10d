//! Passages out: whatever the texts are, ranking, summarizing and extracting end, and every quote is
//! where it says.
#![no_main]

mod agents;

use kapelle_core::Json;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (question, rest) = text.split_once('\n').unwrap_or(("", &text));
    let texts: Vec<&str> = rest.splitn(3, "\n---\n").collect();
    agents::with(|agents| all(agents, question, &texts));
});

fn all(agents: &agents::Agents, question: &str, texts: &[&str]) {
    let documents: Json = texts
        .iter()
        .enumerate()
        .map(|(at, text)| json!({"source": at.to_string(), "text": text}))
        .collect();
    let input = json!({"documents": documents, "question": question});
    let calls = [
        ("analyzer", "analyze"),
        ("analyzer", "rank"),
        ("summarizer", "summarize"),
        ("aggregator", "report"),
    ];
    for (name, action) in calls {
        if let Some(answer) = agents.perform(name, action, input.clone()) {
            places_are_true(&answer.value, texts);
        }
    }
    let input = json!({"markdown": texts[0], "task": question});
    let Some(guide) = agents.perform("guide-extractor", "extract", input) else { return };
    for step in guide.value["steps"].as_array().into_iter().flatten() {
        let quoted = texts[0].get(at(step, "start")..at(step, "end"));
        assert!(quoted.is_some(), "no step is at {step}");
    }
    agents.perform("walkthrough-generator", "generate", json!({"guide": guide.value}));
}

/// Every object with a place in `value` is what stands there in the text of its source.
fn places_are_true(value: &Json, texts: &[&str]) {
    match value {
        Json::Array(entries) => entries.iter().for_each(|entry| places_are_true(entry, texts)),
        Json::Object(fields) => {
            if fields.contains_key("start") && fields.contains_key("source") {
                place_is_true(value, texts);
            }
            fields.values().for_each(|field| places_are_true(field, texts));
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => (),
    }
}

fn place_is_true(quote: &Json, texts: &[&str]) {
    let source: usize = quote["source"].as_str().and_then(|at| at.parse().ok()).expect("ours");
    let text = quote["text"].as_str().expect("a quote has a text");
    assert_eq!(texts[source].get(at(quote, "start")..at(quote, "end")), Some(text));
    let chars = at(quote, "char_start")..at(quote, "char_end");
    assert!(texts[source].chars().skip(chars.start).take(chars.len()).eq(text.chars()), "{quote}");
}

fn at(value: &Json, name: &str) -> usize {
    value[name].as_u64().and_then(|at| at.try_into().ok()).expect("a place")
}
