//! The routes of a node: one table of what there is, and what whoever asks must be permitted.
//!
//! **Invariant:** a route cannot be without a word on who may take it: [`to`] asks for one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse as _;
use axum::routing::{MethodFilter, MethodRouter, on};
use kapelle_engine::EXPORT_MAX;

use super::door::Caller;
use super::door::guard::{Guard, look};
use super::door::permission::Permission::{
    self, AgentRead, BudgetRaise, RunApprove, SystemAdmin, TaskCancel, TaskRead, TaskSubmit,
};
use super::{
    App, agents, artifacts, bill, control, diff, events, keys, plans, problem, prune, runs,
};
use super::{healthz, transfer, why};

/// The longest body of a request that may hold a workflow, in bytes.
const PLAN_BODY_MAX: usize = 32 << 20;
/// The longest body of any other request, in bytes.
const BODY_MAX: usize = 1 << 20;

/// A route.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// `None`: it is open to all.
    pub(super) needs: Option<Permission>,
    /// The longest body, in bytes.
    body_max: usize,
    handler: MethodRouter<App>,
}

fn to<T: 'static>(
    method: Method,
    path: &'static str,
    needs: impl Into<Option<Permission>>,
    handler: impl Handler<T, App>,
) -> Route {
    let filter = MethodFilter::try_from(method.clone()).expect("a usual method");
    let (needs, handler) = (needs.into(), on(filter, handler));
    Route { method, path, needs, body_max: BODY_MAX, handler }
}

impl Route {
    fn with_body_of(self, body_max: usize) -> Self {
        Self { body_max, ..self }
    }
}

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const DELETE: Method = Method::DELETE;
    let export_max = usize::try_from(EXPORT_MAX).unwrap_or(usize::MAX);
    vec![
        to(GET, "/runs", TaskRead, runs::list),
        to(POST, "/runs", TaskSubmit, runs::create).with_body_of(PLAN_BODY_MAX),
        to(GET, "/runs/{run}", TaskRead, runs::show),
        to(GET, "/runs/{run}/events", TaskRead, events::events),
        to(GET, "/runs/{run}/diff/{other}", TaskRead, diff::diff),
        to(POST, "/runs/{run}/fork", TaskSubmit, runs::fork),
        to(GET, "/runs/{run}/why", TaskRead, why::of_run),
        to(GET, "/runs/{run}/steps/{step}/why", TaskRead, why::of_step),
        to(POST, "/runs/{run}/pause", TaskCancel, control::pause),
        to(POST, "/runs/{run}/resume", TaskCancel, control::resume),
        to(POST, "/runs/{run}/cancel", TaskCancel, control::cancel),
        to(POST, "/runs/{run}/approvals/{step}", RunApprove, control::approve),
        to(POST, "/runs/{run}/steps/{step}/resolve", RunApprove, control::resolve),
        to(POST, "/runs/{run}/steps/{step}/answer", RunApprove, control::answer),
        to(POST, "/runs/{run}/budget", BudgetRaise, bill::raise),
        to(GET, "/runs/{run}/bill", TaskRead, bill::bill),
        to(GET, "/budgets", TaskRead, bill::budgets),
        to(GET, "/runs/{run}/artifacts", TaskRead, artifacts::list),
        to(GET, "/artifacts/{digest}", TaskRead, artifacts::get),
        to(GET, "/export", TaskRead, transfer::export),
        to(POST, "/import", SystemAdmin, transfer::import).with_body_of(export_max),
        to(POST, "/prune", SystemAdmin, prune::prune),
        to(POST, "/check", TaskSubmit, plans::check).with_body_of(PLAN_BODY_MAX),
        to(POST, "/plans/analyze", TaskSubmit, plans::analyze).with_body_of(PLAN_BODY_MAX),
        to(GET, "/agents", AgentRead, agents::list),
        to(GET, "/agents/{name}", AgentRead, agents::show),
        to(POST, "/keys", SystemAdmin, keys::create),
        to(GET, "/keys", SystemAdmin, keys::list),
        to(DELETE, "/keys/{key}", SystemAdmin, keys::revoke),
        to(GET, "/schemas/workflow.json", None, plans::schema),
        to(GET, "/healthz", None, healthz),
    ]
}

/// The same behind a door in the network.
pub(crate) fn guarded(app: App, guard: Arc<Guard>) -> Router {
    // Whoever the guard does not name is nobody.
    let app = app.on_behalf_of(Arc::new(Caller::nobody()));
    router(app).layer(from_fn_with_state(guard, look))
}

/// A router over all of them.
pub(crate) fn router(app: App) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, route| {
        let Route { method, path, needs, body_max, handler } = route;
        let check = move |app: App, request: Request, next: Next| {
            let method = method.clone();
            async move {
                match app.caller().check(needs) {
                    Ok(()) => next.run(request).await,
                    Err(problem) => {
                        tracing::info!(%method, path, caller = %app.caller().name, "refused");
                        problem.into_response()
                    }
                }
            }
        };
        let limit = DefaultBodyLimit::max(body_max);
        router.route(path, handler.layer(limit).layer(from_fn_with_state(app.clone(), check)))
    });
    router
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(app)
}
