//! The engine of a node: opens a store, takes runs, works on them, shows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use futures_util::stream::BoxStream;
use kapelle_core::port::journal;
use kapelle_core::port::nodes::Node;
use kapelle_core::port::{Agents, Journal, Nodes};
use kapelle_core::run::{Command, Ended, Refusal, Run};
use kapelle_core::{Json, Payload, RunId, Tenant, Value};

use crate::accounts::{Account, Accounts, Limits};
use crate::claims::Claims;
use crate::feed::Vigil;
use crate::meter::{Load, Meter};
use crate::reader::{Plans, Reader};
use crate::shards::{Offer, Reply, Stuck, Tell};
use crate::shell::{Msg, Shared, Shell};
use crate::slots::Slot;
use crate::submit::PreparedPlan;
use crate::tally::Tally;
use crate::version::Version;
use crate::watch::{Seen, watch};

/// What an engine is put together from.
#[derive(Clone)]
pub struct Parts {
    /// The store.
    pub journal: Arc<dyn Journal>,
    /// Who else works on it.
    pub nodes: Arc<dyn Nodes>,
    /// Who does the work.
    pub agents: Agents,
}

/// How an engine works.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many loop threads; `None`: half as many as cores, at least one.
    pub loops: Option<usize>,
    /// How many attempts go on at once on this node.
    pub slots: u32,
    /// Which runs it works on.
    pub adopt: Adopt,
    /// How many bytes of values a loop keeps at hand.
    pub values_max: u64,
    /// A person watches what it does: a step that seems to kill its nodes is begun all the same.
    pub watched: bool,
    /// What may be spent in all runs together.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            loops: None,
            slots: 1_000,
            adopt: Adopt::Asked,
            values_max: 64 << 20,
            watched: false,
            limits: Limits::default(),
        }
    }
}

/// Which runs a node works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// Those it was asked for.
    Asked,
    /// All open runs in all shards that no other node owns, now and later.
    All,
}

/// A run to be created.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Whose it is.
    pub tenant: Tenant,
    /// What is to be done; checked before.
    pub plan: PreparedPlan,
    /// An object: the inputs, checked before, defaults included.
    pub inputs: Json,
    /// The submitter's folder, absolute.
    pub root: Box<str>,
    /// The client's own name for the run: the same one never makes a second run.
    pub task_id: Option<Box<str>>,
    /// An idempotency key: likewise.
    pub key: Option<Box<str>>,
}

/// What came of a submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The run.
    pub run: RunId,
    /// It was there before, made of the same.
    pub existing: bool,
}

/// Why the engine did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The run says no.
    #[error(transparent)]
    Refused(Refusal),
    /// There is no such run.
    #[error("there is no such run")]
    NotFound,
    /// The run has no such event.
    #[error("the run has no event {seq}: give 1 to {last}")]
    NoEvent {
        /// Which.
        seq: u64,
        /// Its last one.
        last: u64,
    },
    /// The same key was used for something else.
    #[error("the same key was used for run `{run}`, made of another plan or other inputs")]
    Conflict {
        /// That run.
        run: RunId,
    },
    /// The inputs are not what the plan takes.
    #[error("the inputs are not what the workflow takes")]
    BadInputs(Vec<kapelle_core::problem::Problem>),
    /// It has not ended.
    #[error("run `{run}` has not ended; wait for its end, or cancel it")]
    Open {
        /// Which run.
        run: RunId,
    },
    /// Runs are too large for one file.
    #[error("a file with runs has at most 512 MiB; export fewer at once")]
    LongExport,
    /// A file with runs cannot be taken in.
    #[error("the file cannot be imported: {0}")]
    BadExport(Arc<str>),
    /// Another run has this id.
    #[error("another run has the id `{run}`")]
    OtherRun {
        /// That id.
        run: RunId,
    },
    /// The run was removed, and its key is not free yet.
    #[error("run `{run}` was pruned; its key is free again 30 days after that")]
    Pruned {
        /// That run.
        run: RunId,
    },
    /// Another node works on it: ask there.
    #[error("node `{}` works on it", .0.id)]
    Elsewhere(Node),
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] journal::Error),
    /// What was read is not what was written; the run is left alone.
    #[error("{0}")]
    Damaged(Arc<str>),
    /// The plan cannot run.
    #[error("the plan cannot run: {0}")]
    BadPlan(Arc<str>),
    /// The node is being stopped.
    #[error("the node is about to leave; nothing was done: repeat in a moment")]
    Draining,
}

