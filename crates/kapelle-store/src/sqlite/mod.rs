//! A journal in a folder: an SQLite database, and files for payloads that are too large for it.
//!
//! ```text
//! STORE/kapelle.db     entries, submit keys, runs, small payloads, references (and its -wal, -shm)
//! STORE/payloads/ab/…  large payloads, named by their digest
//! STORE/ballast        space for the day when there is none
//! STORE/ends           how far what was vouched for goes
//! STORE/next, turn     the locks by which processes take turns to write
//! STORE/nodes/…        who works on it, see `Member`
//! ```
//!
//! **Invariants:** one connection of a process writes, many wishes to a commit; a commit that was
//! answered is on disk. What an error means is decided in `fault`, once.

mod account;
mod audit;
mod checkpoint;
mod ends;
mod fault;
mod files;
mod import;
mod look;
mod pace;
mod pages;
mod prune;
mod read;
mod record;
mod schema;
mod space;
mod sum;
mod turnstile;
mod verify;
mod write;
mod writer;

pub use audit::Audited;
pub(crate) use space::is_full;
pub use verify::{Damage, Progress, Verified};

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use async_trait::async_trait;
use kapelle_core::port::journal::{
    Content, Entry, Error, History, Holding, Imported, Journal, OnSettled, Part, Pruned, Row,
    RunQuery, RunRow, Shrunk, Staged, Twin,
};
use kapelle_core::{Digest, Epoch, NodeId, ROW_MAX, RunId, Shard, Tenant, Timestamp};
use tokio::sync::oneshot;

use self::checkpoint::Copier;
use self::ends::Ends;
use self::files::Files;
use self::prune::Gone;
use self::read::{Found, PAGE, Readers};
use self::space::Space;
use self::turnstile::Turnstile;
use self::writer::{Shared, Wish, Writer};
use crate::check;

/// How long a payload file may be without a reference before it is removed.
const SWEEP_AGE: Duration = Duration::from_secs(3600);
/// How many files one transaction of a sweep looks at.
const SWEEP_BATCH: usize = 256;

/// A journal in a folder. Several processes may have it open at once.
///
/// What to do about its errors: [`Error::Full`] and [`Error::Busy`]: nothing was written, repeat
/// when there is space, or later. [`Error::Newer`]: release what is held and end; nothing was
/// touched. [`Error::Poisoned`]: end this process; whether the append that was told so is on disk
/// is known to whoever opens the store next. [`Error::Unavailable`]: the message names the file and
/// the way out. [`Error::Corrupt`]: from `append`, a bug of the caller, nothing was written; from a
/// read, quarantine the run.
///
/// Reads need a tokio runtime. Dropped, it waits for what was asked of it to be written.
pub struct Sqlite {
    file: Arc<str>,
    files: Files,
    poison: Poison,
    space: Space,
    readers: Arc<Readers>,
    commits: Arc<AtomicU64>,
    /// What somebody who looks at a damaged store is to hear of.
    missing: Vec<String>,
    /// Present until it is dropped; absent where it is only read.
    wishes: Option<Sender<Wish>>,
    writer: Option<Arc<Mutex<Writer>>>,
    thread: Option<JoinHandle<()>>,
}

