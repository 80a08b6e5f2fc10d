//! A session with all routes, of which the examples are taken; they are what is checked in, and fit what is described.
//!
//! `UPDATE=1` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use kapelle_core::RunId;
use kapelle_core::port::agent::{Answer, Effect, Question, Safety, wrong_with};
use kapelle_core::port::journal;
use kapelle_core::run::Refusal;
use kapelle_engine::Error;
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

use super::super::door::Caller;
use super::super::door::permission::Permissions;
use super::super::openapi::openapi;
use super::super::problem::{self, Problem};
use super::super::routes::routes;
use super::super::{App, router, work};
use super::*;
use crate::node::{Node, Place, Reachable, Setup};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/examples/examples.json");
/// Each id of a run stands for one of these, in their order.
const RUN: &str = "019a8d2e-5b1c-7c3a-9f00-2d6c1b7e4a";
const TIME: &str = "2026-11-22T05:00:00Z";
/// Descriptions themselves: what they are like is what they are.
const OWN: [&str; 2] = ["get_openapi_json_200", "get_schemas_workflow_json_200"];

const REVIEW: &str = "{id: review, config: {budget: {tokens: 1000}}, tasks: [\
    {id: draft, agentName: coder, input: {text: hi}}, {id: gate, approval: {by: [ann]}, dependencies: [draft]}]}";

/// Who asks, and what has been said.
struct Session {
    app: App,
    names: BTreeMap<&'static str, String>,
    /// What stands for what was said.
    stands: Vec<(String, String)>,
    runs: usize,
    made: BTreeMap<String, Value>,
}

/// How something is asked.
#[derive(Default)]
struct How<'a> {
    body: Value,
    raw: Vec<u8>,
    headers: Vec<(&'static str, &'static str)>,
    query: &'a str,
    caller: Option<Caller>,
}

fn with_body(body: Value) -> How<'static> {
    How { body, ..How::default() }
}

fn with_query(query: &str) -> How<'_> {
    How { query, ..How::default() }
}

fn with_header(name: &'static str, value: &'static str) -> How<'static> {
    How { headers: vec![(name, value)], ..How::default() }
}

impl Session {
    async fn of(node: &Node) -> Self {
        let app = node.app.clone();
        let (names, stands, made) = Default::default();
        Self { app, names, stands, runs: 0, made }
    }

