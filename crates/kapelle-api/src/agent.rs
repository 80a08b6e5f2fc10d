//! Agents, as the API shows them.

use serde::{Deserialize, Serialize};

use crate::Json;

/// What can take a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The file that it is from, if it is from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Agents of its name that it stands before: their files, or `built-in`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<String>,
    /// What a model is as this agent, if it is from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinks: Option<Thinks>,
    /// What it can do, in words of whoever registered it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// What it knows about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// `ok`; `absent`: it was registered, and none of its workers was heard of for as long as its lease.
    #[serde(default)]
    pub health: String,
    /// What its workers promise, if workers do its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    /// What it has done for those who ask since the node began.
    #[serde(default)]
    pub activity: Activity,
}

/// The workers of a registered agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Workers {
    /// How long one of them may be silent while it works, in milliseconds.
    pub lease_ms: u64,
    /// How many wait for work now.
    pub waiting: u64,
    /// How many attempts they work on now.
    pub working: u64,
    /// When the last word of one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<String>,
    /// When it was registered.
    pub registered_at: String,
}

/// What an agent has done since the node began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Activity {
    /// `working` or `idle`.
    pub status: String,
    /// Attempts that go on.
    pub running: u64,
    /// Attempts that ended well.
    pub completed: u64,
    /// Attempts that ended badly.
    pub failed: u64,
    /// How long those that ended took, together, in milliseconds.
    pub ms: u64,
    /// When the last one began or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
}

/// What a model is that works as an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Thinks {
    /// The model that it wishes for; `None`: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The tools that it may call, in brackets what for: those that it names and that are granted.
    pub tools: Vec<String>,
    /// Those that it names besides, and that are not granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_granted: Vec<String>,
    /// How many turns a conversation has at the most.
    pub turns_max: u32,
    /// The first line of its prompt,
    pub prompt_line: String,
    /// how long that is, in bytes,
    pub prompt_bytes: u64,
    /// and its SHA-256 without white space around it, in hexadecimal digits.
    pub prompt_sha256: String,
}

/// What is in a folder of agent files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckedAgents {
    /// The agents, by file.
    pub agents: Vec<CheckedAgent>,
    /// Files that cannot be used.
    pub unusable: Vec<UnusableAgent>,
}

/// An agent file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckedAgent {
    /// The file.
    pub file: String,
    /// The agent's name.
    pub name: String,
    /// When to use it.
    pub description: String,
    /// The tools that it asks for, as it is written; `null`: those that are granted to all.
    pub tools: Option<Vec<String>>,
    /// The model that it wishes for.
    pub model: Option<String>,
    /// SHA-256 of its body without white space around it, in hexadecimal digits.
    pub body_sha256: String,
    /// What is odd, by line.
    pub warnings: Vec<AgentWarning>,
}

/// Something odd in an agent file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AgentWarning {
    /// Where, from 1 on.
    pub line: u32,
    /// What.
    pub message: String,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnusableAgent {
    /// The file.
    pub file: String,
    /// Where, from 1 on.
    pub line: u32,
    /// Why not.
    pub message: String,
}

/// One verb of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
