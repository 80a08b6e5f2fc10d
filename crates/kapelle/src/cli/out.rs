//! What a command prints: data on stdout, talk on stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::view::screen;
use super::visible::visible;

/// The command line asked for no colours.
static PALE: AtomicBool = AtomicBool::new(false);

/// A line of data.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Data that has its own line ends.
pub(crate) fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A line of data as JSON.
pub(crate) fn json(data: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(data)?)
}

/// A line for a person, above the live picture if there is one. Nobody may be listening, which is
/// no error.
pub(crate) fn say(text: &str) {
    screen::above(&format!("{text}\n"));
}

/// Whether a person sees stderr and can answer.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal() && io::stdin().is_terminal()
}

/// Whether the terminal can do no more than write lines.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// From here on nothing has colours.
pub(crate) fn without_colours() {
    PALE.store(true, Ordering::Relaxed);
}

/// Whether what goes to `stream` may have colours.
pub(crate) fn has_colours(stream: &impl io::IsTerminal) -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    wanted && !PALE.load(Ordering::Relaxed) && stream.is_terminal() && !is_dumb()
}

/// `text` without what could do anything to a terminal, on one line, at most `max` characters.
pub(crate) fn shown(text: &str, max: usize) -> String {
    let text = visible(text);
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.trim().chars().map(visible).take(max).collect();
    if text.trim().chars().count() > max {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// A span of time as people read it.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// So many of something, as people say it.
pub(crate) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A number of bytes as people read it.
pub(crate) fn bytes(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => format!("{} KiB", tenths(1 << 10)),
        1_048_576..1_073_741_824 => format!("{} MiB", tenths(1 << 20)),
        _ => format!("{} GiB", tenths(1 << 30)),
    }
}

/// Rows as columns, each as wide as its widest cell; the first row is the head. One with fewer cells is a remark
/// to the row before, and goes over the columns.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let whole = || rows.iter().filter(|row| row.len() >= columns);
    let width = |column: usize| whole().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}
