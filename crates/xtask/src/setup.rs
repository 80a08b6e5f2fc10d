//! Installs what the checks need and this machine lacks.
//!
//! **Invariant:** what is there is left alone, and every tool is pinned to a version that the
//! pinned toolchain builds. Without the right to install, the message says what to install.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, root};

/// A cargo command, and the crate at the version that brings it.
type Tool = (&'static str, &'static str, &'static str);

/// What the checks need.
const CARGO_TOOLS: [Tool; 1] = [("nextest", "cargo-nextest", "0.9.143")];

/// The same for what is run on demand alone, and so installed then.
const MUTANTS: Tool = ("mutants", "cargo-mutants", "27.1.0");

/// A program the tests call, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 8] = [
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("git", "git"),
    ("strace", "strace"),
    ("unshare", "util-linux"),
    ("faketime", "faketime"),
    ("python3", "python3"),
    ("prometheus", "prometheus"),
];

/// Environments of Python that tests use: where they are installed, and the packages, each with its version and hashes.
const ENVIRONMENTS: [(&str, &str); 2] = [
    ("target/sdk", "crates/kapelle-fake/tests/python/requirements.txt"),
    ("target/schemathesis", "crates/kapelle/tests/python/requirements.txt"),
];

/// Installs what is missing.
pub(crate) fn run() -> Result<()> {
    programs()?;
    CARGO_TOOLS.into_iter().try_for_each(install)?;
    ENVIRONMENTS.into_iter().try_for_each(python)
}

/// Installs packages of Python in an environment of their own. What is there is known by the list it was made
/// from, which is put beside it last.
fn python((folder, list): (&str, &str)) -> Result<()> {
    let (name, list, folder) = (list, root().join(list), root().join(folder));
    let made_from = folder.join("requirements.txt");
    let wanted = std::fs::read(&list).with_context(|| format!("{name} cannot be read"))?;
    if std::fs::read(&made_from).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    eprintln!("installing the packages of {name} into {}", folder.display());
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder).stdout(Stdio::null());
    if !make.status().is_ok_and(|status| status.success()) {
        debian("python3-venv")?;
        let status = make.status()?;
        ensure!(status.success(), "`python3 -m venv` ended with {status}");
    }
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--require-hashes", "--only-binary", ":all:", "--requirement"]).arg(&list);
    let status = pip.status().context("pip does not start")?;
    ensure!(status.success(), "`pip install --requirement {name}` ended with {status}");
    std::fs::write(made_from, wanted)?;
    Ok(())
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
    debian(&missing.join(" "))
}

/// Installs packages of Debian, or says that someone else has to.
fn debian(wish: &str) -> Result<()> {
    if !(is_root() && answers(&mut Command::new("apt-get"))) {
        bail!("please install: {wish} (on Debian: apt-get install {wish})");
    }
    eprintln!("installing {wish}");
    apt(&["update", "--quiet"])?;
    let mut args = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    args.extend(wish.split(' '));
    apt(&args)
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