impl Sqlite {
    /// Opens the store in the folder `dir`, made if there is none. Blocks.
    ///
    /// [`Error::Unavailable`] where that is not possible: it names the file and the way out.
    /// [`Error::Newer`] for a store of a newer version, which is left as it is; [`Error::Busy`] if
    /// another process writes for longer than ten seconds.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with(dir, |_| Ok(()))
    }

    /// The same; `prepare` is done to the connection that writes.
    fn open_with(
        dir: &Path,
        prepare: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<()>,
    ) -> Result<Self, Error> {
        let unusable = |error: io::Error| unusable(dir, &error);
        make_folder(dir).map_err(unusable)?;
        let path = dir.join("kapelle.db");
        let file: Arc<str> = path.display().to_string().into();
        let mut turnstile = Turnstile::new(dir).map_err(unusable)?;
        if !turnstile.enter(schema::PATIENCE).map_err(unusable)? {
            return Err(Error::Busy { file });
        }
        let space = Space::open(dir);
        let ends = Ends::open(dir).map_err(unusable)?;
        let mut conn = schema::open_writer(&path, &file, &ends);
        if matches!(conn, Err(Error::Full { .. })) && space.give_up() {
            conn = schema::open_writer(&path, &file, &ends);
        }
        turnstile.leave().map_err(unusable)?;
        let conn = conn?;
        let poison = Poison::default();
        let files = Files::open(dir, poison.clone(), space.clone()).map_err(unusable)?;
        // The names of the folder's new files are as durable as what will be in them.
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
        let old = files.older_than(SWEEP_AGE).map_err(unusable)?;
        let readers = Readers::new(path, Arc::clone(&file), poison.clone());
        let copier = Copier::start(dir, Arc::clone(&file), poison.clone(), space.clone());
        let copier = copier.map_err(unusable)?;
        let (files_too, poison_too) = (files.clone(), poison.clone());
        let commits = Arc::<AtomicU64>::default();
        let shared = Shared {
            file: Arc::clone(&file),
            files: files_too,
            poison: poison_too,
            space: space.clone(),
            commits: Arc::clone(&commits),
        };
        let writer =
            prepare(&conn).and_then(|()| Writer::new(conn, shared, turnstile, copier, ends));
        let writer = writer.map_err(|error| unusable(io::Error::other(error)))?;
        let (wishes, queue) = channel();
        let thread = thread::Builder::new().name("kapelle-writer".into());
        let writer = Arc::new(Mutex::new(writer));
        let served = Arc::clone(&writer);
        let thread = thread.spawn(move || writer::serve(&served, &queue)).map_err(unusable)?;
        let (wishes, writer, thread) = (Some(wishes), Some(writer), Some(thread));
        let missing = Vec::new();
        let store =
            Self { file, files, poison, space, readers, commits, missing, wishes, writer, thread };
        for old in old.chunks(SWEEP_BATCH) {
            store.sweep(old.to_vec(), SWEEP_AGE, |_| {});
        }
        Ok(store)
    }

    /// Gives up what is kept for a full disk, for a file beside the store without which nobody could
    /// say a word to a run; whether that may have made space.
    pub fn make_room(&self) -> bool {
        self.space.give_up()
    }

    /// Has `end` called as soon as this process must not touch the store any more, once, by the thread
    /// that learns it, in the midst of its work: whoever ends the process there waits for nobody.
    pub fn on_poisoned(&self, end: impl FnOnce(&Error) + Send + 'static) {
        self.poison.on_taken(Box::new(end));
    }

    /// Waits for what the store does by itself, and says if that has failed since the last answer:
    /// whoever ends as if all were well says so too. Blocks; to be called last.
    pub fn close(&self) -> Result<(), Error> {
        if let Some(writer) = &self.writer {
            writer.lock().unwrap_or_else(PoisonError::into_inner).stop_copying();
        }
        self.poison.check()
    }

    /// How many commits this process has made here. What waits together is written in one: asked in
    /// the answer to an append, it is the same for all that were.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    fn sweep(
        &self,
        old: Vec<(std::path::PathBuf, Option<Digest>)>,
        age: Duration,
        answer: impl FnOnce(Result<u64, Error>) + Send + 'static,
    ) {
        self.wish(Wish::Sweep { old, age, removed: 0, answer: Box::new(answer) });
    }

    fn wish(&self, wish: Wish) {
        let Some(wishes) = &self.wishes else { return wish.answer(Err(self.only_read())) };
        if let Err(unsent) = wishes.send(wish) {
            let file = Path::new(&*self.file);
            unsent.0.answer(Err(self.poison.set(file, "the writer has ended")));
        }
    }

    /// What a wish came to; a writer that ended without an answer is a poisoned one.
    async fn answer<T>(&self, answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        let gone = || self.poison.set(Path::new(&*self.file), "the writer has ended");
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.wishes = None;
        // An answer may hold the last reference to the store: the writer does not wait for itself.
        if let Some(writer) = self.thread.take()
            && writer.thread().id() != thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!("the writer of `{}` ended in a panic", self.file);
        }
    }
}

