//! `[log]`: what a process tells of its work, on stderr.

use serde::{Deserialize, Serialize};

/// What a process tells of its work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or by module as in `warn,kapelle_engine=debug`.
    pub(crate) level: String,
    /// How it is written.
    pub(crate) format: Format,
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

impl Default for Log {
    fn default() -> Self {
        Self { level: "warn".to_owned(), format: Format::Text }
    }
}
