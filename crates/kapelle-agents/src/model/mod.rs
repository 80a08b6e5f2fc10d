//! The agent that thinks: a model with a system prompt, tools, and a record of every call.
//!
//! **Invariants:** each model call and each tool call is an effect: after a crash the conversation goes
//! on where it stopped, and nothing that was recorded is asked or done again. What the calls depend on
//! is in the call of the step and in the records, never in the clock or the order in which answers
//! come. A tool that was not granted does not exist for the model, whatever it asks for.
//!
//! Absent: retries and time limits, which are the engine's.

mod ask;
mod brief;
mod circles;
mod fit;
mod had;
mod letters;
mod peers;
mod talk;
pub mod tool;
pub mod tools;
mod visible;

use std::sync::Arc;

use async_trait::async_trait;
use kapelle_core::Json;
use kapelle_core::port::agent::{
    Action, Agent, Answer, Call, Card, Desk, Failure, FailureKind, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::input::expect_action;
use crate::provider::{Choice, Models};
use had::Kept;
use talk::Talk;
use tool::Tools;

/// What the effects are called that are calls of a model.
pub const MODEL_EFFECT: &str = "model";
/// How many turns a conversation has at the most, where nobody says so.
pub const TURNS_MAX: u32 = 50;
/// How many tokens an answer has at the most, where nobody says so.
pub const TOKENS_MAX: u64 = 16_000;

/// The model itself, without instructions: it can be any agent that a definition describes.
const PLAIN: &str = "model";

/// What makes a model an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name.
    pub name: Box<str>,
    /// When to use it.
    pub description: Box<str>,
    /// Its system prompt.
    pub prompt: Box<str>,
    /// The model that it wishes for: a tier, an alias, or `provider/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Box<str>>,
    /// The tools that it may call, by name.
    pub tools: Vec<Box<str>>,
    /// How many turns a conversation has at the most.
    pub turns_max: u32,
    /// How many tokens an answer has at the most; `None`: as many as the models' settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<u64>,
    /// How hard it is to think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Box<str>>,
    /// How many steps a node gives it at once; `None`: as many as the node runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_max: Option<u32>,
}

impl Definition {
    /// The model itself, without instructions and tools.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            name: PLAIN.into(),
            description: "Asks a language model; the prompt says what for.".into(),
            prompt: "".into(),
            model: None,
            tools: Vec::new(),
            turns_max: TURNS_MAX,
            tokens_max: None,
            effort: None,
            tasks_max: None,
        }
    }
}

/// An agent that thinks.
pub struct Model {
    card: Card,
    definition: Definition,
    models: Arc<Models>,
    tools: Arc<Tools>,
}

impl Model {
    /// The agent that `definition` describes. Tools that are not in `tools` are not there for it.
    #[must_use]
    pub fn new(definition: Definition, models: Arc<Models>, tools: Arc<Tools>) -> Self {
        let action = Action {
            name: "work".into(),
            description: "Works on the step's prompt and input, and answers.".into(),
            input: json!(true),
            output: json!(true),
        };
        let card = Card {
            name: definition.name.clone(),
            description: definition.description.clone(),
            actions: vec![action],
            concurrency_max: definition.tasks_max,
        };
        Self { card, definition, models, tools }
    }
}

#[async_trait]
impl Agent for Model {
    fn card(&self) -> &Card {
        &self.card
    }

    /// The provider's trouble is noticed by the one who paces its calls.
    fn is_one_service(&self) -> bool {
        false
    }

    /// A file may change, or go, while a run goes on.
    fn definition(&self) -> Option<Json> {
        let kept = Kept::of(self.definition.clone(), &self.tools);
        let mut kept = serde_json::to_value(kept).expect("it is JSON");
        kept["by"] = PLAIN.into();
        Some(kept)
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        let kept = call.definition.as_deref().map(Kept::deserialize).transpose();
        let kept = kept.map_err(|cause| {
            let message = format!("the definition that the run keeps: {cause}");
            Failure::new(FailureKind::Bug, "odd_definition", message)
        })?;
        let kept = kept.unwrap_or_else(|| Kept::of(self.definition.clone(), &self.tools));
        let definition = &kept.definition;
        expect_action(&definition.name, "work", &call.action)?;
        let choices = self.models.find(definition.model.as_deref())?;
        let had = kept.had(&self.tools);
        let mut talk = Talk::new(definition, &self.models, choices, had, &call, desk);
        let value = talk.hold().await?;
        Ok(Answer {
            value,
            usage: Some(talk.usage()),
            engine: Some("model".into()),
            ..Answer::default()
        })
    }
}

/// What a model answered to one question, and which one it was.
pub(crate) struct Answered {
    /// As the question's schema has it, if it answered.
    pub(crate) value: Result<Json, Failure>,
    /// Who answered last, as `provider/model`.
    pub(crate) by: Option<Box<str>>,
    /// What that used.
    pub(crate) usage: Usage,
}

/// Asks one of `choices`, without tools, as another agent may do it in the course of its step.
pub(crate) async fn ask(
    definition: &Definition,
    (models, choices): (&Models, Vec<Choice>),
    call: &Call,
    desk: &dyn Desk,
) -> Answered {
    let mut talk = Talk::new(definition, models, choices, Default::default(), call, desk);
    let value = talk.hold().await;
    Answered { value, by: talk.by(), usage: talk.usage() }
}

/// What calls have used so far.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    usage: Usage,
    /// The cost of some call is unknown.
    unknown: bool,
}

impl Used {
    fn add(&mut self, used: &Usage) {
        self.usage.input_tokens += used.input_tokens;
        self.usage.output_tokens += used.output_tokens;
        match used.cost_nanos {
            Some(nanos) => *self.usage.cost_nanos.get_or_insert(0) += nanos,
            None => self.unknown = true,
        }
    }

    /// What is known: a sum of which a part is unknown is unknown.
    fn total(&self) -> Usage {
        let cost_nanos = self.usage.cost_nanos.filter(|_| !self.unknown);
        Usage { cost_nanos, ..self.usage }
    }
}

/// Whether a text is JSON in itself, or in the one block of code that it holds.
fn read_json(text: &str) -> Option<Json> {
    let text = text.trim();
    if let Ok(json) = serde_json::from_str(text) {
        return Some(json);
    }
    let (_, rest) = text.split_once("```")?;
    let (block, after) = rest.split_once("```")?;
    let block = block.strip_prefix("json").unwrap_or(block);
    (!after.contains("```")).then(|| serde_json::from_str(block.trim()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_json_is_found_where_it_is_the_only_one() {
        assert_eq!(read_json(" {\"a\": 1}\n"), Some(json!({"a": 1})));
        assert_eq!(read_json("Here:\n```json\n[1]\n```\nGood?"), Some(json!([1])));
        assert_eq!(read_json("```\n1\n```\nor\n```\n2\n```"), None);
        assert_eq!(read_json("no"), None);
    }
}
