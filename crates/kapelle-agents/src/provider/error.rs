//! What a provider's errors mean: whether to try again, and when.
//!
//! **Invariant:** what a provider refuses is not tried again; what it may have done and charged for is
//! of unknown end.

use std::time::Duration;

use jiff::Timestamp;
use kapelle_core::Json;
use kapelle_core::port::agent::{Failure, FailureKind};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::http::retry_after;

/// Where a limit is told without saying until when: a spend limit rather than a rate.
const WAIT: Duration = Duration::from_secs(60);
/// A longer wait than a day is none that somebody meant, or one for a person to decide on.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest part of a provider's message that is kept, in characters.
const MESSAGE_MAX: usize = 400;

/// What an answer with an error status says, without the key.
pub(super) struct Said<'a> {
    /// The provider's name.
    pub(super) of: &'a str,
    /// Where it was asked.
    pub(super) at: &'a str,
    /// Where it leads, if it is a redirect.
    pub(super) to: Option<&'a str>,
    /// A text where it is no JSON.
    pub(super) body: &'a Json,
    /// The provider's name for the call.
    pub(super) request: Option<&'a str>,
}

/// What an answer with an error status means.
pub(super) fn refused(
    status: StatusCode,
    headers: &HeaderMap,
    said: &Said<'_>,
    now: Timestamp,
) -> Failure {
    let fault = of(said.body).unwrap_or(said.body);
    let code = word(fault);
    // 529 is a provider's own.
    let name = status.canonical_reason().map_or(String::new(), |name| format!(" {name}"));
    let mut message = format!("the provider answered {}{name}", status.as_u16());
    if status.is_redirection() || matches!(status.as_u16(), 404 | 405) {
        message = format!("{message} at `{}`", said.at);
    }
    if let Some(to) = said.to {
        message = format!("{message}, which leads to `{to}`");
    }
    if let Some(said) = words(fault) {
        message = format!("{message}: {said}");
    }
    if status == StatusCode::BAD_REQUEST && message.contains("max_completion_tokens' instead") {
        message = format!(
            "{message}; `max_tokens_as = \"max_completion_tokens\"` in `[providers.{}]` says it so",
            said.of
        );
    } else if status == StatusCode::BAD_REQUEST && is_of_length(&code, &message) {
        message = format!(
            "{message}; `max_tokens` in `[providers.{}]`, or `maxTokens` of the agent or the step, says how long \
             an answer may be",
            said.of
        );
    }
    if let Some(request) = said.request {
        message = format!("{message} (request `{request}`)");
    }
    let again = headers.get("x-should-retry").and_then(|value| value.to_str().ok());
    let kind = match (kind(status, &code), again) {
        (FailureKind::RateLimited | FailureKind::Unavailable, Some("false")) => {
            FailureKind::Refused
        }
        (FailureKind::Refused, Some("true")) => FailureKind::Unavailable,
        (kind, _) => kind,
    };
    let wait = wait(headers, now).or((kind == FailureKind::RateLimited).then_some(WAIT));
    if let Some(long) = wait.filter(|wait| *wait > WAIT_MAX) {
        return too_late(long, &message);
    }
    if is_timeout(status, &code) && kind == FailureKind::Unavailable {
        let message = format!("{message}; whether it was answered, and is paid, is not known");
        return Failure::new(kind, &code, message).uncertain();
    }
    let failure = Failure::new(kind, &code, message);
    match wait.filter(|_| matches!(kind, FailureKind::RateLimited | FailureKind::Unavailable)) {
        Some(wait) => failure.retry_after(wait),
        None => failure,
    }
}

/// It may be made again, but so late that this call does not wait for it. Others under the key do not come sooner.
fn too_late(wait: Duration, message: &str) -> Failure {
    let seconds = wait.as_secs();
    let message = format!(
        "{message}; it wants to be left alone for {seconds} s, and more than a day is not waited"
    );
    Failure::new(FailureKind::Refused, "rate_limited", message).retry_after(WAIT_MAX)
}

/// Whether a call that failed so may be made at a time that the provider has told.
pub(super) fn is_early(failure: &Failure, headers: &HeaderMap) -> bool {
    failure.kind == FailureKind::RateLimited && wait(headers, Timestamp::UNIX_EPOCH).is_some()
}

/// Whether prompt and answer were too much together, in the words of several servers.
fn is_of_length(code: &str, message: &str) -> bool {
    let words = [
        "max_tokens",
        "max_completion_tokens",
        "context length",
        "context size",
        "context window",
        "context limit",
    ];
    let codes = ["context_length_exceeded", "exceed_context_size_error"];
    codes.contains(&code) || words.iter().any(|word| message.contains(word))
}

