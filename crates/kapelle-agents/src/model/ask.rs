//! One model call: recorded, paced, and made of another model where the first one is in trouble.

use std::borrow::Cow;
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use jiff::Timestamp;
use kapelle_core::port::agent::{
    BoxFuture, Call, Desk, Effect, Failure, FailureKind, Heard, Progress, Safety, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::brief;
use crate::provider::{Choice, Delta, Models, Part, Prompt, Reply, Role, Tokens, Tool, Trouble};

/// What a model said, as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Said {
    /// Its answer.
    #[serde(flatten)]
    pub(super) reply: Reply,
    /// Who was asked: `provider/model`.
    pub(super) by: Box<str>,
    /// Whose key it was: where that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Box<str>>,
    /// What the prompt was made of.
    #[serde(default)]
    made: Made,
    /// What it cost; `None` if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cost_nanos: Option<i64>,
    /// What other steps had said to it before, which it read with the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) heard: Vec<Heard>,
}

/// What a prompt is made of, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    /// The system prompt.
    instructions: usize,
    /// The tools that may be called, with their schemas.
    tools: usize,
    /// What the step asks, with its input.
    task: usize,
    /// What the model said before.
    said: usize,
    /// What tools told.
    told: usize,
}

impl Made {
    fn of(prompt: &Prompt) -> Self {
        let tool = |tool: &Tool| tool.description.len() + tool.input.to_string().len();
        let mut made = Self {
            instructions: prompt.system.as_deref().map_or(0, str::len),
            tools: prompt.tools.iter().map(tool).sum(),
            ..Self::default()
        };
        for (role, part) in
            prompt.turns.iter().flat_map(|turn| turn.parts.iter().map(|p| (turn.role, p)))
        {
            match (role, part) {
                (Role::User, Part::Text { text }) => made.task += text.len(),
                (_, Part::Text { text }) => made.said += text.len(),
                (_, Part::ToolResult { text, .. }) => made.told += text.len(),
                (_, Part::ToolCall { input, .. }) => made.said += input.to_string().len(),
                (_, Part::Raw { block }) => made.said += block.to_string().len(),
            }
        }
        made
    }
}

/// What a call used that certainly failed.
const FREE: Usage = Usage { input_tokens: 0, output_tokens: 0, cost_nanos: Some(0), ms: 0 };

impl Said {
    /// What it used.
    pub(super) fn usage(&self) -> Usage {
        let Tokens { written, .. } = self.reply.tokens;
        let (input_tokens, cost_nanos) = (self.reply.tokens.read(), self.cost_nanos);
        Usage { input_tokens, output_tokens: written, cost_nanos, ms: 0 }
    }
}

/// Whom to ask, and on whose behalf.
pub(super) struct Asking<'a> {
    pub(super) models: &'a Models,
    pub(super) choices: &'a [Choice],
    pub(super) call: &'a Call,
    pub(super) desk: &'a dyn Desk,
}

