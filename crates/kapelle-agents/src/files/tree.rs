//! The front matter as strict YAML: fields with their lines, scalars as they are written.
//!
//! **Invariant:** scalars keep their text: `3000`, `1.10` and `yes` are what the author wrote, and it
//! is the key that says what they mean. Bounded by [`NODES_MAX`], aliases counted each time.

use std::collections::BTreeMap;

use kapelle_core::Json;
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};

/// How many values there may be.
const NODES_MAX: usize = 20_000;
/// How deep they may be nested.
const DEPTH_MAX: usize = 32;

/// A key of the front matter with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) key: String,
    /// The key's line, from 1 on.
    pub(super) line: u32,
    pub(super) value: Value,
}

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A key without a value.
    Nothing,
    Text {
        text: String,
        /// In quotes, or a block: not a number, whatever it looks like.
        quoted: bool,
    },
    List(Vec<Self>),
    Map(Vec<Field>),
}

/// Why it is no YAML.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) line: u32,
    pub(super) message: String,
}

impl Value {
    fn into_fields(self) -> Vec<Field> {
        if let Self::Map(fields) = self { fields } else { Vec::new() }
    }

    /// The same as JSON, for those who keep it.
    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Nothing => Json::Null,
            Self::Text { text, quoted: true } => text.as_str().into(),
            Self::Text { text, quoted: false } => match serde_json::from_str(text) {
                Ok(json @ (Json::Number(_) | Json::Bool(_))) => json,
                _ => text.as_str().into(),
            },
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(fields) => {
                let pairs = fields.iter().map(|field| (field.key.clone(), field.value.to_json()));
                Json::Object(pairs.collect())
            }
        }
    }

    fn nodes(&self) -> usize {
        1 + match self {
            Self::Nothing | Self::Text { .. } => 0,
            Self::List(items) => items.iter().map(Self::nodes).sum::<usize>(),
            Self::Map(fields) => fields.iter().map(|field| field.value.nodes()).sum::<usize>(),
        }
    }
}

/// Reads `front`, whose first line is `line` of its file.
pub(super) fn parse(front: &str, line: u32) -> Result<Vec<Field>, Fault> {
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    let mut builder = Builder { line, ..Builder::default() };
    for next in Parser::new_from_str_with_options(front, options) {
        let (event, span) = next.map_err(|error| {
            let (line, message) =
                (builder.in_file(error.marker().line()), error.kind().to_string());
            Fault { line, message }
        })?;
        builder.take(event, &span)?;
    }
    match builder.root {
        None | Some(Value::Nothing) => Ok(Vec::new()),
        Some(Value::Map(fields)) => Ok(fields),
        Some(Value::Text { .. } | Value::List(_)) => {
            Err(Fault { line, message: "it has no keys".to_owned() })
        }
    }
}

#[derive(Default)]
struct Builder {
    /// The line of the file in which the text begins.
    line: u32,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Value>,
    root: Option<Value>,
    nodes: usize,
}

/// A list or an object that is not closed yet.
struct Open {
    anchor: usize,
    items: Vec<Value>,
    /// What an object has besides.
    map: Option<OpenMap>,
}

#[derive(Default)]
struct OpenMap {
    fields: Vec<Field>,
    /// The key whose value comes next, and its line.
    awaited: Option<(String, u32)>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        let line = self.in_file(span.start.line());
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let quoted = style != ScalarStyle::Plain;
                let empty = matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if empty && !quoted {
                    Value::Nothing
                } else {
                    Value::Text { text: text.into_owned(), quoted }
                };
                self.close(value, anchor, line)
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let unknown = || fault(line, "an alias stands inside what it refers to");
                self.close(value.ok_or_else(unknown)?, 0, line)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open { anchor, items: Vec::new(), map: None });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                let map = Some(OpenMap::default());
                self.open.push(Open { anchor, items: Vec::new(), map });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { anchor, items, map } = self.open.pop().expect("ends follow starts");
                let value = match map {
                    Some(map) => Value::Map(merged(map.fields)),
                    None => Value::List(items),
                };
                self.close(value, anchor, line)
            }
            _ => Ok(()),
        }
    }

    /// Puts a complete value where it belongs.
    fn close(&mut self, value: Value, anchor: usize, line: u32) -> Result<(), Fault> {
        self.nodes += value.nodes();
        if self.nodes > NODES_MAX {
            return Err(fault(line, "it holds too many values"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None if self.root.is_some() => return Err(fault(line, "it is more than one document")),
            None => self.root = Some(value),
            Some(Open { items, map: None, .. }) => items.push(value),
            Some(Open { map: Some(map), .. }) => match map.awaited.take() {
                Some((key, line)) => map.fields.push(Field { key, line, value }),
                None => match value {
                    Value::Text { text, .. } => map.awaited = Some((text, line)),
                    _ => return Err(fault(line, "a key must be a text")),
                },
            },
        }
        Ok(())
    }

    /// The line of the file that is `line` of the text.
    fn in_file(&self, line: usize) -> u32 {
        let below = u32::try_from(line.saturating_sub(1)).unwrap_or(u32::MAX);
        self.line.saturating_add(below)
    }
}

/// The fields with those that `<<` takes over from elsewhere; what stands there itself goes before.
fn merged(fields: Vec<Field>) -> Vec<Field> {
    let (merge, mut own): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|field| field.key == "<<");
    for value in merge.into_iter().map(|field| field.value) {
        let from = if let Value::List(all) = value { all } else { vec![value] };
        for field in from.into_iter().flat_map(Value::into_fields) {
            if own.iter().all(|known| known.key != field.key) {
                own.push(field);
            }
        }
    }
    own
}

fn fault(line: u32, message: &str) -> Fault {
    Fault { line, message: message.to_owned() }
}
