//! Runs in the foreground: worked on here or by another node, shown, paused, to their end.
//!
//! **Invariants:** every event is shown once and in order, whichever node works on the run, also
//! when one node takes over from another. When this ends, nothing of these runs goes on here.

mod feed;
mod plan;
mod tally;
mod watch;

use std::time::Duration;

use futures_util::FutureExt as _;
use kapelle_api::{self as api, EventKind};
use kapelle_core::run::Status;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;
use super::view::{Ending, View};
use crate::node::Node;
use crate::server::bill;
use feed::{Feed, News};
use plan::{looked_back, show_plan};
use tally::Tally;
pub(crate) use watch::{follow_there, watch};

/// How often what is shown of elapsed times is renewed.
const TICK: Duration = Duration::from_millis(200);

/// What a follower does when only a person can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum People {
    /// It waits for them.
    Wait,
    /// It leaves.
    Leave,
}

/// A run to follow.
pub(crate) struct Wanted {
    /// Its id.
    pub(crate) run: String,
    /// It was created here just now: it is worked on already.
    pub(crate) fresh: bool,
}

/// Follows `runs` to their ends; the worst of them.
pub(crate) async fn follow(
    node: Node,
    settings: &Settings,
    runs: Vec<Wanted>,
    people: People,
    view: View,
) -> Result<Exit, Stop> {
    let mut follower = Follower {
        tallies: runs.iter().map(|wanted| Tally::new(&wanted.run)).collect(),
        node,
        settings,
        people,
        view,
        interrupts: 0,
        ending: None,
    };
    let done = follower.run(runs).await;
    follower.view.end();
    let Follower { node, tallies, .. } = follower;
    // Whatever is still running here was to be stopped: a second Ctrl-C, or the grace is over.
    let closed = node.close(Duration::ZERO).await;
    done?;
    closed?;
    Ok(tallies.iter().filter_map(|tally| tally.exit).max().unwrap_or(Exit::Done))
}

struct Follower<'a> {
    node: Node,
    settings: &'a Settings,
    tallies: Vec<Tally>,
    people: People,
    view: View,
    interrupts: u32,
    /// Why this process is about to leave, whatever the runs do.
    ending: Option<String>,
}

