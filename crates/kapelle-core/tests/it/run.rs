//! What a run says of itself to those who do not replay it, and what scripts cannot show.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kapelle_core::plan::{Budget, Plan};
use kapelle_core::port::agent::{Failure, FailureKind, Safety, Usage};
use kapelle_core::run::{
    Command, Compiled, Created, EffectId, EffectState, Forked, Ledger, Missing, Outcome, Produced,
    Run, Sum, Taken, TakenEnd,
};
use kapelle_core::{Artifact, Attempt, Digest, Json, RunId, StepNo, Value};
use serde_json::json;

use crate::driver::{BIRTH, Driver};

fn steps(count: usize) -> Plan {
    let step = |no| json!({"id": format!("s{no}"), "work": {"agent": {"agent": "echo"}}});
    let steps: Vec<Json> = (0..count).map(step).collect();
    let plan = json!({"workflow": "wide", "max_parallel": 1000, "steps": steps});
    serde_json::from_value(plan).unwrap()
}

fn id() -> RunId {
    RunId::from_bytes([7; 16])
}

/// A call that may be repeated.
fn call(ordinal: u32) -> EffectId {
    EffectId {
        ordinal,
        name: "say".into(),
        input: Digest::of(b"words"),
        generation: 0,
        safety: Safety::Repeatable,
    }
}

#[test]
fn a_run_says_what_it_was_made_of() {
    let created = Created {
        workflow: "tidy-up".into(),
        plan: Value::null(),
        inputs: Value::Inline(Arc::new(json!({"n": 1}))),
        root: "/work".into(),
        task_id: Some("spring".into()),
        agents: [("clerk".into(), Value::null())].into(),
    };
    let plan = Arc::new(Compiled::new(steps(3)).unwrap());
    let run = Run::new(id(), &created, plan.clone(), BIRTH);
    assert_eq!((run.id(), run.seq(), run.open()), (id(), 1, 3));
    assert_eq!((run.workflow(), run.root()), ("tidy-up", "/work"));
    assert_eq!(run.task_id(), Some("spring"));
    assert_eq!((run.inputs(), run.agents()), (&created.inputs, &created.agents));
    assert_eq!((run.created_at(), run.last_at()), (BIRTH, BIRTH));
    assert!(Arc::ptr_eq(run.plan(), &plan) && run.ended().is_none());
    assert_eq!(plan.agents().collect::<Vec<_>>(), ["echo"]);
    assert!(!plan.is_empty() && Compiled::new(steps(0)).unwrap().is_empty());
    let unnamed = Run::new(id(), &Created { task_id: None, ..created }, plan, BIRTH);
    assert_eq!(unnamed.task_id(), None);
}

#[test]
fn a_run_works_by_the_definitions_that_it_began_with() {
    let definition = json!({"by": "echo", "role": "keeps the books"});
    let mut plan = steps(1);
    plan.steps[0].work = serde_json::from_value(json!({"agent": {"agent": "clerk"}})).unwrap();
    let (value, payload) = Value::of(definition.clone(), 0);
    let created = Created {
        workflow: "books".into(),
        plan: Value::null(),
        inputs: Value::null(),
        root: "/work".into(),
        task_id: None,
        agents: [("clerk".into(), value)].into(),
    };
    let run = Run::new(id(), &created, Arc::new(Compiled::new(plan).unwrap()), BIRTH);
    // There is no `clerk` any more: whom its definition names does the step.
    let mut stage = Driver::new(steps(1), json!({}), id());
    let digest = payload.unwrap().digest;
    stage.values.kept.insert(digest, Arc::new(definition.clone()));
    let begun = run.begin(StepNo(0), &stage.world()).unwrap();
    assert_eq!(begun.call.unwrap().definition.as_deref(), Some(&definition));
    stage.values.away = true;
    assert_eq!(run.begin(StepNo(0), &stage.world()).unwrap_err(), Missing([digest].into()));
    let without = stage.run.begin(StepNo(0), &stage.world()).unwrap();
    assert_eq!(without.call.unwrap().definition, None);
}

