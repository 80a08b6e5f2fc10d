//! Two journals, one random history: whatever is asked, both answer alike.
//!
//! The history is made to run into everything that is refused: epochs of the past, taken keys,
//! runs that are not continued, payloads that are not there. A seed is a history.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use kapelle_core::port::journal::{
    Addition, Entry, Error, Journal, LEVEL, Part, Row, RunQuery, RunRow, SubmitKey,
};
use kapelle_core::{Digest, Epoch, NodeId, Payload, RunId, Shard, Tenant, Timestamp};

use super::{append, bytes_of, run};

/// How often each kind of answer was given, so that a test can say that none is missing.
pub type Seen = BTreeMap<&'static str, u32>;

/// Leads `one` and `other`, both empty, through the history of `seed`; panics where they differ.
pub async fn compare(seed: u64, steps: u32, one: &impl Journal, other: &impl Journal) -> Seen {
    let mut history = History { seed, random: seed, ..History::default() };
    for n in 0..3 {
        history.claim_all(one, other, &[(Shard(n), Epoch(0))], "a").await;
    }
    for step in 0..steps {
        match history.below(13) {
            0 => history.claim(one, other).await,
            1 if step % 5 == 0 => history.release(one, other).await,
            2 => history.stage(one, other).await,
            12 => history.prune(one, other).await,
            3..=8 => history.append(one, other).await,
            _ => history.ask(one, other).await,
        }
    }
    for n in 0..RUNS {
        history.ask_about(one, other, n).await;
    }
    history.seen
}

/// How many runs a history has; shards 0 to 2 have them in turn.
const RUNS: u32 = 12;

#[derive(Default)]
struct History {
    seed: u64,
    random: u64,
    /// The epochs that were won, the stale ones too.
    epochs: BTreeMap<Shard, Vec<Epoch>>,
    /// The last event of each run, as far as the appends went well.
    heads: BTreeMap<RunId, u64>,
    staged: Vec<(Digest, u64)>,
    seen: Seen,
}

