//! What a follower knows of a run, from its events.

use std::collections::{BTreeMap, BTreeSet};

use kapelle_agents::model::MODEL_EFFECT;
use kapelle_api::{Event, EventKind};
use kapelle_core::run::OUT_OF_TIME;

use crate::cli::exit::Exit;
use crate::cli::out;
use crate::cli::session::{Settings, quoted};

/// A step's wait for a person.
pub(super) struct Wait {
    /// For what.
    pub(super) what: String,
    /// The words of the command that ends it, after the step.
    answer: Answer,
}

#[derive(PartialEq)]
enum Answer {
    /// `--by` is needed where it is limited who may answer.
    Approve {
        by: Vec<String>,
    },
    Resolve,
    /// It asks this.
    Say,
    /// More is to be spent: by the step itself, or by the run.
    Raise {
        own: bool,
    },
    /// A limit of all runs is raised, or begins anew.
    GoOn,
}

impl Wait {
    /// More is to be spent by the run.
    pub(super) fn is_for_the_run(&self) -> bool {
        matches!(self.answer, Answer::Raise { own: false })
    }

    /// The command of ours that ends it.
    pub(super) fn command(&self, run: &str, step: &str) -> String {
        match &self.answer {
            Answer::Approve { by } if by.is_empty() => format!("runs approve {run} {step}"),
            Answer::Approve { by } => {
                let by: Vec<_> = by.iter().map(|name| quoted(name)).collect();
                format!("runs approve {run} {step} --by {}", by.join("|"))
            }
            Answer::Raise { own: true } => {
                format!("runs budget {run} --step {step} --tokens N|--usd X|--time 10m")
            }
            Answer::Raise { own: false } => {
                format!("runs budget {run} --tokens N|--usd X|--time 10m")
            }
            Answer::GoOn => format!("runs resume {run}"),
            Answer::Say => format!("runs answer {run} {step} ANSWER"),
            Answer::Resolve => {
                format!("runs resolve {run} {step} --action retry|complete|skip|fail")
            }
        }
    }
}

/// What is known of a run.
pub(super) struct Tally {
    pub(super) run: String,
    /// The number of its last event when it was taken up: what came before is history.
    pub(super) known: u64,
    /// Another node works on it.
    pub(super) remote: bool,
    /// Steps with an attempt under way.
    pub(super) running: BTreeSet<String>,
    /// Steps that wait for a person.
    pub(super) waits_for: BTreeMap<String, Wait>,
    /// Steps whose wait was told.
    told: BTreeSet<String>,
    /// A model was asked, which may have cost something.
    pub(super) paid: bool,
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
            paid: false,
            paused: None,
            exit: None,
            seen: 0,
        }
    }

    /// What is known is no history.
    pub(super) const fn is_live(&self) -> bool {
        self.seen >= self.known
    }

    /// Nothing is running, and this is not history.
    pub(super) fn is_at_rest(&self) -> bool {
        self.running.is_empty() && self.is_live()
    }

    /// The commands of ours that end the waits for people.
    pub(super) fn answers(&self) -> Vec<String> {
        let late = self.paused.as_deref().is_some_and(|reason| reason == OUT_OF_TIME);
        let more = late.then(|| format!("runs budget {} --time 10m", self.run));
        // That a run is to go on is said by whoever says that it has paused.
        let of_people = self.waits_for.iter().filter(|(_, wait)| wait.answer != Answer::GoOn);
        let waits = of_people.map(|(step, wait)| wait.command(&self.run, step));
        // What is the run's, all its steps wait for.
        let mut told = BTreeSet::new();
        more.into_iter().chain(waits).filter(|answer| told.insert(answer.clone())).collect()
    }

    /// What is waited for, but for more of the run's budget; what many steps wait for alike once.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut alike: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (step, wait) in self.waits_for.iter().filter(|(_, wait)| !wait.is_for_the_run()) {
            let named = format!("step `{step}`: ");
            let what = wait.what.strip_prefix(&named).unwrap_or(&wait.what);
            alike.entry(what).or_default().push(&wait.what);
        }
        let said = |(what, all): (&str, Vec<&str>)| match &*all {
            [one] => (*one).to_owned(),
            all => format!("{} steps: {what}", all.len()),
        };
        alike.into_iter().map(said).collect()
    }

    /// Says once what a person is to do, and how.
    pub(super) fn tell_people(&mut self, settings: &Settings) {
        for (step, wait) in &self.waits_for {
            if self.told.insert(step.clone()) {
                let command = settings.command(&wait.command(&self.run, step));
                out::say(&format!("waits for {}; from another terminal: {command}", wait.what));
            }
        }
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
        self.paid |=
            matches!(&event.kind, EventKind::EffectStarted { name, .. } if name == MODEL_EFFECT);
        let Some(step) = &event.step else { return };
        match &event.kind {
            EventKind::StepStarted { .. } => {
                self.running.insert(step.clone());
            }
            EventKind::ApprovalRequested { by, .. } => {
                let what = format!("approval of `{step}`");
                let answer = Answer::Approve { by: by.clone() };
                self.waits_for.insert(step.clone(), Wait { what, answer });
            }
            EventKind::ApprovalDecided { .. }
            | EventKind::StepResolved { .. }
            | EventKind::QuestionAnswered { .. } => {
                self.waits_for.remove(step);
                self.told.remove(step);
            }
            EventKind::StepBlocked { reason, agent, limit, question, choices, .. } => {
                self.running.remove(step);
                let what = match (agent, limit, question) {
                    (Some(agent), None, _) => {
                        format!("step `{step}`: no agent `{agent}` is at hand")
                    }
                    (_, Some(limit), _) if reason == "account" => {
                        format!("step `{step}`: {limit}, or raise it in `kapelle.toml`")
                    }
                    (_, Some(limit), _) => format!("step `{step}`: {limit}"),
                    (.., Some(question)) => asked(step, question, choices),
                    _ => format!("step `{step}`: {}", reason.replace('_', " ")),
                };
                let answer = match &**reason {
                    "question" => Answer::Say,
                    "budget" => Answer::Raise { own: true },
                    "run_budget" => Answer::Raise { own: false },
                    "account" => Answer::GoOn,
                    "no_agent" if limit.is_some() => Answer::GoOn,
                    _ => Answer::Resolve,
                };
                self.waits_for.insert(step.clone(), Wait { what, answer });
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

/// What a step wants to know, in one line.
fn asked(step: &str, question: &str, choices: &[String]) -> String {
    let choices: Vec<String> =
        choices.iter().map(|choice| quoted(&out::shown(choice, 80))).collect();
    let choices = choices.join("|");
    let choices = if choices.is_empty() { choices } else { format!(" ({choices})") };
    format!("an answer to `{step}`: {}{choices}", out::shown(question, 300))
}
