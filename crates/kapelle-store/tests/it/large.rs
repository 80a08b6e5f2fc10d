//! A store that has grown: opening it and the first commit cost what they cost in a small one.
//!
//! `KAPELLE_LARGE_MIB` says how much is written.

use std::time::Instant;

use kapelle_core::port::journal::{Journal as _, Part, Row};
use kapelle_core::{Payload, Shard};
use kapelle_store::Sqlite;
use kapelle_store::contract::{append, claim, first, run};

const SHARD: Shard = Shard(7);

#[tokio::test]
async fn large_stores_open_without_reading_what_they_hold() {
    let mib: u32 = std::env::var("KAPELLE_LARGE_MIB").map_or(64, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    let epoch = claim(&store, SHARD).await;
    let begin = Instant::now();
    let mut longest = 0;
    for n in 1..=mib {
        // 32 runs of 32 KiB in a commit.
        let runs = (0..32).map(|i| {
            let mut addition = first(run(SHARD, n * 32 + i), epoch, "completed");
            let text = format!("{n} {i} ").repeat(32 << 10);
            addition.rows.push(Row::Payload(Payload::new(text[..32 << 10].to_owned().into())));
            addition
        });
        append(&store, vec![Part { shard: SHARD, epoch, runs: runs.collect() }]).await.unwrap();
        let log = std::fs::metadata(dir.path().join("kapelle.db-wal")).unwrap().len();
        longest = longest.max(log);
    }
    drop(store);
    let written = begin.elapsed();
    let begin = Instant::now();
    let store = Sqlite::open(dir.path()).unwrap();
    let opened = begin.elapsed();
    let epoch = claim(&store, SHARD).await;
    let runs = vec![first(run(SHARD, 1), epoch, "running")];
    append(&store, vec![Part { shard: SHARD, epoch, runs }]).await.unwrap();
    let stepped = begin.elapsed();
    assert_eq!(store.open_runs(SHARD).await.unwrap().len(), 1);
    let size = std::fs::metadata(dir.path().join("kapelle.db")).unwrap().len();
    println!(
        "{} MiB written in {written:.1?}, the log at most {} MiB; opened in {opened:.1?}, first \
         commit after {stepped:.1?}",
        size >> 20,
        longest >> 20
    );
    assert!(size >> 20 >= u64::from(mib) * 9 / 10, "where is it?");
    assert!(longest < 96 << 20, "the log grew to {longest} bytes");
}
