//! What only a journal on disk promises; the rest is the contract.

mod audit;

use std::io::{Read as _, Write as _};
use std::ops::Deref;
use std::path::PathBuf;

use kapelle_core::Payload;
use kapelle_core::port::journal::{Addition, Row, Settled};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::contract::{add, append, bytes_of, claim, first, plain, row, run, tenant};

crate::journal_contract!(async || Stored::new());

const SHARD: Shard = Shard(7);

/// A store in a folder that goes with it.
struct Stored {
    store: Option<Sqlite>,
    dir: TempDir,
}

impl Stored {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Some(Sqlite::open(dir.path()).unwrap()), dir }
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Sqlite::open(self.dir.path()).unwrap());
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("kapelle.db")
    }

    /// Does something to the database behind the store's back, as another version of it might.
    fn tamper(&self, sql: &str) {
        let flags = rusqlite::OpenFlags::default();
        let conn = Connection::open_with_flags_and_vfs(self.file(), flags, pages::name()).unwrap();
        super::sum::register(&conn).unwrap();
        conn.execute_batch(sql).unwrap();
    }
}

impl Deref for Stored {
    type Target = Sqlite;

    fn deref(&self) -> &Sqlite {
        self.store.as_ref().unwrap()
    }
}

fn refusal(dir: &Path) -> Error {
    match Sqlite::open(dir) {
        Ok(_) => panic!("`{}` was opened", dir.display()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let payload = Payload::new(vec![3; 2_000].into());
    let mut addition = first(run(SHARD, 1), epoch, "running");
    addition.key = Some(crate::contract::key("k", "c"));
    addition.rows.push(Row::Payload(payload.clone()));
    let entry = addition.entry.clone();
    add(&*stored, SHARD, epoch, vec![addition]).await;
    let shards = stored.shards().await.unwrap();
    stored.reopen();
    assert_eq!(stored.shards().await.unwrap(), shards);
    assert_eq!(stored.tail(SHARD, 0, 9).await.unwrap(), [(1, entry.clone())]);
    assert_eq!(stored.read(&tenant(), entry.run, 1).await.unwrap(), [entry]);
    assert_eq!(
        stored.run(&tenant(), run(SHARD, 1)).await.unwrap(),
        Some(row(run(SHARD, 1), "running"))
    );
    assert!(stored.submitted(&tenant(), "k").await.unwrap().is_some());
    let content = stored.payload(&tenant(), payload.digest).await.unwrap().unwrap();
    assert_eq!(bytes_of(content), payload.bytes);
    // And the shard's owner goes on where it was.
    add(&*stored, SHARD, epoch, vec![plain(run(SHARD, 1), epoch, 2, 1)]).await;
    assert_eq!(stored.tail(SHARD, 1, 9).await.unwrap()[0].0, 2);
}

#[tokio::test]
async fn appends_in_a_queue_are_written_together_and_refused_alone() {
    let stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let (sender, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    for n in 1..=300 {
        let sender = sender.clone();
        // Every tenth one does not continue its run.
        let runs = vec![plain(run(SHARD, n), epoch, if n % 10 == 0 { 2 } else { 1 }, 1)];
        let settled = Box::new(move |outcome| sender.send((n, outcome)).unwrap());
        stored.append(vec![Part { shard: SHARD, epoch, runs }], settled);
    }
    for _ in 1..=300 {
        let (n, outcome) = outcomes.recv().await.unwrap();
        assert_eq!(outcome.is_err(), n % 10 == 0, "{n}: {outcome:?}");
    }
    let positions = stored.tail(SHARD, 0, 999).await.unwrap().into_iter().map(|(pos, _)| pos);
    assert_eq!(positions.collect::<Vec<_>>(), Vec::from_iter(1..=270));
}

#[tokio::test]
async fn a_newer_store_is_refused_and_left_as_it_is() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    stored.tamper("PRAGMA user_version = 9");
    let newer = |error: &Error| matches!(error, Error::Newer { store: 9, ours: 8, .. });
    // Also by those that have it open.
    let outcome = append(&*stored, vec![Part { shard: SHARD, epoch, runs: vec![] }]).await;
    assert!(newer(outcome.as_ref().unwrap_err()), "{outcome:?}");
    assert!(newer(&stored.shards().await.unwrap_err()));
    let claimed = stored.claim(&[(SHARD, epoch)], &NodeId::new("me")).await;
    assert!(newer(&claimed.unwrap_err()));
    stored.store = None;
    stored.tamper("PRAGMA wal_checkpoint(TRUNCATE)");
    let before = fs::read(stored.file()).unwrap();
    let error = refusal(stored.dir.path());
    assert!(newer(&error), "{error}");
    assert!(error.to_string().contains("kapelle.db"), "{error}");
    assert!(fs::read(stored.file()).unwrap() == before);
}

/// A process that is killed while it copies the log leaves the database's first page newer than
/// its end; one that is killed while it makes the tables, a journal to undo that.
#[tokio::test]
async fn a_death_in_the_middle_of_a_copy_is_repaired_by_the_next_one() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let mut addition = first(run(SHARD, 1), epoch, "running");
    addition.rows.push(Row::Payload(Payload::new(vec![3; 500_000].into())));
    let entry = addition.entry.clone();
    add(&*stored, SHARD, epoch, vec![addition]).await;
    stored.store = None;
    let log = stored.dir.path().join("kapelle.db-wal");
    let (mut database, in_log) = (fs::read(stored.file()).unwrap(), fs::read(&log).unwrap());
    stored.tamper("PRAGMA wal_checkpoint(TRUNCATE)");
    let copied = fs::read(stored.file()).unwrap();
    assert!(copied.len() > database.len(), "nothing was in the log");
    database[..4096].copy_from_slice(&copied[..4096]);
    fs::write(stored.file(), database).unwrap();
    fs::write(&log, in_log).unwrap();
    stored.reopen();
    assert_eq!(stored.tail(SHARD, 0, 9).await.unwrap(), [(1, entry)]);
}

#[test]
fn a_death_while_the_tables_are_made_is_repaired_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kapelle.db");
    let half = dir.path().join("half");
    fs::create_dir(&half).unwrap();
    let conn = Connection::open(&file).unwrap();
    // Pages go to the file before the commit, as they do in the middle of one.
    conn.execute_batch(
        "PRAGMA cache_size = 1; BEGIN; CREATE TABLE entry (body);
        INSERT INTO entry VALUES (zeroblob(200000)); PRAGMA user_version = 1;",
    )
    .unwrap();
    for name in ["kapelle.db", "kapelle.db-journal"] {
        let copied = fs::copy(dir.path().join(name), half.join(name)).unwrap();
        assert!(copied > 0, "there is nothing to undo");
    }
    drop(Sqlite::open(&half).unwrap());
    drop(Sqlite::open(&half).unwrap());
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kapelle.db");
    fs::write(&file, "to whom it may concern: this is no database".repeat(99)).unwrap();
    let error = refusal(dir.path());
    assert!(error.to_string().contains("kapelle.db"), "{error}");
    assert!(error.to_string().contains("choose another folder"), "{error}");
    assert!(fs::read_to_string(&file).unwrap().starts_with("to whom"));

    fs::remove_file(&file).unwrap();
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let before = fs::read(&file).unwrap();
    let error = refusal(dir.path());
    assert!(error.to_string().contains("another application"), "{error}");
    assert!(fs::read(&file).unwrap() == before);

    let error = refusal(&file);
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("no folder"), "{error}");
}

