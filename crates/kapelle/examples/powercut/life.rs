//! One machine: processes that work, one or two power cuts, others that go on to the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::disk::{Disk, Shelf};
use crate::kill_check::{Journal, check, check_kept};
use crate::kill_node::{Line, Lines, Node, Place, kapelle, now};
use crate::kill_round::{Dice, Kill, Told};
use crate::kill_server::Server;

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look after those that approve.
const GLANCE: Duration = Duration::from_millis(50);
/// In microseconds: how long after its start a process may still be recovering.
const START: u64 = 60_000;
/// The runs of the kill test's workflow; a process of its own works on each.
const TASKS: [&str; 3] = ["a", "b", "c"];
/// The run that writes much, in every other life.
const LOAD: &str = "load";
/// How many of its last payloads are read after a cut.
const PAYLOADS: usize = 4;

/// What an undisturbed run comes to.
pub(crate) struct Model {
    pub(crate) output: Json,
    pub(crate) events: u64,
}

/// What a life came to.
#[derive(Debug, Default)]
pub(crate) struct Lived {
    pub(crate) cuts: Vec<Cut>,
    pub(crate) wrong: Vec<String>,
    /// How many runs went on to their end.
    pub(crate) ended: u64,
}

/// A power cut.
#[derive(Debug)]
pub(crate) struct Cut {
    /// How many acknowledgements and calls were known before it.
    pub(crate) known: u64,
    /// The processes had just taken over from those before.
    pub(crate) recovering: bool,
    /// What was known and is not there afterwards.
    pub(crate) lost: u64,
    pub(crate) clone: Duration,
    /// From the first start on the cloned disk until all that was known was compared.
    pub(crate) compare: Duration,
}

/// A machine that is on.
pub(crate) struct Life {
    // Unmounted before the folder around it is removed.
    disk: Disk,
    place: Place,
    server: Server,
    dice: Dice,
    off: bool,
    told: BTreeMap<&'static str, Told>,
    since: u64,
    lines: Lines,
    seen: usize,
    nodes: Vec<Node>,
    alive: usize,
    approvals: BTreeMap<String, Child>,
    lived: Lived,
}

impl Life {
    pub(crate) fn new(shelf: &Shelf, seed: u64, off: bool) -> Self {
        let place = Place::new();
        place.write("workflow.yaml", include_str!("../../tests/it/kill/workflow.yaml"));
        place.write("load.yaml", include_str!("load.yaml"));
        place.write("ledger", "");
        let mut dice = Dice(seed);
        let runs = 1 + usize::try_from(dice.below(TASKS.len() as u64)).unwrap();
        let load = (dice.below(2) == 0).then_some(LOAD);
        let tasks = TASKS[..runs].iter().copied().chain(load);
        Self {
            disk: Disk::new(shelf, place.path("store")),
            place,
            server: Server::start(),
            dice,
            off,
            told: tasks.map(|task| (task, Told::default())).collect(),
            since: now(),
            lines: Lines::default(),
            seen: 0,
            nodes: Vec::new(),
            alive: 0,
            approvals: BTreeMap::new(),
            lived: Lived::default(),
        }
    }

    pub(crate) fn play(mut self, model: &Model) -> Lived {
        self.start();
        self.until_moment(model.events);
        let again = self.dice.below(3) == 0;
        let mut whole = self.cut(false);
        if whole && again {
            self.start();
            let wait = Duration::from_micros(self.dice.below(START));
            self.attend(Instant::now() + wait, |_| false);
            whole = self.cut(true);
        }
        if whole {
            self.start();
            self.finish();
            self.check_ends(model);
        }
        self.lived
    }

    /// Starts a process for each run, one way or another.
    fn start(&mut self) {
        self.since = now();
        self.lines = Lines::default();
        self.seen = 0;
        let url = format!("server={}", self.server.url);
        let tasks: Vec<_> = self.told.iter().map(|(task, told)| (*task, told.known())).collect();
        for (task, known) in tasks {
            let mut args = vec!["--store", "store"];
            if known && self.dice.below(2) == 0 {
                args.extend(["runs", "resume", task]);
            } else if task == LOAD {
                args.extend(["run", "load.yaml", "--task-id", task]);
            } else {
                args.extend(["run", "workflow.yaml", "--task-id", task, "--input", &url]);
            }
            args.extend(["--json", "--wait"]);
            let (program, args) = self.program(&args);
            self.nodes.push(self.place.start(Path::new(&program), &args, &self.lines));
            self.alive += 1;
        }
    }

