//! The documents that an action is given, and how a place in one is named.
//!
//! **Invariant:** every quote is a slice of the document's text, and says where: its bytes and its
//! characters. What else a document has, as links and tables, is passed over. Marks are dropped from
//! what is Markdown, and from nothing else.

use std::ops::Range;

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, json};

use super::claims::cells;
use crate::input::invalid;
use crate::text::{Block, Kind, Language, Offsets, Passage, Written, as_marked, blocks, passages};

/// The most text, in bytes, that one call takes.
const TEXT_MAX: usize = 32 << 20;

/// A document as it is given.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Document {
    #[serde(default, deserialize_with = "or_none")]
    url: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    source: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    pub(super) title: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    text: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    markdown: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    format: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    headings: Option<Vec<Heading>>,
    #[serde(default, deserialize_with = "or_none")]
    language: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    pub(super) published: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Heading {
    Text(String),
    Leveled { level: Option<u8>, text: String },
}

/// A page that has no date says `null`, and so does a template that found none.
fn or_none<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

/// The JSON Schema of [`Document`].
pub(super) fn schema() -> Json {
    let text = json!({"type": ["string", "null"]});
    json!({
        "description": "a page as `web.read` gives it; places are counted in `text`, or in \
                        `markdown` where there is no text",
        "type": "object",
        "anyOf": [
            {"required": ["text"], "properties": {"text": {"type": "string"}}},
            {"required": ["markdown"], "properties": {"markdown": {"type": "string"}}}
        ],
        "properties": {
            "url": text, "source": text, "title": text, "text": text, "markdown": text,
            "language": text, "published": text,
            "format": {
                "description": "`text`: neither `text` nor `markdown` is Markdown",
                "type": ["string", "null"]
            },
            "headings": {
                "type": ["array", "null"],
                "items": {"anyOf": [
                    {"type": "string"},
                    {
                        "type": "object", "required": ["text"],
                        "properties": {
                            "text": {"type": "string"},
                            "level": {"type": ["integer", "null"], "minimum": 0, "maximum": 255}
                        }
                    }
                ]}
            }
        }
    })
}

/// The JSON Schema of a list of [`Document`]s.
pub(super) fn list_schema() -> Json {
    json!({"type": "array", "maxItems": 100_000, "items": schema()})
}

impl Document {
    /// A document of nothing but its text.
    pub(super) fn of_text(text: String) -> Self {
        Self { text: Some(text), ..Self::default() }
    }

    /// The text that places are counted in.
    pub(super) fn text(&self) -> &str {
        let text = self.text.as_deref().filter(|text| !text.trim().is_empty());
        text.or(self.markdown.as_deref()).or(self.text.as_deref()).unwrap_or_default()
    }

    /// A document of nothing but its Markdown.
    pub(super) fn of_markdown(markdown: String) -> Self {
        Self { markdown: Some(markdown), ..Self::default() }
    }

    /// The same, from `url`, called `title`.
    pub(super) fn named(self, url: Option<String>, title: Option<String>) -> Self {
        Self { url, title, ..self }
    }

    /// The text with the most marks in it: where steps and commands are looked for.
    pub(super) fn marked(&self) -> &str {
        let markdown = self.markdown.as_deref().filter(|text| !text.trim().is_empty());
        markdown.or(self.text.as_deref()).unwrap_or_default()
    }

    /// Whether `text`, one of the two, is Markdown.
    fn is_markdown(&self, text: &str) -> bool {
        self.format.as_deref() != Some("text") && self.markdown.as_deref() == Some(text)
    }

    /// `text`, one of the two, whose blocks these are, with its marks.
    pub(super) fn written<'a>(&self, text: &'a str, blocks: &[Block]) -> Written<'a> {
        if self.is_markdown(text) { Written::markdown(text, blocks) } else { Written::text(text) }
    }

    /// What a reader would look it up by: its URL, its name, or its title.
    pub(super) fn name(&self) -> &str {
        let names = [&self.url, &self.source, &self.title];
        let name = names.into_iter().flatten().find(|name| !name.trim().is_empty());
        name.map_or("", |name| name.trim())
    }

    pub(super) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    pub(super) fn language(&self) -> Language {
        Language::of(self.language.as_deref(), self.text())
    }

    pub(super) fn blocks_of(&self, text: &str) -> Vec<Block> {
        let headings = self.headings.iter().flatten().map(|heading| match heading {
            Heading::Text(text) => (2, text.as_str()),
            Heading::Leveled { level, text } => (level.unwrap_or(2).clamp(1, 6), text.as_str()),
        });
        let found = blocks(text, &headings.collect::<Vec<_>>());
        // A page's text has no marks; what is a list or code in it, its Markdown says.
        let marked = self.marked();
        if text == marked {
            return found;
        }
        as_marked(text, found, marked, &blocks(marked, &[]))
    }
}

