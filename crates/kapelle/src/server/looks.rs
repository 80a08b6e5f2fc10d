//! Runs that go on as they were last shown, for those who look again before anything has happened.
//!
//! **Invariants:** what is shown again is what would be read. Runs that have ended are not kept: whoever prunes them
//! may be another process. What is kept is bounded; beyond it all is forgotten.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kapelle_core::{RunId, Tenant};
use kapelle_engine::Version;

/// How many are kept, and the longest that is, in bytes.
const LOOKS_MAX: usize = 4_096;
const LOOK_MAX: usize = 8 << 10;

/// What was shown.
#[derive(Default)]
pub(super) struct Looks(Mutex<HashMap<RunId, Look>>);

struct Look {
    tenant: Tenant,
    known: Known,
    shown: Bytes,
}

/// What it rests on: the run, and whether this node was asked to work on it.
type Known = (Version, bool);

/// A `T` that is JSON already.
pub(super) struct Shown<T>(pub(super) Bytes, pub(super) PhantomData<T>);

impl<T> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], self.0).into_response()
    }
}

impl Looks {
    /// What a run of `tenant` looks like, if it was shown since anything has happened in it.
    pub(super) fn get(&self, tenant: &Tenant, run: RunId, now: Option<Known>) -> Option<Bytes> {
        let looks = self.lock();
        let look = looks.get(&run).filter(|look| look.tenant == *tenant)?;
        (Some(look.known) == now).then(|| look.shown.clone())
    }

    /// Takes note of what a run looked like that was read while it was known by that, or later.
    pub(super) fn keep(&self, tenant: &Tenant, run: RunId, known: Option<Known>, shown: &Bytes) {
        let Some(known) = known.filter(|_| shown.len() <= LOOK_MAX) else { return };
        let mut looks = self.lock();
        if looks.len() >= LOOKS_MAX && !looks.contains_key(&run) {
            looks.clear();
        }
        looks.insert(run, Look { tenant: tenant.clone(), known, shown: shown.clone() });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Look>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kapelle_api as api;

    use crate::node::{Node, Place, Reachable, Setup};

    const WAITS: &str = "{id: w, tasks: [{id: ok, approval: {}}]}";

    #[tokio::test]
    async fn a_run_that_waits_is_shown_again_until_something_happens() {
        let node = Node::open(Setup::plain(Place::Memory, Reachable::No)).await.unwrap();
        let (app, client) = (node.app.clone(), node.app.client());
        let new = api::NewRun { workflow: Some(WAITS.to_owned()), ..api::NewRun::default() };
        let run = client.submit(&new).await.unwrap().id;
        while client.run(&run).await.unwrap().status != "waiting" {
            tokio::task::yield_now().await;
        }
        let first = client.run(&run).await.unwrap();
        let id = run.parse().unwrap();
        let known = |app: &crate::server::App| Some((app.engine().version(id)?, true));
        let kept = app.inner.looks.get(app.tenant(), id, known(&app)).unwrap();
        let kept: api::Run = serde_json::from_slice(&kept).unwrap();
        assert_eq!((&kept, &client.run(&run).await.unwrap()), (&first, &first));
        let other = kapelle_core::Tenant::new("other");
        assert_eq!(app.inner.looks.get(&other, id, known(&app)), None);
        client.pause(&run, &api::Wish::default()).await.unwrap();
        assert_eq!(app.inner.looks.get(app.tenant(), id, known(&app)), None);
        assert_eq!(client.run(&run).await.unwrap().status, "paused");
        node.close(Duration::ZERO).await.unwrap();
    }
}
