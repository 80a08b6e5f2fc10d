//! Numbered sentences of texts, as a model is shown them, and what its numbers mean.
//!
//! **Invariants:** a number means a place in a text or nothing; what is shown has so many bytes at the
//! most, whatever there is.

use std::fmt::Write as _;
use std::ops::Range;

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde_json::json;

use super::document::Page;
use crate::input::invalid;
use crate::text::{Block, Kind, sentences, squeeze};

/// The most text that is shown, in bytes: about 10,000 tokens.
pub(super) const TEXT_MAX: usize = 40_000;
/// The most of one line, in bytes.
const LINE_MAX: usize = 2_000;

/// A sentence, a passage, or a block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(super) page: usize,
    pub(super) range: Range<usize>,
    /// The heading that it is below.
    pub(super) heading: Option<Range<usize>>,
    pub(super) is_code: bool,
}

/// What a model is shown.
pub(crate) struct Sheet {
    pub(crate) text: String,
    /// By their numbers, from 1.
    lines: Vec<Line>,
}

/// A text, and what it is called.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) name: &'a str,
    pub(super) title: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn of(pages: &[Page<'a>]) -> Vec<Self> {
        let source = |page: &Page<'a>| {
            let title = page.document.title.as_deref().unwrap_or_default();
            Source { text: page.text, name: page.document.name(), title }
        };
        pages.iter().map(source).collect()
    }
}

impl Sheet {
    /// Those of `lines` that fit, in their order; `None` if there is none.
    pub(super) fn of(
        question: Option<&str>,
        sources: &[Source<'_>],
        lines: impl IntoIterator<Item = Line>,
    ) -> Option<Self> {
        let mut sheet = Self { text: String::new(), lines: Vec::new() };
        if let Some(question) = question {
            let _ = writeln!(sheet.text, "Question: {}\n", squeeze(question));
        }
        for line in lines {
            let source = &sources[line.page];
            let before = sheet.lines.last();
            let mut shown = String::new();
            if before.is_none_or(|before| before.page != line.page) {
                let (n, name, title) = (line.page + 1, squeeze(source.name), squeeze(source.title));
                let _ = writeln!(shown, "\n# Source {n}: {name} {title}");
            }
            if let Some(heading) = &line.heading
                && before
                    .is_none_or(|it| it.page != line.page || it.heading.as_ref() != Some(heading))
            {
                let _ = writeln!(shown, "## {}", squeeze(&source.text[heading.clone()]));
            }
            let text = source.text[line.range.clone()].trim();
            let text = &text[..text.floor_char_boundary(LINE_MAX)];
            let _ = writeln!(shown, "[{}] {text}", sheet.lines.len() + 1);
            if sheet.text.len() + shown.len() > TEXT_MAX {
                break;
            }
            sheet.text.push_str(&shown);
            sheet.lines.push(line);
        }
        (!sheet.lines.is_empty()).then_some(sheet)
    }

    /// The line with this number.
    pub(super) fn line(&self, number: &Json) -> Option<&Line> {
        self.lines.get(usize::try_from(number.as_u64()?).ok()?.checked_sub(1)?)
    }

    /// The place of the line with this number, from 0, among all that were shown.
    pub(super) fn index(&self, number: &Json) -> Option<usize> {
        self.line(number)?;
        usize::try_from(number.as_u64()?).ok()?.checked_sub(1)
    }

    /// Which lines the numbers of a list mean, each once, in its order. What means nothing is noted; a
    /// list of nothing else is no answer.
    pub(super) fn chosen(&self, list: &Json, notes: &mut Notes) -> Result<Vec<usize>, Failure> {
        let mut chosen = Vec::new();
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        for number in list {
            match self.index(number) {
                Some(index) if chosen.contains(&index) => {}
                Some(index) => chosen.push(index),
                None => notes.unknown(number),
            }
        }
        if chosen.is_empty() && !list.is_empty() {
            return Err(nothing_given());
        }
        Ok(chosen)
    }

    pub(super) fn at(&self, index: usize) -> &Line {
        &self.lines[index]
    }
}

/// A model chose nothing that it was given.
pub(super) fn nothing_given() -> Failure {
    invalid("bad_answer", "the model chose nothing that it was given")
}

/// What is said on the side of an answer.
#[derive(Default)]
pub(super) struct Notes(Vec<String>);

impl Notes {
    /// More of them are counted.
    const MAX: usize = 20;

