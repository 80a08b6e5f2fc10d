//! Real processes: this test binary starts itself again, with a part to play.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use kapelle_core::port::Nodes as _;
use kapelle_core::port::account::{Accounts as _, Call, Day, Grant, Granted};
use kapelle_core::port::journal::{Error, Journal as _, Part, Row, Settled};
use kapelle_core::{Attempt, Epoch, NodeId, Payload, Shard};
use kapelle_store::contract::{append, call, claim, plain, run, standing, tenant, tokens, within};
use kapelle_store::{Member, Sqlite};

use crate::actor::{Actor, PART, STORE, say};
use crate::disk;

/// What the other processes do. Run as a test by itself, it has no part.
#[tokio::test]
async fn an_actor_plays_its_part() {
    let (Ok(store), Ok(part)) = (std::env::var(STORE), std::env::var(PART)) else { return };
    let store = Path::new(&store);
    match part.split_once(' ') {
        Some(("write", shard)) => write_on(store, Shard(shard.parse().unwrap())).await,
        Some(("open", _)) => match Sqlite::open(store) {
            Ok(_) => say("opened"),
            Err(error) => say(&error.to_string()),
        },
        Some(("ask", attempt)) => ask_on(store, Attempt(attempt.parse().unwrap())).await,
        Some(("fill", _)) => disk::fill(store).await,
        Some(("meet", _)) => disk::meet_a_quota(store).await,
        Some(("fail", shard)) => fail_on(store, Shard(shard.parse().unwrap())).await,
        Some(("join", _)) => {
            let member = Member::join(store, None).unwrap();
            say(member.me().id.as_str());
            std::future::pending::<()>().await;
        }
        _ => panic!("no part `{part}`"),
    }
}

/// Writes an entry a commit to a run of the shard, for ever, and says each that is on disk.
async fn write_on(store: &Path, shard: Shard) {
    let store = Sqlite::open(store).unwrap();
    let epoch = claim(&store, shard).await;
    let id = run(shard, 1);
    let mut seq = 0;
    while let Some(last) = store.read(&tenant(), id, seq + 1).await.unwrap().last() {
        seq = last.first_seq;
    }
    loop {
        seq += 1;
        let runs = vec![plain(id, epoch, seq, 1)];
        match append(&store, vec![Part { shard, epoch, runs }]).await.unwrap()[..] {
            [Settled::Done { .. }] => say(&seq.to_string()),
            _ => return say("stale"),
        }
    }
}

/// Asks for ten tokens a call of an attempt until there are none, and says each that is granted.
async fn ask_on(store: &Path, attempt: Attempt) {
    let store = Sqlite::open(store).unwrap();
    for n in 1..=500 {
        let call = Call { attempt, ..call(n) };
        let grant = Grant { tenant: tenant(), call, day: Day(20_000), wanted: tokens(10) };
        match store.grant(grant, vec![within("tenant", 1_005)]).await.unwrap() {
            Granted::Yes => say(&n.to_string()),
            Granted::No(_) => return say("none"),
        }
    }
}

/// Writes until that fails, says so, and that nothing goes any more.
async fn fail_on(store: &Path, shard: Shard) {
    let store = Sqlite::open(store).unwrap();
    let epoch = claim(&store, shard).await;
    for n in 1.. {
        let mut addition = plain(run(shard, n), epoch, 1, 1);
        addition.rows.push(Row::Payload(Payload::new(vec![b'x'; 50_000].into())));
        match append(&store, vec![Part { shard, epoch, runs: vec![addition] }]).await {
            Ok(_) => say(&n.to_string()),
            Err(error) => {
                say(&error.to_string());
                break;
            }
        }
    }
    say(&append(&store, vec![]).await.unwrap_err().to_string());
    say(&store.shards().await.unwrap_err().to_string());
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let mut actor = Actor::start(dir.path(), "write 7");
        let heard: Vec<_> = (0..=round).map_while(|_| actor.hear()).collect();
        let last = heard.into_iter().chain(actor.kill()).last().unwrap();
        let acknowledged: u64 = last.parse().unwrap();
        let store = Sqlite::open(dir.path()).unwrap();
        let entries = store.tail(Shard(7), acknowledged - 1, 1000).await.unwrap();
        let (pos, entry) = &entries[0];
        assert_eq!((*pos, entry.first_seq), (acknowledged, acknowledged));
        assert!(entries.len() <= 2, "at most one was not acknowledged yet");
    }
}

#[tokio::test]
async fn processes_that_ask_at_once_stay_within_one_limit() {
    let dir = tempfile::tempdir().unwrap();
    drop(Sqlite::open(dir.path()).unwrap());
    let mut actors = [1, 2, 3].map(|n| Actor::start(dir.path(), &format!("ask {n}")));
    while actors[0].hear().unwrap() != "3" {}
    let mut told = 3 + actors[0].kill().len();
    // What it was granted in the middle of whatever it did stays granted; the others have the rest.
    for actor in &mut actors[1..] {
        let all: Vec<_> = std::iter::from_fn(|| actor.hear()).collect();
        assert_eq!(all.last().unwrap(), "none");
        told += all.len() - 1;
    }
    let store = Sqlite::open(dir.path()).unwrap();
    let standings = store.accounts(&tenant(), Day(20_000)).await.unwrap();
    assert_eq!(standings, [standing("tenant", 0, 1_000)]);
    assert!((99..=100).contains(&told), "at most one grant was not told yet: {told}");
    // Asked again by the same call it is the same grant.
    let before = store.open_grants(&tenant()).await.unwrap();
    Actor::start(dir.path(), "ask 1").hear().unwrap();
    assert_eq!(store.open_grants(&tenant()).await.unwrap(), before);
}

