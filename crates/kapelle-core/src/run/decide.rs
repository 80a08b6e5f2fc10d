//! What a command makes happen, or why not. Changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::command::{Command, Produced, Refusal, Takeover};
use super::event::{Blocked, EffectId, Event, Join, Parts, Resolved, Skipped, Verdict};
use super::question::UNANSWERED;
use super::step::{EffectState, Status, Step};
use super::{Run, Sum, Timer};
use crate::plan::{OnExceeded, OnTimeout, Retry, Work};
use crate::port::agent::{Failure, FailureKind, OnUnknown, Safety, Usage};
use crate::violation::violations;
use crate::{Attempt, Json, RunId, StepId, StepNo, Timestamp, Value};

/// The code of a failure by which an answer did not have the form that the plan asks for.
pub(super) const BAD_OUTPUT: &str = "bad_output";
/// The code of a failure by which a call was more than its step may spend; `over_budget`: than the run.
pub const OVER_OWN_BUDGET: &str = "over_step_budget";
/// The code of a failure by which a call was more than its tenant or its agent may spend in all runs.
pub const OVER_ACCOUNT: &str = "over_account";
/// The code of a failure by which nothing was asked: the other side wants nothing before a certain time.
pub const NOT_YET: &str = "not_yet";
/// The codes of failures by which an agent has no model here, or no key for one: its step waits for a node
/// that has.
pub const LACKING: [&str; 2] = ["no_model", "no_key"];
/// The reason of a pause: the run has used up its budget of time.
pub const OUT_OF_TIME: &str = "the budget of time is used up";
/// Who decides where a limit does.
const KAPELLE: &str = "kapelle";

impl Run {
    /// Says what `command` makes happen, and changes nothing.
    pub fn decide(&self, command: Command, now: Timestamp) -> Result<Vec<Event>, Refusal> {
        if let Some(ended) = &self.ended {
            return Err(Refusal::Ended(ended.verdict.as_str()));
        }
        match command {
            Command::Answered { step, attempt, answer } => {
                self.answered(step, attempt, *answer, now)
            }
            Command::Failed { step, attempt, failure } => {
                self.expect_running(step, attempt)?;
                let then = self.after_failure(step, attempt, failure, now);
                Ok(self.within_budget(vec![then]))
            }
            Command::StartEffect { step, attempt, effect, reserve } => {
                self.start_effect(step, attempt, effect, reserve)
            }
            Command::RecordEffect { step, attempt, effect, outcome, used } => {
                self.expect_running(step, attempt)?;
                match self.recorded(step, &effect) {
                    None => {
                        Ok(vec![Event::EffectRecorded { step, attempt, effect, outcome, used }])
                    }
                    // The same report again, after an outcome that was unknown to the reporter.
                    Some(known) if *known == effect => Ok(Vec::new()),
                    Some(_) => Err(self.known(step, &effect)),
                }
            }
            Command::Send { step, attempt, effect, to, text } => {
                self.expect_running(step, attempt)?;
                match self.recorded(step, &effect) {
                    None => self.send((step, attempt), effect, &to, text),
                    Some(known) if *known == effect => Ok(Vec::new()),
                    Some(_) => Err(self.known(step, &effect)),
                }
            }
            Command::Ask { step, attempt, effect, question } => {
                self.expect_running(step, attempt)?;
                match self.recorded(step, &effect) {
                    None => Ok(self.ask((step, attempt), effect, question)),
                    Some(_) => Err(self.known(step, &effect)),
                }
            }
            Command::Reply { step, ordinal, answer, by } => {
                let no = self.expect(&step)?;
                self.reply(no, ordinal, &answer, by)
            }
            Command::Raise { step, more, by } => self.raised(step, more, by),
            Command::Tick => Ok(self.within_budget(self.tick(now))),
            Command::Adopt(takeover, kept) => Ok(self.adopt(takeover, &kept, now)),
            Command::Arrived { agent } => Ok(self.arrived(&agent)),
            Command::Pause { by, reason } => self.pause(by, reason),
            Command::Resume { by } => self.resume(by),
            Command::Cancel { by, reason } => Ok(self.cancel(by, reason)),
            Command::Approve { step, approved, by, comment } => {
                self.approve(&step, approved, by, comment)
            }
            Command::Resolve { step, how, by, comment } => self.resolve(&step, how, by, comment),
            Command::Grow { by, parts, join } => {
                self.expect_growing(by, &parts, join)?;
                Ok(vec![Event::StepsGrown { by, parts, join, list: None }])
            }
            Command::Enough { by } => self.enough(by),
        }
    }