#[tokio::test]
async fn a_folder_with_odd_letters_is_a_store_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("a/50% of 'ä' #1?mode=ro");
    drop(Sqlite::open(&dir).unwrap());
    let store = Sqlite::open(&dir).unwrap();
    claim(&store, SHARD).await;
}

#[tokio::test]
async fn old_files_that_nothing_refers_to_are_swept() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let stage = async |content: &'static [u8]| {
        let mut staged = stored.stage().await.unwrap();
        staged.write(content.into()).await.unwrap();
        staged.finish().await.unwrap()
    };
    let (referred, len) = stage(b"referred").await;
    let (unreferred, _) = stage(b"unreferred").await;
    let (young, _) = stage(b"young").await;
    let mut addition = plain(run(SHARD, 1), epoch, 1, 1);
    addition.rows.push(Row::Reference { digest: referred, len });
    add(&*stored, SHARD, epoch, vec![addition]).await;
    let half = stored.dir.path().join("payloads/.staged-by-the-dead");
    fs::write(&half, "half").unwrap();
    let files = stored.files.clone();
    let old = std::time::SystemTime::now() - 2 * SWEEP_AGE;
    for path in [&files.path(referred), &files.path(unreferred), &half] {
        fs::File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
    }
    stored.reopen();
    // Behind the sweep in the writer's queue.
    stored.release(&[]).await.unwrap();
    let left = [&files.path(referred), &files.path(unreferred), &files.path(young), &half];
    assert_eq!(left.map(|path| path.exists()), [true, false, true, false]);
}

