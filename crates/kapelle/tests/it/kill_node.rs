//! The real binary as a process: started, read line by line, killed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

/// The binary that is tested. An example, which is not told where it is, finds it above its folder.
pub(crate) fn kapelle() -> PathBuf {
    let own = || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("kapelle");
    option_env!("CARGO_BIN_EXE_kapelle").map_or_else(own, PathBuf::from)
}

/// A folder with a store in it, where commands are given.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.root.path()).stdin(Stdio::null());
        command.env_remove("KAPELLE_STORE").env_remove("KAPELLE_CONFIG");
        command
    }

    /// Gives a command to the real binary and waits for its end.
    pub(crate) fn give(&self, args: &[&str]) -> Output {
        self.command(&kapelle(), args).output().unwrap()
    }

    /// The JSON lines that a command prints; it must succeed.
    pub(crate) fn lines_of(&self, args: &[&str]) -> Vec<String> {
        let output = self.give(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} ended with {}: {said}", output.status);
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Starts a command and reads its lines into `lines`.
    pub(crate) fn start(&self, program: &Path, args: &[&str], lines: &Lines) -> Node {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("stderr"));
        let mut command = self.command(program, args);
        let at = now();
        let mut child = command.stdout(Stdio::piped()).stderr(log.unwrap()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (lines, number) = (lines.clone(), child.id());
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            // A line is an acknowledgement once it is complete.
            while stdout.read_line(&mut text).is_ok_and(|read| read > 0) && text.ends_with('\n') {
                lines.push(number, std::mem::take(&mut text));
            }
            lines.push(number, String::new());
        });
        Node { child, reader: Some(reader), at }
    }
}

/// A process that works.
pub(crate) struct Node {
    child: Child,
    reader: Option<JoinHandle<()>>,
    /// When it was started.
    pub(crate) at: u64,
}

impl Node {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, and reads what it had said until then; when that was.
    pub(crate) fn kill(mut self) -> u64 {
        let at = now();
        self.child.kill().unwrap();
        self.end();
        at
    }

    /// Waits for its own end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A line that a process said; an empty one is its end.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) from: u32,
    pub(crate) text: String,
    pub(crate) json: Json,
}

/// What some processes said, in the order in which it was heard.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    heard: Arc<(Mutex<Vec<Line>>, Condvar)>,
}

impl Lines {
    fn push(&self, from: u32, text: String) {
        let json = serde_json::from_str(&text).unwrap_or_default();
        self.heard.0.lock().unwrap().push(Line { from, text: text.trim_end().to_owned(), json });
        self.heard.1.notify_all();
    }

    /// The line at `index`, if it is there in time.
    pub(crate) fn get(&self, index: usize, deadline: Instant) -> Option<Line> {
        let mut lines = self.heard.0.lock().unwrap();
        loop {
            if let Some(line) = lines.get(index) {
                return Some(line.clone());
            }
            let wait = deadline.checked_duration_since(Instant::now())?;
            lines = self.heard.1.wait_timeout(lines, wait).unwrap().0;
        }
    }

    pub(crate) fn all(&self) -> Vec<Line> {
        self.heard.0.lock().unwrap().clone()
    }
}

/// Microseconds since 1970, as the journal counts them.
pub(crate) fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// Whether there is such a process; one that only waits to be taken note of has ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Asks again and again until it is so; for what the system gives no event for.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        // The system does not tell when a process of another is gone: it is asked, at this pace.
        std::thread::sleep(Duration::from_millis(5));
    }
}
