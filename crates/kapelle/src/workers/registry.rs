//! The agents that were registered, kept as records of the store.
//!
//! **Invariants:** a registration is of one tenant, and no other sees it; what was checked is what is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kapelle_core::port::Agents;
use kapelle_core::port::agent::{Action, Card, OnUnknown, Registered};
use kapelle_core::port::journal::Error;
use kapelle_core::port::record::{RECORDS_MAX, Record, Records};
use kapelle_core::{Json, Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use super::hub::{Hub, Whose};
use super::post::Post;

/// The kind of their records.
const KIND: &str = "worker";
/// So many agents a tenant registers.
pub(crate) const AGENTS_MAX: usize = 256;
/// How long a node goes on with what it knows of those that other nodes register.
const TRUSTED: Duration = Duration::from_millis(500);

/// What is kept of a registered agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registration {
    #[serde(default)]
    pub(crate) description: Box<str>,
    pub(crate) actions: Vec<Verb>,
    #[serde(default)]
    pub(crate) capabilities: Vec<Box<str>>,
    #[serde(default)]
    pub(crate) domains: Vec<Box<str>>,
    pub(crate) lease_ms: u64,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) registered_at: Timestamp,
}

/// A verb of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verb {
    pub(crate) name: Box<str>,
    #[serde(default)]
    pub(crate) description: Box<str>,
    pub(crate) input: Json,
    pub(crate) output: Json,
}

impl Registration {
    /// The fields in which it says something else, as whoever registers it calls them.
    pub(crate) fn differs(&self, other: &Self) -> Vec<&'static str> {
        let fields = [
            ("description", self.description == other.description),
            ("actions", self.actions == other.actions),
            ("capabilities", self.capabilities == other.capabilities),
            ("domains", self.domains == other.domains),
            ("lease", self.lease_ms == other.lease_ms),
            ("on_unknown", self.on_unknown == other.on_unknown),
        ];
        fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }

    /// The agent it makes, unless one of its schemas is none.
    pub(crate) fn agent(
        &self,
        name: &str,
        hub: &Arc<Hub>,
    ) -> Result<Registered, kapelle_core::port::agent::BadCard> {
        let action = |verb: &Verb| Action {
            name: verb.name.clone(),
            description: verb.description.clone(),
            input: verb.input.clone(),
            output: verb.output.clone(),
        };
        let card = Card {
            name: name.into(),
            description: self.description.clone(),
            actions: self.actions.iter().map(action).collect(),
            concurrency_max: None,
        };
        let lease = Duration::from_millis(self.lease_ms);
        Registered::new(Arc::new(Post::new(card, lease, self.on_unknown, hub.clone())))
    }
}

/// The registered agents of a store.
pub(crate) struct Registry {
    records: Arc<dyn Records>,
    hub: Arc<Hub>,
    /// Whether workers come to this node.
    is_open: bool,
    known: Mutex<BTreeMap<Whose, Known>>,
    read_at: Mutex<Option<Instant>>,
}

/// An agent that is registered.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) registration: Arc<Registration>,
    version: u64,
    agent: Arc<Registered>,
}

/// Why an agent is not registered.
#[derive(Debug)]
pub(crate) enum Unkept {
    /// There is another one of this name.
    Taken,
    /// There are as many as there may be.
    TooMany,
    /// The store did not do its part.
    Store(Error),
}

impl From<Error> for Unkept {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Registry {
    /// Those of a store; `is_open`: workers come to this node, so that its runs can have them.
    pub(crate) fn new(records: Arc<dyn Records>, is_open: bool) -> Self {
        let (hub, known, read_at) = Default::default();
        Self { records, hub, is_open, known, read_at }
    }

    pub(crate) const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// One of them.
    pub(crate) fn get(&self, whose: &Whose) -> Option<Known> {
        self.known().get(whose).cloned()
    }

    /// Adds them to all other agents.
    pub(crate) fn add_to(&self, agents: &mut Agents) {
        for (whose, known) in &*self.known() {
            agents.register_for(&whose.tenant, known.agent.clone());
        }
    }

