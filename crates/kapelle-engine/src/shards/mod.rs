//! The runs of a loop, without I/O: commands go in, appends and actions come out.
//!
//! **Invariants:** nothing leaves before its commit: no answer, no event, no start of an attempt;
//! a few appends are under way, of different runs, and settled in order; what was refused is
//! forgotten and decided again on what the journal has. There is no clock, thread or store here:
//! the shell (`crate::shell`) and the simulation drive it.

mod hosted;
mod load;
mod settle;
mod turn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kapelle_core::port::agent::Heard;
use kapelle_core::port::journal::{Part, SubmitKey, Twin};
use kapelle_core::run::{Command, Compiled, Created, Event, Forked, Refusal, Run, Takeover};
use kapelle_core::{Attempt, Digest, Epoch, Payload, RunId, Shard, StepNo, Tenant, Timestamp};

use hosted::Hosted;
pub(crate) use hosted::Of;
pub use hosted::Start;
pub use load::{Fold, LoadError, Loaded};
pub use turn::{Outside, sleep};

use crate::meter::Load;
use crate::slots::Slot;
use crate::values::Cache;

/// Names a waiting client: its answer carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What comes in.
#[derive(Debug)]
pub enum Offer {
    /// A new run.
    Submit(Box<Submission>),
    /// A command for a run.
    Tell(Box<Tell>),
    /// This node is to work on the run from here on.
    Work {
        /// Whose it is.
        tenant: Tenant,
        /// Which run.
        run: RunId,
        /// What is known of the node before.
        takeover: Takeover,
        /// Who waits for it.
        ticket: Option<Ticket>,
    },
    /// Somebody wants to know what a step was told.
    Mail {
        /// Whose it is.
        tenant: Tenant,
        /// Which run.
        run: RunId,
        /// Which step.
        step: StepNo,
        /// After this message.
        after: u32,
        /// Who.
        ticket: Ticket,
    },
}

/// A new run.
#[derive(Debug)]
pub struct Submission {
    /// Its id, in a shard of this loop.
    pub run: RunId,
    /// Whose it is.
    pub tenant: Tenant,
    /// Its first event.
    pub created: Created,
    /// What `created.plan` holds.
    pub plan: Arc<Compiled>,
    /// What it takes over of another run.
    pub forked: Option<Box<Forked>>,
    /// What `created` and `forked` refer to.
    pub payloads: Vec<Payload>,
    /// What they refer to and that is known already.
    pub references: Vec<(Digest, u64)>,
    /// What makes it idempotent.
    pub key: Option<SubmitKey>,
    /// An entry of the audit log, to be committed with the run.
    pub note: Option<Box<str>>,
    /// Who waits for it.
    pub ticket: Ticket,
}

/// A command for a run.
#[derive(Debug)]
pub struct Tell {
    /// Whose it is.
    pub tenant: Tenant,
    /// Which run.
    pub run: RunId,
    /// What is wanted.
    pub command: Command,
    /// The payloads that the command refers to.
    pub payloads: Vec<Payload>,
    /// The payloads that it refers to and that are files already.
    pub references: Vec<(Digest, u64)>,
    /// Who waits for the answer; `None`: nobody.
    pub ticket: Option<Ticket>,
}

/// What came of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is on disk; the run's last event then had this number.
    Done {
        /// The number.
        seq: u64,
    },
    /// It is on disk that the step was told this.
    Mail(Vec<Heard>),
    /// The submit key was used before: here is its run.
    Twin(Twin),
    /// The domain says no.
    Refused(Refusal),
    /// This loop does not own the run's shard (any more).
    NotOwner,
    /// There is no such run.
    NotFound,
    /// The store did not take it; it may be tried again.
    Store(StoreError),
    /// The run's journal is damaged.
    Damaged(Arc<str>),
}

/// A store's error that can be compared and told.
#[derive(Clone, Debug)]
pub struct StoreError(pub kapelle_core::port::journal::Error);

