//! The routes of a node: one table of what there is, and what whoever asks must be permitted.
//!
//! **Invariant:** a route cannot be without a word on who may take it: [`to`] asks for one.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state, map_response_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use kapelle_engine::EXPORT_MAX;

use super::door::Caller;
use super::door::audit::{Asked, Weight};
use super::door::guard::{Guard, Peer, look};
use super::door::limits::{Lane, Limits};
use super::door::permission::Permission::{
    self, AgentRead, AgentWork, AgentWrite, BudgetRaise, RunApprove, SystemAdmin, SystemRead,
    TaskCancel, TaskRead, TaskSubmit,
};
use super::once::Once::{self, Begun, ByEngine, Unheeded};
use super::once::once as only_once;
use super::openapi::{self, Operation, Told};
use super::problem::Problem;
use super::rooms::{Kind, Place};
use super::{
    App, agents, alerts, artifacts, audit, bill, control, diff, keys, manual, metrics, plans,
    problem, prune, runs, streams,
};
use super::{healthz, readyz, registry, tickets, transfer, why, work};

/// The longest body of a request that may hold a workflow, in bytes.
const PLAN_BODY_MAX: usize = 32 << 20;
/// The longest body that registers an agent, in bytes.
const REGISTRATION_MAX: usize = 64 << 10;
/// The longest body of any other request, in bytes.
const BODY_MAX: usize = 1 << 20;

/// What is wrong with a plan that is to be run.
const PLAN: &[&str] = &["invalid", "bad_plan", "root_not_allowed", "task_conflict", "run_pruned"];
/// With what any route about a run refuses, and any that changes something.
const RUN: &[&str] = &["run_not_found", "ambiguous_id", "run_pruned", "run_damaged"];
const CHANGE: &[&str] = &["draining", "outcome_unknown", "store_full"];
const COMMAND: &[&str] = &["elsewhere", "run_ended", "run_stopping", "stale_attempt"];

/// What any word about an attempt is refused with.
const ATTEMPT: &[&str] = &[
    "attempt_not_found",
    "stale_attempt",
    "attempt_unsettled",
    "elsewhere",
    "effect_recorded",
    "run_ended",
    "run_stopping",
];

/// A route.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// `None`: it is open to all.
    pub(super) needs: Option<Permission>,
    /// What it does, for people.
    pub(super) summary: &'static str,
    /// Codes of its own with which it refuses.
    pub(super) refuses: &'static [&'static str],
    /// The media type of its answer, where that is no JSON.
    pub(super) gives: Option<&'static str>,
    /// What becomes of `Idempotency-Key`.
    pub(super) once: Once,
    /// What its handler takes and gives.
    pub(super) tell: fn(&mut Operation),
    /// The longest body, in bytes.
    body_max: usize,
    /// What it is to the audit log.
    weight: Weight,
    /// What room it takes.
    kind: Kind,
    handler: MethodRouter<App>,
}

fn to<T: 'static, U, H: Handler<T, App> + Told<U>>(
    method: Method,
    path: &'static str,
    needs: impl Into<Option<Permission>>,
    handler: H,
    summary: &'static str,
) -> Route {
    let filter = MethodFilter::try_from(method.clone()).expect("a usual method");
    let (needs, handler, tell) = (needs.into(), on(filter, handler), H::tell);
    let once = if method == Method::POST { Once::Kept } else { Once::Unheeded };
    let (refuses, gives, body_max) = (&[][..], None, BODY_MAX);
    let weight = match needs {
        None => Weight::Open,
        Some(_) if method == Method::GET => Weight::Reads,
        Some(AgentWork) => Weight::Works,
        Some(_) => Weight::Changes,
    };
    let kind = Kind::of(needs, method == Method::GET);
    Route {
        method,
        path,
        needs,
        summary,
        refuses,
        gives,
        once,
        tell,
        body_max,
        weight,
        kind,
        handler,
    }
}

impl Route {
    fn with_body_of(self, body_max: usize) -> Self {
        Self { body_max, ..self }
    }

