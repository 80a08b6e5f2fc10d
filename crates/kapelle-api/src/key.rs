//! Keys: who may ask, and what.

use serde::{Deserialize, Serialize};

/// `POST /keys`: a key to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What people call it, 1 to 100 characters.
    pub name: String,
    /// What it may do, as the union of what these permit: `viewer`, `submitter`, `approver`, `worker`,
    /// `operator`, `admin`.
    pub roles: Vec<String>,
    /// Whose runs it sees; the owner of the store alone may name another tenant than its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The workflows it may submit, each whole or with a `*` at its end; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflows: Option<Vec<String>>,
    /// The agents that what it submits may name; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<String>>,
    /// For how long it opens anything, as in `90d`; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// The answer to it: the key is on disk, and shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreatedKey {
    /// Its name in lists.
    pub id: String,
    /// For `Authorization: Bearer`.
    pub key: String,
}

/// A key, without what opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Key {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whose runs it sees.
    pub tenant: String,
    /// What it may do.
    pub roles: Vec<String>,
    /// The workflows it may submit; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflows: Option<Vec<String>>,
    /// The agents that what it submits may name; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<String>>,
    /// When it was made.
    pub created_at: String,
    /// From when on it opens nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<String>,
}
