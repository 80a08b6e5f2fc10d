//! What was vouched for, noted beside the database: how far each shard's entries and claims go.
//!
//! A log that is cut off or damaged loses its last commits without a trace: SQLite takes them for
//! some that a crash left half written. So does a database that somebody has put back to an older
//! state. Whoever opens the store next compares, and does not go on in silence.
//!
//! **Invariant:** a note follows its commit, so it is never ahead of what is on disk. After a power
//! cut it may be behind, which says nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kapelle_core::Shard;
use kapelle_core::port::journal::Error;
use rusqlite::Connection;

use super::write::POS_BITS;

/// For each shard the position of its last entry, and its epoch.
const LEN: usize = 256 * 16;

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

    /// Notes what has been committed.
    pub(super) fn note(&self, ends: &BTreeMap<Shard, End>) -> io::Result<()> {
        for (shard, end) in ends {
            let at = u64::from(shard.0) * 16;
            for (number, at) in [(end.pos, at), (end.epoch, at + 8)] {
                if let Some(number) = number {
                    self.file.write_all_at(&number.to_le_bytes(), at)?;
                }
            }
        }
        Ok(())
    }

    /// Refuses a store that has less than was vouched for.
    pub(super) fn compare(&self, conn: &Connection, file: &Arc<str>) -> Result<(), Error> {
        let way_out = "restore the whole folder from a backup";
        let refused = |why: &dyn std::fmt::Display| Error::Unavailable {
            file: Arc::clone(file),
            message: format!("{why}; {way_out}").into(),
        };
        let mut notes = [0; LEN];
        self.file.read_exact_at(&mut notes, 0).map_err(|error| refused(&error))?;
        let (notes, _) = notes.as_chunks::<8>();
        let mut shard = conn
            .prepare(
                "SELECT epoch, (SELECT coalesce(max(id), ?2) - ?2 FROM entry WHERE id > ?2 AND id < ?3)
                 FROM shard WHERE shard = ?1",
            )
            .map_err(|error| refused(&error))?;
        for (number, note) in (0_i64..).zip(notes.chunks(2)) {
            let [pos, epoch] = [note[0], note[1]].map(u64::from_le_bytes);
            if (pos, epoch) == (0, 0) {
                continue;
            }
            let first = number << POS_BITS;
            let there = shard
                .query_row([number, first, first + (1 << POS_BITS)], |row| {
                    Ok((
                        row.get::<_, i64>(0)?.cast_unsigned(),
                        row.get::<_, i64>(1)?.cast_unsigned(),
                    ))
                })
                .map_err(|error| refused(&error))?;
            if there.1 < pos || there.0 < epoch {
                return Err(refused(&format!(
                    "what was acknowledged is missing: shard {number} ends with entry {} of {pos}, \
                     and its epoch is {} of {epoch} (to go on without, remove `{}`)",
                    there.1,
                    there.0,
                    self.path.display()
                )));
            }
        }
        Ok(())
    }
}
