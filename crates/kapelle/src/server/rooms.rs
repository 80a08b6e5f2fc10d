//! What there is room for at once: connections, requests at work, streams, open runs, and bytes for all of them.
//!
//! **Invariants:** nobody waits for room: whoever finds none hears so before anything is done for them (503
//! `overloaded`), and what was let in is finished. Words about what is under way (pause, cancel, approve, what
//! workers say) and probes have places and bytes of their own, and a few connections that are for nothing else.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::Extensions;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::door::permission::Permission;
use super::held::{Coming, Going, Held, Share, no_bytes};
use super::problem::Problem;

/// So many connections beyond all others are answered one request each: a word, or that there is no room.
const STANDING: usize = 256;
/// Words have this part of the bytes besides.
const WORDS_SHARE: u64 = 4;

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) connections: u32,
    /// At work, and as many words besides.
    pub(crate) requests: u32,
    /// Streams, and workers that wait for work.
    pub(crate) streams: u32,
    /// Of bodies, and of answers until they are read.
    pub(crate) bytes: u64,
    /// Open ones that this node works on.
    pub(crate) runs: u32,
}

impl Default for Space {
    fn default() -> Self {
        let (connections, streams, runs) = (12_000, 11_000, 100_000);
        Self { connections, requests: 500, streams, bytes: 256 << 20, runs }
    }
}

/// What a request is, as to the room that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It asks for something new, or for what there is.
    Work,
    /// The same, and makes a run.
    Begins,
    /// It is about what is under way: there is room for it when there is none for work.
    Word,
    /// It waits for what comes.
    Stays,
}

impl Kind {
    /// That of a route, if nothing else is said.
    pub(super) const fn of(needs: Option<Permission>, is_read: bool) -> Self {
        match needs {
            Some(Permission::TaskCancel | Permission::RunApprove | Permission::SystemRead) => {
                Self::Word
            }
            Some(Permission::AgentWork) if !is_read => Self::Word,
            _ => Self::Work,
        }
    }
}

/// All there are.
pub(crate) struct Rooms {
    space: Space,
    seats: Arc<Semaphore>,
    work: Room,
    words: Room,
    streams: Arc<Semaphore>,
}

struct Room {
    places: Arc<Semaphore>,
    bytes: Arc<Held>,
}

/// The seat of a connection among those that there may be: whatever goes on with it has a share.
#[derive(Clone)]
pub(crate) struct Seat {
    _permit: Arc<OwnedSemaphorePermit>,
    /// It is one of those beyond all others.
    pub(super) is_standing: bool,
}

/// The place of a request: a stream keeps it until it ends.
#[derive(Clone)]
pub(super) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
    bytes: Arc<Held>,
    /// What its body takes.
    _body: Option<Arc<Share>>,
}

impl Rooms {
    pub(crate) fn new(space: Space) -> Self {
        let places = |count: u32| Arc::new(Semaphore::new(count as usize));
        let room = |max| Room { places: places(space.requests), bytes: Held::up_to(max) };
        Self {
            space,
            seats: Arc::new(Semaphore::new(space.connections as usize + STANDING)),
            work: room(space.bytes),
            words: room(space.bytes / WORDS_SHARE),
            streams: places(space.streams),
        }
    }

    /// A seat for the next connection, as soon as there is one. Those who come meanwhile wait in the system's
    /// queue, which is bounded.
    pub(super) async fn seat(&self) -> Option<Seat> {
        let permit = self.seats.clone().acquire_owned().await.ok()?;
        let is_standing = self.seats.available_permits() < STANDING;
        Some(Seat { _permit: Arc::new(permit), is_standing })
    }

    /// Returns when there is no connection any more.
    pub(super) async fn empty(&self) {
        let all = self.space.connections.saturating_add(u32::try_from(STANDING).unwrap_or(0));
        self.seats.acquire_many(all).await.ok();
    }

    /// Lets a request in where there is room for it. `runs`: how many there are; `body_max`: the longest body that is
    /// read of it.
    pub(super) fn enter(
        &self,
        kind: Kind,
        (runs, body_max): (usize, usize),
        request: &mut Request,
    ) -> Result<Place, Problem> {
        let seat = request.extensions().get::<Seat>();
        if kind != Kind::Word && seat.is_some_and(|seat| seat.is_standing) {
            return Err(Problem::overloaded("connections", "server.connections"));
        }
        if kind == Kind::Begins && runs >= self.space.runs as usize {
            return Err(Problem::overloaded("open runs", "server.open_runs"));
        }
        let (places, bytes, what) = match kind {
            Kind::Work | Kind::Begins => (&self.work.places, &self.work.bytes, "requests"),
            Kind::Word => (&self.words.places, &self.words.bytes, "requests"),
            Kind::Stays => (&self.streams, &self.work.bytes, "streams"),
        };
        let permit = places.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Problem::overloaded(what, &format!("server.{what}")))?;
        let hint = request.body().size_hint();
        let share = (hint.upper() != Some(0)).then(|| Share::of(bytes));
        if let Some(share) = &share {
            if !bytes.has_room_for(hint.lower().min(body_max as u64)) {
                return Err(no_bytes());
            }
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = Body::new(Coming { body, share: share.clone() });
        }
        Ok(Place { _permit: Arc::new(permit), bytes: bytes.clone(), _body: share })
    }

    /// How much of it is taken.
    pub(super) fn taken(&self) -> [Taken; 5] {
        let Space { connections, requests, streams, bytes, .. } = self.space;
        let places = |of, places: &Semaphore, count: u32, more: usize| {
            let (room, left) = (count as usize, places.available_permits());
            Taken { of, taken: (room + more).saturating_sub(left), room }
        };
        let held = self.work.bytes.now() + self.words.bytes.now();
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        [
            places("connections", &self.seats, connections, STANDING),
            places("requests", &self.work.places, requests, 0),
            places("words", &self.words.places, requests, 0),
            places("streams", &self.streams, streams, 0),
            Taken { of: "bytes", taken: size(held), room: size(bytes + bytes / WORDS_SHARE) },
        ]
    }
}

/// How much there is of something, and room for how much.
pub(super) struct Taken {
    pub(super) of: &'static str,
    pub(super) taken: usize,
    pub(super) room: usize,
}

impl Place {
    /// Counts an answer until it is read. One that only tells something is not given where there is no room for
    /// it; what was done is told in any case.
    pub(super) fn keep(&self, answer: Response, only_tells: bool) -> Response {
        let Some(len) = answer.body().size_hint().exact() else { return answer };
        let share = Share::of(&self.bytes);
        if !share.grow(len, !only_tells) {
            return no_bytes().into_response();
        }
        if share.is_counted() {
            answer.map(|body| Body::new(Going { body, share }))
        } else {
            answer
        }
    }
}

/// What a stream keeps until it ends: the seat of its connection, and its own place.
#[derive(Clone)]
pub(super) struct Stay {
    _seat: Option<Seat>,
    _place: Option<Place>,
}

impl Stay {
    /// That of the request which these are of.
    pub(super) fn of(extensions: &Extensions) -> Self {
        Self { _seat: extensions.get().cloned(), _place: extensions.get().cloned() }
    }
}
