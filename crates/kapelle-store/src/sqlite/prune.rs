//! Removing runs that have ended, and giving the space back.
//!
//! **Invariants:** a run goes in one transaction, whole; the positions of its entries are never given
//! again, so the end of a shard stays where it was; a payload goes with its last reference, one that
//! is a file after the commit, by the sweep that any crash leaves to the next one who opens the store.

use std::path::PathBuf;

use kapelle_core::port::journal::{KEY_KEPT, Pruned, Shrunk};
use kapelle_core::{Digest, RunId, Tenant, Timestamp};
use rusqlite::params;

use super::sum;
use super::write::{POS_BITS, Transaction};

/// How many entries one transaction removes before the next one has to do the rest.
const ENTRIES_MAX: usize = 10_000;
/// How many pages one transaction gives back: 8 MiB.
const PAGES: u32 = 2_048;

/// What a transaction has removed, and the files that nobody refers to any more.
#[derive(Default)]
pub(super) struct Gone {
    pub(super) pruned: Pruned,
    pub(super) files: Vec<(PathBuf, Option<Digest>)>,
}

impl Transaction<'_> {
    /// Removes those of `runs` that have ended, as many as a transaction should hold.
    pub(super) fn prune(
        &mut self,
        tenant: &Tenant,
        runs: &[RunId],
        now: Timestamp,
    ) -> rusqlite::Result<Gone> {
        let sql = "DELETE FROM submit WHERE pruned_at <= ?1";
        let forgotten = now.0.saturating_sub(i64::try_from(KEY_KEPT.as_micros()).unwrap_or(0));
        self.conn.prepare_cached(sql)?.execute([forgotten])?;
        let (mut gone, mut entries) = (Gone::default(), 0);
        for run in runs {
            if entries >= ENTRIES_MAX {
                break;
            }
            gone.pruned.seen += 1;
            if self.has_ended(tenant, *run)? {
                entries += self.remove_entries(*run)?;
                self.remove_references(tenant, *run, &mut gone.files)?;
                self.remove_lines(tenant, *run, now)?;
                self.memo.forget_head(*run);
                gone.pruned.runs.push(*run);
            }
        }
        Ok(gone)
    }

    fn has_ended(&self, tenant: &Tenant, run: RunId) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM run WHERE tenant = ?1 AND run = ?2 AND open = 0";
        let sql = format!("{sql} AND {}", sum::RUN);
        self.conn.prepare_cached(&sql)?.exists(params![tenant.as_str(), run.as_bytes()])
    }

    fn remove_entries(&self, run: RunId) -> rusqlite::Result<usize> {
        let last = self
            .conn
            .prepare_cached("SELECT max(id) FROM entry WHERE run = ?1")?
            .query_row([run.as_bytes()], |row| row.get::<_, Option<i64>>(0))?;
        let Some(last) = last else { return Ok(0) };
        let (place, pos) = (last >> POS_BITS, last & ((1 << POS_BITS) - 1));
        let sql = "INSERT INTO pruned (place, pos, sum) VALUES (?1, ?2, row_sum(?1, ?2))
                   ON CONFLICT DO UPDATE SET pos = excluded.pos, sum = excluded.sum
                   WHERE excluded.pos > pos";
        self.conn.prepare_cached(sql)?.execute([place, pos])?;
        self.conn.prepare_cached("DELETE FROM entry WHERE run = ?1")?.execute([run.as_bytes()])
    }

    fn remove_references(
        &self,
        tenant: &Tenant,
        run: RunId,
        files: &mut Vec<(PathBuf, Option<Digest>)>,
    ) -> rusqlite::Result<()> {
        let sql = "DELETE FROM payload_ref WHERE run = ?1 AND tenant = ?2 RETURNING digest";
        let mut remove = self.conn.prepare_cached(sql)?;
        let digests = remove.query_map(params![run.as_bytes(), tenant.as_str()], |row| {
            Ok(Digest::from_bytes(row.get(0)?))
        })?;
        let digests = digests.collect::<rusqlite::Result<Vec<_>>>()?;
        let mut remove = self.conn.prepare_cached(
            "DELETE FROM payload WHERE tenant = ?1 AND digest = ?2
             AND NOT EXISTS (SELECT 1 FROM payload_ref WHERE digest = ?2 AND tenant = ?1)",
        )?;
        for digest in digests {
            remove.execute(params![tenant.as_str(), digest.as_bytes()])?;
            if self.files.len(digest).is_some() {
                files.push((self.files.path(digest), Some(digest)));
            }
        }
        Ok(())
    }

    fn remove_lines(&self, tenant: &Tenant, run: RunId, now: Timestamp) -> rusqlite::Result<()> {
        let sql = "UPDATE submit SET pruned_at = ?3,
                       sum = row_sum(tenant, key, run, content, ?3)
                   WHERE run = ?1 AND tenant = ?2";
        let values = params![run.as_bytes(), tenant.as_str(), now.0];
        self.conn.prepare_cached(sql)?.execute(values)?;
        let sql = "DELETE FROM run WHERE run = ?1 AND tenant = ?2";
        let values = params![run.as_bytes(), tenant.as_str()];
        self.conn.prepare_cached(sql)?.execute(values).map(drop)
    }

    /// Gives free pages at the end of the database back. One that was made before this was asked of
    /// it keeps its free pages and fills them again.
    pub(super) fn shrink(&self) -> rusqlite::Result<Shrunk> {
        let pages = |of| self.conn.query_row(of, [], |row| row.get::<_, u32>(0));
        let before = pages("PRAGMA freelist_count")?;
        let sql = format!("PRAGMA incremental_vacuum({PAGES})");
        let mut vacuum = self.conn.prepare(&sql)?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        let after = pages("PRAGMA freelist_count")?;
        let free = u64::from(after) * u64::from(pages("PRAGMA page_size")?);
        Ok(Shrunk { more: after > 0 && after < before, free })
    }
}
