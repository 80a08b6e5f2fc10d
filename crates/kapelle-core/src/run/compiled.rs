//! A plan made ready to run: who needs whom, by number, and what each expression reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ready::Lane;
use super::step::Step;
use crate::expr::{ExprError, Programs, Uses};
use crate::plan::analysis::ASSUMED_MS;
use crate::plan::{Graph, Plan, Work};
use crate::{StepId, StepNo};

/// A plan that has been checked, with its indexes. Shared by all runs of the plan.
pub struct Compiled {
    /// The plan.
    pub plan: Plan,
    by_id: BTreeMap<StepId, StepNo>,
    agents: Vec<Box<str>>,
    steps: Vec<CompiledStep>,
    pub(super) programs: Arc<Programs>,
    pub(super) output_uses: Uses,
    /// The steps that nothing needs.
    pub(super) sinks: Vec<StepNo>,
}

struct CompiledStep {
    needs: u32,
    dependents: Vec<StepNo>,
    /// The longest path from its begin to the end of the plan, in milliseconds.
    remaining_ms: u64,
    lane: Lane,
    uses: StepUses,
    output: Option<jsonschema::Validator>,
}

/// What the expressions of a step read.
#[derive(Debug, Default)]
pub(super) struct StepUses {
    pub(super) when: Uses,
    pub(super) list: Uses,
    pub(super) input: Uses,
    pub(super) prompt: Uses,
}

/// A plan that cannot run. Plans are checked before; this is a plan that got past that.
#[derive(Clone, Debug, thiserror::Error)]
#[error("step `{step}`: {message}")]
pub struct BadPlan {
    step: Box<str>,
    message: Box<str>,
}

impl Compiled {
    /// Makes `plan` ready to run.
    pub fn new(plan: Plan) -> Result<Self, BadPlan> {
        let bad =
            |step: &str, message: String| BadPlan { step: step.into(), message: message.into() };
        let mut by_id = BTreeMap::new();
        for (index, step) in plan.steps.iter().enumerate() {
            if by_id.insert(step.id.clone(), StepNo::from_index(index)).is_some() {
                return Err(bad(step.id.as_str(), "is there twice".into()));
            }
        }
        let mut agents: Vec<Box<str>> = Vec::new();
        for step in &plan.steps {
            if let Some(need) = step.needs.iter().find(|need| !by_id.contains_key(*need)) {
                let message = format!("needs `{need}`, which does not exist");
                return Err(bad(step.id.as_str(), message));
            }
        }
        let graph = Graph::of(&plan);
        let estimates: Vec<u64> =
            plan.steps.iter().map(|step| step.estimate_ms.unwrap_or(ASSUMED_MS)).collect();
        let order = graph.order();
        if order.len() < plan.steps.len() {
            return Err(bad(&plan.workflow, "some steps need each other in a circle".into()));
        }
        let remaining = graph.remaining_ms(&estimates);
        let edges = graph.needs.into_iter().zip(graph.dependents).zip(remaining);
        let mut programs = Programs::default();
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (step, ((needs, dependents), remaining_ms)) in plan.steps.iter().zip(edges) {
            let uses = uses_of(step, &mut programs);
            let uses = uses.map_err(|error| bad(step.id.as_str(), error.to_string()))?;
            let output = step.output.as_ref().map(jsonschema::validator_for).transpose();
            steps.push(CompiledStep {
                needs: u32::try_from(needs.len()).expect("needs are few"),
                dependents: dependents.into_iter().map(StepNo).collect(),
                remaining_ms,
                lane: lane_of(&step.work, &mut agents),
                uses,
                output: output.map_err(|error| bad(step.id.as_str(), error.to_string()))?,
            });
        }
        let sinks = (0..steps.len()).filter(|i| steps[*i].dependents.is_empty());
        let sinks = sinks.map(StepNo::from_index).collect();
        let output_uses = match &plan.output {
            Some(template) => programs
                .uses_of_template(template)
                .map_err(|error| bad("output", error.to_string()))?,
            None => Uses::default(),
        };
        let programs = Arc::new(programs);
        Ok(Self { plan, by_id, agents, steps, programs, output_uses, sinks })
    }

    /// How many steps are written in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it has no steps.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The name of an agent by its lane's number.
    #[must_use]
    pub fn agent(&self, number: u32) -> &str {
        &self.agents[number as usize]
    }

    /// The names of all agents that its steps name.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        self.agents.iter().map(AsRef::as_ref)
    }

    pub(super) fn find(&self, id: &str) -> Option<StepNo> {
        self.by_id.get(id).copied()
    }

    pub(super) fn fresh_steps(&self) -> Vec<Step> {
        let specs = self.plan.steps.iter().zip(&self.steps).zip(0..);
        specs.map(|((spec, step), no)| Step::fresh(spec.id.clone(), no, step.needs)).collect()
    }

    /// The steps that need nothing.
    pub(super) fn sources(&self) -> impl Iterator<Item = StepNo> {
        let indexes = (0..self.steps.len()).filter(|i| self.steps[*i].needs == 0);
        indexes.map(StepNo::from_index)
    }

    pub(super) fn dependents(&self, spec: u32) -> &[StepNo] {
        &self.steps[spec as usize].dependents
    }

    pub(super) fn remaining_ms(&self, spec: u32) -> u64 {
        self.steps[spec as usize].remaining_ms
    }

    pub(super) fn lane(&self, spec: u32) -> Lane {
        self.steps[spec as usize].lane
    }

    pub(super) fn uses(&self, spec: u32) -> &StepUses {
        &self.steps[spec as usize].uses
    }

    pub(super) fn output_schema(&self, spec: u32) -> Option<&jsonschema::Validator> {
        self.steps[spec as usize].output.as_ref()
    }
}

impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.plan == other.plan
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compiled(`{}`, {} steps)", self.plan.workflow, self.len())
    }
}

fn lane_of(work: &Work, agents: &mut Vec<Box<str>>) -> Lane {
    let Work::Agent { agent, .. } = work else {
        return Lane::Free;
    };
    let known = agents.iter().position(|known| known == agent);
    let number = known.unwrap_or_else(|| {
        agents.push(agent.clone());
        agents.len() - 1
    });
    Lane::Agent(u32::try_from(number).expect("agents are few"))
}

fn uses_of(step: &crate::plan::Step, programs: &mut Programs) -> Result<StepUses, ExprError> {
    let mut uses = StepUses::default();
    if let Some(when) = &step.when {
        uses.when = programs.uses_of_expression(when)?;
    }
    if let Some(for_each) = &step.for_each {
        uses.list = programs.uses_of_expression(&for_each.list)?;
    }
    if let Work::Agent { input, prompt, .. } = &step.work {
        uses.input = programs.uses_of_template(input)?;
        if let Some(prompt) = prompt {
            uses.prompt = programs.uses_of_text(prompt)?;
        }
    }
    Ok(uses)
}
