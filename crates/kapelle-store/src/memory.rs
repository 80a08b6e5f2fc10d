//! A journal in memory: for work that need not outlive its process, and for the simulation.
//!
//! **Invariants:** it refuses what SQLite refuses and answers as SQLite answers (`contract` compares
//! the two); the same calls give the same answers, in the same order. `append` settles on the
//! caller's thread, before it returns.

mod account;
mod audit;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use kapelle_core::port::audit::Noted;
use kapelle_core::port::journal::{
    Addition, Content, Entry, Error, History, Holding, Imported, Journal, OnSettled, Part, Pruned,
    Row, RunQuery, RunRow, Settled, Shrunk, Staged, SubmitKey, Twin,
};
use kapelle_core::{Digest, Digester, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};

use crate::check::{self, Head};

/// What becomes of an append, as a fault says.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is written, or refused for what it is.
    Commit,
    /// Nothing is written, and this is the answer.
    Refuse(Error),
    /// It is written as with [`Fate::Commit`], but the answer is [`Error::Unknown`].
    UnknownCommitted,
    /// Nothing is written, and the answer is [`Error::Unknown`].
    UnknownLost,
}

/// Says the fate of each append; asked under the journal's lock, so it must not use the journal.
pub type Faults = Box<dyn FnMut(&[Part]) -> Fate + Send>;

/// A journal that ends with its process. Clones are the same journal.
///
/// Of the port's errors it gives [`Error::Corrupt`] alone, but for those of its faults.
#[derive(Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    faults: Option<Faults>,
    holdings: BTreeMap<Shard, Holding>,
    /// The entries of each shard; the first one has position 1. Those that were pruned leave gaps.
    entries: BTreeMap<Shard, Vec<Option<Entry>>>,
    /// Runs that were taken in from elsewhere.
    history: BTreeMap<RunId, Vec<Entry>>,
    /// Where the entries of each run are in its shard.
    runs: BTreeMap<RunId, Vec<usize>>,
    keys: BTreeMap<(Tenant, Box<str>), Twin>,
    rows: BTreeMap<(Tenant, RunId), RunRow>,
    payloads: BTreeMap<(Tenant, Digest), Bytes>,
    files: BTreeMap<Digest, Bytes>,
    references: BTreeMap<(Tenant, Digest, RunId), u64>,
    ledgers: account::Ledgers,
    records: record::Kept,
    audit: Vec<Noted>,
}

