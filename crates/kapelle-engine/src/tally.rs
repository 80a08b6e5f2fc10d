//! What each agent has done since the node began, told apart by whom it did it for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kapelle_core::{Tenant, Timestamp};

/// So many pairs of a tenant and an agent are counted; those that come after them are not.
const COUNTED_MAX: usize = 10_000;

/// What an agent has done for a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that go on.
    pub running: u64,
    /// Attempts that ended well.
    pub completed: u64,
    /// Attempts that ended badly.
    pub failed: u64,
    /// How long those that ended took, together.
    pub took: Duration,
    /// When the last one began or ended.
    pub last_at: Timestamp,
}

/// The counts of a node.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<BTreeMap<Tenant, BTreeMap<Box<str>, Tally>>>);

impl Tallies {
    pub(crate) fn of(&self, tenant: &Tenant) -> BTreeMap<Box<str>, Tally> {
        self.lock().get(tenant).cloned().unwrap_or_default()
    }

    pub(crate) fn begin(&self, tenant: &Tenant, agent: &str, now: Timestamp) {
        self.note(tenant, agent, |tally| {
            tally.running += 1;
            tally.last_at = now;
        });
    }

    pub(crate) fn end(
        &self,
        (tenant, agent): (&Tenant, &str),
        well: bool,
        took: Duration,
        now: Timestamp,
    ) {
        self.note(tenant, agent, |tally| {
            tally.running = tally.running.saturating_sub(1);
            *(if well { &mut tally.completed } else { &mut tally.failed }) += 1;
            tally.took += took;
            tally.last_at = now;
        });
    }

    fn note(&self, tenant: &Tenant, agent: &str, note: impl FnOnce(&mut Tally)) {
        let mut all = self.lock();
        if let Some(tally) = all.get_mut(tenant).and_then(|of| of.get_mut(agent)) {
            return note(tally);
        }
        if all.values().map(BTreeMap::len).sum::<usize>() < COUNTED_MAX {
            note(all.entry(tenant.clone()).or_default().entry(agent.into()).or_default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Tenant, BTreeMap<Box<str>, Tally>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
