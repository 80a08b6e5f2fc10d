//! What of a run is in the picture, where the terminal has too few rows for all of it.

use std::collections::BTreeSet;

use super::board::Board;
use super::frame::Look;
use super::line::{columns, wrapped};
use super::step::{Key, State, Step, TAIL};

/// How many lines say why a step failed or was skipped.
const WHY: usize = 3;

/// How many columns there are for what a step says, on its line and below it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widths {
    pub(super) beside: usize,
    pub(super) below: usize,
}

/// The steps that are shown, in the plan's order: all of them, or what goes on, what failed, what
/// comes next and what ended last.
pub(super) fn chosen(board: &Board, look: Look, room: usize) -> BTreeSet<Key> {
    if board.total() <= room {
        return board.all().cloned().collect();
    }
    let room = room - 1;
    let active = [State::Asking, State::Running, State::Retrying];
    let active: Vec<&Key> =
        active.into_iter().flat_map(|state| board.of(state)).take(room).collect();
    let failed = room.saturating_sub(active.len()).max(room / 3);
    let failed: Vec<&Key> = board.of(State::Failed).take(failed).collect();
    let after: [&mut dyn Iterator<Item = &Key>; 2] =
        [&mut board.of(State::Pending), &mut board.of(State::Done).rev()];
    let after = after.into_iter().flatten().take(if look.last { 0 } else { room });
    failed.into_iter().chain(active).chain(after).take(room).cloned().collect()
}

/// Rows that are left over, for what steps say below their line.
pub(super) struct Spare {
    /// How many each step that goes on may have.
    tail: usize,
    /// How many there are for why others did not do it.
    why: usize,
}

impl Spare {
    pub(super) fn new(board: &Board, chosen: &BTreeSet<Key>, rows: usize) -> Self {
        let talking = chosen.iter().filter(|key| board.at(key).tail.len() > 1).count();
        let tail = rows.checked_div(talking).unwrap_or(0).min(TAIL);
        // One line has its place beside the step.
        let tail = if tail < 2 { 0 } else { tail };
        Self { tail, why: rows - tail * talking }
    }

    /// What a step says below its line.
    pub(super) fn below(&mut self, step: &Step, widths: Widths) -> Vec<String> {
        if step.tail.len() > 1 {
            let skip = step.tail.len().saturating_sub(self.tail);
            return step.tail.iter().skip(skip).cloned().collect();
        }
        let is_over = matches!(step.state, State::Failed | State::Skipped);
        if !is_over || columns(&step.message) <= widths.beside {
            return Vec::new();
        }
        let lines = wrapped(&step.message, widths.below, self.why.min(WHY));
        self.why -= lines.len();
        lines
    }
}
