//! The oracle: a plain model of what a journal may hold, and of what may follow from it.
//!
//! It knows the promises of `semantics.md`, not the engine. It folds the events of each run by itself, to
//! compare a run in memory, and what a replay gives, with what the journal says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kapelle_core::port::agent::{Failure, FailureKind, Safety};
use kapelle_core::port::journal::Entry;
use kapelle_core::run::{Blocked, EffectId, Event, Outcome, Resolved, Run};
use kapelle_core::{Attempt, Digest, Epoch, RunId, Shard, StepNo, Timestamp, Value};
use kapelle_engine::shards::{Loaded, Published, Start};
use serde::Deserialize;

use super::hits::Kinds;
use super::plans::{Planned, Stock};

/// What a violated promise is called, and how it was violated.
pub(super) type Checked = Result<(), String>;

/// All journals, as far as the world has read them.
#[derive(Default)]
pub(super) struct Model {
    pub(super) runs: BTreeMap<RunId, RunModel>,
    pub(super) transitions: u64,
    keys: BTreeMap<Box<str>, RunId>,
    writers: BTreeMap<(Shard, Epoch), u32>,
    epochs: BTreeMap<Shard, Epoch>,
    /// Who said something that is on disk.
    pub(super) said: BTreeSet<Box<str>>,
    /// Whose answer a long value is.
    pub(super) authors: BTreeMap<Digest, Box<str>>,
}

/// One run.
#[derive(Default)]
pub(super) struct RunModel {
    /// What its events come to.
    pub(super) state: Option<Run>,
    pub(super) plan: Option<Arc<Planned>>,
    pub(super) events: Vec<Event>,
    pub(super) ended: bool,
    /// The transitions of its last entry.
    pub(super) last: Kinds,
    hash: [u8; 32],
    at: Timestamp,
    steps: BTreeMap<StepNo, StepModel>,
}

/// One step.
#[derive(Default)]
struct StepModel {
    attempt: u32,
    running: bool,
    over: bool,
    definite: u32,
    in_doubt: Option<u32>,
    /// How many nodes died with it in a row, soon after they began it.
    deaths: u32,
    calls: BTreeMap<u32, CallModel>,
}

/// One outside call of a step.
#[derive(Default)]
struct CallModel {
    /// The journal has it.
    known: bool,
    forgotten: bool,
    is_unsafe: bool,
    generation: u32,
    /// The attempt that recorded it, and whether it went well.
    recorded: Option<(u32, bool)>,
    /// How often a person said to make it again.
    again: u32,
    /// How often it really was made.
    made: u32,
}

fn wrong(what: String) -> Checked {
    Err(what)
}

impl Model {
    /// Takes note of an entry that `writer` (a life of a node) has appended.
    pub(super) fn entry(&mut self, entry: &Entry, writer: u32, stock: &Stock) -> Checked {
        self.writer(entry, writer)?;
        let run = self.runs.entry(entry.run).or_default();
        run.follows(entry)?;
        if run.plan.is_none() {
            run.plan =
                Some(stock.find(workflow(entry)).ok_or("nobody knows the workflow")?.clone());
        }
        let events: Vec<Event> =
            serde_json::from_slice(&entry.body).map_err(|error| error.to_string())?;
        if events.len() != entry.count as usize {
            return wrong(format!("run {}: {} events of {}", entry.run, events.len(), entry.count));
        }
        run.fold(entry, &events)?;
        if let (Some(Event::RunCreated(created)), Some(plan)) = (events.first(), &run.plan) {
            if (&created.plan, &created.inputs) != (&plan.plan, &plan.inputs) {
                return wrong(format!("run {} is not what was submitted", entry.run));
            }
            let key = created.task_id.clone().unwrap_or_default();
            if let Some(twin) = self.keys.insert(key.clone(), entry.run) {
                return wrong(format!("key {key} made the runs {twin} and {}", entry.run));
            }
        }
        run.last = Kinds::of(&events);
        self.transitions += events.len() as u64;
        for event in events {
            run.event(&event, &self.authors).map_err(|w| format!("run {}: {w}", entry.run))?;
            if let Some(by) = said_by(&event) {
                self.said.insert(by.into());
            }
            run.events.push(event);
        }
        Ok(())
    }

    /// One writer an epoch, and no epoch after a later one.
    fn writer(&mut self, entry: &Entry, writer: u32) -> Checked {
        let shard = entry.run.shard();
        if *self.writers.entry((shard, entry.epoch)).or_insert(writer) != writer {
            return wrong(format!("two nodes wrote shard {shard:?} under {:?}", entry.epoch));
        }
        let last = self.epochs.entry(shard).or_default();
        if entry.epoch < *last {
            return wrong(format!("{:?} wrote shard {shard:?} after {last:?}", entry.epoch));
        }
        *last = entry.epoch;
        Ok(())
    }

