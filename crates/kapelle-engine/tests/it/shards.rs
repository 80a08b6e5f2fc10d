//! A loop without its shell, where the store and other nodes change what it holds: the cases that
//! the simulation has found, each by itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use kapelle_core::plan::Plan;
use kapelle_core::port::Agents;
use kapelle_core::port::agent::{
    Action as Verb, Agent, Answer, Call, Card, Desk, Failure, FailureKind, OnUnknown, Registered,
};
use kapelle_core::port::journal::{Error, Journal, Part, Settled};
use kapelle_core::run::{Command, Compiled, Created, Produced, SUSPECT_FOR, StepStatus, Takeover};
use kapelle_core::{Attempt, Epoch, Json, NodeId, RunId, Shard, StepNo, Tenant, Timestamp, Value};
use kapelle_engine::shards::{
    Action, Fold, Loaded, Offer, Outside, Reply, Shards, Start, Submission, Tell, Ticket,
};
use kapelle_engine::{Slot, Slots, Taken};
use kapelle_store::Memory;
use serde_json::json;

const SHARD: Shard = Shard(3);
const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

/// How an append went, once it is known.
type Told = Option<Result<Vec<Settled>, Error>>;

struct Worker(Card);

/// The same, but others do its work.
struct Remote(Worker);

#[async_trait]
impl Agent for Worker {
    fn card(&self) -> &Card {
        &self.0
    }

    fn on_unknown(&self, _action: &str, _input: &Json) -> OnUnknown {
        OnUnknown::Retry
    }

    async fn perform(&self, _call: Call, _desk: &dyn Desk) -> Result<Answer, Failure> {
        unreachable!("nobody is called here")
    }
}

#[async_trait]
impl Agent for Remote {
    fn card(&self) -> &Card {
        self.0.card()
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        self.0.perform(call, desk).await
    }
}

fn card() -> Card {
    let action = Verb {
        name: "do".into(),
        description: "works".into(),
        input: json!(true),
        output: json!(true),
    };
    Card {
        name: "worker".into(),
        description: "works".into(),
        actions: vec![action],
        concurrency_max: None,
    }
}

fn agents() -> Agents {
    let (card, mut agents) = (card(), Agents::default());
    agents.register(Arc::new(Worker(card))).unwrap();
    agents
}

fn plan() -> Arc<Compiled> {
    let step = json!({"id": "only", "work": {"agent": {"agent": "worker"}}});
    let plan = json!({"workflow": "one", "max_parallel": 1, "steps": [step]});
    Arc::new(Compiled::new(serde_json::from_value::<Plan>(plan).unwrap()).unwrap())
}

/// A node that owns the shard.
struct Node {
    shards: Shards,
    slots: Slots,
    agents: Agents,
    journal: Memory,
    now: Timestamp,
}

impl Node {
    fn new(journal: &Memory) -> Self {
        let agents = agents();
        let slots = Slots::new(4, &agents);
        let (shards, journal) = (Shards::new(1 << 20), journal.clone());
        let mut node = Self { shards, slots, agents, journal, now: NOW };
        node.claim();
        node
    }

    /// Takes the shard, from itself if need be.
    fn claim(&mut self) {
        let shards = self.journal.shards().now_or_never().unwrap().unwrap();
        let seen: Epoch = shards.iter().find(|holding| holding.shard == SHARD).unwrap().epoch;
        let (seen, owner) = ([(SHARD, seen)], NodeId::new("node"));
        let claim = self.journal.claim(&seen, &owner);
        let won = claim.now_or_never().unwrap().unwrap();
        drop(self.shards.disown(SHARD));
        self.shards.own(SHARD, won[0].1);
    }

    /// Takes turns until nothing is left to load; what is to be done, and what is to be appended.
    fn turn(&mut self) -> (Vec<Action>, Option<Vec<Part>>) {
        let mut done = Vec::new();
        loop {
            let outside = Outside { now: self.now, agents: &self.agents, slots: &self.slots };
            let turned = self.shards.turn(&outside);
            let loads: Vec<RunId> = turned
                .actions
                .iter()
                .filter_map(|action| match action {
                    Action::LoadRun { run, .. } => Some(*run),
                    _ => None,
                })
                .collect();
            done.extend(turned.actions);
            if loads.is_empty() {
                return (done, turned.append);
            }
            assert!(turned.append.is_none(), "what is loaded comes first in these tests");
            loads.into_iter().for_each(|run| self.load(run));
        }
    }

