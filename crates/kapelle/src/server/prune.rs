//! `/prune`: removing runs that have ended.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use axum::Json;
use kapelle_api as api;
use kapelle_core::{RunId, parse_duration};

use super::App;
use super::body::Body;
use super::problem::Problem;

/// How old a run is at least where nothing is said.
const AGE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Removes runs that have ended, with their files, and gives the space back to the disk.
///
/// `POST /prune`
pub(super) async fn prune(
    app: App,
    Body(which): Body<api::Prune>,
) -> Result<Json<api::Pruned>, Problem> {
    let mut runs = wanted(&app, &which).await?;
    let mut told = api::Pruned::default();
    if !which.more {
        told.bytes_before = taken(&app).await;
        told.bytes_after = told.bytes_before;
    }
    if !which.dry_run {
        runs = app.engine().prune(app.tenant(), &runs).await?;
        for run in &runs {
            remove_files(&app, *run);
        }
    }
    if !which.dry_run && !which.more {
        remove_leftovers(&app).await?;
        told.bytes_free = app.engine().shrink().await?;
        told.bytes_after = taken(&app).await;
    }
    told.runs = runs.iter().map(RunId::to_string).collect();
    Ok(Json(told))
}

async fn wanted(app: &App, which: &api::Prune) -> Result<Vec<RunId>, Problem> {
    if let Some(runs) = &which.runs {
        let ids = runs.iter().map(|run| run.parse());
        return ids
            .collect::<Result<_, _>>()
            .map_err(|error| Problem::invalid("bad_body", format!("`runs`: {error}")));
    }
    let age = match &which.older_than {
        Some(text) => parse_duration(text).ok_or_else(|| {
            let detail = format!("`older_than`: `{text}` is no duration such as `30d` or `12h`");
            Problem::invalid("bad_body", detail)
        })?,
        None if which.keep.is_some() => Duration::ZERO,
        None => AGE,
    };
    let ended = app.engine().ended(app.tenant(), age, which.keep.unwrap_or(0)).await?;
    Ok(ended.into_iter().map(|row| row.run).collect())
}

/// Removes what was written to files of a run. What cannot be removed now is a leftover.
fn remove_files(app: &App, run: RunId) {
    if let Some(store) = &app.inner.store {
        fs::remove_dir_all(store.join("runs").join(run.to_string())).ok();
    }
}

/// Removes the files of runs that are no more: whoever pruned them was killed.
async fn remove_leftovers(app: &App) -> Result<(), Problem> {
    let Some(store) = &app.inner.store else { return Ok(()) };
    let Ok(folders) = fs::read_dir(store.join("runs")) else { return Ok(()) };
    for folder in folders.flatten() {
        let Some(run) = folder.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if app.engine().journal().run(app.tenant(), run).await?.is_none() {
            remove_files(app, run);
        }
    }
    Ok(())
}

/// How many bytes the store takes on the disk.
async fn taken(app: &App) -> u64 {
    let Some(store) = app.inner.store.clone() else { return 0 };
    tokio::task::spawn_blocking(move || blocks(&store).unwrap_or(0) * 512).await.unwrap_or(0)
}

/// As `du` counts. What goes away meanwhile does not count.
fn blocks(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for item in fs::read_dir(dir)?.flatten() {
        let Ok(found) = item.metadata() else { continue };
        sum += found.blocks();
        if found.is_dir() {
            sum += blocks(&item.path()).unwrap_or(0);
        }
    }
    Ok(sum)
}
