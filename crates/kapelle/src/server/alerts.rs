//! `/alerts`: what somebody should look after.
//!
//! **Invariant:** an alert is there for as long as what it says is so; nothing is kept of it.

use std::collections::BTreeMap;

use axum::Json;
use kapelle_api as api;
use kapelle_core::Tenant;
use kapelle_engine::shards::Stuck;

use super::App;
use super::agents::is_absent;
use crate::workers::Whose;

/// So many runs are named.
const NAMED_MAX: usize = 100;

/// Agents that runs wait for, and that are not there, or have no workers.
///
/// `GET /alerts`
pub(super) async fn list(app: App) -> Json<api::Page<api::Alert>> {
    let mut groups: BTreeMap<(bool, Box<str>), Vec<Stuck>> = BTreeMap::new();
    for stuck in app.engine().stuck(app.tenant()).await {
        groups.entry((stuck.is_there, stuck.agent.clone())).or_default().push(stuck);
    }
    let alerts = groups.into_iter().filter_map(|((is_there, agent), runs)| {
        let (kind, message) = if is_there {
            let why = no_worker(&app, app.tenant(), &agent)?;
            ("no_worker", format!("{why}: start one, as in docs/workers.md"))
        } else {
            let help = "register it (`POST /agents`), or have a node work on it that has it";
            ("no_agent", format!("there is no agent `{agent}`: {help}"))
        };
        let since = runs.iter().map(|stuck| stuck.since).min()?.to_string();
        Some(api::Alert {
            kind: kind.to_owned(),
            agent: agent.into(),
            message,
            since,
            waiting: runs.len() as u64,
            runs: runs.iter().take(NAMED_MAX).map(|stuck| stuck.run.to_string()).collect(),
        })
    });
    Json(api::Page { items: alerts.collect(), next_cursor: None })
}

/// What is to be said of a registered agent none of whose workers was heard of lately.
pub(super) fn no_worker(app: &App, tenant: &Tenant, agent: &str) -> Option<String> {
    let whose = Whose { tenant: tenant.clone(), agent: agent.into() };
    let known = app.registry().get(&whose)?;
    if !is_absent(app, &whose, &known.registration) {
        return None;
    }
    let (_, _, heard_at) = app.registry().hub().presence(&whose);
    let now = crate::now();
    Some(match heard_at {
        Some(at) => {
            format!("no worker of `{agent}` was heard of for {} s", now.since(at).as_secs())
        }
        None => format!("no worker of `{agent}` was heard of since this server knows it"),
    })
}
