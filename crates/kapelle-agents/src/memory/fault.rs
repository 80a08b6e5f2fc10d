//! What it means for a step that the memory's file cannot be used: the one place where that is decided.
//!
//! **Invariant:** every failure names the file and what to do about it. After a commit of unknown
//! end the failure is uncertain: the attempt that follows has the same key, and writes nothing twice.

use kapelle_core::port::agent::{Failure, FailureKind};
use rusqlite::ErrorCode;

/// Why work on the file ended.
pub(super) enum Stop {
    Sql(rusqlite::Error),
    /// It is no memory of ours, or not of a version that can be read here.
    Foreign,
    Newer(u32),
    /// It cannot be kept where it is.
    Unusable(&'static str),
    /// What was read is not what was written.
    Damaged(String),
    /// The work itself says no.
    Refused(Failure),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Stop {
    /// Whether the connection is as good as before.
    pub(super) fn is_harmless(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Sql(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
            ),
            Self::Foreign | Self::Newer(_) | Self::Unusable(_) | Self::Damaged(_) => false,
        }
    }

    /// What the step is told; `file` is where it happened.
    pub(super) fn tell(self, file: &str) -> Failure {
        let refused = |code, message| Failure::new(FailureKind::Refused, code, message);
        match self {
            Self::Refused(failure) => failure,
            Self::Foreign => {
                let message = format!("`{file}` is no memory of Kapelle; move it away");
                refused("memory_foreign", message)
            }
            Self::Newer(level) => {
                let message = format!(
                    "`{file}` was written by a newer version of Kapelle (level {level}); use that \
                     version, or move the file away"
                );
                refused("memory_newer", message)
            }
            Self::Unusable(why) => Failure::new(
                FailureKind::Unavailable,
                "memory_unavailable",
                format!("`{file}`: {why}"),
            ),
            Self::Damaged(what) => damaged(file, &what),
            Self::Sql(error) => tell_sql(&error, file),
        }
    }
}

fn tell_sql(error: &rusqlite::Error, file: &str) -> Failure {
    let unavailable = |code, message| Failure::new(FailureKind::Unavailable, code, message);
    match error.sqlite_error_code() {
        // Without a code: what was read is of another type, or missing, or no text.
        None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged(file, &error.to_string())
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            unavailable("memory_busy", format!("`{file}` is being written by another process"))
        }
        Some(ErrorCode::DiskFull) => {
            unavailable("memory_full_disk", format!("there is no space left for `{file}`"))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            let message = format!("`{file}`: {error}; make it and its folder writable");
            unavailable("memory_unavailable", message)
        }
        _ => {
            let message = format!("`{file}`: {error}; look at the disk and its folder");
            unavailable("memory_unavailable", message)
        }
    }
}

fn damaged(file: &str, what: &str) -> Failure {
    let message = format!(
        "`{file}` is damaged: {what}; put a backup in its place, or move it away together with \
         its `-wal`, and begin a new one"
    );
    Failure::new(FailureKind::Refused, "memory_damaged", message)
}
