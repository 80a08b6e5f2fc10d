//! A store with a bit of everything, to be damaged: half of it in the database, half in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kapelle_core::port::journal::{Addition, Entry, Journal as _, Row};
use kapelle_core::{Digest, Epoch, Payload, RunId, Shard};
use kapelle_store::Sqlite;
use kapelle_store::contract::{add, claim, entry, key, row, run};
use tempfile::TempDir;

use crate::flips::ask;

/// Numbers that a seed gives, the same each time (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// Text that does not repeat itself.
    fn text(&mut self, len: u64) -> String {
        (0..len / 8).map(|_| format!("{:08x}", self.below(1 << 32))).collect()
    }
}

/// The files of a store, and what was written to it.
pub(crate) struct Base {
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
    pub(crate) runs: BTreeMap<RunId, Vec<Entry>>,
    pub(crate) open: BTreeSet<RunId>,
    pub(crate) keys: Vec<String>,
    pub(crate) payloads: Vec<Digest>,
    dice: Dice,
}

impl Base {
    pub(crate) async fn new() -> Self {
        let dir = memory();
        let mut base = Self {
            files: Vec::new(),
            runs: BTreeMap::new(),
            open: BTreeSet::new(),
            keys: Vec::new(),
            payloads: Vec::new(),
            dice: Dice(7),
        };
        for first in [0, 3] {
            // Opened again, the log is emptied into the database.
            let store = Sqlite::open(dir.path()).unwrap();
            for shard in [Shard(7), Shard(9)] {
                let epoch = claim(&store, shard).await;
                for n in first..first + 3 {
                    base.write(&store, run(shard, n), epoch).await;
                }
            }
        }
        base.gather(dir.path(), Path::new(""));
        base
    }

    /// The same with nothing left in the log: every page that is read is one of the database.
    pub(crate) async fn without_log() -> Self {
        let mut base = Self::new().await;
        let dir = base.copy(0, |_| {});
        drop(Sqlite::open(dir.path()).unwrap());
        base.files.clear();
        base.gather(dir.path(), Path::new(""));
        base.files
            .retain(|(name, content)| !name.ends_with("kapelle.db-wal") || !content.is_empty());
        base
    }

    async fn write(&mut self, store: &Sqlite, id: RunId, epoch: Epoch) {
        let entries = 2 + self.dice.below(5);
        // Every third is open.
        let open = self.runs.len() % 3 == 1;
        for n in 1..=entries {
            let last = n == entries && !open;
            let mut rows = self.payloads_of(store, n).await;
            if n == 1 || last {
                rows.push(Row::Run(row(id, if last { "completed" } else { "running" })));
            }
            let body = format!("[{{\"value\":\"{}\"}}]", self.dice.text(1_800));
            let entries = self.runs.entry(id).or_default();
            let mut addition = next(id, epoch, entries.last(), body);
            entries.push(addition.entry.clone());
            addition.rows = rows;
            addition.key = (n == 1).then(|| key(&format!("key of {id}"), "content"));
            add(store, id.shard(), epoch, vec![addition]).await;
        }
        if open {
            self.open.insert(id);
        }
        self.keys = self.runs.keys().map(|id| format!("key of {id}")).collect();
    }

    /// A payload in the database now and then, and one in a file.
    async fn payloads_of(&mut self, store: &Sqlite, n: u64) -> Vec<Row> {
        let mut rows = Vec::new();
        if n % 3 == 2 {
            let payload = Payload::new(self.dice.text(6_000).into());
            self.payloads.push(payload.digest);
            rows.push(Row::Payload(payload));
        }
        if n == 2 && self.payloads.len() < 9 {
            let mut staged = store.stage().await.unwrap();
            staged.write(self.dice.text(20_000).into()).await.unwrap();
            let (digest, len) = staged.finish().await.unwrap();
            self.payloads.push(digest);
            rows.push(Row::Reference { digest, len });
        }
        rows
    }

