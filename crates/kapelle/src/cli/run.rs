//! `run`: a workflow from the first step to the last.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use kapelle_api as api;

use super::exit::{Exit, Stop};
use super::follow::{People, Wanted, follow};
use super::session::Settings;
use super::view::View;
use super::{detached, input, out};
use crate::node::Node;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A workflow file, a folder that holds a `workflow.yaml`, or `-` for stdin
    file: PathBuf,
    /// An input; read as its schema says, else as JSON, else as text
    #[arg(long = "input", short, value_name = "NAME=VALUE", value_parser = input::pair)]
    inputs: Vec<(String, String)>,
    /// A JSON object of inputs, or `-` for stdin
    #[arg(long = "inputs", value_name = "FILE")]
    inputs_file: Option<PathBuf>,
    /// How many attempts may go on at once, instead of what the workflow says
    #[arg(long, value_name = "N")]
    max_parallel: Option<u32>,
    /// A name for the run: the same one never makes a second run, but goes on with the first
    #[arg(long, value_name = "ID")]
    task_id: Option<String>,
    /// Leave the run to a process in the background, and print its id
    #[arg(long, conflicts_with = "json")]
    detach: bool,
    /// Every step waits for a person's word before it starts
    #[arg(long)]
    manual: bool,
    #[command(flatten)]
    how: How,
}

/// How a run in the foreground is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Print one JSON object per event; the last one is `run_completed` or `run_paused`
    #[arg(long)]
    pub(crate) json: bool,
    /// Wait for people also where there is no terminal, instead of ending with exit code 5
    #[arg(long)]
    pub(crate) wait: bool,
}

impl How {
    pub(crate) fn people(&self) -> People {
        if self.wait || (!self.json && out::is_terminal()) { People::Wait } else { People::Leave }
    }
}

pub(crate) async fn run(args: Args, settings: &Settings) -> Result<Exit, Stop> {
    let new = new_run(&args)?;
    if args.detach {
        return detached::submit(&new, settings).await;
    }
    let node = settings.open().await?;
    let submitted = match node.app.client().submit(&new).await {
        Ok(submitted) => submitted,
        Err(error) => {
            node.close(std::time::Duration::ZERO).await?;
            return Err(error.into());
        }
    };
    let view = View::new(args.how.json, 1, steps_of(&new));
    let wanted = Wanted { run: submitted.id, fresh: !submitted.existing };
    follow(node, settings, vec![wanted], args.how.people(), view).await
}

fn new_run(args: &Args) -> Result<api::NewRun, Stop> {
    let mut plan = input::workflow(&args.file)?.plan;
    let inputs = input::inputs(&plan, args.inputs_file.as_deref(), &args.inputs)?;
    plan.manual |= args.manual;
    plan.max_parallel = args.max_parallel.unwrap_or(plan.max_parallel);
    let root = std::env::current_dir()?;
    let root = root.to_str().ok_or_else(|| Stop::usage("the current folder's name is no UTF-8"))?;
    Ok(api::NewRun {
        plan: Some(serde_json::to_value(&plan).expect("a plan is JSON")),
        inputs,
        task_id: args.task_id.clone(),
        root: Some(root.to_owned()),
        ..api::NewRun::default()
    })
}

fn steps_of(new: &api::NewRun) -> Option<usize> {
    Some(new.plan.as_ref()?.get("steps")?.as_array()?.len())
}

/// Writes what a run made to `STORE/runs/<run>/artifacts/<name>`, and notes where.
pub(crate) fn keep_artifacts(
    store: Option<&Path>,
    run: &str,
    artifacts: &mut [api::Artifact],
    node: &Node,
) -> Result<(), Stop> {
    let Some(store) = store else { return Ok(()) };
    let folder = store.join("runs").join(run).join("artifacts");
    let mut taken = std::collections::BTreeSet::new();
    for artifact in artifacts {
        let mut name = PathBuf::from(&artifact.name);
        if !is_inside(&name) {
            continue;
        }
        if !taken.insert(name.clone()) {
            // Another step made one of the same name.
            name = Path::new(artifact.step.as_deref().unwrap_or("other")).join(name);
        }
        let path = folder.join(name);
        write(&path, &artifact.digest, node)
            .map_err(|stop| Stop::new(stop.exit, format!("`{}`: {stop}", path.display())))?;
        artifact.path = Some(path.display().to_string());
    }
    Ok(())
}

fn is_inside(name: &Path) -> bool {
    let mut parts = name.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn write(path: &Path, digest: &str, node: &Node) -> Result<(), Stop> {
    let digest = digest.parse().map_err(Stop::usage)?;
    let store = |error| Stop::new(Exit::Store, error);
    let app = &node.app;
    let content = tokio::task::block_in_place(|| {
        let journal = app.engine().journal();
        tokio::runtime::Handle::current().block_on(journal.payload(app.tenant(), digest))
    })?;
    let Some(mut content) = content else { return Err(Stop::new(Exit::Store, "it is gone")) };
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(store)?;
    let mut file = fs::File::create(path).map_err(store)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match content.reader.read(&mut piece).map_err(store)? {
            0 => return Ok(()),
            read => file.write_all(&piece[..read]).map_err(store)?,
        }
    }
}
