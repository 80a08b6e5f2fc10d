//! The copies of artifacts below `runs`: whether they are still what their runs made.
//!
//! **Invariant:** a copy that is not is told and no damage: it is everybody's to change, and what was made
//! is in the store, which has its digest.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kapelle_core::port::Journal as _;
use kapelle_core::{Digest, Digester, RunId, Tenant};
use kapelle_store::Sqlite;

/// How many bytes are read at once.
const PIECE: usize = 256 << 10;
/// How deep folders are looked into.
const DEPTH_MAX: usize = 16;

/// What was compared.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// How many are what was made.
    pub(super) same: u64,
    /// Those that are not, by their paths.
    pub(super) changed: Vec<String>,
}

/// Compares all copies of a store that is in `folder`. What cannot be read is not what was made.
pub(super) async fn compare(store: &Sqlite, folder: &Path) -> Copies {
    let mut copies = Copies::default();
    let Ok(runs) = fs::read_dir(folder.join("runs")) else { return copies };
    let mut runs: Vec<PathBuf> = runs.flatten().map(|run| run.path()).collect();
    runs.sort();
    for path in runs {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Ok(run) = name.parse::<RunId>() else { continue };
        // What is wrong with a journal is told by who reads it.
        let Ok(made) = store.references(&Tenant::default(), run).await else { continue };
        let made: HashSet<Digest> = made.into_iter().map(|(digest, _)| digest).collect();
        let look = move || {
            let mut files = Vec::new();
            below(&path.join("artifacts"), DEPTH_MAX, &mut files);
            files.into_iter().map(|file| (digest(&file).ok(), file)).collect::<Vec<_>>()
        };
        for (digest, file) in tokio::task::spawn_blocking(look).await.expect("it does not panic") {
            match digest.is_some_and(|digest| made.contains(&digest)) {
                true => copies.same += 1,
                false => copies.changed.push(file.display().to_string()),
            }
        }
    }
    copies
}

/// The files below a folder, by name; links are followed nowhere.
fn below(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(all) = fs::read_dir(folder) else { return };
    let mut all: Vec<_> = all.flatten().collect();
    all.sort_by_key(fs::DirEntry::file_name);
    for entry in all {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => below(&entry.path(), depth - 1, files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            Ok(_) | Err(_) => (),
        }
    }
}

fn digest(file: &Path) -> io::Result<Digest> {
    let (mut file, mut digester, mut piece) =
        (File::open(file)?, Digester::default(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(digester.finish()),
            read => digester.update(&piece[..read]),
        }
    }
}
