//! `/runs/{run}/why` and `/runs/{run}/steps/{step}/why`: why something stands where it stands.
//!
//! **Invariant:** all that is said follows from the journal, the plan and who owns the run; what only
//! the node at work knows (its free slots, agents it leaves alone) is named as what it may wait for.

mod reasons;
mod tale;

use axum::Json;
use kapelle_api as api;
use kapelle_core::StepNo;
use kapelle_core::run::{Blocked, Run, StepStatus};

use super::alerts::no_worker;
use super::body::Path;
use super::problem::Problem;
use super::runs::status_of;
use super::{App, bill};
use reasons::Told;
use tale::Tale;

/// At most so many steps are told of with their run.
const LINES_MAX: usize = 20;

/// Why a run is where it is.
///
/// `GET /runs/{run}/why`
pub(super) async fn of_run(app: App, Path(run): Path<String>) -> Result<Json<api::Why>, Problem> {
    let run = loaded(&app, &run).await?;
    let tale = tale::read(&app, &run, None).await?;
    let told = told(&app, &run, &tale).await?;
    let mut steps: Vec<_> =
        run.view().filter_map(|view| Some((rank(&run, view.no)?, view.no))).collect();
    steps.sort_unstable();
    let line = |no| api::Line {
        step: name(&run, no),
        status: status_of(&run, &run.steps()[no.index()]).to_owned(),
        reason: told.step(no).swap_remove(0),
    };
    let lines = steps.iter().take(LINES_MAX).map(|(_, no)| line(*no)).collect();
    let (reasons, mut unblock) = told.whole();
    unblock.extend(steps.iter().take(LINES_MAX).flat_map(|(_, no)| told.help(*no)));
    unblock.dedup();
    Ok(Json(api::Why {
        run: run.id().to_string(),
        step: None,
        status: run.status().as_str().to_owned(),
        reasons,
        unblock,
        agent: None,
        attempts: Vec::new(),
        calls: Vec::new(),
        steps: lines,
        more_steps: steps.len().saturating_sub(LINES_MAX) as u64,
        cost: tale.cost(told.now),
    }))
}

/// Why a step is where it is.
///
/// `GET /runs/{run}/steps/{step}/why`
pub(super) async fn of_step(
    app: App,
    Path((run, step)): Path<(String, String)>,
) -> Result<Json<api::Why>, Problem> {
    let run = loaded(&app, &run).await?;
    let Some(no) = run.find(&step) else {
        let detail = format!("run `{}` has no step `{step}`", run.id());
        return Err(Problem::not_found("step_not_found", detail));
    };
    let tale = tale::read(&app, &run, Some(no)).await?;
    let told = told(&app, &run, &tale).await?;
    let mut reasons = told.step(no);
    if let StepStatus::Blocked(Blocked::InDoubt { ordinal, .. }) = run.steps()[no.index()].status {
        reasons.extend(bill::in_doubt(&app, &run, (no, ordinal)).await?);
    }
    reasons.extend(bill::of_tools(&app, &run, no).await?);
    Ok(Json(api::Why {
        run: run.id().to_string(),
        step: Some(name(&run, no)),
        status: status_of(&run, &run.steps()[no.index()]).to_owned(),
        reasons,
        unblock: told.help(no),
        agent: told.agent(no),
        cost: tale.cost(told.now),
        attempts: tale.attempts(&run, no, told.now),
        calls: bill::calls(&app, &run, no).await?,
        steps: Vec::new(),
        more_steps: 0,
    }))
}

async fn loaded(app: &App, run: &str) -> Result<Run, Problem> {
    let id = app.find(run).await?;
    Ok(app.engine().run(app.tenant(), id).await?)
}

async fn told<'a>(app: &App, run: &'a Run, tale: &'a Tale) -> Result<Told<'a>, Problem> {
    let worked_on = is_worked_on(app, run).await?;
    let idle = run
        .plan()
        .agents()
        .filter_map(|agent| Some((agent.into(), no_worker(app, app.tenant(), agent)?)));
    let (idle, cancelled) = (idle.collect(), tale.cancelled.as_deref());
    Ok(Told { run, now: crate::now(), worked_on, cancelled, idle })
}

async fn is_worked_on(app: &App, run: &Run) -> Result<bool, Problem> {
    Ok(app.engine().owner(run.id()).await?.is_some() || app.works_on(run.id()))
}

/// How much a step holds up its run, first most; `None` where there is nothing to say of it.
fn rank(run: &Run, no: StepNo) -> Option<u8> {
    Some(match run.steps()[no.index()].status {
        StepStatus::Failed => 0,
        StepStatus::Blocked(_) => 1,
        StepStatus::Asked => 2,
        StepStatus::Retrying(_) => 3,
        StepStatus::Running => 4,
        StepStatus::Ready => 5,
        StepStatus::Skipped(_) => 6,
        StepStatus::Waiting | StepStatus::Grown | StepStatus::Completed | StepStatus::Dropped => {
            return None;
        }
    })
}

fn name(run: &Run, no: StepNo) -> String {
    run.name(no).map_or_else(|| "?".to_owned(), ToString::to_string)
}
