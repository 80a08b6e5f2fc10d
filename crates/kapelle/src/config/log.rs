//! `[log]`: what a process tells of its work, on stderr and, as a server, in a file.

use serde::{Deserialize, Serialize};

/// What a process tells of its work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or by module as in `warn,kapelle_engine=debug`.
    pub(crate) level: String,
    /// How it is written.
    pub(crate) format: Format,
    /// Where a server writes the same as JSON; empty: `logs/orchestrator.log` in the store; `none`: nowhere.
    pub(crate) file: String,
    /// What of it.
    pub(crate) file_level: String,
    /// How many bytes a file takes before the next one is begun.
    pub(crate) file_max: u64,
    /// How many files are kept beside it.
    pub(crate) files_kept: u32,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Log {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.file_max < 64 << 10 {
            return Err(format!("`log.file_max` is 65536 or more, not {}", self.file_max));
        }
        if self.files_kept > 1_000 {
            return Err(format!("`log.files_kept` is 0 to 1000, not {}", self.files_kept));
        }
        Ok(())
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "warn".to_owned(),
            format: Format::Text,
            file: String::new(),
            file_level: "info".to_owned(),
            file_max: 64 << 20,
            files_kept: 5,
        }
    }
}
