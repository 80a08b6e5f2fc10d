//! The routes of a node, over its socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use kapelle_api::{Client, EventKind, NewRun, RunsQuery};
use serde_json::{Value as Json, json};

use crate::support::{Folder, run_of};

/// What a node answers to a request as it is written: the status and the body.
fn raw(socket: &Path, request: &str, headers: &[&str], body: &str) -> (u16, Json) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let len = body.len();
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: application/json\r\n{headers}content-length: {len}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
}

#[tokio::test]
async fn a_client_submits_watches_and_goes_on_where_it_was() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: gated, tasks: [{id: gate, approval: {}}]}");
    let mut node = folder.start("run . --json --wait");
    let waiting = run_of(&node.wait_for("approval_requested", Some("gate")));
    let client = Client::socket(&folder.socket());
    assert_eq!(client.health().await.unwrap()["status"], "ok");
    let workflow = "{id: two, tasks: [{id: a, agentName: echo, input: {value: 1}}, \
        {id: b, agentName: echo, dependencies: [a], input: {value: 2}}]}";
    let new = NewRun {
        workflow: Some(workflow.to_owned()),
        task_id: Some("over the wire".to_owned()),
        ..NewRun::default()
    };
    let submitted = client.submit(&new).await.unwrap();
    assert!(!submitted.existing);
    assert!(client.submit(&new).await.unwrap().existing);
    let mut events = client.events(&submitted.id, 0);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(event.unwrap());
    }
    assert!(
        matches!(&seen.last().unwrap().kind, EventKind::RunCompleted { output, .. } if *output == json!(2))
    );
    let seqs: Vec<_> = seen.iter().filter_map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let mut rest = client.events("over the wire", 3);
    assert_eq!(rest.next().await.unwrap().unwrap(), seen[3]);
    let page = client.events_page(&submitted.id, 0).await.unwrap();
    assert_eq!(page.items, seen);
    let query = RunsQuery { status: Some("waiting".to_owned()), ..RunsQuery::default() };
    assert_eq!(client.runs(&query).await.unwrap().items[0].id, waiting);
    assert_eq!(client.agents().await.unwrap().items.len(), 11);
    assert!(client.workflow_schema().await.unwrap()["properties"].is_object());
}

#[test]
fn what_is_wrong_with_a_request_is_a_problem_with_a_code() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: gated, tasks: [{id: gate, approval: {}}]}");
    let mut node = folder.start("run . --json --wait");
    let run = run_of(&node.wait_for("approval_requested", Some("gate")));
    let socket = folder.socket();
    let approve = format!("POST /runs/{run}/approvals/gate");
    let plan = json!({"plan": {"workflow": "x", "steps": [], "stepz": []}}).to_string();
    let root = json!({"workflow": "{id: x}", "root": "here"}).to_string();
    let cases = [
        ("GET /nowhere", "", 404, "route_not_found"),
        ("DELETE /runs", "", 405, "method_not_allowed"),
        ("GET /runs/0000-nope", "", 404, "run_not_found"),
        ("GET /runs?limit=0", "", 400, "bad_query"),
        ("GET /runs?limits=1", "", 400, "bad_query"),
        ("GET /artifacts/sha256:00", "", 400, "bad_digest"),
        ("GET /agents/nobody", "", 404, "agent_not_found"),
        ("POST /runs", "{}", 400, "bad_body"),
        ("POST /runs", &root, 400, "bad_body"),
        ("POST /runs", &plan, 400, "invalid"),
        ("POST /runs", "{\"workflow\": \"id: [\"}", 400, "invalid"),
        (&approve, "{\"decision\": \"approve\", \"colour\": \"red\"}", 400, "bad_body"),
        (&approve, "{\"decision\": \"maybe\"}", 400, "bad_body"),
        ("POST /check", "{\"plan\": {\"workflow\": 1}}", 400, "bad_body"),
    ];
    for (request, body, status, code) in cases {
        let (answered, problem) = raw(&socket, request, &[], body);
        assert_eq!(
            (answered, &problem["code"]),
            (status, &json!(code)),
            "{request} {body}: {problem}"
        );
        assert_eq!(problem["status"], status, "{request}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{request}");
    }
    let missing = format!("POST /runs/{run}/approvals/other");
    let (status, problem) = raw(&socket, &missing, &[], "{\"decision\": \"approve\"}");
    assert_eq!((status, &problem["code"]), (404, &json!("step_not_found")), "{problem}");
    let (status, _) = raw(&socket, &format!("POST /runs/{run}/cancel"), &[], "");
    assert_eq!(status, 200);
    assert_eq!(node.finish().expect(1).last()["verdict"], "cancelled");
}

