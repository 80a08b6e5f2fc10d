//! The history of runs: looked at as it was then, pruned, exported and imported.

use std::path::Path;

use kapelle_api::NewRun;
use kapelle_core::port::journal::{Entry, Journal as _};
use kapelle_core::{Digest, Tenant};
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
    let mut now = folder.run(&format!("runs show {run} --json")).expect(0).json();
    let bytes = now.as_object_mut().unwrap().remove("bytes");
    assert!(bytes.is_some_and(|bytes| bytes.as_u64() > Some(0)), "of now, not of then");
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
        assert!(none.err.contains(&format!("give 1 to {last}")), "{}", none.err);
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
    folder.run("doctor --verify").expect(0);
    // Its key does not make a second run, and says why.
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
    let again = folder.run("run . --task-id t3").expect(2);
    assert!(again.err.contains(&ids[3]) && again.err.contains("pruned"), "{}", again.err);
    assert!(folder.run("runs show t3").expect(2).err.contains("pruned"));
    // And who worked beside it goes on.
    folder.run(&format!("runs approve {open} ask")).expect(0);
    other.wait_for("run_completed", None);
    other.finish();
    folder.run("doctor --verify").expect(0);
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
        folder.run("doctor --verify").expect(0);
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

/// Exports runs of one folder and imports them into another one; what was told.
fn move_runs(from: &Folder, to: &Folder, runs: &str) -> (Vec<u8>, serde_json::Value) {
    let exported = from.command(&format!("runs export {runs}")).output().unwrap();
    assert!(exported.status.success(), "{exported:?}");
    std::fs::write(to.path().join("file"), &exported.stdout).unwrap();
    let told = to.run("runs import file --json").expect(0).json();
    (exported.stdout, told)
}

/// A run's journal, as it is on the disk.
async fn journal_of(folder: &Folder, run: &str) -> Vec<Entry> {
    let store = kapelle_store::Sqlite::open(&folder.path().join(".kapelle")).unwrap();
    store.read(&Tenant::default(), run.parse().unwrap(), 1).await.unwrap()
}

const MAKES: &str = "{id: x, tasks: [
    {id: large, agentName: process, input: {shell: 'head -c 3000000 /dev/zero > $KAPELLE_OUT/zeros'}},
    {id: each, agentName: echo, forEach: '{{ [1, 2, 3] }}', dependencies: [large], input: {value: '{{ item }}'}},
    {id: long, agentName: echo, dependencies: [each], input: {value: '{{ steps.each.output }} and a text that is so long that its value is kept by its digest, which takes more than two hundred and fifty six bytes, so it goes on and on and on, without saying anything that anybody would want to know, until it is there at last: done. It is done.'}}]}";

#[tokio::test]
async fn an_exported_run_is_the_same_elsewhere() {
    let (here, there) = (Folder::new(), Folder::new());
    here.write("workflow.yaml", MAKES);
    let runs: Vec<_> = (0..2).map(|_| run_of(&here.run("run . --json").expect(0).last())).collect();
    // The other store has a node that owns shards of its own, these runs' among them.
    there.write("workflow.yaml", "{id: y, tasks: [{id: ask, approval: {}}]}");
    let mut node = there.start("run . --json --wait");
    let open = run_of(&node.wait_for("approval_requested", Some("ask")));
    let (file, told) = move_runs(&here, &there, &runs.join(" "));
    let items = |existing| -> serde_json::Value {
        runs.iter().map(|run| json!({"id": run, "existing": existing})).collect()
    };
    assert_eq!(told["items"], items(false));
    for run in &runs {
        let show = |folder: &Folder| {
            let mut shown = folder.run(&format!("runs show {run} --json")).expect(0).json();
            for artifact in shown["artifacts"].as_array_mut().unwrap() {
                // Where its file is written is the other store's business.
                artifact["path"] = json!(null);
            }
            shown.as_object_mut().unwrap().remove("node");
            shown
        };
        assert_eq!(show(&there), show(&here));
        assert_eq!(journal_of(&there, run).await, journal_of(&here, run).await);
        let events = |folder: &Folder| folder.run(&format!("runs events {run}")).expect(0).out;
        assert_eq!(events(&there), events(&here));
    }
    assert_eq!(move_runs(&here, &there, &runs.join(" ")).1["items"], items(true));
    // Exported from there it is the same file, and whoever works there goes on.
    assert!(move_runs(&there, &here, &runs.join(" ")).0 == file, "the files differ");
    there.run(&format!("runs approve {open} ask")).expect(0);
    node.wait_for("run_completed", None);
    node.finish();
    there.run("doctor --verify").expect(0);
    there.run(&format!("runs export {open}")).expect(0);
}

