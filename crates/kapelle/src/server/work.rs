//! What workers ask and say: work to do, and how it goes.
//!
//! **Invariants:** the attempt is the fence: a word about one that was given up changes nothing and is
//! answered at once, by what the journal has. What is answered is on disk, but for heartbeats.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kapelle_api as api;
use kapelle_core::port::agent::{Failure, FailureKind, Progress, Safety};
use kapelle_core::run::{Command, EffectId, EffectState, Outcome, Refusal, Run, StepStatus};
use kapelle_core::{Digest, INLINE_MAX, StepId, StepNo, Value, canonical, parse_duration};
use kapelle_engine::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::App;
use super::body::{Body, Path, Query};
use super::events::failure_of;
use super::problem::Problem;
use super::registry::not_registered;
use crate::workers::{Attempt, AttemptId, Ending, Made, NoPlace, Output, Whose};

/// How long work is waited for where nothing is said, and at the most.
const WAIT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The longest word on how far an attempt is, in bytes.
const MESSAGE_MAX: usize = 4 << 10;
/// The code of what is refused because the attempt was given up.
const STALE: &str = "stale_attempt";

/// Something to do, or nothing.
pub(super) struct Work(Option<api::Assignment>);

impl IntoResponse for Work {
    fn into_response(self) -> Response {
        self.0.map_or_else(
            || StatusCode::NO_CONTENT.into_response(),
            |work| Json(work).into_response(),
        )
    }
}

/// Something to do for an agent, as soon as there is: 200, or 204 if there was nothing for so long.
///
/// `GET /agents/{name}/work?wait=`
pub(super) async fn work(
    app: App,
    Path(name): Path<String>,
    Query(query): Query<api::WorkQuery>,
) -> Result<Work, Problem> {
    let whose = Whose { tenant: app.tenant().clone(), agent: name.into() };
    may_work(&app, &whose.agent)?;
    let wait = match query.wait {
        None => WAIT,
        Some(text) => parse_duration(&text).filter(|wait| *wait <= WAIT_MAX).ok_or_else(|| {
            let detail =
                format!("`wait` is a duration of at most a minute, such as `20s`, not `{text}`");
            Problem::invalid("bad_query", detail)
        })?,
    };
    let until = Instant::now() + wait;
    loop {
        if app.engine().is_draining() {
            return Err(Error::Draining.into());
        }
        let hub = app.registry().hub();
        let mut waiter = match hub.wait(app.engine(), &whose, crate::now()) {
            Ok(waiter) => waiter,
            Err(NoPlace::Full) => return Err(too_many_waiting()),
            Err(NoPlace::Leaving) => return Err(Error::Draining.into()),
            Err(NoPlace::Unknown) => {
                app.agents().await;
                if app.registry().get(&whose).is_none() {
                    return Err(not_registered(&whose));
                }
                continue;
            }
        };
        let taken = tokio::select! {
            taken = waiter.work() => taken,
            () = tokio::time::sleep_until(until) => return Ok(Work(None)),
            () = app.inner.leaving.cancelled() => return Err(Error::Draining.into()),
        };
        if let Some(attempt) = taken {
            return Ok(Work(Some(assignment(&app, &attempt).await?)));
        }
    }
}

/// Whoever may do the work of some agents may do no other's.
fn may_work(app: &App, agent: &str) -> Result<(), Problem> {
    let caller = app.caller();
    if caller.agents.as_ref().is_some_and(|own| !own.iter().any(|own| **own == *agent)) {
        return Err(Problem::may_not(&caller.name, &format!("to work as `{agent}`")));
    }
    Ok(())
}

