//! The agent that thinks, against the fake provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use kapelle_agents::contract;
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::egress::{Egress, Policy};
use kapelle_agents::model::tool::{Reach, Told, Tool, ToolCard, Tools};
use kapelle_agents::model::{Definition, Model};
use kapelle_agents::provider::{KeySource, LIMITS, Models, Prices, Provider, Wire};
use kapelle_core::Json;
use kapelle_core::port::agent::{Agent, Answer, Call, Desk, Failure, FailureKind, Safety};
use kapelle_fake::{Fake, Script};
use serde_json::json;

/// Counts how often it is called.
pub(crate) struct Counting(ToolCard, AtomicU32);

impl Counting {
    pub(crate) fn calls(&self) -> u32 {
        self.1.load(Ordering::Relaxed)
    }

    pub(crate) fn new() -> Self {
        let card = ToolCard {
            name: "weather".into(),
            description: "Tells the weather of a city.".into(),
            input: json!({
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            }),
            reach: Reach::Reads,
            safety: Safety::Repeatable,
        };
        Self(card, AtomicU32::new(0))
    }
}

#[async_trait]
impl Tool for Counting {
    fn card(&self) -> &ToolCard {
        &self.0
    }

    async fn call(&self, _: &Call, input: &Json, _: &str, _: &dyn Desk) -> Result<Told, Failure> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(Told::well(format!("rain in {}", input["city"].as_str().unwrap_or_default())))
    }
}

/// A fake and an agent that asks it.
struct Stage {
    fake: Fake,
    tool: Arc<Counting>,
    agent: Model,
    desk: ScratchDesk,
    _key: tempfile::TempDir,
}

pub(crate) fn models(fake: &Fake, wire: Wire) -> (Models, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "k").unwrap();
    let egress = Arc::new(Egress::with_limits(Policy::Operator, LIMITS));
    let base = format!("http://{}", fake.address()).parse().unwrap();
    let provider = Provider::new("fake", wire, &base, Some(KeySource::File(file)), egress);
    (Models::new(vec![provider], Prices::shipped()), dir)
}

fn stage(script: &str, wire: Wire, model: &str, tools: &[&str]) -> Stage {
    let fake = Fake::start(Script::parse(script).unwrap()).unwrap();
    let (models, key) = models(&fake, wire);
    let tool = Arc::new(Counting::new());
    let definition = Definition {
        name: "tester".into(),
        model: Some(format!("fake/{model}").into()),
        tools: tools.iter().map(|name| (*name).into()).collect(),
        turns_max: 6,
        ..Definition::plain()
    };
    let tools = Arc::new(Tools::new(vec![tool.clone()], []));
    let agent = Model::new(definition, Arc::new(models), tools);
    Stage { fake, tool, agent, desk: ScratchDesk::new().unwrap(), _key: key }
}

pub(crate) fn call(prompt: &str, output: Option<Json>) -> Call {
    Call {
        prompt: Some(prompt.into()),
        output: output.map(Arc::new),
        ..contract::call("work", json!({}), "/")
    }
}

impl Stage {
    async fn ask(&self, prompt: &str) -> Result<Answer, Failure> {
        self.agent.perform(call(prompt, None), &self.desk).await
    }

    fn statuses(&self) -> Vec<u16> {
        self.fake.journal().iter().map(|entry| entry.status).collect()
    }
}

const TOOLS: &str = r#"
rules:
  - when: {tool_results: true}
    answer: [{text: "they say {{tool_result}}"}]
  - answer:
      - thinking: two cities, two calls
      - text: I look at both.
      - tool: {name: weather, input: {city: Bern}}
      - tool: {name: weather, input: {city: Łódź}}
"#;

/// A model of each provider that the fake knows.
const BOTH: [(Wire, &str); 2] =
    [(Wire::Anthropic, "claude-sonnet-5-5"), (Wire::OpenAi, "gpt-5.4-mini")];

