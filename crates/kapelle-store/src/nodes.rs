//! Who works on a store in a folder: a file for every process, locked for as long as it lives.
//!
//! ```text
//! STORE/nodes/<id>       what the node says of itself; locked by it before the file has its name
//! STORE/nodes/<id>.kids  locked (shared) by the children of its process agents while one lives
//! STORE/nodes/<id>.out/  what those children leave, until it is taken in
//! ```
//!
//! **Invariants:** a file whose lock is free belongs to a dead node, for good: names are never used
//! again. What a dead node left is removed only by one that holds both of its locks.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use kapelle_core::NodeId;
use kapelle_core::port::journal::Error;
use kapelle_core::port::nodes::{Node, Nodes};

use crate::sqlite::is_full;

/// This process as a node of the store in a folder, until it is dropped.
pub struct Member {
    me: Node,
    dir: PathBuf,
    /// Held locked; absent for one that only looks.
    file: Option<File>,
}

impl Member {
    /// Makes this process a node of the store in `dir`; its API listens at `socket`.
    ///
    /// [`Error::Unavailable`] where the folder cannot be written or knows no locks.
    pub fn join(dir: &Path, socket: Option<&Path>) -> Result<Self, Error> {
        let dir = dir.join("nodes");
        let me = myself(socket);
        let joined = || {
            fs::create_dir_all(&dir)?;
            let unnamed = dir.join(format!(".{}", me.id));
            let mut file = File::create_new(&unnamed)?;
            let written = file
                .lock()
                .and_then(|()| file.write_all(&serde_json::to_vec(&me)?))
                .and_then(|()| File::create_new(kids(&dir, &me.id)))
                .and_then(|_| fs::rename(&unnamed, dir.join(me.id.as_str())));
            if written.is_err() {
                fs::remove_file(&unnamed).ok();
                fs::remove_file(kids(&dir, &me.id)).ok();
            }
            written.map(|()| file)
        };
        let file = joined().map_err(|error| unavailable(&dir, &error))?;
        let member = Self { me, dir, file: Some(file) };
        member.survey().map_err(|error| unavailable(&member.dir, &error))?;
        Ok(member)
    }

    /// Somebody who only looks at who works on the store in `dir`: nobody sees it, and nothing is
    /// made or removed.
    #[must_use]
    pub fn look(dir: &Path) -> Self {
        Self { me: myself(None), dir: dir.join("nodes"), file: None }
    }

    /// The file that the children of this node's process agents hold locked (shared) while one
    /// lives. It exists. A child opens it without making it, and starts no work if it is gone or its
    /// parent has died by the time it has the lock.
    #[must_use]
    pub fn kids_file(&self) -> PathBuf {
        kids(&self.dir, &self.me.id)
    }

    /// The nodes that live. What the dead left is removed where no child of theirs lives.
    fn survey(&self) -> io::Result<Vec<Node>> {
        let mut living = Vec::new();
        if self.file.is_none() {
            living.push(self.me.clone());
            if !self.dir.exists() {
                return Ok(living);
            }
        }
        for item in fs::read_dir(&self.dir)? {
            let name = item?.file_name();
            let Some(name) = name.to_str().filter(|name| !name.contains('.')) else { continue };
            let id = NodeId::new(name);
            if id == self.me.id {
                living.push(self.me.clone());
            } else if self.lives(&id)? {
                living.extend(self.said(&id));
            } else if self.file.is_some() {
                self.bury(&id);
            }
        }
        living.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(living)
    }

    /// Whether the node's file is there and locked.
    fn lives(&self, id: &NodeId) -> io::Result<bool> {
        match open(&self.dir.join(id.as_str()))? {
            Some(file) => is_taken(file.try_lock_shared()),
            None => Ok(false),
        }
    }

    /// Whether the lock of a dead node's children is taken.
    fn orphans(&self) -> io::Result<bool> {
        for item in fs::read_dir(&self.dir)? {
            let name = item?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".kids")) else {
                continue;
            };
            let id = NodeId::new(id);
            if id == self.me.id || self.lives(&id)? {
                continue;
            }
            if let Some(file) = open(&kids(&self.dir, &id))?
                && is_taken(file.try_lock())?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the node said of itself, if that can still be read.
    fn said(&self, id: &NodeId) -> Option<Node> {
        serde_json::from_slice(&fs::read(self.dir.join(id.as_str())).ok()?).ok()
    }

