//! Files that are nobody's business whatever they are called, as the node knows them by their places.

use std::path::{Path, PathBuf};

/// Places outside or below runs' folders.
#[derive(Clone, Debug, Default)]
pub struct Reserved {
    /// Files that hold keys: no tool and no command sees them.
    pub secret: Vec<PathBuf>,
    /// What this node obeys: its configuration, its workflows, its folders of agents. Read, and not changed.
    pub obeyed: Vec<PathBuf>,
}

impl Reserved {
    /// Where the secret ones are, relative to `root`, as far as they are below it.
    pub(super) fn secret_in(&self, root: &Path) -> Vec<PathBuf> {
        below(root, &self.secret)
    }

    /// The same for those that are obeyed.
    pub(super) fn obeyed_in(&self, root: &Path) -> Vec<PathBuf> {
        below(root, &self.obeyed)
    }
}

/// A link is reserved as well as what it leads to. A folder that is `root`, or around it, is not.
fn below(root: &Path, places: &[PathBuf]) -> Vec<PathBuf> {
    let places = places.iter().filter_map(|place| std::path::absolute(place).ok());
    let both = places.flat_map(|place| [place.canonicalize().ok(), beside_links(&place)]);
    let below =
        both.flatten().filter_map(|place| Some(place.strip_prefix(root).ok()?.to_path_buf()));
    let mut below: Vec<PathBuf> = below.filter(|place| !place.as_os_str().is_empty()).collect();
    below.sort();
    below.dedup();
    below
}

/// A place by its own name, in a folder without links.
fn beside_links(place: &Path) -> Option<PathBuf> {
    Some(place.parent()?.canonicalize().ok()?.join(place.file_name()?))
}
