//! What the journal tells of attempts: when, how they ended, what went in and out.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use kapelle_api as api;
use kapelle_core::port::agent::{Failure, FailureKind, OnUnknown};
use kapelle_core::run::{Blocked, Event, Run, Status, Verdict};
use kapelle_core::{StepNo, Timestamp, Value, canonical};
use kapelle_engine::Seen;

use crate::server::App;
use crate::server::events::failure_of;
use crate::server::problem::Problem;

/// The attempts of a run or of one step, in the order of their beginnings.
#[derive(Default)]
pub(super) struct Tale {
    attempts: Vec<Attempt>,
    /// The one under way of each step.
    under_way: BTreeMap<StepNo, usize>,
    cost: api::Cost,
    /// Whether all it is about has ended.
    over: bool,
    /// Who had the run cancelled, when and why.
    pub(super) cancelled: Option<String>,
}

struct Attempt {
    number: u32,
    agent: Box<str>,
    began: Timestamp,
    end: Option<End>,
}

struct End {
    at: Timestamp,
    outcome: &'static str,
    failure: Option<Failure>,
    /// When the next one begins.
    next: Option<Timestamp>,
}

/// Reads what there is of `step`, or of all steps.
pub(super) async fn read(app: &App, run: &Run, step: Option<StepNo>) -> Result<Tale, Problem> {
    let of_step = step.and_then(|no| run.step(no));
    let over = of_step.map_or(run.ended().is_some(), |step| step.status.is_final());
    let mut tale = Tale { over, ..Tale::default() };
    let mut seen = app.engine().watch(app.tenant(), run.id(), 0);
    while let Some(seen) = seen.next().await {
        let Seen::Event(seen) = seen? else { continue };
        if let Some(no) = seen.event.step()
            && step.is_none_or(|step| step == no)
        {
            tale.add(no, &seen.event, seen.at);
        }
        if let Event::RunStopping { verdict: Verdict::Cancelled, by, reason } = &seen.event {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            tale.cancelled = Some(format!("by {by} at {}{why}", seen.at));
        }
        if seen.seq >= run.seq() {
            break;
        }
    }
    Ok(tale)
}

impl Tale {
    fn add(&mut self, no: StepNo, event: &Event, at: Timestamp) {
        match event {
            Event::StepStarted { attempt, agent, input, .. } => {
                self.under_way.insert(no, self.attempts.len());
                self.cost.attempts += 1;
                self.cost.input_bytes += bytes(input);
                let (number, agent) = (attempt.0, agent.clone());
                self.attempts.push(Attempt { number, agent, began: at, end: None });
            }
            Event::StepRetrying { failure, at: next, .. } => {
                self.end(no, at, "failed", Some(failure), Some(*next));
            }
            Event::StepFailed { failure, .. } => self.end(no, at, "failed", Some(failure), None),
            Event::StepBlocked {
                why: Blocked::Budget { .. } | Blocked::Account { .. }, ..
            } => {
                self.end(no, at, "over_budget", None, None);
            }
            Event::StepBlocked { why: Blocked::Question { .. }, .. } => {
                self.end(no, at, "asks", None, None);
            }
            Event::StepBlocked { why: Blocked::NoAgent { .. }, .. } => {
                self.end(no, at, "lacking", None, None);
            }
            Event::StepBlocked { .. } => self.end(no, at, "in_doubt", None, None),
            Event::StepCompleted { value, artifacts, usage, .. } => {
                self.end(no, at, "completed", None, None);
                let artifacts: u64 = artifacts.iter().map(|artifact| artifact.len).sum();
                self.cost.output_bytes += bytes(value) + artifacts;
                if let Some(usage) = usage {
                    self.cost.input_tokens += usage.input_tokens;
                    self.cost.output_tokens += usage.output_tokens;
                    self.cost.cost_nanos += usage.cost_nanos.unwrap_or(0);
                }
            }
            Event::EffectRecorded { .. } => self.cost.effects += 1,
            _ => {}
        }
    }

