//! How fast pages are read: `cargo run --profile quick -p kapelle-agents --example read [PAGES]`
//!
//! Pages of 100 KiB in a folder are read by the `web` agent as a step would do it, and the time that
//! the processors spent is told.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kapelle_agents::egress::Policy;
use kapelle_agents::web::{Settings, Web};
use kapelle_agents::{contract, desk::ScratchDesk};
use kapelle_core::port::Agent;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

const PAGE: usize = 100 << 10;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this is what it is for")]
async fn main() -> Outcome {
    let pages = std::env::args().nth(1).map_or(Ok(1_000), |pages| pages.parse::<usize>())?;
    let folder = tempfile::tempdir()?;
    for n in 0..64 {
        std::fs::write(folder.path().join(format!("{n}.html")), page(n))?;
    }
    let agent: Arc<dyn Agent> = Arc::new(Web::new(Policy::Operator, Settings::default()));
    let (wall, cpu) = (Instant::now(), cpu());
    let mut read = 0;
    while read < pages {
        read += step(&agent, folder.path(), 64.min(pages - read)).await?;
    }
    let (wall, cpu) = (wall.elapsed(), self::cpu() - cpu);
    let rate = |time: Duration| read as f64 / time.as_secs_f64();
    println!("{read} pages of {PAGE} bytes in {wall:.2?}, {cpu:.2?} of processors");
    println!("{:.0} pages a second, {:.0} a second and core", rate(wall), rate(cpu));
    Ok(())
}

async fn step(
    agent: &Arc<dyn Agent>,
    folder: &Path,
    pages: usize,
) -> Result<usize, Box<dyn std::error::Error>> {
    let urls: Vec<_> = (0..pages).map(|n| format!("{n}.html")).collect();
    let call = contract::call("read", json!({ "urls": urls }), &folder.to_string_lossy());
    let answer = agent.perform(call, &ScratchDesk::new()?).await?;
    Ok(answer.value["pages"].as_array().map_or(0, Vec::len))
}

/// What this process has spent of all processors.
fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or_default())
}

/// A page as documentation is: clutter, prose, lists, code, tables.
fn page(n: usize) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Guide {n} - Docs</title>\
         <style>body{{margin:0}}</style><script>var tracker = {n};</script></head><body>\
         <nav class=navbar><ul>"
    );
    for link in 0..60 {
        write!(html, "<li class='nav-item'><a href='/docs/{link}'>Entry number {link}</a></li>")
            .ok();
    }
    html.push_str("</ul></nav><div id=wrap class='container'><div class=content><h1>Guide</h1>");
    let mut section = 0;
    while html.len() < PAGE - 64 {
        section += 1;
        write!(
            html,
            "<h2 id=s{section}>Section {section}</h2><p class='body-text'>The <em>first</em> thing, \
             having read the manual, is to set <code>limit={section}</code> and, after some time, to \
             look at <a href='../ref/{section}.html' class=ref>the reference</a>, which says why the \
             number is not higher.</p><p>Another paragraph follows, with commas, more commas and \
             words that go on for a while, as prose does when nobody stops it.</p><ul><li>First \
             point of {section}</li><li>Second <b>point</b></li></ul><pre><code \
             class=language-rust>fn main() {{ run({section}); }}</code></pre><table><tr><th>Key\
             </th><th>Value</th></tr><tr><td>limit</td><td>{section}</td></tr></table>"
        )
        .ok();
    }
    html.push_str("</div><div class=sidebar><p>Subscribe</p></div></div></body></html>");
    html
}