    fn expect_running(&self, step: StepNo, attempt: Attempt) -> Result<(), Refusal> {
        let Some(found) = self.step(step) else {
            return Err(Refusal::NoStep(step.0.to_string().into()));
        };
        if found.status == Status::Running && found.attempt == Some(attempt) {
            return Ok(());
        }
        Err(Refusal::StaleAttempt { step: found.id.clone(), attempt })
    }

    fn expect(&self, step: &StepId) -> Result<StepNo, Refusal> {
        self.find(step.as_str()).ok_or_else(|| Refusal::NoStep(step.as_str().into()))
    }

    fn answered(
        &self,
        step: StepNo,
        attempt: Attempt,
        answer: Produced,
        now: Timestamp,
    ) -> Result<Vec<Event>, Refusal> {
        self.expect_running(step, attempt)?;
        if let Some(failure) = self.bad_output(step, &answer.json) {
            return Ok(vec![self.after_failure(step, attempt, failure, now)]);
        }
        let Produced { value, artifacts, usage, engine, json: _ } = answer;
        let attempt = Some(attempt);
        Ok(vec![Event::StepCompleted { step, attempt, value, artifacts, usage, engine }])
    }

    fn bad_output(&self, step: StepNo, json: &Json) -> Option<Failure> {
        let schema = self.plan.output_schema(self.steps[step.index()].spec)?;
        let wrong = violations(schema, None, json);
        (!wrong.is_empty()).then(|| {
            let message = format!("the answer is not what `output` asks for: {}", wrong.join("; "));
            let mut failure = Failure::new(FailureKind::Invalid, BAD_OUTPUT, message);
            failure.forget_from = Some(1);
            failure
        })
    }

    fn start_effect(
        &self,
        step: StepNo,
        attempt: Attempt,
        effect: EffectId,
        reserve: Option<Usage>,
    ) -> Result<Vec<Event>, Refusal> {
        self.expect_running(step, attempt)?;
        if self.recorded(step, &effect).is_some() {
            return Err(self.known(step, &effect));
        }
        match reserve.as_ref().and_then(|wanted| self.exceeds(step, wanted)) {
            Some(exceeded) => Err(Refusal::OverBudget(exceeded)),
            None => Ok(vec![Event::EffectStarted { step, attempt, effect, reserve }]),
        }
    }

    /// More may be spent: whoever waits for that goes on.
    fn raised(&self, step: Option<StepId>, more: Sum, by: Box<str>) -> Result<Vec<Event>, Refusal> {
        let step = step.map(|step| self.expect(&step)).transpose()?;
        let budget = step.map_or(self.plan.plan.budget, |no| self.spec(no).budget);
        let Some(budget) = budget else {
            let whose = if step.is_some() { "the step" } else { "the run" };
            return Err(Refusal::NoBudget(format!("{whose} has no budget to raise").into()));
        };
        let of = [
            ("tokens", budget.tokens.is_some(), more.tokens > 0),
            ("money", budget.nanos.is_some(), more.nanos > 0),
            ("time", budget.time_ms.is_some(), more.ms > 0),
        ];
        if !of.iter().any(|(_, limited, raised)| *limited && *raised) {
            let of = of.iter().filter(|(_, limited, _)| *limited).map(|(of, ..)| *of);
            let of = of.collect::<Vec<_>>().join(" and ");
            let message = format!("the budget is one of {of}: say how much more");
            return Err(Refusal::NoBudget(message.into()));
        }
        let waiting = self.blocked.iter().filter(|no| {
            let own = matches!(
                self.steps[no.index()].status,
                Status::Blocked(Blocked::Budget { own: true, .. })
            );
            let run = matches!(
                self.steps[no.index()].status,
                Status::Blocked(Blocked::Budget { own: false, .. })
            );
            step.map_or(run, |step| own && step == **no)
        });
        let go_on = waiting.map(|no| Event::StepResolved {
            step: *no,
            how: Resolved::Retry,
            by: by.clone(),
            comment: "the budget was raised".into(),
        });
        let Sum { tokens, nanos, ms, .. } = more;
        let first = Event::BudgetRaised { step, tokens, nanos, ms, by: by.clone() };
        // A person's pause is theirs to end.
        let waits = step.is_none() && ms > 0 && self.paused.as_deref() == Some(OUT_OF_TIME);
        let resumed = waits.then(|| Event::RunResumed { by: by.clone() });
        Ok(std::iter::once(first).chain(resumed).chain(go_on).collect())
    }

