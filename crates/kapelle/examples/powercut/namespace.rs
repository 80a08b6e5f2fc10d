//! A world of its own for mounts and processes, so that whatever ends this one leaves nothing.
//!
//! The process calls itself under `unshare`, with a pipe that it never writes to: when the pipe
//! ends, so does the inner process, and with it, by the kernel, every process and mount inside.
//! Loop devices free themselves with their mount.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// Where the inner process keeps everything. A mount there hides what is below, inside only.
pub(crate) const ROOT: &str = "/mnt";

/// What is called, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 7] = [
    ("unshare", "util-linux"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("eatmydata", "eatmydata"),
];

/// Runs this program again inside; how that ended, or why it cannot be.
pub(crate) fn enter(off: bool) -> ExitCode {
    if let Some(reason) = refusal(off) {
        eprintln!("powercut: {reason}");
        return ExitCode::from(2);
    }
    let exe = std::env::current_exe().expect("a program knows its file");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    // The shell is there to bury the orphans of the processes that are killed.
    command.args(["sh", "-c", r#""$0" "$@"; exit $?"#]);
    command.arg(exe).arg("--inside").args(std::env::args_os().skip(1));
    command.env("TMPDIR", ROOT).stdin(Stdio::piped());
    let mut child = command.spawn().expect("`unshare` is there");
    let pipe = child.stdin.take();
    let status = child.wait().expect("it can be waited for");
    drop(pipe);
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A shell that takes back what is said about the speed of loop devices when its stdin ends: with
/// this value, or with this process, whatever ends it.
pub(crate) struct FastAgain(Child);

impl FastAgain {
    pub(crate) fn watch() -> Self {
        let script = r#"cat > /dev/null
            sed -n 's/^\(7:[0-9]*\) .*/\1 0/p' "$0" | while read -r line; do echo "$line" > "$0"; done"#;
        let mut command = Command::new("sh");
        // Ctrl-C is for the campaign, not for who cleans up after it.
        command.args(["-c", script, crate::slow::THROTTLE]).stdin(Stdio::piped()).process_group(0);
        Self(command.spawn().expect("there is a shell"))
    }
}

impl Drop for FastAgain {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

fn refusal(off: bool) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may mount disks: give this command as root".to_owned());
    }
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| (off || *program != "eatmydata") && !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if !missing.is_empty() {
        let missing = missing.join(" ");
        return Some(format!("please install: {missing} (on Debian: apt-get install {missing})"));
    }
    let needs = [("/dev/loop-control", "loop devices"), (ROOT, "a folder to mount on")];
    let absent = needs.into_iter().find(|(path, _)| !Path::new(path).exists());
    absent.map(|(path, what)| format!("there is no `{path}`: this needs {what}"))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Ends this process, and so all that it started, when the outer one ends.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(130);
    });
}
