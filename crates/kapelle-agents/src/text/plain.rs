//! Text without the marks that Markdown leaves inside a line.
//!
//! **Invariant:** dropped is what Markdown shows nobody, by CommonMark's rules, and nothing else: no
//! mark in code, no star that is none of emphasis. What is no Markdown has no marks at all.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::{Deref, Range};

use super::blocks::{Block, Kind};
use super::emphasis::Runs;
use super::link::link;

/// `text` as one line: every run of white space is one space.
pub(crate) fn squeeze(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// `text`, which is Markdown, as one line without emphasis, backticks and links: what a reader of the
/// page sees.
pub(crate) fn plain(text: &str) -> String {
    let mut marks = Marks::default();
    marks.find(text, 0..text.len());
    marks.plain(text, &(0..text.len()))
}

/// A text, and what in it a reader does not see.
#[derive(Clone, Debug)]
pub(crate) struct Written<'a> {
    text: &'a str,
    marks: Marks,
}

impl<'a> Written<'a> {
    /// Markdown, which has these blocks.
    pub(crate) fn markdown(text: &'a str, blocks: &[Block]) -> Self {
        Self { text, marks: Marks::of(text, blocks) }
    }

    /// A text without marks.
    pub(crate) fn text(text: &'a str) -> Self {
        Self { text, marks: Marks::default() }
    }

    /// What is at `range`, as one line without marks.
    pub(crate) fn plain(&self, range: &Range<usize>) -> String {
        self.marks.plain(self.text, range)
    }

    /// Whether there are marks at `range`.
    pub(crate) fn is_marked(&self, range: &Range<usize>) -> bool {
        self.marks.inside(range).next().is_some()
    }
}

impl Deref for Written<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.text
    }
}

/// The places of marks, in order.
#[derive(Clone, Debug, Default)]
struct Marks(Vec<Range<usize>>);

impl Marks {
    /// Those in the blocks of a text that is Markdown; code has none.
    fn of(text: &str, blocks: &[Block]) -> Self {
        let mut marks = Self::default();
        for Block { kind, range } in blocks {
            match kind {
                Kind::Code => (),
                Kind::Row => cells(text, range).for_each(|cell| marks.find(text, cell)),
                Kind::Heading(_) | Kind::Paragraph | Kind::Item { .. } => {
                    marks.find(text, range.clone());
                }
            }
        }
        marks
    }

    fn plain(&self, text: &str, range: &Range<usize>) -> String {
        squeeze(&self.without(text, range))
    }

    fn inside(&self, range: &Range<usize>) -> impl Iterator<Item = &Range<usize>> {
        let first = self.0.partition_point(|mark| mark.end <= range.start);
        let end = range.end;
        self.0[first..].iter().take_while(move |mark| mark.start < end)
    }

    fn without<'a>(&self, text: &'a str, range: &Range<usize>) -> Cow<'a, str> {
        let mut inside = self.inside(range).peekable();
        if inside.peek().is_none() {
            return text[range.clone()].into();
        }
        let (mut seen, mut at) = (String::with_capacity(range.len()), range.start);
        for mark in inside {
            seen.push_str(&text[at..mark.start.max(at)]);
            at = mark.end.min(range.end);
        }
        seen.push_str(&text[at..range.end]);
        seen.into()
    }

    /// Adds those in `inside`, a line or a paragraph that comes after all before.
    fn find(&mut self, text: &str, inside: Range<usize>) {
        if !text[inside.clone()].contains(['[', '!', '*', '`', '_', '\\', '>']) {
            return;
        }
        let before = self.0.len();
        let mut line = Line {
            text,
            at: inside.start,
            codes: codes(text, &inside),
            inside,
            runs: Runs::default(),
            link: None,
            found: &mut self.0,
        };
        while line.at < line.inside.end {
            line.step();
        }
        line.runs.settle(line.found);
        self.0[before..].sort_unstable_by_key(|mark| mark.start);
    }
}

/// A line while its marks are looked for.
struct Line<'a> {
    text: &'a str,
    inside: Range<usize>,
    at: usize,
    /// Where code begins, and the runs of backticks around it.
    codes: HashMap<usize, (Range<usize>, Range<usize>)>,
    runs: Runs,
    /// The link we are in: where its words begin, and what follows them.
    link: Option<(Range<usize>, Range<usize>)>,
    found: &'a mut Vec<Range<usize>>,
}

