//! The journal port: entries of every shard in order, and the rows that belong to their commits.
//!
//! **Invariants:** one writer per shard, whoever claimed it last; what an append reports done is
//! on disk; an entry is never changed. Rules about runs are not written here, let alone in SQL.
//!
//! Adapters: `kapelle_store`. Contract: `kapelle_store::contract`.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Digest, Epoch, NodeId, Payload, RunId, Shard, Tenant, Timestamp};

/// The newest level of entries that this version reads and writes.
pub const LEVEL: u16 = 1;

/// How long the submit key of a run that was pruned still answers for it.
pub const KEY_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// All events of one run in one commit: the unit of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose run it is.
    pub tenant: Tenant,
    /// The run; its last byte is the shard.
    pub run: RunId,
    /// The number of the first event in it, from 1.
    pub first_seq: u64,
    /// How many events it holds.
    pub count: u32,
    /// When they happened, in run time.
    pub at: Timestamp,
    /// The epoch under which it was written.
    pub epoch: Epoch,
    /// What one must know to read it.
    pub level: u16,
    /// A JSON array of events.
    pub body: bytes::Bytes,
    /// BLAKE3 of the run's previous hash and all of the above: checksum and chain in one.
    pub hash: [u8; 32],
}

impl Entry {
    /// Computes `hash` for an entry that follows the one with the hash `previous`
    /// (32 zero bytes for a run's first).
    #[must_use]
    pub fn chained(&self, previous: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(previous);
        hasher.update(&(self.tenant.as_str().len() as u64).to_le_bytes());
        hasher.update(self.tenant.as_str().as_bytes());
        hasher.update(self.run.as_bytes());
        hasher.update(&self.first_seq.to_le_bytes());
        hasher.update(&self.count.to_le_bytes());
        hasher.update(&self.at.0.to_le_bytes());
        hasher.update(&self.epoch.0.to_le_bytes());
        hasher.update(&self.level.to_le_bytes());
        hasher.update(&self.body);
        *hasher.finalize().as_bytes()
    }
}

/// What one shard adds in a transaction.
#[derive(Clone, Debug)]
pub struct Part {
    /// The shard of all its runs.
    pub shard: Shard,
    /// The writer's epoch; an older one than the store's makes the part [`Settled::Stale`].
    pub epoch: Epoch,
    /// What is added, in order.
    pub runs: Vec<Addition>,
}

/// What one run adds in a transaction: an entry and what must be in the same commit.
#[derive(Clone, Debug)]
pub struct Addition {
    /// Present in a run's first entry if it was submitted under a key.
    pub key: Option<SubmitKey>,
    /// The entry.
    pub entry: Entry,
    /// What belongs to it.
    pub rows: Vec<Row>,
}

/// What makes a submit idempotent: the same key never makes a second run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitKey {
    /// As the client gave it, at most 255 bytes.
    pub key: Box<str>,
    /// Of what was submitted (plan and inputs): the same key with another content is a conflict.
    pub content: Digest,
}

/// A row that is committed with an entry.
#[derive(Clone, Debug)]
pub enum Row {
    /// The run's line in the list of runs, replacing the one before.
    Run(RunRow),
    /// A payload, and the run's reference to it. One of more than [`crate::ROW_MAX`] bytes is better
    /// staged before, by whoever has the time: the append waits until it is on disk.
    Payload(Payload),
    /// The run's reference to a payload that is a file or known already; the append checks that it exists.
    Reference {
        /// Which payload.
        digest: Digest,
        /// Its length in bytes.
        len: u64,
    },
    /// An entry of the [audit log](super::audit), of the run's tenant, behind all there is.
    Note(Box<str>),
}

/// A run as the list of runs shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    /// Whose it is.
    pub tenant: Tenant,
    /// Which run.
    pub run: RunId,
    /// The id of its workflow.
    pub workflow: Box<str>,
    /// The client's own name for it, if it gave one.
    pub task_id: Option<Box<str>>,
    /// A word of [`crate::run::Status`].
    pub status: Box<str>,
    /// Whether it has not ended.
    pub open: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When this row was written.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// How an append went for one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is on disk, all but the runs whose submit key was taken.
    Done {
        /// The index in [`Part::runs`] of each run left out, and the run that has its key.
        left_out: Vec<(usize, Twin)>,
    },
    /// Another node has claimed the shard: nothing of this part was written.
    Stale,
}

/// The run that was submitted under a key before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Which run.
    pub run: RunId,
    /// What was submitted then.
    pub content: Digest,
    /// When the run was pruned, if it was: its key is kept for [`KEY_KEPT`] after that.
    pub pruned_at: Option<Timestamp>,
}

impl Twin {
    /// Whether its key is free again at `now`.
    #[must_use]
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        self.pruned_at.is_some_and(|at| now >= at.after(KEY_KEPT))
    }
}

/// What came of pruning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// So many of the runs that were named were dealt with, from the first on: ask for the others again.
    pub seen: usize,
    /// Those that are gone now.
    pub runs: Vec<RunId>,
}

