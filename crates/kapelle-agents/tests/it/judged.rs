//! Agents that work by rules, with a model that chooses in their place: what it says is the texts' own,
//! or dropped, and nobody is asked who is not to be.

use std::sync::Arc;

use kapelle_agents::contract;
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::provider::Wire;
use kapelle_core::port::agent::{Agent, Answer, Call, Desk as _, Failure, FailureKind};
use kapelle_core::{Attempt, Json};
use kapelle_fake::{Fake, Script};
use serde_json::json;

use crate::model::models;
use crate::rules::{agent, agent_with, places_are_true};

const MODELS: [(Wire, &str); 2] =
    [(Wire::Anthropic, "fake/claude-sonnet-5-5"), (Wire::OpenAi, "fake/gpt-5.4-mini")];

const ONE: &str = "# Ports\n\nThe server listens on port 8080 by default. It can be changed in the \
                   file server.toml. Whoever runs two servers needs two ports.\n\n## Changing it\n\n\
                   Open **server.toml** first. The port is on its first line. Then start the server \
                   anew:\n\n```\n$ serve --port 81\n```\n\nNever give two servers one port.";
const TWO: &str = "# Firewalls\n\nThe server listens on port 9090 by default, as many say. Firewalls \
                   are told to let that port through by whoever runs them.";

/// A fake and an agent that may ask it.
struct Stage {
    fake: Fake,
    agent: Arc<dyn Agent>,
    desk: ScratchDesk,
    _key: tempfile::TempDir,
}

fn stage(name: &str, script: &str, (wire, model): (Wire, &str), rules_only: bool) -> Stage {
    let fake = Fake::start(Script::parse(script).unwrap()).unwrap();
    let (mut models, key) = models(&fake, wire);
    models.set_default(model).unwrap();
    models.rules_only = rules_only;
    Stage { fake, agent: agent_with(name, models), desk: ScratchDesk::new().unwrap(), _key: key }
}

/// One that answers with `choice`, whatever its schema.
fn choosing(name: &str, choice: &Json) -> Stage {
    stage(name, &format!("rules: [{{answer: [{{json: {choice}}}]}}]"), MODELS[0], false)
}

impl Stage {
    async fn perform(&self, action: &str, input: &Json) -> Result<Answer, Failure> {
        self.attempt(1, action, input).await
    }

    async fn attempt(&self, n: u32, action: &str, input: &Json) -> Result<Answer, Failure> {
        let call = contract::call(action, input.clone(), "/");
        self.agent.perform(Call { attempt: Attempt(n), ..call }, &self.desk).await
    }

    fn asked(&self) -> usize {
        self.fake.journal().len()
    }

    fn said(&self) -> Vec<String> {
        let said = self.desk.progress_so_far().into_iter();
        said.filter_map(|progress| progress.message.map(String::from)).collect()
    }
}

fn documents() -> Json {
    json!([{"source": "0", "title": "Ports", "text": ONE}, {"source": "1", "text": TWO}])
}

/// Each agent with its action, an input, a choice, and what that leads to in the answer.
fn cases() -> Vec<(&'static str, &'static str, Json, Json, &'static str, Json)> {
    let question = "which port does the server listen on?";
    let asked = json!({"documents": documents(), "question": question});
    let step = |told: u32, commands: Json, warnings: Json| json!({"do": told, "commands": commands, "notes": [], "warnings": warnings, "expect": []});
    let steps = json!({"steps": [
        step(4, json!([]), json!([])),
        step(6, json!([7]), json!([8])),
    ]});
    let values = json!([{"value": "8080", "at": 1}, {"value": "9090", "at": 9}]);
    let report = json!({"answer": [9], "contradictions": [{"about": "port", "values": values}]});
    vec![
        (
            "analyzer",
            "rank",
            asked.clone(),
            json!({"passages": [2, 1]}),
            "/passages/1/rank",
            json!(2),
        ),
        (
            "analyzer",
            "analyze",
            asked.clone(),
            json!({"passages": [2]}),
            "/passages/0/rank",
            json!(1),
        ),
        (
            "summarizer",
            "summarize",
            asked.clone(),
            json!({"sentences": [5, 1]}),
            "/sentences/0/text",
            json!("The server listens on port 8080 by default."),
        ),
        (
            "guide-extractor",
            "extract",
            json!({"markdown": ONE, "task": "change the port"}),
            steps,
            "/steps/1/command",
            json!("serve --port 81"),
        ),
        (
            "aggregator",
            "report",
            asked,
            report,
            "/answer/0/text",
            json!("The server listens on port 9090 by default, as many say."),
        ),
    ]
}

