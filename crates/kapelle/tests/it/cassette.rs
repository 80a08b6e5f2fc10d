//! What the outside answered is recorded, and played without the outside.

use kapelle_fake::{Fake, Script};

use crate::support::{Done, Folder, Running, run_of};

/// A key that must be nowhere.
const CANARY: &str = "sk-canary-5d21c8";

const WORKFLOW: &str = r#"
id: taped
tasks:
  - id: draw
    agentName: process
    input: { argv: [sh, -c, "head -c 8 /dev/urandom | od -An -tx1 | tee $KAPELLE_OUT/drawn.txt"] }
  - id: read
    agentName: reader
    input: { file: notes.txt }
    prompt: "Read the file."
  - id: both
    agentName: echo
    dependencies: [draw, read]
    input: { value: "{{ steps.draw.output.value }} {{ steps.read.output }}" }
output: "{{ steps.both.output }}"
"#;

const SCRIPT: &str = r#"
rules:
  - {when: {tool_results: true}, answer: [{text: "it says {{tool_result}}"}]}
  - answer: [{tool: {name: read_file, input: {path: notes.txt}}}]
"#;

fn run(folder: &Folder, line: &str, fake: Option<&Fake>) -> Done {
    start(folder, line, fake).finish()
}

fn start(folder: &Folder, line: &str, fake: Option<&Fake>) -> Running {
    let mut command = folder.command(line);
    for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY"] {
        command.env_remove(name);
    }
    if let Some(fake) = fake {
        command.env("ANTHROPIC_API_KEY", CANARY).env("ANTHROPIC_BASE_URL", fake.url());
    }
    Running::of(command)
}

/// A folder with the workflow, its agent and what that reads.
fn folder(workflow: &str) -> Folder {
    let folder = Folder::new();
    folder.write("workflow.yaml", workflow);
    folder.write("notes.txt", "the first text");
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let reader = "---\nname: reader\ndescription: Reads.\ntools: read_file\n---\nYou read.\n";
    folder.write("agents/reader.md", reader);
    folder
}

#[test]
fn what_was_recorded_is_played_without_the_outside() {
    let folder = folder(WORKFLOW);
    let fake = Fake::start(Script::parse(SCRIPT).unwrap()).unwrap();
    let done = run(&folder, "--agents agents run . --json --record tape", Some(&fake)).expect(0);
    assert!(done.err.contains("outside calls recorded"), "{}", done.err);
    let first = done.last()["output"].clone();
    drop(fake);
    let tape = std::fs::read_to_string(folder.path().join("tape")).unwrap();
    assert!(!tape.contains(CANARY), "{tape}");
    // Nobody is there to ask, the file says something else, and what is drawn is drawn by nobody.
    folder.write("notes.txt", "another text");
    let again = run(&folder, "--agents agents run . --json --replay tape", None).expect(0);
    assert_eq!(again.last()["output"], first);
    assert!(again.err.contains(", 0 left on the cassette"), "{}", again.err);
    let drawn = [&done, &again].map(|done| done.last()["artifacts"][0]["digest"].clone());
    assert!(drawn[0].is_string() && drawn[0] == drawn[1], "{drawn:?}");
    // Another question has no answer, and the cassette is not written over.
    folder.write("workflow.yaml", &WORKFLOW.replace("Read the", "Look at the"));
    let other = run(&folder, "--agents agents run . --json --replay tape", None).expect(1);
    let told = serde_json::to_string(&other.events()).unwrap();
    assert!(told.contains("not_on_cassette"), "{told}");
    let shown = run(&folder, "--agents agents run . --replay tape", None).expect(1).out;
    assert!(!shown.contains("runs fork"), "it would ask the model itself: {shown}");
    let refused = run(&folder, "--agents agents run . --record tape", None).expect(2);
    assert!(refused.err.contains("is there already"), "{}", refused.err);
}

