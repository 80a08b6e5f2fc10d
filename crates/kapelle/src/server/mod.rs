//! The HTTP API of a node: a typed router over its engine.
//!
//! **Invariants:** a handler translates: nouns in, one verb, a noun out; status codes are in
//! [`problem`] alone. What is answered is on disk. Unknown fields are refused.
//!
//! Shapes are in `kapelle_api`; what each route does is in `docs/api.md`.

mod agents;
pub(crate) mod artifacts;
pub(crate) mod bill;
mod body;
mod control;
mod credentials;
mod diff;
mod events;
mod local;
mod plans;
mod problem;
mod prune;
mod runs;
pub(crate) mod socket;
mod transfer;
mod why;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use kapelle_api as api;
use kapelle_core::port::Agents;
use kapelle_core::{RunId, Tenant};
use kapelle_engine::{EXPORT_MAX, Engine, Error};

use crate::roster::Roster;
use problem::Problem;
pub(crate) use problem::{finding, node_of};

/// The longest body of a request that may hold a workflow, in bytes.
const PLAN_BODY_MAX: usize = 32 << 20;
/// The longest body of any other request, in bytes.
const BODY_MAX: usize = 1 << 20;

/// What the routes work on.
#[derive(Clone)]
pub(crate) struct App {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    tenant: Tenant,
    /// The folder of the store, if it is one.
    store: Option<PathBuf>,
    roster: Roster,
    /// The runs that this node was asked to work on.
    asked: Mutex<BTreeSet<RunId>>,
}

impl App {
    pub(crate) fn new(engine: Engine, store: Option<PathBuf>, roster: Roster) -> Self {
        let (tenant, asked) = (Tenant::default(), Mutex::default());
        Self { inner: Arc::new(Inner { engine, tenant, store, roster, asked }) }
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.inner.roster
    }

    /// The agents as their files are now.
    pub(crate) async fn agents(&self) -> Arc<Agents> {
        let app = self.clone();
        // Thousands of files take a while, and others wait for this thread.
        let look = move || {
            if let Some(agents) = app.roster().changed() {
                app.engine().set_agents(agents);
            }
        };
        tokio::task::spawn_blocking(look).await.ok();
        self.engine().agents()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        &self.inner.tenant
    }

    /// A client of this router, without a socket.
    pub(crate) fn client(&self) -> api::Client {
        api::Client::over(Arc::new(local::Local::new(router(self.clone()))))
    }

    fn note_asked(&self, run: RunId) {
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
    }

    /// Whether it was this node that was asked to work on the run.
    pub(crate) fn was_asked(&self, run: RunId) -> bool {
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).contains(&run)
    }

    /// The run that a path names: by id, by `task_id`, or by a unique end of the id.
    async fn find(&self, text: &str) -> Result<RunId, Problem> {
        if let Ok(run) = text.parse() {
            return Ok(run);
        }
        let journal = self.engine().journal();
        if let Some(twin) = journal.submitted(self.tenant(), &format!("task:{text}")).await? {
            return match twin.pruned_at {
                None => Ok(twin.run),
                Some(_) => Err(Error::Pruned { run: twin.run }.into()),
            };
        }
        let is_suffix = text.len() >= 4
            && text.len() <= 36
            && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let found = if is_suffix {
            let suffix = text.to_ascii_lowercase();
            journal.ending_with(self.tenant(), &suffix, 2).await?
        } else {
            Vec::new()
        };
        match found[..] {
            [run] => Ok(run),
            [] => Err(Problem::not_found("run_not_found", format!("there is no run `{text}`"))),
            _ => Err(Problem::invalid(
                "ambiguous_id",
                format!("several runs end with `{text}`: give more of the id"),
            )),
        }
    }
}

/// The routes of a node.
pub(crate) fn router(app: App) -> Router {
    let plans = Router::new()
        .route("/runs", post(runs::create))
        .route("/check", post(plans::check))
        .route("/plans/analyze", post(plans::analyze))
        .layer(DefaultBodyLimit::max(PLAN_BODY_MAX));
    let files = Router::new()
        .route("/import", post(transfer::import))
        .layer(DefaultBodyLimit::max(usize::try_from(EXPORT_MAX).unwrap_or(usize::MAX)));
    Router::new()
        .route("/runs", get(runs::list))
        .route("/runs/{run}", get(runs::show))
        .route("/runs/{run}/events", get(events::events))
        .route("/runs/{run}/diff/{other}", get(diff::diff))
        .route("/runs/{run}/fork", post(runs::fork))
        .route("/runs/{run}/why", get(why::of_run))
        .route("/runs/{run}/steps/{step}/why", get(why::of_step))
        .route("/runs/{run}/pause", post(control::pause))
        .route("/runs/{run}/resume", post(control::resume))
        .route("/runs/{run}/cancel", post(control::cancel))
        .route("/runs/{run}/approvals/{step}", post(control::approve))
        .route("/runs/{run}/steps/{step}/resolve", post(control::resolve))
        .route("/runs/{run}/steps/{step}/answer", post(control::answer))
        .route("/runs/{run}/budget", post(bill::raise))
        .route("/runs/{run}/bill", get(bill::bill))
        .route("/budgets", get(bill::budgets))
        .route("/runs/{run}/artifacts", get(artifacts::list))
        .route("/artifacts/{digest}", get(artifacts::get))
        .route("/export", get(transfer::export))
        .route("/prune", post(prune::prune))
        .route("/agents", get(agents::list))
        .route("/agents/{name}", get(agents::show))
        .route("/schemas/workflow.json", get(plans::schema))
        .route("/healthz", get(healthz))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .merge(plans)
        .merge(files)
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(app)
}

/// Says that the node is there, and who it is.
///
/// `GET /healthz`
async fn healthz(
    axum::extract::State(app): axum::extract::State<App>,
) -> axum::Json<serde_json::Value> {
    let me = app.engine().nodes().me();
    axum::Json(serde_json::json!({ "status": "ok", "node": me.id, "version": me.version }))
}