    /// The run that was made under a key.
    pub(super) fn run_of(&self, key: &str) -> Option<RunId> {
        self.keys.get(key).copied()
    }

    /// What is told as done up to `seq` must be on disk.
    pub(super) fn acknowledged(&self, run: RunId, seq: u64) -> Checked {
        let on_disk = self.runs.get(&run).map_or(0, |run| run.events.len() as u64);
        if seq > on_disk {
            return wrong(format!("run {run}: {seq} was acknowledged, {on_disk} are on disk"));
        }
        Ok(())
    }

    pub(super) fn published(&self, published: &Published) -> Checked {
        let from = usize::try_from(published.first_seq - 1).map_err(|e| e.to_string())?;
        let known = self
            .runs
            .get(&published.run)
            .and_then(|run| run.events.get(from..from + published.events.len()));
        if known != Some(&published.events[..]) {
            return wrong(format!(
                "run {}: events were published before they were on disk",
                published.run
            ));
        }
        Ok(())
    }

    /// An attempt is about to be started.
    pub(super) fn started(&self, run: RunId, start: &Start) -> Checked {
        let (step, attempt, key) = (start.step, start.attempt(), &start.call.key);
        let found = self.runs.get(&run).and_then(|run| run.steps.get(&step));
        let Some(found) = found.filter(|step| step.attempt >= attempt.0) else {
            return wrong(format!("run {run}: {step:?}#{attempt} starts before it is on disk"));
        };
        // Between this start and its commit another node may have gone on.
        let current = found.attempt == attempt.0 && found.running;
        if current && !key.ends_with(&format!("/0/{}", found.definite)) {
            return wrong(format!("run {run}: {step:?}#{attempt} has another key: {key}"));
        }
        if current && start.alone.is_some() != (found.deaths >= 2) {
            let (deaths, alone) = (found.deaths, start.alone.is_some());
            return wrong(format!("run {run}: {step:?}: {deaths} deaths, alone: {alone}"));
        }
        Ok(())
    }

    /// An agent is about to make an outside call.
    pub(super) fn calling(
        &self,
        run: RunId,
        step: StepNo,
        attempt: Attempt,
        id: &EffectId,
    ) -> Checked {
        let Some(found) = self.runs.get(&run).and_then(|run| run.steps.get(&step)) else {
            return wrong(format!("run {run}: {step:?} makes a call and was never started"));
        };
        let Some(call) = found.calls.get(&id.ordinal).filter(|call| call.known) else {
            return if id.safety == Safety::Unsafe {
                wrong(format!("run {run}: unsafe call {step:?}/{} is not on disk", id.ordinal))
            } else {
                Ok(())
            };
        };
        // An attempt that was given up may still do what it was about to do.
        if let Some((by, true)) = call.recorded
            && by < attempt.0
            && found.attempt == attempt.0
        {
            return wrong(format!(
                "run {run}: recorded call {step:?}/{} is made again",
                id.ordinal
            ));
        }
        if found.attempt == attempt.0 && call.generation != id.generation {
            return wrong(format!(
                "run {run}: call {step:?}/{} has generation {}, {} is right",
                id.ordinal, id.generation, call.generation
            ));
        }
        Ok(())
    }

    /// An outside call was really made.
    pub(super) fn made(&mut self, run: RunId, step: StepNo, id: &EffectId) -> Checked {
        let Some(run_model) = self.runs.get_mut(&run) else { return Ok(()) };
        let call = run_model.steps.entry(step).or_default().calls.entry(id.ordinal).or_default();
        call.made += 1;
        if id.safety == Safety::Unsafe && call.made > 1 + call.again {
            return wrong(format!("run {run}: unsafe call {step:?}/{} was made twice", id.ordinal));
        }
        Ok(())
    }

    /// Whether the journal knows an effect as started, or as recorded.
    pub(super) fn knows_effect(
        &self,
        run: RunId,
        step: StepNo,
        ordinal: u32,
        recorded: bool,
    ) -> bool {
        let step = self.runs.get(&run).and_then(|run| run.steps.get(&step));
        let call = step.and_then(|step| step.calls.get(&ordinal));
        call.is_some_and(|call| call.known && (!recorded || call.recorded.is_some()))
    }

    /// The attempt of a step that is under way, as the journal has it.
    pub(super) fn current(&self, run: RunId, step: StepNo) -> Option<Attempt> {
        let step = self.runs.get(&run)?.steps.get(&step).filter(|step| step.running)?;
        Some(Attempt(step.attempt))
    }

