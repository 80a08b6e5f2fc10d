//! Reads the text around and inside `{{ }}`: where expressions are, and which names they use.
//!
//! Names of steps and inputs may hold `-`, which the expression language takes for a minus. So
//! each `steps.<id>.<field>` and `inputs.<name>` is replaced by a variable of its own before the
//! expression is compiled; places in errors are translated back.

use std::ops::Range;

use super::{ExprError, ExprErrorKind, NAMES, Scope, filters};
use crate::suggest;

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Part<'a> {
    /// Taken as it is.
    Text(&'a str),
    /// What is between the braces, and where it begins in the template.
    Expression(&'a str, usize),
}

/// What a variable stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ref {
    Input(Box<str>),
    Step { id: Box<str>, field: Field },
}

/// What may be asked of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Output,
    Status,
    Error,
}

/// An expression with its references replaced by `__0`, `__1`, …
#[derive(Debug)]
pub(super) struct Scanned<'a> {
    pub(super) original: &'a str,
    pub(super) source: String,
    pub(super) refs: Vec<Ref>,
    /// Where each replacement is: in `source`, in `original`.
    replaced: Vec<(Range<usize>, Range<usize>)>,
    idents: Vec<(&'a str, usize)>,
}

impl Scanned<'_> {
    /// The place in the original of a place in the rewritten source.
    pub(super) fn original_range(&self, range: Range<usize>) -> Range<usize> {
        let start = self.original_offset(range.start, |original| original.start);
        let end = self.original_offset(range.end, |original| original.end);
        let len = self.original.len();
        let floor = |at: usize| self.original.floor_char_boundary(at.min(len));
        floor(start)..floor(end.max(start))
    }

    fn original_offset(&self, at: usize, edge: impl Fn(&Range<usize>) -> usize) -> usize {
        let mut shift = (0, 0);
        for (new, old) in &self.replaced {
            if at <= new.start {
                break;
            }
            if at < new.end {
                return edge(old);
            }
            shift = (new.end, old.end);
        }
        at - shift.0 + shift.1
    }

    fn place_of(&self, name: &str) -> Range<usize> {
        let found = self.idents.iter().find(|(ident, _)| *ident == name);
        found.map_or(0..self.original.len(), |(ident, at)| *at..at + ident.len())
    }
}

/// The pieces of a template.
pub(super) fn parts(template: &str) -> Result<Vec<Part<'_>>, ExprError> {
    let mut parts = Vec::new();
    let mut done = 0;
    while let Some(found) = template[done..].find("{{") {
        let open = done + found;
        if open > done {
            parts.push(Part::Text(&template[done..open]));
        }
        let start = open + 2;
        let end = start
            + end_of_expression(&template[start..]).ok_or_else(|| {
                ExprError::new(
                    ExprErrorKind::Syntax,
                    "`{{` has no matching `}}`",
                    open..template.len(),
                )
                .hint(Some("write `{{ \"{{\" }}` for the braces themselves".to_owned()))
            })?;
        parts.push(Part::Expression(&template[start..end], start));
        done = end + 2;
    }
    if done < template.len() || parts.is_empty() {
        parts.push(Part::Text(&template[done..]));
    }
    Ok(parts)
}

/// The expression in a source that may be in `{{ }}` as a whole, and where it begins.
pub(super) fn bare(source: &str) -> (&str, usize) {
    let trimmed = source.trim();
    let Some(rest) = trimmed.strip_prefix("{{") else { return (source, 0) };
    match end_of_expression(rest) {
        Some(end) if end + 2 == rest.len() => {
            (&rest[..end], source.len() - source.trim_start().len() + 2)
        }
        _ => (source, 0),
    }
}

fn end_of_expression(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => at = end_of_quote(bytes, at)?,
            b'}' if depth == 0 && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => (),
        }
        at += 1;
    }
    None
}

/// The place of the quote that ends the one at `start`.
fn end_of_quote(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            byte if byte == bytes[start] => return Some(at),
            _ => (),
        }
        at += 1;
    }
    None
}

