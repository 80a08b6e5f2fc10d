//! A node: the shell around `Shards`, without threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use kapelle_core::port::journal::{Entry, Error, Journal, Part, Settled};
use kapelle_core::run::{Command, Takeover};
use kapelle_core::{Digest, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use kapelle_engine::shards::{Action, Fold, LoadError, Loaded, Offer, Outside, Shards, Ticket};
use kapelle_engine::{Slots, Taken};

use super::Planted;
use super::agents::Live;
use super::hits::Fault;
use super::model::{Checked, RunModel};
use super::people::Waiting;
use super::plans::NARROW;
use super::queue::When;
use super::world::{Coming, MS, SECOND, SHARDS, World};

/// The life of a node from its start to its crash.
pub(super) struct Life {
    pub(super) at: LifeRef,
    pub(super) id: NodeId,
    pub(super) shards: Shards,
    pub(super) slots: Slots,
    slots_max: u32,
    /// Its clock minus the world's.
    offset: i64,
    pub(super) attempts: BTreeMap<u64, Live>,
    /// When it takes its next turn.
    pub(super) turn_at: Option<When>,
    /// Runs that it is taking over.
    pub(super) recovering: BTreeSet<Ticket>,
    /// Runs whose journal it has found damaged.
    rotten: BTreeSet<RunId>,
    /// It is to crash after so many more turns of a recovery.
    pub(super) doomed: Option<u64>,
    /// The runs of each append that is under way, with their epochs.
    under_way: VecDeque<BTreeSet<(RunId, Epoch)>>,
    /// Its appends arrive, and are settled, in the order in which it sent them.
    arrives: i64,
    pub(super) settles: i64,
}

/// Names a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LifeRef {
    pub(super) node: usize,
    pub(super) life: u32,
}

impl fmt::Display for LifeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}-{}", self.node, self.life)
    }
}

/// So many bytes of values a node keeps at hand: few, so that it has to load some.
const VALUES_MAX: u64 = 1_500;
/// So many in a hundred runs are compared with a replay when they have changed.
const COMPARED: u64 = 5;
/// One in so many loads is a replay of all entries; the others take what the model has folded of the
/// same entries as they came.
const REPLAYED: u64 = 20;
/// So far the clock of a node is from the world's.
const JUMP_MAX: i64 = 3600 * SECOND;

impl Life {
    pub(super) fn owns(&self, shard: Shard) -> Option<Epoch> {
        self.shards.owned().find(|(owned, _)| *owned == shard).map(|(_, epoch)| epoch)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.attempts.is_empty() && !self.shards.is_busy() && !self.shards.is_appending()
    }

    /// For people who look for a bug.
    pub(super) fn state(&self) -> String {
        let Self { at, shards, attempts, .. } = self;
        let (busy, appending) = (shards.is_busy(), shards.is_appending());
        let (runs, attempts) = (shards.len(), attempts.values());
        format!("{at}: busy {busy}, appending {appending}, {runs} runs, {attempts:?}")
    }

    /// No slot is missing and no run is left in memory.
    pub(super) fn check_rest(&self) -> Checked {
        // An agent that is left alone lets one attempt through at a time: each is asked for so much later.
        let late = |n: u64| Timestamp(i64::MAX / 2).after(Duration::from_secs(3_600 * n));
        let takes = |agent: &str| {
            (0..)
                .take_while(|n| self.slots.take(&agent.into(), false, late(*n)) == Taken::Yes)
                .count()
        };
        let free = takes("free");
        (0..free).for_each(|_| self.slots.give(&"free".into()));
        let narrow = takes("narrow");
        if free != self.slots_max as usize || narrow != NARROW as usize {
            return Err(format!(
                "{}: {free} slots are left of {}, {narrow}",
                self.at, self.slots_max
            ));
        }
        if self.slots.take_alone(Timestamp(0)).is_err() {
            return Err(format!("{}: a suspect is gone, and others wait for it", self.at));
        }
        if !self.shards.is_empty() {
            let (runs, rotten) = (self.shards.len(), &self.rotten);
            return Err(format!("{}: {runs} runs stay in memory, damaged: {rotten:?}", self.at));
        }
        Ok(())
    }
}

