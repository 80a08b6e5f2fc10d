//! A conversation: turns of the model and of its tools, until there is an answer.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream;
use kapelle_core::port::agent::{
    BoxFuture, Call, Desk, Effect, Failure, FailureKind, Safety, Usage, wrong_with,
};
use kapelle_core::{Json, canonical};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ask::{self, Asking, Said};
use super::circles::{Circles, Kind, Made, Stuck};
use super::had::Had;
use super::letters::{self, Letter};
use super::peers::{self, Came};
use super::tool::{Granted, Reach, Told};
use super::tools::{SEND, WRITE_FILE};
use super::{Definition, TOKENS_MAX, Used, brief};
use crate::provider::{self, Choice, Models, Part, Prompt, Role, Stop, Turn};

/// So many calls of one turn go on at once.
const AT_ONCE: usize = 16;
/// The longest that a tool may tell, in bytes.
const TOLD_MAX: usize = 64 << 10;

/// A conversation with a model about one step.
pub(super) struct Talk<'a> {
    definition: &'a Definition,
    models: &'a Models,
    choices: Vec<Choice>,
    granted: Granted,
    /// The tools that it had when the run began, by name.
    had: Vec<Box<str>>,
    call: &'a Call,
    desk: &'a dyn Desk,
    prompt: Prompt,
    used: Used,
    circles: Circles,
    /// The last message of another step that was heard.
    heard: u32,
    /// How many were heard before the turn that goes on.
    heard_now: usize,
}

/// A call of a tool that the model wants.
struct Wanted {
    id: Box<str>,
    name: Box<str>,
    input: Json,
    /// The answer has reached its limit in it, of so many tokens.
    cut_at: Option<u64>,
}

impl Wanted {
    /// What is said of a call that was cut off; not all providers show it by half a JSON.
    fn is_cut(&self, schema: &Json) -> Option<String> {
        let max = self.cut_at?;
        let is_there = self.input.as_object().is_some_and(|input| !input.is_empty());
        let is_whole = is_there && wrong_with(schema, &self.input).is_empty();
        (!is_whole).then(|| {
            format!(
                "your call was cut off and not made: an answer has at most {max} tokens, calls included. Do \
                 it in several smaller calls"
            )
        })
    }
}

/// What is wrong with an answer.
struct Bad {
    complaint: String,
    /// It was to be JSON.
    is_json: bool,
}

/// What a tool told, as it is recorded.
#[derive(Serialize, Deserialize)]
struct Record {
    text: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    failed: bool,
    /// It was not called, as the agent may not do so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    denied: bool,
    /// What a person is to know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl<'a> Talk<'a> {
    pub(super) fn new(
        definition: &'a Definition,
        models: &'a Models,
        choices: Vec<Choice>,
        had: Had,
        call: &'a Call,
        desk: &'a dyn Desk,
    ) -> Self {
        let Had { granted, names: had, rules } = had;
        let tools = granted.values().map(|grant| {
            let card = grant.tool.card();
            provider::Tool {
                name: card.name.clone(),
                description: grant.description(),
                input: card.input.clone(),
            }
        });
        let task = brief::task(call);
        let prompt = Prompt {
            model: "".into(),
            system: Some(brief::system(definition, &rules)),
            shared: task.len() - 1,
            turns: vec![user(task.into_iter().map(|text| Part::Text { text }).collect())],
            tools: tools.collect(),
            schema: call.output.as_deref().cloned(),
            tokens_max: tokens_max(definition, models, call),
            effort: definition.effort.clone(),
        };
        let (used, circles, heard, heard_now) = Default::default();
        Self {
            definition,
            models,
            choices,
            granted,
            had,
            call,
            desk,
            prompt,
            used,
            circles,
            heard,
            heard_now,
        }
    }

    /// What it has used so far.
    pub(super) fn usage(&self) -> Usage {
        self.used.total()
    }

    /// Who said the last thing, if anybody did.
    pub(super) fn by(&self) -> Option<Box<str>> {
        self.prompt.turns.iter().rev().find_map(|turn| turn.by.clone())
    }

