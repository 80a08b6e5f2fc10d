//! What a server does a second, and how long one waits for it: creating runs, and looking at them.
//!
//! Beside each the same requests and answers by a server that does nothing else, in turns.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kapelle_core::Json;
use serde_json::json;

use super::Measured;
use super::served::wire::Line;
use super::served::{Served, Sum, failed, place};
use super::workload::{Shape, asking, plan_of, step};
use crate::cli::exit::Stop;

/// How long one of them is asked before the next has its turn.
const TURN: Duration = Duration::from_millis(500);
/// How many clients there are where what one waits for is not the others.
const FEW: usize = 8;
/// About what an answer to a submit has, in bytes.
const SUBMITTED: usize = 64;

pub(super) async fn measure(
    folder: Option<&Path>,
    shape: &Shape,
    at_least: Duration,
) -> Result<Measured, Stop> {
    let store = place("http", folder)?.join("store");
    let (server, bare) = (Served::start(&store).await?, Served::bare().await?);
    let steps: Vec<Json> = (0..shape.steps).map(|n| step(n, n.checked_sub(1))).collect();
    let submit = json!({ "plan": plan_of(&steps, 10) }).to_string();
    let (looks, len) = waiting(&server, shape.runs).await?;
    let post = |at: &Served, path: &str| -> Arc<[_]> { [at.request("POST", path, &submit)].into() };
    let (submits, bare_submits) = (post(&server, "/runs"), post(&bare, &format!("/{SUBMITTED}")));
    let bare_looks: Arc<[_]> = [bare.request("GET", &format!("/{len}"), "")].into();
    let kinds = [(&submits, &bare_submits), (&looks, &bare_looks)];
    let mut sums: [[Sum; 3]; 2] = Default::default();
    let began = Instant::now();
    while began.elapsed() < at_least || sums[0][0].times.is_empty() {
        let turn = TURN.min(at_least);
        for ((ours, raw), [many, few, beside]) in kinds.iter().zip(&mut sums) {
            beside.turn(bare.at, raw, shape.concurrency, turn).await?;
            many.turn(server.at, ours, shape.concurrency, turn).await?;
            few.turn(server.at, ours, FEW.min(shape.concurrency), turn).await?;
        }
    }
    let rss_mb = server.takes().0;
    let [submits, looks] = sums;
    let mut parts = named(submits, ["http", "submit8", "raw_submit"]);
    parts.extend(named(looks, ["status", "status8", "raw_status"]));
    parts.iter_mut().for_each(|part| part.rss_mb = rss_mb);
    let runs = shape.runs;
    Ok(Measured { runs, parts: parts.split_off(1), ..parts.remove(0) })
}

/// Figures of many and of few clients, and of the bare server that they are compared with.
fn named([many, few, beside]: [Sum; 3], names: [&str; 3]) -> Vec<Measured> {
    let limit = Some(beside.per_second());
    vec![
        many.measured(names[0], limit),
        few.measured(names[1], None),
        beside.measured(names[2], None),
    ]
}

/// Requests for runs that wait, and how long an answer to one is.
async fn waiting(server: &Served, runs: usize) -> Result<(Arc<[Vec<u8>]>, usize), Stop> {
    let new = json!({ "plan": plan_of(&[asking(0)], 10) }).to_string();
    let new = server.request("POST", "/runs", &new);
    let mut line = Line::connect(server.at).await?;
    let mut looks = Vec::new();
    for _ in 0..runs {
        let made: Json = serde_json::from_slice(line.ask(&new).await?.done()?).map_err(failed)?;
        let id = made["id"].as_str().unwrap_or_default();
        looks.push(server.request("GET", &format!("/runs/{id}"), ""));
    }
    let len = line.ask(&looks[0]).await?.done()?.len();
    Ok((looks.into(), len))
}
