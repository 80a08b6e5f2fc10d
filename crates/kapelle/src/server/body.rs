//! Reading a request: JSON of a known shape, or a problem that names the field.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::held::{self, NoRoom};
use super::problem::Problem;
use super::slow::TooSlow;

/// A body of JSON. No body is an empty object.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        // An array would be taken for the fields in their order.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(Problem::invalid("bad_body", "the body is no JSON object"));
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let at = if path == "." { String::new() } else { format!("`{path}`: ") };
            Problem::invalid("bad_body", format!("{at}{}", error.into_inner()))
        })?;
        json.end().map_err(|error| Problem::invalid("bad_body", error.to_string()))?;
        Ok(Self(parsed))
    }
}

/// A body as it is.
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Bytes::from_request(request, state).await.map(Self).map_err(unread)
    }
}

fn unread(rejection: BytesRejection) -> Problem {
    if let Some(problem) = broken_off(&rejection) {
        problem
    } else if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::too_large("the body is longer than this route takes")
    } else {
        Problem::invalid("bad_body", rejection.body_text())
    }
}

/// The names in a path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let path = path.map_err(|error| Problem::invalid("bad_path", error.body_text()))?;
        Ok(Self(path.0))
    }
}

/// Why a body could not be read, if it was not for its length or shape.
pub(super) fn broken_off(error: &(dyn std::error::Error + 'static)) -> Option<Problem> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| {
        if error.is::<TooSlow>() {
            return Some(Problem::too_slow());
        }
        error.is::<NoRoom>().then(held::no_bytes)
    })
}

/// A query of a known shape.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        let query = query.map_err(|error| Problem::invalid("bad_query", error.body_text()))?;
        Ok(Self(query.0))
    }
}
