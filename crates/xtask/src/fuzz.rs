//! `fuzz`: what comes from outside, made up by libFuzzer, which is guided by what it reaches.
//!
//! **Invariants:** the pinned stable toolchain does: `rustc` counts what is reached by passes of LLVM
//! that need no nightly. Seeds are the pages, documents and workflows that ship, and `fuzz/requests`; what is made of
//! them stays below `target/fuzz`, and the next run begins with it. What crashes, hangs or takes a
//! GiB is kept there and named.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, root, run};

/// What is fed, and the folders with what it begins with.
const TARGETS: [(&str, &[&str]); 4] = [
    ("page", &["examples/research/pages"]),
    ("passages", &["docs", "examples/research/pages"]),
    ("request", &["fuzz/requests"]),
    ("workflow", &["examples/research", "examples/repo-check", "crates/kapelle-core/tests/broken"]),
];

/// Counts of each edge that is reached, and what is compared with what.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// The longest input in bytes, the most time for one in seconds, and the most memory in MiB.
const LIMITS: [&str; 3] = ["-max_len=65536", "-timeout=20", "-rss_limit_mb=1024"];

/// Which targets are fed, and for how long.
pub(crate) struct Fuzz<'a> {
    target: Option<&'a str>,
    seconds: u32,
}

impl<'a> Fuzz<'a> {
    /// What `args` say; `None` if they make no sense.
    pub(crate) fn read(mut args: &[&'a str]) -> Option<Self> {
        let mut read = Self { target: None, seconds: 60 };
        if let [target, rest @ ..] = args
            && TARGETS.iter().any(|known| known.0 == *target)
        {
            (read.target, args) = (Some(*target), rest);
        }
        match args {
            [] => Some(read),
            ["--seconds", seconds] => Some(Self { seconds: seconds.parse().ok()?, ..read }),
            _ => None,
        }
    }

    /// Each target for its time; fails with the first that falls.
    pub(crate) fn run(&self) -> Result<()> {
        let programs = build()?;
        let mut chosen = TARGETS.iter().filter(|one| self.target.is_none_or(|name| name == one.0));
        chosen.try_for_each(|(name, seeds)| self.feed(&programs, name, seeds))
    }

    fn feed(&self, programs: &Path, name: &str, seeds: &[&str]) -> Result<()> {
        let (corpus, crashes) = (folder("corpus", name)?, folder("crashes", name)?);
        let mut command = Command::new(programs.join(name));
        command.args(LIMITS).arg(format!("-max_total_time={}", self.seconds));
        command.args(["-print_final_stats=1", "-verbosity=1"]);
        command.arg(format!("-artifact_prefix={}/", crashes.display()));
        command.arg(corpus).args(seeds).current_dir(root()).env("RUST_BACKTRACE", "1");
        let status = command.status().with_context(|| format!("`{name}` does not start"))?;
        if !status.success() {
            let program = programs.join(name);
            bail!(
                "`{name}` fell ({status}); what it fell over is in {}: `{} FILE` does it again",
                crashes.display(),
                program.display()
            );
        }
        Ok(())
    }
}

/// Builds the targets; the folder they are in.
fn build() -> Result<PathBuf> {
    // Named, so that the flags are for what runs there and not for what builds it.
    let host = host()?;
    let mut command = Command::new(cargo());
    command.args(["build", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target", &host]);
    command.args(["--target-dir", "target/fuzz"]).env("RUSTFLAGS", FLAGS.join(" "));
    run(&mut command)?;
    Ok(root().join("target/fuzz").join(host).join("debug"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output()?;
    let said = String::from_utf8(output.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    ensure!(host.is_some(), "`rustc -vV` names no host");
    Ok(host.unwrap_or_default().to_owned())
}

fn folder(of: &str, name: &str) -> Result<PathBuf> {
    let folder = root().join("target/fuzz").join(of).join(name);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}
