//! How fast the agents that work without a model are, called as a step calls them.
//!
//! A step here is a page that is read, or a call; `per_core` tells of the time that the processors
//! spent. Texts and pages are made from numbers: the same ones each time.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use kapelle_agents::egress::Policy;
use kapelle_agents::{Memory, Options, built_in, contract, desk::ScratchDesk, memory, web};
use kapelle_core::Json;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::workload::Workload;
use super::{Measured, number};
use crate::cli::exit::{Exit, Stop};

/// How long a page is, and the text that is summarized, in bytes.
const TEXT: usize = 100 << 10;
/// How many pages there are, and are read by one call.
const PAGES: usize = 50;
/// How many documents are ranked, of how many passages each.
const DOCUMENTS: usize = 100;
const PASSAGES: usize = 100;
const QUESTION: &str = "which port does the server use by default";
const WORDS: &str = "server queue worker job port default timeout memory folder message retry \
    failure client library setting network address backup version release the a of is and to in \
    for with on starting waited connections slowly number keeps sends reads writes many";

pub(super) async fn measure(
    folder: Option<&Path>,
    workload: Workload,
    at_least: Duration,
) -> Result<Measured, Stop> {
    let root = std::path::absolute(folder.unwrap_or(Path::new("/")))?;
    let (name, agent, action, input, steps) = match workload {
        Workload::Rank => ("rank", "analyzer", "rank", ranked(), 1),
        Workload::Summarize => ("summarize", "summarizer", "summarize", long(), 1),
        _ => ("read", "web", "read", pages(folder)?, PAGES),
    };
    let agents = built_in(Options {
        launcher: "none".into(),
        kids: None,
        egress: Policy::Operator,
        web: web::Settings::default(),
        memory: Memory::new(memory::Settings::default()).into(),
        models: std::sync::Arc::default(),
        tools: std::sync::Arc::default(),
    });
    let agent = agents.iter().find(|found| *found.card().name == *agent);
    let agent = agent.expect("it is built in");
    let (began, cpu_before, mut times) = (Instant::now(), cpu(), Vec::new());
    while times.is_empty() || began.elapsed() < at_least {
        let desk = ScratchDesk::new()?;
        let call = contract::call(action, input.clone(), &root.to_string_lossy());
        let since = Instant::now();
        let done = agent.perform(call, &desk).await;
        done.map_err(|failure| Stop::new(Exit::Failed, failure.message.to_string()))?;
        times.push(since.elapsed());
    }
    let (seconds, spent) = (began.elapsed().as_secs_f64(), (cpu() - cpu_before).as_secs_f64());
    let (runs, steps) = (times.len(), times.len() * steps);
    let per_core = Some(number(steps) / spent.max(f64::MIN_POSITIVE));
    Ok(Measured { runs, per_core, ..Measured::new(name, steps, seconds, times) })
}

/// What this process has spent of all processors.
fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or_default())
}

fn ranked() -> Json {
    let document =
        |n: usize| json!({"source": n.to_string(), "text": text(n, PASSAGES, 6), "language": "en"});
    let documents: Vec<Json> = (0..DOCUMENTS).map(document).collect();
    json!({"documents": documents, "question": QUESTION})
}

fn long() -> Json {
    let mut text = text(7, 1, 2_000);
    text.truncate(TEXT);
    json!({"text": text, "question": QUESTION})
}

/// Pages in files of the folder.
fn pages(folder: Option<&Path>) -> Result<Json, Stop> {
    let Some(folder) = folder else {
        return Err(Stop::usage("`read` reads files: give a folder as the store"));
    };
    let urls = (0..PAGES).map(|n| {
        let name = format!("{n}.html");
        std::fs::write(folder.join(&name), page(n))?;
        Ok(name)
    });
    Ok(json!({ "urls": urls.collect::<std::io::Result<Vec<_>>>()? }))
}

/// Prose of a seed: sections with a heading, each of some sentences of about ten words.
fn text(seed: usize, sections: usize, sentences: usize) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut state = seed as u64 + 1;
    let mut next = |most: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % most
    };
    let mut text = String::new();
    for section in 0..sections {
        write!(text, "# Section {section} on {}\n\n", words[next(20)]).expect("it is a string");
        for _ in 0..sentences {
            text.push_str("Every ");
            for _ in 0..8 + next(6) {
                // Some words are rare, as in real texts.
                match next(8) {
                    0 => write!(text, "term{} ", next(3_000)).expect("it is a string"),
                    _ => {
                        text.push_str(words[next(words.len())]);
                        text.push(' ');
                    }
                }
            }
            writeln!(text, "{} times.", next(100)).expect("it is a string");
        }
        text.push('\n');
    }
    text
}

/// A page as documentation is: clutter, prose, lists, code, tables.
fn page(n: usize) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Guide {n} - Docs</title>\
         <style>body{{margin:0}}</style><script>var tracker = {n};</script></head><body>\
         <nav class=navbar><ul>"
    );
    for link in 0..60 {
        html +=
            &format!("<li class='nav-item'><a href='/docs/{link}'>Entry number {link}</a></li>");
    }
    html += "</ul></nav><div id=wrap class='container'><div class=content><h1>Guide</h1>";
    let mut section = 0;
    while html.len() < TEXT - 64 {
        section += 1;
        html += &format!(
            "<h2 id=s{section}>Section {section}</h2><p class='body-text'>The <em>first</em> thing, \
             having read the manual, is to set <code>limit={section}</code> and, after some time, to \
             look at <a href='../ref/{section}.html' class=ref>the reference</a>, which says why the \
             number is not higher.</p><p>Another paragraph follows, with commas, more commas and \
             words that go on for a while, as prose does when nobody stops it.</p><ul><li>First \
             point of {section}</li><li>Second <b>point</b></li></ul><pre><code \
             class=language-rust>fn main() {{ run({section}); }}</code></pre><table><tr><th>Key\
             </th><th>Value</th></tr><tr><td>limit</td><td>{section}</td></tr></table>"
        );
    }
    html + "</div><div class=sidebar><p>Subscribe</p></div></div></body></html>"
}
