//! `GET /metrics`: what this node has done since it began, and what there is to do, for Prometheus.
//!
//! **Invariants:** a label is one of a few words of ours: no name that a user gave, no id. What is counted is
//! of this process; what is on disk is told by the routes about runs. Names that begin with `orchestrator_` are
//! fixed by the document that names them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use kapelle_core::port::agent::{FailureKind, Usage};
use kapelle_core::run::Event;
use kapelle_engine::shards::Published;
use kapelle_engine::{Commit, Load, Meter};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::App;
use super::problem::Problem;
use super::rooms::Taken;

/// What the text is, as Prometheus reads it.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The agents that ship: others are one, for their names are their users'.
const SHIPPED: [&str; 11] = [
    "echo",
    "process",
    "http",
    "web",
    "memory",
    "model",
    "analyzer",
    "summarizer",
    "guide-extractor",
    "walkthrough-generator",
    "aggregator",
];

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// A label and its word.
type Word = (&'static str, &'static str);
type Count<const N: usize> = Family<[Word; N], Counter>;
type Times<const N: usize> = Family<[Word; N], Histogram, fn() -> Histogram>;

/// What this node counts.
pub(super) struct Metrics {
    registry: Registry,
    created: Counter,
    ended: Count<1>,
    latency: Histogram,
    step_failures: Count<1>,
    retries: Count<1>,
    attempts: Count<2>,
    attempt_seconds: Times<1>,
    turns: Histogram,
    commits: Times<1>,
    commit_events: Histogram,
    commit_bytes: Counter,
    tokens: Count<1>,
    cost: Counter<f64, AtomicU64>,
    unpriced: Counter,
    requests: Count<3>,
    request_seconds: Times<1>,
    refused: Count<1>,
    streams: Family<[Word; 1], Gauge>,
    lagged: Counter,
    now: Now,
}

/// What there is at the moment, looked up when somebody asks.
#[derive(Default)]
struct Now {
    runs: Gauge,
    queue: Family<[Word; 1], Gauge>,
    attempts: Gauge,
    appends: Gauge,
    agents: Gauge,
    room: Family<[Word; 1], Gauge>,
    taken: Family<[Word; 1], Gauge>,
    memory: Gauge,
    files: Gauge,
    cpu: Counter<f64, AtomicU64>,
}

/// From a tenth of a millisecond on: turns, commits, requests.
fn quick() -> Histogram {
    Histogram::new([
        0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
    ])
}

/// From a millisecond to an hour: attempts and runs.
fn slow() -> Histogram {
    Histogram::new([
        0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
    ])
}