#[tokio::test]
async fn what_is_pruned_is_given_back_to_the_disk() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    for n in 0..40 {
        add(&*stored, SHARD, epoch, vec![ended_megabyte(n, epoch)]).await;
    }
    let file = megabytes_of_file(&stored).await;
    let (old, kept): (Vec<_>, _) = ((0..39).map(|n| run(SHARD, n)).collect(), run(SHARD, 39));
    let pruned = stored.prune(&tenant(), &old, Timestamp(5)).await.unwrap();
    assert_eq!((pruned.seen, pruned.runs.len()), (39, 39));
    while stored.shrink().await.unwrap().more {}
    let len = std::fs::metadata(stored.file()).unwrap().len() + log_of(&stored);
    assert!(file >= 38 && len < 3 << 20, "{len} bytes are left of {file} MiB");
    // Whoever opens it next finds what was vouched for, and goes on after it.
    stored.reopen();
    assert_eq!(stored.verify(|_| {}).await.unwrap().damage, []);
    assert_eq!(stored.read(&tenant(), kept, 1).await.unwrap().len(), 1);
    let next = claim(&*stored, SHARD).await;
    add(&*stored, SHARD, next, vec![plain(run(SHARD, 99), next, 1, 1)]).await;
    assert_eq!(stored.tail(SHARD, 0, 9).await.unwrap().last().unwrap().0, 41);
}

/// How long the database is once its log was copied.
async fn megabytes_of_file(stored: &Stored) -> u64 {
    stored.shrink().await.unwrap();
    std::fs::metadata(stored.file()).unwrap().len() >> 20
}

#[tokio::test]
async fn a_pruned_shard_still_tells_when_its_end_is_missing() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    for n in 1..=3 {
        add(&*stored, SHARD, epoch, vec![first(run(SHARD, n), epoch, "completed")]).await;
    }
    stored.prune(&tenant(), &[run(SHARD, 3)], Timestamp(5)).await.unwrap();
    stored.reopen();
    add(&*stored, SHARD, epoch, vec![first(run(SHARD, 4), epoch, "completed")]).await;
    stored.store = None;
    stored.tamper("DELETE FROM entry WHERE first_seq = 1 AND id & 0xffff = 4");
    let error = refusal(stored.dir.path()).to_string();
    assert!(error.contains("shard 7 ends with entry 3 of 4"), "{error}");
}

#[tokio::test]
async fn files_of_pruned_runs_go_once_they_are_old() {
    let stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let mut digests = Vec::new();
    for n in 1..=2 {
        let mut staged = stored.stage().await.unwrap();
        staged.write(vec![u8::try_from(n).unwrap(); 9].into()).await.unwrap();
        let (digest, len) = staged.finish().await.unwrap();
        let mut addition = first(run(SHARD, n), epoch, "completed");
        addition.rows.push(Row::Reference { digest, len });
        add(&*stored, SHARD, epoch, vec![addition]).await;
        digests.push(digest);
    }
    let file = std::fs::File::open(stored.files.path(digests[0])).unwrap();
    file.set_modified(std::time::SystemTime::now() - 2 * SWEEP_AGE).unwrap();
    stored.prune(&tenant(), &[run(SHARD, 1), run(SHARD, 2)], Timestamp(5)).await.unwrap();
    // The young one may be written anew and referred to at any time.
    let there: Vec<_> = digests.iter().map(|digest| stored.files.path(*digest).exists()).collect();
    assert_eq!(there, [false, true]);
}

#[tokio::test]
async fn a_store_of_the_level_before_is_raised() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let mut addition = first(run(SHARD, 1), epoch, "completed");
    addition.key = Some(crate::contract::key("k", "c"));
    add(&*stored, SHARD, epoch, vec![addition]).await;
    stored.store = None;
    {
        let conn = Connection::open(stored.file()).unwrap();
        super::sum::register(&conn).unwrap();
        let back = "DROP TABLE audit; DROP TABLE record; DROP TABLE account; DROP TABLE account_grant; DROP TABLE pruned; DROP INDEX submit_run; DROP INDEX submit_pruned;
                    ALTER TABLE submit DROP COLUMN pruned_at;
                    UPDATE submit SET sum = row_sum(tenant, key, run, content);
                    PRAGMA user_version = 2; PRAGMA auto_vacuum = NONE; VACUUM";
        conn.execute_batch(back).unwrap();
    }
    stored.reopen();
    assert_eq!(stored.verify(|_| {}).await.unwrap().damage, []);
    assert!(stored.submitted(&tenant(), "k").await.unwrap().is_some());
    add(&*stored, SHARD, epoch, vec![ended_megabyte(2, epoch)]).await;
    let runs = [run(SHARD, 1), run(SHARD, 2)];
    stored.prune(&tenant(), &runs, Timestamp(5)).await.unwrap();
    assert_eq!(stored.tail(SHARD, 0, 9).await.unwrap(), []);
    // What such a one has free stays free, and is told.
    let shrunk = stored.shrink().await.unwrap();
    assert!(!shrunk.more && shrunk.free >= 1 << 20, "{shrunk:?}");
}

