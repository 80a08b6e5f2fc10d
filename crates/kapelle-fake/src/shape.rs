//! Whether JSON has the shape that a wire asks for, told as path and fault.
//!
//! Shapes are JSON Schemas in files beside the wires, a definition for each kind of object. Where an
//! object says by its `type` what it is, the definition of that name is asked, not a list of choices,
//! so what is told is about the object that was meant.

use std::collections::HashMap;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Value, json};

/// The shapes of one wire, by the names of their definitions.
pub(crate) struct Shapes(HashMap<String, Validator>);

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) path: Vec<String>,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Missing,
    Unknown,
    /// It is none of the kinds there are.
    Kind(String),
    Wrong(String),
}

impl Shapes {
    /// Reads the definitions of a file that we wrote.
    pub(crate) fn new(text: &str) -> Self {
        let all: Value = serde_json::from_str(text).expect("our shapes are JSON");
        let defs = all["$defs"].as_object().expect("our shapes have definitions");
        let validator = |name: &String| {
            let schema = json!({ "$ref": format!("#/$defs/{name}"), "$defs": defs });
            let validator = jsonschema::validator_for(&schema).expect("our shapes are schemas");
            (name.clone(), validator)
        };
        Self(defs.keys().map(validator).collect())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The first thing that is wrong with `value` at `path` as a `name`.
    pub(crate) fn check(&self, name: &str, value: &Value, path: &[&str]) -> Result<(), Misfit> {
        let validator = self.0.get(name).expect("the shape is in our file");
        match validator.iter_errors(value).min_by_key(rank) {
            Some(error) => Err(misfit(&error, path)),
            None => Ok(()),
        }
    }

    /// The same for an object whose `type` says which of the definitions `prefix_*` it is.
    pub(crate) fn check_tagged(
        &self,
        prefix: &str,
        value: &Value,
        path: &[&str],
    ) -> Result<(), Misfit> {
        let own = |what| Misfit { path: path.iter().map(ToString::to_string).collect(), what };
        let Some(tag) = value.get("type").and_then(Value::as_str) else {
            let mut misfit = own(What::Missing);
            misfit.path.push("type".to_owned());
            return Err(misfit);
        };
        let name = format!("{prefix}_{tag}");
        if !self.has(&name) {
            return Err(own(What::Kind(tag.to_owned())));
        }
        self.check(&name, value, path)
    }
}

/// What is missing is told before what is too much, and that before what is wrong.
fn rank(error: &ValidationError<'_>) -> u8 {
    match error.kind() {
        Kind::Required { .. } => 0,
        Kind::AdditionalProperties { .. } | Kind::UnevaluatedProperties { .. } => 1,
        _ => 2,
    }
}

fn misfit(error: &ValidationError<'_>, base: &[&str]) -> Misfit {
    let pointer = error.instance_path().as_str().to_owned();
    let inner = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    let mut path: Vec<String> = base.iter().map(ToString::to_string).chain(inner).collect();
    let what = match error.kind() {
        Kind::Required { property } => {
            path.push(property.as_str().unwrap_or_default().to_owned());
            What::Missing
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            path.extend(unexpected.first().cloned());
            What::Unknown
        }
        Kind::Enum { options } => {
            let names = options.as_array().into_iter().flatten().filter_map(Value::as_str);
            let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
            What::Wrong(format!("Input should be {}", names.join(" or ")))
        }
        _ => What::Wrong(error.masked_with("the value").to_string()),
    };
    Misfit { path, what }
}
