//! The agent files of a node: folders in the order of their precedence, read again when they change.
//!
//! **Invariants:** of agents with one name the first counts, and the others are listed. A file that
//! was good and is broken now keeps what was good; the trouble is told. A folder is looked through at
//! most so deep and with so many files, links included once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{AgentFile, Broken, FILE_MAX, read};
use crate::child::sweep::END as SWEPT;

/// How deep folders are looked through.
const DEPTH_MAX: usize = 8;
/// How many files are read at the most.
const FILES_MAX: usize = 20_000;

/// Folders with agent files.
#[derive(Debug, Default)]
pub struct Shelf {
    folders: Vec<PathBuf>,
    known: Mutex<Known>,
}

/// What is in the folders.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shelved {
    /// The agents, each name once, in the order of their files.
    pub agents: Vec<Arc<AgentFile>>,
    /// Those whose name was taken before.
    pub shadowed: Vec<Shadowed>,
    /// Files that cannot be used as they are now.
    pub broken: Vec<Broken>,
}

/// An agent that another one of its name stands before.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadowed {
    /// The agent.
    pub agent: Arc<AgentFile>,
    /// The file that counts.
    pub by: PathBuf,
}

#[derive(Debug, Default)]
struct Known {
    files: BTreeMap<PathBuf, Entry>,
    shelved: Arc<Shelved>,
}

/// A file as it was last seen.
#[derive(Clone, Debug)]
struct Entry {
    stamp: Stamp,
    good: Option<Arc<AgentFile>>,
    trouble: Option<Broken>,
}

/// What changes with a file.
type Stamp = (u64, u64, i64, i64, i64, i64);

impl Shelf {
    /// The folders, the one that wins first. Those that are not there are empty; a file is taken for
    /// a folder with that file.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, known: Mutex::default() }
    }

    /// The folders, the one that wins first.
    #[must_use]
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Whether there can be any files.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// Looks through the folders, reads what is new or has changed, and says what there is.
    pub fn look(&self) -> Arc<Shelved> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Found::default();
        for folder in &self.folders {
            found.begin(folder);
        }
        let mut before = std::mem::take(&mut known.files);
        let mut shelved = Shelved::default();
        let mut names: BTreeMap<Box<str>, PathBuf> = BTreeMap::new();
        for (file, stamp) in found.files {
            let entry = match before.remove(&file) {
                Some(entry) if entry.stamp == stamp => entry,
                entry => read_again(&file, stamp, entry),
            };
            shelved.broken.extend(entry.trouble.clone());
            if let Some(agent) = &entry.good {
                shelved.place(agent, &mut names);
            }
            known.files.insert(file, entry);
        }
        shelved.broken.extend(found.broken);
        if *known.shelved != shelved {
            known.shelved = Arc::new(shelved);
        }
        known.shelved.clone()
    }
}

impl Shelved {
    fn place(&mut self, agent: &Arc<AgentFile>, names: &mut BTreeMap<Box<str>, PathBuf>) {
        let name = &agent.definition.name;
        match names.get(name) {
            Some(by) => {
                self.shadowed.push(Shadowed { agent: agent.clone(), by: by.clone() });
            }
            None => {
                names.insert(name.clone(), agent.file.clone());
                self.agents.push(agent.clone());
            }
        }
    }
}

/// Reads a file. What was good stays, if this is not.
fn read_again(file: &Path, stamp: Stamp, before: Option<Entry>) -> Entry {
    let bytes = bytes(file).map_err(|error| unreadable(file, &error));
    match bytes.and_then(|bytes| read(file, &bytes)) {
        Ok(agent) => Entry { stamp, good: Some(Arc::new(agent)), trouble: None },
        Err(trouble) => {
            let good = before.and_then(|entry| entry.good);
            Entry { stamp, good, trouble: Some(trouble) }
        }
    }
}

/// What a file holds; one byte over the limit is enough to see that it is over.
fn bytes(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(file: &Path, error: &std::io::Error) -> Broken {
    Broken { file: file.to_path_buf(), line: 1, message: error.to_string() }
}

/// Files in the order of their precedence.
#[derive(Default)]
struct Found {
    files: Vec<(PathBuf, Stamp)>,
    broken: Vec<Broken>,
    /// Folders and files by device and number: links lead to some of them again.
    seen: BTreeSet<(u64, u64)>,
}

impl Found {
    fn begin(&mut self, folder: &Path) {
        match fs::metadata(folder) {
            Ok(is) if !self.seen.insert((is.dev(), is.ino())) => {}
            Ok(is) if is.is_file() => self.take(folder.to_path_buf(), &is),
            Ok(_) => self.walk(folder, 0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.broken.push(unreadable(folder, &error)),
        }
    }

    /// Takes the files of a folder, then those of the folders in it.
    fn walk(&mut self, folder: &Path, depth: usize) {
        let mut paths = match list(folder) {
            Ok(paths) => paths,
            Err(error) => return self.broken.push(unreadable(folder, &error)),
        };
        paths.sort();
        let mut below = Vec::new();
        for path in paths {
            match fs::metadata(&path) {
                Ok(is) if !self.seen.insert((is.dev(), is.ino())) => {}
                Ok(is) if is.is_dir() => below.push(path),
                Ok(is) if is_agent(&path) => self.take(path, &is),
                Ok(_) if is_swept(&path) => self.broken.push(swept(path)),
                Err(error) if is_agent(&path) => self.broken.push(unreadable(&path, &error)),
                Ok(_) | Err(_) => {}
            }
        }
        for folder in below.iter().filter(|_| depth < DEPTH_MAX) {
            self.walk(folder, depth + 1);
        }
    }

    fn take(&mut self, path: PathBuf, is: &fs::Metadata) {
        if !is.is_file() {
            let message = "it is neither a file nor a folder".to_owned();
            self.broken.push(Broken { file: path, line: 1, message });
        } else if self.files.len() < FILES_MAX {
            let changed = (is.mtime(), is.mtime_nsec(), is.ctime(), is.ctime_nsec());
            self.files
                .push((path, (is.ino(), is.len(), changed.0, changed.1, changed.2, changed.3)));
        }
    }
}

/// Whether an agent's file lost its name when a command of a model ended.
fn is_swept(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split_once(SWEPT).is_some_and(|(was, _)| is_agent(Path::new(was)))
}

fn swept(file: PathBuf) -> Broken {
    let message = "it appeared while a command of a model ran, and lost its name as that may have made it; \
                   if it is yours, give it its name again";
    Broken { file, line: 1, message: message.to_owned() }
}

fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

/// Whether a path is that of an agent file: not hidden, and not one of those that tell about a folder.
fn is_agent(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let Some(stem) = name.strip_suffix(".md").or_else(|| name.strip_suffix(".markdown")) else {
        return false;
    };
    let tells = |c: char| c.is_ascii_uppercase() || "_-.".contains(c);
    !name.starts_with('.') && !stem.chars().all(tells)
}
