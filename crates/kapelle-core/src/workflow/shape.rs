//! Compares a file with the schema of workflow files.
//!
//! What does not fit is reported and taken out, so that the rest can still be checked.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};

use super::tree::Node;
use super::{Problems, field_of, file};
use crate::problem::{Code, Problem};
use crate::time::DURATION_PATTERN;
use crate::violation::types;
use crate::{Json, suggest};

/// The fields of the format that this version does not have, by where they stand.
const LATER: [(&str, &[&str]); 3] = [
    ("", &["agents", "routing", "budget", "cache", "triggers", "schedule"]),
    (
        "config",
        &[
            "cache",
            "contextStrategy",
            "enableCommunication",
            "pruningThreshold",
            "rememberRuns",
            "routing",
        ],
    ),
    (
        "tasks",
        &[
            "compensate",
            "context",
            "delay",
            "dueDate",
            "grants",
            "loop",
            "maxTokens",
            "model",
            "parent",
            "race",
            "requires",
            "sla",
            "vote",
            "wait",
            "workflow",
        ],
    ),
];

/// Those of them that say who does a step.
const DOERS: [&str; 6] = ["delay", "race", "requires", "vote", "wait", "workflow"];

struct Shape {
    schema: Json,
    validator: jsonschema::Validator,
}

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let schema = file::schema();
    let validator = jsonschema::validator_for(&schema).expect("the derived schema is a schema");
    Shape { schema, validator }
});

/// Reports what does not fit, takes it out of `json`, and gives the pointers of what it took.
pub(super) fn check(json: &mut Json, tree: &Node, problems: &mut Problems<'_>) -> BTreeSet<String> {
    let mut gone = BTreeSet::new();
    for error in SHAPE.validator.iter_errors(json).take(10_000) {
        let pointer = error.instance_path().to_string();
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                for name in unexpected {
                    unknown_field(tree, &pointer, name, problems);
                    gone.insert(member(&pointer, name));
                    if place(&pointer) == "tasks" && DOERS.contains(&name.as_str()) {
                        gone.insert(member(&pointer, "agentName"));
                    }
                }
            }
            Kind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                missing(tree, &pointer, name, problems);
                gone.insert(member(&pointer, name));
            }
            kind => {
                // A value of a wrong type is not one of the right values either.
                if gone.contains(&pointer) {
                    continue;
                }
                let value = json.pointer(&pointer).unwrap_or(&Json::Null);
                let problem = wrong_value(&pointer, kind, value, &error.to_string());
                problems.at(span(tree, &pointer), problem);
                gone.insert(pointer);
            }
        }
    }
    for pointer in gone.iter().rev() {
        take_out(json, pointer);
    }
    gone
}

