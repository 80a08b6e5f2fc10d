//! Expressions and templates: what a workflow file computes from inputs and from other steps.
//!
//! **Invariants:** pure (no I/O, no clock, no chance); every evaluation ends (fuel) and is bounded
//! ([`OUTPUT_MAX`]); integers stay exact and objects keep the order of their keys. A step can only
//! be named literally, so [`uses_of_text`] finds every dependency.
//!
//! Absent on purpose: statements (`{% %}`), functions, includes, methods. `docs/workflows.md` has
//! the language; `scan` finds names, `plain` looks up those that are all of an expression, `program`
//! keeps the others compiled, `value` carries JSON in and out, `filters` is the list.

mod filters;
mod plain;
mod program;
mod scan;
mod value;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use minijinja::{Environment, UndefinedBehavior};

use crate::{Json, StepId};
#[cfg(test)]
pub(crate) use filters::FILTERS;
pub use program::Programs;
use scan::{Part, Scanned};
use value::Budget;

/// The most, in bytes, that one evaluation may give.
pub const OUTPUT_MAX: usize = 64 << 20;
/// The longest expression, in bytes.
pub const SOURCE_MAX: usize = 8 << 10;
/// How many steps of the machine one expression may take.
const FUEL: u64 = 1_000_000;

/// The names that an expression sees besides the item's; none of them can be the name of an item.
pub const NAMES: [&str; 5] = ["inputs", "steps", "run", "item", "index"];

/// What expressions see.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The run's inputs, an object.
    pub inputs: Arc<Json>,
    /// The ended steps that may be referred to.
    pub steps: BTreeMap<StepId, StepView>,
    /// In a `forEach`: what the item is called, the item, its place from 0.
    pub item: Option<(Box<str>, Arc<Json>, u32)>,
    /// What is known of the run, an object.
    pub run: Arc<Json>,
    /// The expressions that are compiled already.
    pub programs: Arc<Programs>,
}

/// What expressions see of a step.
#[derive(Clone, Debug)]
pub struct StepView {
    /// `null` where it gave none.
    pub output: Arc<Json>,
    /// How it ended.
    pub status: &'static str,
    /// Why it failed.
    pub error: Option<Arc<Json>>,
}

/// Why an expression gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// Which kind.
    pub kind: ExprErrorKind,
    /// For a person: lower case, no full stop.
    pub message: Box<str>,
    /// Where in the source, in bytes.
    pub at: Range<usize>,
    /// What may have been meant.
    pub hint: Option<Box<str>>,
}

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExprErrorKind {
    /// It cannot be read.
    Syntax,
    /// A name, a filter or a test that does not exist.
    Unknown,
    /// It met a value that it cannot work with.
    Value,
    /// It gives more than [`OUTPUT_MAX`], or takes too many steps.
    TooLarge,
}

impl ExprErrorKind {
    /// The word used in journals and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "expression_syntax",
            Self::Unknown => "expression_unknown",
            Self::Value => "expression_value",
            Self::TooLarge => "too_large",
        }
    }
}

impl ExprError {
    fn new(kind: ExprErrorKind, message: impl Into<String>, at: Range<usize>) -> Self {
        Self { kind, message: message.into().into(), at, hint: None }
    }

    fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    fn moved(mut self, by: usize) -> Self {
        self.at = self.at.start + by..self.at.end + by;
        self
    }
}

/// What an expression or a template refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Every step it names.
    pub steps: BTreeSet<Box<str>>,
    /// Those of which it reads the output, not only how they ended.
    pub outputs: BTreeSet<Box<str>>,
    /// Every input it names.
    pub inputs: BTreeSet<Box<str>>,
    /// It reads `inputs` as a whole, so maybe all of them.
    pub inputs_whole: bool,
    /// It reads `run`.
    pub run: bool,
    /// It reads `run.steps`, which costs a look at every step.
    pub run_steps: bool,
    /// It reads `item` or `index`.
    pub item: bool,
    /// Other names: the item's, or wrong ones.
    pub names: BTreeSet<Box<str>>,
}

/// `template` with every string in it rendered.
///
/// A string that is exactly one `{{ … }}` becomes its value, of any type; elsewhere strings go in
/// raw, null as nothing, all else as compact JSON. Keys of objects are taken as they are.
pub fn render(template: &Json, scope: &Scope) -> Result<Json, ExprError> {
    let mut left = OUTPUT_MAX;
    render_in(template, scope, &Budget::new(), &mut left)
}

/// The same for one string, always as text.
pub fn render_text(template: &str, scope: &Scope) -> Result<String, ExprError> {
    let mut left = OUTPUT_MAX;
    text_in(template, scope, &Budget::new(), &mut left)
}

/// The value of an expression that must be `true` or `false`.
pub fn condition(source: &str, scope: &Scope) -> Result<bool, ExprError> {
    match evaluate(source, scope)? {
        Json::Bool(answer) => Ok(answer),
        other => Err(wrong_type(source, "true or false", &other)),
    }
}

/// The value of an expression that must be a list.
pub fn list(source: &str, scope: &Scope) -> Result<Vec<Json>, ExprError> {
    match evaluate(source, scope)? {
        Json::Array(items) => Ok(items),
        other => Err(wrong_type(source, "a list", &other)),
    }
}

