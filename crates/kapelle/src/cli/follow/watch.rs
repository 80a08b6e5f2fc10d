//! `runs watch`: a run as it goes on elsewhere.
//!
//! **Invariant:** nothing is told to the run. It is shown from the node that works on it if there
//! is one, with progress; else from the journal.

use std::path::Path;
use std::time::{Duration, Instant};

use kapelle_api::client::Error;
use kapelle_api::{self as api, Client, EventKind};
use kapelle_core::plan::Plan;
use tokio::signal::unix::{SignalKind, signal};

use super::plan::{looked_back, looked_back_from_afar, show_plan};
use super::tally::Tally;
use super::{People, TICK};
use crate::cli::exit::{Exit, Stop};
use crate::cli::out;
use crate::cli::run::How;
use crate::cli::session::Settings;
use crate::cli::view::{Ending, View};
use crate::node::Node;

/// How often it is looked whether somebody works on a run that nobody did.
const LOOK: Duration = Duration::from_millis(500);
/// How long a server that is gone is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many times nobody is found before it is said: another node may be about to take over.
const LOOKS: u32 = 4;

/// Shows a run to its end, or until this process is told to leave.
pub(crate) async fn watch(
    client: &Client,
    node: Option<&Node>,
    run: &str,
    (view, people): (View, People),
    settings: &Settings,
) -> Result<Exit, Stop> {
    let found = client.run(run).await?;
    let mut tally = Tally::new(&found.id);
    tally.known = found.seq;
    let mut watcher = Watcher {
        client,
        node,
        settings,
        people,
        view,
        tally,
        after: 0,
        looks: 0,
        leaves: false,
        gone: None,
    };
    if let Some(node) = node {
        show_plan(&mut watcher.view, node, &found.id).await?;
    }
    let done = watcher.watch().await;
    watcher.view.end();
    done
}

/// Follows a run that a server works on, to its end, or till only a person can help who is not here.
pub(crate) async fn follow_there(
    client: &Client,
    run: &str,
    plan: Option<&Plan>,
    how: &How,
    settings: &Settings,
) -> Result<Exit, Stop> {
    let mut view = match plan {
        Some(_) => View::new(how.json, 1),
        None => View::without_plan(how.json),
    };
    if let Some(plan) = plan {
        view.plan(plan, None);
    }
    let mut tally = Tally::new(run);
    tally.known = client.run(run).await?.seq;
    let people = how.people();
    let leaves = people == People::Leave;
    let (after, looks, node, gone) = (0, 0, None, None);
    let mut watcher =
        Watcher { client, node, settings, people, view, tally, after, looks, leaves, gone };
    let done = watcher.watch().await;
    watcher.view.end();
    done
}

struct Watcher<'a> {
    client: &'a Client,
    /// `None`: a server works on the run.
    node: Option<&'a Node>,
    settings: &'a Settings,
    people: People,
    view: View,
    tally: Tally,
    after: u64,
    /// How many times in a row nobody was found to work on it.
    looks: u32,
    /// It leaves where a person has to say something.
    leaves: bool,
    /// The server cannot be reached since then.
    gone: Option<Instant>,
}

