//! The world of a seed: its clock, its journal, what is on its way, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::BitOr;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use kapelle_core::port::journal::{Error, Journal, Part, Settled};
use kapelle_core::{Digest, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use kapelle_engine::shards::{LoadError, Loaded, Offer, Ticket};
use kapelle_store::{Fate, Memory};

use super::Planted;
use super::agents::Landing;
use super::dice::Dice;
use super::hits::{Fault, Hits, Kinds};
use super::model::{Checked, Model};
use super::node::{Life, LifeRef};
use super::people::{People, Waiting};
use super::plans::Stock;
use super::queue::{Queue, When};

/// The shards of the world.
pub(super) const SHARDS: [Shard; 3] = [Shard(0), Shard(1), Shard(2)];
/// So many nodes share them.
const NODES: usize = 3;
/// So many transitions a seed has at the least.
const TRANSITIONS_MIN: u64 = 200;
/// Faults go on at least so long.
const FAULTS_MIN: i64 = 20 * SECOND;
/// And at most so long.
const FAULTS_MAX: i64 = 300 * SECOND;
/// After the last fault everything must have ended in this time.
const PATIENCE: i64 = 4 * 3600 * SECOND;
pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MS: i64 = 1_000;

/// What is on its way.
pub(super) enum Coming {
    Append(Append),
    Settled {
        life: LifeRef,
        runs: Vec<RunId>,
        result: Result<Vec<Settled>, Error>,
    },
    Load {
        life: LifeRef,
        tenant: Tenant,
        run: RunId,
    },
    Loaded {
        life: LifeRef,
        tenant: Tenant,
        run: RunId,
        result: Box<Result<Loaded, LoadError>>,
    },
    Value {
        life: LifeRef,
        tenant: Tenant,
        digest: Digest,
    },
    Offer {
        life: LifeRef,
        offer: Offer,
    },
    Attempt {
        life: LifeRef,
        attempt: u64,
    },
    Lands(Box<Landing>),
    Comes(Box<Landing>),
    People,
    Watch,
    Fault,
    Restart(usize),
    /// Somebody has mended what was found damaged.
    Mended {
        life: LifeRef,
        shard: Shard,
    },
}

/// An append on its way to the journal.
pub(super) struct Append {
    life: LifeRef,
    parts: Vec<Part>,
    /// Nobody waits for it any more.
    overdue: bool,
}

/// What a seed came to.
pub(super) struct Outcome {
    pub(super) hits: Hits,
    pub(super) trace: u64,
    pub(super) transitions: u64,
    pub(super) runs: usize,
    pub(super) crashes: u64,
    pub(super) recoveries: u64,
    pub(super) wrong: Option<String>,
}

pub(super) struct World<'a> {
    pub(super) seed: u64,
    pub(super) stock: &'a Stock,
    pub(super) now: i64,
    pub(super) dice: Dice,
    pub(super) planted: Option<Planted>,
    pub(super) journal: Memory,
    fate: Arc<Mutex<Fate>>,
    pub(super) nodes: Vec<Option<Life>>,
    pub(super) lives: u32,
    pub(super) model: Model,
    pub(super) people: People,
    pub(super) waiting: BTreeMap<Ticket, Waiting>,
    pub(super) calm: bool,
    pub(super) hits: Hits,
    pub(super) serial: u64,
    /// Attempts that were started: none is started twice.
    pub(super) started: BTreeSet<(RunId, u32, u32)>,
    coming: Queue,
    /// The shards as the journal has them.
    holdings: [(Epoch, Option<NodeId>); SHARDS.len()],
    read: [u64; SHARDS.len()],
    trace: Trace,
    print: bool,
    wrong: Option<String>,
}

/// What tells one history from another: everything that happened changes it.
#[derive(Clone, Copy, Default)]
struct Trace(u64);

