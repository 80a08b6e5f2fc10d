//! How fast events reach those who watch, and what watchers cost who see nothing.
//!
//! Times are from when an event was decided, so its commit is in them, to when its subscriber has read it.
//! Beside what goes to all a server that is told what to say, and keeps nothing.

use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kapelle_core::{Json, Timestamp};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::served::wire::Line;
use super::served::{Served, failed, place, raise_files};
use super::workload::{Shape, asking, napping, plan_of};
use super::{Measured, number};
use crate::cli::exit::Stop;

/// How long the steps take of runs that are watched, and of the one that all watch.
const NAP_MS: usize = 500;
const ALL_MS: usize = 1_000;
/// The bare server is told something as often.
const SAID: Duration = Duration::from_secs(1);
/// How long a run goes on before all who watch it are there, at the most.
const OPENING_MS: usize = 60_000;
/// So many times as many watch where nothing happens.
const IDLE: usize = 10;
/// How many connect at once.
const AT_ONCE: usize = 100;
/// What comes before the time of an event, and after it.
const AT: &[u8] = b"\"at\":\"";
/// What is aimed at for those who see nothing, in MiB.
const AIM_MB: f64 = 120.0;

pub(super) async fn measure(
    folder: Option<&Path>,
    shape: &Shape,
    at_least: Duration,
) -> Result<Measured, Stop> {
    let folder = place("streams", folder)?;
    let watchers = shape.concurrency;
    raise_files(watchers * IDLE)?;
    let time = at_least / 3 + Duration::from_millis(1_500);
    let server = Served::start(&folder.join("store")).await?;
    let some = seen(&server, shape.runs, (watchers, NAP_MS), time).await?;
    let all = seen(&server, 1, (watchers, ALL_MS), time).await?;
    let rss_mb = server.takes().0;
    server.kill().await?;
    let bare = Served::bare().await?;
    let raw = told(&bare, watchers, time).await?;
    bare.kill().await?;
    let part = |name, times: Vec<Duration>, runs| {
        let measured = Measured::new(name, times.len(), time.as_secs_f64(), times);
        Measured { runs, rss_mb, ..measured }
    };
    let (some, all, raw) =
        (part("streams", some, shape.runs), part("all", all, 1), part("raw_all", raw, 1));
    let of_limit = raw.p99_ms.zip(all.p99_ms).map(|(raw, ours)| raw / ours);
    let mut parts = vec![Measured { of_limit, ..all }, raw];
    parts.extend(idle(&folder.join("idle"), (shape.runs, watchers * IDLE), time).await?);
    Ok(Measured { parts, ..some })
}

/// How long events took to reach those who watch these runs, as many each.
async fn seen(
    server: &Served,
    runs: usize,
    (watchers, nap_ms): (usize, usize),
    time: Duration,
) -> Result<Vec<Duration>, Stop> {
    let naps = (time.as_millis() as usize + OPENING_MS) / nap_ms;
    let steps: Vec<Json> = (0..naps).map(|n| napping(n, nap_ms, n.checked_sub(1))).collect();
    let ids = begun(server, runs, &steps).await?;
    let lines = opened(server, watching(server, &ids, watchers)).await?;
    let times = heard(lines, time, async || Ok(())).await?;
    for id in ids {
        server.ask("POST", &format!("/runs/{id}/cancel"), &json!({})).await?;
    }
    Ok(times)
}

/// The same of a server that is told what to tell to all.
async fn told(bare: &Served, watchers: usize, time: Duration) -> Result<Vec<Duration>, Stop> {
    let lines = opened(bare, vec![bare.request("GET", "/events", ""); watchers]).await?;
    let say = async || {
        // As long as an event of ours.
        let event = json!({ "at": crate::now().to_string(), "text": "x".repeat(200) });
        let event = bare.request("POST", "/say", &format!("data: {event}\n\n"));
        Line::connect(bare.at).await?.ask(&event).await?.done().map(drop)
    };
    heard(lines, time, say).await
}

