//! The counting server of the kill test: what came with which key and attempt.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;

/// How long a slow answer takes.
const SLOW: Duration = Duration::from_millis(30);

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) key: String,
    pub(crate) attempt: u32,
}

/// What came so far.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) hits: Arc<Mutex<Vec<Hit>>>,
}

/// A server on a runtime of its own.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) seen: Seen,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Seen::default();
        let router = Router::new().fallback(answer).with_state(seen.clone());
        drop(runtime.spawn(async move { axum::serve(listener, router).await }));
        Self { url, seen, _runtime: runtime }
    }

    /// What came for a run, in order.
    pub(crate) fn hits(&self, run: &str) -> Vec<Hit> {
        let hits = self.seen.hits.lock().unwrap();
        hits.iter().filter(|hit| hit.key.starts_with(run)).cloned().collect()
    }
}

async fn answer(State(seen): State<Seen>, uri: Uri, headers: HeaderMap) -> impl IntoResponse {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let key = text("idempotency-key");
    let step = key.split('/').nth(1).unwrap().to_owned();
    let attempt = text("kapelle-attempt").parse().unwrap();
    seen.hits.lock().unwrap().push(Hit { key: key.clone(), attempt });
    if uri.path() == "/slow" {
        // A slow server is what this one is to be: nothing is waited for.
        tokio::time::sleep(SLOW).await;
    }
    // However often the first call is made: it fails, until that is known over there.
    let busy = uri.path() == "/busy" && key.ends_with("/0");
    let status = if busy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, [("retry-after", "0")], format!("heard {step}"))
}
