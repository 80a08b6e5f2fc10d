//! What a model may call: each tool says what it reaches, and is granted by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Desk, Failure, Question, Safety, wrong_with};

use crate::files::tools::rule;

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
    /// It says something, to other steps of its run or to a person: nothing leaves the run.
    Speaks,
}

/// What a tool has the desk do in its place: the call is then an effect whose work is the journal's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Say something to another step of the run, or to all of an agent.
    Send {
        /// To whom.
        to: Box<str>,
        /// What.
        text: Arc<str>,
    },
    /// Ask a person.
    Ask(Question),
}

/// Something that a model may call.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What it is called, and with what.
    fn card(&self) -> &ToolCard;

    /// What the desk is to do in its place, for tools that do nothing themselves.
    fn errand(&self, _input: &Json) -> Option<Errand> {
        None
    }

    /// Does it. `key` is the outward key of this call. A failure of the tool's own, such as a file that
    /// is not there, is told to the model in `Err`'s place as a text: see [`Told`].
    async fn call(
        &self,
        of: &Call,
        input: &Json,
        key: &str,
        desk: &dyn Desk,
    ) -> Result<Told, Failure>;

    /// Whether it is granted by rules in brackets, such as `run_command(git log:*)`. If so, to grant it
    /// without one is to grant nothing.
    fn knows_rules(&self) -> bool {
        false
    }

    /// The same tool where `lists` of rules hold, each of which has to cover a call, for one whose calls lead
    /// on to what their input does not name. `None`: its inputs say all.
    fn within(&self, _lists: Vec<Vec<Box<str>>>) -> Option<Arc<dyn Tool>> {
        None
    }

    /// Whether `rule`, which stood in such brackets, covers a call with `input`.
    fn covers(&self, _rule: &str, _input: &Json) -> bool {
        false
    }
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
    /// What a person is to know of it.
    pub warnings: Vec<String>,
}

impl Told {
    /// It worked.
    pub fn well(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: false, warnings: Vec::new() }
    }

    /// It did not.
    pub fn badly(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: true, warnings: Vec::new() }
    }
}

/// The tools of a node, and which of those that do more than look are granted.
#[derive(Default)]
pub struct Tools {
    by_name: BTreeMap<Box<str>, Arc<dyn Tool>>,
    grants: Vec<Box<str>>,
}

/// The tools that an agent was granted.
pub(super) type Granted = BTreeMap<Box<str>, Grant>;

/// A tool, and what it is granted for.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) tool: Arc<dyn Tool>,
    /// The rules of the operator; `None`: it takes none.
    operator: Option<Vec<Box<str>>>,
    /// The rules of the agent's file, which narrow those; `None`: all that the operator grants.
    agent: Option<Vec<Box<str>>>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tools({:?}, granted {:?})", self.by_name.keys(), self.grants)
    }
}

impl Tools {
    /// These tools; those that write or spend are there only if `grants` names them.
    #[must_use]
    pub fn new(tools: Vec<Arc<dyn Tool>>, grants: impl IntoIterator<Item = Box<str>>) -> Self {
        let none = Self { by_name: BTreeMap::new(), grants: grants.into_iter().collect() };
        tools.into_iter().fold(none, Self::with)
    }

