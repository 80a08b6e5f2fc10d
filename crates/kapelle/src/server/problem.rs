//! What is answered when something is not done: the one place that knows status codes.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use kapelle_api as api;
use kapelle_core::port::journal;
use kapelle_core::problem as core;
use kapelle_engine::Error;

use super::App;

/// Where codes are explained.
const ERRORS_PAGE: &str = "docs/errors.md";

/// The status of each code.
const CODES: &[(u16, &[&str])] = &[
    (
        400,
        &[
            "invalid",
            "bad_body",
            "bad_path",
            "bad_query",
            "bad_digest",
            "bad_plan",
            "bad_export",
            "bad_key",
            "bad_upgrade",
            "ambiguous_id",
        ],
    ),
    (401, &["unauthenticated"]),
    (403, &["not_yours", "not_permitted", "root_not_allowed", "strange_origin"]),
    (
        404,
        &[
            "run_not_found",
            "step_not_found",
            "agent_not_found",
            "attempt_not_found",
            "artifact_not_found",
            "key_not_found",
            "route_not_found",
        ],
    ),
    (405, &["method_not_allowed"]),
    (408, &["body_too_slow"]),
    (
        409,
        &[
            "task_conflict",
            "run_open",
            "run_conflict",
            "run_ended",
            "run_stopping",
            "not_paused",
            "not_asked",
            "no_question",
            "no_answer",
            "not_blocked",
            "stale_attempt",
            "cannot_grow",
            "no_budget",
            "effect_recorded",
            "over_budget",
            "undelivered",
            "agent_conflict",
            "too_many_agents",
        ],
    ),
    (410, &["run_pruned"]),
    (413, &["body_too_large"]),
    (421, &["elsewhere", "strange_host"]),
    (422, &["key_reused"]),
    (429, &["too_many_requests", "too_many_tickets", "too_many_waiting"]),
    (500, &["run_damaged"]),
    (
        503,
        &[
            "draining",
            "overloaded",
            "outcome_unknown",
            "attempt_unsettled",
            "store_busy",
            "store_newer",
            "store_poisoned",
            "store_unavailable",
        ],
    ),
    (507, &["store_full"]),
];

/// Codes with which any route can refuse.
pub(super) const EVERYWHERE: [&str; 10] = [
    "unauthenticated",
    "not_permitted",
    "strange_origin",
    "strange_host",
    "too_many_requests",
    "overloaded",
    "store_busy",
    "store_newer",
    "store_poisoned",
    "store_unavailable",
];

fn status_of(code: &str) -> StatusCode {
    let known = CODES.iter().find(|(_, codes)| codes.contains(&code));
    known.and_then(|(status, _)| StatusCode::from_u16(*status).ok()).unwrap_or(StatusCode::CONFLICT)
}

/// The code of an answer that says to come again later.
pub(super) fn later(answer: &Response) -> Option<&'static str> {
    let tells = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    let said = answer.extensions().get::<Code>().filter(|_| tells.contains(&answer.status()))?;
    CODES.iter().flat_map(|(_, codes)| *codes).copied().find(|code| *code == &*said.0)
}

#[cfg(test)]
pub(super) fn is_known(code: &str) -> bool {
    CODES.iter().any(|(_, codes)| codes.contains(&code))
}

