//! The thin shell around [`Shards`]: a thread that feeds it and does what it says.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use kapelle_core::port::Agents;
use kapelle_core::port::journal::{Error, Part, Settled};
use kapelle_core::run::{Ended, Event};
use kapelle_core::{Attempt, Digest, Epoch, Json, RunId, Shard, StepNo, Tenant};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::feed::{Feed, Live};
use crate::meter::{Commit, Load, Meter};
use crate::reader::Reader;
use crate::shards::{
    Action, LoadError, Loaded, Offer, Outside, Published, Reply, Shards, Start, Stuck, Ticket,
    sleep,
};
use crate::slots::{Slot, Slots};
use crate::tally::Tallies;
use crate::version::Versions;

/// What a loop is told.
pub(crate) enum Msg {
    Offer(Offer),
    Own(Shard, Epoch),
    Disown(Shard),
    Settled(Result<Vec<Settled>, Error>),
    Loaded(Tenant, RunId, Box<Result<Loaded, LoadError>>),
    Value(Digest, Result<(Arc<Json>, u64), Arc<str>>),
    /// An attempt has ended, and this is what it reports.
    Finished(Key, Slot, Offer),
    /// Somebody offers to do the work of an agent.
    Offered(Slot),
    /// There are other agents than before.
    Agents,
    /// Which runs of a tenant wait for an agent, or for those who do its work?
    Stuck(Tenant, oneshot::Sender<Vec<Stuck>>),
    /// A slot may be free.
    Wake,
    /// Say how much there is.
    Measure(oneshot::Sender<Load>),
    /// Begin nothing new; answer once nothing goes on.
    Rest(oneshot::Sender<()>),
    /// Tell all attempts to stop.
    StopAttempts,
    /// End the loop.
    End,
}

/// Which attempt.
type Key = (RunId, StepNo, Attempt);

/// What the loops of a node share.
pub(crate) struct Shared {
    pub(crate) reader: Reader,
    agents: RwLock<Arc<Agents>>,
    pub(crate) accounts: Accounts,
    pub(crate) slots: Slots,
    pub(crate) tallies: Tallies,
    pub(crate) clock: Clock,
    pub(crate) feed: Arc<Feed>,
    pub(crate) versions: Versions,
    pub(crate) loops: Vec<Sender<Msg>>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) lost: mpsc::UnboundedSender<Shard>,
    /// Runs that this node was asked to work on and that have not ended.
    asked: Mutex<BTreeMap<RunId, Tenant>>,
    waiting: Mutex<BTreeMap<Ticket, oneshot::Sender<Reply>>>,
    next_ticket: AtomicU64,
    draining: AtomicBool,
    meter: OnceLock<Arc<dyn Meter>>,
}

impl Shared {
    pub(crate) fn new(
        (reader, accounts): (Reader, Accounts),
        agents: Agents,
        slots: u32,
        loops: Vec<Sender<Msg>>,
        lost: mpsc::UnboundedSender<Shard>,
    ) -> Self {
        Self {
            reader,
            accounts,
            slots: Slots::new(slots, &agents),
            agents: RwLock::new(Arc::new(agents)),
            tallies: Tallies::default(),
            clock: Clock::new(),
            feed: Arc::default(),
            versions: Versions::default(),
            loops,
            runtime: tokio::runtime::Handle::current(),
            lost,
            asked: Mutex::default(),
            waiting: Mutex::default(),
            next_ticket: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            meter: OnceLock::new(),
        }
    }

    /// What the accounts granted to calls that died with their nodes is reserved no more. Where that fails,
    /// whoever meets the limit does it.
    pub(crate) async fn settle_grants(&self, tenant: &Tenant) {
        if !self.accounts.limits().is_empty() {
            self.accounts.settle_left(&self.reader, tenant).await.ok();
        }
    }

    /// Who counts, if anybody does.
    pub(crate) fn meter(&self) -> Option<&Arc<dyn Meter>> {
        self.meter.get()
    }

    pub(crate) fn count_with(&self, meter: Arc<dyn Meter>) {
        // The first one stays.
        self.meter.set(meter).ok();
    }

    pub(crate) fn agents(&self) -> Arc<Agents> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_agents(&self, agents: Agents) {
        self.slots.know(&agents);
        *self.agents.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(agents);
        self.send_all(|| Msg::Agents);
    }

    pub(crate) fn send(&self, shard: Shard, msg: Msg) {
        // A loop that has ended has nothing to be told any more.
        self.loops[shard.0 as usize % self.loops.len()].send(msg).ok();
    }

