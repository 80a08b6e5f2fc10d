//! `[web]`: how pages are read.

use std::path::PathBuf;
use std::time::Duration;

use kapelle_agents::web::Settings;
use serde::{Deserialize, Serialize};

use super::duration;

/// How pages are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Web {
    /// Folders besides a run's own below which files may be read.
    pub(crate) roots: Vec<PathBuf>,
    /// How many requests go on at once to one host.
    pub(crate) at_once: usize,
    /// How long to wait between two requests to one host.
    #[serde(with = "duration")]
    pub(crate) gap: Duration,
    /// How long a page may take to arrive.
    #[serde(with = "duration")]
    pub(crate) page_time: Duration,
}

impl Default for Web {
    fn default() -> Self {
        let Settings { roots, at_once, gap, page_time, .. } = Settings::default();
        Self { roots, at_once, gap, page_time }
    }
}

impl Web {
    /// What the agent is told.
    pub(crate) fn settings(&self) -> Settings {
        let Self { roots, at_once, gap, page_time } = self.clone();
        Settings { roots, at_once, gap, page_time, ..Settings::default() }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(root) = self.roots.iter().find(|root| !root.is_absolute()) {
            return Err(format!("`web.roots` are absolute paths, unlike `{}`", root.display()));
        }
        if !(1..=100).contains(&self.at_once) {
            return Err(format!("`web.at_once` is 1 to 100, not {}", self.at_once));
        }
        Ok(())
    }
}
