//! `aggregator`: many outputs become one value, and many pages one report.

mod answer;
mod cite;
mod event;
mod html;
mod judged;
mod markdown;
mod merge;
mod report;
mod scale;
#[cfg(test)]
mod tests;
mod timeline;
mod titled;

use serde_json::json;

use super::engine::Thinker;
use super::{Rules, Verb, Work, document};

/// The agent.
pub(crate) fn agent(thinker: Thinker) -> Rules {
    let verbs = vec![
        Verb {
            name: "merge",
            description: "Makes one value of several: what is equal once, what differs named",
            input: merge::input_schema(),
            output: merge::output_schema(),
            work: Work::Anywhere(merge::work),
            thought: None,
        },
        Verb {
            name: "report",
            description: "Writes a report on documents: answer, contradictions, evidence, sources",
            input: report::input_schema(),
            output: output_schema(),
            work: Work::From(report::work),
            thought: Some(judged::REPORT),
        },
    ];
    let description =
        "Brings results together: equal facts once, contradictions with their sources";
    Rules::new("aggregator", description, verbs, thinker)
}

fn output_schema() -> kapelle_core::Json {
    let quotes = json!({"type": "array", "items": document::quote_schema(&json!({
        "heading": {"type": "string"},
        "plain": {"type": "string", "description": "the text as a reader sees it: one line, without marks"}
    }))});
    let values = json!({"type": "array", "minItems": 1, "items": {
        "type": "object",
        "required": ["value", "sources"],
        "additionalProperties": false,
        "properties": {"value": {"type": "string"}, "sources": quotes}
    }});
    let told = json!({"type": "array", "items": {
        "type": "object",
        "required": ["subject", "values"],
        "additionalProperties": false,
        "properties": {"subject": {"type": "string"}, "values": values}
    }});
    json!({
        "type": "object",
        "required": ["title", "answer", "contradictions", "facts", "evidence", "sources"],
        "additionalProperties": false,
        "properties": {
            "title": {"type": "string"},
            "question": {"type": "string"},
            "answer": quotes,
            "contradictions": told,
            "facts": told,
            "evidence": quotes,
            "steps": {"type": "array"},
            "sources": {"type": "array", "items": {
                "type": "object",
                "required": ["source"],
                "additionalProperties": false,
                "properties": {
                    "source": {"type": "string"}, "title": {"type": "string"},
                    "published": {"type": "string"},
                    "also": {
                        "description": "what else with the same text is called",
                        "type": "array", "items": {"type": "string"}
                    }
                }
            }}
        }
    })
}
