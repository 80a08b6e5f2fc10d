//! A process with open runs is killed: how long until another one works on them.
//!
//! Most runs wait for a person; every hundredth (at least one) is in the midst of steps that take
//! [`NAP_MS`] each. The time from the kill holds the start of the process that takes over. What is measured
//! last is a server that is killed, until the next one answers `/readyz`.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kapelle_core::{RunId, Tenant};
use kapelle_engine::{Adopt, Engine, Options, Parts};
use kapelle_store::{Member, Sqlite};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::rounds::new_run;
use super::served::serve;
use super::served::wire::Line;
use super::workload::{Shape, asking, checked, napping};
use super::{Measured, Role, memory_mb};
use crate::cli::exit::{Exit, Stop};
use crate::cli::out;
use crate::node::known_agents;

/// How long a step takes of those runs that do not wait.
const NAP_MS: usize = 10;
/// How many steps such a run has: more than end before the kill.
const NAPS: usize = 1_000;
/// One in so many runs does not wait.
const WORKING: usize = 100;

/// What is left behind.
#[derive(Serialize, Deserialize)]
struct Left {
    /// Runs that work.
    working: Vec<RunId>,
}

/// What a process says that has taken over.
#[derive(Serialize, Deserialize)]
struct Adopted {
    rss_mb: f64,
}

/// When the first step after that ended, in microseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Went {
    at: i64,
}

pub(super) async fn measure(
    folder: Option<&Path>,
    shape: &Shape,
    at_least: Duration,
) -> Result<Measured, Stop> {
    let Some(folder) = folder else {
        return Err(Stop::usage("`recover` kills a process: give a folder as the store"));
    };
    let (began, mut next, mut ready, mut rss) = (Instant::now(), Vec::new(), Vec::new(), 0.0_f64);
    let mut served = Vec::new();
    while began.elapsed() < at_least || ready.is_empty() {
        let once = once(folder, shape.runs).await?;
        next.push(once.next);
        ready.push(once.ready);
        served.push(server(&folder.join("store")).await?);
        rss = rss.max(once.rss_mb);
        std::fs::remove_dir_all(folder.join("store"))?;
    }
    let measured = |name: &str, steps: usize, times: Vec<Duration>| {
        let seconds = times.iter().sum::<Duration>().as_secs_f64();
        let measured = Measured::new(name, steps, seconds, times);
        Measured { runs: shape.runs, rss_mb: rss, ..measured }
    };
    let rounds = ready.len();
    let parts =
        vec![measured("ready", rounds * shape.runs, ready), measured("server", rounds, served)];
    Ok(Measured { parts, ..measured("recover", rounds, next) })
}

/// What one kill came to.
struct Once {
    /// From the kill to the end of a step.
    next: Duration,
    /// From the kill until all runs were taken over.
    ready: Duration,
    rss_mb: f64,
}

async fn once(folder: &Path, runs: usize) -> Result<Once, Stop> {
    let mut leaver = Role::Leave.process(folder, runs)?.spawn()?;
    let left: Left = said(&mut lines(&mut leaver)).await?;
    // The kill is only sent: waiting for the process to be gone is a part of what is measured.
    leaver.start_kill()?;
    let (killed, killed_at) = (Instant::now(), SystemTime::now());
    let status = leaver.wait().await?;
    let mut adopter = Role::Adopt.process(folder, runs)?.spawn()?;
    let mut stdin = adopter.stdin.take().expect("it is piped");
    let mut told = serde_json::to_vec(&left).map_err(std::io::Error::other)?;
    told.push(b'\n');
    stdin.write_all(&told).await?;
    let mut lines = lines(&mut adopter);
    let adopted: Adopted = said(&mut lines).await?;
    let ready = killed.elapsed();
    let went: Went = said(&mut lines).await?;
    drop(stdin);
    let ended = adopter.wait().await?;
    if !ended.success() {
        return Err(failed(ended));
    }
    if status.success() {
        return Err(Stop::new(Exit::Failed, "the process ended before it was killed"));
    }
    let killed_at = killed_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let went = Duration::from_micros(u64::try_from(went.at).unwrap_or(0));
    Ok(Once { next: went.saturating_sub(killed_at), ready, rss_mb: adopted.rss_mb })
}

