//! What a run costs: in steps looked at, and in attempts when all goes wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::plan::Plan;
use crate::port::agent::{
    Action, Agent, Agents, Answer, Call, Card, Desk, Failure, FailureKind, OnUnknown,
};
use crate::{Digest, Shard};

struct Echo(Card);

#[async_trait::async_trait]
impl Agent for Echo {
    fn card(&self) -> &Card {
        &self.0
    }

    fn on_unknown(&self, _action: &str, _input: &Json) -> OnUnknown {
        OnUnknown::Retry
    }

    async fn perform(&self, _call: Call, _desk: &dyn Desk) -> Result<Answer, Failure> {
        unreachable!("core calls nobody")
    }
}

fn echo() -> Agents {
    let action = Action {
        name: "do".into(),
        description: "does it".into(),
        input: Json::Bool(true),
        output: Json::Bool(true),
    };
    let card = Card {
        name: "echo".into(),
        description: "does it".into(),
        actions: vec![action],
        concurrency_max: None,
    };
    let mut agents = Agents::default();
    agents.register(Arc::new(Echo(card))).expect("its schema is fine");
    agents
}

struct AtHand(Arc<Json>);

impl Values for AtHand {
    fn get(&self, _digest: &Digest) -> Option<Arc<Json>> {
        Some(self.0.clone())
    }
}

fn step(id: &str, needs: &[String]) -> Json {
    json!({"id": id, "work": {"agent": {"agent": "echo"}}, "needs": needs})
}

/// A plan that fans out to `width` written steps and back in.
fn written(width: usize) -> Json {
    let ids: Vec<String> = (0..width).map(|i| format!("s{i}")).collect();
    let mut steps = vec![step("first", &[])];
    steps.extend(ids.iter().map(|id| step(id, &["first".into()])));
    steps.push(step("last", &ids));
    json!({"workflow": "wide", "max_parallel": 100, "steps": steps})
}

/// A plan that fans out over a list of the inputs.
fn mapped(_width: usize) -> Json {
    let mut each = step("each", &[]);
    each["for_each"] = json!({"list": "inputs.items", "as": "item", "max_parallel": 50});
    each["on_failure"] = "continue".into();
    json!({"workflow": "map", "max_parallel": 100, "steps": [each, step("last", &["each".into()])]})
}

/// Does the whole run, one answer at a time, and counts its retries.
fn done(
    plan: Json,
    width: usize,
    ended: impl Fn(StepNo, crate::Attempt) -> Command,
) -> (Run, usize) {
    let plan: Plan = serde_json::from_value(plan).expect("it is a plan");
    let inputs = json!({"items": (0..width).collect::<Vec<_>>()});
    let created = Created {
        workflow: plan.workflow.clone(),
        plan: Value::null(),
        inputs: Value::Inline(Arc::new(inputs.clone())),
        root: "/".into(),
        task_id: None,
        agents: Default::default(),
    };
    let plan = Arc::new(Compiled::new(plan).expect("it can run"));
    let mut now = Timestamp(1_700_000_000_000_000);
    let id = RunId::new(now, [1; 10], Shard(1));
    let mut run = Run::new(id, &created, plan, now);
    let (agents, values) = (echo(), AtHand(Arc::new(inputs["items"].clone())));
    let (mut going, mut retries) = (VecDeque::new(), 0);
    while run.ended().is_none() {
        now = now.after(Duration::from_millis(1));
        run.wake(now);
        let world = World { now, values: &values, agents: &agents };
        let events;
        if let Some(no) = run.next(|_| true, &BTreeSet::new()) {
            events = run.begin(no, &world).expect("all is at hand").events;
        } else if let Some((step, attempt)) = going.pop_front() {
            events = run.decide(ended(step, attempt), now).expect("it runs");
        } else if run.is_ending() {
            events = run.end(&world).expect("all is at hand").events;
        } else {
            now = run.next_timer().expect("something will happen");
            run.wake(now);
            events = run.decide(Command::Tick, now).expect("it goes on");
        }
        for event in events {
            if let Event::StepStarted { step, attempt, .. } = &event {
                going.push_back((*step, *attempt));
            }
            retries += usize::from(matches!(event, Event::StepRetrying { .. }));
            run.apply(&event, now);
            while let Some(event) = run.follow() {
                run.apply(&event, now);
            }
        }
    }
    assert!(run.steps().len() > width && run.open() == 0);
    (run, retries)
}

/// Every tenth attempt fails once.
fn ended(step: StepNo, attempt: crate::Attempt) -> Command {
    if step.0 % 10 == 3 && attempt.0 == 1 {
        let failure = Failure::new(FailureKind::Unavailable, "down", "down");
        return Command::Failed { step, attempt, failure };
    }
    let (json, value) = (Arc::new(Json::Null), Value::null());
    let answer = Produced { value, json, artifacts: Vec::new(), usage: None, engine: None };
    Command::Answered { step, attempt, answer: Box::new(answer) }
}

#[test]
fn ten_times_the_steps_cost_about_ten_times_the_looks() {
    for plan in [written, mapped] {
        let [small, large] =
            [10_000, 100_000].map(|width| done(plan(width), width, ended).0.steps.looks());
        assert!(large <= small * 13, "{small} looks, then {large}");
        assert!(large <= 100_000 * 200, "{large} looks for 100,000 steps");
    }
}

/// All goes wrong; with `wish` the other side says when to come again.
fn down(wish: Option<Duration>) -> impl Fn(StepNo, crate::Attempt) -> Command {
    move |step, attempt| {
        let mut failure = Failure::new(FailureKind::Unavailable, "down", "it is down");
        failure.retry_after_ms = wish.map(|wish| wish.as_secs() * 1_000);
        Command::Failed { step, attempt, failure }
    }
}

