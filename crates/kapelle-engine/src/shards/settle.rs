//! After an append: answer, publish and act, or forget and decide again.

use std::collections::BTreeSet;

use kapelle_core::port::journal::{Error, Settled, Twin};
use kapelle_core::run::{Command, Event};
use kapelle_core::{RunId, Shard};

use super::hosted::Taken;
use super::{Action, Answer, Offer, Place, Published, Reloading, Reply, Shards, StoreError};

/// An append that is under way, or was.
#[derive(Default)]
pub(super) struct Flight {
    pub(super) parts: Vec<FlightPart>,
    pub(super) answers: Vec<Answer>,
}

impl Flight {
    pub(super) fn has(&self, run: RunId) -> bool {
        self.parts.iter().flat_map(|part| &part.runs).any(|taken| taken.run == run)
    }
}

/// What an append holds of one shard.
pub(super) struct FlightPart {
    pub(super) shard: Shard,
    pub(super) runs: Vec<Taken>,
    /// The shard was given up meanwhile: clients are answered, but nothing is done.
    pub(super) given_up: bool,
}

impl Shards {
    /// Takes note of how the append went that is under way.
    pub fn settled(&mut self, result: Result<Vec<Settled>, Error>) -> Vec<Action> {
        let Some(flight) = self.in_flight.pop_front() else { return Vec::new() };
        match result {
            Ok(settled) => {
                let mut lost = BTreeSet::new();
                for (part, settled) in flight.parts.into_iter().zip(settled) {
                    match settled {
                        Settled::Done { left_out } => self.committed(part, left_out),
                        Settled::Stale => {
                            lost.insert(part.shard);
                            self.lose(part);
                        }
                    }
                }
                self.answer_all(flight.answers, &lost);
            }
            Err(error @ (Error::Full { .. } | Error::Busy { .. })) => self.refused(flight, &error),
            Err(error @ Error::Corrupt { run, .. }) => {
                self.refused(flight, &error);
                // Offered again it would be refused again, and the others with it.
                self.quarantine(run, error.to_string().into());
            }
            Err(error) => self.unknown(flight, &error),
        }
        std::mem::take(&mut self.actions)
    }

    fn committed(&mut self, part: FlightPart, left_out: Vec<(usize, Twin)>) {
        let mut twins = left_out.into_iter().peekable();
        for (index, taken) in part.runs.into_iter().enumerate() {
            match twins.next_if(|(left, _)| *left == index) {
                Some((_, twin)) if part.given_up => {
                    self.left_out.insert(taken.run, Reply::Twin(twin));
                }
                Some((_, twin)) => self.leave_out(taken, twin),
                None if part.given_up => {}
                None => self.act(taken),
            }
        }
    }

    fn act(&mut self, taken: Taken) {
        if self.here(taken.run).is_none() {
            return self.drop_starts(taken);
        }
        let Taken { run, first_seq, at, events, starts } = taken;
        let Some(hosted) = self.here(run) else { return };
        hosted.in_flight = false;
        hosted.sent.clear();
        hosted.committed = true;
        let is_adopted = |event: &Event| matches!(event, Event::RunAdopted);
        if hosted.is_settled() || events.iter().any(is_adopted) {
            hosted.adopting = None;
        }
        let ended = hosted.is_settled() && hosted.run.ended().is_some();
        let staged_more = !hosted.staged.events.is_empty();
        for start in starts {
            self.actions.push(Action::Start(Box::new(start)));
        }
        for event in &events {
            self.stop(run, event);
        }
        self.actions.push(Action::Publish(Published { run, first_seq, at, events }));
        if staged_more {
            self.touched.insert(run);
        }
        if ended {
            self.forget(run);
        }
    }

    /// Attempts that an event makes unwanted. One that reported its own end has gone already.
    fn stop(&mut self, run: RunId, event: &Event) {
        match event {
            Event::RunStopping { .. } | Event::RunCompleted { .. } => {
                self.actions.push(Action::StopAll { run });
            }
            Event::StepRetrying { step, attempt, .. }
            | Event::StepFailed { step, attempt: Some(attempt), .. }
            | Event::StepBlocked { step, attempt: Some(attempt), .. } => {
                self.actions.push(Action::Stop { run, step: *step, attempt: *attempt });
            }
            Event::StepsDropped { steps } => {
                let attempts: Vec<_> = steps
                    .iter()
                    .filter_map(|step| {
                        let Some(Place::Here(hosted)) = self.runs.get(&run) else { return None };
                        Some((*step, hosted.run.step(*step)?.attempt?))
                    })
                    .collect();
                for (step, attempt) in attempts {
                    self.actions.push(Action::Stop { run, step, attempt });
                }
            }
            _ => {}
        }
    }

    /// The submit key was taken: this run never was.
    fn leave_out(&mut self, taken: Taken, twin: Twin) {
        let run = taken.run;
        self.drop_starts(taken);
        self.drop_staged(run);
        self.forget(run);
        let told = Reply::Twin(twin);
        self.answer_staged(|of| of == run, &told);
        self.left_out.insert(run, told);
    }