#[test]
fn a_run_that_is_killed_goes_on_with_its_cassette_which_is_whole_then() {
    // The process is done before the model is asked.
    let folder = folder(
        &WORKFLOW.replace("agentName: reader", "agentName: reader\n    dependencies: [draw]"),
    );
    let fake = Fake::start(Script::parse(SCRIPT).unwrap()).unwrap();
    let mut first = start(&folder, "--agents agents run . --json --record tape", Some(&fake));
    let id = run_of(&first.wait_for("run_created", None));
    first.wait_for("effect_recorded", Some("read"));
    first.crash();
    let path = folder.path().join("tape");
    let tape = std::fs::read_to_string(&path).unwrap();
    // Played as it is, it says why it ends in the middle; without what was on it, nothing goes on.
    let part = run(&folder, "--agents agents --store other run . --json --replay tape", None);
    let told = serde_json::to_string(&part.expect(1).events()).unwrap();
    assert!(told.contains("its run had not ended when it was recorded"), "{told}");
    let resume = |file: &str, how: &str, fake: Option<&Fake>| {
        run(&folder, &format!("--agents agents runs resume {id} --json {how} {file}"), fake)
    };
    let lost = resume("another", "--record", Some(&fake)).expect(2);
    assert!(lost.err.contains("its beginning is lost"), "{}", lost.err);
    let (drawn, others): (Vec<&str>, _) = tape.lines().partition(|line| line.contains("draw/0"));
    folder.write("part", &(others.join("\n") + "\n"));
    let part = resume("part", "--record", Some(&fake)).expect(2);
    assert!(part.err.contains("is not whole: step `draw`"), "{}", part.err);
    let other = id.replace(&id[id.len() - 4..], "0000");
    folder.write("foreign", &tape.replace(&id, &other));
    let foreign = resume("foreign", "--record", Some(&fake)).expect(2);
    assert!(foreign.err.contains("is about another run"), "{}", foreign.err);
    // A crash may come between the cassette and the journal, and in the middle of a line.
    let ahead = drawn[0].replace("draw/0", "both/0") + "\n{\"step\":\"re";
    folder.write("tape", &(tape + &ahead));
    let done = resume("tape", "--record", Some(&fake)).expect(0);
    assert!(done.err.contains("outside calls recorded\n"), "{}", done.err);
    let asked = fake.journal().len();
    drop(fake);
    folder.write("notes.txt", "another text");
    let again = "--agents agents --store another run . --json --replay tape";
    let again = run(&folder, again, None).expect(0);
    assert_eq!(again.last()["output"], done.last()["output"]);
    assert!(again.err.contains(", 0 left on the cassette"), "{}", again.err);
    assert!((2..=3).contains(&asked), "{asked}");
}

#[test]
fn a_replay_that_is_killed_goes_on_with_the_rest_of_the_cassette() {
    let folder = folder(&format!("{WORKFLOW}config: {{ maxParallelAgents: 1 }}\n"));
    let fake = Fake::start(Script::parse(SCRIPT).unwrap()).unwrap();
    let done = run(&folder, "--agents agents run . --json --record tape", Some(&fake)).expect(0);
    drop(fake);
    let mut replay = start(&folder, "--agents agents run . --json --replay tape", None);
    let id = run_of(&replay.wait_for("run_created", None));
    replay.wait_for("effect_recorded", Some("read"));
    replay.crash();
    let again =
        run(&folder, &format!("--agents agents runs resume {id} --json --replay tape"), None);
    let again = again.expect(0);
    assert_eq!(again.last()["output"], done.last()["output"]);
    assert!(again.err.contains(", 0 left on the cassette"), "{}", again.err);
}

#[test]
fn what_is_played_is_booked_nowhere_and_held_up_by_no_limit() {
    let folder = folder(WORKFLOW);
    let script = format!("faults: [{{status: 529, at: [1]}}]{SCRIPT}");
    let fake = Fake::start(Script::parse(&script).unwrap()).unwrap();
    run(&folder, "--agents agents run . --json --record tape", Some(&fake)).expect(0);
    folder.write("kapelle.toml", "[budgets.tenant]\ntokens = 1\n");
    drop(fake);
    let again = run(&folder, "--agents agents run . --json --replay tape", None).expect(0);
    let id = run_of(&again.events()[0]);
    let bill = folder.run(&format!("runs bill {id}")).expect(0).out;
    assert!(!bill.contains("unknown"), "a refusal that was recorded was free: {bill}");
    let left = folder.run("budgets --json").expect(0).json();
    assert_eq!(left["accounts"][0]["spent"]["tokens"], 0, "{left:#}");
}

/// What they say to each other is said anew, where nobody takes his time any more.
#[test]
fn what_was_heard_and_what_was_not_sent_is_the_same_whoever_is_done_first() {
    let folder = folder(TALK);
    for name in ["asks", "tells"] {
        let text = format!(
            "---\nname: {name}\ndescription: {name}\ntools: ask_person, send_message\n---\nYou {name}.\n"
        );
        folder.write(&format!("agents/{name}.md"), &text);
    }
    let fake = Fake::start(Script::parse(TALK_SCRIPT).unwrap()).unwrap();
    // `b` asks a person, and hears of `a` meanwhile.
    let waits = run(&folder, "--agents agents run . --json --record tape", Some(&fake)).expect(5);
    let id = run_of(&waits.events()[0]);
    folder.run(&format!("runs answer {id} b yes")).expect(0);
    let resume = format!("--agents agents runs resume {id} --json --record tape");
    let first = run(&folder, &resume, Some(&fake)).expect(0);
    let output = first.last()["output"].clone();
    assert!(output.to_string().contains("heard: hello"), "{output}");
    drop(fake);
    // One after the other now, and in both orders.
    for (store, order) in [("one", "[a, b]"), ("two", "[b, a]")] {
        let mut steps = TALK.lines().filter(|line| line.contains("- {"));
        let (a, b) = (steps.next().unwrap(), steps.next().unwrap());
        let (one, two) = if order == "[a, b]" { (a, b) } else { (b, a) };
        let flow = format!(
            "id: talk\ntasks:\n{one}\n{two}\nconfig: {{ maxParallelAgents: 1 }}\n{TALK_OUTPUT}"
        );
        folder.write("workflow.yaml", &flow);
        let line = format!("--agents agents --store {store} run . --json --replay tape");
        let again = run(&folder, &line, None).expect(0);
        assert_eq!(again.last()["output"], output, "{order}");
        assert!(again.err.contains(", 0 left on the cassette"), "{order}: {}", again.err);
    }
}

