//! Runs by chance: a seed is a history of random plans, with crashes, answers that come late, twice
//! or never, and people who do what they like.
//!
//! **Invariants:** a seed has at least 3 runs and 200 events, and gives the same history each time.
//! `KAPELLE_SIM_SEEDS` says how many seeds; a seed that fails is in the message of the panic.

mod dice;
mod plan;
mod promises;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kapelle_core::port::agent::{Agents, Failure, FailureKind, Question, Safety};
use kapelle_core::run::{
    Blocked, Command, EffectId, EffectState, Effects, Event, Join, Outcome, Parts, Produced,
    Resolved, Run, Takeover, UNANSWERED,
};
use kapelle_core::{Attempt, Digest, INLINE_MAX, Json, RunId, StepNo, Timestamp, Value};

use crate::driver::{Driver, Player};
use dice::Dice;
use promises::{Promises, check_state};

/// How often what led to which kind of event.
type Hits = BTreeMap<&'static str, Vec<Hit>>;

struct Hit {
    kind: std::mem::Discriminant<Event>,
    example: Event,
    count: u64,
}

#[test]
fn every_history_keeps_the_promises() {
    let seeds = std::env::var("KAPELLE_SIM_SEEDS").ok().and_then(|n| n.parse().ok());
    let mut hits: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    let (mut events, mut runs) = (0, 0);
    for seed in 0..seeds.unwrap_or(2_000) {
        let history = std::panic::catch_unwind(|| live(seed)).unwrap_or_else(|panic| {
            println!("seed {seed} broke a promise");
            std::panic::resume_unwind(panic)
        });
        assert!(history.events >= 200 && history.runs >= 3, "seed {seed} is too short");
        events += history.events;
        runs += history.runs;
        for (fault, found) in history.hits {
            for hit in found {
                let kind = serde_json::to_value(&hit.example).unwrap()["type"].to_string();
                *hits.entry(fault).or_default().entry(kind).or_default() += hit.count;
            }
        }
    }
    println!("{events} events in {runs} runs; what led to what:");
    for (fault, kinds) in &hits {
        println!("{fault}: {kinds:?}");
    }
    for fault in ["answer", "twice", "late", "crash", "crash again", "crash in recovery", "tick"] {
        assert!(hits.contains_key(fault), "`{fault}` led to nothing");
    }
}

#[test]
fn a_seed_is_the_same_history_each_time() {
    for seed in 0..20 {
        let write = || serde_json::to_string(&live(seed).journals).unwrap();
        assert!(write() == write(), "seed {seed}");
    }
}

struct History {
    events: usize,
    runs: usize,
    hits: Hits,
    journals: Vec<Vec<(Timestamp, Event)>>,
}

fn live(seed: u64) -> History {
    let mut history = History { events: 0, runs: 0, hits: Hits::new(), journals: Vec::new() };
    let mut dice = Dice(seed);
    while history.runs < 3 || history.events < 200 {
        let (plan, inputs) = plan::roll(&mut dice);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&seed.to_le_bytes());
        id[8] = u8::try_from(history.runs).unwrap_or(u8::MAX);
        let stage = Driver::new(plan, inputs, RunId::from_bytes(id));
        let shadow = stage.replayed();
        let mut world = World {
            stage,
            shadow,
            dice,
            attempts: Vec::new(),
            late: Vec::new(),
            committed: 0,
            promises: Promises::default(),
            hits: std::mem::take(&mut history.hits),
        };
        world.play();
        history.runs += 1;
        history.events += world.stage.journal.len();
        history.journals.push(world.stage.journal);
        (dice, history.hits) = (world.dice, world.hits);
    }
    history
}

struct World {
    stage: Driver,
    /// What the committed events alone make.
    shadow: Run,
    dice: Dice,
    /// What each attempt is going to say, in its order.
    attempts: Vec<VecDeque<Command>>,
    /// What was said before, or by attempts whose node is gone.
    late: Vec<Command>,
    committed: usize,
    promises: Promises,
    hits: Hits,
}

