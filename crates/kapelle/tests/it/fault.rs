//! One call to the disk fails, each in turn, and nothing is lost, repeated or made up.
//!
//! Every sync of a short piece of work fails once, and a sample of its writes and reads; with
//! `KAPELLE_FAULT_ALL=1` every one, and of the run that copies the log, whose thousands are much
//! alike, every tenth. A shim of the C library (`fault/shim.c`) makes them fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::fault_round::{BROKEN, Bench, Call, END_MAX, FULL, Fault, LOAD, Played, WORK};

/// How many rounds go on at once.
const AT_ONCE: usize = 2;

/// The calls that fail where all are asked for, beside syncs and cuts.
const ALL: [usize; WORK.len()] = [1, 1, 1, 10];

/// What fails how, and in which steps of the work: each k-th call where not all are asked for.
const SYNC: Kind = Kind { op: "sync", errno: BROKEN, each: [1, 1, 1, 1], keep: false };
const KINDS: [Kind; 6] = [
    SYNC,
    Kind { keep: true, each: [3, 3, 3, 9], ..SYNC },
    Kind { op: "write", errno: BROKEN, each: [8, 8, 8, 500], keep: false },
    Kind { op: "write", errno: FULL, each: [8, 2, 8, 500], keep: false },
    Kind { op: "cut", ..SYNC },
    Kind { op: "read", errno: BROKEN, each: [7, 11, 9, 200], keep: false },
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
    // A machine that stands still for a moment delays a few ends, not one in ten.
    let late = table.ends.iter().filter(|end| **end > END_MAX).count();
    assert!(late * 10 <= table.ends.len(), "{late} of {} ends came late", table.ends.len());
    let last = table.ends.iter().max().copied().unwrap_or(0);
    assert!(last < 50 * END_MAX, "an end came after {} ms", last / 1000);
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
            let few = matches!(op, "sync" | "cut");
            let each = if all && few {
                [1; WORK.len()]
            } else if all {
                ALL
            } else {
                each
            };
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
    ends: Vec<u64>,
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
            self.ends.push(failed.micros);
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
        let at = |percent: usize| ends.get(ends.len() * percent / 100).copied().unwrap_or(0) / 1000;
        let last = ends.last().copied().unwrap_or(0) / 1000;
        println!("to the end: {} ms median, {} ms of 9 in 10, {last} ms at most", at(50), at(90));
        println!("{} not reached, {:.0?}", self.missed, stage.begun.elapsed());
    }
}
