//! What `ci`, `sim`, `powercut`, `soak` and `bench` run, one command after the other.
//!
//! **Invariant:** `ci` stops at the first stage that fails, skips none, and ends with the tests,
//! so that the last thing in a log is their summary; the minutes of the stages before come first.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{cargo, fuzz, run, setup, tidy};

/// A stage that is one cargo command.
struct Stage {
    name: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
}

const STAGES: [Stage; 4] = [
    Stage { name: "fmt", args: &["fmt", "--all", "--check"], env: &[] },
    Stage {
        name: "clippy",
        args: &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
        env: &[],
    },
    Stage {
        name: "docs",
        args: &["doc", "--locked", "--workspace", "--no-deps"],
        env: &[("RUSTDOCFLAGS", "-D warnings")],
    },
    Stage { name: "doctests", args: &["test", "--locked", "--workspace", "--doc"], env: &[] },
];

const TESTS: Stage =
    Stage { name: "tests", args: &["nextest", "run", "--locked", "--workspace"], env: &[] };

/// Everything CI runs.
pub(crate) fn ci() -> Result<()> {
    let mut minutes = Minutes::default();
    minutes.time("setup", setup::run)?;
    minutes.time("tidy", tidy::run)?;
    for stage in STAGES {
        minutes.time(stage.name, || stage.run())?;
    }
    minutes.time("build", || stage_without_run(&TESTS))?;
    minutes.print();
    TESTS.run()
}

/// The simulation of the engine, built as what ships, on all cores; then that of core over a tenth of
/// the seeds, for it lives in the engine's as well.
pub(crate) fn sim(seeds: u64) -> Result<()> {
    let mut engine = Command::new(cargo());
    engine.args(["test", "--locked", "--release", "--package", "kapelle-engine"]);
    engine.args(["--test", "it", "--", "sim::", "--nocapture"]);
    run(engine.env("KAPELLE_SIM_SEEDS", seeds.to_string()))?;
    let mut core = tests_called("sim", &["kapelle-core"]);
    run(core.env("KAPELLE_SIM_SEEDS", (seeds / 10).to_string()))
}

/// Changes core in a thousand ways, one at a time: its tests must notice each of them.
/// `.cargo/mutants.toml` says how, and which changes make no difference.
pub(crate) fn mutants(args: &[&str]) -> Result<()> {
    setup::mutants()?;
    let mut command = Command::new(cargo());
    command.args(["mutants", "--package", "kapelle-core"]).args(args);
    // A few histories kill what they can kill; the scripts are there for the rest.
    run(command.env("KAPELLE_SIM_SEEDS", "40").env("CARGO_INCREMENTAL", "1"))
}

/// Which bits of a store's files are turned.
pub(crate) struct Flips<'a> {
    flips: &'a str,
    seed: &'a str,
}

