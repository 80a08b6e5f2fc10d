//! One call to the disk fails, each in turn, and nothing is lost, repeated or made up.
//!
//! Every sync of a short piece of work fails once, and a sample of its writes and reads; with
//! `KAPELLE_FAULT_ALL=1` every one. A shim of the C library (`fault/shim.c`) makes them fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::fault_round::{
    BROKEN, Bench, Call, END_MAX, FULL, Fault, LOAD, Played, WORK, calls, settings,
};
use crate::kill_node::{Lines, Place, eventually, is_alive, kapelle, now};

/// How many rounds go on at once.
const AT_ONCE: usize = 2;

/// What fails how, and in which steps of the work: each k-th call where not all are asked for.
const SYNC: Kind = Kind { op: "sync", errno: BROKEN, each: [1, 1, 1, 1], keep: false };
const KINDS: [Kind; 6] = [
    SYNC,
    Kind { keep: true, each: [3, 3, 3, 9], ..SYNC },
    Kind { op: "write", errno: BROKEN, each: [8, 8, 8, 150], keep: false },
    Kind { op: "write", errno: FULL, each: [8, 2, 8, 150], keep: false },
    Kind { op: "cut", ..SYNC },
    Kind { op: "read", errno: BROKEN, each: [7, 11, 9, 60], keep: false },
];

#[derive(Clone, Copy)]
struct Kind {
    op: &'static str,
    errno: i32,
    each: [usize; WORK.len()],
    keep: bool,
}

#[test]
fn every_call_to_the_disk_may_fail_once() {
    let all = std::env::var_os("KAPELLE_FAULT_ALL").is_some_and(|all| all == "1");
    let stage = Stage::new();
    let faults = stage.faults(all);
    let (next, table) = (AtomicUsize::new(0), Mutex::new(Table::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let played = stage.play(fault);
                    table.lock().unwrap().add(fault, &played);
                }
            });
        }
    });
    let table = table.into_inner().unwrap();
    table.print(&stage);
    let wrong = table.wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} rounds went wrong:\n{wrong}", table.wrong.len());
    assert!(table.missed * 10 <= faults.len(), "{} calls were not reached", table.missed);
    // How long ends took is printed; a busy machine delays them, but nothing is waited for.
    let late: Vec<_> = table.ends.iter().filter(|end| end.0 > 50 * END_MAX).collect();
    assert!(late.is_empty(), "far too late: {late:#?}");
}

/// The end waits for nothing: not even for a process that may take ten seconds to let go.
#[test]
fn a_failed_sync_ends_the_process_in_the_midst_of_its_work() {
    let folder = tempfile::tempdir().unwrap();
    let shim = build_shim(folder.path());
    let place = Place::new();
    let pid = place.path("pid");
    place.write("workflow.yaml", &with_stubborn_step(&pid));
    let (store, log) = (place.path("store"), place.path("calls"));
    let mut words = settings(&shim, &store, &log).to_vec();
    words.extend(["FAULT_OP=sync", "FAULT_AT=60", "FAULT_ERRNO=5"].map(str::to_owned));
    words.push(kapelle().display().to_string());
    let line = ["--store", "store", "run", "workflow.yaml", "--json"];
    let words: Vec<&str> = words.iter().map(String::as_str).chain(line).collect();
    let status = place.start(Path::new("env"), &words, &Lines::default()).end();
    let end = now();
    assert_eq!(status.code(), Some(6), "{}", place.read("stderr"));
    let failed = calls(&place.read("calls"), &store).into_iter().find(|call| call.errno != 0);
    let took = end - failed.expect("a sync failed").at;
    assert!(took < 20 * END_MAX, "it ended after {} ms", took / 1000);
    let pid = place.read("pid").trim().parse().expect("the step had begun");
    eventually("its process is gone too", || !is_alive(pid));
}

/// A step that is not told to end, beside fifty commits that begin once it has.
fn with_stubborn_step(pid: &Path) -> String {
    let pid = pid.display();
    let stubborn = format!("trap '' TERM; echo $$ > {pid}; sleep 600 & wait; wait");
    let ready = format!("until test -s {pid}; do sleep 0.01; done");
    let chain = (1..=50).map(|n| {
        json!({ "id": format!("s{n}"), "agentName": "echo", "input": { "value": n },
            "dependencies": [format!("s{}", n - 1)] })
    });
    let process =
        |id: &str, shell| json!({ "id": id, "agentName": "process", "input": { "shell": shell } });
    let first = [process("stubborn", stubborn), process("s0", ready)];
    let tasks: Vec<_> = first.into_iter().chain(chain).collect();
    json!({ "id": "ends", "tasks": tasks }).to_string()
}

