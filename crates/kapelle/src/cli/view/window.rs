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
/// comes next and what ended last. At the end nothing comes next.
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
    let (pending, done) = (&mut board.of(State::Pending), &mut board.of(State::Done).rev());
    let after: [&mut dyn Iterator<Item = &Key>; 2] =
        if look.last { [done, pending] } else { [pending, done] };
    let after = after.into_iter().flatten();
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

#[cfg(test)]
mod tests {
    use kapelle_api::Event;
    use kapelle_core::workflow::Workflow;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_picture_has_what_ended_last_before_what_never_began() {
        let step = |n| format!("{{id: s{n:02}, agentName: echo, input: {{value: 1}}}}");
        let steps: Vec<_> = (0..43).map(step).collect();
        let text = format!("{{id: x, tasks: [{}]}}", steps.join(", "));
        let checked = Workflow::read("w.yaml", text.as_bytes(), None);
        let mut board = Board::default();
        board.plan(&checked.workflow.expect("it is good").plan, None);
        for n in 0..40 {
            let event = json!({"run": "r", "step": format!("s{n:02}"), "type": "step_completed"});
            let event: Event = serde_json::from_value(event).unwrap();
            board.note(&event);
        }
        let look = |last| Look { columns: 80, rows: 18, colours: false, last };
        let ids = |last| -> Vec<_> {
            let chosen = chosen(&board, look(last), 15);
            chosen.iter().map(|key| board.at(key).id.clone()).collect()
        };
        assert_eq!(ids(true), (26..40).map(|n| format!("s{n}")).collect::<Vec<_>>());
        assert!(ids(false).ends_with(&["s40", "s41", "s42"].map(str::to_owned)));
    }
}
