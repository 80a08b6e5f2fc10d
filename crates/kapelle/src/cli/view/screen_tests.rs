//! What a terminal makes of it: a real parser of what terminals are told.

use std::num::NonZero;

use super::{BEGIN, END, Screen, Size};
use crate::cli::view::line::Line;

const SIZE: Size = Size { columns: 20, rows: 6 };

/// A screen and the terminal it is on.
struct Stand {
    screen: Screen,
    terminal: vt100::Parser,
}

impl Stand {
    fn new(rows: u16, columns: u16) -> Self {
        let size = Size { columns: columns.into(), rows: rows.into() };
        let screen = Screen { shown: Vec::new(), size };
        Self { screen, terminal: vt100::Parser::new(nonzero(rows), nonzero(columns), 100) }
    }

    /// The bytes that it took.
    fn show(&mut self, lines: &[&str]) -> String {
        let bytes = self.screen.show(lines_of(lines), self.screen.size);
        self.terminal.process(bytes.as_bytes());
        bytes
    }

    fn seen(&self) -> String {
        self.terminal.screen().contents()
    }
}

fn nonzero(n: u16) -> NonZero<u16> {
    NonZero::new(n).unwrap()
}

fn lines_of(lines: &[&str]) -> Vec<Line> {
    let line = |text: &&str| Line { text: (*text).to_owned(), width: text.chars().count() };
    lines.iter().map(line).collect()
}

#[test]
fn a_picture_takes_the_place_of_the_one_before() {
    let mut stand = Stand::new(6, 20);
    stand.terminal.process(b"$ kapelle run\r\n");
    stand.show(&["head", "a long line", "foot 1"]);
    stand.show(&["head", "short", "new", "foot 2"]);
    assert_eq!(stand.seen(), "$ kapelle run\nhead\nshort\nnew\nfoot 2");
    stand.show(&["head", "foot 3"]);
    assert_eq!(stand.seen(), "$ kapelle run\nhead\nfoot 3");
}

#[test]
fn only_what_changed_is_written_and_in_one_piece() {
    let mut stand = Stand::new(6, 20);
    stand.show(&["head", "one", "two", "foot"]);
    let bytes = stand.show(&["head", "ONE", "two", "foot"]);
    assert!(bytes.starts_with(BEGIN) && bytes.ends_with(END), "{bytes:?}");
    assert!(
        bytes.contains("ONE") && !bytes.contains("head") && !bytes.contains("two"),
        "{bytes:?}"
    );
    assert_eq!(stand.show(&["head", "ONE", "two", "foot"]), "");
    assert_eq!(stand.seen(), "head\nONE\ntwo\nfoot");
}

#[test]
fn what_is_said_goes_above_also_at_the_bottom_of_the_terminal() {
    let mut stand = Stand::new(6, 20);
    for n in 0..9 {
        stand.show(&["head", "step", "foot"]);
        let bytes = stand.screen.above(&format!("said {n}\n").replace('\n', "\r\n"));
        stand.terminal.process(bytes.as_bytes());
    }
    assert_eq!(stand.seen(), "said 7\nsaid 8\nhead\nstep\nfoot");
    stand.show(&["head", "step", "done"]);
    assert_eq!(stand.seen(), "said 7\nsaid 8\nhead\nstep\ndone");
}

#[test]
fn what_the_terminal_itself_wrote_below_is_wiped_away() {
    let mut stand = Stand::new(6, 20);
    stand.show(&["head", "foot"]);
    stand.terminal.process(b"^C");
    stand.show(&["head", "FOOT"]);
    assert_eq!(stand.seen(), "head\nFOOT");
}

#[test]
fn on_a_terminal_that_became_narrower_broken_lines_are_counted() {
    let lines = lines_of(&["head", "a line of twenty co.", "foot"]);
    let mut screen = Screen { shown: lines.clone(), size: SIZE };
    let bytes = screen.show(lines, Size { columns: 10, rows: 6 });
    assert!(bytes.contains("\x1b[4A\x1b[J"), "{bytes:?}");
}
