//! What is promised of runs that are removed.

use kapelle_core::port::journal::{Addition, Journal, KEY_KEPT, Pruned, Row, RunQuery, Twin};
use kapelle_core::{Digest, Epoch, Payload, RunId, Shard, Tenant, Timestamp};

use super::{add, append, bytes_of, claim, entry, first, key, plain, row, run, tenant};

const SHARD: Shard = Shard(7);
const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

/// A run that ends with its first entry and refers to payloads with this content.
fn ended(id: RunId, epoch: Epoch, payloads: &[&'static str]) -> Addition {
    let mut addition = first(id, epoch, "completed");
    let of = |text: &&'static str| Row::Payload(Payload::new(text.as_bytes().into()));
    addition.rows.extend(payloads.iter().map(of));
    addition
}

async fn has(journal: &impl Journal, text: &str) -> bool {
    let found = journal.payload(&tenant(), Digest::of(text.as_bytes())).await.unwrap();
    found.is_some_and(|content| bytes_of(content) == text.as_bytes())
}

pub async fn a_run_that_is_pruned_goes_with_all_that_is_its_own(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let (old, new) = (run(SHARD, 1), run(SHARD, 2));
    let runs = vec![ended(old, epoch, &["mine", "ours"]), ended(new, epoch, &["ours"])];
    add(journal, SHARD, epoch, runs).await;
    let follows =
        entry(new, epoch, (2, 3), &journal.read(&tenant(), new, 1).await.unwrap()[0].hash);
    add(journal, SHARD, epoch, vec![Addition { key: None, entry: follows, rows: vec![] }]).await;
    let kept = journal.read(&tenant(), new, 1).await.unwrap();
    let stranger = Tenant::new("other");
    assert_eq!(journal.prune(&stranger, &[old], NOW).await.unwrap().runs, []);
    let pruned = journal.prune(&tenant(), &[old, old, run(SHARD, 9)], NOW).await.unwrap();
    assert_eq!(pruned, Pruned { seen: 3, runs: vec![old] });
    assert_eq!(journal.read(&tenant(), old, 1).await.unwrap(), []);
    assert_eq!(journal.run(&tenant(), old).await.unwrap(), None);
    assert_eq!(journal.bytes(&tenant(), old).await.unwrap(), 0);
    assert!(!has(journal, "mine").await && has(journal, "ours").await);
    let all = RunQuery { limit: 9, ..RunQuery::default() };
    assert_eq!(journal.runs(&tenant(), &all).await.unwrap(), [row(new, "completed")]);
    // The chain of the other one holds, and its last reference takes the payload with it.
    assert_eq!(journal.read(&tenant(), new, 1).await.unwrap(), kept);
    assert_eq!(kept[1].chained(&kept[0].hash), kept[1].hash);
    journal.prune(&tenant(), &[new], NOW).await.unwrap();
    assert!(!has(journal, "ours").await);
    while journal.shrink().await.unwrap().more {}
    add(journal, SHARD, epoch, vec![ended(run(SHARD, 3), epoch, &["ours"])]).await;
    assert!(has(journal, "ours").await);
}

pub async fn what_has_not_ended_is_not_pruned(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let (open, over) = (run(SHARD, 1), run(SHARD, 2));
    let runs = vec![first(open, epoch, "running"), ended(over, epoch, &[])];
    add(journal, SHARD, epoch, runs).await;
    let pruned = journal.prune(&tenant(), &[open, over], NOW).await.unwrap();
    assert_eq!(pruned, Pruned { seen: 2, runs: vec![over] });
    add(journal, SHARD, epoch, vec![plain(open, epoch, 2, 1)]).await;
    assert_eq!(journal.read(&tenant(), open, 1).await.unwrap().len(), 2);
}

pub async fn a_pruned_run_keeps_its_key_for_thirty_days(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let submit = |n, at| {
        let mut addition = ended(run(SHARD, n), epoch, &[]);
        addition.entry.at = at;
        addition.entry.hash = addition.entry.chained(&[0; 32]);
        addition.key = Some(key("order-1", "a"));
        vec![super::Part { shard: SHARD, epoch, runs: vec![addition] }]
    };
    append(journal, submit(1, NOW)).await.unwrap();
    journal.prune(&tenant(), &[run(SHARD, 1)], NOW).await.unwrap();
    let twin = Twin { run: run(SHARD, 1), content: Digest::of(b"a"), pruned_at: Some(NOW) };
    assert_eq!(journal.submitted(&tenant(), "order-1").await.unwrap(), Some(twin.clone()));
    let just_before = Timestamp(NOW.after(KEY_KEPT).0 - 1);
    let settled = append(journal, submit(2, just_before)).await.unwrap();
    assert_eq!(settled, [super::Settled::Done { left_out: vec![(0, twin)] }]);
    let settled = append(journal, submit(2, NOW.after(KEY_KEPT))).await.unwrap();
    assert_eq!(settled, [super::Settled::Done { left_out: vec![] }]);
    let twin = Twin { run: run(SHARD, 2), content: Digest::of(b"a"), pruned_at: None };
    assert_eq!(journal.submitted(&tenant(), "order-1").await.unwrap(), Some(twin));
    // And pruning forgets what need not be kept any more.
    journal.prune(&tenant(), &[run(SHARD, 2)], NOW).await.unwrap();
    journal.prune(&tenant(), &[], NOW.after(KEY_KEPT)).await.unwrap();
    assert_eq!(journal.submitted(&tenant(), "order-1").await.unwrap(), None);
}

pub async fn positions_of_pruned_entries_are_not_given_again(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    for n in 1..=3 {
        add(journal, SHARD, epoch, vec![ended(run(SHARD, n), epoch, &[])]).await;
    }
    journal.prune(&tenant(), &[run(SHARD, 2), run(SHARD, 3)], NOW).await.unwrap();
    // Also by an owner who remembers nothing of them.
    let epoch = claim(journal, SHARD).await;
    add(journal, SHARD, epoch, vec![ended(run(SHARD, 4), epoch, &[])]).await;
    let positions = journal.tail(SHARD, 0, 9).await.unwrap().into_iter().map(|(pos, _)| pos);
    assert_eq!(positions.collect::<Vec<_>>(), [1, 4]);
    let rest = journal.tail(SHARD, 1, 9).await.unwrap();
    assert_eq!((rest.len(), rest[0].0), (1, 4));
}
