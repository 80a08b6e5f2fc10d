//! The one connection of a process that writes: what waits is written in one transaction, together.
//! A thread of its own does it, or whoever comes while it is idle and has nothing better to do.
//!
//! **Invariants:** an answer that says "done" follows the commit; a wish that is refused leaves
//! nothing behind and harms no other: the transaction is rolled back and begun again without it
//! (rare, so it pays to have no savepoints, which would copy every page they touch). Once poisoned,
//! the connection is leaked, not closed: closing it would touch the files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kapelle_core::port::account::{Call, Grant, Granted, Within};
use kapelle_core::port::journal::{Error, History, Imported, OnSettled, Part, Settled, Shrunk};
use kapelle_core::run::Sum;
use kapelle_core::{Digest, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::Poison;
use super::checkpoint::Copier;
use super::ends::Ends;
use super::fault::{Fault, Phase, classify_full, damage, damaged};
use super::files::Files;
use super::pace::Pace;
use super::prune::Gone;
use super::record::Change;
use super::schema::{PATIENCE, check_level, empty_log};
use super::space::{Space, is_full};
use super::turnstile::Turnstile;
use super::write::{Memo, Stop, Transaction};

/// How many wishes one transaction takes.
const BATCH_MAX: usize = 256;
/// How long to wait between two tries to overwrite a commit of unknown outcome.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// How often the log is tried to be emptied for whoever gives space back, and the pause between: SQLite waits
/// for readers itself, but not for another copy.
const EMPTY_TRIES: u32 = 20;
const EMPTY_PAUSE: Duration = Duration::from_millis(50);

/// What somebody wants of the writer, what came of it so far, and where to say so.
pub(super) enum Wish {
    Append {
        parts: Vec<Part>,
        outcome: Vec<Settled>,
        settled: OnSettled,
    },
    Claim {
        seen: Vec<(Shard, Epoch)>,
        owner: NodeId,
        won: Vec<(Shard, Epoch)>,
        answer: oneshot::Sender<Result<Vec<(Shard, Epoch)>, Error>>,
    },
    Release {
        held: Vec<(Shard, Epoch)>,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    Sweep {
        old: Vec<(std::path::PathBuf, Option<Digest>)>,
        age: Duration,
        removed: u64,
        answer: Box<dyn FnOnce(Result<u64, Error>) + Send>,
    },
    Prune {
        tenant: Tenant,
        runs: Vec<RunId>,
        now: Timestamp,
        gone: Gone,
        answer: oneshot::Sender<Result<Gone, Error>>,
    },
    Import {
        history: Box<History>,
        imported: Imported,
        answer: oneshot::Sender<Result<Imported, Error>>,
    },
    Shrink {
        shrunk: Shrunk,
        answer: oneshot::Sender<Result<Shrunk, Error>>,
    },
    Grant {
        grant: Grant,
        within: Vec<Within>,
        granted: Granted,
        answer: oneshot::Sender<Result<Granted, Error>>,
    },
    Settle {
        tenant: Tenant,
        call: Call,
        used: Sum,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    Record {
        change: Change,
        done: bool,
        answer: oneshot::Sender<Result<bool, Error>>,
    },
    Note {
        tenant: Tenant,
        body: Box<str>,
        answer: oneshot::Sender<Result<(), Error>>,
    },
}

impl Wish {
    /// Says how it ended. Whoever does not listen any more does not mind.
    pub(super) fn answer(self, result: Result<(), Error>) {
        match self {
            Self::Append { outcome, settled, .. } => {
                let call = || settled(result.map(|()| outcome));
                if catch_unwind(AssertUnwindSafe(call)).is_err() {
                    tracing::error!("a panic in the answer to an append");
                }
            }
            Self::Claim { won, answer, .. } => {
                answer.send(result.map(|()| won)).ok();
            }
            Self::Release { answer, .. }
            | Self::Settle { answer, .. }
            | Self::Note { answer, .. } => {
                answer.send(result).ok();
            }
            Self::Sweep { removed, answer, .. } => answer(result.map(|()| removed)),
            Self::Prune { gone, answer, .. } => {
                answer.send(result.map(|()| gone)).ok();
            }
            Self::Import { imported, answer, .. } => {
                answer.send(result.map(|()| imported)).ok();
            }
            Self::Shrink { shrunk, answer } => {
                answer.send(result.map(|()| shrunk)).ok();
            }
            Self::Grant { granted, answer, .. } => {
                answer.send(result.map(|()| granted)).ok();
            }
            Self::Record { done, answer, .. } => {
                answer.send(result.map(|()| done)).ok();
            }
        }
    }

    /// Whether it has given back all there was to give.
    const fn ends_shrinking(&self) -> bool {
        matches!(self, Self::Shrink { shrunk: Shrunk { more: false, .. }, .. })
    }

    fn makes_a_run(&self) -> bool {
        let Self::Append { parts, .. } = self else { return matches!(self, Self::Import { .. }) };
        makes_a_run(parts)
    }

    fn fulfil(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Stop> {
        match self {
            Self::Append { parts, outcome, .. } => *outcome = transaction.append(parts)?,
            Self::Claim { seen, owner, won, .. } => *won = transaction.claim(seen, owner)?,
            Self::Release { held, .. } => transaction.release(held)?,
            Self::Sweep { old, age, removed, .. } => *removed = transaction.sweep(old, *age)?,
            Self::Prune { tenant, runs, now, gone, .. } => {
                *gone = transaction.prune(tenant, runs, *now)?;
            }
            Self::Import { history, imported, .. } => *imported = transaction.import(history)?,
            Self::Shrink { shrunk, .. } => *shrunk = transaction.shrink()?,
            Self::Grant { grant, within, granted, .. } => {
                *granted = transaction.grant(grant, within)?;
            }
            Self::Settle { tenant, call, used, .. } => transaction.settle(tenant, call, *used)?,
            Self::Record { change, done, .. } => *done = transaction.change(change)?,
            Self::Note { tenant, body, .. } => transaction.note(tenant, body)?,
        }
        Ok(())
    }
}

/// Whether there is an entry among them that begins a run.
pub(super) fn makes_a_run(parts: &[Part]) -> bool {
    parts.iter().flat_map(|part| &part.runs).any(|run| run.entry.first_seq == 1)
}

/// How a try to write a batch ended, if it did not fail.
enum Tried {
    Committed,
    /// Nothing was written; this one is why.
    Refused(usize, Error),
}

pub(super) struct Writer {
    /// Present until it is dropped.
    conn: Option<Connection>,
    file: Arc<str>,
    files: Files,
    poison: Poison,
    turnstile: Turnstile,
    memo: Memo,
    /// How long the log is, as the last commit found it.
    frames: Arc<AtomicU32>,
    copier: Copier,
    ends: Ends,
    space: Space,
    pace: Pace,
    commits: Arc<AtomicU64>,
}

/// What the writer shares with the store it is of.
pub(super) struct Shared {
    pub(super) file: Arc<str>,
    pub(super) files: Files,
    pub(super) poison: Poison,
    pub(super) space: Space,
    pub(super) commits: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(
        mut conn: Connection,
        shared: Shared,
        turnstile: Turnstile,
        copier: Copier,
        ends: Ends,
    ) -> rusqlite::Result<Self> {
        let Shared { file, files, poison, space, commits } = shared;
        let frames = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&frames);
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            seen.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }))?;
        let (conn, memo, pace) = (Some(conn), Memo::default(), Pace::default());
        Ok(Self {
            conn,
            file,
            files,
            poison,
            turnstile,
            memo,
            frames,
            copier,
            ends,
            space,
            pace,
            commits,
        })
    }

    /// Waits for what goes on beside commits; it does not go on after that.
    pub(super) fn stop_copying(&mut self) {
        self.copier.stop();
    }

    /// Writes what `batch` wishes, and answers.
    pub(super) fn work(&mut self, mut batch: Vec<Wish>) {
        let result = self.poison.check().and_then(|()| self.write(&mut batch));
        // Nothing is vouched for once a checkpoint beside it has failed.
        let mut result = result.and_then(|()| self.poison.check());
        if result.is_ok() && batch.iter().any(Wish::ends_shrinking) {
            self.empty_log();
            result = self.poison.check();
        }
        for wish in batch {
            wish.answer(result.clone());
        }
        if result.is_ok() {
            self.copier.grown(self.frames.load(Ordering::Relaxed));
        }
    }

    /// Copies the log and cuts both files off where they end now: only then the disk has it back.
    /// The copy that goes on beside it is in the way for a moment. Where somebody stays there, or space is
    /// missing, the next copy does it: what the batch wished is committed. Whatever else goes wrong poisons.
    fn empty_log(&mut self) {
        for _ in 0..EMPTY_TRIES {
            if self.enter().is_err() {
                return;
            }
            let emptied = empty_log(self.conn());
            let left = self.leave();
            match emptied {
                Ok(false) if left.is_ok() => thread::sleep(EMPTY_PAUSE),
                Err(error) if left.is_ok() => return drop(self.failed(&error, Phase::Checkpoint)),
                _ => return,
            }
        }
    }

    /// Writes what `batch` wishes. What is refused by itself is answered and taken out of it.
    fn write(&mut self, batch: &mut Vec<Wish>) -> Result<(), Error> {
        self.enter()?;
        let written = catch_unwind(AssertUnwindSafe(|| {
            self.refuse_new(batch);
            while !batch.is_empty() {
                match self.attempt(batch) {
                    Ok(Tried::Committed) => break,
                    Ok(Tried::Refused(at, error)) => batch.remove(at).answer(Err(error)),
                    Err(Error::Full { .. }) if self.space.give_up() => self.refuse_new(batch),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }));
        let written =
            written.unwrap_or_else(|_| Err(self.poison.set(self.path(), "a panic while writing")));
        self.leave()?;
        written
    }

    /// Answers those of `batch` that make new runs, if there is hardly any space left.
    fn refuse_new(&self, batch: &mut Vec<Wish>) {
        if self.space.is_tight() {
            for wish in batch.extract_if(.., |wish| wish.makes_a_run()) {
                wish.answer(Err(Error::Full { file: Arc::clone(&self.file) }));
            }
        }
    }

    fn attempt(&mut self, batch: &mut [Wish]) -> Result<Tried, Error> {
        self.execute("BEGIN IMMEDIATE").map_err(|error| self.failed(&error, Phase::Begin))?;
        match self.fulfil(batch) {
            Ok(()) => {}
            Err((at, Stop::Refused(error))) => {
                self.roll_back()?;
                return Ok(Tried::Refused(at, error));
            }
            Err((at, Stop::Sql(error))) => {
                let Some(what) = damage(&error) else {
                    return Err(self.failed(&error, Phase::Write));
                };
                self.roll_back()?;
                return Ok(Tried::Refused(at, damaged(&self.file, &what)));
            }
        }
        let begin = Instant::now();
        self.execute("COMMIT").map_err(|error| self.failed(&error, Phase::Commit))?;
        self.pace.took(begin.elapsed(), &self.file);
        self.commits.fetch_add(1, Ordering::Relaxed);
        // Beside it a checkpoint's sync may have failed, and taken with it what this one vouched for.
        self.poison.check()?;
        let new_ends = std::mem::take(&mut self.memo.new_ends);
        match self.ends.note(&new_ends) {
            // What is committed is committed; a note that is behind says nothing. The next one has it.
            Err(error) if is_full(&error) => self.memo.new_ends = new_ends,
            noted => noted.map_err(|error| {
                self.poison.set(self.path(), &format!("noting its end: {error}"))
            })?,
        }
        Ok(Tried::Committed)
    }

    fn fulfil(&mut self, batch: &mut [Wish]) -> Result<(), (usize, Stop)> {
        match check_level(self.conn(), &self.file) {
            Ok(Ok(())) => {}
            Ok(Err(newer)) => return Err((0, Stop::Refused(newer))),
            Err(error) => return Err((0, Stop::Sql(error))),
        }
        let conn = self.conn.as_ref().expect(PRESENT);
        let (memo, files) = (&mut self.memo, &self.files);
        let mut transaction = Transaction { conn, memo, files };
        for (at, wish) in batch.iter_mut().enumerate() {
            wish.fulfil(&mut transaction).map_err(|stop| (at, stop))?;
        }
        Ok(())
    }

    /// Brings the store back to where it was and says what to answer.
    fn failed(&mut self, error: &rusqlite::Error, phase: Phase) -> Error {
        match classify_full(error, phase, &self.file, &self.space) {
            Fault::Poison(error) => self.poison.take(error),
            Fault::Damaged(message) => self.poison.set(self.path(), &message),
            Fault::Refused(error) => self.roll_back().err().unwrap_or(error),
            Fault::Ghost(error) => match self.roll_back() {
                Ok(()) => self.probe().err().unwrap_or(error),
                Err(error) => error,
            },
        }
    }

    fn roll_back(&mut self) -> Result<(), Error> {
        self.memo.forget();
        if self.conn().is_autocommit() {
            return Ok(());
        }
        self.execute("ROLLBACK").map_err(|error| self.failed(&error, Phase::Rollback))
    }

    /// Commits something that changes nothing, until it succeeds: it takes the place in the log of
    /// a commit of unknown outcome, which then cannot come back after a crash.
    fn probe(&mut self) -> Result<(), Error> {
        const PROBE: &str = "UPDATE shard SET epoch = epoch WHERE shard = 0";
        loop {
            let committed = self
                .execute("BEGIN IMMEDIATE")
                .and_then(|()| self.execute(PROBE))
                .and_then(|()| self.execute("COMMIT"));
            let Err(error) = committed else { return Ok(()) };
            self.space.give_up();
            match classify_full(&error, Phase::Commit, &self.file, &self.space) {
                Fault::Poison(error) => return Err(self.poison.take(error)),
                Fault::Damaged(message) => return Err(self.poison.set(self.path(), &message)),
                Fault::Refused(_) | Fault::Ghost(_) => self.roll_back()?,
            }
            thread::sleep(PROBE_PAUSE);
        }
    }

    fn enter(&mut self) -> Result<(), Error> {
        match self.turnstile.enter(PATIENCE) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Busy { file: Arc::clone(&self.file) }),
            Err(error) => Err(self.poison.set(self.path(), &error.to_string())),
        }
    }

    fn leave(&self) -> Result<(), Error> {
        let left = self.turnstile.leave();
        left.map_err(|error| self.poison.set(self.path(), &error.to_string()))
    }

    fn conn(&self) -> &Connection {
        self.conn.as_ref().expect(PRESENT)
    }

    fn path(&self) -> &Path {
        Path::new(&*self.file)
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn().prepare_cached(sql)?.execute([]).map(|_| ())
    }
}

/// What holds of a writer's connection.
const PRESENT: &str = "present until it is dropped";

/// Does what is wished until nobody can wish any more.
pub(super) fn serve(writer: &Mutex<Writer>, wishes: &Receiver<Wish>) {
    while let Ok(first) = wishes.recv() {
        // What comes while somebody else writes goes into one transaction too.
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = vec![first];
        batch.extend(wishes.try_iter().take(BATCH_MAX - 1));
        writer.work(batch);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.poison.check().is_err() {
            std::mem::forget(self.conn.take());
        }
    }
}
