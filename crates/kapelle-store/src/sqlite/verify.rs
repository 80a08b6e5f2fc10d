//! Reads all there is and names what is damaged, also what no question has met yet.
//!
//! Whatever is read is checked anyway: entries by their chain, payloads by their digest, rows by
//! their sums. Only here it is seen that an index leads past a row, so that it is not read at all.
//! What cannot be read is named and passed over: damage in one place hides no other.

mod chain;

use std::fmt;
use std::io;
use std::sync::Arc;

use kapelle_core::port::journal::{Content, Error};
use kapelle_core::{Digest, RunId};
use rusqlite::{Connection, Row, params};

use self::chain::{Chain, Place, Read, entries, next};
use super::files::checked;
use super::read::PAGE;
use super::schema::open_reader;
use super::{Sqlite, pages, sum};

/// How many faults of one kind are told: of the structure, of a table's rows, of a payload's runs.
const FAULTS_MAX: u32 = 50;
/// How many payloads of the database are read at once.
const PAYLOADS: u32 = 16;
/// Whose damage it is when that is not known yet.
const NOBODY: (RunId, u64) = (RunId::from_bytes([0; 16]), 0);

/// What a full check found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// How many entries were read.
    pub entries: u64,
    /// How many runs they belong to.
    pub runs: u64,
    /// How many payloads were read.
    pub payloads: u64,
    /// Whether the database's pages have no sums, as in a store that an older version made.
    pub without_sums: bool,
    /// All that is not what was written; nothing, if the store is whole.
    pub damage: Vec<Damage>,
}

/// Something that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file it is in.
    pub file: Arc<str>,
    /// The run it belongs to, where that is known.
    pub run: Option<RunId>,
    /// The first event of the run that cannot be trusted.
    pub seq: Option<u64>,
    /// What is wrong.
    pub message: Arc<str>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: ", self.file)?;
        if let Some(run) = self.run {
            write!(f, "run `{run}`")?;
            self.seq.map_or(Ok(()), |seq| write!(f, ", event {seq}"))?;
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The structure of the database is looked at.
    Structure,
    /// The sums of rows are compared.
    Rows,
    /// So many entries were read.
    Entries(u64),
    /// So many payloads were read.
    Payloads(u64),
}

impl Sqlite {
    /// Reads the whole store. Takes as long as it takes to read everything; others go on, but their
    /// log is not emptied while the structure is looked at.
    ///
    /// `Err` if that cannot be told, for the reasons for which any read fails.
    pub async fn verify(&self, mut told: impl FnMut(Progress)) -> Result<Verified, Error> {
        let lost = self.missing.iter().map(|missing| self.lost(missing));
        let mut found = Verified { damage: lost.collect(), ..Verified::default() };
        told(Progress::Structure);
        self.structure(&mut found).await?;
        told(Progress::Rows);
        self.rows(&mut found).await?;
        self.chains(&mut found, &mut told).await?;
        self.payloads(&mut found, &mut told).await?;
        let audited = self.walk(None).await?.fault;
        found.damage.extend(audited.map(|fault| self.damage(&fault)));
        Ok(found)
    }

    async fn structure(&self, found: &mut Verified) -> Result<(), Error> {
        let path = self.readers.path.clone();
        // A connection of its own: others have pages in memory already.
        let look = move |_: &Connection| {
            let conn = open_reader(&path)?;
            let (lines, mended) = pages::mended(|| structure(&conn));
            Ok((lines?, mended, pages::has_room(&conn)))
        };
        match self.tried(look).await? {
            Ok((lines, mended, has_sums)) => {
                found.without_sums = !has_sums;
                let faults = lines.iter().filter(|line| *line != "ok");
                found.damage.extend(faults.map(|line| self.damage(line)));
                found.damage.extend(mended.into_iter().map(|page| self.mended(page)));
            }
            Err(message) => found.damage.push(self.damage(&message)),
        }
        Ok(())
    }

