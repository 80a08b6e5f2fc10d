//! The JSON Schemas of what the actions take and give.

use kapelle_core::port::agent::Action as Described;
use kapelle_core::{DURATION_PATTERN, Json};
use serde_json::json;

use super::Action;
use super::input::{ENTRIES_MAX, NAME_MAX, QUERY_MAX, SOURCE_MAX, TEXT_MAX, TOP, TOP_MAX, Trust};

/// The action as the card has it.
pub(super) fn action(action: Action) -> Described {
    let (description, input, output) = match action {
        Action::Store => ("Keeps texts, each once, with who wrote them", store(), stored()),
        Action::Retrieve => {
            ("Finds texts by their words and by near spellings, best first", retrieve(), found())
        }
        Action::Forget => ("Removes entries", forget(), forgotten()),
    };
    Described { name: action.name().into(), description: description.into(), input, output }
}

fn namespace() -> Json {
    json!({
        "description": "which part of the memory; the workflow's id where nothing is said",
        "type": "string", "minLength": 1, "maxLength": NAME_MAX
    })
}

fn trust(description: &str) -> Json {
    json!({
        "description": description, "type": "string", "enum": Trust::ALL, "default": Trust::default()
    })
}

fn store() -> Json {
    let text = json!({"type": "string", "minLength": 1, "maxLength": TEXT_MAX});
    let source = json!({
        "description": "where the text is from, as a URL or a name",
        "type": ["string", "null"], "maxLength": SOURCE_MAX
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "oneOf": [{"required": ["text"]}, {"required": ["entries"]}],
        "properties": {
            "namespace": namespace(),
            "text": text,
            "entries": {
                "description": "several at once, as pages and passages are given by other agents",
                "type": "array", "maxItems": ENTRIES_MAX,
                "items": {
                    "type": "object",
                    "required": ["text"],
                    "properties": {
                        "text": text, "source": source, "url": source,
                        "title": {"type": ["string", "null"], "maxLength": SOURCE_MAX},
                        "language": {"type": ["string", "null"]}
                    }
                }
            },
            "source": {
                "description": "where those entries are from that do not say it themselves",
                "type": "string", "maxLength": SOURCE_MAX
            },
            "ttl": {
                "description": "how long they are kept (`30d`), or milliseconds; for ever if absent",
                "type": ["string", "integer"], "pattern": DURATION_PATTERN, "minimum": 0
            },
            "trust": trust("whose words they are, the least trusted first")
        }
    })
}

fn stored() -> Json {
    json!({
        "type": "object",
        "required": ["namespace", "ids"],
        "additionalProperties": false,
        "properties": {
            "namespace": {"type": "string"},
            "ids": {
                "description": "of the entries, in their order",
                "type": "array", "items": {"type": "integer"}
            }
        }
    })
}

fn retrieve() -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "namespace": namespace(),
            "query": {
                "description": "what to look for, in words; without it, the newest entries",
                "type": "string", "maxLength": QUERY_MAX
            },
            "top": {"type": "integer", "minimum": 1, "maximum": TOP_MAX, "default": TOP},
            "trust": trust("the least trusted words to take")
        }
    })
}

fn found() -> Json {
    json!({
        "type": "object",
        "required": ["namespace", "entries", "of"],
        "additionalProperties": false,
        "properties": {
            "namespace": {"type": "string"},
            "of": {"description": "how many there are", "type": "integer", "minimum": 0},
            "entries": {"description": "best first; equal texts once", "type": "array", "items": {
                "type": "object",
                "required": ["id", "text", "trust", "at", "run", "workflow", "step"],
                "additionalProperties": false,
                "properties": {
                    "id": {"type": "integer"},
                    "text": {"type": "string"},
                    "source": {"type": "string"},
                    "title": {"type": "string"},
                    "trust": {"type": "string", "enum": Trust::ALL},
                    "score": {"description": "by ranks: 1/(60 + rank), summed", "type": "number"},
                    "matched": {
                        "type": "array", "items": {"type": "string", "enum": ["words", "vector"]}
                    },
                    "similarity": {"description": "of the vectors, at most 1", "type": "number"},
                    "at": {"description": "when it was stored", "type": "string"},
                    "expires": {"type": "string"},
                    "run": {"type": "string"},
                    "workflow": {"type": "string"},
                    "step": {"type": "string"}
                }
            }}
        }
    })
}

fn forget() -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "oneOf": [
            {"required": ["ids"]}, {"required": ["run"]}, {"required": ["source"]},
            {"required": ["all"]}
        ],
        "properties": {
            "namespace": namespace(),
            "ids": {"type": "array", "maxItems": 10_000, "items": {"type": "integer"}},
            "run": {"description": "what this run stored", "type": "string"},
            "source": {"description": "what is from there", "type": "string"},
            "all": {"const": true}
        }
    })
}

fn forgotten() -> Json {
    json!({
        "type": "object",
        "required": ["namespace", "forgotten"],
        "additionalProperties": false,
        "properties": {
            "namespace": {"type": "string"},
            "forgotten": {"description": "how many entries", "type": "integer", "minimum": 0}
        }
    })
}
