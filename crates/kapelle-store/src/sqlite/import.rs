//! Taking in a run that has ended in another store.
//!
//! **Invariant:** its entries are written as they are, epochs and hashes included, to a place that no
//! shard's owner writes to or remembers the end of.

use kapelle_core::port::journal::{Addition, History, Imported, Row};
use kapelle_core::{Digest, RunId, Tenant};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::sum;
use super::write::{HISTORY, Stop, Transaction, end_of};
use crate::check;

impl Transaction<'_> {
    pub(super) fn import(&mut self, history: &History) -> Result<Imported, Stop> {
        check::history(history).map_err(Stop::Refused)?;
        let History { entries, row, rows } = history;
        let last = entries.last().expect("it was checked");
        let known = self
            .conn
            .prepare_cached(
                "SELECT hash FROM entry WHERE run = ?1 ORDER BY first_seq DESC LIMIT 1",
            )?
            .query_row([row.run.as_bytes()], |row| row.get::<_, [u8; 32]>(0));
        if let Some(known) = known.optional()? {
            return Ok(if known == last.hash { Imported::Known } else { Imported::Other });
        }
        let mut pos = end_of(self.conn, HISTORY)?;
        for entry in entries {
            pos += 1;
            self.entry(entry, HISTORY, pos)?;
        }
        self.memo.new_ends.entry(HISTORY).or_default().pos = Some(pos);
        let of = Addition { key: None, entry: last.clone(), rows: Vec::new() };
        for row in rows {
            self.row(&of, row)?;
        }
        self.row(&of, &Row::Run(row.clone()))?;
        Ok(Imported::New)
    }
}

/// The payloads that a run refers to, by digest.
pub(super) fn references(
    conn: &Connection,
    tenant: &Tenant,
    run: RunId,
) -> rusqlite::Result<Vec<(Digest, u64)>> {
    let sql = format!(
        "SELECT digest, len, {} FROM payload_ref WHERE run = ?1 AND tenant = ?2 ORDER BY digest",
        sum::REFERENCE
    );
    let mut select = conn.prepare_cached(&sql)?;
    let found = select.query_map(params![run.as_bytes(), tenant.as_str()], |row| {
        sum::check(row, 2, "a reference to a payload")?;
        Ok((Digest::from_bytes(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned()))
    })?;
    found.collect()
}
