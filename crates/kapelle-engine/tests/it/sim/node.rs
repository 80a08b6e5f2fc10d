//! A node: the shell around `Shards`, without threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use kapelle_core::port::journal::{Error, Journal, Part, Settled};
use kapelle_core::run::Command;
use kapelle_core::{Digest, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use kapelle_engine::Slots;
use kapelle_engine::shards::{Action, Fold, LoadError, Loaded, Offer, Outside, Shards, Ticket};

use super::Planted;
use super::agents::Live;
use super::model::Checked;
use super::people::Waiting;
use super::plans::NARROW;
use super::world::{Coming, MS, SECOND, SHARDS, World};

/// The life of a node from its start to its crash.
pub(super) struct Life {
    pub(super) at: LifeRef,
    pub(super) shards: Shards,
    pub(super) slots: Slots,
    slots_max: u32,
    /// Its clock minus the world's.
    offset: i64,
    pub(super) attempts: BTreeMap<u64, Live>,
    /// The turn that is on its way.
    turn_at: Option<i64>,
    /// Runs that it is taking over.
    pub(super) recovering: BTreeSet<Ticket>,
    /// It is to crash after so many more turns of a recovery.
    pub(super) doomed: Option<u64>,
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

impl Life {
    pub(super) fn id(&self) -> NodeId {
        NodeId::new(&self.at.to_string())
    }

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
        let free = (0..).take_while(|_| self.slots.take("free")).count();
        (0..free).for_each(|_| self.slots.give("free"));
        let narrow = (0..).take_while(|_| self.slots.take("narrow")).count();
        if free != self.slots_max as usize || narrow != NARROW as usize {
            return Err(format!(
                "{}: {free} slots are left of {}, {narrow}",
                self.at, self.slots_max
            ));
        }
        if !self.shards.is_empty() {
            return Err(format!("{}: {} runs stay in memory", self.at, self.shards.len()));
        }
        Ok(())
    }
}

impl World {
    pub(super) fn life(&mut self, of: LifeRef) -> Option<&mut Life> {
        self.nodes[of.node].as_mut().filter(|life| life.at == of)
    }

    pub(super) fn restart(&mut self, node: usize) {
        if self.nodes[node].is_some() {
            return;
        }
        self.lives += 1;
        let at = LifeRef { node, life: self.lives };
        let back = self.lives > 3 && self.dice.chance(30);
        let offset = if back { -self.dice.range(0, 3600 * SECOND) } else { 0 };
        if back {
            let kinds = self.last_kind(None);
            self.hit("clock_back", &kinds);
        }
        let slots_max = u32::try_from(self.dice.range(1, 6)).unwrap();
        let wanted = self.lacks_recovery() && !self.calm && self.lives > 3;
        let doomed = wanted.then(|| self.dice.below(3));
        self.nodes[node] = Some(Life {
            at,
            shards: Shards::new(VALUES_MAX),
            slots: Slots::new(slots_max, &self.agents),
            slots_max,
            offset,
            attempts: BTreeMap::new(),
            turn_at: None,
            recovering: BTreeSet::new(),
            doomed,
        });
        self.note(|| format!("{at} starts"));
    }

    /// Has a node take a turn soon.
    pub(super) fn poke(&mut self, of: LifeRef, after: i64) {
        let at = self.now + after;
        let Some(life) = self.life(of) else { return };
        if life.turn_at.is_none_or(|turn| turn > at) {
            life.turn_at = Some(at);
            self.later(after, Coming::Turn(of));
        }
    }

    pub(super) fn turn(&mut self, of: LifeRef) {
        let (now, wall) = (self.now, self.wall());
        let agents = self.agents.clone();
        let Some(life) = self.life(of) else { return };
        if life.turn_at != Some(now) {
            return;
        }
        life.turn_at = None;
        let local = Timestamp(wall.0 + life.offset);
        let was_appending = life.shards.is_appending();
        let outside = Outside { now: local, agents: &agents, slots: &life.slots };
        let turned = life.shards.turn(&outside);
        let doomed = !life.recovering.is_empty() && life.doomed.is_some();
        if was_appending && turned.append.is_some() {
            self.check(Err("two appends are under way".into()));
        }
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
        let slow = self.dice.chance(5) && !self.calm;
        let after = if slow {
            self.dice.range(SECOND / 10, 4 * SECOND)
        } else {
            self.dice.range(100, 8 * MS)
        };
        if self.planted == Some(Planted::ActBeforeCommit) {
            let done = parts.iter().map(|_| Settled::Done { left_out: Vec::new() }).collect();
            self.later(after, Coming::Append { life: of, parts, overdue: false });
            return self.settled(of, Ok(done));
        }
        self.later(after, Coming::Append { life: of, parts, overdue: false });
    }

    pub(super) fn settled(&mut self, of: LifeRef, result: Result<Vec<Settled>, Error>) {
        let planted = self.planted;
        let Some(life) = self.life(of).filter(|life| life.shards.is_appending()) else { return };
        let result = match result {
            Err(Error::Unknown { .. }) if planted == Some(Planted::UnknownIsRefused) => {
                Err(Error::Busy { file: "sim".into() })
            }
            result => result,
        };
        let actions = life.shards.settled(result);
        self.act(of, actions);
        self.compare(of);
        self.poke(of, 0);
    }

    /// What is in memory and settled is what a replay gives.
    fn compare(&mut self, of: LifeRef) {
        if !self.dice.chance(10) {
            return;
        }
        let wall = self.wall();
        let ids: Vec<RunId> = self.model.runs.keys().copied().collect();
        for id in ids {
            let Some(owner) = self.life(of).and_then(|life| life.owns(id.shard())) else {
                continue;
            };
            if self.holding(id.shard()).0 != owner {
                continue;
            }
            let Some(mut live) = self.life(of).and_then(|life| life.shards.run(id)).cloned() else {
                continue;
            };
            match self.model.replayed(id) {
                Ok(Some(mut replayed)) => {
                    let at = Timestamp(wall.0 + 7200 * SECOND);
                    live.wake(at);
                    replayed.wake(at);
                    if live != replayed {
                        self.check(Err(format!(
                            "run {id}: memory and journal differ:\n{live:#?}\n{replayed:#?}"
                        )));
                    }
                }
                Ok(None) => self.check(Err(format!("run {id} is settled but not on disk"))),
                Err(wrong) => self.check(Err(wrong)),
            }
        }
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
                Action::GiveSlot { agent } => {
                    if let Some(life) = self.life(of) {
                        life.slots.give(&agent);
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
                    self.check(Err(format!("run {run} is damaged: {why}")));
                }
                Action::Lost(shard) => self.note(|| format!("{of} lost {shard:?}")),
            }
        }
    }

    /// Reads a run now; what was read comes later.
    pub(super) fn load(&mut self, of: LifeRef, tenant: Tenant, run: RunId) {
        let result = if !self.calm && self.dice.chance(6) {
            let kinds = self.last_kind(Some(run));
            self.hit("load_error", &kinds);
            Err(LoadError::Store(Error::Busy { file: "sim".into() }))
        } else {
            self.fold(&tenant, run)
        };
        let slow = !self.calm && self.dice.chance(15);
        let after = if slow { self.dice.range(0, 3 * SECOND) } else { self.dice.range(0, 2 * MS) };
        if slow {
            let kinds = self.last_kind(Some(run));
            self.hit("slow_load", &kinds);
        }
        self.later(after, Coming::Loaded { life: of, tenant, run, result });
    }

    fn fold(&self, tenant: &Tenant, run: RunId) -> Result<Loaded, LoadError> {
        let entries = self.entries(tenant, run);
        let plan = self.model.runs.get(&run).and_then(|run| run.plan.clone());
        let mut fold = Fold::default();
        for entry in entries {
            fold.add(&entry, plan.as_ref())?;
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
        let mut kinds = sent.as_ref().map_or_else(BTreeSet::new, |(_, kinds)| kinds.clone());
        if kinds.is_empty() {
            kinds = self.last_kind(None);
        }
        let arrives = self.dice.chance(50);
        let name = match (in_recovery, sent.is_some(), arrives) {
            (true, _, _) => "crash_recovery",
            (false, false, _) => "crash_idle",
            (false, true, true) => "crash_done",
            (false, true, false) => "crash_lost",
        };
        self.hit(name, &kinds);
        if let (Some((at, _)), false) = (sent, arrives) {
            self.take_back(at);
        }
        self.note(|| format!("{of} crashes ({name})"));
        self.connection_lost(of);
        let after = self.dice.range(50 * MS, 5 * SECOND);
        self.later(after, Coming::Restart(of.node));
    }

    /// Shards whose owner is gone find a new one.
    pub(super) fn watch(&mut self) {
        for shard in SHARDS {
            let (epoch, owner) = self.holding(shard);
            let cared_for = self
                .nodes
                .iter()
                .flatten()
                .any(|life| Some(life.id()) == owner && life.owns(shard) == Some(epoch));
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
        let owner = NodeId::new(&of.to_string());
        let won = self.journal.claim(&[(shard, seen)], &owner).now_or_never().unwrap().unwrap();
        let Some(&(_, epoch)) = won.first() else { return };
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
        let doubt = self.dice.chance(8);
        let ticket = self
            .dice
            .chance(70)
            .then(|| self.ticket(Waiting::Work { life: of, tenant: tenant.clone(), run }));
        if let (Some(life), Some(ticket)) = (self.life(of), ticket) {
            life.recovering.insert(ticket);
        }
        self.arrive(of, Offer::Work { tenant, run, doubt, ticket });
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
                let kinds = self.last_kind(None);
                self.hit("takeover", &kinds);
                self.claim(of, shard, seen);
            }
            (70..85, Some(of)) => self.release(of, shard),
            _ => {}
        }
        let after = self.dice.range(200 * MS, 6 * SECOND);
        self.later(after, Coming::Fault);
    }

    /// A node gives a shard up, even in the middle of an append.
    fn release(&mut self, of: LifeRef, shard: Shard) {
        let Some(life) = self.life(of) else { return };
        let Some(epoch) = life.owns(shard) else { return };
        let actions = life.shards.disown(shard);
        self.note(|| format!("{of} releases {shard:?}"));
        let kinds = self.last_kind(None);
        self.hit("release", &kinds);
        self.act(of, actions);
        self.journal.release(&[(shard, epoch)]).now_or_never().unwrap().unwrap();
        self.poke(of, 0);
    }
}
