//! Servers that speak Chat Completions in their own way: what they answer, and what they are asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::egress::{Egress, Policy};
use kapelle_agents::model::tool::Tools;
use kapelle_agents::model::{Definition, Model};
use kapelle_agents::provider::{KeySource, LIMITS, Models, Prices, Provider, Wire};
use kapelle_core::Json;
use kapelle_core::port::agent::{Agent, Answer, Failure};
use kapelle_fake::{Fake, Script};
use serde_json::json;

use crate::model::{Counting, call};
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

fn whole(kind: &'static str, body: &Json) -> Told {
    (200, kind, body.to_string())
}

#[tokio::test]
async fn an_answer_is_read_in_whatever_shape_it_comes() {
    let message = json!({"role": "assistant", "content": "well"});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 2});
    let json = json!({"model": "m", "choices": [choice], "usage": usage});
    let list = json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "well"}]});
    let mut marked = text("well");
    marked.2.insert(0, '\u{feff}');
    let mut marked_json = whole("application/json", &json);
    marked_json.2.insert(0, '\u{feff}');
    let shapes = [
        stream(&[chunk(&list, Some("stop"))]),
        stream(std::slice::from_ref(&json)),
        marked,
        whole("application/json", &json),
        whole("text/event-stream", &json),
        marked_json,
    ];
    for shape in shapes {
        let local = Local::new([shape.clone()]);
        let answer = local.ask(Wire::OpenAi).await;
        assert_eq!(answer.unwrap().value, "well", "{shape:?}");
    }
    let content = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "well"}]);
    let usage = json!({"input_tokens": 9, "output_tokens": 2});
    let json = json!({"type": "message", "model": "m", "content": content, "stop_reason": "end_turn", "usage": usage});
    let local = Local::new([whole("application/json", &json)]);
    let answer = local.ask(Wire::Anthropic).await.unwrap();
    assert_eq!((answer.value, answer.usage.unwrap().output_tokens), ("well".into(), 2));
}

#[tokio::test]
async fn a_call_in_the_old_shape_is_a_call() {
    let old = json!({"function_call": {"name": "look", "arguments": "{}"}});
    let local = Local::new([stream(&[chunk(&old, Some("function_call"))]), text("well")]);
    assert_eq!(local.ask(Wire::OpenAi).await.unwrap().value, "well");
    let told = &local.asked()[1]["messages"];
    assert!(told.to_string().contains("there is no tool `look` for you"), "{told}");
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_asked_for_again_and_then_none() {
    let nothing = [
        stream(&[chunk(&json!({"reasoning_content": "hm"}), Some("stop"))]),
        stream(&[chunk(&json!({"content": ""}), Some("stop"))]),
    ];
    for empty in nothing {
        let local = Local::new([empty.clone(), text("well")]);
        assert_eq!(local.ask(Wire::OpenAi).await.unwrap().value, "well");
        assert!(local.asked()[1].to_string().contains("your answer is empty"));
        let never = Local::new([empty.clone(), empty]);
        let failure = never.ask(Wire::OpenAi).await.unwrap_err();
        assert_eq!((&*failure.code, never.asked().len()), ("empty_answer", 2));
    }
    // Thoughts alone do not go back: no provider takes them so.
    let message = |content: Json| {
        whole(
            "application/json",
            &json!({"type": "message", "model": "m", "content": content,
            "stop_reason": "end_turn", "usage": {"input_tokens": 9, "output_tokens": 2}}),
        )
    };
    let thoughts = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]);
    let local = Local::new([message(thoughts), message(json!([{"type": "text", "text": "well"}]))]);
    assert_eq!(local.ask(Wire::Anthropic).await.unwrap().value, "well");
    assert!(!local.asked()[1].to_string().contains("thinking"), "{:?}", local.asked());
}

