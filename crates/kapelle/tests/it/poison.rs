//! A command that kills the node it works for, again and again.

use crate::kill_node::{eventually, is_alive};
use crate::support::{Done, Folder};

/// The parent of `sh` is the child's keeper, and the keeper's is the node.
const BOMB: &str = r#"
id: poisoned
tasks:
  - id: bomb
    agentName: process
    input: { shell: "node=$(cut -d' ' -f4 /proc/$PPID/stat); echo $node >> victims; kill -9 $node; sleep 60" }
  - { id: other, agentName: echo, input: { value: done } }
  - { id: next, agentName: echo, dependencies: [other], input: { value: "{{ steps.other.output }}" } }
output: "{{ steps.next.output }}"
"#;

/// The nodes that were killed so far.
fn victims(folder: &Folder) -> Vec<u32> {
    let text = std::fs::read_to_string(folder.path().join("victims")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Lets a node take the run up, and waits until the bomb has killed it.
fn fall(folder: &Folder, line: &str) {
    let before = victims(folder).len();
    // It may be dead before it can answer.
    drop(folder.command(line).output().unwrap());
    eventually("the bomb kills its node", || {
        let victims = victims(folder);
        victims.len() == before + 1 && victims.iter().all(|node| !is_alive(*node))
    });
}

fn shown(folder: &Folder) -> serde_json::Value {
    let runs = folder.run("runs list --json").expect(0).json();
    let run = runs["items"][0]["id"].as_str().unwrap().to_owned();
    folder.run(&format!("runs show {run} --json")).expect(0).json()
}

#[test]
fn a_command_that_kills_its_node_is_kept_from_the_fourth() {
    let folder = Folder::new();
    folder.write("workflow.yaml", BOMB);
    for _ in 0..3 {
        fall(&folder, "run . --detach --task-id bomb");
    }
    folder.run("run . --detach --task-id bomb").expect(0);
    eventually("the run waits for a person", || shown(&folder)["status"] == "waiting");
    let run = shown(&folder);
    let (node, steps) = (run["node"]["pid"].as_u64().unwrap(), &run["steps"]);
    assert!(is_alive(u32::try_from(node).unwrap()), "the fourth node lives");
    assert_eq!(victims(&folder).len(), 3);
    assert_eq!(steps[0]["status"], "blocked");
    assert!(steps[0]["reason"].as_str().unwrap().starts_with("poison: 3 nodes"), "{}", steps[0]);
    assert_eq!(
        (&steps[1]["status"], &steps[2]["status"]),
        (&"completed".into(), &"completed".into())
    );

    let id = run["id"].as_str().unwrap();
    let Done { out, .. } = folder.run(&format!("runs events {id} --json")).expect(0);
    assert!(out.contains(r#""reason":"poison""#), "{out}");
    folder.run(&format!("runs resolve {id} bomb --action skip")).expect(0);
    eventually("the run ends", || shown(&folder)["status"] == "completed");
    assert_eq!(shown(&folder)["output"], "done");
    eventually("the node leaves", || !is_alive(u32::try_from(node).unwrap()));
}

#[test]
fn in_front_of_a_person_a_command_kills_as_many_nodes_as_they_like() {
    let folder = Folder::new();
    folder.write("workflow.yaml", BOMB);
    for _ in 0..4 {
        fall(&folder, "run . --task-id bomb --json");
    }
    let run = shown(&folder);
    assert_eq!(run["steps"][0]["status"], "running", "as the last node left it");
    assert_eq!(run["steps"][0]["attempts"], 4);
    let failure = &run["steps"][0]["failure"];
    assert_eq!(failure["code"], "node_died");
    assert!(failure["message"].as_str().unwrap().ends_with("3 times in a row"), "{failure}");
    // Whoever takes it up where nobody watches asks at once.
    folder.run("run . --detach --task-id bomb").expect(0);
    eventually("the run waits for a person", || shown(&folder)["status"] == "waiting");
    let id = run["id"].as_str().unwrap();
    folder.run(&format!("runs resolve {id} bomb --action skip")).expect(0);
    let node = shown(&folder)["node"]["pid"].as_u64();
    let gone = || node.is_none_or(|node| !is_alive(u32::try_from(node).unwrap()));
    eventually("the node leaves", gone);
}
