//! Copies the log into the database, on a thread and a connection of its own, while commits go on.
//!
//! The log begins anew only when all of it was copied and nobody reads it; commits that come
//! meanwhile put that off. So the bulk is copied beside them, and the little that is left in a turn.
//!
//! **Invariants:** an error here counts as one of a commit; the log is bounded by what is written
//! while its bulk is copied, unless a reader stays, which is said. Only one that has grown far is
//! emptied at the price of a wait for readers.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use rusqlite::Connection;

use super::Poison;
use super::fault::{Fault, Phase, classify_full};
use super::schema::{empty_log, open_copier};
use super::space::Space;
use super::turnstile::Turnstile;

/// A page of the log and its header.
const FRAME: u32 = 4096 + 24;
/// The log's growth after which its pages are copied into the database: little, since commits wait
/// for the disk beside it (p99 of theirs: 5 ms at 4 MiB, 2 ms at 1 MiB, 0.9 ms without).
const COPY_FRAMES: u32 = (1 << 20) / FRAME;
/// What may be left to copy while nobody else writes,
const REST_FRAMES: u32 = (256 << 10) / FRAME;
/// unless the log has grown to this: its writers are faster than the copy.
const TURN_FRAMES: u32 = (4 << 20) / FRAME;
/// How often the bulk is copied before what is left counts as little.
const TRIES: u32 = 3;
/// The log's size after which it is emptied.
const TRUNCATE_FRAMES: u32 = (64 << 20) / FRAME;
/// How long to wait for the turn: the next try comes soon.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the thread that copies.
pub(super) struct Copier {
    /// Present until it is stopped.
    bell: Option<SyncSender<u32>>,
    thread: Option<JoinHandle<()>>,
    /// How long the log was when the bell was last rung.
    rung: u32,
}

impl Copier {
    /// Copies the log of the store in `dir`, whose database is `file`.
    pub(super) fn start(
        dir: &Path,
        file: Arc<str>,
        poison: Poison,
        space: Space,
    ) -> io::Result<Self> {
        let conn = open_copier(Path::new(&*file)).map_err(io::Error::other)?;
        let conn = ManuallyDrop::new(conn);
        let copying =
            Copying { conn, file, poison, turnstile: Turnstile::new(dir)?, space, stuck: false };
        let (bell, rings) = sync_channel(1);
        let thread = thread::Builder::new().name("kapelle-checkpoint".into());
        let thread = thread.spawn(move || copying.run(&rings))?;
        Ok(Self { bell: Some(bell), thread: Some(thread), rung: 0 })
    }

    /// Takes note that the log has so many pages now.
    pub(super) fn grown(&mut self, frames: u32) {
        // A log that became shorter was begun anew.
        self.rung = self.rung.min(frames);
        if frames - self.rung < COPY_FRAMES {
            return;
        }
        self.rung = frames;
        if let Some(bell) = &self.bell {
            // One that is rung while it is still ringing changes nothing.
            bell.try_send(frames).ok();
        }
    }

    /// Waits for the copy that goes on; there will be none after it.
    pub(super) fn stop(&mut self) {
        self.bell = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that copies the log ended in a panic");
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread has.
struct Copying {
    /// Leaked once poisoned: closing it would touch the files.
    conn: ManuallyDrop<Connection>,
    file: Arc<str>,
    poison: Poison,
    turnstile: Turnstile,
    space: Space,
    /// Whether it was said that the log cannot be emptied.
    stuck: bool,
}

/// How far the log is copied.
struct Progress {
    frames: u32,
    copied: u32,
}

impl Copying {
    fn run(mut self, rings: &Receiver<u32>) {
        while rings.recv().is_ok() && self.poison.check().is_ok() {
            if let Err(error) = self.copy() {
                self.failed(&error);
            }
        }
        if self.poison.check().is_ok() {
            drop(ManuallyDrop::into_inner(self.conn));
        }
    }

    fn copy(&mut self) -> rusqlite::Result<()> {
        let mut progress = self.passive()?;
        for _ in 1..TRIES {
            if progress.left() > REST_FRAMES && self.poison.check().is_ok() {
                progress = self.passive()?;
            }
        }
        if progress.left() > REST_FRAMES && progress.frames < TURN_FRAMES {
            return Ok(());
        }
        // Also where nothing is left: a commit that has begun meanwhile goes on at the log's end.
        match self.turnstile.enter(PATIENCE) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                self.poisoned(&error);
                return Ok(());
            }
        }
        // A commit may have failed meanwhile.
        let done = self.poison.check().map_or(Ok(()), |()| self.finish(&progress));
        self.turnstile.leave().unwrap_or_else(|error| self.poisoned(&error));
        done
    }

    /// Copies what is left, so that the next commit begins the log anew. Holds the turn.
    fn finish(&mut self, progress: &Progress) -> rusqlite::Result<()> {
        if progress.frames < TRUNCATE_FRAMES {
            return self.passive().map(drop);
        }
        let emptied = empty_log(&self.conn)?;
        if !emptied && !self.stuck {
            let mib = (u64::from(progress.frames) * u64::from(FRAME)) >> 20;
            tracing::warn!(
                "the log of `{}` has {mib} MiB: a process that reads it keeps it from being emptied",
                self.file
            );
        }
        self.stuck = !emptied;
        Ok(())
    }

    fn passive(&self) -> rusqlite::Result<Progress> {
        self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            // Without a log, or while another process copies it, there is nothing to say: -1.
            let count =
                |index| row.get::<_, i64>(index).map(|count| u32::try_from(count).unwrap_or(0));
            Ok(Progress { frames: count(1)?, copied: count(2)? })
        })
    }

    fn failed(&self, error: &rusqlite::Error) {
        match classify_full(error, Phase::Checkpoint, &self.file, &self.space) {
            Fault::Poison(error) => drop(self.poison.take(error)),
            Fault::Damaged(message) => self.poisoned(&message),
            // Others copy, or there is no space: the log grows on, and the next try comes.
            Fault::Refused(error) | Fault::Ghost(error) => tracing::warn!("checkpoint: {error}"),
        }
    }

    fn poisoned(&self, why: &dyn fmt::Display) {
        drop(self.poison.set(Path::new(&*self.file), &why.to_string()));
    }
}

impl Progress {
    fn left(&self) -> u32 {
        self.frames.saturating_sub(self.copied)
    }
}
