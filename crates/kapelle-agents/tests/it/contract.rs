//! What is promised of every agent, by each of ours.

use std::sync::Arc;

use kapelle_agents::egress::Policy;
use kapelle_agents::web::Settings;
use kapelle_agents::{Options, built_in, contract};
use kapelle_core::Json;
use kapelle_core::port::agent::Agent;
use serde_json::json;

use crate::support::{eventually, launcher, serve};

fn agents() -> Vec<Arc<dyn Agent>> {
    let (launcher, web) = (launcher(), Settings::default());
    let memory = kapelle_agents::memory::Settings::default();
    let memory = kapelle_agents::Memory::new(memory).into();
    built_in(Options {
        launcher,
        kids: None,
        egress: Policy::Operator,
        web,
        memory,
        models: Arc::default(),
        tools: Arc::default(),
    })
}

fn agent(name: &str) -> Arc<dyn Agent> {
    agents().into_iter().find(|agent| &*agent.card().name == name).unwrap()
}

#[tokio::test]
async fn every_card_is_sound_and_every_action_known() {
    let agents = agents();
    assert_eq!(agents.len(), 11);
    for agent in &agents {
        contract::has_a_sound_card(agent);
        contract::knows_its_actions(agent).await;
    }
}

/// Two pages as `web.read` gives them, with more than is looked at, and with what is missing.
fn pages() -> Json {
    json!([
        {
            "url": "http://a.example/", "title": "Ports", "language": "en", "published": null,
            "text": "Ports\n\nThe default port of the server is 8080. It can be changed.",
            "markdown": "# Ports\n\nThe default port of the server is **8080**.",
            "headings": [{"level": 1, "text": "Ports"}], "links": [{"url": "http://b.example/"}],
            "lists": [], "tables": []
        },
        {"source": "notes.md", "markdown": "1. Click **Save**.\n2. The server listens on port 9090 by default."}
    ])
}

#[tokio::test]
async fn answers_are_what_their_schemas_say() {
    let server = serve(axum::Router::new().route("/", axum::routing::get(|| async { "hi" }))).await;
    let cases = [
        ("echo", "echo", json!({"value": [1], "delay": "1ms", "effects": 2})),
        ("process", "run", json!({"shell": "echo hi; echo ho >&2", "parse": "lines"})),
        ("process", "run", json!({"shell": "head -c 2000000 /dev/zero"})),
        ("http", "request", json!({"method": "GET", "url": server})),
        ("analyzer", "analyze", json!({"documents": pages(), "question": "which port"})),
        ("analyzer", "rank", json!({"documents": pages(), "question": "which port", "top": 1})),
        ("analyzer", "filter", json!({"documents": pages(), "filters": {"languages": ["de"]}})),
        ("summarizer", "summarize", json!({"documents": pages(), "question": "which port"})),
        ("summarizer", "summarize", json!({"text": "", "ratio": 0.5})),
        ("guide-extractor", "extract", json!({"document": pages()[1]})),
        ("guide-extractor", "extract", json!({"text": "Click **Save**.", "task": "saving"})),
        (
            "walkthrough-generator",
            "generate",
            json!({
                "guide": [{"instruction": "Click Save."}], "page": pages()[0]
            }),
        ),
        (
            "memory",
            "store",
            json!({"text": "a", "source": "b", "ttl": "1h", "trust": "user", "namespace": "c"}),
        ),
        ("memory", "store", json!({"entries": [pages()[0]], "ttl": 5})),
        ("memory", "retrieve", json!({"query": "which port", "top": 1, "trust": "tool"})),
        ("memory", "forget", json!({"all": true})),
        ("aggregator", "merge", json!({"outputs": {"a": {"x": 1}, "b": {"x": 2}}})),
        ("aggregator", "report", json!({"documents": pages(), "question": "which port"})),
        ("aggregator", "report", json!({"documents": []})),
    ];
    for (name, action, input) in cases {
        contract::answers_as_it_says(&agent(name), action, input).await;
    }
}

