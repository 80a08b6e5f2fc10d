//! The kill test's control: a node whose store says that something is on disk before it is.
//!
//! It takes the arguments that the test gives to `kapelle run`, and differs from it in one thing:
//! [`Hasty`] settles an append at once and writes it 30 ms later. The test must find it out.

#![expect(clippy::print_stdout, reason = "events on stdout are what is tested")]

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use kapelle::{EventKind, Kapelle};
use kapelle_api::{Approval, Decision, NewRun};
use kapelle_core::port::Journal;
use kapelle_core::port::account::{Accounts, Call, Day, Grant, Granted, Open, Standing, Within};
use kapelle_core::port::journal::{
    Content, Entry, Error, History, Holding, Imported, OnSettled, Part, Pruned, Row, RunQuery,
    RunRow, Settled, Shrunk, Staged, Twin,
};
use kapelle_core::run::Sum;
use kapelle_core::{Digest, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use kapelle_store::{Member, Sqlite};
use serde_json::json;

/// How long it takes until what was acknowledged is written.
const DELAY: Duration = Duration::from_millis(30);

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|arg| arg == kapelle_agents::child::ARG) {
        return kapelle_agents::child::main();
    }
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    match runtime.block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut value_of = |name: &str| {
        args.find(|arg| arg == name);
        args.next().ok_or_else(|| anyhow::anyhow!("`{name}` is missing"))
    };
    let store = value_of("--store")?;
    let workflow = std::fs::read_to_string(value_of("run")?)?;
    let task_id = value_of("--task-id")?;
    let input = value_of("--input")?;
    let inputs = input.split_once('=').map(|(name, value)| json!({ name: value }));

    let hasty = Hasty::new(Sqlite::open(store.as_ref())?);
    let member = Member::join(store.as_ref(), None)?;
    let kapelle = kapelle::open_on(Arc::new(hasty), Arc::new(member))
        .processes(std::env::current_exe()?)
        .start()
        .await?;
    let new = NewRun {
        workflow: Some(workflow),
        inputs: inputs.unwrap_or_default(),
        task_id: Some(task_id),
        ..NewRun::default()
    };
    let mut running = kapelle.submit(&new).await?;
    while let Some(event) = running.next().await {
        let event = event?;
        println!("{}", serde_json::to_string(&event)?);
        if matches!(event.kind, EventKind::ApprovalRequested { .. }) {
            approve(&kapelle, &event.run, event.step.as_deref().unwrap_or_default()).await;
        }
    }
    Ok(kapelle.close().await?)
}

/// Nobody else can: it has no socket.
async fn approve(kapelle: &Kapelle, run: &str, step: &str) {
    let by = Some("role:maintainer".to_owned());
    let word = Approval { decision: Decision::Approve, by, comment: None };
    kapelle.client().approve(run, step, &word).await.ok();
}

/// A journal that acknowledges first.
struct Hasty {
    store: Arc<Sqlite>,
    pending: Arc<Mutex<Vec<Part>>>,
    queue: mpsc::Sender<()>,
}

impl Hasty {
    fn new(store: Sqlite) -> Self {
        let store = Arc::new(store);
        let pending = Arc::new(Mutex::new(Vec::new()));
        let (queue, due) = mpsc::channel();
        let writer = (store.clone(), pending.clone());
        std::thread::spawn(move || {
            while due.recv().is_ok() {
                std::thread::sleep(DELAY);
                let (store, pending) = &writer;
                let parts = locked(pending).clone();
                let (settled, done) = mpsc::channel();
                let count = parts.len();
                store.append(parts, Box::new(move |_| settled.send(()).unwrap_or_default()));
                done.recv().ok();
                locked(pending).drain(..count);
            }
        });
        Self { store, pending, queue }
    }
}

fn locked(pending: &Mutex<Vec<Part>>) -> MutexGuard<'_, Vec<Part>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Accounts for Hasty {
    async fn grant(&self, grant: Grant, within: Vec<Within>) -> Result<Granted, Error> {
        self.store.grant(grant, within).await
    }

    async fn settle(&self, tenant: &Tenant, call: Call, used: Sum) -> Result<(), Error> {
        self.store.settle(tenant, call, used).await
    }

    async fn accounts(&self, tenant: &Tenant, since: Day) -> Result<Vec<Standing>, Error> {
        self.store.accounts(tenant, since).await
    }

    async fn open_grants(&self, tenant: &Tenant) -> Result<Vec<Open>, Error> {
        self.store.open_grants(tenant).await
    }
}