    /// The binary, or what makes its syncs do nothing, with its arguments.
    fn program<'a>(&self, args: &[&'a str]) -> (String, Vec<&'a str>) {
        let kapelle = kapelle().display().to_string();
        if self.off {
            let kapelle: &str = kapelle.leak();
            return ("eatmydata".to_owned(), [&[kapelle], args].concat());
        }
        (kapelle, args.to_vec())
    }

    /// Waits for a moment between the first start and the last event.
    fn until_moment(&mut self, events: u64) {
        // One in ten is cut before anybody could say anything.
        let early = self.dice.below(10) == 0;
        if !early {
            let lines = self.dice.below(events * self.told.len() as u64);
            let mut left = lines;
            self.attend(Instant::now() + PATIENCE, |_| {
                left = left.saturating_sub(1);
                left == 0
            });
        }
        let wait = Duration::from_micros(self.dice.below(if early { START } else { 8_000 }));
        self.attend(Instant::now() + wait, |_| false);
    }

    /// Looks after the runs until a line is the one, all have ended, or `deadline`.
    fn attend(&mut self, deadline: Instant, mut is: impl FnMut(&Line) -> bool) {
        while self.alive > 0 && Instant::now() < deadline {
            self.approve_again();
            let Some(line) = self.lines.get(self.seen, deadline.min(Instant::now() + GLANCE))
            else {
                continue;
            };
            self.seen += 1;
            if line.text.is_empty() {
                self.alive -= 1;
            } else if line.json["type"] == "approval_requested" {
                self.approve(line.json["run"].as_str().unwrap());
            }
            if is(&line) {
                return;
            }
        }
    }

    fn approve(&mut self, run: &str) {
        if self.approvals.contains_key(run) {
            return;
        }
        let by = ["sign-off", "--by", "role:maintainer", "--json"];
        let args = [&["--store", "store", "runs", "approve", run], &by[..]].concat();
        let (program, args) = self.program(&args);
        let mut command = self.place.command(Path::new(&program), &args);
        let approval = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.approvals.insert(run.to_owned(), approval);
    }

    /// The node that was asked may have left, and another have taken over.
    fn approve_again(&mut self) {
        let failed = |child: &mut Child| {
            let status = child.try_wait().unwrap();
            status.is_some_and(|status| !matches!(status.code(), Some(0 | 2)))
        };
        let failed = self.approvals.extract_if(.., |_, child| failed(child));
        for (run, _) in failed.collect::<Vec<_>>() {
            self.approve(&run);
        }
    }

    /// The power goes; whether all that was known before is on the disk.
    fn cut(&mut self, recovering: bool) -> bool {
        let heard = self.lines.all();
        let approved = self.approved();
        let (calls, written) = (self.server.count(), self.place.read("ledger").len());
        let at = now();
        let (image, clone) = self.disk.cut();

        for node in self.nodes.drain(..) {
            node.kill();
        }
        for mut approval in std::mem::take(&mut self.approvals).into_values() {
            approval.kill().ok();
            approval.wait().unwrap();
        }
        self.alive = 0;
        self.disk.replace(image);
        // What was said and done since is of a world that is gone.
        self.server.forget_after(calls);
        let ledger = File::options().write(true).open(self.place.path("ledger")).unwrap();
        ledger.set_len(written as u64).unwrap();

        let known = heard.iter().filter(|line| !line.json["seq"].is_null()).count();
        self.note(heard, &approved, at);
        let begun = Instant::now();
        let lost = self.compare();
        let known = (known + approved.len() + calls) as u64;
        let compare = begun.elapsed();
        self.lived.cuts.push(Cut { known, recovering, lost, clone, compare });
        lost == 0
    }

    /// The runs whose approval was acknowledged.
    fn approved(&mut self) -> Vec<String> {
        let done = |(run, child): (&String, &mut Child)| {
            let status = child.try_wait().unwrap();
            status.is_some_and(|status| status.success()).then(|| run.clone())
        };
        self.approvals.iter_mut().filter_map(done).collect()
    }

    /// Notes what was said before the cut.
    fn note(&mut self, heard: Vec<Line>, approved: &[String], at: u64) {
        for told in self.told.values_mut() {
            told.kills.push(Kill { since: self.since, at });
        }
        for line in heard.into_iter().filter(|line| !line.text.is_empty()) {
            let Some(run) = line.json["run"].as_str().map(str::to_owned) else {
                self.lived.wrong.push(format!("of which run is {}", line.text));
                continue;
            };
            if let Some(task) = line.json["task_id"].as_str() {
                let told = self.told.get_mut(task).unwrap();
                if told.known() && told.id != run {
                    let twins = format!("{} and {run}", told.id);
                    self.lived.wrong.push(format!("repeated: task {task} is two runs: {twins}"));
                }
                told.id.clone_from(&run);
            }
            let told = self.told.iter_mut().find(|(_, told)| told.id == run);
            let (task, told) = told.expect("the first line of a run names its task");
            told.approved |= approved.contains(&run);
            // The load's last line names copies of artifacts for people to look at. They are not
            // synced; when one is gone, the line that is told afterwards does not name it.
            if *task != LOAD || line.json["type"] != "run_completed" {
                told.lines.push(line);
            }
        }
    }

    /// Compares what is there with what was known; how much is lost.
    fn compare(&mut self) -> u64 {
        let mut wrong = Vec::new();
        for told in self.told.values().filter(|told| told.known()) {
            match self.journal(&told.id) {
                Ok(journal) => {
                    check_kept(told, &journal, &mut wrong);
                    self.check_payloads(told, &mut wrong);
                }
                Err(error) => wrong.push(format!("lost acknowledgement: {}: {error}", told.id)),
            }
        }
        let lost = wrong.iter().filter(|wrong| wrong.starts_with("lost")).count() as u64;
        self.lived.wrong.extend(wrong);
        lost
    }

    /// What was said to be kept under a digest is, whole.
    fn check_payloads(&self, told: &Told, wrong: &mut Vec<String>) {
        for digest in told.lines.iter().rev().flat_map(|line| digests(&line.text)).take(PAYLOADS) {
            let output = self.place.give(&["--store", "store", "artifacts", "get", digest]);
            if !output.status.success() {
                wrong.push(format!("lost payload {digest}: {}", said(&output)));
            }
        }
    }

    fn journal(&self, run: &str) -> Result<Journal, String> {
        let output = self.place.give(&["--store", "store", "runs", "events", run, "--json"]);
        if !output.status.success() {
            return Err(said(&output));
        }
        let lines = String::from_utf8_lossy(&output.stdout);
        Ok(Journal::new(lines.lines().map(str::to_owned).collect()))
    }

    /// Lets all runs end.
    fn finish(&mut self) {
        self.attend(Instant::now() + PATIENCE, |_| false);
        for mut node in self.nodes.drain(..) {
            if self.alive > 0 {
                self.lived.wrong.push("a process does not end".to_owned());
                node.kill();
                continue;
            }
            let status = node.end();
            if !status.success() {
                let said = self.place.read("stderr");
                self.lived.wrong.push(format!("a process ended with {status}: {said}"));
            }
        }
        let mut approved = Vec::new();
        for (run, approval) in std::mem::take(&mut self.approvals) {
            // Whoever was not heard: the run has ended, and what is in it is checked.
            if approval.wait_with_output().unwrap().status.success() {
                approved.push(run);
            }
        }
        let twice = |told: &&Told| told.approved && approved.contains(&told.id);
        if let Some(told) = self.told.values().find(twice) {
            self.lived.wrong.push(format!("repeated: {} was approved twice", told.id));
        }
        let (heard, at) = (self.lines.all(), now());
        self.note(heard, &approved, at);
    }

    fn check_ends(&mut self, model: &Model) {
        for (task, told) in &self.told {
            self.lived.ended += 1;
            match self.journal(&told.id) {
                Ok(journal) if *task == LOAD => {
                    check_kept(told, &journal, &mut self.lived.wrong);
                }
                Ok(journal) => {
                    let wrong = check(&self.place, &self.server, told, &journal, &model.output);
                    self.lived.wrong.extend(wrong);
                }
                Err(error) => self.lived.wrong.push(format!("lost run {}: {error}", told.id)),
            }
        }
    }
}

impl Server {
    /// How many calls came so far.
    fn count(&self) -> usize {
        self.seen.hits.lock().unwrap().len()
    }

    /// Forgets all but the first `count`.
    fn forget_after(&self, count: usize) {
        self.seen.hits.lock().unwrap().truncate(count);
    }
}

impl Told {
    /// Whether anything was said of it.
    fn known(&self) -> bool {
        !self.id.is_empty()
    }
}

/// The digests in a line.
fn digests(text: &str) -> impl Iterator<Item = &str> {
    const LEN: usize = "sha256:".len() + 64;
    text.match_indices("sha256:").filter_map(|(at, _)| text.get(at..at + LEN))
}

fn said(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}
