//! `bench`: how many steps a second this machine runs, every result durable before it is acknowledged.
//!
//! A workload is repeated in rounds. After each round bare SQLite commits as many rows and bytes on
//! the same disk, so that both see the same weather: `of_limit` is its time / ours.

mod agents;
mod counted;
mod http;
mod limits;
mod models;
mod recover;
mod rounds;
mod served;
mod start;
mod streams;
mod waiting;
mod workers;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde::{Serialize, Serializer};

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;
use crate::node::{Place, known_agents};
use workload::{Shape, Workload};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure [default: all; with `--store memory` those that need no folder]
    #[arg(long, value_enum, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// How many steps a run has; for fanout and layers, those side by side count [default: 100, many 5, model 10, fanout and workers 10000, sleep 50, http 1]
    #[arg(long, value_name = "N", value_parser = up_to(99_998))]
    steps: Option<usize>,
    /// How many runs a round has, or are open; several numbers are measured one after another [default: 1, streams 100, model 200, many, recover and http 1000, waiting 10000]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = up_to(1_000_000))]
    runs: Vec<usize>,
    /// How many runs go on at once; for fanout and sleep how many steps, for limits and http how many clients, for workers how many of them, for streams how many subscribers [default: 1, many, limits, http and workers 50, model 200, fanout and streams 1000, sleep 10]
    #[arg(long, value_name = "N", value_parser = up_to(100_000))]
    concurrency: Option<usize>,
    /// At least how long each workload is repeated; what bare SQLite takes beside it does not count
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=86_400))]
    seconds: u64,
    /// Print one JSON object a workload
    #[arg(long)]
    json: bool,
    /// What a process does that another one of `bench` measures
    #[arg(long, hide = true)]
    role: Option<Role>,
}

/// A number of at least one. A plan has at most 100,000 steps, and a fan-out two beside those that are
/// asked for.
fn up_to(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

/// What a process of `bench` does for another one.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Role {
    /// Leaves open runs behind when it is killed.
    Leave,
    /// Takes over what was left.
    Adopt,
    /// Holds runs that wait.
    HoldRuns,
    /// Holds a run whose steps wait.
    HoldSteps,
    /// Answers HTTP, and knows nothing.
    Bare,
}

impl Role {
    /// A process with this role, on a store of its own in `folder`.
    fn process(self, folder: &Path, runs: usize) -> Result<tokio::process::Command, Stop> {
        use clap::ValueEnum as _;
        let name = self.to_possible_value().expect("no role is skipped");
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(["bench", "--role", name.get_name(), "--runs", &runs.to_string()]);
        command.arg("--store").arg(folder.join("store"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command.kill_on_drop(true);
        Ok(command)
    }

    async fn perform(self, runs: usize, settings: &Settings) -> Result<(), Stop> {
        let Place::Folder(store) = &settings.place else {
            return Err(Stop::usage("it needs a folder as the store"));
        };
        match self {
            Self::Leave => recover::leave(store, runs).await,
            Self::Adopt => recover::adopt(store).await,
            Self::HoldRuns => waiting::hold_runs(store, runs).await,
            Self::HoldSteps => waiting::hold_steps(store, runs).await,
            Self::Bare => served::bare::serve().await,
        }
    }
}

/// What was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    workload: String,
    runs: usize,
    steps: usize,
    seconds: f64,
    steps_per_s: f64,
    /// `None` where nothing was timed, or half of the steps ended in one commit with the one before.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// At the most, since the workload began.
    rss_mb: f64,
    commits: usize,
    events: u64,
    of_limit: Option<f64>,
    /// How much memory each run or step takes; by [`Workload::Waiting`] only.
    #[serde(skip_serializing_if = "Option::is_none")]
    kib_each: Option<f64>,
    /// Steps a second of processor time; by what agents do only.
    #[serde(skip_serializing_if = "Option::is_none")]
    per_core: Option<f64>,
    /// How much of a processor it takes to do nothing; by [`Workload::Streams`] only.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    /// What else was measured, by its name.
    #[serde(flatten, serialize_with = "by_name")]
    parts: Vec<Self>,
}

fn by_name<S: Serializer>(parts: &[Measured], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(parts.iter().map(|part| (&part.workload, part)))
}

impl Measured {
    /// Figures of `steps` things that took `seconds` together, and of `times` one by one.
    fn new(workload: &str, steps: usize, seconds: f64, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let percentile = |percent: usize| {
            let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            let time = times.get(index).filter(|time| !time.is_zero())?;
            Some(time.as_secs_f64() * 1e3)
        };
        Self {
            workload: workload.into(),
            steps,
            seconds,
            steps_per_s: number(steps) / seconds.max(f64::MIN_POSITIVE),
            p50_ms: percentile(50),
            p99_ms: percentile(99),
            rss_mb: memory_mb("VmHWM:"),
            ..Self::default()
        }
    }

    /// A line, and one for each part.
    fn text(&self) -> String {
        let part = |part: &Self| {
            let workload = format!("{}.{}", self.workload, part.workload);
            format!("\n{}", part.line(&workload))
        };
        std::iter::once(self.line(&self.workload)).chain(self.parts.iter().map(part)).collect()
    }

