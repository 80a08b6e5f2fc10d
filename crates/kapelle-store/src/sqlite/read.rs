//! Reading what is committed: a few connections of their own, on tokio's threads for blocking work.
//!
//! **Invariant:** a read transaction covers at most [`PAGE`] rows and no wait, so that it never
//! keeps the log from being emptied for long. Longer answers are put together from several.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kapelle_core::port::journal::{Entry, Error, Holding, RunRow};
use kapelle_core::{Digest, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::Poison;
use super::fault::{Fault, Phase, classify, damaged};
use super::schema::{check_level, open_reader};
use super::sum;
use super::write::{POS_BITS, int, last_of};

/// How many rows one read transaction covers at the most.
pub(super) const PAGE: u32 = 1000;
/// How many read at once.
const READERS: usize = 4;

/// The connections that read.
pub(super) struct Readers {
    pub(super) path: PathBuf,
    file: Arc<str>,
    poison: Poison,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    pub(super) fn new(path: PathBuf, file: Arc<str>, poison: Poison) -> Arc<Self> {
        let (idle, permits) = (Mutex::default(), Semaphore::new(READERS));
        Arc::new(Self { path, file, poison, idle, permits })
    }

    /// Keeps a connection for later.
    pub(super) fn keep(&self, conn: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
    }

    /// Does `work` in a read transaction. What makes no sense is [`Error::Unavailable`].
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let file = Arc::clone(&self.file);
        let damaged = move |message: String| damaged(&file, &message);
        self.read_or(damaged, work).await
    }

    /// The same, but what makes no sense is the damage of `run` at event `seq`.
    pub(super) async fn read_run<T: Send + 'static>(
        self: &Arc<Self>,
        (run, seq): (RunId, u64),
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let damaged = move |message: String| Error::Corrupt { run, seq, message: message.into() };
        self.read_or(damaged, work).await
    }

    async fn read_or<T: Send + 'static>(
        self: &Arc<Self>,
        damaged: impl FnOnce(String) -> Error + Send + 'static,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permits.acquire().await.expect("never closed");
        let readers = Arc::clone(self);
        let read = move || match readers.transaction(work) {
            Ok(done) => done,
            Err(fault) => Err(match fault {
                Fault::Refused(error) | Fault::Ghost(error) => error,
                Fault::Damaged(message) => damaged(message),
                Fault::Poison(error) => readers.poison.take(error),
            }),
        };
        let done = spawn_blocking(read).await;
        drop(permit);
        done.unwrap_or_else(|ended| match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => {
                let message = "the runtime is shutting down".into();
                Err(Error::Unavailable { file: Arc::clone(&self.file), message })
            }
        })
    }

    fn transaction<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Result<T, Error>, Fault> {
        if let Err(poisoned) = self.poison.check() {
            return Ok(Err(poisoned));
        }
        let fault = |error| classify(&error, Phase::Read, &self.file);
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let conn = kept.map_or_else(|| open_reader(&self.path).map_err(fault), Ok)?;
        let done = self.within(&conn, work).map_err(fault);
        match &done {
            Ok(_) => self.keep(conn),
            Err(Fault::Poison(_)) => std::mem::forget(conn),
            Err(_) => {}
        }
        done
    }

    fn within<T>(
        &self,
        conn: &Connection,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Result<T, Error>> {
        let transaction = conn.unchecked_transaction()?;
        if let Err(newer) = check_level(&transaction, &self.file)? {
            return Ok(Err(newer));
        }
        work(&transaction).map(Ok)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        if self.poison.check().is_err() {
            let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(std::mem::take(idle));
        }
    }
}

pub(super) const ENTRY: &str = "tenant, run, first_seq, count, at, epoch, level, hash, body, id";

pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        tenant: Tenant::new(row.get_ref(0)?.as_str()?),
        run: RunId::from_bytes(row.get(1)?),
        first_seq: row.get::<_, i64>(2)?.cast_unsigned(),
        count: row.get(3)?,
        at: Timestamp(row.get(4)?),
        epoch: Epoch(row.get::<_, i64>(5)?.cast_unsigned()),
        level: row.get(6)?,
        hash: row.get(7)?,
        body: Bytes::copy_from_slice(row.get_ref(8)?.as_blob()?),
    })
}

/// The entries of a run from the one that holds event `from` on.
pub(super) fn entries(
    conn: &Connection,
    tenant: &Tenant,
    run: RunId,
    from: u64,
) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!(
        "SELECT {ENTRY} FROM entry WHERE run = ?1 AND first_seq + count > ?2
             AND first_seq >= coalesce(
                 (SELECT max(first_seq) FROM entry WHERE run = ?1 AND first_seq <= ?2), 0)
         ORDER BY first_seq LIMIT {PAGE}"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let found = select.query_map(params![run.as_bytes(), int(from)], entry)?;
    let mut found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let [own, all] = found
        .iter()
        .fold([0; 2], |[own, all], entry| [own + u32::from(entry.tenant == *tenant), all + 1]);
    if !are_own(conn, (tenant, run), own, all)? {
        found.clear();
    } else if all == 0 && from <= 1 && is_listed(conn, tenant, run)? {
        // Where an index leads past a row, another one does not.
        return Err(sum::wrong(0, "where the entries of the run are"));
    }
    Ok(found)
}

