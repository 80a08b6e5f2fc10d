//! What of the run's folder a command does not see, and what it does not change.
//!
//! **Invariants:** what is a secret, and the store, is not there for a command. What others obey, such as
//! repositories of git, hooks, settings of editors and our own files, is there as it is, at any depth; and
//! what of that kind is new when the command ends loses its name (`child/sweep.rs`). Commands that go on
//! in one folder at a time agree on what was there: none finds it good that another one made it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::reserved::Reserved;
use crate::child::confine::{Kept, Limits, Walls};
use crate::child::sweep::{id_of, is_repository};
use crate::names::{is_agents, is_secret, is_secret_folder, obeyed};

/// So much is looked through.
const ENTRIES_MAX: usize = 500_000;
/// So many are hidden.
const HIDDEN_MAX: usize = 1_000;
/// So many are kept as they are.
const KEPT_MAX: usize = 10_000;

/// The walls around commands in `root`, or why there can be none.
pub(super) fn around(root: &Path, reserved: &Reserved, limits: Limits) -> Result<Walls, String> {
    let root = root.canonicalize().map_err(|error| format!("the run's folder: {error}"))?;
    if root.parent().is_none() {
        return Err(
            "the run's folder is `/`: all of the system is no place for commands".to_owned()
        );
    }
    let Some(name) = root.to_str() else {
        return Err("the run's folder has a name that is no UTF-8".to_owned());
    };
    if let Some(link) = reserved.secret_links_in(&root).first() {
        return Err(format!(
            "`{}` is a link on the way to the store or to a key, and a command could replace it: have the \
             configuration name the folder that it leads to",
            link.display()
        ));
    }
    let (hidden, kept, known) = Default::default();
    let mut walk = Walk { root: &root, hidden, kept, known };
    walk.hidden.extend(reserved.secret_in(&root)?);
    walk.all()?;
    let obeyed = reserved.obeyed_in(&root);
    for path in &obeyed {
        walk.keep(path)?;
    }
    let links = reserved.links_in(&root);
    let links = links.iter().filter_map(|link| Some((link, id_of(&root.join(link)).ok()?)));
    let links = links.map(|(link, id)| Ok(Kept { path: text(link)?, id }));
    let links = links.collect::<Result<_, String>>()?;
    let ways = ways(walk.hidden.iter().chain(&obeyed));
    let ways = ways.into_iter().map(text).collect::<Result<_, _>>()?;
    let hidden = walk.hidden.iter().map(|path| text(path)).collect::<Result<_, _>>()?;
    let kept = walk.kept.into_iter().collect();
    Ok(Walls { root: name.to_owned(), ways, links, hidden, kept, known: walk.known, limits })
}

/// The folders on the way to `places`, the outer ones first.
fn ways<'a>(places: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<&'a Path> {
    let ways = places.flat_map(|place| place.ancestors().skip(1));
    ways.filter(|way| !way.as_os_str().is_empty()).collect()
}

/// A look through a folder.
struct Walk<'a> {
    root: &'a Path,
    hidden: BTreeSet<PathBuf>,
    kept: BTreeSet<Kept>,
    known: BTreeSet<String>,
}

/// Whether a folder is looked through for all, or, as it is kept as a whole, for secrets alone.
#[derive(Clone, Copy, PartialEq)]
enum For {
    All,
    Secrets,
}

