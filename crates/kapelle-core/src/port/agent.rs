//! The agent port: whatever can take a step, and the desk it works at.
//!
//! **Invariant:** an agent reports; it never retries, times out or logs a failure it returns.
//! Those are decisions, and decisions are core's.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::violation::{tell_all, violations};
use crate::{Artifact, Attempt, Digest, Json, RunId, StepId, Tenant, Timestamp};

/// The code of a lost attempt that nobody had begun.
pub const NOT_BEGUN: &str = "not_begun";

/// The code of an end that is none: the node leaves, and others go on with the attempt. Nothing is
/// written down of it; whoever takes the run over waits for its end.
pub const LEFT: &str = "left";

/// The code of a lost attempt whose worker was not heard of any more.
pub const WORKER_LOST: &str = "worker_lost";

/// A future that can be sent and named.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whatever can take a step.
#[async_trait]
pub trait Agent: Send + Sync {
    /// What it is called and what it can do. Does not change.
    fn card(&self) -> &Card;

    /// What to do when the end of a call is unknown, if the step does not say.
    fn on_unknown(&self, _action: &str, _input: &Json) -> OnUnknown {
        OnUnknown::Retry
    }

    /// Whether a call ends at its first poll as a rule, and never computes or blocks for long. Then
    /// the engine's loop polls it once itself, which saves two hops between threads; an agent that
    /// says so wrongly holds up every run of its loop.
    fn is_immediate(&self) -> bool {
        false
    }

    /// Whether all calls go to one service: then many bad ends in a row, in whatever runs, mean that
    /// it is in trouble, and it is left alone for a while.
    fn is_one_service(&self) -> bool {
        true
    }

    /// Whether a call is itself what happens outside, and no effect in it has that on record.
    fn is_outside(&self) -> bool {
        false
    }

    /// Whether others do its work, who come and ask for it. An attempt then begins when one of them is
    /// there, and takes nothing of what the node has for attempts; and it can go on when the node that
    /// began it is gone: the next one waits for its end.
    fn is_remote(&self) -> bool {
        false
    }

    /// What makes it what it is, where that may change while a run goes on: an object whose `by` names
    /// the agent that works by any such object. A run keeps what it was at its start, to its end.
    fn definition(&self) -> Option<Json> {
        None
    }

    /// Works on `call` to its end. What it needs meanwhile is at the desk.
    ///
    /// Once `desk` says cancelled it has ten seconds; then its future is dropped.
    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure>;
}

/// What an agent says of itself.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its name, as `agentName` in workflows.
    pub name: Box<str>,
    /// One sentence for people and planners.
    pub description: Box<str>,
    /// Its verbs. The first one is taken where a step names none, if it is the only one.
    pub actions: Vec<Action>,
    /// How many attempts a node gives it at once; `None`: as many as the node runs.
    pub concurrency_max: Option<u32>,
}

/// One verb of an agent.
#[derive(Clone, Debug)]
pub struct Action {
    /// Its name.
    pub name: Box<str>,
    /// One sentence.
    pub description: Box<str>,
    /// JSON Schema of the input; `true` for anything.
    pub input: Json,
    /// JSON Schema of the output; `true` for anything.
    pub output: Json,
}

/// What to do when it is not known how a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// Call again, with the same key.
    Retry,
    /// Block the step as in doubt until a person says what happened.
    Ask,
    /// Take it as failed.
    Fail,
}

/// What an agent is asked to do.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose run it is: nothing that one tenant left is shown to another.
    pub tenant: Tenant,
    /// The run.
    pub run: RunId,
    /// The id of the run's workflow.
    pub workflow: Box<str>,
    /// The step.
    pub step: StepId,
    /// The fence: echo it with answers.
    pub attempt: Attempt,
    /// The idempotency key of the call itself: `run/step/0/generation`. Stays the same until a
    /// definite failure is recorded.
    pub key: Box<str>,
    /// Which verb.
    pub action: Box<str>,
    /// Checked against the action's schema.
    pub input: Json,
    /// Prose, for agents that read prose.
    pub prompt: Option<Box<str>>,
    /// What was wrong with the answer of the attempt before, if that is why there is another one.
    pub complaint: Option<Box<str>>,
    /// JSON Schema that the step asks of the output.
    pub output: Option<Arc<Json>>,
    /// The submitter's folder: relative paths start there.
    pub root: Box<str>,
    /// What the agent is to be in this run, if it has a definition.
    pub definition: Option<Arc<Json>>,
    /// When it is given up.
    pub deadline: Timestamp,
    /// Another node began it, and whoever works on it knows its input, which is not here.
    pub goes_on: bool,
}

