//! What a follower knows of a run, from its events.

use std::collections::{BTreeMap, BTreeSet};

use kapelle_api::{Event, EventKind};

use crate::cli::exit::Exit;

/// What is known of a run.
pub(super) struct Tally {
    pub(super) run: String,
    /// The number of its last event when it was taken up: what came before is history.
    pub(super) known: u64,
    /// Another node works on it.
    pub(super) remote: bool,
    /// Steps with an attempt under way.
    pub(super) running: BTreeSet<String>,
    /// Steps that wait for a person, and for what.
    pub(super) waits_for: BTreeMap<String, String>,
    /// Steps whose wait was told.
    pub(super) told: BTreeSet<String>,
    /// Why it is paused, if it is.
    pub(super) paused: Option<String>,
    /// How it ended for this process.
    pub(super) exit: Option<Exit>,
    seen: u64,
}

impl Tally {
    pub(super) fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            known: 0,
            remote: false,
            running: BTreeSet::new(),
            waits_for: BTreeMap::new(),
            told: BTreeSet::new(),
            paused: None,
            exit: None,
            seen: 0,
        }
    }

    /// Nothing is running, and this is not history.
    pub(super) fn is_at_rest(&self) -> bool {
        self.running.is_empty() && self.seen >= self.known
    }

    pub(super) fn see(&mut self, event: &Event) {
        self.seen = event.seq.unwrap_or(self.seen);
        match &event.kind {
            EventKind::RunPaused { reason, by, .. } => {
                let by = by.as_deref().unwrap_or("somebody");
                let text =
                    if reason.is_empty() { format!("paused by {by}") } else { reason.clone() };
                self.paused = Some(text);
            }
            // One that is being stopped ends by itself, paused or not.
            EventKind::RunResumed { .. } | EventKind::RunStopping { .. } => self.paused = None,
            _ => {}
        }
        let Some(step) = &event.step else { return };
        match &event.kind {
            EventKind::StepStarted { .. } => {
                self.running.insert(step.clone());
            }
            EventKind::ApprovalRequested { .. } => {
                self.waits_for.insert(step.clone(), format!("approval of `{step}`"));
            }
            EventKind::ApprovalDecided { .. } | EventKind::StepResolved { .. } => {
                self.waits_for.remove(step);
                self.told.remove(step);
            }
            EventKind::StepBlocked { reason, agent, .. } => {
                self.running.remove(step);
                let what = match agent {
                    Some(agent) => format!("step `{step}`: no agent `{agent}` is at hand"),
                    None => format!("step `{step}`: {}", reason.replace('_', " ")),
                };
                self.waits_for.insert(step.clone(), what);
            }
            EventKind::StepRetrying { .. }
            | EventKind::StepCompleted { .. }
            | EventKind::StepFailed { .. }
            | EventKind::StepSkipped { .. } => {
                self.running.remove(step);
                self.waits_for.remove(step);
            }
            _ => {}
        }
    }
}