/// What came of giving space back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shrunk {
    /// There is more to give: ask again.
    pub more: bool,
    /// How many bytes are free in its files: where there is no more to give, they are filled again.
    pub free: u64,
}

/// A run that has ended, with all that belongs to it, as another journal has it.
#[derive(Clone, Debug)]
pub struct History {
    /// All its entries, from the first to the last, under whatever epochs they were written.
    pub entries: Vec<Entry>,
    /// Its line in the list of runs.
    pub row: RunRow,
    /// The payloads that it refers to.
    pub rows: Vec<Row>,
}

/// What came of taking in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is there now.
    New,
    /// It was there before: the same entries.
    Known,
    /// Another run has its id: nothing was written.
    Other,
}

/// Called once with the fate of an append, from the writer's thread: must not block.
/// One [`Settled`] per part, in order.
pub type OnSettled = Box<dyn FnOnce(Result<Vec<Settled>, Error>) + Send>;

/// A shard as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which shard.
    pub shard: Shard,
    /// How often it was claimed.
    pub epoch: Epoch,
    /// Who claimed it last and has not released it.
    pub owner: Option<NodeId>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// Only those with this status.
    pub status: Option<Box<str>>,
    /// Only those of this workflow.
    pub workflow: Option<Box<str>>,
    /// Only those older than this run, exclusively: the last of the page before.
    pub before: Option<RunId>,
    /// At most so many, 1 to 1,000.
    pub limit: u32,
}

/// The bytes of a payload, to be read once from start to end (reading may block).
pub struct Content {
    /// In bytes.
    pub len: u64,
    /// The content.
    pub reader: Box<dyn Read + Send>,
}

/// A payload that is being written to a file.
#[async_trait]
pub trait Staged: Send {
    /// Adds the next piece.
    async fn write(&mut self, piece: bytes::Bytes) -> Result<(), Error>;
    /// Makes it durable under its digest; tells the digest and the length. Dropped instead, it leaves nothing.
    async fn finish(self: Box<Self>) -> Result<(Digest, u64), Error>;
}

/// The entries of every shard, in order. One writer per shard: whoever claimed it last.
#[async_trait]
pub trait Journal: super::Accounts {
    /// All 256 shards, in order.
    async fn shards(&self) -> Result<Vec<Holding>, Error>;

    /// Makes `owner` the writer of each of `seen` that still has the epoch it was seen with, and
    /// answers those it won with their new epochs. Every earlier epoch of theirs is void from here on.
    async fn claim(
        &self,
        seen: &[(Shard, Epoch)],
        owner: &NodeId,
    ) -> Result<Vec<(Shard, Epoch)>, Error>;

    /// Gives up shards: no owner from here on. Those that another node has claimed meanwhile are left alone.
    async fn release(&self, held: &[(Shard, Epoch)]) -> Result<(), Error>;

    /// Writes all `parts` durably in one transaction, a savepoint per part, and then calls `settled`.
    ///
    /// An entry that does not continue its run is a bug of the caller and answered with
    /// [`Error::Corrupt`]. Submit keys go in first: a run whose key is taken is left out with its rows.
    fn append(&self, parts: Vec<Part>, settled: OnSettled);

    /// The same by a caller with nothing to do until it is settled: it may be written, and `settled`
    /// called, on this thread, which saves two hops between threads. Blocks then.
    fn append_here(&self, parts: Vec<Part>, settled: OnSettled) {
        self.append(parts, settled);
    }

    /// The entries of a run from the one that holds event `from` on, oldest first, at most 1,000.
    async fn read(&self, tenant: &Tenant, run: RunId, from: u64) -> Result<Vec<Entry>, Error>;

    /// The entries of a shard with their positions, after position `after`, at most `limit`.
    async fn tail(&self, shard: Shard, after: u64, limit: u32) -> Result<Vec<(u64, Entry)>, Error>;

    /// The runs of a shard that have not ended, of all tenants.
    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRow>, Error>;

    /// How many runs of each shard have not ended, for the shards that have any.
    async fn open_counts(&self) -> Result<Vec<(Shard, u64)>, Error>;

    /// A page of the list of runs, newest first.
    async fn runs(&self, tenant: &Tenant, query: &RunQuery) -> Result<Vec<RunRow>, Error>;

    /// One line of the list of runs.
    async fn run(&self, tenant: &Tenant, run: RunId) -> Result<Option<RunRow>, Error>;

    /// The runs whose id ends with `suffix` (hexadecimal digits and `-`), newest first, at most `limit`.
    async fn ending_with(
        &self,
        tenant: &Tenant,
        suffix: &str,
        limit: u32,
    ) -> Result<Vec<RunId>, Error>;

    /// The run submitted under `key`.
    async fn submitted(&self, tenant: &Tenant, key: &str) -> Result<Option<Twin>, Error>;

    /// A payload that a run of `tenant` refers to.
    async fn payload(&self, tenant: &Tenant, digest: Digest) -> Result<Option<Content>, Error>;

    /// Begins a payload of more than [`crate::ROW_MAX`] bytes, or of unknown length.
    async fn stage(&self) -> Result<Box<dyn Staged>, Error>;