/// How an agent's work ended well.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The step's output.
    pub value: Json,
    /// What [`Desk::artifact`] made, in the order to show them.
    pub artifacts: Vec<Artifact>,
    /// What it used.
    pub usage: Option<Usage>,
    /// How it was made: `rules` or `model`.
    pub engine: Option<Box<str>>,
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens written.
    #[serde(default)]
    pub output_tokens: u64,
    /// Nano-dollars; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_nanos: Option<i64>,
    /// Milliseconds that the call took; whoever records the call measures it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How an attempt or an effect ended badly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Which kind: what retry policies go by.
    pub kind: FailureKind,
    /// Whether it is known that the call did not succeed. `false`: it may have had its effect.
    pub certain: bool,
    /// A stable word, such as `exit_1`.
    pub code: Box<str>,
    /// For a person: lower case, no full stop.
    pub message: Box<str>,
    /// The other side's wish, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What was done so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Arc<Json>>,
    /// The ordinal of the first effect to do again in a retry, under a new generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_from: Option<u32>,
}

impl Failure {
    /// A failure that certainly happened.
    #[must_use]
    pub fn new(kind: FailureKind, code: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            certain: true,
            code: code.into(),
            message: message.into().into(),
            retry_after_ms: None,
            partial: None,
            forget_from: None,
        }
    }

    /// The same, but it is not known whether the call had its effect.
    #[must_use]
    pub fn uncertain(mut self) -> Self {
        self.certain = false;
        self
    }

    /// The same, to be tried again no sooner than after `wait`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The input or the step is wrong: it would fail again.
    Invalid,
    /// The other side said no: it would say so again.
    Refused,
    /// A policy of ours forbids it.
    Denied,
    /// It took too long.
    Timeout,
    /// The other side asks for a slower pace.
    RateLimited,
    /// The other side cannot be reached or has trouble of its own.
    Unavailable,
    /// The agent died.
    Crashed,
    /// The node died, or lost the shard.
    Lost,
    /// Somebody wanted it to stop.
    Cancelled,
    /// A budget is used up.
    Budget,
    /// A replay asked for something else than was recorded.
    Diverged,
    /// A fault in an agent or in Kapelle: a panic.
    Bug,
}

impl FailureKind {
    /// The word used in journals and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Crashed => "crashed",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::Budget => "budget",
            Self::Diverged => "diverged",
            Self::Bug => "bug",
        }
    }
}

/// One outside call inside an attempt.
#[derive(Clone, Debug)]
pub struct Effect {
    /// What it is, such as `fetch`.
    pub name: Box<str>,
    /// Whether it may be repeated when its end is unknown.
    pub safety: Safety,
    /// What it is about: the memo is looked up by its digest.
    pub input: Json,
}

/// Whether an effect may be repeated when it is not known how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Safety {
    /// Doing it twice does no harm, or its receiver takes the key.
    Repeatable,
    /// At most once: of unknown end, it is in doubt and a person decides.
    Unsafe,
}

/// What a step wants to know of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// In words.
    pub text: Box<str>,
    /// The answers there are; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Box<str>>,
}

/// What another step of the run has said to this one. Who that was is what the journal says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Its place among all messages of the run, from 1.
    pub number: u32,
    /// The step that said it,
    pub from: StepId,
    /// and the agent that works on that.
    pub agent: Box<str>,
    /// What.
    pub text: Arc<str>,
}

/// The work of an effect: given its outward key (`run/step/ordinal/generation`), does it.
pub type EffectWork<'a> =
    Box<dyn FnOnce(Box<str>) -> BoxFuture<'a, Result<Json, Failure>> + Send + 'a>;

/// The same for a call that costs: what came of it, and what it used if that is known.
pub type PaidWork<'a> =
    Box<dyn FnOnce(Box<str>) -> BoxFuture<'a, (Result<Json, Failure>, Option<Usage>)> + Send + 'a>;

/// What a paid call waits for besides its budget: that it is its turn.
pub trait Turn: Send + Sync {
    /// Waits until it is.
    fn take(&self) -> BoxFuture<'_, Result<(), Failure>>;

    /// The call is not made now: others may be.
    fn give_back(&self);
}

/// Of a call that waits for nobody.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce;

