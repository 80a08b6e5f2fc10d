//! The life of a run: `decide` says what happens, `apply` records it, `wants` and `ready` say what
//! to do now, `begin` and `end` evaluate what a step or the run was given.
//!
//! **Invariants:** `apply` is total and evaluates nothing; every transition touches what it changes,
//! never all steps of the plan; what is in memory only (indexes, timers, dues) is a function of the events.
//!
//! The engine calls these in a circle: `kapelle_engine::shards`.

mod apply;
mod arena;
mod begin;
mod budget;
mod command;
mod compiled;
mod decide;
mod decode;
mod event;
mod fork;
mod group;
mod mail;
mod poison;
mod question;
mod ready;
mod spend;
mod step;
mod values;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use begin::{Begun, Prepared, World};
pub use command::{Command, Produced, Refusal, Takeover};
pub use compiled::{BadPlan, Compiled};
pub use decide::{LACKING, NOT_YET, OUT_OF_TIME, OVER_ACCOUNT, OVER_OWN_BUDGET};
pub use event::{
    Blocked, Created, EffectId, Event, Forked, Join, Outcome, Parts, Resolved, Skipped, Taken,
    TakenEnd, Verdict,
};
pub use mail::Message;
pub use poison::SUSPECT_FOR;
pub use question::{SAID_MAX, UNANSWERED};
pub use ready::Lane;
pub use spend::{Exceeded, Ledger, Over, Sum};
pub use step::{Effect, EffectState, Effects, Group, Status as StepStatus, Step};
pub use values::{Missing, Values};
pub use view::{Status, StepView, Wants};

use crate::{Json, RunId, StepId, StepNo, Timestamp, Value};

/// One durable execution of a plan, as its events have made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    id: RunId,
    plan: Arc<Compiled>,
    workflow: Box<str>,
    root: Box<str>,
    task_id: Option<Box<str>>,
    forked: Option<Box<Forked>>,
    inputs: Value,
    agents: BTreeMap<Box<str>, Value>,
    created_at: Timestamp,
    last_at: Timestamp,
    seq: u64,
    steps: arena::Arena,
    started: bool,
    paused: Option<Box<str>>,
    stopping: Option<(Verdict, Box<str>)>,
    ended: Option<Ended>,
    /// Steps that have not ended, grown ones included.
    open: usize,
    /// A failure that `onFailure: fail` does not forgive.
    failed: bool,
    /// A failure that the plan puts up with.
    errors: bool,
    running: BTreeSet<StepNo>,
    asked: BTreeSet<StepNo>,
    blocked: BTreeSet<StepNo>,
    ready: ready::Ready,
    timers: BTreeSet<(Timestamp, Timer)>,
    /// Attempts to come, by when they may begin.
    retries: BTreeSet<(Timestamp, StepNo)>,
    dues: VecDeque<Due>,
    clock: ActiveClock,
    budget: budget::Budget,
    ledger: spend::Ledger,
    mail: mail::Mail,
}

/// How a run ended, and with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How.
    pub verdict: Verdict,
    /// With what.
    pub output: Value,
    /// Why, where the verdict does not say it all.
    pub detail: Box<str>,
    /// When.
    pub at: Timestamp,
}

/// What is to happen at a certain time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The attempt is given up.
    Attempt(StepNo),
    /// Nobody answered.
    Approval(StepNo),
    /// An account may have room again.
    Account(StepNo),
    /// The run has used up its budget of time.
    Time,
    /// The run took too long.
    Run,
    /// The run took too long, waiting included.
    Deadline,
}

/// What follows by itself from what has happened, to be made an event at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// A need of the step was not done.
    Skip { step: StepNo, because: StepNo, blame: StepNo },
    /// A part of the group has ended.
    Join(StepNo),
}

/// How long the run has been active: an attempt running or startable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ActiveClock {
    since: Option<Timestamp>,
    spent: Duration,
}

