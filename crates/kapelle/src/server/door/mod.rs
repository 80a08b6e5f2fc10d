//! The door: who asks, and what they may.
//!
//! **Invariants:** whoever is not known may do nothing but what is open to all; a tenant comes from the
//! credential alone, never from a request. What a route needs is said where the route is
//! ([`super::routes`]); there is no route without it.

pub(crate) mod audit;
pub(crate) mod guard;
pub(crate) mod jwt;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod permission;
pub(crate) mod tickets;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use kapelle_core::Tenant;
use kapelle_core::plan::{Plan, Work};

use self::permission::{Permission, Permissions};
use super::App;
use super::problem::Problem;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// As logs and records name it.
    pub(crate) name: Box<str>,
    /// As whom it approves and answers.
    pub(crate) person: Box<str>,
    /// Whose runs it sees.
    pub(crate) tenant: Tenant,
    /// What it may do.
    pub(crate) may: Permissions,
    /// It is the owner of the store, on the same machine: paths it names are its own.
    pub(crate) is_owner: bool,
    /// The workflows it may submit, each whole or with a `*` at its end; `None`: any.
    pub(crate) workflows: Option<Vec<Box<str>>>,
    /// The agents that what it submits may name; `None`: any.
    pub(crate) agents: Option<Vec<Box<str>>>,
}

impl Caller {
    /// The owner of the store: whoever can open its socket, or has it in this process.
    pub(crate) fn owner() -> Self {
        let (name, tenant) = ("owner".into(), Tenant::default());
        Self {
            name,
            person: "user".into(),
            tenant,
            may: Permissions::ALL,
            is_owner: true,
            ..Self::nobody()
        }
    }

    /// Somebody who has shown nothing.
    pub(crate) fn nobody() -> Self {
        let (name, tenant) = ("nobody".into(), Tenant::new(""));
        let may = Permissions::NONE;
        let person = "nobody".into();
        Self { name, person, tenant, may, is_owner: false, workflows: None, agents: None }
    }

    pub(super) fn is_nobody(&self) -> bool {
        self.tenant.as_str().is_empty()
    }

    /// Refuses what it may not do.
    pub(super) fn check(&self, needs: Option<Permission>) -> Result<(), Problem> {
        match needs {
            Some(_) if self.is_nobody() => Err(Problem::who_is_it()),
            Some(needs) if !self.may.has(needs) => Err(Problem::may_not(&self.name, needs.name())),
            _ => Ok(()),
        }
    }

    /// Refuses a plan that it may not submit.
    pub(super) fn check_plan(&self, plan: &Plan) -> Result<(), Problem> {
        let workflows = self.workflows.as_deref();
        if workflows.is_some_and(|known| !known.iter().any(|known| fits(known, &plan.workflow))) {
            return Err(Problem::may_not(&self.name, &format!("to run `{}`", plan.workflow)));
        }
        for step in &plan.steps {
            let Work::Agent { agent, .. } = &step.work else { continue };
            if self.agents.as_ref().is_some_and(|known| !known.contains(agent)) {
                return Err(Problem::may_not(&self.name, &format!("to name the agent `{agent}`")));
            }
            if &**agent == "process" {
                self.check(Some(Permission::ProcessRun))?;
            }
        }
        Ok(())
    }
}

/// Whether a name is what a pattern says: whole, or its beginning before a `*`.
fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |begin| name.starts_with(begin))
}

/// The routes' work, on behalf of who asks.
impl FromRequestParts<Self> for App {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Self) -> Result<Self, Self::Rejection> {
        let caller = parts.extensions.get::<Arc<Caller>>();
        Ok(caller.map_or_else(|| app.clone(), |caller| app.on_behalf_of(caller.clone())))
    }
}

#[cfg(test)]
mod tests;