async fn assignment(app: &App, attempt: &Attempt) -> Result<api::Assignment, Problem> {
    let call = &attempt.call;
    // A first attempt has nothing before it.
    let recorded = if call.attempt.0 > 1 {
        let run = app.engine().run(&call.tenant, call.run).await?;
        let step = run.find(call.step.as_str());
        match step {
            Some(step) => all_recorded(app, &run, step).await?,
            None => Vec::new(),
        }
    } else {
        Vec::new()
    };
    Ok(api::Assignment {
        attempt: attempt.id.to_string(),
        agent: attempt.whose.agent.to_string(),
        run: call.run.to_string(),
        workflow: call.workflow.to_string(),
        step: call.step.to_string(),
        number: call.attempt.0,
        key: call.key.to_string(),
        action: call.action.to_string(),
        input: call.input.clone(),
        prompt: call.prompt.as_deref().map(str::to_owned),
        complaint: call.complaint.as_deref().map(str::to_owned),
        output_schema: call.output.as_deref().cloned(),
        deadline: call.deadline.to_string(),
        lease_ms: lease_ms(attempt),
        recorded,
    })
}

async fn all_recorded(app: &App, run: &Run, step: StepNo) -> Result<Vec<api::Recorded>, Problem> {
    let mut all = Vec::new();
    for effect in run.effects(step).values() {
        if matches!(effect.state, EffectState::Recorded(_)) {
            all.push(recorded(app, run, step, &effect.id, Some(&effect.state)).await?);
        }
    }
    Ok(all)
}

async fn recorded(
    app: &App,
    run: &Run,
    step: StepNo,
    id: &EffectId,
    state: Option<&EffectState>,
) -> Result<api::Recorded, Problem> {
    let mut shown = begun(run, step, id);
    let Some(EffectState::Recorded(outcome)) = state else { return Ok(shown) };
    "recorded".clone_into(&mut shown.status);
    match outcome {
        Outcome::Done(value) => {
            shown.output = Some((*app.engine().value(app.tenant(), run, value).await?).clone());
        }
        Outcome::Failed(how) => shown.failure = Some(failure_of(how)),
    }
    Ok(shown)
}

/// A call that has no end on record.
fn begun(run: &Run, step: StepNo, id: &EffectId) -> api::Recorded {
    api::Recorded {
        ordinal: id.ordinal,
        name: id.name.to_string(),
        status: "begun".to_owned(),
        key: format!("{}/{}/{}/{}", run.id(), name_of(run, step), id.ordinal, id.generation),
        output: None,
        failure: None,
    }
}

fn name_of(run: &Run, step: StepNo) -> &str {
    run.name(step).map_or("", StepId::as_str)
}

/// The worker lives; whether it is still wanted.
///
/// `POST /attempts/{attempt}/heartbeat`
pub(super) async fn heartbeat(
    app: App,
    Path(id): Path<String>,
    Body(beat): Body<api::Beat>,
) -> Result<Json<api::Heard>, Problem> {
    let id = id_of(&id)?;
    if beat.fraction.is_some_and(|part| !(0.0..=1.0).contains(&part)) {
        return Err(Problem::invalid("bad_body", "`fraction` is a number from 0 to 1"));
    }
    // As many as a stream has not shown yet are in memory.
    if beat.message.as_ref().is_some_and(|message| message.len() > MESSAGE_MAX) {
        let detail = format!("`message` has at most {MESSAGE_MAX} bytes");
        return Err(Problem::invalid("bad_body", detail));
    }
    let Some(attempt) = here(&app, &id)? else { return Err(gone(&app, &id).await?) };
    if !attempt.hear() {
        return Err(gone(&app, &id).await?);
    }
    if beat.message.is_some() || beat.fraction.is_some() {
        let message = beat.message.map(Into::into);
        attempt.progress(Progress { message, fraction: beat.fraction });
    }
    let cancel = attempt.state().cancelled;
    Ok(Json(api::Heard { cancel, lease_ms: lease_ms(&attempt) }))
}

