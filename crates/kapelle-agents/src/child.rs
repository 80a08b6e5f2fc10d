//! `__child`: the process between us and a command, so that our death is the death of all it started.
//!
//! **Invariants:** once the pipe to our parent ends, nothing that the command ever started is left,
//! `setsid` and double forks included (this process is their subreaper). The `kids` lock is held
//! before the command starts, and by every descendant until it ends.
//!
//! One thread, no async: it copies no output (the command writes to the parent's pipes itself).
//! The other end is `process/launch.rs`. A command of a model stands behind a wall: `confine`.

pub(crate) mod confine;
mod root;
pub(crate) mod sweep;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};

/// The first argument that makes an executable the launcher of a command.
pub const ARG: &str = "__child";
/// The variable that names the `kids` lock file; the command does not see it.
pub(crate) const KIDS: &str = "KAPELLE_KIDS";
/// The variable that names the attempt's folder for artifacts.
pub(crate) const OUT: &str = "KAPELLE_OUT";
/// What a launcher is called in lists of processes. Whoever kills all processes named `kapelle`
/// must not kill those that clear up after them.
pub(crate) const NAME: &str = "kpl-child";

/// What to start, from the parent: its length (8 bytes, little endian), then JSON. A byte after
/// that asks for a gentle end; the end of the stream is the parent's death.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: Option<String>,
    pub(crate) grace_ms: u64,
    /// What it is confined to; absent: to nothing.
    #[serde(default)]
    pub(crate) confined: Option<confine::Walls>,
}

/// How it ended, to the parent, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Exited(i32),
    Killed(i32),
    NotStarted {
        errno: i32,
        message: String,
    },
    NoLock(String),
    /// It was to stand behind a wall of which this is missing.
    NotConfined(String),
}

/// What the parent is told at last.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) report: Report,
    /// What lost its name, in words, for the model and for people.
    pub(crate) swept: Vec<String>,
}

impl Report {
    #[expect(clippy::needless_pass_by_value, reason = "it ends as one")]
    fn not_started(error: io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(0);
        Self::NotStarted { errno, message: error.to_string() }
    }
}

/// Runs one command as the parent at the other end of stdin says, and leaves nothing behind.
///
/// To be called before anything else when the first argument is [`ARG`]. Prints nothing.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().nth(2).is_some_and(|arg| arg == confine::STAGE) {
        return confine::main();
    }
    if supervise().is_ok() {
        return ExitCode::SUCCESS;
    }
    // The parent is gone, or will know from our silence that we failed. It would have removed the
    // attempt's folder; now nobody else does.
    if let Some(folder) = std::env::var_os(OUT) {
        std::fs::remove_dir_all(folder).ok();
    }
    ExitCode::FAILURE
}

fn supervise() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    std::fs::write("/proc/self/comm", NAME)?;
    keep_to_ourselves()?;
    let mut parent = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
    let spec = read_spec(&mut parent)?;
    let kids = std::env::var_os(KIDS);
    let end = match kids.as_deref().map_or(Ok(()), hold) {
        Err(error) => End { report: Report::NoLock(error.to_string()), swept: Vec::new() },
        // Only now: whoever finds the lock free knows that a child which has yet to take it will
        // see that its parent is dead, and start nothing.
        Ok(()) if hung_up(&parent)? => return Err(io::ErrorKind::BrokenPipe.into()),
        Ok(()) => work(&spec, &parent)?,
    };
    parent.write_all(&serde_json::to_vec(&end)?)
}

/// What our parent left open by mistake is nothing for commands.
fn keep_to_ourselves() -> io::Result<()> {
    let open = std::fs::read_dir("/proc/self/fd")?;
    let fds = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    for fd in fds.collect::<Vec<_>>().into_iter().filter(|fd| *fd > 2) {
        #[expect(
            unsafe_code,
            reason = "nobody else knows these; one that is closed by now is an error"
        )]
        // SAFETY: it is used for this call alone, which neither reads, writes nor closes.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC).ok();
    }
    Ok(())
}

/// Starts the command and waits for the end of all it started.
fn work(spec: &Spec, parent: &UnixStream) -> io::Result<End> {
    let started = match &spec.confined {
        Some(walls) => confine::start(spec, walls)?,
        None => start(spec).map_err(Report::not_started),
    };
    let report = match started {
        Ok(main) => Watch { main, parent, end: None }.run(spec),
        Err(report) => Ok(report),
    };
    let swept = spec.confined.as_ref().map_or_else(Vec::new, sweep::sweep);
    for line in &swept {
        // It is the command's stderr, too.
        writeln!(io::stderr(), "{line}").ok();
    }
    Ok(End { report: report?, swept })
}

