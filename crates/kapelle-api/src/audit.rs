//! The audit log: who did what, and who was refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that was noted: one request, or what somebody did in a minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditEntry {
    /// Which one of the store it is, over all tenants.
    pub seq: u64,
    /// When it was answered.
    pub at: String,
    /// Who asked.
    pub who: String,
    /// The address it came from; absent: from this machine, over the node's socket or in its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Of a request: its method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Its route, as in the description of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What that needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// What it was about: the names in its path, and what it made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub about: BTreeMap<String, String>,
    /// How it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The code of the problem that it was answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of several requests: since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// How many only read.
    #[serde(default, skip_serializing_if = "crate::is_zero")]
    pub reads: u64,
    /// How many did an agent's work.
    #[serde(default, skip_serializing_if = "crate::is_zero")]
    pub work: u64,
    /// How many were refused.
    #[serde(default, skip_serializing_if = "crate::is_zero")]
    pub refused: u64,
    /// Of this entry and of the hash of the one before it, in hexadecimal digits.
    pub hash: String,
}
