//! Tools that speak: to other steps of the run, and to people.
//!
//! **Invariant:** they do nothing themselves; the desk has what they say recorded, and who said it is
//! the step in whose attempt that was.

use std::sync::Arc;

use async_trait::async_trait;
use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Desk, Failure, FailureKind, Question, Safety};
use serde_json::json;

use crate::model::tool::{Errand, Reach, Told, Tool, ToolCard};

/// Says something to other steps.
pub(in crate::model) const SEND: &str = "send_message";
/// Asks a person.
const ASK: &str = "ask_person";

/// Both of them.
pub(super) fn shipped() -> [Arc<dyn Tool>; 2] {
    [send(), ask()].map(|tool| Arc::new(tool) as Arc<dyn Tool>)
}

struct Speaks {
    card: ToolCard,
    errand: fn(&Json) -> Errand,
}

fn send() -> Speaks {
    let properties = json!({
        "to": {
            "type": "string", "minLength": 1, "maxLength": 200,
            "description": "The id of a step of this run, or the name of an agent: all its steps that are still to be done.",
        },
        "text": {"type": "string", "minLength": 1, "description": "At most 8 KiB."},
    });
    let description = "Says something to another step of this run; it is read in that step's next turn. \
        Instead of a call you may write <AGENT_MESSAGE to=\"NAME\">TEXT</AGENT_MESSAGE> in your answer: \
        it is taken out and sent.";
    speaks(SEND, description, (properties, &["to", "text"]), |input| Errand::Send {
        to: text(input, "to").into(),
        text: text(input, "text").into(),
    })
}

fn ask() -> Speaks {
    let properties = json!({
        "question": {"type": "string", "minLength": 1, "maxLength": 2000},
        "choices": {
            "type": "array", "maxItems": 20,
            "items": {"type": "string", "minLength": 1, "maxLength": 200},
            "description": "The answers there are; absent: any.",
        },
    });
    let description = "Asks a person and waits for the answer, which may take days. For what only a \
        person can know or decide.";
    speaks(ASK, description, (properties, &["question"]), |input| {
        let choices = input["choices"].as_array().into_iter().flatten();
        let choices = choices.filter_map(Json::as_str).map(Into::into).collect();
        Errand::Ask(Question { text: text(input, "question").into(), choices })
    })
}

fn text<'a>(input: &'a Json, name: &str) -> &'a str {
    input[name].as_str().unwrap_or_default()
}

fn speaks(
    name: &str,
    description: &str,
    (properties, required): (Json, &[&str]),
    errand: fn(&Json) -> Errand,
) -> Speaks {
    let input = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let (name, description) = (name.into(), description.into());
    let (reach, safety) = (Reach::Speaks, Safety::Repeatable);
    Speaks { card: ToolCard { name, description, input, reach, safety }, errand }
}

#[async_trait]
impl Tool for Speaks {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    fn errand(&self, input: &Json) -> Option<Errand> {
        Some((self.errand)(input))
    }

    async fn call(&self, _: &Call, _: &Json, _: &str, _: &dyn Desk) -> Result<Told, Failure> {
        Err(Failure::new(FailureKind::Bug, "no_errand", "the desk does this, not the tool"))
    }
}
