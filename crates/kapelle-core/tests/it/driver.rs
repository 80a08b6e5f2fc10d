//! The engine's turn around one run, without an engine: commands in, events kept in a journal.
//!
//! **Invariant:** what the driver does is what the engine does, in its order: wake, decide, apply,
//! follow, begin while there are slots, end. Nothing but events survives [`Driver::crash`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kapelle_core::plan::{Plan, Work};
use kapelle_core::port::agent::{
    Action, Agent, Agents, Answer, Call, Card, Desk, Failure, OnUnknown,
};
use kapelle_core::run::{
    Begun, Command, Compiled, Created, Event, Forked, Lane, Missing, Refusal, Run, SUSPECT_FOR,
    Step, Values, World,
};
use kapelle_core::{Digest, Json, RunId, StepNo, Timestamp, Value};

/// When every run here is created.
pub(crate) const BIRTH: Timestamp = Timestamp(1_700_000_000_000_000);

/// One run and the world around it.
pub(crate) struct Driver {
    pub(crate) run: Run,
    pub(crate) now: Timestamp,
    pub(crate) journal: Vec<(Timestamp, Event)>,
    /// How many attempts of an agent go on at once; those not named: any number.
    pub(crate) slots: BTreeMap<Box<str>, usize>,
    pub(crate) agents: Agents,
    pub(crate) values: Payloads,
    /// Who does the running steps, and since when.
    busy: BTreeMap<StepNo, (Box<str>, Timestamp)>,
    plan: Arc<Compiled>,
    created: Created,
    id: RunId,
}

/// The payloads that were kept, and whether they are at hand.
#[derive(Default)]
pub(crate) struct Payloads {
    pub(crate) kept: BTreeMap<Digest, Arc<Json>>,
    pub(crate) away: bool,
}

impl Values for Payloads {
    fn get(&self, digest: &Digest) -> Option<Arc<Json>> {
        self.kept.get(digest).filter(|_| !self.away).cloned()
    }
}

impl Driver {
    /// A run of `plan` at its birth; all agents that it names are at hand.
    pub(crate) fn new(plan: Plan, inputs: Json, id: RunId) -> Self {
        let mut agents = Agents::default();
        for step in &plan.steps {
            if let Work::Agent { agent, .. } = &step.work {
                agents.register(Arc::new(Player::new(agent))).unwrap();
            }
        }
        let created = Created {
            workflow: plan.workflow.clone(),
            plan: Value::null(),
            inputs: Value::Inline(Arc::new(inputs)),
            root: "/work".into(),
            task_id: None,
            agents: Default::default(),
        };
        let plan = Arc::new(Compiled::new(plan).unwrap());
        let run = Run::new(id, &created, plan.clone(), BIRTH);
        Self {
            run,
            now: BIRTH,
            journal: Vec::new(),
            slots: BTreeMap::new(),
            agents,
            values: Payloads::default(),
            busy: BTreeMap::new(),
            plan,
            created,
            id,
        }
    }

    /// A run of the same plan that goes on from what this one has done, at its birth.
    pub(crate) fn fork(&self, inputs: Json, forked: Forked) -> Self {
        let mut fork = Self::new(self.plan.plan.clone(), inputs, RunId::from_bytes([8; 16]));
        fork.slots.clone_from(&self.slots);
        fork.values.kept.clone_from(&self.values.kept);
        fork.happened(Event::RunForked(Box::new(forked)));
        fork.follow();
        fork
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
    }

    /// Decides a command and takes note of what follows.
    pub(crate) fn tell(&mut self, command: Command) -> Result<(), Refusal> {
        // Who takes a run over says so first: what ran out meanwhile ran out for nobody.
        if !matches!(command, Command::Adopt(..)) {
            self.run.wake(self.now);
        }
        for event in self.run.decide(command, self.now)? {
            self.happened(event);
        }
        self.follow();
        Ok(())
    }

    /// Takes note of an event.
    pub(crate) fn happened(&mut self, event: Event) {
        if let Event::StepStarted { step, agent, .. } = &event {
            self.busy.insert(*step, (agent.clone(), self.now));
        }
        self.run.apply(&event, self.now);
        let text = serde_json::to_string(&event).unwrap();
        let read: Event = serde_json::from_str(&text).unwrap();
        assert_eq!(read, event, "a store gives back what was written");
        self.journal.push((self.now, read));
    }

