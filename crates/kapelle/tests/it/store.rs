//! Stores that cannot be used: the file, the reason and the way out are named.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use crate::support::{Folder, run_of};

const ONE: &str = "{id: x, tasks: [{id: a, agentName: echo, input: {value: 1}}]}";

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = Folder::new();
    folder.write("workflow.yaml", ONE);
    // Nobody may make files there, root neither.
    let done = folder.run("--store /proc/kapelle run .").expect(6);
    assert!(done.err.contains("`/proc/kapelle") && done.err.contains("folder"), "{}", done.err);
}

#[test]
fn what_is_no_store_is_left_alone() {
    let folder = Folder::new();
    folder.write("workflow.yaml", ONE);
    folder.write("file", "precious");
    let done = folder.run("--store file run .").expect(6);
    assert!(done.err.contains("`file`"), "{}", done.err);
    std::fs::create_dir(folder.path().join("other")).unwrap();
    folder.write("other/kapelle.db", "this is the diary of somebody, not a database");
    let done = folder.run("--store other run .").expect(6);
    assert!(done.err.contains("other/kapelle.db") && done.err.contains("no store"), "{}", done.err);
    let kept = std::fs::read_to_string(folder.path().join("other/kapelle.db")).unwrap();
    assert!(kept.starts_with("this is the diary"), "{kept}");
    let _listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let done = folder.run("--store socket run .").expect(6);
    assert!(done.err.contains("`socket`"), "{}", done.err);
    let none = folder.run("runs list").expect(6);
    assert!(none.err.contains("there is no store in `.kapelle`"), "{}", none.err);
    assert!(!folder.path().join(".kapelle").exists());
}

#[test]
fn a_store_whose_database_is_gone_is_not_taken_for_none() {
    let folder = Folder::new();
    folder.write("workflow.yaml", ONE);
    folder.run("run .").expect(0);
    let store = folder.path().join(".kapelle");
    std::fs::remove_file(store.join("kapelle.db")).unwrap();
    for command in ["runs list", "doctor --verify"] {
        let done = folder.run(command).expect(6);
        assert!(done.err.contains("`.kapelle/kapelle.db` is gone"), "{}", done.err);
        assert!(
            done.err.contains("`.kapelle/ends`") && done.err.contains("backup"),
            "{}",
            done.err
        );
    }
    let done = folder.run("run .").expect(6);
    assert!(done.err.contains("missing") && done.err.contains("kapelle.db"), "{}", done.err);
    assert!(!store.join("kapelle.db").exists());
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let folder = Folder::new();
    folder.write("workflow.yaml", ONE);
    folder.run("run .").expect(0);
    // The next one to open it moves all that is in the log to the database.
    folder.run("runs resume --all").expect(0);
    let log = std::fs::metadata(folder.path().join(".kapelle/kapelle.db-wal"));
    assert!(log.is_ok_and(|log| log.len() == 0), "the level could be in the log");
    let path = folder.path().join(".kapelle/kapelle.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // Where SQLite keeps `user_version`.
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    for command in ["run .", "runs list"] {
        let done = folder.run(command).expect(6);
        assert!(done.err.contains("kapelle.db") && done.err.contains("newer"), "{}", done.err);
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_stranger_on_the_socket_of_a_node_is_named() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, approval: {}}]}");
    let mut first = folder.start("run . --json --wait");
    let run = run_of(&first.wait_for("approval_requested", Some("a")));
    let socket = folder.socket();
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "others can connect");
    }
    std::fs::remove_file(&socket).unwrap();
    let name = socket.file_name().unwrap().to_str().unwrap();
    let gone = folder.run(&format!("runs approve {run} a")).expect(4);
    assert!(gone.err.contains(name) && gone.err.contains("cannot be reached"), "{}", gone.err);
    let listener = UnixListener::bind(&socket).unwrap();
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // It waits for a request, as a server does.
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    });
    let strange = folder.run(&format!("runs approve {run} a")).expect(4);
    assert!(
        strange.err.contains(name) && strange.err.contains("does not answer like a node"),
        "{}",
        strange.err
    );
    stranger.join().unwrap();
}

#[test]
fn a_word_to_a_node_that_leaves_is_taken_by_whoever_comes_next() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, approval: {}}]}");
    let mut first = folder.start("run . --json --wait");
    let run = run_of(&first.wait_for("approval_requested", Some("a")));
    let socket = folder.socket();
    std::fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    // What the node would answer in its last moment, and its end.
    let leaving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        let problem = r#"{"type":"","title":"","status":503,"detail":"","code":"draining"}"#;
        let head = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length:";
        write!(stream, "{head} {}\r\n\r\n{problem}", problem.len()).unwrap();
        first.crash();
    });
    folder.run(&format!("runs approve {run} a")).expect(0);
    leaving.join().unwrap();
    let shown = folder.run(&format!("runs show {run} --json")).expect(0);
    assert!(shown.out.contains("approved") || shown.out.contains("completed"), "{}", shown.out);
}

/// Whoever only reads waits for nobody: somebody has the turn to write and keeps it.
#[test]
fn a_store_that_is_locked_is_read() {
    let folder = Folder::new();
    folder.write("workflow.yaml", ONE);
    let run = run_of(&folder.run("run . --json").expect(0).last());
    let nodes = folder.path().join(".kapelle/nodes");
    let count = || std::fs::read_dir(&nodes).unwrap().count();
    let (turn, before) =
        (std::fs::File::open(folder.path().join(".kapelle/turn")).unwrap(), count());
    turn.lock().unwrap();
    for line in ["runs list", "runs show", "runs events", "runs watch", "artifacts list"] {
        let named = if line == "runs list" { "" } else { &run };
        folder.run(&format!("{line} {named}")).expect(0);
    }
    folder.run("doctor --verify").expect(0);
    assert_eq!(count(), before, "who reads is no node");
}
