//! The history of runs: looked at as it was then, and pruned.

use std::path::Path;

use kapelle_api::NewRun;
use serde_json::json;

use crate::size::taken;
use crate::support::{Folder, run_of};

const TWO: &str = "{id: x, tasks: [
    {id: a, agentName: echo, input: {value: 1}},
    {id: b, agentName: echo, dependencies: [a], input: {value: '{{ steps.a.output + 1 }}'}}]}";

#[test]
fn a_run_is_shown_as_it_was_after_each_of_its_events() {
    let folder = Folder::new();
    folder.write("workflow.yaml", TWO);
    let events = folder.run("run . --json").expect(0).events();
    let run = run_of(&events[0]);
    let now = folder.run(&format!("runs show {run} --json")).expect(0).json();
    let (mut done, mut begun) = (Vec::new(), Vec::new());
    for event in events.iter().filter(|event| event["seq"].is_u64()) {
        let seq = &event["seq"];
        let step = event["step"].as_str().unwrap_or_default();
        match event["type"].as_str().unwrap() {
            "step_started" => begun.push(step),
            "step_completed" => done.push(step),
            _ => {}
        }
        let then = folder.run(&format!("runs show {run} --at {seq} --json")).expect(0).json();
        assert_eq!(then["seq"], *seq);
        assert_eq!(then["updated_at"], event["at"], "{then}");
        for step in then["steps"].as_array().unwrap() {
            let id = step["id"].as_str().unwrap();
            assert_eq!(step["status"] == "completed", done.contains(&id), "at {seq}: {step}");
            assert_eq!(step["started_at"].is_string(), begun.contains(&id), "at {seq}: {step}");
        }
        assert_eq!(then["ended_at"].is_string(), event["type"] == "run_completed", "{then}");
        if event["type"] == "run_completed" {
            assert_eq!(then, now);
        }
    }
    let first = folder.run(&format!("runs show {run} --at 1")).expect(0);
    assert!(
        first.out.starts_with("event     1, ") && first.out.contains("pending"),
        "{}",
        first.out
    );
    let last = events.last().unwrap()["seq"].as_u64().unwrap();
    for seq in [0, last + 1] {
        let none = folder.run(&format!("runs show {run} --at {seq}")).expect(2);
        assert!(none.err.contains(&format!("give 1 to {last}")) || seq == 0, "{}", none.err);
    }
}

/// Makes runs `t0`, `t1`… in a store, each with an output of 20 KiB that no other has.
async fn fill(store: &Path, runs: usize) -> Vec<String> {
    let kapelle = kapelle::open(store).start().await.unwrap();
    let mut ids = Vec::new();
    for n in 0..runs {
        let text = format!("{n:08}").repeat(2_560);
        let value = json!({ "value": text });
        let workflow =
            json!({"id": "x", "tasks": [{"id": "a", "agentName": "echo", "input": value}]});
        let workflow = Some(workflow.to_string());
        let new = NewRun {
            workflow,
            inputs: json!({}),
            task_id: Some(format!("t{n}")),
            ..NewRun::default()
        };
        let run = kapelle.submit(&new).await.unwrap();
        ids.push(run.id().to_owned());
        run.finish().await.unwrap();
    }
    kapelle.close().await.unwrap();
    ids
}

#[tokio::test]
async fn a_pruned_store_is_smaller_and_its_keys_are_kept() {
    let folder = Folder::new();
    let store = folder.path().join(".kapelle");
    let ids = fill(&store, 60).await;
    let files = store.join("runs").join(&ids[0]).join("artifacts");
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("note"), "what was made").unwrap();
    folder.write("workflow.yaml", "{id: y, tasks: [{id: ask, approval: {}}]}");
    let mut other = folder.start("run . --json --wait");
    let open = run_of(&other.wait_for("approval_requested", Some("ask")));
    let before = taken(&store);
    let dry = folder.run("runs prune --keep 2 --dry-run").expect(0);
    assert_eq!(dry.out.lines().collect::<Vec<_>>(), ids[..58]);
    assert!(folder.run("runs prune --older-than 1h --json").expect(0).json()["runs"] == json!([]));
    let done = folder.run("runs prune --keep 2 --json").expect(0).json();
    assert_eq!(done["runs"], json!(ids[..58]));
    let after = taken(&store);
    println!("{before} bytes, then {after}");
    // Each run holds its plan and its output.
    assert!(before - after > 58 * 40 * 1024, "{before} bytes became {after}");
    let told = done["bytes_before"].as_u64().unwrap() - done["bytes_after"].as_u64().unwrap();
    assert!(told.abs_diff(before - after) < 256 << 10, "{done}");
    assert!(!files.exists(), "the files of a pruned run are still there");
    folder.run(&format!("runs show {}", ids[57])).expect(2);
    for kept in &ids[58..] {
        let run = folder.run(&format!("runs show {kept} --json")).expect(0).json();
        assert_eq!(run["output"].as_str().map(str::len), Some(20_480), "{kept}");
    }
    folder.run("doctor").expect(0);
    // Its key does not make a second run, and says why.
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
    let again = folder.run("run . --task-id t3").expect(2);
    assert!(again.err.contains(&ids[3]) && again.err.contains("pruned"), "{}", again.err);
    assert!(folder.run("runs show t3").expect(2).err.contains("pruned"));
    // And who worked beside it goes on.
    folder.run(&format!("runs approve {open} ask")).expect(0);
    other.wait_for("run_completed", None);
    other.finish();
    folder.run("doctor").expect(0);
}

#[tokio::test]
async fn a_prune_that_is_killed_leaves_every_run_whole_or_gone() {
    let folder = Folder::new();
    let store = folder.path().join(".kapelle");
    let ids = fill(&store, 60).await;
    let list = || {
        let runs = folder.run("runs list --json").expect(0).json();
        runs["items"].as_array().unwrap().len()
    };
    for round in 1..=5 {
        // Opened and left: the log is empty.
        folder.run("runs list").expect(0);
        let there = list();
        let keep = 60 - round * 10;
        let prune = folder.command(&format!("runs prune --keep {keep}")).spawn().unwrap();
        let mut prune = Killed(prune);
        let log = || std::fs::metadata(store.join("kapelle.db-wal")).map_or(0, |log| log.len());
        // It dies in the middle of its commit, or shortly after.
        while log() < 32 << 10 && prune.0.try_wait().unwrap().is_none() {}
        drop(prune);
        let left = list();
        assert!(left == there || left == keep, "round {round}: {left} of {there} runs are left");
        folder.run("doctor").expect(0);
        for id in ids[60 - left..].iter().step_by(9) {
            let run = folder.run(&format!("runs show {id} --json")).expect(0).json();
            assert_eq!(run["status"], "completed");
        }
    }
    folder.run("runs prune --keep 0").expect(0);
    assert_eq!(list(), 0);
}

/// A process that is killed when this is dropped.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
