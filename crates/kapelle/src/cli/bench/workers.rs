//! What workers get done through HTTP: steps that are handed out and completed, each on disk.
//!
//! Every worker has one connection and no work to do: what is measured is asking, being given and saying so.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kapelle_core::Json;
use serde_json::json;
use tokio::sync::mpsc;

use super::Measured;
use super::served::wire::Line;
use super::served::{Served, Sum, failed, place};
use super::workload::{Shape, plan_of};
use crate::cli::exit::Stop;

/// What the agent is called whose work they do.
const AGENT: &str = "bench";
/// How many steps of a run may be theirs at once.
const AT_ONCE: usize = 1_000;
/// How many steps are given to those who wait for one, and timed.
const ASSIGNED: usize = 200;
/// How long the bare server has its turn.
const TURN: Duration = Duration::from_millis(500);

pub(super) async fn measure(
    folder: Option<&Path>,
    shape: &Shape,
    at_least: Duration,
) -> Result<Measured, Stop> {
    let store = place("workers", folder)?.join("store");
    let (server, bare) = (Served::start(&store).await?, Served::bare().await?);
    let server = Arc::new(server);
    server.ask("POST", "/agents", &json!({ "name": AGENT })).await?;
    let raw: Arc<[_]> = [bare.request("POST", "/64", "{\"output\":1}")].into();
    let (mut ours, mut beside, mut rounds) = (Sum::default(), Sum::default(), 0);
    while ours.time < at_least || rounds == 0 {
        beside.turn(bare.at, &raw, shape.concurrency, TURN.min(at_least)).await?;
        round(&server, shape, &mut ours).await?;
        rounds += 1;
    }
    let assigned = assigned(&server, shape.concurrency, at_least).await?;
    let rss_mb = server.takes().0;
    // A step is two requests.
    let limit = beside.per_second() / 2.0;
    let parts = vec![assigned, beside.measured("raw", None)];
    Ok(Measured { runs: rounds, rss_mb, parts, ..ours.measured("workers", Some(limit)) })
}

/// One run whose steps the workers do.
async fn round(server: &Arc<Served>, shape: &Shape, sum: &mut Sum) -> Result<(), Stop> {
    let steps: Vec<Json> = (0..shape.steps).map(work).collect();
    server.submit(&json!({ "plan": plan_of(&steps, AT_ONCE) })).await?;
    let left = Arc::new(AtomicUsize::new(shape.steps));
    let began = Instant::now();
    let worker = |_| {
        let (server, left) = (server.clone(), left.clone());
        tokio::spawn(async move {
            let (mut worker, mut times) = (Worker::new(&server).await?, Vec::new());
            while left.load(Ordering::Relaxed) > 0 {
                let since = Instant::now();
                let Some(attempt) = worker.take().await? else { continue };
                worker.complete(&server, &attempt).await?;
                times.push(since.elapsed());
                left.fetch_sub(1, Ordering::Relaxed);
            }
            Ok::<_, Stop>(times)
        })
    };
    let workers: Vec<_> = (0..shape.concurrency).map(worker).collect();
    for worker in workers {
        sum.times.extend(worker.await.map_err(failed)??);
    }
    sum.time += began.elapsed();
    Ok(())
}

/// How long it is from sending a run of one step to its being with one of those who wait.
async fn assigned(server: &Arc<Served>, workers: usize, most: Duration) -> Result<Measured, Stop> {
    let (given, mut gets) = mpsc::unbounded_channel();
    let worker = |_| {
        let (server, given) = (server.clone(), given.clone());
        tokio::spawn(async move {
            let mut worker = Worker::new(&server).await?;
            loop {
                let Some(attempt) = worker.take().await? else { continue };
                given.send(Instant::now()).ok();
                worker.complete(&server, &attempt).await?;
            }
            #[expect(unreachable_code, reason = "it says what the errors are")]
            Ok::<_, Stop>(())
        })
    };
    let waiting: Vec<_> = (0..workers).map(worker).collect();
    let new = json!({ "plan": plan_of(&[work(0)], 1) }).to_string();
    let new = server.request("POST", "/runs", &new);
    let mut line = Line::connect(server.at).await?;
    let (began, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || times.len() < ASSIGNED && began.elapsed() < most {
        let since = Instant::now();
        line.ask(&new).await?.done()?;
        let at = gets.recv().await.ok_or_else(|| failed("all workers ended"))?;
        times.push(at - since);
    }
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    let seconds = times.iter().sum::<Duration>().as_secs_f64();
    Ok(Measured { runs: times.len(), ..Measured::new("assigned", times.len(), seconds, times) })
}

fn work(n: usize) -> Json {
    json!({ "id": format!("s{n}"), "work": { "agent": { "agent": AGENT, "input": { "step": n } } } })
}

/// A worker with its connection.
struct Worker {
    line: Line,
    ask: Vec<u8>,
}

impl Worker {
    async fn new(server: &Served) -> Result<Self, Stop> {
        let ask = server.request("GET", &format!("/agents/{AGENT}/work?wait=500ms"), "");
        Ok(Self { line: Line::connect(server.at).await?, ask })
    }

    /// Something to do, if there is.
    async fn take(&mut self) -> Result<Option<String>, Stop> {
        let answer = self.line.ask(&self.ask).await?;
        let body = answer.done()?;
        if answer.status == 204 {
            return Ok(None);
        }
        let json: Json = serde_json::from_slice(body).map_err(failed)?;
        Ok(json["attempt"].as_str().map(str::to_owned))
    }

    async fn complete(&mut self, server: &Served, attempt: &str) -> Result<(), Stop> {
        let path = format!("/attempts/{attempt}/complete");
        let done = server.request("POST", &path, "{\"output\":1}");
        self.line.ask(&done).await?.done().map(drop)
    }
}