/// An outside call that is about to be made, or has ended: what is on record of it, durably.
///
/// `POST /attempts/{attempt}/effects`
pub(super) async fn effect(
    app: App,
    Path(id): Path<String>,
    Body(new): Body<api::NewEffect>,
) -> Result<Json<api::Recorded>, Problem> {
    let (id, said) = (id_of(&id)?, said(new)?);
    let attempt = here(&app, &id)?.filter(|attempt| attempt.hear());
    let Some(attempt) = attempt else { return Err(gone(&app, &id).await?) };
    let run = app.engine().run(app.tenant(), id.run).await?;
    let Some(step) = run.find(id.step.as_str()) else { return Err(gone(&app, &id).await?) };
    let (effect, before) = placed(&run, step, &said)?;
    // What has an end keeps it.
    let is_known = matches!(before, Some(EffectState::Recorded(_)))
        || (before.is_some() && said.end.is_none());
    if is_known {
        return Ok(Json(recorded(&app, &run, step, &effect, before.as_ref()).await?));
    }
    let mut shown = begun(&run, step, &effect);
    let attempt = attempt.id.attempt;
    let (command, payload) = match said.end {
        // It is on disk that it is about to be made before it is.
        None if said.once => (Command::StartEffect { step, attempt, effect, reserve: None }, None),
        None => return Ok(Json(shown)),
        Some(end) => {
            "recorded".clone_into(&mut shown.status);
            let (outcome, payload) = match end {
                Ok(output) => {
                    let (value, payload) = Value::of(output.clone(), INLINE_MAX);
                    shown.output = Some(output);
                    (Outcome::Done(value), payload)
                }
                Err(failure) => {
                    shown.failure = Some(failure_of(&failure));
                    (Outcome::Failed(failure), None)
                }
            };
            (Command::RecordEffect { step, attempt, effect, outcome, used: None }, payload)
        }
    };
    let payloads = payload.into_iter().collect();
    app.engine().tell_with(app.tenant(), id.run, command, payloads).await?;
    Ok(Json(shown))
}

/// What a worker says of an outside call.
struct Said {
    ordinal: u32,
    name: Box<str>,
    input: Digest,
    once: bool,
    /// How it ended, if it has.
    end: Option<Result<api::Json, Failure>>,
}

fn said(new: api::NewEffect) -> Result<Said, Problem> {
    let end = match (new.output, new.failure) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("bad_body", "give either `output` or `failure`"));
        }
        (Some(output), None) => Some(Ok(output)),
        (None, failure) => failure.map(failure_from).transpose()?.map(Err),
    };
    if new.ordinal == 0 || new.name.is_empty() || new.name.len() > 64 {
        let detail = "`ordinal` counts from 1, and `name` has 1 to 64 bytes";
        return Err(Problem::invalid("bad_body", detail));
    }
    let input = Digest::of(canonical(&new.input).as_bytes());
    Ok(Said { ordinal: new.ordinal, name: new.name.into(), input, once: new.once, end })
}

/// The call in its place among those of the step, and what is on record of it; refused if that is another one.
fn placed(
    run: &Run,
    step: StepNo,
    said: &Said,
) -> Result<(EffectId, Option<EffectState>), Problem> {
    let known = run.effects(step).remove(&said.ordinal);
    let effect = EffectId {
        ordinal: said.ordinal,
        name: said.name.clone(),
        input: said.input,
        generation: known.as_ref().map_or(0, |known| known.id.generation),
        safety: if said.once { Safety::Unsafe } else { Safety::Repeatable },
    };
    match known.filter(|known| known.state != EffectState::Forgotten) {
        Some(known) if known.id != effect => {
            let detail = format!(
                "call {} of step `{}` is on record as another one (`{}`, or its `input` or `once`)",
                said.ordinal,
                name_of(run, step),
                known.id.name
            );
            Err(Problem::conflict("effect_recorded", detail))
        }
        known => Ok((effect, known.map(|known| known.state))),
    }
}