    /// The call that is recorded in the place of `effect`.
    fn recorded(&self, step: StepNo, effect: &EffectId) -> Option<&EffectId> {
        let known = self.steps[step.index()].effects.as_deref()?.get(&effect.ordinal)?;
        matches!(known.state, EffectState::Recorded(_)).then_some(&known.id)
    }

    fn known(&self, step: StepNo, effect: &EffectId) -> Refusal {
        let step = self.steps[step.index()].id.clone();
        Refusal::Recorded { step, ordinal: effect.ordinal }
    }

    /// What an attempt's bad end leads to: another attempt, a question, or the end of the step.
    pub(super) fn after_failure(
        &self,
        step: StepNo,
        attempt: Attempt,
        failure: Failure,
        now: Timestamp,
    ) -> Event {
        let found = &self.steps[step.index()];
        let failed = |failure| Event::StepFailed { step, attempt: Some(attempt), failure };
        if self.stopping.is_some() {
            return failed(failure);
        }
        if &*failure.code == UNANSWERED
            && let Some(why) = self.open_question(step, None)
        {
            return Event::StepBlocked { step, attempt: Some(attempt), why };
        }
        let in_doubt = |ordinal| {
            let why = Blocked::in_doubt(ordinal);
            Event::StepBlocked { step, attempt: Some(attempt), why }
        };
        if let Some(ordinal) = self.open_effects(step).next() {
            return in_doubt(ordinal);
        }
        if !failure.certain {
            match found.on_unknown {
                OnUnknown::Ask => return in_doubt(0),
                OnUnknown::Fail => return failed(failure),
                OnUnknown::Retry => {}
            }
        }
        if let (true, Work::Agent { agent, .. }) = (lacks(&failure), &self.spec(step).work) {
            let why = Blocked::NoAgent { agent: agent.clone(), lacks: failure.message };
            return Event::StepBlocked { step, attempt: Some(attempt), why };
        }
        if failure.kind == FailureKind::Budget && &*failure.code == OVER_ACCOUNT {
            let until = failure.retry_after_ms.map(|ms| now.after(Duration::from_millis(ms)));
            let why = Blocked::Account { limit: (&*failure.message).into(), until };
            return Event::StepBlocked { step, attempt: Some(attempt), why };
        }
        if failure.kind == FailureKind::Budget && self.waits_at_limit(step) {
            let own = &*failure.code == OVER_OWN_BUDGET;
            return Event::StepBlocked {
                step,
                attempt: Some(attempt),
                why: Blocked::Budget { own, said: failure.message },
            };
        }
        let retry = &self.spec(step).retry;
        let lost = failure.kind == FailureKind::Lost;
        let goes_on = match &*failure.code {
            // A bad answer goes back to its agent once, whatever the retries.
            BAD_OUTPUT => found.bad_outputs == 0,
            _ => {
                let unknown = !failure.certain && failure.kind != FailureKind::Budget;
                let wanted = unknown || retry.on.contains(&failure.kind);
                is_free(&failure) || (wanted && found.tries + 1 < retry.attempts_max)
            }
        };
        if !goes_on {
            return failed(failure);
        }
        if let Some(why) = self.loses_too_many(step, &failure) {
            return Event::StepBlocked { step, attempt: Some(attempt), why };
        }
        let wait = match (lost, failure.retry_after_ms) {
            (true, _) => Duration::ZERO,
            (false, Some(ms)) => Duration::from_millis(ms),
            (false, None) => backoff(retry, found.tries, self.id, step, attempt),
        };
        let definite = failure.certain && !lost;
        Event::StepRetrying { step, attempt, failure, at: now.after(wait), definite }
    }

