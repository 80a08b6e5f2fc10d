//! What happened, taken note of.
//!
//! **Invariants:** total: an event from a journal is never refused, one that makes no sense here
//! changes nothing but `seq`; every index is kept by `leave` and `enter`, nowhere else.

use std::time::Duration;

use super::event::{Blocked, EffectId, Event, Outcome, Resolved, Skipped, Verdict};
use super::ready::Rank;
use super::step::{Effect, EffectState, Status};
use super::{Due, Ended, Run, Timer};
use crate::plan::OnFailure;
use crate::port::agent::{Failure, Safety, Usage};
use crate::{Attempt, StepNo, Timestamp, Value};

impl Run {
    /// Takes note of what happened at `at`. Total: an event from the journal is never refused.
    pub fn apply(&mut self, event: &Event, at: Timestamp) {
        self.seq += 1;
        if self.ended.is_some() {
            return;
        }
        self.wake(at);
        let last_at = std::mem::replace(&mut self.last_at, at);
        match event {
            Event::RunCreated(_) => {}
            Event::RunForked(forked) => self.take_over(forked),
            Event::RunStarted => self.started = true,
            // Nobody knows how long the node before lived after its last event.
            Event::RunAdopted => self.stop_clocks(last_at, at),
            Event::RunPaused { reason, .. } => self.paused = Some(reason.clone()),
            Event::RunResumed { .. } => self.paused = None,
            Event::BudgetRaised { .. } => {
                self.stop_clock(at);
                self.raise(event);
            }
            Event::RunStopping { verdict, reason, .. } => {
                self.stopping = Some((*verdict, reason.clone()));
                self.timers.retain(|(_, timer)| matches!(timer, Timer::Attempt(_)));
            }
            Event::RunCompleted { verdict, output, detail } => {
                self.end_run(*verdict, output, detail, at);
            }
            _ => self.apply_to_step(event, at),
        }
        self.keep_time(at);
    }

    fn apply_to_step(&mut self, event: &Event, at: Timestamp) {
        if let Event::StepsDropped { steps } = event {
            for step in steps {
                self.end_step(*step, Status::Dropped, at);
            }
        }
        let Some(no) = event.step() else { return };
        if !self.steps.get(no.index()).is_some_and(|step| makes_sense(event, &step.status)) {
            return;
        }
        match event {
            Event::StepStarted { .. } => self.start_step(no, event, at),
            Event::StepRetrying { failure, at: next, definite, .. } => {
                self.retry_step(no, failure, *next, *definite);
            }
            Event::StepCompleted { value, artifacts, .. } => {
                let step = &mut self.steps[no.index()];
                step.value = value.clone();
                step.artifacts.clone_from(artifacts);
                step.failure = None;
                self.end_step(no, Status::Completed, at);
            }
            Event::StepFailed { failure, .. } => {
                self.steps[no.index()].failure = Some(Box::new(failure.clone()));
                self.end_step(no, Status::Failed, at);
            }
            Event::StepSkipped { why, .. } => self.end_step(no, Status::Skipped(why.clone()), at),
            Event::StepBlocked { why, .. } => self.set(no, Status::Blocked(why.clone())),
            Event::StepResolved { how, .. } => self.resolve_step(no, how),
            Event::ApprovalRequested { until, .. } => {
                self.steps[no.index()].deadline = until.unwrap_or(Timestamp(i64::MAX));
                self.set(no, Status::Asked);
            }
            Event::ApprovalDecided { .. } => {
                self.steps[no.index()].released = true;
                self.make_ready(no);
            }
            Event::StepsGrown { parts, join, list, .. } => {
                self.grow(no, parts, *join, list.as_ref())
            }
            Event::EffectStarted { attempt, effect, reserve, .. } => {
                self.note_effect(no, *attempt, effect, EffectState::Started, *reserve);
                if let Some(reserve) = reserve {
                    self.keep_ledgers(no, |ledger| ledger.reserve(reserve));
                }
            }
            Event::EffectRecorded { attempt, effect, outcome, used, .. } => {
                let state = EffectState::Recorded(outcome.clone());
                let held = self.note_effect(no, *attempt, effect, state, None);
                match (&held, used) {
                    (None, None) => {}
                    (Some(held), None) => self.keep_ledgers(no, |ledger| ledger.give_up(held)),
                    (held, Some(used)) => {
                        self.keep_ledgers(no, |ledger| ledger.settle(held.as_ref(), used));
                    }
                }
            }
            Event::MessageSent { .. } => self.post(event, at),
            Event::QuestionAsked { attempt, effect, question, .. } => {
                let state = EffectState::Asked(question.clone());
                self.note_effect(no, *attempt, effect, state, None);
            }
            Event::QuestionAnswered { ordinal, answer, .. } => {
                self.note_answer(no, *ordinal, answer);
            }
            Event::RunCreated(_)
            | Event::RunForked(_)
            | Event::RunStarted
            | Event::RunAdopted
            | Event::RunPaused { .. }
            | Event::RunResumed { .. }
            | Event::RunStopping { .. }
            | Event::RunCompleted { .. }
            | Event::StepsDropped { .. }
            | Event::BudgetRaised { .. } => {}
        }
    }

