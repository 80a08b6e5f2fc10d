//! One round of the fault test: a command in which one call to the disk fails, and what comes after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::kill_check::{Journal, check_kept, check_steps};
use crate::kill_node::{Line, Lines, Place, kapelle, now};
use crate::kill_round::{Kill, Told};

/// The longest that a command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// `EIO`.
pub(crate) const BROKEN: i32 = 5;
/// How soon a process has ended after a failure, in microseconds.
pub(crate) const END_MAX: u64 = 100_000;
/// `ENOSPC`.
pub(crate) const FULL: i32 = 28;

/// A command of the work, and how it ends if nothing fails.
pub(crate) struct Step {
    pub(crate) line: &'static str,
    pub(crate) code: i32,
}

/// The work, one process after the other.
pub(crate) const WORK: [Step; 4] = [
    Step { line: "run workflow.yaml --json --task-id work", code: 5 },
    Step { line: "runs approve work gate --by role:maintainer --json", code: 0 },
    Step { line: "runs resume work --json", code: 0 },
    Step { line: "run load.yaml --json --task-id load", code: 0 },
];
/// The step of the work that is an approval.
const APPROVE: usize = 1;
/// The step of the work that begins the second run.
pub(crate) const LOAD: usize = 3;

/// Which call fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// In which step of the work.
    pub(crate) step: usize,
    /// `sync`, `write`, `cut` or `read`.
    pub(crate) op: &'static str,
    /// The how many-th.
    pub(crate) at: usize,
    pub(crate) errno: i32,
    /// Whether what was not synced is there all the same afterwards.
    pub(crate) keep: bool,
}

/// A call to the disk, as the shim noted it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) op: String,
    pub(crate) thread: u64,
    pub(crate) at: u64,
    pub(crate) errno: i32,
    /// Below the store.
    pub(crate) file: String,
}

/// What came of a round.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) wrong: Vec<String>,
    /// Absent if the work had no such call this time.
    pub(crate) failed: Option<Failed>,
}

/// What the command did after the call that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The file of that call.
    pub(crate) file: String,
    /// Which of the calls it was.
    pub(crate) call: usize,
    pub(crate) code: Option<i32>,
    /// From the failed call to the end of the process.
    pub(crate) micros: u64,
}

/// How a command went.
struct Ran {
    status: Option<ExitStatus>,
    end: u64,
    lines: Lines,
    calls: Vec<Call>,
    said: String,
}

/// A folder with the work and a store.
pub(crate) struct Bench<'a> {
    place: Place,
    shim: &'a Path,
}

impl<'a> Bench<'a> {
    /// With a copy of the store in `store`, if there is one.
    pub(crate) fn new(shim: &'a Path, store: Option<&Path>) -> Self {
        let place = Place::new();
        place.write("workflow.yaml", include_str!("fault/workflow.yaml"));
        place.write("load.yaml", include_str!("fault/load.yaml"));
        if let Some(store) = store {
            let mut copy = Command::new("cp");
            let status = copy.arg("-a").arg(store).arg(place.path("store")).status();
            assert!(status.unwrap().success(), "cp");
        }
        Self { place, shim }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.place.path("store")
    }

    /// Does a step of the work undisturbed; the calls it made.
    pub(crate) fn count(&self, step: usize) -> Vec<Call> {
        let ran = self.run(step, None);
        let code = ran.status.and_then(|status| status.code());
        assert_eq!(code, Some(WORK[step].code), "{}: {}", WORK[step].line, ran.said);
        ran.calls
    }

    fn run(&self, step: usize, fault: Option<&Fault>) -> Ran {
        let log = self.place.path("calls");
        std::fs::remove_file(&log).ok();
        std::fs::remove_file(self.place.path("stderr")).ok();
        let mut words = settings(self.shim, &self.store(), &log).to_vec();
        if let Some(fault) = fault {
            words.push(format!("FAULT_OP={}", fault.op));
            words.push(format!("FAULT_AT={}", fault.at));
            words.push(format!("FAULT_ERRNO={}", fault.errno));
            words.extend(fault.keep.then(|| "FAULT_KEEP=1".to_owned()));
        }
        words.push(kapelle().display().to_string());
        let line = ["--store", "store"].into_iter().chain(WORK[step].line.split(' '));
        let words: Vec<&str> = words.iter().map(String::as_str).chain(line).collect();
        let lines = Lines::default();
        let mut node = self.place.start(Path::new("env"), &words, &lines);
        let status = if is_over(&lines) {
            Some(node.end())
        } else {
            node.kill();
            None
        };
        let end = now();
        let calls = calls(&self.place.read("calls"), &self.store());
        Ran { status, end, lines, calls, said: self.place.read("stderr") }
    }

