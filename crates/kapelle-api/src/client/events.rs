//! A run's events, as they happen.

use std::collections::VecDeque;

use futures_util::StreamExt as _;

use super::sse::Parser;
use super::transport::Body;
use super::{Client, Error};
use crate::{Event, Problem};

/// The events of a run from one point on: each once and in order, then live ones, to its end.
///
/// A connection that breaks is made again once, from the last event on; an error says that the
/// server is gone (another may go on with [`Events::last_seq`]), or says why it cannot go on.
pub struct Events {
    client: Client,
    run: String,
    after: u64,
    open: Option<(Body, Parser)>,
    ready: VecDeque<Event>,
    /// Why the server cannot go on.
    failed: Option<Box<Problem>>,
    ended: bool,
}

impl Events {
    pub(super) fn new(client: Client, run: &str, after: u64) -> Self {
        Self {
            client,
            run: run.to_owned(),
            after,
            open: None,
            ready: VecDeque::new(),
            failed: None,
            ended: false,
        }
    }

    /// The number of the last event given.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.after
    }

    /// The next event; `None` after the run's last one. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        let (mut fresh, mut tried) = (false, false);
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.after = event.seq.unwrap_or(self.after);
                self.ended = event.is_last();
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            if let Some(problem) = self.failed.take() {
                self.open = None;
                return Some(Err(Error::Problem(problem)));
            }
            if self.open.is_none() {
                match self.client.open_events(&self.run, self.after).await {
                    Ok(body) => self.open = Some((body, Parser::default())),
                    // A connection that was kept open may be that of a server which has left since.
                    Err(Error::Unreachable(error)) if !error.is_unsent && !tried => {
                        tried = true;
                        continue;
                    }
                    Err(error) => return Some(Err(error)),
                }
                fresh = true;
            }
            match self.read().await {
                Ok(()) => fresh = false,
                Err(Some(error)) if fresh => return Some(Err(error)),
                Err(None) if fresh => return Some(Err(self.client.malformed("the stream ended"))),
                Err(_) => self.open = None,
            }
        }
    }

    async fn read(&mut self) -> Result<(), Option<Error>> {
        let Some((body, parser)) = &mut self.open else { return Err(None) };
        let piece = match body.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(Some(error.into())),
            None => return Err(None),
        };
        let mut frames = Vec::new();
        let malformed = self.client.malformed("no stream of events");
        parser.feed(&piece, &mut frames).map_err(|_| Some(malformed))?;
        for frame in frames {
            // The stream ends with it: the next one goes on from here.
            if frame.event.as_deref() == Some("lagged") {
                continue;
            }
            if frame.event.as_deref() == Some("error") {
                let problem = serde_json::from_str(&frame.data)
                    .map_err(|_| Some(self.client.malformed("no problem")))?;
                self.failed = Some(problem);
                return Ok(());
            }
            let event = serde_json::from_str::<Event>(&frame.data)
                .map_err(|_| Some(self.client.malformed("no event")))?;
            // A server that repeats itself does not make us do so.
            let known = event.seq.is_some_and(|seq| seq <= self.ready_seq());
            if !known {
                self.ready.push_back(event);
            }
        }
        Ok(())
    }

    fn ready_seq(&self) -> u64 {
        self.ready.iter().rev().find_map(|event| event.seq).unwrap_or(self.after)
    }
}
