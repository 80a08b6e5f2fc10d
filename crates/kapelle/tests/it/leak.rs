//! A provider that quotes the key wherever it can: it is to be found nowhere afterwards.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::{Done, Folder, Running, run_of};

const CANARY: &str = "sk-canary-4711abcdef";

const WORKFLOW: &str = r#"
id: leaks
tasks:
  - { id: refuses, agentName: model, prompt: refuse, onFailure: continue, retry: { maxAttempts: 1 } }
  - { id: breaks, agentName: model, prompt: break, onFailure: continue, retry: { maxAttempts: 1 } }
  - { id: tells, agentName: reader, prompt: tell }
  - id: sees
    agentName: process
    input: { argv: [sh, -c, "cat /proc/self/environ /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' '\\n'; echo seen"] }
output: { said: "{{ steps.tells.output }}", seen: "{{ steps.sees.output }}" }
"#;

/// Answers each request in the way that its prompt asks for.
fn listen() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            let (key, body) = read(&connection);
            assert_eq!(key, CANARY);
            // Who goes away before the end has heard enough.
            connection.write_all(answer(&key, &body).as_bytes()).ok();
        }
    });
    url
}

fn read(connection: &TcpStream) -> (String, String) {
    let mut lines = BufReader::new(connection);
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let Some((name, value)) = line.split_once(':') else {
            if line.trim().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "x-api-key" => key = value.trim().to_owned(),
            "content-length" => length = value.trim().parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).unwrap();
    (key, String::from_utf8(body).unwrap())
}

fn answer(key: &str, body: &str) -> String {
    let base64 = STANDARD.encode(format!("user:{key}"));
    if body.contains("refuse") {
        let error =
            json!({"type": key, "code": key, "message": format!("wrong key {key}, {base64}")});
        return whole("401 Unauthorized", key, &json!({"error": error}).to_string());
    }
    let mut events = vec![json!({"type": "message_start", "message": {"model": key, "usage": {}}})];
    if body.contains("break") {
        let error = json!({"type": "api_error", "message": format!("no such key: {key}")});
        events.push(json!({"type": "error", "error": error}));
    } else if body.contains("tool_result") {
        events.push(json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "text", "text": ""}}));
        // In two pieces, as chance will have it.
        for piece in ["your key is ", &key[..9], &key[9..], ", or ", &base64] {
            events.push(json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": piece}}));
        }
        events.push(end("end_turn"));
    } else {
        let tool = json!({"type": "tool_use", "id": key, "name": "read_file", "input": {}});
        events.push(json!({"type": "content_block_start", "index": 0, "content_block": tool}));
        for piece in [r#"{"path": "sk-can"#, &format!(r#"{}"}}"#, &key[6..])] {
            events.push(json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": piece}}));
        }
        events.push(end("tool_use"));
    }
    events.push(json!({"type": "message_stop"}));
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    whole("200 OK", key, &stream)
}

fn end(why: &str) -> serde_json::Value {
    json!({"type": "message_delta", "delta": {"stop_reason": why}, "usage": {"output_tokens": 1}})
}

fn whole(status: &str, key: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nrequest-id: req-{key}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

#[test]
fn a_key_that_comes_back_is_nowhere() {
    let folder = Folder::new();
    folder.write("workflow.yaml", WORKFLOW);
    folder.write("kapelle.toml", "[log]\nlevel = \"trace\"\n");
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    folder.write("agents/reader.md", "---\nname: reader\ndescription: Reads.\n---\nYou read.\n");
    let mut command = folder.command("--agents agents run . --json --record tape");
    command.env("ANTHROPIC_API_KEY", CANARY).env("ANTHROPIC_BASE_URL", listen());
    let done = Running::of(command).finish().expect(0);
    let output = done.last()["output"].clone();
    let said = output["said"].as_str().unwrap();
    assert!(said.starts_with("your key is [key], or ") && said.contains("[key]"), "{said}");
    let seen = output["seen"].to_string();
    assert!(seen.contains("seen") && seen.contains("kapelle"), "{seen}");
    let id = run_of(&done.events()[0]);
    let ask = |line: String| -> Done { folder.run(&line) };
    let mut told = vec![done.out + &done.err];
    for step in ["refuses", "breaks", "tells", "sees"] {
        for json in ["", " --json"] {
            let why = ask(format!("why {id} {step}{json}"));
            told.push(why.out + &why.err);
        }
    }
    assert!(told[1].contains("wrong key [key]"), "{}", told[1]);
    for line in ["runs show", "runs events", "runs export", "runs bill"] {
        let shown = ask(format!("{line} {id}"));
        told.push(shown.out + &shown.err);
    }
    let base64 = STANDARD.encode(format!("user:{CANARY}"));
    // Without the ends, which others share.
    let forms = [CANARY, &base64[8..base64.len() - 4]];
    for form in forms {
        assert!(!told.concat().contains(form), "{form}: {told:#?}");
        for file in files(folder.path()) {
            let bytes = std::fs::read(&file).unwrap();
            let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
            assert!(!found, "{form} is in {}", file.display());
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        if kind.is_dir() {
            all.extend(files(&path));
        } else if kind.is_file() {
            all.push(path);
        }
    }
    all
}
