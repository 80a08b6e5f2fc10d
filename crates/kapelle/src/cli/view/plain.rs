//! An event as a line of text, for logs and pipes.

use std::collections::BTreeMap;

use kapelle_api::{self as api, Event, EventKind};
use kapelle_core::run::NOT_YET;

use crate::cli::bill;
use crate::cli::out::{counted, duration, shown};

/// How much of a message is shown.
const MESSAGE_MAX: usize = 300;

/// Runs as lines of text.
#[derive(Default)]
pub(crate) struct Plain {
    /// There are several: each line says which one it is about.
    several: bool,
    ends: Ends,
}

impl Plain {
    pub(super) fn new(runs: usize) -> Self {
        Self { several: runs > 1, ends: Ends::default() }
    }

    /// How the steps of the runs ended.
    pub(super) const fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The line for an event; `None` for those that matter to programs only.
    pub(super) fn line(&mut self, event: &Event) -> Option<String> {
        self.ends.note(event);
        let what = words(&event.kind)?;
        let time = event.at.as_deref().and_then(|at| at.get(11..19)).unwrap_or("        ");
        let run = match event.run.len().checked_sub(8) {
            Some(start) if self.several => format!("{} ", &event.run[start..]),
            _ => String::new(),
        };
        let subject = event.step.as_deref().unwrap_or("run");
        Some(format!("{time} {run}{subject}: {what}"))
    }
}

/// How the steps of each run ended.
#[derive(Default)]
pub(super) struct Ends(BTreeMap<String, EndsOfRun>);

/// How the steps of a run ended.
#[derive(Default)]
pub(super) struct EndsOfRun {
    pub(super) done: usize,
    pub(super) skipped: usize,
    /// Those that failed, and why.
    pub(super) failed: Vec<(String, String)>,
}

impl Ends {
    pub(super) fn note(&mut self, event: &Event) {
        let Some(step) = &event.step else { return };
        let ends = match self.0.get_mut(&event.run) {
            Some(ends) => ends,
            None => self.0.entry(event.run.clone()).or_default(),
        };
        match &event.kind {
            EventKind::StepCompleted { .. } => ends.done += 1,
            EventKind::StepSkipped { .. } => ends.skipped += 1,
            EventKind::StepFailed { failure, .. } => {
                let message = shown(&failure.message, MESSAGE_MAX);
                ends.failed.push((step.clone(), format!("failed ({}): {message}", failure.code)));
            }
            _ => {}
        }
    }

    pub(super) fn of(&self, run: &str) -> Option<&EndsOfRun> {
        self.0.get(run)
    }
}

impl EndsOfRun {
    /// How many ended how, in words.
    pub(super) fn counts(&self) -> String {
        let mut text = format!("{} done", self.done);
        for (count, word) in [(self.failed.len(), "failed"), (self.skipped, "skipped")] {
            if count > 0 {
                text += &format!(", {count} {word}");
            }
        }
        text
    }
}

