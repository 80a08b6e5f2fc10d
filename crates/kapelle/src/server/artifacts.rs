//! `/runs/{run}/artifacts`, `/artifacts`: what runs made.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Component, Path as FilePath, PathBuf};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use kapelle_api as api;
use kapelle_core::Digest;
use kapelle_core::port::journal::Content;
use kapelle_core::run::Run;

use super::App;
use super::body::Path;
use super::problem::Problem;

/// How many bytes are read at once.
const PIECE: usize = 256 << 10;

/// What the steps of a run made, in their order.
///
/// `GET /runs/{run}/artifacts`
pub(super) async fn list(
    app: App,
    Path(run): Path<String>,
) -> Result<Json<api::Page<api::Artifact>>, Problem> {
    let run = app.find(&run).await?;
    let run = app.engine().run(app.tenant(), run).await?;
    Ok(Json(api::Page { items: of_run(&app, &run), next_cursor: None }))
}

/// The content of a payload that a run refers to.
///
/// `GET /artifacts/{digest}`
pub(super) async fn get(app: App, Path(text): Path<String>) -> Result<Response, Problem> {
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

/// What the steps of a run made, in their order, with the files that are there.
pub(super) fn of_run(app: &App, run: &Run) -> Vec<api::Artifact> {
    let made = run.steps().iter().flat_map(|step| {
        step.artifacts.iter().map(|artifact| artifact_of(artifact, Some(step.id.as_str())))
    });
    let mut made: Vec<_> = made.collect();
    let Some(store) = &app.inner.store else { return made };
    let folder = folder_of(store, &run.id().to_string());
    let places = places(&made);
    for (artifact, place) in made.iter_mut().zip(places) {
        let path = place.map(|place| folder.join(place));
        let is_kept = |path: &PathBuf| {
            path.metadata().is_ok_and(|file| file.is_file() && file.len() == artifact.len)
        };
        artifact.path = path.filter(is_kept).map(|path| path.display().to_string());
    }
    made
}

/// Where the files of a run's artifacts are.
pub(crate) fn folder_of(store: &FilePath, run: &str) -> PathBuf {
    store.join("runs").join(run).join("artifacts")
}

/// The place of each artifact of a run in its folder: its name, or below the name of its step
/// where the file of another one is in the way. `None`: nowhere.
pub(crate) fn places(artifacts: &[api::Artifact]) -> Vec<Option<PathBuf>> {
    let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
    let mut place = |artifact: &api::Artifact| {
        let name = PathBuf::from(&artifact.name);
        let other = FilePath::new(artifact.step.as_deref().unwrap_or("other")).join(&name);
        let is_free = |path: &PathBuf| {
            let mut above = path.ancestors().skip(1);
            !files.contains(path) && !folders.contains(path) && !above.any(|up| files.contains(up))
        };
        let free = [name, other].into_iter().filter(|path| is_inside(path)).find(is_free)?;
        folders.extend(free.ancestors().skip(1).map(FilePath::to_path_buf));
        files.insert(free.clone());
        Some(free)
    };
    artifacts.iter().map(&mut place).collect()
}

fn is_inside(name: &FilePath) -> bool {
    let mut parts = name.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_of_an_artifact_is_in_the_way_of_another() {
        let names =
            [("a", "d/e"), ("b", "d"), ("c", "d/e/f"), ("d", "x"), ("e", "x"), ("f", "../x")];
        let made = names.map(|(step, name)| api::Artifact {
            name: name.to_owned(),
            digest: String::new(),
            media_type: String::new(),
            len: 0,
            step: Some(step.to_owned()),
            path: None,
        });
        let places = places(&made).into_iter().map(|place| Some(place?.display().to_string()));
        let expected = ["d/e", "b/d", "c/d/e/f", "x", "e/x"].map(|place| Some(place.to_owned()));
        assert_eq!(places.collect::<Vec<_>>(), [&expected[..], &[None]].concat());
    }
}