    /// How many bytes a run takes: its entries, and the payloads it refers to.
    async fn bytes(&self, tenant: &Tenant, run: RunId) -> Result<u64, Error>;

    /// The payloads that a run refers to, with their lengths, by digest.
    async fn references(&self, tenant: &Tenant, run: RunId) -> Result<Vec<(Digest, u64)>, Error>;

    /// Takes in a run that has ended elsewhere, whoever owns its shard: entry by entry as it is, in one
    /// transaction. It is history: nobody goes on with it, and [`Self::tail`] does not tell of it.
    ///
    /// Entries that are not chained, not of one run or not all of it are answered with [`Error::Corrupt`].
    async fn import(&self, history: History) -> Result<Imported, Error>;

    /// Removes those of `runs` that have ended, whoever owns their shards: each with all that belongs
    /// to it, or not at all. Payloads go that nobody else refers to; submit keys stay for
    /// [`KEY_KEPT`] from `now` on. Runs that have not ended, or are not there, are left alone.
    ///
    /// Deals with as many as one transaction should hold, and with at least one.
    async fn prune(&self, tenant: &Tenant, runs: &[RunId], now: Timestamp)
    -> Result<Pruned, Error>;

    /// Gives a piece of what pruning has freed back to the disk.
    async fn shrink(&self) -> Result<Shrunk, Error>;
}

/// What the caller can do about it: free space, wait, upgrade, ask again, or stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No space left. Nothing was written; reads go on.
    #[error("no space left for `{file}`; free some, then repeat")]
    Full {
        /// What could not grow.
        file: Arc<str>,
    },
    /// Another process has held the store for too long. Nothing was written.
    #[error("`{file}` is locked by another process; stop it, or repeat later")]
    Busy {
        /// What is locked.
        file: Arc<str>,
    },
    /// The store was written by a newer version. Nothing was touched.
    #[error(
        "`{file}` has level {store}, this version reads up to {ours}; use the newer kapelle that wrote it"
    )]
    Newer {
        /// What was opened.
        file: Arc<str>,
        /// The store's level.
        store: u32,
        /// Ours.
        ours: u32,
    },
    /// It is not known whether the append is on disk. Ask again with the same key.
    #[error("outcome unknown: {message}")]
    Unknown {
        /// Why.
        message: Arc<str>,
    },
    /// A write failed in a way after which nothing of this process may touch the store again.
    #[error(
        "`{file}` cannot be trusted any more by this process: {message}; check the disk, then start again"
    )]
    Poisoned {
        /// What failed.
        file: Arc<str>,
        /// How.
        message: Arc<str>,
    },
    /// The store cannot be used as it is (missing, read-only, not a store); nothing was written.
    #[error("`{file}`: {message}")]
    Unavailable {
        /// What was opened.
        file: Arc<str>,
        /// What is wrong, and the way out.
        message: Arc<str>,
    },
    /// What was read back is not what was written. The run is quarantined; others go on.
    #[error("the journal of run `{run}` is damaged at event {seq}: {message}")]
    Corrupt {
        /// Which run.
        run: RunId,
        /// The first event that cannot be trusted.
        seq: u64,
        /// What is wrong with it.
        message: Arc<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            tenant: Tenant::default(),
            run: RunId::from_bytes([7; 16]),
            first_seq: 1,
            count: 2,
            at: Timestamp(3),
            epoch: Epoch(4),
            level: 1,
            body: bytes::Bytes::from_static(b"[]"),
            hash: [0; 32],
        }
    }

    #[test]
    fn the_hash_of_an_entry_is_for_ever_and_about_all_of_it() {
        let hash = entry().chained(&[0; 32]);
        let known = "2fa66456b807062f0e9e9a645155e7ec95ed4338890cebb519a120fa3a7d1903";
        assert_eq!(Digest::from_bytes(hash).hex(), known);
        let changed = [
            Entry { tenant: Tenant::new("other"), ..entry() },
            Entry { run: RunId::from_bytes([8; 16]), ..entry() },
            Entry { first_seq: 2, ..entry() },
            Entry { count: 1, ..entry() },
            Entry { at: Timestamp(4), ..entry() },
            Entry { epoch: Epoch(5), ..entry() },
            Entry { level: 2, ..entry() },
            Entry { body: bytes::Bytes::from_static(b"[ ]"), ..entry() },
        ];
        for other in changed {
            assert_ne!(other.chained(&[0; 32]), hash, "{other:?}");
        }
        assert_ne!(entry().chained(&[1; 32]), hash);
    }

    #[test]
    fn the_key_of_a_pruned_run_is_kept_for_thirty_days() {
        let twin = |pruned_at| Twin { run: entry().run, content: Digest::of(b""), pruned_at };
        let end = Timestamp(30 * 24 * 3_600 * 1_000_000);
        assert!(!twin(None).is_forgotten(end));
        assert!(!twin(Some(Timestamp(0))).is_forgotten(Timestamp(end.0 - 1)));
        assert!(twin(Some(Timestamp(0))).is_forgotten(end));
    }
}
