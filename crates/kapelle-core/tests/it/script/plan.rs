//! The plan of a scenario, a line a step.
//!
//! `step ID [by AGENT] [needs=a,b] [when=`…`] [each=`…`] …`, `ask ID …`, `run …`, `inputs JSON`.
//! An attribute is `name=word` or `name=`text with spaces``.

use std::time::Duration;

use kapelle_core::plan::{Budget, ForEach, OnExceeded, Plan, Retry, Step, Work};
use kapelle_core::{Json, parse_duration};

#[derive(Default)]
pub(super) struct Setup {
    plan: Plan,
    inputs: Option<Json>,
}

impl Setup {
    pub(super) fn finish(mut self) -> (Plan, Json) {
        self.plan.workflow = "scenario".into();
        if self.plan.max_parallel == 0 {
            self.plan.max_parallel = 10;
        }
        (self.plan, self.inputs.unwrap_or_else(|| serde_json::json!({})))
    }

    pub(super) fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "inputs" => self.inputs = Some(serde_json::from_str(rest).unwrap()),
            "run" => attributes(rest).for_each(|(name, value)| self.of_run(&name, &value)),
            "step" | "ask" => {
                let (id, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let mut step = fresh(id, word == "ask");
                attributes(rest).for_each(|(name, value)| of_step(&mut step, &name, &value));
                self.plan.steps.push(step);
            }
            _ => panic!("`{line}` says nothing of a plan"),
        }
    }

    fn of_run(&mut self, name: &str, value: &str) {
        match name {
            "max-parallel" => self.plan.max_parallel = value.parse().unwrap(),
            "timeout" => self.plan.timeout_ms = Some(ms(value)),
            "deadline" => self.plan.deadline_ms = Some(ms(value)),
            "manual" => self.plan.manual = value == "yes",
            "budget" => self.plan.budget = Some(budget(value)),
            "output" => self.plan.output = Some(serde_json::from_str(value).unwrap()),
            _ => panic!("a run has no `{name}`"),
        }
    }
}

fn fresh(id: &str, is_approval: bool) -> Step {
    let work = if is_approval {
        serde_json::json!({"approval": {}})
    } else {
        serde_json::json!({"agent": {"agent": "echo"}})
    };
    let mut step: Step =
        serde_json::from_value(serde_json::json!({"id": id, "work": work})).unwrap();
    // Scripts say exact times; the one about jitter asks for it.
    step.retry.jitter = false;
    step
}

fn of_step(step: &mut Step, name: &str, value: &str) {
    match (name, &mut step.work) {
        ("by", Work::Agent { agent, .. }) => *agent = value.into(),
        ("action", Work::Agent { action, .. }) => *action = Some(value.into()),
        ("input", Work::Agent { input, .. }) => *input = serde_json::from_str(value).unwrap(),
        ("prompt", Work::Agent { prompt, .. }) => *prompt = Some(value.into()),
        ("by", Work::Approval { by, .. }) => *by = value.split(',').map(Into::into).collect(),
        ("timeout", Work::Approval { timeout_ms, .. }) => *timeout_ms = Some(ms(value)),
        ("on-timeout", Work::Approval { on_timeout, .. }) => *on_timeout = word(value),
        ("needs", _) => step.needs = value.split(',').map(|id| id.parse().unwrap()).collect(),
        ("when", _) => step.when = Some(value.into()),
        ("each", _) => {
            step.for_each =
                Some(ForEach { list: value.into(), name: "item".into(), max_parallel: None });
        }
        ("as", _) => step.for_each.as_mut().unwrap().name = value.into(),
        ("width", _) => step.for_each.as_mut().unwrap().max_parallel = value.parse().ok(),
        ("priority", _) => step.priority = value.parse().unwrap(),
        ("timeout", _) => step.timeout_ms = ms(value),
        ("on-failure", _) => step.on_failure = word(value),
        ("on-unknown", _) => step.on_unknown = Some(word(value)),
        ("output", _) => step.output = Some(serde_json::from_str(value).unwrap()),
        ("budget", _) => step.budget = Some(budget(value)),
        ("estimate", _) => step.estimate_ms = Some(ms(value)),
        (other, _) => of_retry(&mut step.retry, other, value),
    }
}

fn of_retry(retry: &mut Retry, name: &str, value: &str) {
    match name {
        "attempts" => retry.attempts_max = value.parse().unwrap(),
        "wait" => retry.initial_ms = ms(value),
        "factor" => retry.factor = value.parse().unwrap(),
        "wait-max" => retry.wait_max_ms = ms(value),
        "jitter" => retry.jitter = value == "yes",
        "lost" => retry.lost_max = value.parse().unwrap(),
        "retry-on" => retry.on = value.split(',').map(word).collect(),
        other => panic!("a step has no `{other}`"),
    }
}

/// `TOKENS`, `NANOSn$` and `TIME` after `/`, and `,fail`.
fn budget(text: &str) -> Budget {
    let (limits, on_exceeded) = match text.strip_suffix(",fail") {
        Some(limits) => (limits, OnExceeded::Fail),
        None => (text, OnExceeded::Pause),
    };
    let mut budget = Budget { on_exceeded, ..Budget::default() };
    for limit in limits.split('/') {
        match limit.strip_suffix("n$") {
            Some(nanos) => budget.nanos = Some(nanos.parse().unwrap()),
            None if limit.ends_with('s') => budget.time_ms = Some(ms(limit)),
            None => budget.tokens = Some(limit.parse().unwrap()),
        }
    }
    budget
}

fn word<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(Json::String(text.into())).unwrap()
}

fn ms(text: &str) -> u64 {
    parse_duration(text).unwrap_or(Duration::ZERO).as_millis().try_into().unwrap()
}

fn attributes(mut text: &str) -> impl Iterator<Item = (String, String)> {
    std::iter::from_fn(move || {
        text = text.trim_start();
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('`') {
            Some(quoted) => quoted.split_once('`').expect("a text ends with `"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        text = rest;
        Some((name.to_owned(), value.to_owned()))
    })
}
