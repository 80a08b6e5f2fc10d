//! `keys`: who may ask a server, and what.

use kapelle_api::{self as api, Client};

use super::exit::{Exit, Stop};
use super::out;
use super::session::{Settings, with_store};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key, and print it: it is shown this once
    Create(Create),
    /// List keys: what they may do, and when they were last used
    List {
        /// Print one JSON object: `{"items": [{"id", "name", "tenant", "roles", …}], "next_cursor"}`
        #[arg(long)]
        json: bool,
    },
    /// Make a key open nothing any more, on every node within a second
    Revoke {
        /// The key's id, as `keys list` shows it
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// What people call it; approvals and answers are given in this name
    #[arg(long)]
    name: String,
    /// What it may do: viewer, submitter, approver, worker, operator, admin; may be given several times
    #[arg(long = "role", required = true, value_name = "ROLE")]
    roles: Vec<String>,
    /// Whose runs it sees [default: default]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// A workflow that it may run, whole or with a `*` at its end; may be given several times
    #[arg(long = "workflow", value_name = "ID")]
    workflows: Vec<String>,
    /// An agent that its runs may name; may be given several times
    #[arg(long = "agent", value_name = "NAME")]
    named_agents: Vec<String>,
    /// For how long it opens anything, as in `90d`
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
    /// Print one JSON object: `{"id", "key"}`
    #[arg(long)]
    json: bool,
}

pub(crate) async fn perform(command: Command, settings: &Settings) -> Result<Exit, Stop> {
    // The first key comes before the first run.
    let done = with_store(settings, async |client, _| ask(command, client).await).await;
    done.map(|()| Exit::Done)
}

async fn ask(command: Command, client: &Client) -> Result<(), Stop> {
    match command {
        Command::Create(args) => create(args, client).await,
        Command::List { json } => list(json, client).await,
        Command::Revoke { id } => Ok(client.revoke_key(&id).await?),
    }
}

async fn create(args: Create, client: &Client) -> Result<(), Stop> {
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let new = api::NewKey {
        name: args.name,
        roles: args.roles,
        tenant: args.tenant,
        workflows: some(args.workflows),
        agents: some(args.named_agents),
        expires_in: args.expires_in,
    };
    let made = client.create_key(&new).await?;
    if args.json {
        return Ok(out::json(&made)?);
    }
    out::line(&made.key)?;
    out::say(&format!(
        "key {} is shown this once: `KAPELLE_KEY` or `Authorization: Bearer`",
        made.id
    ));
    Ok(())
}

async fn list(json: bool, client: &Client) -> Result<(), Stop> {
    let page = client.keys().await?;
    if json {
        return Ok(out::json(&page)?);
    }
    let head = ["ID", "NAME", "TENANT", "ROLES", "LAST USED", "UNTIL"].map(str::to_owned).to_vec();
    let rows = page.items.into_iter().map(|key| {
        let until = match (key.revoked_at, key.expires_at) {
            (Some(_), _) => "revoked".to_owned(),
            (None, until) => until.unwrap_or_default(),
        };
        let used = key.used_at.unwrap_or_else(|| "never".to_owned());
        vec![key.id, key.name, key.tenant, key.roles.join(", "), used, until]
    });
    Ok(out::text(&out::table(&[head].into_iter().chain(rows).collect::<Vec<_>>()))?)
}
