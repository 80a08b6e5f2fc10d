//! How long it takes to store 10,000 entries, and to find some among them:
//!
//! `cargo run --profile quick -p kapelle-agents --example remember [WORDS-OF-AN-ENTRY]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use kapelle_agents::contract;
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::memory::{Memory, Settings};
use kapelle_core::Json;
use kapelle_core::port::Agent;
use serde_json::json;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ENTRIES: u64 = 10_000;
const AT_ONCE: u64 = 250;
const SEARCHES: u64 = 2_000;
/// There are two to the power of this many different words, the first ones the most common, as in real texts.
const WORDS_LOG2: u64 = 15;

fn main() -> Outcome {
    tokio::runtime::Builder::new_current_thread().build()?.block_on(measure())
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
async fn measure() -> Outcome {
    let words = std::env::args().nth(1).map_or(Ok(20), |words| words.parse())?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("memory.db");
    let settings = Settings { file: Some(file.clone()), ..Settings::default() };
    let agent: Arc<dyn Agent> = Arc::new(Memory::new(settings));
    let mut dice = Dice(1);

    let since = Instant::now();
    for call in 0..ENTRIES / AT_ONCE {
        let entries: Vec<_> =
            (0..AT_ONCE).map(|_| json!({"text": dice.text(words), "language": "en"})).collect();
        perform(&agent, "store", call, json!({"entries": entries})).await?;
    }
    let (took, size) = (since.elapsed(), std::fs::metadata(&file)?.len() >> 10);
    println!("stored {ENTRIES} entries of {words} words in {took:?}: {size} KiB");

    let (mut took, mut worked, mut found) = (Vec::new(), Vec::new(), 0);
    for search in 0..SEARCHES {
        let query = dice.text(1 + usize::try_from(search % 8)?);
        let begin = processor();
        let (answer, time) = perform(&agent, "retrieve", search, json!({"query": query})).await?;
        worked.push(processor() - begin);
        took.push(time);
        found += answer["entries"].as_array().map_or(0, Vec::len);
    }
    println!("{SEARCHES} searches of 1 to 8 words, found {found}");
    println!("by the clock      {}", spread(took));
    println!("of the processor  {}", spread(worked));
    Ok(())
}

/// What this process had of the processor: on a busy machine the clock tells of the others.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn spread(mut took: Vec<Duration>) -> String {
    took.sort();
    let at = |percent: usize| took[percent * (took.len() - 1) / 100];
    format!("p50 {:?}, p99 {:?}, worst {:?}", at(50), at(99), at(100))
}

async fn perform(
    agent: &Arc<dyn Agent>,
    action: &str,
    step: u64,
    input: Json,
) -> Result<(Json, Duration), Box<dyn std::error::Error>> {
    let desk = ScratchDesk::new()?;
    let mut call = contract::call(action, input, "/");
    call.key = format!("run/{step}/0/1").into();
    let since = Instant::now();
    let answer = agent.perform(call, &desk).await?;
    Ok((answer.value, since.elapsed()))
}

/// Numbers of a seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    /// Words as common as in prose: one of the first ten as often as one of the next hundred.
    fn text(&mut self, words: usize) -> String {
        let mut next = || {
            // The first few are the small words, which are not searched for.
            let first = 1 << (4 + self.throw(WORDS_LOG2 - 4));
            word(first + self.throw(first))
        };
        let words: Vec<_> = (0..words).map(|_| next()).collect();
        words.join(" ")
    }
}

/// The n-th word of a language of syllables.
fn word(n: u64) -> String {
    const SYLLABLES: [&str; 16] = [
        "ba", "con", "der", "fi", "gra", "lo", "men", "nu", "per", "qui", "ro", "sta", "ti", "val",
        "wer", "zo",
    ];
    let mut n = n.wrapping_mul(2_654_435_761) % 65_536 + 16;
    let mut word = String::new();
    while n > 0 {
        word.push_str(SYLLABLES[usize::try_from(n % 16).unwrap_or(0)]);
        n /= 16;
    }
    word
}
