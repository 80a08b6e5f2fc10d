//! Forking: a run is begun from what another one has done, up to a step.
//!
//! **Invariant:** the new run never reads the old one: what it takes over stands in its first entry,
//! and it refers to the payloads itself, so the old one may be pruned at any time after that.

use kapelle_core::plan;
use kapelle_core::run::{Created, Forked, Refusal, Run, Taken, TakenEnd};
use kapelle_core::{Digest, INLINE_MAX, Json, Payload, RunId, StepNo, Tenant, Value, canonical};

use crate::shards::{Submission, Ticket};
use crate::submit::submit_key;
use crate::{Engine, Error, Submitted};

/// What is to be forked, and how.
#[derive(Clone, Debug)]
pub struct Fork {
    /// The run.
    pub run: RunId,
    /// The step of its plan from which on everything that needs it is done anew.
    pub from: Box<str>,
    /// An object: the inputs that are other ones.
    pub inputs: Json,
    /// The client's own name for the new run: the same one never makes a second run.
    pub task_id: Option<Box<str>>,
    /// An idempotency key: likewise.
    pub key: Option<Box<str>>,
}

/// What a new run takes over, and what it refers to by that.
#[derive(Default)]
struct Gathered {
    taken: Vec<Taken>,
    payloads: Vec<Payload>,
    references: Vec<(Digest, u64)>,
}

impl Engine {
    /// Creates a run of the same plan that takes over what another one has done before a step and
    /// beside it, and works on it; durable when this returns.
    pub async fn fork(&self, tenant: &Tenant, fork: Fork) -> Result<Submitted, Error> {
        let Fork { run: parent, from, inputs, task_id, key } = fork;
        // Not of what the run was given: it may be gone when this is asked again.
        let content = format!("fork {parent} {from} {}", canonical(&inputs));
        let content = Digest::of(content.as_bytes());
        let key = submit_key(task_id.as_deref(), key.as_deref(), content);
        if let Some(known) = self.known(tenant, key.as_ref()).await? {
            return known;
        }
        let parent = self.run(tenant, parent).await?;
        let from = step(&parent, &from)?;
        let mut gathered = self.gather(tenant, &parent, from).await?;
        let inputs = self.inputs(tenant, &parent, inputs).await?;
        let plan = self.prepare(&parent.plan().plan)?;
        let (inputs, payload) = Value::of(inputs, INLINE_MAX);
        gathered.payloads.extend(plan.payload.into_iter().chain(payload));
        let agents = parent.agents().clone();
        gathered.references.extend(agents.values().filter_map(|value| match value {
            Value::Digest { digest, len } => Some((*digest, *len)),
            Value::Inline(_) | Value::List { .. } | Value::Picked(_) | Value::Sinks => None,
        }));
        let (workflow, root) = (parent.workflow().into(), parent.root().into());
        let created = Created { workflow, plan: plan.value, inputs, root, task_id, agents };
        let Gathered { taken, payloads, references } = gathered;
        let forked = Forked { run: parent.id(), seq: parent.seq(), from, taken };
        let submission = Submission {
            run: self.new_id().await?,
            tenant: tenant.clone(),
            created,
            plan: plan.compiled,
            forked: Some(Box::new(forked)),
            payloads,
            references,
            key,
            note: None,
            ticket: Ticket(0),
        };
        match self.create(submission).await {
            // It was pruned in this moment, with what the new run wanted to refer to.
            Err(Error::Store(_)) if self.journal().run(tenant, parent.id()).await?.is_none() => {
                Err(Error::NotFound)
            }
            created => created,
        }
    }

    /// What the parent was given, but for what is another one now.
    async fn inputs(&self, tenant: &Tenant, parent: &Run, other: Json) -> Result<Json, Error> {
        let mut inputs = (*self.value(tenant, parent, parent.inputs()).await?).clone();
        if let (Json::Object(inputs), Json::Object(other)) = (&mut inputs, other) {
            inputs.extend(other);
        }
        plan::inputs(&parent.plan().plan, inputs).map_err(Error::BadInputs)
    }

    async fn gather(&self, tenant: &Tenant, parent: &Run, from: StepNo) -> Result<Gathered, Error> {
        let mut gathered = Gathered::default();
        for mut taken in parent.taken_by_fork(from) {
            if let TakenEnd::Completed { value, artifacts } = &mut taken.end {
                *value = self.whole(tenant, parent, value, &mut gathered).await?;
                let made = artifacts.iter().map(|artifact| (artifact.digest, artifact.len));
                gathered.references.extend(made);
            }
            gathered.taken.push(taken);
        }
        Ok(gathered)
    }

    /// A value that needs no other step to be read.
    async fn whole(
        &self,
        tenant: &Tenant,
        parent: &Run,
        value: &Value,
        gathered: &mut Gathered,
    ) -> Result<Value, Error> {
        match value {
            Value::Inline(_) => Ok(value.clone()),
            Value::Digest { digest, len } => {
                gathered.references.push((*digest, *len));
                Ok(value.clone())
            }
            Value::List { .. } | Value::Picked(_) | Value::Sinks => {
                let json = self.value(tenant, parent, value).await?;
                let (whole, payload) = Value::of((*json).clone(), INLINE_MAX);
                gathered.payloads.extend(payload);
                Ok(whole)
            }
        }
    }
}

/// The step of the plan that has this id: not one that was grown.
fn step(run: &Run, id: &str) -> Result<StepNo, Error> {
    let found =
        run.find(id).filter(|no| run.step(*no).is_some_and(|step| step.grown_by().is_none()));
    found.ok_or_else(|| Error::Refused(Refusal::NoStep(id.into())))
}
