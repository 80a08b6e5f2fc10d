//! How many attempts go on at once: a node's counters, shared by its loops.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kapelle_core::port::Agents;

/// The counters of a node.
#[derive(Debug)]
pub struct Slots {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    free: u32,
    /// Only agents that have a limit of their own.
    by_agent: BTreeMap<Box<str>, u32>,
}

impl Slots {
    /// Slots for `max` attempts, and for each of `agents` as many as it takes.
    #[must_use]
    pub fn new(max: u32, agents: &Agents) -> Self {
        let cards = agents.iter().map(|agent| agent.agent.card());
        let limits = cards.filter_map(|card| Some((card.name.clone(), card.concurrency_max?)));
        Self { inner: Mutex::new(Inner { free: max, by_agent: limits.collect() }) }
    }

    /// Takes a slot for `agent`, if there is one.
    pub fn take(&self, agent: &str) -> bool {
        let mut inner = self.lock();
        if inner.free == 0 {
            return false;
        }
        match inner.by_agent.get_mut(agent) {
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        inner.free -= 1;
        true
    }

    /// Gives it back.
    pub fn give(&self, agent: &str) {
        let mut inner = self.lock();
        inner.free += 1;
        if let Some(left) = inner.by_agent.get_mut(agent) {
            *left += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