fn kind(status: StatusCode, code: &str) -> FailureKind {
    match status.as_u16() {
        429 if code == "insufficient_quota" => FailureKind::Refused,
        429 => FailureKind::RateLimited,
        400 | 413 | 422 => FailureKind::Invalid,
        408 | 409 | 500.. => FailureKind::Unavailable,
        _ => FailureKind::Refused,
    }
}

/// Whether somebody on the way has waited in vain: who was asked may go on with it.
fn is_timeout(status: StatusCode, code: &str) -> bool {
    matches!(status.as_u16(), 408 | 504 | 524) || matches!(code, "timeout" | "timeout_error")
}

/// The wait that the other side asks for.
fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let millis = headers.get("retry-after-ms").and_then(|value| value.to_str().ok()?.parse().ok());
    millis.map(Duration::from_millis).or_else(|| retry_after(headers, now))
}

/// The error that a body holds, or is, in the shapes that servers give it.
pub(super) fn of(body: &Json) -> Option<&Json> {
    let told = body.get("error").filter(|fault| !fault.is_null());
    let is_it = || matches!(body["object"].as_str().or(body["type"].as_str()), Some("error"));
    told.or_else(|| is_it().then_some(body))
}

/// What is said of a fault: in its own field, in the body beside it, or as nothing but text.
fn words(fault: &Json) -> Option<String> {
    let said = [&fault["message"], &fault["detail"], fault];
    let said = said.into_iter().find_map(|said| match said {
        Json::String(text) => Some(text.clone()),
        Json::Array(_) => Some(said.to_string()),
        _ => None,
    });
    let line = said?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then(|| line.chars().take(MESSAGE_MAX).collect())
}

/// The provider's own word for a fault.
fn word(fault: &Json) -> Box<str> {
    let word = |name: &str| fault[name].as_str().filter(|word| !word.is_empty());
    let word = word("code").or(word("type")).unwrap_or("provider_error");
    let sound = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    word.chars().filter(sound).take(60).collect::<String>().into()
}

/// An error in the middle of an answer: what has come so far is paid for, maybe.
pub(super) fn in_stream(fault: &Value) -> Failure {
    let code = word(fault);
    let kind = if &*code == "rate_limit_error" {
        FailureKind::RateLimited
    } else {
        FailureKind::Unavailable
    };
    let said = words(fault).unwrap_or_else(|| "it does not say why".to_owned());
    Failure::new(kind, &code, format!("the answer broke off: {said}")).uncertain()
}

/// An error in an answer's place, with the status of one: nothing was answered.
pub(super) fn in_place(fault: &Value) -> Failure {
    let code = word(fault);
    let kind = match &*code {
        "rate_limit_error" => FailureKind::RateLimited,
        "invalid_request_error" => FailureKind::Invalid,
        "authentication_error" | "permission_error" | "not_found_error" | "billing_error" => {
            FailureKind::Refused
        }
        _ => FailureKind::Unavailable,
    };
    let said = words(fault).unwrap_or_else(|| "it does not say which".to_owned());
    Failure::new(kind, &code, format!("the provider answered 200 with an error: {said}"))
}

/// Something else came in an answer's place: whoever is there is none of its kind.
pub(super) fn no_answer(said: &Said<'_>, kind: &str) -> Failure {
    let came = words(said.body).map(|came| format!(": {came}")).unwrap_or_default();
    let message = format!(
        "`{}` answered {kind}, which is no answer of a model{came}; is `url` in `[providers.{}]` right?",
        said.at, said.of
    );
    Failure::new(FailureKind::Refused, "no_answer", message)
}

/// What was to read the answer has panicked.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = format!("the call panicked: {}", text.unwrap_or("without a message"));
    Failure::new(FailureKind::Bug, "panic", message).uncertain()
}

/// The answer ended before it was complete.
pub(super) fn cut() -> Failure {
    Failure::new(FailureKind::Unavailable, "cut", "the answer was cut off").uncertain()
}

/// A piece of the answer is not what it should be.
pub(super) fn garbled(cause: &serde_json::Error) -> Failure {
    let message = format!("the answer is no JSON: {cause}");
    Failure::new(FailureKind::Unavailable, "garbled", message).uncertain()
}

/// A piece of the answer is JSON, and not what it should be.
pub(super) fn odd(what: &str) -> Failure {
    let message = format!("the answer is odd: {what}");
    Failure::new(FailureKind::Unavailable, "garbled", message).uncertain()
}

