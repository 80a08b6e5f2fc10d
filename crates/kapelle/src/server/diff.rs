//! `/runs/{run}/diff/{other}`: what differs between two runs.
//!
//! What a fork took over is compared by what came of it: how it was made is its parent's business.

use std::collections::BTreeMap;

use axum::Json;
use futures_util::StreamExt as _;
use kapelle_api as api;
use kapelle_core::run::{Event, Run, StepView};
use kapelle_core::{Timestamp, Value};
use kapelle_engine::{Seen, SeenEvent};
use serde_json::{Map, json};

use super::body::Path;
use super::events::failure_of;
use super::problem::Problem;
use super::{App, credentials};

/// Plan, inputs, and how each step and the run itself went, as far as they are not the same.
///
/// `GET /runs/{run}/diff/{other}`
pub(super) async fn diff(
    app: App,
    Path((run, other)): Path<(String, String)>,
) -> Result<Json<api::Diff>, Problem> {
    let (mut a, mut b) = (look(&app, &run).await?, look(&app, &other).await?);
    for taken in [a.taken.clone(), b.taken.clone()].concat() {
        a.pass_over(&taken);
        b.pass_over(&taken);
    }
    let mut differences = Vec::new();
    compare(String::new(), &a.facts(), &b.facts(), &mut differences);
    let mut durations = Vec::new();
    for step in a.spans.keys().chain(b.spans.keys().filter(|step| !a.spans.contains_key(*step))) {
        let (a_ms, b_ms) = (a.spans.get(step).copied(), b.spans.get(step).copied());
        durations.push(api::Durations { step: step.clone(), a_ms, b_ms });
    }
    Ok(Json(api::Diff { a: a.side, b: b.side, differences, durations }))
}

/// What is compared of a run.
struct Looked {
    side: api::DiffSide,
    plan: api::Json,
    inputs: api::Json,
    steps: Map<String, api::Json>,
    output: api::Json,
    /// The steps that it took over of another run.
    taken: Vec<String>,
    /// How long each step took.
    spans: BTreeMap<String, u64>,
}

impl Looked {
    /// Forgets how a step was done, and what it has grown.
    fn pass_over(&mut self, taken: &str) {
        let is_part =
            |name: &str| name.strip_prefix(taken).is_some_and(|rest| rest.starts_with('.'));
        self.steps.retain(|name, _| !is_part(name));
        self.spans.retain(|name, _| !is_part(name));
        if let Some(step) = self.steps.get_mut(taken).and_then(api::Json::as_object_mut) {
            step.retain(|fact, _| !["attempts", "input", "usage"].contains(&fact.as_str()));
        }
    }

    fn facts(&self) -> api::Json {
        json!({
            "status": self.side.status, "plan": self.plan, "inputs": self.inputs,
            "steps": self.steps, "output": self.output,
        })
    }
}

async fn look(app: &App, text: &str) -> Result<Looked, Problem> {
    let id = app.find(text).await?;
    let run = app.engine().run(app.tenant(), id).await?;
    let mut told = told(app, &run).await?;
    let (mut steps, mut taken, mut spans) = (Map::new(), Vec::new(), BTreeMap::new());
    for view in run.view() {
        let (step, name) = (view.step, view.step.id.to_string());
        if let (Some(begun), Some(ended)) = (step.started_at, step.ended_at) {
            spans.insert(name.clone(), ms(begun, ended));
        }
        if step.is_taken() {
            taken.push(name.clone());
        }
        let told = told.remove(&name).unwrap_or_default();
        steps.insert(name, facts(app, &run, &view, told).await?);
    }
    let output = match run.ended() {
        Some(ended) => (*app.engine().value(app.tenant(), &run, &ended.output).await?).clone(),
        None => json!(null),
    };
    let inputs = (*app.engine().value(app.tenant(), &run, run.inputs()).await?).clone();
    let inputs = credentials::without(inputs);
    let status = run.status().as_str().to_owned();
    let elapsed_ms = run.ended().map(|ended| ms(run.created_at(), ended.at));
    let (id, workflow) = (id.to_string(), run.workflow().to_owned());
    let side = api::DiffSide { id, workflow, status, elapsed_ms };
    Ok(Looked { side, plan: credentials::without(plan(&run)), inputs, steps, output, taken, spans })
}

