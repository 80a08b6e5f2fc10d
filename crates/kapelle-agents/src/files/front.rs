//! Where the front matter ends and the body begins, also where a fence was forgotten.

use super::Oddities;
use super::lines::known_key;
use super::text::line_at;

/// A file in its two parts.
#[derive(Debug)]
pub(super) struct Split<'a> {
    /// The lines between the fences.
    pub(super) front: &'a str,
    /// The line, from 1 on, in which `front` begins.
    pub(super) line: u32,
    /// What comes after.
    pub(super) body: &'a str,
    /// The line, from 1 on, in which `body` begins.
    pub(super) body_line: u32,
}

/// Splits `text`. Without front matter all of it is the body.
pub(super) fn split<'a>(text: &'a str, odd: &mut Oddities) -> Split<'a> {
    let start = text.len() - text.trim_start().len();
    let start = text[..start].rfind('\n').map_or(0, |end| end + 1);
    let first = line_at(text, start);
    let opening = line_of(&text[start..]);
    if is_fence(opening) {
        if start > 0 {
            odd.note(first, "the front matter does not begin in the first line");
        }
        let front = start + opening.len();
        return match closing(&text[front..]) {
            Some((end, body)) => parts(text, front..front + end, front + body),
            None => {
                odd.note(first, "the front matter is not closed by a line `---`");
                let end = front + header(&text[front..]);
                parts(text, front..end, end)
            }
        };
    }
    if known_key(opening).is_none() {
        odd.note(first, "there is no front matter");
        return Split { front: "", line: 1, body: text, body_line: 1 };
    }
    odd.note(first, "the front matter does not begin with a line `---`");
    match closing(&text[start..]) {
        Some((end, body)) => parts(text, start..start + end, start + body),
        None => {
            let end = start + header(&text[start..]);
            parts(text, start..end, end)
        }
    }
}

fn parts(text: &str, front: std::ops::Range<usize>, body: usize) -> Split<'_> {
    Split {
        line: line_at(text, front.start),
        front: &text[front],
        body_line: line_at(text, body),
        body: &text[body..],
    }
}

/// The first line of `text`, with its end.
fn line_of(text: &str) -> &str {
    text.split_inclusive('\n').next().unwrap_or_default()
}

fn is_fence(line: &str) -> bool {
    line.trim_end() == "---"
}

/// Where the next fence begins, and where the line after it does.
fn closing(text: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if is_fence(line) || line.trim_end() == "..." {
            return Some((at, at + line.len()));
        }
        at += line.len();
    }
    None
}

/// How far a front matter goes that nobody closed: to the first empty line or heading.
fn header(text: &str) -> usize {
    let lines = text.split_inclusive('\n');
    lines.take_while(|line| !line.trim().is_empty() && !line.starts_with('#')).map(str::len).sum()
}
