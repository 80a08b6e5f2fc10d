//! One machine: processes that work, one or two power cuts, others that go on to the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::disk::{Disk, Shelf};
use crate::kill_check::{Journal, check, check_kept};
use crate::kill_node::{Line, Place, now};
use crate::kill_round::{Dice, Kill, Told};
use crate::kill_server::Server;
use crate::shift::Shift;

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
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
    told: BTreeMap<&'static str, Told>,
    shift: Shift,
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
            told: tasks.map(|task| (task, Told::default())).collect(),
            shift: Shift::new(off),
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
            self.shift.attend(&self.place, Instant::now() + wait, |_| false);
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
        self.shift.begin();
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
            self.shift.start(&self.place, &args);
        }
    }

    /// Waits for a moment between the first start and the last event.
    fn until_moment(&mut self, events: u64) {
        // One in ten is cut before anybody could say anything.
        let early = self.dice.below(10) == 0;
        if !early {
            let lines = self.dice.below(events * self.told.len() as u64);
            let mut left = lines;
            self.shift.attend(&self.place, Instant::now() + PATIENCE, |_| {
                left = left.saturating_sub(1);
                left == 0
            });
        }
        let wait = Duration::from_micros(self.dice.below(if early { START } else { 8_000 }));
        self.shift.attend(&self.place, Instant::now() + wait, |_| false);
    }

    /// The power goes; whether all that was known before is on the disk.
    fn cut(&mut self, recovering: bool) -> bool {
        let (heard, approved) = (self.shift.heard(), self.shift.approved());
        let (calls, written) = (self.server.count(), self.place.read("ledger").len());
        let at = now();
        let (image, clone) = self.disk.cut();

        self.shift.kill();
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

    /// Notes what was said before the cut.
    fn note(&mut self, heard: Vec<Line>, approved: &[String], at: u64) {
        for told in self.told.values_mut() {
            told.kills.push(Kill { since: self.shift.since, at });
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
        self.shift.attend(&self.place, Instant::now() + PATIENCE, |_| false);
        let (approved, wrong) = self.shift.end(&self.place);
        self.lived.wrong.extend(wrong);
        let twice = |told: &&Told| told.approved && approved.contains(&told.id);
        if let Some(told) = self.told.values().find(twice) {
            self.lived.wrong.push(format!("repeated: {} was approved twice", told.id));
        }
        let (heard, at) = (self.shift.heard(), now());
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