    fn start_step(&mut self, no: StepNo, event: &Event, at: Timestamp) {
        let Event::StepStarted { attempt, generation, input, deadline, on_unknown, .. } = event
        else {
            return;
        };
        self.budget.begin(*attempt);
        let step = &mut self.steps[no.index()];
        step.attempt = Some(*attempt);
        step.generation = *generation;
        step.input = Some(input.clone());
        step.on_unknown = *on_unknown;
        step.started_at.get_or_insert(at);
        step.begun_at = at;
        // Left with the old deadline, entered with the new one: a timer's key is its time.
        self.leave(no);
        self.steps[no.index()].deadline = *deadline;
        self.enter(no, Status::Running);
    }

    fn retry_step(&mut self, no: StepNo, failure: &Failure, next: Timestamp, definite: bool) {
        self.budget.retry(failure);
        let step = &mut self.steps[no.index()];
        let bad_output = &*failure.code == super::decide::BAD_OUTPUT;
        step.tries += u32::from(!super::decide::is_free(failure) && !bad_output);
        step.generation += u32::from(definite);
        step.count_death(failure);
        step.count_worker(failure);
        step.extra = super::budget::counts(failure);
        step.bad_outputs += u32::from(bad_output);
        if let (Some(from), Some(effects)) = (failure.forget_from, step.effects.as_deref_mut()) {
            for (_, effect) in effects.range_mut(from..) {
                forget(effect);
            }
        }
        step.failure = Some(Box::new(failure.clone()));
        self.set(no, Status::Retrying(next));
    }

    fn resolve_step(&mut self, no: StepNo, how: &Resolved) {
        let step = &mut self.steps[no.index()];
        let Status::Blocked(why) = &step.status else { return };
        let ordinal = match why {
            Blocked::InDoubt { ordinal, .. } => {
                (step.deaths, step.workers) = (0, 0);
                *ordinal
            }
            Blocked::NoAgent { .. }
            | Blocked::Budget { .. }
            | Blocked::Account { .. }
            | Blocked::Question { .. } => 0,
        };
        let effect = step.effects.as_deref_mut().and_then(|effects| effects.get_mut(&ordinal));
        match (how, effect) {
            (Resolved::Retry, Some(effect)) => effect.state = EffectState::Forgotten,
            (Resolved::Done(value), Some(effect)) => {
                effect.state = EffectState::Recorded(Outcome::Done(value.clone()));
            }
            (Resolved::Retry, None) => {}
            // What the step itself becomes is an event of its own.
            (Resolved::Done(_), None) | (Resolved::Skip | Resolved::Fail, _) => return,
        }
        self.make_ready(no);
    }

    /// Takes note of a call; what it had reserved before.
    fn note_effect(
        &mut self,
        no: StepNo,
        attempt: Attempt,
        id: &EffectId,
        state: EffectState,
        reserved: Option<Usage>,
    ) -> Option<Usage> {
        let effects = self.steps[no.index()].effects.get_or_insert_with(Box::default);
        let effect = Effect { id: id.clone(), attempt, state, reserved };
        effects.insert(id.ordinal, effect).and_then(|before| before.reserved)
    }

