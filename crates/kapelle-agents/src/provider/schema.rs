//! Schemas of answers as the Messages format takes them: narrower than JSON Schema.
//!
//! **Invariants:** what obeys the schema that is sent, and what its descriptions say besides, obeys the one
//! that was asked for. Where that cannot be there is none, and the prompt has to say it. Either way the
//! answer is checked against what was asked for by whoever asked.

use kapelle_core::{Json, canonical};
use serde_json::{Map, json};

/// What is understood.
const KNOWN: [&str; 13] = [
    "type",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "properties",
    "items",
    "title",
    "description",
    "default",
];
/// What says nothing about an answer.
const SILENT: [&str; 5] = ["$schema", "$id", "$comment", "examples", "deprecated"];
/// The kinds of text that are understood.
const FORMATS: [&str; 10] =
    ["date-time", "date", "time", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];
/// So many properties may be left out, in all of a schema.
const OPTIONAL_MAX: usize = 24;
/// So many places may be of one kind or another.
const CHOICES_MAX: usize = 16;
/// Deeper schemas are recursive, or as good as that.
const DEPTH_MAX: usize = 32;

/// The schema to send for `schema`, which is of an object; `None`: there is none.
pub(super) fn adapted(schema: &Json) -> Option<Json> {
    let mut walk = Walk { root: schema, optional: 0, choices: 0 };
    walk.check_references(schema, 0)?;
    let adapted = walk.schema(schema)?;
    let fits = walk.optional <= OPTIONAL_MAX && walk.choices <= CHOICES_MAX;
    (fits && is_of_object(schema)).then_some(adapted)
}

/// Whether it is the schema of an object: providers take no others.
pub(super) fn is_of_object(schema: &Json) -> bool {
    schema.as_object().is_some_and(is_object)
}

struct Walk<'a> {
    root: &'a Json,
    optional: usize,
    choices: usize,
}

impl Walk<'_> {
    fn schema(&mut self, schema: &Json) -> Option<Json> {
        let map = schema.as_object()?;
        let says = ["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "properties"];
        if !says.iter().any(|name| map.contains_key(*name)) {
            // Anything at all cannot be asked for.
            return None;
        }
        let (mut adapted, mut besides) = (Map::new(), Map::new());
        for (name, value) in map {
            match name.as_str() {
                "properties" | "$defs" | "definitions" => {
                    let all = value.as_object()?.iter();
                    let each = all.map(|(name, value)| Some((name.clone(), self.schema(value)?)));
                    adapted.insert(name.clone(), Json::Object(each.collect::<Option<_>>()?));
                }
                "anyOf" | "oneOf" | "allOf" => self.choice(name, value, &mut adapted)?,
                "items" => drop(adapted.insert(name.clone(), self.schema(value)?)),
                "enum" if value.as_array()?.iter().any(|one| one.is_object() || one.is_array()) => {
                    return None;
                }
                "const" if value.is_object() || value.is_array() => return None,
                "required" | "additionalProperties" => {}
                "format" if FORMATS.iter().any(|known| value == known) => {
                    adapted.insert(name.clone(), value.clone());
                }
                "minItems" if value.as_u64().is_some_and(|least| least < 2) => {
                    adapted.insert(name.clone(), value.clone());
                }
                known if KNOWN.contains(&known) => {
                    self.choices += usize::from(known == "type" && value.is_array());
                    adapted.insert(name.clone(), value.clone());
                }
                silent if SILENT.contains(&silent) => {}
                _ => drop(besides.insert(name.clone(), value.clone())),
            }
        }
        if is_object(map) {
            self.object(map, &mut adapted)?;
        }
        describe(&mut adapted, besides);
        Some(adapted.into())
    }

    fn choice(&mut self, name: &str, value: &Json, into: &mut Map<String, Json>) -> Option<()> {
        let all = value.as_array()?;
        if name == "allOf" && all.iter().any(|one| one.get("$ref").is_some()) {
            return None;
        }
        self.choices += usize::from(name != "allOf");
        let all: Option<Json> = all.iter().map(|one| self.schema(one)).collect();
        // Which of them it is to be alone is seen afterwards.
        let name = if name == "oneOf" { "anyOf" } else { name };
        into.insert(name.into(), all?).is_none().then_some(())
    }

    /// An object has what it names and nothing else.
    fn object(&mut self, map: &Map<String, Json>, into: &mut Map<String, Json>) -> Option<()> {
        let properties = map.get("properties").and_then(Json::as_object)?;
        let open = map.get("additionalProperties").is_some_and(|more| *more != json!(false));
        if open || properties.is_empty() || map.contains_key("patternProperties") {
            return None;
        }
        let required = map.get("required").and_then(Json::as_array);
        let required = required.map(Vec::as_slice).unwrap_or_default();
        let is_known =
            |name: &Json| name.as_str().is_some_and(|name| properties.contains_key(name));
        if !required.iter().all(is_known) {
            return None;
        }
        self.optional += properties.len().saturating_sub(required.len());
        into.insert("required".into(), required.into());
        into.insert("additionalProperties".into(), false.into());
        Some(())
    }

    /// References lead to places of this schema, and never back to where they are.
    fn check_references(&self, schema: &Json, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match schema {
            Json::Object(map) => {
                if let Some(to) = map.get("$ref") {
                    let place = self.root.pointer(to.as_str()?.strip_prefix('#')?)?;
                    self.check_references(place, depth + 1)?;
                }
                map.values().try_for_each(|value| self.check_references(value, depth + 1))
            }
            Json::Array(all) => {
                all.iter().try_for_each(|one| self.check_references(one, depth + 1))
            }
            _ => Some(()),
        }
    }
}

