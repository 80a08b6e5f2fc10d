//! The root of a confined command: system folders, a few files of `/etc`, its own folder, a temporary one.
//!
//! **Invariant:** what is not put here does not exist for the command, and what it may not change is
//! mounted read-only: not only its bytes, but its owner and rights as well, which Landlock leaves alone.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};

use super::confine::Walls;
use super::sweep::id_of;

/// What a command may write to besides its folder; gone with it.
pub(super) const TEMPORARY: &str = "/tmp";
/// Folders that programs are made of.
const SYSTEM: [&str; 10] =
    ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "nix", "gnu"];
/// What programs read of `/etc`. Other things there are nobody's business.
const ETC: [&str; 17] = [
    "alternatives",
    "ca-certificates",
    "gitconfig",
    "group",
    "java",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "passwd",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Where the machine's own root is while ours is made.
const OLD: &str = "/old";
/// What stands where there is a file that is not to be seen.
const BLANK: &str = "/blank";

/// What may be read, besides what may be written.
pub(super) fn readable() -> impl Iterator<Item = PathBuf> {
    SYSTEM.iter().chain(&["etc"]).map(|name| Path::new("/").join(name))
}

pub(super) fn devices() -> impl Iterator<Item = PathBuf> {
    DEVICES.iter().map(|name| Path::new("/dev").join(name))
}

/// Makes the root, in mounts that are this process's own, and stands in `cwd` then.
pub(super) fn make(walls: &Walls, cwd: &str) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    turn()?;
    for name in SYSTEM {
        system(name).map_err(|error| about(name, &error))?;
    }
    for name in ETC {
        let (from, to) = (old(&format!("/etc/{name}")), Path::new("/etc").join(name));
        show(&from, &to).map_err(|error| about(name, &error))?;
    }
    devices_and_processes()?;
    temporary(TEMPORARY, &format!("mode=1777,size={}", walls.limits.temporary_bytes))?;
    own(walls).map_err(|error| about(&walls.root, &error))?;
    unmount(OLD, UnmountFlags::DETACH)?;
    std::fs::remove_dir(OLD)?;
    read_only(Path::new("/"))?;
    std::env::set_current_dir(cwd)
}

/// An empty root, with the old one in it.
fn turn() -> io::Result<()> {
    temporary(TEMPORARY, "mode=0755")?;
    std::env::set_current_dir(TEMPORARY)?;
    std::fs::create_dir(&OLD[1..])?;
    rustix::process::pivot_root(".", &OLD[1..])?;
    std::env::set_current_dir("/")?;
    std::fs::create_dir(TEMPORARY)?;
    std::fs::write(BLANK, "")?;
    Ok(rustix::fs::chmod(BLANK, Mode::empty())?)
}

fn system(name: &str) -> io::Result<()> {
    let (from, to) = (old(&format!("/{name}")), Path::new("/").join(name));
    match from.symlink_metadata() {
        Ok(found) if found.is_symlink() => symlink(from.read_link()?, to),
        Ok(_) => show(&from, &to),
        Err(_) => Ok(()),
    }
}

/// Shows what is at `from`, if there is anything, at `to`, read-only.
fn show(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(found) = from.metadata() else { return Ok(()) };
    if found.is_dir() {
        std::fs::create_dir_all(to)?;
    } else {
        std::fs::create_dir_all(to.parent().unwrap_or(to))?;
        std::fs::write(to, "")?;
    }
    mount_bind_recursive(from, to)?;
    read_only(to)
}

fn devices_and_processes() -> io::Result<()> {
    std::fs::create_dir("/dev")?;
    for device in devices() {
        std::fs::write(&device, "")?;
        mount_bind(old(&device.to_string_lossy()), &device)?;
    }
    for (name, fd) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        symlink(format!("/proc/self/fd{fd}"), Path::new("/dev").join(name))?;
    }
    // For its links: Landlock lets nobody read what is in its files.
    std::fs::create_dir("/proc")?;
    mount_bind_recursive(old("/proc"), "/proc")?;
    read_only(Path::new("/proc"))
}

/// The command's own folder, without what it must not see or change.
fn own(walls: &Walls) -> io::Result<()> {
    let root = Path::new(&walls.root);
    std::fs::create_dir_all(root)?;
    mount_bind_recursive(old(&walls.root), root)?;
    remount(root, MountFlags::NOSUID | MountFlags::NODEV)?;
    // What is mounted on cannot be renamed.
    for folder in &walls.ways {
        let path = root.join(folder);
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            mount_bind_recursive(&path, &path)?;
        }
    }
    for hidden in &walls.hidden {
        let path = root.join(hidden);
        match path.symlink_metadata() {
            Ok(found) if found.is_dir() => {
                temporary(&path.to_string_lossy(), "mode=0000,size=4k")?;
                read_only(&path)?;
            }
            Ok(found) if !found.is_symlink() => {
                mount_bind(BLANK, &path)?;
                read_only(&path)?;
            }
            // It went meanwhile; and what a link leads to is seen, or not, where that is.
            _ => {}
        }
    }
    for kept in &walls.kept {
        let path = root.join(&kept.path);
        if id_of(&path).ok().as_ref() != Some(&kept.id) {
            let changed = format!("`{}` changed while its wall was made; try again", kept.path);
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, changed));
        }
        mount_bind_recursive(&path, &path)?;
        read_only(&path)?;
    }
    Ok(())
}

fn temporary(at: &str, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("tmpfs", at, "tmpfs", flags, &*options)?)
}

fn read_only(path: &Path) -> io::Result<()> {
    remount(path, MountFlags::RDONLY | MountFlags::NOSUID)
}

/// Adds `flags` to those that a mount has: less than before is not allowed in a user's namespace.
fn remount(path: &Path, flags: MountFlags) -> io::Result<()> {
    let now = statvfs(path)?.f_flag;
    let kept = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ];
    let kept = kept.iter().filter(|(is, _)| now.contains(*is)).map(|(_, flag)| *flag);
    Ok(mount_remount(path, kept.fold(flags | MountFlags::BIND, |all, flag| all | flag), "")?)
}

fn old(path: &str) -> PathBuf {
    Path::new(OLD).join(path.trim_start_matches('/'))
}

fn about(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("`{what}`: {error}"))
}
