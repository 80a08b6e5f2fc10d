//! Journals that a released version wrote: every later version reads them to the same run, and
//! writes what it still writes in the same form.

use std::sync::Arc;

use kapelle_core::run::{Compiled, Event, Run, Verdict};
use kapelle_core::{Json, RunId, Shard, Timestamp, Value};

fn lines(name: &str) -> Vec<Json> {
    let path = format!("{}/tests/journal/v1/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(entry: &Json) -> Vec<Event> {
    serde_json::from_value(entry["events"].clone()).unwrap()
}

fn id() -> RunId {
    RunId::new(Timestamp(0), [1; 10], Shard(7))
}

#[test]
fn every_event_of_version_1_keeps_its_form() {
    let entries = lines("failed.jsonl");
    let in_entries = entries.iter().flat_map(|entry| entry["events"].as_array().unwrap().clone());
    for line in in_entries.chain(lines("events.jsonl")) {
        let event: Event = serde_json::from_value(line.clone()).unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), line);
    }
}

#[test]
fn a_journal_of_version_1_gives_the_same_run() {
    let entries = lines("failed.jsonl");
    let at = |entry: &Json| Timestamp(entry["at"].as_i64().unwrap());
    let mut all = entries.iter().flat_map(|entry| {
        let at = at(entry);
        events(entry).into_iter().map(move |event| (at, event))
    });
    let Some((created_at, Event::RunCreated(created))) = all.next() else {
        panic!("its first event creates it");
    };
    let Value::Inline(plan) = &created.plan else { panic!("its plan is inline") };
    let plan = Compiled::new(serde_json::from_value((**plan).clone()).unwrap()).unwrap();
    let mut run = Run::new(id(), &created, Arc::new(plan), created_at);
    for (at, event) in all {
        run.apply(&event, at);
    }
    let stands: Vec<String> = run
        .steps()
        .iter()
        .map(|step| format!("{} {} {}", step.id, step.status.as_str(), step.attempts()))
        .collect();
    let expected = [
        "calls completed 1",
        "flaky completed 2",
        "each completed 0",
        "broken failed 1",
        "never skipped 0",
        "sign completed 0",
        "wrong failed 1",
        "after skipped 0",
        "each.0 completed 1",
        "each.1 completed 1",
    ];
    assert_eq!(stands, expected);
    assert_eq!(run.ended().unwrap().verdict, Verdict::Failed);
    assert_eq!(run.seq(), 28);
}
