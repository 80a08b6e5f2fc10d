//! What checkpoints cost who commits: the same commits, now with checkpoints, now with none.
//!
//! `cargo run --profile quick -p kapelle-store --example checkpoints -- FOLDER [ROUNDS [ROWS]]`
//!
//! "None" is real too: a reader that stays keeps the log from being copied.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench talks and may fail")]

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kapelle_core::port::journal::{Addition, Part};
use kapelle_core::{Epoch, Shard};
use kapelle_store::Sqlite;
use kapelle_store::contract::{append, claim, plain, run};
use rusqlite::Connection;

const SHARD: Shard = Shard(7);
/// The log of one stretch: below the size at which it is emptied whoever reads.
const STRETCH: u64 = 40 << 20;

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("a folder on the disk that is measured");
    let mut number = |or: u32| args.next().map_or(or, |arg| arg.parse().unwrap());
    let (rounds, rows) = (number(4), number(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir_in(dir).unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(dir.path()).unwrap();
        let epoch = claim(&store, SHARD).await;
        let mut writer = Writer { store, epoch, rows, run: 0 };
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            with.extend(writer.stretch().await);
            let reader = stay(dir.path());
            without.extend(writer.stretch().await);
            drop(reader);
            // Brings the log back to where it was.
            writer.commits(9 << 20).await;
        }
        let (with, without) = (Figures::of(with), Figures::of(without));
        println!("with checkpoints    {with}\nwith none           {without}");
        let ratio =
            |of: fn(&Figures) -> Duration| of(&with).as_secs_f64() / of(&without).as_secs_f64();
        let (p50, p99, mean) = (ratio(|f| f.p50), ratio(|f| f.p99), ratio(|f| f.mean));
        println!("ratio               p50 {p50:.2}, p99 {p99:.2}, mean {mean:.2}");
        let log = std::fs::metadata(dir.path().join("kapelle.db-wal")).unwrap().len();
        println!("the log has {} MiB at the end", log >> 20);
    });
}

/// A reader that does not end.
fn stay(dir: &Path) -> Connection {
    let conn = Connection::open(dir.join("kapelle.db")).unwrap();
    conn.execute_batch("BEGIN; SELECT count(*) FROM shard").unwrap();
    conn.query_row("SELECT count(*) FROM shard", [], |_| Ok(())).unwrap();
    conn
}

struct Writer {
    store: Sqlite,
    epoch: Epoch,
    rows: u32,
    run: u32,
}

impl Writer {
    async fn stretch(&mut self) -> Vec<Duration> {
        self.commits(STRETCH).await
    }

    /// Commits one after the other until about so many bytes were logged; how long each took.
    async fn commits(&mut self, bytes: u64) -> Vec<Duration> {
        // A commit logs the pages that it touches: about four, and one more for every eight rows.
        let each = (4 + u64::from(self.rows) / 8) * 4_120;
        let mut took = Vec::new();
        for _ in 0..bytes / each {
            let runs = (0..self.rows).map(|_| self.addition()).collect();
            let part = Part { shard: SHARD, epoch: self.epoch, runs };
            let begin = Instant::now();
            append(&self.store, vec![part]).await.unwrap();
            took.push(begin.elapsed());
        }
        took
    }

    fn addition(&mut self) -> Addition {
        self.run += 1;
        let mut addition = plain(run(SHARD, self.run), self.epoch, 1, 1);
        addition.entry.body = Bytes::from(vec![b'x'; 400]);
        addition.entry.hash = addition.entry.chained(&[0; 32]);
        addition
    }
}

struct Figures {
    n: usize,
    mean: Duration,
    p50: Duration,
    p99: Duration,
    p999: Duration,
    max: Duration,
}

impl Figures {
    fn of(mut took: Vec<Duration>) -> Self {
        took.sort();
        let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000];
        let sum: Duration = took.iter().sum();
        Self {
            n: took.len(),
            mean: sum / u32::try_from(took.len()).unwrap(),
            p50: at(500),
            p99: at(990),
            p999: at(999),
            max: at(1000),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { n, mean, p50, p99, p999, max } = self;
        write!(
            f,
            "{n} commits: mean {mean:.1?}, p50 {p50:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}, max {max:.1?}"
        )
    }
}
