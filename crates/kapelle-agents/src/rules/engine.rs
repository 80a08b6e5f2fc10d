//! Who answers: rules, or a model that chooses among what rules have found.
//!
//! **Invariants:** a model is given numbered sentences of the texts and answers with numbers, so every
//! word of an answer is of the texts, at its place; a number that was not given is dropped, and that is
//! told. Nobody is asked where a step or the configuration says so. Where no model can answer for good
//! the rules do, and say why, unless the step wants a model.

use std::sync::Arc;

use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Desk, Failure, FailureKind, Progress, Usage};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::sheet::Sheet;
use super::{Made, aside};
use crate::input::{invalid, read};
use crate::model::{self, Definition};
use crate::provider::{Choice, Models};

/// How many tokens an answer has at the most, thoughts included.
const TOKENS_MAX: u64 = 8_000;
/// A question, its repair, and what a model has to finish after a pause.
const TURNS_MAX: u32 = 4;
/// From this attempt on the rules answer where a provider is in trouble: so many a step has by itself.
const PATIENCE: u32 = 3;
/// What a cassette says of a call that it has not. Nobody was asked then, so nobody is now.
const NOT_ON_CASSETTE: &str = "not_on_cassette";

const SYSTEM: &str = "\
You choose sentences. You are given texts whose sentences (or passages) are numbered, as in `[12] …`, \
and a task. Answer with the numbers of sentences that stand there, as JSON of the given schema, and \
with nothing that the texts do not say. Lines that begin with `#` say which source or heading the next \
ones are of. Choose nothing rather than what does not fit.";

/// Who is to answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// A model, if there is one.
    #[default]
    Auto,
    Rules,
    Model,
}

impl Engine {
    /// Takes the wish out of an input.
    fn take(input: &mut Json) -> Result<Self, Failure> {
        let wish = input.as_object_mut().and_then(|input| input.remove("engine"));
        wish.map_or(Ok(Self::Auto), |wish| read(&wish))
    }
}

/// How a model does for an action what rules do otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Thought {
    /// What it is asked; `None` where there is nothing to choose from.
    pub(crate) ask: fn(&Json) -> Result<Option<Question>, Failure>,
    /// What is made of its choice.
    pub(crate) make: fn(&Call, &Choosing<'_>) -> Result<Made, Failure>,
}

/// What a model is asked to choose.
pub(crate) struct Question {
    pub(crate) task: String,
    pub(crate) sheet: Sheet,
    /// JSON Schema of the choice: an object.
    pub(crate) schema: Json,
}

/// What a model chose.
pub(crate) struct Choosing<'a> {
    pub(crate) sheet: &'a Sheet,
    pub(crate) choice: &'a Json,
    /// Who it was: `provider/model`.
    pub(crate) by: &'a str,
}

/// What came of asking a model.
#[derive(Default)]
pub(super) struct Judged {
    /// Where it did not answer the rules have to.
    pub(super) made: Option<Made>,
    pub(super) usage: Option<Usage>,
    /// Why it did not.
    pub(super) why: Option<String>,
}

/// Who asks, on behalf of an agent.
#[derive(Clone)]
pub(crate) struct Thinker {
    models: Arc<Models>,
}

/// Adds the wish to the properties of an action's input, and what is told of the work to its output.
pub(super) fn declare(input: &mut Json, output: &mut Json) {
    input["properties"]["engine"] = json!({
        "description": "who answers: rules, a model (fails without), or a model if one is configured",
        "enum": ["auto", "rules", "model"], "default": "auto"
    });
    output["properties"]["notes"] = json!({
        "description": "what of a model's answer was dropped, or why rules answered in its place",
        "type": "array", "items": {"type": "string"}
    });
}

impl Thinker {
    pub(super) fn new(models: Arc<Models>) -> Self {
        Self { models }
    }