/// What those cost who see nothing: of ours and of a bare server.
async fn idle(
    store: &Path,
    (runs, watchers): (usize, usize),
    time: Duration,
) -> Result<[Measured; 2], Stop> {
    let server = Served::start(store).await?;
    let ids = begun(&server, runs, &[asking(0)]).await?;
    let ours = watching(&server, &ids, watchers);
    let ours = costs("idle", &server, ours, time).await?;
    server.kill().await?;
    let bare = Served::bare().await?;
    let raw = vec![bare.request("GET", "/events", ""); watchers];
    let raw = costs("raw_idle", &bare, raw, time).await?;
    bare.kill().await?;
    Ok([Measured { runs, of_limit: Some(AIM_MB / ours.rss_mb), ..ours }, raw])
}

async fn costs(
    name: &str,
    server: &Served,
    requests: Vec<Vec<u8>>,
    time: Duration,
) -> Result<Measured, Stop> {
    let (before, watchers) = (server.takes().0, requests.len());
    let lines = opened(server, requests).await?;
    // What opening them takes is over.
    sleep(time).await;
    let (_, spent) = server.takes();
    sleep(time).await;
    let (rss_mb, by_now) = server.takes();
    drop(lines);
    let seconds = time.as_secs_f64();
    let kib_each = Some((rss_mb - before) * 1024.0 / number(watchers));
    let cpu_percent = Some((by_now - spent).as_secs_f64() / seconds * 100.0);
    let measured = Measured::new(name, watchers, seconds, Vec::new());
    Ok(Measured { rss_mb, kib_each, cpu_percent, steps_per_s: 0.0, ..measured })
}

/// Runs of these steps; their ids.
async fn begun(server: &Served, runs: usize, steps: &[Json]) -> Result<Vec<String>, Stop> {
    let new = json!({ "plan": plan_of(steps, 10) });
    stream::iter(0..runs).then(|_| server.submit(&new)).try_collect().await
}

/// Requests to watch these runs, by as many each.
fn watching(server: &Served, ids: &[String], watchers: usize) -> Vec<Vec<u8>> {
    let watch = |id| server.request("GET", &format!("/runs/{id}/events"), "");
    ids.iter().cycle().take(watchers).map(watch).collect()
}

async fn opened(at: &Served, requests: Vec<Vec<u8>>) -> Result<Vec<Line>, Stop> {
    let open = async |request: Vec<u8>| {
        let mut line = Line::connect(at.at).await?;
        line.open(&request).await?;
        Ok::<_, Stop>(line)
    };
    stream::iter(requests).map(open).buffer_unordered(AT_ONCE).try_collect().await
}

/// Listens on all of them for a while, and has something said now and then.
async fn heard(
    lines: Vec<Line>,
    time: Duration,
    say: impl AsyncFn() -> Result<(), Stop>,
) -> Result<Vec<Duration>, Stop> {
    let (since, end) = (crate::now(), Instant::now() + time);
    let listening: Vec<_> =
        lines.into_iter().map(|line| tokio::spawn(listen(line, since, end))).collect();
    while Instant::now() < end {
        say().await?;
        sleep_until(end.min(Instant::now() + SAID)).await;
    }
    let mut times = Vec::new();
    for listening in listening {
        times.extend(listening.await.map_err(failed)??);
    }
    Ok(times)
}

/// How long each event took that happened after `since`.
async fn listen(mut line: Line, since: Timestamp, end: Instant) -> Result<Vec<Duration>, Stop> {
    let mut times = Vec::new();
    while let Ok(read) = timeout_at(end, line.next()).await {
        let (read, now) = (read?, crate::now());
        let took = events(read).into_iter().filter(|at| *at > since).map(|at| now.since(at));
        times.extend(took);
    }
    Ok(times)
}

/// Takes the events from what was read, but for one whose time is not there yet.
fn events(read: &mut Vec<u8>) -> Vec<Timestamp> {
    let (mut times, mut rest) = (Vec::new(), 0);
    let find = |read: &[u8]| read.windows(AT.len()).position(|six| six == AT);
    while let Some(at) = find(&read[rest..]) {
        let begin = rest + at + AT.len();
        let Some(len) = read[begin..].iter().position(|byte| *byte == b'"') else { break };
        let text = std::str::from_utf8(&read[begin..begin + len]).unwrap_or_default();
        times.extend(text.parse::<jiff::Timestamp>().map(|at| Timestamp(at.as_microsecond())));
        rest = begin + len;
    }
    let keep = rest.max(read.len().saturating_sub(64));
    read.drain(..keep.min(read.len()));
    times
}
