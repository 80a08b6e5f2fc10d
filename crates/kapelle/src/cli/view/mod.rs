//! What is seen of runs while they go on: JSON lines, plain lines, or a live picture.

mod live;
mod plain;
mod summary;

use std::io;

use kapelle_api::Event;

use super::out;
use live::Live;
use plain::Plain;

/// How a run is shown.
pub(crate) enum View {
    /// One JSON object a line, on stdout.
    Json,
    /// One line per event that matters, on stdout.
    Plain(Plain),
    /// A line per running step and a bar, on stderr; the end on stdout.
    Live(Box<Live>),
    /// Stdout takes no more: only how it ends, on stderr.
    Unheard,
}

/// How a run ended for whoever watches.
pub(crate) enum Ending<'a> {
    /// It ended; its last event.
    Completed(&'a Event),
    /// It goes on later; the commands of ours that end its waits for people.
    Paused(&'a Event, &'a [String]),
}

impl Ending<'_> {
    fn run(&self) -> &str {
        match self {
            Self::Completed(event) | Self::Paused(event, _) => &event.run,
        }
    }
}

impl View {
    /// The view that fits where the output goes. `steps`: how many the plan has, if known.
    pub(crate) fn new(json: bool, runs: usize, steps: Option<usize>) -> Self {
        if json {
            Self::Json
        } else if runs == 1 && out::is_terminal() {
            Self::Live(Box::new(Live::new(steps)))
        } else {
            Self::Plain(Plain::new(runs))
        }
    }

    /// Plain lines of one run.
    pub(crate) fn plain() -> Self {
        Self::Plain(Plain::new(1))
    }

    /// Shows an event. The last one of a run is shown by [`Self::ended`] as well.
    pub(crate) fn event(&mut self, event: &Event) -> io::Result<()> {
        match self {
            Self::Json => out::json(event),
            Self::Plain(plain) => plain.line(event).map_or(Ok(()), |line| out::line(&line)),
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
        match (&self, &ending) {
            // The last event was the last line.
            (Self::Json, Ending::Completed(_)) => Ok(()),
            (Self::Json, Ending::Paused(event, _)) => out::json(event),
            (Self::Plain(plain), _) => {
                let failures = plain.failures(ending.run());
                out::text(&summary::summary(&ending, command, failures))
            }
            (Self::Unheard, _) => {
                out::say(summary::summary(&ending, command, &[]).trim_end());
                Ok(())
            }
            (Self::Live(live), _) => {
                live.clear();
                out::text(&summary::summary(&ending, command, live.failures(ending.run())))
            }
        }
    }

    /// Tells the user something.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Json | Self::Plain(_) | Self::Unheard => out::say(text),
            Self::Live(live) => live.say(text),
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        if let Self::Live(live) = self {
            live.tick();
        }
    }

    /// Takes the live picture away.
    pub(crate) fn clear(&self) {
        if let Self::Live(live) = self {
            live.clear();
        }
    }
}
