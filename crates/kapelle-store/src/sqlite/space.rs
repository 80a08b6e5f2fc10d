//! What happens when the disk is full: a file that keeps space for the worst is given up, new runs
//! are refused, and what is under way may still say how it ended.
//!
//! **Invariants:** a file that is there and has not its size was given up, by whichever process: none
//! takes new runs then, or the next one would eat what the first made free. They are taken again
//! once there is space for the file and some more, so that the two states do not alternate; nothing
//! here waits, it is looked at when somebody writes. A disk that never had room for the file has none.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};

/// The size of the file.
const BALLAST: u64 = 16 << 20;
/// What must be free besides to go back to normal.
const MORE: u64 = 4 << 20;
/// How much is written to find out whether anything can be.
const PROBE: usize = 64 << 10;
/// How often it is tried to go back to normal.
const PACE: Duration = Duration::from_secs(1);

/// The space of a store's folder.
#[derive(Clone)]
pub(super) struct Space(Arc<Inner>);

struct Inner {
    ballast: PathBuf,
    probe: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// How large the file is while all is well; nothing where the disk has no room for it.
    size: u64,
    /// When it was last tried to go back to normal; `None` while all is well.
    tight: Option<Instant>,
}

impl Space {
    /// The space of the store in `dir`.
    pub(super) fn open(dir: &Path) -> Self {
        let ballast = dir.join("ballast");
        let there = len(&ballast);
        let wanted = if there.is_none() { BALLAST } else { BALLAST + MORE };
        let is_kept = there >= Some(BALLAST) || reserve(&ballast, wanted, BALLAST).is_ok();
        if there.is_none() && !is_kept {
            // Left behind, it would be one that was given up.
            std::fs::remove_file(&ballast).ok();
        }
        let size = if there.is_some() || is_kept { BALLAST } else { 0 };
        let tight = (size > 0 && !is_kept).then(Instant::now);
        let state = State { size, tight };
        let (state, probe) = (Mutex::new(state), dir.join(".probe"));
        Self(Arc::new(Inner { ballast, probe, state }))
    }

    /// The same for somebody who only reads: nothing is kept, and nothing given up.
    pub(super) fn look(dir: &Path) -> Self {
        let state = Mutex::new(State { size: 0, tight: Some(Instant::now()) });
        Self(Arc::new(Inner { ballast: dir.join("ballast"), probe: dir.join(".probe"), state }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up the file; whether that may have made space that was not there before.
    pub(super) fn give_up(&self) -> bool {
        let mut state = self.state();
        if state.tight.is_some() {
            return false;
        }
        state.tight = Some(Instant::now());
        tracing::warn!(
            "no space left for `{}`: new runs are refused until some is free; what runs goes on \
             for as long as the reserve lasts",
            self.0.ballast.parent().unwrap_or(Path::new(".")).display()
        );
        File::options().write(true).open(&self.0.ballast).and_then(|file| file.set_len(0)).is_ok()
    }

    /// Whether new work is to be refused. Looks now and then whether there is space again.
    pub(super) fn is_tight(&self) -> bool {
        let mut state = self.state();
        let is_kept = state.size > 0 && len(&self.0.ballast) >= Some(state.size);
        let is_fine = is_kept || (state.size == 0 && state.tight.is_none());
        if !is_fine && state.tight.is_some_and(|looked| looked.elapsed() < PACE) {
            return true;
        }
        if !is_fine && reserve(&self.0.ballast, state.size + MORE, state.size).is_err() {
            state.tight = Some(Instant::now());
            return true;
        }
        if state.tight.take().is_some() {
            tracing::info!("there is space for `{}` again", self.0.ballast.display());
        }
        false
    }

    /// Whether a write would fail now for want of space: SQLite does not tell a used up quota from
    /// a broken disk.
    pub(super) fn is_used_up(&self) -> bool {
        let written = File::create(&self.0.probe).and_then(|mut file| file.write_all(&[0; PROBE]));
        // It is empty or will be written again.
        std::fs::remove_file(&self.0.probe).ok();
        written.is_err_and(|error| is_full(&error))
    }
}

/// Whether it was space that was missing.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn len(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|found| found.len())
}

/// Makes a file of `size` bytes that are its own, if `wanted` bytes are to be had.
fn reserve(path: &Path, wanted: u64, size: u64) -> io::Result<()> {
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    let taken = fallocate(&file, FallocateFlags::empty(), 0, wanted);
    file.set_len(if taken.is_ok() { size } else { 0 })?;
    Ok(taken?)
}
