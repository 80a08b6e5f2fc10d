//! Plans by chance: every construct that there is, in every mixture.

use kapelle_core::Json;
use kapelle_core::plan::{ForEach, OnFailure, OnTimeout, Plan, Step, Work};
use kapelle_core::port::agent::{FailureKind, OnUnknown};
use serde_json::json;

use super::dice::Dice;

pub(super) const AGENTS: [&str; 3] = ["echo", "web", "careful"];

pub(super) fn roll(dice: &mut Dice) -> (Plan, Json) {
    let mut plan =
        Plan { workflow: "chance".into(), max_parallel: dice.of(1..6), ..Plan::default() };
    plan.manual = dice.one_in(8);
    plan.timeout_ms = dice.one_in(6).then(|| u64::from(dice.of(60_000..600_000)));
    plan.deadline_ms = dice.one_in(12).then(|| u64::from(dice.of(60_000..900_000)));
    for index in 0..dice.of(5..13) {
        let step = step(dice, index, &plan.steps);
        plan.steps.push(step);
    }
    let items: Vec<Json> = (0..dice.of(0..6)).map(Json::from).collect();
    (plan, json!({"items": items, "flag": dice.one_in(2)}))
}

fn step(dice: &mut Dice, index: u32, before: &[Step]) -> Step {
    let mut step: Step = serde_json::from_value(json!({
        "id": format!("s{index}"), "work": {"agent": {"agent": *dice.pick(&AGENTS)}},
    }))
    .unwrap();
    for earlier in before {
        if dice.one_in(4) {
            step.needs.push(earlier.id.clone());
        }
    }
    if dice.one_in(10) {
        step.work = Work::Approval {
            by: Vec::new(),
            timeout_ms: dice.one_in(2).then_some(30_000),
            on_timeout: *dice.pick(&[OnTimeout::Reject, OnTimeout::Approve]),
        };
    }
    if dice.one_in(4) {
        let max_parallel = dice.one_in(2).then(|| dice.of(1..4));
        step.for_each =
            Some(ForEach { list: "inputs.items".into(), name: "k".into(), max_parallel });
    }
    add_expressions(dice, &mut step);
    add_policies(dice, &mut step);
    step
}

fn add_expressions(dice: &mut Dice, step: &mut Step) {
    let needs = step.needs.iter();
    let outputs = needs.map(|id| format!("{{{{ steps.{id}.output }}}}")).collect::<Vec<_>>();
    let item = if step.for_each.is_some() { "{{ k }}" } else { "none" };
    if let Work::Agent { input, .. } = &mut step.work {
        *input = json!({"needs": outputs, "item": item});
    }
    step.when = match dice.of(0..10) {
        0 => Some("false".into()),
        1 => Some("inputs.flag".into()),
        2 if step.for_each.is_some() => Some("k != 1".into()),
        3 if !step.needs.is_empty() => {
            Some(format!("steps.{}.status != \"failed\"", step.needs[0]).into())
        }
        _ => None,
    };
}

fn add_policies(dice: &mut Dice, step: &mut Step) {
    step.priority = u8::try_from(dice.of(1..11)).unwrap();
    step.timeout_ms = u64::from(dice.of(1_000..60_000));
    step.retry.attempts_max = dice.of(1..6);
    step.retry.initial_ms = u64::from(dice.of(0..5_000));
    step.retry.jitter = dice.one_in(2);
    step.retry.on = vec![FailureKind::Timeout, FailureKind::Unavailable, FailureKind::Crashed];
    if dice.one_in(3) {
        step.on_failure = OnFailure::Continue;
    }
    if dice.one_in(3) {
        step.on_unknown = Some(*dice.pick(&[OnUnknown::Retry, OnUnknown::Ask, OnUnknown::Fail]));
    }
    if dice.one_in(6) {
        step.output = Some(json!({"type": "integer"}));
    }
}
