//! What is seen of runs while they go on: JSON lines, plain lines, or a live picture.

mod board;
mod frame;
mod line;
mod live;
mod plain;
pub(crate) mod screen;
mod step;
mod summary;
mod window;

use std::io;

use kapelle_api::Event;
use kapelle_core::plan::Plan;

use super::out;
use live::Live;
use plain::Plain;

/// How a run is shown.
pub(crate) enum View {
    /// One JSON object a line, on stdout.
    Json,
    /// One line per event that matters, on stdout: what was asked for.
    Listed(Plain),
    /// The same while a run goes on, on stderr; the end on stdout.
    Plain(Plain),
    /// Its steps and how far it is, on stderr; the end on stdout.
    Live(Box<Live>),
    /// Stdout takes no more: only how it ends, on stderr.
    Unheard,
}

/// What is known of a run that has ended besides its last event.
#[derive(Default)]
pub(crate) struct Hindsight {
    /// The inputs with which a fork may end better.
    pub(crate) inputs: Vec<String>,
    /// What it has cost, if it has.
    pub(crate) cost: Option<String>,
}

/// How a run ended for whoever watches.
pub(crate) enum Ending<'a> {
    /// It ended; its last event, and what that does not say.
    Completed(&'a Event, &'a Hindsight),
    /// It goes on later; the commands of ours that end its waits for people.
    Paused(&'a Event, &'a [String]),
}

impl Ending<'_> {
    fn run(&self) -> &str {
        match self {
            Self::Completed(event, _) | Self::Paused(event, _) => &event.run,
        }
    }
}

impl View {
    /// The view that fits where the output goes.
    pub(crate) fn new(json: bool, runs: usize) -> Self {
        if json {
            Self::Json
        } else if runs == 1 && out::is_terminal() && !out::is_dumb() {
            Self::Live(Box::new(Live::new()))
        } else {
            Self::Plain(Plain::new(runs))
        }
    }

    /// The events of one run as lines.
    pub(crate) fn listed() -> Self {
        Self::Listed(Plain::new(1))
    }

    /// A run whose plan is elsewhere.
    pub(crate) fn without_plan(json: bool) -> Self {
        if json { Self::Json } else { Self::Plain(Plain::new(1)) }
    }

    /// Whether it is of use to know the plan.
    pub(crate) const fn wants_plan(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// The plan of the run, and how long the last run of its workflow took.
    pub(crate) fn plan(&mut self, plan: &Plan, last_ms: Option<u64>) {
        if let Self::Live(live) = self {
            live.plan(plan, last_ms);
        }
    }

    /// Shows an event. The last one of a run is shown by [`Self::ended`] as well.
    pub(crate) fn event(&mut self, event: &Event) -> io::Result<()> {
        match self {
            Self::Json => out::json(event),
            Self::Listed(plain) => plain.line(event).map_or(Ok(()), |line| out::line(&line)),
            Self::Plain(plain) => {
                if let Some(line) = plain.line(event) {
                    out::say(&line);
                }
                Ok(())
            }
            Self::Live(live) => {
                live.event(event);
                Ok(())
            }
            Self::Unheard => Ok(()),
        }
    }

    /// Shows how it ended. `command` makes a command line of ours.
    pub(crate) fn ended(
        &mut self,
        ending: Ending<'_>,
        command: &dyn Fn(&str) -> String,
    ) -> io::Result<()> {
        match (&mut *self, &ending) {
            // The last event was the last line.
            (Self::Json, Ending::Completed(..)) => Ok(()),
            (Self::Json, Ending::Paused(event, _)) => out::json(event),
            (Self::Listed(plain) | Self::Plain(plain), _) => {
                let ends = plain.ends().of(ending.run());
                out::text(&summary::summary(&ending, command, ends))
            }
            (Self::Unheard, _) => {
                out::say(summary::summary(&ending, command, None).trim_end());
                Ok(())
            }
            (Self::Live(live), _) => {
                live.end();
                out::text(&summary::summary(&ending, command, live.ends().of(ending.run())))
            }
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        if let Self::Live(live) = self {
            live.tick();
        }
    }

    /// Lets go of the terminal: what was seen last stays.
    pub(crate) fn end(&mut self) {
        if let Self::Live(live) = self {
            live.end();
        }
    }
}
