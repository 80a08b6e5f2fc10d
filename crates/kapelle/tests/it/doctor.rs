//! The full check of a store: a whole one, and one whose disk has lied.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::support::{Folder, run_of};

/// A value in a row, and one in a file.
const WORK: &str = r#"
id: kept
tasks:
  - id: small
    agentName: process
    input: { shell: "head -c 3000 /dev/urandom | base64 -w 0" }
  - id: large
    agentName: process
    input: { shell: "head -c 1500000 /dev/urandom > $KAPELLE_OUT/large" }
"#;

/// Turns a bit of the byte that is found in a file.
fn flip(path: &Path, at: impl FnOnce(&[u8]) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(&bytes);
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// The one payload that is a file.
fn payload(store: &Path) -> PathBuf {
    let folders = std::fs::read_dir(store.join("payloads")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().path()).filter(|path| path.is_dir());
    let mut files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    files.next().expect("there is a large artifact").unwrap().path()
}

fn problems(report: &Json) -> Vec<String> {
    let all = report["problems"].as_array().unwrap();
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn doctor_names_the_configuration_that_is_read() {
    let folder = Folder::new();
    let config =
        || folder.run("doctor").out.lines().find(|l| l.contains("config")).unwrap().to_owned();
    assert!(config().contains("none: everything is as it comes"), "{}", config());
    folder.write("kapelle.toml", "");
    assert!(config().contains("`kapelle.toml` was read"), "{}", config());
}

#[test]
fn a_whole_store_is_whole_also_while_it_is_worked_on() {
    let folder = Folder::new();
    let none = folder.run("doctor --verify").expect(6);
    assert!(none.err.contains("there is no store in `.kapelle`"), "{}", none.err);
    folder.run("--store memory doctor --verify").expect(2);
    folder.write("workflow.yaml", WORK);
    folder.run("run .").expect(0);
    let done = folder.run("doctor --verify").expect(0);
    assert!(done.out.contains("\n`.kapelle` is whole: 1 run, "), "{}", done.out);
    assert!(done.out.contains(" payloads in ") && done.err.is_empty(), "{done:?}");
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, approval: {}}]}");
    let mut working = folder.start("run . --json --wait");
    let run = run_of(&working.wait_for("approval_requested", Some("a")));
    let report = folder.run("doctor --verify --json").expect(0).json();
    assert_eq!((&report["whole"], &report["problems"]), (&json!(true), &json!([])), "{report}");
    assert_eq!(report["runs"], 2, "{report}");
    folder.run(&format!("runs approve {run} a")).expect(0);
    working.finish().expect(0);
}

#[test]
fn a_copy_of_an_artifact_that_is_not_what_was_made_is_named_and_harms_no_store() {
    let folder = Folder::new();
    folder.write("workflow.yaml", WORK);
    let last = folder.run("run . --json").expect(0).last();
    let copies = |code| folder.run("doctor --verify --json").expect(code).json()["copies"].clone();
    assert_eq!(copies(0), json!({"same": 1, "changed": []}));
    let copy = last["artifacts"][0]["path"].as_str().unwrap();
    flip(&folder.path().join(copy), |bytes| bytes.len() / 2);
    let found = copies(0);
    assert_eq!((&found["same"], found["changed"].as_array().unwrap().len()), (&json!(0), 1));
    let done = folder.run("doctor --verify").expect(0);
    let line = done.out.lines().find(|line| line.contains("is not what its run made"));
    assert!(line.is_some_and(|line| line.contains("artifacts/large`")), "{}", done.out);
}

#[test]
fn what_a_store_stands_on_is_looked_at_with_what_to_do() {
    let folder = Folder::new();
    let checks = |line: &str, code: i32| {
        let report = folder.run(line).expect(code).json();
        let one = |name: &str| {
            let all = report["checks"].as_array().unwrap();
            all.iter().find(|check| check["check"] == name).cloned().unwrap_or_default()
        };
        (report["healthy"].clone(), ["store", "disk", "sync", "clock", "limits", "tools"].map(one))
    };
    let (healthy, found) = checks("doctor --json", 0);
    assert_eq!(healthy, true);
    assert!(found.iter().all(|check| check["message"].is_string()), "{found:#?}");
    assert!(found[0]["message"].as_str().unwrap().contains("`kapelle run` makes it"), "{found:?}");

    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, approval: {}}]}");
    folder.run("run .").expect(5);
    let (_, [store, ..]) = checks("doctor --json", 0);
    assert!(store["message"].as_str().unwrap().contains(": 1 open run, 0 nodes"), "{store}");

    std::fs::write(folder.path().join(".kapelle/kapelle.db"), "something else").unwrap();
    let (healthy, [store, ..]) = checks("doctor --json", 6);
    assert_eq!((healthy, &store["state"]), (false.into(), &"broken".into()), "{store}");
    assert!(store["mend"].as_str().unwrap().contains("kapelle doctor --verify"), "{store}");
}

