//! `http`: what is sent, what comes back, and what an answer means.

use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Of, Query};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use kapelle_agents::contract;
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::egress::Policy;
use kapelle_core::Json;
use kapelle_core::port::agent::{Answer, Failure, FailureKind, OnUnknown};
use serde_json::json;
use std::collections::BTreeMap;

use crate::support::{http, serve};

async fn ask(input: Json) -> Result<Answer, Failure> {
    let call = contract::call("request", input, Path::new("/").to_str().unwrap());
    http(Policy::Operator).perform(call, &ScratchDesk::new().unwrap()).await
}

/// A server that tells what it was asked, or answers with a status.
async fn server() -> String {
    let mirror = |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
        let text = |value: &header::HeaderValue| value.to_str().unwrap().to_owned();
        let headers: BTreeMap<_, _> =
            headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let body = String::from_utf8(body.to_vec()).unwrap();
        axum::Json(json!({
            "method": method.as_str(), "uri": uri.to_string(), "headers": headers, "body": body
        }))
    };
    let status = |Of(code): Of<u16>, Query(headers): Query<Vec<(String, String)>>| async move {
        let mut answer = (StatusCode::from_u16(code).unwrap(), "because\nof this").into_response();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            answer.headers_mut().append(name, value.parse().unwrap());
        }
        answer
    };
    let body = |Query(as_is): Query<BTreeMap<String, String>>| async move {
        ([(header::CONTENT_TYPE, as_is["type"].clone())], as_is["body"].clone())
    };
    serve(
        Router::new()
            .route("/mirror", any(mirror))
            .route("/status/{code}", any(status))
            .route("/body", get(body)),
    )
    .await
}

#[tokio::test]
async fn a_request_carries_what_it_should_and_the_key() {
    let url = format!("{}/mirror?a=1", server().await);
    let answer = ask(json!({
        "method": "POST", "url": url, "headers": {"X-Mine": 7, "authorization": "Bearer t"},
        "query": {"b": "ä &", "c": [1, true]}, "body": {"k": [1, null]}
    }));
    let answer = answer.await.unwrap();
    assert_eq!(answer.value["status"], 200);
    assert_eq!(answer.value["headers"]["content-type"], "application/json");
    let seen = &answer.value["value"];
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["uri"], "/mirror?a=1&b=%C3%A4+%26&c=1&c=true");
    assert_eq!(seen["body"], r#"{"k":[1,null]}"#);
    let headers = &seen["headers"];
    let key = "018bcfe5-6800-7707-8707-070707070701/step/0/1";
    let expected = [
        ("idempotency-key", key),
        ("kapelle-attempt", "1"),
        ("x-mine", "7"),
        ("authorization", "Bearer t"),
        ("content-type", "application/json"),
    ];
    for (name, value) in expected {
        assert_eq!(headers[name], value, "{name}");
    }
    let text = ask(json!({"method": "PUT", "url": url, "body": "plain"})).await.unwrap();
    assert_eq!(text.value["value"]["body"], "plain");
    assert_eq!(text.value["value"]["headers"]["content-type"], "text/plain; charset=utf-8");
}

#[tokio::test]
async fn a_status_says_what_kind_of_end_it_was() {
    use FailureKind::{RateLimited, Refused, Unavailable};
    let server = server().await;
    let cases = [
        (400, Refused, true),
        (401, Refused, true),
        (404, Refused, true),
        (408, Unavailable, true),
        (409, Refused, true),
        (429, RateLimited, true),
        (500, Unavailable, true),
        (502, Unavailable, false),
        (503, Unavailable, true),
        (504, Unavailable, false),
        (304, Refused, true),
    ];
    for (code, kind, certain) in cases {
        let url = format!("{server}/status/{code}?retry-after=7");
        let failure = ask(json!({"method": "GET", "url": url})).await.unwrap_err();
        assert_eq!((failure.kind, failure.certain), (kind, certain), "{failure}");
        assert_eq!(&*failure.code, format!("http_{code}"));
        let wait = (kind != Refused).then_some(7000);
        assert_eq!(failure.retry_after_ms, wait, "{failure}");
        if code != 304 {
            assert!(failure.message.ends_with(": because of this"), "{failure}");
        }
    }
}

