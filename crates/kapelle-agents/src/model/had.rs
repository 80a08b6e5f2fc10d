//! What a run keeps of an agent that thinks, so that its conversations go on as they began.
//!
//! **Invariant:** what calls of a model are looked up by is of the run's beginning. What the operator grants
//! is as it is now: what he takes away is denied when it is called, what he adds reaches the next run.

use serde::{Deserialize, Serialize};

use super::Definition;
use super::brief::RULES;
use super::tool::{Granted, Tools};

/// What a run keeps.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(flatten)]
    pub(super) definition: Definition,
    /// The tools that it had, by name; `None`: the run is of a version that did not keep them.
    #[serde(default)]
    had: Option<Vec<Box<str>>>,
    /// What its system prompt ended with.
    #[serde(default)]
    rules: Option<Box<str>>,
}

/// What a conversation goes on with.
pub(super) struct Had {
    /// The tools that there still are.
    pub(super) granted: Granted,
    /// All that it had, by name.
    pub(super) names: Vec<Box<str>>,
    /// What its system prompt ends with.
    pub(super) rules: Box<str>,
}

impl Default for Had {
    fn default() -> Self {
        Self { granted: Granted::new(), names: Vec::new(), rules: RULES.into() }
    }
}

impl Kept {
    /// What a run keeps that begins now.
    pub(super) fn of(definition: Definition, tools: &Tools) -> Self {
        let had = tools.granted(&definition.tools).into_keys().collect();
        Self { definition, had: Some(had), rules: Some(RULES.into()) }
    }

    /// What there is of it now.
    pub(super) fn had(&self, tools: &Tools) -> Had {
        let rules = self.rules.as_deref().unwrap_or(RULES).into();
        let wanted = &self.definition.tools;
        let granted = match &self.had {
            Some(had) => tools.still_granted(wanted, had),
            None => tools.granted(wanted),
        };
        let names = self.had.clone().unwrap_or_else(|| granted.keys().cloned().collect());
        Had { granted, names, rules }
    }
}
