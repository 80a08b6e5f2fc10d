//! `agents`: who can take a step.

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;

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
}

pub(crate) async fn perform(command: Command, settings: &Settings) -> Result<Exit, Stop> {
    let node = settings.without_store().await?;
    let client = node.app.client();
    match command {
        Command::List { json: true } => out::json(&client.agents().await?)?,
        Command::List { json: false } => {
            let mut rows = vec![["NAME", "ACTIONS", "WHAT IT DOES"].map(str::to_owned).to_vec()];
            for agent in client.agents().await?.items {
                let actions: Vec<_> = agent.actions.iter().map(|a| a.name.as_str()).collect();
                rows.push(vec![agent.name, actions.join(", "), agent.description]);
            }
            out::text(&out::table(&rows))?;
        }
        Command::Show { name, json: true } => out::json(&client.agent(&name).await?)?,
        Command::Show { name, json: false } => {
            let agent = client.agent(&name).await?;
            let mut text = format!("{}: {}\n", agent.name, agent.description);
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
