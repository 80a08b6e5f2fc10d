//! The command line.
//!
//! **Invariants:** stdout is data, stderr is talk; the exit codes are `exit::Exit`. Commands on
//! runs go through the routes of `crate::server`, in this process or over a node's socket, so
//! whatever can be done here can be done over the API. A file per noun.

mod agent_folders;
mod agents;
mod artifacts;
mod audit;
mod bench;
mod bill;
mod check;
mod detached;
mod dev;
mod doctor;
mod exit;
mod follow;
mod history;
mod input;
mod keys;
mod out;
mod plan;
mod run;
mod runs;
mod schema;
mod serve;
mod session;
mod view;
mod visible;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use kapelle_agents::provider::without_keys;

use crate::config::Config;
use crate::log;
use exit::{Exit, Stop};
use session::{Named, Server, Settings};

/// A durable orchestra for AI agents: runs workflows that survive whatever happens to this process
///
/// Exit codes: 0 done, 1 the run failed or was cancelled, 2 usage or an invalid file, 3 the configuration, 4 a node cannot be reached, 5 paused or waiting for a person, 6 the store failed.
#[derive(Debug, Parser)]
#[command(name = "kapelle", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// The folder of the store, or `memory` for none [default: .kapelle]
    #[arg(long, global = true, value_name = "PATH", env = "KAPELLE_STORE", hide_env_values = true)]
    store: Option<String>,
    /// The configuration [default: kapelle.toml, if there is one]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "KAPELLE_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
    /// The server to ask instead of a store on this machine; its key is in `KAPELLE_KEY`
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "KAPELLE_SERVER",
        hide_env_values = true,
        conflicts_with = "store"
    )]
    server: Option<String>,
    /// A folder of agent files that go before all others; may be given several times
    #[arg(long, global = true, value_name = "DIR")]
    agents: Vec<PathBuf>,
    /// Use no colours; so does a variable `NO_COLOR` that is not empty
    #[arg(long, global = true)]
    no_color: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a workflow to its end
    Run(run::Args),
    /// Show what a workflow would do: waves, critical path, duration
    Plan(plan::Args),
    /// Report everything that is wrong with workflow files
    Check(check::Args),
    /// List, inspect and control runs
    #[command(subcommand)]
    Runs(runs::Command),
    /// Say why a run or a step stands where it stands, and what would help
    Why(why::Args),
    /// Show the limits of all runs together: what is spent, reserved and left
    Budgets(bill::Budgets),
    /// List and fetch what runs made
    #[command(subcommand)]
    Artifacts(artifacts::Command),
    /// List and describe the agents at hand
    #[command(subcommand)]
    Agents(agents::Command),
    /// Work on all runs of the store, and answer in the network, until told to leave
    Serve(serve::Args),
    /// Make, list and revoke the keys that a server asks for
    #[command(subcommand)]
    Keys(keys::Command),
    /// Show who did what and who was refused, and check that nobody changed that
    #[command(subcommand)]
    Audit(audit::Command),
    /// Look for what is wrong with store, disk, clock, limits and tools, and say how to mend it
    Doctor(doctor::Args),
    /// Measure how fast this machine runs steps
    Bench(bench::Args),
    /// Help to build and try workflows
    #[command(subcommand)]
    Dev(dev::Verb),
    /// Print a JSON Schema, for editors
    #[command(subcommand)]
    Schema(schema::Command),
    /// Print completions for a shell
    Completions(schema::Completions),
    /// The node that `run --detach` leaves behind
    #[command(name = detached::NAME, hide = true)]
    Node,
}

impl Command {
    /// What it is called, if it is about this machine, whatever server there is.
    const fn here(&self) -> Option<&'static str> {
        match self {
            Self::Serve(_) => Some("serve"),
            Self::Doctor(_) => Some("doctor"),
            Self::Bench(_) => Some("bench"),
            Self::Dev(_) => Some("dev"),
            _ => None,
        }
    }

    /// The workflow files that it is about.
    fn workflows(&self) -> &[PathBuf] {
        match self {
            Self::Run(args) => std::slice::from_ref(&args.file),
            Self::Plan(args) => std::slice::from_ref(&args.file),
            Self::Check(args) => &args.files,
            _ => &[],
        }
    }
}

/// Runs the command that the arguments of this process say.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print().ok();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    std::panic::set_hook(Box::new(tell_panic));
    match begin(cli) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            if !stop.is_silent() {
                out::say(&format!("error: {stop}"));
            }
            stop.exit.into()
        }
    }
}

/// Says where something panicked and why, without the keys that it may have stumbled over.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    out::say(&without_keys(&panic.to_string()));
    let trace = std::backtrace::Backtrace::capture();
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        out::say(&trace.to_string());
    }
}

/// Keeps other processes of the user, such as those of steps, from what this one has in its environment and its
/// memory; those of root see it all the same.
fn keep_to_ourselves() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "processes of the same user can see the keys of this one");
    }
}

fn begin(cli: Cli) -> Result<Exit, Stop> {
    if cli.no_color {
        out::without_colours();
    }
    let env = |name: &str| std::env::var(name).ok();
    let config = Config::load(cli.config.as_deref(), env);
    let config = config.map_err(|error| Stop::new(Exit::Config, error))?;
    let mut agents = cli.agents;
    agents.extend(cli.command.workflows().iter().filter_map(|file| agent_folders::beside(file)));
    let workflows = cli.command.workflows().iter().filter(|file| file.is_file()).cloned().collect();
    let server = cli.server.map(|url| Server::named(&url, cli.command.here())).transpose()?;
    let named = Named { store: cli.store, server, config_file: cli.config, agents, workflows };
    let settings = Settings::new(config, named)?;
    let serves = matches!(cli.command, Command::Serve(_));
    let store = settings.place.folder().filter(|_| serves);
    let colours = out::has_colours(&std::io::stderr());
    log::start(&settings.config.log, || view::screen::Above, colours, store)
        .map_err(|error| Stop::new(Exit::Config, error))?;
    if settings.config.has_keys(env) {
        keep_to_ourselves();
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().build()?;
    let done = runtime.block_on(Box::pin(perform(cli.command, &settings)));
    // Whatever still blocks a thread is of no use any more.
    runtime.shutdown_background();
    done
}

async fn perform(command: Command, settings: &Settings) -> Result<Exit, Stop> {
    match command {
        Command::Run(args) => run::run(args, settings).await,
        Command::Plan(args) => plan::plan(&args, settings),
        Command::Check(args) => check::check(&args, settings),
        Command::Runs(command) => runs::perform(command, settings).await,
        Command::Budgets(args) => bill::budgets(&args, settings).await,
        Command::Artifacts(command) => artifacts::perform(command, settings).await,
        Command::Agents(command) => agents::perform(command, settings).await,
        Command::Why(args) => why::why(&args, settings).await,
        Command::Keys(command) => keys::perform(command, settings).await,
        Command::Audit(command) => audit::perform(command, settings).await,
        Command::Serve(args) => serve::serve(&args, settings).await,
        Command::Doctor(args) => doctor::doctor(&args, settings).await,
        Command::Bench(args) => bench::bench(args, settings).await,
        Command::Dev(command) => dev::perform(command).await,
        Command::Schema(command) => schema::print(&command),
        Command::Completions(args) => schema::completions(&args),
        Command::Node => detached::node(settings).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
