//! What a run costs, in steps looked at.

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

/// Does the whole run, one answer at a time; every tenth attempt fails once. How many steps were looked at?
fn looks_of(plan: Json, width: usize) -> usize {
    let plan: Plan = serde_json::from_value(plan).expect("it is a plan");
    let inputs = json!({"items": (0..width).collect::<Vec<_>>()});
    let created = Created {
        workflow: plan.workflow.clone(),
        plan: Value::null(),
        inputs: Value::Inline(Arc::new(inputs.clone())),
        root: "/".into(),
        task_id: None,
    };
    let plan = Arc::new(Compiled::new(plan).expect("it can run"));
    let mut now = Timestamp(1_700_000_000_000_000);
    let id = RunId::new(now, [1; 10], Shard(1));
    let mut run = Run::new(id, &created, plan, now);
    let (agents, values) = (echo(), AtHand(Arc::new(inputs["items"].clone())));
    let mut going = VecDeque::new();
    while run.ended().is_none() {
        now = now.after(Duration::from_millis(1));
        run.wake(now);
        let world = World { now, values: &values, agents: &agents };
        let mut events = Vec::new();
        if let Some(no) = run.next(|_| true, &BTreeSet::new()) {
            events = run.begin(no, &world).expect("all is at hand").events;
        } else if let Some((step, attempt)) = going.pop_front() {
            events = run.decide(ended(step, attempt), now).expect("it runs");
        } else if run.is_ending() {
            events = run.end(&world).expect("all is at hand").events;
        } else {
            now = run.next_timer().expect("something will happen");
        }
        for event in events {
            if let Event::StepStarted { step, attempt, .. } = &event {
                going.push_back((*step, *attempt));
            }
            run.apply(&event, now);
            while let Some(event) = run.follow() {
                run.apply(&event, now);
            }
        }
    }
    assert!(run.steps().len() > width && run.open() == 0);
    run.steps.looks()
}

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
        let [small, large] = [10_000, 100_000].map(|width| looks_of(plan(width), width));
        assert!(large <= small * 13, "{small} looks, then {large}");
        assert!(large <= 100_000 * 200, "{large} looks for 100,000 steps");
    }
}
