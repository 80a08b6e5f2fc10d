//! `runs prune`, `runs export`, `runs import`: what is done with runs that have ended.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

use futures_util::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use kapelle_api::{self as api, Client};

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;

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
    /// Print one JSON object: `{"runs", "bytes_before", "bytes_after"}`
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
        gone.bytes_after = pruned.bytes_after;
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

pub(crate) async fn import(args: Import, settings: &Settings) -> Result<Exit, Stop> {
    let mut file = Vec::new();
    let name = args.file.display();
    let read = if args.file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut file)
    } else {
        std::fs::File::open(&args.file).and_then(|mut from| from.read_to_end(&mut file))
    };
    read.map_err(|error| Stop::usage(format!("`{name}`: {error}")))?;
    // The store is made if there is none.
    let node = settings.open().await?;
    let taken = node.app.client().import(file.into()).await;
    node.close(std::time::Duration::ZERO).await?;
    let taken = taken?;
    if args.json {
        out::json(&taken)?;
        return Ok(Exit::Done);
    }
    for run in taken.items {
        out::line(&format!("{}{}", run.id, if run.existing { " (was there before)" } else { "" }))?;
    }
    Ok(Exit::Done)
}