    /// Goes on until there is an answer.
    pub(super) async fn hold(&mut self) -> Result<Json, Failure> {
        let (mut mended, mut again) = (false, false);
        for _ in 0..self.definition.turns_max {
            let said = self.ask().await?;
            let mut wanted = wanted(&said);
            if let Some(last) = wanted.last_mut().filter(|_| said.reply.stop == Stop::Length) {
                last.cut_at = self.answer_max(&said.by);
            }
            let whole = said.reply.text();
            let is_empty = whole.trim().is_empty();
            let (text, letters) = self.letters(whole);
            let parts = said.reply.parts;
            self.prompt.turns.push(Turn { role: Role::Assistant, by: Some(said.by), parts });
            match said.reply.stop {
                Stop::Paused => drop(peers::post(self.desk, SEND, letters).await?),
                Stop::Refused(why) => return Err(refused(&why)),
                Stop::Length if wanted.is_empty() => return Err(self.too_long()),
                _ if !wanted.is_empty() => self.work(wanted, letters).await?,
                _ if self.is_news(letters, &mut again).await? => {}
                _ => match self.answer(&text, is_empty) {
                    Ok(answer) => return Ok(answer),
                    Err(bad) if !std::mem::replace(&mut mended, true) => {
                        let json = if bad.is_json { ", with nothing but the JSON" } else { "" };
                        let text = format!("{}. Answer again{json}.", bad.complaint);
                        self.prompt.turns.push(user(vec![Part::Text { text: text.into() }]));
                    }
                    Err(bad) => {
                        let code = if is_empty { "empty_answer" } else { "bad_answer" };
                        return Err(Failure::new(FailureKind::Invalid, code, bad.complaint));
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
            tools: &self.had,
            call: self.call,
            desk: self.desk,
        };
        // Before a model goes on with what it has paused nothing can be said to it.
        let may_hear = self.prompt.turns.last().is_some_and(|turn| turn.role == Role::User);
        let mail = if may_hear { peers::hear(self.desk, self.heard).await? } else { Vec::new() };
        let said = asking.ask(&self.prompt, mail).await?;
        self.used.add(&said.usage());
        self.heard_now = said.heard.len();
        if let Some(last) = said.heard.last() {
            self.heard = last.number;
            ask::tell(&mut self.prompt, &said.heard);
        }
        Ok(said)
    }

    /// What a text says to other steps, taken out of it, if this agent may say something to them.
    fn letters(&self, text: String) -> (String, Vec<Letter>) {
        // What is quoted in JSON is said to whoever reads that.
        if !self.granted.contains_key(SEND) || self.prompt.schema.is_some() {
            return (text, Vec::new());
        }
        letters::take(&text)
    }

    /// Whether there is something to tell a model that is done: a message of it that was not sent, or,
    /// once, messages that came while it answered.
    async fn is_news(&mut self, letters: Vec<Letter>, again: &mut bool) -> Result<bool, Failure> {
        let mut sent = peers::post(self.desk, SEND, letters).await?;
        sent.retain(|told| told.failed);
        let mut news = peers::receipt(&sent);
        // What has come in only grows: a later attempt finds no less of it.
        if news.is_none() && !*again && !self.desk.mail(self.heard).await?.is_empty() {
            news = Some("Messages came while you answered.".into());
        }
        let Some(news) = news.filter(|_| !std::mem::replace(again, true)) else { return Ok(false) };
        let text = format!("{news}\n\nGive your answer again, as a whole and as it is now.");
        self.prompt.turns.push(user(vec![Part::Text { text: text.into() }]));
        Ok(true)
    }

    /// The answer that a text is, or what is wrong with it.
    fn answer(&self, text: &str, is_empty: bool) -> Result<Json, Bad> {
        let is_json = self.prompt.schema.is_some();
        let bad = |complaint: &str| Bad { complaint: complaint.into(), is_json };
        if is_empty {
            return Err(bad(
                "your answer is empty: there is neither a text in it nor a call of a tool",
            ));
        }
        let Some(schema) = &self.prompt.schema else { return Ok(text.trim().into()) };
        let json = super::read_json(text).ok_or_else(|| bad("your answer is no JSON"))?;
        let wrong = wrong_with(schema, &json);
        if wrong.is_empty() {
            Ok(json)
        } else {
            Err(bad(&format!("your answer does not fit: {}", wrong.join("; "))))
        }
    }

    /// How many tokens an answer of a model has at the most.
    fn answer_max(&self, by: &str) -> Option<u64> {
        let choice = self.choices.iter().find(|choice| choice.name() == by);
        choice.map(|choice| choice.line.provider.answer_max(&self.prompt))
    }

    fn too_long(&self) -> Failure {
        let max = self.prompt.tokens_max;
        let message = format!(
            "the answer is longer than {max} tokens, or the conversation than the model takes: `maxTokens` in \
             the step's input or the agent's file, or `max_tokens` in `[models]`, says how long answers may be"
        );
        Failure::new(FailureKind::Refused, "too_long", message)
    }

    /// Has all calls of a turn made, each an effect of its own, and adds what they told.
    async fn work(&mut self, wanted: Vec<Wanted>, letters: Vec<Letter>) -> Result<(), Failure> {
        // Effects get their places here, in the order in which the model asked.
        let sent = peers::post(self.desk, SEND, letters);
        let calls: Vec<_> = wanted.iter().map(|wanted| self.effect(wanted)).collect();
        let (sent, came) = join(sent, all(&wanted, calls)).await;
        let came = came?;
        self.note_progress(&wanted, &came)?;
        let results = wanted.iter().zip(came).map(|(wanted, came)| Part::ToolResult {
            id: wanted.id.clone(),
            text: brief::fenced(&came.of, &cut(came.told.text)).into(),
            failed: came.told.failed,
        });
        let receipt = peers::receipt(&sent?).map(|text| Part::Text { text });
        self.prompt.turns.push(user(results.chain(receipt).collect()));
        Ok(())
    }

    /// One call of a tool. What is not granted, or does not fit, is told to the model and recorded.
    fn effect(&self, wanted: &Wanted) -> BoxFuture<'a, Result<Came, Failure>> {
        let (call, desk) = (self.call, self.desk);
        let grant = self.granted.get(&wanted.name).cloned();
        let (of, input) = (wanted.name.clone(), wanted.input.clone());
        let about = json!({"id": wanted.id, "input": input});
        let unfit = grant.as_ref().and_then(|grant| {
            wanted.is_cut(&grant.tool.card().input).or_else(|| grant.unfit(&input))
        });
        let denied = match &grant {
            None => Some(format!("there is no tool `{}` for you", wanted.name)),
            Some(grant) if unfit.is_none() => grant.denied(&input),
            Some(_) => None,
        };
        let may = grant.as_ref().filter(|_| denied.is_none() && unfit.is_none());
        if let Some(errand) = may.and_then(|grant| grant.tool.errand(&input)) {
            return peers::errand(desk, &wanted.name, about, errand);
        }
        let effect = Effect {
            name: format!("tool:{}", wanted.name).into(),
            // What is not done is done again without harm.
            safety: may.map_or(Safety::Repeatable, |grant| grant.tool.card().safety),
            input: about,
        };
        let work = move |key: Box<str>| -> BoxFuture<'a, Result<Json, Failure>> {
            Box::pin(async move {
                let is_denied = denied.is_some();
                let told = match (denied.or(unfit), grant) {
                    (None, Some(grant)) => grant.tool.call(call, &input, &key, desk).await?,
                    (why, _) => Told::badly(why.unwrap_or_default()),
                };
                let Told { text, failed, warnings } = told;
                let record = Record { text, failed, denied: is_denied, warnings };
                Ok(serde_json::to_value(record).expect("it is JSON"))
            })
        };
        let made = desk.effect(effect, Box::new(work));
        Box::pin(async move { Ok(Came { of, told: told(made.await?) }) })
    }

    /// What leads nowhere ends.
    fn note_progress(&mut self, wanted: &[Wanted], came: &[Came]) -> Result<(), Failure> {
        let calls = wanted.iter().zip(came).map(|(wanted, came)| Made {
            name: &wanted.name,
            input: &wanted.input,
            told: &came.told.text,
            kind: self.kind(wanted, &came.told),
        });
        let calls: Vec<_> = calls.collect();
        let Some(stuck) = self.circles.note(&calls, self.heard_now) else { return Ok(()) };
        let names: BTreeSet<&str> = wanted.iter().map(|wanted| &*wanted.name).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let message = match stuck {
            Stuck::Circle(1) => {
                format!("it makes the same calls again and again, with the same answers: {names}")
            }
            Stuck::Circle(turns) => {
                format!("it goes in circles of {turns} turns, with the same answers: {names}")
            }
            Stuck::Same => format!("whatever it asks, it is told the same, and asks on: {names}"),
            Stuck::Chat => "it answers messages with messages, and does nothing else".to_owned(),
        };
        Err(Failure::new(FailureKind::Refused, "no_progress", message))
    }

    /// What a call did.
    fn kind(&self, wanted: &Wanted, told: &Told) -> Kind {
        let reach = self.granted.get(&wanted.name).map(|grant| grant.tool.card().reach);
        match reach {
            _ if told.failed => Kind::Looked,
            Some(Reach::Speaks) if *wanted.name == *SEND => Kind::Said,
            None | Some(Reach::Reads) => Kind::Looked,
            Some(Reach::Writes | Reach::Spends | Reach::Speaks) => Kind::Changed,
        }
    }
}

/// What calls told, in their order: files are written one after the other, as the model wants it, all else is done
/// at once, as far as that goes.
async fn all(
    wanted: &[Wanted],
    calls: Vec<BoxFuture<'_, Result<Came, Failure>>>,
) -> Result<Vec<Came>, Failure> {
    let (mut writes, mut rest): (Vec<BoxFuture<'_, _>>, Vec<BoxFuture<'_, _>>) = Default::default();
    for (at, (of, call)) in wanted.iter().zip(calls).enumerate() {
        let kind = if *of.name == *WRITE_FILE { &mut writes } else { &mut rest };
        kind.push(Box::pin(async move { (at, call.await) }));
    }
    let writes = stream::iter(writes).buffered(1).collect::<Vec<_>>();
    let rest = stream::iter(rest).buffered(AT_ONCE).collect::<Vec<_>>();
    let (mut came, rest) = join(writes, rest).await;
    came.extend(rest);
    came.sort_by_key(|(at, _)| *at);
    came.into_iter().map(|(_, came)| came).collect()
}

/// How many tokens an answer has at the most: whoever is nearest to the step says so.
fn tokens_max(definition: &Definition, models: &Models, call: &Call) -> u64 {
    let of_step = call.input["maxTokens"].as_u64().filter(|max| *max > 0);
    of_step.or(definition.tokens_max).or(models.tokens_max).unwrap_or(TOKENS_MAX)
}

/// What a record says that a tool told. Whoever has resolved a call of unknown end says it in words, or
/// as JSON of their own.
fn told(record: Json) -> Told {
    match Record::deserialize(&record) {
        Ok(Record { text, failed, warnings, .. }) => Told { text, failed, warnings },
        Err(_) => Told::well(match record {
            Json::String(words) => words,
            other => canonical(&other),
        }),
    }
}

fn user(parts: Vec<Part>) -> Turn {
    Turn { role: Role::User, by: None, parts }
}

/// The calls that the model wants.
fn wanted(said: &Said) -> Vec<Wanted> {
    let calls = said.reply.parts.iter().filter_map(|part| match part {
        Part::ToolCall { id, name, input } => {
            let (id, name, input) = (id.clone(), name.clone(), input.clone());
            Some(Wanted { id, name, input, cut_at: None })
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
