//! Commands for a run: durable when they are answered.
//!
//! A node that does not own the run answers 421 `elsewhere` with the one that does; the client
//! goes there. Where nobody owns it, this node takes the command, and works on the run only if it
//! was asked to.

use axum::Json;
use kapelle_api as api;
use kapelle_core::run::{Command, Refusal, Resolved};
use kapelle_core::{INLINE_MAX, Payload, RunId, StepId, Value};
use kapelle_engine::Error;

use super::App;
use super::body::{Body, Path};
use super::problem::Problem;

/// No new attempts; what runs goes on to its end.
///
/// `POST /runs/{run}/pause`
pub(super) async fn pause(
    app: App,
    Path(run): Path<String>,
    Body(wish): Body<api::Wish>,
) -> Result<Json<api::Told>, Problem> {
    let run = app.find(&run).await?;
    let (by, reason) = said(&app, wish.by, wish.reason);
    tell(&app, run, Command::Pause { by, reason }, Vec::new()).await
}

/// The run goes on, and this node works on it.
///
/// `POST /runs/{run}/resume`
pub(super) async fn resume(
    app: App,
    Path(run): Path<String>,
    Body(wish): Body<api::Wish>,
) -> Result<Json<api::Told>, Problem> {
    let run = app.find(&run).await?;
    let (by, _) = said(&app, wish.by, None);
    // Before it is worked on: what follows by itself may end the run at once.
    match app.engine().tell(app.tenant(), run, Command::Resume { by }).await {
        // One that was left behind, not paused, goes on by being worked on.
        Ok(_) | Err(Error::Refused(Refusal::NotPaused | Refusal::Stopping)) => {
            app.engine().work_on(app.tenant(), run).await?;
            app.note_asked(run);
        }
        // It has its verdict.
        Err(Error::Refused(Refusal::Ended(_))) => {}
        Err(error) => return Err(error.into()),
    }
    told(&app, run).await
}

/// The run ends; what runs is told to stop. One that has ended answers 409 `run_ended`.
///
/// `POST /runs/{run}/cancel`
pub(super) async fn cancel(
    app: App,
    Path(run): Path<String>,
    Body(wish): Body<api::Wish>,
) -> Result<Json<api::Told>, Problem> {
    let run = app.find(&run).await?;
    let (by, reason) = said(&app, wish.by, wish.reason);
    tell(&app, run, Command::Cancel { by, reason }, Vec::new()).await
}

/// A person's answer to a step that waits for one.
///
/// `POST /runs/{run}/approvals/{step}`
pub(super) async fn approve(
    app: App,
    Path((run, step)): Path<(String, String)>,
    Body(word): Body<api::Approval>,
) -> Result<Json<api::Told>, Problem> {
    let run = app.find(&run).await?;
    let approved = word.decision == api::Decision::Approve;
    let (by, comment) = said(&app, word.by, word.comment);
    let command = Command::Approve { step: step_id(&step)?, approved, by, comment };
    tell(&app, run, command, Vec::new()).await
}

/// What a person says of a blocked step.
///
/// `POST /runs/{run}/steps/{step}/resolve`
pub(super) async fn resolve(
    app: App,
    Path((run, step)): Path<(String, String)>,
    Body(word): Body<api::Resolution>,
) -> Result<Json<api::Told>, Problem> {
    let run = app.find(&run).await?;
    if word.output.is_some() && word.action != api::Resolve::Complete {
        return Err(Problem::invalid("bad_body", "`output` goes with the action `complete` only"));
    }
    let mut payloads = Vec::<Payload>::new();
    let how = match word.action {
        api::Resolve::Retry => Resolved::Retry,
        api::Resolve::Skip => Resolved::Skip,
        api::Resolve::Fail => Resolved::Fail,
        api::Resolve::Complete => {
            if word.output.is_none() {
                let detail = "`complete` goes on with what the call gave: say it, `output` \
                              (`--output JSON`); where it gave nothing, `null`";
                return Err(Problem::invalid("bad_body", detail));
            }
            let (value, payload) = Value::of(word.output.unwrap_or_default(), INLINE_MAX);
            payloads.extend(payload);
            Resolved::Done(value)
        }
    };
    let (by, comment) = said(&app, word.by, word.comment);
    let command = Command::Resolve { step: step_id(&step)?, how, by, comment };
    tell(&app, run, command, payloads).await
}

/// A person's answer to what a step asks.
///
/// `POST /runs/{run}/steps/{step}/answer`
pub(super) async fn answer(
    app: App,
    Path((run, step)): Path<(String, String)>,
    Body(word): Body<api::Answer>,
) -> Result<Json<api::Told>, Problem> {
    let run = app.find(&run).await?;
    let (by, answer) = said(&app, word.by, Some(word.answer));
    let command = Command::Reply { step: step_id(&step)?, ordinal: word.ordinal, answer, by };
    tell(&app, run, command, Vec::new()).await
}

/// Who says so, and what. Nobody but the owner speaks in another's name.
pub(super) fn said(app: &App, by: Option<String>, what: Option<String>) -> (Box<str>, Box<str>) {
    let caller = app.caller();
    let by = by.filter(|by| !by.is_empty() && caller.is_owner);
    (by.map_or_else(|| caller.person.clone(), Into::into), what.unwrap_or_default().into())
}

pub(super) fn step_id(text: &str) -> Result<StepId, Problem> {
    text.parse().map_err(|_| {
        Problem::not_found("step_not_found", format!("there is no step `{text}` in the run"))
    })
}

pub(super) async fn tell(
    app: &App,
    run: RunId,
    command: Command,
    payloads: Vec<Payload>,
) -> Result<Json<api::Told>, Problem> {
    app.engine().tell_with(app.tenant(), run, command, payloads).await?;
    told(app, run).await
}

async fn told(app: &App, run: RunId) -> Result<Json<api::Told>, Problem> {
    let now = app.engine().run(app.tenant(), run).await?;
    Ok(Json(api::Told {
        id: run.to_string(),
        status: now.status().as_str().to_owned(),
        seq: now.seq(),
        worked_on: app.works_on(run),
    }))
}
