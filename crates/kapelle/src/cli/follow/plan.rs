//! What a view is told before the events: the plan, and how long it took the last time.

use kapelle_api as api;

use crate::cli::exit::Stop;
use crate::cli::view::View;
use crate::node::Node;

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

fn took_ms(run: &api::RunSummary) -> Option<u64> {
    let began: jiff::Timestamp = run.created_at.parse().ok()?;
    let ended: jiff::Timestamp = run.ended_at.as_ref()?.parse().ok()?;
    u64::try_from(began.duration_until(ended).as_millis()).ok()
}
