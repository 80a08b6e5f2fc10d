//! An instance of a JSON Schema: what the fake answers where a script says nothing better.
//!
//! It knows the keywords that providers allow in structured output, and a few more.

use serde_json::{Map, Value, json};

use crate::dice::Dice;

/// How deep references are followed.
const DEPTH_MAX: usize = 32;

/// A value that obeys the schema, the same for the same dice.
pub(crate) fn instance(schema: &Value, dice: Dice) -> Value {
    of(schema, schema, dice, 0)
}

fn of(schema: &Value, root: &Value, dice: Dice, depth: usize) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    let next = |schema: &Value| of(schema, root, dice, depth + 1);
    if let Some(pointer) = schema["$ref"].as_str().and_then(|text| text.strip_prefix('#')) {
        return root.pointer(pointer).map_or(Value::Null, next);
    }
    if let Some(constant) = schema.get("const").or_else(|| schema.get("default")) {
        return constant.clone();
    }
    if let Some(names) = schema["enum"].as_array().filter(|names| !names.is_empty()) {
        let index = dice.below(depth as u64, names.len() as u64);
        return names[usize::try_from(index).unwrap_or(0)].clone();
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(first) = schema[choice].as_array().and_then(|choices| choices.first()) {
            return next(first);
        }
    }
    if let Some(all) = schema["allOf"].as_array() {
        let mut merged = Map::new();
        all.iter()
            .map(next)
            .for_each(|part| merged.extend(part.as_object().cloned().unwrap_or_default()));
        return Value::Object(merged);
    }
    match kind(schema) {
        "object" => object(schema, next),
        "array" => {
            let count = schema["minItems"].as_u64().unwrap_or(1).clamp(1, 100);
            (0..count).map(|_| next(&schema["items"])).collect()
        }
        "integer" => json!(schema["minimum"].as_i64().unwrap_or(1)),
        "number" => json!(schema["minimum"].as_f64().unwrap_or(1.5)),
        "boolean" => Value::Bool(true),
        "null" => Value::Null,
        _ => Value::String(text(schema)),
    }
}

fn kind(schema: &Value) -> &str {
    let kinds = &schema["type"];
    let named = kinds.as_str().or_else(|| kinds.as_array()?.first()?.as_str());
    named.unwrap_or(if schema.get("properties").is_some() { "object" } else { "string" })
}

fn object(schema: &Value, next: impl Fn(&Value) -> Value) -> Value {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let members = properties.map(|(name, schema)| (name.clone(), next(schema)));
    Value::Object(members.collect())
}

fn text(schema: &Value) -> String {
    let text = match schema["format"].as_str() {
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("date") => "2026-01-01",
        Some("time") => "00:00:00Z",
        Some("email") => "fake@example.org",
        Some("uri") => "https://example.org/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "fake",
    };
    let short = schema["minLength"].as_u64().and_then(|least| usize::try_from(least).ok());
    format!("{text:x<0$}", short.unwrap_or(0).min(10_000))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::instance;
    use crate::dice::Dice;

    #[test]
    fn an_instance_obeys_its_schema() {
        let tree = json!({
            "$ref": "#/$defs/node",
            "$defs": { "node": {
                "type": "object", "additionalProperties": false, "required": ["name", "children"],
                "properties": {
                    "name": { "type": "string", "format": "uuid" },
                    "children": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/node" }] },
                },
            } },
        });
        let schemas = [
            json!({ "type": "object", "properties": { "a": { "enum": [1, 2] }, "b": { "const": "x" } } }),
            json!({ "type": "array", "minItems": 3, "items": { "type": ["integer", "null"] } }),
            json!({ "type": "string", "minLength": 9 }),
            json!({ "allOf": [
                { "type": "object", "properties": { "a": { "type": "number" } }, "required": ["a"] },
                { "type": "object", "properties": { "b": { "type": "boolean" } }, "required": ["b"] },
            ] }),
            json!({ "properties": { "any": {} }, "required": ["any"] }),
            tree,
        ];
        for schema in schemas {
            for n in 0..4 {
                let made = instance(&schema, Dice::new(1, n));
                assert!(jsonschema::is_valid(&schema, &made), "{schema}: {made}");
            }
        }
    }
}