    /// The unsafe calls of a step whose end is not known.
    pub(super) fn open_effects(&self, step: StepNo) -> impl Iterator<Item = u32> {
        let effects = self.steps[step.index()].effects.as_deref().into_iter().flatten();
        let open = effects.filter(|(_, effect)| {
            effect.state == EffectState::Started && effect.id.safety == Safety::Unsafe
        });
        open.map(|(ordinal, _)| *ordinal)
    }

    fn tick(&self, now: Timestamp) -> Vec<Event> {
        let due = self.timers.iter().take_while(|(at, _)| *at <= now);
        let mut events = Vec::new();
        for (_, timer) in due {
            match timer {
                Timer::Attempt(step) => events.extend(self.attempt_timed_out(*step, now)),
                Timer::Approval(step) => events.extend(self.approval_timed_out(*step)),
                Timer::Account(step) => events.push(again(*step, "what was spent counts no more")),
                Timer::Time => events.extend(self.out_of_budget()),
                Timer::Run => events.extend(self.out_of_time("`globalTimeout` is used up")),
                Timer::Deadline => events.extend(self.out_of_time("`deadline` has passed")),
            }
        }
        // The run's own limits come last in a list of one time, and one stop is enough.
        let stop = events.iter().position(|event| matches!(event, Event::RunStopping { .. }));
        events.truncate(stop.map_or(events.len(), |stop| stop + 1));
        events
    }

    fn attempt_timed_out(&self, step: StepNo, now: Timestamp) -> Option<Event> {
        let attempt = self.steps[step.index()].attempt?;
        let failure = if self.time_left(step, Some(now)).is_some_and(|left| left.is_zero()) {
            let message = "the step has used up its budget of time";
            Failure::new(FailureKind::Budget, OVER_OWN_BUDGET, message)
        } else {
            let limit = Duration::from_millis(self.spec(step).timeout_ms);
            Failure::new(FailureKind::Timeout, "timeout", format!("no answer within {limit:?}"))
        };
        Some(self.after_failure(step, attempt, failure.uncertain(), now))
    }

    /// The run's time is used up: nothing more begins, no call that costs is made, what is under way
    /// ends.
    fn out_of_budget(&self) -> Option<Event> {
        let budget = self.plan.plan.budget.as_ref()?;
        match budget.on_exceeded {
            OnExceeded::Fail => self.out_of_time(OUT_OF_TIME),
            OnExceeded::Pause => {
                let (by, reason) = (KAPELLE.into(), OUT_OF_TIME.into());
                self.paused.is_none().then_some(Event::RunPaused { by, reason })
            }
        }
    }

    fn approval_timed_out(&self, step: StepNo) -> Vec<Event> {
        let Work::Approval { on_timeout, .. } = &self.spec(step).work else {
            return Vec::new();
        };
        let approved = *on_timeout == OnTimeout::Approve;
        self.decided(step, approved, KAPELLE.into(), "nobody decided in time".into())
    }

    fn out_of_time(&self, reason: &str) -> Option<Event> {
        self.stopping.is_none().then(|| Event::RunStopping {
            verdict: Verdict::Failed,
            by: KAPELLE.into(),
            reason: reason.into(),
        })
    }

    /// What was running with another node is lost, unless it is `kept`: nobody will answer for it.
    fn adopt(&self, takeover: Takeover, kept: &[StepNo], now: Timestamp) -> Vec<Event> {
        let waiting = self.blocked.iter().filter(|step| {
            let why = &self.steps[step.index()].status;
            matches!(why, Status::Blocked(Blocked::NoAgent { .. } | Blocked::Account { .. }))
        });
        let retried = waiting.map(|step| again(*step, "another node"));
        let left = self.running.iter().filter(|step| !kept.contains(step));
        let lost = left.map(|step| {
            let attempt = self.steps[step.index()].attempt.unwrap_or(Attempt(1));
            if takeover.doubt {
                let why = Blocked::in_doubt(0);
                return Event::StepBlocked { step: *step, attempt: Some(attempt), why };
            }
            self.lost(*step, attempt, takeover, now)
        });
        let mut events: Vec<Event> = retried.chain(lost).collect();
        // A wait that ran out while nobody was there would count from then on.
        let clock = self.clock.since.is_some()
            || (self.limits().iter().any(Option::is_some) && !self.retries.is_empty());
        let goes_on = kept.iter().any(|step| self.running.contains(step));
        if !events.is_empty() || clock || goes_on {
            events.insert(0, Event::RunAdopted);
        }
        events
    }

