//! Attempts on their way to workers, and those that workers are at.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kapelle_core::port::agent::{Call, Progress};
use kapelle_core::{RunId, StepId, Tenant, Timestamp};
use kapelle_engine::Engine;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::post::Ending;

/// So many wait for work of one agent at once.
const WAITING_MAX: usize = 1_000;
/// So many words of a worker wait for its attempt.
const WORDS_MAX: usize = 8;

/// Which agent of which tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Whose {
    pub(crate) tenant: Tenant,
    pub(crate) agent: Box<str>,
}

/// Which attempt: what a worker echoes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttemptId {
    pub(crate) run: RunId,
    pub(crate) attempt: kapelle_core::Attempt,
    pub(crate) step: StepId,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.run, self.attempt.0, self.step)
    }
}

impl FromStr for AttemptId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().ok_or(());
        let run = next()?.parse().map_err(drop)?;
        let attempt = kapelle_core::Attempt(next()?.parse().map_err(drop)?);
        let step = next()?.parse().map_err(drop)?;
        Ok(Self { run, attempt, step })
    }
}

/// What an attempt is told.
pub(super) enum Word {
    /// A worker has it, or it is not to be done any more.
    Changed,
    /// How far it is.
    Progress(Progress),
    /// It has ended.
    Ended(Ending),
}

/// An attempt that is a worker's, or waits for one.
pub(crate) struct Attempt {
    pub(crate) id: AttemptId,
    pub(crate) whose: Whose,
    pub(crate) call: Call,
    pub(crate) lease: Duration,
    words: mpsc::Sender<Word>,
    state: Mutex<State>,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// When its worker was last heard of; `None`: nobody has taken it.
    pub(crate) heard: Option<Instant>,
    /// It is not wanted any more.
    pub(crate) cancelled: bool,
    /// It has ended here, or was given up.
    pub(crate) over: bool,
    /// Whoever takes the run over goes on with it.
    pub(crate) left: bool,
}

impl Attempt {
    pub(crate) fn state(&self) -> State {
        *self.lock()
    }

    /// Changes where it stands.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock())
    }

    /// A worker takes it; whether it is still to be had.
    fn take(&self) -> bool {
        let taken = self.with(|state| {
            let free = state.heard.is_none() && !state.over && !state.cancelled && !state.left;
            if free {
                state.heard = Some(Instant::now());
            }
            free
        });
        if taken {
            self.words.try_send(Word::Changed).ok();
        }
        taken
    }

    /// Its worker says something; whether it is still the one to say it.
    pub(crate) fn hear(&self) -> bool {
        self.with(|state| {
            let current = !state.over && state.heard.is_some();
            if current {
                state.heard = Some(Instant::now());
            }
            current
        })
    }

    /// Shows how far it is; what is not shown in time is not shown.
    pub(crate) fn progress(&self, progress: Progress) {
        self.words.try_send(Word::Progress(progress)).ok();
    }

    /// Has it end; whether it had not ended before.
    pub(crate) async fn end(&self, ending: Ending) -> bool {
        self.words.send(Word::Ended(ending)).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All attempts of workers on a node.
#[derive(Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    attempts: HashMap<AttemptId, Arc<Attempt>>,
    lines: HashMap<Whose, Line>,
    next: u64,
    /// This node gives out nothing more.
    leaving: bool,
}

/// Who waits for work of an agent, or which work for them: never both.
#[derive(Default)]
struct Line {
    waiting: VecDeque<(u64, oneshot::Sender<Arc<Attempt>>)>,
    untaken: VecDeque<Arc<Attempt>>,
    heard_at: Option<Timestamp>,
}

/// Why somebody cannot wait for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// There is no such agent.
    Unknown,
    /// Enough wait already.
    Full,
    /// This node leaves.
    Leaving,
}

