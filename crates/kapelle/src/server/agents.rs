//! `/agents`: who can take a step on this node.

use std::time::Duration;

use axum::Json;
use kapelle_agents::files::AgentFile;
use kapelle_agents::files::tools::rule;
use kapelle_api as api;
use kapelle_core::port::agent::Registered;

use super::App;
use super::body::{Path, Query};
use super::problem::Problem;
use crate::workers::Whose;
use crate::workers::registry::Registration;

/// The health of an agent that is there,
const OK: &str = "ok";
/// and of one that is registered, and whose workers are not.
const ABSENT: &str = "absent";

/// The agents of whom all that is asked for holds, by name.
///
/// `GET /agents?domain=&capability=&health=`
pub(super) async fn list(
    app: App,
    Query(query): Query<api::AgentsQuery>,
) -> Result<Json<api::Page<api::Agent>>, Problem> {
    if let Some(odd) = query.health.as_deref().filter(|health| ![OK, ABSENT].contains(health)) {
        let detail = format!("`health` is `{OK}` or `{ABSENT}`, not `{odd}`");
        return Err(Problem::invalid("bad_query", detail));
    }
    let has = |words: &[String], wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| words.contains(wanted))
    };
    let fits = |agent: &api::Agent| {
        let is_action = |wanted: &String| agent.actions.iter().any(|of| of.name == *wanted);
        has(&agent.domains, &query.domain)
            && (has(&agent.capabilities, &query.capability)
                || query.capability.as_ref().is_some_and(is_action))
            && query.health.as_ref().is_none_or(|health| agent.health == *health)
    };
    let agents = app.agents().await;
    let all = agents.of(app.tenant()).iter().map(|agent| shown(&app, agent));
    Ok(Json(api::Page { items: all.filter(fits).collect(), next_cursor: None }))
}

/// One agent.
///
/// `GET /agents/{name}`
pub(super) async fn show(app: App, Path(name): Path<String>) -> Result<Json<api::Agent>, Problem> {
    let agents = app.agents().await;
    let no_such = || Problem::not_found("agent_not_found", format!("there is no agent `{name}`"));
    Ok(Json(shown(&app, agents.of(app.tenant()).get(&name).ok_or_else(no_such)?)))
}

pub(super) fn shown(app: &App, registered: &Registered) -> api::Agent {
    let card = registered.agent.card();
    let shelved = app.roster().shelved();
    let file = shelved.agents.iter().find(|file| file.definition.name == card.name);
    let shadowed = shelved
        .shadowed
        .iter()
        .filter(|shadowed| file.is_some_and(|file| file.file == shadowed.by));
    let mut shadows: Vec<String> =
        shadowed.map(|shadowed| shadowed.agent.file.display().to_string()).collect();
    if file.is_some() && app.roster().ships(&card.name) {
        shadows.push("built-in".to_owned());
    }
    let action = |action: &kapelle_core::port::agent::Action| api::Action {
        name: action.name.to_string(),
        description: action.description.to_string(),
        input: action.input.clone(),
        output: action.output.clone(),
    };
    let whose = Whose { tenant: app.tenant().clone(), agent: card.name.clone() };
    let known = if registered.agent.is_remote() { app.registry().get(&whose) } else { None };
    let words = |words: fn(&Registration) -> &[Box<str>]| {
        known.iter().flat_map(|of| words(&of.registration)).map(ToString::to_string).collect()
    };
    let workers = known.as_ref().map(|known| workers(app, &whose, &known.registration));
    let is_absent = known.as_ref().is_some_and(|of| is_absent(app, &whose, &of.registration));
    api::Agent {
        capabilities: words(|of| &of.capabilities),
        domains: words(|of| &of.domains),
        health: if is_absent { ABSENT } else { OK }.to_owned(),
        workers,
        activity: activity(app, &card.name),
        name: card.name.to_string(),
        description: card.description.to_string(),
        actions: card.actions.iter().map(action).collect(),
        concurrency_max: card.concurrency_max,
        file: file.map(|file| file.file.display().to_string()),
        shadows,
        thinks: file.map(|file| thinks(app, file)),
    }
}

fn workers(app: &App, whose: &Whose, registration: &Registration) -> api::Workers {
    let (waiting, working, heard_at) = app.registry().hub().presence(whose);
    api::Workers {
        lease_ms: registration.lease_ms,
        waiting: waiting as u64,
        working: working as u64,
        heard_at: heard_at.map(|at| at.to_string()),
        registered_at: registration.registered_at.to_string(),
    }
}

/// Whether no worker waits, and none was heard of for as long as its lease.
pub(super) fn is_absent(app: &App, whose: &Whose, registration: &Registration) -> bool {
    let (waiting, _, heard_at) = app.registry().hub().presence(whose);
    let now = crate::now();
    let lease = Duration::from_millis(registration.lease_ms);
    waiting == 0 && heard_at.is_none_or(|heard_at| now.since(heard_at) > lease)
}

fn activity(app: &App, name: &str) -> api::Activity {
    let tally = app.engine().tally(app.tenant()).remove(name).unwrap_or_default();
    api::Activity {
        status: if tally.running > 0 { "working" } else { "idle" }.to_owned(),
        running: tally.running,
        completed: tally.completed,
        failed: tally.failed,
        ms: u64::try_from(tally.took.as_millis()).unwrap_or(u64::MAX),
        last_at: (tally.last_at.0 > 0).then(|| tally.last_at.to_string()),
    }
}

fn thinks(app: &App, file: &AgentFile) -> api::Thinks {
    let of = &file.definition;
    let tools = app.roster().tools_of(&of.tools);
    let is_there = |name: &str| tools.iter().any(|tool| rule(tool).0 == rule(name).0);
    let missing = of.tools.iter().filter(|name| !is_there(name));
    api::Thinks {
        model: of.model.as_ref().map(ToString::to_string),
        not_granted: missing.map(ToString::to_string).collect(),
        turns_max: of.turns_max,
        prompt_line: of.prompt.trim().lines().next().unwrap_or_default().to_owned(),
        prompt_bytes: of.prompt.len() as u64,
        prompt_sha256: file.body_sha256.hex(),
        tools,
    }
}