    /// A run as a replay of its journal makes it.
    pub(super) fn replayed(&self, run: RunId) -> Result<Option<Run>, String> {
        let Some(replayed) = self.runs.get(&run).and_then(|run| run.state.as_ref()) else {
            return Ok(None);
        };
        let mut replayed = replayed.clone();
        match replayed.follow() {
            None => Ok(Some(replayed)),
            Some(event) => Err(format!("run {run}: a replay goes on by itself: {event:?}")),
        }
    }
}

impl RunModel {
    /// The run as who reads its journal gets it.
    pub(super) fn loaded(&self) -> Option<Loaded> {
        let mut run = self.state.clone()?;
        while let Some(event) = run.follow() {
            let at = run.last_at();
            run.apply(&event, at);
        }
        Some(Loaded { run, hash: self.hash })
    }

    /// An entry continues the run in its numbers and its time. That `Fold` finds a broken chain is
    /// shown by the bits that flip.
    fn follows(&mut self, entry: &Entry) -> Checked {
        let (run, seq) = (entry.run, entry.first_seq);
        if seq != self.events.len() as u64 + 1 {
            return wrong(format!("run {run} has a gap at {seq}"));
        }
        if entry.at < self.at {
            return wrong(format!("run {run} goes back in time at {seq}"));
        }
        (self.hash, self.at) = (entry.hash, entry.at);
        Ok(())
    }

    /// Applies the events of an entry.
    fn fold(&mut self, entry: &Entry, events: &[Event]) -> Checked {
        let mut rest = events;
        if self.state.is_none() {
            let (Some((Event::RunCreated(created), more)), Some(plan)) =
                (events.split_first(), &self.plan)
            else {
                return wrong(format!("run {} begins without a plan", entry.run));
            };
            let plan = plan.compiled.clone();
            (self.state, rest) = (Some(Run::new(entry.run, created, plan, entry.at)), more);
        }
        for event in rest {
            self.state.as_mut().expect("it was just made").apply(event, entry.at);
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, authors: &BTreeMap<Digest, Box<str>>) -> Checked {
        if self.ended {
            return wrong(format!("{event:?} after its end"));
        }
        match event {
            Event::RunCompleted { .. } => self.ended = true,
            Event::StepStarted { step, attempt, generation, .. } => {
                let found = self.live(*step, event)?;
                if found.running || attempt.0 != found.attempt + 1 {
                    return wrong(format!("{step:?}#{attempt} starts after #{}", found.attempt));
                }
                if *generation != found.definite {
                    return wrong(format!("{step:?}#{attempt} has another key"));
                }
                (found.attempt, found.running, found.in_doubt) = (attempt.0, true, None);
            }
            Event::StepRetrying { step, attempt, failure, definite, .. } => {
                own(*step, *attempt, failure)?;
                let found = self.on(*step, *attempt, event)?;
                found.running = false;
                found.definite += u32::from(*definite);
                found.count_death(failure);
                if let Some(from) = failure.forget_from {
                    found.calls.range_mut(from..).for_each(|(_, call)| call.forget());
                }
            }
            Event::StepCompleted { step, attempt, value, .. } => {
                let found = self.live(*step, event)?;
                if let Some(attempt) = attempt.filter(|_| found.running) {
                    let by = format!("{}#{attempt}", step.0);
                    if found.attempt != attempt.0 || *author(value, authors) != *by {
                        return wrong(format!("{step:?}#{attempt} ends with another's answer"));
                    }
                }
                found.end();
            }
            Event::StepFailed { step, attempt, failure } => match attempt {
                Some(attempt) => {
                    own(*step, *attempt, failure)?;
                    self.on(*step, *attempt, event)?.end();
                }
                None => self.live(*step, event)?.end(),
            },
            Event::StepSkipped { step, .. } => self.live(*step, event)?.end(),
            Event::StepBlocked { step, why, .. } => {
                let found = self.live(*step, event)?;
                found.running = false;
                found.in_doubt = match why {
                    Blocked::InDoubt { ordinal, deaths, .. } => {
                        if *deaths > 0 && (*deaths < 3 || *deaths != found.deaths + 1) {
                            return wrong(format!("{event:?} after {} deaths", found.deaths));
                        }
                        Some(*ordinal)
                    }
                    Blocked::NoAgent { .. }
                    | Blocked::Budget { .. }
                    | Blocked::Account { .. }
                    | Blocked::Question { .. } => None,
                };
            }
            Event::StepResolved { step, how, .. } => {
                let found = self.live(*step, event)?;
                let attempt = found.attempt;
                found.deaths = if found.in_doubt.is_some() { 0 } else { found.deaths };
                if let Some(call) = found.in_doubt.and_then(|n| found.calls.get_mut(&n)) {
                    match how {
                        Resolved::Retry => call.again += 1,
                        Resolved::Done(_) => call.recorded = Some((attempt, true)),
                        Resolved::Skip | Resolved::Fail => {}
                    }
                }
            }
            Event::StepsDropped { steps } => {
                for step in steps {
                    self.live(*step, event)?.end();
                }
            }
            Event::EffectStarted { step, attempt, effect, .. } => {
                self.on(*step, *attempt, event)?.call(effect)?;
            }
            Event::EffectRecorded { step, attempt, effect, outcome, .. } => {
                let call = self.on(*step, *attempt, event)?.call(effect)?;
                if call.recorded.is_some() {
                    return wrong(format!("call {step:?}/{} is recorded twice", effect.ordinal));
                }
                call.recorded = Some((attempt.0, matches!(outcome, Outcome::Done(_))));
            }
            _ => {}
        }
        Ok(())
    }

    /// A step that has not ended.
    fn live(&mut self, step: StepNo, event: &Event) -> Result<&mut StepModel, String> {
        let found = self.steps.entry(step).or_default();
        if found.over { Err(format!("{event:?} after the step's end")) } else { Ok(found) }
    }

    /// The same, on this attempt.
    fn on(
        &mut self,
        step: StepNo,
        attempt: Attempt,
        event: &Event,
    ) -> Result<&mut StepModel, String> {
        let found = self.live(step, event)?;
        if found.attempt == attempt.0 {
            Ok(found)
        } else {
            Err(format!("{event:?}: not on that attempt"))
        }
    }
}

impl StepModel {
    /// Lost with its node soon after its start, or not lost at all; lost otherwise says nothing.
    fn count_death(&mut self, failure: &Failure) {
        match (failure.kind, &*failure.code) {
            (FailureKind::Lost, "node_died") => self.deaths += 1,
            (FailureKind::Lost, _) => {}
            _ => self.deaths = 0,
        }
    }

