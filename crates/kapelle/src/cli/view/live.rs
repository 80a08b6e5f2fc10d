//! The live picture of a run.

use std::time::{Duration, Instant};

use kapelle_api::Event;
use kapelle_core::plan::Plan;

use super::board::Board;
use super::frame::{Look, frame};
use super::plain::Ends;
use super::screen::{self, Size};
use crate::cli::out::has_colours;

/// The shortest time between two pictures that events ask for.
const PACE: Duration = Duration::from_millis(50);

/// The live picture of a run.
pub(crate) struct Live {
    board: Board,
    colours: bool,
    drawn: Option<Instant>,
    over: bool,
    ends: Ends,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            board: Board::default(),
            colours: has_colours(&std::io::stderr()),
            drawn: None,
            over: false,
            ends: Ends::default(),
        }
    }

    /// How the steps of the run ended.
    pub(super) const fn ends(&self) -> &Ends {
        &self.ends
    }

    pub(super) fn plan(&mut self, plan: &Plan, last_ms: Option<u64>) {
        self.board.plan(plan, last_ms);
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.ends.note(event);
        self.board.note(event);
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= PACE) {
            self.draw(false);
        }
    }

    pub(super) fn tick(&mut self) {
        self.draw(false);
    }

    /// Draws what is left to see, and lets go of the terminal.
    pub(super) fn end(&mut self) {
        self.draw(true);
        self.over = true;
        screen::leave();
    }

    fn draw(&mut self, last: bool) {
        // Before the first event there is nothing to see.
        if self.over || self.board.run.is_empty() {
            return;
        }
        let size = Size::of_stderr();
        let Size { columns, rows } = size;
        let look = Look { columns, rows, colours: self.colours, last };
        screen::show(frame(&self.board, look, crate::now()), size);
        self.drawn = Some(Instant::now());
    }
}
