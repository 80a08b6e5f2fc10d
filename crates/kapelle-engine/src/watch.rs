//! Watching a run: its events from any point on, each once and in order, then live.
//!
//! Who is late reads the journal by himself up to its end; from there on all who watch a run read it together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt, unfold};
use kapelle_core::port::journal::Entry;
use kapelle_core::run::{Event, Run, Skipped};
use kapelle_core::{RunId, StepId, StepNo, Tenant, Timestamp};
use serde_json::value::RawValue;
use tokio::sync::broadcast::error::RecvError;

use crate::Error;
use crate::common::After;
use crate::feed::{Live, Progressed, Seat};
use crate::shards::Fold;
use crate::shell::Shared;
use crate::version::Version;

/// What a watcher sees.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Something that is on disk.
    Event(Arc<SeenEvent>),
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
    /// What it looks like, made once for all who watch by the first who shows it.
    pub shown: OnceLock<Arc<RawValue>>,
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

/// How long to wait for news before looking: where another process may work on the run, and where none can.
const FOREIGN_PACE: Duration = Duration::from_millis(100);
const OWN_PACE: Duration = Duration::from_secs(30);

struct Watcher {
    shared: Arc<Shared>,
    tenant: Tenant,
    run: RunId,
    after: u64,
    /// What was read alone, until there is nothing to do.
    fold: Fold,
    seat: Seat,
    queue: VecDeque<Seen>,
    ended: bool,
}

/// The events of a run after number `after`, then live; it ends with the run.
pub(crate) fn watch(
    shared: Arc<Shared>,
    tenant: Tenant,
    run: RunId,
    after: u64,
) -> BoxStream<'static, Result<Seen, Error>> {
    let seat = shared.feed.sit(run);
    let (fold, queue) = (Fold::default(), VecDeque::new());
    let watcher = Watcher { shared, tenant, run, after, fold, seat, queue, ended: false };
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
            if self.look().await? {
                continue;
            }
            if let Some(progress) = self.seat.so_far.pop() {
                return Ok(Some(Seen::Progress(progress)));
            }
            self.fold = Fold::default();
            let is_own = self.shared.versions.of(self.run).is_some();
            let pace = if is_own { OWN_PACE } else { FOREIGN_PACE };
            match tokio::time::timeout(pace, self.seat.live.recv()).await {
                Ok(Ok(Live::Progress(progress))) => return Ok(Some(Seen::Progress(progress))),
                Ok(Ok(Live::Damaged(why))) => return Err(Error::Damaged(why)),
                Ok(Ok(Live::More) | Err(RecvError::Lagged(_))) | Err(_) => {}
                Ok(Err(RecvError::Closed)) => self.ended = true,
            }
        }
    }

    /// Takes what there is by now; whether there was any, or it is the end.
    async fn look(&mut self) -> Result<bool, Error> {
        loop {
            match self.seat.common.after(&self.tenant, self.after) {
                After::Events(events) => {
                    self.take(events);
                    return Ok(true);
                }
                After::Nothing { ended: true, .. } => {
                    self.ended = true;
                    return Ok(true);
                }
                After::Nothing { whole, .. } if self.is_as(whole) => return Ok(false),
                After::Nothing { .. } => {
                    if !self.read_for_all().await? {
                        return Ok(false);
                    }
                }
                After::Elsewhere => {
                    if self.read_alone().await? {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn is_as(&self, known: Option<Version>) -> bool {
        known.is_some() && known == self.shared.versions.of(self.run)
    }

    fn take(&mut self, events: Vec<Arc<SeenEvent>>) {
        let after = self.after;
        for event in events.into_iter().filter(|event| event.seq > after) {
            self.after = event.seq;
            self.queue.push_back(Seen::Event(event));
        }
    }

    /// Reads a page of the journal for all who watch, unless somebody else just did; false: there was none.
    async fn read_for_all(&self) -> Result<bool, Error> {
        let common = &self.seat.common;
        let mut reading = common.reading.lock().await;
        match common.after(&self.tenant, self.after) {
            After::Nothing { whole, ended: false } if !self.is_as(whole) => {}
            _ => return Ok(true),
        }
        let version = self.shared.versions.of(self.run);
        // Whoever is dropped here leaves nothing half read: the next one begins anew.
        let mut fold = std::mem::take(&mut *reading);
        let read = self.shared.reader.advance(&self.tenant, self.run, &mut fold).await?;
        let Some(run) = fold.run() else { return Err(Error::NotFound) };
        let (any, ended) = (!read.is_empty(), run.ended().is_some());
        common.add(seen(read, run), ended);
        if !any {
            common.is_whole(version);
        }
        *reading = fold;
        Ok(any)
    }

    /// Reads a page of the journal; false: there was none, and the others go on from here.
    async fn read_alone(&mut self) -> Result<bool, Error> {
        let read = self.shared.reader.advance(&self.tenant, self.run, &mut self.fold).await?;
        let Some(run) = self.fold.run() else {
            return Err(Error::NotFound);
        };
        let any = !read.is_empty();
        let events = seen(read, run);
        self.take(events);
        if !any {
            self.seat.common.go_on(&self.tenant, &mut self.fold).await;
        }
        Ok(any)
    }
}

/// The events of these entries, as they are shown.
fn seen(read: Vec<(Entry, Vec<Event>)>, run: &Run) -> Vec<Arc<SeenEvent>> {
    let mut all = Vec::new();
    for (entry, events) in read {
        for (seq, event) in (entry.first_seq..).zip(events) {
            let (names, shown) = (names(&event, run), OnceLock::new());
            all.push(Arc::new(SeenEvent { run: run.id(), seq, at: entry.at, event, names, shown }));
        }
    }
    all
}
