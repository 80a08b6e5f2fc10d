//! The memory's file: one connection that writes, and a few that read beside it.
//!
//! **Invariants:** work that says "done" is on disk; of work that failed nothing is there, or, where
//! a commit's end is unknown, all of it, under its key. The file is made at the first use, so a
//! node that never remembers has none. Several processes may have it open at once.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kapelle_core::port::agent::Failure;
use rusqlite::{Connection, TransactionBehavior};

use super::fault::Stop;
use super::tables;

/// The file, or a database in memory.
pub(super) struct File {
    path: Option<PathBuf>,
    /// There once it is used, until it fails.
    writer: Mutex<Option<Connection>>,
    /// Those that are idle.
    readers: Mutex<Vec<Connection>>,
}

impl File {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, writer: Mutex::default(), readers: Mutex::default() }
    }

    /// Does `work` in a transaction that is on disk when this returns well. Blocks.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Stop>,
    ) -> Result<T, Failure> {
        let mut writer = lock(&self.writer);
        let worked = self.in_writer(&mut writer, |conn| {
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tables::check_level(&transaction)?;
            let done = work(&transaction)?;
            Ok((done, transaction.commit()))
        });
        match worked {
            Ok((done, Ok(()))) => Ok(done),
            Ok((_, Err(error))) => {
                *writer = None;
                Err(Stop::Sql(error).tell(&self.name()).uncertain())
            }
            Err(stop) => Err(stop.tell(&self.name())),
        }
    }

    /// Does `work` on what is there at one moment. Blocks.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Stop>,
    ) -> Result<T, Failure> {
        let at_one_moment = |conn: &mut Connection| {
            let transaction = conn.transaction()?;
            tables::check_level(&transaction)?;
            work(&transaction)
        };
        let read = match &self.path {
            None => self.in_writer(&mut lock(&self.writer), at_one_moment),
            Some(_) => self.in_reader(at_one_moment),
        };
        read.map_err(|stop| stop.tell(&self.name()))
    }

    /// Does `work` with the writer's connection, opened if it is not. One that failed is given up.
    fn in_writer<T>(
        &self,
        writer: &mut Option<Connection>,
        work: impl FnOnce(&mut Connection) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let conn = match writer {
            Some(conn) => conn,
            None => writer.insert(match &self.path {
                Some(path) => tables::open_writer(path)?,
                None => tables::open_in_memory()?,
            }),
        };
        let worked = work(conn);
        if worked.as_ref().is_err_and(|stop| !stop.is_harmless()) && self.path.is_some() {
            *writer = None;
        }
        worked
    }

    fn in_reader<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let idle = lock(&self.readers).pop();
        let mut conn = match (idle, &self.path) {
            (Some(conn), _) => conn,
            (None, Some(path)) => {
                // The writer makes the file, and brings it to this version's level.
                self.in_writer(&mut lock(&self.writer), |_| Ok(()))?;
                tables::open_reader(path)?
            }
            (None, None) => unreachable!("what is in memory is read where it is written"),
        };
        let worked = work(&mut conn);
        if worked.as_ref().err().is_none_or(Stop::is_harmless) {
            lock(&self.readers).push(conn);
        }
        worked
    }

    fn name(&self) -> String {
        self.path.as_ref().map_or("the memory".to_owned(), |path| path.display().to_string())
    }
}

/// A panic of whoever held it left nothing half done: the transaction was rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
