//! The agents that work by rules, on any text at all: places are true, time is bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::egress::Policy;
use kapelle_agents::provider::Models;
use kapelle_agents::{Options, built_in, contract};
use kapelle_core::Json;
use kapelle_core::port::agent::{Agent, Answer};
use proptest::prelude::*;
use serde_json::json;

use crate::support::launcher;

pub(crate) fn agent(name: &str) -> Arc<dyn Agent> {
    agent_with(name, Models::default())
}

pub(crate) fn agent_with(name: &str, models: Models) -> Arc<dyn Agent> {
    let (egress, web) = (Policy::Operator, kapelle_agents::web::Settings::default());
    let memory = kapelle_agents::memory::Settings::default();
    let memory = kapelle_agents::Memory::new(memory).into();
    let options = Options {
        launcher: launcher(),
        kids: None,
        egress,
        web,
        memory,
        models: Arc::new(models),
        tools: Arc::default(),
    };
    built_in(options).into_iter().find(|agent| &*agent.card().name == name).unwrap()
}

pub(crate) async fn perform(name: &str, action: &str, input: Json) -> Answer {
    let desk = ScratchDesk::new().unwrap();
    agent(name).perform(contract::call(action, input, "/"), &desk).await.unwrap()
}

/// Every object with a place in `value` is what stands there in the text of its source.
pub(crate) fn places_are_true(value: &Json, texts: &[&str]) {
    match value {
        Json::Array(entries) => entries.iter().for_each(|entry| places_are_true(entry, texts)),
        Json::Object(fields) => {
            if let (Some(text), Some(source)) = (fields.get("text"), fields.get("source")) {
                let whole = texts[source.as_str().unwrap().parse::<usize>().unwrap()];
                let at = |name: &str| usize::try_from(fields[name].as_u64().unwrap()).unwrap();
                assert_eq!(whole.get(at("start")..at("end")), text.as_str());
                let chars =
                    whole.chars().skip(at("char_start")).take(at("char_end") - at("char_start"));
                assert_eq!(chars.collect::<String>(), text.as_str().unwrap());
            }
            fields.values().for_each(|field| places_are_true(field, texts));
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => (),
    }
}

/// All actions on two documents.
async fn all(texts: &[&str; 2], question: &str) {
    let documents: Json = texts
        .iter()
        .enumerate()
        .map(|(at, text)| json!({"source": at.to_string(), "text": text, "title": question}))
        .collect();
    let ranked = json!({"documents": documents, "question": question, "top": 50});
    let summarized = json!({"documents": documents, "question": question, "ratio": 0.5});
    let reported = json!({"documents": documents, "question": question});
    let calls = [
        ("analyzer", "analyze", &ranked),
        ("analyzer", "rank", &ranked),
        ("summarizer", "summarize", &summarized),
        ("aggregator", "report", &reported),
    ];
    for (name, action, input) in calls {
        places_are_true(&perform(name, action, input.clone()).await.value, texts);
    }
    let guide = json!({"markdown": texts[0], "task": question});
    let guide = perform("guide-extractor", "extract", guide).await.value;
    for step in guide["steps"].as_array().unwrap() {
        let at = |name: &str| usize::try_from(step[name].as_u64().unwrap()).unwrap();
        assert!(texts[0].get(at("start")..at("end")).is_some(), "{step}");
    }
    perform("walkthrough-generator", "generate", json!({"guide": guide})).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_text_is_worked_on_and_every_place_is_true(
        one in "\\PC{0,80}|(# |\\| |1\\. |`|\\*\\*|Open |the port is |[0-9]{1,4}|\\.[0-9]| ms|%|ß|東|\u{301}|, |\\. |\n){0,80}",
        two in "(The default |port|timeout| is | of |[0-9]{1,5}|-0[1-9]|v1|[0-9]\\.[0-9]| MB| on | and |é|\\. |\n\n|\t){0,80}",
        question in "\\PC{0,20}|default port|the",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(all(&[&one, &two], &question));
    }
}

#[tokio::test]
async fn a_guide_of_an_address_reads_the_page_once_and_extracts_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let html = "<title>Pump</title><h1>Pump</h1><h2>Start it</h2><ol><li>Open the valve.<li>Press \
                <b>Start</b>.</ol><h2>Stop it</h2><ol><li>Close the valve.</ol>";
    std::fs::write(&page, html).unwrap();
    let agent = agent("guide-extractor");
    let desk = ScratchDesk::new().unwrap();
    let call = |input| contract::call("extract", input, folder.path().to_str().unwrap());
    let input = json!({"url": "page.html", "task": "start the pump"});
    let first = agent.perform(call(input.clone()), &desk).await.unwrap().value;
    let told: Vec<_> =
        first["steps"].as_array().unwrap().iter().map(|s| &s["instruction"]).collect();
    assert_eq!(told, ["Open the valve.", "Press Start."]);
    assert!(first["source"].as_str().unwrap().ends_with("page.html"), "{first}");

    // The next attempt is given what was recorded, for the page is gone.
    std::fs::remove_file(&page).unwrap();
    desk.next_attempt();
    assert_eq!(agent.perform(call(input.clone()), &desk).await.unwrap().value, first);
    let fresh = ScratchDesk::new().unwrap();
    assert_eq!(&*agent.perform(call(input), &fresh).await.unwrap_err().code, "no_such_file");
    // Beside a text it says only where that is from.
    let given = json!({"url": "page.html", "text": "Open the lid."});
    assert_eq!(agent.perform(call(given), &fresh).await.unwrap().value["source"], "page.html");
}

#[tokio::test]
async fn words_that_overlap_are_no_reason_to_panic() {
    all(&[".0東東東%| %%1.", "The default port is 81."], "default port").await;
}

#[tokio::test]
async fn a_text_made_to_be_slow_is_done_in_bounded_time() {
    let size = 1 << 18;
    let texts = [
        "a".repeat(size),
        "one word after the other without end ".repeat(size / 37),
        "Go. ".repeat(size / 4),
        "The default port is 80. ".repeat(size / 24),
        "1. Open **it** with `a b`.\n".repeat(size / 27),
        "# a\n".repeat(size / 4),
        "[a](".repeat(size / 4),
        "| 1 ".repeat(size / 4),
        "10 ".repeat(size / 3),
    ];
    for text in &texts {
        let since = Instant::now();
        all(&[text, "The default port is 81. It is so."], "default port open").await;
        // A debug build beside others on two cores: a square of this length would take minutes.
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "{:?} {:?}",
            since.elapsed(),
            &text[..20]
        );
    }
}