#[test]
fn the_retries_of_a_wide_run_are_a_fifth_of_its_steps() {
    let (run, retries) = done(mapped(0), 1_000, down(None));
    assert_eq!(retries, 200, "of 1,000 items");
    let last = run.steps().last().and_then(|step| step.failure.clone()).expect("it failed");
    assert_eq!((last.kind, &*last.code), (FailureKind::Unavailable, "down"));
    let why = "it is down; not tried again, the run has used up its retries (`retry_budget`)";
    assert_eq!(&*last.message, why);

    let (_, told) = done(mapped(0), 1_000, down(Some(Duration::from_secs(1))));
    assert_eq!(told, 2_002, "what the other side asked for does not count");
}

#[test]
fn what_a_step_is_given_it_gets_in_a_small_run() {
    let mut plan = json!({"workflow": "poll", "max_parallel": 9, "steps": [step("poll", &[])]});
    let retry = crate::plan::Retry { attempts_max: 100, ..crate::plan::Retry::default() };
    plan["steps"][0]["retry"] = serde_json::to_value(retry).expect("it is data");
    assert_eq!(done(plan, 0, down(None)).1, 99);

    let few: Vec<Json> = (0..50).map(|i| step(&format!("s{i}"), &[])).collect();
    let plan = json!({"workflow": "few", "max_parallel": 9, "steps": few});
    assert_eq!(done(plan, 0, down(None)).1, 100);
}

#[test]
fn attempts_that_time_out_together_share_what_is_left() {
    let steps: Vec<Json> = (0..150).map(|i| step(&format!("s{i}"), &[])).collect();
    let plan = json!({"workflow": "slow", "max_parallel": 1_000, "steps": steps});
    let never = |_, _| Command::Tick;
    assert_eq!(done(plan, 0, never).1, 100);
}

/// Ends with a long value; of so many bytes, as far as anybody looks.
fn long(len: u64) -> impl Fn(StepNo, crate::Attempt) -> Command {
    move |step, attempt| {
        let value = Value::Digest { digest: Digest::of(b"long"), len };
        let json = Arc::new(Json::Null);
        let answer = Produced { value, json, artifacts: Vec::new(), usage: None, engine: None };
        Command::Answered { step, attempt, answer: Box::new(answer) }
    }
}

#[test]
fn an_output_by_default_has_a_limit_to_its_last_byte() {
    let max = crate::expr::OUTPUT_MAX as u64;
    let two =
        json!({"workflow": "two", "max_parallel": 2, "steps": [step("a", &[]), step("b", &[])]});
    let ended = |len| done(two.clone(), 0, long(len)).0.ended().cloned().expect("it has ended");
    let most = ended(max / 2);
    assert_eq!((most.verdict, most.output), (Verdict::Completed, Value::Sinks));
    let more = ended(max / 2 + 1);
    assert_eq!((more.verdict, more.output), (Verdict::Failed, Value::null()));
    assert!(more.detail.contains("over 64 MiB"), "{}", more.detail);

    // The values of a list are counted as well.
    let mut each = mapped(0);
    each["steps"][1] = step("beside", &[]);
    let (run, _) = done(each, 4, long(max / 5));
    assert_eq!(run.ended().map(|ended| ended.verdict), Some(Verdict::Completed));
    assert_eq!(run.bytes(&Value::Sinks), max / 5 * 5);
    assert_eq!(run.bytes(&Value::Picked(vec![StepNo(1), StepNo(1)])), max / 5 * 2);
    assert_eq!(run.bytes(&Value::null()), 0);
}

#[test]
fn a_retry_that_nobody_asked_for_has_a_lane_of_its_own() {
    let one = json!({"workflow": "one", "max_parallel": 1, "steps": [
        {"id": "a", "work": {"approval": {}}},
        step("b", &[]),
    ]});
    let after = |failure: Failure| {
        let plan: Plan = serde_json::from_value(one.clone()).expect("it is a plan");
        let created = Created {
            workflow: "one".into(),
            plan: Value::null(),
            inputs: Value::Inline(Arc::new(json!({}))),
            root: "/".into(),
            task_id: None,
            agents: Default::default(),
        };
        let now = Timestamp(1_700_000_000_000_000);
        let plan = Arc::new(Compiled::new(plan).expect("it can run"));
        let mut run = Run::new(RunId::new(now, [1; 10], Shard(1)), &created, plan, now);
        let (agents, values) = (echo(), AtHand(Arc::default()));
        let world = World { now, values: &values, agents: &agents };
        let (no, attempt) = (StepNo(1), crate::Attempt(1));
        assert_eq!(run.lane(StepNo(0)), Lane::Free);
        assert_eq!(run.lane(no), Lane::Agent(0));
        for event in run.begin(no, &world).expect("all is at hand").events {
            run.apply(&event, now);
        }
        assert_eq!(run.steps()[1].deadline(), now.after(Duration::from_mins(5)));
        let failed = Command::Failed { step: no, attempt, failure };
        for event in run.decide(failed, now).expect("it runs") {
            run.apply(&event, now);
        }
        run.lane(no)
    };
    let mut failure = Failure::new(FailureKind::Unavailable, "down", "down");
    assert_eq!(after(failure.clone()), Lane::Again(0));
    failure.retry_after_ms = Some(1);
    assert_eq!(after(failure), Lane::Agent(0), "the other side asked for it");
    let lost = Failure::new(FailureKind::Lost, "lost", "lost");
    assert_eq!(after(lost), Lane::Agent(0), "no fault of its own");
    let numbers = [Lane::Free, Lane::Agent(2), Lane::Again(3), Lane::Alone(4)].map(Lane::agent);
    assert_eq!(numbers, [None, Some(2), Some(3), Some(4)]);
}
