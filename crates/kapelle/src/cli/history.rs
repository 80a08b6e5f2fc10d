//! `runs diff`, `runs fork`, `runs export`, `runs import`, `runs prune`: what is done with what runs have done.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use kapelle_api::{self as api, Client};
use kapelle_engine::EXPORT_MAX;

use super::exit::{Exit, Stop};
use super::follow::{Wanted, follow, follow_there};
use super::run::How;
use super::session::{Settings, with_store};
use super::view::View;
use super::{input, out};
use crate::node::Node;

/// How many runs are removed before it is told how far it is.
const PIECE: usize = 200;

#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Only those that ended so long ago [default: 30d, without --keep]
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
    /// Keep the newest so many that have ended
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Only tell which
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object: `{"runs", "bytes_before", "bytes_after", "bytes_free"}`
    #[arg(long)]
    json: bool,
}

pub(crate) async fn prune(args: Prune, client: &Client) -> Result<(), Stop> {
    let Prune { older_than, keep, dry_run, json } = args;
    let which = api::Prune { older_than, keep, dry_run: true, ..api::Prune::default() };
    let mut found = client.prune(&which).await?;
    if !dry_run {
        found = remove(found, client).await?;
    }
    if json {
        return Ok(out::json(&found)?);
    }
    if dry_run {
        out::text(&found.runs.iter().map(|run| format!("{run}\n")).collect::<String>())?;
    }
    let runs = match found.runs.len() {
        1 => "1 run".to_owned(),
        n => format!("{n} runs"),
    };
    let (before, after) = (found.bytes_before, found.bytes_after);
    out::say(&if dry_run {
        format!("{runs} would be removed; the store takes {}", out::bytes(before))
    } else {
        let less = out::bytes(before.saturating_sub(after));
        format!("{runs} removed; the store takes {}, {less} less", out::bytes(after))
    });
    if found.bytes_free > 0 {
        let free = out::bytes(found.bytes_free);
        out::say(&format!(
            "{free} of it are free, and filled again: a store that an older version made keeps them"
        ));
    }
    Ok(())
}

/// Removes the runs in pieces, the oldest first.
async fn remove(found: api::Pruned, client: &Client) -> Result<api::Pruned, Stop> {
    let mut gone = api::Pruned { runs: Vec::new(), ..found.clone() };
    // It is drawn on a terminal only.
    let style = ProgressStyle::with_template("pruning {pos} of {len} runs {wide_bar} {eta}");
    let bar = ProgressBar::new(found.runs.len() as u64);
    bar.set_style(style.map_err(Stop::usage)?);
    let mut pieces: Vec<Vec<String>> = found.runs.chunks(PIECE).map(<[_]>::to_vec).collect();
    // The space is given back also where nothing is left to remove: somebody may have been killed.
    if pieces.is_empty() {
        pieces.push(Vec::new());
    }
    let last = pieces.len() - 1;
    for (index, runs) in pieces.into_iter().enumerate() {
        let count = runs.len() as u64;
        let which = api::Prune { runs: Some(runs), more: index < last, ..api::Prune::default() };
        let pruned = client.prune(&which).await?;
        gone.runs.extend(pruned.runs);
        (gone.bytes_after, gone.bytes_free) = (pruned.bytes_after, pruned.bytes_free);
        bar.inc(count);
    }
    bar.finish_and_clear();
    Ok(gone)
}

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The file, or `-` for stdin
    file: PathBuf,
    /// Print one JSON object: `{"items": [{"id", "existing"}], "next_cursor"}`
    #[arg(long)]
    json: bool,
}

pub(crate) async fn export(runs: &[String], client: &Client) -> Result<(), Stop> {
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        return Err(Stop::usage(
            "the file is not for a terminal: write `> FILE` after the command",
        ));
    }
    let mut file = client.export(runs).await?;
    while let Some(piece) = file.try_next().await.map_err(api::client::Error::from)? {
        stdout.write_all(&piece).map_err(Stop::output)?;
    }
    stdout.flush().map_err(Stop::output)
}

/// A file that may be one of runs: no longer than those are.
fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    let mut file = Vec::new();
    let mut len = 0;
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(EXPORT_MAX + 1).read_to_end(&mut file)
    } else {
        std::fs::File::open(path).and_then(|from| {
            len = from.metadata()?.len();
            from.take(if len > EXPORT_MAX { 0 } else { EXPORT_MAX + 1 }).read_to_end(&mut file)
        })
    };
    let refused = |why: &str| Stop::usage(format!("`{}`: {why}", path.display()));
    read.map_err(|error| refused(&error.to_string()))?;
    if len.max(file.len() as u64) > EXPORT_MAX {
        return Err(refused("it is longer than 512 MiB, so `runs export` did not write it"));
    }
    Ok(file)
}

