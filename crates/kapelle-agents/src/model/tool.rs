//! What a model may call: each tool says what it reaches, and is granted by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Desk, Failure, Safety};

/// The tools of those who ask for none: they only look, and only at what the run may see.
pub const FOR_ALL: [&str; 5] =
    ["read_file", "list_files", "search_files", "open_artifact", "recall"];

/// What a tool does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It only looks.
    Reads,
    /// It changes something.
    Writes,
    /// It costs money.
    Spends,
}

/// Something that a model may call.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What it is called, and with what.
    fn card(&self) -> &ToolCard;

    /// Does it. `key` is the outward key of this call. A failure of the tool's own, such as a file that
    /// is not there, is told to the model in `Err`'s place as a text: see [`Told`].
    async fn call(
        &self,
        of: &Call,
        input: &Json,
        key: &str,
        desk: &dyn Desk,
    ) -> Result<Told, Failure>;
}

/// What a tool says of itself.
#[derive(Clone, Debug)]
pub struct ToolCard {
    /// Its name: at most 64 of `[A-Za-z0-9_-]`.
    pub name: Box<str>,
    /// When to use it, and what comes of it.
    pub description: Box<str>,
    /// JSON Schema of its input: an object.
    pub input: Json,
    /// What it does to the world.
    pub reach: Reach,
    /// Whether a call of unknown end may be repeated.
    pub safety: Safety,
}

/// What a tool tells the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// For the model to read.
    pub text: String,
    /// It did not work, and the model may do something about it.
    pub failed: bool,
}

impl Told {
    /// It worked.
    pub fn well(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: false }
    }

    /// It did not.
    pub fn badly(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: true }
    }
}

/// The tools of a node, and which of those that do more than look are granted.
#[derive(Default)]
pub struct Tools {
    by_name: BTreeMap<Box<str>, Arc<dyn Tool>>,
    grants: BTreeSet<Box<str>>,
}

/// The tools that an agent was granted, with their schemas compiled.
pub(super) type Granted = BTreeMap<Box<str>, Arc<dyn Tool>>;

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tools({:?}, granted {:?})", self.by_name.keys(), self.grants)
    }
}

impl Tools {
    /// These tools; those that write or spend are there only if `grants` names them.
    #[must_use]
    pub fn new(tools: Vec<Arc<dyn Tool>>, grants: impl IntoIterator<Item = Box<str>>) -> Self {
        let by_name = tools.into_iter().map(|tool| (tool.card().name.clone(), tool));
        Self { by_name: by_name.collect(), grants: grants.into_iter().collect() }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Tool>> {
        self.by_name.values()
    }

    /// Those of `names` that there are, and may be called.
    pub(super) fn granted(&self, names: &[Box<str>]) -> Granted {
        let known = names.iter().filter_map(|name| self.by_name.get_key_value(name));
        let may = |name: &str, tool: &Arc<dyn Tool>| {
            tool.card().reach == Reach::Reads || self.grants.contains(name)
        };
        let known = known.filter(|(name, tool)| may(name, tool));
        known.map(|(name, tool)| (name.clone(), tool.clone())).collect()
    }
}