    /// Removes what a dead node left. Where that does not work, it is tried again later.
    fn bury(&self, id: &NodeId) {
        let (path, kids) = (self.dir.join(id.as_str()), kids(&self.dir, id));
        let locked = |path: &Path| {
            let file = open(path)?.map(|file| is_taken(file.try_lock()).map(|taken| (file, taken)));
            file.transpose()
        };
        let Ok(Some((_node, false))) = locked(&path) else { return };
        let Ok(None | Some((_, false))) = locked(&kids) else { return };
        let socket = self.said(id).and_then(|node| node.socket);
        if let Some(socket) = socket.as_deref().map(Path::new)
            && fs::symlink_metadata(socket).is_ok_and(|found| found.file_type().is_socket())
        {
            fs::remove_file(socket).ok();
        }
        fs::remove_dir_all(kids.with_extension("out")).ok();
        fs::remove_file(kids).ok();
        fs::remove_file(path).ok();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.file.is_none() {
            return;
        }
        // The children may outlive this value: then their file stays, and whoever comes after
        // removes both.
        let kids = self.kids_file();
        let childless = open(&kids).is_ok_and(|file| {
            file.is_none_or(|file| is_taken(file.try_lock()).is_ok_and(|taken| !taken))
        });
        if childless {
            fs::remove_dir_all(kids.with_extension("out")).ok();
            fs::remove_file(kids).ok();
            fs::remove_file(self.dir.join(self.me.id.as_str())).ok();
        }
    }
}

#[async_trait]
impl Nodes for Member {
    fn me(&self) -> &Node {
        &self.me
    }

    async fn list(&self) -> Result<Vec<Node>, Error> {
        self.survey().map_err(|error| unavailable(&self.dir, &error))
    }

    async fn alive(&self, node: &NodeId) -> Result<bool, Error> {
        let lives = if *node == self.me.id { Ok(true) } else { self.lives(node) };
        lives.map_err(|error| unavailable(&self.dir, &error))
    }

    async fn has_orphans(&self) -> Result<bool, Error> {
        self.orphans().map_err(|error| unavailable(&self.dir, &error))
    }
}

/// The only node of a store that no other process can open.
pub struct Alone {
    me: Node,
}

impl Alone {
    /// This process.
    #[must_use]
    pub fn new() -> Self {
        Self { me: myself(None) }
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Nodes for Alone {
    fn me(&self) -> &Node {
        &self.me
    }

    async fn list(&self) -> Result<Vec<Node>, Error> {
        Ok(vec![self.me.clone()])
    }

    async fn alive(&self, node: &NodeId) -> Result<bool, Error> {
        Ok(*node == self.me.id)
    }

    async fn has_orphans(&self) -> Result<bool, Error> {
        Ok(false)
    }
}

fn myself(socket: Option<&Path>) -> Node {
    let pid = std::process::id();
    Node {
        id: NodeId::new(&format!("node-{pid}-{:016x}", random())),
        pid,
        version: env!("CARGO_PKG_VERSION").into(),
        socket: socket.map(|socket| socket.display().to_string().into()),
    }
}

/// A number that no other call gives, on no machine, for the names of files.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

fn kids(dir: &Path, id: &NodeId) -> PathBuf {
    dir.join(format!("{id}.kids"))
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a lock that was tried is somebody else's.
fn is_taken(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn unavailable(dir: &Path, error: &io::Error) -> Error {
    if is_full(error) {
        return Error::Full { file: dir.display().to_string().into() };
    }
    let message = format!("{error}; make it a folder that this user can write").into();
    Error::Unavailable { file: dir.display().to_string().into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nodes_see_each_other_until_they_leave() {
        let dir = tempfile::tempdir().unwrap();
        let first = Member::join(dir.path(), Some(Path::new("/tmp/a.sock"))).unwrap();
        let second = Member::join(dir.path(), None).unwrap();
        let mut both = vec![first.me().clone(), second.me().clone()];
        both.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(first.list().await.unwrap(), both);
        let gone = second.me().id.clone();
        assert!(first.alive(&gone).await.unwrap());
        drop(second);
        assert!(!first.alive(&gone).await.unwrap());
        assert_eq!(first.list().await.unwrap(), [first.me().clone()]);
        let me = first.me().id.clone();
        drop(first);
        assert_eq!(fs::read_dir(dir.path().join("nodes")).unwrap().count(), 0, "{me}");
    }

    #[tokio::test]
    async fn what_a_node_left_stays_while_a_child_of_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let parent = Member::join(dir.path(), None).unwrap();
        let id = parent.me().id.clone();
        let child = File::open(parent.kids_file()).unwrap();
        child.lock_shared().unwrap();
        drop(parent);
        let other = Member::join(dir.path(), None).unwrap();
        // What its children leave, when neither it nor they could clean up.
        let left = dir.path().join(format!("nodes/{id}.out/kapelle-out-1"));
        fs::create_dir_all(&left).unwrap();
        assert!(!other.alive(&id).await.unwrap());
        assert!(other.has_orphans().await.unwrap());
        assert_eq!(other.list().await.unwrap().len(), 1);
        assert!(other.has_orphans().await.unwrap(), "the list removed a parent's file");
        assert!(left.exists(), "a child may be at work there");
        drop(child);
        assert!(!other.has_orphans().await.unwrap());
        other.list().await.unwrap();
        drop(other);
        assert_eq!(fs::read_dir(dir.path().join("nodes")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("nodes"), "").unwrap();
        let Err(error) = Member::join(dir.path(), None) else { panic!("joined a file") };
        assert!(error.to_string().contains("nodes"), "{error}");
    }
}