    fn load(&mut self, run: RunId) {
        let entries = self.journal.read(&Tenant::default(), run, 1).now_or_never().unwrap();
        let mut fold = Fold::default();
        for entry in entries.unwrap() {
            fold.add(&entry, Some(&plan())).unwrap();
        }
        let loaded: Loaded = fold.finish().unwrap();
        self.shards.loaded(run, Tenant::default(), Ok(loaded), self.now);
    }

    /// Takes a turn and commits it.
    fn commit(&mut self) -> Vec<Action> {
        let (mut actions, append) = self.turn();
        let told: Arc<Mutex<Told>> = Arc::default();
        let tell = told.clone();
        let settled = Box::new(move |result| *tell.lock().unwrap() = Some(result));
        self.journal.append(append.expect("something is to be written"), settled);
        let result = told.lock().unwrap().take().unwrap();
        actions.extend(self.shards.settled(result));
        actions
    }

    fn submit(&mut self, run: RunId) {
        let created = Created {
            workflow: "one".into(),
            plan: Value::null(),
            inputs: Value::Inline(Arc::new(json!({}))),
            root: "/".into(),
            task_id: None,
            agents: Default::default(),
        };
        let (tenant, payloads) = Default::default();
        let (plan, ticket) = (plan(), Ticket(0));
        let (forked, references, key, note) = (None, Vec::new(), None, None);
        let new = Submission {
            run,
            tenant,
            created,
            plan,
            forked,
            payloads,
            references,
            key,
            note,
            ticket,
        };
        self.shards.offer(Offer::Submit(Box::new(new)));
    }

    fn tell(&mut self, run: RunId, command: Command, ticket: u64) {
        let (tenant, payloads, references) = Default::default();
        let ticket = Some(Ticket(ticket));
        let tell = Tell { tenant, run, command, payloads, references, ticket };
        self.shards.offer(Offer::Tell(Box::new(tell)));
    }
}

fn run(number: u8) -> RunId {
    RunId::new(NOW, [number; 10], SHARD)
}

fn pause() -> Command {
    Command::Pause { by: "eva".into(), reason: "".into() }
}

fn answered() -> Command {
    let (value, json) = (Value::null(), Arc::new(Json::Null));
    let (artifacts, usage, engine) = Default::default();
    let answer = Box::new(Produced { value, json, artifacts, usage, engine });
    Command::Answered { step: StepNo(0), attempt: Attempt(1), answer }
}

fn stops_all(actions: &[Action], of: RunId) -> bool {
    actions.iter().any(|action| matches!(action, Action::StopAll { run } if *run == of))
}

#[test]
fn a_run_that_another_node_has_ended_leaves_no_attempt_behind() {
    let journal = Memory::new();
    let mut old = Node::new(&journal);
    old.submit(run(1));
    let begun = old.commit();
    assert!(begun.iter().any(|action| matches!(action, Action::Start(_))));
    old.tell(run(1), pause(), 1);
    let (_, append) = old.turn();
    assert!(append.is_some());

    let mut new = Node::new(&journal);
    new.tell(run(1), Command::Cancel { by: "tom".into(), reason: "".into() }, 2);
    new.commit();

    // The old owner does not learn that it is one: its append does not get so far.
    let mut actions = old.shards.settled(Err(Error::Busy { file: "store".into() }));
    let reads = actions.iter().any(|action| matches!(action, Action::LoadRun { .. }));
    assert!(reads, "a refused run is read again: {actions:?}");
    old.load(run(1));
    actions.extend(old.turn().0);
    assert!(stops_all(&actions, run(1)), "the attempt is told: {actions:?}");
}