    /// Steps that were only waiting for that agent go on.
    fn arrived(&self, agent: &str) -> Vec<Event> {
        let waits = |step: &&StepNo| {
            let why = &self.steps[step.index()].status;
            matches!(why, Status::Blocked(Blocked::NoAgent { agent: of, lacks })
                if **of == *agent && lacks.is_empty())
        };
        let waiting = self.blocked.iter().filter(waits);
        waiting.map(|step| again(*step, "the agent is there")).collect()
    }

    fn pause(&self, by: Box<str>, reason: Box<str>) -> Result<Vec<Event>, Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        let already = self.paused.is_some();
        Ok(if already { Vec::new() } else { vec![Event::RunPaused { by, reason }] })
    }

    fn resume(&self, by: Box<str>) -> Result<Vec<Event>, Refusal> {
        if self.paused.is_none() {
            return Err(Refusal::NotPaused);
        }
        if self.is_out_of_time() {
            return Err(Refusal::NoBudget(
                format!("{OUT_OF_TIME}: raise it, then it goes on").into(),
            ));
        }
        Ok(vec![Event::RunResumed { by }])
    }

    fn cancel(&self, by: Box<str>, reason: Box<str>) -> Vec<Event> {
        match self.stopping {
            Some((Verdict::Cancelled, _)) => Vec::new(),
            _ => vec![Event::RunStopping { verdict: Verdict::Cancelled, by, reason }],
        }
    }

    fn approve(
        &self,
        step: &StepId,
        approved: bool,
        by: Box<str>,
        comment: Box<str>,
    ) -> Result<Vec<Event>, Refusal> {
        let no = self.expect(step)?;
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        if self.steps[no.index()].status != Status::Asked {
            return Err(Refusal::NotAsked(step.clone()));
        }
        if let Work::Approval { by: allowed, .. } = &self.spec(no).work
            && !allowed.is_empty()
            && !allowed.iter().any(|who| **who == *by || &**who == "anyone")
        {
            return Err(Refusal::NotYours { step: step.clone(), by: allowed.join(", ").into() });
        }
        Ok(self.decided(no, approved, by, comment))
    }

    fn decided(&self, step: StepNo, approved: bool, by: Box<str>, comment: Box<str>) -> Vec<Event> {
        let is_gate = matches!(self.spec(step).work, Work::Agent { .. });
        let then = match (approved, is_gate) {
            (true, true) => None,
            (true, false) => {
                let output = serde_json::json!({"approved": true, "by": by, "comment": comment});
                let (value, _) = Value::of(output, usize::MAX);
                Some(self.completed_by_itself(step, value))
            }
            (false, _) => {
                let said = if comment.is_empty() { String::new() } else { format!(": {comment}") };
                let message = format!("rejected by {by}{said}");
                let failure = Failure::new(FailureKind::Refused, "rejected", message);
                Some(Event::StepFailed { step, attempt: None, failure })
            }
        };
        let first = Event::ApprovalDecided { step, approved, by, comment };
        std::iter::once(first).chain(then).collect()
    }

    fn resolve(
        &self,
        step: &StepId,
        how: Resolved,
        by: Box<str>,
        comment: Box<str>,
    ) -> Result<Vec<Event>, Refusal> {
        let no = self.expect(step)?;
        let Status::Blocked(why) = &self.steps[no.index()].status else {
            return Err(Refusal::NotBlocked(step.clone()));
        };
        let about = |n: u32| matches!(why, Blocked::InDoubt { ordinal, .. } if *ordinal == n);
        let effect_in_doubt = matches!(why, Blocked::InDoubt { .. }) && !about(0);
        let attempt = self.steps[no.index()].attempt;
        let then = match &how {
            Resolved::Done(value) if !effect_in_doubt => Some(Event::StepCompleted {
                step: no,
                attempt,
                value: value.clone(),
                artifacts: Vec::new(),
                usage: None,
                engine: None,
            }),
            // One doubt is cleared; the next attempt waits until all are.
            Resolved::Retry | Resolved::Done(_) => {
                self.open_effects(no).find(|open| !about(*open)).map(|ordinal| Event::StepBlocked {
                    step: no,
                    attempt,
                    why: Blocked::in_doubt(ordinal),
                })
            }
            Resolved::Skip => Some(Event::StepSkipped { step: no, why: Skipped::Person }),
            Resolved::Fail => {
                let said = if comment.is_empty() { String::new() } else { format!(": {comment}") };
                let message = format!("taken as failed by {by}{said}");
                let failure = Failure::new(FailureKind::Refused, "resolved_as_failed", message);
                Some(Event::StepFailed { step: no, attempt, failure })
            }
        };
        let first = Event::StepResolved { step: no, how, by, comment };
        Ok(std::iter::once(first).chain(then).collect())
    }

    fn expect_growing(&self, by: StepNo, parts: &Parts, join: Join) -> Result<(), Refusal> {
        let Some(step) = self.step(by) else {
            return Err(Refusal::NoStep(by.0.to_string().into()));
        };
        let again = step.group.as_deref().is_some_and(|g| g.deciding && g.join == join);
        let may = step.status == Status::Ready || (step.status == Status::Grown && again);
        if may && (1..=self.growth()).contains(&parts.count()) && self.are_new(step, parts) {
            return Ok(());
        }
        Err(Refusal::CannotGrow(step.id.clone()))
    }

    /// Whether all names are names, and none is there twice.
    fn are_new(&self, step: &Step, parts: &Parts) -> bool {
        let Parts::Named(names) = parts else { return true };
        let known = step.group.as_deref().into_iter().flat_map(|group| &group.parts);
        let mut ids: BTreeSet<StepId> =
            known.map(|part| self.steps[part.index()].id.clone()).collect();
        names.iter().all(|name| {
            let is_name = !name.contains('.') && name.parse::<StepId>().is_ok();
            is_name && ids.insert(step.id.grown(name))
        })
    }

    fn enough(&self, by: StepNo) -> Result<Vec<Event>, Refusal> {
        let Some(step) = self.step(by) else {
            return Err(Refusal::NoStep(by.0.to_string().into()));
        };
        let group = step.group.as_deref().filter(|_| step.status == Status::Grown);
        let last = group.filter(|group| group.deciding).and_then(|group| group.parts.last());
        let Some(last) = last else {
            return Err(Refusal::CannotGrow(step.id.clone()));
        };
        let value = self.steps[last.index()].value.clone();
        Ok(vec![self.completed_by_itself(by, value)])
    }
}

