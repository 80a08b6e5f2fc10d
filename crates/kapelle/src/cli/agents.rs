//! `agents`: who can take a step, and what is odd in the files that say so.

use std::path::{Path, PathBuf};

use kapelle_agents::files::{AgentFile, Broken, Shadowed, Shelf, Shelved};
use kapelle_api::{self as api, Client};

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;

/// So much of a description is in the list, in characters.
const NAME_MAX: usize = 100;
const DESCRIPTION_MAX: usize = 160;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the agents at hand
    List {
        /// Print one JSON object: `{"items", "next_cursor"}`
        #[arg(long)]
        json: bool,
    },
    /// Describe an agent: its actions and the schemas of their inputs and outputs
    Show {
        /// Its name, as `agentName` in workflows
        name: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Report what is odd in agent files, and which cannot be used
    Check {
        /// A folder of agent files, or one such file
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Print one JSON object: `{"agents": [{"file", "name", "description", "tools", "model", "body_sha256", "warnings": [{"line", "message"}]}], "unusable": [{"file", "line", "message"}]}`
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn perform(command: Command, settings: &Settings) -> Result<Exit, Stop> {
    if let Command::Check { folder, json } = command {
        return check(&folder, json);
    }
    match settings.server() {
        Some(client) => ask(command, client).await,
        None => ask(command, &settings.without_store().await?.app.client()).await,
    }
}

async fn ask(command: Command, client: &Client) -> Result<Exit, Stop> {
    match command {
        Command::Check { .. } => {}
        Command::List { json: true } => out::json(&client.agents().await?)?,
        Command::List { json: false } => {
            let mut rows = vec![["NAME", "ACTIONS", "WHAT IT DOES"].map(str::to_owned).to_vec()];
            for agent in client.agents().await?.items {
                let actions: Vec<_> = agent.actions.iter().map(|a| a.name.as_str()).collect();
                let does = out::shown(&agent.description, DESCRIPTION_MAX);
                for shadowed in &agent.shadows {
                    let file = agent.file.as_deref().unwrap_or_default();
                    out::say(&format!("`{}` of {shadowed} is shadowed by {file}", agent.name));
                }
                let name = out::shown(&agent.name, NAME_MAX);
                rows.push(vec![name, actions.join(", "), does]);
            }
            out::text(&out::table(&rows))?;
        }
        Command::Show { name, json: true } => out::json(&client.agent(&name).await?)?,
        Command::Show { name, json: false } => {
            let agent = client.agent(&name).await?;
            let mut text = format!("{}: {}\n", agent.name, agent.description);
            if let Some(file) = &agent.file {
                text += &format!("from {file}\n");
            }
            text += &agent.thinks.as_ref().map(thinks).unwrap_or_default();
            for action in agent.actions {
                let pretty = |json| serde_json::to_string_pretty(json).unwrap_or_default();
                text += &format!(
                    "\naction `{}`: {}\n\ninput {}\n\noutput {}\n",
                    action.name,
                    action.description,
                    pretty(&action.input),
                    pretty(&action.output)
                );
            }
            out::text(&text)?;
        }
    }
    Ok(Exit::Done)
}

/// What a model is as an agent: a line each.
fn thinks(of: &api::Thinks) -> String {
    let list =
        |tools: &[String]| if tools.is_empty() { "none".to_owned() } else { tools.join(", ") };
    let mut text = format!("model   {}\n", of.model.as_deref().unwrap_or("the default"));
    text += &format!("tools   {}\n", list(&of.tools));
    if !of.not_granted.is_empty() {
        text += &format!("        not granted (`models.grants`): {}\n", list(&of.not_granted));
    }
    let (line, bytes, sha) = (out::shown(&of.prompt_line, 100), of.prompt_bytes, &of.prompt_sha256);
    text += &format!("turns   {}\n", of.turns_max);
    text + &format!("prompt  {line} ({bytes} bytes, SHA-256 {})\n", &sha[..16.min(sha.len())])
}

/// Reads a folder of agent files as a node would.
fn check(folder: &Path, json: bool) -> Result<Exit, Stop> {
    if !folder.exists() {
        return Err(Stop::usage(format!("there is no `{}`", folder.display())));
    }
    let shelved = Shelf::new(vec![folder.to_path_buf()]).look();
    let checked = checked(&shelved);
    let exit = if checked.unusable.is_empty() { Exit::Done } else { Exit::Usage };
    if json {
        out::json(&checked)?;
    } else {
        out::text(&report(&checked))?;
    }
    Ok(exit)
}

fn checked(shelved: &Shelved) -> api::CheckedAgents {
    let agents = shelved.agents.iter().map(|agent| checked_agent(agent));
    let shadowed = shelved.shadowed.iter().map(|Shadowed { agent, by }| {
        let mut checked = checked_agent(agent);
        let message = format!("the name `{}` is taken by {}", checked.name, by.display());
        checked.warnings.insert(0, api::AgentWarning { line: 1, message });
        checked
    });
    let mut agents: Vec<api::CheckedAgent> = agents.chain(shadowed).collect();
    agents.sort_by(|one, other| one.file.cmp(&other.file));
    let unusable = shelved.broken.iter().map(|Broken { file, line, message }| {
        let file = file.display().to_string();
        api::UnusableAgent { file, line: *line, message: message.clone() }
    });
    api::CheckedAgents { agents, unusable: unusable.collect() }
}

fn checked_agent(agent: &AgentFile) -> api::CheckedAgent {
    let definition = &agent.definition;
    let warnings = agent
        .warnings
        .iter()
        .map(|warning| api::AgentWarning { line: warning.line, message: warning.message.clone() });
    api::CheckedAgent {
        file: agent.file.display().to_string(),
        name: definition.name.to_string(),
        description: definition.description.to_string(),
        tools: agent.tools.as_ref().map(|all| all.iter().map(ToString::to_string).collect()),
        model: definition.model.as_ref().map(ToString::to_string),
        body_sha256: agent.body_sha256.hex(),
        warnings: warnings.collect(),
    }
}

/// The same for people: what is odd, then how many there are.
fn report(checked: &api::CheckedAgents) -> String {
    let (mut text, mut warnings) = (String::new(), 0);
    for agent in &checked.agents {
        for warning in &agent.warnings {
            warnings += 1;
            text += &format!("{}:{}: warning: {}\n", agent.file, warning.line, warning.message);
        }
    }
    for file in &checked.unusable {
        text += &format!("{}:{}: error: {}\n", file.file, file.line, file.message);
    }
    let counted =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let agents = counted(checked.agents.len(), "agent");
    let (warnings, errors) =
        (counted(warnings, "warning"), counted(checked.unusable.len(), "error"));
    text + &format!("{agents}, {warnings}, {errors}\n")
}
