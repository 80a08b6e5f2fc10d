//! What a command made although others would obey it: it loses its name when the command has ended.
//!
//! **Invariants:** what was there before is known by its device and number, which nothing else gets while
//! it stands behind the wall. Nothing is removed: somebody else may have made it meanwhile. No link is
//! followed. What stands where the command could write nothing on the way is not its work, and is left alone.
//! Absent: folders whose path below the root is longer than paths can be.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, chmodat, fchmod, fstat, openat,
    openat2, renameat, statat,
};
use rustix::io::Errno;

use super::confine::{User, Walls};
use crate::names::{is_agents, obeyed};

/// What comes behind the name of something that is not to be obeyed.
pub(crate) const END: &str = ".not-obeyed";
/// So much is left of a long name, in bytes.
const NAME_MAX: usize = 200;
/// So many are told of.
const TOLD_MAX: usize = 20;

/// What something is known by: its device and number; a link, by those of what it leads to.
pub(crate) fn id_of(path: &Path) -> io::Result<String> {
    let found = path.symlink_metadata()?;
    if !found.is_symlink() {
        return Ok(format!("{}:{}", found.dev(), found.ino()));
    }
    Ok(match path.metadata() {
        Ok(to) => format!("a link to {}:{}", to.dev(), to.ino()),
        Err(_) => format!("a link to nothing, at {}", path.display()),
    })
}

/// Whether a folder with these in it is a repository by itself, without a `.git`.
pub(crate) fn is_repository<'a>(names: impl Fn(&'a str) -> bool) -> bool {
    names("HEAD") && (names("commondir") || (names("objects") && names("refs")))
}

/// Takes their names from those that were not known when the command began. What to say of it.
pub(super) fn sweep(walls: &Walls) -> Vec<String> {
    let mut sweep = match Sweep::of(walls) {
        Ok(sweep) => sweep,
        Err(error) => return vec![format!("`{}` was not looked through: {error}", walls.root)],
    };
    while let Some((folder, was_open)) = sweep.folders.pop() {
        if let Err(error) = sweep.folder(&folder, was_open)
            && error != Errno::NOENT
        {
            sweep.said.push(format!("`{}` was not looked through: {error}", folder.display()));
        }
    }
    for link in &walls.links {
        sweep.link(Path::new(&link.path), &link.id);
    }
    let more = sweep.said.len().saturating_sub(TOLD_MAX);
    sweep.said.truncate(TOLD_MAX);
    sweep.said.extend((more > 0).then(|| format!("… and {more} more")));
    sweep.said
}

struct Sweep<'a> {
    root: OwnedFd,
    name: &'a Path,
    known: BTreeSet<&'a str>,
    /// Where it has not been yet, relative to the root, and whether the command could write on the way there.
    folders: Vec<(PathBuf, bool)>,
    user: User,
    said: Vec<String>,
}

impl<'a> Sweep<'a> {
    fn of(walls: &'a Walls) -> io::Result<Self> {
        let user = User::of(walls)?;
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &walls.root, how, Mode::empty())?;
        let known = walls.known.iter().map(String::as_str).collect();
        let (name, folders) = (Path::new(&walls.root), vec![(PathBuf::from("."), false)]);
        Ok(Self { root, name, known, folders, user, said: Vec::new() })
    }

    fn folder(&mut self, path: &Path, was_open: bool) -> Result<(), Errno> {
        let folder = self.open(path)?;
        let is_open = was_open || self.user.may_change(&fstat(&folder)?);
        let entries: Vec<_> = Dir::read_from(&folder)?.collect::<Result<_, _>>()?;
        let has =
            |name: &str| entries.iter().any(|is| is.file_name().to_bytes() == name.as_bytes());
        let is_new_repository = is_repository(has) && !self.knows(path);
        let own = Path::new(self.name.file_name().unwrap_or_default()).join(path);
        for entry in &entries {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let at = path.join(OsStr::from_bytes(name.to_bytes()));
            let is_link = || self.name.join(&at).is_symlink();
            let is_obeyed = obeyed(&own, &name.to_string_lossy())
                || (is_agents(OsStr::from_bytes(name.to_bytes())) && is_link());
            if is_obeyed && self.knows(&at) {
                // It stood behind the wall, with all that is in it.
                continue;
            }
            let is_head = is_new_repository && name.to_bytes() == b"HEAD";
            let now =
                if is_open && (is_obeyed || is_head) { self.unname(&folder, &at) } else { at };
            if is_folder(&folder, entry.file_type(), &now) {
                self.folders.push((now, is_open));
            }
        }
        Ok(())
    }

    /// A link that leads elsewhere now, or is none, loses its name.
    fn link(&mut self, at: &Path, id: &str) {
        let parent = at.parent().filter(|parent| !parent.as_os_str().is_empty());
        let is_other = id_of(&self.name.join(at)).is_ok_and(|now| now != id);
        if is_other && let Ok(folder) = self.open(parent.unwrap_or(Path::new("."))) {
            self.unname(&folder, at);
        }
    }

    fn knows(&self, path: &Path) -> bool {
        id_of(&self.name.join(path)).is_ok_and(|id| self.known.contains(&*id))
    }

    /// Opens a folder, also one that the command has closed to its owner.
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open = |path: &Path| openat2(&self.root, path, how, Mode::empty(), beneath);
        let (parent, name) = (path.parent(), path.file_name());
        match (open(path), parent, name) {
            (Err(Errno::ACCESS), Some(parent), Some(name)) => {
                chmodat(open(parent)?, name, Mode::RWXU, AtFlags::empty())?;
                open(path)
            }
            (opened, ..) => opened,
        }
    }

    /// Gives something another name, and says so. Where it is then.
    fn unname(&mut self, folder: &OwnedFd, at: &Path) -> PathBuf {
        let name = at.file_name().unwrap_or_default();
        let shown = name.to_string_lossy();
        let start = &shown[..shown.floor_char_boundary(NAME_MAX)];
        let free = (0_u32..).map(|number| match number {
            0 => format!("{start}{END}"),
            number => format!("{start}{END}-{number}"),
        });
        let is_taken = |name: &String| statat(folder, &**name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let Some(now) = free.into_iter().find(|name| !is_taken(name)) else {
            return at.to_path_buf();
        };
        let rename = || renameat(folder, name, folder, &*now);
        let renamed = match rename() {
            Err(Errno::ACCESS) => fchmod(folder, Mode::RWXU).and_then(|()| rename()),
            renamed => renamed,
        };
        let told = at.strip_prefix(".").unwrap_or(at).display();
        let (end, at) = match renamed {
            Ok(()) => (format!("it is `{now}` now"), at.with_file_name(&now)),
            Err(error) => (format!("it stays, though: {error}"), at.to_path_buf()),
        };
        self.said.push(format!("`{told}` is not for commands to make: {end}"));
        at
    }
}

fn is_folder(folder: &OwnedFd, kind: FileType, path: &Path) -> bool {
    let looked = || statat(folder, path.file_name().unwrap_or_default(), AtFlags::SYMLINK_NOFOLLOW);
    match kind {
        FileType::Unknown => {
            looked().is_ok_and(|is| FileType::from_raw_mode(is.st_mode) == FileType::Directory)
        }
        kind => kind == FileType::Directory,
    }
}
