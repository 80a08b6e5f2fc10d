//! Whole lives of runs through the engine: real threads, real stores, agents that are functions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use kapelle_core::plan::{Plan, Retry, Step, Work};
use kapelle_core::port::agent::{
    Action, Agent, Agents, Answer, Call, Card, Desk, Effect, Failure, FailureKind, Safety,
};
use kapelle_core::port::{Journal, Nodes};
use kapelle_core::run::{Command, Event, Verdict};
use kapelle_core::{Json, Tenant};
use kapelle_engine::{Adopt, Engine, Error, NewRun, Options, Parts, Seen};
use kapelle_store::{Alone, Member, Memory, Sqlite};
use serde_json::json;
use tokio::sync::Notify;

/// An agent made for these tests: it counts what it does, and does what `input.do` says.
struct Worker {
    card: Card,
    calls: AtomicU32,
    at_work: AtomicU32,
    effects: Mutex<BTreeMap<String, u32>>,
    gate: Notify,
    reached: Notify,
}

impl Worker {
    fn new() -> Arc<Self> {
        let action = Action {
            name: "work".into(),
            description: "Works.".into(),
            input: json!(true),
            output: json!(true),
        };
        Arc::new(Self {
            card: Card {
                name: "worker".into(),
                description: "Works.".into(),
                actions: vec![action],
                concurrency_max: None,
            },
            calls: AtomicU32::new(0),
            at_work: AtomicU32::new(0),
            effects: Mutex::default(),
            gate: Notify::new(),
            reached: Notify::new(),
        })
    }

    async fn three_effects(&self, call: &Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        let mut sum = 0;
        for n in 1..=3 {
            let effect = Effect { name: "add".into(), safety: Safety::Repeatable, input: json!(n) };
            let work = desk.effect(
                effect,
                Box::new(move |key| {
                    Box::pin(async move {
                        *self.effects.lock().unwrap().entry(key.to_string()).or_default() += 1;
                        Ok(json!({"n": n, "pad": "x".repeat(400)}))
                    })
                }),
            );
            sum += work.await?["n"].as_i64().unwrap();
            if n == 2 && call.attempt.0 == 1 {
                return Err(Failure::new(FailureKind::Unavailable, "once", "not yet"));
            }
        }
        Ok(Answer { value: json!(sum), ..Answer::default() })
    }
}

