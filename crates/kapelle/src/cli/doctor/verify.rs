//! Whether the store is whole.
//!
//! Reads everything there is, the memory of steps and the copies of artifacts too, beside whatever works on it, and leaves every file as it is, of a
//! store that is refused otherwise too. Absent: repairing. What is damaged comes
//! back from a backup, and a damaged run harms no other meanwhile.

use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::ProgressBar;
use kapelle_agents::memory::{self, Depth};
use kapelle_core::port::journal;
use kapelle_store::{Damage, Progress, Sqlite, Verified};
use serde_json::{Map, Value, json};

use super::copies::{Copies, compare};
use crate::cli::exit::Stop;
use crate::cli::out;
use crate::node::memory_file;

/// What reading all of a store has found.
pub(super) struct Report {
    folder: PathBuf,
    found: Verified,
    copies: Copies,
    elapsed_ms: u64,
}

pub(super) async fn verify(folder: &Path) -> Result<Report, Stop> {
    let begin = Instant::now();
    let (mut found, copies) = look(folder).await?;
    found.damage.extend(notes(memory_file(folder)).await);
    let elapsed_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Report { folder: folder.to_path_buf(), found, copies, elapsed_ms })
}

impl Report {
    pub(super) const fn is_whole(&self) -> bool {
        self.found.damage.is_empty()
    }

    pub(super) fn fields(&self) -> Map<String, Value> {
        let fields = json!({
            "whole": self.is_whole(),
            "runs": self.found.runs,
            "entries": self.found.entries,
            "payloads": self.found.payloads,
            "copies": {"same": self.copies.same, "changed": self.copies.changed},
            "page_sums": !self.found.without_sums,
            "elapsed_ms": self.elapsed_ms,
            "problems": self.found.damage.iter().map(problem).collect::<Vec<_>>(),
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::default(),
        }
    }

    pub(super) fn print(&self) -> Result<(), Stop> {
        let Copies { same, changed } = &self.copies;
        if *same > 0 {
            let copies = many(*same, "copy of an artifact", "copies of artifacts");
            out::line(&format!("{copies} below `runs`: as their runs made them"))?;
        }
        for file in changed {
            out::line(&format!(
                "hm  `{file}` is not what its run made; `kapelle artifacts get` has that"
            ))?;
        }
        print(&self.folder, &self.found, self.elapsed_ms)
    }
}

async fn look(folder: &Path) -> Result<(Verified, Copies), Stop> {
    // It is drawn on a terminal only.
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    // One of an older version has to be brought to ours first.
    let store = Sqlite::inspect(folder).and_then(|store| match store {
        Some(store) => Ok(store),
        None => Sqlite::open(folder),
    });
    let mut copies = Copies::default();
    let found = match store {
        Ok(store) => {
            let found = store.verify(|progress| bar.set_message(text(progress))).await;
            bar.set_message("the copies of artifacts");
            copies = compare(&store, folder).await;
            found
        }
        Err(error) => Err(error),
    };
    bar.finish_and_clear();
    Ok((found.or_else(unread)?, copies))
}

/// What is wrong with what steps left for later ones.
async fn notes(file: PathBuf) -> Option<Damage> {
    let name = file.display().to_string().into();
    let look = move || memory::look(&file, Depth::Whole);
    let failure = tokio::task::spawn_blocking(look).await.expect("it does not panic").err()?;
    let about = format!("`{name}` ");
    let message = failure.message.strip_prefix(&about).unwrap_or(&failure.message).into();
    Some(Damage { file: name, run: None, seq: None, message })
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
    // What is wrong stands below what it is wrong with.
    for damage in &found.damage {
        out::line(&format!("  {damage}"))?;
    }
    if found.without_sums {
        out::line(
            "its database was made by an older version and has no sums of its pages: what a damaged \
             index leads past is seen only here; runs that are exported and imported into a new store \
             have them",
        )?;
    }
    Ok(())
}

pub(super) fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}
