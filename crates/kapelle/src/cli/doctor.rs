//! `doctor`: whether the store is whole.
//!
//! Reads everything there is, beside whatever works on it, and leaves every file as it is, of a
//! store that is refused otherwise too. Absent: repairing. What is damaged comes
//! back from a backup, and a damaged run harms no other meanwhile.

use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use kapelle_core::port::journal;
use kapelle_store::{Damage, Progress, Sqlite, Verified};
use serde_json::json;

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object: `{"whole", "runs", "entries", "payloads", "elapsed_ms", "problems": [{"file", "run", "seq", "message"}]}`
    #[arg(long)]
    json: bool,
}

pub(crate) async fn doctor(args: &Args, settings: &Settings) -> Result<Exit, Stop> {
    let Some(folder) = settings.place.folder() else {
        return Err(Stop::usage("a store in memory ends with its process: nothing can be checked"));
    };
    settings.expect_store()?;
    let begin = Instant::now();
    let found = look(folder).await?;
    let elapsed_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    if args.json {
        out::json(&json!({
            "whole": found.damage.is_empty(),
            "runs": found.runs,
            "entries": found.entries,
            "payloads": found.payloads,
            "elapsed_ms": elapsed_ms,
            "problems": found.damage.iter().map(problem).collect::<Vec<_>>(),
        }))?;
    } else {
        print(folder, &found, elapsed_ms)?;
    }
    Ok(if found.damage.is_empty() { Exit::Done } else { Exit::Store })
}

async fn look(folder: &Path) -> Result<Verified, Stop> {
    // It is drawn on a terminal only.
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    // One of an older version has to be brought to ours first.
    let store = Sqlite::inspect(folder).and_then(|store| match store {
        Some(store) => Ok(store),
        None => Sqlite::open(folder),
    });
    let found = match store {
        Ok(store) => store.verify(|progress| bar.set_message(text(progress))).await,
        Err(error) => Err(error),
    };
    bar.finish_and_clear();
    Ok(found.or_else(unread)?)
}

/// A store that cannot be read at all, as far as that is its fault.
fn unread(error: journal::Error) -> Result<Verified, journal::Error> {
    let journal::Error::Unavailable { file, message } = error else { return Err(error) };
    let damage = vec![Damage { file, run: None, seq: None, message }];
    Ok(Verified { damage, ..Verified::default() })
}

fn text(progress: Progress) -> String {
    match progress {
        Progress::Structure => "the structure of the database".to_owned(),
        Progress::Rows => "the rows of the database".to_owned(),
        Progress::Entries(read) => format!("the journals: {read} entries"),
        Progress::Payloads(read) => format!("the payloads: {read}"),
    }
}

fn problem(damage: &Damage) -> serde_json::Value {
    let Damage { file, run, seq, message } = damage;
    json!({"file": file, "run": run, "seq": seq, "message": message})
}

fn print(folder: &Path, found: &Verified, elapsed_ms: u64) -> Result<(), Stop> {
    for damage in &found.damage {
        out::line(&damage.to_string())?;
    }
    let whole = match found.damage.len() as u64 {
        0 => "whole".to_owned(),
        faults => format!("damaged, {}", many(faults, "problem", "problems")),
    };
    out::line(&format!(
        "`{}` is {whole}: {}, {}, {} in {}",
        folder.display(),
        many(found.runs, "run", "runs"),
        many(found.entries, "entry", "entries"),
        many(found.payloads, "payload", "payloads"),
        out::duration(elapsed_ms)
    ))?;
    Ok(())
}

fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}
