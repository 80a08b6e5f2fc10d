//! Processes that end in the middle, by themselves or not, and others that go on.

use rustix::process::Signal;

use crate::support::{Folder, count, run_of};

/// `quick` ends at once; `slow` waits for the file `go`.
const SLOW: &str = r#"
id: slow
tasks:
  - { id: quick, agentName: process, input: { shell: "echo quick >> done; echo 1", parse: text } }
  - { id: slow, agentName: process, dependencies: [quick], input: { shell: "while [ ! -e go ]; do sleep 0.02; done; echo slow >> done; echo 2", parse: text } }
  - { id: last, agentName: echo, dependencies: [slow], input: { value: "{{ steps.slow.output.value }}" } }
output: "{{ steps.last.output }}"
"#;

fn slow() -> Folder {
    let folder = Folder::new();
    folder.write("workflow.yaml", SLOW);
    folder
}

fn done_of(folder: &Folder) -> String {
    std::fs::read_to_string(folder.path().join("done")).unwrap()
}

#[test]
fn a_run_goes_on_after_kill_9() {
    let folder = slow();
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("slow")));
    first.crash();
    let mut second = folder.start(&format!("runs resume {run} --json"));
    // From here on nothing of the first process is left.
    second.wait_for("run_adopted", None);
    folder.write("go", "");
    let done = second.finish().expect(0);
    assert_eq!(done.last()["output"], "2\n");
    assert_eq!(count(&done.events(), "step_started", "quick"), 1);
    assert_eq!(count(&done.events(), "step_started", "slow"), 2);
    assert_eq!(done_of(&folder), "quick\nslow\n");
}

#[test]
fn a_second_terminal_watches_and_takes_over_when_the_first_dies() {
    let folder = slow();
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("slow")));
    let mut second = folder.start(&format!("runs resume {run} --json"));
    second.wait_for("step_started", Some("slow"));
    first.crash();
    second.wait_for("run_adopted", None);
    folder.write("go", "");
    let done = second.finish().expect(0);
    let seqs: Vec<_> = done.events().iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "each event once, in order");
    assert!(done.err.contains("works on it") && done.err.contains("going on here"), "{}", done.err);
    assert_eq!(done_of(&folder), "quick\nslow\n");
}

#[test]
fn ctrl_c_pauses_and_waits_for_what_runs() {
    let folder = slow();
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("slow")));
    first.signal(Signal::INT);
    first.wait_for("run_paused", None);
    folder.write("go", "");
    let done = first.finish().expect(5);
    assert_eq!(count(&done.events(), "step_completed", "slow"), 1);
    assert_eq!(count(&done.events(), "step_started", "last"), 0);
    let last = done.last();
    assert_eq!((&last["type"], &last["reason"]), (&"run_paused".into(), &"Ctrl-C".into()));
    assert_eq!(folder.run(&format!("runs show {run} --json")).json()["status"], "paused");
    folder.run("runs resume --all").expect(0);
    assert_eq!(done_of(&folder), "quick\nslow\n");
}

#[test]
fn a_second_ctrl_c_stops_at_once() {
    let folder = slow();
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("slow")));
    first.signal(Signal::INT);
    first.wait_for("run_paused", None);
    first.signal(Signal::INT);
    assert_eq!(first.finish().expect(5).last()["type"], "run_paused");
    let mut second = folder.start(&format!("runs resume {run} --json"));
    second.wait_for("run_resumed", None);
    second.wait_for("step_started", Some("slow"));
    folder.write("go", "");
    let done = second.finish().expect(0);
    assert_eq!(done.last()["output"], "2\n");
    assert_eq!(done_of(&folder), "quick\nslow\n");
}

#[test]
fn sigterm_lets_running_attempts_end_and_leaves() {
    let folder = slow();
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("slow")));
    first.signal(Signal::TERM);
    folder.write("go", "");
    let last = first.finish().expect(5).last();
    assert_eq!((&last["type"], &last["reason"]), (&"run_paused".into(), &"told to end".into()));
    let done = folder.run(&format!("runs resume {run} --json")).expect(0);
    assert_eq!(count(&done.events(), "step_started", "slow"), 1);
    assert_eq!(done_of(&folder), "quick\nslow\n");
}

#[test]
fn a_detached_run_goes_on_alone() {
    let folder = slow();
    let run = folder.run("run . --detach").expect(0).out.trim().to_owned();
    let mut watching = folder.start(&format!("runs watch {run} --json"));
    watching.wait_for("step_started", Some("slow"));
    folder.write("go", "");
    assert_eq!(watching.finish().expect(0).last()["output"], "2\n");
    let broken = folder.run("run . --detach --max-parallel 0").expect(2);
    assert!(broken.err.contains("error:"), "{}", broken.err);
}

#[test]
fn a_task_id_never_makes_a_second_run() {
    let folder = slow();
    folder.write("go", "");
    let first = folder.run("run . --json --task-id T-1").expect(0).last();
    let second = folder.run("run . --json --task-id T-1").expect(0).last();
    assert_eq!(first, second);
    assert_eq!(done_of(&folder), "quick\nslow\n");
    let other = folder.run("run . --json --task-id T-1 --max-parallel 1").expect(2);
    assert!(other.err.contains(&run_of(&first)), "{}", other.err);
    assert_eq!(folder.run("runs list --json").json()["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_run_is_paused_resumed_and_cancelled_from_another_process() {
    let folder = slow();
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("slow")));
    folder.run(&format!("runs pause {run} --reason lunch")).expect(0);
    assert_eq!(first.wait_for("run_paused", None)["reason"], "lunch");
    folder.run(&format!("runs cancel {run} --reason enough")).expect(0);
    let last = first.finish().expect(1).last();
    assert_eq!(last["verdict"], "cancelled");
    let again = folder.run(&format!("runs cancel {run}")).expect(2);
    assert!(again.err.contains("cancelled"), "{}", again.err);
}

#[test]
fn a_run_that_nobody_works_on_is_cancelled_at_once() {
    let folder = slow();
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("slow")));
    first.crash();
    let told = folder.run(&format!("runs cancel {run} --json")).expect(0).json();
    assert_eq!(told["status"], "cancelled");
    assert_eq!(done_of(&folder), "quick\n");
}

#[test]
fn a_run_that_waits_goes_on_under_its_task_id() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, approval: {}}]}");
    folder.run("run . --task-id T-1").expect(5);
    let last = folder.run("runs resume T-1 --json").expect(5).last();
    assert_eq!(last["reason"], "approval of `a`");
}