impl<'a> Flips<'a> {
    /// What `args` say; `None` if they make no sense.
    pub(crate) fn read(mut args: &[&'a str]) -> Option<Self> {
        let mut read = Self { flips: "10000", seed: "1" };
        while let [name, number, rest @ ..] = args {
            number.parse::<u64>().ok()?;
            match *name {
                "--flips" => read.flips = number,
                "--seed" => read.seed = number,
                _ => return None,
            }
            args = rest;
        }
        args.is_empty().then_some(read)
    }

    /// Turns them, one at a time.
    pub(crate) fn run(&self) -> Result<()> {
        let mut command = tests_called("flips", &["kapelle-store"]);
        run(command.env("KAPELLE_FLIPS", self.flips).env("KAPELLE_FLIPS_SEED", self.seed))
    }
}

/// What Schemathesis asks the API, three times as it falls out, in three times as many cases as CI.
pub(crate) fn api_fuzz() -> Result<()> {
    let mut command = tests_called("api_fuzz", &["kapelle"]);
    run(command.env("KAPELLE_API_SEEDS", "3").env("KAPELLE_API_EXAMPLES", "50"))
}

/// Power cuts under a store, see the example of this name.
pub(crate) fn powercut(args: &[&str]) -> Result<()> {
    let mut build = Command::new(cargo());
    build.args(["build", "--locked", "--package", "kapelle", "--bin", "kapelle"]);
    run(build.args(["--example", "powercut"]))?;
    let mut command = Command::new(cargo());
    command.args(["run", "--quiet", "--locked", "--package", "kapelle", "--example", "powercut"]);
    run(command.arg("--").args(args))
}

/// The whole campaign, in the numbers that the design names: a million seeds, ten thousand bits, kills
/// and cuts, every fault, disks that fail in the kernel and slow ones, two hundred takeovers, a store
/// of two gigabytes, two thousand histories of two stores, two hundred runs against a provider that fails,
/// fifty kills of agents that think, a thousand streams over the end of their server, an hour of whatever may come from outside for
/// each that reads it, every change of core.
pub(crate) fn soak() -> Result<()> {
    sim(1_000_000)?;
    Flips { flips: "10000", seed: "1" }.run()?;
    run(tests_called("pair", &["kapelle-engine"]).env("KAPELLE_TAKEOVERS", "200"))?;
    run(tests_called("large", &["kapelle-store"]).env("KAPELLE_LARGE_MIB", "2048"))?;
    let mut command = tests_called("random_history", &["kapelle-store"]);
    run(command.env("KAPELLE_HISTORIES", "2000"))?;
    let mut command = tests_called("kill", &["kapelle"]);
    run(command.env("KAPELLE_KILL_ROUNDS", "10000"))?;
    let mut command = tests_called("fault", &["kapelle"]);
    run(command.env("KAPELLE_FAULT_ALL", "1"))?;
    run(tests_called("storm", &["kapelle"]).env("KAPELLE_STORM_RUNS", "200"))?;
    run(tests_called("review_kills", &["kapelle"]).env("KAPELLE_REVIEW_KILLS", "50"))?;
    run(tests_called("streams_go_on", &["kapelle"]).env("KAPELLE_STREAMS", "1000"))?;
    api_fuzz()?;
    fuzz::Fuzz::read(&["--seconds", "3600"]).expect("it is well put").run()?;
    powercut(&["--slow", "600"])?;
    powercut(&["--failing", "12"])?;
    powercut(&["--off", "--cuts", "100"])?;
    powercut(&["--cuts", "10000"])?;
    mutants(&[])
}

/// `kapelle bench`, built as released, or without the long link.
pub(crate) fn bench(args: &[&str]) -> Result<()> {
    let (profile, rest) = match args {
        ["--quick", rest @ ..] => ("quick", rest),
        rest => ("release", rest),
    };
    let mut command = Command::new(cargo());
    command.args(["run", "--locked", "--package", "kapelle", "--profile", profile]);
    run(command.args(["--", "bench"]).args(rest))
}

impl Stage {
    fn run(&self) -> Result<()> {
        run(&mut self.command())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(cargo());
        command.args(self.args).envs(self.env.iter().copied());
        if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
            // A build that is thrown away needs neither increments nor symbols.
            command.env("CARGO_INCREMENTAL", "0");
            command.env("CARGO_PROFILE_DEV_DEBUG", "0");
            command.env("CARGO_PROFILE_TEST_DEBUG", "0");
        }
        command
    }
}

/// Builds the tests, so that the time of building is not taken for the time of testing.
fn stage_without_run(stage: &Stage) -> Result<()> {
    run(stage.command().arg("--no-run"))
}

/// The tests whose name, or a module of theirs, begins with `word`, without the limit on a test's time.
fn tests_called(word: &str, packages: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.args(["nextest", "run", "--locked", "--profile", "soak", "--success-output", "final"]);
    for package in packages {
        command.args(["--package", package]);
    }
    command.args(["-E", &format!("test(/(^|::){word}/)")]);
    command
}

/// How long each stage took.
#[derive(Default)]
struct Minutes(Vec<(&'static str, Duration)>);

impl Minutes {
    fn time(&mut self, name: &'static str, stage: impl FnOnce() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        stage()?;
        self.0.push((name, begin.elapsed()));
        Ok(())
    }

    fn print(&self) {
        eprintln!("\nminutes before the tests");
        for (name, took) in &self.0 {
            eprintln!("  {name:<10}{:>7.1}", took.as_secs_f64() / 60.0);
        }
        let sum: Duration = self.0.iter().map(|(_, took)| *took).sum();
        eprintln!("  {:<10}{:>7.1}\n", "all", sum.as_secs_f64() / 60.0);
    }
}