#[async_trait]
impl Agent for Worker {
    fn card(&self) -> &Card {
        &self.card
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match call.input["do"].as_str() {
            Some("panic") => panic!("on purpose"),
            Some("wait") => {
                self.reached.notify_one();
                tokio::select! {
                    () = self.gate.notified() => {}
                    () = desk.cancelled() => {
                        return Err(Failure::new(FailureKind::Cancelled, "told", "told to stop"));
                    }
                }
            }
            Some("effects") => return self.three_effects(&call, desk).await,
            Some("linger") => {
                let others = self.at_work.fetch_add(1, Ordering::SeqCst);
                assert_eq!(others, 0, "two attempts of one step at once");
                if call.attempt.0 == 1 {
                    desk.cancelled().await;
                    // It lets go slowly: the next attempt has every chance to come too early.
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                self.at_work.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
        Ok(Answer { value: call.input["value"].clone(), ..Answer::default() })
    }
}

fn step(id: &str, needs: &[&str], input: Json) -> Step {
    Step {
        id: id.parse().unwrap(),
        description: None,
        work: Work::Agent { agent: "worker".into(), action: None, input, prompt: None },
        needs: needs.iter().map(|need| need.parse().unwrap()).collect(),
        when: None,
        for_each: None,
        priority: 5,
        timeout_ms: 60_000,
        retry: Retry { initial_ms: 1, ..Retry::default() },
        on_failure: kapelle_core::plan::OnFailure::Fail,
        on_unknown: None,
        output: None,
        budget: None,
        estimate_ms: None,
    }
}

fn new_run(engine: &Engine, steps: Vec<Step>) -> NewRun {
    let plan = Plan { workflow: "test".into(), steps, max_parallel: 10, ..Plan::default() };
    NewRun {
        tenant: Tenant::default(),
        plan: engine.prepare(&plan).unwrap(),
        inputs: json!({}),
        root: "/".into(),
        task_id: None,
        key: None,
    }
}

fn parts(journal: Arc<dyn Journal>, nodes: Arc<dyn Nodes>, worker: &Arc<Worker>) -> Parts {
    let mut agents = Agents::default();
    agents.register(worker.clone()).unwrap();
    Parts { journal, nodes, agents }
}

async fn in_memory(worker: &Arc<Worker>) -> Engine {
    let parts = parts(Arc::new(Memory::new()), Arc::new(Alone::new()), worker);
    Engine::open(parts, Options::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_flow_through_a_diamond() {
    let worker = Worker::new();
    let engine = in_memory(&worker).await;
    let tenant = Tenant::default();
    let long = "x".repeat(2_000);
    let steps = vec![
        step("a", &[], json!({"value": {"long": long}})),
        step("b", &["a"], json!({"value": "{{ steps.a.output.long | length }}"})),
        step("c", &["a"], json!({"value": "{{ steps.a.output }}"})),
        step(
            "d",
            &["b", "c"],
            json!({"value": ["{{ steps.b.output }}", "{{ steps.c.output.long }}"]}),
        ),
    ];
    let run = engine.submit(new_run(&engine, steps)).await.unwrap().run;
    let ended = engine.wait(&tenant, run).await.unwrap();
    assert_eq!(ended.verdict, Verdict::Completed, "{}", ended.detail);
    let read = engine.run(&tenant, run).await.unwrap();
    let output = engine.value(&tenant, &read, &ended.output).await.unwrap();
    assert_eq!(*output, json!([2_000, long]));
    assert_eq!(worker.calls.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_effect_is_replayed_by_the_next_attempt() {
    let worker = Worker::new();
    let engine = in_memory(&worker).await;
    let tenant = Tenant::default();
    let run = engine
        .submit(new_run(&engine, vec![step("a", &[], json!({"do": "effects"}))]))
        .await
        .unwrap()
        .run;
    let ended = engine.wait(&tenant, run).await.unwrap();
    assert_eq!(ended.verdict, Verdict::Completed, "{}", ended.detail);
    let effects = worker.effects.lock().unwrap();
    assert_eq!(effects.len(), 3, "{effects:?}");
    assert!(effects.values().all(|count| *count == 1), "{effects:?}");
    assert_eq!(worker.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_failed_attempt() {
    let worker = Worker::new();
    let engine = in_memory(&worker).await;
    let tenant = Tenant::default();
    let run = engine
        .submit(new_run(&engine, vec![step("a", &[], json!({"do": "panic"}))]))
        .await
        .unwrap()
        .run;
    let ended = engine.wait(&tenant, run).await.unwrap();
    assert_eq!(ended.verdict, Verdict::Failed);
    assert!(ended.detail.contains("on purpose"), "{}", ended.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_stops_what_runs() {
    let worker = Worker::new();
    let engine = in_memory(&worker).await;
    let tenant = Tenant::default();
    let steps = vec![step("a", &[], json!({"do": "wait"})), step("b", &["a"], json!({}))];
    let run = engine.submit(new_run(&engine, steps)).await.unwrap().run;
    worker.reached.notified().await;
    let cancel = Command::Cancel { by: "me".into(), reason: "enough".into() };
    engine.tell(&tenant, run, cancel.clone()).await.unwrap();
    let ended = engine.wait(&tenant, run).await.unwrap();
    assert_eq!(ended.verdict, Verdict::Cancelled);
    assert_eq!(worker.calls.load(Ordering::SeqCst), 1);
    assert!(matches!(engine.tell(&tenant, run, cancel).await, Err(Error::Refused(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_gets_each_event_once_from_any_point() {
    let worker = Worker::new();
    let engine = in_memory(&worker).await;
    let tenant = Tenant::default();
    let steps = (0..20).map(|n| step(&format!("s{n}"), &[], json!({"value": n}))).collect();
    let run = engine.submit(new_run(&engine, steps)).await.unwrap().run;
    let seqs = |after| {
        let events = engine.watch(&tenant, run, after);
        events
            .filter_map(|seen| async move {
                match seen.unwrap() {
                    Seen::Event(event) => Some((event.seq, event.event.clone())),
                    Seen::Progress(_) => None,
                }
            })
            .collect::<Vec<_>>()
    };
    let (all, some) = tokio::join!(seqs(0), seqs(7));
    assert!(all.iter().map(|(seq, _)| *seq).eq(1..=all.len() as u64));
    assert!(matches!(all.last(), Some((_, Event::RunCompleted { .. }))));
    assert_eq!(all[7..], some[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_task_is_one_run() {
    let worker = Worker::new();
    let engine = in_memory(&worker).await;
    let mut new = new_run(&engine, vec![step("a", &[], json!({"value": 1}))]);
    new.task_id = Some("t-1".into());
    let submits = (0..8).map(|_| engine.submit(new.clone()));
    let submitted = futures_util::future::join_all(submits).await;
    let runs: Vec<_> = submitted.into_iter().map(Result::unwrap).collect();
    assert_eq!(runs.iter().filter(|submitted| !submitted.existing).count(), 1);
    assert!(runs.iter().all(|submitted| submitted.run == runs[0].run));
    new.inputs = json!({"other": true});
    assert!(matches!(engine.submit(new).await, Err(Error::Conflict { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_leaves_its_work_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let tenant = Tenant::default();
    let worker = Worker::new();
    let open = async |worker: &Arc<Worker>, adopt| {
        let journal = Arc::new(Sqlite::open(folder.path()).unwrap());
        let nodes = Arc::new(Member::join(folder.path(), None).unwrap());
        let options = Options { adopt, ..Options::default() };
        Engine::open(parts(journal, nodes, worker), options).await.unwrap()
    };
    let first = open(&worker, Adopt::Asked).await;
    let steps = vec![
        step("a", &[], json!({"value": "done"})),
        step("b", &["a"], json!({"do": "wait", "value": "b"})),
    ];
    let run = first.submit(new_run(&first, steps)).await.unwrap().run;
    worker.reached.notified().await;
    first.drain(Duration::ZERO).await.unwrap();
    drop(first);

    let second = open(&worker, Adopt::All).await;
    worker.reached.notified().await;
    worker.gate.notify_one();
    let ended = second.wait(&tenant, run).await.unwrap();
    assert_eq!(ended.verdict, Verdict::Completed, "{}", ended.detail);
    let read = second.run(&tenant, run).await.unwrap();
    let attempts: Vec<_> = read.steps().iter().map(|step| step.attempts()).collect();
    assert_eq!(attempts, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_owner_is_named_and_a_dead_one_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let tenant = Tenant::default();
    let worker = Worker::new();
    let open = async || {
        let journal = Arc::new(Sqlite::open(folder.path()).unwrap());
        let nodes = Arc::new(Member::join(folder.path(), None).unwrap());
        Engine::open(parts(journal, nodes, &worker), Options::default()).await.unwrap()
    };
    let (first, second) = (open().await, open().await);
    let run = first
        .submit(new_run(&first, vec![step("a", &[], json!({"do": "wait"}))]))
        .await
        .unwrap()
        .run;
    worker.reached.notified().await;
    let pause = Command::Pause { by: "me".into(), reason: "".into() };
    let elsewhere = second.tell(&tenant, run, pause).await;
    assert!(matches!(&elsewhere, Err(Error::Elsewhere(node)) if *node == *first.nodes().me()));
    assert_eq!(second.owner(run).await.unwrap().as_ref(), Some(first.nodes().me()));

    first.drain(Duration::ZERO).await.unwrap();
    second.work_on(&tenant, run).await.unwrap();
    worker.reached.notified().await;
    worker.gate.notify_one();
    assert_eq!(second.wait(&tenant, run).await.unwrap().verdict, Verdict::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_answered_when_the_run_ends_in_the_same_turn() {
    let tenant = Tenant::default();
    for _ in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let worker = Worker::new();
        let open = async || {
            let journal = Arc::new(Sqlite::open(folder.path()).unwrap());
            let nodes = Arc::new(Member::join(folder.path(), None).unwrap());
            Engine::open(parts(journal, nodes, &worker), Options::default()).await.unwrap()
        };
        let first = open().await;
        let approval = Work::Approval {
            by: Vec::new(),
            timeout_ms: None,
            on_timeout: kapelle_core::plan::OnTimeout::Reject,
        };
        let sign = Step { work: approval, ..step("sign", &[], json!({})) };
        let run = first.submit(new_run(&first, vec![sign])).await.unwrap().run;
        let asked = |seen: &Result<Seen, Error>| {
            let Ok(Seen::Event(event)) = seen else { return false };
            matches!(event.event, Event::ApprovalRequested { .. })
        };
        let mut events = first.watch(&tenant, run, 0);
        while !asked(&events.next().await.unwrap()) {}
        drop(events);
        first.drain(Duration::ZERO).await.unwrap();
        drop(first);

        let second = open().await;
        let reject = Command::Approve {
            step: "sign".parse().unwrap(),
            approved: false,
            by: "me".into(),
            comment: "".into(),
        };
        second.tell(&tenant, run, reject).await.unwrap();
        let resume = Command::Resume { by: "me".into() };
        let (worked, told) =
            tokio::join!(second.work_on(&tenant, run), second.tell(&tenant, run, resume));
        worked.unwrap();
        assert!(matches!(told, Err(Error::Refused(_))), "{told:?}");
        assert_eq!(second.wait(&tenant, run).await.unwrap().verdict, Verdict::Failed);
        second.drain(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_megabytes_go_in_through_and_out() {
    let folder = tempfile::tempdir().unwrap();
    let tenant = Tenant::default();
    let worker = Worker::new();
    let journal = Arc::new(Sqlite::open(folder.path()).unwrap());
    let nodes = Arc::new(Member::join(folder.path(), None).unwrap());
    let parts = parts(journal, nodes, &worker);
    let engine = Engine::open(parts, Options::default()).await.unwrap();
    let list: Vec<String> = (0..3).map(|n| n.to_string().repeat(700_000)).collect();
    let each = kapelle_core::plan::ForEach {
        list: "inputs.list".into(),
        name: "item".into(),
        max_parallel: None,
    };
    let mut new = new_run(
        &engine,
        vec![
            Step { for_each: Some(each), ..step("each", &[], json!({"value": "{{ item }}"})) },
            step("count", &[], json!({"value": "{{ inputs.list | length }}"})),
        ],
    );
    new.inputs = json!({"list": list});
    let run = engine.submit(new).await.unwrap().run;
    let ended = engine.wait(&tenant, run).await.unwrap();
    assert_eq!(ended.verdict, Verdict::Completed, "{}", ended.detail);
    let read = engine.run(&tenant, run).await.unwrap();
    let output = engine.value(&tenant, &read, &ended.output).await.unwrap();
    assert_eq!(*output, json!({"count": 3, "each": list}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_until_the_attempt_before_has_let_go() {
    let worker = Worker::new();
    let engine = in_memory(&worker).await;
    let tenant = Tenant::default();
    let mut slow = Step { timeout_ms: 200, ..step("a", &[], json!({"do": "linger", "value": 1})) };
    slow.retry.attempts_max = 9;
    let run = engine.submit(new_run(&engine, vec![slow])).await.unwrap().run;
    let ended = engine.wait(&tenant, run).await.unwrap();
    assert_eq!(ended.verdict, Verdict::Completed, "{}", ended.detail);
}
