//! `/agents`: who can take a step on this node.

use axum::Json;
use axum::extract::Path;
use kapelle_agents::files::AgentFile;
use kapelle_agents::files::tools::rule;
use kapelle_api as api;
use kapelle_core::port::agent::Registered;

use super::App;
use super::problem::Problem;

/// All agents, by name.
///
/// `GET /agents`
pub(super) async fn list(app: App) -> Json<api::Page<api::Agent>> {
    let items = app.agents().await.iter().map(|agent| shown(&app, agent)).collect();
    Json(api::Page { items, next_cursor: None })
}

/// One agent.
///
/// `GET /agents/{name}`
pub(super) async fn show(app: App, Path(name): Path<String>) -> Result<Json<api::Agent>, Problem> {
    let agents = app.agents().await;
    let no_such = || Problem::not_found("agent_not_found", format!("there is no agent `{name}`"));
    Ok(Json(shown(&app, agents.get(&name).ok_or_else(no_such)?)))
}

fn shown(app: &App, registered: &Registered) -> api::Agent {
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
    api::Agent {
        name: card.name.to_string(),
        description: card.description.to_string(),
        actions: card.actions.iter().map(action).collect(),
        concurrency_max: card.concurrency_max,
        file: file.map(|file| file.file.display().to_string()),
        shadows,
        thinks: file.map(|file| thinks(app, file)),
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
