//! What waits for a person takes memory: how much more when there is more of it, in a process of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kapelle_core::Tenant;
use kapelle_engine::{Adopt, Engine, PreparedPlan};
use serde::{Deserialize, Serialize};

use super::recover::{lines, open, said};
use super::rounds::new_run;
use super::workload::{Shape, asking, checked};
use super::{Measured, Role, memory_mb, number};
use crate::cli::exit::{Exit, Stop};
use crate::cli::out;

/// What is aimed at for each, in KiB.
const AIM_KIB: f64 = 4.0;
/// How many runs begin at once.
const AT_ONCE: usize = 500;

/// What a process came to.
#[derive(Serialize, Deserialize)]
struct Held {
    rss_mb: f64,
    /// How much of it came with what waits.
    more_mb: f64,
    seconds: f64,
    times: Vec<Duration>,
}

pub(super) async fn measure(folder: Option<&Path>, shape: &Shape) -> Result<Measured, Stop> {
    let Some(folder) = folder else {
        return Err(Stop::usage("`waiting` starts a process: give a folder as the store"));
    };
    let mut all = Vec::new();
    for (name, role) in [("waiting", Role::HoldRuns), ("steps", Role::HoldSteps)] {
        let mut holder = role.process(folder, shape.runs)?.spawn()?;
        let held: Held = said(&mut lines(&mut holder)).await?;
        let status = holder.wait().await?;
        if !status.success() {
            return Err(Stop::new(
                Exit::Failed,
                format!("the process that waits ended with {status}"),
            ));
        }
        std::fs::remove_dir_all(folder.join("store"))?;
        let each = held.more_mb * 1024.0 / number(shape.runs);
        let runs = if matches!(role, Role::HoldRuns) { shape.runs } else { 1 };
        let measured = Measured::new(name, shape.runs, held.seconds, held.times);
        let (rss_mb, kib_each, of_limit) = (held.rss_mb, Some(each), Some(AIM_KIB / each));
        all.push(Measured { runs, rss_mb, kib_each, of_limit, ..measured });
    }
    let parts = all.split_off(1);
    Ok(Measured { parts, ..all.remove(0) })
}

/// Begins a tenth as many runs first: what only the first ones need is not counted.
pub(super) async fn hold_runs(store: &Path, runs: usize) -> Result<(), Stop> {
    let engine = open(store, Adopt::Asked).await?;
    let plan = engine.prepare(&checked(&[asking(0)], 10, &engine.agents())?)?;
    submit(&engine, &plan, runs.div_ceil(10), 1).await?;
    hold(&engine, &plan, runs, 1).await
}

/// The same with the steps of one run.
pub(super) async fn hold_steps(store: &Path, steps: usize) -> Result<(), Stop> {
    let engine = open(store, Adopt::Asked).await?;
    let few: Vec<_> = (0..steps.div_ceil(10)).map(asking).collect();
    let few = engine.prepare(&checked(&few, 10, &engine.agents())?)?;
    submit(&engine, &few, 1, steps.div_ceil(10)).await?;
    let many: Vec<_> = (0..steps).map(asking).collect();
    let many = engine.prepare(&checked(&many, 10, &engine.agents())?)?;
    hold(&engine, &many, 1, steps).await
}

async fn hold(engine: &Engine, plan: &PreparedPlan, runs: usize, steps: usize) -> Result<(), Stop> {
    let (before, began) = (memory_mb("VmRSS:"), Instant::now());
    let times = submit(engine, plan, runs, steps).await?;
    let (rss_mb, seconds) = (memory_mb("VmRSS:"), began.elapsed().as_secs_f64());
    out::json(&Held { rss_mb, more_mb: rss_mb - before, seconds, times })?;
    engine.drain(Duration::ZERO).await?;
    Ok(())
}

/// Begins runs of so many steps, and waits until the last one has asked for all of them.
async fn submit(
    engine: &Engine,
    plan: &PreparedPlan,
    runs: usize,
    steps: usize,
) -> Result<Vec<Duration>, Stop> {
    let one = async |plan| {
        let began = Instant::now();
        let run = engine.submit(new_run(plan)).await?.run;
        Ok::<_, Stop>((run, began.elapsed()))
    };
    let all = stream::iter(std::iter::repeat_n(plan.clone(), runs)).map(one);
    let all: Vec<_> = all.buffer_unordered(AT_ONCE).try_collect().await?;
    if let Some((run, _)) = all.last() {
        // The run itself is not read: what that takes is no part of what waits.
        let journal = engine.journal();
        while journal.read(&Tenant::default(), *run, steps as u64 + 1).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(all.into_iter().map(|(_, took)| took).collect())
}