/// The attempt ended well: it is on disk. The same word again is answered so again.
///
/// `POST /attempts/{attempt}/complete`
pub(super) async fn complete(
    app: App,
    Path(id): Path<String>,
    Body(done): Body<api::Completion>,
) -> Result<Json<api::Settled>, Problem> {
    let id = id_of(&id)?;
    let artifacts = done.artifacts.into_iter().map(made).collect::<Result<_, _>>()?;
    let Some(attempt) = here(&app, &id)? else { return late(&app, &id, &done.output).await };
    let schema = attempt.call.output.as_deref();
    let problems = schema.map_or_else(Vec::new, |schema| {
        kapelle_core::port::agent::wrong_with(schema, &done.output)
    });
    let output = Output { value: done.output.clone(), artifacts };
    match settle(&attempt, Ok(output)).await {
        Settled::Yes => {
            let status = if problems.is_empty() { "completed" } else { "failed" }.to_owned();
            Ok(Json(api::Settled { status, problems }))
        }
        Settled::No => late(&app, &id, &done.output).await,
        Settled::Unknown(why) => Err(Problem::later("outcome_unknown", why)),
    }
}

/// The attempt ended badly: it is on disk, and tried again if that is what the plan says.
///
/// `POST /attempts/{attempt}/fail`
pub(super) async fn fail(
    app: App,
    Path(id): Path<String>,
    Body(failure): Body<api::NewFailure>,
) -> Result<Json<api::Settled>, Problem> {
    let id = id_of(&id)?;
    let failure = failure_from(failure)?;
    let Some(attempt) = here(&app, &id)? else { return Err(gone(&app, &id).await?) };
    match settle(&attempt, Err(failure)).await {
        Settled::Yes => {
            Ok(Json(api::Settled { status: "failed".to_owned(), problems: Vec::new() }))
        }
        Settled::No => Err(gone(&app, &id).await?),
        Settled::Unknown(why) => Err(Problem::later("outcome_unknown", why)),
    }
}

/// What came of the last word on an attempt.
enum Settled {
    /// It is on disk.
    Yes,
    /// It came too late.
    No,
    /// Nobody knows.
    Unknown(String),
}

async fn settle(attempt: &Attempt, how: Result<Output, Failure>) -> Settled {
    if !attempt.hear() {
        return Settled::No;
    }
    let (receipt, told) = oneshot::channel();
    if !attempt.end(Ending { how, receipt }).await {
        return Settled::No;
    }
    let Ok(receipt) = told.await else { return Settled::No };
    match receipt.await {
        Ok(()) => Settled::Yes,
        Err(failure) if failure.certain => Settled::No,
        Err(failure) => Settled::Unknown(failure.message.into()),
    }
}

/// The attempt if it is at work here, and its worker's to speak of.
fn here(app: &App, id: &AttemptId) -> Result<Option<Arc<Attempt>>, Problem> {
    let Some(attempt) = app.registry().hub().attempt(app.tenant(), id) else { return Ok(None) };
    may_work(app, &attempt.whose.agent)?;
    app.registry().hub().note_heard(&attempt.whose, crate::now());
    Ok(Some(attempt))
}

/// An answer to an attempt that is not at work here: the one that it was completed with, or none.
async fn late(
    app: &App,
    id: &AttemptId,
    output: &api::Json,
) -> Result<Json<api::Settled>, Problem> {
    if let Ok(run) = app.engine().run(app.tenant(), id.run).await
        && let Some(step) = run.find(id.step.as_str()).and_then(|no| run.step(no))
        && step.attempt == Some(id.attempt)
        && step.status == StepStatus::Completed
        && Value::of(output.clone(), INLINE_MAX).0 == step.value
    {
        return Ok(Json(api::Settled { status: "completed".to_owned(), problems: Vec::new() }));
    }
    Err(gone(app, id).await?)
}