#[test]
fn a_run_says_what_it_has_spent_and_how_long_it_was_active() {
    let mut plan = steps(1);
    plan.budget = Some(Budget { time_ms: Some(60_000), ..Budget::default() });
    let mut stage = Driver::new(plan, json!({}), id());
    stage.turn();
    assert_eq!((*stage.run.ledger(), stage.run.active()), (Ledger::default(), Duration::ZERO));
    let (step, attempt) = (StepNo(0), Attempt(1));
    let usage = |tokens| Usage {
        input_tokens: tokens,
        output_tokens: tokens,
        cost_nanos: Some(tokens.cast_signed()),
        ms: tokens * 100,
    };
    let sum = |tokens: u64| Sum::of(&usage(tokens));
    for (ordinal, reserve) in [(1, 7), (2, 5)] {
        let (effect, reserve) = (call(ordinal), Some(usage(reserve)));
        stage.tell(Command::StartEffect { step, attempt, effect, reserve }).unwrap();
    }
    let (outcome, used) = (Outcome::Done(Value::null()), Some(usage(3)));
    let effect = call(1);
    stage.tell(Command::RecordEffect { step, attempt, effect, outcome, used }).unwrap();
    stage.tell(Command::Raise { step: None, more: sum(9), by: "ann".into() }).unwrap();
    let raised = Sum { unpriced: 0, ..sum(9) };
    let ledger = Ledger { spent: sum(3), reserved: sum(5), raised, ..Ledger::default() };
    assert_eq!((sum(3).tokens, *stage.run.ledger()), (6, ledger));
    stage.pass(Duration::from_secs(40));
    stage.tell(Command::Pause { by: "ann".into(), reason: "".into() }).unwrap();
    stage.pass(Duration::from_secs(3_600));
    stage.tell(Command::Resume { by: "ann".into() }).unwrap();
    assert_eq!(stage.run.active(), Duration::from_secs(40));
    stage.pass(Duration::from_secs(10));
    let effect = call(3);
    stage.tell(Command::StartEffect { step, attempt, effect, reserve: None }).unwrap();
    assert_eq!(stage.run.active(), Duration::from_secs(50));
    let failure = Failure::new(FailureKind::Crashed, "gone", "gone");
    stage.tell(Command::Failed { step, attempt, failure }).unwrap();
    let ledger = Ledger { reserved: Sum::default(), unknown: sum(5), ..ledger };
    assert_eq!((*stage.run.ledger(), stage.replayed()), (ledger, stage.run));
}

#[test]
fn two_plans_are_the_same_if_their_steps_are() {
    let compiled = |count| Compiled::new(steps(count)).unwrap();
    let plan = compiled(3);
    assert_eq!(plan, plan);
    assert_eq!(plan, compiled(3));
    assert_ne!(plan, compiled(2));
    assert_eq!(format!("{plan:?}"), "Compiled(`wide`, 3 steps)");
}

#[test]
fn a_call_that_failed_for_certain_is_made_again_under_a_new_key_each_time() {
    let mut stage = Driver::new(steps(1), json!({}), id());
    stage.turn();
    let step = StepNo(0);
    assert!(stage.run.effects(step).is_empty());
    for generation in 0..3 {
        let attempt = Attempt(generation + 1);
        let effect = EffectId { generation, ..call(1) };
        let down = || Failure::new(FailureKind::Unavailable, "down", "down");
        let outcome = Outcome::Failed(down());
        stage.tell(Command::RecordEffect { step, attempt, effect, outcome, used: None }).unwrap();
        let mut failure = down();
        failure.forget_from = Some(1);
        if generation < 2 {
            stage.tell(Command::Failed { step, attempt, failure }).unwrap();
            stage.pass(Duration::from_secs(60));
            stage.turn();
            let effects = stage.run.effects(step);
            assert_eq!(effects[&1].id.generation, generation + 1);
            assert_eq!(effects[&1].state, EffectState::Forgotten);
        }
    }
}