#[tokio::test]
async fn a_step_says_which_statuses_are_fine() {
    let server = server().await;
    let url = format!("{server}/status/404");
    let fine = ask(json!({"method": "GET", "url": url, "expect": [200, 404]})).await.unwrap();
    assert_eq!(fine.value["status"], 404);
    let url = format!("{server}/status/201");
    let not = ask(json!({"method": "GET", "url": url, "expect": [200]})).await.unwrap_err();
    assert_eq!(&*not.code, "http_201");
    let url = format!("{server}/status/302?location=/mirror");
    let kept = ask(json!({"method": "GET", "url": url, "expect": [302]})).await.unwrap();
    assert_eq!(kept.value["headers"]["location"], "/mirror");
    let followed = ask(json!({"method": "GET", "url": url})).await.unwrap();
    assert_eq!(followed.value["value"]["uri"], "/mirror");
}

#[tokio::test]
async fn a_body_is_json_where_it_says_so() {
    let server = server().await;
    let get = |media_type, body| {
        let query = json!({"type": media_type, "body": body});
        ask(json!({"method": "GET", "url": format!("{server}/body"), "query": query}))
    };
    let value =
        async |media_type, body| get(media_type, body).await.unwrap().value["value"].clone();
    assert_eq!(value("application/json; charset=utf-8", "[1]").await, json!([1]));
    assert_eq!(value("application/problem+json", "{}").await, json!({}));
    assert_eq!(value("application/json", "").await, json!(null));
    assert_eq!(value("text/plain", "[1]").await, "[1]");
    let failure = get("application/json", "[1").await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Invalid, "not_json"));
}

#[tokio::test]
async fn nobody_writes_headers_by_the_back_door() {
    let url = format!("{}/mirror", server().await);
    let bad = [
        json!({"x": "a\r\nevil: 1"}),
        json!({"x": "a\nb"}),
        json!({"x\r\nevil": "1"}),
        json!({"x y": "1"}),
        json!({"": "1"}),
        json!({"Host": "other"}),
        json!({"Content-Length": 3}),
        json!({"transfer-encoding": "chunked"}),
        json!({"Idempotency-Key": "mine"}),
        json!({"a": 1, "A": 2}),
    ];
    for headers in bad {
        let input = json!({"method": "GET", "url": url, "headers": headers});
        let failure = ask(input).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid, "{headers}: {failure}");
    }
    let failure = ask(json!({"method": "GET", "url": "http://me:secret@127.0.0.1/"})).await;
    let failure = failure.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Invalid, "bad_url"));
    assert!(!failure.message.contains("secret"), "{failure}");
}

#[tokio::test]
async fn a_policy_says_no_for_good() {
    let failure =
        ask(json!({"method": "GET", "url": "http://169.254.169.254/"})).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.code), (FailureKind::Denied, "egress_denied"));
    assert!(failure.certain);
}

#[test]
fn a_request_of_unknown_end_is_repeated_only_where_that_does_no_harm() {
    let agent = http(Policy::Operator);
    let ask = |input: Json| agent.on_unknown("request", &input);
    for method in ["GET", "HEAD", "PUT", "DELETE", "get"] {
        assert_eq!(ask(json!({"method": method})), OnUnknown::Retry, "{method}");
    }
    for method in ["POST", "PATCH", "{{ inputs.m }}"] {
        assert_eq!(ask(json!({"method": method})), OnUnknown::Ask, "{method}");
        assert_eq!(ask(json!({"method": method, "keyed": true})), OnUnknown::Retry, "{method}");
        assert_eq!(ask(json!({"method": method, "keyed": "true"})), OnUnknown::Ask, "{method}");
    }
}