    /// Does a step in which a call fails, and all the work that is left.
    pub(crate) fn play(&self, fault: &Fault) -> Played {
        let mut played = Played::default();
        let ran = self.run(fault.step, Some(fault));
        let Some(at) = ran.calls.iter().position(|call| call.errno != 0) else {
            return played;
        };
        let code = ran.status.and_then(|status| status.code());
        let micros = ran.end.saturating_sub(ran.calls[at].at);
        let file = ran.calls[at].file.clone();
        let failed = Failed { file, call: at, code, micros };
        let mut wrong = Vec::new();
        check_end(fault, &failed, &ran, &mut wrong);
        check_rest(fault, &ran.calls, at, &mut wrong);
        self.go_on(fault, &ran, code, &mut wrong);
        if !wrong.is_empty() {
            let call = &ran.calls[at];
            wrong.push(format!("{call:?}, {failed:?}, it said: {}", ran.said));
        }
        played.wrong = wrong;
        played.failed = Some(failed);
        played
    }

    /// Nothing that was acknowledged is lost, nothing that was refused is there, and the work ends.
    fn go_on(&self, fault: &Fault, ran: &Ran, code: Option<i32>, wrong: &mut Vec<String>) {
        let task = if fault.step == LOAD { "load" } else { "work" };
        let acknowledged = code == Some(WORK[fault.step].code);
        let refused = !acknowledged && says_full(ran);
        let mut told = told(ran);
        told.approved = fault.step == APPROVE && acknowledged;
        if let Some(journal) = self.journal(task) {
            check_kept(&told, &journal, wrong);
            let is_ghost = match fault.step {
                0 | LOAD => told.lines.is_empty(),
                APPROVE => journal.of("approval_decided").count() > 0,
                _ => false,
            };
            if refused && is_ghost {
                wrong.push("ghost: it was refused, and is there".to_owned());
            }
        } else if !told.lines.is_empty() {
            wrong.push("lost acknowledgement: the run is gone".to_owned());
        }
        for (step, work) in WORK.iter().enumerate().take(LOAD.max(fault.step + 1)).skip(fault.step)
        {
            let args = ["--store", "store"].into_iter().chain(work.line.split(' '));
            let output = self.place.give(&args.collect::<Vec<_>>());
            let was_unknown = step == APPROVE && step == fault.step && !refused;
            let code = output.status.code();
            if code != Some(work.code) && !(was_unknown && code == Some(2)) {
                let said = String::from_utf8_lossy(&output.stderr);
                wrong.push(format!("`{}` afterwards: {code:?}: {said}", work.line));
            }
        }
        match self.journal(task) {
            Some(journal) => {
                check_kept(&told, &journal, wrong);
                let mut steps = Vec::new();
                check_steps(&told, &journal, &mut steps);
                if ran.calls.iter().any(|call| call.errno != 0 && is_staged(call)) {
                    steps.retain(|wrong| !wrong.starts_with("an attempt failed by itself"));
                }
                wrong.extend(steps);
                let (last, decided) = (journal.last(), journal.of("approval_decided").count());
                if last["verdict"] != "completed" || decided != usize::from(task == "work") {
                    wrong.push(format!("it ended otherwise: {decided} approvals, {last}"));
                }
            }
            None => wrong.push("there is no run in the end".to_owned()),
        }
    }

    /// The journal of a task's run, if there is one.
    fn journal(&self, task: &str) -> Option<Journal> {
        let output = self.place.give(&["--store", "store", "runs", "events", task, "--json"]);
        let lines = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| Journal::new(lines.lines().map(str::to_owned).collect()))
    }
}

/// What a command acknowledged.
fn told(ran: &Ran) -> Told {
    let kind = |line: &Line| line.json["type"].as_str().map(str::to_owned);
    // The last line names copies of artifacts, which are no promise; how it ends is checked.
    let lines = ran.lines.all().into_iter();
    let lines = lines.filter(|line| kind(line).is_some_and(|kind| kind != "run_completed"));
    let kills = vec![Kill { since: 0, at: ran.end }];
    Told { lines: lines.collect(), kills, ..Told::default() }
}