impl Watcher<'_> {
    async fn watch(&mut self) -> Result<Exit, Stop> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                exit = self.stretch() => if let Some(exit) = exit? {
                    return Ok(exit);
                },
                _ = interrupt.recv() => return Ok(self.left()),
                _ = terminate.recv() => return Ok(self.left()),
            }
        }
    }

    /// Watches for as long as the same node works on the run, or none does.
    async fn stretch(&mut self) -> Result<Option<Exit>, Stop> {
        let socket = self.socket().await?;
        let source = match &socket {
            Some(path) => Client::socket(Path::new(&**path)),
            None => self.client.clone(),
        };
        let mut events = source.events(&self.tally.run, self.after);
        let mut tick = tokio::time::interval(TICK);
        let mut look = tokio::time::interval(LOOK);
        look.tick().await;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        self.gone = None;
                        if let Some(exit) = self.see(&event).await? {
                            return Ok(Some(exit));
                        }
                    }
                    Some(Err(error)) if socket.is_some() && is_gone(&error) => {
                        look.tick().await;
                        return Ok(None);
                    }
                    Some(Err(error)) if self.node.is_none() && is_gone(&error) => {
                        self.wait_for_server(error)?;
                        look.tick().await;
                        return Ok(None);
                    }
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(Some(Exit::Done)),
                },
                _ = tick.tick() => self.view.tick(),
                _ = look.tick(), if socket.is_none() && self.node.is_some() => {
                    if self.socket().await?.is_some() {
                        return Ok(None);
                    }
                    if let Some(exit) = self.alone()? {
                        return Ok(Some(exit));
                    }
                }
            }
        }
    }

    /// The server is gone: it may be back soon, as after a restart.
    fn wait_for_server(&mut self, error: Error) -> Result<(), Stop> {
        match self.gone {
            Some(since) if since.elapsed() > PATIENCE => return Err(error.into()),
            Some(_) => {}
            None => {
                out::say(&format!("the server is gone: waiting {} s for it", PATIENCE.as_secs()));
                self.gone = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Where the node that works on the run listens.
    async fn socket(&mut self) -> Result<Option<Box<str>>, Stop> {
        let Some(node) = self.node else { return Ok(None) };
        let id = self.tally.run.parse().map_err(Stop::usage)?;
        let owner = node.engine().owner(id).await?;
        self.looks = if owner.is_some() { 0 } else { self.looks.saturating_add(1) };
        Ok(owner.and_then(|node| node.socket))
    }

    async fn see(&mut self, event: &api::Event) -> Result<Option<Exit>, Stop> {
        self.after = event.seq.unwrap_or(self.after);
        self.tally.see(event);
        self.view.event(event)?;
        if let EventKind::RunCompleted { verdict, .. } = &event.kind {
            let hindsight = match self.node {
                Some(node) => looked_back(node, event, &self.tally).await?,
                None => looked_back_from_afar(self.client, &self.tally).await,
            };
            let command = |rest: &str| self.settings.command(rest);
            self.view.ended(Ending::Completed(event, &hindsight), &command)?;
            return Ok(Some(Exit::of_verdict(verdict)));
        }
        if self.tally.is_live() && self.people == People::Wait {
            self.tally.tell_people(self.settings);
        }
        if self.leaves && self.tally.is_live() && self.tally.is_at_rest() {
            let mut waits = self.tally.waits_for.values().map(|wait| wait.what.clone());
            let reason = self.tally.paused.clone();
            if let Some(reason) = reason.or_else(|| waits.next())
                && matches!(&*self.client.run(&self.tally.run).await?.status, "waiting" | "paused")
            {
                return self.paused(reason).map(Some);
            }
        }
        Ok(None)
    }

    /// Nobody works on the run: somebody may take it up again, but who is no person does not wait.
    fn alone(&mut self) -> Result<Option<Exit>, Stop> {
        if self.looks < LOOKS || !self.tally.is_live() {
            return Ok(None);
        }
        if self.people == People::Wait {
            if self.looks == LOOKS {
                let resume = self.settings.command(&format!("runs resume {}", self.tally.run));
                out::say(&format!("nobody works on it now; go on with: {resume}"));
            }
            return Ok(None);
        }
        let reason = self.tally.paused.clone().unwrap_or_else(|| "nobody works on it".to_owned());
        self.paused(reason).map(Some)
    }

    /// The last that is said of a run that waits for somebody.
    fn paused(&mut self, reason: String) -> Result<Exit, Stop> {
        let resume = self.settings.command(&format!("runs resume {}", self.tally.run));
        let event = api::Event {
            seq: None,
            at: None,
            run: self.tally.run.clone(),
            step: None,
            kind: EventKind::RunPaused { by: None, reason, resume: Some(resume) },
        };
        let command = |rest: &str| self.settings.command(rest);
        self.view.ended(Ending::Paused(&event, &self.tally.answers()), &command)?;
        Ok(Exit::Paused)
    }

    /// Ctrl-C ends the watching alone.
    fn left(&mut self) -> Exit {
        self.view.end();
        let again = self.settings.command(&format!("runs watch {}", self.tally.run));
        out::say(&format!("the run is left as it is; {again} shows it again"));
        Exit::Paused
    }
}

/// Whether the node that was watched is gone, or about to go.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Unreachable(_) | Error::Malformed { .. } => true,
        Error::Problem(_) => error.code() == Some("draining"),
    }
}
