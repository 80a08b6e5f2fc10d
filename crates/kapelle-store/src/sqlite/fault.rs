//! What an error of SQLite means for the caller: the one place where that is decided.
//!
//! **Invariant:** an I/O error that is not plainly "no space" poisons the store for this process:
//! after a failed sync nobody knows what the disk holds, and a second sync would say it is fine.

use std::sync::Arc;

use kapelle_core::port::journal::Error;
use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE};

use super::pages;
use super::space::Space;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Opening, creating or looking at the file.
    Open,
    /// Waiting for the right to write.
    Begin,
    /// Writing inside a transaction.
    Write,
    Commit,
    Rollback,
    Checkpoint,
    Read,
}

/// What is left to do about an error.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Nothing was written: roll back, answer this, go on.
    Refused(Error),
    /// The commit may be in the log though SQLite does not count it: a later commit must overwrite
    /// it before this is the answer.
    Ghost(Error),
    /// What was read makes no sense.
    Damaged(String),
    /// Touch the store no more.
    Poison(Error),
}

/// Says what `error`, met in `phase` of the work on `file`, means.
pub(super) fn classify(error: &rusqlite::Error, phase: Phase, file: &Arc<str>) -> Fault {
    let file = || Arc::clone(file);
    let unavailable = |way_out: &str| {
        Fault::Refused(Error::Unavailable {
            file: file(),
            message: format!("{error}; {way_out}").into(),
        })
    };
    let poison = || {
        let message = format!("{error} ({phase:?})").to_lowercase().into();
        Fault::Poison(Error::Poisoned { file: file(), message })
    };
    if phase == Phase::Read
        && let Some(what) = damage(error)
    {
        return Fault::Damaged(what);
    }
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return poison() };
    if phase == Phase::Rollback {
        return poison();
    }
    if failure.extended_code == SQLITE_IOERR_SHMSIZE {
        let full = Error::Full { file: file() };
        return if phase == Phase::Commit { Fault::Ghost(full) } else { Fault::Refused(full) };
    }
    match (failure.code, phase) {
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => {
            Fault::Refused(Error::Busy { file: file() })
        }
        (ErrorCode::DiskFull, _) => Fault::Refused(Error::Full { file: file() }),
        (ErrorCode::NotADatabase, Phase::Open) => unavailable(
            "it is no store, or its head is damaged: restore it from a backup, or choose another folder",
        ),
        (ErrorCode::DatabaseCorrupt, Phase::Open) => unavailable("restore it from a backup"),
        (ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly, _)
            if phase != Phase::Commit =>
        {
            unavailable("make the file and its folder writable, or choose another folder")
        }
        (ErrorCode::SystemIoFailure, _) => poison(),
        (_, Phase::Open | Phase::Read) => unavailable("look at the disk and its folder"),
        _ => poison(),
    }
}

/// What is wrong, where `error` says that what was read makes no sense. It harms who asked for it,
/// nobody else.
pub(super) fn damage(error: &rusqlite::Error) -> Option<String> {
    let is_page = match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
            _ => return None,
        },
        _ => false,
    };
    let page = pages::refused().filter(|_| is_page);
    Some(page.unwrap_or_else(|| error.to_string()))
}

/// The refusal of what would need it.
pub(super) fn damaged(file: &Arc<str>, what: &str) -> Error {
    let message = format!("it is damaged: {what}; restore it from a backup").into();
    Error::Unavailable { file: Arc::clone(file), message }
}

/// The same as [`classify`], where a write that failed may have met a quota: to SQLite only a full disk is full.
pub(super) fn classify_full(
    error: &rusqlite::Error,
    phase: Phase,
    file: &Arc<str>,
    space: &Space,
) -> Fault {
    let code = error.sqlite_error().map(|failure| failure.extended_code);
    let fault = classify(error, phase, file);
    match fault {
        Fault::Poison(_)
            if code == Some(SQLITE_IOERR_WRITE)
                && phase != Phase::Rollback
                && space.is_used_up() =>
        {
            Fault::Refused(Error::Full { file: Arc::clone(file) })
        }
        fault => fault,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn fault(code: i32, phase: Phase) -> Fault {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        classify(&error, phase, &"kapelle.db".into())
    }

    #[test]
    fn no_space_is_a_refusal_in_every_phase_of_writing() {
        for phase in [Phase::Begin, Phase::Write, Phase::Commit, Phase::Checkpoint] {
            let fault = fault(ffi::SQLITE_FULL, phase);
            assert!(matches!(fault, Fault::Refused(Error::Full { .. })), "{phase:?}: {fault:?}");
        }
    }

    #[test]
    fn a_failed_sync_or_rollback_poisons() {
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_READ] {
            for phase in [Phase::Write, Phase::Commit, Phase::Checkpoint, Phase::Read] {
                assert!(matches!(fault(code, phase), Fault::Poison(_)), "{code} {phase:?}");
            }
        }
        assert!(matches!(fault(ffi::SQLITE_FULL, Phase::Rollback), Fault::Poison(_)));
    }

    #[test]
    fn a_commit_without_room_for_its_index_leaves_a_ghost() {
        let fault = |phase| fault(ffi::SQLITE_IOERR_SHMSIZE, phase);
        assert!(matches!(fault(Phase::Commit), Fault::Ghost(Error::Full { .. })));
        assert!(matches!(fault(Phase::Begin), Fault::Refused(Error::Full { .. })));
    }

    #[test]
    fn damage_is_told_from_trouble() {
        assert!(matches!(fault(ffi::SQLITE_CORRUPT, Phase::Read), Fault::Damaged(_)));
        assert!(matches!(fault(ffi::SQLITE_CORRUPT, Phase::Write), Fault::Poison(_)));
        assert!(matches!(
            fault(ffi::SQLITE_BUSY, Phase::Begin),
            Fault::Refused(Error::Busy { .. })
        ));
    }
}
