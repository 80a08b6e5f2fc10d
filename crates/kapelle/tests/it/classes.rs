//! Holes that comparable systems had, by class: one test each, against a real server.
//!
//! Classes whose surface is elsewhere are held by tests of their own as well: a sandbox that falls back by `kapelle-agents`
//! (`a_command_that_cannot_be_confined_is_refused`), roles and WebSockets by `door::tests`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use kapelle_api::{Client, NewRun, RunsQuery};

use crate::hostile::{said, status};
use crate::serve::Server;
use crate::support::Folder;

const ONE: &str = "{id: one, tasks: [{id: a, agentName: echo, input: {value: 1}}]}";

fn workflow(text: &str) -> NewRun {
    NewRun { workflow: Some(text.to_owned()), ..NewRun::default() }
}

/// A server with a key, made by its owner.
fn with_key(args: &str) -> (Folder, Server, String) {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nunknown_per_second = 0\n");
    let made = folder.run(&format!("keys create --json --name k {args}")).expect(0).json();
    let server = Server::start(&folder);
    (folder, server, made["key"].as_str().unwrap().to_owned())
}

fn ask(server: &Server, method: &str, path: &str, head: &str, body: &str) -> String {
    let len = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len}\r\n\r\n{body}"
    );
    said(&server.at(), request.as_bytes())
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

async fn code(client: &Client, run: &NewRun) -> Option<String> {
    client.submit(run).await.err()?.code().map(str::to_owned)
}

/// Code that runs before or without authentication: Langflow CVE-2025-3248, CVE-2026-33017.
#[tokio::test]
async fn nothing_that_is_sent_runs_before_it_is_known_who_sent_it() {
    let (folder, server, key) = with_key("--role submitter");
    let mark = folder.path().join("ran");
    let text = format!(
        "{{id: x, tasks: [{{id: a, agentName: process, input: {{shell: 'touch {}'}}}}]}}",
        mark.display()
    );
    let body = serde_json::json!({ "workflow": text }).to_string();
    for path in ["/runs", "/check", "/plans/analyze", "/import", "/runs/x/fork"] {
        let answer = ask(&server, "POST", path, "", &body);
        assert_eq!(status(&answer), 401, "{path}: {answer}");
    }
    // Nor for those who may submit, and not run commands.
    let client = server.client(Some(&key));
    assert_eq!(code(&client, &workflow(&text)).await.as_deref(), Some("not_permitted"));
    assert!(!mark.exists());
}

/// Authentication that looks at the end of a path: Prefect CVE-2026-3514, Kestra CVE-2026-53576.
#[test]
fn a_path_that_ends_like_an_open_route_opens_nothing() {
    let (_folder, server, _) = with_key("--role admin");
    for open in ["/healthz", "/readyz", "/openapi.json", "/schemas/workflow.json"] {
        assert_eq!(status(&ask(&server, "GET", open, "", "")), 200, "{open}");
        for front in
            ["/runs", "/keys", "/runs/x", "/audit", "/agents", "/runs/..", "/keys/%2e%2e", "/"]
        {
            for path in
                [format!("{front}{open}"), format!("{front}?x={open}"), format!("{front};{open}")]
            {
                let answer = ask(&server, "GET", &path, "", "");
                assert_eq!(status(&answer), 401, "{path}: {answer}");
            }
        }
        for path in [format!("{open}/../keys"), format!("{open}%2f..%2fkeys"), format!("{open}/")] {
            assert_eq!(status(&ask(&server, "GET", &path, "", "")), 401, "{path}");
        }
    }
    let tricks =
        "X-Original-URL: /healthz\r\nX-Rewrite-URL: /healthz\r\nX-HTTP-Method-Override: GET\r\n";
    assert_eq!(status(&ask(&server, "GET", "/keys", tricks, "")), 401);
}

