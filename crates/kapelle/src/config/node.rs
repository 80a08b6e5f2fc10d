//! `[node]`: how this process works.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// How this process works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Node {
    /// How many attempts go on at once.
    pub(crate) slots: u32,
    /// How many loop threads; 0: half as many as cores, at least one.
    pub(crate) loops: usize,
    /// How long running attempts are waited for when the process is told to end.
    #[serde(with = "duration")]
    pub(crate) drain_grace: Duration,
}

impl Default for Node {
    fn default() -> Self {
        Self { slots: 1_000, loops: 0, drain_grace: Duration::from_secs(10) }
    }
}

impl Node {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=100_000).contains(&self.slots) {
            return Err(format!("`node.slots` is 1 to 100000, not {}", self.slots));
        }
        if self.loops > 256 {
            return Err(format!("`node.loops` is at most 256, not {}", self.loops));
        }
        Ok(())
    }
}
