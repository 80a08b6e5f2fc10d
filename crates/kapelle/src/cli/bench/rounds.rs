//! A workload in rounds, each followed by bare SQLite writing as much.
//!
//! A step's time is from the end of the step before it (the begin of its run for the first) to its
//! own end, as the journal of every so many runs has them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kapelle_core::port::{Agents, Nodes};
use kapelle_core::run::Verdict;
use kapelle_core::{RunId, Tenant};
use kapelle_engine::{Engine, NewRun, Options, Parts, PreparedPlan};
use kapelle_store::limits::{Bare, Load};
use kapelle_store::{Alone, Member, Memory, Sqlite};
use serde_json::json;

use super::counted::Counted;
use super::workload::Shape;
use super::{Measured, number};
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::Settings;

/// Of how many runs of a round the steps' times are read.
const SAMPLE: usize = 20;

/// What all rounds came to.
#[derive(Default)]
struct Sum {
    runs: usize,
    events: u64,
    commits: usize,
    ours: Duration,
    bare: Duration,
    times: Vec<Duration>,
}

pub(super) async fn measure(
    folder: Option<&Path>,
    shape: &Shape,
    settings: &Settings,
    agents: Agents,
    at_least: Duration,
) -> Result<Measured, Stop> {
    let (journal, nodes): (_, Arc<dyn Nodes>) = match folder {
        Some(folder) => (on_disk(folder)?, Arc::new(Member::join(folder, None)?)),
        None => (in_memory(), Arc::new(Alone::new())),
    };
    let mut bare = folder.map(Bare::create).transpose()?;
    let journal = Arc::new(journal);
    let parts = Parts { journal: journal.clone(), nodes, agents };
    let node = &settings.config.node;
    let loops = (node.loops > 0).then_some(node.loops);
    let engine = Engine::open(parts, Options { loops, slots: node.slots, ..Options::default() });
    let engine = engine.await?;
    let plan = engine.prepare(&shape.plan(&engine.agents())?)?;
    let begin = Checkpoints::new(folder);
    let mut sum = Sum::default();
    while sum.runs == 0 || sum.ours < at_least || !begin.one_passed(folder) {
        journal.take();
        round(&engine, &plan, shape, &mut sum).await?;
        let commits = journal.take();
        sum.commits += commits.len();
        if let Some(bare) = &mut bare {
            sum.bare += replay(bare, &commits)?;
        }
    }
    engine.drain(Duration::ZERO).await?;
    Ok(sum.measured(shape, bare.is_some()))
}

fn on_disk(folder: &Path) -> Result<Counted, Stop> {
    let store = Arc::new(Sqlite::open(folder)?);
    Ok(Counted::new(store.clone(), move || store.commits()))
}

/// Where nothing is committed together.
fn in_memory() -> Counted {
    let next = AtomicU64::new(0);
    Counted::new(Arc::new(Memory::new()), move || next.fetch_add(1, Ordering::Relaxed))
}

/// One round: so many runs, so many at a time.
async fn round(
    engine: &Engine,
    plan: &PreparedPlan,
    shape: &Shape,
    sum: &mut Sum,
) -> Result<(), Stop> {
    let began = Instant::now();
    let (mut under_way, mut begun) = (FuturesUnordered::new(), 0);
    let (mut sample, mut done, every) = (Vec::new(), 0, shape.runs.div_ceil(SAMPLE));
    while begun < shape.runs || !under_way.is_empty() {
        if begun < shape.runs && under_way.len() < shape.runs_at_once() {
            under_way.push(one(engine, plan.clone()));
            begun += 1;
        } else if let Some(run) = under_way.next().await {
            let run = run?;
            if done % every == 0 {
                sample.push(run);
            }
            done += 1;
        }
    }
    sum.ours += began.elapsed();
    sum.runs += shape.runs;
    for run in &sample {
        let run = engine.run(&Tenant::default(), *run).await?;
        let mut ends = vec![run.created_at()];
        ends.extend(run.steps().iter().filter_map(|step| step.ended_at));
        ends.sort_unstable();
        sum.times.extend(ends.windows(2).map(|pair| pair[1].since(pair[0])));
        sum.events += run.seq() * (shape.runs / sample.len()) as u64;
    }
    Ok(())
}

/// One run to its end.
async fn one(engine: &Engine, plan: PreparedPlan) -> Result<RunId, Stop> {
    let (run, ended) = engine.perform(new_run(plan)).await?;
    if ended.verdict == Verdict::Completed {
        Ok(run)
    } else {
        Err(Stop::new(Exit::Failed, format!("run {run} did not complete: {}", ended.detail)))
    }
}

/// A run of a plan, without inputs.
pub(super) fn new_run(plan: PreparedPlan) -> NewRun {
    let (tenant, inputs) = (Tenant::default(), json!({}));
    NewRun { tenant, plan, inputs, root: "/".into(), task_id: None, key: None }
}

fn replay(bare: &mut Bare, commits: &[Load]) -> Result<Duration, Stop> {
    let began = Instant::now();
    for load in commits {
        bare.commit(*load)?;
    }
    Ok(began.elapsed())
}

impl Sum {
    fn measured(self, shape: &Shape, has_limit: bool) -> Measured {
        let name = format!("{:?}", shape.workload).to_lowercase();
        let steps = self.runs * shape.steps_of_a_run();
        let seconds = self.ours.as_secs_f64();
        let bare = has_limit.then_some(self.bare.as_secs_f64());
        let limit = shape.ideal().map(|ideal| ideal * number(self.runs / shape.runs)).or(bare);
        Measured {
            runs: self.runs,
            commits: self.commits,
            events: self.events,
            of_limit: limit.map(|limit| limit / seconds),
            ..Measured::new(&name, steps, seconds, self.times)
        }
    }
}

/// How large the database was, which grows at a checkpoint only.
struct Checkpoints(Option<u64>);

impl Checkpoints {
    fn new(folder: Option<&Path>) -> Self {
        Self(folder.map(size))
    }

    /// Whether one has passed since; in memory there are none.
    fn one_passed(&self, folder: Option<&Path>) -> bool {
        folder.map(size) > self.0 || self.0.is_none()
    }
}

fn size(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("kapelle.db")).map_or(0, |found| found.len())
}
