//! How many attempts go on at once: a node's counters, shared by its loops. An agent in trouble gets
//! no new ones for a while; one whose work others do gets one for each of them that asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kapelle_core::port::Agents;
use kapelle_core::port::agent::Failure;
use kapelle_core::run::{Command, SUSPECT_FOR};
use kapelle_core::{Tenant, Timestamp};

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
    /// How many wait for work of an agent, less those for whom it is on its way. Below none: it is for
    /// some who have left meanwhile.
    offers: BTreeMap<Box<str>, i64>,
    /// The suspect that has begun last, and until when it counts as one.
    suspect: (Weak<()>, Timestamp),
}

/// The slots of one agent.
#[derive(Clone, Copy, Debug)]
struct Own {
    taken: u32,
    max: u32,
}

/// What an attempt takes while it goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// One of the node's, for this agent.
    Own(Box<str>),
    /// None of the node's: somebody offers to work as this agent of this tenant.
    Offered(Box<str>),
    /// Nothing: somebody is at it already.
    Held(Box<str>),
}

impl Slot {
    /// What an attempt of the agent `name` takes in a run of `tenant`.
    #[must_use]
    pub fn of(agents: &Agents, tenant: &Tenant, name: &str) -> Self {
        match agents.of(tenant).get(name) {
            Some(agent) if agent.agent.is_remote() => Self::offered(tenant, name),
            _ => Self::Own(name.into()),
        }
    }

    /// What an attempt takes that others are to work on.
    #[must_use]
    pub fn offered(tenant: &Tenant, name: &str) -> Self {
        Self::Offered(format!("{tenant}/{name}").into())
    }

    /// The agent that somebody is to offer to be for this tenant.
    pub(crate) fn agent_of(&self, tenant: &Tenant) -> Option<&str> {
        let Self::Offered(name) = self else { return None };
        name.strip_prefix(tenant.as_str())?.strip_prefix('/')
    }

    /// The name under which it is counted.
    const fn name(&self) -> &str {
        let (Self::Own(name) | Self::Offered(name) | Self::Held(name)) = self;
        name
    }
}

impl From<&str> for Slot {
    fn from(agent: &str) -> Self {
        Self::Own(agent.into())
    }
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
    /// Nobody offers to do it.
    NoOffer,
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
            offers: BTreeMap::new(),
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

    /// Takes a slot, if there is one; `again` for a retry, which is to be within what the agent is
    /// allowed of them. That is spent also if the attempt does not begin after all.
    pub fn take(&self, slot: &Slot, again: bool, now: Timestamp) -> Taken {
        let mut inner = self.lock();
        let agent = slot.name();
        match slot {
            Slot::Offered(_) if inner.offers.get(agent).is_none_or(|left| *left <= 0) => {
                return Taken::NoOffer;
            }
            Slot::Own(_) if inner.is_full(agent) => return Taken::No,
            Slot::Own(_) | Slot::Offered(_) | Slot::Held(_) => {}
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
        match slot {
            Slot::Offered(_) => inner.offer(agent, -1),
            Slot::Own(_) => {
                if let Some(own) = inner.by_agent.get_mut(agent) {
                    own.taken += 1;
                }
                inner.free -= 1;
            }
            Slot::Held(_) => {}
        }
        Taken::Yes
    }

    /// Gives it back. What was offered is used up.
    pub fn give(&self, slot: &Slot) {
        if let Slot::Own(agent) = slot {
            self.lock().give(agent);
        }
    }

    /// Gives it back for an attempt that has not begun.
    pub fn give_unused(&self, slot: &Slot) {
        let mut inner = self.lock();
        match slot {
            Slot::Offered(agent) => inner.offer(agent, 1),
            Slot::Own(agent) => inner.give(agent),
            Slot::Held(_) => {}
        }
        inner.pass_unused(slot.name());
    }

    /// So many more offer to do the work of `slot`, or so many less.
    pub fn offer(&self, slot: &Slot, more: i64) {
        if let Slot::Offered(agent) = slot {
            self.lock().offer(agent, more);
        }
    }

    /// Whether somebody offers to do the work of `slot`.
    #[must_use]
    pub fn is_offered(&self, slot: &Slot) -> bool {
        self.lock().offers.get(slot.name()).is_some_and(|left| *left > 0)
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

    /// Takes note of what an attempt of `slot` reports.
    pub fn note(&self, slot: &Slot, report: &Command, now: Timestamp) {
        let Slot::Own(agent) = slot else { return };
        match report {
            Command::Answered { .. } if self.troubled.load(Ordering::Relaxed) => self.well(agent),
            Command::Failed { failure, .. } => self.note_failure(slot, failure, now),
            _ => {}
        }
    }

    /// Takes note of how an attempt of `slot` failed. Of those who come and go no one is to blame for
    /// another.
    pub fn note_failure(&self, slot: &Slot, failure: &Failure, now: Timestamp) {
        if let Slot::Own(agent) = slot
            && is_trouble(failure)
        {
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
    fn is_full(&self, agent: &str) -> bool {
        self.free == 0 || self.by_agent.get(agent).is_some_and(|own| own.taken >= own.max)
    }

    fn offer(&mut self, agent: &str, more: i64) {
        let left = self.offers.entry(agent.into()).or_default();
        *left += more;
        if *left == 0 {
            self.offers.remove(agent);
        }
    }

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