#[tokio::test]
async fn processes_write_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let mut actors = [1, 2, 3].map(|n| Actor::start(dir.path(), &format!("write {n}")));
    let store = Sqlite::open(dir.path()).unwrap();
    let epoch = claim(&store, Shard(4)).await;
    for actor in &mut actors {
        while actor.hear().unwrap() != "50" {}
    }
    for seq in 1..=50 {
        let runs = vec![plain(run(Shard(4), 1), epoch, seq, 1)];
        append(&store, vec![Part { shard: Shard(4), epoch, runs }]).await.unwrap();
    }
    // One dies in the middle of whatever it does; the others go on.
    actors[0].kill();
    for actor in &mut actors[1..] {
        let next = actor.hear().unwrap();
        let next: u64 = next.parse().unwrap();
        while actor.hear().unwrap().parse::<u64>().unwrap() < next + 50 {}
    }
    for n in 1..=4 {
        let positions = store.tail(Shard(n), 0, 50).await.unwrap().into_iter().map(|(pos, _)| pos);
        assert_eq!(positions.collect::<Vec<_>>(), Vec::from_iter(1..=50));
    }
}

#[tokio::test]
async fn a_claim_fences_a_writer_in_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut actor = Actor::start(dir.path(), "write 7");
    assert_eq!(actor.hear().as_deref(), Some("1"));
    let store = Sqlite::open(dir.path()).unwrap();
    let claimed = store.claim(&[(Shard(7), Epoch(1))], &NodeId::new("me")).await.unwrap();
    assert_eq!(claimed, [(Shard(7), Epoch(2))]);
    let count = store.bytes(&tenant(), run(Shard(7), 1)).await.unwrap();
    while actor.hear().unwrap() != "stale" {}
    assert_eq!(store.bytes(&tenant(), run(Shard(7), 1)).await.unwrap(), count);
}

#[tokio::test]
async fn a_write_error_poisons_the_process_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    // The kernel refuses to let any file grow beyond this, as an error and not as a signal.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\""]);
    command.arg(std::env::current_exe().unwrap());
    let mut actor = Actor::start_with(command, dir.path(), "fail 7");
    let said: Vec<_> = std::iter::from_fn(|| actor.hear()).collect();
    let (errors, acknowledged): (Vec<_>, Vec<_>) =
        said.into_iter().partition(|said| said.parse::<u32>().is_err());
    assert!(acknowledged.len() > 2, "{acknowledged:?}");
    assert_eq!(errors.len(), 3);
    for error in errors {
        assert!(error.contains("kapelle.db` cannot be trusted any more"), "{error}");
    }
    let store = Sqlite::open(dir.path()).unwrap();
    let entries = store.tail(Shard(7), 0, 1000).await.unwrap();
    assert_eq!(entries.len(), acknowledged.len());
    let epoch = claim(&store, Shard(7)).await;
    let runs = vec![plain(run(Shard(7), 9_999), epoch, 1, 1)];
    append(&store, vec![Part { shard: Shard(7), epoch, runs }]).await.unwrap();
}

#[tokio::test]
async fn a_killed_node_is_dead_and_its_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let me = Member::join(dir.path(), None).unwrap();
    let mut actor = Actor::start(dir.path(), "join it");
    let other = NodeId::new(&actor.hear().unwrap());
    assert!(me.alive(&other).await.unwrap());
    assert_eq!(me.list().await.unwrap().len(), 2);
    actor.kill();
    assert!(!me.alive(&other).await.unwrap());
    assert!(!me.has_orphans().await.unwrap());
    assert_eq!(me.list().await.unwrap(), [me.me().clone()]);
    assert!(!dir.path().join("nodes").join(other.as_str()).exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let dir = tempfile::tempdir().unwrap();
    drop(Sqlite::open(dir.path()).unwrap());
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for item in std::fs::read_dir(dir.path()).unwrap() {
        let item = item.unwrap();
        set(&item.path(), if item.file_type().unwrap().is_dir() { 0o555 } else { 0o444 });
    }
    set(dir.path(), 0o555);
    // What is forbidden is nothing to root: then somebody else tries.
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = Command::new(std::env::current_exe().unwrap());
    if root {
        command.uid(65_534);
    }
    let mut actor = Actor::start_with(command, dir.path(), "open it");
    let said = actor.hear().unwrap();
    set(dir.path(), 0o755);
    assert!(said.contains(dir.path().to_str().unwrap()), "{said}");
    assert!(said.contains("make it writable, or choose another folder"), "{said}");
}

#[test]
fn a_writer_that_is_stopped_makes_others_busy_for_a_while_only() {
    let dir = tempfile::tempdir().unwrap();
    drop(Sqlite::open(dir.path()).unwrap());
    let turn = std::fs::File::open(dir.path().join("turn")).unwrap();
    turn.lock().unwrap();
    let mut actor = Actor::start(dir.path(), "open it");
    let said = actor.hear().unwrap();
    let busy = Error::Busy { file: dir.path().join("kapelle.db").display().to_string().into() };
    assert_eq!(said, busy.to_string());
    turn.unlock().unwrap();
    assert_eq!(Actor::start(dir.path(), "open it").hear().as_deref(), Some("opened"));
}
