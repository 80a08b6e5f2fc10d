//! The agents of a node: those that ship, those of files, and those of the program.
//!
//! **Invariants:** one of the program goes before one of a file, and that before one that ships. What
//! changes in a file is known to the next run, and to no run before.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kapelle_agents::Model;
use kapelle_agents::files::{AgentFile, Shelf, Shelved};
use kapelle_agents::model::tool::Tools;
use kapelle_agents::provider::Models;
use kapelle_core::port::agent::BadCard;
use kapelle_core::port::{Agent, Agents};

use crate::cassette::{Tape, Taped};

/// The files are looked at so often at the most.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What the agents of a node are made of.
pub(crate) struct Roster {
    built_in: Vec<Arc<dyn Agent>>,
    /// Those of the program.
    own: Vec<Arc<dyn Agent>>,
    shelf: Arc<Shelf>,
    models: Arc<Models>,
    tools: Arc<Tools>,
    /// Where their calls are recorded, or answered from.
    tape: Option<Arc<Tape>>,
    looked: Mutex<Looked>,
}

/// What was found in the files, and when.
struct Looked {
    at: Instant,
    shelved: Arc<Shelved>,
}

impl Roster {
    /// Looks at the files for the first time.
    pub(crate) fn new(
        built_in: Vec<Arc<dyn Agent>>,
        own: Vec<Arc<dyn Agent>>,
        shelf: Arc<Shelf>,
        (models, tools): (Arc<Models>, Arc<Tools>),
        tape: Option<Arc<Tape>>,
    ) -> Self {
        let shelved = shelf.look();
        tell(&Shelved::default(), &shelved);
        let looked = Mutex::new(Looked { at: Instant::now(), shelved });
        Self { built_in, own, shelf, models, tools, tape, looked }
    }

    /// The agents as they were last found.
    pub(crate) fn agents(&self) -> Result<Agents, BadCard> {
        let shelved = self.shelved();
        let mut agents = Agents::default();
        let thinking = shelved.agents.iter().map(|file| self.thinking(file));
        for agent in self.built_in.iter().cloned().chain(thinking).chain(self.own.iter().cloned()) {
            agents.register(match &self.tape {
                Some(tape) => Taped::of(agent, tape),
                None => agent,
            })?;
        }
        Ok(agents)
    }

    /// Whether files were not looked at for a while.
    pub(crate) fn is_due(&self) -> bool {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        !self.shelf.is_empty() && looked.at.elapsed() >= LOOK_PAUSE
    }

    /// The agents, if files have changed since they were last looked at, which is not just now.
    pub(crate) fn changed(&self) -> Option<Agents> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shelf.is_empty() || looked.at.elapsed() < LOOK_PAUSE {
            return None;
        }
        let shelved = self.shelf.look();
        looked.at = Instant::now();
        if Arc::ptr_eq(&shelved, &looked.shelved) {
            return None;
        }
        tell(&looked.shelved, &shelved);
        looked.shelved = shelved;
        drop(looked);
        self.agents().ok()
    }

    /// What the files were when they were last looked at.
    pub(crate) fn shelved(&self) -> Arc<Shelved> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).shelved.clone()
    }

    /// What an agent that names `names` may call here.
    pub(crate) fn tools_of(&self, names: &[Box<str>]) -> Vec<String> {
        self.tools.told(names)
    }

    /// Whether an agent ships with Kapelle.
    pub(crate) fn ships(&self, name: &str) -> bool {
        self.built_in.iter().any(|agent| &*agent.card().name == name)
    }

    fn thinking(&self, file: &AgentFile) -> Arc<dyn Agent> {
        let (models, tools) = (self.models.clone(), self.tools.clone());
        Arc::new(Model::new(file.definition.clone(), models, tools))
    }
}

/// Says what cannot be used, once.
fn tell(before: &Shelved, now: &Shelved) {
    let known: BTreeSet<_> = before.broken.iter().map(ToString::to_string).collect();
    for broken in now.broken.iter().filter(|broken| !known.contains(&broken.to_string())) {
        let kept = now.agents.iter().any(|agent| agent.file == broken.file);
        let then = if kept { "what it was before counts" } else { "it is left out" };
        tracing::warn!("{broken}; {then}");
    }
}