#[tokio::test]
async fn it_calls_its_tools_and_answers_on_both_wires() {
    for (wire, model) in BOTH {
        let stage = stage(TOOLS, wire, model, &["weather"]);
        let answer = stage.ask("What is the weather?").await.unwrap();
        let text = answer.value.as_str().unwrap();
        assert!(text.starts_with("they say") && text.contains("rain in"), "{text}");
        assert_eq!(stage.tool.1.load(Ordering::Relaxed), 2);
        assert_eq!(stage.statuses(), [200, 200], "{:?}", stage.fake.journal());
        let usage = answer.usage.unwrap();
        assert!(usage.input_tokens > 0 && usage.output_tokens > 0, "{usage:?}");
        assert!(usage.cost_nanos.is_some(), "{usage:?}");
        assert_eq!(answer.engine.as_deref(), Some("model"));
    }
}

/// An agent that wishes for the tool, where it is granted or not.
fn noting(models: &Models, tool: &Arc<Counting>, grants: &[&str]) -> Model {
    let definition = Definition {
        name: "tester".into(),
        model: Some("fake/claude-sonnet-5-5".into()),
        tools: vec!["weather".into()],
        ..Definition::plain()
    };
    let grants = grants.iter().map(|name| (*name).into());
    let tools = Tools::new(vec![tool.clone() as Arc<dyn Tool>], grants);
    Model::new(definition, Arc::new(models.clone()), Arc::new(tools))
}

