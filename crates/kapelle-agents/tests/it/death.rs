//! Nothing that a command started outlives its attempt, or us.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::{Process, contract};
use kapelle_core::port::agent::{Agent as _, FailureKind};
use serde_json::json;

use crate::support::{eventually, is_alive, launcher, pids_in, run_in};

/// Writes the pids of the command, of a child, of one that called `setsid`, and of a daemon whose
/// parents are gone, into `pids`.
const FAMILY: &str = "
    say='echo $$ >> pids; exec sleep 1000'
    sh -c \"$say\" &
    setsid sh -c \"$say\" &
    (setsid sh -c \"sh -c '$say' > /dev/null 2>&1 &\" &)
    echo $$ >> pids";

#[tokio::test]
async fn a_command_that_ends_takes_all_it_started_with_it() {
    let root = tempfile::tempdir().unwrap();
    let pids = root.path().join("pids");
    // It ends once all have said their pid; its children still have its stdout.
    let script =
        format!("{FAMILY}; while [ $(wc -l < pids) -lt 4 ]; do sleep 0.01; done; echo done");
    let desk = ScratchDesk::new().unwrap();
    let answer = run_in(root.path(), json!({"shell": script}), &desk).await.unwrap();
    assert_eq!(answer.value["value"], "done\n");
    assert_no_one_left(&pids_in(&pids, 4).await);
}

#[tokio::test]
async fn a_cancelled_command_dies_with_its_grandchildren() {
    let root = tempfile::tempdir().unwrap();
    let script = format!("{FAMILY}; wait");
    let (pids, took) = cancel(root.path(), &script).await;
    assert_no_one_left(&pids);
    assert!(took < Duration::from_secs(5), "a command that obeys is not waited for: {took:?}");
}

#[tokio::test]
async fn a_command_that_does_not_listen_is_killed_after_the_grace() {
    let root = tempfile::tempdir().unwrap();
    let script = format!("trap '' TERM; {FAMILY}; while :; do sleep 1000; done");
    let (pids, took) = cancel(root.path(), &script).await;
    assert_no_one_left(&pids);
    assert!(took > Duration::from_secs(7) && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_cancelled_command_may_say_goodbye() {
    let root = tempfile::tempdir().unwrap();
    let script = format!(
        "trap 'echo bye; echo bye >&2; touch bye; exit' TERM; {FAMILY}
        while :; do sleep 0.01; done"
    );
    let (pids, _) = cancel(root.path(), &script).await;
    assert_no_one_left(&pids);
    assert!(root.path().join("bye").exists());
}

async fn cancel(root: &Path, script: &str) -> (Vec<u32>, Duration) {
    let desk = ScratchDesk::new().unwrap();
    let cancel = async {
        let pids = pids_in(&root.join("pids"), 4).await;
        assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
        desk.cancel();
        (pids, Instant::now())
    };
    let ((pids, since), ended) =
        tokio::join!(cancel, run_in(root, json!({"shell": script}), &desk));
    let failure = ended.unwrap_err();
    assert_eq!((failure.kind, failure.certain), (FailureKind::Cancelled, false), "{failure}");
    (pids, since.elapsed())
}

#[tokio::test]
async fn a_dropped_call_kills_its_command() {
    let root = tempfile::tempdir().unwrap();
    let desk = ScratchDesk::new().unwrap();
    let input = json!({"shell": format!("{FAMILY}; wait")});
    let pids = root.path().join("pids");
    let pids = tokio::select! {
        ended = run_in(root.path(), input, &desk) => panic!("it ended: {ended:?}"),
        pids = pids_in(&pids, 4) => pids,
    };
    eventually("the end of all", || pids.iter().all(|pid| !is_alive(*pid)).then_some(())).await;
}

#[tokio::test]
async fn when_we_are_killed_all_die_and_only_then_the_lock_is_free() {
    let root = tempfile::tempdir().unwrap();
    let kids = root.path().join("kids");
    let mut helper =
        helper(root.path(), &json!({"shell": format!("echo $KAPELLE_OUT > out; {FAMILY}; wait")}));
    let pids = pids_in(&root.path().join("pids"), 4).await;
    let out = std::fs::read_to_string(root.path().join("out")).unwrap();
    assert!(Path::new(out.trim()).is_dir(), "{out}");
    let lock = File::open(&kids).unwrap();
    assert!(lock.try_lock().is_err(), "the lock is free while {pids:?} live");
    helper.kill().unwrap();
    tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
    assert_no_one_left(&pids);
    assert!(!Path::new(out.trim()).exists(), "{out} is left");
    helper.wait().unwrap();
}

#[tokio::test]
async fn however_early_we_are_killed_nothing_is_left() {
    let (mut begun, mut round) = (0, 0);
    // On a busy machine it takes longer until rounds reach a command that has begun.
    while round < 40 || (begun < 5 && round < 400) {
        let root = tempfile::tempdir().unwrap();
        let kids = File::create(root.path().join("kids")).unwrap();
        let mut helper = helper(root.path(), &json!({"shell": format!("{FAMILY}; wait")}));
        // Each round hits another moment between the helper's start and the last grandchild's.
        std::thread::sleep(Duration::from_micros(round * 500));
        helper.kill().unwrap();
        helper.wait().unwrap();
        tokio::task::spawn_blocking(move || kids.lock()).await.unwrap().unwrap();
        let pids = std::fs::read_to_string(root.path().join("pids")).unwrap_or_default();
        begun += u64::from(!pids.is_empty());
        let pids: Vec<u32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
        assert_no_one_left(&pids);
        // A launcher that came too late for the lock starts nothing and goes.
        eventually("an empty folder", || at_work_in(root.path()).is_empty().then_some(())).await;
        let later = std::fs::read_to_string(root.path().join("pids")).unwrap_or_default();
        assert_eq!(later.lines().count(), pids.len(), "round {round} began after the end");
        round += 1;
    }
    assert!(begun >= 5 && begun < round, "{begun} of {round} had begun: too much alike");
}

#[tokio::test]
async fn a_launcher_whose_parent_died_while_it_waited_for_the_lock_starts_nothing() {
    for _ in 0..5 {
        let root = tempfile::tempdir().unwrap();
        let kids = File::create(root.path().join("kids")).unwrap();
        kids.lock().unwrap();
        let mut helper = helper(root.path(), &json!({"argv": ["touch", "ran"]}));
        let waits = eventually("a launcher that waits", || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            let waits = |pid: &u32| {
                locks.lines().any(|l| l.contains("-> FLOCK") && l.contains(&format!(" {pid} ")))
            };
            at_work_in(root.path()).into_iter().find(waits)
        });
        let waits = waits.await;
        helper.kill().unwrap();
        helper.wait().unwrap();
        kids.unlock().unwrap();
        eventually("its end", || (!is_alive(waits)).then_some(())).await;
        assert!(!root.path().join("ran").exists());
    }
}

/// The example, performing `input` in `root`, its processes under the lock `root/kids`.
fn helper(root: &Path, input: &serde_json::Value) -> Child {
    Command::new(launcher())
        .args(["process", &input.to_string()])
        .env("KIDS", root.join("kids"))
        // What it cannot clean up, being killed, goes with the test.
        .env("TMPDIR", root)
        .current_dir(root)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The processes that have `folder` as theirs.
fn at_work_in(folder: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_there =
        |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
    pids.filter(is_there).collect()
}

#[tokio::test]
async fn descendants_hold_the_lock_themselves() {
    let root = tempfile::tempdir().unwrap();
    let kids = root.path().join("kids");
    let agent = Process::new(launcher(), Some(kids.clone()));
    let script = "echo $PPID >> pids; echo $$ >> pids; exec sleep 1000";
    let call = contract::call("run", json!({"shell": script}), root.path().to_str().unwrap());
    let desk = ScratchDesk::new().unwrap();
    let watch = async {
        let pids = pids_in(&root.path().join("pids"), 2).await;
        kill(pids[0]);
        eventually("the launcher's end", || (!is_alive(pids[0])).then_some(())).await;
        let lock = File::open(&kids).unwrap();
        assert!(is_alive(pids[1]) && lock.try_lock().is_err(), "the command holds it");
        kill(pids[1]);
        tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
    };
    let (ended, ()) = tokio::join!(agent.perform(call, &desk), watch);
    let failure = ended.unwrap_err();
    assert_eq!((&*failure.code, failure.certain), ("launcher_died", false));
}

#[tokio::test]
async fn without_a_launcher_nothing_runs() {
    let agent = Process::new("/no/such/launcher".into(), None);
    let call = contract::call("run", json!({"argv": ["true"]}), "/");
    let failure = agent.perform(call, &ScratchDesk::new().unwrap()).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Unavailable, "no_launcher"));
}

#[tokio::test]
async fn without_the_lock_nothing_runs() {
    let root = tempfile::tempdir().unwrap();
    let kids = root.path().join("a-folder");
    std::fs::create_dir(&kids).unwrap();
    let agent = Process::new(launcher(), Some(kids));
    let call = contract::call("run", json!({"shell": "touch ran"}), root.path().to_str().unwrap());
    let failure = agent.perform(call, &ScratchDesk::new().unwrap()).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Unavailable, "no_lock"), "{failure}");
    assert!(!root.path().join("ran").exists());
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

fn assert_no_one_left(pids: &[u32]) {
    let left: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?} of {pids:?} live");
}