impl Memory {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty journal whose appends go as `faults` says.
    #[must_use]
    pub fn with_faults(faults: Faults) -> Self {
        let state = State { faults: Some(faults), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A fault hook may panic (a failed assertion of a test); it runs before anything is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, parts: Vec<Part>) -> Result<Vec<Settled>, Error> {
        let unknown = |message: &str| Error::Unknown { message: message.into() };
        match self.faults.as_mut().map_or(Fate::Commit, |faults| faults(&parts)) {
            Fate::Commit => self.commit(parts),
            Fate::Refuse(error) => Err(error),
            Fate::UnknownCommitted => {
                self.commit(parts).and(Err(unknown("the answer of the commit was lost")))
            }
            Fate::UnknownLost => Err(unknown("the commit was lost")),
        }
    }

    /// Checks everything, then writes everything: so a refusal leaves nothing behind.
    fn commit(&mut self, parts: Vec<Part>) -> Result<Vec<Settled>, Error> {
        let mut draft = Draft::new(self);
        let settled: Vec<_> =
            parts.iter().map(|part| draft.part(part)).collect::<Result<_, Error>>()?;
        for (part, settled) in parts.into_iter().zip(&settled) {
            if let Settled::Done { left_out } = settled {
                self.write(part, left_out);
            }
        }
        Ok(settled)
    }

    fn write(&mut self, part: Part, left_out: &[(usize, Twin)]) {
        for (i, addition) in part.runs.into_iter().enumerate() {
            if left_out.iter().any(|(left, _)| *left == i) {
                continue;
            }
            let Addition { key, entry, rows } = addition;
            let (tenant, run) = (entry.tenant.clone(), entry.run);
            if let Some(SubmitKey { key, content }) = key {
                self.keys.insert((tenant.clone(), key), Twin { run, content, pruned_at: None });
            }
            let entries = self.entries.entry(part.shard).or_default();
            self.runs.entry(run).or_default().push(entries.len());
            entries.push(Some(entry));
            for row in rows {
                self.write_row(&tenant, run, row);
            }
        }
    }

    fn write_row(&mut self, tenant: &Tenant, run: RunId, row: Row) {
        match row {
            Row::Run(row) => {
                self.rows.insert((tenant.clone(), run), row);
            }
            Row::Payload(payload) => {
                let len = payload.bytes.len() as u64;
                self.references.insert((tenant.clone(), payload.digest, run), len);
                self.payloads.insert((tenant.clone(), payload.digest), payload.bytes);
            }
            Row::Reference { digest, len } => {
                self.references.insert((tenant.clone(), digest, run), len);
            }
            Row::Note(body) => self.note(tenant, body),
        }
    }

    fn import(&mut self, history: History) -> Result<Imported, Error> {
        check::history(&history)?;
        let History { entries, row, rows } = history;
        if let Some(known) = self.entries_of(row.run).next_back() {
            let same = entries.last().is_some_and(|last| last.hash == known.hash);
            return Ok(if same { Imported::Known } else { Imported::Other });
        }
        let mut draft = Draft::new(self);
        let last = entries.last().cloned().expect("it was checked");
        let addition = Addition { key: None, entry: last, rows };
        addition.rows.iter().try_for_each(|row| draft.row(&addition, row))?;
        let (tenant, run) = (row.tenant.clone(), row.run);
        for row in addition.rows {
            self.write_row(&tenant, run, row);
        }
        self.write_row(&tenant, run, Row::Run(row));
        self.history.insert(run, entries);
        Ok(Imported::New)
    }

    /// Removes a run, if it has ended. What was staged stays: it may be referred to at any time.
    fn prune(&mut self, tenant: &Tenant, run: RunId, now: Timestamp) -> bool {
        let name = (tenant.clone(), run);
        if self.rows.get(&name).is_none_or(|row| row.open) {
            return false;
        }
        self.rows.remove(&name);
        self.history.remove(&run);
        let entries = self.entries.entry(run.shard()).or_default();
        for place in self.runs.remove(&run).into_iter().flatten() {
            entries[place] = None;
        }
        let mut mine = Vec::new();
        self.references.retain(|(of, digest, by), _| {
            let is_mine = of == tenant && *by == run;
            mine.extend(is_mine.then_some(*digest));
            !is_mine
        });
        let others: BTreeSet<_> =
            self.references.keys().map(|(of, digest, _)| (of, digest)).collect();
        for digest in mine.iter().filter(|digest| !others.contains(&(tenant, *digest))) {
            self.payloads.remove(&(tenant.clone(), *digest));
        }
        for twin in self.keys.values_mut().filter(|twin| twin.run == run) {
            twin.pruned_at = Some(now);
        }
        true
    }

    fn holding(&self, shard: Shard) -> Holding {
        let unclaimed = || Holding { shard, epoch: Epoch(0), owner: None };
        self.holdings.get(&shard).cloned().unwrap_or_else(unclaimed)
    }

    fn entries_of(&self, run: RunId) -> impl DoubleEndedIterator<Item = &Entry> {
        let entries = self.entries.get(&run.shard());
        let places = self.runs.get(&run).into_iter().flatten();
        let taken_in = self.history.get(&run).into_iter().flatten();
        let places =
            places.filter_map(move |at| entries.and_then(|entries| entries.get(*at)?.as_ref()));
        places.chain(taken_in)
    }
}

/// What an append would add to a state, as far as the checks of what follows need it.
struct Draft<'a> {
    state: &'a State,
    heads: BTreeMap<RunId, Head>,
    keys: BTreeMap<(Tenant, Box<str>), Twin>,
    payloads: BTreeSet<(Tenant, Digest, u64)>,
}

impl<'a> Draft<'a> {
    fn new(state: &'a State) -> Self {
        let (heads, keys, payloads) = Default::default();
        Self { state, heads, keys, payloads }
    }

    fn part(&mut self, part: &Part) -> Result<Settled, Error> {
        let holding = self.state.holding(part.shard);
        if holding.epoch != part.epoch || holding.owner.is_none() {
            return Ok(Settled::Stale);
        }
        let mut left_out = Vec::new();
        for (i, addition) in part.runs.iter().enumerate() {
            if let Some(twin) = self.addition(part, addition)? {
                left_out.push((i, twin));
            }
        }
        Ok(Settled::Done { left_out })
    }

    fn addition(&mut self, part: &Part, addition: &Addition) -> Result<Option<Twin>, Error> {
        let entry = &addition.entry;
        if let Some(SubmitKey { key, content }) = &addition.key {
            let name = (entry.tenant.clone(), key.clone());
            let taken = self.keys.get(&name).or_else(|| self.state.keys.get(&name));
            if let Some(twin) = taken.filter(|twin| !twin.is_forgotten(entry.at)) {
                return Ok(Some(twin.clone()));
            }
            self.keys.insert(name, Twin { run: entry.run, content: *content, pruned_at: None });
        }
        check::addition(part, addition, self.head(entry.run).as_ref())?;
        let seq = entry.first_seq + u64::from(entry.count) - 1;
        self.heads.insert(entry.run, Head { tenant: entry.tenant.clone(), seq });
        for row in &addition.rows {
            self.row(addition, row)?;
        }
        Ok(None)
    }

