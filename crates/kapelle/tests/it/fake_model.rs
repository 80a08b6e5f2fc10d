//! `dev fake-model`: the fake provider as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::support::Folder;

const SCRIPT: &str = "rules: [{when: {user_contains: hello}, answer: [{text: hello back}]}]";

#[test]
fn it_serves_a_script_and_writes_a_journal_until_it_is_told_to_stop() {
    let folder = Folder::new();
    folder.write("script.yaml", SCRIPT);
    let line = "dev fake-model --script script.yaml --journal journal.jsonl --json";
    let mut command = folder.command(line);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut told).unwrap();
    let told: Json = serde_json::from_str(&told).unwrap();
    let url = told["url"].as_str().unwrap();
    let messages = json!([{ "role": "user", "content": "hello" }]);
    let body = json!({ "model": "gpt-6-sol", "messages": messages });
    let answer = post(url.strip_prefix("http://").unwrap(), &body.to_string());
    assert!(answer.contains("hello back"), "{answer}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    assert_eq!(String::from_utf8_lossy(&done.stderr), "1 requests, 1 answered\n");
    let journal = std::fs::read_to_string(folder.path().join("journal.jsonl")).unwrap();
    let entry: Json = serde_json::from_str(&journal).unwrap();
    assert_eq!((&entry["body"], &entry["rule"]), (&body, &json!("rule 1")));
    assert!(!folder.path().join(".kapelle").exists(), "it needs no store");
}

#[test]
fn a_port_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("dev fake-model --listen {}", taken.local_addr().unwrap());
    let refused = Folder::new().run(&line).expect(2);
    assert!(
        refused.err.contains("the fake cannot serve: Address already in use"),
        "{}",
        refused.err
    );
}

#[test]
fn one_command_runs_an_example_against_it() {
    let folder = Folder::new();
    folder.write("script.yaml", "rules: [{answer: [{text: made up}]}]");
    let step = "{ id: ask, agentName: model, prompt: Say something. }";
    let workflow = format!("id: one\ntasks: [{step}]\noutput: \"{{{{ steps.ask.output }}}}\"\n");
    folder.write("workflow.yaml", &workflow);
    let done = folder.run("dev fake-model --script script.yaml -- kapelle run . --json").expect(0);
    assert_eq!(done.last()["output"], "made up");
    assert!(done.err.ends_with("1 requests, 1 answered\n"), "{}", done.err);
    folder.run("dev fake-model -- false").expect(1);
    folder.run("dev fake-model -- kapelle run nothing").expect(2);
    let none = folder.run("dev fake-model -- there-is-no-such-program").expect(2);
    assert!(none.err.contains("`there-is-no-such-program`"), "{}", none.err);
}

fn post(address: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: fake\r\nconnection: close\r\nauthorization: Bearer k";
    write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn everything_wrong_with_a_script_is_told_and_nothing_is_served() {
    let folder = Folder::new();
    folder.write("script.yaml", "seed: x\nrules:\n  - colour: red\n");
    let done = folder.run("dev fake-model --script script.yaml").expect(2);
    assert_eq!(
        done.err,
        "\
error: script.yaml:
line 1: seed: \"x\" is not of type \"integer\"
line 3: rules[0].colour: is no field
"
    );
    let done = folder.run("dev fake-model --script nothing.yaml").expect(2);
    assert!(done.err.contains("nothing.yaml: No such file"), "{}", done.err);
    let schema = folder.run("schema fake-model").expect(0).json();
    assert!(schema["properties"]["rules"].is_object(), "{schema}");
}
