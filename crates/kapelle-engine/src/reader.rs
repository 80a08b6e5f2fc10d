//! Reading committed state: runs, their plans and their values. Needs no ownership.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use kapelle_core::port::Journal;
use kapelle_core::port::journal::{Content, Entry, Error};
use kapelle_core::run::{Compiled, Missing, Run, Values};
use kapelle_core::{Digest, Json, RunId, Tenant, Value, canonical};

use crate::shards::{Fold, LoadError, Loaded};

/// Plans that were compiled before, the longest known first out.
#[derive(Default)]
pub(crate) struct Plans {
    inner: Mutex<Known>,
    /// Who compiles a plan holds its lane, so that many runs of one plan that are read at once do
    /// not each compile it.
    lanes: [tokio::sync::Mutex<()>; LANES],
}

/// How many plans are compiled side by side.
const LANES: usize = 16;

#[derive(Default)]
struct Known {
    plans: BTreeMap<Digest, Arc<Compiled>>,
    ages: VecDeque<Digest>,
}

/// How many compiled plans are kept.
const PLANS_MAX: usize = 64;

impl Plans {
    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<Compiled>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).plans.get(digest).cloned()
    }

    pub(crate) fn insert(&self, digest: Digest, plan: Arc<Compiled>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.plans.insert(digest, plan).is_none() {
            inner.ages.push_back(digest);
        }
        if inner.ages.len() > PLANS_MAX
            && let Some(oldest) = inner.ages.pop_front()
        {
            inner.plans.remove(&oldest);
        }
    }
}

/// What committed state is read with.
pub(crate) struct Reader {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) plans: Plans,
}

impl Reader {
    /// A run as the journal has it.
    pub(crate) async fn load(&self, tenant: &Tenant, run: RunId) -> Result<Loaded, LoadError> {
        self.load_into(Fold::default(), tenant, run).await
    }

    /// The same as it was after event `until`, or as it is if that has not happened.
    pub(crate) async fn load_at(
        &self,
        tenant: &Tenant,
        run: RunId,
        until: u64,
    ) -> Result<Loaded, LoadError> {
        self.load_into(Fold::up_to(until), tenant, run).await
    }

    async fn load_into(
        &self,
        mut fold: Fold,
        tenant: &Tenant,
        run: RunId,
    ) -> Result<Loaded, LoadError> {
        while !fold.is_over() && !self.advance(tenant, run, &mut fold).await?.is_empty() {}
        fold.finish().ok_or(LoadError::NotFound)
    }

    /// Adds the next page of entries to `fold`, and answers them with their events.
    pub(crate) async fn advance(
        &self,
        tenant: &Tenant,
        run: RunId,
        fold: &mut Fold,
    ) -> Result<Vec<(Entry, Vec<kapelle_core::run::Event>)>, LoadError> {
        let entries = self.journal.read(tenant, run, fold.next_seq()).await?;
        let mut read = Vec::with_capacity(entries.len());
        for entry in entries {
            let plan = match fold.run() {
                None => Some(self.plan_of(tenant, &entry).await?),
                Some(_) => None,
            };
            let events = fold.add(&entry, plan.as_ref())?;
            read.push((entry, events));
        }
        Ok(read)
    }

    async fn plan_of(&self, tenant: &Tenant, first: &Entry) -> Result<Arc<Compiled>, LoadError> {
        let created = Fold::created(first)?;
        let digest = match &created.plan {
            Value::Digest { digest, .. } => *digest,
            Value::Inline(json) => Digest::of(canonical(json).as_bytes()),
            Value::List { .. } | Value::Picked(_) | Value::Sinks => Digest::of(b"null"),
        };
        let _one = self.plans.lanes[usize::from(digest.as_bytes()[0]) % LANES].lock().await;
        if let Some(plan) = self.plans.get(&digest) {
            return Ok(plan);
        }
        let json = match &created.plan {
            Value::Inline(json) => json.clone(),
            Value::Digest { digest, .. } => self.value(tenant, *digest).await?.0,
            Value::List { .. } | Value::Picked(_) | Value::Sinks => Arc::default(),
        };
        let unusable = |why: &dyn std::fmt::Display| {
            LoadError::Damaged(
                format!("the plan of run `{}` cannot be used: {why}", first.run).into(),
            )
        };
        let plan = serde_json::from_value((*json).clone()).map_err(|error| unusable(&error))?;
        let plan = Arc::new(Compiled::new(plan).map_err(|error| unusable(&error))?);
        self.plans.insert(digest, plan.clone());
        Ok(plan)
    }

    /// A value by its digest, and the length of its canonical JSON.
    pub(crate) async fn value(
        &self,
        tenant: &Tenant,
        digest: Digest,
    ) -> Result<(Arc<Json>, u64), LoadError> {
        let damaged = |why: &str| LoadError::Damaged(format!("payload {digest}: {why}").into());
        let content = self.journal.payload(tenant, digest).await?;
        let content = content.ok_or_else(|| damaged("is missing"))?;
        let len = content.len;
        let bytes = read_all(content).await.map_err(|error| damaged(&error.to_string()))?;
        if Digest::of(&bytes) != digest {
            return Err(damaged("is not what was written"));
        }
        let json = serde_json::from_slice(&bytes).map_err(|error| damaged(&error.to_string()))?;
        Ok((Arc::new(json), len))
    }

    /// A value of a run as JSON.
    pub(crate) async fn json(
        &self,
        tenant: &Tenant,
        run: &Run,
        value: &Value,
    ) -> Result<Arc<Json>, LoadError> {
        let mut at_hand = AtHand::default();
        loop {
            match run.json(value, &at_hand) {
                Ok(json) => return Ok(json),
                Err(Missing(missing)) => {
                    for digest in missing {
                        at_hand.0.insert(digest, self.value(tenant, digest).await?.0);
                    }
                }
            }
        }
    }
}

#[derive(Default)]
struct AtHand(BTreeMap<Digest, Arc<Json>>);

impl Values for AtHand {
    fn get(&self, digest: &Digest) -> Option<Arc<Json>> {
        self.0.get(digest).cloned()
    }
}

/// All bytes of a payload. Reading may block, so it is done elsewhere.
pub(crate) async fn read_all(mut content: Content) -> std::io::Result<bytes::Bytes> {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::with_capacity(usize::try_from(content.len).unwrap_or(0));
        content.reader.read_to_end(&mut bytes)?;
        Ok(bytes.into())
    })
    .await
    .map_err(std::io::Error::other)?
}

impl From<LoadError> for crate::Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NotFound => Self::NotFound,
            LoadError::Store(error @ Error::Corrupt { .. }) => {
                Self::Damaged(error.to_string().into())
            }
            LoadError::Store(error) => Self::Store(error),
            LoadError::Damaged(why) => Self::Damaged(why),
        }
    }
}
