//! The sessions of `docs/curl.md` and `docs/workers.md`, as somebody has them who pastes them into a shell.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value as Json;

use crate::support::{Folder, KAPELLE};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A shell with all that it has started.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        kill_process_group(Pid::from_child(&self.0), Signal::KILL).ok();
        self.0.wait().ok();
    }
}

/// The commands of a page, at a port that is free.
fn commands(page: &str) -> String {
    let page = std::fs::read_to_string(format!("{ROOT}/docs/{page}.md")).unwrap();
    let blocks = page.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    blocks.collect::<String>().replace("127.0.0.1:4700", &free.to_string())
}

/// What the commands say, in a shell that stops at the first that fails.
fn pasted(folder: &Folder, commands: &str) -> (String, String) {
    let bin = Path::new(KAPELLE).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let like = folder.command("");
    let mut bash = Command::new("bash");
    bash.args(["-e", "-o", "pipefail", "-c", commands]).env("PATH", path);
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    bash.current_dir(folder.path()).stdin(Stdio::null()).process_group(0);
    let out = std::fs::File::create(folder.path().join("out")).unwrap();
    let err = std::fs::File::create(folder.path().join("err")).unwrap();
    let mut shell = Shell(bash.stdout(out).stderr(err).spawn().unwrap());
    let status = shell.0.wait().unwrap();
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let (out, err) = (text("out"), text("err"));
    assert!(status.success(), "{out}\n{err}");
    (out, err)
}

/// The events in what curl has written of a stream.
fn events(file: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(file).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn the_session_of_the_manual_does_what_it_says() {
    let folder = Folder::new();
    let (out, err) = pasted(&folder, &commands("curl"));
    let kinds = |file: &str| -> Vec<String> {
        let kind = |event: &Json| event["type"].as_str().unwrap().to_owned();
        events(&folder.path().join(file)).iter().map(kind).collect()
    };
    let first = kinds("first.log");
    let told = ["run_paused", "run_resumed", "approval_decided", "run_completed"];
    let places = told.map(|kind| first.iter().position(|told| told == kind));
    assert!(places[0].is_some() && places.is_sorted(), "{first:?}\n{out}\n{err}");
    let last = events(&folder.path().join("first.log")).pop().unwrap();
    assert_eq!(last["output"], "Hello Ada!", "{last}");
    let cancelled = events(&folder.path().join("second.log")).pop().unwrap();
    assert_eq!(cancelled["verdict"], "cancelled", "{cancelled}");
    for said in ["\"existing\":true", "run_ended", "unauthenticated", "\"status\":\"paused\""] {
        assert!(out.contains(said), "no {said} in {out}\n{err}");
    }
}

#[test]
fn what_the_manual_says_to_workers_does_what_it_says() {
    let folder = Folder::new();
    // The page is pasted in the project's own folder; this is another one, and so is the port.
    let commands = commands("workers").replace("examples/", &format!("{ROOT}/examples/"));
    let at = commands.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let commands = commands.replace("worker.py", &format!("worker.py http://{at}"));
    let (out, err) = pasted(&folder, &commands);
    for said in [
        "\"name\":\"coder\"",
        "{\"cancel\":false,\"lease_ms\":30000}",
        "\"status\":\"begun\",\"key\":\"",
        "\"output\":\"receipt 4711\"",
        "{\"status\":\"completed\"}",
        "{\"items\":[]",
        "\"output\":\"HI\"",
        "kap_",
    ] {
        assert!(out.contains(said), "no {said} in {out}\n{err}");
    }
    let assigned = std::fs::read_to_string(folder.path().join("work.json")).unwrap();
    let assigned: Json = serde_json::from_str(&assigned).unwrap();
    let page = std::fs::read_to_string(format!("{ROOT}/docs/workers.md")).unwrap();
    for name in assigned.as_object().unwrap().keys() {
        assert!(page.contains(&format!("\"{name}\": ")), "{name} is not on the page");
    }
}
