//! Watching a run: its events from any point on, each once and in order, then live.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt, unfold};
use kapelle_core::run::{Event, Run, Skipped};
use kapelle_core::{RunId, StepId, StepNo, Tenant, Timestamp};
use tokio::sync::broadcast::error::RecvError;

use crate::Error;
use crate::feed::{Live, Progressed, Seat};
use crate::shards::Fold;
use crate::shell::Shared;

/// What a watcher sees.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Something that is on disk.
    Event(Box<SeenEvent>),
    /// How far an attempt is: lossy, never stored.
    Progress(Arc<Progressed>),
}

/// An event with all that is needed to show it.
#[derive(Clone, Debug)]
pub struct SeenEvent {
    /// Of which run.
    pub run: RunId,
    /// Its number in the run, from 1.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// The ids behind all step numbers in it.
    pub names: BTreeMap<StepNo, StepId>,
}

impl SeenEvent {
    /// The id of a step that the event names.
    #[must_use]
    pub fn name(&self, step: StepNo) -> &str {
        self.names.get(&step).map_or("?", StepId::as_str)
    }

    /// The step that the event is about, if it is about one.
    #[must_use]
    pub fn step(&self) -> Option<&str> {
        self.event.step().map(|step| self.name(step))
    }
}

fn names(event: &Event, run: &Run) -> BTreeMap<StepNo, StepId> {
    let mut numbers: Vec<StepNo> = event.step().into_iter().collect();
    match event {
        Event::StepSkipped { why: Skipped::Needs { step, blame }, .. } => {
            numbers.extend([*step, *blame]);
        }
        Event::StepsDropped { steps } => numbers.extend(steps),
        Event::MessageSent { to, .. } => numbers.extend(to),
        Event::RunForked(forked) => numbers.push(forked.from),
        _ => {}
    }
    numbers.into_iter().filter_map(|no| Some((no, run.name(no)?.clone()))).collect()
}

struct Watcher {
    shared: Arc<Shared>,
    tenant: Tenant,
    run: RunId,
    after: u64,
    fold: Fold,
    seat: Seat,
    queue: VecDeque<Seen>,
    /// How long to wait for news before looking: short where another process works on the run.
    pace: Duration,
    ended: bool,
}

/// The events of a run after number `after`, then live; it ends with the run.
pub(crate) fn watch(
    shared: Arc<Shared>,
    tenant: Tenant,
    run: RunId,
    after: u64,
    pace: Duration,
) -> BoxStream<'static, Result<Seen, Error>> {
    let seat = shared.feed.sit(run);
    let watcher = Watcher {
        shared,
        tenant,
        run,
        after,
        fold: Fold::default(),
        seat,
        queue: VecDeque::new(),
        pace,
        ended: false,
    };
    unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(Some(seen)) => Some((Ok(seen), Some(watcher))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<Seen>, Error> {
        loop {
            if let Some(seen) = self.queue.pop_front() {
                return Ok(Some(seen));
            }
            if self.ended {
                return Ok(None);
            }
            if self.read().await? {
                continue;
            }
            if let Some(progress) = self.seat.so_far.pop() {
                return Ok(Some(Seen::Progress(progress)));
            }
            match tokio::time::timeout(self.pace, self.seat.live.recv()).await {
                Ok(Ok(Live::Progress(progress))) => return Ok(Some(Seen::Progress(progress))),
                Ok(Ok(Live::Damaged(why))) => return Err(Error::Damaged(why)),
                Ok(Ok(Live::More) | Err(RecvError::Lagged(_))) | Err(_) => {}
                Ok(Err(RecvError::Closed)) => self.ended = true,
            }
        }
    }

    /// Reads a page of the journal; whether there was any.
    async fn read(&mut self) -> Result<bool, Error> {
        let read = self.shared.reader.advance(&self.tenant, self.run, &mut self.fold).await?;
        let Some(run) = self.fold.run() else {
            return Err(Error::NotFound);
        };
        let any = !read.is_empty();
        for (entry, events) in read {
            for (seq, event) in (entry.first_seq..).zip(events) {
                if seq > self.after {
                    let names = names(&event, run);
                    let (run, at) = (self.run, entry.at);
                    let seen = SeenEvent { run, seq, at, event, names };
                    self.queue.push_back(Seen::Event(Box::new(seen)));
                }
            }
        }
        self.ended = run.ended().is_some();
        Ok(any)
    }
}
