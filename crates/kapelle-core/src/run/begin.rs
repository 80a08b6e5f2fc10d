//! Beginning a step and ending the run: the only places where expressions are evaluated.
//!
//! What an expression gave is recorded in the event, so that `apply` evaluates nothing.

use std::sync::Arc;
use std::time::Duration;

use super::event::{Blocked, Event, Join, Parts, Skipped, Verdict};
use super::group::PARTS_MAX as ITEMS_MAX;
use super::step::Status;
use super::values::{Missing, Obstacle, Values, reads_item};
use super::{Lane, Run};
use crate::expr::{self, Uses};
use crate::plan::{OnFailure, Work};
use crate::port::agent::{Agents, Failure, FailureKind};
use crate::{Attempt, INLINE_MAX, Json, Payload, StepNo, Timestamp, Value, canonical};

/// What beginning a step needs of the world.
pub struct World<'a> {
    /// The time.
    pub now: Timestamp,
    /// The values at hand.
    pub values: &'a dyn Values,
    /// The agents at hand.
    pub agents: &'a Agents,
}

/// What beginning a step, or ending a run, comes to.
#[derive(Debug, Default)]
pub struct Begun {
    /// What happens.
    pub events: Vec<Event>,
    /// The values that must be kept with it.
    pub payloads: Vec<Payload>,
    /// What the agent is to be called with, if an attempt started.
    pub call: Option<Prepared>,
}

/// What an agent is to be called with.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its verb.
    pub action: Box<str>,
    /// Rendered and checked.
    pub input: Json,
    /// Rendered.
    pub prompt: Option<Box<str>>,
    /// What the agent was when the run began.
    pub definition: Option<Arc<Json>>,
}

/// How many steps may be set aside before a run begins nothing more.
const ASIDE_MAX: usize = 256;

impl Run {
    /// The step to begin next among the lanes that `open` lets through, those of `aside` left out.
    /// `None` if there is none, if the run does not begin anything now, or if so many are set aside
    /// that looking past them would cost more than waiting for them.
    pub fn next(
        &self,
        open: impl Fn(Lane) -> bool,
        aside: &std::collections::BTreeSet<StepNo>,
    ) -> Option<StepNo> {
        let idle = self.paused.is_some() || self.stopping.is_some() || self.ended.is_some();
        let full = self.running.len() >= self.plan.plan.max_parallel as usize;
        if idle || self.ready.len() == 0 || aside.len() >= ASIDE_MAX {
            return None;
        }
        self.ready.best(|lane| (lane == Lane::Free || !full) && open(lane), aside)
    }

