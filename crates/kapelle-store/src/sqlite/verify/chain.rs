//! All entries of a store, run by run, and whether each continues its run.
//!
//! **Invariant:** where it goes on is what the index says, never what a row does: a damaged row must
//! not lead back, nor past others.

use std::sync::Arc;

use kapelle_core::RunId;
use kapelle_core::port::journal::Entry;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::sqlite::read;

/// Where an entry is, as the index has it: its run, and its first event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    run: Vec<u8>,
    pub(super) seq: i64,
}

impl Place {
    /// Reads it from the columns `first` and the one after it.
    fn of(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self { run: row.get(first)?, seq: row.get(first + 1)? })
    }

    pub(super) fn id(&self) -> Option<RunId> {
        self.run.as_slice().try_into().ok().map(RunId::from_bytes)
    }
}

/// How far the entries were followed.
#[derive(Default)]
pub(super) struct Chain {
    run: Vec<u8>,
    next_seq: u64,
    hash: [u8; 32],
    /// A fault of this run was told: what comes after it is a consequence.
    is_broken: bool,
    pub(super) entries: u64,
    pub(super) runs: u64,
}

/// An entry, or why it cannot be read.
pub(super) type Read = Result<Entry, Arc<str>>;

impl Chain {
    /// What is wrong with the next entry, if it is the first of its run with which something is.
    pub(super) fn follow(&mut self, place: &Place, entry: Read) -> Option<Arc<str>> {
        if self.run != place.run {
            let (run, entries, runs) = (place.run.clone(), self.entries, self.runs + 1);
            *self = Self { run, next_seq: 1, entries, runs, ..Self::default() };
        }
        self.entries += 1;
        if self.is_broken {
            return None;
        }
        let fault = self.fault(place, entry).err();
        self.is_broken = fault.is_some();
        fault
    }

    fn fault(&mut self, place: &Place, entry: Read) -> Result<(), Arc<str>> {
        let entry = entry?;
        let hash = std::mem::replace(&mut self.hash, entry.hash);
        let expected =
            std::mem::replace(&mut self.next_seq, entry.first_seq + u64::from(entry.count));
        let is_there =
            entry.run.as_bytes() == &*place.run && entry.first_seq == place.seq.cast_unsigned();
        if !is_there {
            return Err("the index leads to another entry".into());
        }
        if entry.first_seq != expected {
            return Err(format!("event {expected} is missing").into());
        }
        if entry.chained(&hash) != entry.hash {
            return Err("its hash does not match".into());
        }
        Ok(())
    }
}

/// The next entries of all runs, run by run, as the index has them.
///
/// What the index says is asked for by itself: a damaged row must not lead back.
pub(super) fn entries(
    conn: &Connection,
    after: &Place,
    limit: u32,
) -> rusqlite::Result<Vec<(Place, Read)>> {
    let sql = format!(
        "SELECT entry.*, place.run, place.first_seq FROM (
             SELECT run, first_seq, id FROM entry INDEXED BY entry_run
             WHERE (run, first_seq) > (?1, ?2) ORDER BY run, first_seq LIMIT ?3) AS place
         LEFT JOIN (SELECT {} FROM entry) AS entry ON entry.id = place.id
         ORDER BY place.run, place.first_seq",
        read::ENTRY
    );
    let mut select = conn.prepare_cached(&sql)?;
    let rows = select.query_map(params![after.run, after.seq, limit], |row| {
        let entry = read::entry(row).map_err(|error| error.to_string().into());
        Ok((Place::of(row, 10)?, entry))
    })?;
    rows.collect()
}

/// Where the next entry is.
pub(super) fn next(conn: &Connection, after: &Place) -> rusqlite::Result<Option<Place>> {
    let sql = "SELECT run, first_seq FROM entry INDEXED BY entry_run
               WHERE (run, first_seq) > (?1, ?2) ORDER BY run, first_seq LIMIT 1";
    let values = params![after.run, after.seq];
    conn.prepare_cached(sql)?.query_row(values, |row| Place::of(row, 0)).optional()
}
