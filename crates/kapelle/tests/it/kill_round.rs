//! One round of the kill test: processes on a store, killed at a moment that the seed says, gone on
//! with by others, to the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::kill_node::{Line, Lines, Node, Place, kapelle, now};
use crate::kill_server::Server;

/// The longest that a run may take with all that happens to it.
const PATIENCE: Duration = Duration::from_secs(60);
/// In microseconds: how long after its start a process may still be recovering.
const START: u64 = 35_000;
/// The same for one that watches, after the death of the other.
const TAKEOVER: u64 = 120_000;

/// Numbers that a seed gives, the same each time (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn wait(&mut self, micros_max: u64) -> Duration {
        Duration::from_micros(self.below(micros_max))
    }
}

/// Who is there when the kill comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cast {
    /// One process; another one is started afterwards.
    Alone,
    /// A second one watches the run, and takes over.
    Watched,
    /// A second one works on a run of its own in the same store.
    Two,
}

impl Cast {
    pub(crate) fn of(round: u64) -> Self {
        match round % 4 {
            1 => Self::Watched,
            3 => Self::Two,
            _ => Self::Alone,
        }
    }
}

/// A kill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    /// From when on the killed process could work on the run.
    pub(crate) since: u64,
    /// When it was killed.
    pub(crate) at: u64,
}

/// A run of the round, as it was seen from outside.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Its id.
    pub(crate) id: String,
    /// What processes said of it: each is a promise.
    pub(crate) lines: Vec<Line>,
    /// Somebody approved, and was told that it is on disk.
    pub(crate) approved: bool,
    /// The kills of its processes.
    pub(crate) kills: Vec<Kill>,
}

/// A round that is going on.
pub(crate) struct Round<'a> {
    pub(crate) place: Place,
    /// The program that is killed first.
    first: PathBuf,
    server: &'a Server,
    dice: Dice,
    lines: Lines,
    /// How many lines have been looked at.
    seen: usize,
    told: BTreeMap<String, Told>,
    approvals: BTreeMap<String, JoinHandle<bool>>,
    ended: Vec<u32>,
}

impl<'a> Round<'a> {
    pub(crate) fn new(first: &Path, server: &'a Server, seed: u64) -> Self {
        let place = Place::new();
        place.write("workflow.yaml", include_str!("kill/workflow.yaml"));
        Self {
            place,
            first: first.into(),
            server,
            dice: Dice(seed),
            lines: Lines::default(),
            seen: 0,
            told: BTreeMap::new(),
            approvals: BTreeMap::new(),
            ended: Vec::new(),
        }
    }

    /// Nothing is killed.
    pub(crate) fn undisturbed(mut self) -> (Place, Vec<Told>) {
        let node = self.run(&kapelle(), "a");
        self.finish(vec![node]);
        self.results()
    }

    /// Kills, goes on, to the end. `events`: how many an undisturbed run has.
    pub(crate) fn play(mut self, cast: Cast, events: u64) -> (Place, Vec<Told>) {
        let first = self.first.clone();
        let mut victim = self.run(&first, "a");
        let mut others = Vec::new();
        // One in ten dies before it could say anything.
        let early = self.dice.below(10) == 0;
        if cast == Cast::Two {
            others.push(self.run(&kapelle(), "b"));
        }
        if early {
            self.pause(START);
        } else {
            let id = victim.id();
            let seq = 3 + self.dice.below(events);
            self.until(id, |line| line["type"] == "step_started");
            if cast == Cast::Watched {
                others.push(self.resume("a"));
            }
            self.until(id, |line| line["seq"].as_u64() >= Some(seq));
            self.pause(8_000);
        }
        let mut since = self.kill(victim);
        let again = self.dice.below(4) > 0;
        victim = match others.pop() {
            Some(watcher) if cast == Cast::Watched => watcher,
            other => {
                others.extend(other);
                let next = self.again(cast, early);
                since = next.at;
                next
            }
        };
        if again {
            self.recovering(&victim, since, if cast == Cast::Watched { TAKEOVER } else { START });
            victim = {
                self.kill_since(victim, since);
                self.again(Cast::Alone, early)
            };
        }
        others.push(victim);
        self.finish(others);
        self.results()
    }

    /// Waits for a moment in a takeover.
    fn recovering(&mut self, victim: &Node, since: u64, micros_max: u64) {
        if self.dice.below(6) == 0 {
            self.until(victim.id(), |line| line["type"] == "run_adopted");
            self.pause(3_000);
        } else {
            let at = since + self.dice.below(micros_max);
            self.attend(Instant::now() + Duration::from_micros(at.saturating_sub(now())));
        }
    }

    fn run(&mut self, program: &Path, task: &str) -> Node {
        let server = format!("server={}", self.server.url);
        let args = [
            "--store",
            "store",
            "run",
            "workflow.yaml",
            "--task-id",
            task,
            "--json",
            "--wait",
            "--input",
            &server,
        ];
        self.place.start(program, &args, &self.lines)
    }

    fn resume(&mut self, run: &str) -> Node {
        let args = ["--store", "store", "runs", "resume", run, "--json", "--wait"];
        self.place.start(&kapelle(), &args, &self.lines)
    }

