//! The `memory` agent in the real binary: once, across runs, from several processes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use serde_json::json;

use crate::support::Folder;

/// What one step stores.
const ENTRIES: i64 = 20;

fn remembering(id: &str, namespace: &str) -> String {
    let entries: Vec<_> =
        (0..ENTRIES).map(|n| json!({"text": format!("the port of server {n} is 80{n}")})).collect();
    let input = json!({"namespace": namespace, "entries": entries});
    format!(
        "id: {id}\ntasks:\n  - id: keep\n    agentName: memory\n    action: store\n    input: {input}\n"
    )
}

fn file(folder: &Folder, name: &str) -> PathBuf {
    folder.path().join(".kapelle").join(name)
}

fn count(conn: &Connection) -> i64 {
    conn.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).unwrap()
}

#[test]
fn memory_of_a_step_that_is_killed_before_its_answer_is_there_once() {
    let folder = Folder::new();
    folder.write("first.yaml", &remembering("first", "shared"));
    folder.write("workflow.yaml", &remembering("second", "shared"));
    folder.run("run first.yaml").expect(0);

    // The memory is held until the step has begun, then the journal: so the step gets as far as
    // its memory, and its answer no further than this process.
    let mut memory = Connection::open(file(&folder, "memory.db")).unwrap();
    let held = memory.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let mut running = folder.start("run workflow.yaml --task-id t --json");
    running.wait_for("step_started", Some("keep"));
    let mut journal = Connection::open(file(&folder, "kapelle.db")).unwrap();
    journal.busy_timeout(Duration::from_secs(10)).unwrap();
    let journal = journal.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    drop(held);
    let since = Instant::now();
    while count(&memory) < 2 * ENTRIES {
        assert!(since.elapsed() < Duration::from_secs(30), "it stored nothing");
        // A file of another process tells nobody of a commit: it is asked, at this pace.
        std::thread::sleep(Duration::from_millis(2));
    }
    running.crash();
    drop(journal);

    let last = folder.run("runs resume t --json --wait").expect(0).last();
    assert_eq!(last["verdict"], "completed", "{last}");
    let shown = folder.run("runs show t --json").expect(0).json();
    assert_eq!(shown["steps"][0]["attempts"], 2, "it was not tried again: {shown}");
    assert_eq!(count(&memory), 2 * ENTRIES);
}

#[test]
fn processes_that_store_at_once_in_a_new_store_lose_nothing() {
    let folder = Folder::new();
    let mut running = Vec::new();
    for n in 0..3 {
        folder.write(&format!("{n}.yaml"), &remembering(&format!("w{n}"), "shared"));
        running.push(folder.start(&format!("run {n}.yaml --json")));
    }
    for running in running {
        running.finish().expect(0);
    }
    folder.write(
        "workflow.yaml",
        "id: ask\ntasks:\n  - id: ask\n    agentName: memory\n    action: retrieve\n    input: { namespace: shared, query: ports of servers, top: 5 }\n",
    );
    let last = folder.run("run workflow.yaml --json").expect(0).last();
    assert_eq!(last["output"]["of"], 3 * ENTRIES, "{last}");
    assert_eq!(last["output"]["entries"].as_array().unwrap().len(), 5, "{last}");
    let memory = Connection::open(file(&folder, "memory.db")).unwrap();
    assert_eq!(count(&memory), 3 * ENTRIES);
}

#[test]
fn the_notes_of_a_run_are_its_own() {
    let folder = Folder::new();
    folder.write(
        "workflow.yaml",
        "id: notes\ntasks:\n  - id: note\n    agentName: memory\n    action: store\n    input: { namespace: '{{ run.id }}', text: seen, ttl: 1h }\n  - id: look\n    agentName: memory\n    action: retrieve\n    dependencies: [note]\n    input: { namespace: '{{ run.id }}' }\n",
    );
    for store in ["--store memory", "", ""] {
        let last = folder.run(&format!("{store} run workflow.yaml --json")).expect(0).last();
        assert_eq!(last["output"]["of"], 1, "{last}");
    }
}

#[test]
fn a_memory_that_is_none_ends_the_step_with_its_name_and_the_way_out() {
    let folder = Folder::new();
    folder.write("workflow.yaml", &remembering("w", "shared"));
    std::fs::create_dir(folder.path().join(".kapelle")).unwrap();
    std::fs::write(file(&folder, "memory.db"), "Dear diary, ".repeat(100)).unwrap();
    let done = folder.run("run workflow.yaml").expect(1);
    let said = done.out + &done.err;
    assert!(said.contains(".kapelle/memory.db") && said.contains("move it away"), "{said}");
}