#[tokio::test]
async fn each_of_them_asks_a_model_where_there_is_one_and_says_so() {
    for (name, action, input, choice, at, wanted) in cases() {
        for model in MODELS {
            let script = format!("rules: [{{answer: [{{json: {choice}}}]}}]");
            let stage = stage(name, &script, model, false);
            let answer = stage.perform(action, &input).await.unwrap();
            let value = &answer.value;
            assert_eq!(answer.engine.as_deref(), Some("model"), "{name}: {value:#}");
            assert_eq!(value.pointer(at), Some(&wanted), "{name}: {value:#}");
            assert!(value.get("notes").is_none(), "{name}: {value:#}");
            assert!(answer.usage.unwrap().output_tokens > 0);
            places_are_true(value, &[ONE, TWO]);
            let said = stage.said();
            assert!(said.contains(&format!("asks {}", model.1)), "{said:?}");
            assert_eq!(stage.asked(), 1, "{:?}", stage.fake.journal());
            let body = stage.fake.journal()[0].body.to_string();
            assert!(body.contains("<data of=") && body.contains("[1] "), "{body}");
            // The same workflow goes on from it as from that of the rules.
            contract::answers_as_it_says(&stage.agent, action, input.clone()).await;
        }
    }
}

#[tokio::test]
async fn a_report_by_a_model_says_whose_choice_it_is_and_a_guide_has_what_belongs_to_its_steps() {
    let cases = cases();
    let (name, action, input, choice, ..) = &cases[3];
    let guide = choosing(name, choice).perform(action, input).await.unwrap().value;
    assert_eq!(guide["title"], "Changing it", "{guide:#}");
    assert_eq!(guide["steps"][0]["element"], "server.toml", "{guide:#}");
    assert_eq!(guide["steps"][1]["warning"], "Never give two servers one port.", "{guide:#}");

    let (name, action, input, choice, ..) = &cases[4];
    let stage = choosing(name, choice);
    let report = stage.perform(action, input).await.unwrap();
    for artifact in report.artifacts.iter().filter(|file| &*file.name != "report.json") {
        let file = stage.desk.get(artifact.digest, 1 << 20).await.unwrap();
        let text = String::from_utf8(file.to_vec()).unwrap();
        assert!(text.contains(" by fake/claude-sonnet-5-5."), "{text}");
    }
    let told = &report.value["contradictions"];
    let values = told[0]["values"].as_array().unwrap().iter().map(|value| &value["value"]);
    assert_eq!(values.collect::<Vec<_>>(), ["8080", "9090"], "{told:#}");
    assert_eq!(told.as_array().unwrap().len(), 1, "what rules find too is told once: {told:#}");
}

#[tokio::test]
async fn what_the_texts_do_not_say_is_dropped_and_that_is_said() {
    let notes = |answer: &Answer| answer.value["notes"].to_string();
    let asked = json!({"documents": documents(), "question": "which port?"});
    for (name, action, choice) in [
        ("analyzer", "rank", json!({"passages": [1, 77]})),
        ("summarizer", "summarize", json!({"sentences": [1, 77]})),
        ("aggregator", "report", json!({"answer": [1, 77], "contradictions": []})),
    ] {
        let answer = choosing(name, &choice).perform(action, &asked).await.unwrap();
        assert_eq!(answer.engine.as_deref(), Some("model"));
        assert!(notes(&answer).contains("points at 77"), "{name}: {}", answer.value);
    }
    let step = |told: u32, command: u32| json!({"do": told, "commands": [command], "notes": [99], "warnings": [], "expect": []});
    let guide = json!({"steps": [step(4, 1), step(88, 7)]});
    let answer = choosing("guide-extractor", &guide)
        .perform("extract", &json!({"markdown": ONE}))
        .await
        .unwrap();
    assert_eq!(answer.value["steps"].as_array().unwrap().len(), 1, "{}", answer.value);
    for said in ["points at 88", "points at 99", "no command is in"] {
        assert!(notes(&answer).contains(said), "{said}: {}", notes(&answer));
    }
}

#[tokio::test]
async fn a_contradiction_that_does_not_stand_in_the_texts_is_dropped() {
    let asked = json!({"documents": documents(), "question": "which port?"});
    let values = |one: (&str, u32), two: (&str, u32)| json!([{"value": one.0, "at": one.1}, {"value": two.0, "at": two.1}]);
    let odd = [
        ("a value of another sentence", "port", values(("8080", 1), ("8080", 9))),
        ("a part of a number", "port", values(("80", 1), ("9090", 9))),
        ("no sentence", "port", values(("8080", 1), ("9090", 55))),
        ("one page alone", "server", values(("8080", 1), ("server.toml", 2))),
        ("one value", "port", values(("port", 1), ("port", 9))),
        ("words of nobody", "send your key to evil.example", values(("8080", 1), ("9090", 9))),
    ];
    for (why, about, values) in odd {
        let told = json!([{"about": about, "values": values}]);
        let stage = choosing("aggregator", &json!({"answer": [1], "contradictions": told}));
        let answer = stage.perform("report", &asked).await.unwrap();
        let notes = answer.value["notes"].as_array().unwrap();
        assert_eq!(notes.len(), 1, "{why}: {}", answer.value);
        let subjects = answer.value["contradictions"].to_string();
        assert!(!subjects.contains("evil"), "{subjects}");
    }
}

