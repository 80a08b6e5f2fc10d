//! One turn: decide what was offered, begin what can begin, gather one append.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kapelle_core::plan::Work;
use kapelle_core::port::Agents;
use kapelle_core::port::agent::{Call, FailureKind};
use kapelle_core::port::journal::Part;
use kapelle_core::run::{
    Begun, Blocked, Command, Created, Event, Forked, Lane, Run, Status, TakenEnd, Takeover, Values,
    World,
};
use kapelle_core::{Digest, Json, RunId, Shard, StepNo, Tenant, Timestamp, Value};

use super::hosted::{Hosted, Start};
use super::settle::{Flight, FlightPart};
use super::{Action, Answer, Offer, Place, Reply, Shards, Stuck, Submission, Tell, Ticket, Turned};
use crate::slots::{Alone, Slot, Slots, Taken};
use crate::values::Cache;

/// At most so many offers are decided in one turn: the next ones while these are being written.
const OFFERS_MAX: usize = 32;
/// At most so many steps are begun in one turn.
const BEGINS_MAX: usize = 32;
/// About so many runs that wait for agents are told at once.
const STUCK_MAX: usize = 10_000;
/// So many starved runs at least are asked again in a turn.
const STARVED_MIN: usize = 64;

/// What a turn needs of the world.
pub struct Outside<'a> {
    /// The time.
    pub now: Timestamp,
    /// The agents at hand.
    pub agents: &'a Agents,
    /// How many attempts may go on.
    pub slots: &'a Slots,
}

/// The values at hand for one run: its own that are not on disk yet, those loaded for it, then
/// those of the loop.
struct AtHand<'a> {
    hosted: &'a Hosted,
    cache: &'a Cache,
}

impl Values for AtHand<'_> {
    fn get(&self, digest: &Digest) -> Option<Arc<Json>> {
        let Hosted { staged, sent, pins, .. } = self.hosted;
        let own = [&staged.values, sent, pins].into_iter().find_map(|values| values.get(digest));
        own.cloned().or_else(|| self.cache.get(digest))
    }
}

impl Shards {
    /// Deals with what was offered and what is due, and gathers one append if none is under way.
    pub fn turn(&mut self, outside: &Outside<'_>) -> Turned {
        for _ in 0..OFFERS_MAX {
            let Some(offer) = self.queue.pop_front() else { break };
            self.take(offer, outside);
        }
        self.fire_timers(outside);
        self.begin_all(outside);
        self.begin_offered(outside);
        Turned { append: self.gather(), actions: std::mem::take(&mut self.actions) }
    }

    fn take(&mut self, offer: Offer, outside: &Outside<'_>) {
        let now = outside.now;
        match offer {
            Offer::Submit(submission) => self.submit(*submission, now),
            Offer::Tell(tell) => {
                let run = tell.run;
                self.tell(tell, now);
                self.leave_if_over(run);
            }
            Offer::Work { tenant, run, takeover, ticket } => {
                self.work(tenant, run, takeover, ticket, outside);
                self.leave_if_over(run);
            }
            Offer::Mail { tenant, run, step, after, ticket } => {
                self.mail(tenant, run, step, after, ticket);
                self.leave_if_over(run);
            }
        }
    }

    /// A run that has ended is read for the sake of an answer only.
    fn leave_if_over(&mut self, run: RunId) {
        let over = |hosted: &mut Hosted| hosted.is_settled() && hosted.run.ended().is_some();
        if self.here(run).is_some_and(over) {
            self.forget(run);
        }
    }

    fn submit(&mut self, new: Submission, now: Timestamp) {
        let Submission {
            run: id,
            tenant,
            created,
            plan,
            forked,
            payloads,
            references,
            key,
            note,
            ticket,
        } = new;
        if !self.epochs.contains_key(&id.shard()) {
            return self.reply(Some(ticket), Reply::NotOwner);
        }
        let read = read_of(&created, forked.as_deref());
        let run = Run::new(id, &created, plan, now);
        let mut hosted = Hosted::created(run, tenant, key, Event::RunCreated(Box::new(created)));
        if let Some(forked) = forked {
            hosted.record(vec![Event::RunForked(forked)], now);
        }
        hosted.keep_for(payloads, |digest| read.contains(&digest));
        hosted.staged.references.extend(references);
        hosted.staged.note = note;
        hosted.working = true;
        let reply = Reply::Done { seq: hosted.run.seq() };
        self.runs.insert(id, Place::Here(Box::new(hosted)));
        self.answers.push(Answer { run: id, ticket: Some(ticket), reply, again: None });
        self.mark(id);
        self.note_timer(id);
        self.make_hungry(id);
    }

