//! Installs what the checks need and this machine lacks.
//!
//! **Invariant:** what is there is left alone, and every tool is pinned to a version that the
//! pinned toolchain builds. Without the right to install, the message says what to install.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;

/// A cargo command, and the crate at the version that brings it.
type Tool = (&'static str, &'static str, &'static str);

/// What the checks need.
const CARGO_TOOLS: [Tool; 1] = [("nextest", "cargo-nextest", "0.9.143")];

/// The same for what is run on demand alone, and so installed then.
const MUTANTS: Tool = ("mutants", "cargo-mutants", "27.1.0");

/// A program the tests call, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 4] =
    [("git", "git"), ("strace", "strace"), ("unshare", "util-linux"), ("faketime", "faketime")];

/// Installs what is missing.
pub(crate) fn run() -> Result<()> {
    programs()?;
    CARGO_TOOLS.into_iter().try_for_each(install)
}

/// Installs the tool of `cargo xtask mutants`, if it is missing.
pub(crate) fn mutants() -> Result<()> {
    install(MUTANTS)
}

fn install((command, package, version): Tool) -> Result<()> {
    if answers(Command::new(cargo()).arg(command)) {
        return Ok(());
    }
    eprintln!("installing {package} {version}");
    let mut install = Command::new(cargo());
    install.args(["install", "--locked", package, "--version", version]);
    let status = install.status().context("cargo does not start")?;
    ensure!(status.success(), "`cargo install --locked {package}` ended with {status}");
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
