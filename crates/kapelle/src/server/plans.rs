//! `/check`, `/plans`, `/schemas`: what can be said before anything runs.

use axum::Json;
use kapelle_api as api;
use kapelle_core::StepId;
use kapelle_core::plan::{self, Plan};
use kapelle_core::port::Agents;
use kapelle_core::problem as core;
use kapelle_core::workflow::{self, Workflow};

use super::App;
use super::body::Body;
use super::problem::{Problem, finding};

/// What is read at once: a text of so many bytes, or a plan of so many steps.
const SHORT_TEXT: usize = 2 << 10;
const SHORT_PLAN: usize = 10;

/// Everything that is wrong with a workflow or a plan.
///
/// `POST /check`
pub(super) async fn check(
    app: App,
    Body(request): Body<api::CheckRequest>,
) -> Result<Json<api::Checked>, Problem> {
    let (_, problems) = read(&app, request.workflow, request.file, request.plan).await?;
    let ok = !problems.iter().any(core::Problem::is_error);
    Ok(Json(api::Checked { ok, problems: problems.iter().map(finding).collect() }))
}

/// Waves, critical path and duration of a workflow or a plan.
///
/// `POST /plans/analyze`
pub(super) async fn analyze(
    app: App,
    Body(request): Body<api::PlanRequest>,
) -> Result<Json<api::Analysis>, Problem> {
    let plan = checked(&app, request.workflow, request.file, request.plan).await?;
    Ok(Json(shown(plan::analyze(&plan))))
}

fn shown(analysis: plan::Analysis) -> api::Analysis {
    let ids = |ids: Vec<StepId>| ids.iter().map(StepId::to_string).collect::<Vec<_>>();
    let step = |step: plan::StepAnalysis| api::StepAnalysis {
        id: step.id.to_string(),
        agent: step.agent.map(Into::into),
        needs: ids(step.needs),
        wave: step.wave,
        estimate_ms: step.estimate_ms,
        assumed: step.assumed,
        priority: step.priority,
        for_each: step.for_each,
    };
    api::Analysis {
        waves: analysis.waves.into_iter().map(ids).collect(),
        critical_path: ids(analysis.critical_path),
        critical_path_ms: analysis.critical_path_ms,
        estimated_duration_ms: analysis.estimated_duration_ms,
        max_parallelism: analysis.max_parallelism,
        steps: analysis.steps.into_iter().map(step).collect(),
    }
}

/// The JSON Schema of workflow files.
///
/// `GET /schemas/workflow.json`
pub(super) async fn schema() -> Json<serde_json::Value> {
    Json(workflow::schema())
}

/// The plan of a request, or all that is wrong with it.
pub(super) async fn checked(
    app: &App,
    workflow: Option<String>,
    file: Option<String>,
    plan: Option<serde_json::Value>,
) -> Result<Plan, Problem> {
    let (plan, problems) = read(app, workflow, file, plan).await?;
    plan.ok_or_else(|| Problem::findings(&problems))
}

async fn read(
    app: &App,
    workflow: Option<String>,
    file: Option<String>,
    plan: Option<serde_json::Value>,
) -> Result<(Option<Plan>, Vec<core::Problem>), Problem> {
    let (agents, tenant) = (app.agents().await, app.tenant().clone());
    let is_short = match (&workflow, &plan) {
        (Some(text), _) => text.len() <= SHORT_TEXT,
        (None, plan) => {
            let steps = plan.as_ref().and_then(|plan| plan["steps"].as_array());
            steps.is_some_and(|steps| steps.len() <= SHORT_PLAN)
        }
    };
    let work = move || match (workflow, plan) {
        (Some(text), None) => {
            let name = file.as_deref().unwrap_or("workflow");
            let read = Workflow::read(name, text.as_bytes(), Some(agents.of(&tenant)));
            Ok((read.workflow.map(|workflow| workflow.plan), read.problems))
        }
        (None, Some(json)) => Ok(read_plan(json, agents.of(&tenant))?),
        _ => Err(Problem::invalid("bad_body", "give either `workflow` or `plan`")),
    };
    if is_short {
        return work();
    }
    // A large one takes a while, and others wait for this thread.
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Problem::invalid("bad_body", "it cannot be read")))
}

fn read_plan(
    json: serde_json::Value,
    agents: &Agents,
) -> Result<(Option<Plan>, Vec<core::Problem>), Problem> {
    let mut unknown = Vec::new();
    // The journal's plans ignore unknown fields; a client's are typing errors.
    let parsed: Result<Plan, _> =
        serde_ignored::deserialize(json, |path| unknown.push(path.to_string()));
    let mut plan = match parsed {
        Ok(plan) => plan,
        Err(error) => return Err(Problem::invalid("bad_body", format!("`plan`: {error}"))),
    };
    let unknown = unknown.iter().map(|field| {
        let message = format!("a plan has no field `{field}`");
        core::Problem::error(core::Code::UnknownField, field.as_str(), message)
    });
    let mut problems: Vec<_> = unknown.collect();
    problems.extend(plan::check(&mut plan, Some(agents)));
    let usable = !problems.iter().any(core::Problem::is_error);
    Ok((usable.then_some(plan), problems))
}
