//! Opening a store for reading only: beside a locked database, a full disk or on a read-only one.
//!
//! **Invariant:** nothing is made, locked or written but SQLite's index of the log, which is no
//! part of what is kept. Whatever would write is refused.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use kapelle_core::port::journal::Error;
use rusqlite::Connection;

use super::ends::Ends;
use super::fault::{Fault, Phase, classify};
use super::files::Files;
use super::read::Readers;
use super::schema::{check_level, level, level_of, look_at, open_reader};
use super::space::Space;
use super::{Poison, Sqlite, unusable};

impl Sqlite {
    /// Opens the store in the folder `dir` for reading only. Blocks.
    ///
    /// `None` where it has to be opened for writing first: there is none yet, it is one of an older
    /// version, or there is no space for the index of its log. Refuses what [`Self::open`] refuses,
    /// except that it may be locked or read-only. Every write is [`Error::Unavailable`].
    pub fn open_reader(dir: &Path) -> Result<Option<Self>, Error> {
        let Some(store) = Self::inspect(dir)? else { return Ok(None) };
        if !store.missing.is_empty()
            && let Some(ends) = Ends::look(dir).map_err(|error| unusable(dir, &error))?
        {
            ends.expect_nothing(&store.missing, &store.file)?;
        }
        Ok(Some(store))
    }

    /// The same, also if some of what was acknowledged is missing: [`Self::verify`] says what.
    pub fn inspect(dir: &Path) -> Result<Option<Self>, Error> {
        let unusable = |error: io::Error| unusable(dir, &error);
        let path = dir.join("kapelle.db");
        if !std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
            return Ok(None);
        }
        let file: Arc<str> = path.display().to_string().into();
        look_at(&path, &file)?;
        sync_log(dir).map_err(unusable)?;
        let conn = match open(&path, &file) {
            Ok(Some(conn)) => conn,
            Ok(None) | Err(Error::Full { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let ends = Ends::look(dir).map_err(unusable)?;
        let missing = ends.map_or(Ok(Vec::new()), |ends| ends.missing(&conn, &file))?;
        let (poison, space) = (Poison::default(), Space::look(dir));
        let files = Files::look(dir, poison.clone(), space.clone());
        let readers = Readers::new(path, Arc::clone(&file), poison.clone());
        // The index of the log stays as it is found now for as long as somebody has it open.
        readers.keep(conn);
        let (wishes, writer, thread) = (None, None, None);
        let commits = Arc::default();
        let of =
            Self { file, files, poison, space, readers, commits, missing, wishes, writer, thread };
        Ok(Some(of))
    }

    /// The answer to every write, where it was opened for reading only.
    pub(super) fn only_read(&self) -> Error {
        let message = "it was opened for reading only; this is a bug, please report it".into();
        Error::Unavailable { file: Arc::clone(&self.file), message }
    }
}

/// A connection that has read; `None` if the tables are older than ours.
fn open(path: &Path, file: &Arc<str>) -> Result<Option<Connection>, Error> {
    let read = || {
        let conn = open_reader(path)?;
        let newer = check_level(&conn, file)?;
        let found = level_of(&conn)?;
        Ok((conn, newer, found))
    };
    let (conn, newer, found) =
        read().map_err(|error| match classify(&error, Phase::Open, file) {
            Fault::Refused(error) | Fault::Ghost(error) | Fault::Poison(error) => error,
            Fault::Damaged(message) => {
                Error::Unavailable { file: Arc::clone(file), message: message.into() }
            }
        })?;
    newer?;
    Ok((found == level()).then_some(conn))
}

/// What a process that died has left in the log may not be on disk yet; who reads it vouches for it.
fn sync_log(dir: &Path) -> io::Result<()> {
    match File::open(dir.join("kapelle.db-wal")) {
        Ok(log) => log.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
