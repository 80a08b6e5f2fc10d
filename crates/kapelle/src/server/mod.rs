//! The HTTP API of a node: a typed router over its engine.
//!
//! **Invariants:** a handler translates: nouns in, one verb, a noun out; status codes are in
//! [`problem`] alone. What is answered is on disk. Unknown fields are refused.
//!
//! Shapes are in `kapelle_api`; what each route does is in `docs/api.md`.

mod agents;
mod alerts;
pub(crate) mod artifacts;
mod audit;
pub(crate) mod bill;
mod body;
mod control;
mod credentials;
mod diff;
pub(crate) mod door;
mod events;
mod examples;
mod held;
mod keys;
mod local;
mod looks;
mod manual;
mod metrics;
mod once;
pub(crate) mod openapi;
mod plans;
mod problem;
mod prune;
mod registry;
pub(crate) mod rooms;
pub(crate) mod roots;
mod routes;
mod runs;
mod slow;
pub(crate) mod socket;
mod streams;
pub(crate) mod tcp;
mod tickets;
mod transfer;
mod websocket;
mod why;
mod work;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kapelle_api as api;
use kapelle_core::port::{Agents, Audit, Records};
use kapelle_core::{RunId, Tenant};
use kapelle_engine::{Engine, Error};
use tokio_util::sync::CancellationToken;

use crate::roster::Roster;
use crate::workers::registry::Registry;
use door::Caller;
use door::audit::Recorder;
use door::keys::Keys;
use door::tickets::Tickets;
use problem::Problem;
pub(crate) use problem::{finding, node_of};
use rooms::{Rooms, Space};
use roots::Roots;
pub(crate) use routes::{guarded, router};
pub(crate) use streams::Upkeep;

/// What the routes work on, and on whose behalf.
#[derive(Clone)]
pub(crate) struct App {
    inner: Arc<Inner>,
    caller: Arc<Caller>,
}

/// What a store keeps beside its runs.
pub(crate) struct Kept {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) audit: Arc<dyn Audit>,
}

impl Kept {
    pub(crate) fn of<T: Records + Audit + 'static>(store: Arc<T>) -> Self {
        Self { records: store.clone(), audit: store }
    }
}

struct Inner {
    engine: Engine,
    /// The folder of the store, if it is one.
    store: Option<PathBuf>,
    roster: Roster,
    /// Agents whose work others do.
    registry: Registry,
    /// One renewal of the agents at a time.
    renewing: Mutex<()>,
    keys: Arc<Keys>,
    tickets: Arc<Tickets>,
    /// What a node keeps beside its runs.
    records: Arc<dyn Records>,
    /// Whose turn it is under an `Idempotency-Key`.
    turns: once::Turns,
    audit: Arc<Recorder>,
    /// Where runs from the network begin.
    roots: Roots,
    /// The runs that this node was asked to work on.
    asked: Mutex<BTreeSet<RunId>>,
    looks: looks::Looks,
    /// What is counted.
    metrics: Arc<metrics::Metrics>,
    upkeep: Upkeep,
    /// What there is room for, for those who come from the network.
    rooms: Arc<Rooms>,
    /// Streams come to their end: whoever reads them goes on elsewhere.
    leaving: CancellationToken,
}

impl App {
    pub(crate) fn new(
        engine: Engine,
        store: Option<PathBuf>,
        (roster, registry): (Roster, Registry),
        kept: Kept,
        (roots, upkeep, space): (Roots, Upkeep, Space),
    ) -> Self {
        let Kept { records, audit } = kept;
        let (keys, audit) = (Arc::new(Keys::new(records.clone())), Recorder::new(audit));
        let (renewing, tickets, turns, asked, looks, leaving) = Default::default();
        let metrics = Arc::new(metrics::Metrics::new());
        engine.count_with(metrics.clone());
        let inner = Arc::new(Inner {
            engine,
            store,
            roster,
            registry,
            renewing,
            keys,
            tickets,
            records,
            turns,
            audit,
            roots,
            asked,
            looks,
            metrics,
            upkeep,
            rooms: Arc::new(Rooms::new(space)),
            leaving,
        });
        Self { inner, caller: Arc::new(Caller::owner()) }
    }

    /// The same on behalf of somebody else.
    pub(crate) fn on_behalf_of(&self, caller: Arc<Caller>) -> Self {
        Self { inner: self.inner.clone(), caller }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Leaves what workers are at to whoever takes the runs over, and gives out nothing more.
    pub(crate) fn leave_workers(&self) {
        self.registry().hub().leave();
    }

    /// Ends all streams, now and later.
    pub(crate) fn leave(&self) {
        self.inner.leaving.cancel();
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.inner.keys
    }

    pub(crate) fn tickets(&self) -> &Arc<Tickets> {
        &self.inner.tickets
    }

    fn upkeep(&self) -> Upkeep {
        self.inner.upkeep
    }

    pub(crate) fn rooms(&self) -> &Arc<Rooms> {
        &self.inner.rooms
    }

    fn records(&self) -> &Arc<dyn Records> {
        &self.inner.records
    }

    fn turns(&self) -> &once::Turns {
        &self.inner.turns
    }

    pub(crate) fn audit(&self) -> &Arc<Recorder> {
        &self.inner.audit
    }

    fn metrics(&self) -> &metrics::Metrics {
        &self.inner.metrics
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.inner.roster
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The agents as their files and registrations are now.
    pub(crate) async fn agents(&self) -> Arc<Agents> {
        // What cannot be read now is as it was.
        let registered = self.registry().read().await.unwrap_or_default();
        if !registered && !self.roster().is_due() {
            return self.engine().agents();
        }
        let app = self.clone();
        // Thousands of files take a while, and others wait for this thread.
        let look = move || match app.roster().changed() {
            Some(agents) => app.renew(Some(agents)),
            None if registered => app.renew(None),
            None => {}
        };
        tokio::task::spawn_blocking(look).await.ok();
        self.engine().agents()
    }

    /// Has the engine know the agents of all, `changed` or as they were, and those that are registered.
    pub(crate) fn renew(&self, changed: Option<Agents>) {
        let _one = self.inner.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut agents = changed.unwrap_or_else(|| self.engine().agents().of_all());
        self.registry().add_to(&mut agents);
        self.engine().set_agents(agents);
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        &self.caller.tenant
    }

    /// A client of this router, without a socket.
    pub(crate) fn client(&self) -> api::Client {
        api::Client::over(Arc::new(local::Local::new(router(self.clone()))))
    }

    fn note_asked(&self, run: RunId) {
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
    }

    /// Whether this node works on the run, or did until its end: it was asked to, or took it over.
    pub(crate) fn works_on(&self, run: RunId) -> bool {
        let asked = || self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.engine().works_on(run) || asked().contains(&run)
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
            _ => Err(Problem::ambiguous(text)),
        }
    }
}

/// Says that the node takes work, or that it is about to leave.
///
/// `GET /readyz`
async fn readyz(app: App) -> Result<axum::Json<serde_json::Value>, Problem> {
    if app.engine().is_draining() {
        return Err(Error::Draining.into());
    }
    Ok(axum::Json(serde_json::json!({ "status": "ready" })))
}

/// Says that the node is there, and who it is.
///
/// `GET /healthz`
async fn healthz(app: App) -> axum::Json<serde_json::Value> {
    let me = app.engine().nodes().me();
    axum::Json(serde_json::json!({ "status": "ok", "node": me.id, "version": me.version }))
}