#[tokio::test]
async fn accounts_of_the_level_before_are_kept() {
    use crate::contract::{ask, call, standing, standings, tokens, within};
    use kapelle_core::port::account::Accounts as _;
    let mut stored = Stored::new();
    for n in [1, 2] {
        ask(&*stored, n, 30, vec![within("tenant", 100)]).await;
    }
    stored.settle(&tenant(), call(1), tokens(20)).await.unwrap();
    stored.store = None;
    stored.tamper(
        "DROP TABLE audit; DROP TABLE record; ALTER TABLE account DROP COLUMN ms; ALTER TABLE account_grant DROP COLUMN ms;
         UPDATE account SET sum = row_sum(tenant, account, day, tokens, nanos, unpriced);
         UPDATE account_grant SET sum = row_sum(tenant, account, run, step, attempt, ordinal, day,
             tokens, nanos, unpriced);
         PRAGMA user_version = 5",
    );
    stored.reopen();
    assert_eq!(standings(&*stored).await, [standing("tenant", 20, 30)]);
    assert_eq!(stored.verify(|_| {}).await.unwrap().damage, []);
}

#[tokio::test]
async fn damage_is_named() {
    let stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let (a, b) = (run(SHARD, 1), run(SHARD, 2));
    let payload = Payload::new(vec![3; 2_000].into());
    let mut addition = plain(a, epoch, 1, 1);
    addition.rows.push(Row::Payload(payload.clone()));
    let mut staged = stored.stage().await.unwrap();
    staged.write(vec![1; 9_000].into()).await.unwrap();
    let (digest, len) = staged.finish().await.unwrap();
    addition.rows.push(Row::Reference { digest, len });
    add(&*stored, SHARD, epoch, vec![addition, plain(b, epoch, 1, 1)]).await;

    stored.tamper("UPDATE entry SET hash = x'00' WHERE id = 7 << 48 | 1");
    let error = stored.read(&tenant(), a, 1).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { run, seq: 1, .. } if run == a), "{error}");
    assert_eq!(stored.read(&tenant(), b, 1).await.unwrap().len(), 1);

    stored.tamper("UPDATE payload SET bytes = zeroblob(2000)");
    let path = stored.files.path(digest);
    fs::File::options().write(true).open(&path).unwrap().write_all(b"x").unwrap();
    for digest in [payload.digest, digest] {
        let mut content = stored.payload(&tenant(), digest).await.unwrap().unwrap();
        let error = content.reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(&digest.to_string()), "{error}");
    }
    let told = |found: Verified| found.damage.iter().map(ToString::to_string).collect::<Vec<_>>();
    let found = stored.verify(|_| {}).await.unwrap();
    assert_eq!((found.runs, found.entries, found.payloads), (2, 2, 2));
    let all = told(found).join("\n");
    for (place, what) in [
        (format!("kapelle.db`: run `{a}`, event 1: "), String::new()),
        (format!("kapelle.db`: run `{a}`: "), format!("`{}`: it is damaged", payload.digest)),
        (format!("{}`: run `{a}`: ", digest.hex()), format!("`{digest}`: it is damaged")),
    ] {
        let named = all.lines().any(|line| line.contains(&place) && line.contains(&what));
        assert!(named && all.lines().count() == 3, "{place} {what}: {all}");
    }
    fs::remove_file(&path).unwrap();
    let Err(error) = stored.payload(&tenant(), digest).await else { panic!("it is gone") };
    assert!(error.to_string().contains(&digest.hex()), "{error}");
    let all = told(stored.verify(|_| {}).await.unwrap()).join("\n");
    assert!(all.contains(&format!("`{digest}`: it is missing; restore it")), "{all}");
}

