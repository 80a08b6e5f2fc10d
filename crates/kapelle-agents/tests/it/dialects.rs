//! Servers that speak Chat Completions in their own way: what they answer, and what they are asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::egress::{Egress, Policy};
use kapelle_agents::model::{Definition, Model};
use kapelle_agents::provider::{KeySource, LIMITS, Models, Prices, Provider, Wire};
use kapelle_core::Json;
use kapelle_core::port::agent::{Agent, Answer, Failure};
use kapelle_fake::{Fake, Script};
use serde_json::json;

use crate::model::call;
use crate::support::serve;

/// What is answered: status, type and body.
type Told = (u16, &'static str, String);

/// A server that answers one after the other, and then 503.
#[derive(Clone)]
struct Local {
    answers: Arc<Mutex<VecDeque<Told>>>,
    asked: Arc<Mutex<Vec<Json>>>,
}

impl Local {
    fn new(answers: impl IntoIterator<Item = Told>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
        Self { answers, asked: Arc::default() }
    }

    async fn provider(&self, wire: Wire) -> Provider {
        let router = axum::Router::new().fallback(answer).with_state(self.clone());
        let base = format!("{}/v1", serve(router).await).parse().unwrap();
        let egress = Arc::new(Egress::with_limits(Policy::Operator, LIMITS));
        Provider::new("local", wire, &base, None, egress)
    }

    /// What comes of a step that asks it.
    async fn ask(&self, wire: Wire) -> Result<Answer, Failure> {
        let models = Models::new(vec![self.provider(wire).await], Prices::shipped());
        let definition = Definition { model: Some("local/m".into()), ..Definition::plain() };
        let agent = Model::new(definition, Arc::new(models), Arc::default());
        agent.perform(call("go", None), &ScratchDesk::new().unwrap()).await
    }

    fn asked(&self) -> Vec<Json> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(local): State<Local>, body: axum::body::Bytes) -> Response {
    local.asked.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    let told = local.answers.lock().unwrap().pop_front();
    let (status, kind, body) = told.unwrap_or((503, "text/plain", "gone".to_owned()));
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, kind), (header::LOCATION, "/login")], body).into_response()
}

/// A stream of these chunks.
fn stream(chunks: &[Json]) -> Told {
    let events = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
    (200, "text/event-stream", events.chain(["data: [DONE]\n\n".to_owned()]).collect())
}

fn chunk(delta: &Json, finish: Option<&str>) -> Json {
    json!({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

#[tokio::test]
async fn another_provider_goes_on_with_calls_of_any_name() {
    let claude = "rules:\n  - {when: {tool_result_contains: no tool}, answer: [{text: well}]}";
    for ids in
        [[None, None], [Some("functions.look:0"), Some("functions.look:0")], [Some(""), None]]
    {
        let turn = |id: &Option<&str>| {
            let function = json!({"name": "look", "arguments": "{}"});
            let call = json!({"index": 0, "id": id, "type": "function", "function": function});
            stream(&[chunk(&json!({"tool_calls": [call]}), Some("tool_calls"))])
        };
        let local = Local::new(ids.iter().map(turn));
        let fake = Fake::start(Script::parse(claude).unwrap()).unwrap();
        let egress = Arc::new(Egress::with_limits(Policy::Operator, LIMITS));
        let key = KeySource::Command(vec!["echo".into(), "k".into()]);
        let base = fake.url().parse().unwrap();
        let other = Provider::new("fake", Wire::Anthropic, &base, Some(key), egress);
        let providers = vec![local.provider(Wire::OpenAi).await, other];
        let mut models = Models::new(providers, Prices::shipped());
        let names = ["local/m", "fake/claude-sonnet-5-5"].map(Into::into);
        models.name("balanced", names.to_vec()).unwrap();
        let agent = Model::new(Definition::plain(), Arc::new(models), Arc::default());
        let desk = ScratchDesk::new().unwrap();
        let answer = agent.perform(call("go", None), &desk).await;
        assert_eq!(answer.unwrap().value, "well", "{ids:?}: {:#?}", fake.journal());
        assert_eq!(local.asked().len(), 3);
    }
}

fn text(said: &str) -> Told {
    stream(&[chunk(&json!({"content": said}), Some("stop"))])
}

#[tokio::test]
async fn a_local_server_is_told_how_long_an_answer_may_be_in_its_word() {
    let local = Local::new([text("well")]);
    assert_eq!(local.ask(Wire::OpenAi).await.unwrap().value, "well");
    let asked = &local.asked()[0];
    assert_eq!(asked["max_tokens"], 16_000);
    assert!(asked.get("max_completion_tokens").is_none(), "some refuse both: {asked}");
}
