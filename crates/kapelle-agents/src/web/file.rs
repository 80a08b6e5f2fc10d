//! Files, only below certain folders.
//!
//! **Invariant:** the kernel resolves the path beneath the folder in one step (`openat2`,
//! `RESOLVE_BENEATH`): no `..`, no symbolic link and no change of the tree meanwhile leads out of
//! it. Where it cannot, nothing is read.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kapelle_core::port::agent::{Failure, FailureKind};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::input::invalid;

/// What is in the file at `path`, which has to be below one of `roots`.
pub(super) fn read<'a>(
    path: &Path,
    roots: impl Iterator<Item = &'a Path>,
    max: usize,
) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let mut last = None;
    for root in roots.filter(|root| root.is_absolute()) {
        let Some(below) = below(path, root) else { continue };
        match open(root, &below) {
            Ok(file) => return content(file, path, max),
            Err(error) => last = Some(error),
        }
    }
    let outside = || {
        let message = format!("`{name}` is not below the run's folder nor a root of `web.roots`");
        Failure::new(FailureKind::Denied, "outside_roots", message)
    };
    Err(match last {
        None | Some(Errno::XDEV | Errno::LOOP) => outside(),
        Some(Errno::NOENT | Errno::NOTDIR) => {
            let is_pattern = path.as_os_str().as_encoded_bytes().iter().any(|b| b"*?[".contains(b));
            let hint = if is_pattern { "; a pattern is not expanded: name each file" } else { "" };
            invalid("no_such_file", format!("there is no file `{name}`{hint}"))
        }
        Some(error) => invalid("unreadable", format!("`{name}` cannot be read: {error}")),
    })
}

/// The path from `root` on; both may be written with or without the links that lead there.
fn below(path: &Path, root: &Path) -> Option<PathBuf> {
    let real = || path.strip_prefix(root.canonicalize().ok()?).ok().map(Path::to_path_buf);
    path.strip_prefix(root).ok().map(Path::to_path_buf).or_else(real)
}

fn open(root: &Path, below: &Path) -> Result<File, Errno> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, folder, Mode::empty())?;
    // A pipe that nobody writes to must not keep us.
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(root, below, how, Mode::empty(), beneath).map(File::from)
}

fn content(file: File, path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let unreadable =
        |error: std::io::Error| invalid("unreadable", format!("`{name}` cannot be read: {error}"));
    let kind = file.metadata().map_err(unreadable)?;
    if kind.is_dir() {
        let message = format!("`{name}` is a folder: name each file in it that is to be read");
        return Err(invalid("unreadable", message));
    }
    if !kind.is_file() {
        return Err(invalid("unreadable", format!("`{name}` is no file")));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > max {
        let message = format!("`{name}` is longer than {max} bytes");
        return Err(Failure::new(FailureKind::Refused, "too_large", message));
    }
    Ok(bytes)
}
