//! What the commands say of themselves: the reference of the command line.

use crate::support::Folder;

const COMMANDS: [&str; 43] = [
    "",
    "run",
    "plan",
    "check",
    "runs",
    "runs list",
    "runs show",
    "runs events",
    "runs watch",
    "runs pause",
    "runs resume",
    "runs cancel",
    "runs approve",
    "runs resolve",
    "runs budget",
    "runs bill",
    "runs diff",
    "runs fork",
    "runs export",
    "runs import",
    "runs prune",
    "budgets",
    "artifacts",
    "artifacts list",
    "artifacts get",
    "agents",
    "agents list",
    "agents show",
    "agents check",
    "why",
    "serve",
    "keys",
    "keys create",
    "keys list",
    "keys revoke",
    "doctor",
    "bench",
    "dev",
    "dev fake-model",
    "schema",
    "schema workflow",
    "schema fake-model",
    "completions",
];

#[test]
fn every_command_describes_itself() {
    let folder = Folder::new();
    let mut manual = String::new();
    for command in COMMANDS {
        let done = folder.run(&format!("{command} --help")).expect(0);
        manual += &format!("# kapelle {command}\n\n{}\n", done.out);
    }
    insta::assert_snapshot!(manual);
}

#[test]
fn a_wrong_command_line_ends_with_2_and_a_suggestion() {
    let folder = Folder::new();
    let done = folder.run("runs lits").expect(2);
    assert!(done.err.contains("'list'"), "{}", done.err);
    assert_eq!(done.out, "");
    folder.run("run").expect(2);
    folder.run("--version").expect(0);
}

#[test]
fn completions_and_schema_are_data() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(folder.run(&format!("completions {shell}")).expect(0).out.contains("kapelle"));
    }
    let schema = folder.run("schema workflow").expect(0).json();
    assert!(schema["properties"]["tasks"].is_object(), "{schema}");
}

#[test]
fn agents_are_listed_and_described() {
    let folder = Folder::new();
    let agents = folder.run("agents list --json").expect(0).json();
    let names: Vec<_> = agents["items"].as_array().unwrap().iter().map(|a| &a["name"]).collect();
    assert_eq!(
        names,
        [
            "aggregator",
            "analyzer",
            "echo",
            "guide-extractor",
            "http",
            "memory",
            "model",
            "process",
            "summarizer",
            "walkthrough-generator",
            "web"
        ]
    );
    let agent = folder.run("agents show process --json").expect(0).json();
    assert_eq!(agent["actions"][0]["name"], "run");
    let none = folder.run("agents show nobody").expect(2);
    assert_eq!(none.err, "error: there is no agent `nobody`\n");
    assert!(!folder.path().join(".kapelle").exists(), "looking at agents made a store");
}