/// A piece of the answer is too long.
pub(super) fn too_long() -> Failure {
    Failure::new(FailureKind::Refused, "too_long", "an event of the answer is over 8 MiB")
        .uncertain()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failure(status: u16, headers: &[(&'static str, &str)], body: &Json) -> Failure {
        let headers = headers.iter().map(|(name, value)| {
            (reqwest::header::HeaderName::from_static(name), value.parse().unwrap())
        });
        let now = "2026-11-21T08:00:00Z".parse().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let headers: HeaderMap = headers.collect();
        let request = headers.get("request-id").map(|id| id.to_str().unwrap());
        let (of, at, to) = ("local", "http://h:1/v1", None);
        refused(status, &headers, &Said { of, at, to, body, request }, now)
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        let limit =
            json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}});
        let told = failure(429, &[("retry-after", "7"), ("request-id", "req_1")], &limit);
        assert_eq!((told.kind, told.retry_after_ms), (FailureKind::RateLimited, Some(7_000)));
        assert_eq!(
            &*told.message,
            "the provider answered 429 Too Many Requests: slow (request `req_1`)"
        );
        let millis = failure(429, &[("retry-after-ms", "70"), ("retry-after", "1")], &limit);
        assert_eq!(millis.retry_after_ms, Some(70));
        for late in ["99999999999", "18446744073709551615", "Tue, 31 Dec 2030 23:59:59 GMT"] {
            let told = failure(429, &[("retry-after", late)], &limit);
            assert_eq!((told.kind, &*told.code), (FailureKind::Refused, "rate_limited"), "{late}");
            assert!(told.message.contains("slow; it wants to be left alone for"), "{told:?}");
        }
        assert!(failure(429, &[("retry-after", "86400")], &limit).retry_after_ms.is_some());
        // A spend limit: nobody says when it is over.
        assert_eq!(failure(429, &[], &limit).retry_after_ms, Some(60_000));
        let overloaded = failure(529, &[], &json!({"error": {"type": "overloaded_error"}}));
        assert_eq!((overloaded.kind, overloaded.retry_after_ms), (FailureKind::Unavailable, None));
        assert!(overloaded.certain);
        // Somebody between has waited in vain.
        for (status, word) in [(504, "timeout_error"), (524, "x"), (408, "x"), (500, "timeout")] {
            let late = failure(status, &[], &json!({"error": {"type": word}}));
            assert_eq!((late.kind, late.certain), (FailureKind::Unavailable, false), "{status}");
            assert!(late.message.contains("is not known"), "{late}");
        }
    }

    #[test]
    fn what_is_refused_stays_refused() {
        let fault = |code: &str| json!({"error": {"message": "no", "type": "x", "code": code}});
        assert_eq!(failure(429, &[], &fault("insufficient_quota")).kind, FailureKind::Refused);
        assert_eq!(failure(400, &[("retry-after", "1")], &fault("bad")).kind, FailureKind::Invalid);
        assert_eq!(failure(400, &[("retry-after", "1")], &fault("bad")).retry_after_ms, None);
        let window = "maximum context length is 8192 tokens, max_completion_tokens is 16000";
        let long = failure(400, &[], &json!({"error": {"message": window}})).message;
        assert!(long.contains("`max_tokens` in `[providers.local]`"), "{long}");
        let word = "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
            'max_completion_tokens' instead.";
        let other = failure(400, &[], &json!({"error": {"message": word}})).message;
        assert!(other.contains("`max_tokens_as = "), "{other}");
        assert!(!failure(400, &[], &fault("bad")).message.contains("max_tokens"));
        for status in [401, 402, 403, 404] {
            assert_eq!(failure(status, &[], &fault("bad")).kind, FailureKind::Refused, "{status}");
        }
        assert_eq!(
            failure(503, &[("x-should-retry", "false")], &fault("x")).kind,
            FailureKind::Refused
        );
        assert_eq!(
            failure(401, &[("x-should-retry", "true")], &fault("x")).kind,
            FailureKind::Unavailable
        );
        let said = |body: &Json| failure(404, &[], body).message;
        let at = "the provider answered 404 Not Found at `http://h:1/v1`";
        for (body, words) in [
            (json!({"error": "pull it first"}), "pull it first"),
            (json!({"detail": "Not Found"}), "Not Found"),
            (json!({"detail": [{"msg": "extra"}]}), "[{\"msg\":\"extra\"}]"),
            (json!({"object": "error", "message": "no", "code": 404}), "no"),
            (json!("not\n here "), "not here"),
        ] {
            assert_eq!(*said(&body), format!("{at}: {words}"));
        }
        assert_eq!(*said(&Json::Null), *at);
        assert!(said(&json!("long ".repeat(200))).len() < at.len() + 2 + 401);
        let page = failure(502, &[], &json!("<html>"));
        assert_eq!((page.kind, &*page.code), (FailureKind::Unavailable, "provider_error"));
    }
}