impl Follower<'_> {
    async fn run(&mut self, runs: Vec<Wanted>) -> Result<(), Stop> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (news_to, mut news) = mpsc::channel(256);
        let mut feeds = JoinSet::new();
        for (index, wanted) in runs.into_iter().enumerate() {
            feeds.spawn(Feed::new(&self.node, index, wanted, news_to.clone()).run());
        }
        drop(news_to);
        let mut tick = tokio::time::interval(TICK);
        while self.ending.is_none() && self.is_open() {
            tokio::select! {
                heard = news.recv() => match heard {
                    Some((index, heard)) => {
                        if let Err(stop) = self.hear(index, heard?).await {
                            if !stop.is_output() || !self.is_open() {
                                return Err(stop);
                            }
                            self.view.end();
                            self.view = View::Unheard;
                            let why = stop.to_string();
                            self.drain(&why, &mut interrupt, &mut terminate, &mut news).await?;
                        }
                    }
                    None => break,
                },
                _ = interrupt.recv() => self.interrupted().await?,
                _ = terminate.recv() => {
                    self.drain("told to end", &mut interrupt, &mut terminate, &mut news).await?;
                }
                error = self.node.engine().fatal() => return Err(error.into()),
                _ = tick.tick() => self.view.tick(),
            }
        }
        self.leave()
    }

    fn is_open(&self) -> bool {
        self.tallies.iter().any(|tally| tally.exit.is_none())
    }

    async fn hear(&mut self, index: usize, news: News) -> Result<(), Stop> {
        match news {
            News::Taken { run, seq, remote } => {
                let tally = &mut self.tallies[index];
                (tally.run, tally.known, tally.remote) = (run, seq, remote.is_some());
                if let Some(node) = remote {
                    out::say(&format!("node {} (process {}) works on it", node.id, node.pid));
                }
                let run = tally.run.clone();
                show_plan(&mut self.view, &self.node, &run).await?;
            }
            News::Gone => {
                out::say("the node that worked on it is gone: going on here");
            }
            News::Event(event) => self.see(index, *event).await?,
        }
        self.look(index).await
    }

    async fn see(&mut self, index: usize, mut event: api::Event) -> Result<(), Stop> {
        let tally = &mut self.tallies[index];
        tally.see(&event);
        if let EventKind::RunCompleted { verdict, artifacts, .. } = &mut event.kind {
            tally.exit = Some(Exit::of_verdict(verdict));
            let store = self.node.place.folder();
            let failed = super::run::keep_artifacts(store, &event.run, artifacts, &self.node);
            if let Some(failed) = failed {
                out::say(&format!("warning: {failed}"));
            }
        }
        self.view.event(&event).map_err(Stop::output)?;
        if let EventKind::EffectRecorded { warnings, .. } = &event.kind
            && self.view.wants_plan()
        {
            // The picture has no place for them.
            warnings
                .iter()
                .for_each(|line| out::say(&format!("warning: {}", out::shown(line, 300))));
        }
        if event.is_last() {
            let hindsight = looked_back(&self.node, &event, &self.tallies[index]).await?;
            let command = |rest: &str| self.settings.command(rest);
            let ending = Ending::Completed(&event, &hindsight);
            self.view.ended(ending, &command).map_err(Stop::output)?;
        }
        Ok(())
    }

    /// Whether the run goes on at all, now that something has happened.
    async fn look(&mut self, index: usize) -> Result<(), Stop> {
        let tally = &self.tallies[index];
        if tally.exit.is_none() && tally.is_live() && self.people == People::Wait {
            self.tallies[index].tell_people(self.settings);
        }
        let tally = &self.tallies[index];
        if tally.exit.is_some() || !tally.is_at_rest() {
            return Ok(());
        }
        if let Some(reason) = tally.paused.clone() {
            return self.pause_here(index, &reason);
        }
        if tally.waits_for.is_empty() || self.people == People::Wait {
            return Ok(());
        }
        let id = tally.run.parse().map_err(Stop::usage)?;
        let app = &self.node.app;
        let run = app.engine().run(app.tenant(), id).await?;
        if run.status() != Status::Waiting {
            return Ok(());
        }
        let mut waits = tally.reasons();
        let steps = tally.waits_for.values().filter(|wait| wait.is_for_the_run()).count();
        if steps > 0 {
            let left = bill::left(&run);
            let wait = if steps == 1 { "step waits" } else { "steps wait" };
            waits.push(format!("{steps} {wait} for more of the run's budget: {left}"));
        }
        self.pause_here(index, &waits.join("; "))
    }

    /// Nothing goes on: this process is done with the run.
    fn pause_here(&mut self, index: usize, reason: &str) -> Result<(), Stop> {
        let tally = &mut self.tallies[index];
        tally.exit = Some(Exit::Paused);
        // What was in memory ends with this process.
        let is_kept = self.node.place.folder().is_some();
        let resume = format!("runs resume {}", tally.run);
        let resume = is_kept.then(|| self.settings.command(&resume));
        let answers = if is_kept { tally.answers() } else { Vec::new() };
        let event = api::Event {
            seq: None,
            at: None,
            run: tally.run.clone(),
            step: None,
            kind: EventKind::RunPaused { by: None, reason: reason.to_owned(), resume },
        };
        let command = |rest: &str| self.settings.command(rest);
        if self.view.ended(Ending::Paused(&event, &answers), &command).is_err() {
            self.view = View::Unheard;
            self.view.ended(Ending::Paused(&event, &answers), &command)?;
        }
        Ok(())
    }

    /// Ctrl-C: first a pause, then the end of what runs.
    async fn interrupted(&mut self) -> Result<(), Stop> {
        self.interrupts += 1;
        if self.interrupts > 1 {
            self.ending = Some("stopped by Ctrl-C".to_owned());
            return Ok(());
        }
        let client = self.node.app.client();
        let wish = api::Wish { by: None, reason: Some("Ctrl-C".to_owned()) };
        for tally in self.tallies.iter().filter(|tally| tally.exit.is_none()) {
            match client.pause(&tally.run, &wish).await {
                Ok(_) => {}
                // It has ended meanwhile, or its node is about to leave: the events will tell.
                Err(error) if matches!(error.code(), Some("run_ended" | "run_stopping")) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let running: usize = self.tallies.iter().map(|tally| tally.running.len()).sum();
        out::say(&match running {
            0 => "paused".to_owned(),
            1 => "pausing: waiting for one attempt (Ctrl-C again stops it)".to_owned(),
            n => format!("pausing: waiting for {n} attempts (Ctrl-C again stops them)"),
        });
        Ok(())
    }

    /// SIGTERM, or nobody reads any more: what runs may end within the grace, nothing new begins, and others may go on at once.
    async fn drain(
        &mut self,
        why: &str,
        interrupt: &mut Signal,
        terminate: &mut Signal,
        news: &mut mpsc::Receiver<(usize, Result<News, Stop>)>,
    ) -> Result<(), Stop> {
        out::say(&format!("{why}: waiting for running attempts"));
        self.ending = Some(why.to_owned());
        let engine = self.node.engine().clone();
        let grace = self.settings.config.node.drain_grace;
        tokio::select! {
            drained = engine.drain(grace) => drained?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // What was committed meanwhile is shown as far as it is at hand.
        while let Some(Some((index, Ok(news)))) = news.recv().now_or_never() {
            if let News::Event(event) = news {
                self.see(index, *event).await?;
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Stop> {
        let reason = self.ending.clone().unwrap_or_else(|| "left".to_owned());
        for index in 0..self.tallies.len() {
            if self.tallies[index].exit.is_none() {
                self.pause_here(index, &reason)?;
            }
        }
        Ok(())
    }
}
