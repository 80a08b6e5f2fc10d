//! A cassette of a run that goes on: what the run has on record, and what is on the cassette already.
//!
//! **Invariant:** a cassette that is continued has an answer to each call that the run has on record, and
//! none to a call that a crash took before it was: that one is made again, and recorded again.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use kapelle_core::port::Agents;
use kapelle_core::run::{EffectState, Outcome, Run, StepStatus};
use kapelle_core::{RunId, StepNo};

use super::{Asked, End, Line, Recorder, Row, Tape, read, rows};

/// Steps say things to each other anew.
const SAID: &str = "tool:send_message";
/// A question's answer is put on the cassette whenever its step hears of it.
const QUESTION: &str = "tool:ask_person";

/// What a run has on record of the outside: where in it, and what was asked, as far as that is known.
pub(crate) struct OnRecord {
    run: RunId,
    calls: BTreeMap<Box<str>, Option<Asked>>,
}

impl OnRecord {
    pub(crate) fn of(run: &Run, agents: &Agents) -> Self {
        let mut calls = BTreeMap::new();
        for view in run.view() {
            let (step, no) = (&view.step.id, view.no);
            let is_done = view.step.status == StepStatus::Completed;
            let agent = view.agent.and_then(|name| agents.get(name));
            if is_done && view.step.attempts() > 0 && agent.is_some_and(|a| a.agent.is_outside()) {
                calls.insert(format!("{step}/0").into(), None);
            }
            for (ordinal, asked) in recorded(run, no) {
                if &*asked.call != QUESTION || is_done {
                    calls.insert(format!("{step}/{ordinal}").into(), Some(asked));
                }
            }
        }
        Self { run: run.id(), calls }
    }

    /// Whether a line is about a call that the run has on record.
    fn has(&self, line: &Line) -> bool {
        line.at.as_ref().is_some_and(|at| self.calls.contains_key(at))
    }

    /// A call that is on record, and not on the cassette.
    fn missing(&self, lines: &[Line]) -> Option<String> {
        let is_on = |at: &str, asked: &Option<Asked>| {
            lines.iter().any(|line| match &line.at {
                Some(known) => **known == *at,
                None => asked.as_ref() == Some(&line.asked),
            })
        };
        let (at, asked) = self.calls.iter().find(|(at, asked)| !is_on(at, asked))?;
        let step = at.rsplit_once('/').map_or(&**at, |(step, _)| step);
        let call =
            asked.as_ref().map_or_else(|| "its call".to_owned(), |a| format!("`{}`", a.call));
        Some(format!("step `{step}`: {call} is on record, and not on it"))
    }
}

fn recorded(run: &Run, no: StepNo) -> impl Iterator<Item = (u32, Asked)> {
    run.effects(no).into_iter().filter_map(|(ordinal, effect)| {
        let is_done = matches!(effect.state, EffectState::Recorded(Outcome::Done(_)));
        let asked = Asked { call: effect.id.name, input: effect.id.input };
        (is_done && &*asked.call != SAID).then_some((ordinal, asked))
    })
}

impl Tape {
    /// The cassette of a run that goes on; a new one if it has nothing on record yet.
    pub(crate) fn append(path: &Path, run: &OnRecord) -> Result<Self, String> {
        let shown = path.display();
        let told = |error: std::io::Error| format!("`{shown}`: {error}");
        if !path.exists() {
            return match run.missing(&[]) {
                None => Self::record(path),
                Some(missing) => {
                    Err(format!("`{shown}` is not there, and {missing}: its beginning is lost"))
                }
            };
        }
        let text = whole_lines(&read(path).map_err(told)?);
        let known = rows(&text, path)?;
        if let Some(other) = known.run.filter(|other| *other != run.run) {
            return Err(format!("`{shown}` is about another run, {other}"));
        }
        // What is on it and not on record was taken by a crash: it will be asked again.
        let is_true = |line: &Line| match line.end {
            End::Failure(_) => true,
            End::Answer(_) => line.at.is_none() || run.has(line),
        };
        let lines: Vec<Line> = known.lines.into_iter().filter(is_true).collect();
        if let Some(missing) = run.missing(&lines) {
            return Err(format!("`{shown}` is not whole: {missing}"));
        }
        let calls = lines.len() as u64;
        let head = [Row::Head { cassette: super::FORMAT }, Row::Run { run: run.run }];
        let rows = head.into_iter().chain(lines.into_iter().map(|line| Row::Call(Box::new(line))));
        let text: String = rows.map(|row| row.text()).collect();
        let beside = path.with_added_extension("new");
        // What a crash, or somebody else, has left there is neither followed nor written to.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(told(error)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let made = options.append(true).create_new(true).mode(0o600).open(&beside);
        let mut file = made.map_err(told)?;
        file.write_all(text.as_bytes()).map_err(told)?;
        fs::rename(&beside, path).map_err(told)?;
        let recorder = Recorder { file, calls, run: Some(run.run), ended: false, fault: None };
        Ok(Self::recording(path, recorder))
    }

    /// A cassette that is played to a run that goes on: what the run has on record is not played again.
    pub(crate) fn play_on(path: &Path, run: &OnRecord) -> Result<Self, String> {
        Self::play_what(path, |line| !run.has(line))
    }
}

/// Without a last line that a crash has cut off.
fn whole_lines(text: &str) -> String {
    text.rfind('\n').map_or(String::new(), |end| text[..=end].to_owned())
}
