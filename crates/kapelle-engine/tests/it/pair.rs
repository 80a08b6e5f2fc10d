//! Two processes on one store under load, killed in turn: each goes on with the other's runs.
//!
//! `KAPELLE_TAKEOVERS` says how many kills. The test binary plays the processes as well.

#![expect(clippy::print_stdout, reason = "processes tell each other, and figures are shown")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kapelle_core::Tenant;
use kapelle_core::plan::{Plan, Retry, Step, Work};
use kapelle_core::port::Journal as _;
use kapelle_core::port::agent::{Action, Agent, Agents, Answer, Call, Card, Desk, Failure};
use kapelle_core::port::journal::RunQuery;
use kapelle_engine::{Engine, NewRun, Options, Parts};
use kapelle_store::{Member, Sqlite};
use serde_json::json;

const STORE: &str = "KAPELLE_PAIR_STORE";
/// How many steps a run has, one after the other.
const STEPS: u32 = 60;
/// How many runs a process begins at once.
const RUNS: usize = 4;
/// How long a takeover may take before the test gives up.
/// Who waits for so long for a step's commit or for a read is starved, however busy the machine.
const STARVED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// Says which attempt it makes.
struct Teller(Card);

#[async_trait]
impl Agent for Teller {
    fn card(&self) -> &Card {
        &self.0
    }

    async fn perform(&self, call: Call, _: &dyn Desk) -> Result<Answer, Failure> {
        println!("\ndid {} {} {}", call.run, call.step, call.attempt.0);
        Ok(Answer { value: json!("x".repeat(100)), ..Answer::default() })
    }
}

/// A process of the pair; run as a test by itself, it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_a_pair() {
    let Ok(store) = std::env::var(STORE) else { return };
    let action = |name: &str| Action {
        name: name.into(),
        description: "Tells.".into(),
        input: json!(true),
        output: json!(true),
    };
    let (name, description) = ("teller".into(), "Tells.".into());
    let card = Card { name, description, actions: vec![action("tell")], concurrency_max: None };
    let mut agents = Agents::default();
    agents.register(Arc::new(Teller(card))).unwrap();
    let journal = Arc::new(Sqlite::open(store.as_ref()).unwrap());
    let nodes = Arc::new(Member::join(store.as_ref(), None).unwrap());
    let parts = Parts { journal, nodes, agents };
    let engine = Engine::open(parts, Options::default()).await.unwrap();
    let work = async || loop {
        engine.perform(chain(&engine)).await.unwrap();
    };
    let all: Vec<_> = (0..RUNS).map(|_| work()).collect();
    tokio::join!(adopt(&engine), futures_util::future::join_all(all));
}