#[test]
fn a_run_that_waits_for_the_values_of_many_steps_does_not_look_past_them() {
    let mut stage = Driver::new(steps(300), json!({}), id());
    stage.run.wake(BIRTH);
    let aside = |count: u32| (0..count).map(StepNo).collect::<BTreeSet<_>>();
    assert_eq!(stage.run.next(|_| true, &aside(255)), Some(StepNo(255)));
    assert_eq!(stage.run.next(|_| true, &aside(256)), None);
}

#[test]
fn a_part_says_who_grew_it_and_who_grew_says_its_parts() {
    let mut plan = steps(1);
    plan.steps[0].for_each =
        Some(serde_json::from_value(json!({"list": "[1, 2]", "as": "item"})).unwrap());
    let mut stage = Driver::new(plan, json!({}), id());
    stage.turn();
    let [by, first, second] = [0, 1, 2].map(|no| stage.run.step(StepNo(no)).unwrap());
    assert_eq!((by.grown_by(), by.parts()), (None, &[StepNo(1), StepNo(2)][..]));
    assert_eq!([first, second].map(|part| part.grown_by()), [Some(StepNo(0)); 2]);
    assert_eq!(first.parts(), []);
}

#[test]
fn a_paused_run_says_why_until_it_goes_on() {
    let mut stage = Driver::new(steps(1), json!({}), id());
    assert_eq!(stage.run.paused(), None);
    stage.tell(Command::Pause { by: "ann".into(), reason: "lunch".into() }).unwrap();
    assert_eq!(stage.run.paused(), Some("lunch"));
    stage.tell(Command::Resume { by: "ann".into() }).unwrap();
    assert_eq!(stage.run.paused(), None);
}

#[test]
fn a_view_shows_every_step_and_who_does_it() {
    let mut plan = steps(2);
    plan.steps[1].work = serde_json::from_value(json!({"approval": {}})).unwrap();
    let stage = Driver::new(plan, json!({}), id());
    let seen: Vec<_> =
        stage.run.view().map(|view| (view.no, view.step.id.as_str(), view.agent)).collect();
    assert_eq!(seen, [(StepNo(0), "s0", Some("echo")), (StepNo(1), "s1", None)]);
}

/// A run of `plan` that is done, with an artifact of each attempt.
fn done(plan: Plan) -> Driver {
    let mut stage = Driver::new(plan, json!({}), id());
    stage.turn();
    let first = |stage: &Driver| stage.run.running().next();
    while let Some((step, attempt)) = first(&stage) {
        let name = step.0.to_string().into();
        let made =
            Artifact { name, digest: Digest::of(b"x"), media_type: "text/plain".into(), len: 1 };
        let (json, value, artifacts) = (Arc::new(Json::Null), Value::null(), vec![made]);
        let answer = Box::new(Produced { value, json, artifacts, usage: None, engine: None });
        stage.tell(Command::Answered { step, attempt, answer }).unwrap();
        stage.turn();
    }
    stage
}

#[test]
fn a_fork_takes_nothing_that_needs_what_is_done_anew() {
    let mut plan = steps(4);
    for (step, need) in [(1, "s0"), (2, "s1")] {
        plan.steps[step].needs = serde_json::from_value(json!([need])).unwrap();
    }
    let taken = |from| {
        let taken = done(plan.clone()).run.taken_by_fork(StepNo(from));
        taken.into_iter().map(|taken| taken.step.0).collect::<Vec<_>>()
    };
    assert_eq!([0, 1, 2, 3].map(taken), [vec![3], vec![0, 3], vec![0, 1, 3], vec![0, 1, 2]]);
}

