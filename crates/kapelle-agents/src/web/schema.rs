//! The JSON Schemas of what the actions take and give.

use kapelle_core::Json;
use kapelle_core::port::agent::Action as Described;
use serde_json::json;

use super::Action;
use super::input::{PAGES_MAX, URL_MAX};

/// The action as the card has it.
pub(super) fn action(action: Action) -> Described {
    let (description, required, own) = match action {
        Action::Read => (
            "Reads the content of pages: text, Markdown, links, headings, lists, tables",
            json!([
                "url", "title", "language", "links", "headings", "lists", "tables", "text",
                "markdown"
            ]),
            &[
                "language",
                "published",
                "format",
                "links",
                "headings",
                "lists",
                "tables",
                "text",
                "markdown",
            ][..],
        ),
        Action::Links => {
            ("Lists all links of pages", json!(["url", "title", "links"]), &["links"][..])
        }
        Action::Headings => (
            "Lists all headings of pages, with their levels",
            json!(["url", "title", "headings"]),
            &["headings"][..],
        ),
    };
    Described {
        name: action.name().into(),
        description: description.into(),
        input: input(),
        output: output(&required, own),
    }
}

fn input() -> Json {
    let url = json!({
        "description": "http, https or file; without a scheme a path in the run's folder",
        "type": "string", "minLength": 1, "maxLength": URL_MAX
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "url": url,
            "urls": {
                "description": "several, each of which is fetched once whatever becomes of the step",
                "type": "array", "minItems": 1, "maxItems": PAGES_MAX, "items": url
            },
            "partial": {
                "description": "list pages that cannot be read under `failed`, unless none can; only with `urls`",
                "type": "boolean", "default": false
            }
        },
        "oneOf": [
            {"required": ["url"], "not": {"required": ["partial"], "properties": {"partial": {"const": true}}}},
            {"required": ["urls"]}
        ]
    })
}

fn output(required: &Json, own: &[&str]) -> Json {
    let known = properties();
    let mut properties = json!({
        "url": {"description": "where it came from in the end", "type": "string"},
        "title": {"type": "string"}
    });
    for name in own {
        properties[*name] = known[*name].clone();
    }
    json!({
        "$defs": {"page": {
            "type": "object", "required": required, "additionalProperties": false,
            "properties": properties
        }},
        "oneOf": [
            {"$ref": "#/$defs/page"},
            {
                "type": "object", "required": ["pages", "failed"], "additionalProperties": false,
                "properties": {
                    "pages": {
                        "description": "in the order of `urls`",
                        "type": "array", "items": {"$ref": "#/$defs/page"}
                    },
                    "failed": {"type": "array", "items": {
                        "type": "object", "additionalProperties": false,
                        "required": ["url", "kind", "code", "message"],
                        "properties": {
                            "url": {"type": "string"}, "kind": {"type": "string"},
                            "code": {"type": "string"}, "message": {"type": "string"}
                        }
                    }}
                }
            }
        ]
    })
}

fn properties() -> Json {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "language": {
            "description": "ISO 639-1, by the words or else by what the page says",
            "type": ["string", "null"]
        },
        "published": {"description": "a day or a moment, ISO 8601", "type": "string"},
        "text": {"description": "the content without markup and navigation", "type": "string"},
        "markdown": {"type": "string"},
        "format": {
            "description": "`text` where the page is a plain text, and `markdown` the same text",
            "enum": ["text"]
        },
        "links": {"type": "array", "items": {
            "type": "object", "required": ["url", "text"], "additionalProperties": false,
            "properties": {
                "url": {"description": "absolute", "type": "string"}, "text": {"type": "string"}
            }
        }},
        "headings": {"type": "array", "items": {
            "type": "object", "required": ["level", "text"], "additionalProperties": false,
            "properties": {
                "level": {"type": "integer", "minimum": 1, "maximum": 6},
                "text": {"type": "string"},
                "id": {"description": "the anchor", "type": "string"}
            }
        }},
        "lists": {"type": "array", "items": {
            "type": "object", "required": ["ordered", "items"], "additionalProperties": false,
            "properties": {"ordered": {"type": "boolean"}, "items": texts}
        }},
        "tables": {"type": "array", "items": {
            "type": "object", "required": ["header", "rows"], "additionalProperties": false,
            "properties": {
                "caption": {"type": "string"},
                "header": {
                    "description": "whether the first row names the columns", "type": "boolean"
                },
                "rows": {"type": "array", "items": texts}
            }
        }}
    })
}