/// A file of runs that ends before its last payload, and vouches for that.
fn without_a_payload(file: &[u8]) -> Vec<u8> {
    let head = br#"{"payload":"#;
    let at = file.windows(head.len()).rposition(|bytes| bytes == head).unwrap();
    let end = json!({ "end": { "digest": Digest::of(&file[..at]) } });
    [&file[..at], end.to_string().as_bytes(), b"\n"].concat()
}

#[test]
fn a_file_that_was_changed_is_not_imported() {
    let (here, there) = (Folder::new(), Folder::new());
    here.write("workflow.yaml", MAKES);
    let run = run_of(&here.run("run . --json").expect(0).last());
    let (file, _) = move_runs(&here, &here, &run);
    let import = |bytes: &[u8]| {
        std::fs::write(there.path().join("file"), bytes).unwrap();
        there.run("runs import file")
    };
    for at in [3, 60, 400, file.len() / 2, file.len() - 40] {
        let mut changed = file.clone();
        changed[at] ^= 4;
        assert!(import(&changed).expect(2).err.contains("cannot be imported"), "byte {at}");
    }
    for len in [0, 30, file.len() / 2, file.len() - 1] {
        assert!(import(&file[..len]).expect(2).err.contains("cannot be imported"), "{len} bytes");
    }
    let missing = import(&without_a_payload(&file)).expect(2);
    assert!(missing.err.contains("missing"), "{}", missing.err);
    assert_eq!(there.run("runs list --json").expect(0).json()["items"], json!([]));
    import(&file).expect(0);
    let long = std::fs::File::create(there.path().join("file")).unwrap();
    long.set_len((512 << 20) + 1).unwrap();
    assert!(there.run("runs import file").expect(2).err.contains("longer than 512 MiB"));
    // Another run under the same id is none of ours.
    here.write("open.yaml", "{id: y, tasks: [{id: ask, approval: {}}]}");
    let open = run_of(&here.run("run open.yaml --json").expect(5).last());
    let refused = here.run(&format!("runs export {open}")).expect(2);
    assert!(refused.err.contains("has not ended") && refused.out.is_empty(), "{}", refused.err);
}

#[tokio::test]
async fn an_import_that_is_killed_is_done_again() {
    let (here, there) = (Folder::new(), Folder::new());
    let ids = fill(&here.path().join(".kapelle"), 30).await;
    let file = here.command(&format!("runs export {}", ids.join(" "))).output().unwrap().stdout;
    std::fs::write(there.path().join("file"), file).unwrap();
    let store = there.path().join(".kapelle");
    let log = || std::fs::metadata(store.join("kapelle.db-wal")).map_or(0, |log| log.len());
    let mut taken = 0;
    for round in 1..=4 {
        let mut import = Killed(there.command("runs import file").spawn().unwrap());
        // Whoever opens the store empties the log: this is what is written in this round.
        while log() < 256 << 10 && import.0.try_wait().unwrap().is_none() {}
        drop(import);
        there.run("doctor --verify").expect(0);
        let runs = there.run("runs list --json").expect(0).json();
        let runs = runs["items"].as_array().unwrap();
        assert!(runs.len() >= taken && runs.len() < ids.len(), "round {round}: {}", runs.len());
        assert!(runs.iter().all(|run| run["status"] == "completed"), "{runs:?}");
        taken = runs.len();
    }
    assert!(taken > 0, "each was killed before its first run");
    let again = there.run("runs import file --json").expect(0).json();
    let existing = again["items"].as_array().unwrap().iter().filter(|run| run["existing"] == true);
    assert_eq!(existing.count(), taken);
    there.run("doctor --verify").expect(0);
    assert_eq!(journal_of(&there, &ids[29]).await, journal_of(&here, &ids[29]).await);
}

