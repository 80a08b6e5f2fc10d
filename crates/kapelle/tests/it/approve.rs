//! People: approvals and steps in doubt, from another process.

use crate::support::{Folder, count, run_of};

const GATE: &str = "
id: gated
tasks:
  - { id: draft, agentName: echo, input: { value: text } }
  - { id: gate, approval: {}, dependencies: [draft] }
  - { id: publish, agentName: echo, dependencies: [gate], input: { value: done } }
output: '{{ steps.publish.output }}'
";

#[test]
fn an_approval_comes_from_a_second_process_while_the_first_waits() {
    let folder = Folder::new();
    folder.write("workflow.yaml", GATE);
    let mut first = folder.start("run . --json --wait");
    let run = run_of(&first.wait_for("approval_requested", Some("gate")));
    let told = folder.run(&format!("runs approve {run} gate --comment fine --json")).expect(0);
    assert_eq!(told.json()["worked_on"], true);
    let decided = first.wait_for("approval_decided", Some("gate"));
    assert_eq!((&decided["by"], &decided["comment"]), (&"tester".into(), &"fine".into()));
    assert_eq!(first.finish().expect(0).last()["output"], "done");
    let again = folder.run(&format!("runs approve {run} gate")).expect(2);
    assert!(again.err.contains("the run has ended"), "{}", again.err);
}

#[test]
fn an_approval_is_kept_after_the_first_process_has_gone() {
    let folder = Folder::new();
    folder.write("workflow.yaml", GATE);
    let done = folder.run("run . --json").expect(5);
    let last = done.last();
    let run = run_of(&last);
    assert_eq!(last["type"], "run_paused");
    assert_eq!(last["reason"], "approval of `gate`");
    assert_eq!(last["resume"], format!("kapelle runs resume {run}"));
    let told = folder.run(&format!("runs approve {run}")).expect(0);
    assert!(told.err.contains(&format!("kapelle runs resume {run}")), "{}", told.err);
    let resumed = folder.run(&format!("runs resume {run} --json")).expect(0);
    assert_eq!(resumed.last()["output"], "done");
    assert_eq!(count(&resumed.events(), "step_started", "draft"), 1);
}

#[test]
fn a_rejection_fails_the_step() {
    let folder = Folder::new();
    folder.write("workflow.yaml", GATE);
    let run = run_of(&folder.run("run . --json").expect(5).last());
    folder.run(&format!("runs approve {run} gate --reject --comment no")).expect(0);
    let done = folder.run(&format!("runs resume {run} --json")).expect(1);
    assert_eq!(done.last()["verdict"], "failed");
    assert_eq!(count(&done.events(), "step_skipped", "publish"), 1);
}

#[test]
fn in_manual_mode_every_step_waits_for_a_word() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
    let mut first = folder.start("run . --json --wait --manual");
    let run = run_of(&first.wait_for("approval_requested", Some("a")));
    folder.run(&format!("runs approve {run}")).expect(0);
    first.wait_for("step_started", Some("a"));
    first.finish().expect(0);
}

#[test]
fn a_step_in_doubt_is_resolved_by_a_person() {
    let folder = Folder::new();
    folder.write(
        "workflow.yaml",
        r#"
id: doubtful
tasks:
  - { id: pay, agentName: process, onUnknown: ask, input: { shell: "echo paid >> paid; sleep 60", parse: text } }
  - { id: thank, agentName: echo, dependencies: [pay], input: { value: "{{ steps.pay.output }}" } }
output: "{{ steps.thank.output }}"
"#,
    );
    let mut first = folder.start("run . --json");
    let run = run_of(&first.wait_for("step_started", Some("pay")));
    let paid = folder.path().join("paid");
    while !paid.exists() {
        std::thread::yield_now();
    }
    first.crash();
    let blocked = folder.run(&format!("runs resume {run} --json")).expect(5);
    assert_eq!(blocked.last()["reason"], "step `pay`: in doubt");
    let why = folder.run(&format!("why {run} pay")).expect(0).out;
    let printed = format!("kapelle runs resolve {run} pay --action complete --output JSON\n");
    assert!(why.contains(&printed), "{why}");
    let silent = folder.run(&format!("runs resolve {run} pay --action complete")).expect(2);
    assert!(
        silent.err.contains("`--output JSON`") && silent.err.contains("`null`"),
        "{}",
        silent.err
    );
    let resolve = format!("runs resolve {run} pay --action complete --output \"receipt-7\"");
    folder.run(&resolve).expect(0);
    let done = folder.run(&format!("runs resume {run} --json")).expect(0);
    assert_eq!(done.last()["output"], "receipt-7");
    assert_eq!(std::fs::read_to_string(paid).unwrap(), "paid\n", "it was paid twice");
}
