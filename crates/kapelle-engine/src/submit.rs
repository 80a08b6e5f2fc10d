//! Creating runs: a plan made ready once, a key looked up, a first entry offered.

use std::sync::Arc;

use kapelle_core::plan::Plan;
use kapelle_core::port::journal::{SubmitKey, Twin};
use kapelle_core::run::{Compiled, Created};
use kapelle_core::{Digest, INLINE_MAX, Payload, RunId, Value, canonical};

use crate::engine::{Engine, Error, NewRun, Submitted, refused};
use crate::shards::{Offer, Reply, Submission, Ticket};

/// A plan made ready to run, for as many runs as one likes.
#[derive(Clone, Debug)]
pub struct PreparedPlan {
    compiled: Arc<Compiled>,
    /// As a run's first event holds it, and the payload to keep if it is long.
    value: Value,
    payload: Option<Payload>,
    /// Of its canonical JSON.
    digest: Digest,
}

pub(crate) fn same(twin: &Twin, content: Digest) -> Result<Submitted, Error> {
    if twin.pruned_at.is_some() {
        Err(Error::Pruned { run: twin.run })
    } else if twin.content == content {
        Ok(Submitted { run: twin.run, existing: true })
    } else {
        Err(Error::Conflict { run: twin.run })
    }
}

impl Engine {
    pub(crate) async fn submit_as(&self, run: RunId, new: NewRun) -> Result<Submitted, Error> {
        let shared = &self.inner.shared;
        if shared.is_draining() {
            return Err(Error::Draining);
        }
        let name = match (&new.task_id, &new.key) {
            (Some(id), _) => Some(format!("task:{id}")),
            (None, Some(key)) => Some(format!("key:{key}")),
            (None, None) => None,
        };
        let key = name.map(|name| SubmitKey {
            key: name.into(),
            content: Digest::of(
                format!("{}{}", new.plan.digest, canonical(&new.inputs)).as_bytes(),
            ),
        });
        if let Some(SubmitKey { key, content }) = &key
            && let Some(twin) = shared.reader.journal.submitted(&new.tenant, key).await?
            && !twin.is_forgotten(shared.clock.now())
        {
            return same(&twin, *content);
        }
        let content = key.as_ref().map(|key| key.content);
        shared.asked().insert(run, new.tenant.clone());
        let submission = Self::submission(new, run, key);
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

    fn submission(new: NewRun, run: RunId, key: Option<SubmitKey>) -> Submission {
        let NewRun { tenant, plan, inputs, root, task_id, key: _ } = new;
        let PreparedPlan { compiled, value, payload, digest: _ } = plan;
        let (inputs, inputs_payload) = Value::of(inputs, INLINE_MAX);
        let payloads = payload.into_iter().chain(inputs_payload).collect();
        let workflow = compiled.plan.workflow.clone();
        let created = Created { workflow, plan: value, inputs, root, task_id };
        let ticket = Ticket(0);
        Submission { run, tenant, created, plan: compiled, payloads, key, ticket }
    }
}