impl Hub {
    /// An attempt is there to be worked on: whoever has waited longest gets it.
    pub(super) fn begin(&self, whose: Whose, call: Call, lease: Duration) -> Begun<'_> {
        let (words, heard) = mpsc::channel(WORDS_MAX);
        let (run, step) = (call.run, call.step.clone());
        let id = AttemptId { run, attempt: call.attempt, step };
        // Somebody is at it who has taken it from the node before.
        let heard_at = call.goes_on.then(Instant::now);
        let goes_on = call.goes_on;
        let mut inner = self.lock();
        let state = State { heard: heard_at, left: inner.leaving, ..State::default() };
        let state = Mutex::new(state);
        let attempt = Arc::new(Attempt { id, whose, call, lease, words, state });
        inner.attempts.insert(attempt.id.clone(), attempt.clone());
        match inner.lines.get_mut(&attempt.whose) {
            Some(line) if !goes_on => line.hand_out(attempt.clone()),
            Some(_) => {}
            // It was removed while this was on its way.
            None => attempt.with(|state| state.cancelled = true),
        }
        drop(inner);
        Begun { hub: self, attempt, words: heard }
    }

    /// The attempt of this id, if it is here and of the tenant.
    pub(crate) fn attempt(&self, tenant: &Tenant, id: &AttemptId) -> Option<Arc<Attempt>> {
        let found = self.lock().attempts.get(id)?.clone();
        (found.whose.tenant == *tenant).then_some(found)
    }

    /// Somebody wants to do work of an agent.
    pub(crate) fn wait(
        self: &Arc<Self>,
        engine: &Engine,
        whose: &Whose,
        now: Timestamp,
    ) -> Result<Waiter, NoPlace> {
        let (hub, engine, whose) = (self.clone(), engine.clone(), whose.clone());
        let (sender, work) = oneshot::channel();
        let number = {
            let mut inner = self.lock();
            if inner.leaving {
                return Err(NoPlace::Leaving);
            }
            inner.next += 1;
            let number = inner.next;
            let line = inner.lines.get_mut(&whose).ok_or(NoPlace::Unknown)?;
            line.heard_at = Some(now);
            if line.waiting.len() >= WAITING_MAX {
                return Err(NoPlace::Full);
            }
            line.waiting.push_back((number, sender));
            line.match_up();
            number
        };
        engine.offer(&whose.tenant, &whose.agent, 1);
        Ok(Waiter { hub, engine, whose, number, work: Some(work) })
    }

    /// A word of a worker has come.
    pub(crate) fn note_heard(&self, whose: &Whose, now: Timestamp) {
        if let Some(line) = self.lock().lines.get_mut(whose) {
            line.heard_at = Some(now);
        }
    }

    /// How many wait for work of an agent, how many work, and when the last word of one came.
    pub(crate) fn presence(&self, whose: &Whose) -> (usize, usize, Option<Timestamp>) {
        let inner = self.lock();
        let is_at_work =
            |attempt: &&Arc<Attempt>| attempt.whose == *whose && attempt.state().heard.is_some();
        let working = inner.attempts.values().filter(is_at_work).count();
        match inner.lines.get(whose) {
            Some(line) => (line.waiting.len(), working, line.heard_at),
            None => (0, working, None),
        }
    }

    /// There is such an agent: workers may come.
    pub(super) fn know(&self, whose: &Whose) {
        self.lock().lines.entry(whose.clone()).or_default();
    }

    /// There is no such agent any more: nobody waits for its work, and nothing waits for its workers.
    pub(crate) fn forget(&self, whose: &Whose) {
        let line = self.lock().lines.remove(whose);
        for attempt in line.into_iter().flat_map(|line| line.untaken) {
            attempt.with(|state| state.cancelled = true);
            attempt.words.try_send(Word::Changed).ok();
        }
    }

    /// This node leaves: what workers are at goes on, what nobody has taken is begun elsewhere.
    pub(crate) fn leave(&self) {
        let mut inner = self.lock();
        inner.leaving = true;
        inner.lines.values_mut().for_each(|line| line.waiting.clear());
        inner.attempts.values().for_each(|attempt| {
            attempt.with(|state| state.left = true);
            attempt.words.try_send(Word::Changed).ok();
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Gives an attempt to whoever has waited longest.
    fn hand_out(&mut self, attempt: Arc<Attempt>) {
        self.untaken.push_back(attempt);
        self.match_up();
    }

    fn match_up(&mut self) {
        while !self.untaken.is_empty()
            && let Some((_, waiting)) = self.waiting.pop_front()
            && let Some(attempt) = self.untaken.pop_front()
        {
            if let Err(attempt) = waiting.send(attempt) {
                self.untaken.push_front(attempt);
            }
        }
    }
}

/// An attempt that was begun, until this is dropped.
pub(super) struct Begun<'a> {
    hub: &'a Hub,
    pub(super) attempt: Arc<Attempt>,
    pub(super) words: mpsc::Receiver<Word>,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.attempt.with(|state| state.over = true);
        let mut inner = self.hub.lock();
        inner.attempts.remove(&self.attempt.id);
        if let Some(line) = inner.lines.get_mut(&self.attempt.whose) {
            line.untaken.retain(|attempt| !Arc::ptr_eq(attempt, &self.attempt));
        }
    }
}

/// Somebody who waits for work, until this is dropped.
pub(crate) struct Waiter {
    hub: Arc<Hub>,
    engine: Engine,
    whose: Whose,
    number: u64,
    work: Option<oneshot::Receiver<Arc<Attempt>>>,
}

impl Waiter {
    /// Something to do, which is this worker's from here on; `None`: there is no such agent any more, or what
    /// came is not to be done any more.
    pub(crate) async fn work(&mut self) -> Option<Arc<Attempt>> {
        let attempt = self.work.as_mut()?.await.ok()?;
        self.work = None;
        attempt.take().then_some(attempt)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(mut work) = self.work.take() else { return };
        work.close();
        let mut inner = self.hub.lock();
        let Some(line) = inner.lines.get_mut(&self.whose) else { return };
        // What has come and was not taken is for the next one.
        if let Ok(attempt) = work.try_recv() {
            line.untaken.push_front(attempt);
            line.match_up();
        } else {
            line.waiting.retain(|(number, _)| *number != self.number);
        }
        drop(inner);
        self.engine.offer(&self.whose.tenant, &self.whose.agent, -1);
    }
}
