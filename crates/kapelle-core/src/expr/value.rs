//! JSON in and out of expressions.
//!
//! Values go in as they are, shared, and are looked into only where an expression looks: a step's
//! output of a million items costs nothing until one is read, and `{{ steps.a.output }}` is a copy.
//! What is read and made is counted in a [`Budget`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};

use super::scan::{self, Field, Ref};
use super::{ExprError, ExprErrorKind, OUTPUT_MAX, Scope};
use crate::Json;

/// What the budget is called in a context.
pub(super) const BUDGET: &str = "__budget";
/// How deep a value may be nested.
const DEPTH_MAX: usize = 128;
/// What a list's or an object's item is counted as, in bytes.
pub(super) const ITEM_BYTES: usize = 8;

/// How many bytes one evaluation may still work on.
#[derive(Debug)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(OUTPUT_MAX * 4)))
    }

    /// Takes `bytes`; `false` if that is more than there was.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let left = self.0.load(Ordering::Relaxed).saturating_sub(bytes);
        self.0.store(left, Ordering::Relaxed);
        left > 0
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// The budget as a value, so that filters find it.
#[derive(Debug)]
pub(super) struct BudgetHandle(pub(super) Arc<Budget>);

impl Object for BudgetHandle {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// Why a value cannot go in or out; it has no place in the source yet.
pub(super) enum Trouble {
    NoStep(usize),
    TooLarge,
    NotJson(&'static str),
}

impl Trouble {
    pub(super) fn in_source(self, refs: &[Ref], source: &str) -> ExprError {
        let whole = 0..source.len();
        match self {
            Self::NoStep(index) => {
                let id = match &refs[index] {
                    Ref::Step { id, .. } | Ref::Input(id) => id,
                };
                let message = format!("`steps.{id}` is not defined");
                ExprError::new(ExprErrorKind::Unknown, message, whole)
            }
            Self::TooLarge => super::too_large(source),
            Self::NotJson(what) => {
                let message = match what {
                    "undefined" => format!("`{}` is not defined", source.trim()),
                    what => format!("`{}` gives {what}, which is not JSON", source.trim()),
                };
                ExprError::new(ExprErrorKind::Value, message, whole)
            }
        }
    }
}

/// Whether the scope has this name, apart from references.
pub(super) fn sees(scope: &Scope, name: &str) -> bool {
    match name {
        "inputs" | "run" => true,
        "item" | "index" => scope.item.is_some(),
        name => scope.item.as_ref().is_some_and(|(item, _, _)| **item == *name),
    }
}

/// The variables of an expression with these references and other names.
pub(super) fn context(
    refs: &[Ref],
    names: &[Box<str>],
    scope: &Scope,
    budget: &Arc<Budget>,
) -> Result<Value, Trouble> {
    let root = |json: &Arc<Json>| root(json, budget);
    let mut variables: Vec<(Box<str>, Value)> =
        vec![(BUDGET.into(), Value::from_object(BudgetHandle(budget.clone())))];
    for name in names.iter().filter(|name| sees(scope, name)) {
        let value = match (&**name, &scope.item) {
            ("inputs", _) => root(&scope.inputs),
            ("run", _) => root(&scope.run),
            ("index", Some((_, _, index))) => Value::from(*index),
            (_, Some((_, item, _))) => root(item),
            (_, None) => continue,
        };
        variables.push((name.clone(), value));
    }
    for (index, reference) in refs.iter().enumerate() {
        let value = match reference {
            Ref::Input(name) => match scope.inputs.get(&**name) {
                Some(_) => {
                    Node::value(&scope.inputs, &[], Some(Segment::Key(name.clone())), budget)
                }
                None => continue,
            },
            Ref::Step { id, field } => {
                let step = scope.steps.get(&**id).ok_or(Trouble::NoStep(index))?;
                match field {
                    Field::Output => root(&step.output),
                    Field::Status => Value::from(step.status),
                    Field::Error => step.error.as_ref().map_or(Value::from(()), root),
                }
            }
        };
        variables.push((scan::variable(index).into(), value));
    }
    Ok(Value::from_pairs(variables.iter().map(|(name, value)| (&**name, value.clone()))))
}

/// A whole shared value.
pub(super) fn root(json: &Arc<Json>, budget: &Arc<Budget>) -> Value {
    Node::value(json, &[], None, budget)
}

#[derive(Clone, Debug)]
enum Segment {
    Key(Box<str>),
    Index(usize),
}

/// A list or an object inside a shared value.
#[derive(Debug)]
struct Node {
    root: Arc<Json>,
    path: Vec<Segment>,
    budget: Arc<Budget>,
}

impl Node {
    /// What is at `path` and then `last` in `root`, which exists.
    fn value(
        root: &Arc<Json>,
        path: &[Segment],
        last: Option<Segment>,
        budget: &Arc<Budget>,
    ) -> Value {
        let path: Vec<_> = path.iter().cloned().chain(last).collect();
        let node = Self { root: root.clone(), path, budget: budget.clone() };
        match node.here() {
            Json::Null => Value::from(()),
            Json::Bool(answer) => Value::from(*answer),
            Json::Number(number) => from_number(number),
            Json::String(text) => {
                budget.take(text.len() + ITEM_BYTES);
                if budget.is_spent() { Value::from("") } else { Value::from(text.as_str()) }
            }
            Json::Array(_) | Json::Object(_) => {
                budget.take(ITEM_BYTES);
                Value::from_object(node)
            }
        }
    }

