//! Nodes that die with a step at work, one after the other, on one store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use kapelle_core::plan::Plan;
use kapelle_core::port::Agents;
use kapelle_core::port::agent::{
    Action, Agent, Answer, Call, Card, Desk, Failure, FailureKind, OnUnknown,
};
use kapelle_core::run::{Blocked, Command, Event, Resolved, StepStatus, Verdict};
use kapelle_core::{Json, RunId, Tenant};
use kapelle_engine::{Adopt, Engine, Error, NewRun, Options, Parts};
use kapelle_store::{Member, Sqlite};
use serde_json::json;

/// Does at once what it is asked for, but for a bomb, which it works on until it is told to stop.
struct Worker(Card);

#[async_trait]
impl Agent for Worker {
    fn card(&self) -> &Card {
        &self.0
    }

    fn on_unknown(&self, _action: &str, _input: &Json) -> OnUnknown {
        OnUnknown::Retry
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        if call.step.as_str() != "bomb" {
            return Ok(Answer::default());
        }
        desk.cancelled().await;
        Err(Failure::new(FailureKind::Cancelled, "told", "told to stop"))
    }
}

fn agents() -> Agents {
    let action = Action {
        name: "do".into(),
        description: "works".into(),
        input: json!(true),
        output: json!(true),
    };
    let card = Card {
        name: "worker".into(),
        description: "works".into(),
        actions: vec![action],
        concurrency_max: None,
    };
    let mut agents = Agents::default();
    agents.register(Arc::new(Worker(card))).unwrap();
    agents
}

async fn open(store: &Path, watched: bool) -> Engine {
    open_for(store, Adopt::All, watched).await
}

async fn open_for(store: &Path, adopt: Adopt, watched: bool) -> Engine {
    let journal = Arc::new(Sqlite::open(store).unwrap());
    let nodes = Arc::new(Member::join(store, None).unwrap());
    let options = Options { adopt, watched, ..Options::default() };
    Engine::open(Parts { journal, nodes, agents: agents() }, options).await.unwrap()
}

/// A run with a bomb and a step that needs nothing, on its first node, with the bomb at work.
async fn bomb(store: &Path) -> (Engine, RunId) {
    let step = |id: &str| json!({"id": id, "work": {"agent": {"agent": "worker"}}});
    let plan = json!({"workflow": "w", "max_parallel": 9, "steps": [step("bomb"), step("other")]});
    let engine = open(store, false).await;
    let plan = engine.prepare(&serde_json::from_value::<Plan>(plan).unwrap()).unwrap();
    let (tenant, inputs, root) = (Tenant::default(), json!({}), "/".into());
    let new = NewRun { tenant, plan, inputs, root, task_id: None, key: None };
    let run = engine.submit(new).await.unwrap().run;
    until(&engine, run, |event| matches!(event, Event::StepCompleted { .. })).await;
    (engine, run)
}

/// Follows the events of a run until there is such a one.
async fn until(engine: &Engine, run: RunId, mut is_it: impl FnMut(&Event) -> bool) {
    let mut seen = engine.watch(&Tenant::default(), run, 0);
    while let Some(seen) = seen.next().await {
        if let kapelle_engine::Seen::Event(seen) = seen.unwrap()
            && is_it(&seen.event)
        {
            return;
        }
    }
    panic!("the run has ended before");
}

/// Waits until the bomb has begun so often.
async fn begun(engine: &Engine, run: RunId, attempts: u32) {
    let is_it = |event: &Event| matches!(event, Event::StepStarted { step, attempt, .. } if step.0 == 0 && attempt.0 == attempts);
    until(engine, run, is_it).await;
}

/// Pauses a run as soon as its node is found dead.
async fn pause(engine: &Engine, run: RunId) {
    let pause = Command::Pause { by: "eva".into(), reason: "".into() };
    while let Err(error) = engine.tell(&Tenant::default(), run, pause.clone()).await {
        assert!(matches!(error, Error::Elsewhere(_)), "{error}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_three_nodes_died_with_is_blocked() {
    let folder = tempfile::tempdir().unwrap();
    let (mut engine, run) = bomb(folder.path()).await;
    for attempt in 2..=3 {
        // Dropped, it leaves as it would by dying: nothing is given back.
        drop(engine);
        engine = open(folder.path(), false).await;
        begun(&engine, run, attempt).await;
    }
    drop(engine);
    let engine = open(folder.path(), false).await;
    until(&engine, run, |event| matches!(event, Event::StepBlocked { .. })).await;
    let read = engine.run(&Tenant::default(), run).await.unwrap();
    let poison = StepStatus::Blocked(Blocked::InDoubt { ordinal: 0, deaths: 3, workers: 0 });
    assert_eq!(read.steps()[0].status, poison);
    assert_eq!(read.steps()[1].status, StepStatus::Completed);

    let (step, how) = ("bomb".parse().unwrap(), Resolved::Skip);
    let resolve = Command::Resolve { step, how, by: "eva".into(), comment: "".into() };
    engine.tell(&Tenant::default(), run, resolve).await.unwrap();
    let ended = engine.wait(&Tenant::default(), run).await.unwrap();
    assert_eq!(ended.verdict, Verdict::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_blames_no_step_and_one_that_is_watched_keeps_none_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut engine, run) = bomb(folder.path()).await;
    for attempt in 2..=4 {
        engine.drain(Duration::ZERO).await.unwrap();
        drop(engine);
        engine = open(folder.path(), false).await;
        begun(&engine, run, attempt).await;
    }
    // Nobody knows how the one before ended once another one has given the run back.
    drop(engine);
    let passing = open_for(folder.path(), Adopt::Asked, false).await;
    pause(&passing, run).await;
    passing.drain(Duration::ZERO).await.unwrap();
    drop(passing);
    engine = open(folder.path(), false).await;
    let resume = Command::Resume { by: "eva".into() };
    engine.tell(&Tenant::default(), run, resume).await.unwrap();
    begun(&engine, run, 5).await;
    for attempt in 6..=9 {
        drop(engine);
        engine = open(folder.path(), true).await;
        begun(&engine, run, attempt).await;
    }
    let read = engine.run(&Tenant::default(), run).await.unwrap();
    assert_eq!(read.steps()[0].deaths(), 4, "each death was told");
}