impl Turn for AtOnce {
    fn take(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn give_back(&self) {}
}

/// What an agent has at hand during a call.
#[async_trait]
pub trait Desk: Send + Sync {
    /// Shows how far the work is. Lossy, never waits.
    fn progress(&self, progress: Progress);

    /// Resolves once the attempt is not wanted any more.
    async fn cancelled(&self);

    /// Does an outside call at most once per success: what is recorded is replayed, in this attempt
    /// and in every later one. Its ordinal is given here, before the future is polled.
    ///
    /// The answer is durable before the agent sees it.
    fn effect<'a>(
        &'a self,
        effect: Effect,
        work: EffectWork<'a>,
    ) -> BoxFuture<'a, Result<Json, Failure>>;

    /// The same for a call that costs: what it may use is reserved within the budgets of the step and of
    /// the run before it is made, and counted as used if its end stays unknown.
    ///
    /// A call that is more than may be spent is not made: [`FailureKind::Budget`]. One of which nobody
    /// says what it used counts for what it may have used.
    ///
    /// Before it is announced, a call that is to be made waits for its `turn`; if that fails, it is
    /// not made. While it waits for a budget it has none, and waits for it again afterwards.
    fn paid<'a>(
        &'a self,
        effect: Effect,
        reserve: Usage,
        turn: &'a dyn Turn,
        work: PaidWork<'a>,
    ) -> BoxFuture<'a, Result<Json, Failure>>;

    /// Says something to another step of the run, by its id, or to all steps of an agent that are still
    /// to be done. An effect whose work is the journal's: it is said once.
    ///
    /// What reaches nobody is a [`FailureKind::Refused`] that says why.
    fn send<'a>(
        &'a self,
        effect: Effect,
        to: Box<str>,
        text: Arc<str>,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// Asks a person. An effect whose end is the answer, `{"answer", "by"}`: until there is one it is
    /// a failure, with which the attempt is to end. The next attempt begins when it is there.
    fn ask<'a>(
        &'a self,
        effect: Effect,
        question: Question,
    ) -> BoxFuture<'a, Result<Json, Failure>>;

    /// What other steps have said to this one after the message `after`, in order. It only grows.
    async fn mail(&self, after: u32) -> Result<Vec<Heard>, Failure>;

    /// Begins an artifact; `name` is a relative path without `..`.
    async fn artifact(
        &self,
        name: &str,
        media_type: &str,
    ) -> Result<Box<dyn ArtifactSink>, Failure>;

    /// The content of an artifact of this tenant, at most `max` bytes.
    async fn get(&self, digest: Digest, max: u64) -> Result<bytes::Bytes, Failure>;

    /// Resolves once what the attempt reports at its end is on disk; with a failure, whose code is that
    /// of the refusal, if it was not taken.
    fn receipt(&self) -> BoxFuture<'static, Result<(), Failure>>;
}

/// An artifact that is being written.
#[async_trait]
pub trait ArtifactSink: Send {
    /// Adds the next piece.
    async fn write(&mut self, piece: bytes::Bytes) -> Result<(), Failure>;
    /// Completes it. It is durable with the answer that names it.
    async fn finish(self: Box<Self>) -> Result<Artifact, Failure>;
}

/// How far a call is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// A line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Box<str>>,
    /// From 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
}

/// The agents of a node, by name.
#[derive(Clone, Default)]
pub struct Agents {
    by_name: BTreeMap<Box<str>, Arc<Registered>>,
    /// What they are to tenants that have some of their own: all, their own first.
    tenants: BTreeMap<Tenant, Self>,
}

/// An agent, with its schemas compiled.
pub struct Registered {
    /// The agent.
    pub agent: Arc<dyn Agent>,
    inputs: BTreeMap<Box<str>, jsonschema::Validator>,
}

/// An agent that cannot be registered.
#[derive(Debug, thiserror::Error)]
#[error("agent `{agent}`, action `{action}`: the input schema is no JSON Schema: {message}")]
pub struct BadCard {
    agent: Box<str>,
    action: Box<str>,
    message: String,
}

impl Agents {
    /// Adds an agent; one of the same name is replaced.
    pub fn register(&mut self, agent: Arc<dyn Agent>) -> Result<(), BadCard> {
        self.put(Arc::new(Registered::new(agent)?));
        Ok(())
    }

    fn put(&mut self, agent: Arc<Registered>) {
        self.by_name.insert(agent.agent.card().name.clone(), agent);
    }

