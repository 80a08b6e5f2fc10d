//! How requests get to a server: over a socket, over HTTP, or to a router in this process.

use std::future::Future;
use std::pin::Pin;
use std::sync::Once;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};

/// A future that can be sent and named.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// A body, as it comes.
pub type Body = BoxStream<'static, Result<Bytes, Unreachable>>;

/// The server did not answer, or not to the end. Whether it did what was asked is not known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{server} cannot be reached: {message}; {hint}")]
pub struct Unreachable {
    /// Which server.
    pub server: String,
    /// What went wrong.
    pub message: String,
    /// What would help.
    pub hint: &'static str,
    /// Nobody was there: it did nothing.
    pub is_unsent: bool,
}

/// Carries a request to a server and brings its answer.
pub trait Transport: Send + Sync {
    /// What to call the server in messages.
    fn server(&self) -> &str;

    /// Sends one request. Its path begins with `/`; there is no host in it.
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Body>, Unreachable>>;
}

/// A server at a URL or behind a socket.
pub(super) struct Remote {
    http: reqwest::Client,
    base: String,
    server: String,
    hint: &'static str,
}

/// What would help where a node of this machine does not answer.
const NODE: &str = "end that process or remove what stands in its place, then repeat: whoever comes next takes its runs over";
/// The same for a server.
const SERVER: &str =
    "see whether it runs and is called so, then repeat: what it was told is on its disk";

impl Remote {
    pub(super) fn socket(path: &std::path::Path) -> Self {
        let http = builder().unix_socket(path.to_path_buf());
        Self::new(http, "http://kapelle", format!("the node at `{}`", path.display()), NODE)
    }

    pub(super) fn url(base: &str, key: Option<&str>) -> Self {
        let shown = key.and_then(|key| {
            let mut shown = http::HeaderValue::try_from(format!("Bearer {key}")).ok()?;
            shown.set_sensitive(true);
            Some((http::header::AUTHORIZATION, shown))
        });
        let http = builder().default_headers(shown.into_iter().collect());
        Self::new(http, base.trim_end_matches('/'), format!("`{base}`"), SERVER)
    }

    fn new(http: reqwest::ClientBuilder, base: &str, server: String, hint: &'static str) -> Self {
        let http = http.build().expect("the options are constant");
        Self { http, base: base.to_owned(), server, hint }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Unreachable {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        let is_unsent = error.is_connect();
        Unreachable { server: self.server.clone(), message, hint: self.hint, is_unsent }
    }
}

fn builder() -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that this process has chosen one before, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
    reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(10))
}

impl Transport for Remote {
    fn server(&self) -> &str {
        &self.server
    }

    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Body>, Unreachable>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url = format!("{}{}", self.base, parts.uri);
            let sent = self.http.request(parts.method, url).headers(parts.headers).body(body);
            let response = sent.send().await.map_err(|error| self.unreachable(&error))?;
            let mut answer = http::Response::builder().status(response.status());
            if let Some(headers) = answer.headers_mut() {
                *headers = response.headers().clone();
            }
            let (server, hint) = (self.server.clone(), self.hint);
            let body = response
                .bytes_stream()
                .map_err(move |error| Unreachable {
                    server: server.clone(),
                    message: error.to_string(),
                    hint,
                    is_unsent: false,
                })
                .boxed();
            Ok(answer.body(body).expect("the parts come from a response"))
        })
    }
}
