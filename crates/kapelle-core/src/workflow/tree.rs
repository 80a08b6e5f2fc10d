//! YAML or JSON text as a tree of values that know where they were written.
//!
//! **Invariant:** bounded by counts, aliases counted each time they are used: [`DEPTH_MAX`],
//! [`NODES_MAX`], [`BYTES_MAX`]. Anything that YAML has and JSON has not is refused, not guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_saphyr::granit_parser::{
    ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, Tag,
};

use crate::Json;
use crate::problem::Code;

/// How deep lists and objects may be nested.
pub(super) const DEPTH_MAX: usize = 64;
/// How many values there may be.
pub(super) const NODES_MAX: usize = 4_000_000;
/// How many bytes of text there may be.
pub(super) const BYTES_MAX: usize = 64 << 20;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar(Json),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of an object and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Range<usize>,
    pub(super) value: Node,
}

/// Something wrong with the text, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) code: Code,
    /// The field it is in, as far as that was known.
    pub(super) field: String,
    pub(super) message: String,
    pub(super) at: Range<usize>,
}

impl Node {
    pub(super) fn to_json(&self) -> Json {
        match &self.kind {
            Kind::Scalar(json) => json.clone(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                let entries =
                    entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                Json::Object(entries.collect())
            }
        }
    }

    /// What is at a JSON pointer, or the nearest that encloses it.
    pub(super) fn nearest(&self, pointer: &str) -> &Self {
        let mut node = self;
        for segment in pointer.split('/').skip(1) {
            let segment = unescaped(segment);
            let next = match &node.kind {
                Kind::List(items) => segment.parse::<usize>().ok().and_then(|i| items.get(i)),
                Kind::Map(_) => node.entry(&segment).map(|entry| &entry.value),
                Kind::Scalar(_) => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Kind::List(_) | Kind::Scalar(_) => None,
        }
    }

    /// How many values and bytes of text a copy has.
    fn size(&self) -> (usize, usize) {
        let sum = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        match &self.kind {
            Kind::Scalar(Json::String(text)) => (1, text.len()),
            Kind::Scalar(_) => (1, 0),
            Kind::List(items) => items.iter().map(Self::size).fold((1, 0), sum),
            Kind::Map(entries) => entries
                .iter()
                .map(|entry| sum(entry.value.size(), (0, entry.key.len())))
                .fold((1, 0), sum),
        }
    }
}

/// Reads the one document of `text`. Faults that leave a tree are in `faults`.
pub(super) fn parse(text: &str, faults: &mut Vec<Fault>) -> Result<Node, Fault> {
    let mut builder = Builder {
        text,
        faults,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        root: None,
        nodes: 0,
        bytes: 0,
    };
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    let mut documents = 0;
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| builder.scan_error(&error))?;
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                let message = "the file holds more than one document";
                return Err(builder.fault(Code::SeveralDocuments, message, &span));
            }
        }
        builder.take(event, &span)?;
    }
    let empty = Fault {
        code: Code::EmptyFile,
        field: String::new(),
        message: "the file is empty".to_owned(),
        at: 0..0,
    };
    match builder.root {
        Some(Node { kind: Kind::Scalar(Json::Null), .. }) | None => Err(empty),
        Some(root) => Ok(root),
    }
}

struct Builder<'a> {
    text: &'a str,
    faults: &'a mut Vec<Fault>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    bytes: usize,
}

