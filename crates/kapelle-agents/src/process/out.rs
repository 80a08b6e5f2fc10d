//! The files that a command left in `$KAPELLE_OUT`, as artifacts.
//!
//! **Invariant:** nothing outside the folder is read: a link is taken for the file it leads to only
//! where that is inside. What cannot be an artifact fails the step; it is not lost in silence.

use std::io;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use kapelle_core::Artifact;
use kapelle_core::port::agent::{Desk, Failure, FailureKind};
use tokio::io::AsyncReadExt as _;

use super::stdout;
use crate::input::invalid;

/// How many files a step may leave.
const FILES_MAX: usize = 10_000;
/// How much of a file is in memory at once.
const PIECE: usize = 256 << 10;

/// Makes an artifact of every file in `folder`, sorted by name. `stdout_taken`: there is one of
/// that name already.
pub(super) async fn collect(
    folder: &Path,
    stdout_taken: bool,
    desk: &dyn Desk,
) -> Result<Vec<Artifact>, Failure> {
    let folder = folder.to_owned();
    let files = tokio::task::spawn_blocking(move || files(&folder))
        .await
        .map_err(|error| Failure::new(FailureKind::Bug, "panic", error.to_string()))??;
    let mut artifacts = Vec::with_capacity(files.len());
    for (name, path) in files {
        if stdout_taken && name == stdout::NAME {
            return Err(bad(&name, "has the name that the long output has"));
        }
        artifacts.push(copy(&name, &path, desk).await?);
    }
    Ok(artifacts)
}

/// Every file below `folder` with its relative name, sorted.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut found = Vec::new();
    let top = folder.canonicalize().map_err(|error| unreadable(folder, &error))?;
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().map_err(|error| unreadable(&folder, &error))? {
            let path = entry.map_err(|error| unreadable(&folder, &error))?.path();
            let relative = path.strip_prefix(&top).expect("it was found below");
            let Some(name) = relative.to_str() else {
                return Err(bad(&relative.to_string_lossy(), "has a name that is no UTF-8"));
            };
            if path.symlink_metadata().map_err(|error| unreadable(&path, &error))?.is_dir() {
                folders.push(path);
                continue;
            }
            let target = path.canonicalize().map_err(|error| unreadable(&path, &error))?;
            if !target.starts_with(&top) {
                return Err(bad(name, "is a link that leads out of the folder"));
            }
            if !target.is_file() {
                return Err(bad(name, "is no file"));
            }
            found.push((name.to_owned(), target));
        }
        if found.len() > FILES_MAX {
            return Err(invalid("bad_artifact", format!("over {FILES_MAX} files were left")));
        }
    }
    found.sort();
    Ok(found)
}

async fn copy(name: &str, path: &Path, desk: &dyn Desk) -> Result<Artifact, Failure> {
    let mut file = tokio::fs::File::open(path).await.map_err(|error| unreadable(path, &error))?;
    let mut sink = desk.artifact(name, media_type(name)).await?;
    let mut piece = BytesMut::with_capacity(PIECE);
    loop {
        piece.reserve(PIECE);
        let read = file.read_buf(&mut piece).await.map_err(|error| unreadable(path, &error))?;
        if read == 0 {
            return sink.finish().await;
        }
        sink.write(piece.split().freeze()).await?;
    }
}

fn bad(name: &str, why: &str) -> Failure {
    invalid("bad_artifact", format!("`{name}` in `$KAPELLE_OUT` {why}"))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    invalid("bad_artifact", format!("`{}` cannot be read: {error}", path.display()))
}

/// The media type that a file's ending stands for.
fn media_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref().unwrap_or_default() {
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "csv" => "text/csv",
        "tsv" => "text/tab-separated-values",
        "xml" => "application/xml",
        "json" => "application/json",
        "jsonl" | "ndjson" => "application/x-ndjson",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        "js" | "mjs" => "text/javascript",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "tar" => "application/x-tar",
        "wasm" => "application/wasm",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}
