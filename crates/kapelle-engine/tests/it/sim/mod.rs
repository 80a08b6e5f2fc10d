//! The engine in a world that goes wrong: nodes that crash and take over, appends that are refused or
//! of unknown end, agents that fail in every way, people who meddle. All from a seed.
//!
//! `KAPELLE_SIM_SEEDS` says how many seeds are lived through, `KAPELLE_SIM_SEED` names one, whose
//! trace is printed. The promises are checked by `model`; the planted bugs below show that it looks.

#![expect(clippy::unwrap_used, reason = "a simulation is a test")]

mod agents;
mod campaign;
mod dice;
mod hits;
mod model;
mod node;
mod people;
mod plans;
mod queue;
mod world;

use plans::Stock;
use world::{Outcome, World};

/// A bug put in on purpose: the oracle must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    /// The journal takes appends of old owners.
    NoEpochs,
    /// A late answer counts for the attempt that is under way.
    NoFence,
    /// Agents make calls again that are recorded.
    NoMemo,
    /// The shell answers and acts on an append before it is settled.
    ActBeforeCommit,
    /// An append of unknown end is taken as refused.
    UnknownIsRefused,
}

/// With so many seeds every fault must have met every transition.
const FULL: u64 = 1_000_000;
/// So often.
const MET: u64 = 100;

fn live(seed: u64, planted: Option<Planted>, stock: &Stock) -> Outcome {
    World::new(seed, planted, stock, false).live()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

#[test]
fn every_promise_holds_in_every_seed() {
    if let Some(seed) = number("KAPELLE_SIM_SEED") {
        let outcome = World::new(seed, None, &Stock::of_seed(seed), true).live();
        assert_eq!(outcome.wrong, None);
        return;
    }
    let seeds = number("KAPELLE_SIM_SEEDS").unwrap_or(2_000);
    let all = campaign::run(seeds);
    print_line(&all.hits.table());
    print_line(&format!(
        "{} seeds ({} twice), {} runs, {} transitions, {} seeds with a crash in recovery",
        all.seeds, all.twice, all.runs, all.transitions, all.recoveries
    ));
    assert_eq!(all.wrong, None, "the seed, and what is wrong with it");
    assert!(all.recoveries * 4 >= seeds, "too few crashes in recovery");
    let least = if seeds < FULL { 0 } else { MET };
    assert_eq!(all.hits.wrong(least), Vec::<String>::new(), "what the faults met");
}

#[test]
fn a_seed_is_lived_through_the_same_way_twice() {
    let stock = Stock::of_seed(0);
    for seed in 0..20 {
        assert_eq!(live(seed, None, &stock).trace, live(seed, None, &stock).trace, "seed {seed}");
    }
    assert_ne!(live(0, None, &stock).trace, live(1, None, &stock).trace);
}

/// Lives through seeds until the oracle finds the planted bug.
fn finds(planted: Planted, at_most: u64) {
    let stock = Stock::of_seed(0);
    let found =
        (0..at_most).find_map(|seed| Some((seed, live(seed, Some(planted), &stock).wrong?)));
    let (seed, wrong) = found.expect("the oracle does not find it");
    print_line(&format!("{planted:?} is found after {} seeds: {wrong}", seed + 1));
}

#[test]
fn a_journal_that_ignores_epochs_is_found() {
    finds(Planted::NoEpochs, 50);
}

#[test]
fn a_world_without_the_fence_is_found() {
    finds(Planted::NoFence, 50);
}

#[test]
fn agents_that_ignore_the_memo_are_found() {
    finds(Planted::NoMemo, 50);
}

#[test]
fn acting_before_the_commit_is_found() {
    finds(Planted::ActBeforeCommit, 50);
}

#[test]
fn taking_unknown_for_refused_is_found() {
    finds(Planted::UnknownIsRefused, 50);
}

#[expect(clippy::print_stdout, reason = "what was covered is to be read")]
fn print_line(line: &str) {
    println!("{line}");
}
