//! What is promised of every agent, as checks that run against the real one.
//!
//! A check panics with what was promised and not kept; call it from a test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kapelle_core::port::agent::{
    Agent, Agents, Answer, Call, Card, Desk, Failure, FailureKind, Registered,
};
use kapelle_core::{Attempt, Json, RunId, Shard, Tenant, Timestamp};

use crate::desk::ScratchDesk;

/// How long an agent may take to end once it is cancelled.
const GRACE: Duration = Duration::from_secs(10);

/// A call of `action` with `input`, the first attempt of a step `step`; paths start in `root`.
#[must_use]
pub fn call(action: &str, input: Json, root: &str) -> Call {
    let run = RunId::new(Timestamp(1_700_000_000_000_000), [7; 10], Shard(1));
    Call {
        tenant: Tenant::default(),
        run,
        workflow: "contract".into(),
        step: "step".parse().expect("a step id"),
        attempt: Attempt(1),
        key: format!("{run}/step/0/1").into(),
        action: action.into(),
        input,
        prompt: None,
        complaint: None,
        output: None,
        root: root.into(),
        definition: None,
        deadline: Timestamp(1_700_000_060_000_000),
        goes_on: false,
    }
}

/// The card names the agent and its actions, and its schemas are JSON Schemas.
///
/// # Panics
/// If not.
pub fn has_a_sound_card(agent: &Arc<dyn Agent>) {
    let card = agent.card();
    assert!(!card.name.is_empty() && !card.description.is_empty(), "a name and a description");
    assert!(!card.actions.is_empty(), "`{}` has no action", card.name);
    for action in &card.actions {
        assert!(!action.description.is_empty(), "`{}` says what it does", action.name);
    }
    drop((inputs(agent), outputs(agent)));
}

/// `input` is accepted and answered, with an output that the schema of `action` admits.
///
/// # Panics
/// If not.
pub async fn answers_as_it_says(agent: &Arc<dyn Agent>, action: &str, input: Json) -> Answer {
    assert_eq!(inputs(agent).check_input(action, &input), Vec::<String>::new(), "{input}");
    let desk = ScratchDesk::new().expect("a temporary folder");
    let answer = agent.perform(call(action, input, "/"), &desk).await.expect("an answer");
    let problems = outputs(agent).check_input(action, &answer.value);
    assert_eq!(problems, Vec::<String>::new(), "{}", answer.value);
    answer
}

/// `input` is `invalid`, by the schema and by the agent, whatever else happens.
///
/// # Panics
/// If not.
pub async fn refuses_as_invalid(agent: &Arc<dyn Agent>, action: &str, input: Json) {
    assert!(!inputs(agent).check_input(action, &input).is_empty(), "the schema admits {input}");
    let desk = ScratchDesk::new().expect("a temporary folder");
    let failure = agent.perform(call(action, input.clone(), "/"), &desk).await;
    let failure = failure.expect_err(&format!("{input} was taken"));
    assert_eq!((failure.kind, failure.certain), (FailureKind::Invalid, true), "{failure}");
}

/// An action that the card does not have is `invalid`.
///
/// # Panics
/// If not.
pub async fn knows_its_actions(agent: &Arc<dyn Agent>) {
    let desk = ScratchDesk::new().expect("a temporary folder");
    let call = call("no-such-action", Json::Object(serde_json::Map::new()), "/");
    let failure = agent.perform(call, &desk).await.expect_err("there is no such action");
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
}

/// Cancelled in the middle of `input`, which takes long, it ends within the grace as `cancelled`.
/// `begun` resolves once the work is under way.
///
/// # Panics
/// If not.
pub async fn ends_when_cancelled(
    agent: &Arc<dyn Agent>,
    action: &str,
    input: Json,
    begun: impl Future<Output = ()>,
) {
    let desk = ScratchDesk::new().expect("a temporary folder");
    let cancel = async {
        begun.await;
        desk.cancel();
        Instant::now()
    };
    let (ended, since) = tokio::join!(agent.perform(call(action, input, "/"), &desk), cancel);
    assert!(since.elapsed() < GRACE, "it took {:?}", since.elapsed());
    let failure = ended.expect_err("it was cancelled");
    assert_eq!((failure.kind, failure.certain), (FailureKind::Cancelled, false), "{failure}");
}

fn inputs(agent: &Arc<dyn Agent>) -> Arc<Registered> {
    let mut agents = Agents::default();
    agents.register(Arc::clone(agent)).expect("its schemas are JSON Schemas");
    Arc::clone(agents.get(&agent.card().name).expect("just registered"))
}

/// An agent that takes what `agent` gives, so that one way to check values serves both.
fn outputs(agent: &Arc<dyn Agent>) -> Arc<Registered> {
    let mut card = agent.card().clone();
    for action in &mut card.actions {
        action.input = action.output.clone();
    }
    inputs(&(Arc::new(Taker(card)) as Arc<dyn Agent>))
}

struct Taker(Card);

#[async_trait]
impl Agent for Taker {
    fn card(&self) -> &Card {
        &self.0
    }

    async fn perform(&self, call: Call, _desk: &dyn Desk) -> Result<Answer, Failure> {
        Ok(Answer { value: call.input, ..Answer::default() })
    }
}