    fn end(
        &mut self,
        no: StepNo,
        at: Timestamp,
        outcome: &'static str,
        failure: Option<&Failure>,
        next: Option<Timestamp>,
    ) {
        if let Some(at_place) = self.under_way.remove(&no) {
            let failure = failure.cloned();
            self.attempts[at_place].end = Some(End { at, outcome, failure, next });
        }
    }

    /// What all of it took, until `now` where it goes on.
    pub(super) fn cost(&self, now: Timestamp) -> api::Cost {
        let ended = |attempt: &Attempt| attempt.end.as_ref().map_or(now, |end| end.at);
        let first = self.attempts.first().map(|attempt| attempt.began);
        let last = self.attempts.iter().map(ended).max().filter(|_| self.over);
        let working = self.attempts.iter().map(|one| ms(one.began, ended(one))).sum();
        let elapsed_ms = first.map_or(0, |first| ms(first, last.unwrap_or(now)));
        api::Cost { elapsed_ms, working_ms: working, ..self.cost }
    }

    pub(super) fn attempts(&self, run: &Run, no: StepNo, now: Timestamp) -> Vec<api::Attempt> {
        // The next attempt of a run that ends is none.
        let ends = run.ended().is_some() || run.status() == Status::Stopping;
        let never = self.attempts.last().map(|last| last.number).filter(|_| ends);
        let one = |attempt: &Attempt| {
            let end = attempt.end.as_ref();
            let failure = end.and_then(|end| end.failure.as_ref());
            api::Attempt {
                attempt: attempt.number,
                agent: attempt.agent.to_string(),
                began_at: attempt.began.to_string(),
                ended_at: end.map(|end| end.at.to_string()),
                elapsed_ms: ms(attempt.began, end.map_or(now, |end| end.at)),
                outcome: end.map_or("running", |end| end.outcome).to_owned(),
                failure: failure.map(failure_of),
                then: failure.map(|failure| match end.and_then(|end| end.next) {
                    Some(_) if Some(attempt.number) == never => {
                        "not tried again: its run was ended".to_owned()
                    }
                    Some(next) => again(run, no, failure, next),
                    None => given_up(run, no, failure, attempt.number),
                }),
            }
        };
        self.attempts.iter().map(one).collect()
    }
}

/// Why there is another attempt after this failure, which may begin at `next`.
fn again(run: &Run, no: StepNo, failure: &Failure, next: Timestamp) -> String {
    let retry = &run.spec(no).retry;
    let why = if failure.kind == FailureKind::Lost {
        "it was lost, by no fault of its own, which uses up no attempts".to_owned()
    } else if &*failure.code == "bad_output" {
        "a bad answer goes back to its agent once".to_owned()
    } else if failure.retry_after_ms.is_some() {
        "the other side said when to come again".to_owned()
    } else if retry.on.contains(&failure.kind) {
        format!("`{}` is among what `retry.on` names", failure.kind.as_str())
    } else {
        "whether it was done is not known, and `onUnknown` is `retry`".to_owned()
    };
    format!("tried again, not before {next}: {why}")
}

/// Why there is no other attempt after this failure.
pub(super) fn given_up(run: &Run, no: StepNo, failure: &Failure, attempt: u32) -> String {
    let retry = &run.spec(no).retry;
    if failure.message.ends_with("(`retry_budget`)") {
        "not tried again: the run has used up its retries".to_owned()
    } else if !failure.certain && run.steps()[no.index()].on_unknown() == OnUnknown::Fail {
        "not tried again: whether it was done is not known, and `onUnknown` is `fail`".to_owned()
    } else if failure.certain && !retry.on.contains(&failure.kind) {
        let kind = failure.kind.as_str();
        format!("not tried again: `{kind}` is not among what `retry.on` names")
    } else if attempt == 0 {
        "it never began".to_owned()
    } else {
        let most = retry.attempts_max;
        format!("not tried again: `retry.maxAttempts` is {most}")
    }
}

/// Bytes of a value as it is kept; those of other steps that it only names are theirs.
fn bytes(value: &Value) -> u64 {
    match value {
        Value::Inline(json) => canonical(json).len() as u64,
        Value::Digest { len, .. } => *len,
        Value::List { .. } | Value::Picked(_) | Value::Sinks => 0,
    }
}

fn ms(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}
