//! Blocks: headings, paragraphs, list items, code, table rows, line by line.
//!
//! **Invariant:** a block's range holds its words without the marks that made it a block, and blocks
//! come in the order of the text and do not overlap. It reads Markdown as far as pages are made of
//! it, and plain text, where blank lines part paragraphs; nothing is refused.

use std::collections::HashSet;
use std::ops::Range;

use super::plain::squeeze;

/// The longest line, in bytes, that may be a heading without a mark.
const HEADING_MAX: usize = 200;

/// A piece of a document that a reader takes as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) kind: Kind,
    pub(crate) range: Range<usize>,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From 1, the highest.
    Heading(u8),
    Paragraph,
    /// An item of a list: how far it is indented, and its number where it has one.
    Item {
        indent: usize,
        number: Option<u32>,
    },
    Code,
    /// A row of a table.
    Row,
}

/// The blocks of `text`. A line that reads like one of `headings` is one.
pub(crate) fn blocks(text: &str, headings: &[(u8, &str)]) -> Vec<Block> {
    let known = headings.iter().map(|(level, heading)| (squeeze(heading), *level)).collect();
    let mut reader = Reader { text, known, found: Vec::new(), open: None, fence: None };
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        reader.line(at, line.trim_end());
        at += line.len();
    }
    reader.close();
    reader.found
}

struct Reader<'a> {
    text: &'a str,
    known: HashSet<(String, u8)>,
    found: Vec<Block>,
    /// The block that the next line may go on with.
    open: Option<Block>,
    /// The mark that ends the code we are in.
    fence: Option<&'a str>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, at: usize, line: &'a str) {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let here = at + indent..at + line.len();
        if let Some(fence) = self.fence {
            return self.code_line(fence, body, at..at + line.len());
        }
        if body.is_empty() {
            return self.close();
        }
        if let Some(fence) = fence_of(body) {
            self.close();
            self.fence = Some(fence);
            return;
        }
        if let Some(level) = self.underlined(body) {
            return self.raise(level);
        }
        if is_rule(body) {
            return self.close();
        }
        if let Some((level, skip)) = marked_heading(body) {
            return self
                .single(Kind::Heading(level), trimmed(self.text, here.start + skip..here.end));
        }
        if let Some(level) = self.known_heading(body) {
            return self.single(Kind::Heading(level), here);
        }
        if body.starts_with('|') || body.contains('\t') {
            return self.single(Kind::Row, here);
        }
        if let Some((number, skip)) = item_mark(body) {
            self.close();
            let range = here.start + skip..here.end;
            self.open = Some(Block { kind: Kind::Item { indent, number }, range });
            return;
        }
        self.prose(here, indent);
    }

    /// A line of prose goes on with the block before it, or begins a paragraph.
    fn prose(&mut self, here: Range<usize>, indent: usize) {
        let quoted = self.text[here.clone()].starts_with('>');
        if let Some(open) = self.open.as_mut().filter(|open| open.kind != Kind::Code) {
            open.range.end = here.end;
            return;
        }
        let after_item = matches!(self.found.last(), Some(Block { kind: Kind::Item { .. }, .. }));
        if indent >= 4 && !after_item {
            if let Some(open) = &mut self.open {
                open.range.end = here.end;
                return;
            }
            self.open = Some(Block { kind: Kind::Code, range: here });
            return;
        }
        self.close();
        let mark = self.text[here.clone()].find(|letter| letter != '>' && letter != ' ');
        let skip = if quoted { mark.unwrap_or(here.len()) } else { 0 };
        self.open = Some(Block { kind: Kind::Paragraph, range: here.start + skip..here.end });
    }

    fn code_line(&mut self, fence: &str, body: &str, line: Range<usize>) {
        if body.starts_with(fence) && body.trim_start_matches(&fence[..1]).is_empty() {
            self.fence = None;
            return self.close();
        }
        match &mut self.open {
            Some(open) => open.range.end = line.end,
            None if body.is_empty() => (),
            None => self.open = Some(Block { kind: Kind::Code, range: line }),
        }
    }

    /// The level, if `body` underlines the one line before it.
    fn underlined(&self, body: &str) -> Option<u8> {
        let open = self.open.as_ref().filter(|open| open.kind == Kind::Paragraph)?;
        let one_line =
            open.range.len() <= HEADING_MAX && !self.text[open.range.clone()].contains('\n');
        let level = match body.as_bytes() {
            [b'=', b'=', ..] if body.bytes().all(|byte| byte == b'=') => 1,
            [b'-', b'-', ..] if body.bytes().all(|byte| byte == b'-') => 2,
            _ => return None,
        };
        one_line.then_some(level)
    }

    fn raise(&mut self, level: u8) {
        if let Some(open) = &mut self.open {
            open.kind = Kind::Heading(level);
        }
        self.close();
    }

    fn known_heading(&self, body: &str) -> Option<u8> {
        if self.known.is_empty() || body.len() > HEADING_MAX {
            return None;
        }
        let line = squeeze(body);
        (1..=6).find(|level| self.known.contains(&(line.clone(), *level)))
    }

    fn single(&mut self, kind: Kind, range: Range<usize>) {
        self.close();
        self.open = Some(Block { kind, range });
        self.close();
    }

    fn close(&mut self) {
        let open = self.open.take().filter(|open| !self.text[open.range.clone()].trim().is_empty());
        let divides = |block: &Block| {
            let text = &self.text[block.range.clone()];
            block.kind == Kind::Row && text.bytes().all(|byte| b"|-: \t".contains(&byte))
        };
        self.found.extend(open.filter(|block| !divides(block)));
    }
}

fn fence_of(body: &str) -> Option<&str> {
    let mark = body.starts_with("```").then_some("```");
    mark.or_else(|| body.starts_with("~~~").then_some("~~~"))
}

/// A line of nothing but `---`, `***` or `___`.
fn is_rule(body: &str) -> bool {
    let first = body.as_bytes()[0];
    body.len() >= 3 && b"-*_=".contains(&first) && body.bytes().all(|b| b == first || b == b' ')
}

/// The level of a heading with `#`, and how long its mark is.
fn marked_heading(body: &str) -> Option<(u8, usize)> {
    let level = body.bytes().take_while(|byte| *byte == b'#').count();
    let rest = &body[level..];
    let words = rest.trim_start();
    let is = (1..=6).contains(&level) && rest.starts_with([' ', '\t']) && !words.is_empty();
    is.then(|| (u8::try_from(level).unwrap_or(6), body.len() - words.len()))
}

/// The number of a list item, and how long its mark is.
fn item_mark(body: &str) -> Option<(Option<u32>, usize)> {
    let first = body.chars().next()?;
    let (number, mark) = if matches!(first, '-' | '*' | '+' | '•' | '–' | '◦' | '▪') {
        (None, first.len_utf8())
    } else {
        let digits = body.bytes().take_while(u8::is_ascii_digit).count();
        let ends = matches!(body.as_bytes().get(digits), Some(b'.' | b')'));
        if !(1..=3).contains(&digits) || !ends {
            return None;
        }
        (body[..digits].parse().ok(), digits + 1)
    };
    let rest = &body[mark..];
    let words = rest.trim_start();
    (rest.starts_with([' ', '\t']) && !words.is_empty()).then(|| (number, body.len() - words.len()))
}

/// `range` without the `#` that may close a heading.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let words = text[range.clone()].trim_end_matches('#').trim_end();
    range.start..range.start + words.len()
}
