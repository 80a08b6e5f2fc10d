//! What has ended: removed when nobody needs it any more.

use std::time::Duration;

use kapelle_core::port::journal::{RunQuery, RunRow};
use kapelle_core::{RunId, Tenant, Timestamp};

use crate::{Engine, Error};

/// How many lines of the list of runs are read at once.
const PAGE: u32 = 1_000;

impl Engine {
    /// The runs that ended at least `age` ago and are not among the `keep` newest that have ended,
    /// oldest first.
    pub async fn ended(
        &self,
        tenant: &Tenant,
        age: Duration,
        keep: usize,
    ) -> Result<Vec<RunRow>, Error> {
        let now = self.inner.shared.clock.now();
        let is_old = |at: Timestamp| at.after(age) <= now;
        let mut query = RunQuery { limit: PAGE, ..RunQuery::default() };
        let (mut found, mut newer) = (Vec::new(), 0);
        loop {
            let page = self.journal().runs(tenant, &query).await?;
            query.before = page.last().map(|row| row.run);
            let last = page.len() < PAGE as usize;
            for row in page.into_iter().filter(|row| !row.open) {
                newer += 1;
                if newer > keep && row.ended_at.is_some_and(is_old) {
                    found.push(row);
                }
            }
            if last {
                found.reverse();
                return Ok(found);
            }
        }
    }

    /// Removes those of `runs` that have ended, each whole or not at all, and answers them. Whoever
    /// owns their shards goes on undisturbed; submit keys still answer for 30 days.
    pub async fn prune(&self, tenant: &Tenant, runs: &[RunId]) -> Result<Vec<RunId>, Error> {
        let now = self.inner.shared.clock.now();
        let (mut rest, mut gone) = (runs, Vec::new());
        while !rest.is_empty() {
            let pruned = self.journal().prune(tenant, rest, now).await?;
            gone.extend(pruned.runs);
            rest = rest.get(pruned.seen.max(1)..).unwrap_or_default();
        }
        Ok(gone)
    }

    /// Gives back to the disk what pruning has freed, and answers how many bytes of it stay free in
    /// the store's files.
    pub async fn shrink(&self) -> Result<u64, Error> {
        loop {
            let shrunk = self.journal().shrink().await?;
            if !shrunk.more {
                return Ok(shrunk.free);
            }
        }
    }
}
