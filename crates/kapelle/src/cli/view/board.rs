//! What is known of a run's steps: from its plan, and from its events as they come.
//!
//! **Invariant:** an event costs the same in a plan of ten steps and of a hundred thousand.

use std::collections::{BTreeMap, BTreeSet};

use kapelle_api::{Event, EventKind};
use kapelle_core::Timestamp;
use kapelle_core::plan::{Plan, analyze};

use super::line::columns;
use super::plain::{blocked, skipped};
use super::step::{Key, MESSAGE_MAX, State, Step};
use crate::cli::out::shown;

/// How long a run is expected to take, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Estimate {
    /// The last run of the workflow that completed took this long.
    Last(u64),
    /// The plan says so.
    Planned(u64),
}

/// A run and its steps.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) run: String,
    pub(super) workflow: String,
    pub(super) began: Option<Timestamp>,
    /// It has ended.
    pub(super) took_ms: Option<u64>,
    /// What there is to say about the run as a whole.
    pub(super) note: String,
    pub(super) estimate: Option<Estimate>,
    pub(super) waves: u32,
    /// The longest id and the longest agent's name of the plan, in columns.
    pub(super) widths: (usize, usize),
    places: BTreeMap<String, (u32, u32)>,
    steps: BTreeMap<Key, Step>,
    by_state: BTreeMap<State, BTreeSet<Key>>,
    /// Parts that are there but have not been named yet.
    unnamed: usize,
}

impl Board {
    /// Learns the plan, and how long the last run of its workflow took.
    pub(super) fn plan(&mut self, plan: &Plan, last_ms: Option<u64>) {
        let analysis = analyze(plan);
        let told = analysis.steps.iter().all(|step| !step.assumed || step.agent.is_none());
        let planned = told.then_some(Estimate::Planned(analysis.estimated_duration_ms));
        self.estimate = last_ms.map(Estimate::Last).or(planned);
        self.waves = number(analysis.waves.len());
        for (place, (step, planned)) in analysis.steps.iter().zip(&plan.steps).enumerate() {
            let (id, agent) = (step.id.as_str(), step.agent.as_deref().unwrap_or_default());
            self.widths.1 = self.widths.1.max(columns(agent));
            self.places.insert(id.to_owned(), (number(step.wave), number(place)));
            let step = self.step(id);
            agent.clone_into(&mut step.agent);
            step.about = shown(planned.description.as_deref().unwrap_or_default(), MESSAGE_MAX);
        }
    }

    pub(super) fn note(&mut self, event: &Event) {
        let at = moment(event.at.as_deref());
        match &event.step {
            Some(step) => self.note_step(step, &event.kind, at),
            None => self.note_run(event, at),
        }
    }

    fn note_run(&mut self, event: &Event, at: Option<Timestamp>) {
        match &event.kind {
            EventKind::RunCreated { workflow, .. } => {
                self.run.clone_from(&event.run);
                self.workflow.clone_from(workflow);
                self.began = at;
            }
            EventKind::RunPaused { by: Some(by), reason, .. } if reason.is_empty() => {
                self.note = format!("paused by {}", shown(by, MESSAGE_MAX));
            }
            EventKind::RunPaused { reason, .. } => {
                self.note = format!("paused: {}", shown(reason, MESSAGE_MAX));
            }
            EventKind::RunResumed { .. } => self.note.clear(),
            EventKind::RunStopping { verdict, .. } => {
                self.note = format!("stopping, to end {}", verdict.replace('_', " "));
            }
            EventKind::RunCompleted { verdict, elapsed_ms, .. } => {
                self.note = verdict.replace('_', " ");
                self.took_ms = Some(*elapsed_ms);
            }
            EventKind::StepsDropped { steps } => steps.iter().for_each(|id| self.drop_step(id)),
            _ => {}
        }
    }