/// The codes by their status.
pub(super) fn by_status(codes: BTreeSet<&'static str>) -> BTreeMap<u16, Vec<&'static str>> {
    let mut all: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for code in codes {
        all.entry(status_of(code).as_u16()).or_default().push(code);
    }
    all
}

/// The code of an answer that is a problem, for those it passes on its way out.
#[derive(Clone, Debug)]
pub(super) struct Code(pub(super) Box<str>);

/// A problem on its way out.
#[derive(Debug)]
pub(crate) struct Problem(Box<api::Problem>);

impl Problem {
    fn new(code: &str, detail: impl Into<String>) -> Self {
        let (status, detail) = (status_of(code), detail.into());
        Self(Box::new(api::Problem {
            kind: format!("{ERRORS_PAGE}#{code}"),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail,
            code: code.to_owned(),
            ..api::Problem::default()
        }))
    }

    /// The request is wrong.
    pub(super) fn invalid(code: &str, detail: impl Into<String>) -> Self {
        Self::new(code, detail.into())
    }

    /// There is no such thing.
    pub(super) fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Self::new(code, detail.into())
    }

    /// Several runs are meant.
    pub(super) fn ambiguous(end: &str) -> Self {
        Self::new("ambiguous_id", format!("several runs end with `{end}`: give more of the id"))
    }

    /// It goes against what there is.
    pub(super) fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(code, detail.into())
    }

    /// It may be done in a moment.
    pub(super) fn later(code: &str, detail: impl Into<String>) -> Self {
        Self::new(code, detail.into())
    }

    /// An `Idempotency-Key` came before, with another request.
    pub(super) fn key_reused(error: &Error) -> Self {
        let mut problem = Self::new("key_reused", error.to_string());
        if let Error::Conflict { run } = error {
            problem.0.run = Some(run.to_string());
        }
        problem
    }

    /// The same of a request that makes no run.
    pub(super) fn key_of_another(key: &str) -> Self {
        let detail = format!("`Idempotency-Key: {key}` came with another request: take a new one");
        Self::new("key_reused", detail)
    }

    /// It was begun under its key, by a process that ended before it said what became of it.
    pub(super) fn begun_before(key: &str) -> Self {
        let detail = format!(
            "what became of the request under `Idempotency-Key: {key}` is not known: look at what it was \
             to change, and if it is not done, ask under a new key"
        );
        Self::new("outcome_unknown", detail)
    }

    /// Whoever asks has not said who they are.
    pub(super) fn who_is_it() -> Self {
        let detail = "say who you are: `Authorization: Bearer KEY`, or for a stream a `?ticket=` that is fresh; \
             `kapelle keys create` makes keys";
        Self::new("unauthenticated", detail.to_owned())
    }

    /// Whoever asks may not do that.
    pub(super) fn may_not(name: &str, permission: &str) -> Self {
        let detail = format!(
            "`{name}` has no permission `{permission}`: ask for a key with a role that has it"
        );
        Self::new("not_permitted", detail)
    }

    /// Whoever asks may not have it so.
    pub(super) fn forbidden(code: &str, detail: impl Into<String>) -> Self {
        Self::new(code, detail.into())
    }

    /// The request names a host that this server is not.
    pub(super) fn strange_host() -> Self {
        let detail = "`Host` is no name of this server: add it to `server.hosts`";
        Self::new("strange_host", detail.to_owned())
    }

    /// A page of somewhere else asks.
    pub(super) fn strange_origin() -> Self {
        let detail = "pages of this origin may not ask: add it to `server.allow_origins`";
        Self::new("strange_origin", detail.to_owned())
    }

    /// Somebody asks more than may be asked.
    pub(super) fn too_many(who: &str) -> Self {
        let detail = format!("{who} too often: wait a second (`server.requests_per_second`)");
        Self::new("too_many_requests", detail)
    }

    /// There is no room for it: of that there is as much as may be.
    pub(super) fn overloaded(what: &str, setting: &str) -> Self {
        let detail = format!(
            "there is no room for more {what} now (`{setting}`); nothing was done: repeat in a moment"
        );
        Self::new("overloaded", detail)
    }

    /// The request does not come to its end.
    pub(super) fn too_slow() -> Self {
        Self::new("body_too_slow", "the body came too slowly: send it again, faster")
    }

    /// The request is longer than it may be.
    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new("body_too_large", detail.into())
    }

    /// As it is told within a stream.
    pub(super) fn told(&self) -> &api::Problem {
        &self.0
    }

    /// So many tickets wait to be used that there is no room for another.
    pub(super) fn too_many_tickets() -> Self {
        let detail = "too many tickets wait to be used: ask again in a moment";
        Self::new("too_many_tickets", detail.to_owned())
    }

    /// A file, a plan or inputs have problems of their own.
    pub(super) fn findings(problems: &[core::Problem]) -> Self {
        let errors = problems.iter().filter(|problem| problem.is_error());
        let count = errors.clone().count();
        let first = errors.clone().next().map_or("", |problem| &problem.message);
        let detail = match count {
            1 => first.to_owned(),
            _ => format!("there are {count} problems; the first: {first}"),
        };
        let mut problem = Self::invalid("invalid", detail);
        problem.0.problems = problems.iter().map(finding).collect();
        problem
    }
}

