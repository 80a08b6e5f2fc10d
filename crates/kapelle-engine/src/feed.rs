//! Who watches which run, told when there is something new.
//!
//! What is durable is read from the journal by the watcher itself; the feed only says that there is
//! more, and carries what is not durable (progress).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kapelle_core::port::agent::Progress;
use kapelle_core::run::Ended;
use kapelle_core::{Attempt, RunId, StepId};
use tokio::sync::broadcast;

/// What a watcher is told.
#[derive(Clone, Debug)]
pub(crate) enum Live {
    /// There is more in the journal.
    More,
    /// An attempt is so far.
    Progress(Arc<Progressed>),
    /// It is over.
    Ended(Arc<Ended>),
    /// It cannot be read, and is left alone.
    Damaged(Arc<str>),
}

/// How far an attempt is.
#[derive(Clone, Debug)]
pub struct Progressed {
    /// Of which run.
    pub run: RunId,
    /// Of which step.
    pub step: StepId,
    /// Which attempt.
    pub attempt: Attempt,
    /// How far.
    pub progress: Progress,
}

/// Who watches which run.
#[derive(Default)]
pub(crate) struct Feed {
    watched: Mutex<BTreeMap<RunId, broadcast::Sender<Live>>>,
    count: AtomicUsize,
}

/// A place among those who watch a run.
pub(crate) struct Seat {
    pub(crate) live: broadcast::Receiver<Live>,
    run: RunId,
    feed: Arc<Feed>,
}

impl Feed {
    pub(crate) fn sit(self: &Arc<Self>, run: RunId) -> Seat {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let live = watched.entry(run).or_insert_with(|| broadcast::channel(256).0).subscribe();
        self.count.store(watched.len(), Ordering::Relaxed);
        Seat { live, run, feed: self.clone() }
    }

    pub(crate) fn tell(&self, run: RunId, live: impl FnOnce() -> Live) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(&run) {
            // Nobody listening any more is no fault.
            sender.send(live()).ok();
        }
    }

    pub(crate) fn tell_all(&self) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in watched.values() {
            sender.send(Live::More).ok();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut watched = self.feed.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // This seat's own receiver is still counted.
        if watched.get(&self.run).is_some_and(|sender| sender.receiver_count() <= 1) {
            watched.remove(&self.run);
        }
        self.feed.count.store(watched.len(), Ordering::Relaxed);
    }
}
