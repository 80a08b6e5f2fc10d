//! The world of a seed: its clock, its journal, what is on its way, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use kapelle_core::port::Agents;
use kapelle_core::port::journal::{Error, Journal, Part, Settled};
use kapelle_core::{Digest, Digester, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use kapelle_engine::shards::{LoadError, Loaded, Offer, Ticket};
use kapelle_store::{Fate, Memory};

use super::Planted;
use super::agents::Landing;
use super::dice::Dice;
use super::model::{Checked, Model, kind};
use super::node::{Life, LifeRef};
use super::people::{People, Waiting};

/// The shards of the world.
pub(super) const SHARDS: [Shard; 3] = [Shard(0), Shard(1), Shard(2)];
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
#[expect(clippy::large_enum_variant, reason = "a few dozen at a time")]
pub(super) enum Coming {
    Turn(LifeRef),
    Append { life: LifeRef, parts: Vec<Part>, overdue: bool },
    Settled { life: LifeRef, result: Result<Vec<Settled>, Error> },
    Load { life: LifeRef, tenant: Tenant, run: RunId },
    Loaded { life: LifeRef, tenant: Tenant, run: RunId, result: Result<Loaded, LoadError> },
    Value { life: LifeRef, tenant: Tenant, digest: Digest },
    Offer { life: LifeRef, offer: Offer },
    Attempt { life: LifeRef, attempt: u64 },
    Lands(Box<Landing>),
    Comes(Box<Landing>),
    People,
    Watch,
    Fault,
    Restart(usize),
}

/// How often each fault met each transition.
pub(super) type Hits = BTreeMap<(&'static str, &'static str), u64>;

/// What a seed came to.
pub(super) struct Outcome {
    pub(super) hits: Hits,
    pub(super) trace: Digest,
    pub(super) transitions: u64,
    pub(super) runs: usize,
    pub(super) wrong: Option<String>,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) now: i64,
    pub(super) dice: Dice,
    pub(super) planted: Option<Planted>,
    pub(super) journal: Memory,
    fate: Arc<Mutex<Fate>>,
    pub(super) agents: Agents,
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
    coming: BTreeMap<(i64, u64), Coming>,
    read: BTreeMap<Shard, u64>,
    trace: Digester,
    print: bool,
    wrong: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, planted: Option<Planted>, agents: &Agents, print: bool) -> Self {
        let mut dice = Dice::new(seed);
        let fate = Arc::new(Mutex::new(Fate::Commit));
        let asked = fate.clone();
        let journal = Memory::with_faults(Box::new(move |_| asked.lock().unwrap().clone()));
        let nodes = (0..2 + dice.below(2)).map(|_| None).collect();
        let mut world = Self {
            seed,
            now: 0,
            planted,
            journal,
            fate,
            agents: agents.clone(),
            nodes,
            lives: 0,
            model: Model::default(),
            people: People::new(&mut dice),
            waiting: BTreeMap::new(),
            calm: false,
            hits: Hits::new(),
            serial: 0,
            started: BTreeSet::new(),
            coming: BTreeMap::new(),
            read: BTreeMap::new(),
            trace: Digester::default(),
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
            let Some((&(at, serial), _)) = self.coming.first_key_value() else { break };
            let coming = self.coming.remove(&(at, serial)).unwrap();
            self.now = at;
            self.happen(coming);
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
                    .map(|(id, run)| (id, run.fold.run().map(|run| (run.status(), run.wants()))))
                    .collect();
                let keys = self.people.unanswered();
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
        let hashes = format!("{}", self.model.transitions);
        self.trace.update(hashes.as_bytes());
        Outcome {
            hits: self.hits,
            trace: self.trace.finish(),
            transitions: self.model.transitions,
            runs: self.model.runs.len(),
            wrong: self.wrong.map(|wrong| format!("seed {}: {wrong}", self.seed)),
        }
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
        let idle = self.nodes.iter().flatten().all(Life::is_idle);
        let quiet = |coming: &Coming| {
            use Coming::{Fault, People, Turn, Watch};
            matches!(coming, Turn(_) | People | Watch | Fault)
        };
        idle && self.coming.values().all(quiet)
            && self.model.runs.values().all(|run| run.ended)
            && self.people.unanswered().is_empty()
            && self.model.runs.len() >= 3
            && self.model.transitions >= TRANSITIONS_MIN
            && self.nodes.iter().all(Option::is_some)
    }

    fn happen(&mut self, coming: Coming) {
        match coming {
            Coming::Turn(life) => self.turn(life),
            Coming::Append { life, parts, overdue } => self.append(life, parts, overdue),
            Coming::Settled { life, result } => self.settled(life, result),
            Coming::Load { life, tenant, run } => self.load(life, tenant, run),
            Coming::Loaded { life, tenant, run, result } => self.loaded(life, tenant, run, result),
            Coming::Value { life, tenant, digest } => self.value(life, &tenant, digest),
            Coming::Offer { life, offer } => self.arrive(life, offer),
            Coming::Attempt { life, attempt } => self.go_on(life, attempt),
            Coming::Lands(landing) => self.lands(landing),
            Coming::Comes(landing) => self.comes(*landing),
            Coming::People => self.people_act(),
            Coming::Watch => self.watch(),
            Coming::Fault => self.fault(),
            Coming::Restart(node) => self.restart(node),
        }
    }

    pub(super) fn later(&mut self, after: i64, coming: Coming) {
        self.serial += 1;
        self.coming.insert((self.now + after, self.serial), coming);
    }

    pub(super) fn check(&mut self, checked: Checked) {
        if let Err(wrong) = checked {
            self.note(|| format!("WRONG: {wrong}"));
            self.wrong.get_or_insert(wrong);
        }
    }

    #[expect(clippy::print_stdout, reason = "a seed by itself is run to be read")]
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let line = line();
        self.trace.update(line.as_bytes());
        if self.print {
            println!("{:>12.6} {line}", self.now as f64 / 1e6);
        }
    }

    pub(super) fn hit(&mut self, fault: &'static str, transitions: &BTreeSet<&'static str>) {
        if transitions.is_empty() {
            *self.hits.entry((fault, "none")).or_default() += 1;
        }
        for transition in transitions {
            *self.hits.entry((fault, transition)).or_default() += 1;
        }
    }

    /// The transitions in an append.
    pub(super) fn kinds(parts: &[Part]) -> BTreeSet<&'static str> {
        let bodies = parts.iter().flat_map(|part| &part.runs).map(|run| &run.entry.body);
        let events = bodies.flat_map(|body| {
            serde_json::from_slice::<Vec<kapelle_core::run::Event>>(body).unwrap_or_default()
        });
        events.map(|event| kind(&event)).collect()
    }

    /// The last transition of the runs of `shard`, or of all.
    pub(super) fn last_kind(&self, run: Option<RunId>) -> BTreeSet<&'static str> {
        let runs = self.model.runs.iter().filter(|(id, _)| run.is_none_or(|run| **id == run));
        let last = runs.filter_map(|(_, run)| run.events.last()).map(kind);
        last.collect()
    }

    /// An append reaches the journal.
    fn append(&mut self, life: LifeRef, mut parts: Vec<Part>, overdue: bool) {
        if !overdue && !self.calm && self.dice.chance(2) {
            return self.delay(life, parts);
        }
        if self.planted == Some(Planted::NoEpochs) {
            self.forge(&mut parts);
        }
        let (name, fate) = self.roll_fate();
        if let Some(name) = name {
            let kinds = Self::kinds(&parts);
            self.hit(name, &kinds);
        }
        *self.fate.lock().unwrap() = fate;
        let kinds = Self::kinds(&parts);
        let told = Arc::new(Mutex::new(None));
        let tell = told.clone();
        self.journal.append(parts, Box::new(move |result| *tell.lock().unwrap() = Some(result)));
        let result = told.lock().unwrap().take().expect("memory settles at once");
        if let Ok(settled) = &result
            && settled.contains(&Settled::Stale)
        {
            self.hit("stale", &kinds);
        }
        if let Err(Error::Corrupt { .. }) = &result {
            self.check(Err(format!("an append does not continue the journal: {result:?}")));
        }
        self.note(|| format!("{life} append {kinds:?}: {result:?}"));
        self.read_on(life.life);
        if overdue {
            return;
        }
        let after = self.dice.range(0, 3 * MS);
        self.later(after, Coming::Settled { life, result });
    }

    /// The connection breaks, but the append is still on its way.
    fn delay(&mut self, life: LifeRef, parts: Vec<Part>) {
        let kinds = Self::kinds(&parts);
        self.hit("unknown_late", &kinds);
        let result = Err(Error::Unknown { message: "the connection broke".into() });
        self.later(0, Coming::Settled { life, result });
        let after = self.dice.range(MS, SECOND);
        self.later(after, Coming::Append { life, parts, overdue: true });
    }

    fn roll_fate(&mut self) -> (Option<&'static str>, Fate) {
        let file: Arc<str> = "sim".into();
        match self.dice.below(100) {
            _ if self.calm => (None, Fate::Commit),
            0..3 => (Some("full"), Fate::Refuse(Error::Full { file })),
            3..5 => (Some("busy"), Fate::Refuse(Error::Busy { file })),
            5..7 => (Some("unknown_done"), Fate::UnknownCommitted),
            7..9 => (Some("unknown_lost"), Fate::UnknownLost),
            _ => (None, Fate::Commit),
        }
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
    pub(super) fn holding(&self, shard: Shard) -> (Epoch, Option<NodeId>) {
        let holdings = self.journal.shards().now_or_never().unwrap().unwrap();
        let holding = holdings.into_iter().find(|holding| holding.shard == shard).unwrap();
        (holding.epoch, holding.owner)
    }

    /// Shows the model what is new in the journal.
    fn read_on(&mut self, writer: u32) {
        for shard in SHARDS {
            let after = self.read.get(&shard).copied().unwrap_or(0);
            let entries = self.journal.tail(shard, after, 1000).now_or_never().unwrap().unwrap();
            for (pos, entry) in entries {
                self.read.insert(shard, pos);
                self.trace.update(&entry.hash);
                let checked = self.model.entry(&entry, writer);
                self.check(checked);
            }
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
    pub(super) fn sent_append(&self, of: LifeRef) -> Option<((i64, u64), BTreeSet<&'static str>)> {
        self.coming.iter().find_map(|(at, coming)| match coming {
            Coming::Append { life, parts, .. } if *life == of => Some((*at, Self::kinds(parts))),
            _ => None,
        })
    }

    /// What was on its way is lost.
    pub(super) fn take_back(&mut self, at: (i64, u64)) {
        self.coming.remove(&at);
    }
}
