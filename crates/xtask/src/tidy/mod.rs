//! The rules of the house that no other tool knows, each a function from the tree to faults.
//!
//! **Invariant:** a rule names the file and what to do about it, and every fault is found in one
//! go. The rules are a test as well, so `cargo nextest run` is enough to see them broken.

mod crates;
mod documents;
mod licences;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What is wrong, with its place in front.
type Faults = Vec<String>;

/// Prints every fault and fails if there is one.
pub(crate) fn run() -> Result<()> {
    let faults = faults()?;
    for fault in &faults {
        eprintln!("tidy: {fault}");
    }
    if !faults.is_empty() {
        bail!("tidy found {} faults", faults.len());
    }
    Ok(())
}

fn faults() -> Result<Faults> {
    let tree = Tree::read(&crate::root())?;
    let metadata = crates::metadata()?;
    let mut faults = crates::check(&metadata);
    faults.extend(licences::check(&metadata));
    faults.extend(sources::check(&tree));
    faults.extend(documents::check(&tree));
    Ok(faults)
}

/// The project's text files.
struct Tree {
    root: PathBuf,
    files: Vec<File>,
}

/// A text file, by its path from the root with `/` between the parts.
struct File {
    path: String,
    text: String,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { root: root.to_path_buf(), files: Vec::new() };
        tree.read_folder(root)?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path) -> Result<()> {
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            // Not written by hand: builds, history (a file in a worktree), runs, versions.
            let name = entry.file_name();
            if ["target", ".git", ".kapelle", "Cargo.lock"].iter().any(|skip| name == *skip) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.read_folder(&entry.path())?;
            } else if kind.is_file() {
                self.read_file(&entry.path())?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let relative = path.strip_prefix(&self.root).expect("found below the root");
        // What is not text has no lines to judge.
        if let Ok(text) = String::from_utf8(bytes) {
            self.files.push(File { path: relative.to_string_lossy().replace('\\', "/"), text });
        }
        Ok(())
    }

    /// The Rust files.
    fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_house_is_tidy() {
        let faults = super::faults().unwrap();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }
}