/// A list or an object that is not closed yet.
struct Open {
    start: usize,
    anchor: usize,
    items: Vec<Node>,
    /// What an object has besides.
    map: Option<OpenMap>,
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    keys: BTreeSet<String>,
    /// The key whose value comes next.
    awaited: Option<(String, Range<usize>)>,
    /// What `<<` brings; the object's own entries go before.
    merged: Vec<Entry>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, text.len(), span)?;
                let json = self.scalar(&text, style, tag.as_deref(), span);
                let node = Node { at: range(span), kind: Kind::Scalar(json) };
                self.close(node, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(self.fault(
                        Code::YamlSyntax,
                        "an alias stands inside what it refers to",
                        span,
                    ));
                };
                let (nodes, bytes) = node.size();
                let copy = |node: &Node| Node { at: range(span), kind: node.kind.clone() };
                self.count(nodes, bytes, span)?;
                let node = self.anchors.get(&anchor).map(copy).expect("it was there");
                self.close(node, 0)
            }
            Event::SequenceStart(_, anchor, tag) => self.open(false, anchor, tag.as_deref(), span),
            Event::MappingStart(_, anchor, tag) => self.open(true, anchor, tag.as_deref(), span),
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("ends follow starts");
                let kind = match open.map {
                    Some(mut map) => {
                        let keys = &mut map.keys;
                        map.merged.retain(|entry| keys.insert(entry.key.clone()));
                        map.entries.append(&mut map.merged);
                        Kind::Map(map.entries)
                    }
                    None => Kind::List(open.items),
                };
                let end = range(span).end.max(open.start);
                self.close(Node { at: open.start..end, kind }, open.anchor)
            }
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        map: bool,
        anchor: usize,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<(), Fault> {
        self.count(1, 0, span)?;
        self.check_tag(tag, span);
        if self.open.len() == DEPTH_MAX {
            return Err(self.too_deep(range(span)));
        }
        self.open.push(Open {
            start: range(span).start,
            anchor,
            items: Vec::new(),
            map: map.then(OpenMap::default),
        });
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor > 0 {
            let (nodes, bytes) = node.size();
            self.count(nodes, bytes, &Span::default())?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let Some(map) = &mut open.map else {
            open.items.push(node);
            return Ok(());
        };
        let Some((key, key_at)) = map.awaited.take() else {
            let key = self.key(node)?;
            self.await_value(Some(key));
            return Ok(());
        };
        if key == "<<" {
            match entries_of(node) {
                Some(entries) => map.merged.extend(entries),
                None => self.note(Code::YamlSyntax, "`<<` takes an object", key_at),
            }
        } else if map.keys.insert(key.clone()) {
            map.entries.push(Entry { key, key_at, value: node });
        } else {
            let message = format!("the key `{}` is there twice", clipped(&key));
            self.await_value(Some((key, key_at.clone())));
            self.note(Code::DuplicateKey, &message, key_at);
            self.await_value(None);
        }
        Ok(())
    }

    /// Says of which key the next value is; the path of what goes wrong meanwhile ends with it.
    fn await_value(&mut self, key: Option<(String, Range<usize>)>) {
        if let Some(map) = self.open.last_mut().and_then(|open| open.map.as_mut()) {
            map.awaited = key;
        }
    }

    fn key(&self, node: Node) -> Result<(String, Range<usize>), Fault> {
        match node.kind {
            Kind::Scalar(Json::String(text)) => Ok((text, node.at)),
            Kind::Scalar(_) => Ok((self.text[node.at.clone()].trim().to_owned(), node.at)),
            Kind::List(_) | Kind::Map(_) => Err(Fault {
                code: Code::YamlSyntax,
                field: self.path(),
                message: "a key must be a text".to_owned(),
                at: node.at,
            }),
        }
    }

    /// The field that is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.map {
                Some(map) => {
                    if let Some((key, _)) = &map.awaited {
                        let dot = if path.is_empty() { "" } else { "." };
                        path.push_str(&format!("{dot}{}", clipped(key)));
                    }
                }
                None => path.push_str(&format!("[{}]", open.items.len())),
            }
        }
        path
    }

    fn note(&mut self, code: Code, message: &str, at: Range<usize>) {
        let fault = Fault { code, field: self.path(), message: message.to_owned(), at };
        self.faults.push(fault);
    }

    fn count(&mut self, nodes: usize, bytes: usize, span: &Span) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes > NODES_MAX || self.bytes > BYTES_MAX {
            let message = format!(
                "the file holds more than {NODES_MAX} values or {BYTES_MAX} bytes of text, aliases counted each time"
            );
            return Err(self.fault(Code::TooManyNodes, &message, span));
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Json {
        self.check_tag(tag, span);
        let forced = tag.is_some_and(|tag| matches!(tag.core_suffix(), Some("str")));
        if style == ScalarStyle::Plain && !forced {
            plain(text)
        } else {
            Json::String(text.to_owned())
        }
    }

    fn check_tag(&mut self, tag: Option<&Tag>, span: &Span) {
        let Some(tag) = tag else { return };
        let known = ["str", "int", "float", "bool", "null", "seq", "map"];
        if !tag.core_suffix().is_some_and(|suffix| known.contains(&suffix)) {
            let message = format!("the tag `{}` is not supported", clipped(&tag.original()));
            self.note(Code::YamlSyntax, &message, range(span));
        }
    }

    fn fault(&self, code: Code, message: &str, span: &Span) -> Fault {
        Fault { code, field: self.path(), message: message.to_owned(), at: range(span) }
    }

    fn too_deep(&self, at: Range<usize>) -> Fault {
        let message = format!("the file is nested deeper than {DEPTH_MAX} levels");
        Fault { code: Code::TooDeep, field: self.path(), message, at }
    }

    fn scan_error(&self, error: &ScanError) -> Fault {
        let at = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let at = self.text.floor_char_boundary(at);
        if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
            return self.too_deep(at..at);
        }
        let message = match error.kind() {
            ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation => {
                "a tab cannot indent: use spaces".to_owned()
            }
            ErrorKind::UnknownAnchor => {
                "an alias refers to an anchor that does not exist".to_owned()
            }
            kind => kind.to_string(),
        };
        Fault {
            code: Code::YamlSyntax,
            field: self.path(),
            message: clipped(&message).to_owned(),
            at: at..at,
        }
    }
}