impl Walk<'_> {
    /// Links are not followed.
    fn all(&mut self) -> Result<(), String> {
        let (mut folders, mut seen) = (vec![(PathBuf::new(), For::All)], 0);
        while let Some((folder, wanted)) = folders.pop() {
            // One that we may not read, or that went, shows a command nothing either.
            let Ok(entries) = self.root.join(&folder).read_dir() else { continue };
            let entries: Vec<_> =
                entries.flatten().map(|entry| (entry.file_name(), entry)).collect();
            let has = |name: &str| entries.iter().any(|(is, _)| is == name);
            if wanted == For::All && is_repository(has) {
                // What it looks like may be a command's work: it hides nothing.
                self.keep(&folder)?;
            }
            let own = Path::new(self.root.file_name().unwrap_or_default()).join(&folder);
            for (name, entry) in entries {
                seen += 1;
                if seen > ENTRIES_MAX {
                    return Err(format!("over {ENTRIES_MAX} files are too many to look through"));
                }
                let path = folder.join(&name);
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let is_kept = wanted == For::All && obeyed(&own, &name.to_string_lossy());
                if is_kept {
                    self.keep(&path)?;
                } else if is_agents(&name) && entry.file_type().is_ok_and(|kind| kind.is_symlink())
                {
                    self.known.extend(id_of(&self.root.join(&path)));
                }
                let is_hidden = if is_folder { is_secret_folder(&path) } else { is_secret(&path) };
                if is_hidden {
                    self.hide(path)?;
                } else if is_folder && name != ".git" {
                    // What git keeps are no files of anybody, and it needs them.
                    folders.push((path, if is_kept { For::Secrets } else { wanted }));
                }
            }
        }
        Ok(())
    }

    fn hide(&mut self, path: PathBuf) -> Result<(), String> {
        self.hidden.insert(path);
        if self.hidden.len() <= HIDDEN_MAX {
            return Ok(());
        }
        Err(format!("over {HIDDEN_MAX} files are secrets by their names: too many to hide"))
    }

    /// Keeps something as it is; of a link, what it leads to.
    fn keep(&mut self, path: &Path) -> Result<(), String> {
        let at = self.root.join(path);
        // What went meanwhile is not there.
        let Ok(id) = id_of(&at) else { return Ok(()) };
        self.known.insert(id);
        let Ok(real) = at.canonicalize() else { return Ok(()) };
        let Ok(real) = real.strip_prefix(self.root).map(Path::to_path_buf) else { return Ok(()) };
        let is_root_by_link = real.as_os_str().is_empty() && !path.as_os_str().is_empty();
        if is_root_by_link || is_secret(&real) || is_secret_folder(&real) {
            return Ok(());
        }
        let Ok(id) = id_of(&self.root.join(&real)) else { return Ok(()) };
        self.known.insert(id.clone());
        self.kept.insert(Kept { path: text(&real)?, id });
        if self.kept.len() <= KEPT_MAX {
            return Ok(());
        }
        Err(format!("over {KEPT_MAX} files are obeyed by others: too many to keep"))
    }
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| "a name in it is no UTF-8".to_owned())
}

/// What was there, by folder, when the first of the commands began that go on there now.
#[derive(Debug, Default)]
pub(super) struct Before(Mutex<BTreeMap<String, Weak<BTreeSet<String>>>>);

impl Before {
    /// Has `walls` know no more than those of commands that go on. To be held until the command has ended.
    pub(super) fn agree(&self, walls: &mut Walls) -> Result<Arc<BTreeSet<String>>, String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| known.strong_count() > 0);
        let Some(known) = all.get(&walls.root).and_then(Weak::upgrade) else {
            let known = Arc::new(walls.known.clone());
            all.insert(walls.root.clone(), Arc::downgrade(&known));
            return Ok(known);
        };
        if !known.is_subset(&walls.known) {
            return Err("the folder changes under another command; try again".to_owned());
        }
        walls.kept.retain(|kept| known.contains(&kept.id));
        walls.known.clone_from(&known);
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walls(known: &[&str]) -> Walls {
        let kept = known.iter().map(|id| Kept { path: format!("at {id}"), id: (*id).to_owned() });
        let known = known.iter().map(|id| (*id).to_owned()).collect();
        let (root, hidden, ways, links) = ("/run".to_owned(), Vec::new(), Vec::new(), Vec::new());
        Walls { root, ways, links, hidden, kept: kept.collect(), known, limits: Limits::default() }
    }

    /// Else one could hide from the other's sweep what that has made, and find it good in its own.
    #[test]
    fn commands_do_not_vouch_for_each_other() {
        let before = Before::default();
        let first = before.agree(&mut walls(&["a"])).unwrap();
        let mut second = walls(&["a", "made by the first"]);
        let held = before.agree(&mut second).unwrap();
        assert_eq!((second.known.len(), second.kept.len()), (1, 1), "{second:?}");
        drop(first);
        let mut third = walls(&["a", "made by the second"]);
        before.agree(&mut third).unwrap();
        assert_eq!(third.known, second.known, "the second still goes on");
        let moved = before.agree(&mut walls(&[])).unwrap_err();
        assert!(moved.contains("changes under another command"), "{moved}");
        drop(held);
        let mut later = walls(&["b"]);
        before.agree(&mut later).unwrap();
        assert!(later.known.contains("b"), "nobody goes on there any more");
    }

    #[test]
    fn what_is_obeyed_is_found_through_links_and_what_git_keeps_is_not_looked_through() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["sub/.git", "bare/objects", "bare/refs", ".claude", "real"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["sub/.git/id_x", "bare/HEAD", ".claude/.env", "real/rules", "key.txt"] {
            std::fs::write(root.join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("real/rules", root.join("CLAUDE.md")).unwrap();
        let reserved = Reserved {
            secret: vec![root.join("key.txt")],
            obeyed: vec![root.join("real")],
            store: None,
        };
        let walls = around(&root, &reserved, Limits::default()).unwrap();
        let kept: Vec<_> = walls.kept.iter().map(|kept| kept.path.as_str()).collect();
        assert_eq!(kept, [".claude", "bare", "real", "real/rules", "sub/.git"]);
        assert_eq!(walls.hidden, [".claude/.env", "key.txt"]);
        assert_eq!(walls.known.len(), 6, "the link itself, too: {walls:?}");
    }
}