    fn line(&self, name: &str) -> String {
        let some = |value: Option<f64>, digits| {
            value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
        };
        let of_core = self.per_core.map(|rate| format!("  {rate:.0} a second and core"));
        let idle = self.cpu_percent.map(|percent| format!("  {percent:.1} % of a processor"));
        format!(
            "{name:16} {:>9} {:>8.1} {:>11.0} {:>9} {:>9} {:>8} {:>7.1} {:>8}{}{}",
            self.steps,
            self.seconds,
            self.steps_per_s,
            some(self.p50_ms, 3),
            some(self.p99_ms, 3),
            self.commits,
            self.rss_mb,
            some(self.of_limit, 2),
            of_core.unwrap_or_default(),
            idle.unwrap_or_default()
        )
    }
}

const HEADER: &str =
    "workload             steps  seconds     steps/s    p50 ms    p99 ms  commits  rss MB of limit";

pub(crate) async fn bench(args: Args, settings: &Settings) -> Result<Exit, Stop> {
    if let Some(role) = args.role {
        let runs = args.runs.first().copied().unwrap_or(1);
        role.perform(runs, settings).await?;
        return Ok(Exit::Done);
    }
    if !args.json {
        out::line(HEADER)?;
    }
    let in_memory = settings.place.folder().is_none();
    let all = Workload::ALL.into_iter().filter(|one| !in_memory || !one.needs_folder());
    let workloads = if args.workload.is_empty() { all.collect() } else { args.workload.clone() };
    for workload in &workloads {
        let numbers = args.runs.iter().copied().map(Some);
        let numbers: Vec<_> = if args.runs.is_empty() { vec![None] } else { numbers.collect() };
        for runs in numbers {
            let shape = Shape::new(*workload, &args, runs);
            let measured = measure(&shape, settings, args.seconds).await?;
            if args.json { out::json(&measured)? } else { out::line(&measured.text())? }
        }
    }
    Ok(Exit::Done)
}

async fn measure(shape: &Shape, settings: &Settings, s: u64) -> Result<Measured, Stop> {
    let at_least = Duration::from_secs(s);
    forget_peak();
    let _watched = Watched::new(shape.workload, s);
    // A store of its own, on the same disk: other people's runs are not measured along.
    let scratch = match &settings.place {
        Place::Folder(store) => Some(Scratch::new(store)?),
        Place::Memory => None,
    };
    let folder = scratch.as_ref().map(|scratch| scratch.0.as_path());
    match shape.workload {
        Workload::Start => start::measure(folder, at_least).await,
        Workload::Limits => limits::measure(folder, shape, at_least).await,
        Workload::Recover => recover::measure(folder, shape, at_least).await,
        work @ (Workload::Read | Workload::Rank | Workload::Summarize) => {
            agents::measure(folder, work, at_least).await
        }
        Workload::Waiting => waiting::measure(folder, shape).await,
        Workload::Http => http::measure(folder, shape, at_least).await,
        Workload::Streams => streams::measure(folder, shape, at_least).await,
        Workload::Workers => workers::measure(folder, shape, at_least).await,
        Workload::Model => {
            let fake = models::Fake::start()?;
            let parts = fake.parts(at_least).await?;
            let measured =
                rounds::measure(folder, shape, settings, fake.agents()?, at_least).await?;
            Ok(Measured { parts, ..measured })
        }
        _ => {
            let agents = known_agents(&std::sync::Arc::default());
            rounds::measure(folder, shape, settings, agents, at_least).await
        }
    }
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
const fn number(count: usize) -> f64 {
    count as f64
}

/// How much memory this process takes: `VmRSS:` now, `VmHWM:` at the most.
fn memory_mb(which: &str) -> f64 {
    memory_of("self", which)
}

/// The same of another process.
fn memory_of(process: &str, which: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// From here on the most is what is taken now, where the system lets a process say so; else it is
/// that of all workloads so far.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

/// What is being measured, for whoever waits at a terminal.
struct Watched(indicatif::ProgressBar);

impl Watched {
    fn new(workload: Workload, seconds: u64) -> Self {
        let name = format!("{workload:?}").to_lowercase();
        let bar = indicatif::ProgressBar::new_spinner();
        bar.set_message(format!("{name}: at least {seconds} s"));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A folder that is removed when this is dropped, or by the next one if its process was killed.
struct Scratch(PathBuf);

impl Scratch {
    fn new(store: &Path) -> Result<Self, Stop> {
        sweep(store);
        let folder = store.join(format!("bench-{}", std::process::id()));
        let failed = |error| {
            let folder = folder.display();
            Stop::new(Exit::Store, format!("`{folder}`: {error}; `--store` names another folder"))
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Self(folder))
    }
}

/// Removes what killed processes have left.
fn sweep(store: &Path) {
    for found in std::fs::read_dir(store).into_iter().flatten().flatten() {
        let name = found.file_name();
        let process =
            name.to_str().and_then(|name| name.strip_prefix("bench-")?.parse::<u32>().ok());
        if process.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            std::fs::remove_dir_all(found.path()).ok();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