/// Works on every run that nobody works on, as whoever watches one does.
async fn adopt(engine: &Engine) {
    loop {
        let running = Some("running".into());
        let query = RunQuery { limit: 50, status: running, ..RunQuery::default() };
        let tenant = Tenant::default();
        let rows = engine.journal().runs(&tenant, &query).await.unwrap();
        // Or the other one has it, or it has ended, or changed hands: that is seen next time.
        let work = rows.iter().map(|row| engine.work_on(&tenant, row.run));
        drop(futures_util::future::join_all(work).await);
        // The pace of a node that looks for free shards.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn chain(engine: &Engine) -> NewRun {
    let step = |n: u32| Step {
        id: format!("s{n}").parse().unwrap(),
        description: None,
        work: Work::Agent { agent: "teller".into(), action: None, input: json!({}), prompt: None },
        needs: n.checked_sub(1).map(|n| format!("s{n}").parse().unwrap()).into_iter().collect(),
        when: None,
        for_each: None,
        priority: 5,
        timeout_ms: 60_000,
        retry: Retry { initial_ms: 1, ..Retry::default() },
        on_failure: kapelle_core::plan::OnFailure::Fail,
        on_unknown: None,
        output: None,
        budget: None,
        estimate_ms: None,
    };
    let steps = (0..STEPS).map(step).collect();
    let plan = Plan { workflow: "load".into(), steps, max_parallel: 1, ..Plan::default() };
    NewRun {
        tenant: Tenant::default(),
        plan: engine.prepare(&plan).unwrap(),
        inputs: json!({}),
        root: "/".into(),
        task_id: None,
        key: None,
    }
}

/// An attempt, as its process told of it.
struct Did {
    by: usize,
    at: Instant,
    run: String,
    step: u32,
    attempt: u32,
}

struct Process {
    number: usize,
    child: Child,
}

impl Process {
    fn start(number: usize, store: &Path, to: &Sender<Did>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "pair::one_of_a_pair", "--nocapture"]).env(STORE, store);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (says, to) = (BufReader::new(child.stdout.take().unwrap()), to.clone());
        std::thread::spawn(move || {
            for line in says.lines().map_while(Result::ok) {
                let words: Vec<_> = line.split(' ').collect();
                if let ["did", run, step, attempt] = words[..] {
                    let (step, attempt) = (step[1..].parse().unwrap(), attempt.parse().unwrap());
                    let did =
                        Did { by: number, at: Instant::now(), run: run.into(), step, attempt };
                    // Nobody listens any more at the end of the test.
                    to.send(did).ok();
                }
            }
        });
        Self { number, child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What is known of a run.
struct Known {
    by: usize,
    step: u32,
}

/// What was seen so far.
struct Watch {
    heard: Receiver<Did>,
    done: BTreeSet<(String, u32, u32)>,
    runs: BTreeMap<String, Known>,
    killed: BTreeMap<usize, Instant>,
    /// Runs of a dead process, and the attempts of them that were made since.
    orphans: BTreeMap<String, u32>,
    takeovers: Vec<Duration>,
    last: BTreeMap<usize, Instant>,
    waits: Vec<Duration>,
}

impl Watch {
    fn new(heard: Receiver<Did>) -> Self {
        Self {
            heard,
            done: BTreeSet::new(),
            runs: BTreeMap::new(),
            killed: BTreeMap::new(),
            orphans: BTreeMap::new(),
            takeovers: Vec::new(),
            last: BTreeMap::new(),
            waits: Vec::new(),
        }
    }

    /// Takes note of the next attempt; who made it.
    fn next(&mut self) -> usize {
        let did = self.heard.recv_timeout(PATIENCE).expect("nobody does anything");
        let once = self.done.insert((did.run.clone(), did.step, did.attempt));
        assert!(
            once,
            "attempt {} of step {} of `{}` was made twice",
            did.attempt, did.step, did.run
        );
        if let Some(last) = self.last.insert(did.by, did.at) {
            self.waits.push(did.at - last);
        }
        let known = Known { by: did.by, step: did.step };
        let before = self.runs.insert(did.run.clone(), known);
        let before = before.map_or(did.by, |before| before.by);
        if before != did.by {
            let killed = self.killed.contains_key(&before);
            assert!(killed, "{before} and {} both work on `{}`", did.by, did.run);
        }
        if !self.killed.contains_key(&did.by) {
            self.adopted(&did);
        }
        did.by
    }

    fn adopted(&mut self, did: &Did) {
        let Some(attempts) = self.orphans.get_mut(&did.run) else { return };
        *attempts += 1;
        // The second one is the step after the first that ended.
        if *attempts == 2 {
            self.orphans.remove(&did.run);
            let killed = self.killed.values().max().unwrap();
            self.takeovers.push(did.at - *killed);
        }
    }

    /// Kills `victim`, and waits until all its runs go on.
    fn kill(&mut self, victim: &mut Process) {
        victim.kill();
        self.killed.insert(victim.number, Instant::now());
        let theirs = self.runs.iter().filter(|(_, known)| known.by == victim.number);
        // A run that was about to end may have done so.
        let unended = theirs.filter(|(_, known)| known.step + 4 < STEPS);
        self.orphans = unended.map(|(run, _)| (run.clone(), 0)).collect();
        let deadline = Instant::now() + PATIENCE;
        while !self.orphans.is_empty() {
            self.next();
            assert!(Instant::now() < deadline, "nobody goes on with {:?}", self.orphans.keys());
        }
    }
}

#[test]
fn two_processes_go_on_with_each_others_runs() {
    let kills = std::env::var("KAPELLE_TAKEOVERS").map_or(8, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (to, heard) = channel();
    let mut watch = Watch::new(heard);
    let mut pair = [Process::start(0, dir.path(), &to), Process::start(1, dir.path(), &to)];
    let reader = Reader::start(dir.path());
    for kill in 0..kills {
        let busy: BTreeSet<usize> = pair.iter().map(|process| process.number).collect();
        let mut counts = BTreeMap::<usize, u32>::new();
        let deadline = Instant::now() + PATIENCE;
        // Both are at work when one is killed, at another moment each time.
        while busy.iter().any(|number| counts.get(number).copied().unwrap_or(0) < 30 + kill % 7) {
            *counts.entry(watch.next()).or_default() += 1;
            assert!(Instant::now() < deadline, "one does nothing: {counts:?}");
        }
        let victim = &mut pair[(kill % 2) as usize];
        watch.kill(victim);
        *victim = Process::start(2 + kill as usize, dir.path(), &to);
    }
    drop(pair);
    let mut reads = reader.end();
    let steps = watch.done.len();
    println!("{kills} kills, {steps} attempts, {} runs taken over", watch.takeovers.len());
    println!("kill to the end of the next step: {}", spread(&mut watch.takeovers));
    println!("from one step to the next of a process: {}", spread(&mut watch.waits));
    println!("a list of 50 runs: {}", spread(&mut reads));
    let longest = watch.waits.last().max(reads.last()).copied().unwrap_or_default();
    assert!(longest < STARVED, "somebody had to wait for {longest:?}");
    assert!(watch.takeovers.len() >= kills as usize, "hardly anything was taken over");
    if kills >= 100 {
        let p99 = watch.takeovers[(watch.takeovers.len() - 1) * 99 / 100];
        assert!(p99 < Duration::from_millis(500), "p99 is {p99:?}");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(async { Sqlite::open(dir.path()).unwrap().verify(|_| {}).await });
    assert!(found.as_ref().is_ok_and(|found| found.damage.is_empty()), "{found:?}");
}

fn spread(all: &mut [Duration]) -> String {
    all.sort();
    let at = |per_mille: usize| all[(all.len() - 1) * per_mille / 1000];
    format!("p50 {:.1?}, p99 {:.1?}, max {:.1?} of {}", at(500), at(990), at(1000), all.len())
}

/// Somebody who reads all the time.
struct Reader {
    ends: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Duration>>,
}

impl Reader {
    fn start(store: &Path) -> Self {
        let (store, ends) = (Sqlite::open(store).unwrap(), Arc::new(AtomicBool::new(false)));
        let end = ends.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let mut took = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let begin = Instant::now();
                let query = RunQuery { limit: 50, ..RunQuery::default() };
                runtime.block_on(store.runs(&Tenant::default(), &query)).unwrap();
                took.push(begin.elapsed());
                // A reader's pace, not a wait for something.
                std::thread::sleep(Duration::from_millis(10));
            }
            took
        });
        Self { ends, thread }
    }

    fn end(self) -> Vec<Duration> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