/// Refuses more text than one call takes.
pub(super) fn check(documents: &[Document]) -> Result<(), Failure> {
    let longest = |document: &Document| document.text().len().max(document.marked().len());
    let sum: usize = documents.iter().map(longest).sum();
    if sum <= TEXT_MAX {
        return Ok(());
    }
    let message = format!("the documents have {sum} bytes of text, over {}", TEXT_MAX);
    Err(invalid("too_large", message))
}

/// A document that has been taken apart.
pub(super) struct Page<'a> {
    pub(super) document: &'a Document,
    pub(super) text: &'a str,
    pub(super) language: Language,
    pub(super) blocks: Vec<Block>,
    written: Written<'a>,
    offsets: Offsets<'a>,
}

impl<'a> Page<'a> {
    /// Takes `document` apart.
    pub(super) fn of(document: &'a Document) -> Self {
        let text = document.text();
        let blocks = document.blocks_of(text);
        let written = document.written(text, &blocks);
        let offsets = Offsets::new(text);
        Self { document, text, language: document.language(), blocks, written, offsets }
    }

    /// What is at `range`, as a reader sees it: one line, without marks; a row with the names of its cells.
    pub(super) fn plain(&self, range: &Range<usize>) -> String {
        let Some(header) = self.header(range) else { return self.written.plain(range) };
        let names = cells(&self.text[header]);
        let named = cells(&self.text[range.clone()]).into_iter().enumerate().map(|(at, cell)| {
            let start = cell.as_ptr().addr() - self.text.as_ptr().addr();
            let cell = self.written.plain(&(start..start + cell.len()));
            match names.get(at).filter(|name| !name.is_empty()) {
                Some(name) => format!("{name}: {cell}"),
                None => cell,
            }
        });
        named.filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// The first row of the table of which `row` is another one.
    pub(super) fn header(&self, row: &Range<usize>) -> Option<Range<usize>> {
        let at = self.blocks.partition_point(|block| block.range.end < row.end);
        let is_row = |block: &Block| block.kind == Kind::Row;
        let found = self.blocks.get(at).filter(|block| is_row(block))?;
        if row.start < found.range.start {
            return None;
        }
        let before = self.blocks[..at].iter().rev().take_while(|block| is_row(block)).last()?;
        Some(before.range.clone())
    }

    /// All of them.
    pub(super) fn all(documents: &'a [Document]) -> Vec<Self> {
        documents.iter().map(Page::of).collect()
    }

    pub(super) fn passages(&self) -> Vec<Passage> {
        passages(self.text, &self.blocks)
    }

    /// The words at `range` and where they are, as an answer shows them.
    pub(super) fn quote(&self, range: &Range<usize>) -> Map<String, Json> {
        let mut quote = Map::new();
        quote.insert("text".into(), self.text[range.clone()].into());
        self.place(range, &mut quote);
        quote
    }

    /// Adds where `range` is: the source, its title, and the bytes and characters.
    pub(super) fn place(&self, range: &Range<usize>, to: &mut Map<String, Json>) {
        to.insert("source".into(), self.document.name().into());
        if let Some(title) = &self.document.title {
            to.insert("title".into(), title.trim().into());
        }
        to.insert("start".into(), range.start.into());
        to.insert("end".into(), range.end.into());
        to.insert("char_start".into(), self.offsets.chars(range.start).into());
        to.insert("char_end".into(), self.offsets.chars(range.end).into());
    }
}

/// The JSON Schema of a quote with `more` properties beside.
pub(super) fn quote_schema(more: &Json) -> Json {
    let place = json!({"type": "integer", "minimum": 0});
    let mut schema = json!({
        "type": "object",
        "required": ["text", "source", "start", "end", "char_start", "char_end"],
        "additionalProperties": false,
        "properties": {
            "text": {"type": "string"},
            "source": {"type": "string"},
            "title": {"type": "string"},
            "start": place, "end": place, "char_start": place, "char_end": place
        }
    });
    if let (Some(properties), Some(more)) = (schema["properties"].as_object_mut(), more.as_object())
    {
        properties.extend(more.clone());
    }
    schema
}