    /// Answers those who wait for an append that was not begun and will not be.
    pub(super) fn answer_staged(&mut self, of: impl Fn(RunId) -> bool, reply: &Reply) {
        let (mine, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.answers).into_iter().partition(|answer| of(answer.run));
        self.answers = others;
        for answer in mine {
            self.reply(answer.ticket, reply.clone());
        }
    }

    fn answer_all(&mut self, answers: Vec<Answer>, lost: &BTreeSet<Shard>) {
        for answer in answers {
            let lost = lost.contains(&answer.run.shard());
            let left_out = self.left_out.get(&answer.run).cloned();
            let reply = if lost { Reply::NotOwner } else { left_out.unwrap_or(answer.reply) };
            self.reply(answer.ticket, reply);
        }
        self.left_out.clear();
    }

    /// Another node owns the shard now: nothing of it is ours any more.
    fn lose(&mut self, part: FlightPart) {
        if part.given_up {
            return;
        }
        part.runs.into_iter().for_each(|taken| self.drop_starts(taken));
        self.give_up(part.shard);
        self.actions.push(Action::Lost(part.shard));
    }

    /// Gives up a shard: its runs leave memory, those who wait are told.
    pub fn disown(&mut self, shard: Shard) -> Vec<Action> {
        self.give_up(shard);
        std::mem::take(&mut self.actions)
    }

    fn give_up(&mut self, shard: Shard) {
        self.epochs.remove(&shard);
        let mut flights = std::mem::take(&mut self.in_flight);
        for part in flights.iter_mut().flat_map(|flight| &mut flight.parts) {
            if part.shard == shard {
                part.given_up = true;
                for start in part.runs.iter_mut().flat_map(|taken| taken.starts.drain(..)) {
                    self.actions.push(Action::GiveSlot { slot: start.slot });
                }
            }
        }
        self.in_flight = flights;
        let ids: Vec<RunId> =
            self.runs.keys().filter(|run| run.shard() == shard).copied().collect();
        for run in ids {
            self.drop_staged(run);
            self.actions.push(Action::StopAll { run });
            if let Some(Place::Loading(waiting)) = self.runs.get_mut(&run) {
                let waiting = std::mem::take(waiting);
                self.queue.extend(waiting);
            }
            self.forget(run);
        }
        self.answer_staged(|run| run.shard() == shard, &Reply::NotOwner);
    }

    /// The store took nothing: what was decided on top of it is decided again later.
    fn refused(&mut self, flight: Flight, error: &Error) {
        let mut again: Vec<Answer> = flight.answers;
        let mut runs = BTreeSet::new();
        for part in flight.parts.into_iter().filter(|part| !part.given_up) {
            for taken in part.runs {
                runs.insert(taken.run);
                self.drop_starts(taken);
            }
        }
        let staged = std::mem::take(&mut self.answers);
        let (more, kept): (Vec<_>, Vec<_>) =
            staged.into_iter().partition(|answer| runs.contains(&answer.run));
        self.answers = kept;
        again.extend(more);
        for run in runs {
            self.reload(run);
        }
        for answer in again {
            match answer.again {
                // Who does the work does not come back: its report is kept, and decided anew.
                Some(tell) if tell.ticket.is_none() || is_report(&tell.command) => {
                    self.queue.push_back(Offer::Tell(tell));
                }
                _ => self.reply(answer.ticket, Reply::Store(StoreError(error.clone()))),
            }
        }
    }

    /// Takes a run out of memory and reads it again. What it was loaded for goes on.
    fn reload(&mut self, run: RunId) {
        self.drop_staged(run);
        let Some(Place::Here(hosted)) = self.runs.get(&run) else { return };
        let tenant = hosted.tenant.clone();
        let before = Reloading { working: hosted.working, adopting: hosted.adopting };
        let committed = hosted.committed;
        self.forget(run);
        if !committed {
            return;
        }
        self.reloading.insert(run, before);
        self.runs.insert(run, Place::Loading(Vec::new()));
        self.read(tenant, run, true);
    }

    /// It is not known what is on disk: only a new claim, which fences the old append, can tell.
    fn unknown(&mut self, flight: Flight, error: &Error) {
        let reply = Reply::Store(StoreError(error.clone()));
        for answer in flight.answers {
            self.reply(answer.ticket, reply.clone());
        }
        flight.parts.into_iter().for_each(|part| self.lose(part));
    }

    /// Gives back the slots of attempts that will not start.
    fn drop_starts(&mut self, taken: Taken) {
        for start in taken.starts {
            self.actions.push(Action::GiveSlot { slot: start.slot });
        }
    }

    pub(super) fn drop_staged(&mut self, run: RunId) {
        let Some(hosted) = self.here(run) else { return };
        let staged = std::mem::take(&mut hosted.staged);
        for start in staged.starts {
            self.actions.push(Action::GiveSlot { slot: start.slot });
        }
    }
}

/// Whether it is an agent's report, not a client's wish.
pub(super) const fn is_report(command: &Command) -> bool {
    matches!(
        command,
        Command::Answered { .. }
            | Command::Failed { .. }
            | Command::RecordEffect { .. }
            | Command::StartEffect { .. }
            | Command::Send { .. }
            | Command::Ask { .. }
    )
}