    fn follow(&mut self) {
        while let Some(event) = self.run.follow() {
            self.happened(event);
        }
    }

    /// Begins what can begin, and ends the run if that is all that is left.
    pub(crate) fn turn(&mut self) {
        self.run.wake(self.now);
        self.follow();
        let mut aside = BTreeSet::new();
        while let Some(no) = self.run.next(|lane| self.has_slot(lane), &aside) {
            match self.run.begin(no, &self.world()) {
                Ok(begun) => self.begun(begun),
                Err(Missing(_)) => drop(aside.insert(no)),
            }
        }
        if self.run.is_ending()
            && let Ok(begun) = self.run.end(&self.world())
        {
            self.begun(begun);
        }
    }

    pub(crate) fn world(&self) -> World<'_> {
        World { now: self.now, values: &self.values, agents: &self.agents }
    }

    fn begun(&mut self, begun: Begun) {
        for payload in begun.payloads {
            let json = serde_json::from_slice(&payload.bytes).unwrap();
            self.values.kept.insert(payload.digest, Arc::new(json));
        }
        for event in begun.events {
            self.happened(event);
        }
        self.follow();
    }

    fn has_slot(&self, lane: Lane) -> bool {
        let Some(number) = lane.agent() else { return true };
        if matches!(lane, Lane::Alone(_)) && self.has_suspect() {
            return false;
        }
        let agent = self.plan.agent(number);
        let Some(limit) = self.slots.get(agent) else { return true };
        let busy = self
            .run
            .running()
            .filter(|(no, _)| self.busy.get(no).is_some_and(|(a, _)| **a == *agent));
        busy.count() < *limit
    }

    /// Whether a step that nodes may have died of has just begun.
    fn has_suspect(&self) -> bool {
        let is_suspect = |no| self.run.step(no).is_some_and(Step::is_suspect);
        let is_new = |no| self.now.since(self.busy[&no].1) < SUSPECT_FOR;
        self.run.running().any(|(no, _)| is_suspect(no) && is_new(no))
    }

    /// The run as its events make it.
    pub(crate) fn replayed(&self) -> Run {
        let mut run = Run::new(self.id, &self.created, self.plan.clone(), BIRTH);
        for (at, event) in &self.journal {
            run.apply(event, *at);
        }
        run
    }

    /// The process dies, and another one reads the journal: it has the same to do.
    pub(crate) fn crash(&mut self) {
        self.run.wake(self.now);
        assert_eq!(self.run.follow(), None, "what follows has happened");
        let mut replayed = self.replayed();
        replayed.wake(self.now);
        assert_eq!(replayed.follow(), None, "nothing follows twice");
        assert_eq!(replayed.wants(), self.run.wants(), "takeover changed the work");
        assert_eq!(replayed, self.run, "takeover changed the run");
        self.run = self.replayed();
    }

    /// The same, but the last events had not reached the disk: the first `len` are left.
    pub(crate) fn crash_before_commit(&mut self, len: usize) {
        self.crash();
        self.journal.truncate(len);
        self.run = self.replayed();
    }
}

/// An agent that can be asked anything; `careful` wants to be asked about unknown ends, and
/// `strict` takes `{"n": …}` only.
pub(crate) struct Player {
    card: Card,
}

impl Player {
    pub(crate) fn new(name: &str) -> Self {
        let input = if name == "strict" {
            serde_json::json!({"type": "object", "required": ["n"]})
        } else {
            Json::Bool(true)
        };
        let action = Action {
            name: "do".into(),
            description: "does it".into(),
            input,
            output: Json::Bool(true),
        };
        Self {
            card: Card {
                name: name.into(),
                description: "does as the script says".into(),
                actions: vec![action],
                concurrency_max: None,
            },
        }
    }
}

#[async_trait]
impl Agent for Player {
    fn card(&self) -> &Card {
        &self.card
    }

    fn on_unknown(&self, _action: &str, _input: &Json) -> OnUnknown {
        if &*self.card.name == "careful" { OnUnknown::Ask } else { OnUnknown::Retry }
    }

    async fn perform(&self, _call: Call, _desk: &dyn Desk) -> Result<Answer, Failure> {
        unreachable!("core calls nobody")
    }
}
