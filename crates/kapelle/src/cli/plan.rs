//! `plan`: what a workflow would do.

use std::path::PathBuf;

use kapelle_core::plan::{analyze, draw};

use super::exit::{Exit, Stop};
use super::session::Settings;
use super::{input, out};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A workflow file, a folder that holds a `workflow.yaml`, or `-` for stdin
    pub(super) file: PathBuf,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// A table of waves
    Text,
    /// One JSON object
    Json,
    /// A Mermaid flowchart
    Mermaid,
    /// A Graphviz graph
    Dot,
}

pub(crate) fn plan(args: &Args, settings: &Settings) -> Result<Exit, Stop> {
    let workflow = input::workflow(&args.file, &settings.known_agents())?;
    settings.tell_shadowed(&workflow.plan);
    let analysis = analyze(&workflow.plan);
    match args.format {
        Format::Text => out::text(&draw::text(&analysis))?,
        Format::Json => out::json(&analysis)?,
        Format::Mermaid => out::text(&draw::mermaid(&analysis))?,
        Format::Dot => out::text(&draw::dot(&analysis))?,
    }
    Ok(Exit::Done)
}