async fn facts(
    app: &App,
    run: &Run,
    view: &StepView<'_>,
    told: Told,
) -> Result<api::Json, Problem> {
    let step = view.step;
    let made = step.artifacts.iter();
    let made = made.map(|made| (made.name.to_string(), json!(made.digest)));
    Ok(json!({
        "status": step.status.as_str(),
        "agent": view.agent,
        "attempts": step.attempts(),
        "input": credentials::without(told.input),
        "usage": told.usage,
        "output": *app.engine().value(app.tenant(), run, &step.value).await?,
        "failure": step.failure.as_deref().map(failure_of),
        "artifacts": made.collect::<Map<_, _>>(),
    }))
}

fn ms(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}

/// The plan with its steps by id, so that an added one does not move the others.
fn plan(run: &Run) -> api::Json {
    let mut plan = serde_json::to_value(&run.plan().plan).unwrap_or_default();
    if let Some(steps) = plan.get_mut("steps").and_then(api::Json::as_array_mut) {
        let by_id = std::mem::take(steps).into_iter();
        let by_id = by_id.map(|step| (step["id"].as_str().unwrap_or_default().to_owned(), step));
        plan["steps"] = api::Json::Object(by_id.collect());
    }
    plan
}

/// What only events tell of a step.
#[derive(Default)]
struct Told {
    /// That of its last attempt; of a long one only the digest is kept.
    input: api::Json,
    usage: api::Json,
}

impl Told {
    fn note(&mut self, seen: &SeenEvent) {
        match &seen.event {
            Event::StepStarted { input: Value::Inline(json), .. } => self.input = (**json).clone(),
            Event::StepStarted { input, .. } => self.input = json!(input.digest()),
            Event::StepCompleted { usage: Some(usage), .. } => self.usage = json!(usage),
            _ => {}
        }
    }
}

async fn told(app: &App, run: &Run) -> Result<BTreeMap<String, Told>, Problem> {
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    let mut seen = app.engine().watch(app.tenant(), run.id(), 0);
    while let Some(seen) = seen.next().await {
        let Seen::Event(seen) = seen? else { continue };
        if let Some(step) = seen.step() {
            told.entry(step.to_owned()).or_default().note(&seen);
        }
        if seen.seq >= run.seq() {
            break;
        }
    }
    Ok(told)
}

/// Adds what differs between `a` and `b`, each at the deepest place where it does.
fn compare(path: String, a: &api::Json, b: &api::Json, found: &mut Vec<api::Difference>) {
    if a == b {
        return;
    }
    let (Some(one), Some(other)) = (a.as_object(), b.as_object()) else {
        found.push(api::Difference { path, a: a.clone(), b: b.clone() });
        return;
    };
    let more = other.keys().filter(|key| !one.contains_key(*key));
    for key in one.keys().chain(more) {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let value = |side: &Map<_, _>| side.get(key).cloned().unwrap_or_default();
        compare(below, &value(one), &value(other), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_where_it_does() {
        let a = json!({"x": {"y": 1, "gone": [1]}, "same": {"z": null}});
        let b = json!({"x": {"y": 2, "new": true}, "same": {}});
        let mut found = Vec::new();
        compare(String::new(), &a, &b, &mut found);
        let mut told: Vec<_> =
            found.iter().map(|one| format!("{} {} {}", one.path, one.a, one.b)).collect();
        told.sort();
        assert_eq!(told, ["x.gone [1] null", "x.new null true", "x.y 1 2"]);
    }
}