fn words(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::RunCreated { workflow, .. } => format!("created from `{workflow}`"),
        EventKind::RunForked { parent, from, taken, .. } => {
            let taken = counted(*taken as u64, "step");
            format!("forked from {parent} at `{from}`: {taken} taken over")
        }
        EventKind::RunAdopted {} => "taken over by another process".to_owned(),
        EventKind::RunPaused { by, reason, .. } => {
            let by = by.as_deref().unwrap_or("kapelle");
            if reason.is_empty() { format!("paused by {by}") } else { format!("paused: {reason}") }
        }
        EventKind::RunResumed { by } => format!("resumed by {by}"),
        EventKind::BudgetRaised { tokens, nano_usd, time_ms, by } => {
            let limit = api::Limit {
                tokens: Some(*tokens).filter(|more| *more > 0),
                nano_usd: Some(*nano_usd).filter(|more| *more > 0),
                time_ms: Some(*time_ms).filter(|more| *more > 0),
            };
            format!("may spend {} more, says {by}", bill::limit(&limit))
        }
        EventKind::RunStopping { verdict, reason, by } => {
            let reason = if reason.is_empty() { by } else { reason };
            format!("stopping, to end {verdict}: {}", shown(reason, MESSAGE_MAX))
        }
        EventKind::RunCompleted { verdict, elapsed_ms, .. } => {
            format!("{} in {}", verdict.replace('_', " "), duration(*elapsed_ms))
        }
        EventKind::StepStarted { attempt: 1, agent, .. } => format!("started by {agent}"),
        EventKind::StepStarted { attempt, agent, .. } => {
            format!("started by {agent}, attempt {attempt}")
        }
        EventKind::StepRetrying { failure, .. } if *failure.code == *NOT_YET => {
            format!("waits for its turn: {}", shown(&failure.message, MESSAGE_MAX))
        }
        EventKind::StepRetrying { attempt, failure, .. } => {
            format!(
                "attempt {attempt} failed, trying again: {}",
                shown(&failure.message, MESSAGE_MAX)
            )
        }
        EventKind::StepCompleted { .. } => "completed".to_owned(),
        EventKind::StepFailed { failure, .. } => {
            format!("failed ({}): {}", failure.code, shown(&failure.message, MESSAGE_MAX))
        }
        EventKind::StepSkipped { reason, needs, blame } => skipped(reason, needs, blame),
        EventKind::StepBlocked { reason, agent, limit, question, .. } => {
            blocked(reason, [agent, limit, question].map(Option::as_deref))
        }
        EventKind::MessageSent { to, text, .. } => {
            format!("says to {}: {}", to.join(", "), shown(text, MESSAGE_MAX))
        }
        EventKind::QuestionAnswered { answer, by, .. } => {
            format!("{} answers: {}", shown(by, MESSAGE_MAX), shown(answer, MESSAGE_MAX))
        }
        EventKind::EffectRecorded { name, denied: true, .. } => {
            let tool = name.strip_prefix("tool:").unwrap_or(name);
            format!("asks for `{}`, which it may not have", shown(tool, MESSAGE_MAX))
        }
        EventKind::EffectRecorded { warnings, .. } if !warnings.is_empty() => {
            shown(&warnings.join("; "), MESSAGE_MAX)
        }
        EventKind::StepResolved { action, by, .. } => format!("resolved by {by}: {action}"),
        EventKind::ApprovalRequested { .. } => "waits for approval".to_owned(),
        EventKind::ApprovalDecided { approved, by, comment } => {
            let word = if *approved { "approved" } else { "rejected" };
            let comment = shown(comment, MESSAGE_MAX);
            let comment = if comment.is_empty() { comment } else { format!(": {comment}") };
            format!("{word} by {by}{comment}")
        }
        EventKind::StepsGrown { count } => format!("{} added", counted(*count as u64, "step")),
        EventKind::RunStarted {}
        | EventKind::StepsDropped { .. }
        | EventKind::EffectStarted { .. }
        | EventKind::EffectRecorded { .. }
        | EventKind::QuestionAsked { .. }
        | EventKind::StepProgress { .. }
        | EventKind::Other(_) => return None,
    })
}

/// Why a step is blocked.
pub(super) fn blocked(reason: &str, [agent, limit, question]: [Option<&str>; 3]) -> String {
    match (agent, limit, question) {
        (_, Some(limit), _) => format!("blocked: {}", shown(limit, MESSAGE_MAX)),
        (Some(agent), ..) => format!("blocked: no agent `{agent}` is at hand"),
        (.., Some(question)) => format!("asks: {}", shown(question, MESSAGE_MAX)),
        _ => format!("blocked: {}", reason.replace('_', " ")),
    }
}

/// Why a step was skipped.
pub(super) fn skipped(reason: &str, needs: &Option<String>, blame: &Option<String>) -> String {
    match (reason, needs, blame) {
        ("condition", ..) => "skipped: its `when` gave false".to_owned(),
        ("person", ..) => "skipped: a person said so".to_owned(),
        (_, Some(needs), Some(blame)) if needs != blame => {
            format!("skipped: it needs `{needs}`, and `{blame}` failed")
        }
        (_, Some(needs), Some(_)) => format!("skipped: it needs `{needs}`, which failed"),
        (_, Some(needs), None) => format!("skipped: it needs `{needs}`, which was not done"),
        _ => "skipped".to_owned(),
    }
}