    /// Asks `METHOD /path`, in which names stand for what is known under them, and keeps what is answered.
    async fn ask(&mut self, route: &str, how: How<'_>) -> Value {
        let (method, template) = route.split_once(' ').unwrap();
        let mut path = template.to_owned();
        for (name, value) in &self.names {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        write!(path, "{}", how.query).unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in how.headers {
            request = request.header(name, value);
        }
        let body = match &how.body {
            Value::Null => how.raw,
            body => body.to_string().into_bytes(),
        };
        let caller = how
            .caller
            .map_or_else(|| self.app.clone(), |caller| self.app.on_behalf_of(Arc::new(caller)));
        let answer = router(caller).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = answer.status();
        let kind =
            answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let is_json = kind.is_some_and(|kind| kind.contains("json"));
        let said = if is_json { serde_json::from_slice(&bytes).unwrap() } else { Value::Null };
        self.learn(&said);
        if !status.is_success() {
            let code = said["code"].as_str().unwrap().to_owned();
            self.keep(&code, &said);
        } else if is_json || bytes.is_empty() {
            let method = axum::http::Method::from_bytes(method.as_bytes()).unwrap();
            let all = routes();
            let found = all.iter().find(|one| one.method == method && one.path == template);
            let route = found.unwrap_or_else(|| panic!("{route}: {said}"));
            let id = operation_id(route);
            self.keep(&format!("{id}_{}", status.as_u16()), &said);
            self.keep(&format!("{id}_request"), &how.body);
        } else {
            return String::from_utf8(bytes.to_vec()).unwrap().into();
        }
        said
    }

    /// Asks until the answer is as wished, and keeps the last one alone.
    async fn until(&mut self, route: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let before = self.made.clone();
        loop {
            let said = self.ask(route, How::default()).await;
            if is_so(&said) {
                return said;
            }
            self.made.clone_from(&before);
            tokio::task::yield_now().await;
        }
    }

    fn keep(&mut self, name: &str, said: &Value) {
        if !said.is_null() && !self.made.contains_key(name) {
            let said = self.redacted("", said);
            self.made.insert(name.to_owned(), said);
        }
    }

    fn problem(&mut self, problem: Problem) {
        let said = serde_json::to_value(problem.told()).unwrap();
        let code = said["code"].as_str().unwrap().to_owned();
        self.keep(&code, &said);
    }

    /// Remembers what in an answer is another one each time.
    fn learn(&mut self, said: &Value) {
        match said {
            Value::Array(all) => all.iter().for_each(|one| self.learn(one)),
            Value::Object(all) => {
                if let (Some(key), Some(id)) =
                    (all.get("key").and_then(Value::as_str), all.get("id"))
                {
                    self.stand(key, "kap_...");
                    self.stand(id.as_str().unwrap(), "k4711");
                }
                if let Some(ticket) = all.get("ticket").and_then(Value::as_str) {
                    self.stand(ticket, "t4711");
                }
                all.values().for_each(|one| self.learn(one));
            }
            Value::String(text) if text.parse::<RunId>().is_ok() => {
                self.runs += usize::from(!self.stands.iter().any(|(known, _)| known == text));
                let stands = format!("{RUN}{:02x}", 4 + self.runs);
                self.stand(text, &stands);
            }
            _ => {}
        }
    }

    fn stand(&mut self, text: &str, stands: &str) {
        if !self.stands.iter().any(|(known, _)| known == text) {
            self.stands.push((text.to_owned(), stands.to_owned()));
        }
    }

    fn redacted(&self, name: &str, said: &Value) -> Value {
        match said {
            Value::Array(all) => all.iter().map(|one| self.redacted(name, one)).collect(),
            Value::Object(all) => {
                let one = |(name, one): (&String, &Value)| (name.clone(), self.redacted(name, one));
                Value::Object(all.iter().map(one).collect::<Map<_, _>>())
            }
            Value::Number(_) if name.ends_with("_ms") && name != "lease_ms" => json!(120),
            Value::Number(_) if name.starts_with("bytes") => json!(4096),
            Value::String(_) if name == "hash" => {
                "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into()
            }
            Value::String(_) if name == "root" => "/srv/kapelle/files/default".into(),
            Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => moved(text).into(),
            Value::String(text) => {
                let known =
                    |text: String, (known, stands): &(String, String)| text.replace(known, stands);
                self.stands.iter().fold(text.clone(), known).into()
            }
            other => other.clone(),
        }
    }

    async fn submit(&mut self, body: Value) -> String {
        let said = self.ask("POST /runs", with_body(body)).await;
        let run = said["id"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned();
        self.names.insert("run", run.clone());
        run
    }
}

/// As far from [`TIME`] as it is from now, to half a minute; what is past is that time.
fn moved(text: &str) -> String {
    let time: jiff::Timestamp = text.parse().unwrap();
    let ahead = time.duration_since(jiff::Timestamp::now()).as_secs_f64().max(0.0);
    #[expect(clippy::cast_possible_truncation, reason = "some half minutes")]
    let ahead = (ahead / 30.0).round() as i64 * 30;
    (TIME.parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_secs(ahead)).to_string()
}

/// Without what is another one when the session is faster or slower: numbers, times, and where a run stands.
fn settled(name: &str, said: &Value) -> Value {
    match said {
        Value::Array(all) => all.iter().map(|one| settled(name, one)).collect(),
        Value::Object(all) => {
            let one = |(name, one): (&String, &Value)| (name.clone(), settled(name, one));
            Value::Object(all.iter().map(one).collect())
        }
        Value::Number(_) => Value::Null,
        // How many were asked before them differs: some are asked until they have their answer.
        Value::String(_) if matches!(name, "status" | "next_cursor") => Value::Null,
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => Value::Null,
        other => other.clone(),
    }
}

fn is(name: &'static str, value: &'static str) -> impl Fn(&Value) -> bool {
    move |said| said[name] == value
}

async fn node() -> Node {
    let asker = crate::agent_fn("asker", |_, desk| {
        Box::pin(async move {
            let effect =
                Effect { name: "ask".into(), safety: Safety::Repeatable, input: json!(null) };
            let question = Question {
                text: "which one?".into(),
                choices: vec!["left".into(), "right".into()],
            };
            let value = desk.ask(effect, question).await?;
            Ok(Answer { value, ..Answer::default() })
        })
    });
    let plain = Setup::plain(Place::Memory, Reachable::No);
    Node::open(Setup { agents: vec![asker], ..plain }).await.unwrap()
}

async fn agents(at: &mut Session) {
    let coder = json!({
        "name": "coder", "description": "writes code", "capabilities": ["rust"], "domains": ["code"], "lease": "30s",
        "actions": [{"name": "write", "input": {"type": "object", "required": ["text"]}}],
    });
    at.names.insert("name", "coder".to_owned());
    for _ in 0..2 {
        at.ask("POST /agents", with_body(coder.clone())).await;
    }
    let other = json!({"name": "coder", "description": "writes prose"});
    at.ask("POST /agents", with_body(other)).await;
    at.ask("GET /agents", with_query("?capability=rust")).await;
    at.ask("GET /agents/{name}", How::default()).await;
    at.ask("PATCH /agents/{name}", with_body(json!({"description": "writes code, and tests"})))
        .await;
    for n in 1..256 {
        at.ask("POST /agents", with_body(json!({"name": format!("coder-{n}")}))).await;
    }
    at.ask("POST /agents", with_body(json!({"name": "one-more"}))).await;
    at.names.insert("name", "nobody".to_owned());
    at.ask("GET /agents/{name}", How::default()).await;
    at.names.insert("name", "coder".to_owned());
}

/// A run from its plan to its end, with a worker and a person.
async fn review(at: &mut Session) {
    let file = json!({"file": "review.yaml", "workflow": REVIEW});
    at.ask("POST /check", with_body(file.clone())).await;
    at.ask("POST /plans/analyze", with_body(file)).await;
    let new = json!({"task_id": "first", "workflow": REVIEW});
    let run = at.submit(new.clone()).await;
    at.ask("POST /runs", with_body(new)).await;
    at.until("GET /alerts", |said| said["items"][0].is_object()).await;
    at.ask("POST /runs/{run}/pause", with_body(json!({"reason": "lunch"}))).await;
    at.ask("POST /runs/{run}/resume", with_body(json!({"by": "ann"}))).await;
    let work = at.ask("GET /agents/{name}/work", with_query("?wait=30s")).await;
    at.names.insert("attempt", work["attempt"].as_str().unwrap().to_owned());
    at.ask(
        "POST /attempts/{attempt}/heartbeat",
        with_body(json!({"message": "half way", "fraction": 0.5})),
    )
    .await;
    let mut call = json!({"ordinal": 1, "name": "charge", "input": {"cents": 700}, "once": true, "output": "receipt 4711"});
    at.ask("POST /attempts/{attempt}/effects", with_body(call.clone())).await;
    call["name"] = "refund".into();
    at.ask("POST /attempts/{attempt}/effects", with_body(call)).await;
    let done = json!({"output": "done", "artifacts": [{"name": "draft.md", "type": "text/markdown", "text": "# Hi"}]});
    at.ask("POST /attempts/{attempt}/complete", with_body(done)).await;
    at.ask("POST /attempts/{attempt}/complete", with_body(json!({"output": "late"}))).await;
    at.names.insert("step", "gate".to_owned());
    at.until("GET /runs/{run}/steps/{step}/why", is("status", "waiting_approval")).await;
    at.ask("GET /runs/{run}/why", How::default()).await;
    at.ask("POST /runs/{run}/steps/{step}/resolve", with_body(json!({"action": "retry"}))).await;
    let raise = json!({"tokens": 500, "by": "ann"});
    let raised = at.ask("POST /runs/{run}/budget", with_body(raise)).await;
    at.ask("POST /stream-tickets", with_body(json!({"run": "first"}))).await;
    let word = json!({"decision": "approve", "by": "bob", "comment": "go"});
    at.ask("POST /runs/{run}/approvals/{step}", with_body(word)).await;
    let word = json!({"decision": "approve", "by": "ann", "comment": "go"});
    at.ask("POST /runs/{run}/approvals/{step}", with_body(word)).await;
    at.until("GET /runs/{run}", is("status", "completed")).await;
    at.ask("GET /runs", with_query("?limit=1")).await;
    at.ask("GET /runs/{run}/bill", How::default()).await;
    at.ask("GET /budgets", How::default()).await;
    at.ask("GET /runs/{run}/artifacts", How::default()).await;
    watched(at, &raised["seq"]).await;
    let file = at.ask("GET /export", with_query(&format!("?runs={run}"))).await;
    let raw = file.as_str().unwrap().as_bytes().to_vec();
    at.ask("POST /import", How { raw, ..How::default() }).await;
}

/// The same events as a page, as server-sent events and over a WebSocket.
async fn watched(at: &mut Session, after: &Value) {
    let page = with_header("accept", "application/json");
    let page =
        at.ask("GET /runs/{run}/events", How { query: &format!("?after={after}"), ..page }).await;
    let sent = at.ask("GET /runs/{run}/events", How::default()).await;
    let first = sent
        .as_str()
        .unwrap()
        .split("\n\n")
        .find(|sent| sent.contains("data:"))
        .unwrap()
        .to_owned();
    let fields = first.lines().filter_map(|line| line.split_once(':'));
    let fields: Map<_, _> =
        fields.map(|(name, value)| (name.to_owned(), value.trim().into())).collect();
    let data: Value = serde_json::from_str(fields["data"].as_str().unwrap()).unwrap();
    let shown = at.redacted("", &data).to_string();
    at.keep("get_runs_run_events_200_stream", &json!({"id": fields["id"], "data": shown}));
    let event = page["items"][0].clone();
    at.keep(
        "get_runs_run_events_101",
        &json!({"id": event["seq"], "event": "message", "data": event}),
    );
}

/// What is done with runs that have ended, or do not get on.
async fn afterwards(at: &mut Session) {
    let first = at.names["run"].clone();
    let fork = json!({"from": "draft", "task_id": "second"});
    let second = at.ask("POST /runs/{run}/fork", with_body(fork.clone())).await;
    at.ask("POST /runs/{run}/fork", with_body(fork)).await;
    at.names.insert("other", second["id"].as_str().unwrap().to_owned());
    at.ask("GET /runs/{run}/diff/{other}", How::default()).await;
    let work = at.ask("GET /agents/{name}/work", How::default()).await;
    at.names.insert("attempt", work["attempt"].as_str().unwrap().to_owned());
    let failure =
        json!({"message": "the compiler is gone", "kind": "unavailable", "retry_after": "10s"});
    at.ask("POST /attempts/{attempt}/fail", with_body(failure)).await;
    at.names.insert("run", second["id"].as_str().unwrap().to_owned());
    at.ask("GET /export", with_query("?runs=second")).await;
    at.ask("POST /runs/{run}/cancel", with_body(json!({"reason": "no need"}))).await;
    at.until("GET /runs/{run}", is("status", "cancelled")).await;
    at.ask("POST /runs/{run}/pause", with_body(json!({}))).await;
    at.submit(json!({"workflow": "{id: lonely, tasks: [{id: a, agentName: coder-9}]}"})).await;
    at.names.insert("name", "coder-9".to_owned());
    at.ask("DELETE /agents/{name}", How::default()).await;
    at.names.insert("step", "a".to_owned());
    at.until("GET /runs/{run}/steps/{step}/why", is("status", "blocked")).await;
    at.ask("POST /runs/{run}/budget", with_body(json!({"tokens": 1}))).await;
    at.ask("POST /runs/{run}/approvals/{step}", with_body(json!({"decision": "approve"}))).await;
    at.ask("POST /runs/{run}/steps/{step}/answer", with_body(json!({"answer": "left"}))).await;
    let by_hand = json!({"action": "complete", "output": "by hand", "by": "ann"});
    at.ask("POST /runs/{run}/steps/{step}/resolve", with_body(by_hand)).await;
    at.submit(json!({"workflow": "{id: asks, tasks: [{id: a, agentName: asker}]}"})).await;
    at.until("GET /runs/{run}/steps/{step}/why", is("status", "blocked")).await;
    at.ask("POST /runs/{run}/steps/{step}/answer", with_body(json!({"answer": "up"}))).await;
    at.ask(
        "POST /runs/{run}/steps/{step}/answer",
        with_body(json!({"answer": "left", "by": "ann"})),
    )
    .await;
    at.until("GET /runs/{run}", is("status", "completed")).await;
    at.names.insert("run", first);
    let prune = json!({"older_than": "30d", "keep": 100, "dry_run": true});
    at.ask("POST /prune", with_body(prune)).await;
}

async fn the_rest(at: &mut Session) {
    let key = at
        .ask(
            "POST /keys",
            with_body(json!({"name": "ci", "roles": ["submitter"], "expires_in": "90d"})),
        )
        .await;
    at.ask("GET /keys", How::default()).await;
    at.names.insert("key", key["id"].as_str().unwrap().to_owned());
    at.ask("DELETE /keys/{key}", How::default()).await;
    at.ask("GET /audit", with_query("?limit=2")).await;
    at.ask("GET /healthz", How::default()).await;
    at.ask("GET /readyz", How::default()).await;
}

/// What is wrong with a request.
async fn refused(at: &mut Session) {
    at.ask("POST /runs", with_body(json!({"workflow": "{id: w, tasks: [{id: a, agent: echo}]}"})))
        .await;
    at.ask("POST /runs", with_body(json!({"workflw": ""}))).await;
    at.ask("POST /runs", with_body(json!({"plan": {"id": "p"}}))).await;
    at.ask(
        "POST /runs",
        with_body(
            json!({"task_id": "first", "workflow": "{id: w, tasks: [{id: a, agentName: echo}]}"}),
        ),
    )
    .await;
    let is_long = How { raw: vec![b' '; 2 << 20], ..How::default() };
    at.ask("POST /keys", is_long).await;
    at.ask("POST /prune", with_header("idempotency-key", "")).await;
    let one = || with_header("idempotency-key", "one");
    at.ask("POST /prune", How { body: json!({"keep": 9, "dry_run": true}), ..one() }).await;
    at.ask("POST /prune", How { body: json!({"keep": 8, "dry_run": true}), ..one() }).await;
    at.ask("GET /runs", with_query("?limit=0")).await;
    at.ask("GET /runs/%ff", How::default()).await;
    at.ask("GET /artifacts/draft.md", How::default()).await;
    let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    at.ask(&format!("GET /artifacts/{digest}"), How::default()).await;
    at.ask("POST /import", How { raw: b"no runs".to_vec(), ..How::default() }).await;
    at.ask("GET /runs/none", How::default()).await;
    at.ask("GET /runs/{run}/steps/none/why", How::default()).await;
    at.ask("POST /attempts/none/heartbeat", with_body(json!({}))).await;
    at.ask("DELETE /keys/none", How::default()).await;
    at.ask("GET /none", How::default()).await;
    at.ask("PUT /runs", How::default()).await;
    at.ask("GET /runs/{run}/events", with_header("upgrade", "websocket")).await;
    let may = Permissions::of_roles(["viewer"].into_iter()).unwrap();
    let viewer = || Caller { name: "ci".into(), may, is_owner: false, ..Caller::owner() };
    at.ask("POST /runs", How { caller: Some(viewer()), body: json!({}), ..How::default() }).await;
    at.ask("GET /runs", How { caller: Some(Caller::nobody()), ..How::default() }).await;
    let submitter = Caller { may: Permissions::ALL, ..viewer() };
    let elsewhere = json!({"workflow": "{id: w, tasks: [{id: a, agentName: echo}]}", "root": "/"});
    at.ask("POST /runs", How { caller: Some(submitter), body: elsewhere, ..How::default() }).await;
}

/// Problems that take a broken disk, another node or much patience, made as they are then.
fn rare(at: &mut Session) {
    let run: RunId = at.names["run"].parse().unwrap();
    let file = || "kapelle.db".into();
    let of_store = [
        journal::Error::Full { file: file() },
        journal::Error::Busy { file: file() },
        journal::Error::Newer { file: file(), store: 3, ours: 2 },
        journal::Error::Unknown { message: "the disk answered with an error".into() },
        journal::Error::Poisoned { file: file(), message: "a sync failed".into() },
        journal::Error::Unavailable { file: file(), message: "it cannot be opened".into() },
        journal::Error::Corrupt { run, seq: 7, message: "its hash is another one".into() },
    ];
    of_store.into_iter().for_each(|error| at.problem(error.into()));
    let node = kapelle_core::port::nodes::Node {
        id: kapelle_core::NodeId::new("4711-2a9d"),
        pid: 4711,
        version: env!("CARGO_PKG_VERSION").into(),
        socket: Some("/srv/kapelle/nodes/4711-2a9d.sock".into()),
    };
    let step: kapelle_core::StepId = "draft".parse().unwrap();
    let of_engine = [
        Error::Elsewhere(node),
        Error::Draining,
        Error::OtherRun { run },
        Error::Pruned { run },
        Error::BadPlan("step `a` needs `b`, which is not there".into()),
        Error::Refused(Refusal::Stopping),
        Error::Refused(Refusal::NotPaused),
        Error::Refused(Refusal::CannotGrow(step)),
    ];
    of_engine.into_iter().for_each(|error| at.problem(error.into()));
    at.problem(Problem::ambiguous("4a05"));
    at.problem(Problem::strange_host());
    at.problem(Problem::strange_origin());
    at.problem(Problem::too_slow());
    at.problem(Problem::too_many("`ci` asks"));
    at.problem(Problem::too_many_tickets());
    at.problem(Problem::overloaded("requests", "server.requests"));
    at.problem(work::too_many_waiting());
    at.problem(work::unsettled());
}

/// All that is said in a session.
async fn made() -> BTreeMap<String, Value> {
    let node = node().await;
    let mut at = Session::of(&node).await;
    let me = node.engine().nodes().me().id.to_string();
    at.stand(&me, "4711-2a9d");
    agents(&mut at).await;
    review(&mut at).await;
    afterwards(&mut at).await;
    the_rest(&mut at).await;
    refused(&mut at).await;
    rare(&mut at);
    at.made
}

#[tokio::test]
async fn the_examples_are_what_is_said_in_a_session() {
    let made = made().await;
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let kept = std::fs::read_to_string(FILE).unwrap();
    let kept: BTreeMap<String, Value> = serde_json::from_str(&kept).unwrap();
    assert!(made.keys().eq(kept.keys()), "`UPDATE=1` writes them anew");
    for (name, made) in &made {
        let (made, kept) = (settled(name, made), settled(name, &kept[name]));
        assert_eq!(made, kept, "{name}: `UPDATE=1` writes it anew");
    }
}

#[test]
fn every_body_answer_and_code_has_an_example_and_each_fits_its_schema() {
    let api = openapi();
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    let mut look = |content: &Value, name: &str| {
        // Where what is asked for is always made, nothing is there before.
        let made = name.ends_with("_200") && ALL.contains_key(&name.replace("_200", "_201"));
        let is_none = made && !ALL.contains_key(name);
        if content["schema"].is_null() || OWN.contains(&name) || is_none || seen.contains(name) {
            return;
        }
        let Some(value) = ALL.get(name) else { return faults.push(format!("{name} has none")) };
        seen.insert(name.to_owned());
        let mut schema = content["schema"].clone();
        // Anything fits what says nothing.
        if schema == json!(true) {
            return;
        }
        schema["components"] = json!({ "schemas": api["components"]["schemas"] });
        faults
            .extend(wrong_with(&schema, value).into_iter().map(|wrong| format!("{name}: {wrong}")));
    };
    let each = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
    for methods in each(&api["paths"]).values() {
        for operation in each(methods).values() {
            let id = operation["operationId"].as_str().unwrap();
            look(
                &operation["requestBody"]["content"]["application/json"],
                &format!("{id}_request"),
            );
            for (status, answer) in each(&operation["responses"]) {
                let content = &answer["content"];
                look(&content["application/json"], &format!("{id}_{status}"));
                look(&content["text/event-stream"], &format!("{id}_{status}_stream"));
                let problems = &content["application/problem+json"];
                for code in each(&problems["examples"]).keys() {
                    look(problems, code);
                    assert!(explained(code).is_some(), "{code} is not explained in docs/errors.md");
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let is_used = |name: &&String| seen.contains(*name) || problem::is_known(name);
    let unused: Vec<_> = ALL.keys().filter(|name| !is_used(name)).collect();
    assert!(unused.is_empty(), "nothing is described as {unused:?}");
}
