//! The history of runs: looked at as it was then.

use crate::support::{Folder, run_of};

const TWO: &str = "{id: x, tasks: [
    {id: a, agentName: echo, input: {value: 1}},
    {id: b, agentName: echo, dependencies: [a], input: {value: '{{ steps.a.output + 1 }}'}}]}";

#[test]
fn a_run_is_shown_as_it_was_after_each_of_its_events() {
    let folder = Folder::new();
    folder.write("workflow.yaml", TWO);
    let events = folder.run("run . --json").expect(0).events();
    let run = run_of(&events[0]);
    let now = folder.run(&format!("runs show {run} --json")).expect(0).json();
    let (mut done, mut begun) = (Vec::new(), Vec::new());
    for event in events.iter().filter(|event| event["seq"].is_u64()) {
        let seq = &event["seq"];
        let step = event["step"].as_str().unwrap_or_default();
        match event["type"].as_str().unwrap() {
            "step_started" => begun.push(step),
            "step_completed" => done.push(step),
            _ => {}
        }
        let then = folder.run(&format!("runs show {run} --at {seq} --json")).expect(0).json();
        assert_eq!(then["seq"], *seq);
        assert_eq!(then["updated_at"], event["at"], "{then}");
        for step in then["steps"].as_array().unwrap() {
            let id = step["id"].as_str().unwrap();
            assert_eq!(step["status"] == "completed", done.contains(&id), "at {seq}: {step}");
            assert_eq!(step["started_at"].is_string(), begun.contains(&id), "at {seq}: {step}");
        }
        assert_eq!(then["ended_at"].is_string(), event["type"] == "run_completed", "{then}");
        if event["type"] == "run_completed" {
            assert_eq!(then, now);
        }
    }
    let first = folder.run(&format!("runs show {run} --at 1")).expect(0);
    assert!(
        first.out.starts_with("event     1, ") && first.out.contains("pending"),
        "{}",
        first.out
    );
    let last = events.last().unwrap()["seq"].as_u64().unwrap();
    for seq in [0, last + 1] {
        let none = folder.run(&format!("runs show {run} --at {seq}")).expect(2);
        assert!(none.err.contains(&format!("give 1 to {last}")) || seq == 0, "{}", none.err);
    }
}
