//! Plans of all kinds, and the agents that they name.
//!
//! A block of seeds shares a stock of plans, made ready once: making plans ready is not what the
//! simulation is about, and would take most of its time.

use std::sync::Arc;

use async_trait::async_trait;
use kapelle_core::plan::{ForEach, OnFailure, OnTimeout, Plan, Retry, Step, Work};
use kapelle_core::port::Agents;
use kapelle_core::port::agent::{
    Action, Agent, Answer, Call, Card, Desk, Failure, FailureKind, OnUnknown,
};
use kapelle_core::run::Compiled;
use kapelle_core::{INLINE_MAX, Json, Payload, Value};
use serde_json::json;

use super::dice::Dice;

/// So many seeds share a stock.
pub(super) const BLOCK: u64 = 1_000;
/// So many plans are in it.
const PLANS: u64 = 100;

/// The plans and agents of a block of seeds.
pub(super) struct Stock {
    pub(super) agents: Agents,
    plans: Vec<Arc<Planned>>,
}

/// A plan made ready, and the inputs of its runs, as somebody would submit them.
pub(super) struct Planned {
    pub(super) workflow: Box<str>,
    pub(super) compiled: Arc<Compiled>,
    pub(super) plan: Value,
    pub(super) inputs: Value,
    pub(super) payloads: Vec<Payload>,
}

impl Stock {
    pub(super) fn of_block(block: u64) -> Self {
        let plans = (0..PLANS).map(|place| {
            let mut dice = Dice::new(block * PLANS + place);
            Arc::new(planned(&mut dice, place))
        });
        Self { agents: agents(), plans: plans.collect() }
    }

    /// The stock of the block that `seed` is in.
    pub(super) fn of_seed(seed: u64) -> Self {
        Self::of_block(seed / BLOCK)
    }

    pub(super) fn pick(&self, dice: &mut Dice) -> Arc<Planned> {
        dice.pick(&self.plans).expect("there are some").clone()
    }

    /// A plan of few steps, as plans go.
    pub(super) fn pick_small(&self, dice: &mut Dice) -> Arc<Planned> {
        let picked = std::iter::repeat_with(|| self.pick(dice)).take(4);
        picked.min_by_key(|plan| plan.compiled.len()).expect("there are some")
    }

    /// The plan of a workflow.
    pub(super) fn find(&self, workflow: &str) -> Option<&Arc<Planned>> {
        self.plans.get(workflow.strip_prefix("sim-")?.parse::<usize>().ok()?)
    }
}

fn planned(dice: &mut Dice, place: u64) -> Planned {
    let workflow: Box<str> = format!("sim-{place}").into();
    let (mut plan, inputs) = plan(dice);
    plan.workflow = workflow.clone();
    let (inputs, inputs_payload) = Value::of(inputs, INLINE_MAX);
    let (value, payload) = Value::of(serde_json::to_value(&plan).unwrap(), INLINE_MAX);
    let compiled = Arc::new(Compiled::new(plan).unwrap());
    let payloads = payload.into_iter().chain(inputs_payload).collect();
    Planned { workflow, compiled, plan: value, inputs, payloads }
}

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

fn agents() -> Agents {
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
fn plan(dice: &mut Dice) -> (Plan, Json) {
    let count = dice.range(4, 12);
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
        budget: None,
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
    let mut input = json!({"do": "it"});
    if dice.chance(5) {
        input["id"] = json!("{{ run.id }}");
    }
    if dice.chance(15) {
        input["pad"] = json!("{{ inputs.pad }}");
    }
    if let Some(read) = read.filter(|_| dice.chance(40)) {
        input["read"] = json!(format!("{{{{ {read} }}}}"));
    }
    if grows {
        input["one"] = json!("{{ one }}");
    }
    Work::Agent { agent: agent.into(), action: None, input, prompt: None }
}
