//! What was vouched for, noted beside the database: how far each shard's entries and claims go.
//!
//! A log that is cut off or damaged loses its last commits without a trace: SQLite takes them for
//! some that a crash left half written. So does a database that somebody has put back to an older
//! state. Whoever opens the store next compares before anything is changed, and does not go on in silence.
//!
//! **Invariant:** a note follows its commit, so it is never ahead of what is on disk. After a power
//! cut it may be behind, which says nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kapelle_core::port::journal::Error;
use rusqlite::{Connection, OptionalExtension as _};

use super::fault::{Fault, Phase, classify};
use super::schema::level_of;
use super::write::{HISTORY, Place, end_of, last_of};

/// For each shard and for history the position of its last entry, and its epoch.
const LEN: usize = (HISTORY as usize + 1) * 16;
/// The first level of tables with a note of what was pruned.
const PRUNES: u32 = 3;

/// The file of notes.
pub(super) struct Ends {
    path: PathBuf,
    file: File,
}

/// How far a shard goes; `None`: nothing new.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
    pub(super) pos: Option<u64>,
    pub(super) epoch: Option<u64>,
}

impl Ends {
    /// The notes of the store in `dir`.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("ends");
        let options = File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(&path)?;
        let len = file.metadata()?.len();
        if len < LEN as u64 {
            // Its space is taken now, so that a note never finds the disk full.
            file.write_all_at(&[0; LEN][usize::try_from(len).unwrap_or(0)..], len)?;
        }
        Ok(Self { path, file })
    }

    /// The same for somebody who only reads; `None` if nothing was ever noted.
    pub(super) fn look(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join("ends");
        match File::open(&path) {
            Ok(file) => Ok(Some(Self { path, file })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes what has been committed.
    pub(super) fn note(&self, ends: &BTreeMap<Place, End>) -> io::Result<()> {
        for (place, end) in ends {
            let at = u64::from(*place) * 16;
            for (number, at) in [(end.pos, at), (end.epoch, at + 8)] {
                if let Some(number) = number {
                    self.file.write_all_at(&number.to_le_bytes(), at)?;
                }
            }
        }
        Ok(())
    }

    /// Refuses a database that is gone or empty although something was vouched for: SQLite would
    /// begin a new one, and remove the log of the old one.
    pub(super) fn expect_database(&self, path: &Path, file: &Arc<str>) -> Result<(), Error> {
        let is_there = std::fs::metadata(path).is_ok_and(|found| found.len() > 0);
        let notes = self.read().map_err(|error| unreadable(&self.path, &error))?;
        if is_there || notes.is_empty() { Ok(()) } else { Err(self.refusal(file, "it is empty")) }
    }

    /// Refuses a store that has less than was vouched for; changes nothing.
    pub(super) fn compare(&self, conn: &Connection, file: &Arc<str>) -> Result<(), Error> {
        self.expect_nothing(&self.missing(conn, file)?, file)
    }

    /// Refuses a store of which that is missing.
    pub(super) fn expect_nothing(&self, missing: &[String], file: &Arc<str>) -> Result<(), Error> {
        match missing {
            [] => Ok(()),
            [one] => Err(self.refusal(file, one)),
            [one, more @ ..] => {
                Err(self.refusal(file, &format!("{one}, and {} more lack some", more.len())))
            }
        }
    }

    /// For each shard that has less than was vouched for what it has.
    ///
    /// The notes are read first: a commit that comes meanwhile is no reason to miss something.
    pub(super) fn missing(&self, conn: &Connection, file: &Arc<str>) -> Result<Vec<String>, Error> {
        let notes = self.read().map_err(|error| unreadable(&self.path, &error))?;
        if notes.is_empty() {
            // There may be no tables yet.
            return Ok(Vec::new());
        }
        let compare = || {
            // Before that level nothing was ever pruned.
            let end = if level_of(conn)? < PRUNES { last_of } else { end_of };
            let mut missing = Vec::new();
            for (place, [pos, epoch]) in notes {
                let there = [end(conn, place)?, epoch_of(conn, place)?];
                if there[0] < pos || there[1] < epoch {
                    missing.push(format!(
                        "shard {place} ends with entry {} of {pos}, and its epoch is {} of {epoch}",
                        there[0], there[1]
                    ));
                }
            }
            Ok(missing)
        };
        compare().map_err(|error| match classify(&error, Phase::Read, file) {
            Fault::Refused(error) | Fault::Ghost(error) | Fault::Poison(error) => error,
            Fault::Damaged(message) => Error::Unavailable {
                file: Arc::clone(file),
                message: format!("it is damaged: {message}; {WAY_OUT}").into(),
            },
        })
    }

    /// The shards of which anything is noted, with the position of the last entry and the epoch.
    fn read(&self) -> io::Result<Vec<(u16, [u64; 2])>> {
        let mut notes = [0; LEN];
        // Of a file that is too short nothing more was noted.
        self.file.read_at(&mut notes, 0)?;
        let (notes, _) = notes.as_chunks::<8>();
        let notes = notes.chunks(2).map(|note| [note[0], note[1]].map(u64::from_le_bytes));
        Ok((0..).zip(notes).filter(|(_, note)| *note != [0, 0]).collect())
    }

    fn refusal(&self, file: &Arc<str>, what: &str) -> Error {
        let ends = self.path.display();
        let message = format!(
            "what was acknowledged is missing: {what}; nothing was changed; {WAY_OUT}, or put back \
             the files that were damaged (to go on without, remove `{ends}`)"
        );
        Error::Unavailable { file: Arc::clone(file), message: message.into() }
    }
}

/// What is to be done about a store that has lost something.
const WAY_OUT: &str = "restore the whole folder from a backup";

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let file = path.display().to_string().into();
    Error::Unavailable { file, message: format!("{error}; {WAY_OUT}").into() }
}

fn epoch_of(conn: &Connection, place: Place) -> rusqlite::Result<u64> {
    let sql = "SELECT epoch FROM shard WHERE shard = ?1";
    let epoch = conn.query_row(sql, [place], |row| row.get::<_, i64>(0)).optional()?;
    Ok(epoch.unwrap_or(0).cast_unsigned())
}