    fn refusing(self, refuses: &'static [&'static str]) -> Self {
        Self { refuses, ..self }
    }

    fn giving(self, media_type: &'static str) -> Self {
        Self { gives: Some(media_type), ..self }
    }

    /// It takes another room than others of its permission.
    fn taking(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// It changes nothing, though its method says so.
    fn reading(self) -> Self {
        Self { weight: Weight::Reads, ..self }
    }

    /// It changes what there is, though it is for those who work.
    fn changing(self) -> Self {
        Self { weight: Weight::Changes, ..self }
    }

    /// All codes with which it refuses, but for those of all routes.
    pub(super) fn codes(&self) -> impl Iterator<Item = &'static str> {
        let about_run = self.path.contains("{run}");
        let changes = self.method != Method::GET;
        let of = |is: bool, codes: &'static [&'static str]| if is { codes } else { &[] };
        let step = of(self.path.contains("{step}"), &["step_not_found"]);
        let groups = [of(about_run, RUN), of(changes, CHANGE), of(about_run && changes, COMMAND)];
        [groups[0], groups[1], groups[2], step, self.refuses].into_iter().flatten().copied()
    }

    /// Whether it waits for what comes.
    #[cfg(test)]
    pub(super) fn stays(&self) -> bool {
        self.kind == Kind::Stays
    }

    fn once(self, once: Once) -> Self {
        Self { once, ..self }
    }
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    [of_runs(), of_agents(), of_the_rest()].into_iter().flatten().collect()
}

fn of_runs() -> Vec<Route> {
    vec![
        to(GET, "/runs", TaskRead, runs::list, "List runs, newest first"),
        to(POST, "/runs", TaskSubmit, runs::create, "Create a run and work on it")
            .once(ByEngine)
            .refusing(PLAN)
            .with_body_of(PLAN_BODY_MAX)
            .taking(Kind::Begins),
        to(GET, "/runs/{run}", TaskRead, runs::show, "A run with its steps and what they gave")
            .refusing(&["bad_query"]),
        to(
            GET,
            "/runs/{run}/events",
            TaskRead,
            streams::events,
            "What happens in a run: events on disk, then live",
        )
        .taking(Kind::Stays),
        to(
            POST,
            "/stream-tickets",
            TaskRead,
            tickets::issue,
            "Open a stream once without a header, within 30 s",
        )
        .once(Unheeded)
        .refusing(&[
            "run_not_found",
            "ambiguous_id",
            "run_pruned",
            "run_damaged",
            "too_many_tickets",
        ]),
        to(GET, "/runs/{run}/diff/{other}", TaskRead, diff::diff, "What differs between two runs"),
        to(POST, "/runs/{run}/fork", TaskSubmit, runs::fork, "Do a run anew from a step on")
            .once(ByEngine)
            .taking(Kind::Begins)
            .refusing(&[
                "step_not_found",
                "task_conflict",
                "run_open",
                "invalid",
                "bad_plan",
                "root_not_allowed",
            ]),
        to(GET, "/runs/{run}/why", TaskRead, why::of_run, "Why a run stands where it stands"),
        to(
            GET,
            "/runs/{run}/steps/{step}/why",
            TaskRead,
            why::of_step,
            "Why a step stands where it stands",
        ),
        to(POST, "/runs/{run}/pause", TaskCancel, control::pause, "Begin no new attempts"),
        to(POST, "/runs/{run}/resume", TaskCancel, control::resume, "Go on with a run")
            .refusing(&["not_paused"]),
        to(POST, "/runs/{run}/cancel", TaskCancel, control::cancel, "End a run"),
        to(POST, "/runs/{run}/approvals/{step}", RunApprove, control::approve, "Approve or reject")
            .refusing(&["not_yours", "not_asked"]),
        to(
            POST,
            "/runs/{run}/steps/{step}/resolve",
            RunApprove,
            control::resolve,
            "Decide about a blocked step",
        )
        .refusing(&["not_blocked", "cannot_grow"]),
        to(
            POST,
            "/runs/{run}/steps/{step}/answer",
            RunApprove,
            control::answer,
            "Answer what a step asks",
        )
        .refusing(&["no_question", "no_answer"]),
        to(POST, "/runs/{run}/budget", BudgetRaise, bill::raise, "Let a run or a step spend more")
            .once(Begun)
            .refusing(&["no_budget", "step_not_found"]),
        to(GET, "/runs/{run}/bill", TaskRead, bill::bill, "What a run has cost"),
    ]
}

