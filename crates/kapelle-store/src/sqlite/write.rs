//! What a transaction writes, statement by statement.
//!
//! **Invariant:** what is remembered between transactions (heads of runs, ends of shards) is only
//! used for a shard whose epoch was found unchanged in the same transaction; so nobody else can
//! have written there. It is forgotten at every claim and every rollback.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kapelle_core::port::journal::{Addition, Entry, Error, Part, Row, RunRow, Settled, Twin};
use kapelle_core::{Digest, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::ends::End;
use super::fault::damage;
use super::files::Files;
use super::sum;
use crate::check::{self, Head};

/// How many heads are remembered: those of the runs that are at work, and then some.
const HEADS_MAX: usize = 100_000;
/// How far a place's number is from the positions of its entries.
pub(super) const POS_BITS: u32 = 48;
/// Where entries are: their shard's number, below 256, or [`HISTORY`]; or [`AUDIT`].
pub(super) type Place = u16;
/// Where the entries of all runs are that were taken in from elsewhere: no shard's, so whoever owns
/// those goes on undisturbed.
pub(super) const HISTORY: Place = 256;
/// The audit log, which has no entries of runs but ends somewhere too.
pub(super) const AUDIT: Place = 257;

/// Why a transaction cannot go on.
pub(super) enum Stop {
    /// One wish cannot be fulfilled; the others can.
    Refused(Error),
    /// None can.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// What the writer remembers.
#[derive(Default)]
pub(super) struct Memo {
    heads: HashMap<RunId, Head>,
    ends: BTreeMap<Shard, u64>,
    /// What the open transaction adds to what is vouched for.
    pub(super) new_ends: BTreeMap<Place, End>,
}

impl Memo {
    pub(super) fn forget(&mut self) {
        self.forget_heads();
        self.new_ends.clear();
    }

    pub(super) fn forget_head(&mut self, run: RunId) {
        self.heads.remove(&run);
    }

    fn forget_heads(&mut self) {
        self.heads.clear();
        self.ends.clear();
    }
}

/// An open transaction.
pub(super) struct Transaction<'a> {
    pub(super) conn: &'a Connection,
    pub(super) memo: &'a mut Memo,
    pub(super) files: &'a Files,
}

impl Transaction<'_> {
    pub(super) fn claim(
        &mut self,
        seen: &[(Shard, Epoch)],
        owner: &NodeId,
    ) -> rusqlite::Result<Vec<(Shard, Epoch)>> {
        self.memo.forget_heads();
        let mut claim = self.conn.prepare_cached(
            "UPDATE shard SET epoch = epoch + 1, owner = ?3, sum = row_sum(shard, epoch + 1, ?3)
             WHERE shard = ?1 AND epoch = ?2",
        )?;
        let mut won = Vec::new();
        for &(shard, epoch) in seen {
            if claim.execute(params![shard.0, int(epoch.0), owner.as_str()])? == 1 {
                won.push((shard, Epoch(epoch.0 + 1)));
                self.memo.new_ends.entry(shard.0.into()).or_default().epoch = Some(epoch.0 + 1);
            }
        }
        Ok(won)
    }

    pub(super) fn release(&mut self, held: &[(Shard, Epoch)]) -> rusqlite::Result<()> {
        let mut release = self.conn.prepare_cached(
            "UPDATE shard SET owner = NULL, sum = row_sum(shard, epoch, NULL)
                 WHERE shard = ?1 AND epoch = ?2",
        )?;
        for (shard, epoch) in held {
            release.execute(params![shard.0, int(epoch.0)])?;
        }
        Ok(())
    }

    pub(super) fn append(&mut self, parts: &[Part]) -> Result<Vec<Settled>, Stop> {
        parts.iter().map(|part| self.part(part)).collect()
    }

    /// Removes the files of `old` that nothing refers to; tells how many.
    pub(super) fn sweep(
        &mut self,
        old: &[(PathBuf, Option<Digest>)],
        age: Duration,
    ) -> Result<u64, Stop> {
        let mut referred =
            self.conn.prepare_cached("SELECT 1 FROM payload_ref WHERE digest = ?1 LIMIT 1")?;
        let mut unreferenced: Vec<&Path> = Vec::new();
        for (path, digest) in old {
            if !digest.map_or(Ok(false), |digest| referred.exists([digest.as_bytes()]))? {
                unreferenced.push(path);
            }
        }
        // What cannot be removed now is tried again by the next sweep.
        Ok(self.files.remove(&unreferenced, age).unwrap_or(0))
    }

    fn part(&mut self, part: &Part) -> Result<Settled, Stop> {
        let mut epoch = self
            .conn
            .prepare_cached("SELECT epoch FROM shard WHERE shard = ?1 AND owner IS NOT NULL")?;
        let epoch: Option<i64> = epoch.query_row([part.shard.0], |row| row.get(0)).optional()?;
        if epoch != Some(int(part.epoch.0)) {
            return Ok(Settled::Stale);
        }
        let mut left_out = Vec::new();
        for (i, addition) in part.runs.iter().enumerate() {
            if let Some(twin) = self.addition(part, addition).map_err(|stop| of(stop, addition))? {
                left_out.push((i, twin));
            }
        }
        Ok(Settled::Done { left_out })
    }

    /// Writes `addition`, unless its submit key is taken: then tells by whom.
    fn addition(&mut self, part: &Part, addition: &Addition) -> Result<Option<Twin>, Stop> {
        if let Some(twin) = self.submit_key(addition)? {
            return Ok(Some(twin));
        }
        let entry = &addition.entry;
        let head = self.head(entry.run)?;
        check::addition(part, addition, head.as_ref()).map_err(Stop::Refused)?;
        let place = Place::from(part.shard.0);
        let pos = self.end(part.shard)? + 1;
        self.entry(entry, place, pos)?;
        self.memo.ends.insert(part.shard, pos);
        self.memo.new_ends.entry(place).or_default().pos = Some(pos);
        let seq = entry.first_seq + u64::from(entry.count) - 1;
        if self.memo.heads.len() >= HEADS_MAX {
            self.memo.heads.clear();
        }
        self.memo.heads.insert(entry.run, Head { tenant: entry.tenant.clone(), seq });
        for row in &addition.rows {
            self.row(addition, row)?;
        }
        Ok(None)
    }

    fn submit_key(&mut self, addition: &Addition) -> Result<Option<Twin>, Stop> {
        let Some(key) = &addition.key else { return Ok(None) };
        let Entry { tenant, run, .. } = &addition.entry;
        match twin(self.conn, tenant, &key.key)? {
            Some(twin) if twin.is_forgotten(addition.entry.at) => {
                let sql = "DELETE FROM submit WHERE tenant = ?1 AND key = ?2";
                self.conn.prepare_cached(sql)?.execute(params![tenant.as_str(), key.key])?;
            }
            Some(twin) => return Ok(Some(twin)),
            None => {}
        }
        let sql = "INSERT INTO submit (tenant, key, run, content, sum)
                   VALUES (?1, ?2, ?3, ?4, row_sum(?1, ?2, ?3, ?4, NULL))";
        let values = params![tenant.as_str(), key.key, run.as_bytes(), key.content.as_bytes()];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(None)
    }

    fn head(&self, run: RunId) -> rusqlite::Result<Option<Head>> {
        if let Some(head) = self.memo.heads.get(&run) {
            return Ok(Some(head.clone()));
        }
        let mut head = self.conn.prepare_cached(
            "SELECT tenant, first_seq + count - 1 FROM entry WHERE run = ?1
             ORDER BY first_seq DESC LIMIT 1",
        )?;
        let head = head.query_row([run.as_bytes()], |row| {
            let tenant = Tenant::new(row.get_ref(0)?.as_str()?);
            Ok(Head { tenant, seq: row.get::<_, i64>(1)?.cast_unsigned() })
        });
        head.optional()
    }

    /// The position of the shard's last entry.
    fn end(&self, shard: Shard) -> rusqlite::Result<u64> {
        if let Some(end) = self.memo.ends.get(&shard) {
            return Ok(*end);
        }
        end_of(self.conn, shard.0.into())
    }

    pub(super) fn entry(&self, entry: &Entry, place: Place, pos: u64) -> rusqlite::Result<()> {
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO entry (id, tenant, run, first_seq, count, at, epoch, level, hash, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        insert.execute(params![
            i64::from(place) << POS_BITS | int(pos),
            entry.tenant.as_str(),
            entry.run.as_bytes(),
            int(entry.first_seq),
            entry.count,
            entry.at.0,
            int(entry.epoch.0),
            entry.level,
            entry.hash,
            &entry.body[..],
        ])?;
        Ok(())
    }

    pub(super) fn row(&mut self, addition: &Addition, row: &Row) -> Result<(), Stop> {
        let Entry { tenant, run, .. } = &addition.entry;
        match row {
            Row::Run(row) => self.run_row(row)?,
            Row::Payload(payload) => {
                let sql = "INSERT INTO payload (tenant, digest, bytes) VALUES (?1, ?2, ?3)
                           ON CONFLICT DO NOTHING";
                let digest = payload.digest.as_bytes();
                let values = params![tenant.as_str(), digest, &payload.bytes[..]];
                self.conn.prepare_cached(sql)?.execute(values)?;
                self.reference(tenant, *run, payload.digest, payload.bytes.len() as u64)?;
            }
            Row::Reference { digest, len } => {
                if !self.has_payload(tenant, *digest, *len)? {
                    return Err(Stop::Refused(check::missing(addition, *digest, *len)));
                }
                self.reference(tenant, *run, *digest, *len)?;
            }
            Row::Note(body) => self.note(tenant, body)?,
        }
        Ok(())
    }

    fn has_payload(&self, tenant: &Tenant, digest: Digest, len: u64) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM payload WHERE tenant = ?1 AND digest = ?2 AND length(bytes) = ?3";
        let values = params![tenant.as_str(), digest.as_bytes(), int(len)];
        Ok(self.conn.prepare_cached(sql)?.exists(values)? || self.files.len(digest) == Some(len))
    }

    fn reference(
        &self,
        tenant: &Tenant,
        run: RunId,
        digest: Digest,
        len: u64,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO payload_ref (digest, tenant, run, len, sum)
                   VALUES (?1, ?2, ?3, ?4, row_sum(?1, ?2, ?3, ?4)) ON CONFLICT DO NOTHING";
        let values = params![digest.as_bytes(), tenant.as_str(), run.as_bytes(), int(len)];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    fn run_row(&self, row: &RunRow) -> rusqlite::Result<()> {
        let mut upsert = self.conn.prepare_cached(
            "INSERT INTO run (tenant, run, shard, workflow, task_id, status, open, created_at, updated_at, ended_at, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
                 row_sum(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10))
             ON CONFLICT DO UPDATE SET workflow = excluded.workflow, task_id = excluded.task_id,
                 status = excluded.status, open = excluded.open, created_at = excluded.created_at,
                 updated_at = excluded.updated_at, ended_at = excluded.ended_at, sum = excluded.sum",
        )?;
        upsert.execute(params![
            row.tenant.as_str(),
            row.run.as_bytes(),
            row.run.shard().0,
            row.workflow,
            row.task_id,
            row.status,
            row.open,
            row.created_at.0,
            row.updated_at.0,
            row.ended_at.map(|at| at.0),
        ])?;
        Ok(())
    }
}

