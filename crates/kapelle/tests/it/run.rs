//! `run` and what can be seen of a run afterwards.

use serde_json::json;

use crate::support::{Folder, run_of};

const GREET: &str = r#"
id: greet
inputs:
  who: { type: string, default: world }
  times: { type: integer, default: 2 }
tasks:
  - id: make
    agentName: process
    input:
      shell: 'echo "hi $WHO" > $KAPELLE_OUT/note.md; mkdir $KAPELLE_OUT/sub; echo x > $KAPELLE_OUT/sub/x.txt; pwd'
      env: { WHO: "{{ inputs.who }}" }
      parse: text
  - id: say
    agentName: echo
    dependencies: [make]
    input: { value: { who: "{{ inputs.who }}", times: "{{ inputs.times }}" } }
output: "{{ steps.say.output }}"
"#;

#[test]
fn json_lines_keep_the_contract() {
    let folder = Folder::new();
    folder.write("workflow.yaml", GREET);
    let done = folder.run("run . --json --input who=7 --input times=3").expect(0);
    let events = done.events();
    let types: Vec<_> = events
        .iter()
        .filter(|event| event["type"] != "step_progress")
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "run_created",
            "run_started",
            "step_started",
            "step_completed",
            "step_started",
            "step_completed",
            "run_completed"
        ]
    );
    for (seq, event) in (1..).zip(events.iter().filter(|event| event["seq"].is_u64())) {
        assert_eq!(event["seq"], seq);
        assert!(event["at"].as_str().unwrap().ends_with('Z'), "{event}");
    }
    let last = done.last();
    assert_eq!(last["verdict"], "completed");
    assert_eq!(last["output"], json!({"who": "7", "times": 3}));
    assert!(last["elapsed_ms"].is_u64());
    let run = run_of(&last);
    let names: Vec<_> =
        last["artifacts"].as_array().unwrap().iter().map(|a| a["name"].clone()).collect();
    assert_eq!(names, ["note.md", "sub/x.txt"]);
    let note = &last["artifacts"][0];
    assert_eq!(note["type"], "text/markdown");
    let path = note["path"].as_str().unwrap();
    assert_eq!(path, format!(".kapelle/runs/{run}/artifacts/note.md"));
    assert_eq!(std::fs::read_to_string(folder.path().join(path)).unwrap(), "hi 7\n");
    let digest = note["digest"].as_str().unwrap();
    assert_eq!(folder.run(&format!("artifacts get {digest}")).expect(0).out, "hi 7\n");
    let list = folder.run(&format!("artifacts list {run} --json")).expect(0).json();
    assert_eq!(list["items"][0]["digest"], *digest);
    assert_eq!(list["items"][0]["step"], "make");
    assert_eq!(list["items"], last["artifacts"]);
    let events = folder.run(&format!("runs events {run} --json")).expect(0);
    assert_eq!(events.last(), last);
}

#[test]
fn a_run_ends_as_it_does_also_where_its_artifacts_cannot_be_written() {
    let folder = Folder::new();
    folder.write(
        "workflow.yaml",
        "
id: x
tasks:
  - { id: a, agentName: process, input: { shell: 'mkdir $KAPELLE_OUT/d; echo 1 > $KAPELLE_OUT/d/e' } }
  - { id: b, agentName: process, input: { shell: 'echo 2 > $KAPELLE_OUT/d' } }
",
    );
    let last = folder.run("run . --json").expect(0).last();
    let paths = last["artifacts"].as_array().unwrap().iter().map(|a| a["path"].as_str().unwrap());
    let texts = paths.map(|path| std::fs::read_to_string(folder.path().join(path)).unwrap());
    assert_eq!(texts.collect::<Vec<_>>(), ["1\n", "2\n"]);
    std::fs::remove_dir_all(folder.path().join(".kapelle/runs")).unwrap();
    folder.write(".kapelle/runs", "no folder");
    let done = folder.run("run . --json").expect(0);
    assert_eq!(done.last()["artifacts"][0]["path"], json!(null));
    assert!(done.err.contains("was not written"), "{}", done.err);
}