/// Whether a row is too large to be one.
fn is_large(row: &Row) -> bool {
    matches!(row, Row::Payload(payload) if payload.bytes.len() > ROW_MAX)
}

fn has_large(parts: &[Part]) -> bool {
    parts.iter().flat_map(|part| &part.runs).flat_map(|run| &run.rows).any(is_large)
}

/// Makes files of the payloads that are too large for rows.
fn place_large(files: &Files, mut parts: Vec<Part>) -> Result<Vec<Part>, Error> {
    let runs = parts.iter_mut().flat_map(|part| &mut part.runs);
    for row in runs.flat_map(|run| &mut run.rows).filter(|row| is_large(row)) {
        if let Row::Payload(payload) = row {
            files.place(payload)?;
            let (digest, len) = (payload.digest, payload.bytes.len() as u64);
            *row = Row::Reference { digest, len };
        }
    }
    Ok(parts)
}

#[async_trait]
impl Journal for Sqlite {
    async fn shards(&self) -> Result<Vec<Holding>, Error> {
        self.readers.read(read::shards).await
    }

    async fn claim(
        &self,
        seen: &[(Shard, Epoch)],
        owner: &NodeId,
    ) -> Result<Vec<(Shard, Epoch)>, Error> {
        let (answer, answered) = oneshot::channel();
        let (seen, owner) = (seen.to_vec(), owner.clone());
        self.wish(Wish::Claim { seen, owner, won: Vec::new(), answer });
        self.answer(answered).await
    }

    async fn release(&self, held: &[(Shard, Epoch)]) -> Result<(), Error> {
        if held.is_empty() && self.wishes.is_none() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.wish(Wish::Release { held: held.to_vec(), answer });
        self.answer(answered).await
    }

    fn append(&self, parts: Vec<Part>, settled: OnSettled) {
        let wish = |parts, settled| Wish::Append { parts, outcome: Vec::new(), settled };
        if !has_large(&parts) {
            return self.wish(wish(parts, settled));
        }
        // Neither the caller nor the writer waits for large files: a thread of their own writes them.
        let (files, poison, file) = (self.files.clone(), self.poison.clone(), self.file.clone());
        let Some(wishes) = self.wishes.clone() else { return settled(Err(self.only_read())) };
        // What is refused leaves no file behind.
        if writer::makes_a_run(&parts) && self.space.is_tight() {
            return settled(Err(Error::Full { file }));
        }
        let place = move || match place_large(&files, parts) {
            Ok(parts) => {
                if let Err(unsent) = wishes.send(wish(parts, settled)) {
                    let gone = poison.set(Path::new(&*file), "the writer has ended");
                    unsent.0.answer(Err(gone));
                }
            }
            Err(error) => settled(Err(error)),
        };
        drop(thread::spawn(place));
    }

    fn append_here(&self, parts: Vec<Part>, settled: OnSettled) {
        match self.writer.as_ref().map(|writer| writer.try_lock()) {
            Some(Ok(mut writer)) if !has_large(&parts) => {
                writer.work(vec![Wish::Append { parts, outcome: Vec::new(), settled }]);
            }
            _ => self.append(parts, settled),
        }
    }

    async fn read(&self, tenant: &Tenant, run: RunId, from: u64) -> Result<Vec<Entry>, Error> {
        let tenant = tenant.clone();
        let entries = move |conn: &_| read::entries(conn, &tenant, run, from);
        self.readers.read_run((run, from), entries).await
    }

