//! People and programs that want something, and what they were told.

use std::sync::Arc;

use kapelle_core::port::journal::SubmitKey;
use kapelle_core::run::{
    Blocked, Command, Created, EffectId, Join, Outcome, Parts, Resolved, Status,
};
use kapelle_core::{Digest, Json, RunId, Shard, StepNo, Tenant, Value};
use kapelle_engine::shards::{Offer, Reply, Submission, Tell, Ticket};
use serde_json::json;

use super::dice::Dice;
use super::model::Model;
use super::node::LifeRef;
use super::plans::{Planned, Stock};
use super::world::{Coming, MS, SECOND, World};

/// Those who want something.
pub(super) struct People {
    keys: Vec<Key>,
    pub(super) crashed: u64,
    pub(super) crashed_in_recovery: u64,
    wishes: u64,
}

/// A run that somebody wants, under a key.
struct Key {
    name: Box<str>,
    content: Digest,
    plan: Arc<Planned>,
    /// What they were told.
    acknowledged: Option<RunId>,
    asking: u32,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Waiting {
    Submit {
        life: LifeRef,
        key: usize,
        run: RunId,
    },
    Wish {
        life: LifeRef,
        run: RunId,
        by: Box<str>,
        must_say: bool,
    },
    Work {
        life: LifeRef,
        tenant: Tenant,
        run: RunId,
    },
    Effect {
        life: LifeRef,
        handle: u64,
        run: RunId,
        step: StepNo,
        effect: EffectId,
        outcome: Option<Outcome>,
    },
}

impl Waiting {
    /// What it is about, unless that is yet to be.
    const fn run(&self) -> Option<RunId> {
        match self {
            Self::Submit { .. } => None,
            Self::Wish { run, .. } | Self::Work { run, .. } | Self::Effect { run, .. } => {
                Some(*run)
            }
        }
    }

    const fn life(&self) -> LifeRef {
        match self {
            Self::Submit { life, .. }
            | Self::Wish { life, .. }
            | Self::Work { life, .. }
            | Self::Effect { life, .. } => *life,
        }
    }
}

impl People {
    pub(super) fn new(dice: &mut Dice, stock: &Stock) -> Self {
        let mut people = Self { keys: Vec::new(), crashed: 0, crashed_in_recovery: 0, wishes: 0 };
        (0..3 + dice.below(2)).for_each(|_| people.want_another(dice, stock));
        people
    }

    fn want_another(&mut self, dice: &mut Dice, stock: &Stock) {
        self.want(stock.pick(dice));
    }

    fn want(&mut self, plan: Arc<Planned>) {
        let name: Box<str> = format!("key-{}", self.keys.len()).into();
        let content = Digest::of(name.as_bytes());
        self.keys.push(Key { name, content, plan, acknowledged: None, asking: 0 });
    }

    /// The name of the next who wishes for something.
    fn name(&mut self) -> Box<str> {
        self.wishes += 1;
        format!("person-{}", self.wishes).into()
    }

    /// The keys that nobody has confirmed.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &str> {
        let open = self.keys.iter().filter(|key| key.acknowledged.is_none());
        open.map(|key| &*key.name)
    }

    pub(super) fn all_answered(&self) -> bool {
        self.unanswered().next().is_none()
    }

    /// What was confirmed is there, once.
    pub(super) fn check(&self, model: &Model) -> Result<(), String> {
        for key in &self.keys {
            if key.acknowledged != model.run_of(&key.name) {
                return Err(format!(
                    "key {}: {:?} was acknowledged, {:?} is there",
                    key.name,
                    key.acknowledged,
                    model.run_of(&key.name)
                ));
            }
        }
        Ok(())
    }
}

