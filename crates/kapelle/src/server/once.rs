//! `Idempotency-Key`: what was answered under a key is answered again, and not done again.
//!
//! **Invariants:** of equal requests under one key that come at once one is done; another request under it is
//! refused. Only what was done is kept: whatever was refused may be tried again. Routes that make runs
//! give a key to the engine, which keeps it in the same commit; what is kept here is kept after the commit, so a
//! process that ends in between leaves it open. What must not be done twice even then is begun in writing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use kapelle_core::port::record::{RECORDS_MAX, Record};
use kapelle_core::{Digest, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as Turn;

use super::App;
use super::body::broken_off;
use super::problem::{Code, Problem};

/// The kind of their records.
const KIND: &str = "answer";
/// How long an answer is kept, in microseconds.
const KEPT: i64 = 24 * 3_600 * 1_000_000;
/// After so many of them those that are too old are looked for.
const SWEEP: u32 = 100;
/// The longest answer that is kept, in bytes.
const ANSWER_MAX: usize = 256 << 10;
/// The longest key, in bytes.
pub(super) const KEY_MAX: usize = 255;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const AGAIN: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What a route does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Once {
    /// There is nothing to do twice, or nothing to keep: the header means nothing.
    Unheeded,
    /// The engine keeps it with the run that it makes.
    ByEngine,
    /// Its answer is kept; doing it twice would do no harm.
    Kept,
    /// The same, and that it was begun: it would do harm.
    Begun,
}

/// What is kept under a key.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// Of the request.
    digest: Box<str>,
    at: Timestamp,
    /// `None`: it was begun, and nobody knows what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    status: u16,
    #[serde(rename = "type")]
    media_type: Box<str>,
    body: Box<str>,
}

/// A tenant's key.
type Under = (Tenant, Box<str>);

/// Whose turn it is under a key, and how many were kept.
#[derive(Default)]
pub(super) struct Turns {
    turns: Mutex<HashMap<Under, Arc<Turn<()>>>>,
    kept: AtomicU32,
}

/// The key of a request, if it has one.
pub(super) fn key_of(headers: &axum::http::HeaderMap) -> Result<Option<Box<str>>, Problem> {
    let Some(key) = headers.get(KEY) else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=KEY_MAX).contains(&key.len()) => Ok(Some(key.into())),
        _ => {
            let detail = format!("`Idempotency-Key` has 1 to {KEY_MAX} visible characters");
            Err(Problem::invalid("bad_key", detail))
        }
    }
}

/// Does what is asked, or answers what was answered under its key.
pub(super) async fn once(
    app: App,
    request: Request,
    next: Next,
    (how, body_max): (Once, usize),
) -> Result<Response, Problem> {
    if matches!(how, Once::Unheeded | Once::ByEngine) {
        return Ok(next.run(request).await);
    }
    let Some(key) = key_of(request.headers())? else { return Ok(next.run(request).await) };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, body_max).await;
    let body = body.map_err(|error| {
        let long = || Problem::too_large("the body is longer than this route takes");
        broken_off(&error).unwrap_or_else(long)
    })?;
    let digest = digest_of(&parts, &body);
    let turn = app.turns().of(app.tenant(), &key);
    let _mine = turn.lock().await;
    let (mut version, known) = read(&app, &key).await?;
    match known {
        Some(entry) if entry.digest != digest => return Err(Problem::key_of_another(&key)),
        Some(Entry { answer: Some(answer), .. }) => return Ok(answer.again()),
        Some(_) if how == Once::Begun => return Err(Problem::begun_before(&key)),
        _ => {}
    }
    let mut entry = Entry { digest, at: crate::now(), answer: None };
    if how == Once::Begun {
        if !put(&app, &key, version, &entry).await? {
            return Err(Problem::begun_before(&key));
        }
        version += 1;
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (response, answer) = taken(response).await;
    match answer {
        Some(answer) => {
            entry.answer = Some(answer);
            // It is done, whatever becomes of this.
            if let Err(error) = put(&app, &key, version, &entry).await {
                tracing::warn!(?error, "an answer is not kept under its key");
            }
            sweep(&app).await;
        }
        // Nothing was done after all. Of an unknown outcome the beginning stays.
        None if how == Once::Begun && !is_unknown(&response) => {
            app.records().remove_record(app.tenant(), KIND, &key).await?;
        }
        None => {}
    }
    Ok(response)
}

fn digest_of(parts: &axum::http::request::Parts, body: &Bytes) -> Box<str> {
    let mut text = format!("{} {}\n", parts.method, parts.uri.path()).into_bytes();
    text.extend_from_slice(body);
    Digest::of(&text).hex().into()
}

/// An answer, and what is kept of it, if it says that something was done.
async fn taken(response: Response) -> (Response, Option<Answer>) {
    if !response.status().is_success() {
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, ANSWER_MAX).await else {
        return (Problem::too_large("the answer is too long for a key").into_response(), None);
    };
    let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let answer = std::str::from_utf8(&body).ok().map(|text| Answer {
        status: parts.status.as_u16(),
        media_type: media_type.unwrap_or_default().into(),
        body: text.into(),
    });
    (Response::from_parts(parts, Body::from(body)), answer)
}

fn is_unknown(response: &Response) -> bool {
    let code = response.extensions().get::<Code>();
    code.is_none_or(|code| matches!(&*code.0, "outcome_unknown" | "store_poisoned"))
}

impl Answer {
    fn again(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = (status, String::from(self.body)).into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        if let Ok(kind) = HeaderValue::from_str(&self.media_type)
            && !self.media_type.is_empty()
        {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        headers.insert(AGAIN, HeaderValue::from_static("true"));
        response
    }
}

impl Turns {
    /// The turn under a key; those that nobody waits for are gone.
    fn of(&self, tenant: &Tenant, key: &str) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry((tenant.clone(), key.into())).or_default().clone()
    }
}

/// What is kept under a key and not over, and the version to put something in its place.
async fn read(app: &App, key: &str) -> Result<(u64, Option<Entry>), Problem> {
    let Some(record) = app.records().record(app.tenant(), KIND, key).await? else {
        return Ok((0, None));
    };
    let entry = serde_json::from_value::<Entry>(record.body).ok();
    Ok((record.version, entry.filter(|entry| !entry.is_over())))
}

impl Entry {
    fn is_over(&self) -> bool {
        crate::now().0.saturating_sub(self.at.0) > KEPT
    }
}

/// Keeps an entry in the place of `version`; whether nobody else did before.
async fn put(app: &App, key: &str, version: u64, entry: &Entry) -> Result<bool, Problem> {
    let body = serde_json::to_value(entry).expect("an entry is JSON");
    let (tenant, kind, id) = (app.tenant().clone(), KIND.into(), key.into());
    Ok(app.records().put_record(Record { tenant, kind, id, version, body }).await?)
}

/// Now and then: forgets the answers of a tenant that are over.
async fn sweep(app: &App) {
    if app.turns().kept.fetch_add(1, Ordering::Relaxed) % SWEEP != SWEEP - 1 {
        return;
    }
    let mut after = String::new();
    while let Ok(page) = app.records().records(app.tenant(), KIND, &after).await {
        for record in &page {
            let entry = serde_json::from_value::<Entry>(record.body.clone());
            if entry.is_ok_and(|entry| entry.is_over()) {
                app.records().remove_record(app.tenant(), KIND, &record.id).await.ok();
            }
        }
        match page.last() {
            Some(last) if page.len() == RECORDS_MAX => after = last.id.to_string(),
            _ => return,
        }
    }
}
