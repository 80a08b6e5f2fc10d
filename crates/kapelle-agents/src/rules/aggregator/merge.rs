//! `merge`: several values made one.
//!
//! **Invariant:** nothing is lost silently: where two values differ one is taken, and both are named
//! with their sources.

use kapelle_core::Json;
use kapelle_core::port::agent::Failure;
use serde::Deserialize;
use serde_json::{Map, json};

use crate::input::read;
use crate::rules::Made;
use crate::text::squeeze;

/// How deep values are merged; what is deeper is one value.
const DEEP: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    outputs: Map<String, Json>,
    #[serde(default)]
    prefer: Prefer,
}

/// Which of several different values is taken.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Prefer {
    #[default]
    First,
    Last,
    Most,
}

pub(super) fn input_schema() -> Json {
    json!({
        "type": "object",
        "required": ["outputs"],
        "additionalProperties": false,
        "properties": {
            "outputs": {"description": "values by where they come from", "type": "object"},
            "prefer": {
                "description": "which is taken where they differ",
                "enum": ["first", "last", "most"], "default": "first"
            }
        }
    })
}

pub(super) fn output_schema() -> Json {
    json!({
        "type": "object",
        "required": ["value", "conflicts"],
        "additionalProperties": false,
        "properties": {
            "value": true,
            "conflicts": {"type": "array", "items": {
                "type": "object",
                "required": ["path", "values"],
                "additionalProperties": false,
                "properties": {
                    "path": {"description": "a JSON pointer", "type": "string"},
                    "values": {"type": "array", "minItems": 2, "items": {
                        "type": "object",
                        "required": ["value", "sources"],
                        "additionalProperties": false,
                        "properties": {
                            "value": true,
                            "sources": {"type": "array", "items": {"type": "string"}}
                        }
                    }}
                }
            }}
        }
    })
}

pub(super) fn work(input: &Json) -> Result<Made, Failure> {
    let input: Input = read(input)?;
    let mut merger = Merger { prefer: input.prefer, conflicts: Vec::new() };
    let all: Vec<(&str, &Json)> =
        input.outputs.iter().map(|(source, value)| (source.as_str(), value)).collect();
    let value = merger.merge("", &all, 0);
    Ok(Made { value: json!({"value": value, "conflicts": merger.conflicts}), files: Vec::new() })
}

struct Merger {
    prefer: Prefer,
    conflicts: Vec<Json>,
}

impl Merger {
    fn merge(&mut self, path: &str, all: &[(&str, &Json)], depth: usize) -> Json {
        let said: Vec<_> = all.iter().copied().filter(|(_, value)| !value.is_null()).collect();
        if depth < DEEP && !said.is_empty() {
            if said.iter().all(|(_, value)| value.is_object()) {
                return self.objects(path, &said, depth);
            }
            if said.iter().all(|(_, value)| value.is_array()) {
                return lists(&said);
            }
        }
        self.scalars(path, &said)
    }

    fn objects(&mut self, path: &str, all: &[(&str, &Json)], depth: usize) -> Json {
        let mut by_name: Map<String, Json> = Map::new();
        let names = all.iter().filter_map(|(_, value)| value.as_object()).flat_map(Map::keys);
        for name in names {
            if by_name.contains_key(name) {
                continue;
            }
            let inner: Vec<_> = all
                .iter()
                .filter_map(|(source, value)| Some((*source, value.get(name)?)))
                .collect();
            let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
            let merged = self.merge(&path, &inner, depth + 1);
            by_name.insert(name.clone(), merged);
        }
        Json::Object(by_name)
    }

    fn scalars(&mut self, path: &str, all: &[(&str, &Json)]) -> Json {
        let mut values: Vec<(&Json, Vec<&str>)> = Vec::new();
        for (source, value) in all {
            match values.iter_mut().find(|known| is_same(known.0, value)) {
                Some(known) => known.1.push(source),
                None => values.push((value, vec![source])),
            }
        }
        if values.len() > 1 {
            let shown = values.iter().map(|(value, from)| json!({"value": value, "sources": from}));
            let shown: Json = shown.collect();
            self.conflicts.push(json!({"path": path, "values": shown}));
        }
        let taken = match self.prefer {
            Prefer::First => values.first(),
            Prefer::Last => values.last(),
            // Of those named as often the first.
            Prefer::Most => values.iter().rev().max_by_key(|known| known.1.len()),
        };
        taken.map_or(Json::Null, |known| known.0.clone())
    }
}

/// All entries of all lists, each once.
fn lists(all: &[(&str, &Json)]) -> Json {
    let mut seen = std::collections::HashSet::new();
    let entries = all.iter().filter_map(|(_, value)| value.as_array()).flatten();
    entries.filter(|entry| seen.insert(normal(entry))).cloned().collect()
}

fn is_same(one: &Json, other: &Json) -> bool {
    one == other || normal(one) == normal(other)
}

/// The same text for values that mean the same: space, capitals and `1.0` for `1` do not count.
fn normal(value: &Json) -> String {
    match value {
        Json::String(text) => format!("\"{}", squeeze(text).to_lowercase()),
        Json::Number(number) => match number.as_f64() {
            Some(float) if !number.is_u64() && !number.is_i64() => float.to_string(),
            _ => number.to_string(),
        },
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            kapelle_core::canonical(value)
        }
    }
}
