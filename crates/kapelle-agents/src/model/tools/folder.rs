//! The run's folder, as tools see it: nothing outside, and nothing that is a secret by its name.
//!
//! **Invariant:** the kernel resolves each path beneath the folder (`openat2`, `RESOLVE_BENEATH`): no
//! `..`, no link and no change of the tree meanwhile leads out. Where it cannot, nothing is opened.
//! What is a secret, or obeyed by others, is so by the name that it has in the end, not by that of a link.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::reserved::Reserved;
use crate::names::{is_obeyed, is_secret, is_secret_folder};

/// The longest file that is read, in bytes.
pub(super) const FILE_MAX: u64 = 4 << 20;
/// A folder beneath which is worked.
pub(super) struct Folder {
    fd: OwnedFd,
    /// What is reserved below it, by its place.
    secret: Vec<PathBuf>,
    obeyed: Vec<PathBuf>,
    links: Vec<PathBuf>,
}

/// Something in a folder.
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) is_dir: bool,
}

/// Why something cannot be had, for the model to read.
pub(super) type Refused = String;

impl Folder {
    pub(super) fn open(root: &Path, reserved: &Reserved) -> Result<Self, Refused> {
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, root, how, Mode::empty())
            .map_err(|error| format!("the run's folder cannot be opened: {error}"))?;
        let root = place(&fd)?;
        let (secret, obeyed) = (reserved.secret_in(&root)?, reserved.obeyed_in(&root));
        Ok(Self { fd, secret, obeyed, links: reserved.links_in(&root) })
    }

    /// The text of a file, as far as it is text.
    pub(super) fn read(&self, path: &str) -> Result<String, Refused> {
        let path = sound(path)?;
        // A pipe that nobody writes to must not keep us.
        let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(self.beneath(&path, how)?);
        let told = |error: std::io::Error| format!("`{}`: {error}", path.display());
        if !file.metadata().map_err(told)?.is_file() {
            return Err(format!("`{}` is no file", path.display()));
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(told)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(format!("`{}` is over 4 MiB", path.display()));
        }
        if bytes.iter().take(8_000).any(|byte| *byte == 0) {
            return Err(format!("`{}` is no text", path.display()));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What is in a folder, by name; without what is secret and without git's own.
    pub(super) fn list(&self, path: &str) -> Result<Vec<Entry>, Refused> {
        let path = sound(path)?;
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = Dir::new(self.beneath(&path, how)?).map_err(|error| told(&path, error))?;
        let mut entries = Vec::new();
        for entry in dir {
            let entry = entry.map_err(|error| told(&path, error))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let (path, is_dir) = (path.join(name), entry.file_type() == FileType::Directory);
            if matches!(name, "." | ".." | ".git") || self.is_secret(&path, is_dir.into()) {
                continue;
            }
            let shown = path.display().to_string();
            let shown = shown.strip_prefix("./").unwrap_or(&shown).to_owned();
            entries.push(Entry { path: shown, is_dir });
        }
        entries.sort_by(|one, two| one.path.cmp(&two.path));
        Ok(entries)
    }

    /// Writes a file whole, or not at all. Folders on the way are made.
    pub(super) fn write(&self, path: &str, text: &str, key: &str) -> Result<(), Refused> {
        let path = sound(path)?;
        let name = path.file_name().ok_or("a file needs a name")?;
        self.may_be_written(&path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let mut made = PathBuf::new();
        for part in parent.components() {
            made.push(part);
            self.make(&made)?;
        }
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = self.beneath(parent, how)?;
        let real = self.real(&folder)?.join(name);
        self.no_secret(&real, Kind::File)?;
        self.obeyed_by_none(&real)?;
        let draft =
            format!(".kapelle-draft-{}", &kapelle_core::Digest::of(key.as_bytes()).hex()[..16]);
        let there = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|is| is.st_mode);
        let mode = match there.map(FileType::from_raw_mode) {
            Some(FileType::RegularFile) => there.map(Mode::from_raw_mode),
            None | Some(FileType::Symlink) => None,
            Some(_) => return Err(format!("`{}` is there, and is no file", path.display())),
        };
        let written = self::draft(&folder, &draft, mode, text)
            .and_then(|()| renameat(&folder, &draft, &folder, name).map_err(std::io::Error::from));
        written.map_err(|error| {
            unlinkat(&folder, &draft, AtFlags::empty()).ok();
            format!("`{}`: {error}", path.display())
        })
    }

    /// Refuses a path before anything is made on the way to it, by its words and by where they lead.
    fn may_be_written(&self, path: &Path) -> Result<(), Refused> {
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let there = path.ancestors().skip(1).find_map(|folder| {
            let at = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            Some((folder, self.beneath(at, how).ok()?))
        });
        let mut places = vec![path.to_path_buf()];
        if let Some((folder, opened)) = there {
            let rest = path.strip_prefix(folder).expect("it is one of its ancestors");
            places.push(self.real(&opened)?.join(rest));
        }
        for place in places {
            self.no_secret(&place, Kind::File)?;
            self.obeyed_by_none(&place)?;
        }
        Ok(())
    }

    fn make(&self, path: &Path) -> Result<(), Refused> {
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if self.beneath(path, how).is_ok() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = self.beneath(parent.unwrap_or(Path::new(".")), how)?;
        let Some(name) = path.file_name() else { return Ok(()) };
        match mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(told(path, error)),
        }
    }

    fn beneath(&self, path: &Path, how: OFlags) -> Result<OwnedFd, Refused> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let kind = Kind::from(how.contains(OFlags::DIRECTORY));
        self.no_secret(path, kind)?;
        let opened = openat2(&self.fd, path, how, Mode::empty(), beneath);
        let opened = opened.map_err(|error| told(path, error))?;
        // A link has one name and leads to another.
        self.no_secret(&self.real(&opened)?, kind)?;
        Ok(opened)
    }

    /// Where something opened is, relative to the folder.
    fn real(&self, opened: &OwnedFd) -> Result<PathBuf, Refused> {
        let (root, real) = (place(&self.fd)?, place(opened)?);
        let below = real.strip_prefix(&root).map(Path::to_path_buf);
        below.map_err(|_| format!("`{}` leads out of the run's folder", real.display()))
    }

    fn is_secret(&self, path: &Path, kind: Kind) -> bool {
        let by_name = match kind {
            Kind::File => is_secret(path),
            Kind::Folder => is_secret_folder(path),
        };
        by_name || is_below(path, &self.secret)
    }

    fn no_secret(&self, path: &Path, kind: Kind) -> Result<(), Refused> {
        if !self.is_secret(path, kind) {
            return Ok(());
        }
        let is_reserved = is_below(path, &self.secret);
        let how = if is_reserved { "holds a key or is our own" } else { "is a secret by its name" };
        Err(format!("`{}` {how}", path.display()))
    }

    /// Refuses what makes others act who come upon it: git, editors, assistants, and we.
    fn obeyed_by_none(&self, path: &Path) -> Result<(), Refused> {
        let is_way = self.links.iter().any(|link| link == path.strip_prefix(".").unwrap_or(path));
        if !is_obeyed(path) && !is_below(path, &self.obeyed) && !is_way {
            return Ok(());
        }
        Err(format!("`{}` is not for tools to write: others act on it", path.display()))
    }
}

