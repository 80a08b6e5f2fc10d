//! `/runs`: creating, listing and looking at runs.

use std::marker::PhantomData;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use kapelle_api as api;
use kapelle_core::RunId;
use kapelle_core::plan;
use kapelle_core::port::journal::{RunQuery, RunRow};
use kapelle_core::run::{
    Blocked, Message, Run, Skipped, Status, Step, StepStatus, StepView, Verdict,
};
use kapelle_engine::{Error, Fork, NewRun, Submitted};
use serde::Deserialize;

use super::body::{Body, Path, Query};
use super::door::audit;
use super::events::failure_of;
use super::looks::Shown;
use super::once::key_of;
use super::problem::{Problem, node_of};
use super::{App, artifacts, credentials, plans};

/// How many runs a page holds where nothing is said.
const PAGE: u32 = 100;
/// How many it holds at the most.
const PAGE_MAX: u32 = 1_000;
/// The longest `task_id`, in bytes: a submit key has room for 255 with what is put before it.
const TASK_ID_MAX: usize = 250;

/// Creates a run and works on it: 201, or 200 for one that was there under the same `task_id` or,
/// without one, the same `Idempotency-Key`.
///
/// `POST /runs`
pub(super) async fn create(
    app: App,
    headers: HeaderMap,
    Body(new): Body<api::NewRun>,
) -> Result<(StatusCode, Json<api::Submitted>), Problem> {
    let root = root_of(&app, new.root)?;
    let key = key_of(&headers)?;
    let task_id = task_of(new.task_id)?;
    let mut plan = plans::checked(&app, new.workflow, new.file, new.plan).await?;
    app.caller().check_plan(&plan)?;
    plan.manual |= new.manual;
    if let Some(max_parallel) = new.max_parallel {
        plan.max_parallel = max_parallel;
        let problems = plan::check(&mut plan, Some(app.engine().agents().of(app.tenant())));
        if problems.iter().any(kapelle_core::problem::Problem::is_error) {
            return Err(Problem::findings(&problems));
        }
    }
    let inputs = plan::inputs(&plan, new.inputs).map_err(|found| Problem::findings(&found))?;
    let tenant = app.tenant().clone();
    let by_key = task_id.is_none() && key.is_some();
    let plan = app.engine().prepare(&plan)?;
    let new = NewRun { tenant, plan, inputs, root, task_id, key };
    // The entry of the audit log is on disk with the run: nobody waits for a second commit.
    let note = |run: RunId| audit::note_of("made", &run.to_string(), StatusCode::CREATED);
    let done = app.engine().submit_noted(new, note).await;
    if done.as_ref().is_ok_and(|done| !done.existing) {
        audit::noted();
    }
    submitted(&app, done, by_key)
}

/// Creates a run that takes over what another one has done before a step and beside it: 201, or 200
/// for one that was there under the same `task_id` or `Idempotency-Key`.
///
/// `POST /runs/{run}/fork`
pub(super) async fn fork(
    app: App,
    Path(run): Path<String>,
    headers: HeaderMap,
    Body(how): Body<api::Fork>,
) -> Result<(StatusCode, Json<api::Submitted>), Problem> {
    let run = app.find(&run).await?;
    match app.engine().run(app.tenant(), run).await {
        Ok(parent) => app.caller().check_plan(&parent.plan().plan)?,
        // It was forked before, if it was, and that is the answer.
        Err(Error::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    let (task_id, key) = (task_of(how.task_id)?, key_of(&headers)?);
    let by_key = task_id.is_none() && key.is_some();
    let fork = Fork { run, from: how.from.into(), inputs: how.inputs, task_id, key };
    submitted(&app, app.engine().fork(app.tenant(), fork).await, by_key)
}

/// What came of a submit.
fn submitted(
    app: &App,
    submitted: Result<Submitted, Error>,
    by_key: bool,
) -> Result<(StatusCode, Json<api::Submitted>), Problem> {
    let submitted = submitted.map_err(|error| match error {
        Error::Conflict { .. } if by_key => Problem::key_reused(&error),
        error => error.into(),
    })?;
    if !submitted.existing {
        app.note_asked(submitted.run);
    }
    let status = if submitted.existing { StatusCode::OK } else { StatusCode::CREATED };
    let (id, existing) = (submitted.run.to_string(), submitted.existing);
    audit::made(if existing { "existing" } else { "made" }, &id);
    Ok((status, Json(api::Submitted { id, existing })))
}

fn task_of(id: Option<String>) -> Result<Option<Box<str>>, Problem> {
    if id.as_ref().is_some_and(|id| id.is_empty() || id.len() > TASK_ID_MAX) {
        let detail = format!("`task_id` has 1 to {TASK_ID_MAX} bytes");
        return Err(Problem::invalid("bad_body", detail));
    }
    Ok(id.map(String::into_boxed_str))
}

/// Where the paths of a run begin. Who is not the store's owner has no say over all of this machine.
fn root_of(app: &App, root: Option<String>) -> Result<Box<str>, Problem> {
    let wanted = match root {
        Some(root) if !std::path::Path::new(&root).is_absolute() => {
            let detail = format!("`root` is an absolute folder, not `{root}`");
            return Err(Problem::invalid("bad_body", detail));
        }
        None if app.caller().is_owner => {
            let here =
                std::env::current_dir().ok().and_then(|here| Some(here.to_str()?.to_owned()));
            return Ok(here.unwrap_or_else(|| "/".to_owned()).into());
        }
        Some(root) if app.caller().is_owner => return Ok(root.into()),
        wanted => wanted,
    };
    app.inner.roots.of(app.tenant(), wanted.as_deref())
}

/// A page of the list of runs, newest first.
///
/// `GET /runs?status=&workflow=&limit=&cursor=`
pub(super) async fn list(
    app: App,
    Query(query): Query<api::RunsQuery>,
) -> Result<Json<api::Page<api::RunSummary>>, Problem> {
    let before = query.cursor.as_deref().map(str::parse::<RunId>).transpose();
    let before = before.map_err(|error| Problem::invalid("bad_query", format!("{error}")))?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid("bad_query", format!("`limit` is 1 to {PAGE_MAX}")));
    }
    let text = |text: Option<String>| text.map(String::into_boxed_str);
    let (status, workflow) = (text(query.status), text(query.workflow));
    let query = RunQuery { status, workflow, before, limit };
    let rows = app.engine().journal().runs(app.tenant(), &query).await?;
    let full = rows.len() >= limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| row.run.to_string());
    Ok(Json(api::Page { items: rows.iter().map(summary).collect(), next_cursor }))
}

