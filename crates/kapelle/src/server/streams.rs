//! `/runs/{run}/events`: what happens in a run, as server-sent events, over a WebSocket, or in pages.
//!
//! **Invariants:** the journal is the queue: a stream takes its next event when its reader has taken the
//! one before, so that a slow reader costs no more memory than a fast one. Who takes nothing for too long
//! is told where to go on; what is live only was dropped for him long before.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use kapelle_api as api;
use kapelle_core::RunId;
use kapelle_core::run::Run;
use kapelle_engine::{Error, Seen, SeenEvent};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::App;
use super::body::{Path, Query};
use super::events::{event_of, progress_of};
use super::problem::Problem;
use super::websocket::{Upgrade, carry};

/// How many events a page holds where nothing is said.
const PAGE: usize = 1_000;

/// How streams are kept up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upkeep {
    /// How often a quiet one shows that it lives.
    pub(crate) heartbeat: Duration,
    /// How long a reader may take nothing.
    pub(crate) patience: Duration,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), patience: Duration::from_secs(15) }
    }
}

/// From where on, and how much.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    /// Those after this event.
    after: Option<u64>,
    /// At most so many on a page.
    limit: Option<usize>,
    /// Of `POST /stream-tickets`, in place of `Authorization`.
    #[serde(rename = "ticket")]
    _ticket: Option<String>,
}

/// A stream, or a page of it.
pub(super) struct Streamed(Response);

impl IntoResponse for Streamed {
    fn into_response(self) -> Response {
        self.0
    }
}

/// The events after number `after` (or `Last-Event-ID`), each once and in order, then live.
/// With `Upgrade: websocket` the same over a WebSocket, with `Accept: application/json` a page of those that there are.
///
/// `GET /runs/{run}/events?after=&limit=&ticket=`
pub(super) async fn events(
    app: App,
    Path(run): Path<String>,
    Query(from): Query<From>,
    headers: HeaderMap,
    Upgrade(upgrade, stay): Upgrade,
) -> Result<Streamed, Problem> {
    let id = app.find(&run).await?;
    // The state now: an unknown run is told at once, and a page knows where to end.
    let run = app.engine().run(app.tenant(), id).await?;
    let last_id = headers.get("last-event-id").map(|id| {
        let seq = id.to_str().ok().and_then(|id| id.parse().ok());
        seq.ok_or_else(|| Problem::invalid("bad_query", "`Last-Event-ID` is no number"))
    });
    let after = last_id.transpose()?.or(from.after).unwrap_or(0);
    let (upkeep, leaving) = (app.upkeep(), app.inner.leaving.clone());
    if let Some(upgrade) = upgrade {
        let held = (stay, app.metrics().opened("websocket"));
        let carry = async move |socket| {
            carry(socket, frames_of(app, id, after), upkeep, leaving).await;
            drop(held);
        };
        return Ok(Streamed(upgrade.on_upgrade(carry)));
    }
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("application/json")) {
        let limit = from.limit.unwrap_or(PAGE).clamp(1, PAGE);
        return Ok(Streamed(Json(page(&app, &run, after, limit).await?).into_response()));
    }
    let held = (stay, app.metrics().opened("sse"));
    let frames = frames_of(app, id, after).map(move |frame| {
        let _as_long_as_it_goes = &held;
        Ok::<_, Infallible>(frame.sent())
    });
    let stream = Sse::new(frames.take_until(leaving.cancelled_owned()));
    let stream = stream.keep_alive(KeepAlive::new().interval(upkeep.heartbeat));
    Ok(Streamed(stream.into_response()))
}

async fn page(
    app: &App,
    run: &Run,
    after: u64,
    limit: usize,
) -> Result<api::Page<api::Event>, Problem> {
    let mut items = Vec::new();
    if after < run.seq() {
        let mut seen = app.engine().watch(app.tenant(), run.id(), after);
        while let Some(seen) = seen.next().await {
            if let Seen::Event(seen) = seen? {
                let seq = seen.seq;
                items.push(event_of(app, &seen).await?);
                if items.len() == limit || seq >= run.seq() {
                    break;
                }
            }
        }
    }
    let last = items.last().and_then(|event| event.seq).filter(|seq| *seq < run.seq());
    Ok(api::Page { items, next_cursor: last.map(|seq| seq.to_string()) })
}

