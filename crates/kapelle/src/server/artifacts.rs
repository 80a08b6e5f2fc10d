//! `/runs/{run}/artifacts`, `/artifacts`: what runs made.

use std::io::Read as _;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use kapelle_api as api;
use kapelle_core::Digest;
use kapelle_core::port::journal::Content;
use kapelle_core::run::Run;

use super::App;
use super::problem::Problem;

/// How many bytes are read at once.
const PIECE: usize = 256 << 10;

/// What the steps of a run made, in their order.
///
/// `GET /runs/{run}/artifacts`
pub(super) async fn list(
    State(app): State<App>,
    Path(run): Path<String>,
) -> Result<Json<api::Page<api::Artifact>>, Problem> {
    let run = app.find(&run).await?;
    let run = app.engine().run(app.tenant(), run).await?;
    Ok(Json(api::Page { items: of_run(&run), next_cursor: None }))
}

/// The content of a payload that a run refers to.
///
/// `GET /artifacts/{digest}`
pub(super) async fn get(
    State(app): State<App>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let digest: Digest =
        text.parse().map_err(|error| Problem::invalid("bad_digest", format!("{error}")))?;
    let content = app.engine().journal().payload(app.tenant(), digest).await?;
    let no_such = || Problem::not_found("artifact_not_found", format!("there is no `{digest}`"));
    let content = content.ok_or_else(no_such)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, content.len.to_string()),
        (header::ETAG, format!("\"{digest}\"")),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, body(content)).into_response())
}

/// The bytes of a payload, read as they are taken.
fn body(content: Content) -> Body {
    let pieces = stream::unfold(Some(content.reader), |reader| async {
        let mut reader = reader?;
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE);
            let read = reader.by_ref().take(PIECE as u64).read_to_end(&mut piece);
            (read.map(|_| piece), reader)
        });
        match read.await {
            Ok((Ok(piece), _)) if piece.is_empty() => None,
            Ok((Ok(piece), reader)) => Some((Ok(Bytes::from(piece)), Some(reader))),
            Ok((Err(error), _)) => Some((Err(error), None)),
            Err(error) => Some((Err(std::io::Error::other(error)), None)),
        }
    });
    Body::from_stream(pieces)
}

/// What the steps of a run made, in their order.
pub(super) fn of_run(run: &Run) -> Vec<api::Artifact> {
    let made = run.steps().iter().flat_map(|step| {
        step.artifacts.iter().map(|artifact| artifact_of(artifact, Some(step.id.as_str())))
    });
    made.collect()
}

/// An artifact, as it goes over the wire.
pub(super) fn artifact_of(artifact: &kapelle_core::Artifact, step: Option<&str>) -> api::Artifact {
    api::Artifact {
        name: artifact.name.to_string(),
        digest: artifact.digest.to_string(),
        media_type: artifact.media_type.to_string(),
        len: artifact.len,
        step: step.map(str::to_owned),
        path: None,
    }
}