/// Whether all of `all` entries of a run are the tenant's, of which `own` say so: all or none.
///
/// Left to SQL, one whose tenant is damaged would just be missing from the answer.
fn are_own(
    conn: &Connection,
    (tenant, run): (&Tenant, RunId),
    own: u32,
    all: u32,
) -> rusqlite::Result<bool> {
    if own == all {
        return Ok(true);
    }
    if own > 0 || is_listed(conn, tenant, run)? {
        return Err(sum::wrong(0, "the tenant of an entry"));
    }
    Ok(false)
}

fn is_listed(conn: &Connection, tenant: &Tenant, run: RunId) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM run WHERE tenant = ?1 AND run = ?2";
    conn.prepare_cached(sql)?.exists(params![tenant.as_str(), run.as_bytes()])
}

/// The entries of a shard after position `after`.
///
/// Where a row's own number is damaged it has the wrong place, or ends the search before others: so
/// each is where the index has it, and the last one is the last from the other end too.
pub(super) fn tail(
    conn: &Connection,
    shard: Shard,
    after: u64,
    limit: u32,
) -> rusqlite::Result<Vec<(u64, Entry)>> {
    const POS_MAX: i64 = (1 << POS_BITS) - 1;
    let sql = format!(
        "SELECT {ENTRY}, id = (SELECT id FROM entry AS place INDEXED BY entry_run
             WHERE place.run = entry.run AND place.first_seq = entry.first_seq)
         FROM entry WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3"
    );
    let first = i64::from(shard.0) << POS_BITS;
    let values = params![first | int(after).min(POS_MAX), first | POS_MAX, limit.min(PAGE)];
    let mut select = conn.prepare_cached(&sql)?;
    let found = select.query_map(values, |row| {
        let id: i64 = row.get(9)?;
        sum::check(row, 10, "the place of an entry")?;
        Ok(((id & POS_MAX).cast_unsigned(), entry(row)?))
    })?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let last = found.last().map_or(after, |(pos, _)| *pos);
    if found.len() < limit.min(PAGE) as usize && last < last_of(conn, shard.0.into())? {
        return Err(sum::wrong(0, "the place of an entry"));
    }
    Ok(found)
}

/// How many bytes the next entries of a run after event `after` take; and where to go on, if there are more.
pub(super) fn entry_bytes(
    conn: &Connection,
    tenant: &Tenant,
    run: RunId,
    after: u64,
) -> rusqlite::Result<(u64, Option<u64>)> {
    let sql = format!(
        "SELECT coalesce(sum(len), 0), max(first_seq), count(*), coalesce(sum(tenant = ?2), 0)
         FROM (SELECT length(body) AS len, first_seq, tenant FROM entry
             WHERE run = ?1 AND first_seq > ?3 ORDER BY first_seq LIMIT {PAGE})"
    );
    let values = params![run.as_bytes(), tenant.as_str(), int(after)];
    conn.prepare_cached(&sql)?.query_row(values, |row| {
        let (last, all): (Option<i64>, u32) = (row.get(1)?, row.get(2)?);
        if !are_own(conn, (tenant, run), row.get(3)?, all)? {
            return Ok((0, None));
        }
        let more = last.filter(|_| all == PAGE);
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), more.map(i64::cast_unsigned)))
    })
}

/// How many bytes the payloads take that a run refers to.
pub(super) fn payload_bytes(
    conn: &Connection,
    tenant: &Tenant,
    run: RunId,
) -> rusqlite::Result<u64> {
    let sql = format!(
        "SELECT coalesce(sum(len), 0), coalesce(min({}), 1) FROM payload_ref
         WHERE run = ?1 AND tenant = ?2",
        sum::REFERENCE
    );
    let values = params![run.as_bytes(), tenant.as_str()];
    conn.prepare_cached(&sql)?.query_row(values, |row| {
        sum::check(row, 1, "a reference to a payload")?;
        Ok(row.get::<_, i64>(0)?.cast_unsigned())
    })
}

pub(super) fn shards(conn: &Connection) -> rusqlite::Result<Vec<Holding>> {
    let sql = format!("SELECT shard, epoch, owner, {} FROM shard ORDER BY shard", sum::SHARD);
    let mut select = conn.prepare_cached(&sql)?;
    let found = select.query_map([], |row| {
        sum::check(row, 3, "a shard's row")?;
        Ok(Holding {
            shard: Shard(row.get(0)?),
            epoch: Epoch(row.get::<_, i64>(1)?.cast_unsigned()),
            owner: row.get_ref(2)?.as_str_or_null()?.map(NodeId::new),
        })
    })?;
    let found = found.collect::<rusqlite::Result<Vec<Holding>>>()?;
    // All are there, each in its place: a damaged page may leave one out, or name it twice.
    if found.iter().map(|holding| holding.shard.0).eq(0..=u8::MAX) {
        Ok(found)
    } else {
        Err(sum::wrong(0, "the list of shards"))
    }
}

