//! One model call: recorded, paced, and made of another model where the first one is in trouble.

use std::borrow::Cow;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kapelle_core::Json;
use kapelle_core::port::agent::{
    BoxFuture, Call, Desk, Effect, Failure, FailureKind, Heard, Progress, Safety, Turn, Usage,
};
use kapelle_core::run::NOT_YET;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use super::brief;
use super::fit::for_model;
use crate::provider::{
    Choice, Delta, Governor, Held, Leave, Line, Models, Part, Prompt, Reply, Role, Tokens, Tool,
    Trouble,
};

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
    /// Models that were asked before and did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    passed: Vec<Passed>,
}

/// A model that did not answer, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Passed {
    model: Box<str>,
    why: Box<str>,
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

/// So long a call waits for its turn before its step does; then so long until it asks again.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(5);
/// So many refusals in a row cost no attempt.
const IN_A_ROW_MAX: u32 = 10;
/// Tokens that a provider adds to a prompt: how tools are called.
const OVERHEAD: u64 = 700;
/// What a call used that certainly failed.
const FREE: Usage = Usage { input_tokens: 0, output_tokens: 0, cost_nanos: Some(0), ms: 0 };

impl Said {
    /// What it used, if the provider says so.
    fn told_usage(&self) -> Option<Usage> {
        (!self.reply.tokens.unknown).then(|| self.usage())
    }

    /// What it used.
    pub(super) fn usage(&self) -> Usage {
        let Tokens { written, .. } = self.reply.tokens;
        let (input_tokens, cost_nanos) = (self.reply.tokens.read(), self.cost_nanos);
        Usage { input_tokens, output_tokens: written, cost_nanos, ms: 0 }
    }
}

/// From which model on one may ask, with the leave to ask the first of them.
#[derive(Default)]
struct First {
    at: usize,
    leave: Option<Ready>,
    /// Those that want to be left alone.
    passed: Vec<Passed>,
}

/// A call that may be made now: leave for it, of whom, and what is to be asked.
struct Ready {
    governor: Governor,
    leave: Leave,
    prompt: Prompt,
    body: Json,
}

/// Where a call waits for its turn.
struct Queue<'a> {
    asking: &'a Asking<'a>,
    choices: &'a [&'a Choice],
    prompt: &'a Prompt,
    had: Mutex<First>,
}

impl Queue<'_> {
    /// What it has waited for; nothing from then on.
    fn had(&self) -> First {
        std::mem::take(&mut *self.had.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Turn for Queue<'_> {
    fn take(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            let first = self.asking.turn(self.choices, self.prompt).await?;
            *self.had.lock().unwrap_or_else(PoisonError::into_inner) = first;
            Ok(())
        })
    }

    fn give_back(&self) {
        if let Some(Ready { leave, .. }) = self.had().leave {
            leave.is_not_used();
        }
    }
}

/// Whom to ask, and on whose behalf.
pub(super) struct Asking<'a> {
    pub(super) models: &'a Models,
    pub(super) choices: &'a [Choice],
    /// The tools that the agent had when the run began, by name.
    pub(super) tools: &'a [Box<str>],
    pub(super) call: &'a Call,
    pub(super) desk: &'a dyn Desk,
}

