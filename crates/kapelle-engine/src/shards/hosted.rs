//! A run in memory: its state, its place in the journal, and what is staged for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kapelle_core::plan::Work;
use kapelle_core::port::agent::Call;
use kapelle_core::port::journal::{Addition, Entry, LEVEL, Row, RunRow, SubmitKey};
use kapelle_core::run::{Effects, Event, Run, Status, Takeover};
use kapelle_core::{Attempt, Digest, Epoch, Json, Payload, RunId, StepNo, Tenant, Timestamp};

use crate::slots::{Alone, Slot};

/// About how many bytes an event takes.
const EVENT_BYTES: usize = 256;

/// A run in memory.
pub(crate) struct Hosted {
    pub(super) run: Run,
    pub(super) tenant: Tenant,
    /// Whether this node works on it; if not, it only takes commands.
    pub(super) working: bool,
    /// What to add to the loop's time to get the run's: run time never goes back.
    pub(super) ahead_us: i64,
    /// Steps that wait for values.
    pub(super) parked: BTreeSet<StepNo>,
    /// The run's own end waits for values.
    pub(super) end_parked: bool,
    /// Values that were loaded for steps of this run, until these begin.
    pub(super) pins: BTreeMap<Digest, Arc<Json>>,
    /// Values in the append that is under way: the journal does not have them yet.
    pub(super) sent: BTreeMap<Digest, Arc<Json>>,
    /// The time of the timer that the loop has noted.
    pub(super) noted_timer: Option<Timestamp>,
    /// For whom it waits, its place in that line, and since when.
    pub(super) awaited: BTreeMap<Slot, (u64, Timestamp)>,
    pub(super) staged: Staged,
    /// Part of it is in the append that is under way.
    pub(super) in_flight: bool,
    /// Whether the journal knows the run.
    pub(super) committed: bool,
    /// It is being adopted, not yet on disk.
    pub(super) adopting: Option<Takeover>,
    hash: [u8; 32],
    row_status: Option<Status>,
}

/// What a turn has gathered for one run.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) key: Option<SubmitKey>,
    pub(super) first_seq: u64,
    /// One time for all events of an entry, so that a replay applies them as they were applied here.
    pub(super) at: Timestamp,
    pub(super) events: Vec<Event>,
    pub(super) payloads: Vec<Payload>,
    /// What is staged of values, for steps that read them before they are on disk.
    pub(super) values: BTreeMap<Digest, Arc<Json>>,
    pub(super) references: Vec<(Digest, u64)>,
    /// An entry of the audit log.
    pub(super) note: Option<Box<str>>,
    pub(super) starts: Vec<Start>,
}

/// An attempt to be started once its `StepStarted` is on disk.
#[derive(Clone, Debug)]
pub struct Start {
    /// Of which step.
    pub step: StepNo,
    /// Who does it.
    pub agent: Box<str>,
    /// What it has taken for that.
    pub slot: Slot,
    /// With what.
    pub call: Call,
    /// What earlier attempts did with their outside calls.
    pub effects: Effects,
    /// Whose run it is.
    pub tenant: Tenant,
    /// The client's own name for the run.
    pub task_id: Option<Box<str>>,
    /// It is the one suspect that may begin, for as long as this is kept.
    pub alone: Option<Alone>,
}

/// Which attempt.
#[derive(Clone, Debug)]
pub(crate) struct Of {
    pub(crate) tenant: Tenant,
    pub(crate) run: RunId,
    pub(crate) step: StepNo,
    /// The fence.
    pub(crate) attempt: Attempt,
}

impl Start {
    pub(crate) fn of(&self) -> Of {
        let (tenant, call) = (self.tenant.clone(), &self.call);
        Of { tenant, run: call.run, step: self.step, attempt: call.attempt }
    }

    /// The fence.
    #[must_use]
    pub const fn attempt(&self) -> Attempt {
        self.call.attempt
    }
}

impl Hosted {
    /// A run that is being submitted.
    pub(super) fn created(run: Run, tenant: Tenant, key: Option<SubmitKey>, first: Event) -> Self {
        let mut hosted = Self::new(run, tenant, [0; 32], None, 0);
        hosted.staged.key = key;
        hosted.staged.first_seq = 1;
        hosted.staged.at = hosted.run.created_at();
        hosted.staged.events.push(first);
        hosted
    }

    /// A run as the journal has it.
    pub(super) fn loaded(run: Run, tenant: Tenant, hash: [u8; 32], now: Timestamp) -> Self {
        let ahead_us = (run.last_at().0 - now.0).max(0);
        let status = run.status();
        Self::new(run, tenant, hash, Some(status), ahead_us)
    }

    fn new(
        run: Run,
        tenant: Tenant,
        hash: [u8; 32],
        row_status: Option<Status>,
        ahead_us: i64,
    ) -> Self {
        Self {
            run,
            tenant,
            working: false,
            ahead_us,
            parked: BTreeSet::new(),
            end_parked: false,
            pins: BTreeMap::new(),
            sent: BTreeMap::new(),
            noted_timer: None,
            awaited: BTreeMap::new(),
            staged: Staged::default(),
            in_flight: false,
            committed: row_status.is_some(),
            adopting: None,
            hash,
            row_status,
        }
    }