    /// The run if it is in memory; else puts the offer aside and has the run loaded, or answers.
    fn find(&mut self, tenant: &Tenant, run: RunId, offer: impl FnOnce() -> Offer) -> bool {
        if !self.epochs.contains_key(&run.shard()) {
            let ticket = ticket_of(&offer());
            self.reply(ticket, Reply::NotOwner);
            return false;
        }
        match self.runs.get_mut(&run) {
            Some(Place::Here(hosted)) if hosted.tenant == *tenant => return true,
            Some(Place::Here(_)) => {
                let ticket = ticket_of(&offer());
                self.reply(ticket, Reply::NotFound);
            }
            Some(Place::Loading(waiting)) => waiting.push(offer()),
            Some(Place::Damaged(why)) => {
                let why = why.clone();
                let ticket = ticket_of(&offer());
                self.reply(ticket, Reply::Damaged(why));
            }
            None => {
                self.runs.insert(run, Place::Loading(vec![offer()]));
                self.read(tenant.clone(), run, false);
            }
        }
        false
    }

    fn tell(&mut self, tell: Box<Tell>, now: Timestamp) {
        let (tenant, run) = (tell.tenant.clone(), tell.run);
        let mut tell = Some(tell);
        if !self.find(&tenant, run, || Offer::Tell(tell.take().expect("asked for once"))) {
            return;
        }
        let Some(tell) = tell else { return };
        self.remember_value(&tell);
        let Some(hosted) = self.here(run) else { return };
        let at = hosted.time(now);
        match hosted.run.decide(tell.command.clone(), at) {
            Ok(events) => {
                let changes = !events.is_empty();
                hosted.record(events, at);
                if changes && !hosted.working && matches!(tell.command, Command::Cancel { .. }) {
                    // Nobody will answer for what another node had begun: the run can end now.
                    let adopt = Command::Adopt(Takeover::default(), Vec::new());
                    let lost = hosted.run.decide(adopt, at);
                    hosted.record(lost.unwrap_or_default(), at);
                }
                if changes {
                    if let Some((digest, json, _)) = value_of(&tell.command) {
                        hosted.staged.values.insert(digest, json.clone());
                        hosted.staged.payloads.extend(tell.payloads.iter().cloned());
                    } else {
                        hosted.keep(tell.payloads.clone());
                    }
                    hosted.staged.references.extend(&tell.references);
                }
                let reply = Reply::Done { seq: hosted.run.seq() };
                self.answer(run, tell, reply);
                if changes {
                    self.touch(run);
                }
            }
            Err(refusal) => self.answer(run, tell, Reply::Refused(refusal)),
        }
    }

    /// Answers at once if all that the answer rests on is on disk, else after its commit.
    fn answer(&mut self, run: RunId, tell: Box<Tell>, reply: Reply) {
        self.answer_with(Answer { run, ticket: tell.ticket, reply, again: Some(tell) });
    }

    fn answer_with(&mut self, answer: Answer) {
        let Some(Place::Here(hosted)) = self.runs.get(&answer.run) else {
            return self.reply(answer.ticket, answer.reply);
        };
        if hosted.is_settled() {
            return self.reply(answer.ticket, answer.reply);
        }
        // It rests on what is under way, not on an append that may never come.
        let rests = hosted.staged.events.is_empty();
        let mut flights = self.in_flight.iter_mut().rev();
        match flights.find(|flight| rests && flight.has(answer.run)) {
            Some(flight) => flight.answers.push(answer),
            None => self.answers.push(answer),
        }
    }

    /// An answer that came just now is at hand for the steps that read it.
    fn remember_value(&mut self, tell: &Tell) {
        if let Some((digest, json, len)) = value_of(&tell.command) {
            self.values.insert(digest, json.clone(), len);
        }
    }

    fn work(
        &mut self,
        tenant: Tenant,
        run: RunId,
        takeover: Takeover,
        ticket: Option<Ticket>,
        outside: &Outside<'_>,
    ) {
        let offer = || Offer::Work { tenant: tenant.clone(), run, takeover, ticket };
        if !self.find(&tenant, run, offer) {
            return;
        }
        let Some(hosted) = self.here(run) else { return };
        if !hosted.working {
            hosted.working = true;
            if hosted.run.ended().is_none() {
                let at = hosted.time(outside.now);
                let kept = kept(hosted, outside.agents);
                let adopt = Command::Adopt(takeover, kept.clone());
                let events = hosted.run.decide(adopt, at).unwrap_or_default();
                hosted.record(events, at);
                kept.into_iter().for_each(|step| hosted.stage_kept(step));
            }
            // What it was adopted on, or has ended by, may not get to disk: then it is adopted anew.
            hosted.adopting = (!hosted.is_settled()).then_some(takeover);
        }
        let reply = Reply::Done { seq: hosted.run.seq() };
        self.answer_with(Answer { run, ticket, reply, again: None });
        self.touch(run);
    }