impl PartialEq for StoreError {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for StoreError {}

/// What the shell is to do.
#[derive(Debug)]
pub enum Action {
    /// Answer a client.
    Reply(Ticket, Reply),
    /// Tell who watches: these events are on disk.
    Publish(Published),
    /// Start an attempt.
    Start(Box<Start>),
    /// An attempt is not wanted any more.
    Stop {
        /// Of which run.
        run: RunId,
        /// Of which step.
        step: StepNo,
        /// Which attempt.
        attempt: Attempt,
    },
    /// No attempt of this run is wanted here any more.
    StopAll {
        /// Which run.
        run: RunId,
    },
    /// Give back a slot that was taken for an attempt that will not start.
    GiveSlot {
        /// Which.
        slot: Slot,
    },
    /// Read a run, then call [`Shards::loaded`].
    LoadRun {
        /// Whose it is.
        tenant: Tenant,
        /// Which run.
        run: RunId,
        /// The store was in trouble: give it a moment first.
        later: bool,
    },
    /// Read a payload, then call [`Shards::value_loaded`].
    LoadValue {
        /// Whose it is.
        tenant: Tenant,
        /// Which payload.
        digest: Digest,
    },
    /// The run cannot be read: tell who watches it.
    Damaged {
        /// Which run.
        run: RunId,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// The shard has another owner now, or its last append is unknown: claim it anew to go on.
    Lost(Shard),
}

/// Events of one run that are on disk.
#[derive(Clone, Debug)]
pub struct Published {
    /// Which run.
    pub run: RunId,
    /// The number of the first.
    pub first_seq: u64,
    /// When they happened.
    pub at: Timestamp,
    /// What happened.
    pub events: Vec<Event>,
}

/// A run that waits for an agent, or for those who do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Which run.
    pub run: RunId,
    /// For whom.
    pub agent: Box<str>,
    /// Since when.
    pub since: Timestamp,
    /// Whether there is such an agent, and only nobody who does its work.
    pub is_there: bool,
}

/// What a turn came to.
#[derive(Debug, Default)]
pub struct Turned {
    /// To be appended, after those before it; then call [`Shards::settled`], in the same order.
    pub append: Option<Vec<Part>>,
    /// To be done now.
    pub actions: Vec<Action>,
}

/// How many appends are under way at the most, each of other runs: while one is being written, the
/// next ones wait at the store, not here. With 50 runs at a time four are a quarter faster than two.
const FLIGHTS_MAX: usize = 4;

/// The runs of a loop.
pub struct Shards {
    epochs: BTreeMap<Shard, Epoch>,
    runs: BTreeMap<RunId, Place>,
    queue: VecDeque<Offer>,
    /// Runs that may have something to begin.
    hungry: VecDeque<RunId>,
    is_hungry: BTreeSet<RunId>,
    /// Hungry runs that found no slot.
    starved: VecDeque<RunId>,
    is_starved: BTreeSet<RunId>,
    /// When something can be asked for again that was refused until then: an agent that is left alone,
    /// or the place of a suspect.
    next_ask: Option<Timestamp>,
    /// Runs that begin something once somebody offers to do it, in the order in which they came.
    awaited: BTreeSet<(Slot, u64, RunId)>,
    next_in_line: u64,
    /// Somebody has offered to do these since the last turn.
    offered: BTreeSet<Slot>,
    timers: BTreeSet<(Timestamp, RunId)>,
    /// Who waits for a value.
    loading: BTreeMap<Digest, BTreeSet<(RunId, Option<StepNo>)>>,
    values: Cache,
    /// Runs with something staged and nothing under way.
    touched: BTreeSet<RunId>,
    answers: Vec<Answer>,
    /// The appends that are under way, oldest first.
    in_flight: VecDeque<settle::Flight>,
    /// Runs that lost to an older one with their key, until all who wait for them are told.
    left_out: BTreeMap<RunId, Reply>,
    /// Nothing new is begun here.
    resting: bool,
    /// Runs that are read again after a refusal: how they were.
    reloading: BTreeMap<RunId, Reloading>,
    /// Runs that are being read; `true`: what comes was read for an owner that is no more.
    reading: BTreeMap<RunId, bool>,
    actions: Vec<Action>,
}

/// How a run was before it was read again.
#[derive(Clone, Copy, Debug, Default)]
struct Reloading {
    working: bool,
    adopting: Option<Takeover>,
}

impl Shards {
    /// What there is now; attempts are the shell's.
    #[must_use]
    pub fn load(&self) -> Load {
        let is_open =
            |place: &&Place| matches!(place, Place::Here(hosted) if hosted.run.ended().is_none());
        Load {
            runs: self.runs.values().filter(is_open).count(),
            queued: self.queue.len(),
            hungry: self.hungry.len() + self.starved.len(),
            attempts: 0,
            appends: self.in_flight.len(),
        }
    }
}

/// Where a run is.
enum Place {
    /// On its way from the journal; what was offered meanwhile.
    Loading(Vec<Offer>),
    /// In memory.
    Here(Box<Hosted>),
    /// Not to be touched: its journal is damaged.
    Damaged(Arc<str>),
}

/// An answer that waits for a commit, and what to offer again if the commit is refused.
struct Answer {
    run: RunId,
    ticket: Option<Ticket>,
    reply: Reply,
    again: Option<Box<Tell>>,
}

impl Shards {
    /// No shards yet. `values_max` bytes of values are kept at hand.
    #[must_use]
    pub fn new(values_max: u64) -> Self {
        Self {
            epochs: BTreeMap::new(),
            runs: BTreeMap::new(),
            queue: VecDeque::new(),
            hungry: VecDeque::new(),
            is_hungry: BTreeSet::new(),
            starved: VecDeque::new(),
            is_starved: BTreeSet::new(),
            next_ask: None,
            awaited: BTreeSet::new(),
            next_in_line: 0,
            offered: BTreeSet::new(),
            timers: BTreeSet::new(),
            loading: BTreeMap::new(),
            values: Cache::new(values_max),
            touched: BTreeSet::new(),
            answers: Vec::new(),
            in_flight: VecDeque::new(),
            left_out: BTreeMap::new(),
            resting: false,
            reloading: BTreeMap::new(),
            reading: BTreeMap::new(),
            actions: Vec::new(),
        }
    }

