//! What a view is told of the plan: before the events, also how long it took the last time; after
//! them, what a fork could be given that the run lacked.

use kapelle_api::client::Client;
use kapelle_api::{self as api, EventKind};
use kapelle_core::run::{Run, StepStatus};

use crate::cli::bill::amount;
use crate::cli::exit::Stop;
use crate::cli::view::{Hindsight, View};
use crate::node::Node;

use super::tally::Tally;

/// How many runs are looked through for the last one of a workflow.
const LATELY: u32 = 50;

/// Gives the view the plan of the run, and how long the last run of its workflow took.
pub(super) async fn show_plan(view: &mut View, node: &Node, run: &str) -> Result<(), Stop> {
    if !view.wants_plan() {
        return Ok(());
    }
    let id = run.parse().map_err(Stop::usage)?;
    let found = node.app.engine().run(node.app.tenant(), id).await?;
    let query = api::RunsQuery { limit: Some(LATELY), ..api::RunsQuery::default() };
    let lately = node.app.client().runs(&query).await?.items;
    let is_like = |other: &&api::RunSummary| {
        other.workflow == found.workflow() && other.status == "completed" && other.id != run
    };
    let last_ms = lately.iter().find(is_like).and_then(took_ms);
    view.plan(&found.plan().plan, last_ms);
    Ok(())
}

/// What the last event does not say of how a run ended.
pub(super) async fn looked_back(
    node: &Node,
    end: &api::Event,
    tally: &Tally,
) -> Result<Hindsight, Stop> {
    let is_well =
        matches!(&end.kind, EventKind::RunCompleted { verdict, .. } if verdict == "completed");
    if is_well && !tally.paid {
        return Ok(Hindsight::default());
    }
    let id = end.run.parse().map_err(Stop::usage)?;
    let run = node.app.engine().run(node.app.tenant(), id).await?;
    let cost = cost(&crate::server::bill::cost(run.ledger()));
    Ok(Hindsight { inputs: inputs_to_change(&run), cost })
}

/// The same of a run that is far away.
pub(super) async fn looked_back_from_afar(client: &Client, tally: &Tally) -> Hindsight {
    // The run is over, and what it did is told without this, too.
    let bill = if tally.paid { client.bill(&tally.run).await.ok() } else { None };
    Hindsight { cost: bill.and_then(|bill| cost(&bill.total)), ..Hindsight::default() }
}

/// What a run has spent, with what it may have; nothing if that is nothing.
fn cost(of: &api::Spending) -> Option<String> {
    let (spent, unknown) = (&of.spent, &of.unknown_outcome);
    match (spent.tokens, unknown.tokens) {
        (0, 0) => None,
        (_, 0) => Some(amount(spent)),
        _ => Some(format!("{}; calls of unknown end: up to {}", amount(spent), amount(unknown))),
    }
}

/// The inputs that the steps read which failed: other ones may be what it takes.
fn inputs_to_change(run: &Run) -> Vec<String> {
    let failed = run.view().filter(|view| view.step.status == StepStatus::Failed);
    let written: Vec<String> =
        failed.filter_map(|view| serde_json::to_string(run.spec(view.no)).ok()).collect();
    let inputs = run.plan().plan.inputs.keys();
    let is_read = |name: &str| written.iter().any(|step| reads(step, name));
    inputs.filter(|name| is_read(name)).map(ToString::to_string).collect()
}

/// Whether a step, as it is written, names this input.
fn reads(step: &str, input: &str) -> bool {
    let name = format!("inputs.{input}");
    let goes_on = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    step.match_indices(&name).any(|(at, _)| !step[at + name.len()..].starts_with(goes_on))
}

fn took_ms(run: &api::RunSummary) -> Option<u64> {
    let began: jiff::Timestamp = run.created_at.parse().ok()?;
    let ended: jiff::Timestamp = run.ended_at.as_ref()?.parse().ok()?;
    u64::try_from(began.duration_until(ended).as_millis()).ok()
}