    /// Ends a step and takes note of what follows for those that wait for it.
    pub(super) fn end_step(&mut self, no: StepNo, status: Status, at: Timestamp) {
        let Some(step) = self.steps.get_mut(no.index()) else { return };
        if step.status.is_final() {
            return;
        }
        step.ended_at = Some(at);
        step.input = None;
        self.open -= 1;
        self.set(no, status);
        if let Some((by, _)) = self.steps[no.index()].part_of {
            self.part_ended(by, no);
        } else {
            self.tell_dependents(no);
        }
    }

    fn tell_dependents(&mut self, no: StepNo) {
        let forgiven = self.spec(no).on_failure == OnFailure::Continue;
        let blame = match &self.steps[no.index()].status {
            Status::Failed if forgiven => {
                self.errors = true;
                None
            }
            Status::Failed => {
                self.failed = true;
                Some(no)
            }
            Status::Skipped(Skipped::Needs { blame, .. }) => Some(*blame),
            _ => None,
        };
        let plan = self.plan.clone();
        for &dependent in plan.dependents(self.steps[no.index()].spec) {
            if let Some(blame) = blame {
                self.dues.push_back(Due::Skip { step: dependent, because: no, blame });
                continue;
            }
            let step = &mut self.steps[dependent.index()];
            step.unmet = step.unmet.saturating_sub(1);
            if step.unmet == 0 && step.status == Status::Waiting {
                self.make_ready(dependent);
            }
        }
    }

    fn end_run(&mut self, verdict: Verdict, output: &Value, detail: &str, at: Timestamp) {
        self.ended = Some(Ended { verdict, output: output.clone(), detail: detail.into(), at });
        self.timers.clear();
        self.retries.clear();
        self.dues.clear();
        self.ready = super::ready::Ready::default();
        self.running.clear();
        self.asked.clear();
        self.blocked.clear();
    }

    pub(super) fn make_ready(&mut self, no: StepNo) {
        self.set(no, Status::Ready);
    }

    pub(super) fn set(&mut self, no: StepNo, status: Status) {
        self.leave(no);
        self.enter(no, status);
    }

    fn leave(&mut self, no: StepNo) {
        let step = &self.steps[no.index()];
        match &step.status {
            Status::Ready => {
                let (lane, rank) = self.place(no);
                self.ready.remove(lane, rank);
            }
            Status::Running => {
                self.count_time(no, self.last_at);
                let step = &self.steps[no.index()];
                self.running.remove(&no);
                self.timers.remove(&(step.deadline, Timer::Attempt(no)));
                self.give_up_reserved(no);
            }
            Status::Retrying(next) => {
                self.retries.remove(&(*next, no));
            }
            Status::Asked => {
                self.asked.remove(&no);
                self.timers.remove(&(step.deadline, Timer::Approval(no)));
            }
            Status::Blocked(why) => {
                self.blocked.remove(&no);
                if let Blocked::Account { until: Some(until), .. } = why {
                    self.timers.remove(&(*until, Timer::Account(no)));
                }
            }
            Status::Waiting
            | Status::Grown
            | Status::Completed
            | Status::Failed
            | Status::Skipped(_)
            | Status::Dropped => {}
        }
    }

    fn enter(&mut self, no: StepNo, status: Status) {
        match &status {
            Status::Ready => {
                let (lane, rank) = self.place(no);
                self.ready.insert(lane, rank);
            }
            Status::Running => {
                self.running.insert(no);
                self.timers.insert((self.steps[no.index()].deadline, Timer::Attempt(no)));
            }
            Status::Retrying(next) => {
                self.retries.insert((*next, no));
            }
            Status::Asked => {
                self.asked.insert(no);
                let until = self.steps[no.index()].deadline;
                if until != Timestamp(i64::MAX) {
                    self.timers.insert((until, Timer::Approval(no)));
                }
            }
            Status::Blocked(why) => {
                self.blocked.insert(no);
                if let Blocked::Account { until: Some(until), .. } = why {
                    self.timers.insert((*until, Timer::Account(no)));
                }
            }
            Status::Waiting
            | Status::Grown
            | Status::Completed
            | Status::Failed
            | Status::Skipped(_)
            | Status::Dropped => {}
        }
        let since = self.last_at;
        let step = &mut self.steps[no.index()];
        (step.status, step.since) = (status, since);
    }

