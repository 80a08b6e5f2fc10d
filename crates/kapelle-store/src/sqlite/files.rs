//! Payloads too large for rows: files named by their digest, written before anything refers to them.
//!
//! **Invariants:** a file under its final name is complete and on disk, its name too; nothing is
//! removed that an entry refers to, or may yet (younger than an hour). Renames share a lock on the
//! folder, removals take it alone: so a file is not removed in the moment it is written anew.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use kapelle_core::port::journal::{Content, Error, Staged};
use kapelle_core::{Digest, Digester, Payload};
use tokio::task::spawn_blocking;

use super::Poison;
use super::space::{Space, is_full};

/// What the name of a file begins with that is not complete.
const STAGED: &str = ".staged-";

/// The folder of payload files.
#[derive(Clone)]
pub(super) struct Files {
    dir: Arc<Path>,
    poison: Poison,
    space: Space,
}

impl Files {
    /// The payload files of the store in `dir`.
    pub(super) fn open(dir: &Path, poison: Poison, space: Space) -> io::Result<Self> {
        let files = Self::look(dir, poison, space);
        fs::create_dir_all(&files.dir)?;
        Ok(files)
    }

    /// The same for somebody who only reads: there may be none.
    pub(super) fn look(dir: &Path, poison: Poison, space: Space) -> Self {
        Self { dir: dir.join("payloads").into(), poison, space }
    }

    /// Where the payload with this digest is, if it is a file.
    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.join(&hex[..2]).join(hex)
    }

    /// The length of the payload's file, if there is one.
    pub(super) fn len(&self, digest: Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|found| found.len())
    }

    /// The payload's content, `None` if there is no such file.
    pub(super) fn content(&self, digest: Digest) -> io::Result<Option<Content>> {
        match File::open(self.path(digest)) {
            Ok(file) => {
                let len = file.metadata()?.len();
                Ok(Some(checked(digest, len, file)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a payload that is in memory. Blocks.
    pub(super) fn place(&self, payload: &Payload) -> Result<(), Error> {
        let mut staged = self.staged_file()?;
        staged.write(&payload.bytes).map_err(|error| failed(&staged.path, &error))?;
        staged.finish(self).map(drop)
    }

    /// Begins a payload.
    pub(super) fn stage(&self) -> Result<Staging, Error> {
        Ok(Staging { files: self.clone(), staged: Some(self.staged_file()?) })
    }

    fn staged_file(&self) -> Result<StagedFile, Error> {
        let path = self.dir.join(format!("{STAGED}{:016x}", crate::nodes::random()));
        let file = File::create_new(&path).map_err(|error| failed(&path, &error))?;
        let space = self.space.clone();
        Ok(StagedFile { path, file: Some(file), digester: Digester::default(), len: 0, space })
    }

    /// The files older than `age`: what was staged and left, and payloads with their digests.
    pub(super) fn older_than(&self, age: Duration) -> io::Result<Vec<(PathBuf, Option<Digest>)>> {
        let mut found = Vec::new();
        for item in fs::read_dir(&self.dir)? {
            let item = item?;
            if item.file_type()?.is_dir() {
                for file in fs::read_dir(item.path())? {
                    let file = file?;
                    let digest = file.file_name().to_str().and_then(|name| name.parse().ok());
                    if digest.is_some() {
                        found.push((file.path(), digest));
                    }
                }
            } else if item.file_name().as_encoded_bytes().starts_with(STAGED.as_bytes()) {
                found.push((item.path(), None));
            }
        }
        found.retain(|(path, _)| is_older(path, age));
        found.sort();
        Ok(found)
    }

    /// Removes those of `unreferenced` that are still older than `age`; tells how many.
    pub(super) fn remove(&self, unreferenced: &[&Path], age: Duration) -> io::Result<u64> {
        let lock = File::open(&self.dir)?;
        lock.lock()?;
        let old = unreferenced.iter().filter(|path| is_older(path, age));
        Ok(old.filter(|path| fs::remove_file(path).is_ok()).count() as u64)
    }
}

fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|past| past >= age))
}

/// A payload on its way into a file. Its work is done on tokio's threads for blocking work.
pub(super) struct Staging {
    files: Files,
    /// Absent while a thread has it, and after an error.
    staged: Option<StagedFile>,
}

struct StagedFile {
    path: PathBuf,
    file: Option<File>,
    digester: Digester,
    len: u64,
    space: Space,
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What cannot be removed now is swept later.
            fs::remove_file(&self.path).ok();
        }
    }
}