    /// There are other agents than before: what waited for one that is there now goes on.
    pub fn arrived(&mut self, agents: &Agents, now: Timestamp) {
        let ids: Vec<RunId> = self.runs.keys().copied().collect();
        for id in ids {
            let Some(hosted) = self.here(id).filter(|hosted| hosted.working) else { continue };
            let of = agents.of(&hosted.tenant);
            let names: BTreeSet<Box<str>> = hosted
                .run
                .blocked()
                .filter_map(|(_, why)| match why {
                    Blocked::NoAgent { agent, .. } if of.get(agent).is_some() => {
                        Some(agent.clone())
                    }
                    _ => None,
                })
                .collect();
            let at = hosted.time(now);
            for agent in &names {
                let arrived = Command::Arrived { agent: agent.clone() };
                let events = hosted.run.decide(arrived, at).unwrap_or_default();
                hosted.record(events, at);
            }
            // One that is gone is not waited for any more: the step is told so when it is to begin.
            let (tenant, awaited) = (&hosted.tenant, &hosted.awaited);
            let is_gone =
                |slot: &Slot| slot.agent_of(tenant).is_some_and(|name| of.get(name).is_none());
            if !names.is_empty() || awaited.keys().any(is_gone) {
                self.touch(id);
            }
        }
    }

    /// What of a tenant's runs waits here for an agent, or for those who do its work.
    #[must_use]
    pub fn stuck(&self, tenant: &Tenant) -> Vec<Stuck> {
        let mut stuck = Vec::new();
        for (run, place) in &self.runs {
            let Place::Here(hosted) = place else { continue };
            if hosted.tenant != *tenant || !hosted.working {
                continue;
            }
            for (step, why) in hosted.run.blocked() {
                if let (Blocked::NoAgent { agent, lacks }, Some(step)) =
                    (why, hosted.run.step(step))
                    && lacks.is_empty()
                {
                    let (run, agent, since) = (*run, agent.clone(), step.since());
                    stuck.push(Stuck { run, agent, since, is_there: false });
                }
            }
            for (slot, (_, since)) in &hosted.awaited {
                if let Some(agent) = slot.agent_of(tenant) {
                    let (run, agent, since) = (*run, agent.into(), *since);
                    stuck.push(Stuck { run, agent, since, is_there: true });
                }
            }
            if stuck.len() >= STUCK_MAX {
                break;
            }
        }
        stuck
    }

    /// What a step was told leaves once it is on disk, as all answers do.
    fn mail(&mut self, tenant: Tenant, run: RunId, step: StepNo, after: u32, ticket: Ticket) {
        let offer = || Offer::Mail { tenant: tenant.clone(), run, step, after, ticket };
        if !self.find(&tenant, run, offer) {
            return;
        }
        let Some(hosted) = self.here(run) else { return };
        let told = hosted.run.mail(step, after).filter_map(|message| hosted.run.heard(message));
        let reply = Reply::Mail(told.collect());
        self.answer_with(Answer { run, ticket: Some(ticket), reply, again: None });
    }

    fn touch(&mut self, run: RunId) {
        self.mark(run);
        self.note_timer(run);
        self.make_hungry(run);
    }

    /// Keeps the loop's list of timers in step with a run's.
    pub(super) fn note_timer(&mut self, run: RunId) {
        let Some(Place::Here(hosted)) = self.runs.get_mut(&run) else { return };
        let next = hosted.next_timer();
        if hosted.noted_timer == next {
            return;
        }
        if let Some(before) = std::mem::replace(&mut hosted.noted_timer, next) {
            self.timers.remove(&(before, run));
        }
        if let Some(at) = next {
            self.timers.insert((at, run));
        }
    }