    /// Has a model do it, if it should and can.
    pub(super) async fn judge(
        &self,
        agent: &str,
        thought: Thought,
        call: &mut Call,
        desk: &dyn Desk,
    ) -> Result<Judged, Failure> {
        let engine = Engine::take(&mut call.input)?;
        let Some(choices) = self.choices(engine)? else { return Ok(Judged::default()) };
        let call = Arc::new(call.clone());
        let of = call.clone();
        let Some(question) = aside(desk, move || (thought.ask)(&of.input)).await? else {
            let why = "there was nothing for a model to choose from".to_owned();
            return Ok(Judged {
                why: (engine == Engine::Model).then_some(why),
                ..Judged::default()
            });
        };
        say(desk, format!("asks {}", choices[0].name()));
        let asked = asking(&call, &question);
        let definition = definition(agent);
        let answered = model::ask(&definition, (&self.models, choices), &asked, desk).await;
        let (usage, by) = (Some(answered.usage), answered.by.unwrap_or_default());
        let made = match answered.value {
            Err(failure) => Err(failure),
            Ok(choice) => {
                let of = call.clone();
                let make = move || {
                    let sheet = &question.sheet;
                    (thought.make)(&of, &Choosing { sheet, choice: &choice, by: &by })
                };
                aside(desk, make).await
            }
        };
        match made {
            Ok(made) => Ok(Judged { made: Some(made), usage, why: None }),
            Err(failure) if engine == Engine::Model || !can_go_on(&failure, &call) => Err(failure),
            Err(failure) => {
                say(desk, format!("by rules: {}", failure.message));
                let why = format!("rules answered, not a model: {}", failure.message);
                let why = (&*failure.code != NOT_ON_CASSETTE).then_some(why);
                Ok(Judged { made: None, usage, why })
            }
        }
    }

    /// The models to ask, if one is to be asked at all.
    fn choices(&self, engine: Engine) -> Result<Option<Vec<Choice>>, Failure> {
        let off = self.models.rules_only;
        match engine {
            Engine::Rules => Ok(None),
            Engine::Auto if off || !self.models.has_default() => Ok(None),
            Engine::Model if off => {
                let message =
                    "the step wants a model, and `models.rules_only` of the configuration none";
                Err(invalid("rules_only", message))
            }
            Engine::Auto | Engine::Model => self.models.find(None).map(Some),
        }
    }
}

/// What a model did not do is done by rules; trouble that goes by is for another attempt, and what is
/// wrong with the attempt itself is nobody's to hide.
fn can_go_on(failure: &Failure, call: &Call) -> bool {
    use FailureKind::{
        Budget, Bug, Cancelled, Crashed, Denied, Diverged, Invalid, Lost, RateLimited, Refused,
        Timeout, Unavailable,
    };
    match failure.kind {
        Invalid | Refused | Denied => true,
        // Others have reserved what is left: it may come back.
        Budget => &*failure.code != "budget_reserved",
        Timeout | RateLimited | Unavailable => call.attempt.0 >= PATIENCE,
        Diverged => &*failure.code == NOT_ON_CASSETTE,
        Crashed | Lost | Cancelled | Bug => false,
    }
}

fn definition(agent: &str) -> Definition {
    Definition {
        name: agent.into(),
        prompt: SYSTEM.into(),
        tokens_max: Some(TOKENS_MAX),
        turns_max: TURNS_MAX,
        ..Definition::plain()
    }
}

/// The call as a model is told of it: the task, and the numbered texts as data.
fn asking(call: &Call, question: &Question) -> Call {
    let more = call.prompt.as_deref().map_or_else(String::new, |more| format!("\n\n{more}"));
    Call {
        tenant: call.tenant.clone(),
        run: call.run,
        workflow: call.workflow.clone(),
        step: call.step.clone(),
        attempt: call.attempt,
        key: call.key.clone(),
        action: call.action.clone(),
        input: question.sheet.text.as_str().into(),
        prompt: Some(format!("{}{more}", question.task).into()),
        complaint: call.complaint.clone(),
        output: Some(Arc::new(question.schema.clone())),
        root: call.root.clone(),
        definition: None,
        deadline: call.deadline,
        goes_on: false,
    }
}

fn say(desk: &dyn Desk, message: String) {
    desk.progress(Progress { message: Some(message.into()), fraction: None });
}
