//! Runs and values on their way from the store.

use std::sync::Arc;

use kapelle_core::port::journal::{Entry, Error};
use kapelle_core::run::{Compiled, Created, Event, Run};
use kapelle_core::{Digest, Json, RunId, Tenant, Timestamp};

use super::hosted::Hosted;
use super::settle::is_report;
use super::turn::ticket_of;
use super::{Action, Offer, Place, Reply, Shards, StoreError};

/// A run as the journal has it.
#[derive(Debug)]
pub struct Loaded {
    /// The fold of its events.
    pub run: Run,
    /// The hash of its last entry.
    pub hash: [u8; 32],
}

/// Why a run cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// There is none.
    #[error("there is no such run")]
    NotFound,
    /// The store does not answer as it should.
    #[error(transparent)]
    Store(#[from] Error),
    /// What was read is not what was written.
    #[error("{0}")]
    Damaged(Arc<str>),
}

/// Folds entries into a run, checking the chain.
#[derive(Debug, Default)]
pub struct Fold {
    run: Option<Run>,
    hash: [u8; 32],
    next_seq: u64,
    /// The last event to take note of; `None`: all there are.
    until: Option<u64>,
}

impl Fold {
    /// A fold that takes note of the events up to number `until` alone: the run as it was then.
    #[must_use]
    pub fn up_to(until: u64) -> Self {
        Self { until: Some(until), ..Self::default() }
    }

    /// Whether what comes now is of no interest.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| self.next_seq() > until)
    }

    /// The number of the next event.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq.max(1)
    }

    /// The run so far.
    #[must_use]
    pub const fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// The first event of a run's first entry, whose plan has to be at hand for [`Self::add`].
    pub fn created(entry: &Entry) -> Result<Created, LoadError> {
        match events(entry)?.into_iter().next() {
            Some(Event::RunCreated(created)) => Ok(*created),
            _ => Err(damaged(entry, "its first event does not create it")),
        }
    }

    /// Checks and applies an entry, and answers its events. `plan` is needed for the first one only.
    pub fn add(
        &mut self,
        entry: &Entry,
        plan: Option<&Arc<Compiled>>,
    ) -> Result<Vec<Event>, LoadError> {
        if entry.first_seq != self.next_seq() {
            return Err(damaged(entry, &format!("event {} is missing", self.next_seq())));
        }
        if entry.chained(&self.hash) != entry.hash {
            return Err(damaged(entry, "its hash does not match"));
        }
        let events = events(entry)?;
        if events.len() != entry.count as usize {
            return Err(damaged(entry, "it does not hold as many events as it says"));
        }
        let wanted =
            self.until.map_or(u64::MAX, |until| (until + 1).saturating_sub(entry.first_seq));
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(events.len());
        let mut rest = &events[..wanted];
        if self.run.is_none() {
            let (Some(Event::RunCreated(created)), Some(plan)) = (events.first(), plan) else {
                return Err(damaged(entry, "its first event does not create it"));
            };
            self.run = Some(Run::new(entry.run, created, plan.clone(), entry.at));
            rest = rest.get(1..).unwrap_or_default();
        }
        let run = self.run.as_mut().expect("it was just made");
        for event in rest {
            run.apply(event, entry.at);
        }
        self.hash = entry.hash;
        self.next_seq = entry.first_seq + u64::from(entry.count);
        Ok(events)
    }

    /// The run, once all entries were added.
    #[must_use]
    pub fn finish(self) -> Option<Loaded> {
        let mut run = self.run?;
        // What follows by itself was recorded with its cause; this empties the list of it. In the
        // middle of an entry it has not happened yet.
        while self.until.is_none()
            && let Some(event) = run.follow()
        {
            let at = run.last_at();
            run.apply(&event, at);
        }
        Some(Loaded { run, hash: self.hash })
    }
}

fn events(entry: &Entry) -> Result<Vec<Event>, LoadError> {
    serde_json::from_slice(&entry.body).map_err(|error| damaged(entry, &error.to_string()))
}

fn damaged(entry: &Entry, why: &str) -> LoadError {
    let run = entry.run;
    LoadError::Damaged(
        format!("the journal of run `{run}` is damaged at event {}: {why}", entry.first_seq).into(),
    )
}

