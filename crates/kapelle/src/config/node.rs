//! `[node]`: how this process works.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How this process works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Node {
    /// How many attempts go on at once.
    pub(crate) slots: u32,
    /// How many loop threads; 0: half as many as cores, at least one.
    pub(crate) loops: usize,
    /// How long running attempts are waited for when the process is told to end.
    #[serde(deserialize_with = "read_duration", serialize_with = "write_duration")]
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

fn read_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    kapelle_core::parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no duration such as `500ms`, `30s` or `5m`"))
    })
}

fn write_duration<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{}ms", duration.as_millis()))
}