/// Each process leaves its name in `log`, so that it is seen what was done.
const CHAIN: &str = r#"
id: chain
inputs: { word: { type: string, default: old } }
tasks:
  - id: list
    agentName: echo
    forEach: "{{ [1, 2] }}"
    input: { value: "{{ item }} is one of the items of a list whose outputs are so long together that they are kept by their digest and not in the journal itself, or so it is hoped by whoever writes this text at length, to get over two hundred and fifty six bytes" }
  - id: first
    agentName: process
    input: { shell: 'echo first >> log; echo made > $KAPELLE_OUT/note', parse: text }
  - id: second
    agentName: process
    dependencies: [first, list]
    input: { shell: 'echo second >> log; test "$WORD" != bad', env: { WORD: "{{ inputs.word }}" } }
  - id: ask
    dependencies: [second]
    approval: {}
  - id: last
    agentName: echo
    dependencies: [ask, list]
    input: { value: { word: "{{ inputs.word }}", list: "{{ steps.list.output }}" } }
output: "{{ steps.last.output }}"
"#;

fn log_of(folder: &Folder) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap().replace('\n', " ")
}

#[test]
fn a_fork_does_anew_what_it_must_and_outlives_its_parent() {
    let folder = Folder::new();
    folder.write("workflow.yaml", CHAIN);
    let parent = run_of(&folder.run("run . --json").expect(5).last());
    folder.run(&format!("runs approve {parent} ask")).expect(0);
    let before = folder.run(&format!("runs resume {parent} --json")).expect(0).last();
    assert_eq!(log_of(&folder), "first second ");
    let fork = format!("runs fork {parent} --from second --input word=new --task-id again --json");
    let child = run_of(&folder.run(&fork).expect(5).last());
    assert_ne!(child, parent);
    assert_eq!(log_of(&folder), "first second second ");
    let shown = folder.run(&format!("runs show {child} --json")).expect(0).json();
    assert_eq!(
        (&shown["forked"]["run"], &shown["forked"]["from"]),
        (&json!(parent), &json!("second"))
    );
    let first = shown["steps"].as_array().unwrap().iter().find(|step| step["id"] == "first");
    assert_eq!(
        (&first.unwrap()["status"], &first.unwrap()["attempts"]),
        (&json!("completed"), &json!(0))
    );
    let why = folder.run(&format!("why {child} first")).expect(0).out;
    assert!(why.contains(&format!("it was done by run {parent}")), "{why}");
    // Its parent goes, with all that nobody else refers to.
    assert_eq!(folder.run("runs prune --keep 0 --json").expect(0).json()["runs"], json!([parent]));
    folder.run(&format!("runs show {parent}")).expect(2);
    folder.run(&format!("runs approve {child} ask")).expect(0);
    let after = folder.run(&format!("runs resume {child} --json")).expect(0).last();
    assert_eq!(after["output"]["word"], "new");
    assert_eq!(after["output"]["list"], before["output"]["list"]);
    let digest = after["artifacts"][0]["digest"].as_str().unwrap();
    assert_eq!(folder.run(&format!("artifacts get {digest}")).expect(0).out, "made\n");
    assert_eq!(log_of(&folder), "first second second ");
    // Asked once more it is the same run, though what it was forked from is gone.
    assert_eq!(run_of(&folder.run(&fork).expect(0).last()), child);
    let other = fork.replace("word=new", "word=other");
    assert!(folder.run(&other).expect(2).err.contains(&child), "another fork under the same name");
    folder.run("doctor --verify").expect(0);
}