impl Asking<'_> {
    /// Asks, unless it is recorded what came of it. `mail` is read with the last turn: it is no part of
    /// what the call is about, the record of the call says which it was.
    pub(super) async fn ask(&self, prompt: &Prompt, mail: Vec<Heard>) -> Result<Said, Failure> {
        // Not the model that is asked in the end, nor what is granted now: these may change, the record may not.
        let input = json!({
            "system": prompt.system,
            "turns": prompt.turns,
            "tools": self.tools,
            "schema": prompt.schema,
        });
        let effect = Effect { name: super::MODEL_EFFECT.into(), safety: Safety::Repeatable, input };
        let mut whole = Cow::Borrowed(prompt);
        if !mail.is_empty() {
            tell(whole.to_mut(), &mail);
        }
        let prompt = &*whole;
        // Those that broke off lately come last.
        let mut choices: Vec<&Choice> = self.choices.iter().collect();
        choices.sort_by_key(|choice| choice.is_troubled());
        let queue = Queue { asking: self, choices: &choices, prompt, had: Mutex::default() };
        let queue = &queue;
        let work = |key: Box<str>| -> BoxFuture<'_, _> {
            Box::pin(async move {
                let had = queue.had();
                let said = self.first_that_answers(queue.choices, had, prompt, &key).await;
                let said = said.map(|said| Said { heard: mail, ..said });
                let used = said.as_ref().map_or(Some(FREE), Said::told_usage);
                (said.map(|said| serde_json::to_value(said).expect("it is JSON")), used)
            })
        };
        let recorded = self.desk.paid(effect, self.reserve(prompt), queue, Box::new(work)).await?;
        serde_json::from_value(recorded).map_err(|cause| {
            Failure::new(FailureKind::Bug, "odd_record", format!("a recorded answer: {cause}"))
        })
    }

    /// What a call may use at the most, as far as one can tell before: the dearest of the models.
    fn reserve(&self, prompt: &Prompt) -> Usage {
        let body = self.choices[0].line.provider.body(prompt).to_string();
        let (input_tokens, output_tokens) = (tokens_at_most(&body), prompt.tokens_max);
        let tokens = Tokens { stored: input_tokens, written: output_tokens, ..Tokens::default() };
        let mut costs = self.choices.iter().map(|choice| self.cost(choice, &tokens));
        let cost_nanos = costs.try_fold(0, |most, cost| Some(cost?.max(most)));
        Usage { input_tokens, output_tokens, cost_nanos, ms: 0 }
    }

    fn cost(&self, choice: &Choice, tokens: &Tokens) -> Option<i64> {
        let day = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        self.models.prices.as_ref()?.cost(&choice.model, tokens, day)
    }

    /// Waits for leave to ask the first model that may be asked now. A long wait is the run's, which then
    /// sees it: nothing is announced, no slot is held, and no time of the step goes by.
    async fn turn(&self, choices: &[&Choice], prompt: &Prompt) -> Result<First, Failure> {
        let (mut soonest, mut lacking): (Option<Failure>, Option<Failure>) = Default::default();
        let mut passed = Vec::new();
        for (at, choice) in choices.iter().enumerate() {
            match self.leave(choice, prompt).await {
                Ok(leave) => return Ok(First { at, leave: Some(leave), passed }),
                Err(late) if &*late.code == NOT_YET => {
                    passed.push(Passed { model: choice.name().into(), why: late.message.clone() });
                    soonest = Some(sooner(soonest, late));
                }
                // It has no key: nothing is announced before one is known to have one.
                Err(other) if is_elsewhere(&other) => {
                    let why = format!("{} ({})", other.message, other.code).into();
                    passed.push(Passed { model: choice.name().into(), why });
                    lacking = lacking.or(Some(other));
                }
                Err(other) => return Err(other),
            }
        }
        Err(soonest.or(lacking).expect("there is a model to ask"))
    }

    /// Waits for leave to ask a model, but not for long.
    async fn leave(&self, choice: &Choice, prompt: &Prompt) -> Result<Ready, Failure> {
        let line = &choice.line;
        let not_yet = |why: &str, wait| {
            let why = format!("nothing is asked yet: `{}` {why}", line.provider.name);
            Failure::new(FailureKind::RateLimited, NOT_YET, why).retry_after(wait)
        };
        let leave = async {
            let governor = line.governor().await?;
            if let Some(wait) = governor.held().filter(|wait| *wait > PATIENCE) {
                return Err(not_yet("wants to be left alone for so long", wait));
            }
            let prompt =
                Prompt { model: choice.model.clone(), ..for_model(prompt, &choice.name()) };
            let body = line.provider.body(&prompt);
            let tokens = body.to_string().len() as u64 / 4;
            let leave = governor.leave(self.call.run, tokens, prefix(&prompt));
            match timeout(PATIENCE, leave).await {
                Ok(leave) => Ok(Ready { governor: governor.clone(), leave, prompt, body }),
                Err(_) => {
                    let wait = governor.held().unwrap_or(AGAIN);
                    Err(not_yet("is asked for as much as its limits allow", wait))
                }
            }
        };
        tokio::select! {
            leave = leave => leave,
            () = self.desk.cancelled() => Err(crate::input::cancelled()),
        }
    }

    /// Asks one model after the other, but none that is under the limit which another one has met.
    async fn first_that_answers(
        &self,
        choices: &[&Choice],
        first: First,
        prompt: &Prompt,
        key: &str,
    ) -> Result<Said, Failure> {
        let First { at, leave: mut first, mut passed } = first;
        let (mut trouble, mut limited): (Option<Failure>, Vec<&Line>) = Default::default();
        for choice in &choices[at..] {
            if limited.iter().any(|line| std::ptr::eq(*line, &*choice.line)) {
                continue;
            }
            let ready = match first.take() {
                Some(ready) if ready.governor.held().is_none() => Ok(ready),
                // The provider has asked for a wait since.
                Some(Ready { leave, .. }) => {
                    leave.is_not_used();
                    self.leave(choice, prompt).await
                }
                None => self.leave(choice, prompt).await,
            };
            let said = match ready {
                Ok(ready) => self.one(choice, ready, key).await,
                Err(failure) => Err(failure),
            };
            match said {
                Err(failure) if failure.certain && is_elsewhere(&failure) => {
                    // Whoever has asked for a wait has asked for it under this key.
                    if failure.kind == FailureKind::RateLimited || failure.retry_after_ms.is_some()
                    {
                        limited.push(&choice.line);
                    }
                    let why = match &*failure.code {
                        NOT_YET => failure.message.clone(),
                        code => format!("{} ({code})", failure.message).into(),
                    };
                    passed.push(Passed { model: choice.name().into(), why });
                    trouble = Some(sooner(trouble, failure));
                }
                end => return end.map(|said| Said { passed, ..said }),
            }
        }
        Err(trouble.expect("there is a model to ask"))
    }

    async fn one(&self, choice: &Choice, ready: Ready, key: &str) -> Result<Said, Failure> {
        let Ready { governor, leave, prompt, body } = ready;
        let (line, name) = (&choice.line, choice.name());
        let (mut shown, mut read) = (Shown::new(self.desk), false);
        let mut hear = |delta: Delta<'_>| {
            if let Delta::Begun(headers) = delta {
                return governor.begun(headers);
            }
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
            Ok(reply) => {
                governor.answered(&reply.tokens);
                leave.is_well();
                choice.is_well();
                let cost_nanos = self.cost(choice, &reply.tokens);
                let key = line.provider.source().map(|source| source.to_string().into());
                let made = Made::of(&prompt);
                let (by, heard, passed) = (name.into(), Vec::new(), Vec::new());
                Ok(Said { reply, by, key, made, cost_nanos, heard, passed })
            }
            Err(trouble) => {
                let held = governor.failed(&trouble);
                if !trouble.failure.certain {
                    choice.is_in_trouble();
                }
                Err(refused(line, trouble, held))
            }
        }
    }
}