/// What `<<` takes from its value: an object's entries, or those of several objects.
fn entries_of(node: Node) -> Option<Vec<Entry>> {
    match node.kind {
        Kind::Map(entries) => Some(entries),
        Kind::List(items) => {
            let entries: Option<Vec<_>> = items.into_iter().map(entries_of).collect();
            Some(entries?.into_iter().flatten().collect())
        }
        Kind::Scalar(_) => None,
    }
}

/// A segment of a JSON pointer as the key that it stands for.
pub(super) fn unescaped(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

fn range(span: &Span) -> Range<usize> {
    span.byte_range().unwrap_or(0..0)
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(120)]
}

/// What a scalar without quotes stands for: YAML 1.2's core schema, without what JSON has not.
fn plain(text: &str) -> Json {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Json::Null,
        "true" | "True" | "TRUE" => return Json::Bool(true),
        "false" | "False" | "FALSE" => return Json::Bool(false),
        _ => (),
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Json::String(text.to_owned());
    }
    number(text, digits).unwrap_or_else(|| Json::String(text.to_owned()))
}

fn number(text: &str, digits: &str) -> Option<Json> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')).map(Json::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8)
            .ok()
            .filter(|_| !octal.starts_with('+'))
            .map(Json::from);
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let text = text.strip_prefix('+').unwrap_or(text);
        if let Ok(number) = text.parse::<i64>() {
            return Some(number.into());
        }
        if let Ok(number) = text.parse::<u64>() {
            return Some(number.into());
        }
    }
    // What else Rust reads as a number, such as `inf`, begins with a letter.
    let number = text.parse::<f64>().ok()?;
    serde_json::Number::from_f64(number).map(Json::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(nodes: usize, bytes: usize) -> Result<(), Code> {
        let (mut faults, span) = (Vec::new(), Span::default());
        let mut builder = Builder {
            text: "",
            faults: &mut faults,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            root: None,
            nodes: NODES_MAX - 1,
            bytes: BYTES_MAX - 1,
        };
        builder.count(nodes, bytes, &span).map_err(|fault| fault.code)
    }

    #[test]
    fn values_and_bytes_are_counted_to_the_last() {
        assert_eq!(counted(1, 1), Ok(()));
        assert_eq!(counted(2, 0), Err(Code::TooManyNodes));
        assert_eq!(counted(0, 2), Err(Code::TooManyNodes));
        assert_eq!(counted(usize::MAX, usize::MAX), Err(Code::TooManyNodes));
    }

    #[test]
    fn a_copy_has_all_values_and_all_letters() {
        let tree = parse("{ab: [cde, 1], f: {gh: ij}}", &mut Vec::new()).unwrap();
        assert_eq!(tree.size(), (6, 2 + 3 + 1 + 2 + 2));
    }
}