/// Finds the names in an expression and replaces its references.
pub(super) fn scan(original: &str) -> Result<Scanned<'_>, ExprError> {
    if original.starts_with('-') && original.len() > 1 && original.ends_with('-') {
        let message = "`{{-` and `-}}` do not exist: space around `{{ }}` stays";
        return Err(syntax(message, 0..original.len()));
    }
    Scanner { text: original, at: 0, before: Before::Other, depth: 0 }.run()
}

/// What the token before was, as far as it matters.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Dot,
    Pipe,
    Is,
    Other,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    before: Before,
    depth: u32,
}

/// How deep brackets and signs may be nested: the compiler recurses.
const DEPTH_MAX: u32 = 64;

impl<'a> Scanner<'a> {
    fn run(mut self) -> Result<Scanned<'a>, ExprError> {
        let mut out = Scanned {
            original: self.text,
            source: String::with_capacity(self.text.len()),
            refs: Vec::new(),
            replaced: Vec::new(),
            idents: Vec::new(),
        };
        let mut signs = 0;
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            let start = self.at;
            match byte {
                b'"' | b'\'' => {
                    let end = end_of_quote(self.text.as_bytes(), start)
                        .ok_or_else(|| syntax("a quote is not closed", start..self.text.len()))?;
                    self.at = end + 1;
                    self.before = Before::Other;
                }
                byte if byte.is_ascii_alphabetic() || byte == b'_' => self.name(&mut out)?,
                byte if byte.is_ascii_digit() => {
                    self.at += self.run_of(|b| b.is_ascii_alphanumeric() || b == b'_');
                    self.before = Before::Other;
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                byte => {
                    self.at += self.text[start..].chars().next().map_or(1, char::len_utf8);
                    self.nest(byte)?;
                    self.before = match byte {
                        b'.' => Before::Dot,
                        b'|' => Before::Pipe,
                        _ => Before::Other,
                    };
                }
            }
            signs = if matches!(byte, b'-' | b'+') { signs + 1 } else { 0 };
            if signs > 8 {
                return Err(syntax("too many signs in a row", start..self.at));
            }
            // `name` has written what it read if that was a reference.
            if out.replaced.last().is_none_or(|(_, old)| old.end <= start) {
                out.source.push_str(&self.text[start..self.at]);
            }
        }
        Ok(out)
    }

    fn nest(&mut self, byte: u8) -> Result<(), ExprError> {
        match byte {
            b'(' | b'[' | b'{' => self.depth += 1,
            b')' | b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => (),
        }
        if self.depth > DEPTH_MAX {
            return Err(syntax("brackets are nested too deep", self.at - 1..self.at));
        }
        Ok(())
    }

    fn run_of(&self, belongs: impl Fn(u8) -> bool) -> usize {
        self.text.as_bytes()[self.at..].iter().take_while(|byte| belongs(**byte)).count()
    }

    fn name(&mut self, out: &mut Scanned<'a>) -> Result<(), ExprError> {
        let start = self.at;
        self.at += self.run_of(|b| b.is_ascii_alphanumeric() || b == b'_');
        let name = &self.text[start..self.at];
        let before = std::mem::replace(&mut self.before, Before::Other);
        match (before, name) {
            (Before::Dot, _) => Ok(()),
            (Before::Pipe, _) => known("filter", name, &filters::FILTERS, start),
            (Before::Is, "not") => {
                self.before = Before::Is;
                Ok(())
            }
            (Before::Is, _) => known("test", name, &filters::TESTS, start),
            (Before::Other, "is") => {
                self.before = Before::Is;
                Ok(())
            }
            (Before::Other, "not") => {
                self.depth += 1; // it nests like a bracket, and is never closed
                self.nest(0)
            }
            (Before::Other, "steps") => self.step(start, out),
            (Before::Other, "inputs") => self.input(start, out),
            (Before::Other, _) if name.starts_with("__") => {
                Err(syntax("a name cannot begin with `__`", start..self.at))
            }
            (Before::Other, _) => {
                out.idents.push((name, start));
                Ok(())
            }
        }
    }

    /// Reads `.name`, if that is what comes; `belongs` says what a name is made of.
    fn member(&mut self, belongs: impl Fn(u8) -> bool) -> Option<&'a str> {
        let back = self.at;
        self.at += self.run_of(|b| b.is_ascii_whitespace());
        if self.text.as_bytes().get(self.at) == Some(&b'.') {
            self.at += 1;
            self.at += self.run_of(|b| b.is_ascii_whitespace());
            let start = self.at;
            self.at += self.run_of(belongs);
            if self.at > start {
                return Some(&self.text[start..self.at]);
            }
        }
        self.at = back;
        None
    }

    fn step(&mut self, start: usize, out: &mut Scanned<'a>) -> Result<(), ExprError> {
        let Some(id) = self.member(is_id) else {
            return Err(syntax("a step is named as in `steps.<id>.output`", start..self.at));
        };
        let wanted = self.member(|b| b.is_ascii_alphanumeric() || b == b'_');
        let field = match wanted {
            Some("output") => Field::Output,
            Some("status") => Field::Status,
            Some("error") => Field::Error,
            Some(other) => {
                let fields = ["output", "status", "error"];
                let message = format!("a step has no `{other}`");
                let at = self.at - other.len()..self.at;
                return Err(ExprError::new(ExprErrorKind::Unknown, message, at)
                    .hint(suggest::one_of(other, fields)));
            }
            None => {
                let message = format!("`steps.{id}` needs `.output`, `.status` or `.error`");
                return Err(syntax(&message, start..self.at));
            }
        };
        self.replace(start, Ref::Step { id: id.into(), field }, out);
        Ok(())
    }

    fn input(&mut self, start: usize, out: &mut Scanned<'a>) -> Result<(), ExprError> {
        match self.member(is_id) {
            Some(name) => self.replace(start, Ref::Input(name.into()), out),
            None => out.idents.push(("inputs", start)),
        }
        Ok(())
    }

    fn replace(&self, start: usize, reference: Ref, out: &mut Scanned<'a>) {
        let from = out.source.len();
        out.source.push_str(&variable(out.refs.len()));
        out.replaced.push((from..out.source.len(), start..self.at));
        out.refs.push(reference);
    }
}