/// A row or a page that makes no sense harms who needs it, nobody else.
fn of(stop: Stop, addition: &Addition) -> Stop {
    let Stop::Sql(error) = &stop else { return stop };
    let Some(what) = damage(error) else { return stop };
    Stop::Refused(check::corrupt(addition, what))
}

/// The run that was submitted under `key`.
pub(super) fn twin(
    conn: &Connection,
    tenant: &Tenant,
    key: &str,
) -> rusqlite::Result<Option<Twin>> {
    let ok = sum::SUBMIT;
    let sql = "SELECT run, content, pruned_at";
    let sql = format!("{sql}, {ok} FROM submit WHERE tenant = ?1 AND key = ?2");
    let twin = conn.prepare_cached(&sql)?.query_row([tenant.as_str(), key], |row| {
        sum::check(row, 3, "a submit key's row")?;
        Ok(Twin {
            run: RunId::from_bytes(row.get(0)?),
            content: Digest::from_bytes(row.get(1)?),
            pruned_at: row.get::<_, Option<i64>>(2)?.map(Timestamp),
        })
    });
    twin.optional()
}

/// The position of the last entry there ever was in a place, pruned ones included.
pub(super) fn end_of(conn: &Connection, place: Place) -> rusqlite::Result<u64> {
    let sql = format!("SELECT pos, {} FROM pruned WHERE place = ?1", sum::PRUNED);
    let pruned = conn.prepare_cached(&sql)?.query_row([place], |row| {
        sum::check(row, 1, "how far a shard was pruned")?;
        row.get::<_, i64>(0)
    });
    Ok(last_of(conn, place)?.max(pruned.optional()?.unwrap_or(0).cast_unsigned()))
}

/// The position of the last entry there is in a place.
pub(super) fn last_of(conn: &Connection, place: Place) -> rusqlite::Result<u64> {
    let first = i64::from(place) << POS_BITS;
    let sql = "SELECT coalesce(max(id), ?1) - ?1 FROM entry WHERE id > ?1 AND id < ?2";
    let values = [first, first + (1 << POS_BITS)];
    let last: i64 = conn.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    Ok(last.cast_unsigned())
}

/// A number as SQLite keeps it; those beyond, which nothing can hold, become the largest.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
