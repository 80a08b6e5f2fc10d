//! Which schemas providers take for structured output and strict tools.

use serde_json::Value;

/// What is wrong with a schema, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Such as `('properties', 'name')`.
    pub(crate) context: String,
    pub(crate) why: String,
}

/// Which provider judges.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// No bounds on numbers and texts.
    Anthropic,
    /// Every property is required.
    Openai,
}

const BOUNDS: [&str; 6] =
    ["minimum", "maximum", "multipleOf", "minLength", "maxLength", "exclusiveMinimum"];

/// Whether the schema may be used strictly.
pub(crate) fn check(schema: &Value, dialect: Dialect) -> Result<(), Bad> {
    if let Err(error) = jsonschema::validator_for(schema) {
        return Err(bad(&[], format!("it is no JSON Schema: {error}")));
    }
    walk(schema, dialect, &mut Vec::new())
}

/// Whether it is a schema at all, of an object.
pub(crate) fn check_loose(schema: &Value) -> Result<(), String> {
    jsonschema::validator_for(schema).map(drop).map_err(|error| error.to_string())
}

fn walk(schema: &Value, dialect: Dialect, path: &mut Vec<String>) -> Result<(), Bad> {
    let Some(map) = schema.as_object() else { return Ok(()) };
    if map.get("type").is_some_and(|kind| kind == "object") {
        check_object(schema, dialect, path)?;
    }
    let bound = BOUNDS.iter().find(|bound| map.contains_key(**bound));
    if let Some(bound) = bound.filter(|_| dialect == Dialect::Anthropic) {
        return Err(bad(path, format!("property '{bound}' is not supported")));
    }
    if let Some(to) = map.get("$ref").and_then(Value::as_str).filter(|to| !to.starts_with('#')) {
        return Err(bad(path, format!("external $ref '{to}' is not supported")));
    }
    for (key, value) in map {
        let children: Vec<(String, &Value)> = match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(children)) => {
                children.iter().map(|(name, child)| (name.clone(), child)).collect()
            }
            ("anyOf" | "allOf" | "oneOf", Value::Array(children)) => children
                .iter()
                .enumerate()
                .map(|(index, child)| (index.to_string(), child))
                .collect(),
            ("items", child) => vec![(String::new(), child)],
            _ => continue,
        };
        for (name, child) in children {
            path.push(key.clone());
            path.push(name);
            walk(child, dialect, path)?;
            path.truncate(path.len() - 2);
        }
    }
    Ok(())
}

fn check_object(schema: &Value, dialect: Dialect, path: &[String]) -> Result<(), Bad> {
    if schema["additionalProperties"] != Value::Bool(false) {
        let why = "'additionalProperties' is required to be supplied and to be false";
        return Err(bad(path, why.to_owned()));
    }
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let missing =
        properties.map(|(name, _)| name).find(|name| !required.iter().any(|r| r == *name));
    match missing.filter(|_| dialect == Dialect::Openai) {
        Some(name) => Err(bad(
            path,
            format!(
                "'required' is required to be supplied and to be an array including every key in properties. Missing '{name}'"
            ),
        )),
        None => Ok(()),
    }
}

fn bad(path: &[String], why: String) -> Bad {
    let parts = path.iter().filter(|part| !part.is_empty()).map(|part| format!("'{part}'"));
    Bad { context: format!("({})", parts.collect::<Vec<_>>().join(", ")), why }
}
