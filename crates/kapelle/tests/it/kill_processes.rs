//! What processes do to us, and we to them: much output, hanging, grandchildren that hide.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::kill_node::{eventually, is_alive};
use crate::support::{Folder, count, memory, run_of};

/// Writes the pids of the command, of a child, of one that called `setsid`, and of a daemon whose
/// parents are gone, into `pids`, and hangs. The second attempt notes who of them still lives.
const HANG: &str = r#"
    if [ "$KAPELLE_ATTEMPT" != 1 ]; then
        for pid in $(cat pids); do grep -qs "^State:.[^Z]" "/proc/$pid/status" && echo "$pid" >> overlap; done
        echo again; exit
    fi
    echo $PPID > launcher
    say='echo $$ >> pids; exec sleep 1000'
    sh -c "$say" &
    setsid sh -c "$say" &
    (setsid sh -c "sh -c '$say' > /dev/null 2>&1 &" &)
    echo $$ >> pids
    wait
"#;

fn hanging(more: &str) -> Folder {
    let folder = Folder::new();
    let input = serde_json::json!({ "shell": HANG });
    let text = format!(
        "{{id: hang, tasks: [{{id: hang, agentName: process, input: {input}{more}}}], \
         output: \"{{{{ steps.hang.output.value }}}}\"}}"
    );
    folder.write("workflow.yaml", &text);
    folder
}

/// The command and all that it started, once they are there.
fn family(folder: &Folder) -> Vec<u32> {
    let mut pids = Vec::new();
    eventually("four pids", || {
        let text = std::fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
        pids = text.lines().filter_map(|line| line.parse().ok()).collect();
        pids.len() == 4
    });
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    pids
}

fn assert_no_one_left(pids: &[u32]) {
    let left: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?} of {pids:?} live");
}

#[test]
fn a_hung_process_dies_with_all_it_started_when_its_time_is_up() {
    let folder = hanging(", timeout: 1s");
    let mut run = folder.start("run . --json");
    let pids = family(&folder);
    let retrying = run.wait_for("step_retrying", Some("hang"));
    assert_eq!(retrying["failure"]["kind"], "timeout", "{retrying}");
    run.wait_for("step_started", Some("hang"));
    assert_no_one_left(&pids);
    assert_eq!(run.finish().expect(0).last()["output"], "again\n");
    assert!(!folder.path().join("overlap").exists(), "the second began beside the first");
}

#[test]
fn a_hung_process_dies_with_all_it_started_when_its_run_is_cancelled() {
    let folder = hanging("");
    let mut run = folder.start("run . --json");
    let id = run_of(&run.wait_for("step_started", Some("hang")));
    let pids = family(&folder);
    folder.run(&format!("runs cancel {id}")).expect(0);
    assert_eq!(run.finish().expect(1).last()["verdict"], "cancelled");
    assert_no_one_left(&pids);
}

#[test]
fn a_hung_process_dies_with_all_it_started_when_we_are_killed() {
    let folder = hanging("");
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("hang")));
    let pids = family(&folder);
    first.crash();
    let done = folder.run(&format!("runs resume {run} --json")).expect(0);
    assert_no_one_left(&pids);
    assert_eq!(done.last()["output"], "again\n");
    assert_eq!(count(&done.events(), "step_started", "hang"), 2);
    assert!(!folder.path().join("overlap").exists(), "the second began beside the first");
}

/// The process that clears up is killed too: the old children outlive the node.
#[test]
fn who_takes_over_waits_for_the_processes_of_the_dead() {
    let folder = hanging("");
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("hang")));
    let pids = family(&folder);
    let launcher = std::fs::read_to_string(folder.path().join("launcher")).unwrap();
    // The node must not see its end.
    first.signal(Signal::STOP);
    kill(launcher.trim().parse().unwrap());
    first.crash();
    // Who only gives a command in between does not let go of the dead node's children either.
    folder.run(&format!("runs pause {run}")).expect(0);
    let mut second = folder.start(&format!("runs resume {run} --json"));
    let until = Instant::now() + Duration::from_millis(700);
    while Instant::now() < until {
        assert!(pids.iter().all(|pid| is_alive(*pid)), "they were to live on: {pids:?}");
        let events = folder.run(&format!("runs events {run} --json")).expect(0).events();
        assert_eq!(count(&events, "step_started", "hang"), 1, "begun beside the old one");
    }
    pids.iter().for_each(|pid| kill(*pid));
    second.wait_for("step_completed", Some("hang"));
    assert_eq!(second.finish().expect(0).last()["output"], "again\n");
    assert!(!folder.path().join("overlap").exists(), "the second began beside the first");
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

const LEN: u64 = 200 << 20;
/// The most memory that the node may take, in KiB.
const MEMORY_MAX: u64 = 100 << 10;

#[test]
fn two_hundred_megabytes_of_output_neither_fill_memory_nor_break_the_run() {
    let folder = Folder::new();
    let say = format!("yes 0123456789abcde | head -c {LEN}");
    folder.write(
        "workflow.yaml",
        &format!(
            "
id: big
tasks:
  - {{ id: big, agentName: process, input: {{ shell: '{say}' }} }}
  - id: look
    agentName: process
    dependencies: [big]
    input: {{ shell: 'while [ ! -e go ]; do sleep 0.02; done' }}
output: '{{{{ steps.big.output.value }}}}'
"
        ),
    );
    let mut run = folder.start("run . --json");
    run.wait_for("step_started", Some("look"));
    let peak = memory(run.pid(), "VmHWM:");
    assert!(peak < MEMORY_MAX, "it took {peak} KiB");
    folder.write("go", "");
    let last = run.finish().expect(0).last();
    let (output, artifact) = (&last["output"], &last["artifacts"][0]);
    let expected = digest(Command::new("sh").args(["-c", &say]));
    assert_eq!((&output["len"], &output["digest"]), (&LEN.into(), &expected.clone().into()));
    assert_eq!((&artifact["name"], &artifact["digest"]), (&"stdout".into(), &output["digest"]));
    assert_eq!(digest(&mut folder.command(&format!("artifacts get {expected}"))), expected);
    let kept = folder.path().join(artifact["path"].as_str().unwrap());
    assert_eq!(digest(Command::new("cat").arg(kept)), expected);
}

/// The digest of what a command prints.
fn digest(command: &mut Command) -> String {
    let mut command = command.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = command.stdout.take().unwrap();
    let sum = Command::new("sha256sum").stdin(stdout).output().unwrap();
    assert!(command.wait().unwrap().success());
    let sum = String::from_utf8(sum.stdout).unwrap();
    format!("sha256:{}", sum.split_whitespace().next().unwrap())
}