    /// Takes a shard over: this loop is its writer under `epoch`.
    pub fn own(&mut self, shard: Shard, epoch: Epoch) {
        self.epochs.insert(shard, epoch);
    }

    /// The shards it owns.
    pub fn owned(&self) -> impl Iterator<Item = (Shard, Epoch)> + '_ {
        self.epochs.iter().map(|(shard, epoch)| (*shard, *epoch))
    }

    /// Takes an offer; it is dealt with in the next turn.
    pub fn offer(&mut self, offer: Offer) {
        self.queue.push_back(offer);
    }

    /// Somebody offers to do what `slot` says; what waits for that begins in the next turn.
    pub fn offered(&mut self, slot: Slot) {
        if !self.resting {
            self.offered.insert(slot);
        }
    }

    /// Begins nothing any more; what goes on is seen to its end.
    pub fn rest(&mut self) {
        self.resting = true;
        self.offered.clear();
    }

    /// Whether an append is under way.
    #[must_use]
    pub fn is_appending(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether a turn would find something to do at once.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
            || !self.hungry.is_empty()
            || !self.offered.is_empty()
            || (self.may_append() && !self.touched.is_empty())
    }

    fn may_append(&self) -> bool {
        self.in_flight.len() < FLIGHTS_MAX
    }

    /// Has what is staged for a run gathered, once what is under way of it is settled.
    fn mark(&mut self, run: RunId) {
        let ready = |hosted: &mut Hosted| !hosted.in_flight && !hosted.staged.events.is_empty();
        if self.here(run).is_some_and(ready) {
            self.touched.insert(run);
        }
    }

    /// When time alone makes a turn necessary.
    #[must_use]
    pub fn next_timer(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.next_ask).min()
    }

    /// How many runs are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether no run is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// A run in memory, if all of it is on disk.
    #[must_use]
    pub fn run(&self, run: RunId) -> Option<&Run> {
        match self.runs.get(&run) {
            Some(Place::Here(hosted)) if hosted.is_settled() => Some(&hosted.run),
            _ => None,
        }
    }

    fn here(&mut self, run: RunId) -> Option<&mut Hosted> {
        match self.runs.get_mut(&run) {
            Some(Place::Here(hosted)) => Some(hosted),
            _ => None,
        }
    }

    fn make_hungry(&mut self, run: RunId) {
        if self.is_hungry.insert(run) {
            self.hungry.push_back(run);
        }
    }

    fn reply(&mut self, ticket: Option<Ticket>, reply: Reply) {
        if let Some(ticket) = ticket {
            self.actions.push(Action::Reply(ticket, reply));
        }
    }

    /// Has a run read: once at a time, and never as it was before its shard was claimed.
    fn read(&mut self, tenant: Tenant, run: RunId, later: bool) {
        if let std::collections::btree_map::Entry::Vacant(free) = self.reading.entry(run) {
            free.insert(false);
            self.actions.push(Action::LoadRun { tenant, run, later });
        }
    }

    /// Takes a run out of memory with all that points to it.
    fn forget(&mut self, run: RunId) {
        self.reloading.remove(&run);
        if let Some(outdated) = self.reading.get_mut(&run) {
            *outdated = true;
        }
        if let Some(Place::Here(hosted)) = self.runs.remove(&run) {
            if let Some(at) = hosted.noted_timer {
                self.timers.remove(&(at, run));
            }
            for (slot, (place, _)) in hosted.awaited {
                self.awaited.remove(&(slot, place, run));
            }
        }
        self.touched.remove(&run);
    }
}