const RUN: &str = "tenant, run, workflow, task_id, status, open, created_at, updated_at, ended_at";

fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    sum::check(row, 9, "a line of the list of runs")?;
    Ok(RunRow {
        tenant: Tenant::new(row.get_ref(0)?.as_str()?),
        run: RunId::from_bytes(row.get(1)?),
        workflow: row.get(2)?,
        task_id: row.get(3)?,
        status: row.get(4)?,
        open: row.get(5)?,
        created_at: Timestamp(row.get(6)?),
        updated_at: Timestamp(row.get(7)?),
        ended_at: row.get::<_, Option<i64>>(8)?.map(Timestamp),
    })
}

/// A line of a list: a damaged one says so, and harms no other. Whether its run is whole is seen
/// when that is read.
fn listed(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let damaged = match run_row(row) {
        Err(error) if !matches!(error, rusqlite::Error::SqliteFailure(..)) => error,
        read => return read,
    };
    let run = RunId::from_bytes(row.get(1)?);
    tracing::error!("run `{run}`: {damaged}; restore the store from a backup");
    Ok(RunRow {
        tenant: row.get_ref(0)?.as_str().map_or_else(|_| Tenant::default(), Tenant::new),
        run,
        workflow: "".into(),
        task_id: None,
        status: "damaged".into(),
        open: true,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        ended_at: None,
    })
}

/// The next open runs of a shard, after that one.
pub(super) fn open_runs(
    conn: &Connection,
    shard: Shard,
    after: Option<&RunRow>,
) -> rusqlite::Result<Vec<RunRow>> {
    let sql = format!(
        "SELECT {RUN}, {} FROM run WHERE open = 1 AND shard = ?1 AND (tenant, run) > (?2, ?3)
         ORDER BY tenant, run LIMIT {PAGE}",
        sum::RUN
    );
    let (tenant, run) =
        after.map_or(("", &[][..]), |row| (row.tenant.as_str(), row.run.as_bytes()));
    let mut select = conn.prepare_cached(&sql)?;
    select.query_map(params![shard.0, tenant, run], listed)?.collect()
}

pub(super) fn open_counts(conn: &Connection) -> rusqlite::Result<Vec<(Shard, u64)>> {
    let sql = "SELECT shard, count(*) FROM run WHERE open = 1 GROUP BY shard ORDER BY shard";
    let mut select = conn.prepare_cached(sql)?;
    let found = select
        .query_map([], |row| Ok((Shard(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned())))?;
    found.collect()
}

/// The next lines of the list of runs, newest first, older than `before`.
pub(super) fn runs(
    conn: &Connection,
    tenant: &Tenant,
    before: Option<RunId>,
) -> rusqlite::Result<Vec<RunRow>> {
    let sql = format!(
        "SELECT {RUN}, {} FROM run WHERE tenant = ?1 AND (?2 IS NULL OR run < ?2)
         ORDER BY run DESC LIMIT {PAGE}",
        sum::RUN
    );
    let before = before.map(|run| *run.as_bytes());
    let mut select = conn.prepare_cached(&sql)?;
    select.query_map(params![tenant.as_str(), before], listed)?.collect()
}

/// One line of the list of runs.
pub(super) fn run(
    conn: &Connection,
    tenant: &Tenant,
    run: RunId,
) -> rusqlite::Result<Option<RunRow>> {
    let sql = format!("SELECT {RUN}, {} FROM run WHERE tenant = ?1 AND run = ?2", sum::RUN);
    let values = params![tenant.as_str(), run.as_bytes()];
    let found = conn.prepare_cached(&sql)?.query_row(values, run_row).optional()?;
    let sql = "SELECT 1 FROM entry WHERE run = ?1 AND tenant = ?2 LIMIT 1";
    let has_entries = || conn.prepare_cached(sql)?.exists(params![run.as_bytes(), tenant.as_str()]);
    if found.is_none() && has_entries()? {
        return Err(sum::wrong(0, "where the run is in the list"));
    }
    Ok(found)
}

/// What a tenant may know of a payload.
pub(super) enum Found {
    /// It refers to no such payload.
    Nothing,
    /// It refers to it; the content is a file.
    Elsewhere,
    Bytes(Vec<u8>),
}

pub(super) fn payload(
    conn: &Connection,
    tenant: &Tenant,
    digest: Digest,
) -> rusqlite::Result<Found> {
    let values = params![tenant.as_str(), digest.as_bytes()];
    let sql = "SELECT 1 FROM payload_ref WHERE tenant = ?1 AND digest = ?2 LIMIT 1";
    let is_referred = conn.prepare_cached(sql)?.exists(values)?;
    let sql = "SELECT bytes FROM payload WHERE tenant = ?1 AND digest = ?2";
    let bytes = conn.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
    match (is_referred, &bytes) {
        (false, None) => return Ok(Found::Nothing),
        // It goes with its last reference.
        (false, Some(_)) => return Err(sum::wrong(0, "a reference to a payload")),
        (true, _) => {}
    }
    Ok(bytes.map_or(Found::Elsewhere, Found::Bytes))
}
