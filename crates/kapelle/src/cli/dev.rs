//! `dev`: what helps to build and try workflows.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kapelle_fake::{Fake, Options, Script};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Stop};
use super::out;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Serve a model provider that is scripted: Anthropic's Messages and OpenAI's Chat Completions
    FakeModel(FakeModel),
}

#[derive(Debug, clap::Args)]
pub(crate) struct FakeModel {
    /// What is answered to what, as YAML or JSON; without it, words are echoed
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What its dice follow, instead of the script's seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Also add each request to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print one JSON object once it serves: `{"url"}`
    #[arg(long)]
    json: bool,
}

pub(crate) async fn perform(command: Command) -> Result<Exit, Stop> {
    match command {
        Command::FakeModel(args) => fake_model(args).await,
    }
}

/// Serves until it is told to stop.
async fn fake_model(args: FakeModel) -> Result<Exit, Stop> {
    let mut script = args.script.as_deref().map(read).transpose()?.unwrap_or_default();
    script.seed = args.seed.unwrap_or(script.seed);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let options = Options { listen: args.listen, journal: args.journal, ..Options::default() };
    let fake = Fake::start_with(script, options)
        .map_err(|error| Stop::usage(format_args!("the fake cannot serve: {error}")))?;
    if args.json {
        out::json(&json!({ "url": fake.url() }))?;
    } else {
        out::line(&fake.url())?;
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let counts = fake.counts();
    out::say(&format!("{} requests, {} answered", counts.requests, counts.answers));
    Ok(Exit::Done)
}

/// The script, or everything that is wrong with it.
fn read(path: &Path) -> Result<Script, Stop> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Stop::usage(format_args!("{shown}: {error}")))?;
    Script::parse(&text).map_err(|problems| Stop::usage(format_args!("{shown}:\n{problems}")))
}