const TALK: &str = r#"
id: talk
tasks:
  - { id: a, agentName: tells, prompt: "Tell b." }
  - { id: b, agentName: asks, prompt: "Ask." }
output: { a: "{{ steps.a.output }}", b: "{{ steps.b.output }}" }
"#;
const TALK_OUTPUT: &str = r#"output: { a: "{{ steps.a.output }}", b: "{{ steps.b.output }}" }"#;

/// `a` says hello, and tells whether it could; `b` asks, and tells what it has heard.
const TALK_SCRIPT: &str = r#"
rules:
  - {when: {user_matches: hello}, answer: [{text: "heard: hello"}]}
  - {when: {system_contains: You asks, tool_results: true}, answer: [{text: "heard nothing"}]}
  - {when: {system_contains: You asks}, answer: [{tool: {name: ask_person, input: {question: "well?"}}}]}
  - {when: {tool_results: true}, answer: [{text: "{{tool_result}}"}]}
  - answer: [{tool: {name: send_message, input: {to: b, text: hello}}}]
"#;

#[test]
fn equal_calls_of_many_parts_have_the_answers_of_their_parts() {
    let folder = Folder::new();
    let flow = "id: vote\ninputs: { items: { type: array, default: [1, 2, 3, 4, 5, 6] } }\ntasks:\n  \
                - { id: v, agentName: process, forEach: inputs.items, input: { argv: [sh, -c, \
                'od -An -N8 -tx8 /dev/urandom'] } }\noutput: '{{ steps.v.output }}'\n";
    folder.write("workflow.yaml", flow);
    let first = run(&folder, "run . --json --record tape", None).expect(0);
    for store in ["one", "two"] {
        let line = format!("--store {store} run . --json --replay tape");
        let again = run(&folder, &line, None).expect(0);
        assert_eq!(again.last()["output"], first.last()["output"]);
    }
}

/// Calls that broke off are paid as far as anybody knows: in a replay as well.
#[test]
fn a_call_of_unknown_end_is_played_as_one() {
    let folder = folder(WORKFLOW);
    let script = format!("faults: [{{cut_at: 200, at: [1]}}]{SCRIPT}");
    let fake = Fake::start(Script::parse(&script).unwrap()).unwrap();
    let bill = |done: &Done| {
        let id = run_of(&done.events()[0]);
        let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
        let of = |what: &str| bill["total"][what]["tokens"].as_u64().unwrap();
        (of("spent"), of("unknown_outcome"))
    };
    let done = run(&folder, "--agents agents run . --json --record tape", Some(&fake)).expect(0);
    drop(fake);
    let again = run(&folder, "--agents agents run . --json --replay tape", None).expect(0);
    assert_eq!(bill(&again), bill(&done));
    assert!(bill(&done).1 > 0, "{:?}", bill(&done));
}

/// Else one call of a model would lose all runs, or what is recorded of this one.
#[test]
fn a_model_reaches_neither_the_store_nor_the_cassette_by_their_names() {
    let folder = folder("id: w\ntasks: [{ id: a, agentName: writer, prompt: Go. }]\n");
    folder.write("kapelle.toml", "store = \"data/st\"\n[models]\ngrants = [\"write_file\"]\n");
    let writer = "---\nname: writer\ndescription: Writes.\ntools: write_file\n---\nWrite.\n";
    folder.write("agents/writer.md", writer);
    let call =
        |file: &str| format!("{{tool: {{name: write_file, input: {{path: {file}, text: x}}}}}}");
    let files = ["tape", "data/st/kapelle.db", "data/st/pace/x", "data/st/runs/x"];
    let calls = files.map(call).join(", ");
    let script = format!(
        "rules:\n  - {{when: {{turn: 0}}, answer: [{calls}]}}\n  - answer: [{{text: done}}]\n"
    );
    let fake = Fake::start(Script::parse(&script).unwrap()).unwrap();
    let done = run(&folder, "--agents agents run . --json --record tape", Some(&fake)).expect(0);
    let told = folder.run(&format!("runs export {}", run_of(&done.events()[0]))).expect(0).out;
    assert_eq!(told.matches("holds a key or is our own").count(), files.len(), "{told}");
    folder.run("runs list").expect(0);
    let tape = std::fs::read_to_string(folder.path().join("tape")).unwrap();
    assert!(tape.contains("write_file"), "{tape}");
}
