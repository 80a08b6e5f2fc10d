//! What is measured: plans of `echo` steps with answers of about 100 bytes.

use kapelle_core::Json;
use kapelle_core::plan::{self, Plan};
use kapelle_core::port::Agents;
use serde::Serialize;
use serde_json::json;

use super::{Args, number};
use crate::cli::exit::Stop;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Workload {
    /// One run at a time, its steps one after another
    Chain,
    /// One run: one step, then many side by side, then one that needs them all
    Fanout,
    /// One run at a time, ten steps side by side, each needing all ten before
    Layers,
    /// Many runs at once, their steps one after another
    Many,
    /// Steps that wait 100 ms each, several at a time
    Sleep,
    /// A process from its start to the end of its first step
    Start,
    /// Open runs of a process that is killed: from then to their next step's end, and until all are taken over
    Recover,
    /// What runs and steps that wait for a person take in memory
    Waiting,
    /// The agent `web` on local pages of 100 KiB
    Read,
    /// The agent `analyzer` on 10,000 passages
    Rank,
    /// The agent `summarizer` on 100 KiB of text
    Summarize,
    /// Calls of a model that take 500 ms each, ten one after another in each of many runs at once; what Kapelle adds to a call and to an event, and a thousand streams
    Model,
    /// A server asked over HTTP: creating runs and looking at them, each by many clients and by few
    Http,
    /// A server's streams: events to a thousand subscribers, and ten thousand that see nothing
    Streams,
    /// Steps that workers do over HTTP
    Workers,
    /// What the disk and SQLite do by themselves
    Limits,
}

impl Workload {
    pub(super) const ALL: [Self; 16] = [
        Self::Chain,
        Self::Fanout,
        Self::Layers,
        Self::Many,
        Self::Sleep,
        Self::Start,
        Self::Recover,
        Self::Waiting,
        Self::Read,
        Self::Rank,
        Self::Summarize,
        Self::Model,
        Self::Http,
        Self::Streams,
        Self::Workers,
        Self::Limits,
    ];

    /// Whether it cannot be measured in memory.
    pub(super) const fn needs_folder(self) -> bool {
        use Workload::{Http, Limits, Read, Recover, Start, Streams, Waiting, Workers};
        matches!(self, Start | Recover | Waiting | Read | Http | Streams | Workers | Limits)
    }
}

/// How a workload is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) workload: Workload,
    /// Of a run.
    pub(super) steps: usize,
    /// Of a round.
    pub(super) runs: usize,
    /// How many runs at once; for [`Workload::Fanout`] and [`Workload::Sleep`] how many steps.
    pub(super) concurrency: usize,
}

/// How long a step of [`Workload::Sleep`] waits.
pub(super) const NAP_MS: usize = 100;
/// How long a call of [`Workload::Model`] takes.
pub(super) const CALL_MS: usize = 500;
/// How many steps of [`Workload::Layers`] stand side by side.
const WIDTH: usize = 10;

impl Shape {
    pub(super) fn new(workload: Workload, args: &Args, wanted: Option<usize>) -> Self {
        let (steps, runs, concurrency) = match workload {
            Workload::Chain | Workload::Layers => (100, 1, 1),
            Workload::Fanout => (10_000, 1, 1_000),
            Workload::Many => (5, 1_000, 50),
            Workload::Sleep => (50, 1, 10),
            Workload::Model => (10, 200, 200),
            Workload::Start
            | Workload::Limits
            | Workload::Read
            | Workload::Rank
            | Workload::Summarize => (1, 1, 50),
            Workload::Recover => (1, 1_000, 50),
            Workload::Http => (1, 1_000, 50),
            Workload::Streams => (1, 100, 1_000),
            Workload::Workers => (10_000, 1, 50),
            Workload::Waiting => (1, 10_000, 50),
        };
        Self {
            workload,
            steps: args.steps.unwrap_or(steps).max(1),
            runs: wanted.unwrap_or(runs).max(1),
            concurrency: args.concurrency.unwrap_or(concurrency).max(1),
        }
    }

