//! The picture at the bottom of the terminal that stderr is, and what is said above it.
//!
//! **Invariants:** what changes is written in one piece, between marks that make the terminal show
//! it at once; a line that is as it was is not written again. Whatever else goes to stderr comes
//! through here, so that it never lands in the picture.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use super::line::Line;

/// What makes a terminal that knows it show all between the two at once.
const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[?2026l";

static SCREEN: Mutex<Screen> = Mutex::new(Screen { shown: Vec::new(), size: Size::UNKNOWN });

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Size {
    const UNKNOWN: Self = Self { columns: 80, rows: 24 };

    /// The size of the terminal that stderr is.
    pub(super) fn of_stderr() -> Self {
        match rustix::termios::tcgetwinsize(io::stderr()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Self { columns: size.ws_col.into(), rows: size.ws_row.into() }
            }
            _ => Self::UNKNOWN,
        }
    }
}

/// Puts a picture in the place of the one there is.
pub(super) fn show(lines: Vec<Line>, size: Size) {
    with(|screen| screen.show(lines, size));
}

/// Leaves the picture where it is: what follows comes below.
pub(super) fn leave() {
    with(|screen| {
        screen.shown.clear();
        String::new()
    });
}

/// Writes `text`, which ends its line, above the picture, if there is one.
pub(crate) fn above(text: &str) {
    with(|screen| screen.above(text));
}

fn with(change: impl FnOnce(&mut Screen) -> String) {
    let mut screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = change(&mut screen);
    if !bytes.is_empty() {
        // Nobody may be listening, which is no error.
        io::stderr().lock().write_all(bytes.as_bytes()).ok();
    }
}

/// Stderr for those who know nothing of pictures.
pub(crate) struct Above;

impl io::Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is on the terminal. The cursor is in the row below.
struct Screen {
    shown: Vec<Line>,
    size: Size,
}

impl Screen {
    /// What to write for these lines to be there instead.
    fn show(&mut self, lines: Vec<Line>, size: Size) -> String {
        let mut out = String::new();
        if size != self.size {
            out += &erased(&self.shown, size);
            self.shown.clear();
            self.size = size;
        }
        let same = self.shown.iter().zip(&lines).take_while(|(old, new)| old == new).count();
        if same == self.shown.len() && same == lines.len() {
            return out;
        }
        out += &up(self.shown.len() - same);
        for (place, line) in lines.iter().enumerate().skip(same) {
            if self.shown.get(place) != Some(line) {
                _ = write!(out, "{}\x1b[K", line.text);
            }
            out.push_str("\r\n");
        }
        // Below may be lines of before, or the `^C` of the terminal itself.
        out.push_str("\x1b[J");
        self.shown = lines;
        format!("{BEGIN}{out}{END}")
    }

    fn above(&self, text: &str) -> String {
        if self.shown.is_empty() {
            return text.to_owned();
        }
        let erased = erased(&self.shown, self.size);
        let lines: String = self.shown.iter().map(|line| format!("{}\r\n", line.text)).collect();
        format!("{BEGIN}{erased}{text}{lines}{END}")
    }
}

/// What takes these lines away. A terminal that became narrower has broken those that were longer.
fn erased(lines: &[Line], size: Size) -> String {
    let rows: usize = lines.iter().map(|line| line.width.div_ceil(size.columns).max(1)).sum();
    up(rows.min(size.rows - 1)) + "\x1b[J"
}

/// What leads from below the picture to its row before the last `rows`.
fn up(rows: usize) -> String {
    if rows == 0 { "\r".to_owned() } else { format!("\r\x1b[{rows}A") }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
