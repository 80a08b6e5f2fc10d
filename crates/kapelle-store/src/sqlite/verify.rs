//! Reads all there is and names what is damaged, also what no question has met yet.
//!
//! Whatever is read is checked anyway: entries by their chain, payloads by their digest, rows by
//! their sums. Only here it is seen that an index leads past a row, so that it is not read at all.

use kapelle_core::port::journal::{Content, Error};
use kapelle_core::{Digest, RunId};
use rusqlite::{Connection, Row, params};

use super::files::checked;
use super::read::{self, PAGE};
use super::{Sqlite, sum};

/// How many faults of the database's structure are told.
const FAULTS_MAX: u32 = 50;
/// How many payloads of the database are read at once.
const PAYLOADS: usize = 16;

impl Sqlite {
    /// All damage of the store. Takes as long as it takes to read everything; others go on.
    ///
    /// `Err` if that cannot be told, for the reasons for which any read fails.
    pub async fn verify(&self) -> Result<Vec<Error>, Error> {
        let mut found = self.structure().await?;
        found.extend(self.rows().await?);
        found.extend(self.chains().await?);
        found.extend(self.payloads().await?);
        Ok(found)
    }

    async fn structure(&self) -> Result<Vec<Error>, Error> {
        let lines = self.readers.read(|conn| {
            let mut check = conn.prepare(&format!("PRAGMA integrity_check({FAULTS_MAX})"))?;
            let lines = check.query_map([], |row| row.get::<_, String>(0))?;
            lines.collect::<rusqlite::Result<Vec<_>>>()
        });
        Ok(lines
            .await?
            .into_iter()
            .filter(|line| line != "ok")
            .map(|line| self.damage(&line))
            .collect())
    }

    async fn rows(&self) -> Result<Vec<Error>, Error> {
        let mut found = Vec::new();
        for (table, ok) in [
            ("shard", sum::SHARD),
            ("submit", sum::SUBMIT),
            ("run", sum::RUN),
            ("payload_ref", sum::REFERENCE),
        ] {
            let sql =
                format!("SELECT count(*) FROM {table} NOT INDEXED WHERE NOT coalesce({ok}, 0)");
            let wrong: i64 =
                self.readers.read(move |conn| conn.query_row(&sql, [], |row| row.get(0))).await?;
            if wrong > 0 {
                found.push(
                    self.damage(&format!("{wrong} rows of `{table}` are not what was written")),
                );
            }
        }
        Ok(found)
    }

    async fn chains(&self) -> Result<Vec<Error>, Error> {
        let mut found = Vec::new();
        let mut chain = Chain { run: None, next_seq: 1, hash: [0; 32] };
        loop {
            let (run, after) = (chain.run, chain.next_seq - 1);
            let page = self.readers.read(move |conn| entries(conn, run, after)).await?;
            let last = page.len() < PAGE as usize;
            for entry in page {
                found.extend(chain.follow(entry).err());
            }
            if last {
                return Ok(found);
            }
        }
    }

    async fn payloads(&self) -> Result<Vec<Error>, Error> {
        let mut found = Vec::new();
        let mut after = Some(Vec::new());
        while let Some(from) = after {
            let page = self.readers.read(move |conn| references(conn, &from)).await?;
            after = page.last().filter(|_| page.len() == PAYLOADS).map(|last| last.0.clone());
            for (digest, bytes) in page {
                found.extend(self.payload_fault(&digest, bytes));
            }
        }
        Ok(found)
    }

    fn payload_fault(&self, digest: &[u8], bytes: Option<Vec<u8>>) -> Option<Error> {
        let Ok(digest) = digest.try_into().map(Digest::from_bytes) else {
            return Some(self.damage("a reference has no digest"));
        };
        let content = match bytes {
            Some(bytes) => checked(digest, bytes.len() as u64, std::io::Cursor::new(bytes)),
            None => match self.files.content(digest) {
                Ok(Some(content)) => content,
                Ok(None) => {
                    return Some(self.damage(&format!("the payload `{digest}` is missing")));
                }
                Err(error) => {
                    return Some(self.damage(&format!("the payload `{digest}`: {error}")));
                }
            },
        };
        let Content { mut reader, .. } = content;
        let read = std::io::copy(&mut reader, &mut std::io::sink());
        read.err().map(|error| self.damage(&error.to_string()))
    }

    fn damage(&self, message: &str) -> Error {
        let message = format!("it is damaged: {message}; restore it from a backup").into();
        Error::Unavailable { file: self.file.clone(), message }
    }
}

/// How far a run was followed.
struct Chain {
    run: Option<RunId>,
    next_seq: u64,
    hash: [u8; 32],
}

type Read = rusqlite::Result<kapelle_core::port::journal::Entry>;

impl Chain {
    fn follow(&mut self, (run, seq, entry): (RunId, u64, Read)) -> Result<(), Error> {
        if self.run != Some(run) {
            *self = Self { run: Some(run), next_seq: 1, hash: [0; 32] };
        }
        let wrong = |message: String| Error::Corrupt { run, seq, message: message.into() };
        let expected = std::mem::replace(&mut self.next_seq, seq + 1);
        let entry = entry.map_err(|error| wrong(error.to_string()))?;
        self.next_seq = seq + u64::from(entry.count);
        let hash = std::mem::replace(&mut self.hash, entry.hash);
        if seq != expected {
            return Err(wrong(format!("event {expected} is missing")));
        }
        if entry.chained(&hash) != entry.hash {
            return Err(wrong("its hash does not match".to_owned()));
        }
        Ok(())
    }
}

/// The next entries of all runs, run by run, after event `after` of `run`.
fn entries(
    conn: &Connection,
    run: Option<RunId>,
    after: u64,
) -> rusqlite::Result<Vec<(RunId, u64, Read)>> {
    let sql = format!(
        "SELECT {} FROM entry WHERE (run, first_seq) > (?1, ?2) ORDER BY run, first_seq LIMIT {PAGE}",
        read::ENTRY
    );
    let from = run.map_or(Vec::new(), |run| run.as_bytes().to_vec());
    let mut select = conn.prepare_cached(&sql)?;
    let rows = select.query_map(params![from, super::write::int(after)], |row| {
        let seq = row.get::<_, i64>(2)?.cast_unsigned();
        Ok((RunId::from_bytes(row.get(1)?), seq, read::entry(row)))
    })?;
    rows.collect()
}

/// A digest, and what the database has under it.
type Kept = (Vec<u8>, Option<Vec<u8>>);

/// The next payloads that are referred to, after the digest `from`, with what the database has of them.
fn references(conn: &Connection, from: &[u8]) -> rusqlite::Result<Vec<Kept>> {
    let sql = format!(
        "SELECT DISTINCT payload_ref.digest, payload.bytes FROM payload_ref
         LEFT JOIN payload USING (tenant, digest)
         WHERE payload_ref.digest > ?1 ORDER BY payload_ref.digest LIMIT {PAYLOADS}"
    );
    let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    conn.prepare_cached(&sql)?.query_map([from], pair)?.collect()
}