#[test]
fn a_run_can_be_looked_at_by_any_of_its_names() {
    let folder = Folder::new();
    folder.write("workflow.yaml", GREET);
    let run = run_of(&folder.run("run . --json --task-id my/task").expect(0).last());
    let suffix = &run[run.len() - 6..];
    for name in [run.as_str(), suffix, "my/task"] {
        let shown = folder.run(&format!("runs show {name} --json")).expect(0).json();
        assert_eq!(shown["id"], *run);
        assert_eq!(shown["status"], "completed");
        assert_eq!(shown["workflow"], "greet");
        let step = &shown["steps"][1];
        assert_eq!((&step["id"], &step["agent"]), (&json!("say"), &json!("echo")));
        assert_eq!((&step["status"], &step["attempts"]), (&json!("completed"), &json!(1)));
        assert_eq!(step["output"], json!({"who": "world", "times": 2}));
        assert_eq!(shown["output"], step["output"]);
        assert!(shown["bytes"].as_u64().unwrap() > 0);
        assert!(step["started_at"].is_string() && step["ended_at"].is_string());
    }
    let told = folder.run(&format!("runs events {run} --json")).expect(0);
    let watched = folder.run(&format!("runs watch {run} --json")).expect(0);
    assert_eq!(told.out, watched.out);
    assert_eq!(told.last()["type"], "run_completed");
    let rest = folder.run(&format!("runs events {run} --json --after 6")).expect(0).events();
    assert_eq!(rest.len(), 1, "{rest:?}");
    let list = folder.run("runs list --json").expect(0).json();
    assert_eq!(list["items"][0]["id"], *run);
    assert_eq!(list["next_cursor"], json!(null));
    let none = folder.run("runs show no-such-run").expect(2);
    assert_eq!(none.err, "error: there is no run `no-such-run`\n");
}

#[test]
fn a_list_is_read_page_by_page() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
    let mut runs: Vec<_> =
        (0..3).map(|_| run_of(&folder.run("run . --json").expect(0).last())).collect();
    runs.reverse();
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = folder.run(&format!("runs list --json --limit 2 {cursor}")).expect(0).json();
        let items = page["items"].as_array().unwrap();
        listed.extend(items.iter().map(|run| run["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("--cursor {next}"),
            None => break,
        }
    }
    assert_eq!(listed, runs);
}

#[test]
fn a_failed_step_ends_the_run_with_1_and_spares_independent_work() {
    let folder = Folder::new();
    folder.write(
        "workflow.yaml",
        r#"
id: half
tasks:
  - { id: bad, agentName: process, input: { shell: "echo no luck >&2; exit 3" }, retry: { maxAttempts: 1 } }
  - { id: after, agentName: echo, dependencies: [bad], input: { value: 1 } }
  - { id: other, agentName: echo, input: { value: 2 } }
"#,
    );
    let done = folder.run("run workflow.yaml").expect(1);
    // How it goes is talk, what came of it is data.
    assert!(done.err.contains("bad: failed (exit_3)"), "{}", done.err);
    assert!(done.err.contains("after: skipped: it needs `bad`"), "{}", done.err);
    assert!(done.err.contains("other: completed"), "{}", done.err);
    assert!(done.out.starts_with("run ") && done.out.contains("no luck"), "{}", done.out);
    let run = done.out.split(' ').nth(1).unwrap();
    let listed = folder.run(&format!("runs events {run}")).expect(0);
    assert!(listed.out.contains("other: completed") && listed.err.is_empty(), "{listed:?}");
}

#[test]
fn the_last_words_on_a_failed_run_name_commands_that_work() {
    let folder = Folder::new();
    let workflow = |step: &str| {
        let text = format!(
            "id: ways\ntasks:\n  - id: bad\n    agentName: process\n    retry: {{ maxAttempts: 1 }}\n{step}"
        );
        folder.write("workflow.yaml", &text);
        folder.run("run workflow.yaml").expect(1).out
    };
    let one = "    input: { shell: 'test -e mended' }\n";
    let each = "    forEach: '[1, 2]'\n    input: { shell: 'test -e mended' }\n";
    for (step, failed) in [(one, "bad"), (each, "bad.")] {
        let told = workflow(step);
        let way = |name: &str| {
            let line = told.lines().find_map(|line| line.trim().strip_prefix(name)).expect(&told);
            line.trim().strip_prefix("kapelle ").unwrap().to_owned()
        };
        let why = folder.run(&way("why:")).expect(0).out;
        assert!(way("why:").contains(&format!(" {failed}")) && why.contains("exit_1"), "{why}");
        folder.write("mended", "");
        folder.run(&way("mended?")).expect(0);
        std::fs::remove_file(folder.path().join("mended")).unwrap();
    }
}

