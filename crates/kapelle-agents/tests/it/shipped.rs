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
        ("Which port does the broker listen on?", "Brokers accept clients on port 7400"),
        ("How long are messages kept?", "Messages are kept for "),
        ("How long are messages kept in version 3?", "Messages are kept for "),
        ("How large can a message be?", "A message can have a size of at most "),
        ("Does Tern support Windows?", "The tools and the clients do."),
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

/// The lines of a page that are headings, and where each begins in its text.
fn headings(page: &Json) -> Vec<(usize, &str)> {
    let (text, mut from, mut found) = (page["text"].as_str().unwrap(), 0, Vec::new());
    for heading in page["headings"].as_array().unwrap() {
        let heading = heading["text"].as_str().unwrap();
        let at = text[from..].find(&format!("{heading}\n"));
        let at = from + at.unwrap_or_else(|| panic!("{heading} is no line"));
        from = at + heading.len();
        found.push((at, heading));
    }
    found
}

#[tokio::test]
async fn a_question_that_a_heading_asks_is_answered_from_its_section() {
    let pages = pages().await;
    let all = pages.as_array().unwrap();
    let named = |name: &str| all.iter().find(|page| page["url"].as_str().unwrap().ends_with(name));
    let asked = headings(named("/faq.html").unwrap()).into_iter().map(|(_, heading)| heading);
    let asked: Vec<&str> = asked.filter(|heading| heading.ends_with('?')).collect();
    assert!(asked.len() > 20, "{asked:?}");
    let mut missed = Vec::new();
    for question in asked {
        let input = json!({"documents": pages, "question": question, "formats": ["json"]});
        let report = perform("aggregator", "report", input).await.value;
        if std::env::var("SHOW").is_ok() {
            println!("{question}\n{:#}", report["answer"]);
        }
        let first = &report["answer"][0];
        if question == "How much memory does a broker need?" {
            // Its section tells no number.
            assert_eq!(first["text"], "A broker needs at least 2 GB of memory.");
            continue;
        }
        let page = all.iter().find(|page| page["url"] == first["source"]);
        let start = first["start"].as_u64().unwrap_or_default();
        let above = page.and_then(|page| {
            let before = |(at, _): &(usize, &str)| *at as u64 <= start;
            headings(page).into_iter().rfind(before)
        });
        if above.is_none_or(|(_, heading)| heading != question) {
            missed.push(format!("{question} {}", first["text"]));
        }
    }
    assert_eq!(missed, [] as [String; 0]);
}
