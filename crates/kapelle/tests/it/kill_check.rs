//! What must be true of a run after all the kills, checked against all that was said and done.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::kill_node::{Place, is_alive};
use crate::kill_round::Told;
use crate::kill_server::Server;

/// A run as its journal has it at the end.
pub(crate) struct Journal {
    lines: Vec<String>,
    pub(crate) events: Vec<Json>,
}

/// A call that was made: of a process or of the server.
struct Made {
    step: String,
    attempt: u64,
    key: String,
}

impl Journal {
    pub(crate) fn read(place: &Place, run: &str) -> Self {
        Self::new(place.lines_of(&["--store", "store", "runs", "events", run, "--json"]))
    }

    pub(crate) fn new(lines: Vec<String>) -> Self {
        let events = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { lines, events }
    }

    /// What the run gave, without what depends on its id and its attempts.
    pub(crate) fn output(&self) -> &Json {
        &self.last()["output"]["same"]
    }

    pub(crate) fn last(&self) -> &Json {
        self.events.last().unwrap()
    }

    pub(crate) fn of<'a>(&'a self, kind: &'static str) -> impl Iterator<Item = &'a Json> {
        self.events.iter().filter(move |event| event["type"] == kind)
    }
}

/// All that is wrong with a run.
pub(crate) fn check(
    place: &Place,
    server: &Server,
    told: &Told,
    journal: &Journal,
    output: &Json,
) -> Vec<String> {
    let mut wrong = Vec::new();
    check_kept(told, journal, &mut wrong);
    let decided = journal.of("approval_decided").count();
    if decided != 1 {
        wrong.push(format!("lost or repeated approval: {decided}, told: {}", told.approved));
    }
    check_steps(told, journal, &mut wrong);
    check_effects(journal, &mut wrong);
    let last = journal.last();
    if last["verdict"] != "completed" || journal.output() != output {
        wrong.push(format!("it ended otherwise: {last}\ninstead of {output}"));
    }
    let (ledger, pids) = ledger(place, &told.id);
    check_calls(&ledger, journal, &mut wrong);
    let hits = server.hits(&told.id).into_iter().map(|hit| Made {
        step: hit.key.split('/').nth(1).unwrap().to_owned(),
        attempt: hit.attempt.into(),
        key: hit.key,
    });
    check_calls(&hits.collect::<Vec<_>>(), journal, &mut wrong);
    for pid in pids.into_iter().filter(|pid| is_alive(*pid)) {
        wrong.push(format!("process {pid} of a step lives"));
    }
    wrong
}

/// The journal has no gap, and whatever was said is in it, byte for byte. True at any moment.
pub(crate) fn check_kept(told: &Told, journal: &Journal, wrong: &mut Vec<String>) {
    for (seq, event) in (1_u64..).zip(&journal.events) {
        if event["seq"] != seq {
            wrong.push(format!("event {seq} is {event}"));
        }
    }
    for line in &told.lines {
        let Some(seq) = line.json["seq"].as_u64() else { continue };
        let kept = usize::try_from(seq - 1).ok().and_then(|index| journal.lines.get(index));
        if kept != Some(&line.text) {
            wrong.push(format!("lost acknowledgement: {}\nthe journal has {kept:?}", line.text));
        }
    }
    if told.approved && journal.of("approval_decided").count() == 0 {
        wrong.push("lost acknowledgement: an approval".to_owned());
    }
}