impl Metrics {
    pub(super) fn new() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            created: Counter::default(),
            ended: Family::default(),
            latency: slow(),
            step_failures: Family::default(),
            retries: Family::default(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(slow),
            turns: quick(),
            commits: Family::new_with_constructor(quick),
            commit_events: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 512.0]),
            commit_bytes: Counter::default(),
            tokens: Family::default(),
            cost: Counter::default(),
            unpriced: Counter::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(quick),
            refused: Family::default(),
            streams: Family::default(),
            lagged: Counter::default(),
            now: Now::default(),
        };
        metrics.begun().registered()
    }

    /// With a zero for what there will be: a graph of it begins at once, and a rate misses nothing.
    fn begun(self) -> Self {
        for verdict in ["completed", "completed_with_errors", "failed", "cancelled"] {
            drop(self.ended.get_or_create(&[("verdict", verdict)]));
        }
        for kind in [FailureKind::Invalid, FailureKind::Timeout, FailureKind::Unavailable] {
            drop(self.step_failures.get_or_create(&[("kind", kind.as_str())]));
            drop(self.retries.get_or_create(&[("kind", kind.as_str())]));
        }
        for way in ["input", "output"] {
            drop(self.tokens.get_or_create(&[("direction", way)]));
        }
        drop(self.commits.get_or_create(&[("end", "done")]));
        for code in ["too_many_requests", "overloaded"] {
            drop(self.refused.get_or_create(&[("code", code)]));
        }
        for kind in ["sse", "websocket"] {
            drop(self.streams.get_or_create(&[("kind", kind)]));
        }
        self
    }

    fn registered(mut self) -> Self {
        self.tell_runs();
        self.tell_attempts();
        self.tell_store();
        self.tell_calls();
        self.tell_room();
        self
    }

    fn tell_runs(&mut self) {
        let (to, now) = (&mut self.registry, &self.now);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let build = Family::<[Word; 1], Gauge>::default();
        build.get_or_create(&version).set(1);
        to.register("kapelle_build_info", "What this node is", build);
        to.register(
            "orchestrator_tasks_active",
            "Open runs that this node works on",
            now.runs.clone(),
        );
        to.register(
            "orchestrator_subtask_failures",
            "Steps that failed for good, by the kind of failure",
            self.step_failures.clone(),
        );
        to.register(
            "orchestrator_latency_seconds",
            "From the creation of a run to its end",
            self.latency.clone(),
        );
        to.register("kapelle_runs_created", "Runs that were created here", self.created.clone());
        to.register("kapelle_runs_ended", "Runs that ended here, by verdict", self.ended.clone());
    }

    fn tell_attempts(&mut self) {
        let (to, now) = (&mut self.registry, &self.now);
        to.register(
            "kapelle_step_retries",
            "Attempts that failed and are followed by another one",
            self.retries.clone(),
        );
        to.register(
            "kapelle_attempts",
            "Attempts that ended, by agent (`own`: one that does not ship) and end",
            self.attempts.clone(),
        );
        to.register(
            "kapelle_attempt_seconds",
            "How long attempts took, by agent",
            self.attempt_seconds.clone(),
        );
        to.register(
            "kapelle_attempts_running",
            "Attempts that are under way",
            now.attempts.clone(),
        );
        to.register(
            "kapelle_queue_depth",
            "What waits in the loops: offers, and runs that may begin a step",
            now.queue.clone(),
        );
    }

    fn tell_store(&mut self) {
        let (to, now) = (&mut self.registry, &self.now);
        to.register(
            "kapelle_turn_seconds",
            "How long the turns of the loops took",
            self.turns.clone(),
        );
        to.register(
            "kapelle_commit_seconds",
            "From handing an append to the store until it settled",
            self.commits.clone(),
        );
        to.register(
            "kapelle_commit_events",
            "How many events an append held",
            self.commit_events.clone(),
        );
        to.register(
            "kapelle_commit_bytes",
            "Bytes of events that were appended",
            self.commit_bytes.clone(),
        );
        to.register("kapelle_appends_running", "Appends that are under way", now.appends.clone());
    }

    fn tell_calls(&mut self) {
        let (to, now) = (&mut self.registry, &self.now);
        to.register("kapelle_tokens", "Tokens that calls of models used", self.tokens.clone());
        to.register(
            "kapelle_cost_usd",
            "What calls cost whose price is known, in US dollars",
            self.cost.clone(),
        );
        to.register(
            "kapelle_unpriced_calls",
            "Calls whose price is not known",
            self.unpriced.clone(),
        );
        to.register("kapelle_agents", "Agents at hand", now.agents.clone());
        to.register(
            "kapelle_http_requests",
            "Requests that were answered, by route",
            self.requests.clone(),
        );
        to.register(
            "kapelle_http_request_seconds",
            "From a request to the head of its answer",
            self.request_seconds.clone(),
        );
    }

    fn tell_room(&mut self) {
        let (to, now) = (&mut self.registry, &self.now);
        to.register(
            "kapelle_refused",
            "Requests that were told to come again later, by the code of the problem",
            self.refused.clone(),
        );
        to.register("kapelle_streams", "Streams that are open, by kind", self.streams.clone());
        to.register(
            "kapelle_streams_lagged",
            "Streams that were ended since their reader took nothing for too long",
            self.lagged.clone(),
        );
        to.register(
            "kapelle_room",
            "How many there may be at once, of what is bounded at the door",
            now.room.clone(),
        );
        to.register("kapelle_room_taken", "How many of them there are", now.taken.clone());
        to.register(
            "process_resident_memory_bytes",
            "Memory that this process holds",
            now.memory.clone(),
        );
        to.register(
            "process_open_fds",
            "Files and connections that it has open",
            now.files.clone(),
        );
        to.register(
            "process_cpu_seconds",
            "Time that it has had of the processors",
            now.cpu.clone(),
        );
    }

    fn spent(&self, usage: &Usage) {
        self.tokens.get_or_create(&[("direction", "input")]).inc_by(usage.input_tokens);
        self.tokens.get_or_create(&[("direction", "output")]).inc_by(usage.output_tokens);
        match usage.cost_nanos {
            Some(nanos) => {
                self.cost.inc_by(nanos.max(0) as f64 / 1e9);
            }
            None => {
                self.unpriced.inc();
            }
        }
    }

    /// Counts an answer of a route.
    pub(super) fn answered(
        &self,
        route: &'static str,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let method = METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
        let status =
            ["1xx", "2xx", "3xx", "4xx", "5xx"][usize::from(status.as_u16() / 100 - 1).min(4)];
        let labels = [("route", route), ("method", method), ("status", status)];
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.get_or_create(&[("route", route)]).observe(took.as_secs_f64());
    }

    /// Counts an answer that says to come again later.
    pub(super) fn refused(&self, code: &'static str) {
        self.refused.get_or_create(&[("code", code)]).inc();
    }

    /// Counts a stream until what is returned is dropped.
    pub(super) fn opened(&self, kind: &'static str) -> Open {
        let streams = self.streams.get_or_create(&[("kind", kind)]).clone();
        streams.inc();
        Open(streams)
    }

    /// Counts a stream that was ended since its reader is too slow.
    pub(super) fn lagged(&self) {
        self.lagged.inc();
    }

    fn text(&self, load: Load, agents: usize, room: &[Taken]) -> String {
        let set = |gauge: &Gauge, count: usize| {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        let now = &self.now;
        set(&now.runs, load.runs);
        set(&now.attempts, load.attempts);
        set(&now.appends, load.appends);
        set(&now.agents, agents);
        set(&now.queue.get_or_create(&[("of", "offers")]), load.queued);
        set(&now.queue.get_or_create(&[("of", "runs")]), load.hungry);
        for Taken { of, taken, room } in room {
            let labels = [("of", *of)];
            set(&now.taken.get_or_create(&labels), *taken);
            set(&now.room.get_or_create(&labels), *room);
        }
        let process = Process::look();
        set(&now.memory, process.memory);
        set(&now.files, process.files);
        now.cpu.inner().store(process.cpu.to_bits(), Ordering::Relaxed);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a text takes all");
        plain(&text)
    }
}