    async fn tail(&self, shard: Shard, after: u64, limit: u32) -> Result<Vec<(u64, Entry)>, Error> {
        self.readers.read(move |conn| read::tail(conn, shard, after, limit)).await
    }

    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRow>, Error> {
        let mut rows: Vec<RunRow> = Vec::new();
        loop {
            let after = rows.last().cloned();
            let page = move |conn: &_| read::open_runs(conn, shard, after.as_ref());
            let page = self.readers.read(page).await?;
            let last = page.len() < PAGE as usize;
            rows.extend(page);
            if last {
                return Ok(rows);
            }
        }
    }

    async fn open_counts(&self) -> Result<Vec<(Shard, u64)>, Error> {
        self.readers.read(read::open_counts).await
    }

    async fn runs(&self, tenant: &Tenant, query: &RunQuery) -> Result<Vec<RunRow>, Error> {
        let limit = query.limit.clamp(1, PAGE) as usize;
        let mut found = Vec::new();
        let mut before = query.before;
        loop {
            let tenant = tenant.clone();
            let page = self.readers.read(move |conn| read::runs(conn, &tenant, before)).await?;
            let last = page.len() < PAGE as usize;
            before = page.last().map(|row| row.run);
            found.extend(page.into_iter().filter(|row| check::wanted(row, query)));
            found.truncate(limit);
            if last || found.len() == limit {
                return Ok(found);
            }
        }
    }

    async fn run(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunRow>, Error> {
        let tenant = tenant.clone();
        self.readers.read_run((run, 1), move |conn| read::run(conn, &tenant, run)).await
    }

    async fn ending_with(
        &self,
        tenant: &Tenant,
        suffix: &str,
        limit: u32,
    ) -> Result<Vec<RunId>, Error> {
        let mut found = Vec::new();
        let mut before = None;
        loop {
            let tenant = tenant.clone();
            let page = self.readers.read(move |conn| read::runs(conn, &tenant, before)).await?;
            let last = page.len() < PAGE as usize;
            before = page.last().map(|row| row.run);
            let runs = page.iter().map(|row| row.run);
            found.extend(runs.filter(|run| check::ends_with(*run, suffix)));
            found.truncate(limit as usize);
            if last || found.len() == limit as usize {
                return Ok(found);
            }
        }
    }

    async fn submitted(&self, tenant: &Tenant, key: &str) -> Result<Option<Twin>, Error> {
        let (tenant, key) = (tenant.clone(), key.to_owned());
        self.readers.read(move |conn| write::twin(conn, &tenant, &key)).await
    }

    async fn payload(&self, tenant: &Tenant, digest: Digest) -> Result<Option<Content>, Error> {
        let tenant = tenant.clone();
        match self.readers.read(move |conn| read::payload(conn, &tenant, digest)).await? {
            Found::Nothing => Ok(None),
            Found::Bytes(bytes) => {
                let len = bytes.len() as u64;
                Ok(Some(files::checked(digest, len, io::Cursor::new(bytes))))
            }
            Found::Elsewhere => {
                let gone = |why: &str| Error::Unavailable {
                    file: self.files.path(digest).display().to_string().into(),
                    message: format!("{why}; restore it from a backup").into(),
                };
                let content = self.files.content(digest);
                let content = content.map_err(|error| gone(&error.to_string()))?;
                content.ok_or_else(|| gone("the payload is missing")).map(Some)
            }
        }
    }

    async fn stage(&self) -> Result<Box<dyn Staged>, Error> {
        self.poison.check()?;
        if self.wishes.is_none() {
            return Err(self.only_read());
        }
        Ok(Box::new(self.files.stage()?))
    }

    async fn bytes(&self, tenant: &Tenant, run: RunId) -> Result<u64, Error> {
        let of = tenant.clone();
        let payloads = move |conn: &_| read::payload_bytes(conn, &of, run);
        let mut sum = self.readers.read_run((run, 1), payloads).await?;
        let mut after = Some(0);
        while let Some(from) = after {
            let of = tenant.clone();
            let entries = move |conn: &_| read::entry_bytes(conn, &of, run, from);
            let (bytes, more) = self.readers.read_run((run, from), entries).await?;
            sum += bytes;
            after = more;
        }
        Ok(sum)
    }

    async fn references(&self, tenant: &Tenant, run: RunId) -> Result<Vec<(Digest, u64)>, Error> {
        let tenant = tenant.clone();
        self.readers.read_run((run, 1), move |conn| import::references(conn, &tenant, run)).await
    }

    async fn import(&self, history: History) -> Result<Imported, Error> {
        let (answer, answered) = oneshot::channel();
        let (history, imported) = (Box::new(history), Imported::Other);
        self.wish(Wish::Import { history, imported, answer });
        self.answer(answered).await
    }

    async fn prune(
        &self,
        tenant: &Tenant,
        runs: &[RunId],
        now: Timestamp,
    ) -> Result<Pruned, Error> {
        let (answer, answered) = oneshot::channel();
        let (tenant, runs, gone) = (tenant.clone(), runs.to_vec(), Gone::default());
        self.wish(Wish::Prune { tenant, runs, now, gone, answer });
        let Gone { pruned, files } = self.answer(answered).await?;
        for files in files.chunks(SWEEP_BATCH) {
            // What is not swept now is swept by whoever opens the store next.
            let (done, swept) = oneshot::channel();
            self.sweep(files.to_vec(), SWEEP_AGE, |_| drop(done));
            swept.await.unwrap_or(());
        }
        Ok(pruned)
    }

    async fn shrink(&self) -> Result<Shrunk, Error> {
        let (answer, answered) = oneshot::channel();
        self.wish(Wish::Shrink { shrunk: Shrunk::default(), answer });
        self.answer(answered).await
    }
}

/// Whether the store may still be touched by this process, and why not.
#[derive(Clone, Default)]
struct Poison(Arc<Poisoned>);

#[derive(Default)]
struct Poisoned {
    why: OnceLock<Error>,
    /// Who is told, until they are.
    tell: Mutex<Option<Tell>>,
}

type Tell = Box<dyn FnOnce(&Error) + Send>;

impl Poison {
    /// The answer to everything, once poisoned.
    fn check(&self) -> Result<(), Error> {
        self.0.why.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Has `tell` called once poisoned.
    fn on_taken(&self, tell: Tell) {
        *self.tell() = Some(tell);
        if let Err(error) = self.check() {
            self.told(&error);
        }
    }

    fn tell(&self) -> MutexGuard<'_, Option<Tell>> {
        self.0.tell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, error: &Error) {
        let tell = self.tell().take();
        if let Some(tell) = tell {
            tell(error);
        }
    }

