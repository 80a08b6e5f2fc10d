//! Stores that this process may not use, and stores that several use at once.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{Folder, KAPELLE, count, run_of};

const ONE: &str =
    "{id: x, tasks: [{id: a, agentName: echo, input: {value: 1}}], output: '{{ steps.a.output }}'}";
/// Somebody without any rights.
const NOBODY: u32 = 65_534;

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Gives a command as somebody who may not write in `folder`, also where the tests run as root.
fn as_nobody(folder: &Folder, line: &str) -> (i32, String) {
    let program = folder.path().join("kapelle");
    if !program.exists() {
        // The folder of the build may be closed to others.
        std::fs::copy(KAPELLE, &program).unwrap();
        mode(folder.path(), 0o755);
    }
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).current_dir(folder.path());
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_read_only_folder_is_named_with_the_way_out() {
    let folder = Folder::new();
    folder.write("workflow.yaml", ONE);
    folder.run("run .").expect(0);
    let store = folder.path().join(".kapelle");
    let before = std::fs::read(store.join("kapelle.db")).unwrap();
    for dir in [store.clone(), store.join("nodes")] {
        mode(&dir, 0o555);
    }
    for line in ["runs list", "doctor --verify"] {
        let (code, said) = as_nobody(&folder, line);
        assert_eq!(code, 0, "`{line}` only reads: {said}");
    }
    for line in ["run .", "runs resume --all"] {
        let (code, said) = as_nobody(&folder, line);
        assert_eq!(code, 6, "`{line}` ended with {code}: {said}");
        assert!(said.contains("`.kapelle"), "`{line}` names no file: {said}");
        assert!(said.contains("writ"), "`{line}` tells no way out: {said}");
    }
    // Where there is no store and none can be made.
    mode(folder.path(), 0o555);
    let (code, said) = as_nobody(&folder, "--store new run .");
    assert!(code == 6 && said.contains("`new"), "{code}: {said}");
    for dir in [folder.path(), &store, &store.join("nodes")] {
        mode(dir, 0o755);
    }
    assert_eq!(std::fs::read(store.join("kapelle.db")).unwrap(), before);
    folder.run("runs list").expect(0);
}

#[test]
fn a_store_of_a_newer_version_is_named_and_left_alone() {
    let folder = Folder::new();
    folder.write("workflow.yaml", ONE);
    folder.run("run .").expect(0);
    let path = folder.path().join(".kapelle/kapelle.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // Where SQLite keeps the user version.
    bytes[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    for line in ["run .", "runs list", "runs resume --all", "run . --detach"] {
        let done = folder.run(line).expect(6);
        assert!(done.err.contains("kapelle.db`"), "`{line}` names no file: {}", done.err);
        assert!(done.err.contains("9999") && done.err.contains("newer"), "`{line}`: {}", done.err);
    }
    assert!(std::fs::read(&path).unwrap() == bytes, "it was touched");
}

#[test]
fn two_terminals_that_start_one_run_share_it() {
    let folder = Folder::new();
    folder.write(
        "workflow.yaml",
        "{id: x, tasks: [{id: a, agentName: process, input: {shell: 'echo a >> done; while [ ! -e go ]; do sleep 0.01; done'}}]}",
    );
    let mut both =
        [folder.start("run . --json --task-id T"), folder.start("run . --json --task-id T")];
    let ids = both.each_mut().map(|one| run_of(&one.wait_for("step_started", Some("a"))));
    assert_eq!(ids[0], ids[1]);
    folder.write("go", "");
    let ends = both.map(|one| one.finish().expect(0).events());
    assert_eq!(ends[0].last(), ends[1].last());
    assert_eq!(count(&ends[0], "step_started", "a"), 1);
    assert_eq!(std::fs::read_to_string(folder.path().join("done")).unwrap(), "a\n");
}

/// The node says that it goes on with the run, and dies before it can be asked anything else.
#[test]
fn a_run_goes_on_though_its_node_dies_with_the_promise_to_go_on() {
    let folder = Folder::new();
    folder.write(
        "workflow.yaml",
        "{id: x, tasks: [{id: a, agentName: process, input: {shell: 'while [ ! -e go ]; do sleep 0.01; done'}}]}",
    );
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("a")));
    // It stays alive, and another answers for it.
    first.signal(rustix::process::Signal::STOP);
    let nodes = std::fs::read_dir(folder.path().join(".kapelle/nodes")).unwrap();
    let mut files = nodes.map(|entry| entry.unwrap().path());
    let socket = files.find(|path| path.extension().is_some_and(|it| it == "sock")).unwrap();
    std::fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let told = format!(r#"{{"id":"{run}","status":"running","seq":3,"worked_on":true}}"#);
    let dying = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 64 << 10]).unwrap() > 0);
        first.crash();
        let head = format!("content-type: application/json\r\ncontent-length: {}", told.len());
        write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{told}").unwrap();
    });
    let mut second = folder.start(&format!("runs resume {run} --json"));
    dying.join().unwrap();
    folder.write("go", "");
    second.wait_for("run_adopted", None);
    assert_eq!(second.finish().expect(0).last()["verdict"], "completed");
}

#[test]
fn two_processes_work_on_two_workflows_in_one_store_at_once() {
    let folder = Folder::new();
    // Each waits for the other: neither ends unless both go on at once.
    let meet = |own: &str, other: &str| {
        format!(
            "{{id: {own}, tasks: [{{id: a, agentName: process, timeout: 60s, input: {{shell: \
             'touch {own}; while [ ! -e {other} ]; do sleep 0.01; done; echo {own}'}}}}], \
             output: '{{{{ steps.a.output.value }}}}'}}"
        )
    };
    folder.write("east.yaml", &meet("east", "west"));
    folder.write("west.yaml", &meet("west", "east"));
    let east = folder.start("run east.yaml --json");
    let west = folder.start("run west.yaml --json");
    assert_eq!(east.finish().expect(0).last()["output"], "east\n");
    assert_eq!(west.finish().expect(0).last()["output"], "west\n");
    let runs = folder.run("runs list --json").json();
    assert_eq!(runs["items"].as_array().unwrap().len(), 2);
}
