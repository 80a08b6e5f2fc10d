//! The pages that ship with the example `research`, asked other things than its own question.

use kapelle_agents::contract;
use kapelle_agents::desk::ScratchDesk;
use kapelle_core::Json;
use serde_json::json;

use crate::rules::{agent, perform};

const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/research/pages");

/// The pages as `web` reads them.
async fn pages() -> Json {
    let mut names: Vec<String> = std::fs::read_dir(PAGES)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let call = contract::call("read", json!({ "urls": names }), PAGES);
    let read = agent("web").perform(call, &ScratchDesk::new().unwrap()).await.unwrap();
    read.value["pages"].clone()
}

#[tokio::test]
async fn the_first_line_answers_what_is_asked_of_the_pages() {
    let pages = pages().await;
    let wanted = [
        ("How long are messages kept?", "Messages are kept for "),
        ("How do I take a backup of the metadata?", "made with ternctl meta export"),
        ("How do I install Tern on Debian?", "There are packages for Debian"),
        (
            "How do I upgrade a Tern cluster from version 3 to version 4 without losing messages?",
            "upgrade one broker at a time",
        ),
    ];
    for (question, wanted) in wanted {
        let input = json!({"documents": pages, "question": question, "formats": ["json"]});
        let report = perform("aggregator", "report", input).await.value;
        if std::env::var("SHOW").is_ok() {
            println!("{question}\n{:#}", report["answer"]);
        }
        let first = report["answer"][0]["text"].as_str().unwrap_or_default();
        assert!(first.contains(wanted), "{question}\n{first}");
    }
}