impl Run {
    /// A run as its first event makes it. `plan` is what `created.plan` holds.
    #[must_use]
    pub fn new(id: RunId, created: &Created, plan: Arc<Compiled>, at: Timestamp) -> Self {
        let mut run = Self {
            id,
            workflow: created.workflow.clone(),
            root: created.root.clone(),
            task_id: created.task_id.clone(),
            forked: None,
            inputs: created.inputs.clone(),
            agents: created.agents.clone(),
            created_at: at,
            last_at: at,
            seq: 1,
            steps: arena::Arena::new(plan.fresh_steps()),
            started: false,
            paused: None,
            stopping: None,
            ended: None,
            open: plan.len(),
            failed: false,
            errors: false,
            running: BTreeSet::new(),
            asked: BTreeSet::new(),
            blocked: BTreeSet::new(),
            ready: ready::Ready::default(),
            timers: BTreeSet::new(),
            retries: BTreeSet::new(),
            dues: VecDeque::new(),
            clock: ActiveClock::default(),
            budget: budget::Budget::default(),
            ledger: spend::Ledger::default(),
            mail: mail::Mail::default(),
            plan,
        };
        for no in run.plan.sources().collect::<Vec<_>>() {
            run.make_ready(no);
        }
        if let Some(ms) = run.plan.plan.deadline_ms {
            run.timers.insert((at.after(Duration::from_millis(ms)), Timer::Deadline));
        }
        run.keep_time(at);
        run
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> RunId {
        self.id
    }

    /// The number of its last event.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The id of its workflow.
    #[must_use]
    pub fn workflow(&self) -> &str {
        &self.workflow
    }

    /// The client's own name for it.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.task_id.as_deref()
    }

    /// The submitter's folder.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Its plan.
    #[must_use]
    pub const fn plan(&self) -> &Arc<Compiled> {
        &self.plan
    }

    /// Its inputs, an object.
    #[must_use]
    pub const fn inputs(&self) -> &Value {
        &self.inputs
    }

    /// What those of its agents were at its start that have a definition, by name.
    #[must_use]
    pub const fn agents(&self) -> &BTreeMap<Box<str>, Value> {
        &self.agents
    }

    /// When it was created.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When its last event happened.
    #[must_use]
    pub const fn last_at(&self) -> Timestamp {
        self.last_at
    }

    /// How it ended, once it has.
    #[must_use]
    pub const fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// How many steps have not ended, grown ones included.
    #[must_use]
    pub const fn open(&self) -> usize {
        self.open
    }

    /// All steps, by arena number.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        self.steps.all()
    }

    /// One step.
    #[must_use]
    pub fn step(&self, no: StepNo) -> Option<&Step> {
        self.steps.get(no.index())
    }

    /// The step with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<StepNo> {
        let mut parts = id.split('.');
        let mut no = self.plan.find(parts.next()?)?;
        for part in parts {
            let group = self.steps[no.index()].group.as_deref()?;
            let wanted = self.steps[no.index()].id.grown(part);
            no = *group.parts.iter().find(|no| self.steps[no.index()].id == wanted)?;
        }
        Some(no)
    }

    /// The id of a step.
    #[must_use]
    pub fn name(&self, no: StepNo) -> Option<&StepId> {
        self.step(no).map(|step| &step.id)
    }

    /// What it did with its outside calls in earlier attempts, for replay.
    #[must_use]
    pub fn effects(&self, no: StepNo) -> Effects {
        self.step(no).and_then(|step| step.effects.as_deref().cloned()).unwrap_or_default()
    }

    /// What the plan says of a step; of a grown one, of its template.
    #[must_use]
    pub fn spec(&self, no: StepNo) -> &crate::plan::Step {
        &self.plan.plan.steps[self.steps[no.index()].spec as usize]
    }

    /// The variables of the run itself in expressions; its steps are shown where they are read only.
    fn variables(&self, reads_steps: bool) -> Json {
        let mut variables = serde_json::json!({
            "id": self.id.to_string(),
            "workflow": &*self.workflow,
            "taskId": self.task_id.as_deref(),
            "root": &*self.root,
            "createdAt": self.created_at.to_string(),
        });
        if reads_steps {
            variables["steps"] = self.begun();
        }
        variables
    }

    /// The steps that were begun, and when: in milliseconds since the run was created.
    fn begun(&self) -> Json {
        let ms = |at: Timestamp| {
            u64::try_from(at.since(self.created_at).as_millis()).unwrap_or(u64::MAX)
        };
        let shown = self.view().filter_map(|StepView { step, agent, .. }| {
            Some(serde_json::json!({
                "id": step.id.to_string(),
                "agent": agent,
                "status": step.status.as_str(),
                "attempts": step.attempt.map_or(0, |attempt| attempt.0),
                "startMs": ms(step.started_at?),
                "endMs": step.ended_at.map(ms),
            }))
        });
        shown.collect()
    }
}
