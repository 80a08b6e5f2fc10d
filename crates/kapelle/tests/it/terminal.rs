//! A terminal of its own for a process, read by what a real one would make of it.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZero;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How long a terminal may take to show what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many lines above its first row it keeps.
const HISTORY: usize = 500;

/// A process and the terminal it is on.
pub(crate) struct Terminal {
    child: Child,
    ours: File,
    parser: vt100::Parser,
    raw: Vec<u8>,
}

impl Terminal {
    /// Starts `command` on a terminal of so many columns and rows.
    pub(crate) fn start(mut command: Command, (columns, rows): (u16, u16)) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&ours, size(columns, rows)).unwrap();
        let stream = || theirs.try_clone().unwrap();
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        let parser = vt100::Parser::new(nonzero(rows), nonzero(columns), HISTORY);
        Self { child, ours: File::from(ours), parser, raw: Vec::new() }
    }

    /// Reads until `text` is on the screen.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen().contains(text) {
            assert!(Instant::now() < deadline && self.read(), "no `{text}` in:\n{}", self.seen());
        }
    }

    /// Waits until the screen has these texts, in this order: a picture may come in pieces.
    #[track_caller]
    pub(crate) fn wait_for_order(&mut self, texts: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while !in_order(&self.seen(), texts) {
            let goes_on = Instant::now() < deadline && self.read();
            assert!(goes_on, "no {texts:?} in this order in:\n{}", self.seen());
        }
    }

    /// What is on the screen now.
    pub(crate) fn seen(&self) -> String {
        self.parser.screen().contents()
    }

    pub(crate) fn resize(&mut self, (columns, rows): (u16, u16)) {
        tcsetwinsize(&self.ours, size(columns, rows)).unwrap();
        self.parser.screen_mut().set_size(nonzero(rows), nonzero(columns));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end: the exit code, and all lines that it left, those above the screen too.
    pub(crate) fn finish(mut self) -> (i32, String) {
        let code = self.end();
        let mut all = String::new();
        let screen = self.parser.screen_mut();
        screen.set_scrollback(usize::MAX);
        // From the oldest row on, a row each, then the screen as it is.
        for above in (1..=screen.scrollback()).rev() {
            screen.set_scrollback(above);
            let first = screen.rows(0, u16::MAX).next();
            all += &(first.unwrap_or_default() + "\n");
        }
        screen.set_scrollback(0);
        all += &screen.contents();
        (code, all)
    }

    /// Waits for the end: every byte it wrote.
    pub(crate) fn finish_raw(mut self) -> String {
        self.end();
        String::from_utf8(std::mem::take(&mut self.raw)).unwrap()
    }

    fn end(&mut self) -> i32 {
        while self.read() {}
        self.child.wait().unwrap().code().expect("it was not killed")
    }

    /// Reads a piece; whether there was one before the process ended.
    fn read(&mut self) -> bool {
        let mut fds = [PollFd::new(&self.ours, PollFlags::IN)];
        let limit = Timespec { tv_sec: PATIENCE.as_secs().try_into().unwrap(), tv_nsec: 0 };
        assert!(poll(&mut fds, Some(&limit)).unwrap() > 0, "nothing more in:\n{}", self.seen());
        let mut piece = [0; 4096];
        // An error: nobody has the other end open any more.
        let read = self.ours.read(&mut piece).unwrap_or(0);
        self.parser.process(&piece[..read]);
        self.raw.extend_from_slice(&piece[..read]);
        read > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Whether `seen` has these texts, in this order.
pub(crate) fn in_order(seen: &str, texts: &[&str]) -> bool {
    let places: Vec<_> = texts.iter().map(|text| seen.find(text)).collect();
    !places.contains(&None) && places.is_sorted()
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn nonzero(n: u16) -> NonZero<u16> {
    NonZero::new(n).unwrap()
}