    const fn end(&mut self) {
        self.running = false;
        self.over = true;
    }

    fn call(&mut self, id: &EffectId) -> Result<&mut CallModel, String> {
        let call = self.calls.entry(id.ordinal).or_default();
        call.is_unsafe = id.safety == Safety::Unsafe;
        (call.known, call.forgotten) = (true, false);
        if call.generation == id.generation {
            Ok(call)
        } else {
            Err(format!(
                "call {} has generation {}, {} is right",
                id.ordinal, id.generation, call.generation
            ))
        }
    }
}

impl CallModel {
    /// The attempt gave up what it did from here on.
    const fn forget(&mut self) {
        let keeps = match self.recorded {
            _ if self.forgotten || !self.known => true,
            Some((_, well)) => well && self.is_unsafe,
            None => self.is_unsafe,
        };
        if !keeps {
            self.generation += 1;
            self.forgotten = true;
            self.recorded = None;
        }
    }
}

/// A failure that an agent reported is that of its own attempt.
fn own(step: StepNo, attempt: Attempt, failure: &Failure) -> Checked {
    let by = failure.partial.as_ref().and_then(|partial| partial["by"].as_str());
    match by {
        Some(by) if by != format!("{}#{attempt}", step.0) => {
            wrong(format!("{step:?}#{attempt} fails by the report of {by}"))
        }
        _ => Ok(()),
    }
}

fn author<'a>(value: &'a Value, authors: &'a BTreeMap<Digest, Box<str>>) -> &'a str {
    match value {
        Value::Inline(json) => json["by"].as_str().unwrap_or_default(),
        Value::Digest { digest, .. } => authors.get(digest).map_or("", |by| by),
        Value::List { .. } | Value::Picked(_) | Value::Sinks => "",
    }
}

fn said_by(event: &Event) -> Option<&str> {
    match event {
        Event::RunPaused { by, .. }
        | Event::RunResumed { by }
        | Event::RunStopping { by, .. }
        | Event::StepResolved { by, .. }
        | Event::ApprovalDecided { by, .. } => Some(by),
        _ => None,
    }
}

/// The workflow that is named in the first entry of a run.
fn workflow(entry: &Entry) -> &str {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        workflow: Option<&'a str>,
    }
    let events: Vec<Named<'_>> = serde_json::from_slice(&entry.body).unwrap_or_default();
    events.first().and_then(|created| created.workflow).unwrap_or_default()
}