/// An index that hides a submit key: a turned bit is turned back, and more than one is refused.
#[tokio::test]
async fn a_submit_key_on_a_damaged_page_begins_no_second_run() {
    for bits in [1_u8, 3] {
        let mut stored = Stored::new();
        let epoch = claim(&*stored, SHARD).await;
        let with_key = |n| {
            let key = Some(crate::contract::key("the key", "c"));
            Addition { key, ..first(run(SHARD, n), epoch, "running") }
        };
        let part = |addition| vec![Part { shard: SHARD, epoch, runs: vec![addition] }];
        add(&*stored, SHARD, epoch, vec![with_key(1)]).await;
        // The log is emptied, so the page comes from the database.
        stored.reopen();
        stored.store = None;
        let mut database = fs::read(stored.file()).unwrap();
        let key = database.windows(7).position(|bytes| bytes == b"the key").unwrap();
        // How many rows there are in the page, which is one: now none, or two.
        database[key / 4096 * 4096 + 4] ^= bits;
        fs::write(stored.file(), database).unwrap();

        stored.reopen();
        let again = append(&*stored, part(with_key(2))).await;
        let found = stored.submitted(&tenant(), "the key").await;
        if bits == 1 {
            let twin = found.unwrap().unwrap();
            assert_eq!(twin.run, run(SHARD, 1));
            assert_eq!(again.unwrap(), [Settled::Done { left_out: vec![(0, twin)] }]);
        } else {
            for error in [again.unwrap_err(), found.unwrap_err()] {
                let text = error.to_string();
                assert!(
                    text.contains("page ") && text.contains("kapelle.db` is not what was"),
                    "{text}"
                );
            }
        }
        assert_eq!(stored.read(&tenant(), run(SHARD, 2), 1).await.unwrap(), []);
        // Who needs nothing of that page goes on, in the same process.
        add(&*stored, SHARD, epoch, vec![plain(run(SHARD, 1), epoch, 2, 1)]).await;
        let damage = stored.verify(|_| {}).await.unwrap().damage;
        assert!(damage.iter().any(|damage| damage.message.contains("age ")), "{damage:?}");
    }
}

#[tokio::test]
async fn a_store_without_sums_of_its_pages_goes_on_without() {
    let dir = tempfile::tempdir().unwrap();
    // A database that has its first page already is as an older version makes it.
    let old = Connection::open(dir.path().join("kapelle.db")).unwrap();
    old.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").unwrap();
    drop(old);
    let mut stored = Stored { store: Some(Sqlite::open(dir.path()).unwrap()), dir };
    let epoch = claim(&*stored, SHARD).await;
    add(&*stored, SHARD, epoch, vec![first(run(SHARD, 1), epoch, "running")]).await;
    stored.reopen();
    stored.reopen();
    let found = stored.verify(|_| {}).await.unwrap();
    assert_eq!((found.without_sums, found.entries, found.damage), (true, 1, vec![]));
    assert!(!Stored::new().verify(|_| {}).await.unwrap().without_sums);
}

/// Also a look at it may: the last one who closes it copies the log.
#[tokio::test]
async fn another_program_may_copy_the_log() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    add(&*stored, SHARD, epoch, vec![first(run(SHARD, 1), epoch, "running")]).await;
    stored.reopen();
    add(&*stored, SHARD, epoch, vec![first(run(SHARD, 2), epoch, "running")]).await;
    stored.store = None;
    drop(Connection::open(stored.file()).unwrap().query_one("SELECT * FROM shard", [], |_| Ok(())));
    let log = stored.dir.path().join("kapelle.db-wal");
    assert!(!log.exists(), "it is copied");
    stored.reopen();
    let found = stored.verify(|_| {}).await.unwrap();
    assert_eq!((found.entries, found.damage), (2, vec![]));
}

