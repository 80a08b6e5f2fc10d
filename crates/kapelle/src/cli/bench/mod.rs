//! `bench`: how many steps a second this machine runs, every result durable before it is acknowledged.
//!
//! A step is `echo` with a result of about 100 bytes. A step's time is from the end of the step
//! before it (the begin of its run for the first) to its own end, as the journal has them.

mod counted;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kapelle_core::plan::{self, Plan};
use kapelle_core::port::{Agents, Journal, Nodes};
use kapelle_core::run::Verdict;
use kapelle_core::{Tenant, Timestamp};
use kapelle_engine::{Engine, NewRun, Options, Parts};
use kapelle_store::{Alone, Member, Memory, Sqlite};
use serde::Serialize;
use serde_json::json;

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;
use crate::node::{Place, known_agents};
use counted::Counted;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Workload::Chain, Workload::Many])]
    workload: Vec<Workload>,
    /// How many steps a run has [default: 100 for chain, 5 for many]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// How many runs a round has [default: 1 for chain, 1000 for many]
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// How many runs go on at once [default: 1 for chain, 50 for many]
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// At least how long each workload is repeated
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// Print one JSON object a workload
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Workload {
    /// One run at a time, its steps one after another
    Chain,
    /// Many runs at once, their steps one after another
    Many,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    workload: Workload,
    runs: usize,
    steps: usize,
    seconds: f64,
    steps_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    rss_mb: f64,
    commits: u64,
    events: u64,
    /// Time of bare SQLite for as many commits of the same bytes / ours; not measured yet.
    of_limit: Option<f64>,
}

/// How a workload is run.
struct Shape {
    steps: usize,
    runs: usize,
    concurrency: usize,
    at_least: Duration,
}

pub(crate) async fn bench(args: Args, settings: &Settings) -> Result<Exit, Stop> {
    for workload in &args.workload {
        let measured = measure(*workload, &args, settings).await?;
        if args.json {
            out::json(&measured)?;
        } else {
            out::line(&format!(
                "{:6}  {:8} steps in {:.1} s  {:9.0} steps/s  p50 {:.3} ms  p99 {:.3} ms  {} commits  {:.0} MB",
                format!("{workload:?}").to_lowercase(),
                measured.steps,
                measured.seconds,
                measured.steps_per_s,
                measured.p50_ms,
                measured.p99_ms,
                measured.commits,
                measured.rss_mb,
            ))?;
        }
    }
    Ok(Exit::Done)
}

async fn measure(workload: Workload, args: &Args, settings: &Settings) -> Result<Measured, Stop> {
    let (steps, runs, concurrency) = match workload {
        Workload::Chain => (100, 1, 1),
        Workload::Many => (5, 1_000, 50),
    };
    let shape = Shape {
        steps: args.steps.unwrap_or(steps).max(1),
        runs: args.runs.unwrap_or(runs).max(1),
        concurrency: args.concurrency.unwrap_or(concurrency).max(1),
        at_least: Duration::from_secs(args.seconds),
    };
    // A store of its own, on the same disk: other people's runs are not measured along.
    let folder = match &settings.place {
        Place::Folder(store) => Some(Scratch::new(store)?),
        Place::Memory => None,
    };
    let (journal, nodes): (Arc<dyn Journal>, Arc<dyn Nodes>) = match &folder {
        Some(folder) => {
            (Arc::new(Sqlite::open(&folder.0)?), Arc::new(Member::join(&folder.0, None)?))
        }
        None => (Arc::new(Memory::new()), Arc::new(Alone::new())),
    };
    let journal = Arc::new(Counted::new(journal));
    let parts = Parts { journal: journal.clone(), nodes, agents: known_agents() };
    let node = &settings.config.node;
    let loops = (node.loops > 0).then_some(node.loops);
    let options = Options { loops, slots: node.slots, ..Options::default() };
    let engine = Engine::open(parts, options).await?;
    let mut measured = repeat(&engine, workload, &shape).await?;
    engine.drain(Duration::ZERO).await?;
    measured.commits = journal.commits();
    Ok(measured)
}

async fn repeat(engine: &Engine, workload: Workload, shape: &Shape) -> Result<Measured, Stop> {
    let plan = chain(shape.steps, engine.agents())?;
    let began = Instant::now();
    let (mut runs, mut events, mut times) = (0, 0, Vec::new());
    while runs == 0 || began.elapsed() < shape.at_least {
        let mut under_way = FuturesUnordered::new();
        let mut begun = 0;
        while begun < shape.runs || !under_way.is_empty() {
            if begun < shape.runs && under_way.len() < shape.concurrency {
                under_way.push(one(engine, plan.clone()));
                begun += 1;
            } else if let Some(done) = under_way.next().await {
                let (seq, ends) = done?;
                runs += 1;
                events += seq;
                times.extend(ends.windows(2).map(|pair| pair[1].since(pair[0])));
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let percentile = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let steps = runs * shape.steps;
    #[expect(clippy::cast_precision_loss, reason = "counts of steps are far below 2^52")]
    let steps_per_s = steps as f64 / seconds;
    Ok(Measured {
        workload,
        runs,
        steps,
        seconds,
        steps_per_s,
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        rss_mb: rss_mb(),
        commits: 0,
        events,
        of_limit: None,
    })
}

/// One run to its end: how many events it has, and when it began and each step ended.
async fn one(engine: &Engine, plan: Plan) -> Result<(u64, Vec<Timestamp>), Stop> {
    let tenant = Tenant::default();
    let new = NewRun {
        tenant: tenant.clone(),
        plan,
        inputs: json!({}),
        root: "/".into(),
        task_id: None,
        key: None,
    };
    let run = engine.submit(new).await?.run;
    let ended = engine.wait(&tenant, run).await?;
    if ended.verdict != Verdict::Completed {
        return Err(Stop::new(Exit::Failed, format!("run {run} did not complete")));
    }
    let run = engine.run(&tenant, run).await?;
    let mut ends = vec![run.created_at()];
    ends.extend(run.steps().iter().filter_map(|step| step.ended_at));
    Ok((run.seq(), ends))
}

fn chain(steps: usize, agents: &Agents) -> Result<Plan, Stop> {
    let step = |n: usize| {
        let needs = if n == 0 { Vec::new() } else { vec![format!("s{}", n - 1)] };
        let input = json!({ "value": { "step": n, "text": "x".repeat(80) } });
        json!({ "id": format!("s{n}"), "needs": needs, "work": { "agent": { "agent": "echo", "input": input } } })
    };
    let steps: Vec<_> = (0..steps).map(step).collect();
    let json = json!({ "workflow": "bench", "steps": steps });
    let mut plan: Plan = serde_json::from_value(json).map_err(Stop::usage)?;
    match plan::check(&mut plan, Some(agents)).first() {
        Some(problem) => Err(Stop::usage(problem)),
        None => Ok(plan),
    }
}

/// How much memory this process takes now.
fn rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// A folder that is removed when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(store: &std::path::Path) -> Result<Self, Stop> {
        let folder = store.join(format!("bench-{}", std::process::id()));
        let failed = |error| Stop::new(Exit::Store, format!("`{}`: {error}", folder.display()));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