/// The name of the variable that stands for a reference.
pub(super) fn variable(index: usize) -> String {
    format!("__{index}")
}

pub(super) const fn is_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn known(what: &str, name: &str, all: &[&'static str], start: usize) -> Result<(), ExprError> {
    if all.contains(&name) {
        return Ok(());
    }
    let message = format!("there is no {what} `{name}`");
    Err(ExprError::new(ExprErrorKind::Unknown, message, start..start + name.len())
        .hint(suggest::one_of(name, all.iter().copied())))
}

pub(super) fn unknown_name(scanned: &Scanned<'_>, name: &str, scope: &Scope) -> ExprError {
    let item = scope.item.iter().map(|(item, _, _)| &**item);
    let hint = suggest::one_of(name, NAMES.into_iter().chain(item));
    let at = scanned.place_of(name);
    ExprError::new(ExprErrorKind::Unknown, format!("`{name}` is not defined"), at).hint(hint)
}

/// The error that names an input which is not there, if one is meant at `at`.
pub(super) fn missing_input(
    scanned: &Scanned<'_>,
    at: &Range<usize>,
    scope: &Scope,
) -> Option<ExprError> {
    let inside = |old: &Range<usize>| at.start <= old.start && old.end <= at.end;
    let (name, place) = scanned.refs.iter().zip(&scanned.replaced).find_map(
        |(reference, (_, old))| match reference {
            Ref::Input(name) if inside(old) && scope.inputs.get(&**name).is_none() => {
                Some((name, old.clone()))
            }
            Ref::Input(_) | Ref::Step { .. } => None,
        },
    )?;
    let inputs = scope.inputs.as_object().into_iter().flat_map(|map| map.keys());
    let message = format!("`inputs.{name}` is not defined");
    let hint = suggest::one_of(name, inputs.map(String::as_str));
    Some(ExprError::new(ExprErrorKind::Value, message, place).hint(hint))
}

fn syntax(message: &str, at: Range<usize>) -> ExprError {
    ExprError::new(ExprErrorKind::Syntax, message, at)
}