fn summary(row: &RunRow) -> api::RunSummary {
    api::RunSummary {
        id: row.run.to_string(),
        workflow: row.workflow.to_string(),
        task_id: row.task_id.as_deref().map(str::to_owned),
        status: row.status.to_string(),
        created_at: row.created_at.to_string(),
        updated_at: row.updated_at.to_string(),
        ended_at: row.ended_at.map(|at| at.to_string()),
    }
}

/// Of which moment.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Moment {
    /// As it was after this event, from 1.
    at: Option<u64>,
}

/// A run with its steps and what they gave, as it is or as it was after the event `at`.
///
/// `GET /runs/{run}?at=`
pub(super) async fn show(
    app: App,
    Path(run): Path<String>,
    Query(moment): Query<Moment>,
) -> Result<Shown<api::Run>, Problem> {
    let id = app.find(&run).await?;
    // Before it is read: what happens meanwhile makes it another one.
    let version = app.engine().version(id).filter(|_| moment.at.is_none());
    let version = version.map(|version| (version, app.works_on(id)));
    if let Some(shown) = app.inner.looks.get(app.tenant(), id, version) {
        return Ok(Shown(shown, PhantomData));
    }
    let run = match moment.at {
        None => app.engine().run(app.tenant(), id).await?,
        Some(seq) => app.engine().run_at(app.tenant(), id, seq).await?,
    };
    // Who works on it and what it takes is not known of a moment before.
    let (node, bytes) = match moment.at {
        None => {
            let me = app.works_on(id).then(|| app.engine().nodes().me());
            let node = app.engine().owner(id).await?.as_ref().or(me).map(node_of);
            (node, Some(app.engine().journal().bytes(app.tenant(), id).await?))
        }
        Some(_) => (None, None),
    };
    let mut steps = Vec::with_capacity(run.steps().len());
    for view in run.view() {
        steps.push(step(&app, &run, view).await?);
    }
    let output = match run.ended() {
        Some(ended) => value(&app, &run, &ended.output).await?,
        None => serde_json::Value::Null,
    };
    let shown = api::Run {
        id: id.to_string(),
        workflow: run.workflow().to_owned(),
        task_id: run.task_id().map(str::to_owned),
        status: run.status().as_str().to_owned(),
        detail: detail(&run),
        forked: run.forked().map(|forked| api::Forked {
            run: forked.run.to_string(),
            seq: forked.seq,
            from: run.name(forked.from).map_or_else(String::new, ToString::to_string),
        }),
        steps,
        output,
        artifacts: artifacts::of_run(&app, &run),
        messages: messages(&run),
        bytes,
        inputs: credentials::without(value(&app, &run, run.inputs()).await?),
        root: run.root().to_owned(),
        seq: run.seq(),
        created_at: run.created_at().to_string(),
        updated_at: run.last_at().to_string(),
        ended_at: run.ended().map(|ended| ended.at.to_string()),
        node,
    };
    let shown = Bytes::from(serde_json::to_vec(&shown).expect("it is JSON"));
    if run.ended().is_none() {
        app.inner.looks.keep(app.tenant(), id, version, &shown);
    }
    Ok(Shown(shown, PhantomData))
}

