//! Disks that are files: made, mounted, cloned at any moment.
//!
//! memory → `host.img` → btrfs, which clones files in no time → `disk-N.img` → ext4 → the store.

use std::fs::{File, create_dir, remove_file};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::kill_node::eventually;
use crate::namespace::ROOT;

/// How much all disks may take together.
const HOST_BYTES: u64 = 8 << 30;
/// How large a disk is; it takes what is written to it.
const DISK_BYTES: u64 = 256 << 20;

/// What the disks are made from.
pub(crate) struct Shelf {
    blank: PathBuf,
}

impl Shelf {
    /// Mounts the file system that clones, over [`ROOT`], and formats a first disk.
    pub(crate) fn build() -> Self {
        let host = Path::new(ROOT).join("host.img");
        give("mount", &["-t", "tmpfs", "none", ROOT]);
        File::create_new(&host).and_then(|file| file.set_len(HOST_BYTES)).unwrap();
        let image = host.to_str().unwrap();
        give("mkfs.btrfs", &["-q", image]);
        give("mount", &["-o", "loop", image, ROOT]);
        let blank = Path::new(ROOT).join("blank.img");
        File::create_new(&blank).and_then(|file| file.set_len(DISK_BYTES)).unwrap();
        let whole = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        give("mkfs.ext4", &["-q", "-E", whole, "-J", "size=4", blank.to_str().unwrap()]);
        Self { blank }
    }
}

/// A disk in use.
pub(crate) struct Disk {
    image: PathBuf,
    /// Where it is mounted.
    at: PathBuf,
    /// How many it is the clone of.
    generation: u32,
}

impl Disk {
    /// A new disk, mounted at `at`.
    pub(crate) fn new(shelf: &Shelf, at: PathBuf) -> Self {
        create_dir(&at).unwrap();
        let image = at.with_extension("0.img");
        clone(&shelf.blank, &image);
        let disk = Self { image, at, generation: 0 };
        disk.mount();
        disk
    }

    /// What the disk has at this moment, and how long it took to take it.
    pub(crate) fn cut(&self) -> (PathBuf, Duration) {
        let image = self.at.with_extension(format!("{}.img", self.generation + 1));
        let begun = Instant::now();
        clone(&self.image, &image);
        (image, begun.elapsed())
    }

    /// Puts `image` in its place. Waits until nobody uses it any more: whoever holds a file of it
    /// is of a world that is gone.
    pub(crate) fn replace(&mut self, image: PathBuf) {
        self.unmount();
        self.image = image;
        self.generation += 1;
        self.mount();
    }

    fn mount(&self) {
        mount(&self.image, &self.at);
    }

    fn unmount(&self) {
        unmount(&self.at);
        remove_file(&self.image).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a panic the processes may be there still; then the namespace's end unmounts it.
        if !std::thread::panicking() {
            self.unmount();
        }
    }
}

/// Mounts a disk that is a file.
pub(crate) fn mount(image: &Path, at: &Path) {
    give("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()]);
}

/// Unmounts what is mounted at `at`, once nobody uses it any more.
pub(crate) fn unmount(at: &Path) {
    let unmount = || Command::new("umount").arg(at).output().unwrap().status.success();
    eventually("the processes that use it are gone", unmount);
}

fn clone(from: &Path, to: &Path) {
    let (from, to) = (File::open(from).unwrap(), File::create_new(to).unwrap());
    rustix::fs::ioctl_ficlone(&to, &from).unwrap();
}

/// Gives a command that must succeed.
pub(crate) fn give(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}: {said}", output.status);
}
