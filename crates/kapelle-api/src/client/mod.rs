//! A client: one method for every route.
//!
//! **Invariant:** a command that was sent to a node that does not own its run is sent on to the one
//! that does, as the answer `elsewhere` says. If that one is about to leave, or has left, and did
//! nothing, the first is asked again for a while; nothing else is ever sent twice.

mod events;
mod sse;
mod transport;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{
    Agent, Analysis, Answer, Approval, Artifact, AuditEntry, Bill, CheckRequest, Checked,
    CreatedKey, Diff, Event, Fork, Json, Key, NewKey, NewRun, NewStreamTicket, Page, PlanRequest,
    Problem, Prune, Pruned, Raise, Resolution, Run, RunSummary, RunsQuery, StreamTicket, Submitted,
    Told, Why, Wish,
};
pub use events::Events;
use transport::Remote;
pub use transport::{Body, BoxFuture, Transport, Unreachable};

/// The largest answer that is read whole, in bytes.
const ANSWER_MAX: usize = 512 << 20;
/// How often a command is sent on.
const HOPS_MAX: usize = 4;
/// How long a node may be about to leave.
const LEAVING_MAX: Duration = Duration::from_secs(3);
/// How often it is looked whether it has left.
const LEAVING_PACE: Duration = Duration::from_millis(50);

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The server said no.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// The server is not there, or went away.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// What answers is no Kapelle, or another one than is expected.
    #[error(
        "{server} does not answer like a node of kapelle: {what}; end what listens there or remove it, then repeat"
    )]
    Malformed {
        /// What answers.
        server: String,
        /// What is wrong with the answer.
        what: &'static str,
    },
}

impl Error {
    /// The code of the problem, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.code),
            Self::Unreachable(_) | Self::Malformed { .. } => None,
        }
    }

    /// Whether nothing was done because the server leaves, or has left.
    fn is_leaving(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.code == "draining",
            Self::Unreachable(error) => error.is_unsent,
            Self::Malformed { .. } => false,
        }
    }
}

impl Client {
    /// A client of the node that listens on the socket at `path`.
    #[must_use]
    pub fn socket(path: &Path) -> Self {
        Self::over(Arc::new(Remote::socket(path)))
    }

    /// A client of the server at `base`, such as `http://localhost:4700`, that shows `key` if it has one.
    ///
    /// A key that cannot stand in a header is no key: the server says so.
    #[must_use]
    pub fn url(base: &str, key: Option<&str>) -> Self {
        Self::over(Arc::new(Remote::url(base, key)))
    }

