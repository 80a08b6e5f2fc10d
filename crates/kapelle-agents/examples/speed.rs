//! How long the agents that work by rules take, from input to answer:
//!
//! `cargo run --profile quick -p kapelle-agents --example speed`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kapelle_agents::egress::Policy;
use kapelle_agents::{Options, built_in, contract, desk};
use kapelle_core::Json;
use serde_json::json;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ROUNDS: usize = 15;
const WORDS: [&str; 40] = [
    "server",
    "queue",
    "worker",
    "job",
    "port",
    "default",
    "timeout",
    "memory",
    "folder",
    "message",
    "retry",
    "failure",
    "client",
    "library",
    "setting",
    "network",
    "address",
    "backup",
    "version",
    "release",
    "the",
    "a",
    "of",
    "is",
    "and",
    "to",
    "in",
    "for",
    "with",
    "on",
    "starting",
    "waited",
    "connections",
    "slowly",
    "number",
    "keeps",
    "sends",
    "reads",
    "writes",
    "many",
];

fn main() -> Outcome {
    tokio::runtime::Builder::new_current_thread().build()?.block_on(measure())
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
async fn measure() -> Outcome {
    let launcher = PathBuf::from("none");
    let (egress, web) = (Policy::Operator, kapelle_agents::web::Settings::default());
    let agents = built_in(Options { launcher, kids: None, egress, web });
    // About 60 words a passage; one document of 100 KiB; a dozen pages as the example reads them.
    let passages: Vec<Json> = (0..100)
        .map(|n| json!({"source": format!("{n}"), "text": text(n, 100, 6), "language": "en"}))
        .collect();
    let long = text(7, 1, 1000);
    let pages: Vec<Json> =
        (0..12).map(|n| json!({"source": format!("{n}"), "text": text(n, 10, 15)})).collect();
    let question = "which port does the server use by default";
    let cases = [
        ("analyzer", "rank", json!({"documents": passages, "question": question})),
        ("summarizer", "summarize", json!({"text": long, "question": question})),
        ("aggregator", "report", json!({"documents": pages, "question": question})),
        ("guide-extractor", "extract", json!({"text": long})),
    ];
    for (name, action, input) in cases {
        let agent =
            agents.iter().find(|agent| *agent.card().name == *name).ok_or("no such agent")?;
        let mut took = Vec::new();
        let mut seen = Json::Null;
        for _ in 0..ROUNDS {
            let desk = desk::ScratchDesk::new()?;
            let call = contract::call(action, input.clone(), "/");
            let since = Instant::now();
            seen = agent.perform(call, &desk).await?.value;
            took.push(since.elapsed());
        }
        took.sort();
        let (best, middle): (Duration, Duration) = (took[0], took[ROUNDS / 2]);
        let seen = [&seen["considered"], &seen["of"]].map(ToString::to_string).join(" ");
        let bytes = input.to_string().len();
        println!("{name}.{action}: {bytes} bytes, best {best:?}, median {middle:?}, saw {seen}");
    }
    Ok(())
}

/// Prose of a seed: sections with a heading, each of some sentences of ten words.
fn text(seed: usize, sections: usize, sentences: usize) -> String {
    let mut state = seed as u64 + 1;
    let mut next = |most: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % most
    };
    let mut text = String::new();
    for section in 0..sections {
        text.push_str(&format!("# Section {section} on {}\n\n", WORDS[next(20)]));
        for _ in 0..sentences {
            text.push_str("Every ");
            for _ in 0..8 + next(6) {
                // Some words are rare, as in real texts.
                match next(8) {
                    0 => text.push_str(&format!("term{} ", next(3000))),
                    _ => text.push_str(&format!("{} ", WORDS[next(WORDS.len())])),
                }
            }
            text.push_str(&format!("{} times.\n", next(100)));
        }
        text.push('\n');
    }
    text
}
