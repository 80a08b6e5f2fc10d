//! Agents, as the API shows them.

use serde::{Deserialize, Serialize};

use crate::Json;

/// What can take a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// As `agentName` in workflows.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Its verbs.
    pub actions: Vec<Action>,
    /// How many attempts a node gives it at once; `None`: as many as the node runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_max: Option<u32>,
}

/// One verb of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Its name.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// JSON Schema of the input.
    pub input: Json,
    /// JSON Schema of the output.
    pub output: Json,
}