fn says_full(ran: &Ran) -> bool {
    ran.said.to_lowercase().contains("no space left")
}

/// Waits until a process has said its last.
fn is_over(lines: &Lines) -> bool {
    let deadline = Instant::now() + PATIENCE;
    (0..).map_while(|index| lines.get(index, deadline)).any(|line| line.text.is_empty())
}

/// What the shim is told: whose files it watches, and where to note that.
pub(crate) fn settings(shim: &Path, store: &Path, log: &Path) -> [String; 3] {
    let (shim, store, log) = (shim.display(), store.display(), log.display());
    [format!("FAULT_DIR={store}"), format!("FAULT_LOG={log}"), format!("LD_PRELOAD={shim}")]
}

/// The calls that the shim noted.
pub(crate) fn calls(log: &str, store: &Path) -> Vec<Call> {
    let call = |line: &str| {
        let [op, thread, at, errno, file] = line.splitn(5, ' ').collect::<Vec<_>>()[..] else {
            panic!("a line of the shim: {line}")
        };
        let file = file.strip_prefix(&store.display().to_string()).unwrap().trim_start_matches('/');
        let (thread, at) = (thread.parse().unwrap(), at.parse().unwrap());
        let errno = errno.parse().unwrap();
        Call { op: op.to_owned(), thread, at, errno, file: file.to_owned() }
    };
    // A line may be on its way into the log just now.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().map(call).collect()
}

/// What the store's promises rest on: not what nodes say of themselves, nor copies for people, nor
/// the log's index, which is made anew. SQLite does not mind whether its syncs of the folder work;
/// ours, after the files are made, is the one that counts.
fn is_vital(call: &Call) -> bool {
    // Two files hold nothing: one is written to learn whether it was space that was missing, the
    // other keeps some.
    let elsewhere =
        ["nodes", "runs", ".probe", "ballast"].iter().any(|name| call.file.starts_with(name));
    !elsewhere && !call.file.ends_with("-shm") && !call.file.is_empty() && !is_staged(call)
}

/// A write of a payload that nothing refers to yet: if it fails, the attempt does, and is made again.
fn is_staged(call: &Call) -> bool {
    call.op == "write" && call.file.starts_with("payloads/")
}

fn check_end(fault: &Fault, failed: &Failed, ran: &Ran, wrong: &mut Vec<String>) {
    let undisturbed = Some(WORK[fault.step].code);
    let stopped = failed.code == Some(6);
    let expected = match (fault.errno, fault.op) {
        // The store goes on; a command that could not even begin says so.
        (FULL, _) => failed.code == undisturbed || stopped && says_full(ran),
        (_, "read") => failed.code == undisturbed || stopped,
        // All is in the log, and the command may have been over: what it said holds.
        _ if ran.calls[failed.call].file == "kapelle.db" => {
            stopped || failed.code == undisturbed && failed.micros < 10 * END_MAX
        }
        _ if is_vital(&ran.calls[failed.call]) => stopped,
        _ => failed.code == undisturbed || stopped,
    };
    if !expected {
        wrong.push(format!("it ended with {:?}", failed.code));
    }
    if stopped && !["`store", "the journal of run"].iter().any(|name| ran.said.contains(name)) {
        wrong.push("it names neither a file nor a run".to_owned());
    }
}

/// After a failed write or sync that is not just a full disk, nothing is written or synced again.
fn check_rest(fault: &Fault, calls: &[Call], at: usize, wrong: &mut Vec<String>) {
    // While a database is made nothing is promised, and SQLite itself undoes what it began.
    let is_new = fault.step == 0 && !calls[..at].iter().any(|call| call.file.ends_with("-wal"));
    if fault.errno == FULL || fault.op == "read" || is_new || !is_vital(&calls[at]) {
        return;
    }
    // The log, its copy and payloads are written by threads of their own: what another one was in
    // the middle of, a commit, a file or a checkpoint, which syncs the log and then the database,
    // comes to its end.
    let mut ends: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    let mut second = calls[at + 1..].iter().filter(|call| call.op != "read" && is_vital(call));
    let second = second.find(|call| {
        let synced = ends.entry(call.thread).or_default();
        let again = synced.len() > 1 || synced.contains(&&*call.file);
        if call.op == "sync" {
            synced.push(&call.file);
        }
        call.thread == calls[at].thread || call.op == "sync" && again
    });
    if let Some(call) = second {
        wrong.push(format!("after the failure: {call:?}"));
    }
}