/// Another protocol at the same path, without what HTTP needs: Prefect CVE-2026-7723.
#[test]
fn a_websocket_opens_nothing_that_a_request_does_not() {
    let (_folder, server, key) = with_key("--role submitter");
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    for path in
        ["/runs", "/runs/x/events", "/keys", "/audit", "/metrics", "/agents/x/work", "/ws", "/"]
    {
        let nobody = ask(&server, "GET", path, upgrade, "");
        assert_eq!(status(&nobody), 401, "{path}: {nobody}");
        let subprotocol = format!("{upgrade}Sec-WebSocket-Protocol: bearer, {key}\r\n");
        assert_eq!(status(&ask(&server, "GET", path, &subprotocol, "")), 401, "{path}");
    }
    for path in ["/keys", "/audit", "/agents/x/work"] {
        let less = ask(&server, "GET", path, &format!("{upgrade}{}", bearer(&key)), "");
        assert_eq!(status(&less), 403, "{path}: {less}");
    }
}

/// What is configured or imported becomes a command: Flowise CVE-2026-40933, MCP SDKs CVE-2026-30623.
#[tokio::test]
async fn what_is_registered_or_imported_runs_nothing() {
    let (folder, server, key) = with_key("--role admin");
    let mark = folder.path().join("ran");
    let command = format!("touch {}", mark.display());
    for odd in [
        serde_json::json!({ "name": "x", "command": ["sh", "-c", command] }),
        serde_json::json!({ "name": "x", "launcher": command }),
        serde_json::json!({ "name": "x", "url": "http://127.0.0.1:1/" }),
        serde_json::json!({ "name": "x", "mcpServers": { "x": { "command": "sh", "args": ["-c", command] } } }),
        serde_json::json!({ "name": "process" }),
    ] {
        let answer = ask(&server, "POST", "/agents", &bearer(&key), &odd.to_string());
        assert!([400, 409].contains(&status(&answer)), "{odd}: {answer}");
    }
    // A run that ran a command, taken in elsewhere, runs it no second time.
    let shell = format!("{command}; echo done");
    let text = serde_json::json!({ "id": "x", "tasks": [{ "id": "a", "agentName": "process", "input": { "shell": shell } }] });
    let client = server.client(Some(&key));
    let run = client.submit(&workflow(&text.to_string())).await.unwrap().id;
    let mut events = client.events(&run, 0);
    while events.next().await.is_some() {}
    assert_eq!(client.run(&run).await.unwrap().status, "completed");
    std::fs::remove_file(&mark).unwrap();
    let export = folder.command(&format!("runs export {run}")).output().unwrap().stdout;
    let (other, elsewhere, key) = with_key("--role admin");
    std::fs::write(other.path().join("file"), export).unwrap();
    let there = [("KAPELLE_SERVER", elsewhere.url()), ("KAPELLE_KEY", &key)];
    other.run_with("runs import file", &there).expect(0);
    assert_eq!(elsewhere.client(Some(&key)).run(&run).await.unwrap().status, "completed");
    assert_eq!(elsewhere.leave(), Some(0));
    assert!(!mark.exists());
}

/// Requests that a server makes for somebody else: CrewAI CVE-2026-2286, OpenClaw CVE-2026-28451.
#[tokio::test]
async fn what_a_server_works_on_reaches_no_address_at_home() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let visits = || std::iter::from_fn(|| listener.accept().ok()).count();
    let tries = |host: &str| {
        let url = format!("http://{host}:{port}/");
        let http = serde_json::json!({ "method": "GET", "url": url });
        let text = serde_json::json!({ "id": "x", "tasks": [
            { "id": "a", "agentName": "http", "action": "request", "input": http, "timeout": "2s", "retry": { "maxAttempts": 1 } },
            { "id": "b", "agentName": "web", "action": "read", "input": { "urls": [url] }, "timeout": "2s", "retry": { "maxAttempts": 1 } },
        ] });
        workflow(&text.to_string())
    };
    let ended = async |client: &Client, host: &str| {
        let run = client.submit(&tries(host)).await.unwrap().id;
        let mut events = client.events(&run, 0);
        while let Some(event) = events.next().await {
            event.unwrap();
        }
    };
    let (folder, server, key) = with_key("--role submitter");
    let client = server.client(Some(&key));
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
    ] {
        ended(&client, host).await;
        assert_eq!(visits(), 0, "{host}");
    }
    assert_eq!(server.leave(), Some(0));
    // Where it may, it does.
    folder.write("kapelle.toml", "[server]\nprivate_addresses = true\n");
    let server = Server::start(&folder);
    ended(&server.client(Some(&key)), "127.0.0.1").await;
    assert!(visits() > 0);
}