    fn head(&self, run: RunId) -> Option<Head> {
        self.heads.get(&run).cloned().or_else(|| {
            let last = self.state.entries_of(run).next_back()?;
            let seq = last.first_seq + u64::from(last.count) - 1;
            Some(Head { tenant: last.tenant.clone(), seq })
        })
    }

    fn row(&mut self, addition: &Addition, row: &Row) -> Result<(), Error> {
        let tenant = &addition.entry.tenant;
        match row {
            Row::Run(_) | Row::Note(_) => {}
            Row::Payload(payload) => {
                let len = payload.bytes.len() as u64;
                self.payloads.insert((tenant.clone(), payload.digest, len));
            }
            Row::Reference { digest, len } => {
                let is_it = |bytes: Option<&Bytes>| bytes.is_some_and(|b| b.len() as u64 == *len);
                let known = is_it(self.state.payloads.get(&(tenant.clone(), *digest)))
                    || is_it(self.state.files.get(digest))
                    || self.payloads.contains(&(tenant.clone(), *digest, *len));
                if !known {
                    return Err(check::missing(addition, *digest, *len));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for Memory {
    async fn shards(&self) -> Result<Vec<Holding>, Error> {
        let state = self.state();
        Ok(Shard::all().map(|shard| state.holding(shard)).collect())
    }

    async fn claim(
        &self,
        seen: &[(Shard, Epoch)],
        owner: &NodeId,
    ) -> Result<Vec<(Shard, Epoch)>, Error> {
        let mut state = self.state();
        let mut won = Vec::new();
        for &(shard, epoch) in seen {
            if state.holding(shard).epoch == epoch {
                let epoch = Epoch(epoch.0 + 1);
                let holding = Holding { shard, epoch, owner: Some(owner.clone()) };
                state.holdings.insert(shard, holding);
                won.push((shard, epoch));
            }
        }
        Ok(won)
    }

    async fn release(&self, held: &[(Shard, Epoch)]) -> Result<(), Error> {
        let mut state = self.state();
        for (shard, epoch) in held {
            if let Some(holding) = state.holdings.get_mut(shard)
                && holding.epoch == *epoch
            {
                holding.owner = None;
            }
        }
        Ok(())
    }

    fn append(&self, parts: Vec<Part>, settled: OnSettled) {
        // The lock is free when `settled` runs: it may append.
        let outcome = self.state().append(parts);
        settled(outcome);
    }

    async fn read(&self, tenant: &Tenant, run: RunId, from: u64) -> Result<Vec<Entry>, Error> {
        let state = self.state();
        let entries = state.entries_of(run).filter(|entry| entry.tenant == *tenant);
        let entries = entries.filter(|entry| entry.first_seq + u64::from(entry.count) > from);
        Ok(entries.take(1000).cloned().collect())
    }

    async fn tail(&self, shard: Shard, after: u64, limit: u32) -> Result<Vec<(u64, Entry)>, Error> {
        let state = self.state();
        let entries = state.entries.get(&shard).map_or(&[][..], Vec::as_slice);
        let later = entries.iter().skip(usize::try_from(after).unwrap_or(usize::MAX));
        let later = later.zip(after.saturating_add(1)..);
        let later = later.filter_map(|(entry, pos)| Some((pos, entry.clone()?)));
        Ok(later.take(limit.min(1000) as usize).collect())
    }

    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRow>, Error> {
        let state = self.state();
        let open = state.rows.values().filter(|row| row.open && row.run.shard() == shard);
        Ok(open.cloned().collect())
    }

    async fn open_counts(&self) -> Result<Vec<(Shard, u64)>, Error> {
        let mut counts = BTreeMap::new();
        for row in self.state().rows.values().filter(|row| row.open) {
            *counts.entry(row.run.shard()).or_default() += 1;
        }
        Ok(counts.into_iter().collect())
    }

    async fn runs(&self, tenant: &Tenant, query: &RunQuery) -> Result<Vec<RunRow>, Error> {
        let state = self.state();
        let rows = state.rows.values().rev().filter(|row| row.tenant == *tenant);
        let rows = rows.filter(|row| query.before.is_none_or(|before| row.run < before));
        let rows = rows.filter(|row| check::wanted(row, query));
        Ok(rows.take(query.limit.clamp(1, 1000) as usize).cloned().collect())
    }

    async fn run(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunRow>, Error> {
        Ok(self.state().rows.get(&(tenant.clone(), run)).cloned())
    }

    async fn ending_with(
        &self,
        tenant: &Tenant,
        suffix: &str,
        limit: u32,
    ) -> Result<Vec<RunId>, Error> {
        let state = self.state();
        let runs = state.rows.keys().rev().filter(|(of, _)| of == tenant).map(|(_, run)| *run);
        Ok(runs.filter(|run| check::ends_with(*run, suffix)).take(limit as usize).collect())
    }

    async fn submitted(&self, tenant: &Tenant, key: &str) -> Result<Option<Twin>, Error> {
        Ok(self.state().keys.get(&(tenant.clone(), key.into())).cloned())
    }

    async fn payload(&self, tenant: &Tenant, digest: Digest) -> Result<Option<Content>, Error> {
        let state = self.state();
        let first = (tenant.clone(), digest, RunId::from_bytes([0; 16]));
        let last = (tenant.clone(), digest, RunId::from_bytes([255; 16]));
        if state.references.range(first..=last).next().is_none() {
            return Ok(None);
        }
        let bytes = state.payloads.get(&(tenant.clone(), digest));
        let bytes = bytes.or_else(|| state.files.get(&digest)).cloned();
        Ok(bytes
            .map(|bytes| Content { len: bytes.len() as u64, reader: Box::new(Cursor::new(bytes)) }))
    }

    async fn stage(&self) -> Result<Box<dyn Staged>, Error> {
        let (bytes, digester) = Default::default();
        Ok(Box::new(StagedBytes { memory: self.clone(), bytes, digester }))
    }

    async fn bytes(&self, tenant: &Tenant, run: RunId) -> Result<u64, Error> {
        let state = self.state();
        let entries = state.entries_of(run).filter(|entry| entry.tenant == *tenant);
        let entries: u64 = entries.map(|entry| entry.body.len() as u64).sum();
        let references = state.references.iter();
        let references = references.filter(|((of, _, by), _)| of == tenant && *by == run);
        Ok(entries + references.map(|(_, len)| len).sum::<u64>())
    }

    async fn references(&self, tenant: &Tenant, run: RunId) -> Result<Vec<(Digest, u64)>, Error> {
        let state = self.state();
        let mine = state.references.iter().filter(|((of, _, by), _)| of == tenant && *by == run);
        Ok(mine.map(|((_, digest, _), len)| (*digest, *len)).collect())
    }

    async fn import(&self, history: History) -> Result<Imported, Error> {
        self.state().import(history)
    }

    async fn prune(
        &self,
        tenant: &Tenant,
        runs: &[RunId],
        now: Timestamp,
    ) -> Result<Pruned, Error> {
        let mut state = self.state();
        state.keys.retain(|_, twin| !twin.is_forgotten(now));
        let gone = runs.iter().filter(|run| state.prune(tenant, **run, now)).copied().collect();
        Ok(Pruned { seen: runs.len(), runs: gone })
    }

    async fn shrink(&self) -> Result<Shrunk, Error> {
        Ok(Shrunk::default())
    }
}

/// A payload on its way into memory.
struct StagedBytes {
    memory: Memory,
    bytes: BytesMut,
    digester: Digester,
}

#[async_trait]
impl Staged for StagedBytes {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.digester.update(&piece);
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(Digest, u64), Error> {
        let (digest, len) = (self.digester.finish(), self.bytes.len() as u64);
        self.memory.state().files.insert(digest, self.bytes.freeze());
        Ok((digest, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::contract::{append, claim, plain, run, tenant};

    crate::journal_contract!(async || Box::new(Memory::new()));

    #[tokio::test]
    async fn faults_say_what_becomes_of_an_append() {
        let full = Error::Full { file: "memory".into() };
        let mut fates =
            [Fate::Refuse(full.clone()), Fate::UnknownLost, Fate::Commit, Fate::UnknownCommitted]
                .into_iter();
        let memory = Memory::with_faults(Box::new(move |_| fates.next().unwrap_or(Fate::Commit)));
        let shard = Shard(7);
        let epoch = claim(&memory, shard).await;
        let mut outcomes = Vec::new();
        for first_seq in [1, 1, 1, 2, 3] {
            let runs = vec![plain(run(shard, 1), epoch, first_seq, 1)];
            let outcome = append(&memory, vec![Part { shard, epoch, runs }]).await;
            let seqs = memory.read(&tenant(), run(shard, 1), 0).await.unwrap().len();
            outcomes
                .push((outcome.err().map(|error| matches!(error, Error::Unknown { .. })), seqs));
        }
        let expected = [(Some(false), 0), (Some(true), 0), (None, 1), (Some(true), 2), (None, 3)];
        assert_eq!(outcomes, expected);
    }
}
