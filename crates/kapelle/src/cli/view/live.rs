//! The live picture of a run: a line per step that is going on, and a bar.
//!
//! Steps that have ended leave the picture for a line above it; in a plan of more than
//! [`SCROLL_MAX`] steps only those that did not end well do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kapelle_api::{Event, EventKind};

use super::plain::{Failures, skipped};
use crate::cli::out::{duration, has_colours, shown};

/// The largest plan whose finished steps all get a line.
const SCROLL_MAX: usize = 60;
/// How much of a message is shown; the terminal's width cuts it shorter.
const MESSAGE_MAX: usize = 200;

/// The live picture of a run.
pub(crate) struct Live {
    screen: MultiProgress,
    bar: ProgressBar,
    lines: Vec<ProgressBar>,
    steps: BTreeMap<String, Step>,
    total: usize,
    ended: usize,
    began: Instant,
    colours: bool,
    workflow: String,
    failures: Failures,
}

/// A step that is going on.
struct Step {
    agent: String,
    attempt: u32,
    state: State,
    began: Instant,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Retrying,
    Waiting,
}

impl Live {
    pub(super) fn new(steps: Option<usize>) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let colours = has_colours(&std::io::stderr());
        let bar = screen.add(ProgressBar::new(0));
        let template = if colours {
            "{msg} {bar:24.green/dim} {pos}/{len} {prefix}"
        } else {
            "{msg} {bar:24} {pos}/{len} {prefix}"
        };
        bar.set_style(style(template).progress_chars("━━─"));
        Self {
            screen,
            bar,
            lines: Vec::new(),
            steps: BTreeMap::new(),
            total: steps.unwrap_or(0),
            ended: 0,
            began: Instant::now(),
            colours,
            workflow: String::new(),
            failures: Failures::default(),
        }
    }

    /// What did not end well in the run.
    pub(super) fn failures(&self, run: &str) -> &[(String, String)] {
        self.failures.of(run)
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.failures.note(event);
        match (&event.kind, &event.step) {
            (EventKind::RunCreated { workflow, .. }, _) => {
                self.workflow.clone_from(workflow);
                self.say(&format!("run {}", event.run));
            }
            (EventKind::StepStarted { attempt, agent, .. }, Some(step)) => {
                self.set(step, agent, *attempt, State::Running, "");
            }
            (EventKind::StepRetrying { attempt, failure, .. }, Some(step)) => {
                self.set(step, "", *attempt, State::Retrying, &failure.message);
            }
            (EventKind::ApprovalRequested { .. }, Some(step)) => {
                self.set(step, "", 0, State::Waiting, "waits for approval");
            }
            (EventKind::StepBlocked { reason, .. }, Some(step)) => {
                self.set(step, "", 0, State::Waiting, &reason.replace('_', " "));
            }
            (EventKind::StepProgress { message: Some(message), .. }, Some(step)) => {
                if let Some(step) = self.steps.get_mut(step) {
                    step.message = shown(message, MESSAGE_MAX);
                }
            }
            (EventKind::StepCompleted { .. }, Some(step)) => self.end(step, "✓", "32", ""),
            (EventKind::StepFailed { failure, .. }, Some(step)) => {
                let why = shown(&failure.message, MESSAGE_MAX);
                self.end(step, "✗", "31", &why);
            }
            (EventKind::StepSkipped { reason, needs, blame }, Some(step)) => {
                let why = skipped(reason, needs, blame);
                self.end(step, "-", "33", &why);
            }
            (EventKind::StepsGrown { count }, _) => self.total += count,
            _ => return,
        }
        self.draw();
    }

    fn set(&mut self, step: &str, agent: &str, attempt: u32, state: State, message: &str) {
        let entry = self.steps.entry(step.to_owned()).or_insert_with(|| Step {
            agent: String::new(),
            attempt,
            state,
            began: Instant::now(),
            message: String::new(),
        });
        if !agent.is_empty() {
            agent.clone_into(&mut entry.agent);
        }
        entry.attempt = entry.attempt.max(attempt);
        entry.state = state;
        entry.message = shown(message, MESSAGE_MAX);
    }

    fn end(&mut self, id: &str, sign: &str, colour: &str, why: &str) {
        let step = self.steps.remove(id);
        self.ended += 1;
        if sign == "✓" && self.total > SCROLL_MAX {
            return;
        }
        let sign = self.paint(sign, colour);
        let mut line = format!("{sign} {id}");
        if let Some(step) = step {
            let took = step.began.elapsed();
            if !step.agent.is_empty() {
                line += &format!("  {}", step.agent);
            }
            if step.attempt > 1 {
                line += &format!(" #{}", step.attempt);
            }
            line += &format!("  {}", millis(took));
        }
        if !why.is_empty() {
            line += &format!("  {why}");
        }
        self.say(&line);
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn tick(&mut self) {
        self.draw();
    }

    /// One line for each of the first steps that fit, one for the rest, then the bar.
    fn draw(&mut self) {
        let room = usize::from(rows()).saturating_sub(4).clamp(1, 40);
        let wanted = self.steps.len().min(room);
        while self.lines.len() < wanted {
            let line = self.screen.insert_before(&self.bar, ProgressBar::new_spinner());
            line.set_style(style("{wide_msg}"));
            self.lines.push(line);
        }
        for line in self.lines.drain(wanted..) {
            self.screen.remove(&line);
        }
        let fits = if self.steps.len() > room { room - 1 } else { room };
        let texts: Vec<String> =
            self.steps.iter().take(fits).map(|(id, step)| self.line(id, step)).collect();
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(text);
        }
        if self.steps.len() > room
            && let Some(line) = self.lines.last()
        {
            line.set_message(format!("  and {} more", self.steps.len() - fits));
        }
        let total = self.total.max(self.ended + self.steps.len());
        self.bar.set_length(total as u64);
        self.bar.set_position(self.ended as u64);
        self.bar.set_message(self.workflow.clone());
        self.bar.set_prefix(millis(self.began.elapsed()));
    }

    fn line(&self, id: &str, step: &Step) -> String {
        let sign = match step.state {
            State::Running => self.paint("▸", "36"),
            State::Retrying => self.paint("↻", "33"),
            State::Waiting => self.paint("?", "35"),
        };
        let mut line = format!("{sign} {id}");
        if !step.agent.is_empty() {
            line += &format!("  {}", step.agent);
        }
        if step.attempt > 1 {
            line += &format!(" #{}", step.attempt);
        }
        line += &format!("  {}", millis(step.began.elapsed()));
        if !step.message.is_empty() {
            line += &format!("  {}", step.message);
        }
        line
    }

    /// A line above the picture.
    pub(super) fn say(&self, text: &str) {
        self.screen.println(text).ok();
    }

    pub(super) fn clear(&self) {
        self.screen.clear().ok();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is constant")
}

fn millis(span: Duration) -> String {
    duration(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn rows() -> u16 {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(24, |size| size.ws_row.max(6))
}