impl World {
    fn play(&mut self) {
        self.after("start");
        for _ in 0..self.dice.of(40..400) {
            if self.stage.run.ended().is_some() {
                return;
            }
            let what = self.something();
            self.after(what);
        }
        self.calm();
    }

    /// Nothing goes wrong any more: the run must end.
    fn calm(&mut self) {
        self.stage.slots.clear();
        self.stage.values.away = false;
        self.set_agents(&plan::AGENTS);
        self.stage.tell(Command::Resume { by: "ann".into() }).ok();
        self.after("calm");
        for _ in 0..2_000 {
            if self.stage.run.ended().is_some() {
                return;
            }
            let deciding = self.stage.run.wants().deciding;
            if let Some(id) = deciding.first() {
                let by = self.stage.run.find(id.as_str()).unwrap();
                self.stage.tell(Command::Enough { by }).unwrap();
            } else if !self.answer() && !self.approve() && !self.resolve() {
                self.tick();
            }
            self.after("calm");
        }
        panic!("the run does not end: {:?}", self.stage.run.wants());
    }

    fn something(&mut self) -> &'static str {
        match self.dice.of(0..100) {
            0..40 => self.answer().then_some("answer"),
            40..47 => self.late().then_some("late"),
            47..60 => self.tick().then_some("tick"),
            60..66 => self.approve().then_some("approve"),
            66..71 => self.resolve().then_some("resolve"),
            71..78 => self.grow().then_some("grow"),
            78..82 => self.decide_loop().then_some("loop"),
            82..86 => Some(self.crash()),
            86..88 => self.forget_answer().then_some("lost answer"),
            88..90 => self.pause().then_some("pause"),
            90 => self.cancel().then_some("cancel"),
            91..95 => {
                let slots = self.dice.of(0..4) as usize;
                self.stage.slots.insert((*self.dice.pick(&plan::AGENTS)).into(), slots);
                Some("slots")
            }
            95..97 => {
                self.stage.values.away = self.dice.one_in(2);
                Some("values")
            }
            97..98 => {
                let known = 1 + self.dice.below(plan::AGENTS.len());
                self.set_agents(&plan::AGENTS[..known]);
                Some("agents")
            }
            _ => {
                self.stage.pass(Duration::from_millis(self.dice.of(1..5_000).into()));
                Some("pass")
            }
        }
        .unwrap_or("nothing")
    }

    fn answer(&mut self) -> bool {
        self.attempts.retain(|words| !words.is_empty());
        if self.attempts.is_empty() {
            return false;
        }
        let which = self.dice.below(self.attempts.len());
        let command = self.attempts[which].pop_front().unwrap();
        if self.dice.one_in(4) {
            self.late.push(command.clone());
        }
        self.tell(command.clone());
        if self.dice.one_in(8) {
            self.after("answer");
            self.tell(command);
            self.after("twice");
        }
        true
    }

    fn late(&mut self) -> bool {
        let some = !self.late.is_empty();
        if some {
            let which = self.dice.below(self.late.len());
            let command = self.late.swap_remove(which);
            self.tell(command);
        }
        some
    }

    fn forget_answer(&mut self) -> bool {
        let some = !self.attempts.is_empty();
        if some {
            let which = self.dice.below(self.attempts.len());
            let words = self.attempts.swap_remove(which);
            self.late.extend(words.into_iter().take(1));
        }
        some
    }

    fn tick(&mut self) -> bool {
        if let Some(next) = self.stage.run.next_timer() {
            self.stage.now = self.stage.now.max(next);
        }
        self.stage.pass(Duration::from_millis(self.dice.of(0..50).into()));
        self.tell(Command::Tick);
        true
    }

    fn approve(&mut self) -> bool {
        let asked = self.stage.run.wants().approvals;
        let some = !asked.is_empty();
        if some {
            let step = self.dice.pick(&asked).clone();
            let approved = !self.dice.one_in(4);
            self.tell(Command::Approve { step, approved, by: "ann".into(), comment: "".into() });
        }
        some
    }

    fn resolve(&mut self) -> bool {
        let blocked = self.stage.run.wants().blocked;
        if blocked.is_empty() {
            return false;
        }
        let (step, why) = self.dice.pick(&blocked).clone();
        if let Blocked::Question { ordinal, .. } = why
            && !self.dice.one_in(4)
        {
            let ordinal = self.dice.one_in(2).then_some(ordinal);
            self.tell(Command::Reply { step, ordinal, answer: "so".into(), by: "ann".into() });
            return true;
        }
        let done = Resolved::Done(Value::Inline(Arc::new(Json::from("resolved"))));
        let how = match (self.dice.of(0..4), why) {
            (0, _) => Resolved::Skip,
            (1, _) => Resolved::Fail,
            (2, Blocked::InDoubt { .. }) => done,
            _ => Resolved::Retry,
        };
        self.tell(Command::Resolve { step, how, by: "ann".into(), comment: "".into() });
        true
    }

    fn grow(&mut self) -> bool {
        let (run, dice) = (&self.stage.run, &mut self.dice);
        let ready = run.wants().ready;
        let deep = |id: &str| id.matches('.').count() > 2;
        if ready.is_empty() || run.steps().len() > 60 {
            return false;
        }
        let id = dice.pick(&ready);
        let count = dice.of(1..5);
        let join = match dice.of(0..4) {
            0 => Join::All,
            1 => Join::First,
            2 => Join::Quorum(dice.of(1..4)),
            _ => Join::Until,
        };
        let by = run.find(id.as_str()).unwrap();
        let some = !deep(id.as_str());
        if some {
            self.tell(Command::Grow { by, parts: Parts::Count(count), join });
        }
        some
    }

    fn decide_loop(&mut self) -> bool {
        let deciding = self.stage.run.wants().deciding;
        let some = !deciding.is_empty();
        if some {
            let by = self.stage.run.find(self.dice.pick(&deciding).as_str()).unwrap();
            let again = self.dice.one_in(2) && self.stage.run.steps().len() < 60;
            let parts = Parts::Count(self.dice.of(1..3));
            self.tell(if again {
                Command::Grow { by, parts, join: Join::Until }
            } else {
                Command::Enough { by }
            });
        }
        some
    }

    fn pause(&mut self) -> bool {
        let by = "ann".into();
        self.tell(match self.stage.run.paused() {
            Some(_) => Command::Resume { by },
            None => Command::Pause { by, reason: "".into() },
        });
        true
    }

    fn cancel(&mut self) -> bool {
        let now = self.dice.one_in(4);
        if now {
            self.tell(Command::Cancel { by: "ann".into(), reason: "".into() });
        }
        now
    }

    /// The node dies with what it had not committed; another one goes on, if it does not die too.
    fn crash(&mut self) -> &'static str {
        self.stage.crash_before_commit(self.committed);
        // Some go on outside, and the next node waits for their end.
        let mut kept = Vec::new();
        for words in std::mem::take(&mut self.attempts) {
            let of = words.front().and_then(attempt_of);
            match of.filter(|of| self.stage.run.running().any(|running| running == *of)) {
                Some((step, _)) if self.dice.one_in(4) => {
                    kept.push(step);
                    self.attempts.push(words);
                }
                _ => self.late.extend(words.into_iter().take(2)),
            }
        }
        let mut what = "crash";
        self.stage.pass(Duration::from_millis(self.dice.of(0..20_000).into()));
        if self.dice.one_in(3) {
            self.stage.crash();
            what = "crash again";
        }
        let takeover = self.takeover();
        self.tell(Command::Adopt(takeover, kept.clone()));
        if self.dice.one_in(3) {
            self.commit("crash");
            self.stage.crash();
            let takeover = self.takeover();
            self.tell(Command::Adopt(takeover, kept));
            what = "crash in recovery";
        }
        what
    }

    fn takeover(&mut self) -> Takeover {
        let (died, watched) = (self.dice.one_in(2), self.dice.one_in(4));
        Takeover { doubt: false, died, watched }
    }

    fn set_agents(&mut self, names: &[&str]) {
        let mut agents = Agents::default();
        for name in names {
            agents.register(Arc::new(Player::new(name))).unwrap();
        }
        self.stage.agents = agents;
    }

    fn tell(&mut self, command: Command) {
        if self.dice.one_in(4) {
            let (run, now) = (&self.stage.run, self.stage.now);
            assert_eq!(run.decide(command.clone(), now), run.decide(command.clone(), now));
        }
        self.stage.tell(command).ok();
    }

    /// A turn, and mostly its commit; then everything that must hold is looked at.
    fn after(&mut self, what: &'static str) {
        self.stage.turn();
        check_state(&self.stage.run);
        if what == "calm" || !self.dice.one_in(4) || self.stage.run.ended().is_some() {
            self.commit(what);
        }
    }

    fn commit(&mut self, what: &'static str) {
        self.stage.run.wake(self.stage.now);
        for at in self.committed..self.stage.journal.len() {
            let (time, event) = self.stage.journal[at].clone();
            self.promises.check(&self.stage.run, &event);
            self.shadow.apply(&event, time);
            self.hit(what, &event);
            if let Event::StepStarted { step, attempt, .. } = event {
                let words = self.words(step, attempt);
                self.attempts.push(words);
            }
        }
        self.committed = self.stage.journal.len();
        let mut replayed = self.shadow.clone();
        replayed.wake(self.stage.now);
        assert_eq!(replayed.follow(), None, "nothing follows twice");
        assert_eq!(replayed, self.stage.run, "events alone make the same run");
    }

    fn hit(&mut self, what: &'static str, event: &Event) {
        let kind = std::mem::discriminant(event);
        let hits = self.hits.entry(what).or_default();
        match hits.iter_mut().find(|hit| hit.kind == kind) {
            Some(hit) => hit.count += 1,
            None => hits.push(Hit { kind, example: event.clone(), count: 1 }),
        }
    }

    /// What an attempt will report: some outside calls, then its end.
    fn words(&mut self, step: StepNo, attempt: Attempt) -> VecDeque<Command> {
        let known = self.stage.run.effects(step);
        let mut words = VecDeque::new();
        let mut forget_from = None;
        for ordinal in 1..=self.dice.of(0..4) {
            let before = known.get(&ordinal);
            let is_recorded =
                before.is_some_and(|effect| matches!(effect.state, EffectState::Recorded(_)));
            if is_recorded {
                continue;
            }
            let safety = if ordinal == 2 { Safety::Unsafe } else { Safety::Repeatable };
            let effect = EffectId {
                ordinal,
                name: "call".into(),
                input: Digest::of(b"input"),
                generation: before.map_or(0, |effect| effect.id.generation),
                safety,
            };
            if safety == Safety::Unsafe {
                words.push_back(Command::StartEffect {
                    step,
                    attempt,
                    effect: effect.clone(),
                    reserve: None,
                });
            }
            let outcome = if self.dice.one_in(5) {
                forget_from = forget_from.or(Some(ordinal));
                Outcome::Failed(Failure::new(FailureKind::Unavailable, "down", "down"))
            } else {
                Outcome::Done(Value::null())
            };
            words.push_back(Command::RecordEffect { step, attempt, effect, outcome, used: None });
            if self.dice.one_in(8) {
                break;
            }
        }
        words.extend(self.speaks(step, attempt, &known));
        let asks = self.asks(step, attempt, &known);
        let end =
            if asks.is_empty() { vec![self.end_of(step, attempt, forget_from)] } else { asks };
        words.extend(end);
        words
    }

    /// Something said to whoever is there.
    fn speaks(&mut self, step: StepNo, attempt: Attempt, known: &Effects) -> Option<Command> {
        let effect = self.one_of(known, 8, "say").filter(|_| self.dice.one_in(5))?;
        let steps = self.stage.run.steps();
        let to = match self.dice.of(0..3) {
            0 => (*self.dice.pick(&plan::AGENTS)).into(),
            _ => self.dice.pick(steps).id.as_str().into(),
        };
        let text = if self.dice.one_in(2) { "hello" } else { "again" };
        Some(Command::Send { step, attempt, effect, to, text: text.into() })
    }

    /// Questions, and the end of the attempt until they are answered.
    fn asks(&mut self, step: StepNo, attempt: Attempt, known: &Effects) -> Vec<Command> {
        let mut words = Vec::new();
        for ordinal in [9, 10] {
            let effect = self.one_of(known, ordinal, "ask");
            let Some(effect) = effect.filter(|_| self.dice.one_in(8)) else { continue };
            let question = Question { text: "why".into(), choices: Vec::new() };
            words.push(Command::Ask { step, attempt, effect, question });
        }
        if !words.is_empty() {
            let failure = Failure::new(FailureKind::Refused, UNANSWERED, "nobody answered");
            words.push(Command::Failed { step, attempt, failure });
        }
        words
    }

    /// A call that has not ended yet.
    fn one_of(&self, known: &Effects, ordinal: u32, name: &str) -> Option<EffectId> {
        let before = known.get(&ordinal);
        let is_over = before.is_some_and(|it| matches!(it.state, EffectState::Recorded(_)));
        let generation = before.map_or(0, |effect| effect.id.generation);
        let (input, safety) = (Digest::of(b"input"), Safety::Repeatable);
        let id = EffectId { ordinal, name: name.into(), input, generation, safety };
        (!is_over).then_some(id)
    }

    fn end_of(&mut self, step: StepNo, attempt: Attempt, forget_from: Option<u32>) -> Command {
        if forget_from.is_some() || self.dice.one_in(4) {
            let kinds = [
                FailureKind::Unavailable,
                FailureKind::Crashed,
                FailureKind::Timeout,
                FailureKind::Refused,
                FailureKind::Invalid,
            ];
            let kind = *self.dice.pick(&kinds);
            let mut failure = Failure::new(kind, kind.as_str(), kind.as_str());
            failure.certain = !self.dice.one_in(3);
            failure.forget_from = forget_from;
            if self.dice.one_in(5) {
                failure = failure.retry_after(Duration::from_millis(self.dice.of(0..9_000).into()));
            }
            return Command::Failed { step, attempt, failure };
        }
        let json = match self.dice.of(0..8) {
            0 => Json::from("x".repeat(300)),
            1 => Json::Null,
            n => Json::from(n),
        };
        let json = Arc::new(json);
        let (value, payload) = Value::of((*json).clone(), INLINE_MAX);
        if let Some(payload) = payload {
            self.stage.values.kept.insert(payload.digest, json.clone());
        }
        let answer = Produced { value, json, artifacts: Vec::new(), usage: None, engine: None };
        Command::Answered { step, attempt, answer: Box::new(answer) }
    }
}

/// Which attempt says so.
fn attempt_of(word: &Command) -> Option<(StepNo, Attempt)> {
    match word {
        Command::Answered { step, attempt, .. }
        | Command::Failed { step, attempt, .. }
        | Command::StartEffect { step, attempt, .. }
        | Command::RecordEffect { step, attempt, .. }
        | Command::Send { step, attempt, .. }
        | Command::Ask { step, attempt, .. } => Some((*step, *attempt)),
        _ => None,
    }
}