/// What the template in one string refers to. Fails if it cannot be read.
pub fn uses_of_text(template: &str) -> Result<Uses, ExprError> {
    Programs::default().uses_of_text(template)
}

/// What an expression refers to. Fails if it cannot be read.
pub fn uses_of_expression(source: &str) -> Result<Uses, ExprError> {
    Programs::default().uses_of_expression(source)
}

/// Whether `text` holds a template.
#[must_use]
pub fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// Whether a string anywhere in `json` holds a template.
#[must_use]
pub fn has_template(json: &Json) -> bool {
    match json {
        Json::String(text) => is_template(text),
        Json::Array(items) => items.iter().any(has_template),
        Json::Object(map) => map.values().any(has_template),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Whether `text` is exactly one `{{ … }}`, and so keeps the type of its value.
#[must_use]
pub fn is_value(text: &str) -> bool {
    is_template(text) && matches!(scan::parts(text).as_deref(), Ok([Part::Expression(_, _)]))
}

fn render_in(
    template: &Json,
    scope: &Scope,
    budget: &Arc<Budget>,
    left: &mut usize,
) -> Result<Json, ExprError> {
    Ok(match template {
        Json::String(text) if is_template(text) => {
            if let [Part::Expression(source, offset)] = scan::parts(text)?.as_slice() {
                evaluate_in(source, scope, budget, left).map_err(|error| error.moved(*offset))?
            } else {
                Json::String(text_in(text, scope, budget, left)?)
            }
        }
        Json::Array(items) => Json::Array(
            items
                .iter()
                .map(|item| render_in(item, scope, budget, left))
                .collect::<Result<_, _>>()?,
        ),
        Json::Object(map) => Json::Object(
            map.iter()
                .map(|(key, value)| Ok((key.clone(), render_in(value, scope, budget, left)?)))
                .collect::<Result<_, _>>()?,
        ),
        Json::String(_) | Json::Null | Json::Bool(_) | Json::Number(_) => template.clone(),
    })
}

fn text_in(
    template: &str,
    scope: &Scope,
    budget: &Arc<Budget>,
    left: &mut usize,
) -> Result<String, ExprError> {
    if !is_template(template) {
        return Ok(template.to_owned());
    }
    let mut text = String::with_capacity(template.len());
    for part in scan::parts(template)? {
        match part {
            Part::Text(plain) => text.push_str(plain),
            Part::Expression(source, offset) => {
                match evaluate_in(source, scope, budget, left)
                    .map_err(|error| error.moved(offset))?
                {
                    Json::Null => (),
                    Json::String(raw) => text.push_str(&raw),
                    other => text.push_str(&other.to_string()),
                }
            }
        }
    }
    Ok(text)
}

fn evaluate(source: &str, scope: &Scope) -> Result<Json, ExprError> {
    let (inner, offset) = scan::bare(source);
    let mut left = OUTPUT_MAX;
    evaluate_in(inner, scope, &Budget::new(), &mut left).map_err(|error| error.moved(offset))
}

fn evaluate_in(
    source: &str,
    scope: &Scope,
    budget: &Arc<Budget>,
    left: &mut usize,
) -> Result<Json, ExprError> {
    if let Some(found) = plain::find(source, scope) {
        value::charge(&found, left).map_err(|_| too_large(source))?;
        return Ok(found.into_owned());
    }
    scope.programs.evaluate(source, scope, budget, left)
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(64);
    environment.set_debug(true);
    filters::add_to(&mut environment);
    environment
});

fn too_large(source: &str) -> ExprError {
    let message = format!("the expression works on more than {OUTPUT_MAX} bytes");
    ExprError::new(ExprErrorKind::TooLarge, message, 0..source.len())
}

fn wrong_type(source: &str, wanted: &str, found: &Json) -> ExprError {
    let message = format!("the expression must give {wanted}, and gives {}", kind_of(found));
    ExprError::new(ExprErrorKind::Value, message, 0..source.len())
}

/// What kind of value it is, in words.
pub(crate) const fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

fn from_minijinja(error: &minijinja::Error, scanned: &Scanned<'_>, source: &str) -> ExprError {
    use minijinja::ErrorKind as Kind;
    let at = error.range().map_or(0..source.len(), |range| scanned.original_range(range));
    let here = source.get(at.clone()).unwrap_or(source).trim();
    let detail = error.detail().unwrap_or_default();
    let (kind, message) = match error.kind() {
        Kind::SyntaxError | Kind::BadEscape => {
            (ExprErrorKind::Syntax, format!("the expression cannot be read: {detail}"))
        }
        Kind::UndefinedError if here.contains(' ') => {
            (ExprErrorKind::Value, format!("something in `{here}` is not defined"))
        }
        Kind::UndefinedError => (ExprErrorKind::Value, format!("`{here}` is not defined")),
        Kind::UnknownMethod | Kind::UnknownFunction => (
            ExprErrorKind::Unknown,
            format!("`{here}`: there are no functions and methods, only filters"),
        ),
        Kind::OutOfFuel => {
            (ExprErrorKind::TooLarge, "the expression takes too many steps".to_owned())
        }
        other if detail.is_empty() => (ExprErrorKind::Value, format!("`{here}`: {other}")),
        _ => (ExprErrorKind::Value, format!("`{here}`: {detail}")),
    };
    ExprError::new(kind, message, at)
}