impl World<'_> {
    pub(super) fn ticket(&mut self, waiting: Waiting) -> Ticket {
        self.serial += 1;
        let ticket = Ticket(self.serial);
        self.waiting.insert(ticket, waiting);
        ticket
    }

    /// Nobody will hear from a node that has crashed.
    pub(super) fn connection_lost(&mut self, of: LifeRef) {
        let lost: Vec<Ticket> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.life() == of)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in lost {
            if let Some(Waiting::Submit { key, .. }) = self.waiting.remove(&ticket) {
                self.people.keys[key].asking -= 1;
            }
        }
    }

    /// Somebody is answered.
    pub(super) fn replied(&mut self, ticket: Ticket, reply: Reply) {
        self.note(|| format!("{ticket:?} is told {reply:?}"));
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return self.check(Err(format!("{ticket:?} is answered twice, or in vain: {reply:?}")));
        };
        if let Reply::Damaged(why) = &reply
            && !waiting.run().is_some_and(|run| self.is_rotten(waiting.life(), run))
        {
            self.check(Err(format!("{waiting:?}: {why}")));
        }
        match waiting {
            Waiting::Submit { key, run, .. } => self.submitted(key, run, &reply),
            Waiting::Wish { run, by, must_say, .. } => match reply {
                Reply::Done { seq } => {
                    let checked = self.model.acknowledged(run, seq);
                    self.check(checked);
                    if must_say && !self.model.said.contains(&by) {
                        self.check(Err(format!("the wish of {by} was acknowledged and is lost")));
                    }
                }
                Reply::NotFound | Reply::Twin(_) => {
                    self.check(Err(format!("the wish of {by} for {run}: {reply:?}")));
                }
                _ => {}
            },
            Waiting::Work { life, tenant, run } => {
                if let Some(life) = self.life(life) {
                    life.recovering.remove(&ticket);
                }
                if let Reply::Done { seq } = reply {
                    let checked = self.model.acknowledged(run, seq);
                    return self.check(checked);
                }
                // Nobody works on a damaged run until it is mended.
                let goes_on = !matches!(reply, Reply::Damaged(_));
                if goes_on && self.life(life).is_some_and(|life| life.owns(run.shard()).is_some()) {
                    self.work(life, tenant, run);
                }
            }
            Waiting::Effect { life, handle, run, step, effect, outcome } => {
                self.desk_hears((life, handle), (run, step, effect), outcome, &reply);
            }
        }
    }

    fn submitted(&mut self, key: usize, run: RunId, reply: &Reply) {
        self.people.keys[key].asking -= 1;
        let told = match reply {
            Reply::Done { seq } => {
                let checked = self.model.acknowledged(run, *seq);
                self.check(checked);
                run
            }
            Reply::Twin(twin) => twin.run,
            _ => return,
        };
        let key = &mut self.people.keys[key];
        let name = key.name.clone();
        if key.acknowledged.is_some_and(|before| before != told) {
            return self.check(Err(format!("key {name} was acknowledged with two runs")));
        }
        key.acknowledged = Some(told);
        if self.model.run_of(&name) != Some(told) {
            self.check(Err(format!("key {name}: {told} was acknowledged and is not on disk")));
        }
    }

    /// Somebody does something.
    pub(super) fn people_act(&mut self) {
        self.submit_some();
        if self.calm {
            let open: Vec<RunId> = self.open_runs();
            for run in open {
                self.help(run);
            }
            let ended = self.model.runs.values().all(|run| run.ended);
            if ended && self.people.all_answered() && self.model.transitions < 200 {
                // Little is missing: a small run will do.
                let plan = self.stock.pick_small(&mut self.dice);
                self.people.want(plan);
            }
            return self.later(2 * SECOND, Coming::People);
        }
        let open = self.open_runs();
        if open.is_empty() && self.people.all_answered() {
            // Faults need something to go wrong with.
            self.people.want_another(&mut self.dice, self.stock);
        }
        if let Some(run) = self.dice.pick(&open).copied() {
            if self.dice.chance(50) {
                self.help(run);
            } else {
                self.meddle(run);
            }
        }
        let after = self.dice.range(50 * MS, 700 * MS);
        self.later(after, Coming::People);
    }

    fn open_runs(&self) -> Vec<RunId> {
        self.model.runs.iter().filter(|(_, run)| !run.ended).map(|(id, _)| *id).collect()
    }

    fn submit_some(&mut self) {
        for key in 0..self.people.keys.len() {
            let known = &self.people.keys[key];
            let wanted = match (known.acknowledged, known.asking) {
                (None, 0) => self.dice.chance(30) || self.calm,
                (None, 1) | (Some(_), 0) => !self.calm && self.dice.chance(3),
                _ => false,
            };
            if wanted {
                self.submit(key);
            }
        }
    }

    fn submit(&mut self, index: usize) {
        let lives: Vec<LifeRef> = self.nodes.iter().flatten().map(|life| life.at).collect();
        let Some(of) = self.dice.pick(&lives).copied() else { return };
        let owned: Vec<Shard> =
            self.life(of).map_or_else(Vec::new, |life| life.shards.owned().map(|o| o.0).collect());
        let Some(shard) = self.dice.pick(&owned).copied() else { return };
        let run = RunId::new(self.wall(), self.dice.bytes(), shard);
        let key = &mut self.people.keys[index];
        key.asking += 1;
        let plan = key.plan.clone();
        let created = Created {
            workflow: plan.workflow.clone(),
            plan: plan.plan.clone(),
            inputs: plan.inputs.clone(),
            root: "/".into(),
            task_id: Some(key.name.clone()),
            agents: Default::default(),
        };
        let submit_key = SubmitKey { key: key.name.clone(), content: key.content };
        let ticket = self.ticket(Waiting::Submit { life: of, key: index, run });
        let submission = Submission {
            run,
            tenant: Tenant::default(),
            created,
            plan: plan.compiled.clone(),
            forked: None,
            payloads: plan.payloads.clone(),
            references: Vec::new(),
            key: Some(submit_key),
            note: None,
            ticket,
        };
        self.note(|| format!("{of} is asked for key {index} as {run}"));
        self.arrive(of, Offer::Submit(Box::new(submission)));
    }

    /// Does what the run waits for.
    fn help(&mut self, run: RunId) {
        let Some(state) = self.model.runs.get(&run).and_then(|run| run.state.as_ref()) else {
            return;
        };
        let (paused, wants) = (state.status() == Status::Paused, state.wants());
        let deciding = self.dice.pick(&wants.deciding).and_then(|step| state.find(step.as_str()));
        let by = self.people.name();
        if paused && self.dice.chance(60) {
            return self.wish(run, Command::Resume { by }, true);
        }
        if let Some(step) = self.dice.pick(&wants.approvals).cloned() {
            let approved = self.calm || self.dice.chance(80);
            let command = Command::Approve { step, approved, by, comment: "".into() };
            return self.wish(run, command, true);
        }
        if let Some((step, why)) = self.dice.pick(&wants.blocked).cloned() {
            let how = self.resolution(&why);
            return self.wish(run, Command::Resolve { step, how, by, comment: "".into() }, true);
        }
        if let Some(by) = deciding {
            let command = if self.calm || self.dice.chance(60) {
                Command::Enough { by }
            } else {
                Command::Grow { by, parts: Parts::Count(1), join: Join::Until }
            };
            self.wish(run, command, false);
        }
    }

    fn resolution(&mut self, why: &Blocked) -> Resolved {
        let value = match why {
            Blocked::InDoubt { ordinal, .. } => json!(ordinal),
            Blocked::NoAgent { .. }
            | Blocked::Budget { .. }
            | Blocked::Account { .. }
            | Blocked::Question { .. } => Json::Null,
        };
        match self.dice.below(10) {
            0..5 => Resolved::Retry,
            5..8 => Resolved::Done(Value::Inline(Arc::new(value))),
            8 => Resolved::Skip,
            _ => Resolved::Fail,
        }
    }

    /// Does something else.
    fn meddle(&mut self, run: RunId) {
        let by = self.people.name();
        match self.dice.below(20) {
            0..6 => self.wish(run, Command::Pause { by, reason: "".into() }, false),
            6..7 => self.wish(run, Command::Cancel { by, reason: "".into() }, false),
            7..9 => self.wish(run, Command::Resume { by }, true),
            9..16 => self.grow(run),
            _ => {
                // Somebody answers what was decided, or asks for what is not there.
                let Some(state) = self.model.runs[&run].state.as_ref() else { return };
                let Some(step) = self.dice.pick(state.steps()) else { return };
                let (step, comment) = (step.id.clone(), "".into());
                self.wish(run, Command::Approve { step, approved: true, by, comment }, true);
            }
        }
    }

    /// Has a step that can begin grow.
    fn grow(&mut self, run: RunId) {
        let Some(state) = self.model.runs[&run].state.as_ref() else { return };
        let by = self.dice.pick(&state.wants().ready).and_then(|step| state.find(step.as_str()));
        let Some(by) = by else { return };
        let parts = Parts::Count(1 + u32::try_from(self.dice.below(3)).unwrap());
        let join = *self.dice.pick(&[Join::First, Join::Quorum(2), Join::Until]).unwrap();
        self.wish(run, Command::Grow { by, parts, join }, false);
    }

    /// Sends a wish to the owner of the run, or to somebody else.
    fn wish(&mut self, run: RunId, command: Command, must_say: bool) {
        let owner = self.holding(run.shard()).1.clone();
        let lives: Vec<LifeRef> = self.nodes.iter().flatten().map(|life| life.at).collect();
        let owning = self.nodes.iter().flatten().find(|life| Some(&life.id) == owner.as_ref());
        let owning = owning.map(|life| life.at);
        let of = match owning {
            Some(of) if self.calm || self.dice.chance(90) => of,
            _ => match self.dice.pick(&lives) {
                Some(of) => *of,
                None => return,
            },
        };
        let by = format!("person-{}", self.people.wishes).into();
        self.note(|| format!("{of} is asked for {run}: {command:?}"));
        let ticket = Some(self.ticket(Waiting::Wish { life: of, run, by, must_say }));
        let (tenant, payloads, references) = (Tenant::default(), Vec::new(), Vec::new());
        let tell = Box::new(Tell { tenant, run, command, payloads, references, ticket });
        let after = self.dice.range(0, 20 * MS);
        self.later(after, Coming::Offer { life: of, offer: Offer::Tell(tell) });
    }
}
