//! `check`: everything that is wrong with workflow files.

use std::path::{Path, PathBuf};

use kapelle_api as api;
use kapelle_core::problem::{Code, Problem};
use kapelle_core::workflow::Checked;

use super::exit::{Exit, Stop};
use super::session::Settings;
use super::{input, out};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Workflow files, folders that hold a `workflow.yaml`, or `-` for stdin
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Print one JSON object: `{"ok", "problems": [{"file", "line", "column", "field", "code", "message", "hint"}]}`
    #[arg(long)]
    json: bool,
}

pub(crate) fn check(args: &Args, settings: &Settings) -> Result<Exit, Stop> {
    let mut problems = Vec::new();
    let agents = settings.known_agents();
    for file in &args.files {
        let checked = input::read(file, &agents).unwrap_or_else(|stop| unreadable(file, &stop));
        if !args.json && checked.workflow.is_some() && checked.problems.is_empty() {
            out::line(&format!("{}: ok", file.display()))?;
        }
        problems.extend(checked.problems);
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if args.json {
        let problems = problems.iter().map(crate::server::finding).collect();
        out::json(&api::Checked { ok: errors == 0, problems })?;
    } else {
        print(&problems, errors)?;
    }
    Ok(if errors == 0 { Exit::Done } else { Exit::Usage })
}

fn unreadable(file: &Path, stop: &Stop) -> Checked {
    let mut problem = Problem::error(Code::UnreadableFile, "", stop.to_string());
    problem.file = Some(file.display().to_string().into());
    Checked { workflow: None, problems: vec![problem] }
}

fn print(problems: &[Problem], errors: usize) -> Result<(), Stop> {
    for problem in problems {
        out::line(&format!("{problem}\n"))?;
    }
    if errors > 0 {
        out::line(&format!("{errors} error{}", if errors == 1 { "" } else { "s" }))?;
    }
    Ok(())
}