fn is_object(map: &Map<String, Json>) -> bool {
    let named = map.get("type");
    let among = |kinds: &Vec<Json>| kinds.iter().any(|kind| kind == "object");
    named.is_some_and(|kind| kind == "object" || kind.as_array().is_some_and(among))
        || (named.is_none() && map.contains_key("properties"))
}

/// Says in words what cannot be said otherwise.
fn describe(schema: &mut Map<String, Json>, besides: Map<String, Json>) {
    if besides.is_empty() {
        return;
    }
    let besides = canonical(&besides.into());
    let known = schema.get("description").and_then(Json::as_str);
    let text = known.map_or_else(|| besides.clone(), |known| format!("{known} {besides}"));
    schema.insert("description".into(), text.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_said_in_words() {
        let asked = json!({
            "type": "object",
            "required": ["topic"],
            "properties": {
                "topic": {"type": "string", "minLength": 3, "description": "What it is about."},
                "day": {"type": "string", "format": "date"},
                "of": {"oneOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
                "parts": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/part"}},
            },
            "$defs": {"part": {"properties": {"a": {"type": "number"}}}},
        });
        let part = json!({
            "properties": {"a": {"type": "number"}},
            "required": [],
            "additionalProperties": false,
        });
        let wanted = json!({
            "type": "object",
            "properties": {
                "topic": {"type": "string", "description": "What it is about. {\"minLength\":3}"},
                "day": {"type": "string", "format": "date"},
                "of": {"anyOf": [
                    {"type": "integer", "description": "{\"minimum\":1}"},
                    {"type": "null"},
                ]},
                "parts": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/part"},
                    "description": "{\"minItems\":2}",
                },
            },
            "$defs": {"part": part},
            "required": ["topic"],
            "additionalProperties": false,
        });
        assert_eq!(adapted(&asked), Some(wanted));
    }

    #[test]
    fn what_cannot_be_asked_for_so_is_asked_for_in_the_prompt() {
        let object = |properties: Json| json!({"type": "object", "properties": properties});
        let many = (0..25).map(|n| (format!("p{n}"), json!({"type": "string"})));
        for asked in [
            json!({"type": "object"}),
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "required": ["b"], "properties": {"a": {"type": "string"}}}),
            object(json!({"a": {}})),
            object(json!({"a": true})),
            object(json!({"a": {"$ref": "#"}})),
            object(json!({"a": {"$ref": "https://x/y"}})),
            object(json!({"a": {"enum": [[1]]}})),
            object(many.collect::<Map<_, _>>().into()),
        ] {
            assert_eq!(adapted(&asked), None, "{asked}");
        }
    }
}