/// A stream that is open, counted until this is dropped.
pub(super) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Meter for Metrics {
    fn happened(&self, published: &Published) {
        for event in &published.events {
            match event {
                Event::RunCreated(_) => {
                    self.created.inc();
                }
                Event::RunCompleted { verdict, .. } => {
                    self.ended.get_or_create(&[("verdict", verdict.as_str())]).inc();
                    let took = published.at.since(published.run.made_at());
                    self.latency.observe(took.as_secs_f64());
                }
                Event::StepFailed { failure, .. } => {
                    self.step_failures.get_or_create(&[("kind", failure.kind.as_str())]).inc();
                }
                Event::StepRetrying { failure, .. } => {
                    self.retries.get_or_create(&[("kind", failure.kind.as_str())]).inc();
                }
                Event::EffectRecorded { used: Some(used), .. } => self.spent(used),
                _ => {}
            }
        }
    }

    fn turned(&self, took: Duration) {
        self.turns.observe(took.as_secs_f64());
    }

    fn committed(&self, commit: Commit) {
        let end = if commit.is_well { "done" } else { "refused" };
        self.commits.get_or_create(&[("end", end)]).observe(commit.took.as_secs_f64());
        self.commit_events.observe(commit.events as f64);
        self.commit_bytes.inc_by(commit.bytes);
    }

    fn performed(&self, agent: &str, took: Duration, failed: Option<FailureKind>) {
        let agent = SHIPPED.into_iter().find(|known| *known == agent).unwrap_or("own");
        let end = failed.map_or("completed", FailureKind::as_str);
        self.attempts.get_or_create(&[("agent", agent), ("end", end)]).inc();
        self.attempt_seconds.get_or_create(&[("agent", agent)]).observe(took.as_secs_f64());
    }
}

/// What the system says of this process.
#[derive(Default)]
struct Process {
    memory: usize,
    files: usize,
    cpu: f64,
}

impl Process {
    /// Where the system says nothing, there is nothing.
    fn look() -> Self {
        let read =
            |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let pages = read("statm").split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
        let stat = read("stat");
        // The name of the process is in parentheses, and may hold anything.
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok());
        Self {
            memory: pages.unwrap_or(0) * rustix::param::page_size(),
            files: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            cpu: ticks.sum::<f64>() / rustix::param::clock_ticks_per_second() as f64,
        }
    }
}

/// What the library writes is OpenMetrics, where a counter is called without its `_total` in the lines about it; in
/// Prometheus' own format, which all read, it is not.
fn plain(text: &str) -> String {
    let counters: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut out = String::with_capacity(text.len() + 32 * counters.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let about = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        match about.and_then(|about| about.split_once(' ')) {
            Some((name, rest)) if counters.contains(name) => {
                out.push_str(&line[..7]);
                out.push_str(&format!("{name}_total {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// What this node has done, and what there is to do.
///
/// `GET /metrics`
pub(super) async fn metrics(app: App) -> Result<Response, Problem> {
    let load = app.engine().load().await;
    let agents = app.engine().agents().iter().count();
    let text = app.metrics().text(load, agents, &app.rooms().taken());
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_that_ship_are_called_by_their_names() {
        let agents = crate::node::known_agents(&std::sync::Arc::default());
        let names: BTreeSet<&str> = agents.iter().map(|agent| &*agent.agent.card().name).collect();
        assert_eq!(names, BTreeSet::from(SHIPPED));
    }

    #[test]
    fn counters_are_called_as_prometheus_calls_them() {
        let metrics = Metrics::new();
        metrics.performed("echo", Duration::from_millis(3), None);
        metrics.performed("my own agent", Duration::from_secs(3), Some(FailureKind::Timeout));
        let text = metrics.text(Load { runs: 7, ..Load::default() }, 1, &[]);
        for line in [
            "# TYPE kapelle_attempts_total counter",
            "kapelle_attempts_total{agent=\"echo\",end=\"completed\"} 1",
            "kapelle_attempts_total{agent=\"own\",end=\"timeout\"} 1",
            "orchestrator_tasks_active 7",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(!text.contains("my own agent") && !text.contains("EOF"), "{text}");
    }
}
