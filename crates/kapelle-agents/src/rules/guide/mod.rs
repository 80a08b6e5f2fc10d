//! `guide-extractor`: the steps that a page tells its reader to take.
//!
//! **Invariant:** steps come in the order of the page, each is a slice of it, and what is a note or
//! a warning stays with its step. A list of numbers is taken whole if most of it tells the reader to do
//! something; elsewhere a step is a sentence that does, beside another, or a command for a shell.

mod collect;
mod imperative;
mod judged;
mod read;
mod sections;
mod shell;
#[cfg(test)]
mod tests;

use std::ops::Range;

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde::Deserialize;
use serde_json::json;

use super::document::{self, Document};
use super::engine::{Engine, Thinker};
use super::{Made, Rules, Verb, Work};
use crate::Web;
use crate::input::{invalid, read as read_input};
use crate::text::{Block, Language, Offsets, Written, squeeze};
use collect::{Step, collect};
use read::Guide;

pub(super) use imperative::{is_told, strip_lead};

/// The agent; pages are read by `web`.
pub(crate) fn agent(web: Web, thinker: Thinker) -> Guide {
    let verb = Verb {
        name: "extract",
        description: "Extracts ordered steps from a page: what to do, where, with which command",
        input: schema(),
        output: json!({
            "type": "object",
            "required": ["title", "source", "language", "steps"],
            "additionalProperties": false,
            "properties": {
                "title": {"type": "string"}, "source": {"type": "string"},
                "language": {"type": "string"}, "task": {"type": "string"},
                "steps": {"type": "array", "items": step_schema()}
            }
        }),
        work: Work::Anywhere(extract),
        thought: Some(judged::EXTRACT),
    };
    let description = "Extracts step-by-step guides from pages";
    Guide { rules: Rules::new("guide-extractor", description, vec![verb], thinker), web }
}

/// The JSON Schema of a step.
pub(super) fn step_schema() -> Json {
    let text = json!({"type": "string"});
    let place = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "required": ["n", "instruction"],
        "additionalProperties": false,
        "properties": {
            "n": {"type": "integer", "minimum": 1},
            "instruction": text,
            "element": {"description": "what to act on, as the page names it", "type": "string"},
            "command": text, "note": text, "warning": text,
            "expect": {"description": "how one sees that it is done", "type": "string"},
            "section": text,
            "start": place, "end": place, "char_start": place, "char_end": place
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    url: Option<String>,
    title: Option<String>,
    text: Option<String>,
    markdown: Option<String>,
    document: Option<Document>,
    task: Option<String>,
    engine: Option<Engine>,
}

fn schema() -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "oneOf": [
            {"required": ["text"]}, {"required": ["markdown"]}, {"required": ["document"]},
            {"required": ["url"], "not": {"anyOf": [
                {"required": ["text"]}, {"required": ["markdown"]}, {"required": ["document"]}
            ]}}
        ],
        "properties": {
            "url": {
                "description": "where the text is from; alone, the page to read",
                "type": "string"
            },
            "title": {"type": "string"},
            "text": {"type": "string"},
            "markdown": {"type": "string"},
            "document": document::schema(),
            "task": {
                "description": "what the reader wants to do: only the section on that is taken",
                "type": "string", "maxLength": 10_000
            }
        }
    })
}

/// What is taken apart.
struct Given {
    document: Document,
    task: Option<String>,
}

impl Given {
    fn read(input: &Json) -> Result<Self, Failure> {
        let Input { url, title, text, markdown, document, task, .. } = read_input(input)?;
        let given = [text.is_some(), markdown.is_some(), document.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let message = "give one of `url`, `text`, `markdown` and `document`";
            return Err(invalid("bad_input", message));
        }
        let of_text = text.map(Document::of_text);
        let given = of_text.or(markdown.map(Document::of_markdown)).unwrap_or_default();
        let document = document.unwrap_or_else(|| given.named(url, title));
        document::check(std::slice::from_ref(&document))?;
        Ok(Self { document, task })
    }

    /// The blocks that are about the task, among all; `None` where none is.
    fn part(&self, text: &Written<'_>, blocks: &[Block]) -> Option<Range<usize>> {
        let Some(task) = &self.task else { return Some(0..blocks.len()) };
        let title = self.document.title.as_deref().unwrap_or_default();
        sections::choose(text, blocks, title, task, self.document.language())
    }

    /// The answer: these steps, under this title.
    fn value(&self, title: Option<String>, steps: &[Step], text: &Written<'_>) -> Json {
        let title = title.or_else(|| self.document.title.clone());
        let offsets = Offsets::new(text);
        let shown = steps.iter().enumerate().map(|(at, step)| show(at + 1, step, text, &offsets));
        let mut value = json!({
            "title": squeeze(&title.unwrap_or_default()),
            "source": self.document.name(),
            "language": Language::code(self.document.language()),
            "steps": shown.collect::<Json>(),
        });
        if let Some(task) = &self.task {
            value["task"] = task.as_str().into();
        }
        value
    }
}

fn extract(input: &Json) -> Result<Made, Failure> {
    let given = Given::read(input)?;
    let text = given.document.marked();
    let blocks = given.document.blocks_of(text);
    let text = &given.document.written(text, &blocks);
    let part = given.part(text, &blocks).unwrap_or(0..0);
    let title = sections::title(text, &blocks[part.clone()]);
    let blocks = match &given.task {
        Some(task) => sections::without_asides(text, &blocks[part], task),
        None => blocks.clone(),
    };
    let steps = collect(text, &blocks, given.document.language());
    Ok(Made { value: given.value(title, &steps, text), files: Vec::new() })
}

fn show(n: usize, step: &Step, text: &Written<'_>, offsets: &Offsets<'_>) -> Json {
    let mut shown = json!({
        "n": n,
        "instruction": step.instruction,
        "start": step.range.start,
        "end": step.range.end,
        "char_start": offsets.chars(step.range.start),
        "char_end": offsets.chars(step.range.end),
    });
    let section = step.section.as_ref().map(|range| text.plain(range));
    let more = [
        ("element", &step.element),
        ("command", &step.command),
        ("note", &step.note),
        ("warning", &step.warning),
        ("expect", &step.expect),
        ("section", &section),
    ];
    for (name, said) in more {
        if let Some(said) = said.as_deref().filter(|said| !said.is_empty()) {
            shown[name] = said.into();
        }
    }
    shown
}