fn read_spec(parent: &mut UnixStream) -> io::Result<Spec> {
    let mut length = [0; 8];
    parent.read_exact(&mut length)?;
    let mut text = Vec::new();
    parent.take(u64::from_le_bytes(length)).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn start(spec: &Spec) -> io::Result<Pid> {
    let (program, args) = spec.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(args).current_dir(&spec.cwd).env_remove(KIDS).envs(&spec.env).process_group(0);
    command.stdin(match &spec.stdin {
        Some(text) => Stdio::from(in_memory(text)?),
        None => Stdio::null(),
    });
    let child = command.spawn()?;
    Ok(Pid::from_child(&child))
}

/// Takes a share of the lock that this process and all it starts hold to their end.
fn hold(kids: &OsStr) -> io::Result<()> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(kids)?;
    // Whoever inherits it is to hold it, not to write there.
    let file = File::open(kids).inspect(|_| drop(file))?;
    file.lock_shared()?;
    rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
    // Never closed: the end of the process frees it.
    std::mem::forget(file);
    Ok(())
}

fn in_memory(text: &str) -> io::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("stdin", flags)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

fn hung_up(parent: &UnixStream) -> io::Result<bool> {
    let mut fds = [PollFd::new(parent, PollFlags::IN)];
    poll(&mut fds, 0)?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}

/// A command under way.
struct Watch<'a> {
    main: Pid,
    parent: &'a UnixStream,
    end: Option<WaitStatus>,
}

impl Watch<'_> {
    /// Waits for the end of the command or of the parent, then clears up, whatever happened.
    fn run(mut self, spec: &Spec) -> io::Result<Report> {
        let watched = self.watch(Duration::from_millis(spec.grace_ms));
        self.clear()?;
        watched?;
        Ok(self.report())
    }

    fn watch(&mut self, grace: Duration) -> io::Result<()> {
        let pidfd = rustix::process::pidfd_open(self.main, rustix::process::PidfdFlags::empty())?;
        let mut deadline = None;
        while self.reap()? && !self.is_over(deadline) {
            let mut fds =
                [PollFd::new(self.parent, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
            // The pidfd of a command that has ended is always ready.
            let watched = if self.end.is_some() { &mut fds[..1] } else { &mut fds[..] };
            poll(watched, if deadline.is_some() { 20 } else { 1000 })?;
            if fds[0].revents().is_empty() {
                continue;
            }
            if !matches!(self.parent.read(&mut [0]), Ok(1)) {
                break;
            }
            if deadline.is_none() && self.end.is_none() {
                deadline = Some(Instant::now() + grace);
                rustix::process::kill_process_group(self.main, Signal::TERM).or_else(gone)?;
            }
        }
        Ok(())
    }

    /// A command is over with its main process; one that was asked to end, when its whole group
    /// has done so or the grace is up.
    fn is_over(&self, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return self.end.is_some() };
        let group_gone = || rustix::process::test_kill_process_group(self.main).is_err();
        Instant::now() >= deadline || (self.end.is_some() && group_gone())
    }

    /// Takes note of all that have ended; `false` if nobody is left.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => self.end = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => (),
                Ok(None) => return Ok(true),
                Err(Errno::CHILD) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Kills all descendants until there are none. One that is born meanwhile becomes ours when its
    /// parent dies, and is found in the next round.
    fn clear(&mut self) -> io::Result<()> {
        let mut pause = Duration::from_millis(1);
        while self.reap()? {
            for pid in descendants()? {
                // One that may not be killed (it is root, we are not) is waited for.
                rustix::process::kill_process(pid, Signal::KILL).ok();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }

    fn report(&self) -> Report {
        let end = self.end.expect("nobody is left, so the command has been reaped");
        match (end.exit_status(), end.terminating_signal()) {
            (Some(code), _) => Report::Exited(code),
            (None, signal) => Report::Killed(signal.unwrap_or(0)),
        }
    }
}

fn poll(fds: &mut [PollFd<'_>], wait_ms: i64) -> io::Result<()> {
    let wait = Timespec { tv_sec: wait_ms / 1000, tv_nsec: wait_ms % 1000 * 1_000_000 };
    match rustix::event::poll(fds, Some(&wait)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn gone(error: Errno) -> Result<(), Errno> {
    if error == Errno::SRCH { Ok(()) } else { Err(error) }
}

/// All processes that descend from this one, as far as one look at `/proc` tells.
fn descendants() -> io::Result<Vec<Pid>> {
    let mut children = BTreeMap::<i32, Vec<i32>>::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process that ended while we looked has no file any more.
        let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { continue };
        if let Some(parent) = parent_of(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![rustix::process::getpid().as_raw_nonzero().get()];
    while let Some(parent) = next.pop() {
        let born = children.remove(&parent).unwrap_or_default();
        found.extend(born.iter().filter_map(|pid| Pid::from_raw(*pid)));
        next.extend(born);
    }
    Ok(found)
}

/// The parent in a `/proc/PID/stat`; the name before it may hold anything, `)` too.
fn parent_of(stat: &[u8]) -> Option<i32> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent_of(b"12 (a) R 1 (b)) S 7 12 12 0"), Some(7));
        assert_eq!(parent_of(b"12 (\xff) Z 1 2"), Some(1));
        assert_eq!(parent_of(b"garbage"), None);
    }
}