impl StagedFile {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.digester.update(piece);
        self.len += piece.len() as u64;
        let file = self.file.as_mut().expect("kept until it is finished");
        let mut rest = piece;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) && self.space.give_up() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn finish(mut self, files: &Files) -> Result<(Digest, u64), Error> {
        let digest = std::mem::take(&mut self.digester).finish();
        let path = files.path(digest);
        let folder = path.parent().expect("a payload's path has a folder");
        let sync = |file: &File, path: &Path| match file.sync_all() {
            Err(error) if !is_full(&error) => Err(files.poison.set(path, &error.to_string())),
            done => done.map_err(|error| failed(path, &error)),
        };
        files.poison.check()?;
        sync(self.file.as_ref().expect("kept until it is finished"), &self.path)?;
        let placed = || {
            fs::create_dir_all(folder)?;
            let all = File::open(&files.dir)?;
            let folder = File::open(folder)?;
            all.lock_shared()?;
            fs::rename(&self.path, &path)?;
            Ok((all, folder))
        };
        let (all, named) = placed().map_err(|error: io::Error| failed(&path, &error))?;
        self.file = None;
        // Its name is there already, so a failed sync cannot be taken back.
        for (file, path) in [(&named, folder), (&all, &files.dir)] {
            files.poison.check()?;
            file.sync_all().map_err(|error| files.poison.set(path, &error.to_string()))?;
        }
        Ok((digest, self.len))
    }
}

#[async_trait]
impl Staged for Staging {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        let Some(mut staged) = self.staged.take() else { return Err(given_up(&self.files)) };
        let write = move || match staged.write(&piece) {
            Ok(()) => Ok(staged),
            Err(error) => Err(failed(&staged.path, &error)),
        };
        self.staged = Some(spawn_blocking(write).await.map_err(|_| given_up(&self.files))??);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(Digest, u64), Error> {
        let Some(staged) = self.staged.take() else { return Err(given_up(&self.files)) };
        let files = self.files.clone();
        spawn_blocking(move || staged.finish(&files)).await.map_err(|_| given_up(&self.files))?
    }
}

fn given_up(files: &Files) -> Error {
    let message = "writing a payload was given up; begin it again".into();
    Error::Unavailable { file: files.dir.display().to_string().into(), message }
}

/// What an error means that was met while writing a payload: nothing refers to it yet.
fn failed(path: &Path, error: &io::Error) -> Error {
    let file = path.display().to_string().into();
    if is_full(error) {
        return Error::Full { file };
    }
    Error::Unavailable { file, message: format!("{error}; look at the disk and its folder").into() }
}

/// Content that is compared with its digest while it is read.
pub(super) fn checked(digest: Digest, len: u64, content: impl Read + Send + 'static) -> Content {
    Content {
        len,
        reader: Box::new(Checked { content, digest, digester: Some(Digester::default()) }),
    }
}

struct Checked<R> {
    content: R,
    digest: Digest,
    /// Absent once the end was seen.
    digester: Option<Digester>,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        if read > 0 {
            if let Some(digester) = &mut self.digester {
                digester.update(&buffer[..read]);
            }
        } else if !buffer.is_empty()
            && self.digester.take().is_some_and(|digester| digester.finish() != self.digest)
        {
            let message = format!("the payload `{}` is damaged", self.digest);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(read)
    }
}
