//! Whose turn it is to write, among the processes that share a store.
//!
//! Two lock files make a queue of the crowd: who wants to write waits at `next`, holds it while it
//! waits for `turn`, and frees it once in. So whoever has just written finds the next one waiting
//! before it, and no process starves another. The locks belong to open files: they end with their
//! process, however it ends.
//!
//! A lock that is taken cannot be waited for with a deadline; a thread of its own waits instead.
//! **Invariant:** the locks are touched by the caller only while that thread is idle.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The way to the right to write.
pub(super) struct Turnstile {
    gate: Arc<Gate>,
    /// Whether the thread that waits is there.
    waiter: bool,
}

struct Gate {
    next: File,
    turn: File,
    wish: Mutex<Wish>,
    changed: Condvar,
}

enum Wish {
    /// The thread does nothing.
    None,
    /// The caller waits for the thread to get in.
    Wanted,
    /// The caller has given up; the thread has not.
    Abandoned,
    /// The thread got in, or never will.
    Settled(io::Result<()>),
    /// The caller is gone.
    Closed,
}

impl Turnstile {
    /// The turnstile of the store in `dir`.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let open = |name| {
            File::options().read(true).write(true).create(true).truncate(false).open(dir.join(name))
        };
        let (next, turn) = (open("next")?, open("turn")?);
        let (wish, changed) = (Mutex::new(Wish::None), Condvar::new());
        Ok(Self { gate: Arc::new(Gate { next, turn, wish, changed }), waiter: false })
    }

    /// Waits at most `patience` for the turn; `false` if others kept it.
    pub(super) fn enter(&mut self, patience: Duration) -> io::Result<bool> {
        let mut wish = self.gate.wish();
        if matches!(*wish, Wish::None) && self.gate.try_enter()? {
            return Ok(true);
        }
        *wish = Wish::Wanted;
        drop(wish);
        self.wake_waiter()?;
        let wish = self.gate.wish();
        let waiting = |wish: &mut Wish| matches!(wish, Wish::Wanted);
        let (mut wish, _) = self
            .gate
            .changed
            .wait_timeout_while(wish, patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *wish, Wish::None) {
            Wish::Settled(entered) => entered.map(|()| true),
            _ => {
                *wish = Wish::Abandoned;
                Ok(false)
            }
        }
    }

    /// Ends the turn that [`Self::enter`] began.
    pub(super) fn leave(&self) -> io::Result<()> {
        self.gate.turn.unlock()
    }

    fn wake_waiter(&mut self) -> io::Result<()> {
        if !self.waiter {
            let gate = Arc::clone(&self.gate);
            thread::Builder::new().name("kapelle-turn".into()).spawn(move || gate.wait())?;
            self.waiter = true;
        }
        self.gate.changed.notify_all();
        Ok(())
    }
}

impl Drop for Turnstile {
    fn drop(&mut self) {
        *self.gate.wish() = Wish::Closed;
        self.gate.changed.notify_all();
    }
}

impl Gate {
    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets in if nobody is there. Otherwise `next` may stay taken: the thread goes on from it.
    fn try_enter(&self) -> io::Result<bool> {
        if !try_lock(&self.next)? || !try_lock(&self.turn)? {
            return Ok(false);
        }
        self.next.unlock()?;
        Ok(true)
    }

    fn enter(&self) -> io::Result<()> {
        lock(&self.next)?;
        lock(&self.turn)?;
        self.next.unlock()
    }

    /// The life of the thread.
    fn wait(&self) {
        loop {
            let idle = |wish: &mut Wish| matches!(wish, Wish::None | Wish::Settled(_));
            let wish = self.changed.wait_while(self.wish(), idle);
            if matches!(*wish.unwrap_or_else(PoisonError::into_inner), Wish::Closed) {
                return;
            }
            let entered = self.enter();
            let mut wish = self.wish();
            match *wish {
                Wish::Wanted => *wish = Wish::Settled(entered),
                Wish::Closed => return,
                Wish::None | Wish::Abandoned | Wish::Settled(_) => {
                    // Nobody wants it any more. If this fails, the locks end with the process.
                    self.turn.unlock().ok();
                    *wish = Wish::None;
                }
            }
            self.changed.notify_all();
        }
    }
}

fn lock(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_others_keep_is_given_up_and_can_be_had_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Turnstile::new(dir.path()).unwrap();
        let mut second = Turnstile::new(dir.path()).unwrap();
        assert!(first.enter(Duration::ZERO).unwrap());
        assert!(!second.enter(Duration::from_millis(5)).unwrap());
        assert!(!second.enter(Duration::from_millis(5)).unwrap());
        first.leave().unwrap();
        assert!(second.enter(Duration::from_secs(10)).unwrap());
        assert!(!first.enter(Duration::from_millis(5)).unwrap());
        second.leave().unwrap();
        assert!(first.enter(Duration::from_secs(10)).unwrap());
    }

    #[test]
    fn two_busy_writers_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let inside = Mutex::new(());
        let turns: Vec<u32> = thread::scope(|scope| {
            let writer = || {
                let mut turnstile = Turnstile::new(dir.path()).unwrap();
                for _ in 0..500 {
                    assert!(turnstile.enter(Duration::from_secs(10)).unwrap());
                    drop(inside.try_lock().expect("one at a time"));
                    turnstile.leave().unwrap();
                }
                500
            };
            let writers = [scope.spawn(writer), scope.spawn(writer), scope.spawn(writer)];
            writers.map(|writer| writer.join().unwrap()).into()
        });
        assert_eq!(turns, [500, 500, 500]);
    }
}