impl Asking<'_> {
    /// Asks, unless it is recorded what came of it. `mail` is read with the last turn: it is no part of
    /// what the call is about, the record of the call says which it was.
    pub(super) async fn ask(&self, prompt: &Prompt, mail: Vec<Heard>) -> Result<Said, Failure> {
        // Not the model that is asked in the end: which one that is may change, the record may not.
        let input = json!({
            "system": prompt.system,
            "turns": prompt.turns,
            "tools": prompt.tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(),
            "schema": prompt.schema,
        });
        let effect = Effect { name: super::MODEL_EFFECT.into(), safety: Safety::Repeatable, input };
        let mut whole = Cow::Borrowed(prompt);
        if !mail.is_empty() {
            tell(whole.to_mut(), &mail);
        }
        let prompt = &*whole;
        let work = |key: Box<str>| -> BoxFuture<'_, _> {
            Box::pin(async move {
                let said = self.first_that_answers(prompt, &key).await;
                let said = said.map(|said| Said { heard: mail, ..said });
                let used = said.as_ref().map_or_else(|_| FREE, Said::usage);
                (said.map(|said| serde_json::to_value(said).expect("it is JSON")), used)
            })
        };
        let recorded = self.desk.paid(effect, self.reserve(prompt), Box::new(work)).await?;
        serde_json::from_value(recorded).map_err(|cause| {
            Failure::new(FailureKind::Bug, "odd_record", format!("a recorded answer: {cause}"))
        })
    }

    /// What a call may use at the most, as far as one can tell before: the dearest of the models.
    fn reserve(&self, prompt: &Prompt) -> Usage {
        let bytes = self.choices[0].line.provider.body(prompt).to_string().len() as u64;
        // A token is three bytes or more, but for rare scripts.
        let (input_tokens, output_tokens) = (bytes / 3, prompt.tokens_max);
        let tokens = Tokens { stored: input_tokens, written: output_tokens, ..Tokens::default() };
        let mut costs = self.choices.iter().map(|choice| self.cost(choice, &tokens));
        let cost_nanos = costs.try_fold(0, |most, cost| Some(cost?.max(most)));
        Usage { input_tokens, output_tokens, cost_nanos, ms: 0 }
    }

    fn cost(&self, choice: &Choice, tokens: &Tokens) -> Option<i64> {
        let day = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        self.models.prices.as_ref()?.cost(&choice.model, tokens, day)
    }

    async fn first_that_answers(&self, prompt: &Prompt, key: &str) -> Result<Said, Failure> {
        let mut trouble = None;
        for choice in self.choices {
            match self.one(choice, prompt, key).await {
                Err(failure) if failure.certain && is_elsewhere(&failure) => {
                    // The shortest wait is that of the run.
                    let sooner = |known: &Failure| known.retry_after_ms <= failure.retry_after_ms;
                    trouble = trouble.filter(sooner).or(Some(failure));
                }
                end => return end,
            }
        }
        Err(trouble.expect("there is a model to ask"))
    }

    async fn one(&self, choice: &Choice, prompt: &Prompt, key: &str) -> Result<Said, Failure> {
        let (line, name) = (&choice.line, choice.name());
        let prompt = for_model(prompt, choice, &name);
        let body = line.provider.body(&prompt);
        let tokens = body.to_string().len() as u64 / 4;
        let leave = tokio::select! {
            leave = line.governor.leave(self.call.run, tokens, prefix(&prompt)) => leave,
            () = self.desk.cancelled() => return Err(crate::input::cancelled()),
        };
        let (mut shown, mut read) = (Shown::new(self.desk), false);
        let mut hear = |delta: Delta<'_>| {
            if !std::mem::replace(&mut read, true) {
                leave.is_read();
            }
            shown.hear(&delta);
        };
        let asked = tokio::select! {
            asked = line.provider.ask(&body, key, &mut hear) => asked,
            () = self.desk.cancelled() => Err(crate::input::cancelled().uncertain().into()),
        };
        match asked {
            Ok((reply, headers)) => {
                line.governor.heard(&headers);
                leave.is_well();
                let cost_nanos = self.cost(choice, &reply.tokens);
                let key = line.provider.source().map(|source| source.to_string().into());
                let made = Made::of(&prompt);
                Ok(Said { reply, by: name.into(), key, made, cost_nanos, heard: Vec::new() })
            }
            Err(Trouble { failure, headers }) => {
                line.governor.heard(&headers);
                if failure.kind == FailureKind::RateLimited {
                    let wait = failure
                        .retry_after_ms
                        .map_or(Duration::from_secs(1), Duration::from_millis);
                    line.governor.slow_down(wait);
                }
                Err(failure)
            }
        }
    }
}

/// Adds what came in to the last turn.
pub(super) fn tell(prompt: &mut Prompt, heard: &[Heard]) {
    if let Some(turn) = prompt.turns.last_mut() {
        turn.parts.push(Part::Text { text: brief::mail(heard) });
    }
}

/// Whether another model may do where this one failed.
fn is_elsewhere(failure: &Failure) -> bool {
    use FailureKind::{RateLimited, Refused, Unavailable};
    matches!(failure.kind, RateLimited | Unavailable | Refused)
}

/// The prompt without the thoughts of other models.
fn for_model(prompt: &Prompt, choice: &Choice, name: &str) -> Prompt {
    let mut prompt = prompt.clone();
    prompt.model = choice.model.clone();
    for turn in &mut prompt.turns {
        if turn.by.as_deref().is_some_and(|by| by != name) {
            turn.parts.retain(|part| !matches!(part, Part::Raw { .. }));
        }
    }
    prompt
}

/// What calls have in common that begin alike, if it is long enough to be kept by a provider.
fn prefix(prompt: &Prompt) -> Option<u64> {
    let system = prompt.system.as_deref().unwrap_or_default();
    let tools = prompt.tools.iter().map(|tool| tool.description.len()).sum::<usize>();
    if system.len() + tools < 4_096 {
        return None;
    }
    let mut hasher = std::hash::DefaultHasher::new();
    (&*prompt.model, system).hash(&mut hasher);
    prompt.tools.iter().for_each(|tool| tool.name.hash(&mut hasher));
    Some(hasher.finish())
}

/// What those who watch see of an answer while it comes: its last line.
struct Shown<'a> {
    desk: &'a dyn Desk,
    text: String,
}

impl<'a> Shown<'a> {
    /// So much of a line is shown, in bytes.
    const MAX: usize = 160;

    fn new(desk: &'a dyn Desk) -> Self {
        Self { desk, text: String::new() }
    }

    fn hear(&mut self, delta: &Delta<'_>) {
        match delta {
            Delta::Text(text) | Delta::Thought(text) => {
                self.text.push_str(text);
                if let Some((_, last)) = self.text.trim_end().rsplit_once('\n') {
                    self.text = last.to_owned();
                }
                // A line that is too long goes on in the next one.
                while self.text.len() > Self::MAX {
                    let cut = self.text.floor_char_boundary(Self::MAX);
                    let cut = self.text[..cut].rfind(' ').map_or(cut, |space| space + 1);
                    self.text.drain(..cut);
                }
            }
            Delta::Tool(name) => self.text = format!("calls {name}"),
        }
        let message = Some(self.text.as_str().into());
        self.desk.progress(Progress { message, fraction: None });
    }
}
