//! A registered agent as the engine sees it: it hands its calls to workers, and waits for their word.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kapelle_core::port::agent::{
    Agent, Answer, BoxFuture, Call, Card, Desk, Failure, FailureKind, LEFT, NOT_BEGUN, OnUnknown,
    WORKER_LOST,
};
use kapelle_core::{Artifact, Json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::hub::{Attempt, Begun, Hub, Whose, Word};

/// An agent whose work workers do.
pub(crate) struct Post {
    card: Card,
    lease: Duration,
    on_unknown: OnUnknown,
    hub: Arc<Hub>,
}

/// What resolves once the end of an attempt is on disk.
pub(crate) type Receipt = BoxFuture<'static, Result<(), Failure>>;

/// How an attempt ended, and who wants to know when that is on disk.
pub(crate) struct Ending {
    pub(crate) how: Result<Output, Failure>,
    pub(crate) receipt: oneshot::Sender<Receipt>,
}

/// What a worker gave.
pub(crate) struct Output {
    pub(crate) value: Json,
    pub(crate) artifacts: Vec<Made>,
}

/// A file that a worker made.
pub(crate) struct Made {
    pub(crate) name: Box<str>,
    pub(crate) media_type: Box<str>,
    pub(crate) content: Bytes,
}

impl Post {
    pub(super) const fn new(
        card: Card,
        lease: Duration,
        on_unknown: OnUnknown,
        hub: Arc<Hub>,
    ) -> Self {
        Self { card, lease, on_unknown, hub }
    }
}

#[async_trait]
impl Agent for Post {
    fn card(&self) -> &Card {
        &self.card
    }

    fn on_unknown(&self, _action: &str, _input: &Json) -> OnUnknown {
        self.on_unknown
    }

    /// Workers are many, and no one of them is to blame for another.
    fn is_one_service(&self) -> bool {
        false
    }

    fn is_outside(&self) -> bool {
        true
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        let whose = Whose { tenant: call.tenant.clone(), agent: self.card.name.clone() };
        let begun = self.hub.begin(whose, call, self.lease);
        end_of(begun, desk).await
    }
}

/// Waits for the end of an attempt: by its worker's word, by its silence, or because it is not wanted.
async fn end_of(mut begun: Begun<'_>, desk: &dyn Desk) -> Result<Answer, Failure> {
    loop {
        let attempt = begun.attempt.clone();
        let state = attempt.state();
        if (state.cancelled || state.left) && state.heard.is_none() {
            return Err(not_begun());
        }
        if state.left {
            return Err(left());
        }
        let until = state.heard.map(|heard| heard + attempt.lease);
        if until.is_some_and(|until| until <= Instant::now()) {
            return Err(lost(&attempt));
        }
        tokio::select! {
            word = begun.words.recv() => match word {
                Some(Word::Progress(progress)) => desk.progress(progress),
                Some(Word::Ended(ending)) => return ended(ending, desk).await,
                Some(Word::Changed) | None => {}
            },
            () = desk.cancelled(), if !state.cancelled => {
                attempt.with(|state| state.cancelled = true);
            }
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        }
    }
}

async fn ended(ending: Ending, desk: &dyn Desk) -> Result<Answer, Failure> {
    // Whoever said so may have left.
    ending.receipt.send(desk.receipt()).ok();
    let Output { value, artifacts: made } = ending.how?;
    let mut artifacts = Vec::<Artifact>::new();
    for made in made {
        let mut sink = desk.artifact(&made.name, &made.media_type).await?;
        sink.write(made.content).await?;
        artifacts.push(sink.finish().await?);
    }
    Ok(Answer { value, artifacts, ..Answer::default() })
}

fn lost(attempt: &Attempt) -> Failure {
    let message = format!("its worker was not heard of for {:?}", attempt.lease);
    Failure::new(FailureKind::Lost, WORKER_LOST, message).uncertain()
}

fn left() -> Failure {
    Failure::new(FailureKind::Lost, LEFT, "the node leaves, its worker goes on").uncertain()
}

fn not_begun() -> Failure {
    Failure::new(FailureKind::Lost, NOT_BEGUN, "no worker had taken it")
}