/// What was revoked on one node opens another one: Airflow CVE-2026-48726.
#[tokio::test]
async fn a_key_that_was_revoked_opens_no_node_of_the_store() {
    let (folder, server, key) = with_key("--role admin");
    let other = Server::start(&folder);
    let spare = folder.run("keys create --json --name spare --role viewer").expect(0).json();
    let (id, spare) = (spare["id"].as_str().unwrap(), spare["key"].as_str().unwrap());
    for node in [&server, &other] {
        node.client(Some(spare)).runs(&RunsQuery::default()).await.unwrap();
    }
    server.client(Some(&key)).revoke_key(id).await.unwrap();
    assert!(server.client(Some(spare)).runs(&RunsQuery::default()).await.is_err());
    let begin = std::time::Instant::now();
    while other.client(Some(spare)).runs(&RunsQuery::default()).await.is_ok() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(30), "it opens still");
        tokio::task::yield_now().await;
    }
}

/// Expressions that leave their sandbox: n8n CVE-2025-68613 and those after it.
#[tokio::test]
async fn an_expression_reaches_nothing_but_what_it_was_given() {
    let (_folder, server, key) = with_key("--role submitter");
    let client = server.client(Some(&key));
    for expression in [
        "constructor.constructor('return process')()",
        "''.__class__.__mro__",
        "self",
        "env.PATH",
        "inputs.__proto__.polluted",
        "inputs.constructor",
        "include('/etc/passwd')",
        "__import__('os')",
        "cycler.__init__.__globals__",
        "''|attr('__class__')",
        "range(999999999)|list",
    ] {
        let value = serde_json::json!(format!("{{{{ {expression} }}}}"));
        let text =
            format!("{{id: x, tasks: [{{id: a, agentName: echo, input: {{value: {value}}}}}]}}");
        let Ok(run) = client.submit(&workflow(&text)).await else { continue };
        let mut events = client.events(&run.id, 0);
        while let Some(event) = events.next().await {
            event.unwrap();
        }
        let run = client.run(&run.id).await.unwrap();
        let gave = serde_json::to_string(&run).unwrap();
        assert!(run.status == "failed" || !gave.contains("root:"), "{expression}: {gave}");
        assert!(!gave.contains("/usr/bin") && !gave.contains("<class"), "{expression}: {gave}");
    }
}

/// A body of another type than the route takes, with a path in it: n8n CVE-2026-21858.
#[test]
fn a_body_of_another_type_is_no_file() {
    let (_folder, server, key) = with_key("--role admin");
    let part = "--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"/etc/passwd\"\r\n\r\nx\r\n--b--\r\n";
    for kind in
        ["multipart/form-data; boundary=b", "application/x-www-form-urlencoded", "text/yaml"]
    {
        let head = format!("{}Content-Type: {kind}\r\n", bearer(&key));
        for path in ["/runs", "/check", "/keys", "/import", "/prune"] {
            let answer = ask(&server, "POST", path, &head, part);
            assert_eq!(status(&answer), 400, "{kind} {path}: {answer}");
        }
    }
    let files = "{\"files\":{\"a\":{\"filepath\":\"/etc/passwd\"}},\"workflow\":\"id: x\"}";
    assert_eq!(status(&ask(&server, "POST", "/runs", &bearer(&key), files)), 400);
}

/// State that is decoded into objects: LangGraph CVE-2025-64439, LangChain CVE-2025-68664.
#[test]
fn what_is_sent_is_decoded_to_plain_data() {
    let (_folder, server, key) = with_key("--role admin");
    for body in [
        "{\"lc\":1,\"type\":\"constructor\",\"id\":[\"os\",\"system\"],\"kwargs\":{}}",
        "{\"workflow\":\"\\ud800\"}",
        "{\"workflow\":\"id: x\\ntasks: !!python/object/apply:os.system [id]\"}",
        "{\"__class__\":\"os.system\"}",
        "{\"max_parallel\":1e400}",
    ] {
        let answer = ask(&server, "POST", "/runs", &bearer(&key), body);
        assert_eq!(status(&answer), 400, "{body}: {answer}");
    }
    for export in ["gASVIAAAAAAAAACMBXBvc2l4", "{\"kapelle\":\"export\"}\n{}\n", "\0\0\0\0"] {
        assert_eq!(
            status(&ask(&server, "POST", "/import", &bearer(&key), export)),
            400,
            "{export:?}"
        );
    }
}