    /// Whether all steps have ended and only the run's own end is left to do.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.open == 0 && self.ended.is_none() && self.stopping.is_none()
    }

    /// Lets the steps whose wait is over begin. The run's clock counts from the end of the wait, not
    /// from this call, so that it shows the same after a replay.
    pub fn wake(&mut self, now: Timestamp) {
        while let Some(&(at, no)) = self.retries.first().filter(|(at, _)| *at <= now) {
            self.make_ready(no);
            self.keep_time(at);
        }
    }

    /// Begins a step that [`Self::next`] gave: starts an attempt, or skips, grows, asks or fails it.
    pub fn begin(&self, no: StepNo, world: &World<'_>) -> Result<Begun, Missing> {
        let mut begun = match self.try_begin(no, world) {
            Ok(begun) => begun,
            Err(Obstacle::Missing(missing)) => return Err(missing),
            Err(Obstacle::TooLarge) => failed(no, too_large()),
        };
        if !self.started {
            begun.events.insert(0, Event::RunStarted);
        }
        Ok(begun)
    }

    fn try_begin(&self, no: StepNo, world: &World<'_>) -> Result<Begun, Obstacle> {
        let (step, spec) = (&self.steps[no.index()], self.spec(no));
        let uses = self.plan.uses(step.spec);
        let is_part = step.part_of.is_some();
        let each = spec.for_each.as_ref().filter(|_| !is_part);
        let later = |name: &str| reads_item(&uses.when, name);
        if let Some(when) = &spec.when
            && step.attempt.is_none()
            && !each.is_some_and(|each| later(&each.name))
            && (!is_part || spec.for_each.as_ref().is_none_or(|each| later(&each.name)))
        {
            let scope = self.scope(Some(no), &[&uses.when], world.values)?;
            match expr::condition(when, &scope) {
                Ok(true) => {}
                Ok(false) => {
                    return Ok(one(Event::StepSkipped { step: no, why: Skipped::Condition }));
                }
                Err(error) => return Ok(failed(no, invalid("when", &error))),
            }
        }
        if self.plan.plan.manual && !step.released && matches!(spec.work, Work::Agent { .. }) {
            return Ok(one(Event::ApprovalRequested { step: no, until: None, gate: true }));
        }
        if let Some(each) = each {
            return self.spread(no, &each.list, &uses.list, world);
        }
        match &spec.work {
            Work::Approval { timeout_ms, .. } => {
                let until = timeout_ms.map(|ms| world.now.after(Duration::from_millis(ms)));
                Ok(one(Event::ApprovalRequested { step: no, until, gate: false }))
            }
            Work::Agent { agent, action, input, prompt } => {
                let wanted =
                    Wanted { agent, action: action.as_deref(), input, prompt: prompt.as_deref() };
                self.start(no, &wanted, world)
            }
        }
    }

    /// Grows one part for each item of a list.
    fn spread(
        &self,
        no: StepNo,
        list: &str,
        uses: &Uses,
        world: &World<'_>,
    ) -> Result<Begun, Obstacle> {
        let scope = self.scope(Some(no), &[uses], world.values)?;
        let items = match expr::list(list, &scope) {
            Ok(items) if items.len() <= self.growth() => items,
            Ok(items) => {
                let (items, grown) = (items.len(), ITEMS_MAX - self.growth());
                let all = if grown == 0 {
                    String::new()
                } else {
                    format!(" and {grown} steps grew before")
                };
                let message =
                    format!("`forEach` gives {items} items{all}, {ITEMS_MAX} are allowed in a run");
                return Ok(failed(
                    no,
                    Failure::new(FailureKind::Invalid, "too_many_items", message),
                ));
            }
            Err(error) => return Ok(failed(no, invalid("forEach", &error))),
        };
        if items.is_empty() {
            let none = Value::Inline(Arc::new(Json::Array(Vec::new())));
            return Ok(one(self.completed_by_itself(no, none)));
        }
        let parts = Parts::Count(u32::try_from(items.len()).expect("items are bounded"));
        let (list, payload) = Value::of(Json::Array(items), INLINE_MAX);
        let grown = Event::StepsGrown { by: no, parts, join: Join::All, list: Some(list) };
        Ok(Begun { events: vec![grown], payloads: payload.into_iter().collect(), call: None })
    }

    /// How many steps may still grow in the run.
    pub(super) fn growth(&self) -> usize {
        ITEMS_MAX.saturating_sub(self.steps.len() - self.plan.len())
    }

    fn start(&self, no: StepNo, wanted: &Wanted<'_>, world: &World<'_>) -> Result<Begun, Obstacle> {
        let (step, spec) = (&self.steps[no.index()], self.spec(no));
        let definition = self.definition(wanted.agent, world.values)?;
        let Some(agent) = world.agents.performer(wanted.agent, definition.as_deref()) else {
            let why = Blocked::NoAgent { agent: wanted.agent.into(), lacks: "".into() };
            return Ok(one(Event::StepBlocked { step: no, attempt: step.attempt, why }));
        };
        let uses = self.plan.uses(step.spec);
        let scope = self.scope(Some(no), &[&uses.input, &uses.prompt], world.values)?;
        let call = match prepare(wanted, agent, &scope) {
            Ok(call) => Prepared { definition, ..call },
            Err(failure) => return Ok(failed(no, failure)),
        };
        let text = canonical(&call.input);
        let input = if text.len() <= INLINE_MAX {
            Value::Inline(Arc::new(call.input.clone()))
        } else {
            let digest = crate::Digest::of(text.as_bytes());
            Value::Digest { digest, len: text.len() as u64 }
        };
        let other_input = step.input.as_ref().is_some_and(|before| *before != input);
        let binds = |effect: &super::Effect| effect.state != super::EffectState::Forgotten;
        let bound = step.effects.as_deref().is_some_and(|all| all.values().any(binds));
        if other_input && bound {
            let message = "the input is not what recorded effects were made with";
            return Ok(failed(no, Failure::new(FailureKind::Diverged, "input_changed", message)));
        }
        let on_unknown =
            spec.on_unknown.unwrap_or_else(|| agent.agent.on_unknown(&call.action, &call.input));
        let timeout = Duration::from_millis(spec.timeout_ms);
        let timeout = self.time_left(no, None).map_or(timeout, |left| left.min(timeout));
        let started = Event::StepStarted {
            step: no,
            attempt: step.attempt.map_or(Attempt(1), Attempt::next),
            generation: step.generation + u32::from(other_input),
            agent: wanted.agent.into(),
            input,
            deadline: world.now.after(timeout),
            on_unknown,
        };
        Ok(Begun { events: vec![started], payloads: Vec::new(), call: Some(call) })
    }

    /// Ends a run of which [`Self::is_ending`] holds: evaluates its output.
    pub fn end(&self, world: &World<'_>) -> Result<Begun, Missing> {
        let verdict = if self.failed {
            Verdict::Failed
        } else if self.errors {
            Verdict::CompletedWithErrors
        } else {
            Verdict::Completed
        };
        let completed = |verdict, output, detail: String, payload: Option<Payload>| Begun {
            events: vec![Event::RunCompleted { verdict, output, detail: detail.into() }],
            payloads: payload.into_iter().collect(),
            call: None,
        };
        match self.output(world) {
            Ok(Ok((value, payload))) => Ok(completed(verdict, value, self.blame(), payload)),
            Ok(Err(_)) if self.failed => Ok(completed(verdict, Value::null(), self.blame(), None)),
            Ok(Err(message)) => Ok(completed(Verdict::Failed, Value::null(), message, None)),
            Err(Obstacle::Missing(missing)) => Err(missing),
            Err(Obstacle::TooLarge) => {
                let message = too_large().message.to_string();
                Ok(completed(Verdict::Failed, Value::null(), message, None))
            }
        }
    }

    /// What a failed run failed of.
    fn blame(&self) -> String {
        let written = self.steps.all().iter().take(self.plan.len());
        let mut failures = written.filter(|step| {
            let spec = &self.plan.plan.steps[step.spec as usize];
            step.status == Status::Failed && spec.on_failure == OnFailure::Fail
        });
        let Some(first) = failures.next() else { return String::new() };
        let message = first.failure.as_ref().map_or("", |failure| &*failure.message);
        let more = match failures.count() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        format!("step `{}` failed: {message}{more}", first.id)
    }

    fn output(
        &self,
        world: &World<'_>,
    ) -> Result<Result<(Value, Option<Payload>), String>, Obstacle> {
        let json = match (&self.plan.plan.output, &self.plan.sinks[..]) {
            (Some(template), _) => {
                let scope = self.scope(None, &[&self.plan.output_uses], world.values)?;
                match expr::render(template, &scope) {
                    Ok(json) => json,
                    Err(error) => return Ok(Err(format!("`output`: {error}"))),
                }
            }
            (None, [only]) => return Ok(Ok((self.steps[only.index()].value.clone(), None))),
            (None, _) if self.bytes(&Value::Sinks) > expr::OUTPUT_MAX as u64 => {
                return Err(Obstacle::TooLarge);
            }
            (None, _) => return Ok(Ok((self.default_output(), None))),
        };
        Ok(Ok(Value::of(json, INLINE_MAX)))
    }

    /// The outputs of the last steps, by their ids: not copied, unless they are short.
    fn default_output(&self) -> Value {
        let inline = self.sinks().map(|(_, step)| match &step.value {
            Value::Inline(json) => Some((step.id.to_string(), (**json).clone())),
            _ => None,
        });
        let object = inline.collect::<Option<_>>().map(Json::Object);
        match object.map(|object| Value::of(object, INLINE_MAX)) {
            Some((short, None)) => short,
            _ => Value::Sinks,
        }
    }
}

