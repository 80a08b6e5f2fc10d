//! The picture of a run: a head, its steps by waves in the plan's order, and how far it is.
//!
//! **Invariant:** no line is wider than the terminal less one column, and there are fewer lines
//! than it has rows. Where not all steps fit, those that matter most are there, and a count.

use std::collections::BTreeSet;

use kapelle_core::Timestamp;

use super::board::{Board, Estimate};
use super::line::{Draft, Line, Style, columns};
use super::step::{Key, State, Step};
use super::window::{Spare, Widths, chosen};
use crate::cli::out::duration;

/// From here on there is room for words besides signs.
const WIDE: usize = 60;
/// From here on there is room for what steps are there for.
const ROOMY: usize = 100;

/// Where a picture goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) colours: bool,
    /// No other picture follows: what did not fail need not be there.
    pub(super) last: bool,
}

/// Where the columns of a step's line begin.
struct Layout {
    look: Look,
    gutter: usize,
    id: usize,
    agent: usize,
}

/// The picture.
pub(super) fn frame(board: &Board, look: Look, now: Timestamp) -> Vec<Line> {
    let layout = Layout::new(board, look);
    let room = look.rows.saturating_sub(3).max(1);
    let mut lines = vec![layout.head(board)];
    let chosen = chosen(board, look, room);
    let fits = chosen.len() == board.total();
    let spare = room.saturating_sub(chosen.len() + usize::from(!fits));
    let mut spare = Spare::new(board, &chosen, spare);
    let mut wave = None;
    for key in &chosen {
        let step = board.at(key);
        let below = spare.below(step, layout.widths());
        let new = (wave != Some(key.wave)).then_some(key.wave);
        let beside = if below.is_empty() { &*step.message } else { "" };
        lines.push(layout.step(step, new, beside, now));
        lines.extend(below.iter().map(|text| layout.below(text)));
        wave = Some(key.wave);
    }
    if !fits {
        lines.push(layout.rest(board, &chosen));
    }
    lines.push(layout.foot(board, now));
    lines
}

impl Layout {
    fn new(board: &Board, look: Look) -> Self {
        let digits = board.waves.to_string().len();
        let wide = look.columns >= WIDE;
        let gutter = match (board.waves, wide) {
            (0 | 1, _) => 0,
            (_, true) => "wave ".len() + digits + 2,
            (_, false) => digits + 1,
        };
        // Beside it stand a mark, the gaps and the time; the last column of a line stays free.
        let id_max = if wide { look.columns / 3 } else { look.columns.saturating_sub(gutter + 11) };
        let agent = if wide { board.widths.1.min(look.columns / 6) } else { 0 };
        Self { look, gutter, id: board.widths.0.min(id_max.max(4)), agent }
    }

    fn line(&self, draft: Draft) -> Line {
        draft.line(self.look.columns.saturating_sub(1).max(1), self.look.colours)
    }

    fn is_wide(&self) -> bool {
        self.look.columns >= WIDE
    }

    /// Where the message of a step begins.
    fn message_at(&self) -> usize {
        let agent = if self.agent > 0 { self.agent + 2 } else { 0 };
        self.gutter + 2 + self.id + 2 + agent + "12m34s".len() + 2
    }

    fn widths(&self) -> Widths {
        let after = |at: usize| self.look.columns.saturating_sub(1 + at);
        Widths { beside: after(self.message_at()), below: after(self.gutter + 4) }
    }

    fn head(&self, board: &Board) -> Line {
        let mut draft = Draft::new();
        draft.put(Style::Bold, &board.workflow).blanks(2);
        let whole = format!("run {}", board.run);
        if draft.width() + columns(&whole) < self.look.columns {
            draft.put(Style::Dim, &whole);
        } else {
            // Any unique end of an id names the run.
            let end = board.run.char_indices().rev().nth(11).map_or(0, |(at, _)| at);
            draft.put(Style::Dim, "run …").put(Style::Dim, &board.run[end..]);
        }
        self.line(draft)
    }

    fn step(&self, step: &Step, new_wave: Option<u32>, beside: &str, now: Timestamp) -> Line {
        let mut draft = Draft::new();
        if self.gutter > 0 {
            let label = match new_wave {
                Some(wave) if self.is_wide() => format!("wave {}", wave + 1),
                Some(wave) => (wave + 1).to_string(),
                None => String::new(),
            };
            draft.cell(Style::Dim, &label, self.gutter);
        }
        let (sign, style) = sign(step.state);
        let name = if step.state == State::Pending { Style::Dim } else { Style::Plain };
        draft.put(style, sign).blanks(1).cell(name, &step.id, self.id).blanks(2);
        if self.agent > 0 {
            draft.cell(Style::Dim, &step.agent, self.agent).blanks(2);
        }
        draft.put(Style::Dim, &format!("{:>6}", time(step, now))).blanks(2);
        let words = words(step, beside);
        if words.is_empty() && self.look.columns >= ROOMY {
            draft.put(Style::Dim, &step.about);
        }
        draft.put(Style::Plain, &words);
        self.line(draft)
    }

    fn below(&self, text: &str) -> Line {
        let mut draft = Draft::new();
        draft.blanks(self.gutter + 2).put(Style::Dim, "│ ").put(Style::Dim, text);
        self.line(draft)
    }