impl Shards {
    /// A run that was asked for with [`super::Action::LoadRun`].
    pub fn loaded(
        &mut self,
        id: RunId,
        tenant: Tenant,
        run: Result<Loaded, LoadError>,
        now: Timestamp,
    ) {
        let outdated = self.reading.remove(&id).unwrap_or(false);
        let Some(Place::Loading(waiting)) = self.runs.get_mut(&id) else { return };
        if outdated {
            return self.read(tenant, id, false);
        }
        if let Err(LoadError::Store(error)) = &run
            && !matches!(error, Error::Corrupt { .. })
        {
            let (told, kept): (Vec<_>, Vec<_>) =
                std::mem::take(waiting).into_iter().partition(comes_again);
            let goes_on = !kept.is_empty() || self.reloading.contains_key(&id);
            *waiting = kept;
            let reply = Reply::Store(StoreError(error.clone()));
            for offer in told {
                self.reply(ticket_of(&offer), reply.clone());
            }
            return if goes_on { self.read(tenant, id, true) } else { drop(self.runs.remove(&id)) };
        }
        let Some(Place::Loading(waiting)) = self.runs.remove(&id) else { return };
        let before = self.reloading.remove(&id).unwrap_or_default();
        match run {
            Ok(loaded) => {
                let mut hosted = Hosted::loaded(loaded.run, tenant, loaded.hash, now);
                // Its attempts were started here and go on: it is not adopted again.
                hosted.working = before.working && before.adopting.is_none();
                if before.working && hosted.run.ended().is_some() {
                    // Another node has ended it: nobody else will tell its attempts here.
                    self.actions.push(Action::StopAll { run: id });
                }
                if let Some(takeover) = before.adopting {
                    let tenant = hosted.tenant.clone();
                    self.queue.push_back(Offer::Work { tenant, run: id, takeover, ticket: None });
                }
                self.runs.insert(id, Place::Here(Box::new(hosted)));
                self.note_timer(id);
                self.make_hungry(id);
                self.queue.extend(waiting);
            }
            Err(error) => {
                let reply = match error {
                    LoadError::NotFound => Reply::NotFound,
                    LoadError::Store(error) => self.damaged(id, error.to_string().into()),
                    LoadError::Damaged(why) => self.damaged(id, why),
                };
                for offer in waiting {
                    self.reply(ticket_of(&offer), reply.clone());
                }
            }
        }
    }

    /// Leaves a run alone from here on.
    pub(super) fn damaged(&mut self, run: RunId, why: Arc<str>) -> Reply {
        self.actions.push(Action::StopAll { run });
        self.actions.push(Action::Damaged { run, why: why.clone() });
        self.runs.insert(run, Place::Damaged(why.clone()));
        Reply::Damaged(why)
    }

    /// Does the same to a run that may be in memory: nothing of it is staged any more, and those
    /// who wait for an append of it are told.
    pub(super) fn quarantine(&mut self, run: RunId, why: Arc<str>) {
        if !self.epochs.contains_key(&run.shard()) {
            return;
        }
        if let Some(Place::Loading(waiting)) = self.runs.get_mut(&run) {
            let waiting = std::mem::take(waiting);
            self.queue.extend(waiting);
        }
        self.drop_staged(run);
        self.forget(run);
        let reply = self.damaged(run, why);
        self.answer_staged(|of| of == run, &reply);
    }

    /// A value that was asked for with [`super::Action::LoadValue`].
    pub fn value_loaded(&mut self, digest: Digest, value: Result<(Arc<Json>, u64), Arc<str>>) {
        let waiting = self.loading.remove(&digest).unwrap_or_default();
        if let Ok((json, len)) = &value {
            self.values.insert(digest, json.clone(), *len);
        }
        for (run, step) in waiting {
            match &value {
                Ok((json, _)) => {
                    let Some(hosted) = self.here(run) else { continue };
                    hosted.pins.insert(digest, json.clone());
                    match step {
                        Some(step) => drop(hosted.parked.remove(&step)),
                        None => hosted.end_parked = false,
                    }
                    self.make_hungry(run);
                }
                // Nothing that reads the value can be done: the run is left as it is, and named.
                Err(why) if self.here(run).is_some() => self.quarantine(run, why.clone()),
                Err(_) => {}
            }
        }
    }
}

/// Whether who made the offer repeats it when told that it was not taken. Agents do not.
fn comes_again(offer: &Offer) -> bool {
    match offer {
        Offer::Submit(_) => true,
        Offer::Tell(tell) => tell.ticket.is_some() && !is_report(&tell.command),
        Offer::Work { ticket, .. } => ticket.is_some(),
        Offer::Mail { .. } => true,
    }
}