impl Trace {
    const fn add(&mut self, what: u64) {
        // FNV, by words.
        self.0 = (self.0 ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

impl<'a> World<'a> {
    pub(super) fn new(seed: u64, planted: Option<Planted>, stock: &'a Stock, print: bool) -> Self {
        let mut dice = Dice::new(seed);
        let fate = Arc::new(Mutex::new(Fate::Commit));
        let asked = fate.clone();
        let journal = Memory::with_faults(Box::new(move |_| asked.lock().unwrap().clone()));
        let nodes = (0..NODES).map(|_| None).collect();
        let mut world = Self {
            seed,
            now: 0,
            planted,
            journal,
            fate,
            stock,
            nodes,
            lives: 0,
            model: Model::default(),
            people: People::new(&mut dice, stock),
            waiting: BTreeMap::new(),
            calm: false,
            hits: Hits::default(),
            serial: 0,
            started: BTreeSet::new(),
            coming: Queue::default(),
            holdings: Default::default(),
            read: Default::default(),
            trace: Trace::default(),
            print,
            wrong: None,
            dice,
        };
        for node in 0..world.nodes.len() {
            world.later(0, Coming::Restart(node));
        }
        world.later(MS, Coming::Watch);
        world.later(10 * MS, Coming::People);
        world.later(SECOND, Coming::Fault);
        world
    }

    /// Lives through the seed to its end.
    pub(super) fn live(mut self) -> Outcome {
        let mut calm_since = 0;
        while self.wrong.is_none() {
            if !self.go() {
                break;
            }
            if !self.calm && self.may_calm() {
                (self.calm, calm_since) = (true, self.now);
                self.note(|| "calm".into());
            }
            if self.calm && self.is_over() {
                break;
            }
            if self.calm && self.now > calm_since + PATIENCE {
                let open = self.model.runs.iter().filter(|(_, run)| !run.ended);
                let open: Vec<_> = open
                    .map(|(id, run)| {
                        (id, run.state.as_ref().map(|run| (run.status(), run.wants())))
                    })
                    .collect();
                let keys: Vec<_> = self.people.unanswered().collect();
                self.wrong = Some(format!(
                    "not everything ends: keys {keys:?}, runs {open:?}, nodes {:?}",
                    self.nodes.iter().flatten().map(Life::state).collect::<Vec<_>>()
                ));
            }
        }
        if self.wrong.is_none() {
            let rest = self.check_rest();
            self.check(rest);
        }
        self.trace.add(self.dice.next());
        Outcome {
            hits: self.hits,
            trace: self.trace.0,
            transitions: self.model.transitions,
            runs: self.model.runs.len(),
            crashes: self.people.crashed,
            recoveries: self.people.crashed_in_recovery,
            wrong: self.wrong.map(|wrong| format!("seed {}: {wrong}", self.seed)),
        }
    }

    /// Has happen what comes next: a turn of a node, or what is on its way.
    fn go(&mut self) -> bool {
        let turn = self.nodes.iter().flatten().filter_map(|life| Some((life.turn_at?, life.at)));
        let next =
            turn.min().filter(|(when, _)| self.coming.next().is_none_or(|next| *when < next));
        let coming = if next.is_some() { None } else { self.coming.pop() };
        let Some(when) = next.map(|(when, _)| when).or(coming.as_ref().map(|(when, _)| *when))
        else {
            return false;
        };
        self.now = when.0;
        self.trace.add(when.0.unsigned_abs());
        self.trace.add(when.1);
        match (next, coming) {
            (Some((_, of)), _) => self.turn(of),
            (None, coming) => coming.into_iter().for_each(|(_, coming)| self.happen(coming)),
        }
        true
    }

    fn may_calm(&self) -> bool {
        let long = self.now > FAULTS_MAX
            || (self.now > FAULTS_MIN && self.model.transitions > TRANSITIONS_MIN / 2);
        long && self.people.crashed > 0 && !self.lacks_recovery()
    }

    /// One seed in four has a crash in the middle of a recovery.
    pub(super) const fn lacks_recovery(&self) -> bool {
        self.seed.is_multiple_of(4) && self.people.crashed_in_recovery == 0
    }

    fn is_over(&self) -> bool {
        let quiet =
            |coming: &Coming| matches!(coming, Coming::People | Coming::Watch | Coming::Fault);
        self.model.transitions >= TRANSITIONS_MIN
            && self.model.runs.len() >= 3
            && self.model.runs.values().all(|run| run.ended)
            && self.nodes.iter().all(|life| life.as_ref().is_some_and(Life::is_idle))
            && self.people.all_answered()
            && self.coming.all().all(|(_, coming)| quiet(coming))
    }

    fn happen(&mut self, coming: Coming) {
        match coming {
            Coming::Append(append) => self.append(append),
            Coming::Settled { life, runs, result } => self.settled(life, &runs, result),
            Coming::Load { life, tenant, run } => self.load(life, tenant, run),
            Coming::Loaded { life, tenant, run, result } => self.loaded(life, tenant, run, *result),
            Coming::Value { life, tenant, digest } => self.value(life, &tenant, digest),
            Coming::Offer { life, offer } => self.arrive(life, offer),
            Coming::Attempt { life, attempt } => self.go_on(life, attempt),
            Coming::Lands(landing) => self.lands(landing),
            Coming::Comes(landing) => self.comes(*landing),
            Coming::People => self.people_act(),
            Coming::Watch => self.watch(),
            Coming::Fault => self.fault(),
            Coming::Restart(node) => self.restart(node),
            Coming::Mended { life, shard } => self.release(life, shard),
        }
    }

    pub(super) fn later(&mut self, after: i64, coming: Coming) {
        self.serial += 1;
        self.coming.push((self.now + after, self.serial), coming);
    }

    pub(super) fn check(&mut self, checked: Checked) {
        if let Err(wrong) = checked {
            self.note(|| format!("WRONG: {wrong}"));
            self.wrong.get_or_insert(wrong);
        }
    }

    #[expect(clippy::print_stdout, reason = "a seed by itself is run to be read")]
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        if self.print {
            println!("{:>12.6} {}", self.now as f64 / 1e6, line());
        }
    }

    /// The last transitions of a run.
    pub(super) fn last_of(&self, run: RunId) -> Kinds {
        self.model.runs.get(&run).map_or_else(Kinds::default, |run| run.last)
    }

    /// The last transitions of the runs whose shard is among `shards`.
    pub(super) fn last_in(&self, shards: impl Fn(Shard) -> bool) -> Kinds {
        let runs = self.model.runs.iter().filter(|(id, _)| shards(id.shard()));
        runs.map(|(_, run)| run.last).fold(Kinds::default(), BitOr::bitor)
    }

    /// An append leaves its node.
    pub(super) fn send_append(&mut self, life: LifeRef, parts: Vec<Part>, after: i64) {
        self.later(after, Coming::Append(Append { life, parts, overdue: false }));
    }

    /// An append reaches the journal.
    fn append(&mut self, append: Append) {
        if !append.overdue && !self.calm && self.dice.chance(2) {
            return self.delay(append);
        }
        let Append { life, mut parts, overdue } = append;
        if self.planted == Some(Planted::NoEpochs) {
            self.forge(&mut parts);
        }
        let (fault, fate) = self.roll_fate(life, &parts);
        if let Some((fault, kinds)) = fault {
            self.hits.add(fault, kinds.unwrap_or(Kinds::in_append(&parts)));
        }
        let injected = matches!(fate, Fate::Refuse(_));
        if !injected && parts.iter().any(|part| part.epoch != self.holding(part.shard).0) {
            self.hits.add(Fault::Stale, Kinds::in_append(&parts));
        }
        *self.fate.lock().unwrap() = fate;
        let runs: Vec<RunId> =
            parts.iter().flat_map(|part| &part.runs).map(|run| run.entry.run).collect();
        let shards: Vec<Shard> = parts.iter().map(|part| part.shard).collect();
        let told = Arc::new(Mutex::new(None));
        let tell = told.clone();
        self.journal.append(parts, Box::new(move |result| *tell.lock().unwrap() = Some(result)));
        let result = told.lock().unwrap().take().expect("memory settles at once");
        if let Err(Error::Corrupt { .. }) = &result
            && !injected
        {
            self.check(Err(format!("an append does not continue the journal: {result:?}")));
        }
        self.note(|| format!("{life} append of {runs:?}: {result:?}"));
        shards.into_iter().for_each(|shard| self.read_on(shard, life.life));
        if overdue {
            return;
        }
        let after = self.dice.range(0, 3 * MS);
        self.settle(after, life, runs, result);
    }

    /// A node hears how its append went, not before it has heard of those it sent earlier.
    fn settle(
        &mut self,
        after: i64,
        life: LifeRef,
        runs: Vec<RunId>,
        result: Result<Vec<Settled>, Error>,
    ) {
        let now = self.now;
        let Some(of) = self.life(life) else { return };
        of.settles = of.settles.max(now + after);
        let after = of.settles - now;
        self.later(after, Coming::Settled { life, runs, result });
    }

    /// The connection breaks, but the append is still on its way.
    fn delay(&mut self, mut append: Append) {
        self.hits.add(Fault::UnknownLate, Kinds::in_append(&append.parts));
        let result = Err(Error::Unknown { message: "the connection broke".into() });
        self.settle(0, append.life, Vec::new(), result);
        append.overdue = true;
        let after = self.dice.range(MS, SECOND);
        self.later(after, Coming::Append(append));
    }

    /// What becomes of an append, and what that hits if not all that is in it.
    fn roll_fate(
        &mut self,
        life: LifeRef,
        parts: &[Part],
    ) -> (Option<(Fault, Option<Kinds>)>, Fate) {
        let file = || "sim".into();
        let fate = match self.dice.below(100) {
            _ if self.calm => return (None, Fate::Commit),
            0..3 => (Fault::Full, Fate::Refuse(Error::Full { file: file() })),
            3..5 => (Fault::Busy, Fate::Refuse(Error::Busy { file: file() })),
            5..7 => (Fault::UnknownDone, Fate::UnknownCommitted),
            7..9 => (Fault::UnknownLost, Fate::UnknownLost),
            9 => return self.find_damage(life, parts),
            _ => return (None, Fate::Commit),
        };
        (Some((fate.0, None)), fate.1)
    }

    /// The journal of one run in the append turns out to be damaged.
    fn find_damage(
        &mut self,
        life: LifeRef,
        parts: &[Part],
    ) -> (Option<(Fault, Option<Kinds>)>, Fate) {
        let known: Vec<_> = parts
            .iter()
            .flat_map(|part| &part.runs)
            .map(|addition| &addition.entry)
            .filter(|entry| entry.first_seq > 1)
            .collect();
        let Some(entry) = self.dice.pick(&known) else { return (None, Fate::Commit) };
        let (run, seq) = (entry.run, entry.first_seq - 1);
        self.rots(life, run);
        let kinds = Kinds::in_body(&entry.body);
        let error = Error::Corrupt { run, seq, message: "a hash does not match".into() };
        (Some((Fault::Corrupt, Some(kinds))), Fate::Refuse(error))
    }

    /// Makes an append that an old owner sent look like one of the new owner (a planted bug).
    fn forge(&self, parts: &mut [Part]) {
        for part in parts {
            let epoch = self.holding(part.shard).0;
            part.epoch = epoch;
            for run in &mut part.runs {
                let mut hash = [0; 32];
                for known in self.entries(&run.entry.tenant, run.entry.run) {
                    hash = known.hash;
                }
                run.entry.epoch = epoch;
                run.entry.hash = run.entry.chained(&hash);
            }
        }
    }

    pub(super) fn entries(
        &self,
        tenant: &Tenant,
        run: RunId,
    ) -> Vec<kapelle_core::port::journal::Entry> {
        self.journal.read(tenant, run, 1).now_or_never().unwrap().unwrap()
    }

    /// The epoch of a shard, and its owner.
    pub(super) const fn holding(&self, shard: Shard) -> &(Epoch, Option<NodeId>) {
        &self.holdings[shard.0 as usize]
    }

    /// Has a shard claimed; the new epoch if that went well.
    pub(super) fn claim_shard(&mut self, shard: Shard, seen: Epoch, by: &NodeId) -> Option<Epoch> {
        let won = self.journal.claim(&[(shard, seen)], by).now_or_never().unwrap().unwrap();
        let (_, epoch) = *won.first()?;
        self.holdings[shard.0 as usize] = (epoch, Some(by.clone()));
        Some(epoch)
    }

    pub(super) fn release_shard(&mut self, shard: Shard, epoch: Epoch) {
        self.journal.release(&[(shard, epoch)]).now_or_never().unwrap().unwrap();
        self.look_at_shards();
    }

    fn look_at_shards(&mut self) {
        let holdings = self.journal.shards().now_or_never().unwrap().unwrap();
        for (known, holding) in self.holdings.iter_mut().zip(holdings) {
            *known = (holding.epoch, holding.owner);
        }
    }

    /// Shows the model what is new in the journal.
    fn read_on(&mut self, shard: Shard, writer: u32) {
        let after = self.read[shard.0 as usize];
        let entries = self.journal.tail(shard, after, 1000).now_or_never().unwrap().unwrap();
        for (pos, entry) in entries {
            self.read[shard.0 as usize] = pos;
            self.trace.add(u64::from_le_bytes(*entry.hash.first_chunk().unwrap()));
            let checked = self.model.entry(&entry, writer, self.stock);
            self.check(checked);
        }
    }

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000 + self.now)
    }

    /// What must hold when everything has come to rest.
    fn check_rest(&mut self) -> Checked {
        if let Some((ticket, waiting)) = self.waiting.first_key_value() {
            return Err(format!("{ticket:?} was never answered: {waiting:?}"));
        }
        self.people.check(&self.model)?;
        for life in self.nodes.iter().flatten() {
            life.check_rest()?;
        }
        Ok(())
    }

    /// The append that a node has sent and that has not arrived: when it would, and what is in it.
    pub(super) fn sent_append(&self, of: LifeRef) -> Option<(When, Kinds)> {
        let sent = self.coming.all().filter_map(|(when, coming)| match coming {
            Coming::Append(append) if append.life == of => Some((when, append)),
            _ => None,
        });
        let (when, append) = sent.min_by_key(|(when, _)| *when)?;
        Some((when, Kinds::in_append(&append.parts)))
    }

    /// What was on its way is lost.
    pub(super) fn take_back(&mut self, when: When) {
        self.coming.take_back(when);
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { transitions, runs, crashes, .. } = self;
        write!(f, "{runs} runs, {transitions} transitions, {crashes} crashes")
    }
}