    /// What it takes to begin a step.
    #[must_use]
    pub fn lane(&self, no: StepNo) -> super::Lane {
        let step = &self.steps[no.index()];
        let grows = step.part_of.is_none() && self.spec(no).for_each.is_some();
        let asks = self.plan.plan.manual && !step.released;
        match self.plan.lane(step.spec) {
            _ if grows || asks => super::Lane::Free,
            super::Lane::Agent(number) if step.is_suspect() => super::Lane::Alone(number),
            super::Lane::Agent(number) if step.extra => super::Lane::Again(number),
            lane => lane,
        }
    }

    /// The lane of a step, and its rank there.
    fn place(&self, no: StepNo) -> (super::Lane, Rank) {
        let step = &self.steps[no.index()];
        let lane = self.lane(no);
        (lane, Rank::new(self.spec(no).priority, self.plan.remaining_ms(step.spec), no))
    }

    /// Starts or stops the clock of the run's active time.
    pub(super) fn keep_time(&mut self, at: Timestamp) {
        let limits = self.limits();
        if limits.iter().all(Option::is_none) {
            return;
        }
        let active = self.started
            && self.paused.is_none()
            && self.stopping.is_none()
            && self.ended.is_none()
            && (!self.running.is_empty() || self.ready.len() > 0);
        match (self.clock.since, active) {
            (None, true) => {
                self.clock.since = Some(at);
                self.timers.extend(self.ends(at, limits));
            }
            (Some(_), false) => self.stop_clock(at),
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Stops the clock, and counts what it showed at `at`.
    fn stop_clock(&mut self, at: Timestamp) {
        if let Some(since) = self.clock.since.take() {
            for end in self.ends(since, self.limits()) {
                self.timers.remove(&end);
            }
            self.clock.spent = self.clock.spent.saturating_add(at.since(since));
        }
    }

    /// Stops the clocks of the run and of what is worked on as they were at `last_at`.
    fn stop_clocks(&mut self, last_at: Timestamp, at: Timestamp) {
        self.stop_clock(last_at);
        for no in self.running.clone() {
            self.count_time(no, last_at);
            self.steps[no.index()].begun_at = at;
        }
    }

    /// How long the run may be active, and what happens then.
    pub(super) fn limits(&self) -> [Option<(Timer, Duration)>; 2] {
        let timeout = self.plan.plan.timeout_ms.map(Duration::from_millis);
        [self.time().map(|limit| (Timer::Time, limit)), timeout.map(|limit| (Timer::Run, limit))]
    }

    /// When it has been so long, on a clock that goes since then.
    fn ends(
        &self,
        since: Timestamp,
        limits: [Option<(Timer, Duration)>; 2],
    ) -> impl Iterator<Item = (Timestamp, Timer)> + use<> {
        let spent = self.clock.spent;
        let end =
            move |(timer, limit): (_, Duration)| (since.after(limit.saturating_sub(spent)), timer);
        limits.into_iter().flatten().map(end)
    }
}

/// Whether `event` can happen to a step that stands so.
fn makes_sense(event: &Event, status: &Status) -> bool {
    match event {
        Event::StepStarted { .. } | Event::ApprovalRequested { .. } => *status == Status::Ready,
        Event::StepRetrying { .. } => *status == Status::Running,
        Event::ApprovalDecided { .. } => *status == Status::Asked,
        Event::StepResolved { .. } => matches!(status, Status::Blocked(_)),
        Event::QuestionAnswered { ordinal: of, .. } => {
            matches!(status, Status::Blocked(Blocked::Question { ordinal, .. }) if ordinal == of)
        }
        Event::StepsGrown { .. } => matches!(status, Status::Ready | Status::Grown),
        _ => !status.is_final(),
    }
}

/// A call that is to be made again gets a new key, unless that could do it twice.
fn forget(effect: &mut Effect) {
    let keep = match &effect.state {
        EffectState::Recorded(Outcome::Failed(_)) | EffectState::Asked(_) => false,
        EffectState::Recorded(Outcome::Done(_)) | EffectState::Started => {
            effect.id.safety == Safety::Unsafe
        }
        EffectState::Forgotten => true,
    };
    if !keep {
        effect.id.generation += 1;
        effect.state = EffectState::Forgotten;
    }
}
