//! A step as it is shown.

use std::collections::VecDeque;

use kapelle_core::Timestamp;

use crate::cli::out::shown;

/// How much of a message is kept; the terminal's width cuts it shorter.
pub(super) const MESSAGE_MAX: usize = 500;
/// How many of the newest lines of a step are kept.
pub(super) const TAIL: usize = 3;

/// Where a step stands: its wave, its place in the plan, and which part of its pattern it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// From 0.
    pub(super) wave: u32,
    pub(super) place: u32,
    /// Numbers are shorter than larger ones: this is their order too.
    pub(super) path: Vec<(usize, Box<str>)>,
}

/// What a step is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Its turn has not come.
    Pending,
    /// An attempt goes on, or its parts do.
    Running,
    /// An attempt failed, and another one follows.
    Retrying,
    /// A person is asked.
    Asking,
    /// It ended well.
    Done,
    /// It ended badly.
    Failed,
    /// It will not be done.
    Skipped,
}

/// A step as it is shown.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) id: String,
    pub(super) agent: String,
    /// What its plan says it is there for.
    pub(super) about: String,
    pub(super) attempt: u32,
    pub(super) state: State,
    pub(super) began: Option<Timestamp>,
    pub(super) took_ms: Option<u64>,
    /// From 0 to 1.
    pub(super) fraction: Option<f64>,
    /// Its newest line, or why it is as it is.
    pub(super) message: String,
    /// Its newest lines, where it says more than how far it is.
    pub(super) tail: VecDeque<String>,
    /// How many parts it has grown, and how many of them have ended.
    pub(super) parts: Option<(usize, usize)>,
}

impl Step {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            agent: String::new(),
            about: String::new(),
            attempt: 0,
            state: State::Pending,
            began: None,
            took_ms: None,
            fraction: None,
            message: String::new(),
            tail: VecDeque::new(),
            parts: None,
        }
    }

    /// What says how far it is takes the place of what was said before; anything else is a line
    /// of a log.
    pub(super) fn progress(&mut self, message: Option<&str>, fraction: Option<f64>) {
        self.fraction = fraction.or(self.fraction);
        let Some(message) = message else { return };
        self.message = shown(message, MESSAGE_MAX);
        if fraction.is_some() {
            return;
        }
        // A line that grows stays one line.
        if let Some(last) = self.tail.back_mut().filter(|last| self.message.starts_with(&**last)) {
            last.clone_from(&self.message);
        } else {
            self.tail.push_back(self.message.clone());
            if self.tail.len() > TAIL {
                self.tail.pop_front();
            }
        }
    }
}
