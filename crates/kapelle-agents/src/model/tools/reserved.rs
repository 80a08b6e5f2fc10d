//! Files that are nobody's business whatever they are called, as the node knows them by their places.

use std::path::{Path, PathBuf};

/// Places outside or below runs' folders.
#[derive(Clone, Debug, Default)]
pub struct Reserved {
    /// Files that hold keys, and what we write ourselves: no tool and no command sees them.
    pub secret: Vec<PathBuf>,
    /// The store's folder: the same.
    pub store: Option<PathBuf>,
    /// What this node obeys: its configuration, its workflows, its folders of agents. Read, and not changed.
    pub obeyed: Vec<PathBuf>,
}

impl Reserved {
    /// Where the secret ones are, relative to `root`, as far as they are below it. In the store itself
    /// there is nothing else.
    pub(super) fn secret_in(&self, root: &Path) -> Result<Vec<PathBuf>, String> {
        if self.store.as_ref().and_then(|store| store.canonicalize().ok()).as_deref() == Some(root)
        {
            return Err(
                "the run's folder is the store: tools have no business there; run it in another folder"
                    .to_owned(),
            );
        }
        let all: Vec<_> = self.secret.iter().chain(&self.store).cloned().collect();
        Ok(below(root, &all))
    }

    /// Links on the way to all of these, relative to `root`: who replaces one leads us elsewhere.
    pub(super) fn links_in(&self, root: &Path) -> Vec<PathBuf> {
        links(root, self.secret.iter().chain(&self.obeyed).chain(&self.store))
    }

    /// Those that lead to a secret, or to the store.
    pub(super) fn secret_links_in(&self, root: &Path) -> Vec<PathBuf> {
        links(root, self.secret.iter().chain(&self.store))
    }

    /// The same for those that are obeyed.
    pub(super) fn obeyed_in(&self, root: &Path) -> Vec<PathBuf> {
        below(root, &self.obeyed)
    }
}

/// Links on the way to `places`, relative to `root`.
fn links<'a>(root: &Path, places: impl Iterator<Item = &'a PathBuf>) -> Vec<PathBuf> {
    let places = places.filter_map(|place| std::path::absolute(place).ok());
    let ways: Vec<PathBuf> = places
        .flat_map(|place| place.ancestors().map(Path::to_path_buf).collect::<Vec<_>>())
        .filter(|way| way.is_symlink())
        .collect();
    let links = ways.iter().filter_map(|way| beside_links(way));
    links.filter_map(|link| Some(link.strip_prefix(root).ok()?.to_path_buf())).collect()
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
