//! `schema`, `completions`: what other tools need to know of this one.

use clap::CommandFactory as _;

use super::exit::{Exit, Stop};
use super::{Cli, out};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The JSON Schema of workflow files
    Workflow,
    /// The JSON Schema of the scripts of `dev fake-model`
    FakeModel,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) fn print(command: &Command) -> Result<Exit, Stop> {
    let schema = match command {
        Command::Workflow => kapelle_core::workflow::schema(),
        Command::FakeModel => kapelle_fake::script::schema(),
    };
    out::line(&serde_json::to_string_pretty(&schema).expect("a schema is JSON"))?;
    Ok(Exit::Done)
}

pub(crate) fn completions(args: &Completions) -> Result<Exit, Stop> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kapelle", &mut script);
    out::text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
