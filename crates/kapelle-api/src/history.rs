//! What is done with what runs have done: compared, forked, pruned.

use serde::{Deserialize, Serialize};

use crate::Json;

/// `POST /prune`: which runs to remove. Only those that have ended are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// These, whatever their age; else those that `older_than` and `keep` say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<String>>,
    /// Those that ended so long ago, such as `30d`: 30 days, if `keep` is not given either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// But not the newest so many that have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// Only tells which.
    #[serde(default)]
    pub dry_run: bool,
    /// More are to follow: the space is given back, and counted, with the last.
    #[serde(default)]
    pub more: bool,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pruned {
    /// Which runs, oldest first.
    pub runs: Vec<String>,
    /// How many bytes the store took on the disk before.
    pub bytes_before: u64,
    /// And after it.
    pub bytes_after: u64,
    /// How many of these are free: a store of an older version keeps them and fills them again.
    #[serde(default)]
    pub bytes_free: u64,
}

/// `POST /runs/{run}/fork`: a new run that takes over what was done before a step and beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// The step; it and all that needs it are done anew.
    pub from: String,
    /// An object: the inputs that are other ones.
    #[serde(default)]
    pub inputs: Json,
    /// The client's own name for the new run: the same one never makes a second run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

/// Where a run was forked from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Forked {
    /// That run, which may be gone,
    pub run: String,
    /// as it was after this event.
    pub seq: u64,
    /// The step from which on it is done anew.
    pub from: String,
}

/// `GET /runs/{run}/diff/{other}`: what differs between two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Diff {
    /// The one.
    pub a: DiffSide,
    /// The other.
    pub b: DiffSide,
    /// What is not the same, but for how long it took.
    pub differences: Vec<Difference>,
    /// How long each step took.
    pub durations: Vec<Durations>,
}

/// One of two runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffSide {
    /// Its id.
    pub id: String,
    /// The id of its workflow.
    pub workflow: String,
    /// Where it stands.
    pub status: String,
    /// How long it took, if it has ended.
    pub elapsed_ms: Option<u64>,
}

/// Something that is not the same in two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Difference {
    /// Where: `status`, or below `plan`, `inputs`, `steps` or `output`, as in `steps.fetch.output`.
    pub path: String,
    /// What it is in the one; `null` too where there is nothing.
    pub a: Json,
    /// What it is in the other.
    pub b: Json,
}

/// How long a step took in two runs, from its first attempt to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Durations {
    /// The step.
    pub step: String,
    /// In the one, if it began and ended there.
    pub a_ms: Option<u64>,
    /// In the other.
    pub b_ms: Option<u64>,
}