impl World<'_> {
    pub(super) fn life(&mut self, of: LifeRef) -> Option<&mut Life> {
        self.nodes[of.node].as_mut().filter(|life| life.at == of)
    }

    pub(super) fn restart(&mut self, node: usize) {
        if self.nodes[node].is_some() {
            return;
        }
        self.lives += 1;
        let at = LifeRef { node, life: self.lives };
        let offset = if self.lives > 3 { self.jump() } else { 0 };
        let slots_max = u32::try_from(self.dice.range(1, 6)).unwrap();
        let wanted = self.lacks_recovery() && !self.calm && self.lives > 3;
        let doomed = wanted.then(|| self.dice.below(3));
        self.nodes[node] = Some(Life {
            at,
            id: NodeId::new(&at.to_string()),
            shards: Shards::new(VALUES_MAX),
            slots: Slots::new(slots_max, &self.stock.agents),
            slots_max,
            offset,
            attempts: BTreeMap::new(),
            turn_at: None,
            recovering: BTreeSet::new(),
            rotten: BTreeSet::new(),
            doomed,
            under_way: VecDeque::new(),
            arrives: 0,
            settles: 0,
        });
        self.note(|| format!("{at} starts"));
    }

    /// Somebody has set the clock of a node that starts, maybe.
    fn jump(&mut self) -> i64 {
        let (fault, sign) = match self.dice.below(10) {
            0..3 => (Fault::ClockBack, -1),
            3..6 => (Fault::ClockAhead, 1),
            _ => return 0,
        };
        let kinds = self.last_in(|_| true);
        self.hits.add(fault, kinds);
        sign * self.dice.range(0, JUMP_MAX)
    }

    /// A node finds the journal of a run damaged; somebody mends it, and gives the shard away.
    pub(super) fn rots(&mut self, of: LifeRef, run: RunId) {
        self.note(|| format!("{of} finds {run} damaged"));
        let Some(life) = self.life(of) else { return };
        life.rotten.insert(run);
        let after = self.dice.range(SECOND / 10, 10 * SECOND);
        self.later(after, Coming::Mended { life: of, shard: run.shard() });
    }

    pub(super) fn is_rotten(&mut self, of: LifeRef, run: RunId) -> bool {
        self.life(of).is_some_and(|life| life.rotten.contains(&run))
    }

    /// Has a node take a turn soon.
    pub(super) fn poke(&mut self, of: LifeRef, after: i64) {
        let at = self.now + after;
        let serial = self.serial + 1;
        let Some(life) = self.life(of) else { return };
        if life.turn_at.is_none_or(|(turn, _)| turn > at) {
            life.turn_at = Some((at, serial));
            self.serial = serial;
        }
    }

    pub(super) fn turn(&mut self, of: LifeRef) {
        let wall = self.wall();
        let agents = &self.stock.agents;
        let Some(life) = self.life(of) else { return };
        life.turn_at = None;
        let local = Timestamp(wall.0 + life.offset);
        let outside = Outside { now: local, agents, slots: &life.slots };
        let turned = life.shards.turn(&outside);
        let doomed = !life.recovering.is_empty() && life.doomed.is_some();
        self.act(of, turned.actions);
        if let Some(parts) = turned.append {
            self.send(of, parts);
        }
        if doomed {
            let Some(life) = self.life(of) else { return };
            match life.doomed {
                Some(0) => return self.crash(of),
                left => life.doomed = left.map(|left| left - 1),
            }
        }
        self.rest(of, local);
    }

    /// Goes to sleep until the next timer.
    fn rest(&mut self, of: LifeRef, local: Timestamp) {
        let Some(life) = self.life(of) else { return };
        let next = life.shards.next_timer();
        if life.shards.is_busy() {
            self.poke(of, MS);
        } else if let Some(at) = next {
            if at <= local && life.shards.is_appending() {
                // Time passes, or the append settles; a timer must not be due for ever.
                return self.poke(of, MS);
            }
            self.poke(of, (at.0 - local.0).max(MS));
        }
    }

    fn send(&mut self, of: LifeRef, parts: Vec<Part>) {
        let entries = parts.iter().flat_map(|part| &part.runs).map(|run| &run.entry);
        let runs: BTreeSet<_> = entries.map(|entry| (entry.run, entry.epoch)).collect();
        let Some(life) = self.life(of) else { return };
        let twice = life.under_way.iter().flatten().find(|run| runs.contains(run)).copied();
        life.under_way.push_back(runs);
        let many = life.under_way.len() > 4;
        if let Some((run, _)) = twice {
            self.check(Err(format!("two appends of {run} are under way")));
        } else if many {
            self.check(Err("five appends are under way".into()));
        }
        // Much is to happen while an append is under way; and what is gathered meanwhile is one append.
        let slow = self.dice.chance(25) && !self.calm;
        let after = if slow {
            self.dice.range(SECOND / 10, 4 * SECOND)
        } else {
            self.dice.range(100, 8 * MS)
        };
        let now = self.now;
        let Some(life) = self.life(of) else { return };
        life.arrives = life.arrives.max(now + after);
        let after = life.arrives - now;
        if self.planted == Some(Planted::ActBeforeCommit) {
            let done = parts.iter().map(|_| Settled::Done { left_out: Vec::new() }).collect();
            self.send_append(of, parts, after);
            return self.settled(of, &[], Ok(done));
        }
        self.send_append(of, parts, after);
    }

    /// A node hears how its append of `runs` went.
    pub(super) fn settled(
        &mut self,
        of: LifeRef,
        runs: &[RunId],
        result: Result<Vec<Settled>, Error>,
    ) {
        let planted = self.planted;
        let Some(life) = self.life(of).filter(|life| life.shards.is_appending()) else { return };
        let result = match result {
            Err(Error::Unknown { .. }) if planted == Some(Planted::UnknownIsRefused) => {
                Err(Error::Busy { file: "sim".into() })
            }
            result => result,
        };
        let actions = life.shards.settled(result);
        life.under_way.pop_front();
        // As the shell does: what was gathered meanwhile is sent before anything is acted upon.
        let next = life.shards.gather();
        if let Some(parts) = next {
            self.send(of, parts);
        }
        self.act(of, actions);
        for run in runs {
            if self.dice.chance(COMPARED) {
                let checked = self.compare(of, *run);
                self.check(checked);
            }
        }
        self.poke(of, 0);
    }

    /// What is in memory and settled is what a replay gives.
    fn compare(&mut self, of: LifeRef, id: RunId) -> Checked {
        let at = Timestamp(self.wall().0 + 2 * JUMP_MAX);
        let epoch = self.holding(id.shard()).0;
        let life = self.nodes[of.node].as_ref().filter(|life| life.at == of);
        let life = life.filter(|life| life.owns(id.shard()) == Some(epoch));
        let Some(live) = life.and_then(|life| life.shards.run(id)) else { return Ok(()) };
        let Some(mut replayed) = self.model.replayed(id)? else {
            return Err(format!("run {id} is settled but not on disk"));
        };
        if *live == replayed {
            return Ok(());
        }
        // One of them may have been told that a wait is over.
        let mut live = live.clone();
        live.wake(at);
        replayed.wake(at);
        if live == replayed {
            return Ok(());
        }
        Err(format!("run {id}: memory and journal differ:\n{live:#?}\n{replayed:#?}"))
    }

    pub(super) fn act(&mut self, of: LifeRef, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reply(ticket, reply) => self.replied(ticket, reply),
                Action::Publish(published) => {
                    let checked = self.model.published(&published);
                    self.check(checked);
                }
                Action::Start(start) => self.start(of, *start),
                Action::Stop { run, step, attempt } => {
                    self.stop(of, |live| live.is(run, Some((step, attempt))));
                }
                Action::StopAll { run } => self.stop(of, |live| live.is(run, None)),
                Action::GiveSlot { slot } => {
                    if let Some(life) = self.life(of) {
                        life.slots.give_unused(&slot);
                    }
                    self.poke(of, MS);
                }
                Action::LoadRun { tenant, run, later } => {
                    let after = if later { 100 * MS } else { self.dice.range(0, 5 * MS) };
                    self.later(after, Coming::Load { life: of, tenant, run });
                }
                Action::LoadValue { tenant, digest } => {
                    let after = self.dice.range(0, 20 * MS);
                    self.later(after, Coming::Value { life: of, tenant, digest });
                }
                Action::Damaged { run, why } => {
                    if !self.is_rotten(of, run) {
                        self.check(Err(format!("run {run} is damaged: {why}")));
                    }
                }
                Action::Lost(shard) => self.note(|| format!("{of} lost {shard:?}")),
            }
        }
    }

    /// Reads a run now; what was read comes later.
    pub(super) fn load(&mut self, of: LifeRef, tenant: Tenant, run: RunId) {
        let kinds = self.last_of(run);
        let result = match self.dice.below(100) {
            0..6 if !self.calm => {
                self.hits.add(Fault::LoadError, kinds);
                Err(LoadError::Store(Error::Busy { file: "sim".into() }))
            }
            6..9 if !self.calm => self.rotten(of, &tenant, run),
            _ => self.whole(&tenant, run),
        };
        let slow = !self.calm && self.dice.chance(15);
        let after = if slow { self.dice.range(0, 3 * SECOND) } else { self.dice.range(0, 2 * MS) };
        if slow {
            self.hits.add(Fault::SlowLoad, kinds);
        }
        self.later(after, Coming::Loaded { life: of, tenant, run, result: Box::new(result) });
    }

    /// A run as its journal has it.
    fn whole(&mut self, tenant: &Tenant, run: RunId) -> Result<Loaded, LoadError> {
        let known = self.model.runs.get(&run).and_then(RunModel::loaded);
        if self.dice.below(REPLAYED) > 0 {
            return known.ok_or(LoadError::NotFound);
        }
        let loaded = self.fold(self.entries(tenant, run), run);
        let same = match (&known, &loaded) {
            (Some(known), Ok(loaded)) => known.run == loaded.run && known.hash == loaded.hash,
            (None, Err(LoadError::NotFound)) => true,
            _ => false,
        };
        if !same {
            self.check(Err(format!("run {run}: a replay gives {loaded:?}")));
        }
        loaded
    }

    /// A run of whose journal a bit has flipped: it is not read as if it were whole.
    fn rotten(&mut self, of: LifeRef, tenant: &Tenant, run: RunId) -> Result<Loaded, LoadError> {
        let mut entries = self.entries(tenant, run);
        let Some(place) = self.dice.pick(&(0..entries.len()).collect::<Vec<_>>()).copied() else {
            return Err(LoadError::NotFound);
        };
        let entry = &mut entries[place];
        let mut body = entry.body.to_vec();
        let at = usize::try_from(self.dice.below(body.len() as u64 + 48)).unwrap();
        let bit = 1 << self.dice.below(8);
        match at.checked_sub(body.len()) {
            None => body[at] ^= bit,
            Some(at @ 0..32) => entry.hash[at] ^= bit,
            Some(at @ 32..40) => entry.at.0 ^= i64::from(bit) << ((at - 32) * 8),
            Some(at) => entry.first_seq ^= u64::from(bit) << ((at - 40) * 8),
        }
        entry.body = body.into();
        let loaded = self.fold(entries, run);
        if !matches!(loaded, Err(LoadError::Damaged(_))) {
            self.check(Err(format!("run {run}: a flipped bit is not found: {loaded:?}")));
        }
        let kinds = self.last_of(run);
        self.hits.add(Fault::Rot, kinds);
        self.rots(of, run);
        loaded
    }

    fn fold(&self, entries: Vec<Entry>, run: RunId) -> Result<Loaded, LoadError> {
        let plan = self.model.runs.get(&run).and_then(|run| run.plan.as_ref());
        let plan = plan.map(|plan| &plan.compiled);
        let mut fold = Fold::default();
        for entry in entries {
            fold.add(&entry, plan)?;
        }
        fold.finish().ok_or(LoadError::NotFound)
    }

    pub(super) fn loaded(
        &mut self,
        of: LifeRef,
        tenant: Tenant,
        run: RunId,
        result: Result<Loaded, LoadError>,
    ) {
        let wall = self.wall();
        let Some(life) = self.life(of) else { return };
        let local = Timestamp(wall.0 + life.offset);
        life.shards.loaded(run, tenant, result, local);
        self.poke(of, 0);
    }

    pub(super) fn value(&mut self, of: LifeRef, tenant: &Tenant, digest: Digest) {
        let content = self.journal.payload(tenant, digest).now_or_never().unwrap().unwrap();
        let value = match content {
            Some(content) => {
                let len = content.len;
                Ok((Arc::new(serde_json::from_reader(content.reader).unwrap()), len))
            }
            None => Err(Arc::from("it is not there")),
        };
        if value.is_err() {
            self.check(Err(format!("the value {digest} is read and not in the journal")));
        }
        if let Some(life) = self.life(of) {
            life.shards.value_loaded(digest, value);
        }
        self.poke(of, 0);
    }

    pub(super) fn arrive(&mut self, of: LifeRef, mut offer: Offer) {
        if self.planted == Some(Planted::NoFence) {
            self.forget_fence(&mut offer);
        }
        let Some(life) = self.life(of) else { return };
        life.shards.offer(offer);
        let after = self.dice.range(0, MS);
        self.poke(of, after);
    }

    /// Makes a late answer look like one of the attempt that is under way (a planted bug).
    fn forget_fence(&self, offer: &mut Offer) {
        let Offer::Tell(tell) = offer else { return };
        if let Command::Answered { step, attempt, .. } | Command::Failed { step, attempt, .. } =
            &mut tell.command
            && let Some(current) = self.model.current(tell.run, *step)
        {
            *attempt = current;
        }
    }

    /// A node dies, with all that is in it. What it has sent is on its way, or not.
    pub(super) fn crash(&mut self, of: LifeRef) {
        let Some(life) = self.nodes[of.node].take_if(|life| life.at == of) else { return };
        let in_recovery = !life.recovering.is_empty();
        self.people.crashed += 1;
        self.people.crashed_in_recovery += u64::from(in_recovery);
        let sent = self.sent_append(of);
        let arrives = self.dice.chance(50);
        let (fault, kinds) = match (sent, arrives) {
            _ if in_recovery => (Fault::CrashRecovery, self.last_in(|s| life.owns(s).is_some())),
            (None, _) => (Fault::CrashIdle, self.last_in(|s| life.owns(s).is_some())),
            (Some((_, kinds)), true) => (Fault::CrashDone, kinds),
            (Some((_, kinds)), false) => (Fault::CrashLost, kinds),
        };
        self.hits.add(fault, kinds);
        if let (Some((at, _)), false) = (sent, arrives) {
            self.take_back(at);
        }
        self.note(|| format!("{of} crashes ({fault:?})"));
        self.connection_lost(of);
        let after = self.dice.range(50 * MS, 5 * SECOND);
        self.later(after, Coming::Restart(of.node));
    }

    /// Shards whose owner is gone find a new one.
    pub(super) fn watch(&mut self) {
        for shard in SHARDS {
            let (epoch, owner) = self.holding(shard);
            let epoch = *epoch;
            let cared_for =
                self.nodes.iter().flatten().any(|life| {
                    Some(&life.id) == owner.as_ref() && life.owns(shard) == Some(epoch)
                });
            if !cared_for {
                self.claim_somewhere(shard, epoch);
            }
            self.notice_loss(shard, epoch);
        }
        let after = self.dice.range(100 * MS, 900 * MS);
        self.later(after, Coming::Watch);
    }

    /// An old owner sees that it is one, if it did not learn so by an append.
    fn notice_loss(&mut self, shard: Shard, epoch: Epoch) {
        let old = self.nodes.iter().flatten();
        let old = old.filter(|life| life.owns(shard).is_some_and(|owned| owned < epoch));
        let old: Vec<LifeRef> = old.map(|life| life.at).collect();
        for of in old {
            if self.calm || self.dice.chance(10) {
                let actions = self.life(of).map(|life| life.shards.disown(shard));
                self.act(of, actions.unwrap_or_default());
                self.poke(of, 0);
            }
        }
    }

    fn claim_somewhere(&mut self, shard: Shard, seen: Epoch) {
        let alive: Vec<LifeRef> = self.nodes.iter().flatten().map(|life| life.at).collect();
        if let Some(of) = self.dice.pick(&alive).copied() {
            self.claim(of, shard, seen);
        }
    }

    pub(super) fn claim(&mut self, of: LifeRef, shard: Shard, seen: Epoch) {
        let Some(owner) = self.life(of).map(|life| life.id.clone()) else { return };
        let Some(epoch) = self.claim_shard(shard, seen, &owner) else { return };
        let Some(life) = self.life(of) else { return };
        let actions = life.shards.disown(shard);
        life.shards.own(shard, epoch);
        self.note(|| format!("{of} claims {shard:?} {epoch:?}"));
        self.act(of, actions);
        let open = self.journal.open_runs(shard).now_or_never().unwrap().unwrap();
        for row in open {
            self.work(of, row.tenant, row.run);
        }
        self.poke(of, 0);
    }

    pub(super) fn work(&mut self, of: LifeRef, tenant: Tenant, run: RunId) {
        // Whether it died is told by the node's file, whether somebody watches by who does this.
        let (doubt, died, watched) =
            (self.dice.chance(8), self.dice.chance(70), self.dice.chance(10));
        let takeover = Takeover { doubt, died, watched };
        let ticket = self
            .dice
            .chance(70)
            .then(|| self.ticket(Waiting::Work { life: of, tenant: tenant.clone(), run }));
        if let (Some(life), Some(ticket)) = (self.life(of), ticket) {
            life.recovering.insert(ticket);
        }
        self.arrive(of, Offer::Work { tenant, run, takeover, ticket });
    }

    /// Something goes wrong.
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let alive: Vec<LifeRef> = self.nodes.iter().flatten().map(|life| life.at).collect();
        let of = self.dice.pick(&alive).copied();
        let shard = *self.dice.pick(&SHARDS).unwrap();
        let lacks_crash = self.people.crashed == 0 || self.lacks_recovery();
        let roll = if lacks_crash && self.dice.chance(50) { 0 } else { self.dice.below(100) };
        match (roll, of) {
            (0..35, Some(of)) => self.crash(of),
            (35..70, Some(of)) => {
                let seen = self.holding(shard).0;
                let kinds = self.last_in(|of| of == shard);
                self.hits.add(Fault::Takeover, kinds);
                self.claim(of, shard, seen);
            }
            (70..85, Some(of)) => self.release(of, shard),
            _ => {}
        }
        let after = self.dice.range(200 * MS, 6 * SECOND);
        self.later(after, Coming::Fault);
    }

    /// A node gives a shard up, even in the middle of an append.
    pub(super) fn release(&mut self, of: LifeRef, shard: Shard) {
        let Some(life) = self.life(of) else { return };
        let Some(epoch) = life.owns(shard) else { return };
        let actions = life.shards.disown(shard);
        self.note(|| format!("{of} releases {shard:?}"));
        let kinds = self.last_in(|of| of == shard);
        self.hits.add(Fault::Release, kinds);
        self.act(of, actions);
        self.release_shard(shard, epoch);
        self.poke(of, 0);
    }
}
