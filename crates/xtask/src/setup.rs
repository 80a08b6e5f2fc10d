//! Installs what the checks need and this machine lacks.
//!
//! **Invariant:** what is there is left alone, and every tool is pinned to a version that the
//! pinned toolchain builds. Without the right to install, the message says what to install.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;

/// A cargo command, and the crate at the version that brings it.
const CARGO_TOOLS: [(&str, &str, &str); 1] = [("nextest", "cargo-nextest", "0.9.143")];

/// A program the tests call, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 3] =
    [("git", "git"), ("strace", "strace"), ("unshare", "util-linux")];

/// Installs what is missing.
pub(crate) fn run() -> Result<()> {
    programs()?;
    for (command, package, version) in CARGO_TOOLS {
        if answers(Command::new(cargo()).arg(command)) {
            continue;
        }
        eprintln!("installing {package} {version}");
        let mut install = Command::new(cargo());
        install.args(["install", "--locked", package, "--version", version]);
        let status = install.status().context("cargo does not start")?;
        ensure!(status.success(), "`cargo install --locked {package}` ended with {status}");
    }
    Ok(())
}

fn programs() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !answers(&mut Command::new(program)))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let wish = missing.join(" ");
    if !(is_root() && answers(&mut Command::new("apt-get"))) {
        bail!("please install: {wish} (on Debian: apt-get install {wish})");
    }
    eprintln!("installing {wish}");
    apt(&["update", "--quiet"])?;
    apt(&[&["install", "--yes", "--quiet", "--no-install-recommends"], missing.as_slice()].concat())
}

fn apt(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    let status = command.args(args).env("DEBIAN_FRONTEND", "noninteractive").status()?;
    ensure!(status.success(), "`apt-get {}` ended with {status}", args.join(" "));
    Ok(())
}

/// Whether the program starts and knows its version.
fn answers(command: &mut Command) -> bool {
    let quiet = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout == b"0\n")
}
