//! What is wrong with a value by a JSON Schema, in words for who wrote the value.
//!
//! Where a schema knows several ways to give something, the way that was meant is told of, if one fits
//! better than the others; else what the ways are.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};

use crate::Json;
use crate::expr::kind_of;
use crate::plan::finding::dotted;
use crate::time::DURATION_PATTERN;

/// How much of a value is shown, in characters.
const SHOWN_MAX: usize = 80;

/// What is wrong with `value`, a line each, with the field. Empty if nothing is.
pub(crate) fn violations(
    validator: &jsonschema::Validator,
    schema: Option<&Json>,
    value: &Json,
) -> Vec<String> {
    // Cheaper than looking for what is wrong, and the rule.
    if validator.is_valid(value) {
        return Vec::new();
    }
    let errors: Vec<_> = validator.iter_errors(value).take(20).collect();
    errors.iter().flat_map(meant).map(|error| tell(error, schema)).collect()
}

/// What `error` comes down to: itself, or what is wrong with the way that was meant.
pub(crate) fn meant<'e>(error: &'e ValidationError<'e>) -> Vec<&'e ValidationError<'e>> {
    let ways: &'e [Vec<ValidationError<'static>>] = match error.kind() {
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => context,
        _ => return vec![error],
    };
    let here = error.instance_path();
    let is_elsewhere = |error: &ValidationError<'_>| match error.kind() {
        Kind::Type { .. } | Kind::Required { .. } => error.instance_path() == here,
        _ => false,
    };
    let mut near = ways.iter().filter(|way| !way.iter().any(&is_elsewhere));
    match (near.next(), near.next()) {
        (Some(way), None) => way.iter().flat_map(meant).collect(),
        _ => vec![error],
    }
}

/// The sentences on `error`, or on what is wrong with the way that was meant.
pub(crate) fn tell_all(error: &ValidationError<'_>) -> String {
    meant(error).into_iter().map(|error| tell(error, None)).collect::<Vec<_>>().join("; ")
}

/// The sentence on `error`, which names its field.
pub(crate) fn tell(error: &ValidationError<'_>, schema: Option<&Json>) -> String {
    let path = dotted(error.instance_path().as_str());
    let path = path.trim_start_matches('.');
    let name = if path.is_empty() { "it".to_owned() } else { format!("`{path}`") };
    let member = |name: &str| match path {
        "" => format!("`{name}`"),
        path => format!("`{path}.{name}`"),
    };
    let value = error.instance();
    match error.kind() {
        Kind::Required { property } => {
            format!("{} is missing", member(property.as_str().unwrap_or_default()))
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let names: Vec<_> = unexpected.iter().map(|name| member(name)).collect();
            format!("there is no {}", list(&names, "or"))
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            format!("{} {}", name, of_ways(context, value))
        }
        Kind::OneOfMultipleValid { context } => {
            let names = schema.map_or_else(Vec::new, |schema| given(error, context, schema));
            match &names[..] {
                [] => format!("{name} can be taken in more than one way"),
                names => format!("only one of {} may be given", list(names, "and")),
            }
        }
        Kind::Not { schema } => match named(schema) {
            Some(names) if names.len() > 1 => {
                format!("only one of {} may be given", list(&names, "and"))
            }
            Some(names) => format!("{} does not go with the rest", list(&names, "and")),
            None => format!("{name} cannot be {}", shown(value)),
        },
        Kind::PropertyNames { error } => {
            format!("{name} cannot have a field {}", shown(error.instance()))
        }
        kind => format!("{name} must {}, and {}", wanted(kind, error), is(kind, value)),
    }
}