/// The engine of a node. Cheap to clone; stops when the last clone is dropped.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    claims: Arc<Claims>,
    /// Keeps the claims; it holds the node as well, so it has to end for the node to leave.
    keeper: tokio::task::JoinHandle<()>,
    fatal: tokio::sync::watch::Receiver<Option<journal::Error>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.abort();
        self.shared.drain();
        self.shared.send_all(|| Msg::StopAttempts);
        self.shared.send_all(|| Msg::End);
    }
}

impl Engine {
    /// Starts the loops. With [`Adopt::All`] the runs that were open are being worked on when this returns.
    pub async fn open(parts: Parts, options: Options) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let loops = options.loops.unwrap_or(cores / 2).clamp(1, 256);
        let (senders, inboxes): (Vec<Sender<Msg>>, Vec<_>) = (0..loops).map(|_| channel()).unzip();
        let (lost, lost_shards) = tokio::sync::mpsc::unbounded_channel();
        let reader = Reader { journal: parts.journal, plans: Plans::default() };
        let accounts = Accounts::new(options.limits, parts.nodes.clone());
        let shared = Arc::new(Shared::new(
            (reader, accounts),
            parts.agents,
            options.slots,
            senders.clone(),
            lost,
        ));
        for (number, (inbox, own)) in inboxes.into_iter().zip(senders).enumerate() {
            let shell = Shell::new(shared.clone(), options.values_max, inbox, own);
            std::thread::Builder::new()
                .name(format!("kapelle-loop-{number}"))
                .spawn(move || shell.run())
                .map_err(|error| journal::Error::Unavailable {
                    file: "a thread".into(),
                    message: error.to_string().into(),
                })?;
        }
        let claims = Arc::new(Claims::new(shared.clone(), parts.nodes, options.watched));
        if options.adopt == Adopt::All {
            claims.adopt_all().await?;
        }
        let (fatal_sender, fatal) = tokio::sync::watch::channel(None);
        let keeper = tokio::spawn(claims.clone().keep(options.adopt, lost_shards, fatal_sender));
        Ok(Self { inner: Arc::new(Inner { shared, claims, keeper, fatal }) })
    }

    /// Creates a run and works on it; durable when this returns.
    ///
    /// The same key with the same content answers the run there is, with other content [`Error::Conflict`].
    pub async fn submit(&self, new: NewRun) -> Result<Submitted, Error> {
        self.submit_noted(new, |_| None).await
    }

    /// The same; what `note` gives for the run's id is an entry of the audit log that is on disk with the run,
    /// or not at all. A run that was there before has none.
    pub async fn submit_noted(
        &self,
        new: NewRun,
        note: impl FnOnce(RunId) -> Option<Box<str>>,
    ) -> Result<Submitted, Error> {
        let run = self.new_id().await?;
        self.submit_as(run, new, note(run)).await
    }

    pub(crate) async fn new_id(&self) -> Result<RunId, Error> {
        let shard = self.inner.claims.for_new_run().await?;
        Ok(RunId::new(self.inner.shared.clock.now(), random(), shard))
    }

    /// Gives a run a command; durable when this returns, with the number of the run's last event.
    ///
    /// If nobody owns the run's shard it is claimed, but the run is not worked on for that.
    pub async fn tell(&self, tenant: &Tenant, run: RunId, command: Command) -> Result<u64, Error> {
        self.tell_with(tenant, run, command, Vec::new()).await
    }

    /// As [`Self::tell`], with payloads that the command's values refer to.
    pub async fn tell_with(
        &self,
        tenant: &Tenant,
        run: RunId,
        command: Command,
        payloads: Vec<Payload>,
    ) -> Result<u64, Error> {
        loop {
            self.inner.claims.claim(run.shard()).await?;
            let (command, payloads) = (command.clone(), payloads.clone());
            let offer = |ticket| {
                Offer::Tell(Box::new(Tell {
                    tenant: tenant.clone(),
                    run,
                    command,
                    payloads,
                    references: Vec::new(),
                    ticket: Some(ticket),
                }))
            };
            match self.inner.shared.ask(run.shard(), offer).await {
                Reply::Done { seq } => return Ok(seq),
                Reply::NotOwner if !self.inner.shared.is_draining() => {
                    // Lost between the claim and the answer: whoever has it now is asked.
                    self.check_fatal()?;
                    tokio::task::yield_now().await;
                }
                reply => return Err(refused(reply)),
            }
        }
    }

    /// This node works on the run from here on.
    pub async fn work_on(&self, tenant: &Tenant, run: RunId) -> Result<u64, Error> {
        self.inner.claims.claim(run.shard()).await?;
        match self.inner.claims.work(tenant, run).await? {
            Reply::Done { seq } => Ok(seq),
            reply => Err(refused(reply)),
        }
    }

    /// A run as the journal has it.
    pub async fn run(&self, tenant: &Tenant, run: RunId) -> Result<Run, Error> {
        Ok(self.inner.shared.reader.load(tenant, run).await?.run)
    }

    /// What a run that is read from here on is known by: while that is the same, so is the run, unless it has
    /// ended and is pruned. `None`: others may change it.
    #[must_use]
    pub fn version(&self, run: RunId) -> Option<Version> {
        self.inner.shared.versions.of(run)
    }

    /// A run as it was after its event `seq`, from 1.
    pub async fn run_at(&self, tenant: &Tenant, run: RunId, seq: u64) -> Result<Run, Error> {
        if seq == 0 {
            let last = self.run(tenant, run).await?.seq();
            return Err(Error::NoEvent { seq, last });
        }
        let then = self.inner.shared.reader.load_at(tenant, run, seq).await?.run;
        if then.seq() == seq { Ok(then) } else { Err(Error::NoEvent { seq, last: then.seq() }) }
    }

    /// A value of a run as JSON.
    pub async fn value(
        &self,
        tenant: &Tenant,
        run: &Run,
        value: &Value,
    ) -> Result<Arc<Json>, Error> {
        Ok(self.inner.shared.reader.json(tenant, run, value).await?)
    }

    /// The events of a run after number `after` (0: all), each once and in order, then live with
    /// progress between them; it ends with the run. Works for runs of other nodes too, without progress.
    #[must_use]
    pub fn watch(
        &self,
        tenant: &Tenant,
        run: RunId,
        after: u64,
    ) -> BoxStream<'static, Result<Seen, Error>> {
        watch(self.inner.shared.clone(), tenant.clone(), run, after)
    }

    /// Waits for a run to end.
    pub async fn wait(&self, tenant: &Tenant, run: RunId) -> Result<Ended, Error> {
        loop {
            let vigil = self.inner.shared.feed.await_end(run);
            self.check_fatal()?;
            let row = self.journal().run(tenant, run).await?.ok_or(Error::NotFound)?;
            if !row.open {
                return self.run(tenant, run).await?.ended().cloned().ok_or(Error::NotFound);
            }
            if let Some(ended) = self.end_of(vigil, self.pace(run)).await? {
                return Ok(ended);
            }
        }
    }

    /// Submits a run and waits for its end.
    pub async fn perform(&self, new: NewRun) -> Result<(RunId, Ended), Error> {
        let tenant = new.tenant.clone();
        let run = self.new_id().await?;
        // Its end cannot be missed: it is waited for before it begins.
        let vigil = self.inner.shared.feed.await_end(run);
        let submitted = self.submit_as(run, new, None).await?;
        if submitted.existing {
            return Ok((submitted.run, self.wait(&tenant, submitted.run).await?));
        }
        match self.end_of(vigil, self.pace(run)).await? {
            Some(ended) => Ok((run, ended)),
            None => Ok((run, self.wait(&tenant, run).await?)),
        }
    }

    /// How the run ended, or `None` if it is time to look.
    async fn end_of(&self, mut vigil: Vigil, at_most: Duration) -> Result<Option<Ended>, Error> {
        match tokio::time::timeout(at_most, &mut vigil.end).await {
            Ok(Ok(Ok(ended))) => Ok(Some((*ended).clone())),
            Ok(Ok(Err(why))) => Err(Error::Damaged(why)),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    /// How long to wait for news before looking: short where another process works on the run.
    fn pace(&self, run: RunId) -> Duration {
        let own = self.inner.claims.holds(run.shard());
        Duration::from_millis(if own { 1_000 } else { 100 })
    }

    /// How the accounts stand that have a limit.
    pub async fn accounts(&self, tenant: &Tenant) -> Result<Vec<Account>, Error> {
        let shared = &self.inner.shared;
        Ok(shared.accounts.all(&shared.reader, tenant, shared.clock.now()).await?)
    }

    /// The living node that owns the run, if it is another one.
    pub async fn owner(&self, run: RunId) -> Result<Option<Node>, Error> {
        Ok(self.inner.claims.other_owner(run.shard()).await?)
    }

    /// Whether this node works on the run, which has not ended.
    #[must_use]
    pub fn works_on(&self, run: RunId) -> bool {
        self.inner.claims.holds(run.shard()) && self.inner.shared.asked().contains_key(&run)
    }

    /// The store.
    #[must_use]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.inner.shared.reader.journal
    }

    /// Has `meter` count what this engine does from here on; the first one stays.
    pub fn count_with(&self, meter: Arc<dyn Meter>) {
        self.inner.shared.count_with(meter);
    }

    /// How many open runs this node works on, with those that are just being created.
    #[must_use]
    pub fn open_runs(&self) -> usize {
        self.inner.shared.asked().len()
    }

    /// How much there is to do at this moment.
    pub async fn load(&self) -> Load {
        let mut all = Load::default();
        for inbox in &self.inner.shared.loops {
            let (to, load) = tokio::sync::oneshot::channel();
            if inbox.send(Msg::Measure(to)).is_ok() {
                all += load.await.unwrap_or_default();
            }
        }
        all
    }

    /// The agents at hand.
    #[must_use]
    pub fn agents(&self) -> Arc<Agents> {
        self.inner.shared.agents()
    }

    /// Has other agents at hand from here on; attempts that go on are not touched.
    pub fn set_agents(&self, agents: Agents) {
        self.inner.shared.set_agents(agents);
    }

    /// Somebody offers to do work of the agent `name` for `tenant`: one attempt begins for them, as soon as
    /// there is one that waits for that. `more` is 1, or -1 for one who has left without any.
    pub fn offer(&self, tenant: &Tenant, name: &str, more: i64) {
        let (shared, slot) = (&self.inner.shared, Slot::offered(tenant, name));
        shared.slots.offer(&slot, more);
        if more > 0 {
            shared.send_all(|| Msg::Offered(slot.clone()));
        }
    }

    /// Which runs of `tenant` wait on this node for an agent, or for those who do its work.
    pub async fn stuck(&self, tenant: &Tenant) -> Vec<Stuck> {
        let mut asked = Vec::new();
        for sender in &self.inner.shared.loops {
            let (answer, stuck) = tokio::sync::oneshot::channel();
            sender.send(Msg::Stuck(tenant.clone(), answer)).ok();
            asked.push(stuck);
        }
        let all = futures_util::future::join_all(asked).await;
        all.into_iter().flatten().flatten().collect()
    }

    /// What each agent has done for `tenant` since the node began.
    #[must_use]
    pub fn tally(&self, tenant: &Tenant) -> BTreeMap<Box<str>, Tally> {
        self.inner.shared.tallies.of(tenant)
    }

    /// Who works on the store.
    #[must_use]
    pub fn nodes(&self) -> &Arc<dyn Nodes> {
        self.inner.claims.nodes()
    }

    /// Resolves with the error after which this process must not touch the store any more.
    pub async fn fatal(&self) -> journal::Error {
        let mut fatal = self.inner.fatal.clone();
        loop {
            if let Some(error) = fatal.borrow_and_update().clone() {
                return error;
            }
            if fatal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn check_fatal(&self) -> Result<(), Error> {
        self.inner.fatal.borrow().clone().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether it is being stopped: it begins nothing new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.shared.is_draining()
    }

    /// Begins nothing new, waits at most `grace` for what goes on, stops the rest (which is tried
    /// again by whoever goes on), and gives up the shards.
    pub async fn drain(&self, grace: Duration) -> Result<(), Error> {
        let shared = &self.inner.shared;
        shared.drain();
        self.inner.keeper.abort();
        let mut resting = Vec::new();
        for sender in &shared.loops {
            let (done, rested) = tokio::sync::oneshot::channel();
            sender.send(Msg::Rest(done)).ok();
            resting.push(rested);
        }
        let mut all = futures_util::future::join_all(resting);
        if tokio::time::timeout(grace, &mut all).await.is_err() {
            shared.send_all(|| Msg::StopAttempts);
            all.await;
        }
        match self.inner.claims.release_all().await {
            // What is not given back is free when this node is gone. What was asked for is done: who
            // asked must not be told that there was no space for it.
            Err(error @ (journal::Error::Full { .. } | journal::Error::Busy { .. })) => {
                tracing::warn!(%error, "the shards are not given back");
                Ok(())
            }
            done => Ok(done?),
        }
    }
}

pub(crate) fn refused(reply: Reply) -> Error {
    match reply {
        Reply::Refused(refusal) => Error::Refused(refusal),
        Reply::NotFound | Reply::Done { .. } | Reply::Mail(_) | Reply::Twin(_) => Error::NotFound,
        Reply::NotOwner => Error::Draining,
        Reply::Store(error) => Error::Store(error.0),
        Reply::Damaged(why) => Error::Damaged(why),
    }
}

fn random() -> [u8; 10] {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    // Bytes 6 and 8 hold the version and the variant, which are not random.
    let mut random = [0; 10];
    random[..6].copy_from_slice(&bytes[..6]);
    random[6..].copy_from_slice(&bytes[12..]);
    random
}