pub(crate) async fn import(args: Import, settings: &Settings) -> Result<Exit, Stop> {
    let file = read(&args.file)?;
    let taken =
        with_store(settings, async |client, _| Ok(client.import(file.into()).await?)).await?;
    if args.json {
        out::json(&taken)?;
        return Ok(Exit::Done);
    }
    for run in taken.items {
        out::line(&format!("{}{}", run.id, if run.existing { " (was there before)" } else { "" }))?;
    }
    Ok(Exit::Done)
}

#[derive(Debug, clap::Args)]
pub(crate) struct Fork {
    /// The run: its id, a unique end of it (4 or more characters), or its task id
    run: String,
    /// The step: it and all that needs it are done anew
    #[arg(long, value_name = "STEP")]
    from: String,
    /// An input that is another one; read as its schema says, else as JSON, else as text
    #[arg(long = "input", short, value_name = "NAME=VALUE", value_parser = input::pair)]
    inputs: Vec<(String, String)>,
    /// A name for the new run: the same one never makes a second run, but goes on with the first
    #[arg(long, value_name = "ID")]
    task_id: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Forks a run and follows the new one to its end.
pub(crate) async fn fork(args: Fork, settings: &Settings) -> Result<Exit, Stop> {
    if let Some(client) = settings.server() {
        let inputs = inputs(None, client, &args.run, &args.inputs).await;
        let how = api::Fork { from: args.from, inputs, task_id: args.task_id };
        let run = client.fork(&args.run, &how).await?.id;
        return follow_there(client, &run, None, &args.how, settings).await;
    }
    let node = settings.look_to_work().await?;
    let client = node.app.client();
    let how = api::Fork {
        from: args.from,
        inputs: inputs(Some(&node), &client, &args.run, &args.inputs).await,
        task_id: args.task_id,
    };
    let submitted = match client.fork(&args.run, &how).await {
        Ok(submitted) => submitted,
        Err(error) => {
            node.close(std::time::Duration::ZERO).await?;
            return Err(error.into());
        }
    };
    let view = View::new(args.how.json, 1);
    let wanted = Wanted { run: submitted.id, fresh: !submitted.existing };
    follow(node, settings, vec![wanted], args.how.people(), view).await
}

/// Inputs as the plan of the run says. Where that is gone, or elsewhere, they are read as well as they can be:
/// its key may still be known.
async fn inputs(
    node: Option<&Node>,
    client: &Client,
    run: &str,
    given: &[(String, String)],
) -> api::Json {
    let id = client.run(run).await.ok().and_then(|run| run.id.parse().ok());
    let parent = match id.zip(node) {
        Some((id, node)) => node.engine().run(node.app.tenant(), id).await.ok(),
        None => None,
    };
    let schema = |name: &str| parent.as_ref()?.plan().plan.inputs.get(name).cloned();
    let read =
        |(name, text): &(String, String)| (name.clone(), input::typed(schema(name).as_ref(), text));
    given.iter().map(read).collect()
}

/// How much of a value is shown.
const VALUE_MAX: usize = 60;
/// How much is shown of where it is.
const PATH_MAX: usize = 120;

pub(crate) fn diff(diff: &api::Diff, json: bool) -> Result<(), Stop> {
    if json {
        return Ok(out::json(diff)?);
    }
    let took = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), out::duration);
    let cell = |value: &api::Json| out::shown(&value.to_string(), VALUE_MAX);
    let row = |name: &str, a: &str, b: &str| vec![name.to_owned(), a.to_owned(), b.to_owned()];
    let mut rows = vec![row("", &diff.a.id, &diff.b.id)];
    rows.push(row("duration", &took(diff.a.elapsed_ms), &took(diff.b.elapsed_ms)));
    for one in &diff.differences {
        rows.push(row(&out::shown(&one.path, PATH_MAX), &cell(&one.a), &cell(&one.b)));
    }
    for one in diff.durations.iter().filter(|one| one.a_ms != one.b_ms) {
        let name = format!("steps.{}.duration", one.step);
        rows.push(row(&name, &took(one.a_ms), &took(one.b_ms)));
    }
    out::text(&out::table(&rows))?;
    if diff.differences.is_empty() {
        out::say("they differ in nothing but their times");
    }
    Ok(())
}