    /// Adds an agent that `tenant` alone sees, once all others are there; it goes before one of its name.
    pub fn register_for(&mut self, tenant: &Tenant, agent: Arc<Registered>) {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), self.of_all());
        }
        if let Some(of) = self.tenants.get_mut(tenant) {
            of.put(agent);
        }
    }

    /// The same without those that only some see.
    #[must_use]
    pub fn of_all(&self) -> Self {
        Self { by_name: self.by_name.clone(), tenants: BTreeMap::new() }
    }

    /// The agents that `tenant` sees.
    #[must_use]
    pub fn of(&self, tenant: &Tenant) -> &Self {
        self.tenants.get(tenant).unwrap_or(self)
    }

    /// The agent of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Registered>> {
        self.by_name.get(name)
    }

    /// Who works for the agent of this name where a run keeps its definition: whoever that names, also
    /// if there is no agent of this name any more, or another one.
    #[must_use]
    pub fn performer(&self, name: &str, definition: Option<&Json>) -> Option<&Arc<Registered>> {
        let by = definition.and_then(|definition| definition.get("by")?.as_str());
        let own = self.get(name);
        // One that can be what its definition says brings along what that does not: whom to ask.
        let can = |agent: &&Arc<Registered>| by.is_none() || agent.agent.definition().is_some();
        own.filter(can).or_else(|| self.get(by?))
    }

    /// All agents, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.by_name.values()
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(AsRef::as_ref)
    }
}

impl Registered {
    /// An agent with the schemas of its actions.
    pub fn new(agent: Arc<dyn Agent>) -> Result<Self, BadCard> {
        let card = agent.card();
        let mut inputs = BTreeMap::new();
        for action in &card.actions {
            let validator = jsonschema::validator_for(&action.input).map_err(|error| BadCard {
                agent: card.name.clone(),
                action: action.name.clone(),
                message: error.to_string(),
            })?;
            inputs.insert(action.name.clone(), validator);
        }
        Ok(Self { agent, inputs })
    }

    /// The verb that `wanted` names, or the only one there is.
    #[must_use]
    pub fn action(&self, wanted: Option<&str>) -> Option<&Action> {
        let actions = &self.agent.card().actions;
        match wanted {
            Some(name) => actions.iter().find(|action| &*action.name == name),
            None if actions.len() == 1 => actions.first(),
            None => None,
        }
    }

    /// The compiled schema of an action's input.
    pub(crate) fn input_schema(&self, action: &str) -> Option<&jsonschema::Validator> {
        self.inputs.get(action)
    }

    /// What is wrong with `input` for `action`: a line each, with its field. Empty if nothing is.
    #[must_use]
    pub fn check_input(&self, action: &str, input: &Json) -> Vec<String> {
        let schema = self.action(Some(action)).map(|action| &action.input);
        let validator = self.inputs.get(action);
        validator.map_or_else(Vec::new, |validator| violations(validator, schema, input))
    }
}

/// Why something is no JSON Schema, if it is none.
#[must_use]
pub fn no_schema(schema: &Json) -> Option<String> {
    jsonschema::validator_for(schema).err().map(|error| tell_all(&error))
}

