//! A run keeps what its agents were when it began, wherever it goes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use kapelle_core::plan::{OnFailure, OnTimeout, Plan, Retry, Step, Work};
use kapelle_core::port::agent::{Action, Agent, Agents, Answer, Call, Card, Desk, Failure};
use kapelle_core::run::{Command, Event};
use kapelle_core::{Json, RunId, Tenant};
use kapelle_engine::{Engine, Error, Fork, NewRun, Options, Parts, Seen};
use kapelle_store::{Member, Sqlite};
use serde_json::json;

/// Answers with the words it is given by a definition, or has itself.
struct Speaker {
    card: Card,
    words: String,
    defined: bool,
}

impl Speaker {
    fn new(name: &str, words: &str, defined: bool) -> Self {
        let action = Action {
            name: "speak".into(),
            description: "Speaks.".into(),
            input: json!(true),
            output: json!(true),
        };
        let card = Card {
            name: name.into(),
            description: "Speaks.".into(),
            actions: vec![action],
            concurrency_max: None,
        };
        Self { card, words: words.into(), defined }
    }
}

#[async_trait]
impl Agent for Speaker {
    fn card(&self) -> &Card {
        &self.card
    }

    fn definition(&self) -> Option<Json> {
        // Long enough to be a payload.
        let pad = "x".repeat(1_000);
        self.defined.then(|| json!({"by": "speaker", "words": self.words, "pad": pad}))
    }

    async fn perform(&self, call: Call, _desk: &dyn Desk) -> Result<Answer, Failure> {
        let kept = call.definition.map(|definition| definition["words"].clone());
        let value = kept.unwrap_or_else(|| self.words.as_str().into());
        Ok(Answer { value, ..Answer::default() })
    }
}

/// A speaker that can say anything, and an author with words of its own, if there is one.
fn agents(author: Option<Speaker>) -> Agents {
    let mut agents = Agents::default();
    agents.register(Arc::new(Speaker::new("speaker", "nothing", false))).unwrap();
    if let Some(author) = author {
        agents.register(Arc::new(author)).unwrap();
    }
    agents
}

fn author(words: &str) -> Agents {
    agents(Some(Speaker::new("author", words, true)))
}

async fn open(folder: &Path, agents: Agents) -> Engine {
    let journal = Arc::new(Sqlite::open(folder).unwrap());
    let nodes = Arc::new(Member::join(folder, None).unwrap());
    Engine::open(Parts { journal, nodes, agents }, Options::default()).await.unwrap()
}

fn step(id: &str, needs: &[&str], work: Work) -> Step {
    Step {
        id: id.parse().unwrap(),
        description: None,
        work,
        needs: needs.iter().map(|need| need.parse().unwrap()).collect(),
        when: None,
        for_each: None,
        priority: 5,
        timeout_ms: 60_000,
        retry: Retry::default(),
        on_failure: OnFailure::Fail,
        on_unknown: None,
        output: None,
        budget: None,
        estimate_ms: None,
    }
}

/// The author speaks, a person nods, the author speaks again.
fn dialogue(engine: &Engine) -> NewRun {
    let speak =
        || Work::Agent { agent: "author".into(), action: None, input: json!({}), prompt: None };
    let nod = Work::Approval { by: Vec::new(), timeout_ms: None, on_timeout: OnTimeout::Reject };
    let steps =
        vec![step("a", &[], speak()), step("nod", &["a"], nod), step("b", &["nod"], speak())];
    let output = Some(json!(["{{ steps.a.output }}", "{{ steps.b.output }}"]));
    let plan = Plan { workflow: "test".into(), steps, output, max_parallel: 10, ..Plan::default() };
    NewRun {
        tenant: Tenant::default(),
        plan: engine.prepare(&plan).unwrap(),
        inputs: json!({}),
        root: "/".into(),
        task_id: None,
        key: None,
    }
}

/// Submits a dialogue, and waits until a person is to nod.
async fn begun(engine: &Engine) -> RunId {
    let run = engine.submit(dialogue(engine)).await.unwrap().run;
    asked(engine, run).await;
    run
}

async fn asked(engine: &Engine, run: RunId) {
    let asks = |seen: &Result<Seen, Error>| {
        let Ok(Seen::Event(event)) = seen else { return false };
        matches!(event.event, Event::ApprovalRequested { .. })
    };
    let mut events = engine.watch(&Tenant::default(), run, 0);
    while !asks(&events.next().await.unwrap()) {}
}

/// Nods, and answers what the run gave.
async fn nodded(engine: &Engine, run: RunId) -> Json {
    let tenant = Tenant::default();
    let (step, by, comment) = ("nod".parse().unwrap(), "me".into(), "".into());
    let nod = Command::Approve { step, approved: true, by, comment };
    engine.tell(&tenant, run, nod).await.unwrap();
    let ended = engine.wait(&tenant, run).await.unwrap();
    let read = engine.run(&tenant, run).await.unwrap();
    (*engine.value(&tenant, &read, &ended.output).await.unwrap()).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_agent_reaches_the_next_run_only() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path(), author("first")).await;
    let run = begun(&engine).await;
    engine.set_agents(author("second"));
    assert_eq!(nodded(&engine, run).await, json!(["first", "first"]));
    let next = begun(&engine).await;
    engine.set_agents(agents(Some(Speaker::new("author", "a rule", false))));
    assert_eq!(nodded(&engine, next).await, json!(["second", "second"]));
    let undefined = begun(&engine).await;
    assert_eq!(nodded(&engine, undefined).await, json!(["a rule", "a rule"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_gone_works_on_for_the_runs_that_know_it() {
    let folder = tempfile::tempdir().unwrap();
    let tenant = Tenant::default();
    let first = open(folder.path(), author("first")).await;
    let run = begun(&first).await;
    first.drain(Duration::ZERO).await.unwrap();
    drop(first);
    let second = open(folder.path(), agents(None)).await;
    second.work_on(&tenant, run).await.unwrap();
    assert_eq!(nodded(&second, run).await, json!(["first", "first"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_and_copies_keep_it_too() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tenant = Tenant::default();
    let engine = open(here.path(), author("first")).await;
    let run = begun(&engine).await;
    nodded(&engine, run).await;
    engine.set_agents(author("second"));
    let file: Vec<Bytes> =
        engine.export(&tenant, vec![run]).await.unwrap().try_collect().await.unwrap();
    let other = open(there.path(), agents(None)).await;
    other.import(&tenant, file.concat().into()).await.unwrap();
    let fork = |from: &str| {
        let (task_id, key, inputs) = (None, None, json!({}));
        Fork { run, from: from.into(), inputs, task_id, key }
    };
    for engine in [&engine, &other] {
        let forked = engine.fork(&tenant, fork("a")).await.unwrap().run;
        asked(engine, forked).await;
        assert_eq!(engine.prune(&tenant, &[run]).await.unwrap(), [run]);
        // What nobody refers to any more is gone.
        engine.shrink().await.unwrap();
        assert_eq!(nodded(engine, forked).await, json!(["first", "first"]));
    }
}
