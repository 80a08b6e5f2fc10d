//! Disks that are full: a small one of our own, in a namespace that ends with the process.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kapelle_core::port::journal::{Addition, Error, Journal as _, Part, Row};
use kapelle_core::{Epoch, Payload, Shard};
use kapelle_store::Sqlite;
use kapelle_store::contract::{append, bytes_of, claim, first, plain, run, tenant};

use crate::actor::{Actor, say};

const SHARD: Shard = Shard(7);

/// The part of a process that has a disk of 48 MiB to itself: it fills it, and makes space again.
pub(crate) async fn fill(dir: &Path) {
    let store = Sqlite::open(&dir.join("store")).unwrap();
    let epoch = claim(&store, SHARD).await;
    let staged = stage(&store, 9_000).await.unwrap();
    let mut open = first(run(SHARD, 1), epoch, "running");
    open.rows.push(staged);
    done(&store, epoch, open).await.unwrap();
    fill_up(&dir.join("filler"));

    // New runs are refused at some point; what is under way goes on, and what is kept is read.
    let mut made = 1;
    let full = loop {
        match done(&store, epoch, large(made + 1, 1, epoch)).await {
            Ok(()) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full { .. }), "{full}");
    assert!(full.to_string().contains("kapelle.db"), "{full}");
    for seq in 2..=100 {
        done(&store, epoch, large(1, seq, epoch)).await.unwrap();
    }
    stage(&store, 2 << 20).await.unwrap();
    assert_eq!(store.read(&tenant(), run(SHARD, 1), 1).await.unwrap().len(), 100);
    assert!(done(&store, epoch, plain(run(SHARD, 9_000), epoch, 1, 1)).await.is_err());
    say("reserve used");

    // The reserve is finite too: then everything is refused, and nothing breaks.
    let mut seq = 101;
    while done(&store, epoch, large(1, seq, epoch)).await.is_ok() {
        seq += 1;
    }
    assert!(matches!(stage(&store, 20 << 20).await, Err(Error::Full { .. })));
    let all = store.tail(SHARD, 0, 1_000).await.unwrap();
    assert!(all.len() >= 100 && u64::try_from(all.len()).unwrap() == u64::from(made) + seq - 2);

    std::fs::remove_file(dir.join("filler")).unwrap();
    let since = Instant::now();
    while done(&store, epoch, plain(run(SHARD, 9_000), epoch, 1, 1)).await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(5), "it does not come back");
        // It is asked now and then, as clients ask.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    say(&format!("normal after {:.1?}", since.elapsed()));
    assert_eq!(std::fs::metadata(dir.join("store/ballast")).unwrap().len(), 16 << 20);
    drop(store);
    let store = Sqlite::open(&dir.join("store")).unwrap();
    let again = store.tail(SHARD, 0, 1_000).await.unwrap();
    assert_eq!((&again[..all.len()], again.len()), (&all[..], all.len() + 1));
    // Its entries are no chains; nothing else is wrong with it.
    let wrong = store.verify(|_| {}).await.unwrap().damage;
    assert!(wrong.iter().all(|wrong| wrong.seq.is_some()), "{wrong:?}");
    say("fine");
}

/// The part of a process whose writes to the store meet a quota for a while.
pub(crate) async fn meet_a_quota(dir: &Path) {
    let store = Sqlite::open(dir).unwrap();
    let epoch = claim(&store, SHARD).await;
    let (mut written, mut refused) = (0, 0);
    for n in 1..=60 {
        match done(&store, epoch, large(n, 1, epoch)).await {
            Ok(()) => written += 1,
            Err(Error::Full { .. }) => refused += 1,
            Err(error) => return say(&error.to_string()),
        }
    }
    assert_eq!(store.tail(SHARD, 0, 1_000).await.unwrap().len(), written);
    say(&format!("written {}, refused {}", written > 0, refused > 0));
}

async fn done(store: &Sqlite, epoch: Epoch, addition: Addition) -> Result<(), Error> {
    let part = Part { shard: SHARD, epoch, runs: vec![addition] };
    append(store, vec![part]).await.map(drop)
}

/// An entry with 50 KB that no other has.
fn large(n: u32, seq: u64, epoch: Epoch) -> Addition {
    let mut addition = plain(run(SHARD, n), epoch, seq, 1);
    let text = format!("{n} {seq} ").repeat(50_000 / 8);
    addition.rows.push(Row::Payload(Payload::new(text.into())));
    addition
}

async fn stage(store: &Sqlite, len: usize) -> Result<Row, Error> {
    let mut staged = store.stage().await?;
    staged.write(vec![b'x'; len].into()).await?;
    let (digest, len) = staged.finish().await?;
    let content = store.payload(&tenant(), digest).await?;
    assert!(content.is_none_or(|content| bytes_of(content).len() as u64 == len));
    Ok(Row::Reference { digest, len })
}

/// Leaves 2 MiB of the disk.
fn fill_up(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[0; 1 << 16]).is_ok() {}
    let len = file.metadata().unwrap().len();
    file.set_len(len - (2 << 20)).unwrap();
}

/// Everything that `part` says, played where `dir` is a disk of 48 MiB of its own.
fn on_a_small_disk(dir: &Path, part: &str) -> Vec<String> {
    let mut command = Command::new("unshare");
    let mount = "mount -t tmpfs -o size=48m none \"$KAPELLE_TEST_STORE\" && exec \"$0\" \"$@\"";
    // Somebody who is not root is root in a namespace, where the system permits that.
    command.args(["--map-root-user", "--mount", "sh", "-c", mount]);
    command.arg(std::env::current_exe().unwrap());
    let mut actor = Actor::start_with(command, dir, part);
    std::iter::from_fn(|| actor.hear()).collect()
}

#[test]
fn a_full_disk_refuses_new_runs_first_and_is_over_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let said = on_a_small_disk(dir.path(), "fill it");
    println!("{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("fine"), "{said:?}");
}

#[test]
fn a_used_up_quota_is_a_full_disk_and_breaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(Sqlite::open(dir.path()).unwrap());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let mut command = Command::new("strace");
    // The store's writes from the 40th on, for 80 of them; and those that find out why.
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=write,pwrite64"]);
    command.args(["-e", "inject=pwrite64:error=EDQUOT:when=40..120"]);
    command.args(["-e", "inject=write:error=EDQUOT"]);
    command.args(["-P", &file("kapelle.db-wal"), "-P", &file(".probe")]);
    command.arg(std::env::current_exe().unwrap());
    let mut actor = Actor::start_with(command, dir.path(), "meet it");
    let said: Vec<_> = std::iter::from_fn(|| actor.hear()).collect();
    assert_eq!(said, ["written true, refused true"]);
}
