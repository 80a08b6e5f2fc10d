//! `why`, of steps that ended and of steps that wait.

use serde_json::Value;

use crate::support::{Folder, run_of};

const MIXED: &str = "
id: mixed
tasks:
  - id: fetch
    agentName: http
    input: {method: GET, url: 'http://127.0.0.1:1/'}
    retry: {maxAttempts: 2, initial: 10ms}
  - { id: parse, agentName: echo, input: { value: '{{ steps.fetch.output }}' } }
  - { id: odd, agentName: echo, when: '1 == 2', input: { value: 1 } }
  - { id: ask, approval: { by: [eva] } }
  - { id: after, agentName: echo, dependencies: [ask], input: { value: 1 } }
  - { id: last, agentName: echo, dependencies: [after, odd], input: { value: 1 } }
";

fn reasons(why: &Value) -> String {
    let all = why["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap());
    all.collect::<Vec<_>>().join("\n")
}

#[test]
fn why_says_what_holds_up_each_step_and_what_would_help() {
    let folder = Folder::new();
    folder.write("workflow.yaml", MIXED);
    let run = run_of(&folder.run("run . --json").expect(5).last());
    let why = |step: &str| folder.run(&format!("why {run} {step} --json")).expect(0).json();

    let failed = why("fetch");
    assert_eq!(failed["status"], "failed");
    assert!(reasons(&failed).contains("`retry.maxAttempts` is 2"), "{failed}");
    let attempts = failed["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    let then = |at: usize| attempts[at]["then"].as_str().unwrap();
    assert!(then(0).contains("`unavailable` is among what `retry.on` names"), "{failed}");
    assert!(then(1).starts_with("not tried again"), "{failed}");
    assert_eq!(failed["cost"]["attempts"], 2);
    assert_eq!(failed["agent"]["name"], "http");

    assert!(reasons(&why("parse")).contains("it needs `fetch`"));
    assert_eq!(reasons(&why("odd")), "its `when` gave false: 1 == 2");

    let waiting = why("last");
    assert!(reasons(&waiting).starts_with("it waits for `after` (waiting)\n`ask`: "), "{waiting}");
    let words = ["runs", "approve", &run, "ask", "--by", "eva"];
    assert_eq!(waiting["unblock"][0]["command"], serde_json::json!(words));
    assert_eq!(waiting["unblock"], why("ask")["unblock"]);

    let whole = folder.run(&format!("why {run} --json")).expect(0).json();
    let lines = whole["steps"].as_array().unwrap();
    let told: Vec<_> = lines.iter().map(|line| line["step"].as_str().unwrap()).collect();
    assert_eq!(told, ["fetch", "ask", "parse", "odd"], "what holds it up comes first");
    // What failed is mended beside the run that goes on without it.
    let fork = serde_json::json!(["runs", "fork", run, "--from", "fetch"]);
    assert_eq!(whole["unblock"][0]["command"], fork);
    assert_eq!(whole["unblock"][0], failed["unblock"][0]);
    assert_eq!(whole["unblock"][1], waiting["unblock"][0]);

    let written = folder.run(&format!("why {run} ask")).expect(0);
    assert!(written.out.contains(&format!("kapelle {}", words.join(" "))), "{}", written.out);
    folder.run(&format!("runs approve {run} ask --by eva")).expect(0);
    folder.run(&format!("runs resume {run}")).expect(1);
    assert_eq!(reasons(&why("last")), "it was done at the first attempt");
    let ended = folder.run(&format!("why {run} --json")).expect(0).json();
    assert!(reasons(&ended).starts_with("step `fetch` failed: "), "{ended}");
    assert_eq!(ended["unblock"].as_array().unwrap().len(), 1, "{ended}");
    assert_eq!(ended["unblock"][0]["command"], fork);
    assert_eq!(why("parse")["unblock"][0]["command"], fork);
}

#[test]
fn why_says_who_had_a_run_cancelled_and_when() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: x, tasks: [{id: ask, approval: {}}]}");
    let run = run_of(&folder.run("run . --json").expect(5).last());
    folder.run(&format!("runs cancel {run} --by eva --reason enough")).expect(0);
    for (what, begin) in
        [("", "it was cancelled by eva at "), (" ask", "its run was cancelled by eva at ")]
    {
        let why = folder.run(&format!("why {run}{what} --json")).expect(0).json();
        let told = reasons(&why);
        assert!(told.starts_with(begin) && told.contains("Z: enough"), "{why}");
    }
}

#[test]
fn why_of_a_step_between_attempts_says_what_is_to_come_and_nothing_once_its_run_is_cancelled() {
    let folder = Folder::new();
    let fails = "{id: x, tasks: [{id: a, agentName: http, retry: {initial: 1h},
        input: {method: GET, url: 'http://127.0.0.1:1/'}},
        {id: b, agentName: process, input: {shell: 'while ! test -e go; do sleep 0.05; done'}}]}";
    folder.write("workflow.yaml", fails);
    let mut working = folder.start("run . --json");
    let run = run_of(&working.wait_for("step_started", Some("b")));
    working.wait_for("step_retrying", Some("a"));
    let why = |what: &str| folder.run(&format!("why {run}{what} --json")).expect(0).json();
    let (whole, step) = (why(""), why(" a"));
    assert!(reasons(&whole).starts_with("1 attempt is under way"), "{whole}");
    assert!(reasons(&step).contains("the next one begins at"), "{step}");
    let cancel = serde_json::json!(["runs", "cancel", run]);
    assert!(step["unblock"][0]["what"].as_str().unwrap().contains("before the next attempt"));
    assert_eq!((&step["unblock"][1]["command"], &step["unblock"]), (&cancel, &whole["unblock"]));

    folder.run(&format!("runs cancel {run} --by eva")).expect(0);
    working.finish();
    let step = why(" a");
    let told = reasons(&step) + step["attempts"][0]["then"].as_str().unwrap();
    assert!(told.starts_with("its run was cancelled by eva"), "{step}");
    assert!(told.contains("attempt 1 failed") && told.ends_with("its run was ended"), "{step}");
    assert!(!told.contains("next one") && !told.contains("not before"), "{step}");
}

#[test]
fn why_names_the_setting_that_keeps_a_step_from_its_turn() {
    let folder = Folder::new();
    folder.write(
        "workflow.yaml",
        "{id: x, config: {maxParallelAgents: 1}, tasks: [
            {id: a, agentName: process, input: {shell: 'while ! test -e go; do sleep 0.05; done'}},
            {id: b, agentName: echo, input: {value: 1}}]}",
    );
    let mut working = folder.start("run . --json");
    let run = run_of(&working.wait_for("step_started", Some("a")));
    let why = folder.run(&format!("why {run} b --json")).expect(0).json();
    assert!(reasons(&why).contains("`config.maxParallelAgents` allows"), "{why}");
    let help = why["unblock"][0]["what"].as_str().unwrap();
    assert!(help.contains("`--max-parallel N`"), "{why}");
    folder.write("go", "");
    working.finish().expect(0);
}

#[test]
fn why_names_a_step_that_is_not_there() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
    let run = run_of(&folder.run("run . --json").expect(0).last());
    let said = folder.run(&format!("why {run} b")).expect(2);
    assert!(said.err.contains("no step `b`"), "{}", said.err);
}