/// A step goes on by itself.
fn again(step: StepNo, why: &str) -> Event {
    let (by, comment) = (KAPELLE.into(), why.into());
    Event::StepResolved { step, how: Resolved::Retry, by, comment }
}

/// Whether an attempt failed of what is missing where it was made.
fn lacks(failure: &Failure) -> bool {
    failure.certain && LACKING.contains(&&*failure.code)
}

/// Whether an attempt that ended so counts for none: nothing was tried.
pub(super) fn is_free(failure: &Failure) -> bool {
    failure.kind == FailureKind::Lost
        || (&*failure.code == NOT_YET && failure.retry_after_ms.is_some())
}

/// How long to wait after the `tries + 1`st try: exponential, with full jitter from the run's id.
fn backoff(retry: &Retry, tries: u32, run: RunId, step: StepNo, attempt: Attempt) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a wait needs no more than 52 bits")]
    let (initial, longest) = (retry.initial_ms as f64, retry.wait_max_ms as f64);
    let exponent = i32::try_from(tries).unwrap_or(i32::MAX);
    let wait_ms = (initial * retry.factor.powi(exponent)).min(longest);
    let part = if retry.jitter { dice(run, step, attempt) } else { 1.0 };
    Duration::try_from_secs_f64(wait_ms * part / 1e3).unwrap_or(Duration::ZERO)
}

/// A number from 0 to 1 that is the same on every machine.
fn dice(run: RunId, step: StepNo, attempt: Attempt) -> f64 {
    let mut seed = run.as_bytes().to_vec();
    seed.extend_from_slice(&step.0.to_le_bytes());
    seed.extend_from_slice(&attempt.0.to_le_bytes());
    let hash = blake3::hash(&seed);
    let head: [u8; 4] = hash.as_bytes()[..4].try_into().expect("a hash has 32 bytes");
    f64::from(u32::from_le_bytes(head)) / f64::from(u32::MAX)
}
