//! How many attempts go on at once: a node's counters, shared by its loops. An agent in trouble gets
//! no new ones for a while.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kapelle_core::Timestamp;
use kapelle_core::port::Agents;
use kapelle_core::port::agent::Failure;
use kapelle_core::run::{Command, SUSPECT_FOR};

use crate::allowance::Allowance;
use crate::breaker::{Breaker, is_trouble};

/// The counters of a node.
#[derive(Debug)]
pub struct Slots {
    inner: Mutex<Inner>,
    /// Whether any agent had a bad end since its last good one: if none, good ends need no look.
    troubled: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    free: u32,
    /// Only agents that have a limit of their own.
    by_agent: BTreeMap<Box<str>, Own>,
    /// Agents whose last end was bad, of those that are one service.
    troubled: BTreeMap<Box<str>, Breaker>,
    /// What agents have left for retries, of those that had one.
    allowances: BTreeMap<Box<str>, Allowance>,
    /// Agents whose calls have nothing to do with each other.
    many: Vec<Box<str>>,
    /// The suspect that has begun last, and until when it counts as one.
    suspect: (Weak<()>, Timestamp),
}

/// The slots of one agent.
#[derive(Clone, Copy, Debug)]
struct Own {
    taken: u32,
    max: u32,
}

/// What came of asking for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is taken.
    Yes,
    /// There is none until one is given back.
    No,
    /// The agent is left alone until then.
    NotBefore(Timestamp),
}

/// What a step that nodes may have died of keeps while it is at work; dropped, the next one may begin.
pub type Alone = Arc<()>;

impl Slots {
    /// Slots for `max` attempts, and for each of `agents` as many as it takes.
    #[must_use]
    pub fn new(max: u32, agents: &Agents) -> Self {
        let inner = Inner {
            free: max,
            by_agent: BTreeMap::new(),
            troubled: BTreeMap::new(),
            allowances: BTreeMap::new(),
            many: Vec::new(),
            suspect: Default::default(),
        };
        let slots = Self { inner: Mutex::new(inner), troubled: AtomicBool::new(false) };
        slots.know(agents);
        slots
    }

    /// Takes note of how many slots each of `agents` takes. What is taken stays so: an agent whose
    /// limit was lowered gets no new ones until enough are given back.
    pub fn know(&self, agents: &Agents) {
        let mut inner = self.lock();
        let cards = agents.iter().map(|agent| agent.agent.card());
        let limits = cards.filter_map(|card| Some((card.name.clone(), card.concurrency_max?)));
        let before = std::mem::take(&mut inner.by_agent);
        let taken = |name: &str| before.get(name).map_or(0, |own| own.taken);
        inner.by_agent =
            limits.map(|(name, max)| (name.clone(), Own { taken: taken(&name), max })).collect();
        let many = agents.iter().filter(|agent| !agent.agent.is_one_service());
        inner.many = many.map(|agent| agent.agent.card().name.clone()).collect();
    }

    /// Takes a slot for `agent`, if there is one; `again` for a retry, which is to be within what the
    /// agent is allowed of them. That is spent also if the attempt does not begin after all.
    pub fn take(&self, agent: &str, again: bool, now: Timestamp) -> Taken {
        let mut inner = self.lock();
        if inner.free == 0 || inner.by_agent.get(agent).is_some_and(|own| own.taken >= own.max) {
            return Taken::No;
        }
        if let Some(breaker) = inner.troubled.get_mut(agent)
            && let Err(until) = breaker.pass(now)
        {
            return Taken::NotBefore(until);
        }
        if let Err(until) = inner.allow(agent, again, now) {
            inner.pass_unused(agent);
            return Taken::NotBefore(until);
        }
        if let Some(own) = inner.by_agent.get_mut(agent) {
            own.taken += 1;
        }
        inner.free -= 1;
        Taken::Yes
    }

    /// Gives it back.
    pub fn give(&self, agent: &str) {
        self.lock().give(agent);
    }

    /// Gives it back for an attempt that has not begun.
    pub fn give_unused(&self, agent: &str) {
        let mut inner = self.lock();
        inner.give(agent);
        inner.pass_unused(agent);
    }

    /// Lets a suspect begin, if no other one is at work that has begun so lately; else says when to
    /// ask again, should that one go on for so long. Only they wait: what is not suspected begins.
    pub fn take_alone(&self, now: Timestamp) -> Result<Alone, Timestamp> {
        let mut inner = self.lock();
        let (suspect, until) = &inner.suspect;
        if suspect.strong_count() > 0 && now < *until {
            return Err(*until);
        }
        let alone = Alone::default();
        inner.suspect = (Arc::downgrade(&alone), now.after(SUSPECT_FOR));
        Ok(alone)
    }

    /// Takes note of what an attempt of `agent` reports.
    pub fn note(&self, agent: &str, report: &Command, now: Timestamp) {
        match report {
            Command::Answered { .. } if self.troubled.load(Ordering::Relaxed) => self.well(agent),
            Command::Failed { failure, .. } => self.note_failure(agent, failure, now),
            _ => {}
        }
    }

    /// Takes note of how an attempt of `agent` failed.
    pub fn note_failure(&self, agent: &str, failure: &Failure, now: Timestamp) {
        if is_trouble(failure) {
            self.badly(agent, now);
        }
    }

    fn well(&self, agent: &str) {
        let mut inner = self.lock();
        let before = inner.troubled.remove(agent);
        self.troubled.store(!inner.troubled.is_empty(), Ordering::Relaxed);
        if before.is_some_and(|breaker| breaker.is_at_rest()) {
            tracing::warn!(agent, "the agent answers again");
        }
    }

    fn badly(&self, agent: &str, now: Timestamp) {
        let mut inner = self.lock();
        if inner.is_many(agent) {
            return;
        }
        let breaker = inner.troubled.entry(agent.into()).or_default();
        if let Some(pause) = breaker.bad_end(now) {
            tracing::warn!(agent, ?pause, "the agent is left alone: it failed many times in a row");
        }
        self.troubled.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether the agent's calls have nothing to do with each other.
    fn is_many(&self, agent: &str) -> bool {
        self.many.iter().any(|many| **many == *agent)
    }

    /// Keeps count of an agent's attempts and retries; says when there may be a retry again.
    fn allow(&mut self, agent: &str, again: bool, now: Timestamp) -> Result<(), Timestamp> {
        if again {
            let full = || Allowance::full(now);
            return self.allowances.entry(agent.into()).or_insert_with(full).take(now);
        }
        if let Some(allowance) = self.allowances.get_mut(agent) {
            allowance.first(now);
        }
        Ok(())
    }

    /// The attempt that its breaker has let through does not begin.
    fn pass_unused(&mut self, agent: &str) {
        if let Some(breaker) = self.troubled.get_mut(agent) {
            breaker.pass_unused();
        }
    }

    fn give(&mut self, agent: &str) {
        self.free += 1;
        if let Some(own) = self.by_agent.get_mut(agent) {
            // What was taken before it had a limit is given back all the same.
            own.taken = own.taken.saturating_sub(1);
        }
    }
}