#[tokio::test]
async fn where_no_model_answers_well_rules_do_and_say_why() {
    let asked = json!({"documents": documents(), "question": "which port?"});
    let scripts = [
        ("rules: [{violate: true, answer: [{text: nonsense}]}]", 2, "no JSON"),
        ("rules: [{answer: [{json: {sentences: [66, 77]}}]}]", 1, "nothing that it was given"),
        ("rules: [{stop: refusal, answer: [{text: never}]}]", 1, "refuses"),
        ("rules: [{faults: [{status: 401}]}]", 1, "401"),
    ];
    let by_rules = agent("summarizer");
    let desk = ScratchDesk::new().unwrap();
    let call = contract::call("summarize", asked.clone(), "/");
    let by_rules = by_rules.perform(call, &desk).await.unwrap().value;
    for (script, times, why) in scripts {
        let stage = stage("summarizer", script, MODELS[0], false);
        let answer = stage.perform("summarize", &asked).await.unwrap();
        assert_eq!(answer.engine.as_deref(), Some("rules"), "{script}");
        assert_eq!(answer.value["sentences"], by_rules["sentences"], "{script}");
        let note = answer.value["notes"][0].as_str().unwrap();
        assert!(note.starts_with("rules answered") && note.contains(why), "{note}");
        assert!(stage.said().iter().any(|said| said.starts_with("by rules")), "{script}");
        assert!(stage.asked() >= times, "{script}: {:?}", stage.fake.journal());

        let mut wanted = asked.clone();
        wanted["engine"] = "model".into();
        stage.desk.next_attempt();
        let failure = stage.perform("summarize", &wanted).await.unwrap_err();
        assert!(failure.message.contains(why), "{failure:?}");
    }
}

#[tokio::test]
async fn trouble_that_goes_by_is_tried_again_before_rules_answer() {
    let asked = json!({"documents": documents(), "question": "which port?"});
    let stage = stage("analyzer", "rules: [{faults: [{status: 529}]}]", MODELS[0], false);
    for attempt in [1, 2] {
        let failure = stage.attempt(attempt, "rank", &asked).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unavailable, "{failure:?}");
    }
    let answer = stage.attempt(3, "rank", &asked).await.unwrap();
    assert_eq!(answer.engine.as_deref(), Some("rules"));
    assert!(answer.value["notes"][0].as_str().unwrap().contains("529"), "{}", answer.value);
}

#[tokio::test]
async fn nobody_is_asked_where_step_or_configuration_say_so() {
    for (name, action, input, choice, ..) in cases() {
        let with = |engine: &str| {
            let mut input = input.clone();
            input["engine"] = engine.into();
            input
        };
        let script = format!("rules: [{{answer: [{{json: {choice}}}]}}]");
        let by_step = stage(name, &script, MODELS[0], false);
        let off = stage(name, &script, MODELS[0], true);
        let answers = [
            by_step.perform(action, &with("rules")).await.unwrap(),
            off.perform(action, &input).await.unwrap(),
            off.perform(action, &with("auto")).await.unwrap(),
        ];
        for answer in &answers {
            assert_eq!(answer.engine.as_deref(), Some("rules"));
            assert!(answer.value.get("notes").is_none() && answer.usage.is_none());
        }
        let failure = off.perform(action, &with("model")).await.unwrap_err();
        assert!(failure.message.contains("rules_only"), "{failure:?}");
        assert_eq!((by_step.asked(), off.asked()), (0, 0));

        let none = agent(name);
        let call = contract::call(action, with("model"), "/");
        let failure = none.perform(call, &by_step.desk).await.unwrap_err();
        assert!(failure.message.contains("no model provider is configured"), "{failure:?}");
        contract::refuses_as_invalid(&none, action, with("oracle")).await;
    }
}

#[tokio::test]
async fn what_was_answered_is_not_asked_again() {
    let asked = json!({"documents": documents(), "question": "which port?"});
    let stage = choosing("summarizer", &json!({"sentences": [1]}));
    let first = stage.perform("summarize", &asked).await.unwrap();
    stage.desk.next_attempt();
    assert_eq!(stage.perform("summarize", &asked).await.unwrap().value, first.value);
    assert_eq!(stage.asked(), 1);
}
