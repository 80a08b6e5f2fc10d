//! What the disk and SQLite do by themselves: what the store is measured against.
//!
//! Nothing of ours is in here but the settings: WAL, a sync at every commit, SQLite's own
//! checkpoints. A row is a number and so many bytes.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kapelle_core::port::journal::Error;
use rusqlite::Connection;
use tokio::sync::oneshot;

/// How many clients are answered by one commit at the most.
const CLIENTS_MAX: usize = 1_000;

/// What one append of the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many rows.
    pub rows: usize,
    /// How many bytes they take together.
    pub bytes: usize,
}

/// A database of SQLite alone.
#[derive(Debug)]
pub struct Bare {
    conn: Connection,
}

impl Bare {
    /// A new one in `dir`.
    pub fn create(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("bare.db");
        let open = || {
            let conn = Connection::open(&path)?;
            conn.pragma_update(None, "journal_mode", "WAL")?;
            conn.pragma_update(None, "synchronous", "FULL")?;
            conn.execute_batch("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
            Ok(conn)
        };
        Ok(Self { conn: open().map_err(|error| failed(&path, &error))? })
    }

    /// Commits rows of equal length.
    pub fn commit(&mut self, load: Load) -> Result<(), Error> {
        let body = vec![b'x'; load.bytes / load.rows.max(1)];
        self.insert(load.rows, &body).map_err(|error| failed("bare.db".as_ref(), &error))
    }

    fn insert(&mut self, rows: usize, body: &[u8]) -> rusqlite::Result<()> {
        let commit = |sql| self.conn.prepare_cached(sql)?.execute([]).map(drop);
        commit("BEGIN IMMEDIATE")?;
        let mut insert = self.conn.prepare_cached("INSERT INTO row (body) VALUES (?1)")?;
        for _ in 0..rows {
            insert.execute([body])?;
        }
        commit("COMMIT")
    }

    /// Has `clients` write a row of `bytes` bytes each and wait for it, again and again for `time`;
    /// those who wait are written together. How many rows, in how many commits.
    pub async fn serve(
        mut self,
        clients: usize,
        bytes: usize,
        time: Duration,
    ) -> Result<(Self, usize, usize), Error> {
        let (wishes, waiting) = channel();
        let end = Instant::now() + time;
        let writer = std::thread::spawn(move || {
            let commits = self.answer(&waiting, bytes)?;
            Ok((self, commits))
        });
        let client = |wishes: std::sync::mpsc::Sender<oneshot::Sender<()>>| async move {
            let mut rows = 0;
            while Instant::now() < end {
                let (done, written) = oneshot::channel();
                if wishes.send(done).is_err() || written.await.is_err() {
                    break;
                }
                rows += 1;
            }
            rows
        };
        let clients: Vec<_> = (0..clients).map(|_| tokio::spawn(client(wishes.clone()))).collect();
        drop(wishes);
        let mut rows = 0;
        for client in clients {
            rows += client.await.unwrap_or(0);
        }
        let (bare, commits): (Self, usize) =
            writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((bare, rows, commits))
    }

    fn answer(
        &mut self,
        waiting: &Receiver<oneshot::Sender<()>>,
        bytes: usize,
    ) -> Result<usize, Error> {
        let mut commits = 0;
        while let Ok(first) = waiting.recv() {
            let mut batch = vec![first];
            batch.extend(waiting.try_iter().take(CLIENTS_MAX - 1));
            self.commit(Load { rows: batch.len(), bytes: bytes * batch.len() })?;
            commits += 1;
            for done in batch {
                done.send(()).ok();
            }
        }
        Ok(commits)
    }
}

/// A file that is only ever appended to and synced.
#[derive(Debug)]
pub struct Appended {
    file: File,
}

impl Appended {
    /// A new one in `dir`.
    pub fn create(dir: &Path) -> std::io::Result<Self> {
        Ok(Self { file: File::create(dir.join("appended"))? })
    }

    /// Appends `bytes` bytes and waits until they are on disk.
    pub fn append(&mut self, bytes: usize) -> std::io::Result<()> {
        self.file.write_all(&vec![b'x'; bytes])?;
        self.file.sync_data()
    }
}

fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    let file = path.display().to_string().into();
    Error::Unavailable { file, message: error.to_string().into() }
}