fn of_agents() -> Vec<Route> {
    vec![
        to(GET, "/alerts", TaskRead, alerts::list, "Agents that runs wait for"),
        to(GET, "/agents", AgentRead, agents::list, "List agents"),
        // A key that may do an agent's work may register that agent: the handler looks.
        to(
            POST,
            "/agents",
            AgentWork,
            registry::register,
            "Register an agent whose work workers do",
        )
        .changing()
        .taking(Kind::Work)
        .refusing(&["invalid", "agent_conflict", "too_many_agents"])
        .with_body_of(REGISTRATION_MAX),
        to(
            GET,
            "/agents/{name}",
            AgentRead,
            agents::show,
            "An agent, with the schemas of its actions",
        )
        .refusing(&["agent_not_found"]),
        to(PATCH, "/agents/{name}", AgentWrite, registry::update, "Change a registered agent")
            .refusing(&["invalid", "agent_not_found", "agent_conflict"])
            .with_body_of(REGISTRATION_MAX),
        to(DELETE, "/agents/{name}", AgentWrite, registry::unregister, "Remove a registered agent")
            .refusing(&["agent_not_found"]),
        to(GET, "/agents/{name}/work", AgentWork, work::work, "Wait for something to do")
            .taking(Kind::Stays)
            .refusing(&["agent_not_found", "too_many_waiting", "draining"]),
        to(
            POST,
            "/attempts/{attempt}/heartbeat",
            AgentWork,
            work::heartbeat,
            "A worker lives; whether it is still wanted",
        )
        .once(Unheeded)
        .refusing(ATTEMPT),
        to(
            POST,
            "/attempts/{attempt}/effects",
            AgentWork,
            work::effect,
            "Have an outside call on record",
        )
        .refusing(ATTEMPT)
        .with_body_of(PLAN_BODY_MAX),
        to(
            POST,
            "/attempts/{attempt}/complete",
            AgentWork,
            work::complete,
            "An attempt ended well",
        )
        .refusing(ATTEMPT)
        .with_body_of(PLAN_BODY_MAX),
        to(POST, "/attempts/{attempt}/fail", AgentWork, work::fail, "An attempt ended badly")
            .refusing(ATTEMPT),
    ]
}

fn of_the_rest() -> Vec<Route> {
    let export_max = usize::try_from(EXPORT_MAX).unwrap_or(usize::MAX);
    vec![
        to(GET, "/budgets", TaskRead, bill::budgets, "How the limits of all runs together stand"),
        to(GET, "/runs/{run}/artifacts", TaskRead, artifacts::list, "What a run made"),
        to(GET, "/artifacts/{digest}", TaskRead, artifacts::get, "The content of an artifact")
            .refusing(&["bad_digest", "artifact_not_found"]),
        to(GET, "/export", TaskRead, transfer::export, "Runs that have ended, as one file")
            .refusing(&[
                "run_not_found",
                "run_open",
                "ambiguous_id",
                "run_damaged",
                "body_too_large",
            ]),
        to(POST, "/import", SystemAdmin, transfer::import, "Take in the runs of such a file")
            .refusing(&["bad_export", "run_conflict", "run_pruned"])
            .with_body_of(export_max),
        to(POST, "/prune", SystemAdmin, prune::prune, "Remove runs that have ended"),
        to(
            POST,
            "/check",
            TaskSubmit,
            plans::check,
            "Everything that is wrong with a workflow or a plan",
        )
        .once(Unheeded)
        .reading()
        .with_body_of(PLAN_BODY_MAX),
        to(
            POST,
            "/plans/analyze",
            TaskSubmit,
            plans::analyze,
            "Waves, critical path and duration of a plan",
        )
        .once(Unheeded)
        .reading()
        .refusing(PLAN)
        .with_body_of(PLAN_BODY_MAX),
        to(POST, "/keys", SystemAdmin, keys::create, "Make a key").once(Unheeded),
        to(GET, "/keys", SystemAdmin, keys::list, "List keys"),
        to(DELETE, "/keys/{key}", SystemAdmin, keys::revoke, "Make a key open nothing any more")
            .refusing(&["key_not_found"]),
        to(
            GET,
            "/audit",
            SystemAdmin,
            audit::list,
            "Who did what, and who was refused: newest first",
        ),
        to(GET, "/schemas/workflow.json", None, plans::schema, "The JSON Schema of workflow files"),
        to(GET, "/openapi.json", None, openapi::document, "This description"),
        to(GET, "/docs", None, manual::page, "This description, as a page to read")
            .giving("text/html"),
        to(GET, "/readyz", None, readyz, "Whether the node takes work")
            .taking(Kind::Word)
            .refusing(&["draining"]),
        to(GET, "/metrics", SystemRead, metrics::metrics, "What this node counts, for Prometheus")
            .giving("text/plain"),
        to(GET, "/healthz", None, healthz, "Whether the node is there").taking(Kind::Word),
    ]
}

/// The same behind a door in the network.
pub(crate) fn guarded(app: App, guard: Arc<Guard>) -> Router {
    // Whoever the guard does not name is nobody.
    let app = app.on_behalf_of(Arc::new(Caller::nobody()));
    let metrics = app.inner.metrics.clone();
    let router = limited(app, Some(&guard.limits)).layer(from_fn_with_state(guard, look));
    router.layer(map_response_with_state(metrics, counted))
}