/// SQL in what is looked up, in the check of a key too: LangGraph CVE-2025-67644, LiteLLM CVE-2026-42208.
#[tokio::test]
async fn a_quote_is_a_letter_wherever_it_stands() {
    let (folder, server, key) = with_key("--role admin");
    let client = server.client(Some(&key));
    let run = client.submit(&workflow(ONE)).await.unwrap().id;
    for sql in
        ["' OR '1'='1", "'; DROP TABLE run; --", "x' UNION SELECT body FROM record --", "%' --"]
    {
        let query = RunsQuery { workflow: Some(sql.to_owned()), ..RunsQuery::default() };
        assert_eq!(client.runs(&query).await.unwrap().items, [], "{sql}");
        assert_eq!(client.run(sql).await.unwrap_err().code(), Some("run_not_found"), "{sql}");
        assert!(client.revoke_key(sql).await.is_err(), "{sql}");
        let guessed = bearer(&format!("kap_{sql}_a_b"));
        assert_eq!(status(&ask(&server, "GET", "/runs", &guessed, "")), 401, "{sql}");
        let task = NewRun { task_id: Some(sql.to_owned()), ..workflow(ONE) };
        let made = client.submit(&task).await.unwrap().id;
        assert_eq!(client.run(sql).await.unwrap().id, made);
    }
    assert_eq!(client.run(&run).await.unwrap().id, run);
    assert_eq!(server.leave(), Some(0));
    folder.run("doctor --verify").expect(0);
}

/// Names that are paths: LangChain CVE-2026-34070, LangGraph SDK CVE-2026-48776.
#[tokio::test]
async fn an_id_is_no_path() {
    let (_folder, server, key) = with_key("--role operator");
    for path in [
        "/artifacts/..%2f..%2fkapelle.db",
        "/artifacts/../kapelle.db",
        "/artifacts/%2fetc%2fpasswd",
        "/artifacts/sha256:../../kapelle.db",
        "/runs/..%2f..%2fends",
        "/agents/..%2f..%2fetc%2fpasswd",
        "/runs/.%00./why",
    ] {
        let answer = ask(&server, "GET", path, &bearer(&key), "");
        assert!([400, 404].contains(&status(&answer)), "{path}: {answer}");
        assert!(!answer.contains("SQLite") && !answer.contains("root:"), "{path}: {answer}");
    }
    let client = server.client(Some(&key));
    for root in ["/", "/etc", "..", "../..", "a/../../../etc"] {
        let run = NewRun { root: Some(root.to_owned()), ..workflow(ONE) };
        assert!(code(&client, &run).await.is_some(), "{root:?} was taken");
    }
}

/// A tenant that a request names: Temporal CVE-2025-14986, CVE-2026-5199.
#[tokio::test]
async fn a_tenant_comes_from_the_key_alone() {
    let (folder, server, ours) = with_key("--role admin --tenant acme");
    let theirs =
        folder.run("keys create --json --name o --role admin --tenant acme-2").expect(0).json();
    let theirs = theirs["key"].as_str().unwrap().to_owned();
    let run = server.client(Some(&ours)).submit(&workflow(ONE)).await.unwrap().id;
    let missing = "01a2017c-0000-7000-8000-000000000000";
    let named = "X-Tenant: acme\r\nX-Namespace: acme\r\nTenant: acme\r\n";
    for (path, same) in [
        (format!("/runs/{run}"), format!("/runs/{missing}")),
        (format!("/runs/{run}/events"), format!("/runs/{missing}/events")),
        (format!("/runs/{run}/why"), format!("/runs/{missing}/why")),
    ] {
        let head = bearer(&theirs) + named;
        let asked = ask(&server, "GET", &path, &head, "");
        let none = ask(&server, "GET", &same, &head, "");
        assert_eq!(status(&asked), 404, "{asked}");
        let body = |answer: &str| answer.split("\r\n\r\n").nth(1).unwrap().to_owned();
        assert_eq!(body(&asked).replace(&run, missing), body(&none));
    }
    for body in ["{\"tenant\":\"acme\",\"workflow\":\"id: x\"}", "{\"namespace\":\"acme\"}"] {
        assert_eq!(status(&ask(&server, "POST", "/runs", &bearer(&theirs), body)), 400);
    }
    assert_eq!(status(&ask(&server, "GET", "/runs?tenant=acme", &bearer(&theirs), "")), 400);
    let key = "{\"name\":\"x\",\"roles\":[\"viewer\"],\"tenant\":\"acme\"}";
    assert_eq!(status(&ask(&server, "POST", "/keys", &bearer(&theirs), key)), 403);
}