/// Why an attempt that is not here is not.
async fn gone(app: &App, id: &AttemptId) -> Result<Problem, Problem> {
    let run = match app.engine().run(app.tenant(), id.run).await {
        Ok(run) => run,
        Err(Error::NotFound) => return Ok(no_attempt(&id.to_string())),
        Err(error) => return Err(error.into()),
    };
    let Some(step) = run.find(id.step.as_str()).and_then(|no| run.step(no)) else {
        return Ok(no_attempt(&id.to_string()));
    };
    if step.attempts() < id.attempt.0 {
        return Ok(no_attempt(&id.to_string()));
    }
    if step.attempt == Some(id.attempt) && step.status == StepStatus::Running {
        if let Some(node) = app.engine().owner(id.run).await? {
            return Ok(Error::Elsewhere(node).into());
        }
        return Ok(unsettled());
    }
    let refusal = Refusal::StaleAttempt { step: id.step.clone(), attempt: id.attempt };
    let detail = format!("{refusal}: it was given up, or has ended; nothing was changed");
    Ok(Problem::conflict(STALE, detail))
}

fn id_of(text: &str) -> Result<AttemptId, Problem> {
    text.parse().map_err(|()| no_attempt(text))
}

pub(super) fn too_many_waiting() -> Problem {
    let detail = "as many wait for work of this agent as may: come again in a moment";
    Problem::later("too_many_waiting", detail)
}

pub(super) fn unsettled() -> Problem {
    let detail = "the attempt is just being taken over, or ending: repeat in a moment";
    Problem::later("attempt_unsettled", detail)
}

fn no_attempt(text: &str) -> Problem {
    Problem::not_found("attempt_not_found", format!("there is no attempt `{text}`"))
}

fn lease_ms(attempt: &Attempt) -> u64 {
    u64::try_from(attempt.lease.as_millis()).unwrap_or(u64::MAX)
}

/// A worker's word of how something failed.
fn failure_from(said: api::NewFailure) -> Result<Failure, Problem> {
    use FailureKind::{
        Cancelled, Crashed, Denied, Invalid, RateLimited, Refused, Timeout, Unavailable,
    };
    let kinds = [Invalid, Refused, Denied, Timeout, RateLimited, Unavailable, Crashed, Cancelled];
    let kind = match said.kind.as_deref() {
        None => Crashed,
        Some(text) => kinds.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known = kinds.map(FailureKind::as_str).join(", ");
            Problem::invalid("bad_body", format!("`kind`: `{text}` is none of {known}"))
        })?,
    };
    let code = said.code.unwrap_or_else(|| kind.as_str().to_owned());
    // Words of ours say what only we know.
    let own = kapelle_core::run::LACKING.contains(&&*code)
        || [kapelle_core::port::agent::NOT_BEGUN, "bad_output"].contains(&&*code);
    if code.is_empty() || code.len() > 64 || own {
        let detail = format!("`code`: `{code}` is taken, or not of 1 to 64 bytes");
        return Err(Problem::invalid("bad_body", detail));
    }
    let wait = said.retry_after.map(|text| {
        parse_duration(&text).ok_or_else(|| {
            let detail = format!("`retry_after`: `{text}` is no duration such as `10s`");
            Problem::invalid("bad_body", detail)
        })
    });
    let mut failure = Failure::new(kind, &code, said.message);
    failure.certain = !said.uncertain;
    failure.forget_from = said.forget_from;
    Ok(match wait.transpose()? {
        Some(wait) => failure.retry_after(wait),
        None => failure,
    })
}

fn made(new: api::NewArtifact) -> Result<Made, Problem> {
    let bad = |what: &str| Problem::invalid("bad_body", format!("artifact `{}`: {what}", new.name));
    let is_text = new.text.is_some();
    let content = match (new.text.clone(), new.base64.clone()) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(base64)) => {
            STANDARD.decode(base64).map_err(|error| bad(&format!("`base64`: {error}")))?
        }
        _ => return Err(bad("give either `text` or `base64`")),
    };
    let usual = if is_text { "text/plain" } else { "application/octet-stream" };
    let media_type = new.media_type.clone().unwrap_or_else(|| usual.to_owned());
    Ok(Made { name: new.name.into(), media_type: media_type.into(), content: content.into() })
}