    /// How many steps a run has, the first and the last of a fan-out included.
    pub(super) const fn steps_of_a_run(&self) -> usize {
        match self.workload {
            Workload::Fanout => self.steps + 2,
            _ => self.steps,
        }
    }

    /// How many runs go on at once.
    pub(super) const fn runs_at_once(&self) -> usize {
        match self.workload {
            Workload::Fanout | Workload::Sleep => 1,
            _ => self.concurrency,
        }
    }

    /// The plan of every run.
    pub(super) fn plan(&self, agents: &Agents) -> Result<Plan, Stop> {
        let steps: Vec<Json> = match self.workload {
            Workload::Fanout => fanout(self.steps),
            Workload::Layers => layers(self.steps),
            Workload::Sleep => (0..self.steps).map(nap).collect(),
            Workload::Model => (0..self.steps).map(call).collect(),
            _ => (0..self.steps).map(|n| step(n, n.checked_sub(1))).collect(),
        };
        checked(&steps, self.in_flight(), agents)
    }

    /// How many steps of a run go on at once.
    const fn in_flight(&self) -> usize {
        match self.workload {
            Workload::Fanout | Workload::Sleep => self.concurrency,
            _ => WIDTH,
        }
    }

    /// The seconds that a round takes at least.
    pub(super) fn ideal(&self) -> Option<f64> {
        let waits = match self.workload {
            Workload::Sleep => self.runs * self.steps.div_ceil(self.concurrency) * NAP_MS,
            Workload::Model => self.runs.div_ceil(self.concurrency) * self.steps * CALL_MS,
            _ => return None,
        };
        Some(number(waits) / 1e3)
    }
}

/// A plan of these steps, as it is submitted.
pub(super) fn plan_of(steps: &[Json], at_once: usize) -> Json {
    json!({ "workflow": "bench", "max_parallel": at_once, "steps": steps })
}

/// A plan of these steps.
pub(super) fn checked(steps: &[Json], at_once: usize, agents: &Agents) -> Result<Plan, Stop> {
    let mut plan: Plan = serde_json::from_value(plan_of(steps, at_once)).map_err(Stop::usage)?;
    match plan::check(&mut plan, Some(agents)).first() {
        Some(problem) => Err(Stop::usage(problem)),
        None => Ok(plan),
    }
}

/// A step that waits for a person.
pub(super) fn asking(n: usize) -> Json {
    json!({ "id": name(n), "work": { "approval": {} } })
}

/// A step that answers at once.
pub(super) fn step(n: usize, needs: impl IntoIterator<Item = usize>) -> Json {
    let needs: Vec<String> = needs.into_iter().map(name).collect();
    let input = json!({ "value": { "step": n, "text": "x".repeat(80) } });
    json!({ "id": name(n), "needs": needs, "work": { "agent": { "agent": "echo", "input": input } } })
}

fn name(n: usize) -> String {
    format!("s{n}")
}

fn fanout(wide: usize) -> Vec<Json> {
    let middle = (1..=wide).map(|n| step(n, [0]));
    std::iter::once(step(0, [])).chain(middle).chain([step(wide + 1, 1..=wide)]).collect()
}

fn layers(steps: usize) -> Vec<Json> {
    let before =
        |n: usize| (n / WIDTH * WIDTH).checked_sub(WIDTH).map(|first| first..first + WIDTH);
    (0..steps).map(|n| step(n, before(n).into_iter().flatten())).collect()
}

fn call(n: usize) -> Json {
    let needs: Vec<String> = n.checked_sub(1).into_iter().map(name).collect();
    let work = json!({ "agent": { "agent": "model", "prompt": "nap" } });
    json!({ "id": name(n), "needs": needs, "work": work })
}

fn nap(n: usize) -> Json {
    napping(n, NAP_MS, None)
}

/// A step that takes so long.
pub(super) fn napping(n: usize, ms: usize, needs: Option<usize>) -> Json {
    let needs: Vec<String> = needs.into_iter().map(name).collect();
    let input = json!({ "value": n, "delay": format!("{ms}ms") });
    json!({ "id": name(n), "needs": needs, "work": { "agent": { "agent": "echo", "input": input } } })
}
