//! The agents that read, rank and report by rules: no network, no clock, and a model only where there
//! is one, to choose among what rules have found ([`engine`]).
//!
//! **Invariants:** an answer of rules depends on the input alone, so a retry gives the same again; a
//! call's time is bounded by the length of its text, and it never holds up a thread that serves others.
//! Each agent is a card and a function for each of its actions; what they share is here.
//!
//! Absent: reading pages. Texts come in with the input, as the agent that reads pages gives them; only
//! `guide-extractor` has it read a page first, if it is given no more than its address.

pub(crate) mod aggregator;
pub(crate) mod analyzer;
mod asked;
mod choose;
mod claims;
mod document;
mod engine;
pub(crate) mod guide;
mod rank;
mod salient;
mod sheet;
mod similar;
pub(crate) mod summarizer;
pub(crate) mod walkthrough;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kapelle_core::Json;
use kapelle_core::port::agent::{Action, Agent, Answer, Call, Card, Desk, Failure, FailureKind};
use serde_json::json;

use crate::Web;
use crate::input::{cancelled, invalid};
use crate::provider::Models;
use engine::{Judged, Thinker, Thought};

/// The agents that work by rules, in the order to list them; pages are read by `web`, and choices made
/// by `models`.
pub(crate) fn all(web: Web, models: Arc<Models>) -> Vec<Arc<dyn Agent>> {
    let thinker = Thinker::new(models);
    vec![
        Arc::new(analyzer::agent(thinker.clone())),
        Arc::new(summarizer::agent(thinker.clone())),
        Arc::new(guide::agent(web, thinker.clone())),
        Arc::new(walkthrough::agent(thinker.clone())),
        Arc::new(aggregator::agent(thinker)),
    ]
}

/// An agent that works by rules.
pub(crate) struct Rules {
    card: Card,
    verbs: Vec<Verb>,
    thinker: Thinker,
}

/// One action of an agent.
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) input: Json,
    pub(crate) output: Json,
    pub(crate) work: Work,
    /// How a model does it, if one can.
    pub(crate) thought: Option<Thought>,
}

/// What an action does with its input.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// The same wherever the run stands.
    Anywhere(fn(&Json) -> Result<Made, Failure>),
    /// Calls files by their way from the run's folder.
    From(fn(&Json, &Path) -> Result<Made, Failure>),
}

impl Work {
    fn of(self, call: &Call) -> Result<Made, Failure> {
        match self {
            Self::Anywhere(work) => work(&call.input),
            Self::From(work) => work(&call.input, Path::new(&*call.root)),
        }
    }
}

/// What an action made.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) value: Json,
    pub(crate) files: Vec<File>,
}

/// A file that becomes an artifact.
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) media_type: &'static str,
    pub(crate) text: String,
}

impl Rules {
    fn new(name: &str, description: &str, mut verbs: Vec<Verb>, thinker: Thinker) -> Self {
        for verb in verbs.iter_mut().filter(|verb| verb.thought.is_some()) {
            engine::declare(&mut verb.input, &mut verb.output);
        }
        let action = |verb: &Verb| Action {
            name: verb.name.into(),
            description: verb.description.into(),
            input: verb.input.clone(),
            output: verb.output.clone(),
        };
        let card = Card {
            name: name.into(),
            description: description.into(),
            actions: verbs.iter().map(action).collect(),
            concurrency_max: None,
        };
        Self { card, verbs, thinker }
    }

    fn verb(&self, action: &str) -> Result<&Verb, Failure> {
        self.verbs.iter().find(|verb| verb.name == action).ok_or_else(|| {
            let known: Vec<_> = self.verbs.iter().map(|verb| format!("`{}`", verb.name)).collect();
            let (agent, known) = (&self.card.name, known.join(", "));
            invalid("no_such_action", format!("`{agent}` has no action `{action}`, only {known}"))
        })
    }
}

#[async_trait]
impl Agent for Rules {
    fn card(&self) -> &Card {
        &self.card
    }

    fn is_one_service(&self) -> bool {
        false
    }

    async fn perform(&self, mut call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        let verb = self.verb(&call.action)?;
        let work = verb.work;
        let judged = match verb.thought {
            Some(thought) => self.thinker.judge(&self.card.name, thought, &mut call, desk).await?,
            None => Judged::default(),
        };
        let engine = if judged.made.is_some() { "model" } else { "rules" };
        let mut made = match judged.made {
            Some(made) => made,
            None => aside(desk, move || work.of(&call)).await?,
        };
        if let Some(why) = judged.why {
            made.value["notes"] = json!([why]);
        }
        let mut artifacts = Vec::with_capacity(made.files.len());
        for file in made.files {
            let mut sink = desk.artifact(file.name, file.media_type).await?;
            sink.write(Bytes::from(file.text)).await?;
            artifacts.push(sink.finish().await?);
        }
        let engine = Some(engine.into());
        Ok(Answer { value: made.value, artifacts, usage: judged.usage, engine })
    }
}

/// Does `work` on a thread that serves nobody else.
async fn aside<T: Send + 'static>(
    desk: &dyn Desk,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work);
    tokio::select! {
        // Stopped before it began: so nobody waits for what nobody wants.
        biased;
        () = desk.cancelled() => Err(cancelled()),
        done = done => done.map_err(|error| bug(&error))?,
    }
}

fn bug(error: &tokio::task::JoinError) -> Failure {
    Failure::new(FailureKind::Bug, "panic", error.to_string())
}