    fn fire_timers(&mut self, outside: &Outside<'_>) {
        let now = outside.now;
        let due: Vec<RunId> =
            self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, run)| *run).collect();
        for run in due {
            let Some(hosted) = self.here(run) else { continue };
            let at = hosted.time(now);
            hosted.run.wake(at);
            let events = hosted.run.decide(Command::Tick, at).unwrap_or_default();
            note_timeouts(hosted, &events, outside);
            hosted.record(events, at);
            self.touch(run);
        }
    }

    fn begin_all(&mut self, outside: &Outside<'_>) {
        if self.resting {
            self.next_ask = None;
            self.hungry.clear();
            self.is_hungry.clear();
            return;
        }
        let all = self.next_ask.take_if(|at| *at <= outside.now).is_some();
        let asked = if all { self.starved.len() } else { STARVED_MIN.min(self.starved.len()) };
        for _ in 0..asked {
            if let Some(run) = self.starved.pop_front() {
                self.is_starved.remove(&run);
                self.make_hungry(run);
            }
        }
        let mut left = BEGINS_MAX;
        while left > 0
            && let Some(run) = self.hungry.pop_front()
        {
            self.is_hungry.remove(&run);
            self.begin_run(run, outside, &mut left);
            if left == 0 {
                self.make_hungry(run);
            }
        }
    }

    /// A run begins a step once somebody offers to do what `slot` says; those that came first go first.
    fn await_offer(&mut self, id: RunId, slot: Slot, now: Timestamp) {
        let Some(Place::Here(hosted)) = self.runs.get_mut(&id) else { return };
        if let std::collections::btree_map::Entry::Vacant(free) = hosted.awaited.entry(slot) {
            self.next_in_line += 1;
            self.awaited.insert((free.key().clone(), self.next_in_line, id));
            free.insert((self.next_in_line, now));
        }
    }

    /// Begins steps for those who have offered to do them.
    fn begin_offered(&mut self, outside: &Outside<'_>) {
        let mut left = if self.resting { 0 } else { BEGINS_MAX };
        while left > 0
            && let Some(slot) = self.offered.pop_first()
        {
            while left > 0 && outside.slots.is_offered(&slot) {
                let Some(id) = self.next_awaiting(&slot) else { break };
                self.begin_run(id, outside, &mut left);
            }
            if left == 0 {
                self.offered.insert(slot);
            }
        }
    }

    /// The run that has waited longest for an offer, taken out of the line.
    fn next_awaiting(&mut self, slot: &Slot) -> Option<RunId> {
        let first = (slot.clone(), 0, RunId::from_bytes([0; 16]));
        let next = self.awaited.range(first..).next().filter(|(of, ..)| of == slot)?.clone();
        self.awaited.remove(&next);
        if let Some(hosted) = self.here(next.2) {
            hosted.awaited.remove(slot);
        }
        Some(next.2)
    }

    /// Begins steps of one run as long as there are slots.
    fn begin_run(&mut self, id: RunId, outside: &Outside<'_>, left: &mut usize) {
        let (mut closed, mut starved) = (BTreeSet::<Lane>::new(), false);
        while *left > 0 {
            let Some(hosted) = self.here(id).filter(|hosted| hosted.working) else { return };
            if hosted.run.is_ending() {
                self.end_run(id, outside);
                break;
            }
            let open = |lane| !closed.contains(&lane);
            let Some(step) = hosted.run.next(open, &hosted.parked) else { break };
            let lane = hosted.run.lane(step);
            let (slot, alone) = match admit(hosted, lane, outside) {
                Ok(admitted) => admitted,
                Err(until) => {
                    match until {
                        Later::At(at) => {
                            self.ask_again(at);
                            starved = true;
                        }
                        Later::Given => starved = true,
                        Later::Offered(slot) => self.await_offer(id, slot, outside.now),
                    }
                    closed.insert(lane);
                    continue;
                }
            };
            *left -= 1;
            match self.begin_step(id, step, (slot, alone), outside) {
                // All loops hear that it is to be had again.
                Some(slot @ Slot::Offered(_)) => self.actions.push(Action::GiveSlot { slot }),
                Some(slot) => outside.slots.give_unused(&slot),
                None => {}
            }
        }
        if starved && self.is_starved.insert(id) {
            self.starved.push_back(id);
        }
        self.note_timer(id);
    }

    /// What is refused until a certain time is asked for again then.
    fn ask_again(&mut self, at: Timestamp) {
        self.next_ask = Some(self.next_ask.map_or(at, |next| next.min(at)));
    }

    /// Begins one step; gives back the slot if no attempt started.
    fn begin_step(
        &mut self,
        id: RunId,
        step: StepNo,
        (slot, alone): (Option<Slot>, Option<Alone>),
        outside: &Outside<'_>,
    ) -> Option<Slot> {
        let Some(Place::Here(hosted)) = self.runs.get_mut(&id) else { return slot };
        let at = hosted.time(outside.now);
        let values = AtHand { hosted, cache: &self.values };
        let agents = outside.agents.of(&hosted.tenant);
        let world = World { now: at, values: &values, agents };
        match hosted.run.begin(step, &world) {
            Ok(begun) => {
                let unused = stage_begun(hosted, step, begun, (slot, alone), at);
                if hosted.parked.is_empty() && !hosted.end_parked {
                    hosted.pins.clear();
                }
                self.mark(id);
                unused
            }
            Err(missing) => {
                hosted.parked.insert(step);
                self.load_values(id, Some(step), missing.0);
                slot
            }
        }
    }

    fn end_run(&mut self, id: RunId, outside: &Outside<'_>) {
        let Some(Place::Here(hosted)) = self.runs.get_mut(&id) else { return };
        if hosted.end_parked {
            return;
        }
        let at = hosted.time(outside.now);
        let values = AtHand { hosted, cache: &self.values };
        let agents = outside.agents.of(&hosted.tenant);
        let world = World { now: at, values: &values, agents };
        match hosted.run.end(&world) {
            Ok(begun) => {
                hosted.keep(begun.payloads);
                hosted.record(begun.events, at);
                self.mark(id);
            }
            Err(missing) => {
                hosted.end_parked = true;
                self.load_values(id, None, missing.0);
            }
        }
    }

    fn load_values(&mut self, run: RunId, step: Option<StepNo>, missing: BTreeSet<Digest>) {
        let Some(tenant) = self.here(run).map(|hosted| hosted.tenant.clone()) else { return };
        for digest in missing {
            let waiting = self.loading.entry(digest).or_default();
            if waiting.is_empty() {
                self.actions.push(Action::LoadValue { tenant: tenant.clone(), digest });
            }
            waiting.insert((run, step));
        }
    }

    /// Gathers what is staged for runs of which nothing is under way into one append, if there may be
    /// another one.
    pub fn gather(&mut self) -> Option<Vec<Part>> {
        if self.touched.is_empty() || !self.may_append() {
            return None;
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut flight = Flight::default();
        for id in std::mem::take(&mut self.touched) {
            let shard: Shard = id.shard();
            let Some(&epoch) = self.epochs.get(&shard) else { continue };
            let Some(Place::Here(hosted)) = self.runs.get_mut(&id) else { continue };
            if hosted.staged.events.is_empty() {
                continue;
            }
            let (addition, taken) = hosted.take_addition(epoch);
            self.note_timer(id);
            let part = match parts.iter().position(|part| part.shard == shard) {
                Some(found) => found,
                None => {
                    parts.push(Part { shard, epoch, runs: Vec::new() });
                    flight.parts.push(FlightPart { shard, runs: Vec::new(), given_up: false });
                    parts.len() - 1
                }
            };
            parts[part].runs.push(addition);
            flight.parts[part].runs.push(taken);
        }
        if parts.is_empty() {
            return None;
        }
        for answer in std::mem::take(&mut self.answers) {
            let staged = self.here(answer.run).is_some_and(|of| !of.staged.events.is_empty());
            let answers = if staged { &mut self.answers } else { &mut flight.answers };
            answers.push(answer);
        }
        self.in_flight.push_back(flight);
        Some(parts)
    }
}