/// What is wrong with `value` by a JSON Schema, a line each, with its field. Empty if nothing is.
#[must_use]
pub fn wrong_with(schema: &Json, value: &Json) -> Vec<String> {
    match jsonschema::validator_for(schema) {
        Ok(validator) => violations(&validator, Some(schema), value),
        Err(error) => vec![format!("the schema is no JSON Schema: {}", tell_all(&error))],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Echo(Card);

    #[async_trait]
    impl Agent for Echo {
        fn card(&self) -> &Card {
            &self.0
        }

        async fn perform(&self, call: Call, _: &dyn Desk) -> Result<Answer, Failure> {
            Ok(Answer { value: call.input, ..Answer::default() })
        }
    }

    fn echo(name: &str, actions: &[&str], input: &Json) -> Arc<Echo> {
        let action = |name: &&str| Action {
            name: (*name).into(),
            description: "".into(),
            input: input.clone(),
            output: json!(true),
        };
        let actions = actions.iter().map(action).collect();
        let card =
            Card { name: name.into(), description: "".into(), actions, concurrency_max: None };
        Arc::new(Echo(card))
    }

    #[test]
    fn an_agent_is_a_service_that_takes_its_time_unless_it_says_otherwise() {
        let agent = echo("echo", &["say"], &json!(true));
        assert!(agent.is_one_service() && !agent.is_immediate());
        assert!(!agent.is_outside() && !agent.is_remote());
        assert_eq!(agent.definition(), None);
        assert_eq!(agent.on_unknown("say", &json!({})), OnUnknown::Retry);
    }

    #[test]
    fn agents_are_found_by_name_and_their_verbs_too() {
        let mut agents = Agents::default();
        agents.register(echo("one", &["say"], &json!({"type": "object"}))).unwrap();
        agents.register(echo("many", &["say", "sing"], &json!(true))).unwrap();
        assert_eq!(agents.names().collect::<Vec<_>>(), ["many", "one"]);
        let cards: Vec<_> = agents.iter().map(|agent| &*agent.agent.card().name).collect();
        assert_eq!(cards, ["many", "one"]);
        let [many, one] = ["many", "one"].map(|name| agents.get(name).unwrap());
        let verb = |agent: &Registered, wanted| agent.action(wanted).map(|verb| verb.name.clone());
        assert_eq!(verb(one, None).as_deref(), Some("say"));
        assert_eq!(verb(many, None), None);
        assert_eq!(verb(many, Some("sing")).as_deref(), Some("sing"));
        assert_eq!(verb(one, Some("sing")), None);
    }

    #[test]
    fn a_tenant_sees_its_own_agents_before_those_of_all() {
        let (acme, other) = (Tenant::new("acme"), Tenant::new("other"));
        let mut agents = Agents::default();
        agents.register(echo("one", &["say"], &json!(true))).unwrap();
        agents.register(echo("two", &["say"], &json!(true))).unwrap();
        for (name, verb) in [("two", "sing"), ("three", "say")] {
            let own = Registered::new(echo(name, &[verb], &json!(true))).unwrap();
            agents.register_for(&acme, Arc::new(own));
        }
        assert_eq!(agents.of(&acme).names().collect::<Vec<_>>(), ["one", "three", "two"]);
        assert!(agents.of(&acme).get("two").unwrap().action(Some("sing")).is_some());
        assert_eq!(agents.of(&other).names().collect::<Vec<_>>(), ["one", "two"]);
        assert!(agents.of(&other).get("two").unwrap().action(Some("sing")).is_none());
    }

    #[test]
    fn an_input_is_told_what_is_wrong_with_it() {
        let mut agents = Agents::default();
        let input = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        agents.register(echo("echo", &["say"], &input)).unwrap();
        let wrong = |input: Json| agents.get("echo").unwrap().check_input("say", &input);
        assert_eq!(wrong(json!({"n": 1})), [""; 0]);
        assert_eq!(wrong(json!({"n": "x"})), ["`n` must be an integer, and is a text"]);
        assert_eq!(wrong(json!(7)), ["it must be an object, and is a number"]);
        let bad = agents.register(echo("bad", &["say"], &json!({"type": 7}))).unwrap_err();
        assert!(
            bad.to_string().starts_with("agent `bad`, action `say`: the input schema"),
            "{bad}"
        );
        assert_eq!(wrong_with(&input, &json!({"n": 1})), [""; 0]);
        assert_eq!(
            wrong_with(&input, &json!({"n": "x"})),
            ["`n` must be an integer, and is a text"]
        );
        let no_schema = wrong_with(&json!({"type": 7}), &json!(1)).join("; ");
        assert!(no_schema.starts_with("the schema is no JSON Schema: `type`"), "{no_schema}");
        assert_eq!(super::no_schema(&input), None);
        assert!(super::no_schema(&json!({"type": 7})).unwrap().starts_with("`type`"));
    }

    #[test]
    fn what_a_call_used_is_read_as_it_is_written() {
        let usage = Usage { input_tokens: 1, output_tokens: 2, cost_nanos: Some(3), ms: 4 };
        for usage in [usage, Usage { cost_nanos: None, ms: 0, ..usage }] {
            let text = serde_json::to_string(&usage).unwrap();
            assert_eq!(serde_json::from_str::<Usage>(&text).unwrap(), usage, "{text}");
        }
    }

    #[test]
    fn a_wait_too_long_to_hold_is_the_longest() {
        let failure = || Failure::new(FailureKind::RateLimited, "slow", "slow down");
        assert!(failure().certain && !failure().uncertain().certain);
        let wait = |wait| failure().retry_after(wait).retry_after_ms;
        assert_eq!(wait(Duration::from_secs(2)), Some(2_000));
        assert_eq!(wait(Duration::MAX), Some(u64::MAX));
    }
}
