//! A folder to run `kapelle` in, and processes of it that are told what to do.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value as Json;

/// The binary under test.
pub(crate) const KAPELLE: &str = env!("CARGO_BIN_EXE_kapelle");

/// A folder of its own with a store.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command line of ours in this folder, words separated by blanks.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(KAPELLE);
        command.args(line.split_whitespace()).current_dir(self.path()).stdin(Stdio::null());
        for name in
            ["KAPELLE_STORE", "KAPELLE_CONFIG", "KAPELLE_SERVER", "KAPELLE_KEY", "XDG_RUNTIME_DIR"]
        {
            command.env_remove(name);
        }
        // Nobody is asked whom a test does not name.
        for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"]
        {
            command.env_remove(name);
        }
        // No agents but those of the folder.
        command.env("XDG_CONFIG_HOME", self.path().join(".config"));
        command.env("USER", "tester");
        command
    }

    pub(crate) fn run(&self, line: &str) -> Done {
        Done::of(line, &self.command(line).output().unwrap())
    }

    /// The same with variables of its own.
    pub(crate) fn run_with(&self, line: &str, variables: &[(&str, &str)]) -> Done {
        Done::of(line, &self.command(line).envs(variables.iter().copied()).output().unwrap())
    }

    /// The socket of the one node there is.
    pub(crate) fn socket(&self) -> PathBuf {
        let nodes = std::fs::read_dir(self.path().join(".kapelle/nodes")).unwrap();
        let mut files = nodes.map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|ending| ending == "sock")).unwrap()
    }

    /// A process in the background whose events are read one by one.
    pub(crate) fn start(&self, line: &str) -> Running {
        Running::of(self.command(line))
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    fn of(line: &str, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let code = output.status.code().unwrap_or_else(|| panic!("{line}: {output:?}"));
        Self { code, out, err }
    }

    /// The same, if it ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Its lines as JSON.
    pub(crate) fn events(&self) -> Vec<Json> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn last(&self) -> Json {
        self.events().pop().expect("there is a line")
    }
}

/// A process in the background, killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    seen: Vec<Json>,
}

impl Running {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, seen: Vec::new() }
    }

    /// Reads events until one of this type (about this step, if one is given) has come.
    pub(crate) fn wait_for(&mut self, kind: &str, step: Option<&str>) -> Json {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                let mut err = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
                panic!("no `{kind}` of {step:?} in {:#?}\n{err}", self.seen);
            }
            let event: Json = serde_json::from_str(&line).unwrap();
            self.seen.push(event.clone());
            if event["type"] == kind && step.is_none_or(|step| event["step"] == step) {
                return event;
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills it as a crash would.
    pub(crate) fn crash(mut self) {
        self.kill();
    }

    /// Kills it; whether it was still there.
    pub(crate) fn kill(&mut self) -> bool {
        let there = !self.is_over();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        there
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Done {
        let (mut out, mut err) = (String::new(), String::new());
        self.lines.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let code = self.child.wait().unwrap().code().expect("it was not killed");
        let seen: String = self.seen.iter().map(|event| format!("{event}\n")).collect();
        Done { code, out: seen + &out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The id of the run that an event is about.
pub(crate) fn run_of(event: &Json) -> String {
    event["run"].as_str().unwrap().to_owned()
}

/// How often there is an event of this type about this step.
pub(crate) fn count(events: &[Json], kind: &str, step: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind && event["step"] == step).count()
}

/// How much memory a process takes, in KiB: `VmRSS:` now, `VmHWM:` at the most so far.
pub(crate) fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