    /// Has this node wait for the end of an attempt that goes on.
    pub(super) fn stage_kept(&mut self, no: StepNo) {
        let run = &self.run;
        let (Some(step), Work::Agent { agent, action, .. }) = (run.step(no), &run.spec(no).work)
        else {
            return;
        };
        let (id, name, agent) = (run.id(), step.id.clone(), agent.clone());
        let call = Call {
            tenant: self.tenant.clone(),
            run: id,
            workflow: run.workflow().into(),
            key: format!("{id}/{name}/0/{}", step.generation()).into(),
            step: name,
            attempt: step.attempt.unwrap_or(Attempt(1)),
            action: action.clone().unwrap_or_default(),
            input: Json::Null,
            prompt: None,
            complaint: None,
            output: run.spec(no).output.clone().map(Arc::new),
            root: run.root().into(),
            definition: None,
            deadline: step.deadline(),
            goes_on: true,
        };
        let (slot, effects, tenant) =
            (Slot::Held(agent.clone()), run.effects(no), self.tenant.clone());
        let (task_id, alone) = (run.task_id().map(Into::into), None);
        let start = Start { step: no, agent, slot, call, effects, tenant, task_id, alone };
        self.staged.starts.push(start);
    }

    /// The run's time when the loop's is `now`. It stands still while something is staged: all that
    /// an entry holds happens at its time, and a replay knows no other.
    pub(super) fn time(&self, now: Timestamp) -> Timestamp {
        if !self.staged.events.is_empty() {
            return self.staged.at;
        }
        Timestamp((now.0 + self.ahead_us).max(self.run.last_at().0))
    }

    /// When time alone makes something happen, in the loop's time. What comes after the time of an
    /// entry that is being staged waits until that entry is on its way.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        let next = self.run.next_timer().filter(|at| {
            self.working && (self.staged.events.is_empty() || *at <= self.staged.at)
        })?;
        Some(Timestamp(next.0.saturating_sub(self.ahead_us)))
    }

    /// Whether what is in memory is on disk too.
    pub(super) fn is_settled(&self) -> bool {
        !self.in_flight && self.staged.events.is_empty()
    }

    /// Stages values along with the events that refer to them.
    pub(super) fn keep(&mut self, payloads: Vec<Payload>) {
        self.keep_for(payloads, |_| true);
    }

    /// The same, where steps read only the values that `read` names.
    pub(super) fn keep_for(&mut self, payloads: Vec<Payload>, read: impl Fn(Digest) -> bool) {
        for payload in payloads.iter().filter(|payload| read(payload.digest)) {
            if let Ok(json) = serde_json::from_slice(&payload.bytes) {
                self.staged.values.insert(payload.digest, Arc::new(json));
            }
        }
        self.staged.payloads.extend(payloads);
    }

    /// Applies `events` and what follows from them, and stages all of it.
    pub(super) fn record(&mut self, events: Vec<Event>, at: Timestamp) {
        for event in events {
            self.stage(event, at);
        }
        while let Some(event) = self.run.follow() {
            self.stage(event, at);
        }
    }

    fn stage(&mut self, event: Event, at: Timestamp) {
        if self.staged.events.is_empty() {
            self.staged.first_seq = self.run.seq() + 1;
            self.staged.at = at;
        }
        self.run.apply(&event, self.staged.at);
        self.staged.events.push(event);
    }

    /// Turns what is staged into an addition to the journal.
    pub(super) fn take_addition(&mut self, epoch: Epoch) -> (Addition, Taken) {
        let staged = std::mem::take(&mut self.staged);
        let at = staged.at;
        self.sent = staged.values;
        let mut body = Vec::with_capacity(EVENT_BYTES * staged.events.len());
        serde_json::to_writer(&mut body, &staged.events).expect("events are JSON");
        let mut entry = Entry {
            tenant: self.tenant.clone(),
            run: self.run.id(),
            first_seq: staged.first_seq,
            count: u32::try_from(staged.events.len()).expect("a turn is bounded"),
            at,
            epoch,
            level: LEVEL,
            body: body.into(),
            hash: [0; 32],
        };
        entry.hash = entry.chained(&self.hash);
        self.hash = entry.hash;
        self.in_flight = true;
        let references = staged.references.into_iter();
        let references = references.map(|(digest, len)| Row::Reference { digest, len });
        let payloads = staged.payloads.into_iter().map(Row::Payload);
        let note = staged.note.map(Row::Note);
        let rows = self.row(at).into_iter().chain(payloads).chain(references).chain(note).collect();
        let taken = Taken {
            run: self.run.id(),
            first_seq: staged.first_seq,
            at,
            events: staged.events,
            starts: staged.starts,
        };
        (Addition { key: staged.key, entry, rows }, taken)
    }

    /// The run's line in the list of runs, if it has changed.
    fn row(&mut self, at: Timestamp) -> Option<Row> {
        let status = self.run.status();
        if self.row_status == Some(status) {
            return None;
        }
        self.row_status = Some(status);
        Some(Row::Run(RunRow {
            tenant: self.tenant.clone(),
            run: self.run.id(),
            workflow: self.run.workflow().into(),
            task_id: self.run.task_id().map(Into::into),
            status: status.as_str().into(),
            open: self.run.ended().is_none(),
            created_at: self.run.created_at(),
            updated_at: at,
            ended_at: self.run.ended().map(|ended| ended.at),
        }))
    }
}

/// What was staged, to be acted on once it is on disk.
pub(super) struct Taken {
    pub(super) run: RunId,
    pub(super) first_seq: u64,
    pub(super) at: Timestamp,
    pub(super) events: Vec<Event>,
    pub(super) starts: Vec<Start>,
}