    /// Goes on with what was left behind, one way or another.
    fn again(&mut self, cast: Cast, early: bool) -> Node {
        // A process that was killed early may have left nothing that could be resumed.
        if early || self.dice.below(2) == 0 {
            self.run(&kapelle(), "a")
        } else if cast == Cast::Two {
            self.resume("--all")
        } else {
            self.resume("a")
        }
    }

    fn kill(&mut self, node: Node) -> u64 {
        let since = node.at;
        self.kill_since(node, since)
    }

    fn kill_since(&mut self, node: Node, since: u64) -> u64 {
        let kill = Kill { since, at: node.kill() };
        // The task of every process that is killed is `a`.
        self.told.entry("a".to_owned()).or_default().kills.push(kill);
        kill.at
    }

    /// Waits a random time.
    fn pause(&mut self, micros_max: u64) {
        let wait = self.dice.wait(micros_max);
        self.attend(Instant::now() + wait);
    }

    /// Looks after the round until `deadline`.
    fn attend(&mut self, deadline: Instant) {
        while self.next(deadline).is_some() {}
    }

    /// Looks after the round until a process says what is wanted, or ends.
    fn until(&mut self, from: u32, is: impl Fn(&Json) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.ended.contains(&from) {
            match self.next(deadline) {
                Some(line) if line.from == from && is(&line.json) => return,
                Some(_) => {}
                None => self.give_up(),
            }
        }
    }

    /// Tells all there is to know about a round that does not go on.
    fn give_up(&self) -> ! {
        let said = self.lines.all();
        let short = |line: &Line| {
            let word = |name: &str| line.json[name].to_string();
            format!("{} {} {} {}", line.from, word("seq"), word("type"), word("step"))
        };
        let said: Vec<String> = said.iter().map(short).collect();
        let nodes = std::fs::read_dir(self.place.path("store/nodes")).into_iter().flatten();
        let nodes: Vec<_> = nodes.map(|entry| entry.unwrap().file_name()).collect();
        let listed = self.place.give(&["--store", "store", "runs", "list"]);
        panic!(
            "waited in vain; kills: {:?}\nnodes: {nodes:?}\nruns: {}\nstderr: {}\n{}",
            self.told,
            String::from_utf8_lossy(&listed.stdout),
            self.place.read("stderr"),
            said.join("\n")
        );
    }

    fn next(&mut self, deadline: Instant) -> Option<Line> {
        let line = self.lines.get(self.seen, deadline)?;
        self.seen += 1;
        if line.text.is_empty() {
            self.ended.push(line.from);
        }
        if line.json["type"] == "approval_requested" {
            let run = line.json["run"].as_str().unwrap().to_owned();
            if !self.approvals.contains_key(&run) {
                let approval = approve(&self.place, run.clone());
                self.approvals.insert(run, approval);
            }
        }
        Some(line)
    }

    fn finish(&mut self, nodes: Vec<Node>) {
        for mut node in nodes {
            let id = node.id();
            self.until(id, |_| false);
            let status = node.end();
            assert!(status.success(), "it ended with {status}: {}", self.place.read("stderr"));
        }
    }

    /// What was told, run by run.
    fn results(mut self) -> (Place, Vec<Told>) {
        let lines = self.lines.all();
        let mut tasks = BTreeMap::new();
        for line in &lines {
            if let (Some(run), Some(task)) =
                (line.json["run"].as_str(), line.json["task_id"].as_str())
            {
                tasks.insert(run.to_owned(), task.to_owned());
            }
        }
        for line in lines.into_iter().filter(|line| !line.text.is_empty()) {
            let task = line.json["run"].as_str().and_then(|run| tasks.get(run));
            let task = task.unwrap_or_else(|| panic!("of which run is {}", line.text));
            self.told.entry(task.clone()).or_default().lines.push(line);
        }
        for (run, task) in tasks {
            let told = self.told.get_mut(&task).unwrap();
            told.approved = self.approvals.remove(&run).is_some_and(|ended| ended.join().unwrap());
            assert!(told.id.is_empty(), "task {task} is two runs: {} and {run}", told.id);
            told.id = run;
        }
        (self.place, self.told.into_values().collect())
    }
}

/// Approves from a process of its own, again and again until somebody takes it; whether it was
/// told that the word is on disk.
fn approve(place: &Place, run: String) -> JoinHandle<bool> {
    let args = [
        "--store",
        "store",
        "runs",
        "approve",
        &run,
        "sign-off",
        "--by",
        "role:maintainer",
        "--json",
    ];
    let mut command = place.command(&kapelle(), &args);
    std::thread::spawn(move || {
        let since = Instant::now();
        loop {
            let output = command.output().unwrap();
            match output.status.code() {
                Some(0) => {
                    let answer: Json = serde_json::from_slice(&output.stdout).unwrap();
                    assert_eq!(answer["id"], *run);
                    return true;
                }
                // It was decided before, by an answer that got lost.
                Some(2) => return false,
                _ if since.elapsed() > PATIENCE => {
                    panic!("nobody takes it: {}", String::from_utf8_lossy(&output.stderr))
                }
                _ => {}
            }
        }
    })
}