#[tokio::test]
async fn bad_input_is_invalid() {
    let url = "http://127.0.0.1:1/";
    let bad: [(&str, &str, &[Json]); 8] = [
        (
            "echo",
            "echo",
            &[
                json!(1),
                json!({"valu": 1}),
                json!({"delay": -1}),
                json!({"fail": {"times": 1, "kind": "sad"}}),
                json!({"fail": {"times": -1, "kind": "lost"}}),
            ],
        ),
        (
            "process",
            "run",
            &[
                json!({}),
                json!({"argv": []}),
                json!({"argv": ["true"], "shell": "true"}),
                json!({"argv": "true"}),
                json!({"argv": ["true"], "parse": "xml"}),
                json!({"argv": ["true"], "env": {"KAPELLE_RUN": "x"}}),
                json!({"argv": ["true"], "env": {"A=B": "x"}}),
                json!({"argv": ["true"], "env": {"A": null}}),
                json!({"argv": ["true"], "okCodes": "0"}),
                json!({"argv": ["true"], "timeout": 1}),
            ],
        ),
        (
            "http",
            "request",
            &[
                json!({"url": url}),
                json!({"method": "BREW", "url": url}),
                json!({"method": "GET", "url": 1}),
                json!({"method": "GET", "url": url, "headers": {"a": ["b"]}}),
                json!({"method": "GET", "url": url, "query": {"a": {"b": 1}}}),
                json!({"method": "GET", "url": url, "expect": "200"}),
            ],
        ),
        (
            "analyzer",
            "rank",
            &[
                json!({"question": "x"}),
                json!({"documents": [{"url": "http://a.example/"}], "question": 1}),
                json!({"documents": "x", "question": "x"}),
                json!({"documents": [], "question": "x", "filters": {"colour": "red"}}),
                json!({"documents": [], "question": "x", "filters": {"publishedAfter": "soon"}}),
            ],
        ),
        (
            "aggregator",
            "report",
            &[
                json!({}),
                json!({"documents": [], "formats": ["pdf"]}),
                json!({"documents": [], "summary": 1}),
                json!({"documents": [], "questions": "x"}),
            ],
        ),
        (
            "guide-extractor",
            "extract",
            &[
                json!({"task": "x"}),
                json!({"url": 1}),
                json!({"url": url, "tasks": "x"}),
                json!({"text": "a", "markdown": "b"}),
                json!({"text": 1}),
            ],
        ),
        (
            "walkthrough-generator",
            "generate",
            &[
                json!({}),
                json!({"guide": {"title": "x"}}),
                json!({"guide": [{"n": 1}]}),
                json!({"guide": [], "page": {"links": [{"text": "x"}]}}),
            ],
        ),
        (
            "summarizer",
            "summarize",
            &[
                json!({}),
                json!({"text": "a", "documents": []}),
                json!({"text": "a", "sentences": 2, "ratio": 0.1}),
                json!({"text": 1}),
            ],
        ),
    ];
    for (name, action, inputs) in bad {
        for input in inputs {
            contract::refuses_as_invalid(&agent(name), action, input.clone()).await;
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_ends_within_the_grace() {
    let at_once = || async {};
    contract::ends_when_cancelled(&agent("echo"), "echo", json!({"delay": "1h"}), at_once()).await;
    let effects = json!({"effects": 3, "delay": "1h"});
    contract::ends_when_cancelled(&agent("echo"), "echo", effects, at_once()).await;

    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("begun");
    let script = format!("touch {}; sleep 1000", mark.display());
    let begun = eventually("the command", || mark.exists().then_some(()));
    contract::ends_when_cancelled(&agent("process"), "run", json!({"shell": script}), begun).await;

    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let asked = Arc::new(std::sync::Mutex::new(Some(asked)));
    let never = move || async move {
        asked.lock().unwrap().take().unwrap().send(()).unwrap();
        std::future::pending::<()>().await;
    };
    let server = serve(axum::Router::new().route("/", axum::routing::get(never))).await;
    let input = json!({"method": "GET", "url": server});
    let begun = async { was_asked.await.unwrap() };
    contract::ends_when_cancelled(&agent("http"), "request", input, begun).await;
}