#[tokio::test]
async fn what_is_no_answer_is_told_as_what_it_is() {
    let page = (200, "text/html", "<html><title>Login</title></html>".to_owned());
    let plain = (200, "text/plain", "Loading model".to_owned());
    let other = whole("application/json", &json!({"version": "1.2"}));
    for (told, words) in [(page, "text/html"), (plain, "Loading model"), (other, "\"version\"")] {
        for wire in [Wire::OpenAi, Wire::Anthropic] {
            let failure = Local::new([told.clone()]).ask(wire).await.unwrap_err();
            assert_eq!((&*failure.code, failure.certain), ("no_answer", true), "{failure:?}");
            let message = &failure.message;
            assert!(message.contains(words) && message.contains("/v1/"), "{message}");
            assert!(message.contains("`[providers.local]`"), "{message}");
        }
    }
    let fault = json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}});
    for wire in [Wire::OpenAi, Wire::Anthropic] {
        let failure = Local::new([whole("application/json", &fault)]).ask(wire).await.unwrap_err();
        assert_eq!((&*failure.code, failure.certain), ("overloaded_error", true), "{failure:?}");
        assert!(failure.message.contains("busy"), "{failure:?}");
    }
    // What is cut off may be paid for, whatever it would have been.
    for body in ["{\"choices\": [", "data: {\"choi", "dat"] {
        let cut = (200, "text/event-stream", body.to_owned());
        let failure = Local::new([cut]).ask(Wire::OpenAi).await.unwrap_err();
        assert_eq!((&*failure.code, failure.certain), ("cut", false), "{body}");
    }
}

#[tokio::test]
async fn a_refusal_says_where_and_why() {
    let away = Local::new([(302, "text/plain", String::new())]);
    let message = away.ask(Wire::OpenAi).await.unwrap_err().message;
    assert!(message.contains("/v1/chat/completions`, which leads to `/login`"), "{message}");
    let fault = (503, "text/plain", "Loading model".to_owned());
    let message = Local::new([fault]).ask(Wire::OpenAi).await.unwrap_err().message;
    assert!(message.ends_with("503 Service Unavailable: Loading model"), "{message}");
    let egress = Arc::new(Egress::with_limits(Policy::Operator, LIMITS));
    let base = "http://127.0.0.1:1/v1".parse().unwrap();
    let nobody = Provider::new("local", Wire::OpenAi, &base, None, egress);
    let trouble = nobody.ask(&json!({}), "k", &mut |_| {}).await.unwrap_err();
    let message = trouble.failure.message;
    assert!(message.starts_with("`127.0.0.1:1` cannot be reached"), "{message}");
}

#[tokio::test]
async fn a_call_that_is_cut_off_is_told_to_be() {
    for arguments in ["{\"path\": \"a\", \"text\": \"and so", ""] {
        let function = json!({"name": "weather", "arguments": arguments});
        let call = json!({"index": 0, "id": "a", "type": "function", "function": function});
        let cut = stream(&[chunk(&json!({"tool_calls": [call]}), Some("length"))]);
        let local = Local::new([cut, text("well")]);
        let provider = local.provider(Wire::OpenAi).await.at_most(Some(300));
        let models = Models::new(vec![provider], Prices::shipped());
        let tool = Arc::new(Counting::new());
        let definition = Definition {
            model: Some("local/m".into()),
            tools: vec!["weather".into()],
            ..Definition::plain()
        };
        let tools = Arc::new(Tools::new(vec![tool.clone()], []));
        let agent = Model::new(definition, Arc::new(models), tools);
        let desk = ScratchDesk::new().unwrap();
        assert_eq!(agent.perform(call_of("go"), &desk).await.unwrap().value, "well");
        let told = local.asked()[1]["messages"].to_string();
        assert!(told.contains("cut off") && told.contains("at most 300 tokens"), "{told}");
        assert_eq!(tool.calls(), 0);
    }
}

fn call_of(prompt: &str) -> kapelle_core::port::agent::Call {
    call(prompt, None)
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