#[test]
fn a_request_with_the_same_key_makes_no_second_run() {
    let folder = Folder::new();
    folder.write("workflow.yaml", "{id: gated, tasks: [{id: gate, approval: {}}]}");
    let mut node = folder.start("run . --json --wait");
    node.wait_for("approval_requested", Some("gate"));
    let socket = folder.socket();
    let body = |value: u32| {
        let task = json!({"id": "a", "agentName": "echo", "input": {"value": value}});
        json!({"workflow": json!({"id": "x", "tasks": [task]}).to_string()}).to_string()
    };
    let post = |key: &str, value| {
        raw(&socket, "POST /runs", &[&format!("idempotency-key: {key}")], &body(value))
    };
    let (status, first) = post("one", 1);
    assert_eq!((status, &first["existing"]), (201, &json!(false)), "{first}");
    let (status, again) = post("one", 1);
    assert_eq!((status, &again["id"]), (200, &first["id"]), "{again}");
    let (status, other) = post("one", 2);
    assert_eq!((status, &other["code"]), (422, &json!("key_reused")), "{other}");
    assert_eq!(other["run"], first["id"]);
    assert_eq!(post("two", 1).0, 201);
    assert_eq!(post(&"k".repeat(255), 1).0, 201);
    let (status, long) = post(&"k".repeat(256), 1);
    assert_eq!((status, &long["code"]), (400, &json!("bad_key")), "{long}");
}

#[test]
fn what_was_done_under_a_key_is_answered_again_and_not_done_again() {
    let folder = Folder::new();
    let gated = "{id: gated, config: {budget: {tokens: 100}}, \
        tasks: [{id: gate, approval: {}}, {id: other, approval: {}}]}";
    folder.write("workflow.yaml", gated);
    let mut node = folder.start("run . --json --wait");
    let run = run_of(&node.wait_for("approval_requested", Some("gate")));
    let socket = folder.socket();
    let raise = |key: &str, tokens: u32| {
        let body = json!({ "tokens": tokens }).to_string();
        let (request, key) =
            (format!("POST /runs/{run}/budget"), format!("idempotency-key: {key}"));
        raw(&socket, &request, &[&key], &body)
    };
    // Twins at once: one of them is done, and both hear the same.
    let twins: Vec<_> = std::thread::scope(|all| {
        let twins: Vec<_> = (0..8).map(|_| all.spawn(|| raise("one", 11))).collect();
        twins.into_iter().map(|twin| twin.join().unwrap()).collect()
    });
    assert!(twins.iter().all(|twin| *twin == twins[0] && twin.0 == 200), "{twins:?}");
    let (status, problem) = raise("one", 12);
    assert_eq!((status, &problem["code"]), (422, &json!("key_reused")), "{problem}");
    // What is refused is not kept.
    let word = format!("POST /runs/{run}/steps/gate/resolve");
    let resolve = || raw(&socket, &word, &["idempotency-key: two"], "{\"action\": \"skip\"}");
    assert_eq!(resolve().1["code"], "not_blocked");
    let approve = format!("POST /runs/{run}/approvals/gate");
    let say = |key: &str| {
        raw(&socket, &approve, &[&format!("idempotency-key: {key}")], "{\"decision\": \"approve\"}")
    };
    let said = say("three");
    assert_eq!(said.0, 200, "{said:?}");
    assert_eq!(say("three"), said);
    let late = say("four");
    assert_eq!((late.0, &late.1["code"]), (409, &json!("not_asked")));
    raw(&socket, &format!("POST /runs/{run}/cancel"), &[], "");
    node.finish().expect(1);
    let events = folder.run(&format!("runs events {run} --json")).expect(0).out;
    assert_eq!(events.matches("budget_raised").count(), 1, "{events}");
}
