//! `http`: one request, through the egress client.
//!
//! **Invariant:** every request carries the call's key and attempt, so that its receiver can tell a
//! repetition from a second wish; a failure is certain only where it is known that there was no effect.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use kapelle_core::Json;
use kapelle_core::port::agent::{
    Action, Agent, Answer, Call, Card, Desk, Failure, FailureKind, OnUnknown,
};
use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};
use serde_json::json;
use std::time::Duration;

use crate::egress::{Egress, Error, Response};
use crate::input::{cancelled, expect_action, invalid};

mod input;

use input::Input;

/// Makes HTTP requests.
#[derive(Debug)]
pub struct Http {
    card: Card,
    egress: Egress,
}

impl Http {
    /// The agent; its requests go where `egress` lets them.
    #[must_use]
    pub fn new(egress: Egress) -> Self {
        let action = Action {
            name: "request".into(),
            description: "Makes one request and answers `{status, headers, value}`".into(),
            input: input::schema(),
            output: json!({
                "type": "object",
                "required": ["status", "headers", "value"],
                "additionalProperties": false,
                "properties": {
                    "status": {"type": "integer"},
                    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                    "value": {"description": "the body: JSON where it says so, else text"}
                }
            }),
        };
        let card = Card {
            name: "http".into(),
            description: "Makes HTTP requests with an idempotency key".into(),
            actions: vec![action],
            concurrency_max: None,
        };
        Self { card, egress }
    }
}

#[async_trait]
impl Agent for Http {
    fn card(&self) -> &Card {
        &self.card
    }

    fn is_one_service(&self) -> bool {
        false
    }

    fn is_outside(&self) -> bool {
        true
    }

    fn on_unknown(&self, _action: &str, input: &Json) -> OnUnknown {
        let method = input["method"].as_str().unwrap_or_default().to_ascii_uppercase();
        let harmless = matches!(&*method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS");
        if harmless || input["keyed"] == true { OnUnknown::Retry } else { OnUnknown::Ask }
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        expect_action("http", "request", &call.action)?;
        let input = Input::read(&call.input)?;
        let request = input.request(&call)?;
        let answer = tokio::select! {
            answer = self.egress.send(request) => answer.map_err(failure)?,
            () = desk.cancelled() => return Err(cancelled()),
        };
        if !input.is_fine(answer.status) {
            return Err(not_fine(&answer, Timestamp::now()));
        }
        let value = json!({
            "status": answer.status.as_u16(),
            "headers": headers(&answer.headers),
            "value": value(&answer)?,
        });
        Ok(Answer { value, ..Answer::default() })
    }
}

/// What it means that there is no answer.
pub(crate) fn failure(error: Error) -> Failure {
    let text = error.to_string();
    match error {
        Error::BadUrl { .. } => invalid("bad_url", text),
        Error::Denied { .. } => Failure::new(FailureKind::Denied, "egress_denied", text),
        Error::Unreachable { .. } => Failure::new(FailureKind::Unavailable, "unreachable", text),
        Error::Silent { .. } => Failure::new(FailureKind::Timeout, "no_answer", text).uncertain(),
        Error::Broken { .. } => {
            Failure::new(FailureKind::Unavailable, "connection_broke", text).uncertain()
        }
        Error::TooLarge { .. } => Failure::new(FailureKind::Refused, "too_large", text),
        Error::TooManyRedirects { .. } => {
            Failure::new(FailureKind::Refused, "too_many_redirects", text)
        }
        Error::Setup(_) => Failure::new(FailureKind::Unavailable, "no_client", text),
    }
}

/// What a status means that is not one of those that are fine.
pub(crate) fn not_fine(answer: &Response, now: Timestamp) -> Failure {
    let status = answer.status;
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => FailureKind::RateLimited,
        StatusCode::REQUEST_TIMEOUT => FailureKind::Unavailable,
        status if status.is_server_error() => FailureKind::Unavailable,
        _ => FailureKind::Refused,
    };
    let host = answer.url.host_str().unwrap_or_default();
    let message = with_excerpt(format!("`{host}` answered {status}"), &answer.body);
    let mut failure = Failure::new(kind, &format!("http_{}", status.as_u16()), message);
    // A gateway that lost its server does not know what that did.
    if matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) {
        failure = failure.uncertain();
    }
    if kind == FailureKind::Refused {
        return failure;
    }
    match retry_after(&answer.headers, now) {
        Some(wait) => failure.retry_after(wait),
        None => failure,
    }
}

fn with_excerpt(what: String, body: &Bytes) -> String {
    const CHARS: usize = 200;
    let start = &body[..body.len().min(4 * CHARS)];
    let text = String::from_utf8_lossy(start);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return what;
    }
    format!("{what}: {}", line.chars().take(CHARS).collect::<String>())
}

/// The wait that the other side asks for: seconds, or until a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// The headers by name; those that come several times are joined.
fn headers(headers: &HeaderMap) -> Json {
    let joined = |name| {
        let values = headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(", ")
    };
    headers.keys().map(|name| (name.to_string(), Json::String(joined(name)))).collect()
}

fn value(answer: &Response) -> Result<Json, Failure> {
    let text = || Json::String(String::from_utf8_lossy(&answer.body).into_owned());
    let media_type = answer.headers.get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "application/json" && !essence.ends_with("+json") {
        return Ok(text());
    }
    if answer.body.is_empty() {
        return Ok(Json::Null);
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        invalid("not_json", format!("the answer says that it is JSON, but: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_wait_is_understood_in_seconds_and_as_a_date() {
        let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sat, 21 Nov 2026 08:00:30 GMT", Some(30)),
            ("Sat, 21 Nov 2026 07:00:00 GMT", Some(0)),
            ("99999999999999999999", None),
            ("soon", None),
            ("-5", None),
        ];
        for (text, seconds) in cases {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