#[async_trait]
impl Journal for Hasty {
    fn append(&self, parts: Vec<Part>, settled: OnSettled) {
        let all_well = parts.iter().map(|_| Settled::Done { left_out: Vec::new() }).collect();
        locked(&self.pending).extend(parts);
        self.queue.send(()).ok();
        settled(Ok(all_well));
    }

    async fn read(&self, tenant: &Tenant, run: RunId, from: u64) -> Result<Vec<Entry>, Error> {
        let additions: Vec<_> =
            locked(&self.pending).iter().flat_map(|part| part.runs.clone()).collect();
        let mut entries = self.store.read(tenant, run, from).await?;
        for addition in additions {
            let entry = addition.entry;
            let is_new = entries.last().is_none_or(|last| last.first_seq < entry.first_seq);
            if entry.run == run && entry.first_seq + u64::from(entry.count) > from && is_new {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    async fn run(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunRow>, Error> {
        let pending = rows(&self.pending).into_iter().rev().find_map(|row| match row {
            Row::Run(row) if row.run == run => Some(row),
            _ => None,
        });
        if pending.is_some() { Ok(pending) } else { self.store.run(tenant, run).await }
    }

    async fn payload(&self, tenant: &Tenant, digest: Digest) -> Result<Option<Content>, Error> {
        let pending = rows(&self.pending).into_iter().find_map(|row| match row {
            Row::Payload(payload) if payload.digest == digest => Some(payload.bytes),
            _ => None,
        });
        match pending {
            Some(bytes) => {
                let (len, bytes) = (bytes.len() as u64, std::io::Cursor::new(bytes));
                Ok(Some(Content { len, reader: Box::new(bytes) }))
            }
            None => self.store.payload(tenant, digest).await,
        }
    }

    async fn shards(&self) -> Result<Vec<Holding>, Error> {
        self.store.shards().await
    }

    async fn claim(
        &self,
        seen: &[(Shard, Epoch)],
        owner: &NodeId,
    ) -> Result<Vec<(Shard, Epoch)>, Error> {
        self.store.claim(seen, owner).await
    }

    async fn release(&self, held: &[(Shard, Epoch)]) -> Result<(), Error> {
        self.store.release(held).await
    }

    async fn tail(&self, shard: Shard, after: u64, limit: u32) -> Result<Vec<(u64, Entry)>, Error> {
        self.store.tail(shard, after, limit).await
    }

    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRow>, Error> {
        self.store.open_runs(shard).await
    }

    async fn open_counts(&self) -> Result<Vec<(Shard, u64)>, Error> {
        self.store.open_counts().await
    }

    async fn runs(&self, tenant: &Tenant, query: &RunQuery) -> Result<Vec<RunRow>, Error> {
        self.store.runs(tenant, query).await
    }

    async fn ending_with(
        &self,
        tenant: &Tenant,
        suffix: &str,
        limit: u32,
    ) -> Result<Vec<RunId>, Error> {
        self.store.ending_with(tenant, suffix, limit).await
    }

    async fn submitted(&self, tenant: &Tenant, key: &str) -> Result<Option<Twin>, Error> {
        self.store.submitted(tenant, key).await
    }

    async fn stage(&self) -> Result<Box<dyn Staged>, Error> {
        self.store.stage().await
    }

    async fn bytes(&self, tenant: &Tenant, run: RunId) -> Result<u64, Error> {
        self.store.bytes(tenant, run).await
    }

    async fn references(&self, tenant: &Tenant, run: RunId) -> Result<Vec<(Digest, u64)>, Error> {
        self.store.references(tenant, run).await
    }

    async fn import(&self, history: History) -> Result<Imported, Error> {
        self.store.import(history).await
    }

    async fn prune(
        &self,
        tenant: &Tenant,
        runs: &[RunId],
        now: Timestamp,
    ) -> Result<Pruned, Error> {
        self.store.prune(tenant, runs, now).await
    }

    async fn shrink(&self) -> Result<Shrunk, Error> {
        self.store.shrink().await
    }
}

fn rows(pending: &Mutex<Vec<Part>>) -> Vec<Row> {
    let pending = locked(pending);
    pending.iter().flat_map(|part| &part.runs).flat_map(|addition| addition.rows.clone()).collect()
}