/// What all rounds share.
struct Stage {
    _folder: tempfile::TempDir,
    shim: PathBuf,
    /// The store before each step of the work.
    before: [PathBuf; WORK.len()],
    calls: [Vec<Call>; WORK.len()],
    begun: Instant,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shim = build_shim(folder.path());
        let before = std::array::from_fn(|step| folder.path().join(format!("store-{step}")));
        let bench = Bench::new(&shim, None);
        let calls = std::array::from_fn(|step| {
            if step > 0 {
                copy(&bench.store(), &before[step]);
            }
            bench.count(step)
        });
        let stage = Self { _folder: folder, shim, before, calls, begun: Instant::now() };
        let copied = |call: &&Call| call.op == "sync" && call.file == "kapelle.db";
        let copies = stage.calls[LOAD].iter().filter(copied).count();
        assert!(copies >= 2, "the log was not copied during the run, only before it");
        stage
    }

    fn count(&self, step: usize, op: &str) -> usize {
        self.calls[step].iter().filter(|call| call.op == op).count()
    }

    fn faults(&self, all: bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        for Kind { op, errno, each, keep } in KINDS {
            let each = if all { [1; WORK.len()] } else { each };
            for (step, each) in each.into_iter().enumerate() {
                let at = (1..=self.count(step, op)).step_by(each);
                faults.extend(at.map(|at| Fault { step, op, at, errno, keep }));
            }
        }
        faults
    }

    fn play(&self, fault: &Fault) -> Played {
        let before = (fault.step > 0).then(|| self.before[fault.step].as_path());
        Bench::new(&self.shim, before).play(fault)
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success(), "cp");
}

fn build_shim(folder: &Path) -> PathBuf {
    let (source, shim) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&source, include_str!("fault/shim.c")).unwrap();
    let mut compile = Command::new("cc");
    compile.args(["-O1", "-shared", "-fPIC", "-o"]).args([&shim, &source]).arg("-ldl");
    assert!(compile.status().expect("there is a C compiler").success(), "cc");
    shim
}

/// What came of all rounds.
#[derive(Default)]
struct Table {
    rows: BTreeMap<String, Row>,
    wrong: Vec<String>,
    missed: usize,
    /// How many microseconds after which failure the process had ended; a full disk is no reason to.
    ends: Vec<(u64, String)>,
}

#[derive(Default)]
struct Row {
    rounds: usize,
    stopped: usize,
    went_on: usize,
    wrong: usize,
}

impl Table {
    fn add(&mut self, fault: &Fault, played: &Played) {
        let Some(failed) = &played.failed else {
            self.missed += 1;
            return;
        };
        let how = if fault.errno == FULL { "ENOSPC" } else { "EIO" };
        let kept = if fault.keep { ", kept" } else { "" };
        let row = self.rows.entry(format!("{} {how}{kept}", fault.op)).or_default();
        row.rounds += 1;
        row.wrong += usize::from(!played.wrong.is_empty());
        if failed.code == Some(6) {
            row.stopped += 1;
            if fault.errno != FULL {
                self.ends.push((failed.micros, format!("{fault:?} on `{}`", failed.file)));
            }
        } else {
            row.went_on += 1;
        }
        if !played.wrong.is_empty() {
            self.wrong.push(format!("{fault:?}:\n{}", played.wrong.join("\n")));
        }
    }

    #[expect(clippy::print_stdout, reason = "what the test is to show")]
    fn print(&self, stage: &Stage) {
        for (step, work) in WORK.iter().enumerate() {
            let count = |op| stage.count(step, op);
            let (syncs, writes, reads) = (count("sync"), count("write"), count("read"));
            println!("`{}`: {syncs} syncs, {writes} writes, {reads} reads", work.line);
        }
        println!("{:<16} rounds  exit 6  went on  wrong", "fault");
        for (kind, Row { rounds, stopped, went_on, wrong }) in &self.rows {
            println!("{kind:<16} {rounds:>6} {stopped:>7} {went_on:>8} {wrong:>6}");
        }
        let mut ends = self.ends.clone();
        ends.sort_unstable();
        let at = |at: usize| ends.get(at).map_or(0, |end| end.0) / 1000;
        let [half, most] = [50, 90].map(|percent| at(ends.len() * percent / 100));
        println!("to the end: {half} ms median, {most} ms of 9 in 10; the last of {}:", ends.len());
        for (micros, what) in ends.iter().rev().take(5) {
            println!("  {} ms: {what}", micros / 1000);
        }
        println!("{} not reached, {:.0?}", self.missed, stage.begun.elapsed());
    }
}