fn member(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn span(tree: &Node, pointer: &str) -> Range<usize> {
    tree.nearest(pointer).at.clone()
}

/// Which of the places of the format a pointer is: `/tasks/3/retry` is `tasks.retry`.
fn place(pointer: &str) -> String {
    let named =
        |segment: &&str| !segment.is_empty() && !segment.bytes().all(|b| b.is_ascii_digit());
    pointer.split('/').filter(named).collect::<Vec<_>>().join(".")
}

fn unknown_field(tree: &Node, pointer: &str, name: &str, problems: &mut Problems<'_>) {
    let entry = tree.nearest(pointer).entry(name);
    let at = entry.map_or_else(|| span(tree, pointer), |entry| entry.key_at.clone());
    let field = field_of(&member(pointer, name));
    let place = place(pointer);
    let later = LATER.iter().find(|(of, _)| *of == place).map_or(&[][..], |(_, names)| names);
    let problem = if later.contains(&name) {
        unavailable(&field, name)
    } else {
        let known = fields_at(&place);
        let hint = suggest::one_of(name, known.iter().map(String::as_str)).or_else(|| {
            let list: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            (!list.is_empty() && list.len() <= 10).then(|| format!("there are {}", list.join(", ")))
        });
        let message = format!("there is no field `{}` here", clipped(name));
        Problem::error(Code::UnknownField, field, message).hint(hint)
    };
    problems.at(at, problem);
}

fn unavailable(field: &str, what: &str) -> Problem {
    let message = format!("`{what}` is part of the format, but this version does not have it yet");
    Problem::error(Code::ConstructUnavailable, field, message)
}

/// The names that the schema knows at a place.
fn fields_at(place: &str) -> Vec<String> {
    let schema = &SHAPE.schema;
    let mut here = schema;
    for segment in place.split('.').filter(|segment| !segment.is_empty()) {
        here = &here["properties"][segment];
        if let Some(reference) = here["items"]["$ref"].as_str() {
            here = schema.pointer(reference.trim_start_matches('#')).unwrap_or(&Json::Null);
        }
    }
    here["properties"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
}

fn missing(tree: &Node, pointer: &str, name: &str, problems: &mut Problems<'_>) {
    let at = span(tree, pointer);
    let field = field_of(&member(pointer, name));
    let message = match place(pointer).as_str() {
        "" => format!("the workflow has no `{name}`"),
        "tasks" => format!("the step has no `{name}`"),
        _ => format!("`{name}` is missing"),
    };
    let hint = match name {
        "id" => "add `id:` with letters, digits, `_` and `-`".to_owned(),
        "tasks" => "add `tasks:`, a list of steps".to_owned(),
        other => format!("add `{other}:`"),
    };
    problems.at(at, Problem::error(Code::MissingField, field, message).hint(Some(hint)));
}

fn wrong_value(pointer: &str, kind: &Kind, value: &Json, text: &str) -> Problem {
    let field = field_of(pointer);
    let name = if field.is_empty() { "the workflow" } else { &field };
    let shown = clipped(&value.to_string()).to_owned();
    match kind {
        Kind::Type { kind } => {
            if field.ends_with("onFailure") && value.is_object() {
                return unavailable(&field, "onFailure: {…}");
            }
            let found = crate::expr::kind_of(value);
            let message = format!("`{name}` must be {}, and is {found}", types(kind));
            Problem::error(Code::WrongType, field, message).hint(quoting(kind, value))
        }
        Kind::Enum { options } => {
            let options: Vec<&str> =
                options.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            if field.ends_with("onFailure")
                && matches!(value.as_str(), Some("replan" | "compensate" | "fallback"))
            {
                return unavailable(&field, value.as_str().unwrap_or_default());
            }
            let hint =
                value.as_str().and_then(|text| suggest::one_of(text, options.iter().copied()));
            let list =
                options.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let message = format!("`{name}` cannot be {shown}");
            Problem::error(Code::BadValue, field, message)
                .hint(hint.or_else(|| Some(format!("it is one of {list}"))))
        }
        Kind::Pattern { pattern } if pattern == DURATION_PATTERN => {
            let message = format!("{shown} is no duration");
            Problem::error(Code::BadDuration, field, message)
        }
        Kind::Pattern { pattern } if pattern == file::ID => {
            let message = format!("{shown} cannot be an id");
            Problem::error(Code::BadId, field, message)
        }
        Kind::Minimum { .. }
        | Kind::Maximum { .. }
        | Kind::ExclusiveMinimum { .. }
        | Kind::ExclusiveMaximum { .. }
        | Kind::MinLength { .. }
        | Kind::MaxLength { .. }
        | Kind::MinItems { .. }
        | Kind::MaxItems { .. } => {
            let message = format!("`{name}` is out of range: {}", clipped(text));
            Problem::error(Code::OutOfRange, field, message)
        }
        _ => {
            let message = format!("`{name}` is wrong: {}", clipped(text));
            Problem::error(Code::BadValue, field, message)
        }
    }
}

/// YAML reads some texts as something else: say how to keep them.
fn quoting(kind: &TypeKind, value: &Json) -> Option<String> {
    let wants_text = types(kind).contains("a text");
    let wants_list = types(kind) == "a list";
    match value {
        Json::Number(_) | Json::Bool(_) if wants_text => Some(format!("write \"{value}\"")),
        Json::String(text) if wants_list => Some(format!("write [{}]", clipped(text))),
        Json::Object(_) if wants_text => {
            Some("a text that begins with `{` or has `: ` in it needs quotes".to_owned())
        }
        _ => None,
    }
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(100)]
}

/// Removes what is at a pointer: the field that holds it, or what is in it where a list must keep
/// its places.
fn take_out(json: &mut Json, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        *json = Json::Object(serde_json::Map::new());
        return;
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    match json.pointer_mut(parent) {
        Some(Json::Object(map)) if parent == "/inputs" => {
            map.insert(name, Json::Bool(true));
        }
        Some(Json::Object(map)) => {
            map.shift_remove(&name);
        }
        Some(Json::Array(items)) if parent == "/tasks" => {
            if let Some(item) = name.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                *item = Json::Object(serde_json::Map::new());
            }
        }
        Some(Json::Array(_)) => take_out(json, parent),
        _ => (),
    }
}
