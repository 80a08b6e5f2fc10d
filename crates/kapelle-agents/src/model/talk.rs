//! A conversation: turns of the model and of its tools, until there is an answer.

use futures_util::future::join_all;
use kapelle_core::Json;
use kapelle_core::port::agent::{
    BoxFuture, Call, Desk, Effect, Failure, FailureKind, Safety, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ask::{Asking, Said};
use super::circles::Circles;
use super::tool::{Granted, Told};
use super::{Definition, Used, brief};
use crate::provider::{self, Choice, Models, Part, Prompt, Role, Stop, Turn};

/// The longest that a tool may tell, in bytes.
const TOLD_MAX: usize = 64 << 10;

/// A conversation with a model about one step.
pub(super) struct Talk<'a> {
    definition: &'a Definition,
    models: &'a Models,
    choices: Vec<Choice>,
    granted: Granted,
    call: &'a Call,
    desk: &'a dyn Desk,
    prompt: Prompt,
    used: Used,
    circles: Circles,
}

/// A call of a tool that the model wants.
struct Wanted {
    id: Box<str>,
    name: Box<str>,
    input: Json,
}

/// What a tool told, as it is recorded.
#[derive(Serialize, Deserialize)]
struct Record {
    text: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    failed: bool,
}

impl<'a> Talk<'a> {
    pub(super) fn new(
        definition: &'a Definition,
        models: &'a Models,
        choices: Vec<Choice>,
        granted: Granted,
        call: &'a Call,
        desk: &'a dyn Desk,
    ) -> Self {
        let tools = granted.values().map(|grant| {
            let card = grant.tool.card();
            provider::Tool {
                name: card.name.clone(),
                description: grant.description(),
                input: card.input.clone(),
            }
        });
        let prompt = Prompt {
            model: "".into(),
            system: Some(brief::system(definition)),
            turns: vec![user(vec![Part::Text { text: brief::task(call) }])],
            tools: tools.collect(),
            schema: call.output.as_deref().cloned(),
            tokens_max: definition.tokens_max,
            effort: definition.effort.clone(),
        };
        let (used, circles) = Default::default();
        Self { definition, models, choices, granted, call, desk, prompt, used, circles }
    }

    /// What it has used so far.
    pub(super) fn usage(&self) -> Usage {
        self.used.total()
    }

    /// Goes on until there is an answer.
    pub(super) async fn hold(&mut self) -> Result<Json, Failure> {
        let mut mended = false;
        for _ in 0..self.definition.turns_max {
            let said = self.ask().await?;
            let wanted = wanted(&said);
            let text = said.reply.text();
            let parts = said.reply.parts;
            self.prompt.turns.push(Turn { role: Role::Assistant, by: Some(said.by), parts });
            match said.reply.stop {
                Stop::Paused => {}
                Stop::Refused(why) => return Err(refused(&why)),
                Stop::Length if wanted.is_empty() => return Err(self.too_long()),
                _ if !wanted.is_empty() => self.work(wanted).await?,
                _ => match self.answer(&text) {
                    Ok(answer) => return Ok(answer),
                    Err(complaint) if !std::mem::replace(&mut mended, true) => {
                        let text = format!("{complaint}. Answer again, with nothing but the JSON.");
                        self.prompt.turns.push(user(vec![Part::Text { text: text.into() }]));
                    }
                    Err(complaint) => {
                        return Err(Failure::new(FailureKind::Invalid, "bad_answer", complaint));
                    }
                },
            }
        }
        let max = self.definition.turns_max;
        let message = format!("there is no answer after {max} turns");
        Err(Failure::new(FailureKind::Refused, "turns_used_up", message))
    }

    async fn ask(&mut self) -> Result<Said, Failure> {
        let asking = Asking {
            models: self.models,
            choices: &self.choices,
            call: self.call,
            desk: self.desk,
        };
        let said = asking.ask(&self.prompt).await?;
        self.used.add(&said.usage());
        Ok(said)
    }

    /// The answer that a text is, or what is wrong with it.
    fn answer(&self, text: &str) -> Result<Json, String> {
        let Some(schema) = &self.prompt.schema else { return Ok(text.trim().into()) };
        let json = super::read_json(text).ok_or("your answer is no JSON")?;
        let wrong = kapelle_core::port::agent::wrong_with(schema, &json);
        if wrong.is_empty() {
            Ok(json)
        } else {
            Err(format!("your answer does not fit: {}", wrong.join("; ")))
        }
    }