/// What a step asks of an agent, not rendered yet.
struct Wanted<'a> {
    agent: &'a str,
    action: Option<&'a str>,
    input: &'a Json,
    prompt: Option<&'a str>,
}

fn prepare(
    wanted: &Wanted<'_>,
    agent: &crate::port::agent::Registered,
    scope: &expr::Scope,
) -> Result<Prepared, Failure> {
    let Some(action) = agent.action(wanted.action) else {
        let message = format!("agent `{}` has no such action", wanted.agent);
        return Err(Failure::new(FailureKind::Invalid, "unknown_action", message));
    };
    let input = expr::render(wanted.input, scope).map_err(|error| invalid("input", &error))?;
    let prompt = wanted.prompt.map(|prompt| expr::render_text(prompt, scope)).transpose();
    let prompt = prompt.map_err(|error| invalid("prompt", &error))?.map(Into::into);
    let wrong = agent.check_input(&action.name, &input);
    if wrong.is_empty() {
        return Ok(Prepared { action: action.name.clone(), input, prompt, definition: None });
    }
    let message = format!("`input` is not what `{}` takes: {}", wanted.agent, wrong.join("; "));
    Err(Failure::new(FailureKind::Invalid, "bad_input", message))
}

fn one(event: Event) -> Begun {
    Begun { events: vec![event], ..Begun::default() }
}

fn failed(step: StepNo, failure: Failure) -> Begun {
    one(Event::StepFailed { step, attempt: None, failure })
}

fn invalid(field: &str, error: &expr::ExprError) -> Failure {
    Failure::new(FailureKind::Invalid, "expression", format!("`{field}`: {error}"))
}

fn too_large() -> Failure {
    let message = "the values that an expression reads are over 64 MiB; hand them on as artifacts";
    Failure::new(FailureKind::Invalid, "too_large", message)
}
