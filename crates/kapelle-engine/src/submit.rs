//! Creating runs: a plan made ready once, a key looked up, a first entry offered.

use std::collections::BTreeMap;
use std::sync::Arc;

use kapelle_core::plan::Plan;
use kapelle_core::port::journal::{SubmitKey, Twin};
use kapelle_core::run::{Compiled, Created};
use kapelle_core::{Digest, INLINE_MAX, Payload, RunId, Tenant, Value, canonical};

use crate::engine::{Engine, Error, NewRun, Submitted, refused};
use crate::shards::{Offer, Reply, Submission, Ticket};

/// A plan made ready to run, for as many runs as one likes.
#[derive(Clone, Debug)]
pub struct PreparedPlan {
    pub(crate) compiled: Arc<Compiled>,
    /// As a run's first event holds it, and the payload to keep if it is long.
    pub(crate) value: Value,
    pub(crate) payload: Option<Payload>,
    /// Of its canonical JSON.
    digest: Digest,
}

/// The name under which a run is submitted, if it has one.
pub(crate) fn submit_key(
    task_id: Option<&str>,
    key: Option<&str>,
    content: Digest,
) -> Option<SubmitKey> {
    let name = match (task_id, key) {
        (Some(id), _) => format!("task:{id}"),
        (None, Some(key)) => format!("key:{key}"),
        (None, None) => return None,
    };
    Some(SubmitKey { key: name.into(), content })
}

fn same(twin: &Twin, content: Digest) -> Result<Submitted, Error> {
    if twin.pruned_at.is_some() {
        Err(Error::Pruned { run: twin.run })
    } else if twin.content == content {
        Ok(Submitted { run: twin.run, existing: true })
    } else {
        Err(Error::Conflict { run: twin.run })
    }
}

impl Engine {
    pub(crate) async fn submit_as(
        &self,
        run: RunId,
        new: NewRun,
        note: Option<Box<str>>,
    ) -> Result<Submitted, Error> {
        let content =
            Digest::of(format!("{}{}", new.plan.digest, canonical(&new.inputs)).as_bytes());
        let key = submit_key(new.task_id.as_deref(), new.key.as_deref(), content);
        if let Some(known) = self.known(&new.tenant, key.as_ref()).await? {
            return known;
        }
        self.create(Submission { note, ..self.submission(new, run, key) }).await
    }

    /// What a submit under this key comes to, if there was one before. [`Error::Draining`] where
    /// none is taken any more.
    pub(crate) async fn known(
        &self,
        tenant: &Tenant,
        key: Option<&SubmitKey>,
    ) -> Result<Option<Result<Submitted, Error>>, Error> {
        let shared = &self.inner.shared;
        if shared.is_draining() {
            return Err(Error::Draining);
        }
        let Some(SubmitKey { key, content }) = key else { return Ok(None) };
        let twin = shared.reader.journal.submitted(tenant, key).await?;
        let twin = twin.filter(|twin| !twin.is_forgotten(shared.clock.now()));
        Ok(twin.map(|twin| same(&twin, *content)))
    }

    /// Creates a run, unless its key is taken meanwhile.
    pub(crate) async fn create(&self, submission: Submission) -> Result<Submitted, Error> {
        let shared = &self.inner.shared;
        let run = submission.run;
        let content = submission.key.as_ref().map(|key| key.content);
        shared.asked().insert(run, submission.tenant.clone());
        let offer = |ticket| Offer::Submit(Box::new(Submission { ticket, ..submission }));
        let reply = shared.ask(run.shard(), offer).await;
        if !matches!(reply, Reply::Done { .. }) {
            shared.asked().remove(&run);
        }
        match (reply, content) {
            (Reply::Done { .. }, _) => Ok(Submitted { run, existing: false }),
            (Reply::Twin(twin), Some(content)) => same(&twin, content),
            (reply, _) => Err(refused(reply)),
        }
    }

    /// Makes a plan ready to run.
    pub fn prepare(&self, plan: &Plan) -> Result<PreparedPlan, Error> {
        let bad_plan = |why: String| Error::BadPlan(why.into());
        let json = serde_json::to_value(plan).map_err(|error| bad_plan(error.to_string()))?;
        let text = canonical(&json);
        let digest = Digest::of(text.as_bytes());
        let plans = &self.inner.shared.reader.plans;
        let compiled = match plans.get(&digest) {
            Some(compiled) => compiled,
            None => {
                let compiled =
                    Compiled::new(plan.clone()).map_err(|error| bad_plan(error.to_string()))?;
                let compiled = Arc::new(compiled);
                plans.insert(digest, compiled.clone());
                compiled
            }
        };
        let (value, payload) = if text.len() <= INLINE_MAX {
            (Value::Inline(Arc::new(json)), None)
        } else {
            let (value, payload) = Value::by_digest(text);
            (value, Some(payload))
        };
        Ok(PreparedPlan { compiled, value, payload, digest })
    }

    fn submission(&self, new: NewRun, run: RunId, key: Option<SubmitKey>) -> Submission {
        let NewRun { tenant, plan, inputs, root, task_id, key: _ } = new;
        let PreparedPlan { compiled, value, payload, digest: _ } = plan;
        let (inputs, inputs_payload) = Value::of(inputs, INLINE_MAX);
        let mut payloads: Vec<Payload> = payload.into_iter().chain(inputs_payload).collect();
        let agents = self.definitions(&tenant, &compiled, &mut payloads);
        let workflow = compiled.plan.workflow.clone();
        let created = Created { workflow, plan: value, inputs, root, task_id, agents };
        let ticket = Ticket(0);
        let (forked, references, note, plan) = (None, Vec::new(), None, compiled);
        Submission { run, tenant, created, plan, forked, payloads, references, key, note, ticket }
    }

    /// What the agents of a plan are now, as far as that may change.
    fn definitions(
        &self,
        tenant: &Tenant,
        plan: &Compiled,
        payloads: &mut Vec<Payload>,
    ) -> BTreeMap<Box<str>, Value> {
        let agents = self.agents();
        let agents = agents.of(tenant);
        let definitions = plan.agents().filter_map(|name| {
            let definition = agents.get(name)?.agent.definition()?;
            let (value, payload) = Value::of(definition, INLINE_MAX);
            payloads.extend(payload);
            Some((name.into(), value))
        });
        definitions.collect()
    }
}
