//! A journal that takes note of what is written, commit by commit.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kapelle_core::port::account::{Accounts, Call, Day, Grant, Granted, Open, Standing, Within};
use kapelle_core::port::journal::{
    Content, Entry, Error, History, Holding, Imported, Journal, OnSettled, Part, Pruned, Row,
    RunQuery, RunRow, Shrunk, Staged, Twin,
};
use kapelle_core::run::Sum;
use kapelle_core::{Digest, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use kapelle_store::limits::Load;

pub(super) struct Counted {
    journal: Arc<dyn Journal>,
    /// Which commit it is, asked in the answer to an append.
    number: Arc<dyn Fn() -> u64 + Send + Sync>,
    commits: Arc<Mutex<Vec<(u64, Load)>>>,
}

impl Counted {
    /// Appends whose `number` is the same were one commit.
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        number: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { journal, number: Arc::new(number), commits: Arc::default() }
    }

    /// What was committed since this was asked last.
    pub(super) fn take(&self) -> Vec<Load> {
        let commits =
            std::mem::take(&mut *self.commits.lock().unwrap_or_else(PoisonError::into_inner));
        commits.into_iter().map(|(_, load)| load).collect()
    }

    /// `settled`, after taking note of what was written.
    fn noting(&self, parts: &[Part], settled: OnSettled) -> OnSettled {
        let (load, number) = (load(parts), Arc::clone(&self.number));
        let commits = Arc::clone(&self.commits);
        Box::new(move |result| {
            note(&mut commits.lock().unwrap_or_else(PoisonError::into_inner), number(), load);
            settled(result);
        })
    }
}

fn note(commits: &mut Vec<(u64, Load)>, number: u64, load: Load) {
    match commits.last_mut().filter(|(last, _)| *last == number) {
        Some((_, commit)) => {
            commit.rows += load.rows;
            commit.bytes += load.bytes;
        }
        None => commits.push((number, load)),
    }
}

/// What bare SQLite would have to write: a row for each of ours, with the bytes that are not numbers.
fn load(parts: &[Part]) -> Load {
    let mut load = Load::default();
    for addition in parts.iter().flat_map(|part| &part.runs) {
        load.rows += 1 + addition.rows.len();
        load.bytes += addition.entry.body.len() + addition.entry.hash.len() + RUN_BYTES;
        load.bytes += addition.rows.iter().map(bytes_of).sum::<usize>();
    }
    load
}

/// A run's id in a row.
const RUN_BYTES: usize = 16;

fn bytes_of(row: &Row) -> usize {
    match row {
        Row::Run(row) => RUN_BYTES + row.workflow.len() + row.status.len(),
        Row::Payload(payload) => 2 * (32 + RUN_BYTES) + payload.bytes.len(),
        Row::Reference { .. } => 32 + RUN_BYTES,
        Row::Note(body) => body.len() + 32 + RUN_BYTES,
    }
}

#[async_trait]
impl Accounts for Counted {
    async fn grant(&self, grant: Grant, within: Vec<Within>) -> Result<Granted, Error> {
        self.journal.grant(grant, within).await
    }

    async fn settle(&self, tenant: &Tenant, call: Call, used: Sum) -> Result<(), Error> {
        self.journal.settle(tenant, call, used).await
    }

    async fn accounts(&self, tenant: &Tenant, since: Day) -> Result<Vec<Standing>, Error> {
        self.journal.accounts(tenant, since).await
    }

    async fn open_grants(&self, tenant: &Tenant) -> Result<Vec<Open>, Error> {
        self.journal.open_grants(tenant).await
    }
}

#[async_trait]
impl Journal for Counted {
    fn append(&self, parts: Vec<Part>, settled: OnSettled) {
        let settled = self.noting(&parts, settled);
        self.journal.append(parts, settled);
    }

    fn append_here(&self, parts: Vec<Part>, settled: OnSettled) {
        let settled = self.noting(&parts, settled);
        self.journal.append_here(parts, settled);
    }

    async fn shards(&self) -> Result<Vec<Holding>, Error> {
        self.journal.shards().await
    }

    async fn claim(
        &self,
        seen: &[(Shard, Epoch)],
        owner: &NodeId,
    ) -> Result<Vec<(Shard, Epoch)>, Error> {
        self.journal.claim(seen, owner).await
    }

    async fn release(&self, held: &[(Shard, Epoch)]) -> Result<(), Error> {
        self.journal.release(held).await
    }

    async fn read(&self, tenant: &Tenant, run: RunId, from: u64) -> Result<Vec<Entry>, Error> {
        self.journal.read(tenant, run, from).await
    }

    async fn tail(&self, shard: Shard, after: u64, limit: u32) -> Result<Vec<(u64, Entry)>, Error> {
        self.journal.tail(shard, after, limit).await
    }

    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRow>, Error> {
        self.journal.open_runs(shard).await
    }

    async fn open_counts(&self) -> Result<Vec<(Shard, u64)>, Error> {
        self.journal.open_counts().await
    }

    async fn runs(&self, tenant: &Tenant, query: &RunQuery) -> Result<Vec<RunRow>, Error> {
        self.journal.runs(tenant, query).await
    }

    async fn run(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunRow>, Error> {
        self.journal.run(tenant, run).await
    }

    async fn ending_with(
        &self,
        tenant: &Tenant,
        suffix: &str,
        limit: u32,
    ) -> Result<Vec<RunId>, Error> {
        self.journal.ending_with(tenant, suffix, limit).await
    }

    async fn submitted(&self, tenant: &Tenant, key: &str) -> Result<Option<Twin>, Error> {
        self.journal.submitted(tenant, key).await
    }

    async fn payload(&self, tenant: &Tenant, digest: Digest) -> Result<Option<Content>, Error> {
        self.journal.payload(tenant, digest).await
    }

    async fn stage(&self) -> Result<Box<dyn Staged>, Error> {
        self.journal.stage().await
    }

    async fn bytes(&self, tenant: &Tenant, run: RunId) -> Result<u64, Error> {
        self.journal.bytes(tenant, run).await
    }

    async fn references(&self, tenant: &Tenant, run: RunId) -> Result<Vec<(Digest, u64)>, Error> {
        self.journal.references(tenant, run).await
    }

    async fn import(&self, history: History) -> Result<Imported, Error> {
        self.journal.import(history).await
    }

    async fn prune(
        &self,
        tenant: &Tenant,
        runs: &[RunId],
        now: Timestamp,
    ) -> Result<Pruned, Error> {
        self.journal.prune(tenant, runs, now).await
    }

    async fn shrink(&self) -> Result<Shrunk, Error> {
        self.journal.shrink().await
    }
}