fn messages(run: &Run) -> Vec<api::Message> {
    let name = |no| run.name(no).map_or_else(String::new, ToString::to_string);
    let one = |message: &Message| api::Message {
        at: message.at.to_string(),
        from: name(message.from),
        to: message.to.iter().map(|no| name(*no)).collect(),
        text: message.text.to_string(),
    };
    run.messages().map(one).collect()
}

fn detail(run: &Run) -> Option<String> {
    let detail = match (run.status(), run.ended(), run.paused()) {
        (Status::Ended(_), Some(ended), _) => &*ended.detail,
        (Status::Paused, _, Some(reason)) => reason,
        _ => "",
    };
    let says_more = !detail.is_empty() && detail != run.status().as_str();
    says_more.then(|| detail.to_owned())
}

async fn step(app: &App, run: &Run, view: StepView<'_>) -> Result<api::Step, Problem> {
    let step = view.step;
    Ok(api::Step {
        id: step.id.to_string(),
        status: status_of(run, step).to_owned(),
        agent: view.agent.map(str::to_owned),
        attempts: step.attempts(),
        started_at: step.started_at.map(|at| at.to_string()),
        ended_at: step.ended_at.map(|at| at.to_string()),
        output: value(app, run, &step.value).await?,
        failure: step.failure.as_deref().map(failure_of),
        reason: reason_of(run, step),
    })
}

/// Where a step stands. What had not ended when its run was cancelled never will.
pub(super) fn status_of(run: &Run, step: &Step) -> &'static str {
    match run.ended() {
        Some(ended) if !step.status.is_final() && ended.verdict == Verdict::Cancelled => {
            "cancelled"
        }
        _ => step.status.as_str(),
    }
}

/// Why it was skipped, is blocked or has to wait.
pub(super) fn reason_of(run: &Run, step: &Step) -> Option<String> {
    match &step.status {
        StepStatus::Completed | StepStatus::Failed if step.is_taken() => {
            run.forked().map(|forked| {
                format!("it was done by run {}, which this one was forked from", forked.run)
            })
        }
        StepStatus::Skipped(Skipped::Condition) => Some("its `when` gave false".to_owned()),
        StepStatus::Skipped(Skipped::Person) => Some("a person said so".to_owned()),
        StepStatus::Skipped(Skipped::Needs { step: needs, blame }) => {
            let name = |no| run.name(no).map_or("?", kapelle_core::StepId::as_str);
            let (needs, blame) = (name(*needs), name(*blame));
            Some(format!("it needs `{needs}`, which was not done: see `{blame}`"))
        }
        StepStatus::Blocked(Blocked::InDoubt { deaths: deaths @ 1.., .. }) => Some(format!(
            "poison: {deaths} nodes in a row died soon after they began it; mend it, then resolve it"
        )),
        StepStatus::Blocked(Blocked::InDoubt { workers: workers @ 1.., .. }) => Some(format!(
            "poison: {workers} workers in a row were lost with it (`retry.maxLost`); mend it, then resolve it"
        )),
        StepStatus::Ready if step.is_suspect() => {
            Some(format!("{} nodes died with it: one such step begins at a time", step.deaths()))
        }
        StepStatus::Blocked(Blocked::InDoubt { .. }) => {
            Some("in doubt: whether its call was made is not known".to_owned())
        }
        StepStatus::Blocked(Blocked::Budget { said, .. }) => Some(said.to_string()),
        StepStatus::Blocked(Blocked::Account { limit, .. }) => Some(limit.to_string()),
        StepStatus::Blocked(Blocked::Question { question, .. }) => {
            let choices = question.choices.join("`, `");
            let choices =
                if choices.is_empty() { choices } else { format!(" (one of `{choices}`)") };
            Some(format!("it asks: {}{choices}", question.text))
        }
        StepStatus::Blocked(Blocked::NoAgent { lacks, .. }) if !lacks.is_empty() => {
            Some(lacks.to_string())
        }
        StepStatus::Blocked(Blocked::NoAgent { agent, .. }) => {
            Some(format!("no agent `{agent}` is at hand"))
        }
        _ => None,
    }
}

async fn value(
    app: &App,
    run: &Run,
    value: &kapelle_core::Value,
) -> Result<serde_json::Value, Problem> {
    Ok((*app.engine().value(app.tenant(), run, value).await?).clone())
}