#[test]
fn a_failed_run_is_forked_where_it_failed() {
    let folder = Folder::new();
    folder.write("workflow.yaml", CHAIN);
    let parent = run_of(&folder.run("run . --json --input word=bad").expect(1).last());
    let child =
        folder.run(&format!("runs fork {parent} --from second -i word=good --json")).expect(5);
    let kinds: Vec<_> = child.events().iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds[..2], ["run_created", "run_forked"]);
    let asks = child.events().iter().any(|event| event["type"] == "approval_requested");
    assert!(asks, "{}", child.out);
    assert_eq!(log_of(&folder), "first second second ");
    // What was taken over is the same, however it was made.
    let child = run_of(&child.last());
    let told = folder.run(&format!("runs diff {parent} {child} --json")).expect(0).json();
    let paths = told["differences"].as_array().unwrap().iter().map(|one| one["path"].clone());
    let paths: Vec<_> = paths.collect();
    assert!(paths.contains(&json!("inputs.word")), "{paths:?}");
    let is_taken = |path: &serde_json::Value| {
        let path = path.as_str().unwrap();
        path.starts_with("steps.first") || path.starts_with("steps.list")
    };
    assert_eq!(paths.iter().find(|path| is_taken(path)), None);
    // From a step beside it: what failed is done anew all the same.
    let again = folder.run(&format!("runs fork {parent} --from list --json")).expect(1);
    assert_eq!(log_of(&folder), "first second second second ", "{}", again.out);
    let unknown = folder.run(&format!("runs fork {parent} --from nothing")).expect(2);
    assert!(unknown.err.contains("nothing"), "{}", unknown.err);
    let wrong = folder.run(&format!("runs fork {parent} --from list --input wrd=1")).expect(2);
    assert!(wrong.err.contains("wrd"), "{}", wrong.err);
}

#[test]
fn a_fork_reads_what_a_list_gave_the_parent_before_that_is_on_disk() {
    let folder = Folder::new();
    let long = "x".repeat(300);
    let workflow = format!(
        "{{id: x, tasks: [
            {{id: list, agentName: echo, input: {{value: [1, 2]}}}},
            {{id: each, agentName: echo, forEach: steps.list.output, as: n, input: {{value: '{{{{ n }}}} {long}'}}}},
            {{id: last, agentName: echo, dependencies: [each], input: {{value: '{{{{ steps.each.output | length }}}}'}}}}]}}"
    );
    folder.write("workflow.yaml", &workflow);
    let parent = folder.run("run . --json").expect(0).last();
    let child = folder.run(&format!("runs fork {} --from last --json", run_of(&parent)));
    assert_eq!(child.expect(0).last()["output"], parent["output"]);
}

#[test]
fn two_runs_are_compared() {
    let folder = Folder::new();
    folder.write("workflow.yaml", CHAIN);
    let good = run_of(&folder.run("run . --json").expect(5).last());
    let bad = run_of(&folder.run("run . --json --input word=bad").expect(1).last());
    let told = folder.run(&format!("runs diff {good} {bad} --json")).expect(0).json();
    let differences = told["differences"].as_array().unwrap();
    let at = |path: &str| differences.iter().find(|one| one["path"] == path).unwrap();
    assert_eq!((&at("inputs.word")["a"], &at("inputs.word")["b"]), (&json!("old"), &json!("bad")));
    assert_eq!(at("steps.second.status")["b"], "failed");
    assert_eq!(at("steps.second.input.env.WORD")["b"], "bad");
    let plain = |one: &&serde_json::Value| one["path"].as_str().unwrap().starts_with("plan");
    assert_eq!(differences.iter().find(plain), None, "they have the same plan");
    let text = folder.run(&format!("runs diff {good} {bad}")).expect(0).out;
    assert!(text.contains("inputs.word") && text.contains("\"bad\""), "{text}");
    let none = folder.run(&format!("runs diff {good} {good}")).expect(0);
    assert!(none.err.contains("nothing but their times"), "{}", none.err);
}