    pub(super) fn add(&mut self, note: String) {
        self.0.push(note);
    }

    pub(super) fn unknown(&mut self, number: &Json) {
        self.add(format!("dropped: the model points at {number}, which it was not given"));
    }

    /// Adds them to the answer, if there are any.
    pub(super) fn tell(mut self, value: &mut Json) {
        let more = self.0.len().saturating_sub(Self::MAX);
        self.0.truncate(Self::MAX);
        if more > 0 {
            self.add(format!("and {more} more"));
        }
        if !self.0.is_empty() {
            value["notes"] = json!(self.0);
        }
    }
}

/// The sentences and blocks of code in `range` of a page.
pub(super) fn lines(page: usize, text: &str, blocks: &[Block], range: &Range<usize>) -> Vec<Line> {
    let (mut found, mut heading) = (Vec::new(), None);
    for block in blocks {
        if block.range.start >= range.end {
            break;
        }
        let part = block.range.start.max(range.start)..block.range.end.min(range.end);
        let line = |range, is_code| Line { page, range, heading: heading.clone(), is_code };
        match block.kind {
            Kind::Heading(_) => heading = Some(block.range.clone()),
            _ if part.is_empty() => {}
            Kind::Code => found.push(line(part, true)),
            Kind::Paragraph | Kind::Item { .. } | Kind::Row => {
                found.extend(sentences(text, part).into_iter().map(|range| line(range, false)));
            }
        }
    }
    found
}

/// A schema of an object with all of these.
pub(super) fn object(properties: &Json) -> Json {
    let names: Vec<&String> =
        properties.as_object().into_iter().flat_map(|all| all.keys()).collect();
    json!({
        "type": "object", "properties": properties, "required": names, "additionalProperties": false
    })
}

/// A schema of a list of numbers.
pub(super) fn numbers(description: &str) -> Json {
    json!({"description": description, "type": "array", "items": {"type": "integer"}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::blocks;

    const TEXT: &str = "# Ports\n\nThe port is 80. It may change.\n\n```\nserve --port 81\n```\n";

    #[test]
    fn numbers_mean_places_or_nothing() {
        let lines = lines(0, TEXT, &blocks(TEXT, &[]), &(0..TEXT.len()));
        let source = [Source { text: TEXT, name: "a", title: "A" }];
        let sheet = Sheet::of(Some("which port?"), &source, lines).unwrap();
        let shown = "Question: which port?\n\n\n# Source 1: a A\n## Ports\n[1] The port is 80.\n\
                     [2] It may change.\n[3] serve --port 81\n";
        assert_eq!(sheet.text, shown);
        let mut notes = Notes::default();
        let chosen = sheet.chosen(&json!([3, 9, 1, 3, 0, -1, "2"]), &mut notes).unwrap();
        assert_eq!(chosen, [2, 0]);
        assert!(sheet.at(2).is_code && &TEXT[sheet.at(0).range.clone()] == "The port is 80.");
        assert_eq!(notes.0.len(), 4, "{:?}", notes.0);
        assert!(sheet.chosen(&json!([9]), &mut notes).is_err());
        assert!(sheet.chosen(&json!([]), &mut notes).unwrap().is_empty());
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let text = "A sentence of some words. ".repeat(5_000);
        let all = lines(0, &text, &blocks(&text, &[]), &(0..text.len()));
        let source = [Source { text: &text, name: "", title: "" }];
        let sheet = Sheet::of(None, &source, all.clone()).unwrap();
        assert!(sheet.text.len() <= TEXT_MAX && sheet.lines.len() < all.len());
        assert!(Sheet::of(None, &source, []).is_none());
    }
}