    fn too_long(&self) -> Failure {
        let max = self.definition.tokens_max;
        let message = format!(
            "the answer is longer than {max} tokens, or the conversation than the model takes"
        );
        Failure::new(FailureKind::Refused, "too_long", message)
    }

    /// Has all calls of a turn made at once, each an effect of its own, and adds what they told.
    async fn work(&mut self, wanted: Vec<Wanted>) -> Result<(), Failure> {
        // Effects get their places here, in the order in which the model asked.
        let calls: Vec<_> = wanted.iter().map(|wanted| self.effect(wanted)).collect();
        let told: Result<Vec<Told>, Failure> = join_all(calls).await.into_iter().collect();
        let told = told?;
        self.note_progress(&wanted, &told)?;
        let parts = wanted.iter().zip(told).map(|(wanted, told)| Part::ToolResult {
            id: wanted.id.clone(),
            text: brief::fenced(&wanted.name, &cut(told.text)).into(),
            failed: told.failed,
        });
        self.prompt.turns.push(user(parts.collect()));
        Ok(())
    }

    /// One call of a tool. What is not granted, or does not fit, is told to the model and recorded.
    fn effect(&self, wanted: &Wanted) -> BoxFuture<'a, Result<Told, Failure>> {
        let (call, desk) = (self.call, self.desk);
        let grant = self.granted.get(&wanted.name).cloned();
        let input = wanted.input.clone();
        let denied = match &grant {
            None => Some(format!("there is no tool `{}` for you", wanted.name)),
            Some(grant) => grant.denied(&input),
        };
        let effect = Effect {
            name: format!("tool:{}", wanted.name).into(),
            // What is not done is done again without harm.
            safety: match &grant {
                Some(grant) if denied.is_none() => grant.tool.card().safety,
                _ => Safety::Repeatable,
            },
            input: json!({"id": wanted.id, "input": input}),
        };
        let work = move |key: Box<str>| -> BoxFuture<'a, Result<Json, Failure>> {
            Box::pin(async move {
                let told = match (denied, grant) {
                    (None, Some(grant)) => grant.tool.call(call, &input, &key, desk).await?,
                    (why, _) => Told::badly(why.unwrap_or_default()),
                };
                let record = Record { text: told.text, failed: told.failed };
                Ok(serde_json::to_value(record).expect("it is JSON"))
            })
        };
        let made = desk.effect(effect, Box::new(work));
        Box::pin(async move {
            let record: Record = serde_json::from_value(made.await?).map_err(|cause| {
                Failure::new(FailureKind::Bug, "odd_record", format!("a recorded call: {cause}"))
            })?;
            Ok(Told { text: record.text, failed: record.failed })
        })
    }

    /// The same calls with the same answers lead nowhere.
    fn note_progress(&mut self, wanted: &[Wanted], told: &[Told]) -> Result<(), Failure> {
        let calls = wanted.iter().zip(told).map(|(w, told)| json!([w.name, w.input, told.text]));
        let Some(turns) = self.circles.note(&calls.collect()) else { return Ok(()) };
        let names: Vec<&str> = wanted.iter().map(|wanted| &*wanted.name).collect();
        let names = names.join(", ");
        let message = match turns {
            1 => format!("it makes the same calls again and again, with the same answers: {names}"),
            _ => format!("it goes in circles of {turns} turns, with the same answers: {names}"),
        };
        Err(Failure::new(FailureKind::Refused, "no_progress", message))
    }
}

fn user(parts: Vec<Part>) -> Turn {
    Turn { role: Role::User, by: None, parts }
}

/// The calls that the model wants.
fn wanted(said: &Said) -> Vec<Wanted> {
    let calls = said.reply.parts.iter().filter_map(|part| match part {
        Part::ToolCall { id, name, input } => {
            Some(Wanted { id: id.clone(), name: name.clone(), input: input.clone() })
        }
        _ => None,
    });
    calls.collect()
}

fn refused(why: &str) -> Failure {
    Failure::new(FailureKind::Refused, "model_refused", format!("the model refuses: {why}"))
}

/// What a tool told, shortened in the middle if it is long.
fn cut(text: String) -> String {
    if text.len() <= TOLD_MAX {
        return text;
    }
    let start = text.floor_char_boundary(TOLD_MAX * 3 / 4);
    let end = text.ceil_char_boundary(text.len() - TOLD_MAX / 4);
    let left_out = end - start;
    format!("{}\n… {left_out} bytes are left out …\n{}", &text[..start], &text[end..])
}
