//! People and programs that want something, and what they were told.

use std::collections::BTreeSet;
use std::sync::Arc;

use kapelle_core::plan::Plan;
use kapelle_core::port::journal::SubmitKey;
use kapelle_core::run::{
    Blocked, Command, Compiled, Created, EffectId, Join, Outcome, Parts, Resolved, Run, Status,
};
use kapelle_core::{Digest, Json, RunId, Shard, StepNo, Tenant, Value};
use kapelle_engine::shards::{Offer, Reply, Submission, Tell, Ticket};
use serde_json::json;

use super::dice::Dice;
use super::model::Model;
use super::node::LifeRef;
use super::plans;
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
    plan: Plan,
    inputs: Json,
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
    pub(super) fn new(dice: &mut Dice) -> Self {
        let mut people = Self { keys: Vec::new(), crashed: 0, crashed_in_recovery: 0, wishes: 0 };
        (0..3 + dice.below(3)).for_each(|_| people.want_another(dice));
        people
    }

    fn want_another(&mut self, dice: &mut Dice) {
        let (plan, inputs) = plans::plan(dice);
        let name = format!("key-{}", self.keys.len()).into();
        self.keys.push(Key { name, plan, inputs, acknowledged: None, asking: 0 });
    }

    /// The keys that nobody has confirmed.
    pub(super) fn unanswered(&self) -> Vec<&str> {
        let open = self.keys.iter().filter(|key| key.acknowledged.is_none());
        open.map(|key| &*key.name).collect()
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

impl World {
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
        if let Reply::Damaged(why) = &reply {
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
                Reply::NotFound | Reply::Twin { .. } => {
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
                if self.life(life).is_some_and(|life| life.owns(run.shard()).is_some()) {
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
            Reply::Twin { run, .. } => *run,
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
            if ended && self.people.unanswered().is_empty() && self.model.transitions < 200 {
                let mut dice = Dice::new(self.dice.next());
                self.people.want_another(&mut dice);
            }
            return self.later(2 * SECOND, Coming::People);
        }
        let open = self.open_runs();
        if open.is_empty() && self.people.unanswered().is_empty() {
            // Faults need something to go wrong with.
            let mut dice = Dice::new(self.dice.next());
            self.people.want_another(&mut dice);
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
        let (inputs, payload) = Value::of(key.inputs.clone(), kapelle_core::INLINE_MAX);
        let plan = serde_json::to_value(&key.plan).unwrap();
        let created = Created {
            workflow: "sim".into(),
            plan: Value::Inline(Arc::new(plan)),
            inputs,
            root: "/".into(),
            task_id: Some(key.name.clone()),
        };
        let content = Digest::of(key.name.as_bytes());
        let submit_key = SubmitKey { key: key.name.clone(), content };
        let plan = Arc::new(Compiled::new(key.plan.clone()).unwrap());
        let ticket = self.ticket(Waiting::Submit { life: of, key: index, run });
        let submission = Submission {
            run,
            tenant: Tenant::default(),
            created,
            plan,
            payloads: payload.into_iter().collect(),
            key: Some(submit_key),
            ticket,
        };
        self.note(|| format!("{of} is asked for key {index} as {run}"));
        self.arrive(of, Offer::Submit(Box::new(submission)));
    }

    /// Does what the run waits for.
    fn help(&mut self, run: RunId) {
        let Some(state) = self.model.runs.get(&run).and_then(|run| run.fold.run()).cloned() else {
            return;
        };
        let by = self.name();
        if state.status() == Status::Paused && self.dice.chance(60) {
            return self.wish(run, Command::Resume { by }, true);
        }
        let wants = state.wants();
        if let Some(step) = self.dice.pick(&wants.approvals).cloned() {
            let approved = self.calm || self.dice.chance(80);
            let command = Command::Approve { step, approved, by, comment: "".into() };
            return self.wish(run, command, true);
        }
        if let Some((step, why)) = self.dice.pick(&wants.blocked).cloned() {
            let how = self.resolution(&state, &why);
            return self.wish(run, Command::Resolve { step, how, by, comment: "".into() }, true);
        }
        if let Some(step) = self.dice.pick(&wants.deciding).cloned()
            && let Some(by) = state.find(step.as_str())
        {
            let command = if self.calm || self.dice.chance(60) {
                Command::Enough { by }
            } else {
                Command::Grow { by, parts: Parts::Count(1), join: Join::Until }
            };
            self.wish(run, command, false);
        }
    }

    fn resolution(&mut self, _state: &Run, why: &Blocked) -> Resolved {
        let value = match why {
            Blocked::InDoubt { ordinal } => json!(ordinal),
            Blocked::NoAgent { .. } => Json::Null,
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
        let Some(state) = self.model.runs.get(&run).and_then(|run| run.fold.run()).cloned() else {
            return;
        };
        let by = self.name();
        match self.dice.below(20) {
            0..6 => self.wish(run, Command::Pause { by, reason: "".into() }, false),
            6..7 => self.wish(run, Command::Cancel { by, reason: "".into() }, false),
            7..9 => self.wish(run, Command::Resume { by }, true),
            9..16 => {
                let ready = state.wants().ready;
                let Some(step) = self.dice.pick(&ready).cloned() else { return };
                let Some(by) = state.find(step.as_str()) else { return };
                let parts = Parts::Count(1 + u32::try_from(self.dice.below(3)).unwrap());
                let join = *self.dice.pick(&[Join::First, Join::Quorum(2), Join::Until]).unwrap();
                self.wish(run, Command::Grow { by, parts, join }, false);
            }
            _ => {
                // Somebody answers what was decided, or asks for what is not there.
                let steps: BTreeSet<_> = state.steps().iter().map(|step| step.id.clone()).collect();
                let steps: Vec<_> = steps.into_iter().collect();
                let Some(step) = self.dice.pick(&steps).cloned() else { return };
                let command = Command::Approve { step, approved: true, by, comment: "".into() };
                self.wish(run, command, true);
            }
        }
    }

    fn name(&mut self) -> Box<str> {
        self.people.wishes += 1;
        format!("person-{}", self.people.wishes).into()
    }

    /// Sends a wish to the owner of the run, or to somebody else.
    fn wish(&mut self, run: RunId, command: Command, must_say: bool) {
        let owner = self.holding(run.shard()).1;
        let lives: Vec<LifeRef> = self.nodes.iter().flatten().map(|life| life.at).collect();
        let owning = self.nodes.iter().flatten().find(|life| Some(life.id()) == owner);
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
