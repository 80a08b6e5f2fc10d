//! `/export`, `/import`: runs that have ended, as one file.

use axum::Json;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt as _;
use kapelle_api as api;
use serde::Deserialize;

use super::App;
use super::body::{Query, Raw};
use super::problem::Problem;

/// Which runs.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Ids, separated by commas.
    runs: String,
}

/// One file with runs that have ended, separated by commas. Without its last line it is none.
///
/// `GET /export?runs=`
pub(super) async fn export(app: App, Query(which): Query<Which>) -> Result<Response, Problem> {
    let mut runs = Vec::new();
    for run in which.runs.split(',') {
        let run = app.find(run).await?;
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    let file = app.engine().export(app.tenant(), runs).await?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((headers, Body::from_stream(file.map_err(std::io::Error::other))).into_response())
}

/// Takes in the runs of such a file, once all of it was checked.
///
/// `POST /import`
pub(super) async fn import(
    app: App,
    Raw(file): Raw,
) -> Result<Json<api::Page<api::Submitted>>, Problem> {
    let taken = app.engine().import(app.tenant(), file).await?;
    let items = taken.into_iter();
    let items = items.map(|one| api::Submitted { id: one.run.to_string(), existing: one.existing });
    Ok(Json(api::Page { items: items.collect(), next_cursor: None }))
}