#[test]
fn a_fork_says_where_it_is_from_and_which_steps_it_has_taken() {
    let mut plan = steps(2);
    plan.steps[0].for_each =
        Some(serde_json::from_value(json!({"list": "[1, 2]", "as": "item"})).unwrap());
    let stage = done(plan);
    let taken = stage.run.taken_by_fork(StepNo(1));
    let [Taken { end: TakenEnd::Completed { artifacts, .. }, .. }] = &taken[..] else {
        panic!("{taken:?}")
    };
    let names: Vec<_> = artifacts.iter().map(|made| &*made.name).collect();
    assert_eq!(names, ["2", "3"], "what the parts made");
    let forked = Forked { run: id(), seq: stage.run.seq(), from: StepNo(1), taken };
    let fork = stage.fork(json!({}), forked.clone()).run;
    assert_eq!(fork.forked(), Some(&Forked { taken: Vec::new(), ..forked }));
    assert_eq!([0, 1].map(|no| fork.step(StepNo(no)).unwrap().is_taken()), [true, false]);
    assert_eq!(stage.run.forked(), None);
}

#[test]
fn a_step_says_a_hundred_things_and_is_told_a_hundred() {
    let mut stage = Driver::new(steps(3), json!({}), id());
    stage.turn();
    let say = |stage: &mut Driver, from: u32, ordinal: u32, to: &str| {
        let effect = call(ordinal);
        let (step, attempt) = (StepNo(from), Attempt(1));
        let text = format!("message {ordinal}").into();
        stage.tell(Command::Send { step, attempt, effect, to: to.into(), text })
    };
    let [a, b, c] = [0, 1, 2].map(|no| stage.run.name(StepNo(no)).unwrap().to_string());
    for ordinal in 1..=100 {
        say(&mut stage, 0, ordinal, &b).unwrap();
    }
    let refused = say(&mut stage, 0, 101, &c).unwrap_err();
    assert!(refused.to_string().contains("you have sent 100 messages"), "{refused}");
    let refused = say(&mut stage, 2, 1, &b).unwrap_err();
    assert!(refused.to_string().contains(&format!("step `{b}` has 100 messages")), "{refused}");
    say(&mut stage, 1, 1, &a).unwrap();
    let numbers = |of: u32, after: u32| {
        stage.run.mail(StepNo(of), after).map(|message| message.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(1, 98), [99, 100]);
    assert_eq!((numbers(0, 0), numbers(0, 101), numbers(2, 0)), (vec![101], vec![], vec![]));
    let last = stage.run.messages().last().unwrap();
    let heard = stage.run.heard(last).unwrap();
    assert_eq!((heard.number, heard.from.as_str(), &*heard.agent), (101, &*b, "echo"));
    assert_eq!((&*heard.text, last.ordinal, &*last.to), ("message 1", 1, &[StepNo(0)][..]));
    assert_eq!(stage.run.messages().len(), 101);
    assert_eq!(stage.replayed(), stage.run);
}

#[test]
fn all_steps_together_grow_no_more_than_one_may() {
    let step = |id: &str, items: usize| {
        let each = json!({"list": format!("[0] * {items}"), "as": "item"});
        json!({"id": id, "work": {"agent": {"agent": "echo"}}, "for_each": each})
    };
    let steps = [step("a", 60_000), step("b", 60_000), step("c", 40_000)];
    let plan = json!({"workflow": "wide", "max_parallel": 1, "steps": steps});
    let mut stage = Driver::new(serde_json::from_value(plan).unwrap(), json!({}), id());
    stage.turn();
    let named = |name: &str| stage.run.step(stage.run.find(name).unwrap()).unwrap();
    assert_eq!((named("a").parts().len(), named("c").parts().len()), (60_000, 40_000));
    let failure = named("b").failure.as_deref().unwrap().message.to_string();
    assert!(failure.contains("60000 items and 60000 steps grew before"), "{failure}");
}
