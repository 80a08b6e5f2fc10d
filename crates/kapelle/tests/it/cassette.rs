//! What the outside answered is recorded, and played without the outside.

use kapelle_fake::{Fake, Script};

use crate::support::{Done, Folder, Running};

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
    let mut command = folder.command(line);
    for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY"] {
        command.env_remove(name);
    }
    if let Some(fake) = fake {
        command.env("ANTHROPIC_API_KEY", CANARY).env("ANTHROPIC_BASE_URL", fake.url());
    }
    Running::of(command).finish()
}

#[test]
fn what_was_recorded_is_played_without_the_outside() {
    let folder = Folder::new();
    folder.write("workflow.yaml", WORKFLOW);
    folder.write("notes.txt", "the first text");
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let reader = "---\nname: reader\ndescription: Reads.\ntools: read_file\n---\nYou read.\n";
    folder.write("agents/reader.md", reader);
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
    let refused = run(&folder, "--agents agents run . --record tape", None).expect(2);
    assert!(refused.err.contains("is there already"), "{}", refused.err);
}