/// Counts an answer that says to come again later.
async fn counted(State(metrics): State<Arc<metrics::Metrics>>, answer: Response) -> Response {
    if let Some(code) = problem::later(&answer) {
        metrics.refused(code);
    }
    answer
}

/// A router over all of them.
pub(crate) fn router(app: App) -> Router {
    limited(app, None)
}

/// The same, where so much is taken of each who asks, and of all.
fn limited(app: App, limits: Option<&Arc<Limits>>) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, route| {
        let Route { method, path, needs, once, body_max, weight, kind, handler, .. } = route;
        let limits = limits.cloned();
        let entry = Arc::new(Entry { method, path, needs, once, body_max, weight, kind, limits });
        let check =
            move |app: App, request: Request, next: Next| entry.clone().answer(app, request, next);
        let limit = DefaultBodyLimit::max(body_max);
        router.route(path, handler.layer(limit).layer(from_fn_with_state(app.clone(), check)))
    });
    router
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(app)
}

/// What is looked at before a route's handler, and after it.
struct Entry {
    method: Method,
    path: &'static str,
    needs: Option<Permission>,
    once: Once,
    body_max: usize,
    weight: Weight,
    kind: Kind,
    /// Of a door in the network.
    limits: Option<Arc<Limits>>,
}

impl Entry {
    async fn answer(self: Arc<Self>, app: App, mut request: Request, next: Next) -> Response {
        let place = match self.let_in(&app, &mut request) {
            Ok(place) => place,
            Err(problem) => return problem.into_response(),
        };
        let (path, weight, kind) = (self.path, self.weight, self.kind);
        let (began, metrics) = (Instant::now(), app.inner.metrics.clone());
        let method = self.method.clone();
        let answer = self.heard(app, request, next);
        let answer = match weight {
            Weight::Changes | Weight::Works => to_its_end(answer, place.clone()).await,
            Weight::Reads | Weight::Open => answer.await,
        };
        // Work that was given out is told whatever there is room for.
        let only_tells = weight == Weight::Reads && kind != Kind::Stays;
        let answer = match place {
            Some(place) if weight != Weight::Open => place.keep(answer, only_tells),
            _ => answer,
        };
        metrics.answered(path, &method, answer.status(), began.elapsed());
        answer
    }

    /// Refuses whoever asks too much, or where there is no room.
    fn let_in(&self, app: &App, request: &mut Request) -> Result<Option<Place>, Problem> {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        let (Some(limits), Some(peer)) = (&self.limits, peer) else { return Ok(None) };
        // Who may not come in has a limit at the door, and takes no room.
        if self.needs.is_some() && app.caller.is_nobody() {
            return Ok(None);
        }
        limits.take(Lane::of(self.needs), &app.caller, peer)?;
        let runs = if self.kind == Kind::Begins { app.engine().open_runs() } else { 0 };
        let place = app.rooms().enter(self.kind, (runs, self.body_max), request)?;
        request.extensions_mut().insert(place.clone());
        Ok(Some(place))
    }

    /// Does what is asked, of which the audit log takes note.
    async fn heard(self: Arc<Self>, app: App, request: Request, next: Next) -> Response {
        let asked = Asked {
            method: self.method.clone(),
            route: Some(self.path),
            needs: self.needs,
            peer: request.extensions().get::<Peer>().map(|peer| peer.0),
            path: request.uri().clone(),
        };
        let (audit, caller) = (app.audit().clone(), app.caller.clone());
        let answer = async {
            match caller.check(self.needs) {
                Ok(()) => {
                    let done = only_once(app, request, next, (self.once, self.body_max)).await;
                    done.unwrap_or_else(Problem::into_response)
                }
                Err(problem) => problem.into_response(),
            }
        };
        audit.heard((&caller, self.weight), asked, answer).await
    }
}

/// Does what is asked to its end, whether or not whoever asked is still there: until then it takes its place.
async fn to_its_end(
    answer: impl Future<Output = Response> + Send + 'static,
    place: Option<Place>,
) -> Response {
    let done = tokio::spawn(async move {
        let _until_then = place;
        answer.await
    });
    match done.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(answer) => answer,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Problem::from(kapelle_engine::Error::Draining).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_done_to_its_end_when_nobody_waits_for_it_any_more() {
        let ((go, gone), (did, done)) = (oneshot::channel::<()>(), oneshot::channel());
        let work = async move {
            gone.await.ok();
            did.send(()).ok();
            Response::default()
        };
        let mut asked = Box::pin(to_its_end(work, None));
        assert!(asked.as_mut().now_or_never().is_none());
        drop(asked);
        go.send(()).unwrap();
        done.await.unwrap();
    }
}