    /// Reads what is registered; whether that was not known. Not again where that was just done.
    pub(crate) async fn read(&self) -> Result<bool, Error> {
        if !self.is_open {
            return Ok(false);
        }
        {
            let mut read_at = self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
            if read_at.is_some_and(|at| at.elapsed() < TRUSTED) {
                return Ok(false);
            }
            *read_at = Some(Instant::now());
        }
        let mut there = BTreeMap::new();
        for record in self.all("").await? {
            let Some(whose) = whose_of(&record.id) else { continue };
            there.insert(whose, record);
        }
        let gone: Vec<Whose> =
            self.known().keys().filter(|whose| !there.contains_key(*whose)).cloned().collect();
        let mut changed = !gone.is_empty();
        gone.iter().for_each(|whose| self.forget(whose));
        for (whose, record) in there {
            if self.get(&whose).is_some_and(|known| known.version >= record.version) {
                continue;
            }
            let version = record.version;
            // One of a later version of ours may say what this one does not understand.
            let Ok(registration) = serde_json::from_value::<Registration>(record.body) else {
                tracing::warn!(agent = %whose.agent, tenant = %whose.tenant, "its registration cannot be read");
                continue;
            };
            changed |= self.know(&whose, registration, version);
        }
        Ok(changed)
    }

    /// Registers an agent, durably; `before` is what it takes the place of.
    pub(crate) async fn put(
        &self,
        whose: &Whose,
        registration: Registration,
        before: Option<&Known>,
    ) -> Result<(), Unkept> {
        let prefix = format!("{}/", whose.tenant);
        if before.is_none() {
            let of_tenant = self.all(&prefix).await?;
            let count = of_tenant.iter().take_while(|of| of.id.starts_with(&prefix)).count();
            if count >= AGENTS_MAX {
                return Err(Unkept::TooMany);
            }
        }
        let version = before.map_or(0, |known| known.version);
        let body = serde_json::to_value(&registration).expect("it is JSON");
        let id = format!("{prefix}{}", whose.agent).into();
        let record = Record { tenant: ring(), kind: KIND.into(), id, version, body };
        if !self.records.put_record(record).await? {
            return Err(Unkept::Taken);
        }
        self.know(whose, registration, version + 1);
        Ok(())
    }

    /// Removes an agent, durably; whether there was one.
    pub(crate) async fn remove(&self, whose: &Whose) -> Result<bool, Error> {
        let id = format!("{}/{}", whose.tenant, whose.agent);
        let there = self.records.remove_record(&ring(), KIND, &id).await?;
        self.forget(whose);
        Ok(there)
    }

    fn know(&self, whose: &Whose, registration: Registration, version: u64) -> bool {
        if !self.is_open {
            return false;
        }
        let Ok(agent) = registration.agent(&whose.agent, &self.hub) else { return false };
        let (registration, agent) = (Arc::new(registration), Arc::new(agent));
        self.hub.know(whose);
        self.known().insert(whose.clone(), Known { registration, version, agent });
        true
    }

    fn forget(&self, whose: &Whose) {
        self.known().remove(whose);
        self.hub.forget(whose);
    }

    /// The records whose names come after `after`.
    async fn all(&self, after: &str) -> Result<Vec<Record>, Error> {
        let mut all: Vec<Record> = Vec::new();
        loop {
            let after = all.last().map_or(after, |record| &*record.id).to_owned();
            let page = self.records.records(&ring(), KIND, &after).await?;
            let last = page.len() < RECORDS_MAX;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Whose, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registrations of all tenants are in one place, so that a node finds them: whose one is says its name.
fn ring() -> Tenant {
    Tenant::new("")
}

fn whose_of(id: &str) -> Option<Whose> {
    let (tenant, agent) = id.split_once('/')?;
    Some(Whose { tenant: Tenant::new(tenant), agent: agent.into() })
}
