//! The engine in a world that goes wrong: nodes that crash and take over, appends that are refused or
//! of unknown end, agents that fail in every way, people who meddle. All from a seed.
//!
//! `KAPELLE_SIM_SEEDS` says how many seeds are lived through, `KAPELLE_SIM_SEED` names one, whose
//! trace is printed. The promises are checked by `model`; the planted bugs below show that it looks.

#![expect(clippy::unwrap_used, reason = "a simulation is a test")]

mod agents;
mod dice;
mod model;
mod node;
mod people;
mod plans;
mod world;

use std::collections::BTreeSet;

use world::{Hits, Outcome, World};

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

fn live(seed: u64, planted: Option<Planted>) -> Outcome {
    World::new(seed, planted, &plans::agents(), false).live()
}

fn seeds() -> u64 {
    std::env::var("KAPELLE_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
}

#[test]
fn every_promise_holds_in_every_seed() {
    if let Some(seed) = std::env::var("KAPELLE_SIM_SEED").ok().and_then(|n| n.parse().ok()) {
        let outcome = World::new(seed, None, &plans::agents(), true).live();
        assert_eq!(outcome.wrong, None);
        return;
    }
    let agents = plans::agents();
    let (mut hits, mut transitions, mut recoveries) = (Hits::new(), 0, 0);
    for seed in 0..seeds() {
        let outcome = World::new(seed, None, &agents, false).live();
        assert_eq!(outcome.wrong, None);
        assert!(outcome.runs >= 3 && outcome.transitions >= 200, "seed {seed} is too short");
        let crashes = |name: &str| outcome.hits.keys().any(|(fault, _)| fault.starts_with(name));
        assert!(crashes("crash"), "seed {seed} has no crash");
        recoveries += u64::from(crashes("crash_recovery"));
        transitions += outcome.transitions;
        for (cell, count) in outcome.hits {
            *hits.entry(cell).or_default() += count;
        }
    }
    print_table(&hits);
    print_line(&format!(
        "{} seeds, {transitions} transitions, {recoveries} with a crash in recovery",
        seeds()
    ));
    assert!(recoveries * 4 >= seeds(), "too few crashes in recovery");
}

#[test]
fn a_seed_is_lived_through_the_same_way_twice() {
    for seed in 0..20 {
        assert_eq!(live(seed, None).trace, live(seed, None).trace, "seed {seed}");
    }
}

/// Lives through seeds until the oracle finds the planted bug.
fn finds(planted: Planted, at_most: u64) {
    let found = (0..at_most).find_map(|seed| Some((seed, live(seed, Some(planted)).wrong?)));
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

/// How often each fault met each transition.
fn print_table(hits: &Hits) {
    let faults: BTreeSet<_> = hits.keys().map(|(fault, _)| *fault).collect();
    let kinds: BTreeSet<_> = hits.keys().map(|(_, kind)| *kind).collect();
    let mut header = format!("{:14}", "");
    kinds.iter().for_each(|kind| header += &format!(" {kind:>12}"));
    print_line(&header);
    for fault in faults {
        let mut line = format!("{fault:14}");
        for kind in &kinds {
            line += &format!(" {:>12}", hits.get(&(fault, *kind)).copied().unwrap_or(0));
        }
        print_line(&line);
    }
}