    /// A client of whatever `transport` leads to.
    #[must_use]
    pub fn over(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// `POST /runs`
    pub async fn submit(&self, new: &NewRun) -> Result<Submitted, Error> {
        self.post("/runs", new).await
    }

    /// `GET /runs`
    pub async fn runs(&self, query: &RunsQuery) -> Result<Page<RunSummary>, Error> {
        let fields = [
            ("status", query.status.clone()),
            ("workflow", query.workflow.clone()),
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("cursor", query.cursor.clone()),
        ];
        let given = fields.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let query: Vec<_> =
            given.map(|(name, value)| format!("{name}={}", escape(value))).collect();
        self.get(&format!("/runs?{}", query.join("&"))).await
    }

    /// `GET /runs/{run}`: by id, a unique end of it, or `task_id`.
    pub async fn run(&self, run: &str) -> Result<Run, Error> {
        self.get(&format!("/runs/{}", escape(run))).await
    }

    /// `GET /runs/{run}/why`
    pub async fn why(&self, run: &str) -> Result<Why, Error> {
        self.get(&format!("/runs/{}/why", escape(run))).await
    }

    /// `GET /runs/{run}/steps/{step}/why`
    pub async fn why_step(&self, run: &str, step: &str) -> Result<Why, Error> {
        self.get(&format!("/runs/{}/steps/{}/why", escape(run), escape(step))).await
    }

    /// `GET /runs/{run}?at=`: as it was after its event `seq`.
    pub async fn run_at(&self, run: &str, seq: u64) -> Result<Run, Error> {
        self.get(&format!("/runs/{}?at={seq}", escape(run))).await
    }

    /// `GET /runs/{run}/events`: those after the event `after` (0: all), then live ones.
    #[must_use]
    pub fn events(&self, run: &str, after: u64) -> Events {
        Events::new(self.clone(), run, after)
    }

    /// `GET /runs/{run}/events` as JSON: a page of those that there are.
    pub async fn events_page(&self, run: &str, after: u64) -> Result<Page<Event>, Error> {
        self.get(&format!("/runs/{}/events?after={after}", escape(run))).await
    }

    /// `POST /runs/{run}/pause`
    pub async fn pause(&self, run: &str, wish: &Wish) -> Result<Told, Error> {
        self.post(&format!("/runs/{}/pause", escape(run)), wish).await
    }

    /// `POST /runs/{run}/resume`: the node that owns it, or this one, works on it from here on.
    pub async fn resume(&self, run: &str, wish: &Wish) -> Result<Told, Error> {
        self.post(&format!("/runs/{}/resume", escape(run)), wish).await
    }

    /// `POST /runs/{run}/cancel`
    pub async fn cancel(&self, run: &str, wish: &Wish) -> Result<Told, Error> {
        self.post(&format!("/runs/{}/cancel", escape(run)), wish).await
    }

    /// `GET /runs/{run}/diff/{other}`
    pub async fn diff(&self, run: &str, other: &str) -> Result<Diff, Error> {
        self.get(&format!("/runs/{}/diff/{}", escape(run), escape(other))).await
    }

    /// `POST /runs/{run}/fork`
    pub async fn fork(&self, run: &str, how: &Fork) -> Result<Submitted, Error> {
        self.post(&format!("/runs/{}/fork", escape(run)), how).await
    }

    /// `POST /runs/{run}/approvals/{step}`
    pub async fn approve(&self, run: &str, step: &str, word: &Approval) -> Result<Told, Error> {
        self.post(&format!("/runs/{}/approvals/{}", escape(run), escape(step)), word).await
    }

    /// `POST /runs/{run}/steps/{step}/resolve`
    pub async fn resolve(&self, run: &str, step: &str, word: &Resolution) -> Result<Told, Error> {
        self.post(&format!("/runs/{}/steps/{}/resolve", escape(run), escape(step)), word).await
    }

    /// `POST /runs/{run}/steps/{step}/answer`
    pub async fn answer(&self, run: &str, step: &str, word: &Answer) -> Result<Told, Error> {
        self.post(&format!("/runs/{}/steps/{}/answer", escape(run), escape(step)), word).await
    }

    /// `POST /runs/{run}/budget`
    pub async fn raise(&self, run: &str, word: &Raise) -> Result<Told, Error> {
        self.post(&format!("/runs/{}/budget", escape(run)), word).await
    }

    /// `GET /budgets`
    pub async fn budgets(&self) -> Result<crate::Budgets, Error> {
        self.get("/budgets").await
    }

    /// `GET /runs/{run}/bill`
    pub async fn bill(&self, run: &str) -> Result<Bill, Error> {
        self.get(&format!("/runs/{}/bill", escape(run))).await
    }

    /// `GET /runs/{run}/artifacts`
    pub async fn artifacts(&self, run: &str) -> Result<Page<Artifact>, Error> {
        self.get(&format!("/runs/{}/artifacts", escape(run))).await
    }

    /// `GET /artifacts/{digest}`: the content, as it comes.
    pub async fn artifact(&self, digest: &str) -> Result<Body, Error> {
        let path = format!("/artifacts/{}", escape(digest));
        let response = self.send(Method::GET, &path, "*/*", Bytes::new()).await?;
        Ok(response.into_body())
    }

    /// `GET /export`: one file with runs that have ended, as it comes.
    pub async fn export(&self, runs: &[String]) -> Result<Body, Error> {
        let runs: Vec<_> = runs.iter().map(|run| escape(run)).collect();
        let path = format!("/export?runs={}", runs.join(","));
        let response = self.send(Method::GET, &path, "*/*", Bytes::new()).await?;
        Ok(response.into_body())
    }

    /// `POST /import`: takes in the runs of such a file.
    pub async fn import(&self, file: Bytes) -> Result<Page<Submitted>, Error> {
        let response = self.send(Method::POST, "/import", "application/json", file).await?;
        self.read_json(response.into_body()).await
    }

    /// `POST /prune`
    pub async fn prune(&self, which: &Prune) -> Result<Pruned, Error> {
        self.post("/prune", which).await
    }

    /// `POST /check`
    pub async fn check(&self, request: &CheckRequest) -> Result<Checked, Error> {
        self.post("/check", request).await
    }

    /// `POST /plans/analyze`
    pub async fn analyze(&self, request: &PlanRequest) -> Result<Analysis, Error> {
        self.post("/plans/analyze", request).await
    }

    /// `GET /agents`
    pub async fn agents(&self) -> Result<Page<Agent>, Error> {
        self.get("/agents").await
    }

    /// `GET /agents/{name}`
    pub async fn agent(&self, name: &str) -> Result<Agent, Error> {
        self.get(&format!("/agents/{}", escape(name))).await
    }

    /// `POST /stream-tickets`: for a browser that is to watch a run.
    pub async fn stream_ticket(&self, run: &str) -> Result<StreamTicket, Error> {
        self.post("/stream-tickets", &NewStreamTicket { run: run.to_owned() }).await
    }

    /// `POST /keys`
    pub async fn create_key(&self, new: &NewKey) -> Result<CreatedKey, Error> {
        self.post("/keys", new).await
    }

    /// `GET /keys`
    pub async fn keys(&self) -> Result<Page<Key>, Error> {
        self.get("/keys").await
    }

    /// `DELETE /keys/{key}`
    pub async fn revoke_key(&self, id: &str) -> Result<(), Error> {
        let path = format!("/keys/{}", escape(id));
        self.send(Method::DELETE, &path, "application/json", Bytes::new()).await.map(drop)
    }

    /// `GET /audit`, newest first; `cursor` as the page before says.
    pub async fn audit(&self, limit: u32, cursor: Option<&str>) -> Result<Page<AuditEntry>, Error> {
        let cursor = cursor.map(|cursor| format!("&cursor={}", escape(cursor)));
        self.get(&format!("/audit?limit={limit}{}", cursor.unwrap_or_default())).await
    }

    /// `GET /schemas/workflow.json`
    pub async fn workflow_schema(&self) -> Result<Json, Error> {
        self.get("/schemas/workflow.json").await
    }

    /// `GET /healthz`
    pub async fn health(&self) -> Result<Json, Error> {
        self.get("/healthz").await
    }

    /// `GET /metrics`: text for Prometheus.
    pub async fn metrics(&self) -> Result<String, Error> {
        let answer = self.send(Method::GET, "/metrics", "text/plain", Bytes::new()).await?;
        let text = self.read(answer.into_body()).await?;
        String::from_utf8(text).map_err(|_| self.malformed("no text"))
    }

    async fn open_events(&self, run: &str, after: u64) -> Result<Body, Error> {
        let path = format!("/runs/{}/events?after={after}", escape(run));
        let response = self.send(Method::GET, &path, "text/event-stream", Bytes::new()).await?;
        Ok(response.into_body())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.send(Method::GET, path, "application/json", Bytes::new()).await?;
        self.read_json(response.into_body()).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = Bytes::from(serde_json::to_vec(body).expect("requests are JSON"));
        let (mut client, mut hops, since) = (self.clone(), 0, Instant::now());
        loop {
            let error =
                match client.send(Method::POST, path, "application/json", body.clone()).await {
                    Ok(response) => return client.read_json(response.into_body()).await,
                    Err(error) => error,
                };
            let soon = is_brief(&error) || (hops > 0 && error.is_leaving());
            if soon && since.elapsed() < LEAVING_MAX {
                tokio::time::sleep(LEAVING_PACE).await;
                (client, hops) = (self.clone(), 0);
            } else if hops == HOPS_MAX {
                return Err(client.malformed("the nodes send the request round in a circle"));
            } else {
                client = owner(error).map(|socket| Self::socket(Path::new(&socket)))?;
                hops += 1;
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Bytes,
    ) -> Result<http::Response<Body>, Error> {
        let mut request =
            http::Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(body).map_err(|_| self.malformed("no path"))?;
        let response = self.transport.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem = match self.read_json::<Problem>(response.into_body()).await {
            Ok(problem) => problem,
            Err(Error::Unreachable(error)) => return Err(error.into()),
            Err(_) => without_text(status),
        };
        Err(Error::Problem(Box::new(problem)))
    }

    async fn read_json<T: DeserializeOwned>(&self, body: Body) -> Result<T, Error> {
        let bytes = self.read(body).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.malformed("no JSON of the expected shape"))
    }

    async fn read(&self, mut body: Body) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(piece) = body.try_next().await? {
            if bytes.len() + piece.len() > ANSWER_MAX {
                return Err(self.malformed("it is over 512 MiB"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed { server: self.transport.server().to_owned(), what }
    }
}

/// Where the node listens that `error` says to ask.
fn owner(error: Error) -> Result<String, Error> {
    match error {
        Error::Problem(mut problem) if problem.code == "elsewhere" => {
            let socket = problem.node.as_mut().and_then(|node| node.socket.take());
            socket.ok_or(Error::Problem(problem))
        }
        error => Err(error),
    }
}

/// Whether a command has the run that listens to nobody, and is soon done with it.
fn is_brief(error: &Error) -> bool {
    let Error::Problem(problem) = error else { return false };
    problem.code == "elsewhere" && problem.node.as_ref().is_some_and(|node| node.socket.is_none())
}

fn without_text(status: StatusCode) -> Problem {
    Problem {
        title: status.canonical_reason().unwrap_or_default().to_owned(),
        status: status.as_u16(),
        detail: format!("the server answers {status}"),
        code: "unknown".to_owned(),
        ..Problem::default()
    }
}

/// `text` as one segment of a path or one value of a query.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_segment_of_a_path() {
        assert_eq!(escape("a/b ä?"), "a%2Fb%20%C3%A4%3F");
        assert_eq!(escape("sha256:00-x_y.z~"), "sha256:00-x_y.z~");
    }
}