/// What is empty, absent or revoked and yet opens: Flowise GHSA-f6hc-c5jr-878p, Airflow CVE-2026-48726.
#[tokio::test]
async fn what_is_empty_or_revoked_is_no_key() {
    let (folder, server, key) = with_key("--role admin");
    let spare = folder.run("keys create --json --name spare --role admin").expect(0).json();
    let (id, spare) = (spare["id"].as_str().unwrap(), spare["key"].as_str().unwrap());
    let spare_client = server.client(Some(spare));
    spare_client.runs(&RunsQuery::default()).await.unwrap();
    server.client(Some(&key)).revoke_key(id).await.unwrap();
    assert_eq!(
        spare_client.runs(&RunsQuery::default()).await.unwrap_err().code(),
        Some("unauthenticated")
    );
    for shown in ["", "null", "undefined", "kap_", "kap___", "Bearer", "0", &key[..key.len() - 1]] {
        for scheme in ["Bearer", "bearer", "Basic", "Token", ""] {
            let head = format!("Authorization: {scheme} {shown}\r\n");
            assert_eq!(status(&ask(&server, "GET", "/runs", &head, "")), 401, "{head}");
        }
    }
    // Nor is one that stands elsewhere than it should.
    assert_eq!(status(&ask(&server, "GET", &format!("/keys?key={key}"), "", "")), 401);
    assert_eq!(status(&ask(&server, "GET", "/keys", &format!("Cookie: key={key}\r\n"), "")), 401);
    assert_eq!(status(&ask(&server, "GET", "/keys", &format!("X-Api-Key: {key}\r\n"), "")), 401);
}

/// Secrets that are shown or logged: Airflow CVE-2025-54831, CVE-2026-31987.
#[tokio::test]
async fn a_key_that_was_shown_is_in_no_log_no_answer_and_no_file() {
    let folder = Folder::new();
    let made = folder.run("keys create --json --name k --role admin").expect(0).json();
    let key = made["key"].as_str().unwrap().to_owned();
    let secret = key.split('_').nth(2).unwrap();
    let mut command = folder.command("serve --listen 127.0.0.1:0");
    command.env("KAPELLE_LOG_LEVEL", "trace").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap();
    let mut err = child.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        err.read_to_string(&mut log).map(|_| log)
    });
    let client = Client::url(url, Some(&key));
    client.submit(&workflow(ONE)).await.unwrap();
    Client::url(url, Some(&format!("{key}x"))).keys().await.unwrap_err();
    let told = [
        serde_json::to_string(&client.keys().await.unwrap()).unwrap(),
        serde_json::to_string(&client.audit(100, None).await.unwrap()).unwrap(),
    ];
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let log = log.join().unwrap().unwrap();
    child.wait().unwrap();
    assert!(!log.contains(secret), "{log}");
    assert!(told.iter().all(|told| !told.contains(secret)), "{told:?}");
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "it is in {}", path.display());
            }
        }
    }
}

/// Pages of elsewhere that reach a listener on this machine by a name of theirs: rmcp CVE-2026-42559.
#[test]
fn a_page_that_calls_this_machine_by_another_name_is_not_answered() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    for host in
        ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "localhost@evil.example"]
    {
        let request = format!("GET /runs HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(status(&said(&server.at(), request.as_bytes())), 421, "{host}");
    }
    for origin in ["http://evil.example", "http://localhost.evil.example", "null", "file://"] {
        let answer = ask(&server, "POST", "/runs", &format!("Origin: {origin}\r\n"), "{}");
        assert_eq!(status(&answer), 403, "{origin}: {answer}");
    }
}