    fn note_step(&mut self, id: &str, kind: &EventKind, at: Option<Timestamp>) {
        let step = self.step(id);
        match kind {
            EventKind::StepStarted { attempt, agent, .. } => {
                step.attempt = *attempt;
                agent.clone_into(&mut step.agent);
                step.began = step.began.or(at);
                self.set(id, State::Running, "");
            }
            EventKind::StepRetrying { failure, .. } => {
                self.set(id, State::Retrying, &failure.message);
            }
            EventKind::StepProgress { message, fraction, .. } if step.state == State::Running => {
                step.progress(message.as_deref(), *fraction);
            }
            EventKind::ApprovalRequested { .. } => {
                step.began = step.began.or(at);
                self.set(id, State::Asking, "waits for approval");
            }
            EventKind::StepBlocked { reason, agent, limit, question, .. } => {
                let why = blocked(reason, [agent, limit, question].map(Option::as_deref));
                self.set(id, State::Asking, &why);
            }
            EventKind::ApprovalDecided { .. }
            | EventKind::StepResolved { .. }
            | EventKind::QuestionAnswered { .. } => {
                self.set(id, State::Pending, "");
            }
            EventKind::StepCompleted { .. } => self.end(id, State::Done, "", at),
            EventKind::StepFailed { failure, .. } => {
                self.end(id, State::Failed, &failure.message, at);
            }
            EventKind::StepSkipped { reason, needs, blame } => {
                self.end(id, State::Skipped, &skipped(reason, needs, blame), at);
            }
            EventKind::StepsGrown { count } => {
                step.parts = Some((step.parts.map_or(0, |(all, _)| all) + count, 0));
                step.began = step.began.or(at);
                self.unnamed += count;
                self.set(id, State::Running, "");
            }
            EventKind::StepsDropped { steps } => steps.iter().for_each(|id| self.drop_step(id)),
            _ => {}
        }
    }

    /// How many steps there are.
    pub(super) fn total(&self) -> usize {
        self.steps.len() + self.unnamed
    }

    /// How many steps are in this state.
    pub(super) fn count(&self, state: State) -> usize {
        let unnamed = if state == State::Pending { self.unnamed } else { 0 };
        self.by_state.get(&state).map_or(0, BTreeSet::len) + unnamed
    }

    /// The steps in this state, in order.
    pub(super) fn of(&self, state: State) -> impl DoubleEndedIterator<Item = &Key> {
        self.by_state.get(&state).into_iter().flatten()
    }

    /// All steps, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Key> {
        self.steps.keys()
    }

    /// The step of a key of this board.
    pub(super) fn at(&self, key: &Key) -> &Step {
        &self.steps[key]
    }

    fn key(&mut self, id: &str) -> Key {
        let mut parts = id.split('.');
        let first = parts.next().unwrap_or_default();
        let place = match self.places.get(first) {
            Some(place) => *place,
            None => {
                let place = (self.waves.saturating_sub(1), number(self.places.len()));
                self.places.insert(first.to_owned(), place);
                place
            }
        };
        Key { wave: place.0, place: place.1, path: parts.map(|p| (p.len(), p.into())).collect() }
    }

    fn step(&mut self, id: &str) -> &mut Step {
        let key = self.key(id);
        if !self.steps.contains_key(&key) {
            if !key.path.is_empty() {
                self.unnamed = self.unnamed.saturating_sub(1);
            }
            self.widths.0 = self.widths.0.max(columns(id));
            self.by_state.entry(State::Pending).or_default().insert(key.clone());
        }
        self.steps.entry(key).or_insert_with(|| Step::new(id))
    }

    fn set(&mut self, id: &str, state: State, message: &str) {
        let step = self.step(id);
        let before = std::mem::replace(&mut step.state, state);
        step.message = shown(message, MESSAGE_MAX);
        step.fraction = None;
        step.tail.clear();
        let key = self.key(id);
        if let Some(keys) = self.by_state.get_mut(&before) {
            keys.remove(&key);
        }
        self.by_state.entry(state).or_default().insert(key);
    }

    fn end(&mut self, id: &str, state: State, message: &str, at: Option<Timestamp>) {
        self.set(id, state, message);
        let step = self.step(id);
        let took = step.began.zip(at).map(|(began, at)| at.since(began));
        step.took_ms = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if let Some((parent, _)) = id.rsplit_once('.')
            && let Some((_, ended)) = &mut self.step(parent).parts
        {
            *ended += 1;
        }
    }

    fn drop_step(&mut self, id: &str) {
        let key = self.key(id);
        match self.steps.remove(&key) {
            Some(step) => {
                if let Some(keys) = self.by_state.get_mut(&step.state) {
                    keys.remove(&key);
                }
            }
            None => self.unnamed = self.unnamed.saturating_sub(1),
        }
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn moment(at: Option<&str>) -> Option<Timestamp> {
    let at: jiff::Timestamp = at?.parse().ok()?;
    Some(Timestamp(at.as_microsecond()))
}
