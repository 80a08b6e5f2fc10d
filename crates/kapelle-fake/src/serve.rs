//! The fake as a server, on a thread of its own.
//!
//! **Invariant:** it has a runtime of its own, so it can be started from anywhere, goes on whatever
//! its caller's runtime does, and every connection of it ends when it is dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::serve::ListenerExt as _;
use http::{HeaderMap, Method};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::clock::Clock;
use crate::journal::{Counts, Entry, Journal};
use crate::provider::{Call, Endpoint, Shared};
use crate::reply::Reply;
use crate::script::{Provider, Script};

/// The longest body that is read.
const BODY_MAX: usize = 32 << 20;

/// How a fake is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Where entries of the journal are added.
    pub journal: Option<PathBuf>,
    /// What limits, caches and the journal go by.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen, journal: None, clock: Clock::default() }
    }
}

/// A fake provider that serves until it is dropped.
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Fake {
    /// Starts it on a free port of this machine.
    ///
    /// # Errors
    ///
    /// If there is no port to be had.
    pub fn start(script: Script) -> io::Result<Self> {
        Self::start_with(script, Options::default())
    }

    /// Starts it as the options say.
    ///
    /// # Errors
    ///
    /// If the address is taken or the journal cannot be opened.
    pub fn start_with(script: Script, options: Options) -> io::Result<Self> {
        let journal = Journal::new(options.journal.as_deref())?;
        let shared = Arc::new(Shared::new(script, journal, options.clock));
        // Before there is a runtime: one is not dropped where another one waits for it.
        let listener = std::net::TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).thread_name("fake").enable_all().build()?;
        let router = Router::new().fallback(handle).with_state(shared.clone());
        let entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        drop(entered);
        // Events are small; none may wait for the next one to fill a packet.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let serving = async move { axum::serve(listener, router).await };
        drop(runtime.spawn(serving));
        Ok(Self { address, shared, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base for both wires, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was asked so far, in order.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal.entries()
    }

    /// Sums over the journal.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.journal.counts()
    }

    /// Forgets everything but its script.
    pub fn reset(&self) {
        self.shared.reset();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped where nothing may block.
            runtime.shutdown_background();
        }
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(reply) = own(&shared, &parts.method, parts.uri.path()) {
        return reply.send(shared.journal.clone(), None).await;
    }
    let (provider, endpoint) = route(&parts.method, parts.uri.path(), &parts.headers);
    let call = Call {
        provider,
        endpoint,
        path: format!("{} {}", parts.method, parts.uri.path()),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: axum::body::to_bytes(body, BODY_MAX).await.ok(),
    };
    let (reply, ticket) = shared.take(&call);
    reply.send(shared.journal.clone(), ticket).await
}

/// What the fake tells of itself.
fn own(shared: &Shared, method: &Method, path: &str) -> Option<Reply> {
    let told = |value: serde_json::Result<serde_json::Value>| {
        Reply::json(200, &value.unwrap_or_else(|error| json!({ "error": error.to_string() })))
    };
    match (method.as_str(), path) {
        ("GET", "/__journal") => Some(told(serde_json::to_value(shared.journal.entries()))),
        ("GET", "/__counts") => Some(told(serde_json::to_value(shared.journal.counts()))),
        ("DELETE", "/__journal") => {
            shared.reset();
            Some(Reply::json(200, &json!({ "reset": true })))
        }
        _ => None,
    }
}

/// Which wire and what of it. The paths of the two differ, but for the models: there the headers
/// tell, or a base of `/anthropic` or `/openai` before the path.
fn route(method: &Method, path: &str, headers: &HeaderMap) -> (Provider, Endpoint) {
    let by_headers =
        if headers.contains_key("anthropic-version") || headers.contains_key("x-api-key") {
            Provider::Anthropic
        } else {
            Provider::Openai
        };
    let (base, path) = match (path.strip_prefix("/anthropic"), path.strip_prefix("/openai")) {
        (Some(rest), _) => (Some(Provider::Anthropic), rest),
        (_, Some(rest)) => (Some(Provider::Openai), rest),
        _ => (None, path),
    };
    let provider = base.unwrap_or(by_headers);
    let is = |provider| base.is_none_or(|base| base == provider);
    match (method.as_str(), path) {
        ("POST", "/v1/messages") if is(Provider::Anthropic) => {
            (Provider::Anthropic, Endpoint::Answer)
        }
        ("POST", "/v1/messages/count_tokens") if is(Provider::Anthropic) => {
            (Provider::Anthropic, Endpoint::Count)
        }
        ("POST", "/v1/chat/completions") if is(Provider::Openai) => {
            (Provider::Openai, Endpoint::Answer)
        }
        ("GET", "/v1/models") => (provider, Endpoint::Models),
        ("GET", path) => match path.strip_prefix("/v1/models/") {
            Some(id) if !id.is_empty() => (provider, Endpoint::Model(id.to_owned())),
            _ => (provider, Endpoint::Nothing),
        },
        _ => (provider, Endpoint::Nothing),
    }
}