#[test]
fn a_run_whose_end_did_not_get_to_disk_is_worked_on() {
    let journal = Memory::new();
    let mut old = Node::new(&journal);
    old.submit(run(1));
    old.commit();

    let mut new = Node::new(&journal);
    new.tell(run(1), Command::Cancel { by: "tom".into(), reason: "".into() }, 1);
    let (tenant, takeover, ticket) = Default::default();
    new.shards.offer(Offer::Work { tenant, run: run(1), takeover, ticket });
    assert!(new.turn().1.is_some(), "the run ends, if this gets to disk");
    drop(new.shards.settled(Err(Error::Busy { file: "store".into() })));
    new.load(run(1));
    // It is adopted, and what was lost with the old node begins again.
    let actions = new.commit();
    assert!(actions.iter().any(|action| matches!(action, Action::Publish(_))), "{actions:?}");
    assert!(new.shards.run(run(1)).is_some_and(|run| run.ended().is_none()));
    assert!(new.shards.next_timer().is_some(), "the lost attempt is made again");
}

#[test]
fn what_a_damaged_run_had_staged_is_not_told_as_done() {
    let mut node = Node::new(&Memory::new());
    (1..=4).for_each(|n| node.submit(run(n)));
    node.commit();
    node.tell(run(1), pause(), 1);
    assert!(node.turn().1.is_some(), "an append is under way");
    for n in 2..=4 {
        node.tell(run(n), pause(), 9);
        assert!(node.turn().1.is_some(), "and one of another run");
    }
    node.claim();
    node.tell(run(1), pause(), 2);
    assert!(node.turn().1.is_none(), "the next one waits for them");

    let why = Error::Corrupt { run: run(1), seq: 2, message: "a hash does not match".into() };
    let actions = node.shards.settled(Err(why));
    let told = actions.iter().find_map(|action| match action {
        Action::Reply(Ticket(2), reply) => Some(reply),
        _ => None,
    });
    assert!(matches!(told, Some(Reply::Damaged(_))), "{actions:?}");

    // The others go on, and nothing of the damaged one goes with them.
    for _ in 2..=4 {
        drop(node.shards.settled(Ok(vec![Settled::Stale])));
    }
    node.tell(run(2), pause(), 3);
    let actions = node.commit();
    let done = |ticket: u64| {
        actions.iter().any(|action| match action {
            Action::Reply(of, Reply::Done { .. }) => *of == Ticket(ticket),
            _ => false,
        })
    };
    assert!(done(3) && !done(2), "{actions:?}");
}

#[test]
fn a_damaged_run_of_a_shard_that_was_given_up_is_not_kept() {
    let mut node = Node::new(&Memory::new());
    node.submit(run(1));
    node.commit();
    node.tell(run(1), pause(), 1);
    assert!(node.turn().1.is_some(), "an append is under way");
    drop(node.shards.disown(SHARD));
    let why = Error::Corrupt { run: run(1), seq: 2, message: "a hash does not match".into() };
    drop(node.shards.settled(Err(why)));
    assert!(node.shards.is_empty());
}

#[test]
fn a_step_that_others_do_begins_for_those_who_offer_and_takes_no_slot() {
    let mut node = Node::new(&Memory::new());
    let (acme, other) = (Tenant::default(), Tenant::new("other"));
    let remote = || Arc::new(Registered::new(Arc::new(Remote(Worker(card())))).unwrap());
    node.agents.register_for(&acme, remote());
    node.agents.register_for(&other, remote());
    (1..=3).for_each(|n| node.submit(run(n)));
    assert_eq!(starts(node.commit()).len(), 0, "nobody offers");
    let offer = |node: &mut Node, tenant: &Tenant, more| {
        let slot = Slot::offered(tenant, "worker");
        node.slots.offer(&slot, more);
        node.shards.offered(slot);
    };
    offer(&mut node, &other, 1);
    assert!(node.turn().1.is_none(), "an offer of somebody else");
    offer(&mut node, &acme, 1);
    let begun: Vec<_> = starts(node.commit()).iter().map(|start| start.call.run).collect();
    assert_eq!(begun, [run(1)], "whoever came first");
    offer(&mut node, &acme, 1);
    offer(&mut node, &acme, -1);
    assert!(node.turn().1.is_none(), "whoever offered has left");
    // What was offered and is given back is had by the next one.
    offer(&mut node, &acme, 1);
    let (_, append) = node.turn();
    drop(append);
    let given = node.shards.disown(SHARD);
    assert!(given.iter().any(|action| matches!(action, Action::GiveSlot { .. })), "{given:?}");
    let free = (0..).take_while(|_| node.slots.take(&"x".into(), false, NOW) == Taken::Yes).count();
    assert_eq!(free, 4, "of the node's own slots all are left");
}

