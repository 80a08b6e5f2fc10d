//! This test binary, started again as another process with a part to play.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

pub(crate) const STORE: &str = "KAPELLE_TEST_STORE";
pub(crate) const PART: &str = "KAPELLE_TEST_PART";

/// Another process, killed when it is dropped.
pub(crate) struct Actor {
    pub(crate) child: Child,
    says: BufReader<ChildStdout>,
}

impl Actor {
    pub(crate) fn start(store: &Path, part: &str) -> Self {
        Self::start_with(Command::new(std::env::current_exe().unwrap()), store, part)
    }

    pub(crate) fn start_with(mut command: Command, store: &Path, part: &str) -> Self {
        command.args(["--exact", "processes::an_actor_plays_its_part", "--nocapture"]);
        command.env(STORE, store).env(PART, part).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { child, says }
    }

    /// The next thing it says; `None` once it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.says.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The test harness talks on the same line.
            if let Some((_, said)) = line.trim_end().split_once("say ") {
                return Some(said.to_owned());
            }
        }
    }

    /// `kill -9`, and what it said until then.
    pub(crate) fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn say(text: &str) {
    println!("\nsay {text}");
}