    pub(crate) fn send_all(&self, msg: impl Fn() -> Msg) {
        for sender in &self.loops {
            sender.send(msg()).ok();
        }
    }

    /// Offers something to the loop of a shard and waits for what comes of it.
    pub(crate) async fn ask(&self, shard: Shard, offer: impl FnOnce(Ticket) -> Offer) -> Reply {
        let (ticket, answer) = self.ticket();
        self.send(shard, Msg::Offer(offer(ticket)));
        answer.await.unwrap_or(Reply::NotOwner)
    }

    pub(crate) fn asked(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Tenant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for an answer, and where it will be told.
    pub(crate) fn ticket(&self) -> (Ticket, oneshot::Receiver<Reply>) {
        let ticket = Ticket(self.next_ticket.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        self.tickets().insert(ticket, sender);
        (ticket, answer)
    }

    fn tickets(&self) -> std::sync::MutexGuard<'_, BTreeMap<Ticket, oneshot::Sender<Reply>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

/// A loop's own thread.
pub(crate) struct Shell {
    shared: Arc<Shared>,
    shards: Shards,
    inbox: Receiver<Msg>,
    own: Sender<Msg>,
    live: BTreeMap<Key, CancellationToken>,
    /// Attempts that wait until the one before of the same step has let go.
    held: BTreeMap<Key, Start>,
    resting: Vec<oneshot::Sender<()>>,
}

/// How runs begin and end, for a log.
fn log(published: &Published) {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let (run, trace) = (published.run, published.run.simple());
    let span = tracing::info_span!("run", %run, %trace);
    for event in &published.events {
        match event {
            Event::RunCreated(created) => {
                let (task_id, workflow) = (created.task_id.as_deref(), &created.workflow);
                tracing::info!(parent: &span, task_id, %workflow, "the run is created");
            }
            Event::RunPaused { by, reason } => {
                tracing::info!(parent: &span, %by, %reason, "the run is paused");
            }
            Event::RunCompleted { verdict, detail, .. } => {
                let verdict = verdict.as_str();
                tracing::info!(parent: &span, verdict, %detail, "the run has ended");
            }
            _ => {}
        }
    }
}

fn commit_of(parts: &[Part]) -> Commit {
    let entries = || parts.iter().flat_map(|part| &part.runs).map(|addition| &addition.entry);
    Commit {
        took: Duration::ZERO,
        runs: entries().count(),
        events: entries().map(|entry| u64::from(entry.count)).sum(),
        bytes: entries().map(|entry| entry.body.len() as u64).sum(),
        is_well: false,
    }
}

/// The attempts of a run's steps from `first` to `last`.
const fn of_step(run: RunId, first: StepNo, last: StepNo) -> RangeInclusive<Key> {
    (run, first, Attempt(0))..=(run, last, Attempt(u32::MAX))
}

/// At most so many messages are taken before a turn.
const MESSAGES_MAX: usize = 4_096;
/// A loop looks around at least so often.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// How long a store in trouble is left alone.
const TROUBLE_PAUSE: Duration = Duration::from_millis(200);

impl Shell {
    pub(crate) fn new(
        shared: Arc<Shared>,
        values_max: u64,
        inbox: Receiver<Msg>,
        own: Sender<Msg>,
    ) -> Self {
        let shards = Shards::new(values_max);
        Self {
            shared,
            shards,
            inbox,
            own,
            live: BTreeMap::new(),
            held: BTreeMap::new(),
            resting: Vec::new(),
        }
    }

    /// Turns until it is told to end.
    pub(crate) fn run(mut self) {
        let runtime = self.shared.runtime.clone();
        let _context = runtime.enter();
        while self.listen() {
            let began = Instant::now();
            let agents = self.shared.agents();
            let outside = Outside {
                now: self.shared.clock.now(),
                agents: &agents,
                slots: &self.shared.slots,
            };
            let alone = !self.shards.is_appending();
            let turned = self.shards.turn(&outside);
            self.act(turned.actions);
            if let Some(parts) = turned.append {
                // With nothing else to do until then, this thread may as well write it itself.
                let here = alone && self.live.is_empty() && !self.shards.is_busy();
                self.append(parts, here);
            }
            if let Some(meter) = self.shared.meter() {
                meter.turned(began.elapsed());
            }
            if self.is_at_rest() {
                for done in self.resting.drain(..) {
                    done.send(()).ok();
                }
            }
        }
    }

    fn append(&self, parts: Vec<Part>, here: bool) {
        let own = self.own.clone();
        let counted =
            self.shared.meter().map(|meter| (meter.clone(), commit_of(&parts), Instant::now()));
        let settled = Box::new(move |result: Result<Vec<Settled>, Error>| {
            if let Some((meter, commit, since)) = counted {
                let (took, is_well) = (since.elapsed(), result.is_ok());
                meter.committed(Commit { took, is_well, ..commit });
            }
            drop(own.send(Msg::Settled(result)));
        });
        let journal = &self.shared.reader.journal;
        if here { journal.append_here(parts, settled) } else { journal.append(parts, settled) }
    }

    fn is_at_rest(&self) -> bool {
        !self.resting.is_empty()
            && self.live.is_empty()
            && self.held.is_empty()
            && !self.shards.is_busy()
            && !self.shards.is_appending()
    }

    /// Takes what has come in, waiting for it if there is nothing else to do. False: it is the end.
    fn listen(&mut self) -> bool {
        let wait = sleep(&self.shards, self.shared.clock.now(), SLEEP_MAX);
        let first = match self.inbox.recv_timeout(wait) {
            Ok(msg) => Some(msg),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let mut taken = 0;
        let mut next = first.or_else(|| self.inbox.try_recv().ok());
        while let Some(msg) = next {
            if !self.take(msg) {
                return false;
            }
            taken += 1;
            next = if taken < MESSAGES_MAX { self.inbox.try_recv().ok() } else { None };
        }
        true
    }

    fn take(&mut self, msg: Msg) -> bool {
        match msg {
            Msg::Offer(offer) => self.shards.offer(offer),
            Msg::Own(shard, epoch) => {
                self.shared.feed.forget_damage(shard);
                self.shards.own(shard, epoch);
            }
            Msg::Disown(shard) => {
                let actions = self.shards.disown(shard);
                self.act(actions);
            }
            Msg::Settled(result) => {
                let actions = self.shards.settled(result);
                // What was gathered meanwhile is written while this is acted upon.
                if let Some(parts) = self.shards.gather() {
                    self.append(parts, false);
                }
                self.act(actions);
            }
            Msg::Loaded(tenant, run, loaded) => {
                self.shards.loaded(run, tenant, *loaded, self.shared.clock.now());
            }
            Msg::Value(digest, value) => self.shards.value_loaded(digest, value),
            Msg::Finished(key, slot, offer) => {
                self.live.remove(&key);
                if crate::attempt::was_left(&offer) {
                    return true;
                }
                self.end(&slot, offer);
                self.start_held(key.0, key.1);
            }
            Msg::Offered(slot) => self.shards.offered(slot),
            Msg::Agents => self.shards.arrived(&self.shared.agents(), self.shared.clock.now()),
            Msg::Stuck(tenant, answer) => drop(answer.send(self.shards.stuck(&tenant))),
            Msg::Wake => {}
            Msg::Measure(to) => {
                let attempts = self.live.len() + self.held.len();
                to.send(Load { attempts, ..self.shards.load() }).ok();
            }
            Msg::Rest(done) => {
                self.shards.rest();
                self.resting.push(done);
            }
            Msg::StopAttempts => {
                let (first, last) = (RunId::from_bytes([0; 16]), RunId::from_bytes([0xff; 16]));
                let to = *of_step(last, StepNo(u32::MAX), StepNo(u32::MAX)).end();
                self.stop((first, StepNo(0), Attempt(0))..=to);
            }
            Msg::End => return false,
        }
        true
    }

    /// Passes on what an attempt reports; its slot is free.
    fn end(&mut self, slot: &Slot, offer: Offer) {
        if let Offer::Tell(tell) = &offer {
            self.shared.slots.note(slot, &tell.command, self.shared.clock.now());
        }
        let begun = !crate::attempt::was_not_begun(&offer);
        self.shards.offer(offer);
        if !begun {
            return self.give_unused(slot);
        }
        self.shared.slots.give(slot);
        // Only another loop has to be told: this one turns anyway.
        if self.shared.loops.len() > 1 {
            self.shared.send_all(|| Msg::Wake);
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reply(ticket, reply) => {
                    if let Some(waiting) = self.shared.tickets().remove(&ticket) {
                        // Whoever asked may have left.
                        waiting.send(reply).ok();
                    }
                }
                Action::Publish(published) => self.publish(&published),
                Action::Damaged { run, why } => {
                    tracing::error!(%run, %why, "the run is left alone");
                    self.shared.versions.change(run);
                    self.shared.feed.damage(run, &why);
                }
                Action::Start(start) => self.start(*start),
                Action::Stop { run, step, attempt } => {
                    let key = (run, step, attempt);
                    self.stop(key..=key);
                }
                Action::StopAll { run } => {
                    self.stop(of_step(run, StepNo(0), StepNo(u32::MAX)));
                }
                Action::GiveSlot { slot } => self.give_unused(&slot),
                Action::LoadRun { tenant, run, later } => self.load_run(tenant, run, later),
                Action::LoadValue { tenant, digest } => self.load_value(tenant, digest),
                Action::Lost(shard) => drop(self.shared.lost.send(shard)),
            }
        }
    }

    fn publish(&self, published: &Published) {
        let run = published.run;
        self.shared.versions.change(run);
        if let Some(meter) = self.shared.meter() {
            meter.happened(published);
        }
        log(published);
        self.shared.feed.tell(run, || Live::More);
        if let Some(Event::RunCompleted { verdict, output, detail }) = published.events.last() {
            let (verdict, output, detail) = (*verdict, output.clone(), detail.clone());
            let ended = Ended { verdict, output, detail, at: published.at };
            self.shared.feed.tell_end(run, || Ok(Arc::new(ended)));
            self.shared.asked().remove(&run);
        }
    }

    fn give_unused(&self, slot: &Slot) {
        self.shared.slots.give_unused(slot);
        self.shared.send_all(|| match slot {
            Slot::Own(_) | Slot::Held(_) => Msg::Wake,
            Slot::Offered(_) => Msg::Offered(slot.clone()),
        });
    }

    /// Tells attempts to stop; one that has not begun is over at once.
    fn stop(&mut self, keys: RangeInclusive<Key>) {
        for (_, token) in self.live.range(keys.clone()) {
            token.cancel();
        }
        let held: Vec<Key> = self.held.range(keys).map(|(key, _)| *key).collect();
        for key in held {
            let Some(start) = self.held.remove(&key) else { continue };
            self.give_unused(&start.slot);
            self.shards.offer(crate::attempt::not_begun(&start));
            self.own.send(Msg::Wake).ok();
        }
    }

    /// Starts what waited for an attempt of this step to let go.
    fn start_held(&mut self, run: RunId, step: StepNo) {
        let held = self.held.range(of_step(run, step, step)).next().map(|(key, _)| *key);
        if let Some(start) = held.and_then(|key| self.held.remove(&key)) {
            self.start(start);
        }
    }

    /// Starts an attempt, unless an earlier one of the same step is still letting go: two never
    /// work side by side.
    fn start(&mut self, start: Start) {
        let key = (start.call.run, start.step, start.attempt());
        if self.live.range(of_step(key.0, key.1, key.1)).next().is_some() {
            self.held.insert(key, start);
            return;
        }
        let slot = start.slot.clone();
        let agents = self.shared.agents();
        let agents = agents.of(&start.tenant);
        let performer = agents.performer(&start.agent, start.call.definition.as_deref());
        let immediate = performer.is_some_and(|of| of.agent.is_immediate());
        let token = CancellationToken::new();
        let work = crate::attempt::perform(self.shared.clone(), start, token.clone());
        let mut work = Box::pin(work);
        // What ends at its first poll needs no task and no way there and back.
        if immediate && let Some(offer) = work.as_mut().now_or_never() {
            return self.end(&slot, offer);
        }
        self.live.insert(key, token);
        let own = self.own.clone();
        drop(self.shared.runtime.spawn(async move {
            let offer = work.await;
            own.send(Msg::Finished(key, slot, offer)).ok();
        }));
    }

    fn load_run(&self, tenant: Tenant, run: RunId, later: bool) {
        let (shared, own) = (self.shared.clone(), self.own.clone());
        drop(self.shared.runtime.spawn(async move {
            if later {
                tokio::time::sleep(TROUBLE_PAUSE).await;
            }
            let loaded = shared.reader.load(&tenant, run).await;
            own.send(Msg::Loaded(tenant, run, Box::new(loaded))).ok();
        }));
    }

    fn load_value(&self, tenant: Tenant, digest: Digest) {
        let (shared, own) = (self.shared.clone(), self.own.clone());
        drop(self.shared.runtime.spawn(async move {
            let mut value = shared.reader.value(&tenant, digest).await;
            while let Err(LoadError::Store(Error::Busy { .. } | Error::Full { .. })) = value {
                tokio::time::sleep(TROUBLE_PAUSE).await;
                value = shared.reader.value(&tenant, digest).await;
            }
            let value = value.map_err(|error| error.to_string().into());
            own.send(Msg::Value(digest, value)).ok();
        }));
    }
}
