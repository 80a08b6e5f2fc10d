//! What was vouched for, noted beside the database: how far each shard's entries and claims go.
//!
//! A log that is cut off or damaged loses its last commits without a trace: SQLite takes them for
//! some that a crash left half written. So does a database that somebody has put back to an older
//! state. Whoever opens the store next compares before anything is changed, and does not go on in silence.
//!
//! A note whose own sum is wrong says nothing: it is told, and made anew of what the database has.
//!
//! **Invariant:** a note follows its commit, so it is never ahead of what is on disk. After a power
//! cut it may be behind, which says nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kapelle_core::Digester;
use kapelle_core::port::journal::Error;
use rusqlite::{Connection, OptionalExtension as _};

use super::fault::{Fault, Phase, classify};
use super::pages;
use super::schema::level_of;
use super::write::{AUDIT, HISTORY, Place, end_of, last_of};
use super::{audit, unusable};

/// What the file begins with. The first form had no head, and no sums: two numbers a place.
const HEAD: &[u8; 32] = b"kapelle: how far shards go, 2\n\0\0";
/// The places: the shards, history, and the audit log, of which older notes say nothing.
const PLACES: usize = AUDIT as usize + 1;
/// A number and its sum; no disk tears it.
const CELL: usize = 16;
/// For each place the position of its last entry, and its epoch.
const LEN: usize = HEAD.len() + PLACES * 2 * CELL;
/// The length of the first form.
const OLD_LEN: usize = (HISTORY as usize + 1) * 16;
/// The first level of tables with a note of what was pruned, and the first with an audit log.
const PRUNES: u32 = 3;
const AUDITS: u32 = 8;

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

/// The noted position and epoch of a place; `None` where its sum is wrong.
type Note = [Option<u64>; 2];

impl Ends {
    /// The notes of the store in `dir`. Nothing is written before [`Self::compare`].
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("ends");
        let options = File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(&path)?;
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
            for (kind, number) in [end.pos, end.epoch].into_iter().enumerate() {
                if let Some(number) = number {
                    let cell = cell(*place, kind, number);
                    self.file.write_all_at(&cell, offset(*place, kind) as u64)?;
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
        let is_new = !notes.iter().any(is_noted);
        if is_there || is_new { Ok(()) } else { Err(self.refusal(file, "it is empty")) }
    }

    /// Refuses a store that has less than was vouched for, and changes nothing then. Else the notes
    /// are all there afterwards, so that one never finds the disk full.
    pub(super) fn compare(&self, conn: &Connection, file: &Arc<str>) -> Result<(), Error> {
        self.expect_nothing(&self.missing(conn, file)?, file)?;
        let mend = || {
            let mut whole = HEAD.to_vec();
            for (place, note) in (0..).zip(self.read()?) {
                let there = if note.contains(&None) { place_of(conn, place) } else { Ok([0; 2]) };
                let there = there.map_err(io::Error::other)?;
                for (kind, number) in note.into_iter().enumerate() {
                    whole.extend(cell(place, kind, number.unwrap_or(there[kind])));
                }
            }
            if self.content()? == whole { Ok(()) } else { self.file.write_all_at(&whole, 0) }
        };
        mend().map_err(|error| unusable(&self.path, &error))
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
        let damaged = notes.iter().filter(|note| note.contains(&None)).count();
        if damaged > 0 {
            tracing::warn!(
                "`{}` is damaged: it does not say any more how far {damaged} shards went; taken is \
                 what the database has, and whoever writes next notes that",
                self.path.display()
            );
        }
        let compare = || {
            let mut missing = Vec::new();
            // Where nothing is noted there may be no tables yet.
            for (place, note) in (0..).zip(notes).filter(|(_, note)| is_noted(note)) {
                let there = match place_of(conn, place) {
                    Ok(there) => there,
                    Err(error) => {
                        // A page that is refused whenever it is read, which is no reason to refuse all.
                        let page = pages::refused().ok_or(error)?;
                        tracing::error!("how far shard {place} goes cannot be read: {page}");
                        continue;
                    }
                };
                let [pos, epoch] = note.map(Option::unwrap_or_default);
                if there[0] < pos || there[1] < epoch {
                    missing.push(match place {
                        AUDIT => format!("the audit log ends with entry {} of {pos}", there[0]),
                        _ => format!(
                            "shard {place} ends with entry {} of {pos}, and its epoch is {} of {epoch}",
                            there[0], there[1]
                        ),
                    });
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

    /// What is noted of every place.
    fn read(&self) -> io::Result<Vec<Note>> {
        let mut content = self.content()?;
        let head = content.len().min(HEAD.len());
        if content[..head] != HEAD[..head] && content.len() <= OLD_LEN {
            // Of a file that is too short nothing more was noted.
            content.resize(OLD_LEN, 0);
            let (numbers, _) = content.as_chunks::<8>();
            let notes = numbers.chunks(2).map(|note| [note[0], note[1]].map(u64::from_le_bytes));
            let since = [[Some(0); 2]; PLACES - (HISTORY as usize + 1)];
            return Ok(notes.map(|note| note.map(Some)).chain(since).collect());
        }
        content.resize(LEN, 0);
        let (cells, _) = content[HEAD.len()..].as_chunks::<CELL>();
        let note = |(place, of): (Place, &[[u8; CELL]])| {
            std::array::from_fn(|kind| number(place, kind, &of[kind]))
        };
        Ok((0..).zip(cells.chunks(2)).map(note).collect())
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; LEN];
        let (mut len, mut read) = (0, 1);
        while read > 0 {
            read = self.file.read_at(&mut content[len..], len as u64)?;
            len += read;
        }
        content.truncate(len);
        Ok(content)
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

/// Whether anything is noted of a place, legible or not.
fn is_noted(note: &Note) -> bool {
    *note != [Some(0); 2]
}

const fn offset(place: Place, kind: usize) -> usize {
    HEAD.len() + (place as usize * 2 + kind) * CELL
}

/// A number as it is noted. Nothing but zeros is a zero.
fn cell(place: Place, kind: usize, number: u64) -> [u8; CELL] {
    let mut cell = [0; CELL];
    if number > 0 {
        cell[..8].copy_from_slice(&number.to_le_bytes());
        let mut digester = Digester::default();
        digester.update(&(offset(place, kind) as u64).to_le_bytes());
        digester.update(&cell[..8]);
        cell[8..].copy_from_slice(&digester.finish().as_bytes()[..8]);
    }
    cell
}

/// The number in a cell, if it is what was noted there.
fn number(place: Place, kind: usize, noted: &[u8; CELL]) -> Option<u64> {
    let (number, _) = noted.split_first_chunk().expect("it is longer");
    let number = u64::from_le_bytes(*number);
    (cell(place, kind, number) == *noted).then_some(number)
}

/// How far the database goes: the position of a place's last entry, and its epoch.
fn place_of(conn: &Connection, place: Place) -> rusqlite::Result<[u64; 2]> {
    let level = level_of(conn)?;
    if place == AUDIT {
        return Ok([if level < AUDITS { 0 } else { audit::last(conn)?.0 }, 0]);
    }
    // Before that level nothing was ever pruned.
    let end = if level < PRUNES { last_of } else { end_of };
    Ok([end(conn, place)?, epoch_of(conn, place)?])
}

fn epoch_of(conn: &Connection, place: Place) -> rusqlite::Result<u64> {
    let sql = "SELECT epoch FROM shard WHERE shard = ?1";
    let epoch = conn.query_row(sql, [place], |row| row.get::<_, i64>(0)).optional()?;
    Ok(epoch.unwrap_or(0).cast_unsigned())
}