#[tokio::test]
async fn who_only_reads_waits_for_nobody_and_writes_nothing() {
    let stored = Stored::new();
    assert!(Sqlite::open_reader(&stored.dir.path().join("none")).unwrap().is_none());
    let epoch = claim(&*stored, SHARD).await;
    add(&*stored, SHARD, epoch, vec![plain(run(SHARD, 1), epoch, 1, 1)]).await;
    let other = Connection::open(stored.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; UPDATE shard SET epoch = epoch").unwrap();
    let begun = std::time::Instant::now();
    let reader = Sqlite::open_reader(stored.dir.path()).unwrap().unwrap();
    assert_eq!(reader.tail(SHARD, 0, 9).await.unwrap().len(), 1);
    assert!(begun.elapsed() < schema::PATIENCE, "it waited");
    let refused = |error: &Error| error.to_string().contains("for reading only");
    let part = || vec![Part { shard: SHARD, epoch, runs: vec![] }];
    assert!(refused(&append(&reader, part()).await.unwrap_err()));
    assert!(refused(&reader.claim(&[(SHARD, epoch)], &NodeId::new("me")).await.unwrap_err()));
    assert!(refused(&reader.release(&[(SHARD, epoch)]).await.unwrap_err()));
    assert!(reader.stage().await.is_err_and(|error| refused(&error)));
    reader.release(&[]).await.unwrap();
    assert!(!reader.make_room(), "it has none to give");
    other.execute_batch("COMMIT").unwrap();
    // What comes after it was opened is read too.
    add(&*stored, SHARD, epoch, vec![plain(run(SHARD, 1), epoch, 2, 1)]).await;
    assert_eq!(reader.tail(SHARD, 0, 9).await.unwrap().len(), 2);
    stored.tamper("PRAGMA user_version = 1");
    assert!(Sqlite::open_reader(stored.dir.path()).unwrap().is_none(), "it has to be raised");
}

/// One bit of the log cuts off all behind it: for whoever has the log as it was, it is not lost.
#[tokio::test]
async fn a_damaged_log_is_refused_and_left_as_it_is() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    for seq in 1..=9 {
        add(&*stored, SHARD, epoch, vec![plain(run(SHARD, 1), epoch, seq, 1)]).await;
    }
    stored.store = None;
    let log = stored.dir.path().join("kapelle.db-wal");
    let (database, good) = (fs::read(stored.file()).unwrap(), fs::read(&log).unwrap());
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    for (database, log_now) in [(&database, &damaged), (&Vec::new(), &good)] {
        fs::write(stored.file(), database).unwrap();
        fs::write(&log, log_now).unwrap();
        for _ in 0..2 {
            let error = refusal(stored.dir.path()).to_string();
            assert!(error.contains("kapelle.db") && error.contains("; restore"), "{error}");
            assert!(error.contains("missing") && error.contains("remove `"), "{error}");
        }
        if let Some(found) = Sqlite::inspect(stored.dir.path()).unwrap() {
            assert!(Sqlite::open_reader(stored.dir.path()).is_err(), "a reader is not told");
            let damage = found.verify(|_| {}).await.unwrap().damage;
            let lost = "missing: shard 7 ends with entry ";
            assert!(damage.iter().any(|one| one.message.contains(lost)), "{damage:?}");
        }
        assert!(fs::read(stored.file()).unwrap() == *database, "the database was changed");
        assert!(fs::read(&log).unwrap() == *log_now, "the log was changed");
    }
    fs::write(stored.file(), &database).unwrap();
    fs::write(&log, &good).unwrap();
    stored.reopen();
    assert_eq!(stored.tail(SHARD, 0, 99).await.unwrap().len(), 9);
}

#[tokio::test]
async fn a_damaged_note_of_how_far_a_shard_goes_is_made_anew() {
    let mut stored = three_entries().await;
    let ends = stored.dir.path().join("ends");
    let good = fs::read(&ends).unwrap();
    // The head, the last entry of the shard, its epoch, and a shard of which nothing is noted.
    for at in [5, 32 + 7 * 32, 32 + 7 * 32 + 9, 32 + 7 * 32 + 16, 32 + 8 * 32] {
        let mut damaged = good.clone();
        damaged[at] ^= 0x40;
        fs::write(&ends, damaged).unwrap();
        stored.reopen();
        assert_eq!(stored.tail(SHARD, 0, 99).await.unwrap().len(), 3);
        assert!(fs::read(&ends).unwrap() == good, "byte {at} was not mended");
    }
}

#[tokio::test]
async fn notes_of_the_first_form_are_taken_over() {
    let mut stored = three_entries().await;
    stored.store = None;
    let (ends, log) = (stored.dir.path().join("ends"), stored.dir.path().join("kapelle.db-wal"));
    let good = fs::read(&ends).unwrap();
    // Two numbers for each shard and for what was imported.
    let mut old = vec![0; 257 * 16];
    (old[7 * 16], old[7 * 16 + 8]) = (3, 1);
    fs::write(&ends, &old).unwrap();
    let content = fs::read(&log).unwrap();
    fs::write(&log, &content[..content.len() / 2]).unwrap();
    assert!(refusal(stored.dir.path()).to_string().contains("of 3"));
    assert!(fs::read(&ends).unwrap() == old, "a refused store was changed");
    fs::write(&log, content).unwrap();
    stored.reopen();
    assert!(fs::read(&ends).unwrap() == good, "they were not taken over");
}

