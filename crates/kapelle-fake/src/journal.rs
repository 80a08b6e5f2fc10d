//! What was asked and what became of it.
//!
//! **Invariants:** every request that reaches the fake has one entry, written when its answer is
//! decided and before a byte of it leaves, so a client that is killed has been counted. No secret is
//! in it: keys are there by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::limit::Early;

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The how manieth, from 1.
    pub n: u64,
    /// When it came, RFC 3339.
    pub time: String,
    /// The same in milliseconds since 1970.
    pub time_ms: u64,
    /// Method and path.
    pub path: String,
    /// What its answer is named in `request-id` or `x-request-id`.
    #[serde(default)]
    pub request: String,
    /// Its `idempotency-key`.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// The name of its key; none if it had none that is known.
    pub key: Option<String>,
    /// The model it names.
    pub model: Option<String>,
    /// Its whole body; null if that is no JSON.
    pub body: Value,
    /// What it was answered.
    pub status: u16,
    /// The `type` and the message of the error it was answered.
    pub error: Option<String>,
    /// The rule that answered.
    pub rule: Option<String>,
    /// `usage` as it was sent, or would have been if the answer was not cut.
    pub usage: Option<Value>,
    /// The faults that hit it.
    pub faults: Vec<String>,
    /// After how many bytes its answer ended too early.
    pub cut_at: Option<u64>,
    /// It came before the `retry-after` of its key was over.
    pub early: Option<Early>,
    /// The client took the answer to its end. Not in the file, which is written before.
    #[serde(default)]
    pub delivered: bool,
}

/// Sums over the journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// By what they were answered.
    pub status: BTreeMap<u16, u64>,
    /// By method and path.
    pub paths: BTreeMap<String, u64>,
    /// By the name of the key.
    pub keys: BTreeMap<String, u64>,
    /// By the rule that answered.
    pub rules: BTreeMap<String, u64>,
    /// By the fault that hit.
    pub faults: BTreeMap<String, u64>,
    /// Answers: those with a usage, whole or cut.
    pub answers: u64,
    /// Answers that ended too early.
    pub cut: u64,
    /// Those that came before a `retry-after` of their key was over.
    pub early: u64,
    /// Those of them that had been refused themselves.
    pub early_same: u64,
    /// Answers on their way now.
    pub open: u64,
    /// As many of them as there ever were at one time.
    pub open_max: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    kept: Mutex<Kept>,
    file: Option<Mutex<File>>,
}

/// Which answer is on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ticket {
    n: u64,
    /// How often the journal had been cleared: numbers begin anew then.
    cleared: u64,
}

#[derive(Debug, Default)]
struct Kept {
    entries: Vec<Entry>,
    numbered: u64,
    cleared: u64,
    open: u64,
    open_max: u64,
}

impl Journal {
    /// Also writes each entry to the end of `file`.
    pub(crate) fn new(file: Option<&Path>) -> io::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        let file = file.map(open).transpose()?.map(Mutex::new);
        Ok(Self { kept: Mutex::default(), file })
    }

    pub(crate) fn number(&self) -> u64 {
        let mut kept = self.kept();
        kept.numbered += 1;
        kept.numbered
    }

    /// Notes an entry; its answer is on its way from here on.
    pub(crate) fn note(&self, entry: Entry) -> io::Result<Ticket> {
        if let Some(file) = &self.file {
            let mut line = serde_json::to_vec(&entry)?;
            line.push(b'\n');
            file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)?;
        }
        let mut kept = self.kept();
        let ticket = Ticket { n: entry.n, cleared: kept.cleared };
        kept.entries.push(entry);
        kept.open += 1;
        kept.open_max = kept.open_max.max(kept.open);
        Ok(ticket)
    }

    /// The answer is over.
    pub(crate) fn over(&self, ticket: Ticket, delivered: bool) {
        let mut kept = self.kept();
        kept.open = kept.open.saturating_sub(1);
        if ticket.cleared != kept.cleared {
            return;
        }
        if let Some(entry) = kept.entries.iter_mut().rev().find(|entry| entry.n == ticket.n) {
            entry.delivered = delivered;
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries = self.kept().entries.clone();
        entries.sort_by_key(|entry| entry.n);
        entries
    }

    pub(crate) fn counts(&self) -> Counts {
        let kept = self.kept();
        let mut counts = Counts { open: kept.open, open_max: kept.open_max, ..Counts::default() };
        kept.entries.iter().for_each(|entry| counts.add(entry));
        counts
    }

    pub(crate) fn clear(&self) {
        let mut kept = self.kept();
        kept.entries.clear();
        kept.numbered = 0;
        kept.cleared += 1;
        kept.open_max = kept.open;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, entry: &Entry) {
        self.requests += 1;
        *self.status.entry(entry.status).or_default() += 1;
        *self.paths.entry(entry.path.clone()).or_default() += 1;
        for (counts, name) in [(&mut self.keys, &entry.key), (&mut self.rules, &entry.rule)] {
            if let Some(name) = name {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
        for fault in &entry.faults {
            *self.faults.entry(fault.clone()).or_default() += 1;
        }
        self.answers += u64::from(entry.usage.is_some());
        self.cut += u64::from(entry.cut_at.is_some());
        self.early += u64::from(entry.early.is_some());
        self.early_same += u64::from(entry.early.is_some_and(|early| early.same));
    }
}
