//! One attempt: an agent at its desk, until it answers, fails, panics or is given up.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use kapelle_core::port::agent::{Answer, Failure, FailureKind, LEFT, NOT_BEGUN};
use kapelle_core::run::{Command, Produced};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::desk::{AttemptDesk, Kept};
use crate::shards::{Of, Offer, Start, Tell, Ticket};
use crate::shell::Shared;

/// How long an agent has to end once it is cancelled.
const GRACE: Duration = Duration::from_secs(10);

/// Has the agent work, and says what to tell the run.
pub(crate) async fn perform(
    shared: Arc<Shared>,
    start: Start,
    cancelled: CancellationToken,
) -> Offer {
    let of = start.of();
    let span = span(&start);
    let Start { agent, call, effects, .. } = start;
    let (step, token) = (call.step.clone(), cancelled.clone());
    let desk = AttemptDesk::new(shared.clone(), of, step, effects, token, agent.clone());
    let began = Instant::now();
    let agents = shared.agents();
    let agents = agents.of(&call.tenant);
    let (command, kept) = match agents.performer(&agent, call.definition.as_deref()) {
        Some(registered) => {
            let tenant = call.tenant.clone();
            shared.tallies.begin(&tenant, &agent, shared.clock.now());
            let work = registered.agent.perform(call, &desk).instrument(span.clone());
            // A panic is a failed attempt; nothing of the agent's is used after it.
            let work = AssertUnwindSafe(work).catch_unwind();
            let ended = tokio::select! {
                ended = work => ended.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
                () = given_up(&cancelled) => Err(overdue()),
            };
            let whose = (&tenant, &*agent);
            shared.tallies.end(whose, ended.is_ok(), began.elapsed(), shared.clock.now());
            report(&desk, ended).await
        }
        None => (failed(&desk.of, missing(&agent)), Kept::default()),
    };
    let took = began.elapsed();
    let failed = match &command {
        Command::Failed { failure, .. } => Some(failure),
        _ => None,
    };
    if let Some(meter) = shared.meter() {
        meter.performed(&agent, took, failed.map(|failure| failure.kind));
    }
    log(&span, took, failed);
    offer(&desk.of, command, kept, desk.take_ticket())
}

/// What the lines of a log say of whatever happens in an attempt. A trace is a run.
fn span(start: &Start) -> Span {
    let Start { call, agent, task_id, .. } = start;
    let step = &call.step;
    // Nothing of it is made where nobody wants to know.
    tracing::info_span!(
        "attempt", run = %call.run, %step, task_id = task_id.as_deref(), subtask_id = %step,
        attempt = call.attempt.0, %agent, trace = %call.run.simple()
    )
}

fn log(span: &Span, took: Duration, failed: Option<&Failure>) {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match failed {
        None => tracing::info!(parent: span, ms, "the attempt is done"),
        Some(failure) => {
            let (kind, code, message) = (failure.kind.as_str(), &failure.code, &failure.message);
            tracing::info!(parent: span, ms, kind, %code, why = %message, "the attempt failed");
        }
    }
}

/// What to tell the run of an attempt that was stopped before it began.
pub(crate) fn not_begun(start: &Start) -> Offer {
    let failure = Failure::new(FailureKind::Lost, NOT_BEGUN, "it was stopped before it began");
    let of = start.of();
    offer(&of, failed(&of, failure), Kept::default(), None)
}

/// Whether the agent says that nobody had begun the attempt: what it had taken is free for another one.
pub(crate) fn was_not_begun(offer: &Offer) -> bool {
    let Offer::Tell(tell) = offer else { return false };
    matches!(&tell.command, Command::Failed { failure, .. } if &*failure.code == NOT_BEGUN)
}

/// Whether the agent leaves the attempt to whoever takes the run over: others go on with it.
pub(crate) fn was_left(offer: &Offer) -> bool {
    let Offer::Tell(tell) = offer else { return false };
    matches!(&tell.command, Command::Failed { failure, .. } if &*failure.code == LEFT)
}

fn offer(of: &Of, command: Command, kept: Kept, ticket: Option<Ticket>) -> Offer {
    Offer::Tell(Box::new(Tell {
        tenant: of.tenant.clone(),
        run: of.run,
        command,
        payloads: kept.payloads,
        references: kept.references,
        ticket,
    }))
}

async fn given_up(cancelled: &CancellationToken) {
    cancelled.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

async fn report(desk: &AttemptDesk, ended: Result<Answer, Failure>) -> (Command, Kept) {
    let (mut kept, of) = (desk.take_kept(), &desk.of);
    match ended {
        Ok(answer) => match desk.keep(answer.value.clone(), &mut kept).await {
            Ok(value) => {
                let answer = Box::new(Produced {
                    value,
                    json: Arc::new(answer.value),
                    artifacts: answer.artifacts,
                    usage: answer.usage,
                    engine: answer.engine,
                });
                let (step, attempt) = (of.step, of.attempt);
                (Command::Answered { step, attempt, answer }, kept)
            }
            Err(failure) => (failed(of, failure), kept),
        },
        Err(mut failure) => {
            if failure.forget_from.is_none() {
                failure.forget_from = kept.failed_effect(&failure);
            }
            if desk.shared.is_draining() && failure.kind == FailureKind::Cancelled {
                failure = Failure::new(FailureKind::Lost, "drained", "the node was stopped");
                failure.certain = false;
            }
            (failed(of, failure), Kept::default())
        }
    }
}

fn failed(of: &Of, failure: Failure) -> Command {
    Command::Failed { step: of.step, attempt: of.attempt, failure }
}

fn missing(agent: &str) -> Failure {
    Failure::new(FailureKind::Unavailable, "no_agent", format!("agent `{agent}` is gone"))
}

fn overdue() -> Failure {
    let message = format!("it did not end within {GRACE:?} after it was told to");
    Failure::new(FailureKind::Cancelled, "overdue", message).uncertain()
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = format!("the agent panicked: {}", text.unwrap_or("without a message"));
    Failure::new(FailureKind::Bug, "panic", message).uncertain()
}
