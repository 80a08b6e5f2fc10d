//! The processes that work until the power goes or all is done, and the person who approves.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::kill_node::{Line, Lines, Node, Place, kapelle, now};

/// How often to look after those that approve.
const GLANCE: Duration = Duration::from_millis(50);

/// Who works between two cuts.
pub(crate) struct Shift {
    /// The binary, or what makes its syncs do nothing and the binary.
    program: Vec<String>,
    /// When it began.
    pub(crate) since: u64,
    lines: Lines,
    seen: usize,
    nodes: Vec<Node>,
    alive: usize,
    /// By run.
    approvals: BTreeMap<String, Child>,
}

impl Shift {
    pub(crate) fn new(off: bool) -> Self {
        let program = off.then(|| "eatmydata".to_owned()).into_iter();
        Self {
            program: program.chain([kapelle().display().to_string()]).collect(),
            since: now(),
            lines: Lines::default(),
            seen: 0,
            nodes: Vec::new(),
            alive: 0,
            approvals: BTreeMap::new(),
        }
    }

    /// Begins anew: what was said before is forgotten.
    pub(crate) fn begin(&mut self) {
        self.since = now();
        self.lines = Lines::default();
        self.seen = 0;
    }

    pub(crate) fn start(&mut self, place: &Place, args: &[&str]) {
        let (program, args) = self.words(args);
        self.nodes.push(place.start(Path::new(program), &args, &self.lines));
        self.alive += 1;
    }

    fn words<'a>(&'a self, args: &[&'a str]) -> (&'a str, Vec<&'a str>) {
        let own = self.program[1..].iter().map(String::as_str);
        (&self.program[0], own.chain(args.iter().copied()).collect())
    }

    /// Looks after the processes until a line is the one, all have ended, or `deadline`.
    pub(crate) fn attend(
        &mut self,
        place: &Place,
        deadline: Instant,
        mut is: impl FnMut(&Line) -> bool,
    ) {
        while self.alive > 0 && Instant::now() < deadline {
            self.approve_again(place);
            let glance = deadline.min(Instant::now() + GLANCE);
            let Some(line) = self.lines.get(self.seen, glance) else { continue };
            self.seen += 1;
            if line.text.is_empty() {
                self.alive -= 1;
            } else if line.json["type"] == "approval_requested" {
                self.approve(place, line.json["run"].as_str().unwrap());
            }
            if is(&line) {
                return;
            }
        }
    }

    fn approve(&mut self, place: &Place, run: &str) {
        if self.approvals.contains_key(run) {
            return;
        }
        let by = ["sign-off", "--by", "role:maintainer", "--json"];
        let args = [&["--store", "store", "runs", "approve", run], &by[..]].concat();
        let (program, args) = self.words(&args);
        let mut command: Command = place.command(Path::new(program), &args);
        let approval = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.approvals.insert(run.to_owned(), approval);
    }

    /// The node that was asked may have left, and another have taken over.
    fn approve_again(&mut self, place: &Place) {
        let failed = |child: &mut Child| {
            let status = child.try_wait().unwrap();
            status.is_some_and(|status| !matches!(status.code(), Some(0 | 2)))
        };
        let failed = self.approvals.extract_if(.., |_, child| failed(child));
        for (run, _) in failed.collect::<Vec<_>>() {
            self.approve(place, &run);
        }
    }

    /// What was said so far.
    pub(crate) fn heard(&self) -> Vec<Line> {
        self.lines.all()
    }

    /// The runs whose approval was acknowledged so far.
    pub(crate) fn approved(&mut self) -> Vec<String> {
        let done = |(run, child): (&String, &mut Child)| {
            let status = child.try_wait().unwrap();
            status.is_some_and(|status| status.success()).then(|| run.clone())
        };
        self.approvals.iter_mut().filter_map(done).collect()
    }

    /// Kills everybody.
    pub(crate) fn kill(&mut self) {
        for node in self.nodes.drain(..) {
            node.kill();
        }
        for mut approval in std::mem::take(&mut self.approvals).into_values() {
            approval.kill().ok();
            approval.wait().unwrap();
        }
        self.alive = 0;
    }

    /// Waits for those that have said their last: the runs that were approved, and what is wrong.
    pub(crate) fn end(&mut self, place: &Place) -> (Vec<String>, Vec<String>) {
        let mut wrong = Vec::new();
        for mut node in self.nodes.drain(..) {
            if self.alive > 0 {
                wrong.push("a process does not end".to_owned());
                node.kill();
                continue;
            }
            let status = node.end();
            if !status.success() {
                wrong.push(format!("a process ended with {status}: {}", place.read("stderr")));
            }
        }
        let approvals = std::mem::take(&mut self.approvals).into_iter();
        // Whoever was not heard: the run has ended, and what is in it is checked.
        let heard =
            approvals.filter_map(|(run, mut child)| child.wait().unwrap().success().then_some(run));
        (heard.collect(), wrong)
    }
}
