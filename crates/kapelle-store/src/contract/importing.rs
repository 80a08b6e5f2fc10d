//! What is promised of runs that are taken in from elsewhere.

use kapelle_core::port::journal::{Entry, Error, History, Imported, Journal, Row};
use kapelle_core::{Digest, Epoch, Payload, Shard, Timestamp};

use super::{add, bytes_of, claim, entry, plain, row, run, tenant};

const SHARD: Shard = Shard(7);

/// A run of three entries that ended under epochs which nobody here has seen.
fn history(n: u32) -> History {
    let mut entries: Vec<Entry> = Vec::new();
    for (first_seq, epoch) in [(1, 40), (3, 40), (5, 41)] {
        let previous = entries.last().map_or([0; 32], |last| last.hash);
        entries.push(entry(run(SHARD, n), Epoch(epoch), (first_seq, 2), &previous));
    }
    let rows = vec![Row::Payload(Payload::new("made elsewhere".into()))];
    History { entries, row: row(run(SHARD, n), "completed"), rows }
}

pub async fn a_run_is_taken_in_as_it_is_whoever_owns_its_shard(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    add(journal, SHARD, epoch, vec![plain(run(SHARD, 1), epoch, 1, 1)]).await;
    let (taken, digest) = (history(2), Digest::of(b"made elsewhere"));
    assert_eq!(journal.import(taken.clone()).await.unwrap(), Imported::New);
    assert_eq!(journal.read(&tenant(), taken.row.run, 0).await.unwrap(), taken.entries);
    assert_eq!(journal.run(&tenant(), taken.row.run).await.unwrap(), Some(taken.row.clone()));
    assert_eq!(journal.references(&tenant(), taken.row.run).await.unwrap(), [(digest, 14)]);
    let content = journal.payload(&tenant(), digest).await.unwrap().unwrap();
    assert_eq!(bytes_of(content), b"made elsewhere");
    // Once more is the same run; another one with its id is refused.
    assert_eq!(journal.import(taken.clone()).await.unwrap(), Imported::Known);
    let mut other = taken.clone();
    other.entries.pop();
    assert_eq!(journal.import(other).await.unwrap(), Imported::Other);
    assert_eq!(journal.read(&tenant(), taken.row.run, 0).await.unwrap(), taken.entries);
    // The shard's owner goes on as if nothing had happened.
    add(journal, SHARD, epoch, vec![plain(run(SHARD, 1), epoch, 2, 1)]).await;
    assert_eq!(journal.import(history(3)).await.unwrap(), Imported::New);
    add(journal, SHARD, epoch, vec![plain(run(SHARD, 1), epoch, 3, 1)]).await;
    let positions = journal.tail(SHARD, 0, 9).await.unwrap().into_iter().map(|(pos, _)| pos);
    assert_eq!(positions.collect::<Vec<_>>(), [1, 2, 3]);
    // And it is pruned like any other, and may come back.
    let pruned = journal.prune(&tenant(), &[taken.row.run], Timestamp(9)).await.unwrap();
    assert_eq!(pruned.runs, [taken.row.run]);
    assert_eq!(journal.read(&tenant(), taken.row.run, 0).await.unwrap(), []);
    assert_eq!(journal.import(taken).await.unwrap(), Imported::New);
}

pub async fn what_is_no_whole_run_is_not_taken_in(journal: &impl Journal) {
    let whole = history(2);
    let mut wrong = vec![whole.clone(); 6];
    wrong[0].entries.remove(0);
    wrong[1].entries.remove(1);
    wrong[2].entries[1].body = "[{}]".into();
    wrong[3].row.open = true;
    wrong[4].entries.clear();
    wrong[5].rows = vec![Row::Reference { digest: Digest::of(b"none"), len: 4 }];
    for (n, wrong) in wrong.into_iter().enumerate() {
        let refused = journal.import(wrong).await;
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{n}: {refused:?}");
        assert_eq!(journal.read(&tenant(), whole.row.run, 0).await.unwrap(), [], "{n}");
        assert_eq!(journal.run(&tenant(), whole.row.run).await.unwrap(), None, "{n}");
    }
    assert_eq!(journal.import(whole).await.unwrap(), Imported::New);
}