impl Line<'_> {
    /// Looks for the next mark, and passes over it.
    fn step(&mut self) {
        if let Some((open, close)) = self.link.take_if(|(_, close)| close.start <= self.at) {
            // Code that began in the words and reaches beyond them makes them none.
            if close.start == self.at {
                self.at = close.end;
                return self.found.extend([open, close]);
            }
        }
        let end = self.link.as_ref().map_or(self.inside.end, |(_, close)| close.start);
        let marks = ['[', '!', '*', '`', '_', '\\', '>'];
        let Some(next) = self.text[self.at..end].find(marks) else {
            self.at = end;
            return;
        };
        self.at += next;
        match self.text.as_bytes()[self.at] {
            b'`' => self.code(),
            b'*' | b'_' => self.run(),
            b'\\' => self.escape(),
            b'>' => self.quote(),
            _ => self.open_link(),
        }
    }

    fn run(&mut self) {
        let rest = &self.text[self.at..self.inside.end];
        let len = run_len(rest.as_bytes());
        self.runs.take(self.text, &(self.at..self.at + len), &self.inside);
        self.at += len;
    }

    fn code(&mut self) {
        match self.codes.get(&self.at) {
            Some((open, close)) => {
                self.found.extend([open.clone(), close.clone()]);
                self.at = close.end;
            }
            None => self.at += run_len(&self.text.as_bytes()[self.at..self.inside.end]),
        }
    }

    /// A backslash before a sign or at the end of a line is not seen, and makes a mark none.
    fn escape(&mut self) {
        let next = self.text.as_bytes()[..self.inside.end].get(self.at + 1);
        match next.filter(|next| next.is_ascii_punctuation() || **next == b'\n') {
            Some(_) => {
                self.found.push(self.at..self.at + 1);
                self.at += 2;
            }
            None => self.at += 1,
        }
    }

    /// A line of a quote goes on with its sign; that of the first is no part of a block.
    fn quote(&mut self) {
        if self.text[self.inside.start..self.at].ends_with('\n') {
            self.found.push(self.at..self.at + 1);
        }
        self.at += 1;
    }

    fn open_link(&mut self) {
        let marked = &self.text[self.at..self.inside.end];
        let Some((words, len)) = link(marked) else {
            self.at += 1;
            return;
        };
        if marked.starts_with('!') {
            self.found.push(self.at..self.at + len);
            self.at += len;
        } else {
            let close = self.at + 1 + words..self.at + len;
            self.link = Some((self.at..self.at + 1, close));
            self.at += 1;
        }
    }
}

/// The runs of backticks that begin code, with those that end it: the next that are as long.
fn codes(text: &str, inside: &Range<usize>) -> HashMap<usize, (Range<usize>, Range<usize>)> {
    let mut runs = Vec::new();
    let mut at = inside.start;
    while let Some(next) = text[at..inside.end].find('`') {
        at += next;
        let len = run_len(&text.as_bytes()[at..inside.end]);
        runs.push(at..at + len);
        at += len;
    }
    let mut later: HashMap<usize, Range<usize>> = HashMap::new();
    let mut codes = HashMap::new();
    for run in runs.into_iter().rev() {
        if let Some(close) = later.insert(run.len(), run.clone()) {
            codes.insert(run.start, (run, close));
        }
    }
    codes
}

/// How often the first byte is repeated.
fn run_len(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == bytes[0]).count()
}

/// The cells of a row: no mark reaches from one into the next.
fn cells<'a>(text: &'a str, row: &Range<usize>) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut at = row.start;
    let is_edge = |before: &str, letter: char| letter == '|' && !before.ends_with('\\');
    let row = row.clone();
    std::iter::from_fn(move || {
        let rest = &text[at..row.end];
        if rest.is_empty() {
            return None;
        }
        let edge = rest.char_indices().find(|(n, letter)| is_edge(&rest[..*n], *letter));
        let cell = at..at + edge.map_or(rest.len(), |(n, _)| n);
        at = (cell.end + 1).min(row.end);
        Some(cell)
    })
}