impl History {
    /// A random number below `limit` (splitmix64).
    fn below(&mut self, limit: u32) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(limit)).expect("below a `u32`")
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn shard(&mut self) -> Shard {
        Shard(u8::try_from(self.below(3)).expect("below 3"))
    }

    fn tenant(&mut self) -> Tenant {
        if self.one_in(9) { Tenant::new("other") } else { Tenant::default() }
    }

    fn run(&mut self, shard: Shard) -> RunId {
        run_of(shard, self.below(RUNS / 3))
    }

    /// The latest epoch of a shard, sometimes an older one or one that never was.
    fn epoch(&mut self, shard: Shard) -> Epoch {
        let (stale, none) = (self.one_in(12), self.one_in(40));
        let won = self.epochs.get(&shard).map_or(&[][..], Vec::as_slice);
        let epoch = if stale { won.first() } else { won.last() };
        epoch.copied().filter(|_| !none).unwrap_or(Epoch(0))
    }

    fn same<T: Debug>(&mut self, what: &str, one: Result<T, Error>, other: Result<T, Error>) {
        let (one, other) = (format!("{one:?}"), format!("{other:?}"));
        assert_eq!(one, other, "seed {}: {what}", self.seed);
        for kind in ["Stale", "Twin", "not in the store", "another tenant", "not continue"] {
            if one.contains(kind) {
                *self.seen.entry(kind).or_default() += 1;
            }
        }
    }

    async fn claim(&mut self, one: &impl Journal, other: &impl Journal) {
        let shards: Vec<_> = (0..=self.below(2)).map(|_| self.shard()).collect();
        let seen: Vec<_> = shards.into_iter().map(|shard| (shard, self.epoch(shard))).collect();
        let node = if self.one_in(2) { "a" } else { "b" };
        self.claim_all(one, other, &seen, node).await;
    }

    async fn claim_all(
        &mut self,
        one: &impl Journal,
        other: &impl Journal,
        seen: &[(Shard, Epoch)],
        node: &str,
    ) {
        let node = NodeId::new(node);
        let won = one.claim(seen, &node).await;
        for (shard, epoch) in won.iter().flatten() {
            self.epochs.entry(*shard).or_default().push(*epoch);
        }
        self.same("claim", won, other.claim(seen, &node).await);
        self.same("shards", one.shards().await, other.shards().await);
    }

    async fn release(&mut self, one: &impl Journal, other: &impl Journal) {
        let shard = self.shard();
        let held = [(shard, self.epoch(shard))];
        self.same("release", one.release(&held).await, other.release(&held).await);
    }

    async fn stage(&mut self, one: &impl Journal, other: &impl Journal) {
        let content = Bytes::from(vec![u8::try_from(self.below(5)).expect("below 5"); 300]);
        let (mut first, mut second) = (one.stage().await.unwrap(), other.stage().await.unwrap());
        first.write(content.clone()).await.unwrap();
        second.write(content).await.unwrap();
        if self.one_in(3) {
            return;
        }
        let staged = first.finish().await;
        self.staged.extend(staged.as_ref().ok());
        self.same("finish", staged, second.finish().await);
    }

    async fn prune(&mut self, one: &impl Journal, other: &impl Journal) {
        let shard = self.shard();
        let runs: Vec<_> = (0..=self.below(2)).map(|_| self.run(shard)).collect();
        let tenant = self.tenant();
        // Now and then so late that keys are forgotten.
        let now = Timestamp(if self.one_in(9) { i64::MAX / 2 } else { 1_000_000 });
        let pruned = one.prune(&tenant, &runs, now).await;
        for run in pruned.iter().flat_map(|pruned| &pruned.runs) {
            self.heads.remove(run);
            *self.seen.entry("pruned").or_default() += 1;
        }
        self.same("prune", pruned, other.prune(&tenant, &runs, now).await);
        if self.one_in(5) {
            self.same("shrink", one.shrink().await, other.shrink().await);
        }
    }

    async fn append(&mut self, one: &impl Journal, other: &impl Journal) {
        let count = 1 + self.below(2);
        let parts: Vec<_> = (0..count).map(|_| self.part()).collect();
        let outcome = append(one, parts.clone()).await;
        self.same("append", outcome, append(other, parts.clone()).await);
        for addition in parts.iter().flat_map(|part| &part.runs) {
            let Entry { run, tenant, .. } = &addition.entry;
            let entries = one.read(tenant, *run, 0).await.unwrap();
            let seq = entries.last().map(|last| last.first_seq + u64::from(last.count) - 1);
            self.heads.extend(seq.map(|seq| (*run, seq)));
        }
    }

    fn part(&mut self) -> Part {
        let shard = self.shard();
        let epoch = self.epoch(shard);
        let count = 1 + self.below(3);
        // What follows in the same append continues what is not yet written.
        let mut heads = self.heads.clone();
        let mut runs = Vec::new();
        for _ in 0..count {
            let addition = self.addition(shard, epoch, &heads);
            let Entry { run, first_seq, count, .. } = addition.entry;
            heads.insert(run, first_seq + u64::from(count) - 1);
            runs.push(addition);
        }
        Part { shard, epoch, runs }
    }

    fn addition(&mut self, shard: Shard, epoch: Epoch, heads: &BTreeMap<RunId, u64>) -> Addition {
        let run = self.run(shard);
        let head = heads.get(&run).copied().unwrap_or(0);
        let first_seq = if self.one_in(30) { head + 2 } else { head + 1 };
        // A run mostly keeps to the tenant of its first event.
        let tenant = if self.one_in(60) { Tenant::new("other") } else { Tenant::default() };
        let mut entry = Entry {
            tenant: tenant.clone(),
            run,
            first_seq,
            count: 1 + self.below(3),
            at: Timestamp(i64::from(self.below(1_000_000))),
            epoch,
            level: LEVEL,
            body: vec![b'1'; self.below(90) as usize].into(),
            hash: [0; 32],
        };
        entry.hash = entry.chained(&[0; 32]);
        let key = (first_seq == 1 && self.one_in(2)).then(|| SubmitKey {
            key: format!("key-{}", self.below(6)).into(),
            content: Digest::of(&[u8::from(self.one_in(2))]),
        });
        // A run that is not in the list is a damaged one: its first entry brings it there.
        let listed = (first_seq == 1).then(|| self.listed(&tenant, run));
        let more = self.below(3);
        let rows = (0..more).map(|_| self.row(&tenant, run));
        let rows = listed.into_iter().chain(rows).collect();
        Addition { key, entry, rows }
    }

    fn listed(&mut self, tenant: &Tenant, run: RunId) -> Row {
        let open = !self.one_in(3);
        let at = Timestamp(i64::from(self.below(1_000)));
        Row::Run(RunRow {
            tenant: tenant.clone(),
            run,
            workflow: if self.one_in(2) { "left" } else { "right" }.into(),
            task_id: self.one_in(2).then(|| "task".into()),
            status: if open { "running" } else { "failed" }.into(),
            open,
            created_at: at,
            updated_at: at,
            ended_at: (!open).then_some(at),
        })
    }

    fn row(&mut self, tenant: &Tenant, run: RunId) -> Row {
        match self.below(5) {
            0..=2 => self.listed(tenant, run),
            3 => Row::Payload(self.payload()),
            _ => {
                let staged = self.below(4) as usize;
                let known = self.staged.get(staged).copied();
                let (digest, len) = known.unwrap_or_else(|| {
                    let payload = self.payload();
                    (payload.digest, payload.bytes.len() as u64)
                });
                Row::Reference { digest, len: if self.one_in(50) { len + 1 } else { len } }
            }
        }
    }

    fn payload(&mut self) -> Payload {
        Payload::new(vec![b'p'; 1 + self.below(3) as usize].into())
    }

    async fn ask(&mut self, one: &impl Journal, other: &impl Journal) {
        let (shard, tenant) = (self.shard(), self.tenant());
        let (after, limit) = (u64::from(self.below(20)), self.below(9));
        let tail = (one.tail(shard, after, limit).await, other.tail(shard, after, limit).await);
        self.same("tail", tail.0, tail.1);
        self.same("open runs", one.open_runs(shard).await, other.open_runs(shard).await);
        self.same("open counts", one.open_counts().await, other.open_counts().await);
        let query = RunQuery {
            status: self.one_in(3).then(|| "failed".into()),
            workflow: self.one_in(3).then(|| "left".into()),
            before: self.one_in(2).then(|| self.run(shard)),
            limit,
        };
        self.same("runs", one.runs(&tenant, &query).await, other.runs(&tenant, &query).await);
        let key = format!("key-{}", self.below(7));
        let twins = (one.submitted(&tenant, &key).await, other.submitted(&tenant, &key).await);
        self.same("submitted", twins.0, twins.1);
        let payloads = [self.payload().digest, Digest::of(&[u8::from(self.one_in(2)); 300])];
        for digest in payloads {
            let content = one.payload(&tenant, digest).await.map(|found| found.map(bytes_of));
            let again = other.payload(&tenant, digest).await.map(|found| found.map(bytes_of));
            self.same("payload", content, again);
        }
    }

    async fn ask_about(&mut self, one: &impl Journal, other: &impl Journal, n: u32) {
        let run = run_of(Shard(u8::try_from(n % 3).expect("below 3")), n / 3);
        for tenant in [Tenant::default(), Tenant::new("other")] {
            let from = u64::from(self.below(9));
            let read = (one.read(&tenant, run, from).await, other.read(&tenant, run, from).await);
            self.same("read", read.0, read.1);
            self.same("run", one.run(&tenant, run).await, other.run(&tenant, run).await);
            self.same("bytes", one.bytes(&tenant, run).await, other.bytes(&tenant, run).await);
            let id = run.to_string();
            let end = &id[id.len() - 1 - self.below(6) as usize..];
            let limit = 1 + self.below(3);
            let found = one.ending_with(&tenant, end, limit).await;
            self.same("ending", found, other.ending_with(&tenant, end, limit).await);
        }
    }
}

fn run_of(shard: Shard, n: u32) -> RunId {
    run(shard, n * 3 + u32::from(shard.0))
}
