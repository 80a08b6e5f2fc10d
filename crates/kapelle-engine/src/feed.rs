//! Who watches which run, told when there is something new.
//!
//! What is durable is read from the journal by the watcher itself; the feed only says that there is
//! more, and carries what is not durable (progress). How far attempts are that go on, and that a run
//! is left alone, is told to those who come later as well: it may be long until anything else is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kapelle_core::port::agent::Progress;
use kapelle_core::run::Ended;
use kapelle_core::{Attempt, RunId, Shard, StepId};
use tokio::sync::{broadcast, oneshot};

use crate::common::Common;

/// What a watcher is told.
#[derive(Clone, Debug)]
pub(crate) enum Live {
    /// There is more in the journal.
    More,
    /// An attempt is so far.
    Progress(Arc<Progressed>),
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

/// What one who waits for the end is told: how it ended, or why it cannot be read.
pub(crate) type End = Result<Arc<Ended>, Arc<str>>;

/// How many news may wait for a watcher; one who is late looks for himself.
const NEWS_MAX: usize = 64;

/// Who watches which run, and who waits for its end.
#[derive(Default)]
pub(crate) struct Feed {
    known: Mutex<Known>,
    count: AtomicUsize,
}

#[derive(Default)]
struct Known {
    watched: BTreeMap<RunId, (broadcast::Sender<Live>, Arc<Common>)>,
    awaited: BTreeMap<RunId, Vec<oneshot::Sender<End>>>,
    damaged: BTreeMap<RunId, Arc<str>>,
    /// The newest word of each attempt that goes on.
    so_far: BTreeMap<RunId, BTreeMap<StepId, Arc<Progressed>>>,
}

/// A place among those who watch a run.
pub(crate) struct Seat {
    pub(crate) live: broadcast::Receiver<Live>,
    pub(crate) common: Arc<Common>,
    /// How far the attempts were that went on then.
    pub(crate) so_far: Vec<Arc<Progressed>>,
    run: RunId,
    feed: Arc<Feed>,
}

/// A place among those who wait for the end of a run, and are not woken before.
pub(crate) struct Vigil {
    pub(crate) end: oneshot::Receiver<End>,
    run: RunId,
    feed: Arc<Feed>,
}

impl Feed {
    pub(crate) fn sit(self: &Arc<Self>, run: RunId) -> Seat {
        let mut known = self.lock();
        let watched = known.watched.entry(run);
        let all = watched.or_insert_with(|| (broadcast::channel(NEWS_MAX).0, Arc::default()));
        let (live, common) = (all.0.subscribe(), all.1.clone());
        self.recount(&known);
        if let (Some(why), Some((sender, _))) = (known.damaged.get(&run), known.watched.get(&run)) {
            sender.send(Live::Damaged(why.clone())).ok();
        }
        let so_far = known.so_far.get(&run).into_iter().flat_map(BTreeMap::values);
        Seat { live, common, so_far: so_far.cloned().collect(), run, feed: self.clone() }
    }

    pub(crate) fn await_end(self: &Arc<Self>, run: RunId) -> Vigil {
        let (sender, end) = oneshot::channel();
        let mut known = self.lock();
        match known.damaged.get(&run) {
            Some(why) => drop(sender.send(Err(why.clone()))),
            None => known.awaited.entry(run).or_default().push(sender),
        }
        self.recount(&known);
        Vigil { end, run, feed: self.clone() }
    }

    pub(crate) fn tell(&self, run: RunId, live: impl FnOnce() -> Live) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some((sender, _)) = self.lock().watched.get(&run) {
            // Nobody listening any more is no fault.
            sender.send(live()).ok();
        }
    }

    /// An attempt is so far.
    pub(crate) fn progress(&self, progressed: Progressed) {
        let (run, step) = (progressed.run, progressed.step.clone());
        let progressed = Arc::new(progressed);
        let mut known = self.lock();
        known.so_far.entry(run).or_default().insert(step, progressed.clone());
        if let Some((sender, _)) = known.watched.get(&run) {
            sender.send(Live::Progress(progressed)).ok();
        }
    }

    /// An attempt is over: how far it was is of no interest any more.
    pub(crate) fn forget_progress(&self, run: RunId, step: &StepId, attempt: Attempt) {
        let mut known = self.lock();
        let Some(steps) = known.so_far.get_mut(&run) else { return };
        if steps.get(step).is_some_and(|known| known.attempt == attempt) {
            steps.remove(step);
        }
        if steps.is_empty() {
            known.so_far.remove(&run);
        }
    }

    /// A run is left alone.
    pub(crate) fn damage(&self, run: RunId, why: &Arc<str>) {
        self.lock().damaged.insert(run, why.clone());
        self.tell(run, || Live::Damaged(why.clone()));
        self.tell_end(run, || Err(why.clone()));
    }

    /// The runs of a shard are read anew.
    pub(crate) fn forget_damage(&self, shard: Shard) {
        self.lock().damaged.retain(|run, _| run.shard() != shard);
    }

    /// Tells those who wait for the end of a run.
    pub(crate) fn tell_end(&self, run: RunId, end: impl FnOnce() -> End) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut known = self.lock();
        let Some(waiting) = known.awaited.remove(&run) else { return };
        self.recount(&known);
        drop(known);
        let end = end();
        for sender in waiting {
            sender.send(end.clone()).ok();
        }
    }

    /// Has everybody look for himself.
    pub(crate) fn tell_all(&self) {
        let mut known = self.lock();
        known.awaited.clear();
        for (sender, _) in known.watched.values() {
            sender.send(Live::More).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recount(&self, known: &Known) {
        self.count.store(known.watched.len() + known.awaited.len(), Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut known = self.feed.lock();
        // This seat's own receiver is still counted.
        if known.watched.get(&self.run).is_some_and(|(all, _)| all.receiver_count() <= 1) {
            known.watched.remove(&self.run);
        }
        self.feed.recount(&known);
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.end.close();
        let mut known = self.feed.lock();
        if let Some(waiting) = known.awaited.get_mut(&self.run) {
            waiting.retain(|sender| !sender.is_closed());
            if waiting.is_empty() {
                known.awaited.remove(&self.run);
            }
        }
        self.feed.recount(&known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_later_hears_how_far_attempts_are_that_go_on() {
        let feed = Arc::new(Feed::default());
        let run = RunId::from_bytes([7; 16]);
        let step: StepId = "a".parse().unwrap();
        let said = |attempt, message: &str| Progressed {
            run,
            step: step.clone(),
            attempt: Attempt(attempt),
            progress: Progress { message: Some(message.into()), fraction: None },
        };
        feed.progress(said(1, "old"));
        feed.progress(said(2, "new"));
        feed.forget_progress(run, &step, Attempt(1));
        let seat = feed.sit(run);
        assert_eq!(seat.so_far.iter().map(|heard| heard.attempt.0).collect::<Vec<_>>(), [2]);
        feed.forget_progress(run, &step, Attempt(2));
        assert!(feed.sit(run).so_far.is_empty() && feed.lock().so_far.is_empty());
    }

    #[test]
    fn who_comes_after_the_damage_hears_of_it() {
        let feed = Arc::new(Feed::default());
        let run = RunId::from_bytes([7; 16]);
        feed.damage(run, &"it is damaged".into());
        let told = feed.sit(run).live.try_recv();
        assert!(matches!(told, Ok(Live::Damaged(_))), "{told:?}");
        assert!(matches!(feed.await_end(run).end.try_recv(), Ok(Err(_))));
        feed.forget_damage(run.shard());
        assert!(feed.sit(run).live.try_recv().is_err());
    }
}