#[test]
fn an_attempt_that_others_are_at_goes_on_with_the_node_that_takes_its_run_over() {
    let journal = Memory::new();
    let with_remote = || {
        let mut node = Node::new(&journal);
        let remote = Registered::new(Arc::new(Remote(Worker(card())))).unwrap();
        node.agents.register_for(&Tenant::default(), Arc::new(remote));
        node
    };
    let mut old = with_remote();
    old.submit(run(1));
    assert_eq!(starts(old.commit()).len(), 0, "nobody offers");
    let slot = Slot::offered(&Tenant::default(), "worker");
    old.slots.offer(&slot, 1);
    old.shards.offered(slot);
    assert_eq!(starts(old.commit()).len(), 1);
    let mut new = with_remote();
    let takeover = Takeover { died: true, ..Takeover::default() };
    let (tenant, run, ticket) = (Tenant::default(), run(1), None);
    new.shards.offer(Offer::Work { tenant, run, takeover, ticket });
    let gone_on = starts(new.commit());
    let of = |start: &Start| (start.call.goes_on, start.call.attempt, start.call.key.clone());
    let key = format!("{run}/only/0/0").into();
    assert_eq!(gone_on.iter().map(of).collect::<Vec<_>>(), [(true, Attempt(1), key)]);
    new.tell(run, answered(), 1);
    new.commit();
    assert!(new.shards.is_empty(), "its answer is taken, and ends the run");
}

#[test]
fn an_agent_in_trouble_is_left_alone_and_its_steps_wait() {
    let mut node = Node::new(&Memory::new());
    let failure = Failure::new(FailureKind::Unavailable, "down", "it is down");
    let down = Command::Failed { step: StepNo(0), attempt: Attempt(1), failure };
    (0..10).for_each(|_| node.slots.note(&"worker".into(), &down, NOW));
    node.submit(run(1));
    node.submit(run(2));
    assert_eq!(starts(node.commit()).len(), 0);
    let at = NOW.after(Duration::from_secs(1));
    assert_eq!(node.shards.next_timer(), Some(at), "the loop wakes up by itself");

    node.now = at;
    assert_eq!(starts(node.commit()).len(), 1, "one goes through");
    node.slots.note(&"worker".into(), &answered(), at);
    let again = node.shards.next_timer().unwrap();
    assert_eq!(again, at.after(Duration::from_secs(1)), "the other one is asked about again");
    node.now = again;
    assert_eq!(starts(node.commit()).len(), 1);
    let taken = |id| node.shards.run(id).and_then(|run| run.step(StepNo(0))?.attempt);
    assert_eq!([taken(run(1)), taken(run(2))], [Some(Attempt(1)); 2], "waiting cost no attempt");
}

#[test]
fn an_agent_that_never_answers_in_time_is_left_alone_too() {
    let mut node = Node::new(&Memory::new());
    node.slots = Slots::new(20, &node.agents);
    (1..=10).for_each(|n| node.submit(run(n)));
    assert_eq!(starts(node.commit()).len(), 10);
    node.now = NOW.after(Duration::from_hours(24));
    drop(node.commit());
    node.submit(run(11));
    assert_eq!(starts(node.commit()).len(), 0);
}