/// Each step is completed once, nothing of it happens afterwards, and its attempts are those that
/// kills and definite failures explain.
pub(crate) fn check_steps(told: &Told, journal: &Journal, wrong: &mut Vec<String>) {
    let mut started = BTreeMap::<&str, u64>::new();
    let mut retried = BTreeMap::<&str, u64>::new();
    let mut completed = BTreeSet::<&str>::new();
    for event in &journal.events {
        let Some(step) = event["step"].as_str() else { continue };
        if completed.contains(step) {
            wrong.push(format!("after the end of the step: {event}"));
        }
        match event["type"].as_str().unwrap() {
            "step_started" => {
                let before = started.entry(step).or_default();
                *before += 1;
                if event["attempt"] != *before {
                    wrong.push(format!("attempt {before} is {event}"));
                }
            }
            "step_retrying" => {
                let failure = &event["failure"];
                let told_to = step == "h3" && failure["code"] == "http_503";
                if failure["kind"] != "lost" && !told_to {
                    wrong.push(format!("an attempt failed by itself: {event}"));
                }
                *retried.entry(step).or_default() += u64::from(told_to);
            }
            "step_completed" => {
                completed.insert(step);
            }
            "step_failed" | "step_skipped" | "step_blocked" => wrong.push(event.to_string()),
            _ => {}
        }
    }
    let kills = told.kills.len() as u64;
    for (step, attempts) in started {
        let definite = retried.get(step).copied().unwrap_or(0);
        if attempts > kills + 1 + definite {
            wrong.push(format!("{attempts} attempts of `{step}` in {kills} kills"));
        }
        if !completed.contains(step) {
            wrong.push(format!("`{step}` has no end"));
        }
        if step == "h3" && definite != 1 {
            wrong.push(format!("`h3` failed {definite} times"));
        }
    }
}

/// Each effect is recorded once, and what was recorded is what the agent got in its last attempt.
fn check_effects(journal: &Journal, wrong: &mut Vec<String>) {
    let recorded: Vec<_> = journal.of("effect_recorded").collect();
    let output = journal.last()["output"]["effects"].as_array();
    if recorded.len() != 12 || output.is_none_or(|output| output.len() != 12) {
        wrong.push(format!("{} effects recorded, {output:?} in the output", recorded.len()));
        return;
    }
    for ((n, event), seen) in (1_u64..).zip(recorded).zip(output.into_iter().flatten()) {
        let key_ends = format!("/many/{n}/0");
        let same_key = seen["key"].as_str().is_some_and(|key| key.ends_with(&key_ends));
        let seen_is_recorded = seen["effect"] == n && seen["attempt"] == event["attempt"];
        if event["ordinal"] != n || !seen_is_recorded || !same_key {
            wrong.push(format!("effect {n} was recorded as {event} and seen as {seen}"));
        }
    }
}

/// Each call was made by an attempt that was on disk before, once, and under the step's key.
fn check_calls(made: &[Made], journal: &Journal, wrong: &mut Vec<String>) {
    let mut once = BTreeSet::new();
    let mut keys = BTreeMap::<&str, BTreeSet<&str>>::new();
    for Made { step, attempt, key } in made {
        if !once.insert((step, attempt)) {
            wrong.push(format!("attempt {attempt} of `{step}` was made twice"));
        }
        let is_its = |event: &Json| event["step"] == **step && event["attempt"] == *attempt;
        if !journal.of("step_started").any(is_its) {
            wrong.push(format!("attempt {attempt} of `{step}` is not in the journal"));
        }
        let ended = |kind| journal.of(kind).any(is_its);
        if !ended("step_completed") && !ended("step_retrying") {
            wrong.push(format!("attempt {attempt} of `{step}` has no end"));
        }
        keys.entry(step).or_default().insert(key);
    }
    for (step, keys) in keys {
        // The one definite failure, of `h3`, begins a new generation.
        let generations = if step == "h3" { 2 } else { 1 };
        if keys.len() != generations {
            wrong.push(format!("`{step}` was called with the keys {keys:?}"));
        }
    }
    for event in journal.of("step_completed") {
        let (step, attempt) = (event["step"].as_str().unwrap(), event["attempt"].as_u64());
        let of_step = |made: &&Made| made.step == step;
        let last = made.iter().filter(of_step).map(|made| made.attempt).max();
        if last.is_some() && last != attempt {
            wrong.push(format!("`{step}` was called in {last:?}, completed in {attempt:?}"));
        }
    }
}

/// What the processes of a run wrote, and their ids.
fn ledger(place: &Place, run: &str) -> (Vec<Made>, Vec<u32>) {
    let text = place.read("ledger");
    let mine = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mine = mine.filter(|words| words[2].starts_with(run));
    let made = |words: Vec<&str>| {
        let [step, attempt, key, pid] = words[..] else { panic!("a line of a ledger: {words:?}") };
        let attempt = attempt.parse().unwrap();
        (Made { step: step.to_owned(), attempt, key: key.to_owned() }, pid.parse::<u32>().unwrap())
    };
    mine.map(made).unzip()
}
