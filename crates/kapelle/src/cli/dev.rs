//! `dev`: what helps to build and try workflows.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kapelle_fake::{Fake, Options, Script};
use rustix::process::{self, Pid, kill_process};
use serde_json::json;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{Exit, Stop};
use super::out;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
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
    #[arg(long, conflicts_with = "command")]
    json: bool,
    /// Serve while this command runs, which asks it and nobody else; `kapelle` is this program
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) async fn perform(verb: Verb) -> Result<Exit, Stop> {
    match verb {
        Verb::FakeModel(args) => fake_model(args).await,
    }
}

/// Serves until it is told to stop, or the command that it serves has ended.
async fn fake_model(args: FakeModel) -> Result<Exit, Stop> {
    let mut script = args.script.as_deref().map(read).transpose()?.unwrap_or_default();
    script.seed = args.seed.unwrap_or(script.seed);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let options = Options { listen: args.listen, journal: args.journal, ..Options::default() };
    let fake = Fake::start_with(script, options)
        .map_err(|error| Stop::usage(format_args!("the fake cannot serve: {error}")))?;
    let end = match args.command.split_first() {
        Some((program, words)) => {
            let mut command = asking(&fake, program)?;
            command.args(words);
            attend(command, &mut interrupt, &mut terminate).await?
        }
        None => {
            match args.json {
                true => out::json(&json!({ "url": fake.url() }))?,
                false => out::line(&fake.url())?,
            }
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Exit::Done
        }
    };
    let counts = fake.counts();
    out::say(&format!("{} requests, {} answered", counts.requests, counts.answers));
    Ok(end)
}

/// A command whose models are the fake's.
fn asking(fake: &Fake, program: &OsStr) -> Result<Command, Stop> {
    let ours = (program == "kapelle").then(std::env::current_exe).transpose()?;
    let mut command = Command::new(ours.as_deref().map_or(program, Path::as_os_str));
    for vendor in ["ANTHROPIC", "OPENAI"] {
        command.env(format!("{vendor}_API_KEY"), "none");
        command.env(format!("{vendor}_BASE_URL"), fake.url());
    }
    command.kill_on_drop(true);
    Ok(command)
}

/// Runs it to its end, which is ours. Ctrl-C reaches it without us, SIGTERM does not.
async fn attend(
    mut command: Command,
    interrupt: &mut Signal,
    terminate: &mut Signal,
) -> Result<Exit, Stop> {
    let program = command.as_std().get_program().display().to_string();
    let mut child =
        command.spawn().map_err(|error| Stop::usage(format_args!("`{program}`: {error}")))?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?.code().map_or(Exit::Failed, Exit::of_code)),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                    // It may be gone already: then there is nobody to tell.
                    kill_process(pid, process::Signal::TERM).ok();
                }
            }
        }
    }
}

/// The script, or everything that is wrong with it.
fn read(path: &Path) -> Result<Script, Stop> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Stop::usage(format_args!("{shown}: {error}")))?;
    Script::parse(&text).map_err(|problems| Stop::usage(format_args!("{shown}:\n{problems}")))
}
