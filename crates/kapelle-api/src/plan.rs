//! Checking and analysing, before anything runs.

use serde::{Deserialize, Serialize};

use crate::{Finding, Json};

/// `POST /check`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The text of a workflow file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// What problems call that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Or a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Json>,
}

/// `POST /plans/analyze`: the same as for a check.
pub type PlanRequest = CheckRequest;

/// What checking gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checked {
    /// Whether there is no error.
    pub ok: bool,
    /// Errors and warnings.
    pub problems: Vec<Finding>,
}

/// What can be said of a plan before it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Analysis {
    /// The steps by how many others must have ended before.
    pub waves: Vec<Vec<String>>,
    /// The chain of steps that takes longest.
    pub critical_path: Vec<String>,
    /// How long that chain takes.
    pub critical_path_ms: u64,
    /// How long the plan takes with as many at once as it allows.
    pub estimated_duration_ms: u64,
    /// How many steps the widest wave has.
    pub max_parallelism: usize,
    /// Every step, in the plan's order.
    pub steps: Vec<StepAnalysis>,
}

/// What can be said of a step before it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepAnalysis {
    /// The step.
    pub id: String,
    /// Who does it; `None`: a person.
    pub agent: Option<String>,
    /// What must have ended before.
    pub needs: Vec<String>,
    /// Its wave, from 0.
    pub wave: usize,
    /// How long it is expected to take.
    pub estimate_ms: u64,
    /// Nobody said how long.
    pub assumed: bool,
    /// From 1 to 10, 10 first.
    pub priority: u8,
    /// Whether it is done once per item of a list.
    pub for_each: bool,
}
