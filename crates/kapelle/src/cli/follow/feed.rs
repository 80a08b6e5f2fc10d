//! The events of one run, whoever works on it.

use std::time::{Duration, Instant};

use kapelle_api::client::Error;
use kapelle_api::{self as api, Client, EventKind, Wish};
use tokio::sync::mpsc;

use super::Wanted;
use crate::cli::exit::{Exit, Stop};
use crate::node::Node;
use crate::server::App;

/// How long a node that is there but does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often.
const PACE: Duration = Duration::from_millis(50);

/// What there is to know about a run.
pub(super) enum News {
    /// Somebody works on it: this process, or another node.
    Taken {
        /// Its id, however it was named.
        run: String,
        /// Its last event so far.
        seq: u64,
        /// The other node.
        remote: Option<api::Node>,
    },
    /// The other node is gone.
    Gone,
    /// Something happened.
    Event(Box<api::Event>),
}

/// Brings the events of a run, and makes sure that somebody works on it.
pub(super) struct Feed {
    app: App,
    index: usize,
    run: String,
    fresh: bool,
    to: mpsc::Sender<(usize, Result<News, Stop>)>,
    after: u64,
    paused: bool,
}

impl Feed {
    pub(super) fn new(
        node: &Node,
        index: usize,
        wanted: Wanted,
        to: mpsc::Sender<(usize, Result<News, Stop>)>,
    ) -> Self {
        let Wanted { run, fresh } = wanted;
        Self { app: node.app.clone(), index, run, fresh, to, after: 0, paused: false }
    }

    pub(super) async fn run(mut self) {
        if let Err(stop) = self.follow().await {
            self.to.send((self.index, Err(stop))).await.ok();
        }
    }

    async fn follow(&mut self) -> Result<(), Stop> {
        loop {
            let (client, remote) = self.take().await?;
            let mut events = client.events(&self.run, self.after);
            loop {
                match events.next().await {
                    Some(Ok(event)) => {
                        self.after = event.seq.unwrap_or(self.after);
                        self.note(&event);
                        if !self.tell(News::Event(Box::new(event))).await {
                            return Ok(());
                        }
                    }
                    // The other node is gone: whoever has the run now is found again.
                    Some(Err(Error::Unreachable(_) | Error::Malformed { .. })) if remote => break,
                    Some(Err(error)) if remote && error.code() == Some("draining") => break,
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(()),
                }
            }
            if self.paused {
                // It was paused and its node left: it goes on when somebody says so.
                return Ok(());
            }
            self.tell(News::Gone).await;
        }
    }

    fn note(&mut self, event: &api::Event) {
        match event.kind {
            EventKind::RunPaused { .. } => self.paused = true,
            EventKind::RunResumed { .. } | EventKind::RunStopping { .. } => self.paused = false,
            _ => {}
        }
    }

    async fn tell(&self, news: News) -> bool {
        self.to.send((self.index, Ok(news))).await.is_ok()
    }

    /// Makes somebody work on the run: this node, or the one that owns it.
    async fn take(&mut self) -> Result<(Client, bool), Stop> {
        let local = self.app.client();
        if std::mem::take(&mut self.fresh) {
            self.tell(News::Taken { run: self.run.clone(), seq: 0, remote: None }).await;
            return Ok((local, false));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match local.resume(&self.run, &Wish::default()).await {
                Ok(told) => {
                    self.run = told.id;
                    let id = self.run.parse().map_err(Stop::usage)?;
                    let owner = self.app.engine().owner(id).await?;
                    let remote = owner.as_ref().map(crate::server::node_of);
                    let socket = remote.as_ref().and_then(|node| node.socket.clone());
                    let client = match socket {
                        Some(socket) => Some((Client::socket(socket.as_ref()), true)),
                        // One that has ended is worked on by nobody.
                        None if self.app.works_on(id) || !told.worked_on => {
                            Some((local.clone(), false))
                        }
                        // The node that took it died before it could be asked who it is.
                        None => None,
                    };
                    if let Some(client) = client {
                        let run = self.run.clone();
                        self.tell(News::Taken { run, seq: told.seq, remote }).await;
                        return Ok(client);
                    }
                }
                Err(error) if !is_passing(&error) => return Err(error.into()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(Stop::new(Exit::Unreachable, error));
                }
                // A node that is about to leave, or that is only looking: a moment later it is gone.
                Err(_) => tokio::time::sleep(PACE).await,
            }
        }
    }
}

/// Whether the same request may be answered in a moment.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable(_) => true,
        Error::Problem(problem) => {
            matches!(problem.code.as_str(), "draining" | "elsewhere" | "outcome_unknown")
        }
        Error::Malformed { .. } => false,
    }
}