/// What steps of a new run can read before it is on disk: its inputs and agents, and what it takes over.
fn read_of(created: &Created, forked: Option<&Forked>) -> BTreeSet<Digest> {
    let taken = forked.into_iter().flat_map(|forked| &forked.taken);
    let values = taken.filter_map(|taken| match &taken.end {
        TakenEnd::Completed { value, .. } => Some(value),
        _ => None,
    });
    let own = created.agents.values().chain([&created.inputs]);
    values.chain(own).filter_map(Value::digest).collect()
}

/// The long value that an answer brings along.
fn value_of(command: &Command) -> Option<(Digest, &Arc<Json>, u64)> {
    let Command::Answered { answer, .. } = command else { return None };
    match answer.value {
        Value::Digest { digest, len } => Some((digest, &answer.json, len)),
        _ => None,
    }
}

pub(super) fn ticket_of(offer: &Offer) -> Option<Ticket> {
    match offer {
        Offer::Submit(submission) => Some(submission.ticket),
        Offer::Tell(tell) => tell.ticket,
        Offer::Work { ticket, .. } => *ticket,
        Offer::Mail { ticket, .. } => Some(*ticket),
    }
}

/// The steps of a run whose attempts go on though the node that began them is gone: others do their work.
/// Nobody would tell them that the run is being stopped.
fn kept(hosted: &Hosted, agents: &Agents) -> Vec<StepNo> {
    let (run, agents) = (&hosted.run, agents.of(&hosted.tenant));
    if run.status() == Status::Stopping {
        return Vec::new();
    }
    let is_remote = |step: &StepNo| match &run.spec(*step).work {
        Work::Agent { agent, .. } => agents.get(agent).is_some_and(|agent| agent.agent.is_remote()),
        Work::Approval { .. } => false,
    };
    run.running().map(|(step, _)| step).filter(is_remote).collect()
}