/// What a value must be or have.
fn wanted(kind: &Kind, error: &ValidationError<'_>) -> String {
    match kind {
        Kind::Type { kind } => format!("be {}", types(kind)),
        Kind::Enum { options } => {
            let options: Vec<_> = options.as_array().into_iter().flatten().map(shown).collect();
            format!("be {}", list(&options, "or"))
        }
        Kind::Constant { expected_value } => format!("be {}", shown(expected_value)),
        Kind::Minimum { limit } => format!("be at least {limit}"),
        Kind::Maximum { limit } => format!("be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("be less than {limit}"),
        Kind::MinLength { limit } => format!("have at least {}", count(*limit, "character")),
        Kind::MaxLength { limit } => format!("have at most {}", count(*limit, "character")),
        Kind::MinItems { limit } => format!("have at least {}", count(*limit, "item")),
        Kind::MaxItems { limit } => format!("have at most {}", count(*limit, "item")),
        Kind::MinProperties { limit } => format!("have at least {}", count(*limit, "field")),
        Kind::MaxProperties { limit } => format!("have at most {}", count(*limit, "field")),
        Kind::Pattern { pattern } if pattern == DURATION_PATTERN => {
            "be a duration such as `30s` or `1h30m`".to_owned()
        }
        Kind::Pattern { pattern } => format!("fit `{pattern}`"),
        _ => format!("be what its schema says ({})", error.masked()),
    }
}

/// What it is or has instead.
fn is(kind: &Kind, value: &Json) -> String {
    match (kind, value) {
        (Kind::Type { .. }, value) => format!("is {}", kind_of(value)),
        (Kind::MinLength { .. } | Kind::MaxLength { .. }, Json::String(text)) => {
            format!("has {}", text.chars().count())
        }
        (Kind::MinItems { .. } | Kind::MaxItems { .. }, Json::Array(items)) => {
            format!("has {}", items.len())
        }
        (Kind::MinProperties { .. } | Kind::MaxProperties { .. }, Json::Object(fields)) => {
            format!("has {}", fields.len())
        }
        (_, value) => format!("is {}", shown(value)),
    }
}

/// What may be given of which there is nothing, or nothing right.
fn of_ways(ways: &[Vec<ValidationError<'static>>], value: &Json) -> String {
    let missing = |way: &Vec<ValidationError<'static>>| match &way[..] {
        [] => None,
        errors => {
            let names = errors.iter().map(|error| match error.kind() {
                Kind::Required { property } => Some(format!("`{}`", property.as_str()?)),
                _ => None,
            });
            names.collect::<Option<Vec<_>>>().map(|names| list(&names, "and"))
        }
    };
    if let Some(names) = ways.iter().map(missing).collect::<Option<Vec<_>>>() {
        return format!("needs {}", list(&names, "or"));
    }
    let kinds = ways.iter().flatten().filter_map(|error| match error.kind() {
        Kind::Type { kind } if error.instance().as_ref() == value => Some(types(kind)),
        _ => None,
    });
    let mut kinds: Vec<_> = kinds.collect();
    kinds.dedup();
    match &kinds[..] {
        [] => format!("cannot be {}", shown(value)),
        kinds => format!("must be {}, and is {}", kinds.join(" or "), kind_of(value)),
    }
}

/// What the ways that fit ask for, of which only one may be given.
fn given(
    error: &ValidationError<'_>,
    ways: &[Vec<ValidationError<'static>>],
    schema: &Json,
) -> Vec<String> {
    let all = schema.pointer(error.schema_path().as_str()).and_then(Json::as_array);
    let fits = all.into_iter().flatten().zip(ways).filter(|(_, wrong)| wrong.is_empty());
    fits.flat_map(|(way, _)| named(way).unwrap_or_default()).collect()
}

/// The fields that `schema` asks for, with their values where they are fixed.
fn named(schema: &Json) -> Option<Vec<String>> {
    let names = schema.get("required")?.as_array()?.iter().filter_map(Json::as_str);
    let name = |name| match schema.pointer(&format!("/properties/{name}/const")) {
        Some(value) => format!("`{name}: {value}`"),
        None => format!("`{name}`"),
    };
    Some(names.map(name).collect())
}

/// What types a field takes, in words.
pub(crate) fn types(kind: &TypeKind) -> String {
    let names: Vec<String> = match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(set) => set.iter().map(|one| one.to_string()).collect(),
    };
    let words: Vec<_> = names
        .iter()
        .filter(|name| *name != "null")
        .map(|name| match name.as_str() {
            "array" => "a list",
            "object" => "an object",
            "string" => "a text",
            "boolean" => "`true` or `false`",
            "integer" => "an integer",
            "number" => "a number",
            other => other,
        })
        .collect();
    words.join(" or ")
}

fn list(names: &[String], last: &str) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

fn count(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn shown(value: &Json) -> String {
    let text = match value {
        Json::String(text) => format!("`{text}`"),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(schema: &Json, value: &Json) -> String {
        let validator = jsonschema::validator_for(schema).unwrap();
        violations(&validator, Some(schema), value).join("; ")
    }

    #[test]
    fn ways_to_give_something_are_told_by_what_was_meant() {
        let ways = json!({
            "oneOf": [{"required": ["argv"]}, {"required": ["shell"]}],
            "not": {"required": ["n", "share"]},
            "properties": {
                "argv": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                "at": {"anyOf": [
                    {"type": "integer"},
                    {"type": "object", "required": ["day"], "properties": {"day": {"enum": ["mon", "tue"]}}}
                ]},
                "either": {"anyOf": [
                    {"properties": {"n": {"type": "string"}}},
                    {"properties": {"n": {"type": "integer"}}}
                ]}
            }
        });
        for (value, says) in [
            (json!({}), "it needs `argv` or `shell`"),
            (json!({"argv": [], "shell": ""}), "only one of `argv` and `shell` may be given"),
            (json!({"shell": "", "n": 1, "share": 1}), "only one of `n` and `share` may be given"),
            (json!({"argv": ["a", []]}), "`argv[1]` must be a text or an integer, and is a list"),
            (
                json!({"shell": "", "at": {"day": "sun"}}),
                "`at.day` must be `mon` or `tue`, and is `sun`",
            ),
            // Both ways were meant, and neither wants the whole to be something else.
            (json!({"shell": "", "either": {"n": []}}), "`either` cannot be {\"n\":[]}"),
        ] {
            assert_eq!(wrong(&ways, &value), says);
        }
        let lone = json!({"oneOf": [
            {"required": ["url"], "not": {"required": ["part"], "properties": {"part": {"const": true}}}},
            {"required": ["urls"]}
        ]});
        let says = wrong(&lone, &json!({"url": "", "part": true}));
        assert_eq!(says, "`part: true` does not go with the rest");
    }

    #[test]
    fn limits_are_told_with_what_is_there() {
        let schema = json!({
            "required": ["id"],
            "additionalProperties": false,
            "properties": {
                "id": {"type": "string", "minLength": 1, "maxLength": 3},
                "n": {"type": ["integer", "null"], "minimum": 1, "exclusiveMaximum": 9},
                "list": {"maxItems": 1, "items": {"const": 7}},
                "wait": {"type": "string", "pattern": DURATION_PATTERN},
                "share": {"exclusiveMinimum": 0, "maximum": 1},
                "items": {"minItems": 2},
                "env": {"minProperties": 1, "maxProperties": 2},
                "word": {"pattern": "^[a-z]+$"}
            }
        });
        for (value, says) in [
            (json!(7), "it must be an object, and is a number"),
            (json!({"x": 1}), "`id` is missing; there is no `x`"),
            (json!({"id": ""}), "`id` must have at least 1 character, and has 0"),
            (json!({"id": "four"}), "`id` must have at most 3 characters, and has 4"),
            (json!({"id": "a", "n": 0}), "`n` must be at least 1, and is 0"),
            (json!({"id": "a", "n": 9}), "`n` must be less than 9, and is 9"),
            (json!({"id": "a", "n": "x"}), "`n` must be an integer, and is a text"),
            (json!({"id": "a", "list": [8]}), "`list[0]` must be 7, and is 8"),
            (json!({"id": "a", "list": [7, 7]}), "`list` must have at most 1 item, and has 2"),
            (
                json!({"id": "a", "wait": "-3d"}),
                "`wait` must be a duration such as `30s` or `1h30m`, and is `-3d`",
            ),
            (json!({"id": "a", "share": 0}), "`share` must be more than 0, and is 0"),
            (json!({"id": "a", "share": 1.5}), "`share` must be at most 1, and is 1.5"),
            (json!({"id": "a", "items": [7]}), "`items` must have at least 2 items, and has 1"),
            (json!({"id": "a", "env": {}}), "`env` must have at least 1 field, and has 0"),
            (
                json!({"id": "a", "env": {"a": 1, "b": 2, "c": 3}}),
                "`env` must have at most 2 fields, and has 3",
            ),
            (json!({"id": "a", "word": "B2"}), "`word` must fit `^[a-z]+$`, and is `B2`"),
        ] {
            let mut schema = schema.clone();
            schema["type"] = json!("object");
            let mut told: Vec<_> = wrong(&schema, &value).split("; ").map(str::to_owned).collect();
            let mut says: Vec<_> = says.split("; ").collect();
            told.sort();
            says.sort_unstable();
            assert_eq!(told, says);
        }
    }
}
