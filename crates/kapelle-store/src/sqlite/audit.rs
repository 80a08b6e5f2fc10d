//! The audit log: a row for each entry, numbered without a gap.
//!
//! **Invariant:** a row follows from the one before it in the same transaction, whoever wrote that. How far
//! the rows go is noted outside the database as well (`ends`), so that the last ones do not go unseen.

use async_trait::async_trait;
use kapelle_core::Tenant;
use kapelle_core::port::audit::{Audit, NOTES_MAX, Noted};
use kapelle_core::port::journal::Error;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::sync::oneshot;

use super::Sqlite;
use super::read::PAGE;
use super::write::{AUDIT, Transaction, int};
use super::writer::Wish;

/// What a walk along the chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// How many entries are in order.
    pub entries: u64,
    /// The hash of the last of them: who keeps it elsewhere can tell later whether it is still there.
    pub hash: [u8; 32],
    /// The first that is not what was noted, and why.
    pub fault: Option<String>,
}

#[async_trait]
impl Audit for Sqlite {
    async fn note(&self, tenant: &Tenant, body: Box<str>) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.wish(Wish::Note { tenant: tenant.clone(), body, answer });
        self.answer(answered).await
    }

    async fn notes(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Noted>, Error> {
        let (tenant, limit) = (tenant.clone(), limit.min(NOTES_MAX));
        let before = int(before.unwrap_or(u64::MAX));
        let newest = move |conn: &Connection| {
            let sql = "SELECT seq, tenant, hash, body FROM audit WHERE tenant = ?1 AND seq < ?2
                       ORDER BY seq DESC LIMIT ?3";
            let values = params![tenant.as_str(), before, limit];
            conn.prepare_cached(sql)?.query_map(values, read)?.collect()
        };
        self.readers.read(newest).await
    }
}

impl Sqlite {
    /// Walks along the whole audit log and compares each entry with its hash and the one before it, and
    /// `kept` with what it says: the number and the hash of an entry, as somebody kept them elsewhere.
    ///
    /// `Err` if that cannot be told, for the reasons for which any read fails.
    pub async fn audit(&self, kept: Option<(u64, [u8; 32])>) -> Result<Audited, Error> {
        let mut found = self.walk(kept).await?;
        let lost = self.missing.iter().find(|lost| lost.starts_with("the audit log"));
        let lost = lost.map(|lost| format!("what was noted is missing: {lost}"));
        let short = kept.filter(|kept| kept.0 > found.entries).map(|(seq, _)| {
            format!(
                "audit entry {seq}, which was kept elsewhere, is missing: entry {} is the last",
                found.entries
            )
        });
        found.fault = found.fault.or(lost).or(short);
        Ok(found)
    }

    /// The same, without what was missing when the store was opened.
    pub(super) async fn walk(&self, kept: Option<(u64, [u8; 32])>) -> Result<Audited, Error> {
        let mut found = Audited { entries: 0, hash: [0; 32], fault: None };
        let mut limit = PAGE;
        loop {
            let (after, most) = (int(found.entries), limit);
            let page = match self.tried(move |conn| from(conn, after, most)).await? {
                Ok(page) => page,
                // One by one: which of them it is.
                Err(_) if most > 1 => {
                    limit = 1;
                    continue;
                }
                Err(message) => {
                    let next = found.entries + 1;
                    found.fault = Some(format!("audit entry {next} cannot be read: {message}"));
                    return Ok(found);
                }
            };
            if page.is_empty() {
                return Ok(found);
            }
            for noted in page {
                if let Some(fault) = fault(&found, &noted, kept) {
                    found.fault = Some(fault);
                    return Ok(found);
                }
                (found.entries, found.hash) = (noted.seq, noted.hash);
            }
        }
    }
}

/// What is wrong with the entry that comes after those that were found.
fn fault(found: &Audited, noted: &Noted, kept: Option<(u64, [u8; 32])>) -> Option<String> {
    let next = found.entries + 1;
    if noted.seq != next {
        return Some(format!("audit entry {next} is missing: entry {} comes next", noted.seq));
    }
    if !noted.follows((found.entries, &found.hash)) {
        return Some(format!("audit entry {next} is not what was noted"));
    }
    let other = kept.is_some_and(|(seq, hash)| seq == next && hash != noted.hash);
    other.then(|| format!("audit entry {next} is not the one whose hash was kept elsewhere"))
}

impl Transaction<'_> {
    pub(super) fn note(&mut self, tenant: &Tenant, body: &str) -> rusqlite::Result<()> {
        let (seq, hash) = last(self.conn)?;
        let noted = Noted::after((seq, &hash), tenant.clone(), body.into());
        let sql = "INSERT INTO audit (seq, tenant, hash, body) VALUES (?1, ?2, ?3, ?4)";
        let values = params![int(noted.seq), noted.tenant.as_str(), noted.hash, &*noted.body];
        self.conn.prepare_cached(sql)?.execute(values)?;
        self.memo.new_ends.entry(AUDIT).or_default().pos = Some(noted.seq);
        Ok(())
    }
}

/// The number and the hash of the last entry; 0 and zeros where there is none.
pub(super) fn last(conn: &Connection) -> rusqlite::Result<(u64, [u8; 32])> {
    let sql = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
    let last = conn
        .prepare_cached(sql)?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), hash(row, 1)?)));
    Ok(last.optional()?.unwrap_or((0, [0; 32])))
}

fn from(conn: &Connection, after: i64, limit: u32) -> rusqlite::Result<Vec<Noted>> {
    let sql = "SELECT seq, tenant, hash, body FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    conn.prepare_cached(sql)?.query_map(params![after, limit], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Noted> {
    Ok(Noted {
        seq: row.get::<_, i64>(0)?.unsigned_abs(),
        tenant: Tenant::new(row.get_ref(1)?.as_str()?),
        hash: hash(row, 2)?,
        body: row.get_ref(3)?.as_str()?.into(),
    })
}

/// A hash; one that is none is that of no entry.
fn hash(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; 32]> {
    Ok(row.get_ref(column)?.as_blob()?.try_into().unwrap_or([0; 32]))
}