#[test]
fn the_last_words_on_a_failed_run_name_the_inputs_that_its_step_read() {
    let folder = Folder::new();
    let workflow =
        "{id: x, inputs: {page: {type: string}, pages: {type: string, default: x}}, tasks: [
        {id: read, agentName: web, action: read, input: {url: '{{ inputs.page }}'}}]}";
    folder.write("workflow.yaml", workflow);
    let told = folder.run("run workflow.yaml --input page=missing.html").expect(1).out;
    assert!(
        told.contains("--from read\n           with another input: --input page=…\n"),
        "{told}"
    );
    let run = told.strip_prefix("run ").unwrap().split(' ').next().unwrap();
    folder.write("there.html", "<p>here");
    let fork = format!("runs fork {run} --from read --input page=there.html");
    let told = folder.run(&fork).expect(0).out;
    assert!(!told.contains("with another input"), "{told}");
}

#[test]
fn wrong_inputs_are_refused_before_anything_runs() {
    let folder = Folder::new();
    folder.write("workflow.yaml", GREET);
    let done = folder.run("run . --input times=many --input hwo=x").expect(2);
    assert!(
        done.err.contains("`times`") && done.err.contains("did you mean `who`?"),
        "{}",
        done.err
    );
    assert!(!folder.path().join(".kapelle").exists());
    folder.write("inputs.json", r#"{"who": "ada", "times": 5}"#);
    let done = folder.run("run . --json --inputs inputs.json --input times=6").expect(0);
    assert_eq!(done.last()["output"], json!({"who": "ada", "times": 6}));

    folder.write(
        "list.yaml",
        "{id: x, inputs: {all: {type: array}}, tasks: [{id: a, agentName: echo}]}",
    );
    let done = folder.run("run list.yaml --input all=docs/*.html").expect(2);
    assert!(done.err.contains(r#"`all=["docs/*.html"]`"#), "{}", done.err);
    let done = folder.run("run . --inputs .").expect(2);
    assert!(done.err.contains("is a folder; inputs are a file"), "{}", done.err);
}

#[test]
fn a_store_in_memory_leaves_nothing() {
    let folder = Folder::new();
    folder.write("workflow.yaml", GREET);
    let done = folder.run("--store memory run . --json").expect(0);
    assert_eq!(done.last()["artifacts"][0]["path"], json!(null));
    assert!(!folder.path().join(".kapelle").exists());
    assert!(!folder.path().join("memory").exists());
    folder.run("--store memory run . --detach").expect(2);
}

#[test]
fn two_processes_run_two_workflows_on_one_store() {
    let folder = Folder::new();
    let workflow = |id: &str| {
        format!(
            "{{id: {id}, tasks: [{{id: a, agentName: echo, input: {{value: {id}, delay: 300ms}}}}, \
             {{id: b, agentName: echo, dependencies: [a], input: {{value: 1}}}}]}}"
        )
    };
    folder.write("one.yaml", &workflow("one"));
    folder.write("two.yaml", &workflow("two"));
    let mut one = folder.start("run one.yaml --json");
    let mut two = folder.start("run two.yaml --json");
    one.wait_for("step_started", Some("a"));
    two.wait_for("step_started", Some("a"));
    let listed = folder.run("runs list --json").expect(0).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    for done in [one.finish().expect(0), two.finish().expect(0)] {
        assert_eq!(done.last()["verdict"], "completed");
    }
}

#[test]
fn settings_come_from_a_file_the_environment_and_the_command_line() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: x, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
    folder.write("kapelle.toml", "store = \"from-file\"\n");
    folder.run("run .").expect(0);
    assert!(folder.path().join("from-file/kapelle.db").exists());
    let mut command = folder.command("run .");
    assert!(command.env("KAPELLE_STORE", "from-env").output().unwrap().status.success());
    assert!(folder.path().join("from-env/kapelle.db").exists());
    folder.run("--store from-flag run .").expect(0);
    assert!(folder.path().join("from-flag/kapelle.db").exists());
    folder.write("kapelle.toml", "[node]\nslotz = 1\n");
    let done = folder.run("run .").expect(3);
    assert!(done.err.contains("kapelle.toml") && done.err.contains("line 2"), "{}", done.err);
}
