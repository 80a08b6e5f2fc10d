//! How an answer leaves: when, in which pieces, and whether to its end.
//!
//! **Invariant:** the journal hears once of each answer that it is over, also when the client hangs up.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::fault::End;
use crate::journal::{Journal, Ticket};
use crate::script::Delivery;

/// An answer before it leaves.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) is_stream: bool,
    pub(crate) frames: Vec<Bytes>,
    pub(crate) end: End,
    pub(crate) delivery: Delivery,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            is_stream: false,
            frames: vec![Bytes::from(body.to_string())],
            end: End::Whole,
            delivery: Delivery::default(),
        }
    }

    /// Sends it at its pace, and tells the journal when it is over.
    pub(crate) async fn send(self, journal: Arc<Journal>, ticket: Option<Ticket>) -> Response {
        let mut over = Over { journal, ticket, delivered: false };
        wait(self.delivery.latency_ms).await;
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content =
            if self.is_stream { "text/event-stream; charset=utf-8" } else { "application/json" };
        let own = [("content-type".to_owned(), content.to_owned())];
        for (name, value) in own.into_iter().chain(self.headers) {
            let header = (HeaderName::try_from(name), HeaderValue::try_from(value));
            if let (Ok(name), Ok(value)) = header {
                response.headers_mut().insert(name, value);
            }
        }
        let is_plain = self.end == End::Whole && !self.is_stream;
        if let ([frame], true, None) = (&self.frames[..], is_plain, self.delivery.first_byte_ms) {
            // It is with the kernel at once: whether the client reads it, nobody hears.
            over.delivered = true;
            *response.body_mut() = Body::from(frame.clone());
            return response;
        }
        *response.body_mut() = paced(self.frames, self.end, &self.delivery, over);
        response
    }
}

/// Tells the journal when it goes.
struct Over {
    journal: Arc<Journal>,
    ticket: Option<Ticket>,
    delivered: bool,
}

impl Drop for Over {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.journal.over(ticket, self.delivered);
        }
    }
}

/// What of a body is still to come.
struct Rest {
    frames: std::vec::IntoIter<Bytes>,
    /// How many bytes may still leave.
    left: Option<u64>,
    end: End,
    wait_ms: Option<u64>,
    event_ms: Option<u64>,
    over: Over,
}

fn paced(frames: Vec<Bytes>, end: End, delivery: &Delivery, over: Over) -> Body {
    let left = match end {
        End::Whole => None,
        End::Cut(at) | End::Stall(at) => Some(at),
    };
    let rest = Rest {
        frames: frames.into_iter(),
        left,
        end,
        wait_ms: delivery.first_byte_ms,
        event_ms: delivery.event_ms,
        over,
    };
    Body::from_stream(stream::unfold(Some(rest), next))
}

type Step = (Result<Bytes, std::io::Error>, Option<Rest>);

async fn next(rest: Option<Rest>) -> Option<Step> {
    let mut rest = rest?;
    if rest.left == Some(0) {
        return ended(rest).await;
    }
    let Some(frame) = rest.frames.next() else {
        rest.over.delivered = true;
        return None;
    };
    wait(rest.wait_ms).await;
    rest.wait_ms = rest.event_ms;
    let room = rest.left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
    let frame = frame.slice(..frame.len().min(room));
    rest.left = rest.left.map(|left| left - frame.len() as u64);
    Some((Ok(frame), Some(rest)))
}

async fn ended(rest: Rest) -> Option<Step> {
    if matches!(rest.end, End::Stall(_)) {
        std::future::pending::<()>().await;
    }
    // What was written so far has to leave before the connection breaks.
    tokio::time::sleep(Duration::from_millis(1)).await;
    Some((Err(std::io::Error::other("the script cuts here")), None))
}

async fn wait(ms: Option<u64>) {
    if let Some(ms) = ms.filter(|ms| *ms > 0) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