/// What a call that failed is to its step. After so many refusals that nothing was let in between, one more is
/// an attempt like any other: a provider that always says "later" is none.
fn refused(line: &Line, trouble: Trouble, held: Held) -> Failure {
    let Trouble { failure, is_early, .. } = trouble;
    let failure = match failure.retry_after_ms {
        Some(_) => failure.retry_after(held.wait),
        None => failure,
    };
    if is_early && held.in_a_row <= IN_A_ROW_MAX { not_yet(line, failure) } else { failure }
}

/// What a call that came before the provider wants it is to its step: a wait of the run's, and no attempt.
fn not_yet(line: &Line, failure: Failure) -> Failure {
    let Failure { message, code, .. } = &failure;
    let why = format!("`{}` does not take it yet: {message} ({code})", line.provider.name);
    Failure { code: NOT_YET.into(), message: why.into(), ..failure }
}

/// The one of two troubles after which one may ask again sooner: the shortest wait is that of the run.
fn sooner(known: Option<Failure>, failure: Failure) -> Failure {
    known.filter(|known| known.retry_after_ms <= failure.retry_after_ms).unwrap_or(failure)
}

/// How many tokens a text has at the most: of words two small letters or more are one. All else may be one for
/// each of its bytes: signs, digits, capitals, rare scripts, and letters that make no words.
fn tokens_at_most(text: &str) -> u64 {
    let (mut halves, mut letters, mut hard) = (0, 0, 0);
    for c in text.chars() {
        let is_small = c.is_ascii_lowercase();
        let is_open = !is_small || matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y');
        letters = if c.is_ascii_alphanumeric() { letters + 1 } else { 0 };
        hard = if is_open { 0 } else { hard + 1 };
        let is_word = is_small && letters <= 16 && hard <= 4;
        halves += if is_word || c == ' ' { 1 } else { 2 * c.len_utf8() as u64 };
    }
    halves.div_ceil(2) + OVERHEAD
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

/// What calls have in common that begin alike, if it is long enough to be kept by a provider.
fn prefix(prompt: &Prompt) -> Option<u64> {
    let system = prompt.system.as_deref().unwrap_or_default();
    let tools = prompt.tools.iter().map(|tool| tool.description.len()).sum::<usize>();
    let mut hasher = std::hash::DefaultHasher::new();
    if system.len() + tools < 4_096 {
        // What siblings share is long enough.
        let shared = prompt.turns.first()?.parts.get(..prompt.shared).filter(|s| !s.is_empty())?;
        for part in shared {
            if let Part::Text { text } = part {
                text.hash(&mut hasher);
            }
        }
    }
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
            Delta::Begun(_) => return,
        }
        let message = Some(self.text.as_str().into());
        self.desk.progress(Progress { message, fraction: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens as two public tokenizers (`o200k_base`, `cl100k_base`) count them, the more of both.
    const SAMPLES: [(&str, u64); 11] = [
        ("bE5pWQq8WCmLqdW/Eo4p3zc7RqDgJx57GTfSv7t7tZB9p/0KomQ8VQhTJAztb6wjeiIvjeY31R4hb2EK", 65),
        ("af3533c2d831b6e671d24b0c52d57e5ed711a695040b3e72174eff30806c", 35),
        ("TyPqKRaLnjRGVyrLhWrPkEmpgdbidDcjNrgxRwcfCKliZoejwSnQtSJanwYE", 38),
        ("vzckvfo fopwhpb heynjqe xsimbsm tbkcfqf kxbcmne nugxtut nndoxxr blbxwxq cyckdej ", 42),
        ("xqqvfvzw kkfxkxvj kqfzxvjw qfzxfwzq wkwzjfjq vxzjzjjv wvqzfx", 39),
        ("碶効魬埵陮拨暺曰沐蛱卫攓理終斵昸", 33),
        ("가걡곂괣궄귥깆꺧꼈꽩꿊뀫낌냭녎놯", 40),
        ("ɐɗɞɥɬɳɺʁʈʏʖʝʤɑɘɟɦɭɴɻ", 40),
        ("𒀀𒀁𒀂𒀃𒀄𒀅𒀆𒀇", 32),
        ("👩‍👩‍👧‍👦🫠🥹", 24),
        ("a b c d e f g h i j k l m n o p", 16),
    ];
    const PROSE: (&str, u64) = (
        "Reads the file that the step names, looks for what the question is about, and tells it in a few \
         sentences. Where there is nothing to tell, it says so and stops.",
        38,
    );

    #[test]
    fn an_estimate_is_never_too_low_and_of_prose_not_far_too_high() {
        let is_enough = |text: &str, tokens: u64| {
            let most = tokens_at_most(text) - OVERHEAD;
            assert!(most >= tokens, "{most} for {tokens}: {text}");
            most
        };
        for (text, tokens) in SAMPLES {
            is_enough(text, tokens);
        }
        let (prose, tokens) = PROSE;
        assert!(is_enough(prose, tokens) < 3 * tokens);
    }
}