/// One problem of a file, as it goes over the wire.
pub(crate) fn finding(problem: &core::Problem) -> api::Finding {
    api::Finding {
        file: problem.file.as_deref().map(str::to_owned),
        line: problem.line,
        column: problem.column,
        field: problem.field.to_string(),
        code: problem.code.as_str().to_owned(),
        message: problem.message.to_string(),
        hint: (!problem.hint.is_empty()).then(|| problem.hint.to_string()),
        severity: if problem.is_error() { "error" } else { "warning" }.to_owned(),
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Refused(refusal) => Self::new(refusal.code(), detail),
            Error::NotFound => Self::not_found("run_not_found", detail),
            Error::NoEvent { .. } => Self::invalid("bad_query", detail),
            Error::Conflict { run } => {
                let mut problem = Self::new("task_conflict", detail);
                problem.0.run = Some(run.to_string());
                problem
            }
            Error::BadInputs(problems) => Self::findings(&problems),
            Error::Open { .. } => Self::new("run_open", detail),
            Error::OtherRun { .. } => Self::new("run_conflict", detail),
            Error::LongExport => Self::too_large(detail),
            Error::BadExport(_) => Self::invalid("bad_export", detail),
            Error::Pruned { run } => {
                let mut problem = Self::new("run_pruned", detail);
                problem.0.run = Some(run.to_string());
                problem
            }
            Error::Elsewhere(node) => {
                let mut problem = Self::new("elsewhere", detail);
                problem.0.node = Some(node_of(&node));
                problem
            }
            Error::Store(error) => error.into(),
            Error::Damaged(_) => Self::new("run_damaged", detail),
            Error::BadPlan(_) => Self::invalid("bad_plan", detail),
            Error::Draining => Self::new("draining", detail),
        }
    }
}

impl From<journal::Error> for Problem {
    fn from(error: journal::Error) -> Self {
        let code = match &error {
            journal::Error::Full { .. } => "store_full",
            journal::Error::Busy { .. } => "store_busy",
            journal::Error::Newer { .. } => "store_newer",
            journal::Error::Unknown { .. } => "outcome_unknown",
            journal::Error::Poisoned { .. } => "store_poisoned",
            journal::Error::Unavailable { .. } => "store_unavailable",
            journal::Error::Corrupt { .. } => "run_damaged",
        };
        Self::new(code, error.to_string())
    }
}

/// A node, as it goes over the wire.
pub(crate) fn node_of(node: &kapelle_core::port::nodes::Node) -> api::Node {
    api::Node {
        id: node.id.to_string(),
        pid: node.pid,
        version: node.version.to_string(),
        socket: node.socket.as_deref().map(str::to_owned),
    }
}

/// There is no such path, which is told to those who are known.
pub(super) async fn no_route(app: App, uri: Uri) -> Problem {
    if app.caller().is_nobody() {
        return Problem::who_is_it();
    }
    Problem::not_found("route_not_found", format!("there is no `{}` here", uri.path()))
}

/// There is such a path, but not for this method.
pub(super) async fn no_method(app: App, method: axum::http::Method, uri: Uri) -> Problem {
    if app.caller().is_nobody() {
        return Problem::who_is_it();
    }
    let detail = format!("`{}` does not take {method}", uri.path());
    Problem::new("method_not_allowed", detail)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::BAD_REQUEST);
        let body = serde_json::to_vec(&self.0).expect("a problem is JSON");
        let json = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut answer = (status, json, body).into_response();
        answer.extensions_mut().insert(Code(self.0.code.into()));
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status) {
            answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        answer
    }
}
