//! Which fault met which transition, and how often.
//!
//! **Invariant:** a pair is either counted or in [`IMPOSSIBLE`] with its reason, and what is in there
//! has never happened.

use std::fmt::Write as _;
use std::ops::BitOr;

use kapelle_core::port::journal::Part;
use kapelle_core::run::Event;
use serde::Deserialize;

macro_rules! faults {
    ($($(#[$about:meta])* $name:ident = $word:literal,)*) => {
        /// What goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Fault { $($(#[$about])* $name,)* }

        impl Fault {
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

faults! {
    /// An append finds no space.
    Full = "full",
    /// An append finds the store locked.
    Busy = "busy",
    /// An append is written, and its answer lost.
    UnknownDone = "unknown_done",
    /// An append is lost, and its answer too.
    UnknownLost = "unknown_lost",
    /// The answer is lost, and the append arrives later.
    UnknownLate = "unknown_late",
    /// An append finds the journal of one of its runs damaged.
    Corrupt = "corrupt",
    /// An append comes from an owner that is no more.
    Stale = "stale",
    /// A node dies with nothing on its way.
    CrashIdle = "crash_idle",
    /// A node dies, and the append that it sent is lost.
    CrashLost = "crash_lost",
    /// A node dies, and the append that it sent is written.
    CrashDone = "crash_done",
    /// A node dies while it takes runs over.
    CrashRecovery = "crash_recover",
    /// A shard is claimed while its owner is alive.
    Takeover = "takeover",
    /// A shard is given up.
    Release = "release",
    /// A node starts with a clock that is behind.
    ClockBack = "clock_back",
    /// A node starts with a clock that is ahead.
    ClockAhead = "clock_ahead",
    /// A run cannot be read now.
    LoadError = "load_error",
    /// A run is read slowly.
    SlowLoad = "slow_load",
    /// A bit of what is read has flipped.
    Rot = "rot",
    /// An agent's report comes twice.
    Duplicate = "duplicate",
    /// An agent's report comes late.
    Late = "late",
}

/// The transitions by the names that the journal has for them, and those of the table's columns.
const KINDS: [(&str, &str); 20] = [
    ("run_created", "created"),
    ("run_started", "started"),
    ("run_adopted", "adopted"),
    ("run_paused", "paused"),
    ("run_resumed", "resumed"),
    ("run_stopping", "stopping"),
    ("run_completed", "completed"),
    ("step_started", "s.start"),
    ("step_retrying", "s.retry"),
    ("step_completed", "s.done"),
    ("step_failed", "s.failed"),
    ("step_skipped", "s.skip"),
    ("step_blocked", "s.block"),
    ("step_resolved", "s.resolv"),
    ("approval_requested", "asked"),
    ("approval_decided", "decided"),
    ("steps_grown", "grown"),
    ("steps_dropped", "dropped"),
    ("effect_started", "e.start"),
    ("effect_recorded", "e.record"),
];

/// A pair that cannot be, and why.
pub(super) type Impossible = (Fault, &'static str, &'static str);

pub(super) const IMPOSSIBLE: &[Impossible] = &[(
    Fault::Corrupt,
    "created",
    "the journal of a run that is not in it cannot be found damaged",
)];

/// A set of transitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u32);

impl Kinds {
    /// The transitions in an append.
    pub(super) fn in_append(parts: &[Part]) -> Self {
        let bodies = parts.iter().flat_map(|part| &part.runs).map(|run| &run.entry.body);
        bodies.map(|body| Self::in_body(body)).fold(Self::default(), BitOr::bitor)
    }

    /// The transitions in the body of an entry.
    pub(super) fn in_body(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Named<'a> {
            r#type: &'a str,
        }
        let events: Vec<Named<'_>> = serde_json::from_slice(body).expect("a body is events");
        let bits = events.iter().map(|event| {
            let place = KINDS.iter().position(|(name, _)| *name == event.r#type);
            Self(1 << place.expect("all transitions have a column"))
        });
        bits.fold(Self::default(), BitOr::bitor)
    }

    /// The transitions that `events` are.
    pub(super) fn of(events: &[Event]) -> Self {
        events.iter().map(|event| Self(1 << place(event))).fold(Self::default(), BitOr::bitor)
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The column of an event.
const fn place(event: &Event) -> usize {
    match event {
        Event::RunCreated(_) | Event::RunForked(_) => 0,
        Event::RunStarted => 1,
        Event::RunAdopted => 2,
        Event::RunPaused { .. } => 3,
        // No plan of the simulation has a budget.
        Event::RunResumed { .. } | Event::BudgetRaised { .. } => 4,
        Event::RunStopping { .. } => 5,
        Event::RunCompleted { .. } => 6,
        Event::StepStarted { .. } => 7,
        Event::StepRetrying { .. } => 8,
        Event::StepCompleted { .. } => 9,
        Event::StepFailed { .. } => 10,
        Event::StepSkipped { .. } => 11,
        Event::StepBlocked { .. } => 12,
        Event::StepResolved { .. } => 13,
        Event::ApprovalRequested { .. } => 14,
        Event::ApprovalDecided { .. } => 15,
        Event::StepsGrown { .. } => 16,
        Event::StepsDropped { .. } => 17,
        Event::EffectStarted { .. } => 18,
        // No agent of the simulation says something to others, or asks a person.
        Event::EffectRecorded { .. }
        | Event::MessageSent { .. }
        | Event::QuestionAsked { .. }
        | Event::QuestionAnswered { .. } => 19,
    }
}

/// How often each fault met each transition.
#[derive(Clone)]
pub(super) struct Hits([[u64; KINDS.len()]; Fault::ALL.len()]);

impl Default for Hits {
    fn default() -> Self {
        Self([[0; KINDS.len()]; Fault::ALL.len()])
    }
}

impl Hits {
    pub(super) fn add(&mut self, fault: Fault, kinds: Kinds) {
        for (at, count) in self.0[fault as usize].iter_mut().enumerate() {
            *count += u64::from(kinds.0 >> at & 1);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let others = other.0.iter().flatten();
        self.0.iter_mut().flatten().zip(others).for_each(|(mine, other)| *mine += other);
    }

    /// Pairs that cannot be and were, and those that were met fewer than `least` times.
    pub(super) fn wrong(&self, least: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        for (fault, counts) in Fault::ALL.iter().zip(&self.0) {
            for ((_, kind), count) in KINDS.iter().zip(counts) {
                if is_impossible(*fault, kind) && *count > 0 {
                    wrong.push(format!("{} × {kind} is impossible, and was", fault.word()));
                } else if !is_impossible(*fault, kind) && *count < least {
                    wrong.push(format!("{} × {kind} was {count} times", fault.word()));
                }
            }
        }
        wrong
    }

    /// A line for each fault, a column for each transition.
    pub(super) fn table(&self) -> String {
        let mut table = format!("{:13}", "");
        KINDS.iter().for_each(|(_, kind)| write!(table, " {kind:>9}").expect("it is a string"));
        for (fault, counts) in Fault::ALL.iter().zip(&self.0) {
            write!(table, "\n{:13}", fault.word()).expect("it is a string");
            for ((_, kind), count) in KINDS.iter().zip(counts) {
                let cell = if is_impossible(*fault, kind) && *count == 0 {
                    "-".to_owned()
                } else {
                    count.to_string()
                };
                write!(table, " {cell:>9}").expect("it is a string");
            }
        }
        table
    }
}

fn is_impossible(fault: Fault, kind: &str) -> bool {
    IMPOSSIBLE.iter().any(|(other, column, _)| (fault, kind) == (*other, *column))
}