    async fn rows(&self, found: &mut Verified) -> Result<(), Error> {
        for (table, column, ok) in [
            ("shard", "NULL", sum::SHARD),
            ("submit", "run", sum::SUBMIT),
            ("pruned", "NULL", sum::PRUNED),
            ("run", "run", sum::RUN),
            ("payload_ref", "run", sum::REFERENCE),
            ("account", "NULL", sum::ACCOUNT),
            ("account_grant", "run", sum::GRANT),
            ("record", "NULL", sum::RECORD),
        ] {
            let sql = format!(
                "SELECT {column} FROM {table} NOT INDEXED WHERE NOT coalesce({ok}, 0)
                 LIMIT {FAULTS_MAX}"
            );
            let wrong = self.tried(move |conn| {
                let mut select = conn.prepare(&sql)?;
                let runs =
                    select.query_map([], |row| Ok(row.get(0).ok().map(RunId::from_bytes)))?;
                runs.collect::<rusqlite::Result<Vec<Option<RunId>>>>()
            });
            match wrong.await? {
                Ok(runs) => found.damage.extend(runs.into_iter().map(|run| Damage {
                    run,
                    ..self.damage(&format!("a row of `{table}` is not what was written"))
                })),
                Err(message) => found.damage.push(self.damage(&format!("`{table}`: {message}"))),
            }
        }
        Ok(())
    }

    async fn chains(
        &self,
        found: &mut Verified,
        told: &mut impl FnMut(Progress),
    ) -> Result<(), Error> {
        let (mut chain, mut after, mut limit) = (Chain::default(), Place::default(), PAGE);
        loop {
            told(Progress::Entries(chain.entries));
            let page = match self.entries(&after, &mut limit).await? {
                Ok(page) => page,
                Err(message) => {
                    found.damage.push(self.damage(&message));
                    break;
                }
            };
            let Some((last, _)) = page.last() else { break };
            after = last.clone();
            for (place, entry) in page {
                let fault = chain.follow(&place, entry);
                found.damage.extend(fault.map(|message| self.of_run(&place, &message)));
            }
        }
        (found.entries, found.runs) = (chain.entries, chain.runs);
        Ok(())
    }

    /// The next entries. Where some cannot be read they come one by one, and that one with the reason.
    async fn entries(
        &self,
        after: &Place,
        limit: &mut u32,
    ) -> Result<Result<Vec<(Place, Read)>, Arc<str>>, Error> {
        loop {
            let (from, most) = (after.clone(), *limit);
            let message = match self.tried(move |conn| entries(conn, &from, most)).await? {
                Ok(page) => {
                    *limit = PAGE.min(most * 2);
                    return Ok(Ok(page));
                }
                Err(_) if most > 1 => {
                    *limit = 1;
                    continue;
                }
                Err(message) => message,
            };
            let from = after.clone();
            let place = self.tried(move |conn| next(conn, &from)).await?;
            return Ok(
                place.map(|place| place.map(|place| (place, Err(message))).into_iter().collect())
            );
        }
    }

    async fn payloads(
        &self,
        found: &mut Verified,
        told: &mut impl FnMut(Progress),
    ) -> Result<(), Error> {
        let (mut after, mut limit) = (Vec::new(), PAYLOADS);
        loop {
            told(Progress::Payloads(found.payloads));
            let page = match self.references(&after, &mut limit).await? {
                Ok(page) => page,
                Err(message) => {
                    found.damage.push(self.damage(&message));
                    break;
                }
            };
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (digest, kept) in page {
                found.payloads += 1;
                if let Some(damage) = self.payload_fault(&digest, kept) {
                    found.damage.extend(self.of_users(digest, damage).await?);
                }
            }
        }
        Ok(())
    }

    /// The next payloads that are referred to, in the same way.
    async fn references(
        &self,
        after: &[u8],
        limit: &mut u32,
    ) -> Result<Result<Vec<(Vec<u8>, Kept)>, Arc<str>>, Error> {
        loop {
            let (from, most) = (after.to_vec(), *limit);
            let message = match self.tried(move |conn| references(conn, &from, most)).await? {
                Ok(page) => {
                    *limit = PAYLOADS.min(most * 2);
                    return Ok(Ok(page));
                }
                Err(_) if most > 1 => {
                    *limit = 1;
                    continue;
                }
                Err(message) => message,
            };
            let from = after.to_vec();
            let digest = self.tried(move |conn| next_digest(conn, &from)).await?;
            return Ok(digest
                .map(|digest| digest.map(|digest| (digest, Err(message))).into_iter().collect()));
        }
    }