    fn here(&self) -> &Json {
        self.path.iter().fold(&*self.root, |json, segment| match segment {
            Segment::Key(key) => &json[&**key],
            Segment::Index(index) => &json[*index],
        })
    }

    fn child(&self, segment: Segment) -> Value {
        Self::value(&self.root, &self.path, Some(segment), &self.budget)
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.here().is_array() { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match self.here() {
            Json::Array(items) => {
                let index = key.as_usize().filter(|index| *index < items.len())?;
                Some(self.child(Segment::Index(index)))
            }
            Json::Object(map) => {
                let key = key.as_str().filter(|key| map.contains_key(*key))?;
                Some(self.child(Segment::Key(key.into())))
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.here() {
            Json::Array(items) => Enumerator::Seq(items.len()),
            Json::Object(map) => {
                self.budget.take(map.keys().map(|key| key.len() + ITEM_BYTES).sum());
                if self.budget.is_spent() {
                    return Enumerator::Empty;
                }
                Enumerator::Values(map.keys().map(|key| Value::from(key.as_str())).collect())
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => Enumerator::Empty,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(match self.here() {
            Json::Array(items) => items.len(),
            Json::Object(map) => map.len(),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => 0,
        })
    }
}

fn from_number(number: &serde_json::Number) -> Value {
    if let Some(number) = number.as_i64() {
        Value::from(number)
    } else if let Some(number) = number.as_u64() {
        Value::from(number)
    } else {
        Value::from(number.as_f64().unwrap_or(f64::NAN))
    }
}

/// The JSON of a value; `left` is how many bytes of it there may be.
pub(super) fn to_json(value: &Value, budget: &Budget, left: &mut usize) -> Result<Json, Trouble> {
    let json = convert(value, left, 0)?;
    if budget.is_spent() { Err(Trouble::TooLarge) } else { Ok(json) }
}

fn convert(value: &Value, left: &mut usize, depth: usize) -> Result<Json, Trouble> {
    if depth > DEPTH_MAX {
        return Err(Trouble::TooLarge);
    }
    if let Some(node) = value.downcast_object_ref::<Node>() {
        charge(node.here(), left)?;
        return Ok(node.here().clone());
    }
    spend(left, ITEM_BYTES)?;
    match value.kind() {
        ValueKind::None => Ok(Json::Null),
        ValueKind::Bool => Ok(Json::Bool(value.is_true())),
        ValueKind::Number => number(value),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            spend(left, text.len())?;
            Ok(Json::String(text.to_owned()))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|_| Trouble::NotJson("no list"))?;
            items.map(|item| convert(&item, left, depth + 1)).collect()
        }
        ValueKind::Map => {
            let keys = value.try_iter().map_err(|_| Trouble::NotJson("no object"))?;
            keys.map(|key| {
                let item = value.get_item(&key).unwrap_or_default();
                let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                spend(left, key.len())?;
                Ok((key, convert(&item, left, depth + 1)?))
            })
            .collect::<Result<serde_json::Map<_, _>, _>>()
            .map(Json::Object)
        }
        ValueKind::Undefined => Err(Trouble::NotJson("undefined")),
        _ => Err(Trouble::NotJson("something")),
    }
}

fn number(value: &Value) -> Result<Json, Trouble> {
    if value.is_integer() {
        if let Ok(number) = i64::try_from(value.clone()) {
            return Ok(number.into());
        }
        return u64::try_from(value.clone())
            .map(Into::into)
            .map_err(|_| Trouble::NotJson("an integer of over 64 bits"));
    }
    let number = f64::try_from(value.clone()).ok().and_then(serde_json::Number::from_f64);
    number.map(Json::Number).ok_or(Trouble::NotJson("no number"))
}

/// Counts what a copy of `json` takes.
pub(super) fn charge(json: &Json, left: &mut usize) -> Result<(), Trouble> {
    spend(left, ITEM_BYTES)?;
    match json {
        Json::String(text) => spend(left, text.len()),
        Json::Array(items) => items.iter().try_for_each(|item| charge(item, left)),
        Json::Object(map) => map.iter().try_for_each(|(key, value)| {
            spend(left, key.len())?;
            charge(value, left)
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
    }
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), Trouble> {
    *left = left.checked_sub(bytes).ok_or(Trouble::TooLarge)?;
    Ok(())
}