    /// Poisons the store for this process. The first reason stays.
    fn take(&self, error: Error) -> Error {
        self.0.why.get_or_init(|| {
            tracing::error!("{error}");
            error
        });
        let error = self.check().expect_err("just poisoned");
        self.told(&error);
        error
    }

    /// The same, for what went wrong with `file`.
    fn set(&self, file: &Path, message: &str) -> Error {
        let file = file.display().to_string().into();
        self.take(Error::Poisoned { file, message: message.into() })
    }
}

/// Makes `dir` and what is missing above it, durably.
fn make_folder(dir: &Path) -> io::Result<()> {
    let missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(dir)?;
    for parent in missing.iter().filter_map(|made| made.parent()) {
        let here = parent.as_os_str().is_empty();
        fs::File::open(if here { Path::new(".") } else { parent })?.sync_all()?;
    }
    Ok(())
}

/// What it means that a store's folder cannot be used.
fn unusable(dir: &Path, error: &io::Error) -> Error {
    if is_full(error) {
        return Error::Full { file: dir.display().to_string().into() };
    }
    let way_out = match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => "it is no folder; ",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make it writable, or "
        }
        _ => "",
    };
    let message = format!("{error}; {way_out}choose another folder").into();
    Error::Unavailable { file: dir.display().to_string().into(), message }
}

#[cfg(test)]
mod tests;