/// One frame of a stream: as [`api::Frame`] says, whatever carries it.
#[derive(Debug, Serialize)]
pub(super) struct Frame {
    /// Where to go on after it; none if it is live only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<u64>,
    /// `message`, or what ends the stream before the run: `lagged`, `error`.
    pub(super) event: &'static str,
    data: Arc<RawValue>,
}

impl Frame {
    fn new(id: Option<u64>, event: &'static str, data: &impl Serialize) -> Self {
        Self { id, event, data: raw(data) }
    }

    /// The same as a server-sent event, where `message` goes without saying.
    fn sent(&self) -> sse::Event {
        let sent = sse::Event::default().data(self.data.get());
        let sent = self.id.iter().fold(sent, |sent, id| sent.id(id.to_string()));
        if self.event == "message" { sent } else { sent.event(self.event) }
    }
}

fn raw(told: &impl Serialize) -> Arc<RawValue> {
    serde_json::value::to_raw_value(told).expect("what is told is JSON").into()
}

fn frames_of(app: App, run: RunId, after: u64) -> impl Stream<Item = Frame> + use<> {
    let seen = app.engine().watch(app.tenant(), run, after);
    frames(app, seen, after)
}

/// Where a stream is.
struct Told {
    app: App,
    seen: BoxStream<'static, Result<Seen, Error>>,
    /// The last durable event that was given.
    last: u64,
    /// When a frame was given last: who comes for the next one much later could not take it.
    given: Instant,
}

/// What is seen as it goes over the wire. An error is told in a last frame of its own.
fn frames(
    app: App,
    seen: BoxStream<'static, Result<Seen, Error>>,
    after: u64,
) -> impl Stream<Item = Frame> + use<> {
    let told = Told { app, seen, last: after, given: Instant::now() };
    stream::unfold(Some(told), |told| async {
        let mut told = told?;
        let (frame, is_last) = told.next().await?;
        Some((frame, (!is_last).then_some(told)))
    })
}

impl Told {
    /// The next frame, and whether it is the last.
    async fn next(&mut self) -> Option<(Frame, bool)> {
        if self.given.elapsed() >= self.app.upkeep().patience {
            let after = self.last;
            self.app.metrics().lagged();
            return Some((Frame::new(Some(after), "lagged", &api::Lagged { after }), true));
        }
        let told = match self.seen.next().await? {
            Ok(Seen::Event(seen)) => {
                self.last = seen.seq;
                let id = Some(seen.seq);
                shown(&self.app, &seen).await.map(|data| Frame { id, event: "message", data })
            }
            Ok(Seen::Progress(progress)) => {
                Ok(Frame::new(None, "message", &progress_of(&progress)))
            }
            Err(error) => Err(error.into()),
        };
        self.given = Instant::now();
        Some(match told {
            Ok(frame) => (frame, false),
            Err(problem) => (Frame::new(None, "error", problem.told()), true),
        })
    }
}

/// An event as it goes over the wire, made once for all who are told of it.
async fn shown(app: &App, seen: &SeenEvent) -> Result<Arc<RawValue>, Problem> {
    if let Some(shown) = seen.shown.get() {
        return Ok(shown.clone());
    }
    let shown = raw(&event_of(app, seen).await?);
    Ok(seen.shown.get_or_init(|| shown).clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Node, Place, Reachable, Setup};
    use crate::server::local::Local;

    #[tokio::test]
    async fn a_damaged_run_ends_its_stream_with_a_problem() {
        let node = Node::open(Setup::plain(Place::Memory, Reachable::No)).await.unwrap();
        let app = node.app.clone();
        let broken = move || async move {
            let damaged = Err(Error::Damaged("an entry is missing".into()));
            let frames = frames(app, stream::iter([damaged]).boxed(), 0);
            Sse::new(frames.map(|frame| Ok::<_, Infallible>(frame.sent())))
        };
        let router = axum::Router::new().route("/runs/x/events", axum::routing::get(broken));
        let client = api::Client::over(Arc::new(Local::new(router)));
        let error = client.events("x", 0).next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), Some("run_damaged"));
        assert_eq!(error.to_string(), "an entry is missing");
        node.close(Duration::ZERO).await.unwrap();
    }
}
