//! The project's own commands: what CI runs, and what is run on demand.
//!
//! `cargo xtask ci` is exactly CI, so that nothing fails there that cannot be seen here. Rules of
//! our own are in [`tidy`], which is also a test; the tools come from [`setup`], the stages and
//! the other commands are in [`stages`].
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks")]

mod fuzz;
mod setup;
mod stages;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

const HELP: &str = "\
cargo xtask COMMAND

  ci                       everything CI runs: setup, fmt, tidy, clippy, docs, doctests, tests
  setup                    install what the checks need and is missing
  tidy                     the rules of the house: crates, licences, sizes, documents
  sim   [--seeds N]        the simulations, over N seeds (2,000 unless told), on all cores
  flips [--flips N] [--seed S]
                           turn N bits (10,000 unless told) of a store's files, one at a time
  api-fuzz                 Schemathesis on the API, three seeds of 50 examples a route
  powercut [--cuts N] [--seed S] [--off] [--failing N] [--slow SECONDS]
                           cut the power under a store, as root; `--off`: without syncs
  mutants [ARG..]          change core in a thousand ways that its tests must notice: hours
  fuzz  [TARGET] [--seconds N]
                           feed what comes from outside at random (page, passages, workflow; all
                           unless told), guided by what it reaches, 60 seconds each unless told
  soak                     the long form of all that attacks: hours
  bench [--quick] [ARG..]  build for speed and run `kapelle bench ARG..`
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["ci"] => stages::ci(),
        ["setup"] => setup::run(),
        ["tidy"] => tidy::run(),
        ["sim"] => stages::sim(2_000),
        ["sim", "--seeds", seeds] if seeds.parse::<u64>().is_ok() => {
            stages::sim(seeds.parse().expect("it was just tried"))
        }
        ["flips", rest @ ..] => match stages::Flips::read(rest) {
            Some(flips) => flips.run(),
            None => return misread(),
        },
        ["fuzz", rest @ ..] => match fuzz::Fuzz::read(rest) {
            Some(fuzz) => fuzz.run(),
            None => return misread(),
        },
        ["mutants", rest @ ..] => stages::mutants(rest),
        ["powercut", rest @ ..] => stages::powercut(rest),
        ["api-fuzz"] => stages::api_fuzz(),
        ["soak"] => stages::soak(),
        ["bench", rest @ ..] => stages::bench(rest),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => return misread(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn misread() -> ExitCode {
    eprint!("{HELP}");
    ExitCode::from(2)
}

/// The workspace's folder, wherever the command was given.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("xtask is two folders below the root").to_path_buf()
}

/// Runs `command` in the workspace's folder, and says so.
fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.current_dir(root()).status()?;
    ensure!(status.success(), "`{line}` ended with {status}");
    Ok(())
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once("cargo".to_owned()).chain(args).collect();
    words.join(" ")
}

/// The cargo that runs us, so that the toolchain stays the same.
fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
