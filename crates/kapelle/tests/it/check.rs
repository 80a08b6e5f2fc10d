//! `check`: all problems of broken files, for people and for programs.

use crate::support::Folder;

const BROKEN: &str = "\
id: broken
tasks:
  - { id: a, agentName: ecko, input: { value: 1 } }
  - { id: b, agentName: echo, dependencies: [c], input: { value: 1 } }
  - { id: b, agentName: echo, input: { value: 1 }, prioriti: 3 }
";

#[test]
fn all_problems_are_told_in_one_go() {
    let folder = Folder::new();
    folder.write("broken.yaml", BROKEN);
    folder.write("fine.yaml", "{id: x, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
    folder.run("check fine.yaml").expect(0);
    let done = folder.run("check fine.yaml broken.yaml --json").expect(2).json();
    assert_eq!(done["ok"], false);
    let problems = done["problems"].as_array().unwrap();
    let told: Vec<_> = problems
        .iter()
        .map(|p| (p["code"].as_str().unwrap(), p["line"].as_u64().unwrap()))
        .collect();
    let expected =
        [("unknown_agent", 3), ("unknown_step", 4), ("duplicate_id", 5), ("unknown_field", 5)];
    assert_eq!(told, expected, "{problems:#?}");
    for problem in problems {
        assert_eq!(problem["file"], "broken.yaml");
        assert!(problem["column"].is_u64() && problem["field"].is_string(), "{problem}");
    }
    let text = folder.run("check broken.yaml").expect(2);
    assert!(text.out.contains("did you mean `echo`?"), "{}", text.out);
    assert!(text.out.contains("broken.yaml:3:25"), "{}", text.out);
}

#[test]
fn an_input_that_no_agent_takes_is_told_in_plain_words_before_the_run() {
    let folder = Folder::new();
    folder.write(
        "workflow.yaml",
        "id: x\ntasks:\n  - { id: a, agentName: memory, action: store, input: { text: t, ttl: -3d } }\n  \
         - { id: b, agentName: process, input: { parse: text } }\n  \
         - { id: c, agentName: summarizer, input: { text: t, documents: [] } }\n  \
         - { id: d, agentName: echo, input: { delay: soon } }\n  \
         - { id: e, agentName: walkthrough-generator, input: { guide: 7 } }\n",
    );
    let text = folder.run("check workflow.yaml").expect(2).out;
    for told in [
        "`ttl` must be a duration such as `30s` or `1h30m`, and is `-3d`",
        "it needs `argv` or `shell`",
        "only one of `text` and `documents` may be given",
        "`delay` must be a duration",
        "`guide` must be ",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
    for jargon in ["schemas listed", "oneOf", "anyOf", "is not of type", "required property"] {
        assert!(!text.contains(jargon), "{jargon}\n{text}");
    }
    // Who submits it all the same is told so, too, before anything begins.
    let refused = folder.run("run workflow.yaml").expect(2);
    assert!(refused.err.contains("`ttl` must be a duration"), "{}", refused.err);
}

#[test]
fn what_cannot_be_read_as_a_workflow_is_a_clear_error() {
    let folder = Folder::new();
    folder.write("deep.yaml", &"[".repeat(10_000));
    std::fs::write(folder.path().join("latin.yaml"), b"id: caf\xe9").unwrap();
    std::fs::write(folder.path().join("nul.yaml"), b"id: \0").unwrap();
    std::fs::write(folder.path().join("huge.yaml"), vec![b'#'; 50 << 20]).unwrap();
    folder.write("twice.yaml", "id: a\nid: b\ntasks: []");
    let cases = [
        ("deep.yaml", "too_deep"),
        ("latin.yaml", "bad_encoding"),
        ("nul.yaml", "bad_encoding"),
        ("huge.yaml", "file_too_large"),
        ("twice.yaml", "duplicate_key"),
    ];
    for (file, code) in cases {
        let done = folder.run(&format!("check {file} --json")).expect(2).json();
        assert_eq!(done["problems"][0]["code"], code, "{file}: {done}");
    }
    let missing = folder.run("check nowhere.yaml").expect(2);
    assert!(missing.out.contains("`nowhere.yaml`"), "{}", missing.out);
    let both = folder.run("check nowhere.yaml twice.yaml --json").expect(2).json();
    let first = &both["problems"][0];
    assert_eq!(
        (&first["code"], &first["file"]),
        (&"unreadable_file".into(), &"nowhere.yaml".into())
    );
    assert_eq!(both["problems"][1]["code"], "duplicate_key", "{both}");
    let refused = folder.run("run twice.yaml").expect(2);
    assert!(refused.err.contains("twice.yaml:2:1"), "{}", refused.err);
    assert!(!folder.path().join(".kapelle").exists(), "a broken file made a store");
}
