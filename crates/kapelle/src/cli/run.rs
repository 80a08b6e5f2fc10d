//! `run`: a workflow from the first step to the last.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kapelle_api::{self as api, Client};

use super::exit::{Exit, Stop};
use super::follow::{People, Wanted, follow, follow_there};
use super::session::Settings;
use super::view::View;
use super::{detached, input, out};
use crate::cassette::Tape;
use crate::node::Node;
use crate::server::artifacts::{folder_of, places};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A workflow file, a folder that holds a `workflow.yaml`, or `-` for stdin
    pub(super) file: PathBuf,
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
    /// Keep what the outside answers in this file: models, tools, pages, processes, HTTP
    #[arg(long, value_name = "FILE", conflicts_with_all = ["detach", "replay"])]
    record: Option<PathBuf>,
    /// Take what the outside answers out of this file, and ask nobody
    #[arg(long, value_name = "FILE", conflicts_with = "detach")]
    replay: Option<PathBuf>,
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
    if let Some(client) = settings.server() {
        return run_there(client, &args, settings).await;
    }
    let new = new_run(&args, settings)?;
    if args.detach {
        return detached::submit(&new, settings).await;
    }
    let tape = tape(&args)?;
    let node = settings.open_with(tape.clone()).await?;
    let submitted = match node.app.client().submit(&new).await {
        Ok(submitted) => submitted,
        Err(error) => {
            node.close(std::time::Duration::ZERO).await?;
            return Err(error.into());
        }
    };
    if let (Some(file), true) = (&args.record, submitted.existing) {
        node.close(std::time::Duration::ZERO).await?;
        fs::remove_file(file)?;
        let resume = settings.command(&format!("runs resume {} --record FILE", submitted.id));
        return Err(Stop::usage(format!("the run is there already: go on with `{resume}`")));
    }
    let view = View::new(args.how.json, 1);
    if let (Some(tape), Ok(run)) = (&tape, submitted.id.parse()) {
        tape.is_about(run);
    }
    let wanted = Wanted { run: submitted.id, fresh: !submitted.existing };
    let end = follow(node, settings, vec![wanted], args.how.people(), view).await;
    ended(tape.as_deref(), &end);
    end
}

/// Submits a workflow to a server, as it is written: whether it is right is for the server to say.
async fn run_there(client: &Client, args: &Args, settings: &Settings) -> Result<Exit, Stop> {
    if args.record.is_some() || args.replay.is_some() {
        return Err(Stop::usage("a cassette is of calls of this machine: leave out `--server`"));
    }
    let (file, text, plan) = input::written(&args.file)?;
    let inputs = match &plan {
        Some(plan) => input::inputs(plan, args.inputs_file.as_deref(), &args.inputs)?,
        None => api::Json::Null,
    };
    let new = api::NewRun {
        workflow: Some(text),
        file: Some(file),
        inputs,
        task_id: args.task_id.clone(),
        manual: args.manual,
        max_parallel: args.max_parallel,
        ..api::NewRun::default()
    };
    let submitted = client.submit(&new).await?;
    if args.detach {
        out::line(&submitted.id)?;
        return Ok(Exit::Done);
    }
    follow_there(client, &submitted.id, plan.as_ref(), &args.how, settings).await
}

/// Says what became of the cassette, if there is one.
pub(super) fn ended(tape: Option<&Tape>, end: &Result<Exit, Stop>) {
    let Some(tape) = tape else { return };
    if matches!(end, Ok(Exit::Done | Exit::Failed)) {
        tape.has_ended();
    }
    out::say(&tape.summary());
}

/// The cassette, if one is wanted.
fn tape(args: &Args) -> Result<Option<Arc<Tape>>, Stop> {
    let recorded = args.record.as_deref().map(Tape::record);
    let tape = recorded.or_else(|| args.replay.as_deref().map(Tape::play)).transpose();
    Ok(tape.map_err(Stop::usage)?.map(Arc::new))
}

fn new_run(args: &Args, settings: &Settings) -> Result<api::NewRun, Stop> {
    let mut plan = input::workflow(&args.file, &settings.known_agents())?.plan;
    settings.tell_shadowed(&plan);
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

/// Writes what a run made to `STORE/runs/<run>/artifacts/<name>`, and notes where. What could not
/// be written is told: the run is what it is, and its artifacts are in the store.
pub(crate) fn keep_artifacts(
    store: Option<&Path>,
    run: &str,
    artifacts: &mut [api::Artifact],
    node: &Node,
) -> Option<String> {
    let folder = folder_of(store?, run);
    let mut failed = Vec::new();
    let places = places(artifacts);
    for (artifact, place) in artifacts.iter_mut().zip(places) {
        artifact.path = None;
        let Some(path) = place.map(|place| folder.join(place)) else { continue };
        match write(&path, &artifact.digest, node) {
            Ok(()) => artifact.path = Some(path.display().to_string()),
            Err(stop) => failed.push(format!("`{}` was not written: {stop}", path.display())),
        }
    }
    let more = failed.len().saturating_sub(1);
    let first = failed.into_iter().next()?;
    Some(if more == 0 { first } else { format!("{first} (and {more} more)") })
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
