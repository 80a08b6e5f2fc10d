//! What agents do in the world: outside calls, good ends, bad ends, no ends.

use std::sync::Arc;

use kapelle_core::port::agent::{Failure, FailureKind, Safety};
use kapelle_core::run::{Command, EffectId, EffectState, Effects, Outcome, Produced};
use kapelle_core::{Attempt, Digest, INLINE_MAX, Json, Payload, RunId, StepNo, Tenant, Value};
use kapelle_engine::shards::{Offer, Reply, Start, Tell};
use kapelle_engine::{Alone, Slot};
use serde_json::json;

use super::Planted;
use super::hits::Fault;
use super::node::LifeRef;
use super::people::Waiting;
use super::world::{Coming, MS, SECOND, World};

/// An attempt that is alive.
#[derive(Debug)]
pub(super) struct Live {
    run: RunId,
    step: StepNo,
    attempt: Attempt,
    tenant: Tenant,
    agent: Box<str>,
    slot: Slot,
    memo: Effects,
    /// How many outside calls it makes, and which one is next.
    calls: u32,
    next: u32,
    cancelled: bool,
    /// Kept while it is the one suspect at work.
    _alone: Option<Alone>,
    /// It waits for an answer of its desk or of the outside.
    busy: bool,
}

/// An outside call on its way there and back.
#[derive(Clone)]
pub(super) struct Landing {
    life: LifeRef,
    handle: u64,
    run: RunId,
    step: StepNo,
    effect: EffectId,
    told: Option<Result<(), Failure>>,
}

impl Live {
    /// Whether it is an attempt of `run`, and this one.
    pub(super) fn is(&self, run: RunId, which: Option<(StepNo, Attempt)>) -> bool {
        self.run == run && which.is_none_or(|which| which == (self.step, self.attempt))
    }
}