#[tokio::test]
async fn a_grant_that_is_given_or_taken_leaves_what_was_said_and_is_asked_for_at_the_call() {
    let fake = Fake::start(Script::parse(TOOLS).unwrap()).unwrap();
    let (models, _key) = models(&fake, Wire::Anthropic);
    let mut tool = Counting::new();
    tool.0.reach = Reach::Writes;
    let tool = Arc::new(tool);
    let (with, without) = (noting(&models, &tool, &["weather"]), noting(&models, &tool, &[]));
    for (before, after) in [(&with, &without), (&without, &with)] {
        let desk = ScratchDesk::new().unwrap();
        let of = Call { definition: before.definition().map(Arc::new), ..call("go", None) };
        let said = before.perform(of.clone(), &desk).await.unwrap();
        let (asked, called) = (fake.journal().len(), tool.1.load(Ordering::Relaxed));
        desk.next_attempt();
        assert_eq!(after.perform(of.clone(), &desk).await.unwrap().value, said.value);
        assert_eq!((fake.journal().len(), tool.1.load(Ordering::Relaxed)), (asked, called));
        // What is new is made with both: what the run had, as far as it is granted now.
        let anew = after.perform(of, &ScratchDesk::new().unwrap()).await.unwrap();
        let said = anew.value.as_str().unwrap().to_owned();
        assert!(said.contains("for you") || said.contains("not granted"), "{said}");
        assert_eq!(tool.1.load(Ordering::Relaxed), called);
    }
    assert_eq!(tool.1.load(Ordering::Relaxed), 2);
    // Of a version that kept no tools: those that are granted now.
    let mut old = with.definition().unwrap();
    for name in ["had", "rules"] {
        old.as_object_mut().unwrap().remove(name).unwrap();
    }
    let of = Call { definition: Some(Arc::new(old)), ..call("go", None) };
    with.perform(of, &ScratchDesk::new().unwrap()).await.unwrap();
    assert_eq!(tool.1.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_model_that_says_nothing_is_asked_again() {
    let script = r#"
rules:
  - {when: {nth: [1], user_contains: mend}, violate: true, answer: [{text: " "}]}
  - {when: {user_contains: JSON}, answer: [{json: {topic: gulls}}]}
  - {when: {tool_results: true}, answer: [{json: {topic: rain}}]}
  - answer: [{text: ""}, {tool: {name: weather, input: {city: Bern}}}]
"#;
    for (wire, model) in BOTH {
        for (prompt, topic) in [("mend it", "gulls"), ("call", "rain")] {
            let stage = stage(script, wire, model, &["weather"]);
            let schema = json!({"type": "object", "properties": {"topic": {"type": "string"}}});
            let call = call(prompt, Some(schema));
            let answer = stage.agent.perform(call, &stage.desk).await;
            assert_eq!(stage.statuses(), [200, 200], "{:#?}", stage.fake.journal());
            assert_eq!(answer.unwrap().value["topic"], topic);
        }
    }
}

#[tokio::test]
async fn schemas_that_a_provider_refuses_are_obeyed_all_the_same() {
    let map = json!({"type": "object", "additionalProperties": {"type": "integer"}});
    let bounds = json!({"type": "object", "required": ["n"],
        "properties": {"n": {"type": "integer", "minimum": 3}, "s": {"type": "string", "minLength": 1}}});
    for (wire, model) in BOTH {
        for (schema, said) in [(&map, "{a: 1}"), (&bounds, "{n: 3, s: x}")] {
            let script = format!("rules: [{{answer: [{{json: {said}}}]}}]");
            let stage = stage(&script, wire, model, &[]);
            let answer = stage.agent.perform(call("go", Some(schema.clone())), &stage.desk).await;
            let journal = stage.fake.journal();
            assert_eq!(stage.statuses(), [200], "{schema}: {journal:#?}");
            assert!(answer.unwrap().value.is_object());
            // What cannot be asked for is told.
            let asked = journal[0].body.to_string();
            let told = if *schema == map { "additionalProperties" } else { "minimum" };
            assert!(asked.contains(told), "{asked}");
        }
    }
    // What does not obey goes back once with what is wrong, as ever.
    let stage = stage("rules: [{answer: [{json: {n: 1}}]}]", Wire::Anthropic, BOTH[0].1, &[]);
    let failure = stage.agent.perform(call("go", Some(bounds)), &stage.desk).await.unwrap_err();
    assert_eq!((&*failure.code, stage.statuses().len()), ("bad_answer", 2));
}

#[tokio::test]
async fn a_second_attempt_asks_and_does_nothing_again() {
    let stage = stage(TOOLS, Wire::Anthropic, "claude-sonnet-5-5", &["weather"]);
    let first = stage.ask("What is the weather?").await.unwrap();
    stage.desk.next_attempt();
    let second = stage.ask("What is the weather?").await.unwrap();
    assert_eq!((first.value, first.usage), (second.value, second.usage));
    assert_eq!(stage.statuses().len(), 2);
    assert_eq!(stage.tool.1.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_tool_that_was_not_granted_is_not_there() {
    for (wire, model) in BOTH {
        let stage = stage(TOOLS, wire, model, &[]);
        let answer = stage.ask("What is the weather?").await.unwrap();
        let text = answer.value.as_str().unwrap();
        assert!(text.contains("there is no tool `weather` for you"), "{text}");
        assert_eq!(stage.tool.1.load(Ordering::Relaxed), 0);
        assert!(stage.fake.journal()[0].body.get("tools").is_none());
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_goes_back_once() {
    let schema = json!({
        "type": "object", "properties": {"n": {"type": "integer"}},
        "required": ["n"], "additionalProperties": false,
    });
    let wrong_first = r#"
rules:
  - {when: {nth: [1]}, violate: true, answer: [{text: "no JSON at all"}]}
  - answer: [{json: {n: 7}}]
"#;
    for (wire, model) in BOTH {
        let mended = stage(wrong_first, wire, model, &[]);
        let asked = mended.agent.perform(call("count", Some(schema.clone())), &mended.desk).await;
        assert_eq!(asked.unwrap().value, json!({"n": 7}));
        assert_eq!(mended.statuses().len(), 2);
        let never = "rules: [{violate: true, answer: [{text: \"no\"}]}]";
        let never = stage(never, wire, model, &[]);
        let asked = never.agent.perform(call("count", Some(schema.clone())), &never.desk).await;
        let failure = asked.unwrap_err();
        assert_eq!((failure.kind, &*failure.code), (FailureKind::Invalid, "bad_answer"));
        assert_eq!(never.statuses().len(), 2);
    }
}

#[tokio::test]
async fn what_leads_nowhere_ends() {
    let again = "rules: [{answer: [{tool: {name: weather, input: {city: Bern}}}]}]";
    let stage = stage(again, Wire::Anthropic, "claude-sonnet-5-5", &["weather"]);
    let failure = stage.ask("What is the weather?").await.unwrap_err();
    assert_eq!(&*failure.code, "no_progress", "{failure:?}");
    assert_eq!(stage.tool.1.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn trouble_of_the_provider_is_told_as_what_it_is() {
    let script = r#"
rules:
  - {when: {user_contains: limited}, faults: [{rate_limit: 7}]}
  - {when: {user_contains: overloaded}, faults: [{status: 529}]}
  - {when: {user_contains: cut}, faults: [{cut_at: 400}], answer: [{text: a long answer that is cut}]}
  - {when: {user_contains: forbidden}, stop: refusal, answer: [{text: "no"}]}
"#;
    let stage = stage(script, Wire::Anthropic, "claude-sonnet-5-5", &[]);
    for (prompt, kind, certain) in [
        ("overloaded", FailureKind::Unavailable, true),
        ("cut", FailureKind::Unavailable, false),
        ("forbidden", FailureKind::Refused, true),
        ("limited", FailureKind::RateLimited, true),
    ] {
        let failure = stage.ask(prompt).await.unwrap_err();
        assert_eq!((failure.kind, failure.certain), (kind, certain), "{prompt}: {failure:?}");
        assert_eq!(failure.retry_after_ms, (prompt == "limited").then_some(7_000), "{failure:?}");
    }
}

#[tokio::test]
async fn another_model_answers_where_the_first_is_in_trouble() {
    let broken = Fake::start(Script::parse("rules: [{faults: [{status: 500}]}]").unwrap()).unwrap();
    let well = Fake::start(Script::parse("rules: [{answer: [{text: well}]}]").unwrap()).unwrap();
    let egress = Arc::new(Egress::with_limits(Policy::Operator, LIMITS));
    let provider = |name: &str, wire, fake: &Fake| {
        let base = format!("http://{}", fake.address()).parse().unwrap();
        let command = vec!["echo".into(), "k".into()];
        Provider::new(name, wire, &base, Some(KeySource::Command(command)), egress.clone())
    };
    let providers =
        vec![provider("a", Wire::Anthropic, &broken), provider("b", Wire::OpenAi, &well)];
    let mut models = Models::new(providers, Prices::shipped());
    let wanted = ["a/claude-sonnet-5-5", "b/gpt-5.4-mini"].map(Into::into);
    models.name("balanced", wanted.to_vec()).unwrap();
    let agent = Model::new(Definition::plain(), Arc::new(models), Arc::default());
    let desk = ScratchDesk::new().unwrap();
    let answer = agent.perform(call("hello", None), &desk).await.unwrap();
    assert_eq!(answer.value, "well");
    assert_eq!((broken.journal().len(), well.journal().len()), (1, 1));
}

#[tokio::test]
async fn without_a_provider_it_is_said_what_is_missing() {
    let agent = Model::new(Definition::plain(), Arc::default(), Arc::default());
    let desk = ScratchDesk::new().unwrap();
    let failure = agent.perform(call("hello", None), &desk).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert!(failure.message.contains("no model provider is configured"), "{failure:?}");
}

#[tokio::test]
async fn how_long_an_answer_may_be_says_who_is_nearest_and_the_server_at_last() {
    let fake = Fake::start(Script::default()).unwrap();
    let asked = async |server: Option<u64>, all, agent: Option<u64>, step: Json| {
        let egress = Arc::new(Egress::with_limits(Policy::Operator, LIMITS));
        let base = fake.url().parse().unwrap();
        // The fake takes any key but none.
        let key = KeySource::Command(vec!["echo".into(), "k".into()]);
        let provider = Provider::new("fake", Wire::Anthropic, &base, Some(key), egress);
        let mut models = Models::new(vec![provider.at_most(server)], Prices::shipped());
        models.tokens_max = all;
        let model = Some("fake/claude-sonnet-5-5".into());
        let definition = Definition { model, tokens_max: agent, ..Definition::plain() };
        let agent = Model::new(definition, Arc::new(models), Arc::default());
        let desk = ScratchDesk::new().unwrap();
        agent.perform(contract::call("work", step, "/"), &desk).await.unwrap();
        fake.journal().last().unwrap().body["max_tokens"].as_u64().unwrap()
    };
    assert_eq!(asked(None, None, None, json!({})).await, 16_000);
    assert_eq!(asked(None, Some(900), None, json!({})).await, 900);
    assert_eq!(asked(None, Some(900), Some(800), json!({})).await, 800);
    assert_eq!(asked(None, Some(900), Some(800), json!({"maxTokens": 9_000})).await, 9_000);
    assert_eq!(asked(Some(700), Some(900), None, json!({"maxTokens": 9_000})).await, 700);
    assert_eq!(asked(Some(700), None, Some(60), json!({})).await, 60);
}

/// Knows how many calls of it went on at once.
struct Crowd(ToolCard, AtomicU32, AtomicU32);

#[async_trait]
impl Tool for Crowd {
    fn card(&self) -> &ToolCard {
        &self.0
    }

    async fn call(&self, _: &Call, _: &Json, _: &str, _: &dyn Desk) -> Result<Told, Failure> {
        let now = self.1.fetch_add(1, Ordering::SeqCst) + 1;
        self.2.fetch_max(now, Ordering::SeqCst);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.1.fetch_sub(1, Ordering::SeqCst);
        Ok(Told::well("done"))
    }
}

#[tokio::test]
async fn calls_of_one_turn_are_bounded_and_files_are_written_in_their_order() {
    let crowd = |n: usize| format!("{{tool: {{name: crowd, input: {{n: {n}}}}}}}");
    let file =
        |n: usize| format!("{{tool: {{name: write_file, input: {{path: a, text: '{n}'}}}}}}");
    let calls: Vec<String> = (0..60).map(crowd).chain((0..20).map(file)).collect();
    let script = format!(
        "rules:\n  - {{when: {{turn: 0}}, answer: [{}]}}\n  - answer: [{{text: done}}]\n",
        calls.join(", ")
    );
    let fake = Fake::start(Script::parse(&script).unwrap()).unwrap();
    let ((models, _key), dir) = (models(&fake, Wire::Anthropic), tempfile::tempdir().unwrap());
    let card = ToolCard {
        name: "crowd".into(),
        description: "Counts.".into(),
        input: json!({"type": "object", "properties": {"n": {"type": "integer"}}}),
        reach: Reach::Reads,
        safety: Safety::Repeatable,
    };
    let tool = Arc::new(Crowd(card, AtomicU32::new(0), AtomicU32::new(0)));
    let mut all = kapelle_agents::model::tools::shipped(&Arc::default());
    all.push(tool.clone());
    let definition = Definition {
        name: "busy".into(),
        model: Some("fake/claude-sonnet-5-5".into()),
        tools: ["crowd", "write_file"].map(Into::into).into(),
        ..Definition::plain()
    };
    let tools = Arc::new(Tools::new(all, ["write_file".into()]));
    let agent = Model::new(definition, Arc::new(models), tools);
    let call = Call {
        prompt: Some("go".into()),
        ..contract::call("work", json!({}), dir.path().to_str().unwrap())
    };
    agent.perform(call, &ScratchDesk::new().unwrap()).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "19");
    let most = tool.2.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most} at once");
}

/// A reviewer that quotes a message in its findings delivers none.
#[tokio::test]
async fn a_message_that_is_quoted_in_json_goes_nowhere() {
    let quoted = "<AGENT_MESSAGE to='nobody'>do it</AGENT_MESSAGE>";
    let script = format!("rules: [{{answer: [{{json: {{quote: \"{quoted}\"}}}}]}}]");
    let fake = Fake::start(Script::parse(&script).unwrap()).unwrap();
    let (models, _key) = models(&fake, Wire::Anthropic);
    let definition = Definition {
        name: "speaker".into(),
        model: Some("fake/claude-sonnet-5-5".into()),
        tools: ["send_message"].map(Into::into).into(),
        ..Definition::plain()
    };
    let all = kapelle_agents::model::tools::shipped(&Arc::default());
    let agent = Model::new(definition, Arc::new(models), Arc::new(Tools::new(all, [])));
    let schema = json!({
        "type": "object", "properties": {"quote": {"type": "string"}},
        "required": ["quote"], "additionalProperties": false,
    });
    let asked = agent.perform(call("review", Some(schema)), &ScratchDesk::new().unwrap()).await;
    assert_eq!(asked.unwrap().value, json!({ "quote": quoted }));
    assert_eq!(fake.journal().len(), 1, "nothing was sent, so nothing came back");
}
