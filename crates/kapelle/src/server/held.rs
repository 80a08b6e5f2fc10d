//! Bytes that are held for those who ask: bodies of requests, and answers that nobody has read yet.
//!
//! **Invariant:** what is counted is held, and given back when the last piece of it is gone: a body when its request
//! is answered, an answer when the system has taken it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};

use super::problem::Problem;

/// What is shorter is not counted: of thousands of them it is little.
const SMALL: u64 = 4 << 10;

/// There is no room for a body, or an answer.
pub(super) fn no_bytes() -> Problem {
    Problem::overloaded("bytes", "server.memory")
}

/// There is no room for what else comes of a body.
#[derive(Debug, thiserror::Error)]
#[error("there is no room for the body")]
pub(super) struct NoRoom;

/// Bytes that are held, and how many may be.
pub(super) struct Held {
    now: AtomicU64,
    max: u64,
}

impl Held {
    pub(super) fn up_to(max: u64) -> Arc<Self> {
        Arc::new(Self { now: AtomicU64::new(0), max })
    }

    pub(super) fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// Whether so many more could be taken now.
    pub(super) fn has_room_for(&self, more: u64) -> bool {
        let now = self.now.load(Relaxed);
        now == 0 || more <= SMALL || now.saturating_add(more) <= self.max
    }
}

/// Somebody's part of them, until it is dropped.
pub(super) struct Share {
    of: Arc<Held>,
    seen: AtomicU64,
}

impl Share {
    pub(super) fn of(held: &Arc<Held>) -> Arc<Self> {
        Arc::new(Self { of: held.clone(), seen: AtomicU64::new(0) })
    }

    pub(super) fn is_counted(&self) -> bool {
        Self::counted(self.seen.load(Relaxed)) > 0
    }

    const fn counted(seen: u64) -> u64 {
        if seen > SMALL { seen } else { 0 }
    }

    /// Takes so many more, if there are so many, or `anyway`. What is longer than all there is may come alone.
    pub(super) fn grow(&self, by: u64, anyway: bool) -> bool {
        let seen = self.seen.load(Relaxed);
        let own = Self::counted(seen);
        let more = Self::counted(seen + by) - own;
        let grown = self.of.now.fetch_update(Relaxed, Relaxed, |now| {
            let fits = anyway || now == own || now + more <= self.of.max;
            (more == 0 || fits).then_some(now + more)
        });
        if grown.is_ok() {
            self.seen.store(seen + by, Relaxed);
        }
        grown.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.now.fetch_sub(Self::counted(*self.seen.get_mut()), Relaxed);
    }
}

/// The body of a request, counted as it comes.
pub(super) struct Coming {
    pub(super) body: Body,
    pub(super) share: Arc<Share>,
}

impl hyper::body::Body for Coming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.share.grow(data.len() as u64, false)
        {
            return Poll::Ready(Some(Err(NoRoom.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, counted until the last of it is written.
pub(super) struct Going {
    pub(super) body: Body,
    pub(super) share: Arc<Share>,
}

impl hyper::body::Body for Going {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let share = &self.share;
        let unread = |bytes| Bytes::from_owner(Unread { bytes, _share: share.clone() });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(unread))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer, with a share in what is held.
struct Unread {
    bytes: Bytes,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let held = Held::up_to(100 << 10);
        let (a, b) = (Share::of(&held), Share::of(&held));
        // A small one is not counted.
        assert!(a.grow(SMALL, false));
        assert_eq!(held.now(), 0);
        assert!(a.grow(60 << 10, false));
        assert_eq!(held.now(), 64 << 10);
        assert!(!b.grow(60 << 10, false) && held.has_room_for(30 << 10));
        assert!(!held.has_room_for(60 << 10));
        // What was done is told in any case.
        assert!(b.grow(60 << 10, true));
        drop((a, b));
        assert_eq!(held.now(), 0);
        // What is longer than all there is comes alone.
        let (a, b) = (Share::of(&held), Share::of(&held));
        assert!(a.grow(80 << 10, false) && a.grow(80 << 10, false));
        assert!(!b.grow(8 << 10, false));
        drop(a);
        assert!(b.grow(8 << 10, false));
    }
}