    /// And this one.
    #[must_use]
    pub fn with(mut self, tool: Arc<dyn Tool>) -> Self {
        self.by_name.insert(tool.card().name.clone(), tool);
        self
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Tool>> {
        self.by_name.values()
    }

    /// What an agent that names `names` may call, each with the rules by which it is granted.
    #[must_use]
    pub fn told(&self, names: &[Box<str>]) -> Vec<String> {
        let told = |(name, grant): (Box<str>, Grant)| match grant.rules() {
            rules if rules.is_empty() => name.into(),
            rules => format!("{name}({rules})"),
        };
        self.granted(names).into_iter().map(told).collect()
    }

    /// Those of `names` that there are, and may be called.
    pub(super) fn granted(&self, names: &[Box<str>]) -> Granted {
        let wanted: BTreeSet<&str> = names.iter().map(|name| rule(name).0).collect();
        let known = wanted.iter().filter_map(|name| self.by_name.get_key_value(*name));
        let granted =
            known.filter_map(|(name, tool)| Some((name.clone(), self.grant(tool, names)?)));
        granted.collect()
    }

    /// The same for an agent that had the tools `had` when its run began: these and no others. One that is
    /// not granted any more is there, as what it has said before may be about it, and is denied.
    pub(super) fn still_granted(&self, names: &[Box<str>], had: &[Box<str>]) -> Granted {
        let known = had.iter().filter_map(|name| self.by_name.get_key_value(name));
        let taken = |tool| Grant { tool, operator: Some(Vec::new()), agent: None };
        let granted = known.map(|(name, tool)| {
            (name.clone(), self.grant(tool, names).unwrap_or_else(|| taken(tool.clone())))
        });
        granted.collect()
    }

    fn grant(&self, tool: &Arc<dyn Tool>, names: &[Box<str>]) -> Option<Grant> {
        let tool = tool.clone();
        let name = tool.card().name.clone();
        let (operator, agent) = (Asked::of(&name, &self.grants), Asked::of(&name, names));
        if tool.knows_rules() {
            let agent = (!agent.plainly).then_some(agent.rules);
            let lists = std::iter::once(operator.rules.clone()).chain(agent.clone());
            let tool = tool.within(lists.collect()).unwrap_or(tool);
            return (!operator.rules.is_empty()).then_some(Grant {
                tool,
                operator: Some(operator.rules),
                agent,
            });
        }
        // A rule that nobody can keep is no grant.
        let harmless = matches!(tool.card().reach, Reach::Reads | Reach::Speaks);
        let may = agent.plainly && (harmless || operator.plainly);
        may.then_some(Grant { tool, operator: None, agent: None })
    }
}

/// How a tool stands in a list: as it is, or with rules.
struct Asked {
    plainly: bool,
    rules: Vec<Box<str>>,
}

impl Asked {
    fn of(name: &str, list: &[Box<str>]) -> Self {
        let mut asked = Self { plainly: false, rules: Vec::new() };
        for (_, rule) in list.iter().map(|grant| rule(grant)).filter(|(tool, _)| *tool == name) {
            match rule {
                Some(rule) => asked.rules.push(rule.into()),
                None => asked.plainly = true,
            }
        }
        asked
    }
}

impl Grant {
    /// What the tool is for, and for what alone it is granted.
    pub(super) fn description(&self) -> Box<str> {
        let description = &self.tool.card().description;
        match &self.operator {
            None => description.clone(),
            Some(none) if none.is_empty() => format!("{description} Not granted any more.").into(),
            Some(_) => format!("{description} Granted: {}.", self.rules()).into(),
        }
    }

    /// The rules of the operator, and those of the agent's file that narrow them.
    fn rules(&self) -> String {
        let operator = self.operator.iter().flatten().map(AsRef::as_ref).collect::<Vec<&str>>();
        let agent = self.agent.as_ref().map(|rules| format!(", and of these {}", rules.join(", ")));
        operator.join(", ") + &agent.unwrap_or_default()
    }

    /// What is wrong with `input`, if it does not fit.
    pub(super) fn unfit(&self, input: &Json) -> Option<String> {
        let wrong = wrong_with(&self.tool.card().input, input);
        (!wrong.is_empty()).then(|| format!("the input does not fit: {}", wrong.join("; ")))
    }

    /// Why it may not be called with `input`, if it may not.
    pub(super) fn denied(&self, input: &Json) -> Option<String> {
        let covered = |rules: &Option<Vec<Box<str>>>| {
            rules
                .as_ref()
                .is_none_or(|rules| rules.iter().any(|rule| self.tool.covers(rule, input)))
        };
        if covered(&self.operator) && covered(&self.agent) {
            return None;
        }
        Some(format!("that is not granted to you. {}", self.description()))
    }
}
