//! Plans of all kinds, and the agents that they name.

use std::sync::Arc;

use async_trait::async_trait;
use kapelle_core::Json;
use kapelle_core::plan::{ForEach, OnFailure, OnTimeout, Plan, Retry, Step, Work};
use kapelle_core::port::Agents;
use kapelle_core::port::agent::{
    Action, Agent, Answer, Call, Card, Desk, Failure, FailureKind, OnUnknown,
};
use serde_json::json;

use super::dice::Dice;

/// The agents of the world: what they do is the world's business (`super::agents`).
struct Simulated(Card);

#[async_trait]
impl Agent for Simulated {
    fn card(&self) -> &Card {
        &self.0
    }

    fn on_unknown(&self, _action: &str, _input: &Json) -> OnUnknown {
        if &*self.0.name == "paid" { OnUnknown::Ask } else { OnUnknown::Retry }
    }

    async fn perform(&self, _call: Call, _desk: &dyn Desk) -> Result<Answer, Failure> {
        Err(Failure::new(FailureKind::Bug, "simulated", "only the simulation calls this agent"))
    }
}

/// How many attempts of `narrow` a node has at once.
pub(super) const NARROW: u32 = 1;

pub(super) fn agents() -> Agents {
    let mut agents = Agents::default();
    for (name, concurrency_max) in [("free", None), ("paid", None), ("narrow", Some(NARROW))] {
        let action = Action {
            name: "do".into(),
            description: "works".into(),
            input: json!({"type": "object"}),
            output: json!(true),
        };
        let card = Card {
            name: name.into(),
            description: "works".into(),
            actions: vec![action],
            concurrency_max,
        };
        agents.register(Arc::new(Simulated(card))).unwrap();
    }
    agents
}

/// A random plan, and the inputs of its run.
pub(super) fn plan(dice: &mut Dice) -> (Plan, Json) {
    let count = dice.range(4, 14);
    let mut steps: Vec<Step> = Vec::new();
    for index in 0..count {
        let needs: Vec<String> = steps
            .iter()
            .rev()
            .take(4)
            .filter(|_| dice.chance(35))
            .map(|step| step.id.to_string())
            .collect();
        steps.push(step(dice, &format!("s{index}"), &needs));
    }
    let plan = Plan {
        workflow: "sim".into(),
        steps,
        max_parallel: u32::try_from(dice.range(1, 5)).unwrap(),
        timeout_ms: dice.chance(15).then(|| dice.below(200_000) + 60_000),
        deadline_ms: dice.chance(5).then(|| dice.below(200_000) + 60_000),
        manual: dice.chance(5),
        ..Plan::default()
    };
    let pad = if dice.chance(30) { 300 } else { 3 };
    (plan, json!({"list": ["x", "y", "z"], "pad": "p".repeat(pad)}))
}

fn step(dice: &mut Dice, id: &str, needs: &[String]) -> Step {
    let needed = dice.pick(needs).cloned();
    let read = |what: &str| needed.as_ref().map(|need| format!("steps.{need}.{what}"));
    let for_each = dice.chance(20).then(|| {
        let list = match read("output.items") {
            Some(of) if dice.chance(70) => format!("{of} if {of} else inputs.list"),
            _ => "inputs.list".into(),
        };
        let max_parallel = dice.chance(50).then_some(1);
        ForEach { list: list.into(), name: "one".into(), max_parallel }
    });
    let when = match read("status") {
        Some(status) if dice.chance(20) => Some(format!("{status} == 'completed'").into()),
        _ => None,
    };
    Step {
        id: id.parse().unwrap(),
        description: None,
        work: work(dice, read("output").as_deref(), for_each.is_some()),
        needs: needs.iter().map(|need| need.parse().unwrap()).collect(),
        when,
        for_each,
        priority: u8::try_from(dice.range(1, 10)).unwrap(),
        timeout_ms: dice.below(20_000) + 4_000,
        retry: Retry {
            attempts_max: u32::try_from(dice.range(1, 5)).unwrap(),
            initial_ms: dice.below(2_000),
            jitter: dice.chance(50),
            ..Retry::default()
        },
        on_failure: if dice.chance(60) { OnFailure::Continue } else { OnFailure::Fail },
        on_unknown: dice
            .chance(20)
            .then(|| *dice.pick(&[OnUnknown::Retry, OnUnknown::Ask, OnUnknown::Fail]).unwrap()),
        output: dice.chance(15).then(|| json!({"type": "object", "required": ["good"]})),
        estimate_ms: None,
    }
}

fn work(dice: &mut Dice, read: Option<&str>, grows: bool) -> Work {
    if !grows && dice.chance(12) {
        let timeout_ms = dice.chance(40).then(|| dice.below(30_000) + 1_000);
        let on_timeout = if dice.chance(50) { OnTimeout::Approve } else { OnTimeout::Reject };
        return Work::Approval { by: Vec::new(), timeout_ms, on_timeout };
    }
    let agent = *dice.pick(&["free", "free", "paid", "narrow"]).unwrap();
    let mut input = json!({"id": "{{ run.id }}", "pad": "{{ inputs.pad }}"});
    if let Some(read) = read {
        input["read"] = json!(format!("{{{{ {read} }}}}"));
    }
    if grows {
        input["one"] = json!("{{ one }}");
    }
    Work::Agent { agent: agent.into(), action: None, input, prompt: None }
}