/// A store with three entries in [`SHARD`].
async fn three_entries() -> Stored {
    let stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    for seq in 1..=3 {
        add(&*stored, SHARD, epoch, vec![plain(run(SHARD, 1), epoch, seq, 1)]).await;
    }
    stored
}

#[tokio::test]
async fn an_entry_whose_tenant_is_damaged_is_not_just_left_out() {
    let mut stored = three_entries().await;
    stored.store = None;
    stored.tamper("UPDATE entry SET tenant = 'defauIt' WHERE first_seq = 3");
    stored.reopen();
    let damaged = |error: Error| assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    damaged(stored.read(&tenant(), run(SHARD, 1), 1).await.unwrap_err());
    damaged(stored.bytes(&tenant(), run(SHARD, 1)).await.unwrap_err());
}

#[tokio::test]
async fn what_one_table_knows_of_is_not_told_as_absent_by_another() {
    let mut stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let mut addition = first(run(SHARD, 1), epoch, "running");
    let payload = Payload::new(vec![3; 2_000].into());
    addition.rows.push(Row::Payload(payload.clone()));
    add(&*stored, SHARD, epoch, vec![addition]).await;
    stored.store = None;
    stored.tamper("DELETE FROM run; DELETE FROM payload_ref");
    stored.reopen();
    assert!(matches!(stored.run(&tenant(), run(SHARD, 1)).await, Err(Error::Corrupt { .. })));
    let of = stored.payload(&tenant(), payload.digest).await;
    assert!(matches!(of, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn an_entry_that_is_not_where_its_index_says_harms_no_check_of_others() {
    let stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let runs = [1, 2, 3].map(|n| run(SHARD, n));
    for run in runs {
        add(&*stored, SHARD, epoch, vec![plain(run, epoch, 1, 1)]).await;
    }
    // The index is not told that the second entry says now it is the first one.
    let index = |only: &str| {
        format!(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql =
             'CREATE UNIQUE INDEX entry_run ON entry (run, first_seq) {only}'
             WHERE name = 'entry_run'"
        )
    };
    stored.tamper(&index("WHERE 0"));
    let first = "(SELECT run FROM entry WHERE id = 7 << 48 | 1)";
    stored.tamper(&format!("UPDATE entry SET run = {first} WHERE id = 7 << 48 | 2"));
    stored.tamper(&index(""));
    let found = stored.verify(|_| {}).await.unwrap();
    assert_eq!((found.runs, found.entries), (3, 3));
    let named: Vec<_> = found.damage.iter().filter_map(|damage| damage.run).collect();
    assert_eq!(named, [runs[1]], "{:?}", found.damage);
    assert!(found.damage.len() > 1, "the structure is wrong too: {:?}", found.damage);
}

#[tokio::test]
async fn a_full_disk_refuses_what_needs_space_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // The limit of the database's size plays the disk.
    let limit = |conn: &Connection| conn.query_row("PRAGMA max_page_count = 60", [], |_| Ok(()));
    let store = Sqlite::open_with(dir.path(), limit).unwrap();
    let epoch = claim(&store, SHARD).await;
    let mut large = plain(run(SHARD, 1), epoch, 1, 1);
    large.rows.push(Row::Payload(Payload::new(vec![1; 400_000].into())));
    let large = vec![Part { shard: SHARD, epoch, runs: vec![large] }];
    // What is under way goes on.
    for seq in 1..=8 {
        add(&store, SHARD, epoch, vec![plain(run(SHARD, 2), epoch, seq, 1)]).await;
        let outcome = append(&store, large.clone()).await;
        assert!(matches!(outcome, Err(Error::Full { .. })), "{outcome:?}");
    }
    let positions = store.tail(SHARD, 0, 99).await.unwrap().into_iter().map(|(pos, _)| pos);
    assert_eq!(positions.collect::<Vec<_>>(), Vec::from_iter(1..=8));
    drop(store);
    let store = Sqlite::open(dir.path()).unwrap();
    append(&store, large).await.unwrap();
    assert_eq!(store.tail(SHARD, 8, 9).await.unwrap()[0].0, 9);
}

#[tokio::test]
async fn another_program_that_writes_makes_the_store_busy_for_a_while_only() {
    let stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let other = Connection::open(stored.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let part = || vec![Part { shard: SHARD, epoch, runs: vec![plain(run(SHARD, 1), epoch, 1, 1)] }];
    let error = append(&*stored, part()).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert!(error.to_string().contains("kapelle.db` is locked by another process"), "{error}");
    assert_eq!(stored.tail(SHARD, 0, 9).await.unwrap(), [], "reads go on");
    other.execute_batch("ROLLBACK").unwrap();
    append(&*stored, part()).await.unwrap();
}

#[tokio::test]
async fn a_panic_in_an_answer_ends_nothing() {
    let stored = Stored::new();
    stored.append(vec![], Box::new(|_| panic!("an answer of the caller's making")));
    claim(&*stored, SHARD).await;
}

#[tokio::test]
async fn once_poisoned_everything_is_refused() {
    let stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let poisoned = |error: Error| assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    stored.poison.set(&stored.file(), "disk I/O error");
    let part = Part { shard: SHARD, epoch, runs: vec![plain(run(SHARD, 1), epoch, 1, 1)] };
    poisoned(append(&*stored, vec![part]).await.unwrap_err());
    poisoned(stored.claim(&[], &NodeId::new("me")).await.unwrap_err());
    poisoned(stored.shards().await.unwrap_err());
    poisoned(stored.stage().await.err().unwrap());
    poisoned(stored.close().unwrap_err());
}

#[tokio::test]
async fn the_log_is_emptied_as_it_grows() {
    let stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    let mut longest = 0;
    for n in 1..=60 {
        add(&*stored, SHARD, epoch, vec![megabyte(n, epoch)]).await;
        longest = longest.max(log_of(&stored));
    }
    assert!(longest < 16 << 20, "the log had {longest} bytes");
    assert!(fs::metadata(stored.file()).unwrap().len() > 40 << 20);
}

#[tokio::test]
async fn a_reader_that_stays_holds_up_neither_commits_nor_what_comes_after_it() {
    let stored = Stored::new();
    let epoch = claim(&*stored, SHARD).await;
    add(&*stored, SHARD, epoch, vec![megabyte(1, epoch)]).await;
    let reader = Connection::open(stored.file()).unwrap();
    let count = |reader: &Connection| {
        reader.query_row("SELECT count(*) FROM entry", [], |row| row.get::<_, u32>(0)).unwrap()
    };
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(&reader), 1);
    for n in 2..=70 {
        add(&*stored, SHARD, epoch, vec![megabyte(n, epoch)]).await;
    }
    assert!(log_of(&stored) > 64 << 20, "nobody was in the way");
    assert_eq!(count(&reader), 1);
    drop(reader);
    for n in 71.. {
        add(&*stored, SHARD, epoch, vec![megabyte(n, epoch)]).await;
        if log_of(&stored) < 16 << 20 {
            return;
        }
        assert!(n < 200, "the log has {} bytes", log_of(&stored));
    }
}

/// The first entry of the `n`-th run, with a payload in the database.
fn megabyte(n: u32, epoch: Epoch) -> kapelle_core::port::journal::Addition {
    let mut addition = plain(run(SHARD, n), epoch, 1, 1);
    let payload = Payload::new(vec![u8::try_from(n).unwrap(); 1 << 20].into());
    addition.rows.push(Row::Payload(payload));
    addition
}

/// The same of one that ends with it.
fn ended_megabyte(n: u32, epoch: Epoch) -> kapelle_core::port::journal::Addition {
    let mut addition = megabyte(n, epoch);
    addition.rows.push(Row::Run(row(run(SHARD, n), "completed")));
    addition
}

fn log_of(stored: &Stored) -> u64 {
    fs::metadata(stored.dir.path().join("kapelle.db-wal")).unwrap().len()
}

/// `KAPELLE_HISTORIES` says how many.
#[tokio::test]
async fn a_random_history_goes_as_in_memory() {
    let histories = std::env::var("KAPELLE_HISTORIES").ok().and_then(|n| n.parse().ok());
    let histories = histories.unwrap_or(12);
    let mut all = crate::contract::compare::Seen::new();
    for seed in 0..histories {
        let dir = tempfile::tempdir().unwrap();
        // Nobody pulls the plug here.
        let quick = |conn: &Connection| conn.execute_batch("PRAGMA synchronous = OFF");
        let stored = Sqlite::open_with(dir.path(), quick).unwrap();
        let memory = crate::Memory::new();
        let seen = crate::contract::compare::compare(seed, 60, &memory, &stored).await;
        for (kind, times) in seen {
            *all.entry(kind).or_default() += times;
        }
    }
    println!("{all:?}");
    let enough = |times: &u32| *times > u32::try_from(histories).unwrap() / 10;
    assert!(all.len() == 6 && all.values().all(enough), "{all:?}");
}