    /// Keeps what is in the folder `dir`.
    fn gather(&mut self, root: &Path, dir: &Path) {
        for item in std::fs::read_dir(root.join(dir)).unwrap() {
            let item = item.unwrap();
            let name = dir.join(item.file_name());
            if item.file_type().unwrap().is_dir() {
                self.gather(root, &name);
            } else if !["kapelle.db-shm", "ballast"].contains(&name.to_str().unwrap()) {
                self.files.push((name, std::fs::read(item.path()).unwrap()));
            }
        }
        self.files.sort();
        // A longer one would have been copied beside the commits, and be out of use.
        let log = self.files.iter().find(|(name, _)| name.ends_with("kapelle.db-wal"));
        let len = log.map_or(0, |(_, log)| log.len());
        assert!(len < 1 << 20, "the log is too long: {len}");
    }

    pub(crate) async fn oracle(&self) -> BTreeMap<String, Result<String, String>> {
        let dir = self.copy(0, |_| {});
        let store = Sqlite::open(dir.path()).unwrap();
        let answers = ask(&store, self).await;
        assert!(answers.values().all(Result::is_ok), "undamaged: {answers:#?}");
        assert!(store.verify(|_| {}).await.unwrap().damage.is_empty(), "undamaged");
        answers
    }

    /// The store with one file damaged.
    pub(crate) fn copy(&self, damaged: usize, damage: impl Fn(&mut Vec<u8>)) -> TempDir {
        let dir = memory();
        for (number, (name, content)) in self.files.iter().enumerate() {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut content = content.clone();
            if number == damaged {
                damage(&mut content);
            }
            std::fs::write(path, content).unwrap();
        }
        // Its length is enough, and costs nothing.
        let ballast = std::fs::File::create(dir.path().join("ballast")).unwrap();
        ballast.set_len(16 << 20).unwrap();
        dir
    }

    /// The files of such a copy that are not as they were made.
    pub(crate) fn changed(
        &self,
        dir: &Path,
        damaged: usize,
        damage: impl Fn(&mut Vec<u8>),
    ) -> Vec<String> {
        let mut changed = Vec::new();
        for (number, (name, content)) in self.files.iter().enumerate() {
            let mut content = content.clone();
            if number == damaged {
                damage(&mut content);
            }
            if std::fs::read(dir.join(name)).ok() != Some(content) {
                changed.push(self.name(number));
            }
        }
        changed
    }

    /// A file: the database, the log, a payload, or how far what was vouched for goes.
    pub(crate) fn any(&self, dice: &mut Dice) -> usize {
        let wanted = ["database", "log", "database", "log", "database", "log", "payload", "ends"]
            [usize::try_from(dice.below(8)).unwrap()];
        let of = |wanted| (0..self.files.len()).filter(move |file| self.kind(*file) == wanted);
        let has_log = of("log").next().is_some();
        let wanted = if wanted == "log" && !has_log { "database" } else { wanted };
        let of_kind: Vec<_> = of(wanted).collect();
        of_kind[usize::try_from(dice.below(of_kind.len() as u64)).unwrap()]
    }

    pub(crate) fn name(&self, file: usize) -> String {
        self.files[file].0.display().to_string()
    }

    pub(crate) fn kind(&self, file: usize) -> &'static str {
        match &*self.name(file) {
            "kapelle.db" => "database",
            "kapelle.db-wal" => "log",
            "ends" => "ends",
            name if name.starts_with("payloads/") => "payload",
            _ => "other",
        }
    }
}

/// An entry after the last one of an open run.
pub(crate) fn next_of(run: RunId, epoch: Epoch, last: &Entry) -> Addition {
    next(run, epoch, Some(last), "[{}]".to_owned())
}

fn next(run: RunId, epoch: Epoch, last: Option<&Entry>, body: String) -> Addition {
    let seq = last.map_or(1, |last| last.first_seq + u64::from(last.count));
    let previous = last.map_or([0; 32], |last| last.hash);
    let mut entry = entry(run, epoch, (seq, 1), &previous);
    entry.body = Bytes::from(body);
    entry.hash = entry.chained(&previous);
    Addition { key: None, entry, rows: Vec::new() }
}

/// A folder where files cost no disk, if there is such a place.
fn memory() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm).unwrap() } else { tempfile::tempdir().unwrap() }
}