    /// How many steps are not shown, and what they are doing.
    fn rest(&self, board: &Board, chosen: &BTreeSet<Key>) -> Line {
        let shown = |state| chosen.iter().filter(|key| board.at(key).state == state).count();
        let hidden = |state| board.count(state) - shown(state);
        let words = [
            (State::Failed, "failed"),
            (State::Asking, "asking"),
            (State::Running, "running"),
            (State::Retrying, "trying again"),
            (State::Done, "done"),
            (State::Skipped, "skipped"),
            (State::Pending, "to come"),
        ];
        let words = words.into_iter().map(|(state, word)| (hidden(state), word));
        let words: Vec<String> =
            words.filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        let more = board.total() - chosen.len();
        let mut draft = Draft::new();
        draft.blanks(self.gutter);
        draft.put(Style::Dim, &format!("… {more} more: {}", words.join(", ")));
        self.line(draft)
    }

    /// How far the run is; by what its time was estimated is left out where it has no room.
    fn foot(&self, board: &Board, now: Timestamp) -> Line {
        let times = times(board, now);
        let whole = self.foot_draft(board, &format!("{times}{}", basis(board)));
        if whole.width() < self.look.columns {
            return self.line(whole);
        }
        self.line(self.foot_draft(board, &times))
    }

    fn foot_draft(&self, board: &Board, times: &str) -> Draft {
        let (all, failed) = (board.total(), board.count(State::Failed));
        let skipped = board.count(State::Skipped);
        let ended = board.count(State::Done) + failed + skipped;
        let mut draft = Draft::new();
        if self.is_wide() {
            let whole = if self.look.columns >= ROOMY { 24 } else { 12 };
            let full = (ended * whole).checked_div(all).unwrap_or(0);
            let style = if failed > 0 { Style::Bad } else { Style::Good };
            draft
                .put(style, &"━".repeat(full))
                .put(Style::Dim, &"─".repeat(whole - full))
                .blanks(2);
        }
        let steps = match (self.is_wide(), all) {
            (false, _) => "",
            (true, 1) => " step",
            (true, _) => " steps",
        };
        draft.put(Style::Plain, &format!("{ended} of {all}{steps}"));
        if failed > 0 {
            draft.put(Style::Plain, ", ").put(Style::Bad, &format!("{failed} failed"));
        }
        if skipped > 0 && self.is_wide() {
            draft.put(Style::Plain, &format!(", {skipped} skipped"));
        }
        draft.blanks(2).put(Style::Plain, times);
        if !board.note.is_empty() {
            draft.blanks(2).put(Style::Doubt, &board.note);
        }
        draft
    }
}

/// How long it has taken, and how long it may take.
fn times(board: &Board, now: Timestamp) -> String {
    if let Some(took_ms) = board.took_ms {
        return duration(took_ms);
    }
    let elapsed = going(board.began.map_or(0, |began| millis(now, began)));
    match board.estimate {
        None => elapsed,
        Some(Estimate::Last(ms) | Estimate::Planned(ms)) => {
            format!("{elapsed} of about {}", duration(ms))
        }
    }
}

/// By what the time of a run that goes on is estimated.
const fn basis(board: &Board) -> &'static str {
    match (board.took_ms, board.estimate) {
        (None, Some(Estimate::Last(_))) => " (last time)",
        (None, Some(Estimate::Planned(_))) => " (planned)",
        _ => "",
    }
}

const fn sign(state: State) -> (&'static str, Style) {
    match state {
        State::Pending => ("·", Style::Dim),
        State::Running => ("▸", Style::Busy),
        State::Retrying => ("↻", Style::Doubt),
        State::Asking => ("?", Style::Ask),
        State::Done => ("✓", Style::Good),
        State::Failed => ("✗", Style::Bad),
        State::Skipped => ("-", Style::Doubt),
    }
}

/// What there is to say about a step beside its name.
fn words(step: &Step, message: &str) -> String {
    let mut words = Vec::new();
    if step.attempt > 1 {
        words.push(format!("attempt {}", step.attempt));
    }
    if let Some((all, ended)) = step.parts {
        words.push(format!("{ended} of {all}"));
    }
    if let Some(fraction) = step.fraction {
        words.push(format!("{:.0}%", fraction.clamp(0.0, 1.0) * 100.0));
    }
    if !message.is_empty() {
        words.push(message.to_owned());
    }
    words.join("  ")
}

/// How long a step has taken so far, or did.
fn time(step: &Step, now: Timestamp) -> String {
    match (step.state, step.took_ms, step.began) {
        (State::Done | State::Failed | State::Skipped, took, _) => {
            took.map(duration).unwrap_or_default()
        }
        (_, _, Some(began)) => going(millis(now, began)),
        _ => String::new(),
    }
}

fn millis(now: Timestamp, began: Timestamp) -> u64 {
    u64::try_from(now.since(began).as_millis()).unwrap_or(u64::MAX)
}

/// A time that grows: milliseconds would be a blur.
fn going(ms: u64) -> String {
    if ms < 1_000 { format!("0.{}s", ms / 100) } else { duration(ms) }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
