//! Where the values come from that expressions read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Run;
use super::step::{Status, Step};
use crate::expr::{Scope, StepView, Uses};
use crate::{Digest, Json, StepNo, Value};

/// Values by digest, as far as they are at hand.
pub trait Values {
    /// The value with this digest, if it is at hand.
    fn get(&self, digest: &Digest) -> Option<Arc<Json>>;
}

/// Values that are not at hand: load them, then ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub BTreeSet<Digest>);

/// What stands in the way of evaluating.
#[derive(Debug)]
pub(super) enum Obstacle {
    Missing(Missing),
    /// The values an expression reads are over [`crate::expr::OUTPUT_MAX`] bytes.
    TooLarge,
}

struct Loader<'a> {
    run: &'a Run,
    values: &'a dyn Values,
    missing: BTreeSet<Digest>,
    bytes: u64,
}

impl Loader<'_> {
    fn load(&mut self, value: &Value) -> Arc<Json> {
        match value {
            Value::Inline(json) => json.clone(),
            Value::Digest { digest, len } => {
                self.bytes = self.bytes.saturating_add(*len);
                self.values.get(digest).unwrap_or_else(|| {
                    self.missing.insert(*digest);
                    Arc::default()
                })
            }
            Value::List { first, count } => {
                let items = first.0..first.0.saturating_add(*count);
                let items = items.map(|no| self.load_step(StepNo(no)));
                Arc::new(Json::Array(items.collect()))
            }
            Value::Picked(steps) => {
                let items = steps.iter().map(|no| self.load_step(*no));
                Arc::new(Json::Array(items.collect()))
            }
            Value::Sinks => {
                let sinks = self.run.sinks();
                let outputs = sinks.map(|(no, step)| (step.id.to_string(), self.load_step(no)));
                Arc::new(Json::Object(outputs.collect()))
            }
        }
    }

    fn load_step(&mut self, no: StepNo) -> Json {
        let value = self.run.step(no).map(|step| step.value.clone());
        value.map_or(Json::Null, |value| (*self.load(&value)).clone())
    }

    fn finish<T>(self, loaded: T) -> Result<T, Obstacle> {
        if self.bytes > crate::expr::OUTPUT_MAX as u64 {
            Err(Obstacle::TooLarge)
        } else if self.missing.is_empty() {
            Ok(loaded)
        } else {
            Err(Obstacle::Missing(Missing(self.missing)))
        }
    }
}

impl Run {
    /// A value as JSON, as far as `values` are at hand.
    pub fn json(&self, value: &Value, values: &dyn Values) -> Result<Arc<Json>, Missing> {
        let mut loader = self.loader(values);
        let json = loader.load(value);
        if loader.missing.is_empty() { Ok(json) } else { Err(Missing(loader.missing)) }
    }

    /// What an agent was when the run began, if that is kept.
    pub(super) fn definition(
        &self,
        agent: &str,
        values: &dyn Values,
    ) -> Result<Option<Arc<Json>>, Obstacle> {
        let Some(value) = self.agents.get(agent) else { return Ok(None) };
        let mut loader = self.loader(values);
        let definition = loader.load(value);
        loader.finish(Some(definition))
    }

    fn loader<'a>(&'a self, values: &'a dyn Values) -> Loader<'a> {
        Loader { run: self, values, missing: BTreeSet::new(), bytes: 0 }
    }

    /// How long the payloads are that a value is made of, in bytes.
    pub(super) fn bytes(&self, value: &Value) -> u64 {
        let of = |no| self.step(no).map_or(0, |step| self.bytes(&step.value));
        match value {
            Value::Inline(_) => 0,
            Value::Digest { len, .. } => *len,
            Value::List { first, count } => {
                (first.0..first.0.saturating_add(*count)).map(|no| of(StepNo(no))).sum()
            }
            Value::Picked(steps) => steps.iter().map(|no| of(*no)).sum(),
            Value::Sinks => self.plan.sinks.iter().map(|no| of(*no)).sum(),
        }
    }

    /// The steps of the plan that no other one needs.
    pub(super) fn sinks(&self) -> impl Iterator<Item = (StepNo, &Step)> {
        self.plan.sinks.iter().map(|no| (*no, &self.steps[no.index()]))
    }

    /// What the expressions of `no` (or of the run's output) see.
    pub(super) fn scope(
        &self,
        no: Option<StepNo>,
        uses: &[&Uses],
        values: &dyn Values,
    ) -> Result<Scope, Obstacle> {
        let mut loader = self.loader(values);
        let reads_inputs = uses.iter().any(|uses| uses.inputs_whole || !uses.inputs.is_empty());
        let inputs = if reads_inputs { loader.load(&self.inputs) } else { Arc::default() };
        let (steps, run, programs) = (BTreeMap::new(), Arc::default(), self.plan.programs.clone());
        let mut scope = Scope { inputs, steps, item: None, run, programs };
        for name in uses.iter().flat_map(|uses| &uses.steps) {
            if let Some(found) = self.plan.find(name) {
                let read = uses.iter().any(|uses| uses.outputs.contains(name));
                let view = self.seen(found, read, &mut loader);
                scope.steps.insert(self.steps[found.index()].id.clone(), view);
            }
        }
        if uses.iter().any(|uses| uses.run) {
            let reads_steps = uses.iter().any(|uses| uses.run_steps);
            scope.run = Arc::new(self.variables(reads_steps));
        }
        if let Some((by, index)) = no.and_then(|no| self.steps[no.index()].part_of) {
            scope.item = self.item(by, index, uses, &mut loader);
        }
        loader.finish(scope)
    }

    fn seen(&self, no: StepNo, read: bool, loader: &mut Loader<'_>) -> StepView {
        let step = &self.steps[no.index()];
        let output = if read && step.status == Status::Completed {
            loader.load(&step.value)
        } else {
            Arc::default()
        };
        let error = step.failure.as_ref().filter(|_| step.status == Status::Failed);
        let error = error.map(|failure| {
            Arc::new(serde_json::json!({
                "kind": failure.kind.as_str(), "code": failure.code, "message": failure.message,
            }))
        });
        StepView { output, status: step.status.as_str(), error }
    }

    fn item(
        &self,
        by: StepNo,
        index: u32,
        uses: &[&Uses],
        loader: &mut Loader<'_>,
    ) -> Option<(Box<str>, Arc<Json>, u32)> {
        let each = self.spec(by).for_each.as_ref()?;
        let group = self.steps[by.index()].group.as_deref()?;
        let Some(list) = &group.list else {
            // What an item's step has grown is about that item.
            let (by, index) = self.steps[by.index()].part_of?;
            return self.item(by, index, uses, loader);
        };
        let read = uses.iter().any(|uses| reads_item(uses, &each.name));
        let item = if read {
            loader.load(list).get(index as usize).cloned().unwrap_or_default()
        } else {
            Json::Null
        };
        Some((each.name.clone(), Arc::new(item), index))
    }
}

/// Whether an expression reads the item of a list, by either of its names.
pub(super) fn reads_item(uses: &Uses, name: &str) -> bool {
    uses.item || uses.names.contains(name)
}