impl World<'_> {
    /// Starts an attempt.
    pub(super) fn start(&mut self, of: LifeRef, start: Start) {
        let checked = self.model.started(start.call.run, &start);
        self.check(checked);
        let Start { step, agent, slot, call, effects, tenant, alone, .. } = start;
        let (run, attempt) = (call.run, call.attempt);
        self.note(|| format!("{of} starts {run} {step:?}#{attempt} key {}", call.key));
        if !self.started.insert((run, step.0, attempt.0)) {
            self.check(Err(format!("run {run}: {step:?}#{attempt} is started twice")));
        }
        // The same calls in every attempt of a step.
        let calls = match &*agent {
            "paid" => step.0 % 4 + u32::from(run.as_bytes()[9] % 40 == 0) * 12,
            _ => step.0 % 4,
        };
        let live = Live {
            run,
            step,
            attempt,
            tenant,
            agent,
            slot,
            memo: effects,
            calls,
            next: 1,
            cancelled: false,
            _alone: alone,
            busy: false,
        };
        self.serial += 1;
        let handle = self.serial;
        if let Some(life) = self.life(of) {
            life.attempts.insert(handle, live);
        }
        let after = self.dice.range(0, 300 * MS);
        self.later(after, Coming::Attempt { life: of, attempt: handle });
    }

    /// Tells attempts that they are not wanted.
    pub(super) fn stop(&mut self, of: LifeRef, which: impl Fn(&Live) -> bool) {
        let Some(life) = self.life(of) else { return };
        let mut told = Vec::new();
        for (handle, live) in &mut life.attempts {
            if which(live) && !live.cancelled {
                live.cancelled = true;
                told.push(*handle);
            }
        }
        for handle in told {
            let after = self.dice.range(0, 10 * SECOND);
            self.later(after, Coming::Attempt { life: of, attempt: handle });
        }
    }

    /// An attempt takes its next step.
    pub(super) fn go_on(&mut self, of: LifeRef, handle: u64) {
        let ignores_memo = self.planted == Some(Planted::NoMemo);
        let Some(live) = self.life(of).and_then(|life| life.attempts.get(&handle)) else { return };
        if live.cancelled && (live.busy || self.dice_chance(70)) {
            let failure = Failure::new(FailureKind::Cancelled, "cancelled", "it was told to stop");
            return self.finish(of, handle, Err(failure.uncertain()));
        }
        let Some(live) = self.life(of).and_then(|life| life.attempts.get(&handle)) else { return };
        if live.busy {
            return;
        }
        if live.next > live.calls {
            return self.end(of, handle);
        }
        let ordinal = live.next;
        let known = live.memo.get(&ordinal).cloned();
        let (paid, input) = (&*live.agent == "paid", Digest::of(&ordinal.to_le_bytes()));
        let safety = if paid && ordinal % 2 == 1 { Safety::Unsafe } else { Safety::Repeatable };
        let generation = known.as_ref().map_or(0, |known| known.id.generation);
        let effect = EffectId { ordinal, name: "call".into(), input, generation, safety };
        match known.map(|known| known.state).filter(|_| !ignores_memo) {
            Some(EffectState::Recorded(outcome)) => {
                self.replay(of, handle, ordinal, &outcome);
            }
            Some(EffectState::Started) => {
                let failure = Failure::new(FailureKind::Lost, "in_doubt", "a call is in doubt");
                self.finish(of, handle, Err(failure.uncertain()));
            }
            Some(EffectState::Forgotten | EffectState::Asked(_)) | None => {
                self.begin_call(of, handle, effect);
            }
        }
    }

    fn dice_chance(&mut self, percent: u64) -> bool {
        self.dice.chance(percent)
    }

    fn replay(&mut self, of: LifeRef, handle: u64, ordinal: u32, outcome: &Outcome) {
        match outcome {
            Outcome::Failed(failure) if self.dice.chance(60) => {
                let mut failure = failure.clone();
                failure.forget_from = Some(ordinal);
                self.finish(of, handle, Err(failure));
            }
            Outcome::Done(_) | Outcome::Failed(_) => {
                if let Some(live) = self.life(of).and_then(|life| life.attempts.get_mut(&handle)) {
                    live.next += 1;
                    live.busy = false;
                }
                let after = self.dice.range(0, 50 * MS);
                self.later(after, Coming::Attempt { life: of, attempt: handle });
            }
        }
    }

    fn begin_call(&mut self, of: LifeRef, handle: u64, effect: EffectId) {
        let Some(live) = self.life(of).and_then(|life| life.attempts.get_mut(&handle)) else {
            return;
        };
        live.busy = true;
        let (run, step, attempt) = (live.run, live.step, live.attempt);
        if effect.safety == Safety::Unsafe {
            let command =
                Command::StartEffect { step, attempt, effect: effect.clone(), reserve: None };
            let waiting = Waiting::Effect { life: of, handle, run, step, effect, outcome: None };
            return self.report(of, handle, command, Some(waiting));
        }
        self.call(of, handle, effect);
    }

    /// The call leaves the node: from here on it happens, whatever becomes of us.
    pub(super) fn call(&mut self, of: LifeRef, handle: u64, effect: EffectId) {
        let Some(live) = self.life(of).and_then(|life| life.attempts.get(&handle)) else { return };
        let (run, step, attempt) = (live.run, live.step, live.attempt);
        let checked = self.model.calling(run, step, attempt, &effect);
        self.check(checked);
        let landing = Landing { life: of, handle, run, step, effect, told: None };
        let after = self.dice.range(MS, 400 * MS);
        self.later(after, Coming::Lands(Box::new(landing)));
    }

    pub(super) fn lands(&mut self, mut landing: Box<Landing>) {
        let failure = |kind| Failure::new(kind, "outside", "the other side has trouble");
        let roll = if self.calm { 0 } else { self.dice.below(100) };
        let (happens, told) = match roll {
            0..80 => (true, Ok(())),
            80..88 => (false, Err(failure(FailureKind::Unavailable))),
            88..94 => (true, Err(failure(FailureKind::Timeout).uncertain())),
            _ => (false, Err(failure(FailureKind::Timeout).uncertain())),
        };
        if happens {
            let checked = self.model.made(landing.run, landing.step, &landing.effect);
            self.check(checked);
        }
        landing.told = Some(told);
        let after = self.dice.range(MS, 200 * MS);
        self.later(after, Coming::Comes(landing));
    }

    /// The answer of an outside call is recorded, if it is certain.
    pub(super) fn comes(&mut self, landing: Landing) {
        let Landing { life: of, handle, run, step, effect, told } = landing;
        let Some(live) = self.life(of).and_then(|life| life.attempts.get(&handle)) else { return };
        let attempt = live.attempt;
        let outcome = match told.expect("it has landed") {
            Ok(()) => Outcome::Done(Value::Inline(Arc::new(json!(effect.ordinal)))),
            Err(failure) if failure.certain => Outcome::Failed(failure),
            Err(failure) => return self.finish(of, handle, Err(failure)),
        };
        let command = Command::RecordEffect {
            step,
            attempt,
            effect: effect.clone(),
            outcome: outcome.clone(),
            used: None,
        };
        let outcome = Some(outcome);
        let waiting = Waiting::Effect { life: of, handle, run, step, effect, outcome };
        self.report(of, handle, command, Some(waiting));
    }

    /// The desk hears what became of its report.
    pub(super) fn desk_hears(
        &mut self,
        (of, handle): (LifeRef, u64),
        (run, step, effect): (RunId, StepNo, EffectId),
        outcome: Option<Outcome>,
        reply: &Reply,
    ) {
        if !matches!(reply, Reply::Done { .. }) {
            let failure = Failure::new(FailureKind::Lost, "desk", format!("{reply:?}"));
            return self.finish(of, handle, Err(failure.uncertain()));
        }
        if !self.model.knows_effect(run, step, effect.ordinal, outcome.is_some()) {
            let what =
                format!("run {run}: call {step:?}/{} goes on before its commit", effect.ordinal);
            self.check(Err(what));
        }
        match outcome {
            None => self.call(of, handle, effect),
            Some(outcome) => self.replay(of, handle, effect.ordinal, &outcome),
        }
    }

    /// An attempt comes to its end, if it has one.
    fn end(&mut self, of: LifeRef, handle: u64) {
        let fail = |kind, code: &str| Failure::new(kind, code, "it did not work out");
        let roll = if self.calm { self.dice.below(75) } else { self.dice.below(100) };
        let failure = match roll {
            0..76 => return self.answer(of, handle),
            76..80 => fail(FailureKind::Unavailable, "unavailable"),
            80..83 => fail(FailureKind::Crashed, "exit_1"),
            83..86 => fail(FailureKind::Timeout, "timeout").uncertain(),
            86..88 => fail(FailureKind::Bug, "panic").uncertain(),
            88..90 => fail(FailureKind::RateLimited, "slow_down")
                .retry_after(std::time::Duration::from_millis(700)),
            90..92 => fail(FailureKind::Refused, "refused"),
            92..94 => {
                let mut failure = fail(FailureKind::Unavailable, "start_over");
                failure.forget_from = Some(1);
                failure
            }
            // It hangs until it is told to stop.
            _ if !self.is_cancelled(of, handle) => return,
            _ => fail(FailureKind::Cancelled, "cancelled"),
        };
        self.finish(of, handle, Err(failure));
    }

    fn is_cancelled(&mut self, of: LifeRef, handle: u64) -> bool {
        self.life(of).and_then(|life| life.attempts.get(&handle)).is_some_and(|live| live.cancelled)
    }

    fn answer(&mut self, of: LifeRef, handle: u64) {
        let Some(live) = self.life(of).and_then(|life| life.attempts.get(&handle)) else { return };
        let by = format!("{}#{}", live.step.0, live.attempt);
        let mut json = json!({"by": by, "items": [1, 2]});
        if self.calm || self.dice.chance(85) {
            json["good"] = json!(true);
        }
        if self.dice.chance(30) {
            json["pad"] = json!("x".repeat(300));
        }
        if let (Value::Digest { digest, .. }, _) = Value::of(json.clone(), INLINE_MAX) {
            self.model.authors.insert(digest, by.into());
        }
        self.finish(of, handle, Ok(json));
    }

    /// An attempt ends: its slot is free, its report is on its way.
    fn finish(&mut self, of: LifeRef, handle: u64, end: Result<Json, Failure>) {
        let Some(live) = self.life(of).and_then(|life| life.attempts.get(&handle)) else { return };
        let (run, step, attempt) = (live.run, live.step, live.attempt);
        let (command, payload) = match end {
            Ok(json) => {
                let (value, payload) = Value::of(json.clone(), INLINE_MAX);
                let json = Arc::new(json);
                let (artifacts, usage, engine) = Default::default();
                let answer = Box::new(Produced { value, json, artifacts, usage, engine });
                (Command::Answered { step, attempt, answer }, payload)
            }
            Err(mut failure) => {
                let by = format!("{}#{attempt}", step.0);
                failure.partial = Some(Arc::new(json!({"by": by})));
                (Command::Failed { step, attempt, failure }, None)
            }
        };
        self.note(|| format!("{of} ends {run} {step:?}#{attempt}"));
        self.tell(of, handle, command, payload, None);
        if let Some(life) = self.life(of)
            && let Some(live) = life.attempts.remove(&handle)
        {
            life.slots.give(&live.slot);
        }
        self.poke(of, 0);
    }

    fn report(&mut self, of: LifeRef, handle: u64, command: Command, waiting: Option<Waiting>) {
        self.tell(of, handle, command, None, waiting);
    }

    /// Sends what an attempt has to say to its shard: sometimes late, sometimes twice.
    fn tell(
        &mut self,
        of: LifeRef,
        handle: u64,
        command: Command,
        payload: Option<Payload>,
        waiting: Option<Waiting>,
    ) {
        let Some(live) = self.life(of).and_then(|life| life.attempts.get(&handle)) else { return };
        let (run, tenant) = (live.run, live.tenant.clone());
        let payloads: Vec<Payload> = payload.into_iter().collect();
        let is_end = waiting.is_none();
        let ticket = waiting.map(|waiting| self.ticket(waiting));
        let copies = 1 + u32::from(is_end && self.dice.chance(10));
        for copy in 0..copies {
            let late = !self.calm && self.dice.chance(8);
            let after =
                if late { self.dice.range(0, 12 * SECOND) } else { self.dice.range(0, 5 * MS) };
            let kinds = self.last_of(run);
            if copy > 0 {
                self.hits.add(Fault::Duplicate, kinds);
            }
            if late {
                self.hits.add(Fault::Late, kinds);
            }
            let (tenant, payloads) = (tenant.clone(), payloads.clone());
            let (command, references) = (command.clone(), Vec::new());
            let tell = Box::new(Tell { tenant, run, command, payloads, references, ticket });
            self.later(after, Coming::Offer { life: of, offer: Offer::Tell(tell) });
        }
    }
}