/// From the kill of a server with all these runs until the next one says that it is ready.
async fn server(store: &Path) -> Result<Duration, Stop> {
    let (mut first, _) = serve(store).await?;
    first.start_kill()?;
    let killed = Instant::now();
    first.wait().await?;
    let (mut second, at) = serve(store).await?;
    let ask = format!("GET /readyz HTTP/1.1\r\nhost: {at}\r\n\r\n");
    Line::connect(at).await?.ask(ask.as_bytes()).await?.done()?;
    let ready = killed.elapsed();
    second.kill().await?;
    Ok(ready)
}

fn failed(status: ExitStatus) -> Stop {
    Stop::new(Exit::Failed, format!("the process that takes over ended with {status}"))
}

pub(super) fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().expect("it is piped")).lines()
}

/// The next thing that a process says.
pub(super) async fn said<T: serde::de::DeserializeOwned>(
    lines: &mut Lines<BufReader<ChildStdout>>,
) -> Result<T, Stop> {
    let line = lines.next_line().await?;
    let line = line.ok_or_else(|| Stop::new(Exit::Failed, "the measured process ended early"))?;
    serde_json::from_str(&line).map_err(|error| Stop::new(Exit::Failed, error))
}

/// An engine on the store.
pub(super) async fn open(store: &Path, adopt: Adopt) -> Result<Engine, Stop> {
    let journal = Arc::new(Sqlite::open(store)?);
    let nodes = Arc::new(Member::join(store, None)?);
    let parts = Parts { journal, nodes, agents: known_agents(&Arc::default()) };
    Ok(Engine::open(parts, Options { adopt, ..Options::default() }).await?)
}

/// Begins `runs` runs, says which of them work, and goes on until it is killed.
pub(super) async fn leave(store: &Path, runs: usize) -> Result<(), Stop> {
    let engine = open(store, Adopt::Asked).await?;
    let prepare =
        |steps: &[_]| Ok::<_, Stop>(engine.prepare(&checked(steps, 10, &engine.agents())?)?);
    let waits = prepare(&[asking(0)])?;
    let naps: Vec<_> = (0..NAPS).map(|n| napping(n, NAP_MS, n.checked_sub(1))).collect();
    let works = prepare(&naps)?;
    let working = runs.div_ceil(WORKING);
    let submit = async |plan| Ok::<_, Stop>(engine.submit(new_run(plan)).await?.run);
    let waiting = stream::iter(std::iter::repeat_n(waits, runs - working));
    waiting.map(submit).buffer_unordered(500).try_collect::<Vec<_>>().await?;
    let working = stream::iter(std::iter::repeat_n(works, working));
    let working: Vec<_> = working.map(submit).buffer_unordered(500).try_collect().await?;
    for run in &working {
        first_end(&engine, *run, 0).await?;
    }
    out::json(&Left { working })?;
    std::future::pending().await
}

/// Takes over what was left, and says when that was done and when a step ended.
pub(super) async fn adopt(store: &Path) -> Result<(), Stop> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    let engine = open(store, Adopt::All).await?;
    out::json(&Adopted { rss_mb: memory_mb("VmHWM:") })?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let left: Left = serde_json::from_str(&line).map_err(Stop::usage)?;
    let mut first = i64::MAX;
    for run in left.working {
        first = first.min(first_end(&engine, run, since).await?);
    }
    out::json(&Went { at: first })?;
    engine.drain(Duration::ZERO).await?;
    Ok(())
}

/// When the run's first step ended after `since`.
async fn first_end(engine: &Engine, run: RunId, since: i64) -> Result<i64, Stop> {
    loop {
        let run = engine.run(&Tenant::default(), run).await?;
        let ends = run.steps().iter().filter_map(|step| step.ended_at);
        if let Some(first) = ends.map(|at| at.0).filter(|at| *at > since).min() {
            return Ok(first);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
