//! `kill -9` at any moment, and nothing is lost.
//!
//! `KAPELLE_KILL_ROUNDS` says how many rounds, `KAPELLE_KILL_SEED` which ones.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::Value as Json;

use crate::kill_check::{Journal, check};
use crate::kill_node::kapelle;
use crate::kill_round::{Cast, Kill, Round};
use crate::kill_server::Server;

/// How many rounds go on at once.
const AT_ONCE: usize = 2;

#[test]
fn two_hundred_kills_lose_nothing_and_repeat_nothing() {
    let rounds = number("KAPELLE_KILL_ROUNDS", 200);
    let seed = number("KAPELLE_KILL_SEED", 1);
    let begun = Instant::now();
    let stage = Stage::new();
    let (next, landed) = (AtomicU64::new(0), Mutex::new(Landed::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= rounds {
                        return;
                    }
                    let played = stage.play(&kapelle(), round, seed);
                    let wrong = played.wrong.join("\n");
                    assert!(wrong.is_empty(), "seed {seed}, round {round}:\n{wrong}");
                    landed.lock().unwrap().add(&played);
                }
            });
        }
    });
    let landed = landed.into_inner().unwrap();
    say(&format!("{rounds} rounds of seed {seed} in {:.0?}\n{landed}", begun.elapsed()));
    let all = landed.all();
    if all >= 100 {
        assert!(landed.between() * 100 >= all * 80, "too few kills between start and end");
        assert!(landed.recovering * 100 >= all * 20, "too few kills during recovery");
    }
}

/// The control: were something acknowledged before it is on disk, the same checks would tell.
#[test]
fn an_acknowledgement_before_the_commit_is_found_out() {
    let stage = Stage::new();
    let hasty = Path::new(&kapelle()).with_file_name("examples").join("hasty");
    assert!(hasty.is_file(), "build the examples first: {}", hasty.display());
    let lost = |wrong: &String| wrong.starts_with("lost acknowledgement");
    for round in 0..20 {
        // Alone: a process of the real binary goes on.
        let played = stage.play(&hasty, 4 * round, 1);
        if played.wrong.iter().any(lost) {
            say(&format!("found out in round {round}: {} findings", played.wrong.len()));
            return;
        }
    }
    panic!("20 kills of a store that is not durable showed no loss");
}

/// What all rounds share.
struct Stage {
    server: Server,
    output: Json,
    events: u64,
}

/// A round that is over.
struct Played {
    wrong: Vec<String>,
    moments: Vec<Moment>,
}

impl Stage {
    fn new() -> Self {
        let server = Server::start();
        let (place, told) = Round::new(&kapelle(), &server, 0).undisturbed();
        let journal = Journal::read(&place, &told[0].id);
        let output = journal.output().clone();
        assert!(
            output["gather"].as_str().is_some_and(|text| text.contains("done: p8")),
            "{output}"
        );
        let wrong = check(&place, &server, &told[0], &journal, &output);
        assert!(wrong.is_empty(), "undisturbed: {wrong:#?}");
        let events = journal.events.len() as u64;
        Self { server, output, events }
    }

    fn play(&self, first: &Path, round: u64, seed: u64) -> Played {
        let own = Round::new(first, &self.server, seed << 32 | round);
        let (place, told) = own.play(Cast::of(round), self.events);
        let mut played = Played { wrong: Vec::new(), moments: Vec::new() };
        for told in &told {
            let journal = Journal::read(&place, &told.id);
            played.wrong.extend(check(&place, &self.server, told, &journal, &self.output));
            played.moments.extend(told.kills.iter().map(|kill| Moment::of(kill, &journal)));
        }
        if !played.wrong.is_empty() {
            played.wrong.push(format!("the processes said:\n{}", place.read("stderr")));
        }
        played
    }
}

/// When a kill came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    BeforeTheFirstStart,
    Working,
    /// The process had not begun or done anything yet since it took over.
    Recovering,
    AfterTheEnd,
}

struct Moment {
    phase: Phase,
    /// Which tenth of the run's events were there.
    tenth: usize,
}

impl Moment {
    fn of(kill: &Kill, journal: &Journal) -> Self {
        let at = |event: &Json| {
            let at: jiff::Timestamp = event["at"].as_str().unwrap().parse().unwrap();
            u64::try_from(at.as_microsecond()).unwrap()
        };
        let events = &journal.events;
        let before = events.iter().filter(|event| at(event) <= kill.at).count();
        let is_work = |event: &&Json| {
            let kind = event["type"].as_str().unwrap();
            matches!(kind, "step_started" | "step_completed" | "effect_recorded")
        };
        let mut work = events.iter().filter(is_work).map(at);
        let phase = if before == events.len() {
            Phase::AfterTheEnd
        } else if work.clone().all(|at| at > kill.at) {
            Phase::BeforeTheFirstStart
        } else if work.any(|at| at > kill.since && at <= kill.at) {
            Phase::Working
        } else {
            Phase::Recovering
        };
        Self { phase, tenth: (before * 10 / events.len()).min(9) }
    }
}

/// Where kills landed.
#[derive(Default)]
struct Landed {
    before: u64,
    after: u64,
    working: u64,
    recovering: u64,
    working_tenths: [u64; 10],
    recovering_tenths: [u64; 10],
}

impl Landed {
    fn add(&mut self, played: &Played) {
        for Moment { phase, tenth } in &played.moments {
            match phase {
                Phase::BeforeTheFirstStart => self.before += 1,
                Phase::AfterTheEnd => self.after += 1,
                Phase::Working => {
                    self.working += 1;
                    self.working_tenths[*tenth] += 1;
                }
                Phase::Recovering => {
                    self.recovering += 1;
                    self.recovering_tenths[*tenth] += 1;
                }
            }
        }
    }

    fn between(&self) -> u64 {
        self.working + self.recovering
    }

    fn all(&self) -> u64 {
        self.before + self.between() + self.after
    }
}

impl std::fmt::Display for Landed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} kills: {} before the first start, {} working, {} recovering, {} after the end",
            self.all(),
            self.before,
            self.working,
            self.recovering,
            self.after
        )?;
        writeln!(f, "events there | working | recovering")?;
        for tenth in 0..10 {
            let (working, recovering) = (self.working_tenths[tenth], self.recovering_tenths[tenth]);
            let mut bar = String::new();
            write!(bar, "{}{}", "#".repeat(count(working)), "+".repeat(count(recovering)))?;
            writeln!(f, "{:>8} % .. | {working:>7} | {recovering:>10} {bar}", tenth * 10)?;
        }
        Ok(())
    }
}

fn count(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "what the test is to show")]
fn say(text: &str) {
    println!("{text}");
}