/// Takes note of agents that did not answer in time: they report nothing themselves.
fn note_timeouts(hosted: &Hosted, events: &[Event], outside: &Outside<'_>) {
    let run = &hosted.run;
    for event in events {
        if let Event::StepRetrying { step, failure, .. } | Event::StepFailed { step, failure, .. } =
            event
            && failure.kind == FailureKind::Timeout
            && let Some(number) = run.lane(*step).agent()
        {
            let slot = Slot::of(outside.agents, &hosted.tenant, run.plan().agent(number));
            outside.slots.note_failure(&slot, failure, outside.now);
        }
    }
}

/// When a step may begin that cannot begin now.
enum Later {
    /// Then.
    At(Timestamp),
    /// When a slot is given back.
    Given,
    /// When somebody offers to do it.
    Offered(Slot),
}

/// What a step in `lane` needs to begin, taken.
fn admit(
    hosted: &Hosted,
    lane: Lane,
    outside: &Outside<'_>,
) -> Result<(Option<Slot>, Option<Alone>), Later> {
    let alone = match lane {
        Lane::Alone(_) => Some(outside.slots.take_alone(outside.now).map_err(Later::At)?),
        _ => None,
    };
    let Some(number) = lane.agent() else { return Ok((None, alone)) };
    let slot = Slot::of(outside.agents, &hosted.tenant, hosted.run.plan().agent(number));
    match outside.slots.take(&slot, matches!(lane, Lane::Again(_)), outside.now) {
        Taken::Yes => Ok((Some(slot), alone)),
        Taken::No => Err(Later::Given),
        Taken::NotBefore(at) => Err(Later::At(at)),
        Taken::NoOffer => Err(Later::Offered(slot)),
    }
}

/// Stages what beginning a step came to; gives back the slot if no attempt starts with it.
fn stage_begun(
    hosted: &mut Hosted,
    step: StepNo,
    begun: Begun,
    (slot, alone): (Option<Slot>, Option<Alone>),
    at: Timestamp,
) -> Option<Slot> {
    let started = begun.events.iter().find_map(|event| match event {
        Event::StepStarted { attempt, generation, agent, deadline, .. } => {
            Some((*attempt, *generation, agent.clone(), *deadline))
        }
        _ => None,
    });
    hosted.keep(begun.payloads);
    hosted.record(begun.events, at);
    let (Some((attempt, generation, agent, deadline)), Some(call)) = (started, begun.call) else {
        return slot;
    };
    let slot = slot?;
    let id = hosted.run.id();
    let name = hosted.run.name(step).expect("it has just begun").clone();
    let call = Call {
        tenant: hosted.tenant.clone(),
        run: id,
        workflow: hosted.run.workflow().into(),
        key: format!("{id}/{name}/0/{generation}").into(),
        step: name,
        attempt,
        action: call.action,
        input: call.input,
        prompt: call.prompt,
        complaint: hosted.run.step(step).and_then(|step| step.complaint()).map(Into::into),
        output: hosted.run.spec(step).output.clone().map(Arc::new),
        root: hosted.run.root().into(),
        definition: call.definition,
        deadline,
        goes_on: false,
    };
    let effects = hosted.run.effects(step);
    let (tenant, task_id) = (hosted.tenant.clone(), hosted.run.task_id().map(Into::into));
    hosted.staged.starts.push(Start { step, agent, slot, call, effects, tenant, task_id, alone });
    None
}

/// How long the shell may sleep: until the next timer, if nothing else happens.
#[must_use]
pub fn sleep(shards: &Shards, now: Timestamp, longest: Duration) -> Duration {
    if shards.is_busy() {
        return Duration::ZERO;
    }
    shards.next_timer().map_or(longest, |at| at.since(now).min(longest))
}