    fn payload_fault(&self, digest: &[u8], kept: Kept) -> Option<Damage> {
        let Ok(digest) = digest.try_into().map(Digest::from_bytes) else {
            return Some(self.damage("a reference has no digest"));
        };
        let in_file = matches!(kept, Ok(None));
        let content = match kept {
            Ok(Some(bytes)) => {
                Ok(Some(checked(digest, bytes.len() as u64, io::Cursor::new(bytes))))
            }
            Ok(None) => self.files.content(digest),
            Err(message) => Err(io::Error::other(&*message)),
        };
        let read = content.and_then(|content| {
            let missing = || io::Error::from(io::ErrorKind::NotFound);
            let Content { mut reader, .. } = content.ok_or_else(missing)?;
            io::copy(&mut reader, &mut io::sink())
        });
        let fault = match read {
            Ok(_) => return None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => "it is missing".to_owned(),
            // The digest that is compared with says so itself.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => "it is damaged".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("the payload `{digest}`: {fault}; restore it from a backup").into();
        let file = self.files.path(digest).display().to_string();
        let file = if in_file { file.into() } else { Arc::clone(&self.file) };
        Some(Damage { file, run: None, seq: None, message })
    }

    /// The damage of a payload, as that of each run that refers to it.
    async fn of_users(&self, digest: Vec<u8>, damage: Damage) -> Result<Vec<Damage>, Error> {
        let users = self.tried(move |conn| users(conn, &digest)).await?.unwrap_or_default();
        if users.is_empty() {
            return Ok(vec![damage]);
        }
        Ok(users.into_iter().map(|run| Damage { run: Some(run), ..damage.clone() }).collect())
    }

    /// Reads; what makes no sense is an answer too, and told as a text.
    pub(super) async fn tried<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Result<T, Arc<str>>, Error> {
        match self.readers.read_run(NOBODY, work).await {
            Err(Error::Corrupt { message, .. }) => Ok(Err(message)),
            read => read.map(Ok),
        }
    }

    fn lost(&self, missing: &str) -> Damage {
        let message = format!(
            "what was acknowledged is missing: {missing}; restore the whole folder from a backup, \
             or put back the files that were damaged"
        );
        Damage { file: Arc::clone(&self.file), run: None, seq: None, message: message.into() }
    }

    fn damage(&self, message: &str) -> Damage {
        let message = format!("it is damaged: {message}; restore it from a backup").into();
        Damage { file: Arc::clone(&self.file), run: None, seq: None, message }
    }

    fn mended(&self, page: u32) -> Damage {
        let message = format!("page {page} has {}", pages::MENDED).into();
        Damage { file: Arc::clone(&self.file), run: None, seq: None, message }
    }

    fn of_run(&self, place: &Place, message: &str) -> Damage {
        let Some(run) = place.id() else { return self.damage(message) };
        let message = format!("{message}; restore the store from a backup").into();
        let (file, seq) = (Arc::clone(&self.file), Some(place.seq.cast_unsigned()));
        Damage { file, run: Some(run), seq, message }
    }
}

/// What SQLite finds wrong.
fn structure(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = conn.prepare(&format!("PRAGMA integrity_check({FAULTS_MAX})"))?;
    check.query_map([], |row| row.get(0))?.collect()
}

/// What the database has of a payload, `None` if it is a file; or why it cannot be read.
type Kept = Result<Option<Vec<u8>>, Arc<str>>;

/// The next payloads that are referred to, after the digest `from`, with what the database has of them.
fn references(
    conn: &Connection,
    from: &[u8],
    limit: u32,
) -> rusqlite::Result<Vec<(Vec<u8>, Kept)>> {
    let sql = "SELECT digest, (SELECT bytes FROM payload WHERE payload.tenant = ref.tenant
                               AND payload.digest = ref.digest)
               FROM (SELECT DISTINCT digest, tenant FROM payload_ref WHERE digest IN (
                   SELECT DISTINCT digest FROM payload_ref WHERE digest > ?1
                   ORDER BY digest LIMIT ?2)) AS ref
               ORDER BY digest";
    let pair = |row: &Row<'_>| Ok((row.get(0)?, Ok(row.get(1)?)));
    conn.prepare_cached(sql)?.query_map(params![from, limit], pair)?.collect()
}

fn next_digest(conn: &Connection, from: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = "SELECT min(digest) FROM payload_ref WHERE digest > ?1";
    conn.prepare_cached(sql)?.query_row([from], |row| row.get(0))
}

/// Some of the runs that refer to a payload.
fn users(conn: &Connection, digest: &[u8]) -> rusqlite::Result<Vec<RunId>> {
    let sql = format!("SELECT run FROM payload_ref WHERE digest = ?1 LIMIT {FAULTS_MAX}");
    let run = |row: &Row<'_>| Ok(RunId::from_bytes(row.get(0)?));
    conn.prepare_cached(&sql)?.query_map([digest], run)?.collect()
}