#[test]
fn turned_bits_are_named_with_file_run_and_event() {
    let folder = Folder::new();
    folder.write("workflow.yaml", WORK);
    let run = run_of(&folder.run("run . --json").expect(0).last());
    let other = run_of(&folder.run("run . --json --task-id other").expect(0).last());
    // The next one to open it moves all that is in the log to the database.
    folder.run("runs resume --all").expect(0);
    let store = folder.path().join(".kapelle");

    let file = payload(&store);
    flip(&file, |bytes| bytes.len() / 2);
    let done = folder.run("doctor --verify").expect(6);
    let (file, name) = (file.display().to_string(), ".kapelle/payloads/");
    let file = &file[file.find(name).unwrap()..];
    let about = format!("`{file}`: run `");
    let line = done.out.lines().find(|line| line.trim_start().starts_with(&about));
    assert!(line.is_some_and(|line| line.contains("; restore")), "{}", done.out);
    assert!(done.out.contains("is damaged, 1 problem: 2 runs, "), "{}", done.out);
    let (verdict, problem) = done.out.trim_end().rsplit_once('\n').unwrap();
    assert!(verdict.ends_with("ms") && problem.starts_with("  "), "{}", done.out);

    // In the first entry of one of the two: one bit is turned back, with another the page is refused.
    let database = store.join("kapelle.db");
    let created = |name: &'static [u8]| {
        move |bytes: &[u8]| bytes.windows(name.len()).position(|part| part == name).unwrap()
    };
    flip(&database, created(b"run_created"));
    let report = folder.run("doctor --verify --json").expect(6).json();
    let told = problems(&report);
    assert!(told.len() == 2 && told.iter().any(|told| told.contains("a turned bit")), "{told:#?}");
    flip(&database, created(b"un_created"));
    let report = folder.run("doctor --verify --json").expect(6).json();
    assert_eq!(report["whole"], false);
    let told = problems(&report);
    let entry = report["problems"].as_array().unwrap().iter().find(|one| !one["seq"].is_null());
    let entry = entry.unwrap_or_else(|| panic!("no journal is damaged: {told:#?}"));
    assert!([&run, &other].iter().any(|run| entry["run"] == **run), "{entry}");
    assert_eq!(entry["seq"], 1, "{entry}");
    assert!(entry["file"].as_str().unwrap().ends_with("kapelle.db"), "{entry}");
    assert!(entry["message"].as_str().unwrap().contains("; restore"), "{entry}");
}

#[test]
fn a_damaged_log_is_told_of_and_left_as_it_is() {
    let folder = Folder::new();
    folder.write("workflow.yaml", WORK);
    folder.run("run .").expect(0);
    let store = folder.path().join(".kapelle");
    let files =
        || ["kapelle.db", "kapelle.db-wal", "ends"].map(|name| std::fs::read(store.join(name)));
    let good = files().map(Result::unwrap);
    flip(&store.join("kapelle.db-wal"), |log| log.len() / 2);
    let damaged = files().map(Result::unwrap);
    let report = folder.run("doctor --verify --json").expect(6).json();
    assert_eq!(report["whole"], false);
    let told = problems(&report);
    assert!(told[0].contains("what was acknowledged is missing: shard "), "{told:#?}");
    assert!(told[0].contains("kapelle.db") && told[0].contains("; restore"), "{told:#?}");
    for line in ["doctor --verify", "runs list", "run ."] {
        let done = folder.run(line).expect(6);
        let said = format!("{}{}", done.out, done.err);
        assert!(said.contains("what was acknowledged is missing"), "{line}: {said}");
    }
    assert!(files().map(Result::unwrap) == damaged, "it was changed");
    std::fs::write(store.join("kapelle.db-wal"), &good[1]).unwrap();
    folder.run("doctor --verify").expect(0);

    std::fs::write(store.join("kapelle.db"), "").unwrap();
    let report = folder.run("doctor --verify --json").expect(6).json();
    assert!(problems(&report)[0].contains("kapelle.db"), "{report}");
}

#[test]
fn a_damaged_memory_is_found_from_outside_and_to_its_last_entry() {
    let folder = Folder::new();
    folder.write(
        "workflow.yaml",
        "{id: x, tasks: [{id: a, agentName: memory, action: store, input: {text: the port is 8080}}]}",
    );
    folder.run("run .").expect(0);
    let memory = folder.path().join(".kapelle/memory.db");
    // The last one to close it moves all that is in the log to the database.
    let conn = rusqlite::Connection::open(&memory).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    conn.close().unwrap();
    let good = std::fs::read(&memory).unwrap();
    let fine = folder.run("doctor --verify").expect(0);
    assert!(fine.out.contains("`.kapelle/memory.db`: 1 entry"), "{}", fine.out);
    assert_eq!(std::fs::read(&memory).unwrap(), good);

    flip(&memory, |bytes| bytes.windows(4).position(|part| part == b"8080").unwrap());
    folder.run("doctor").expect(0);
    let told = problems(&folder.run("doctor --verify --json").expect(6).json());
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("memory.db") && told[0].contains("put a backup"), "{told:#?}");

    std::fs::write(&memory, &good).unwrap();
    flip(&memory, |_| 3);
    let outside = folder.run("doctor").expect(6);
    assert!(outside.out.contains("bad notes    `.kapelle/memory.db`"), "{}", outside.out);
    assert!(outside.out.contains("\n             move it away"), "{}", outside.out);
    folder.run("doctor --verify").expect(6);
}
