//! What of the run's folder a command does not see, and what it does not change.
//!
//! **Invariant:** what is a secret by its name, and the store, is not there for a command; what makes
//! others act, such as git's hooks and our own configuration, is there as it is.

use std::path::{Path, PathBuf};

use super::folder::is_secret;
use crate::child::confine::{Limits, Walls};

/// Below the run's folder: what is obeyed outside of the wall by those who come upon it.
pub(super) const OBEYED: [&str; 9] = [
    ".claude",
    ".cursor",
    ".git/config",
    ".git/hooks",
    ".idea",
    ".mcp.json",
    ".vscode",
    ".envrc",
    "kapelle.toml",
];
/// So much is looked through for secrets.
const ENTRIES_MAX: usize = 500_000;
/// So many are hidden.
const HIDDEN_MAX: usize = 1_000;

/// The walls around commands in `root`, or why there can be none.
pub(super) fn around(root: &Path, store: Option<&Path>, limits: Limits) -> Result<Walls, String> {
    let root = root.canonicalize().map_err(|error| format!("the run's folder: {error}"))?;
    if root.parent().is_none() {
        return Err(
            "the run's folder is `/`: all of the system is no place for commands".to_owned()
        );
    }
    let Some(name) = root.to_str() else {
        return Err("the run's folder has a name that is no UTF-8".to_owned());
    };
    let mut hidden = secrets(&root)?;
    let store = store.and_then(|store| store.canonicalize().ok());
    let below = store.as_deref().and_then(|store| store.strip_prefix(&root).ok());
    if let Some(below) = below {
        hidden.push(below.to_path_buf());
    }
    let hidden = hidden.iter().map(|path| path.to_str().map(str::to_owned));
    let hidden = hidden.collect::<Option<Vec<_>>>().ok_or("a secret's name is no UTF-8")?;
    let kept = OBEYED.map(str::to_owned).to_vec();
    Ok(Walls { root: name.to_owned(), hidden, kept, limits })
}

/// What has the name of a secret, relative to `root`. Links are not followed.
fn secrets(root: &Path) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut folders, mut seen) = (Vec::new(), vec![PathBuf::new()], 0);
    while let Some(folder) = folders.pop() {
        // One that we may not read, or that went, shows a command nothing either.
        let Ok(entries) = root.join(&folder).read_dir() else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return Err(format!(
                    "over {ENTRIES_MAX} files are too many to look for secrets in"
                ));
            }
            let path = folder.join(entry.file_name());
            if is_secret(&entry.file_name().to_string_lossy()) {
                found.push(path);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
        if found.len() > HIDDEN_MAX {
            return Err(format!(
                "over {HIDDEN_MAX} files are secrets by their names: too many to hide"
            ));
        }
    }
    Ok(found)
}
