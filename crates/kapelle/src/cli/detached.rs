//! `run --detach`: a node in the background that stays while its run is open.
//!
//! The parent hands the run over on stdin; the child answers on stdout once it is on disk, and
//! then cuts all ties with the terminal.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kapelle_api as api;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;

/// The hidden command.
pub(super) const NAME: &str = "__node";

/// What the child answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Submitted(api::Submitted),
    Refused { exit: u8, message: String },
}

/// Leaves `new` to a process in the background, and prints the run's id.
pub(super) async fn submit(new: &api::NewRun, settings: &Settings) -> Result<Exit, Stop> {
    let Some(store) = settings.place.folder() else {
        return Err(Stop::usage("a run in memory cannot be left to another process"));
    };
    std::fs::create_dir_all(store).map_err(|error| unusable(store, &error))?;
    let path = store.join("detached.log");
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let log = log.map_err(|error| unusable(&path, &error))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(settings.arguments())
        .arg(NAME)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let mut to = child.stdin.take().expect("it is piped");
    to.write_all(&serde_json::to_vec(new).expect("a request is JSON"))?;
    drop(to);
    let mut answer = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut answer)?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Submitted(submitted)) => {
            out::line(&submitted.id)?;
            let watch = settings.command(&format!("runs watch {}", submitted.id));
            out::say(&format!("process {} works on it; {watch} shows it", child.id()));
            Ok(Exit::Done)
        }
        Ok(Answer::Refused { exit, message }) => Err(Stop::new(exit_of(exit), message)),
        Err(_) => {
            let message = format!("the background process ended at once: see `{}`", path.display());
            Err(Stop::new(Exit::Store, message))
        }
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Stop {
    let way_out = "make it writable, free some space, or choose another folder with `--store`";
    Stop::new(Exit::Store, format!("`{}`: {error}; {way_out}", path.display()))
}

fn exit_of(code: u8) -> Exit {
    let all = [Exit::Failed, Exit::Usage, Exit::Config, Exit::Unreachable, Exit::Paused];
    all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Exit::Store)
}

/// The child: takes a run, answers, and works on it to its end or until it is told to leave.
pub(super) async fn node(settings: &Settings) -> Result<Exit, Stop> {
    rustix::process::setsid().ok();
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text)?;
    let new: api::NewRun = serde_json::from_slice(&text).map_err(Stop::usage)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (node, submitted) = match take(&new, settings).await {
        Ok(taken) => taken,
        Err(stop) => {
            let refused = Answer::Refused { exit: stop.exit as u8, message: stop.to_string() };
            out::json(&refused)?;
            return Err(stop);
        }
    };
    let run = submitted.id.clone();
    out::json(&Answer::Submitted(submitted))?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null).map_err(std::io::Error::from)?;
    rustix::stdio::dup2_stdout(&null).map_err(std::io::Error::from)?;
    let client = node.app.client();
    let mut events = client.events(&run, 0);
    let done = loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(Exit::Done),
            },
            _ = terminate.recv() => break Ok(Exit::Paused),
            error = node.engine().fatal() => break Err(error.into()),
        }
    };
    let grace = settings.config.node.drain_grace;
    let grace = if matches!(done, Ok(Exit::Paused)) { grace } else { Duration::ZERO };
    node.close(grace).await?;
    done
}

async fn take(
    new: &api::NewRun,
    settings: &Settings,
) -> Result<(crate::node::Node, api::Submitted), Stop> {
    let node = settings.open_unwatched().await?;
    let client = node.app.client();
    let submitted = client.submit(new).await?;
    if submitted.existing {
        client.resume(&submitted.id, &api::Wish::default()).await?;
    }
    Ok((node, submitted))
}
