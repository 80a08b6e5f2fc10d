//! `doctor`: whether anything is wrong with what Kapelle stands on, and how to mend it.
//!
//! Without `--verify` it looks at the outside of things, in a moment; with it the store is read to its
//! last byte. Nothing is changed either way, but for a file that is written to time the disk.

mod copies;
mod places;
mod verify;

use serde::Serialize;

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read the whole store: every journal, payload and row, the database, the memory of steps, and the copies of artifacts below `runs`
    #[arg(long)]
    verify: bool,
    /// Print one JSON object: `{"healthy", "checks": [{"check", "state", "message", "mend"}]}`, with `--verify` also `{"whole", "runs", "entries", "payloads", "copies": {"same", "changed"}, "elapsed_ms", "problems": [{"file", "run", "seq", "message"}]}`
    #[arg(long)]
    json: bool,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Fine,
    /// It works, but not as it could.
    Doubtful,
    /// It does not work.
    Broken,
}

/// What was looked at, and what came of it.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    state: State,
    message: String,
    /// What to do about it; none where nothing is wrong.
    mend: Option<String>,
}

impl Check {
    fn fine(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Fine, message: message.into(), mend: None }
    }

    fn doubtful(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Doubtful, message: message.into(), mend: Some(mend.into()) }
    }

    fn broken(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Broken, message: message.into(), mend: Some(mend.into()) }
    }
}

pub(crate) async fn doctor(args: &Args, settings: &Settings) -> Result<Exit, Stop> {
    let folder = settings.place.folder().filter(|_| args.verify);
    if args.verify && folder.is_none() {
        let message = "a store in memory ends with its process: nothing can be verified";
        return Err(Stop::usage(message));
    } else if args.verify {
        settings.expect_store()?;
    }
    let checks = places::look(settings).await;
    if !args.json {
        print(&checks)?;
    }
    let verified = match folder {
        Some(folder) => Some(verify::verify(folder).await?),
        None => None,
    };
    let healthy = checks.iter().all(|check| check.state != State::Broken);
    if args.json {
        let mut object = verified.as_ref().map_or_else(Default::default, verify::Report::fields);
        object.insert("healthy".into(), healthy.into());
        object.insert("checks".into(), serde_json::to_value(&checks).map_err(Stop::usage)?);
        out::json(&object)?;
    } else if let Some(verified) = &verified {
        verified.print()?;
    }
    // A store that is whole is whole on a full disk, too.
    let good = verified.map_or(healthy, |verified| verified.is_whole());
    Ok(if good { Exit::Done } else { Exit::Store })
}

fn print(checks: &[Check]) -> Result<(), Stop> {
    for Check { check, state, message, mend } in checks {
        let mark = match state {
            State::Fine => "ok  ",
            State::Doubtful => "hm  ",
            State::Broken => "bad ",
        };
        out::line(&format!("{mark}{check:8} {message}"))?;
        if let Some(mend) = mend {
            out::line(&format!("             {mend}"))?;
        }
    }
    Ok(())
}