#[test]
fn retries_of_many_runs_are_within_what_their_agent_is_allowed() {
    let mut node = Node::new(&Memory::new());
    node.slots = Slots::new(1_000, &node.agents);
    (1..=150).for_each(|n| node.submit(run(n)));
    assert_eq!(node.starts_of_all().len(), 150);
    let failure = Failure::new(FailureKind::Unavailable, "down", "it is down");
    let down = Command::Failed { step: StepNo(0), attempt: Attempt(1), failure };
    (1..=150).for_each(|n| node.tell(run(n), down.clone(), n.into()));
    assert_eq!(node.starts_of_all().len(), 0);

    node.now = NOW.after(Duration::from_mins(1));
    let again = node.starts_of_all();
    assert_eq!(again.len(), 100, "what was saved up");
    assert!(again.iter().all(|start| start.attempt() == Attempt(2)));
    (151..=200).for_each(|n| node.submit(run(n)));
    let more = node.starts_of_all();
    let first = more.iter().filter(|start| start.attempt() == Attempt(1)).count();
    assert_eq!(first, 50, "what is no retry does not wait for them");
    let second = node.now.after(Duration::from_secs(1));
    assert!(node.shards.next_timer().is_some_and(|at| at <= second), "the loop wakes up by itself");
    node.now = second;
    let retries = more.len() - first + node.starts_of_all().len();
    assert_eq!(retries, 11, "one for five of those, and one for the second");
}

impl Node {
    /// All that starts before time goes on.
    fn starts_of_all(&mut self) -> Vec<Start> {
        let mut all = Vec::new();
        while self.shards.is_busy() || self.shards.next_timer().is_some_and(|at| at <= self.now) {
            all.extend(starts(self.commit()));
        }
        all
    }

    /// A node that takes over runs 1 and 2 from one that died.
    fn after(journal: &Memory) -> Self {
        let mut node = Self::new(journal);
        let takeover = Takeover { died: true, ..Takeover::default() };
        for run in [run(1), run(2)] {
            let (tenant, ticket) = Default::default();
            node.shards.offer(Offer::Work { tenant, run, takeover, ticket });
        }
        node
    }

    fn is_blocked(&self, run: RunId) -> bool {
        let run = self.shards.run(run).unwrap();
        matches!(run.steps()[0].status, StepStatus::Blocked(_))
    }
}

/// The attempts that start; what starts is at work until it is dropped.
fn starts(actions: Vec<Action>) -> Vec<Start> {
    let start = |action| match action {
        Action::Start(start) => Some(*start),
        _ => None,
    };
    actions.into_iter().filter_map(start).collect()
}

#[test]
fn of_the_steps_that_nodes_died_with_one_begins_at_a_time() {
    let journal = Memory::new();
    let mut first = Node::new(&journal);
    first.submit(run(1));
    first.submit(run(2));
    assert_eq!(starts(first.commit()).len(), 2);
    assert_eq!(starts(Node::after(&journal).commit()).len(), 2, "one death proves nothing");

    let mut third = Node::after(&journal);
    let one = starts(third.commit());
    assert_eq!(one.len(), 1, "two do: of the suspects one begins");
    third.submit(run(3));
    assert_eq!(starts(third.commit()).len(), 1, "and what is new");
    assert_eq!(third.shards.next_timer(), Some(NOW.after(SUSPECT_FOR)));

    let mut fourth = Node::after(&journal);
    let mut other = starts(fourth.commit());
    let (other, guilty) = (other.pop().unwrap().call.run, one[0].call.run);
    assert_ne!(other, guilty);
    assert!(fourth.is_blocked(guilty) && !fourth.is_blocked(other));
}

#[test]
fn the_next_suspect_begins_when_the_one_before_has_ended_or_lived_for_a_minute() {
    let journal = Memory::new();
    let mut first = Node::new(&journal);
    first.submit(run(1));
    first.submit(run(2));
    drop(first.commit());
    drop(Node::after(&journal).commit());

    let mut third = Node::after(&journal);
    let one = starts(third.commit());
    third.now = NOW.after(SUSPECT_FOR - std::time::Duration::from_micros(1));
    assert!(third.turn().1.is_none(), "it is still a suspect");
    third.now = NOW.after(SUSPECT_FOR);
    assert_eq!(starts(third.commit()).len(), 1, "it is none any more");

    let mut fourth = Node::after(&journal);
    fourth.now = third.now;
    drop(one);
    // The one that had run for so long begins anew, as a suspect that no death was added to.
    let one = starts(fourth.commit());
    assert_eq!(one.len(), 1);
    assert!(fourth.is_blocked(run(1)) != fourth.is_blocked(run(2)));
}