/// What is looked for.
#[derive(Clone, Copy)]
enum Kind {
    File,
    Folder,
}

impl From<bool> for Kind {
    fn from(is_folder: bool) -> Self {
        if is_folder { Self::Folder } else { Self::File }
    }
}

/// Whether a path is one of `places`, or below one.
fn is_below(path: &Path, places: &[PathBuf]) -> bool {
    let path = path.strip_prefix(".").unwrap_or(path);
    places.iter().any(|place| path.starts_with(place))
}

/// Where something opened is.
fn place(fd: &OwnedFd) -> Result<PathBuf, Refused> {
    let place = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    place.map_err(|error| format!("where it is cannot be told: {error}"))
}

/// Writes a file beside the one that it replaces, with the `mode` of that.
fn draft(folder: &OwnedFd, name: &str, mode: Option<Mode>, text: &str) -> std::io::Result<()> {
    // What a crash, or a command, has left under this name is not written to.
    unlinkat(folder, name, AtFlags::empty()).or_else(|error| match error {
        Errno::NOENT => Ok(()),
        error => Err(error),
    })?;
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, name, how, Mode::from_raw_mode(0o666))?);
    if let Some(mode) = mode {
        fchmod(&file, mode & (Mode::RWXU | Mode::RWXG | Mode::RWXO))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn told(path: &Path, error: Errno) -> Refused {
    match error {
        Errno::XDEV | Errno::LOOP => format!("`{}` leads out of the run's folder", path.display()),
        Errno::NOENT | Errno::NOTDIR => format!("there is no `{}`", path.display()),
        error => format!("`{}`: {error}", path.display()),
    }
}

/// A path that leads nowhere else by its words.
fn sound(path: &str) -> Result<PathBuf, Refused> {
    let path = Path::new(if path.is_empty() { "." } else { path });
    for part in path.components() {
        match part {
            Component::CurDir | Component::Normal(_) => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(format!("`{}` leads out of the run's folder", path.display()));
            }
        }
    }
    Ok(path.to_path_buf())
}
