//! The promises themselves, a test each.

use bytes::Bytes;
use kapelle_core::port::journal::{Error, Journal, Part, Row, RunQuery, Settled, Twin};
use kapelle_core::{Digest, Epoch, NodeId, Payload, Shard, Tenant};

use super::{
    add, append, append_here, bytes_of, claim, entry, first, key, plain, row, run, tenant,
};

const SHARD: Shard = Shard(7);

pub async fn a_claimed_shard_has_an_owner_and_a_new_epoch(journal: &impl Journal) {
    let shards = journal.shards().await.unwrap();
    assert_eq!(
        shards.iter().map(|holding| holding.shard).collect::<Vec<_>>(),
        Vec::from_iter(Shard::all())
    );
    assert!(shards.iter().all(|holding| holding.epoch == Epoch(0) && holding.owner.is_none()));
    let me = NodeId::new("me");
    let seen = [(SHARD, Epoch(0)), (Shard(255), Epoch(0))];
    let won = journal.claim(&seen, &me).await.unwrap();
    assert_eq!(won, [(SHARD, Epoch(1)), (Shard(255), Epoch(1))]);
    let owned = journal.shards().await.unwrap();
    let owned: Vec<_> = owned.into_iter().filter(|holding| holding.owner.is_some()).collect();
    assert_eq!(owned.len(), 2);
    assert!(owned.iter().all(|h| h.owner == Some(me.clone()) && h.epoch == Epoch(1)));
    journal.release(&won).await.unwrap();
    let shards = journal.shards().await.unwrap();
    assert!(shards.iter().all(|holding| holding.owner.is_none()));
    assert_eq!(shards[7].epoch, Epoch(1));
}

pub async fn a_claim_of_what_another_has_claimed_wins_nothing(journal: &impl Journal) {
    claim(journal, SHARD).await;
    let seen = [(SHARD, Epoch(0)), (Shard(8), Epoch(0))];
    let won = journal.claim(&seen, &NodeId::new("you")).await.unwrap();
    assert_eq!(won, [(Shard(8), Epoch(1))]);
}

pub async fn a_new_claim_fences_the_old_writer(journal: &impl Journal) {
    let old = claim(journal, SHARD).await;
    let id = run(SHARD, 1);
    add(journal, SHARD, old, vec![plain(id, old, 1, 1)]).await;
    let new = claim(journal, SHARD).await;
    let runs = vec![plain(id, old, 2, 1)];
    let settled = append(journal, vec![Part { shard: SHARD, epoch: old, runs }]).await.unwrap();
    assert_eq!(settled, [Settled::Stale]);
    assert_eq!(journal.read(&tenant(), id, 1).await.unwrap().len(), 1);
    add(journal, SHARD, new, vec![plain(id, new, 2, 1)]).await;
}

pub async fn a_released_shard_takes_no_appends(journal: &impl Journal) {
    for epoch in [Epoch(0), claim(journal, SHARD).await] {
        journal.release(&[(SHARD, epoch)]).await.unwrap();
        let runs = vec![plain(run(SHARD, 1), epoch, 1, 1)];
        let settled = append(journal, vec![Part { shard: SHARD, epoch, runs }]).await.unwrap();
        assert_eq!(settled, [Settled::Stale], "{epoch:?}");
    }
}

pub async fn a_late_release_harms_no_new_owner(journal: &impl Journal) {
    let old = claim(journal, SHARD).await;
    let new = claim(journal, SHARD).await;
    journal.release(&[(SHARD, old)]).await.unwrap();
    add(journal, SHARD, new, vec![plain(run(SHARD, 1), new, 1, 1)]).await;
}

pub async fn entries_come_back_as_they_were_written(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let (a, b) = (run(SHARD, 1), run(SHARD, 2));
    let written = [plain(a, epoch, 1, 3), plain(b, epoch, 1, 1), plain(a, epoch, 4, 2)];
    for addition in written.clone() {
        add(journal, SHARD, epoch, vec![addition]).await;
    }
    let [a1, b1, a2] = written.map(|addition| addition.entry);
    assert_eq!(journal.read(&tenant(), a, 0).await.unwrap(), [a1, a2]);
    assert_eq!(journal.read(&tenant(), b, 1).await.unwrap(), [b1]);
    assert_eq!(journal.read(&tenant(), run(SHARD, 3), 1).await.unwrap(), []);
}

pub async fn hash_chains_hold_after_a_round_trip(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let id = run(SHARD, 1);
    let mut previous = [0; 32];
    for n in 0..20 {
        let entry = entry(id, epoch, (1 + n * 3, 3), &previous);
        previous = entry.hash;
        let addition = super::Addition { key: None, entry, rows: Vec::new() };
        add(journal, SHARD, epoch, vec![addition]).await;
    }
    let mut previous = [0; 32];
    for entry in journal.read(&tenant(), id, 1).await.unwrap() {
        assert_eq!(entry.hash, entry.chained(&previous));
        previous = entry.hash;
    }
}

pub async fn an_idle_caller_is_told_the_same(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let part = |n, first| {
        let runs = vec![plain(run(SHARD, n), epoch, first, 1)];
        vec![Part { shard: SHARD, epoch, runs }]
    };
    let done = [Settled::Done { left_out: Vec::new() }];
    // Among others, and alone.
    let (here, beside) =
        tokio::join!(append_here(journal, part(1, 1)), append(journal, part(2, 1)));
    assert_eq!((here.unwrap(), beside.unwrap()), (done.to_vec(), done.to_vec()));
    assert_eq!(append_here(journal, part(1, 2)).await.unwrap(), done);
    let gap = append_here(journal, part(1, 9)).await;
    assert!(matches!(gap, Err(Error::Corrupt { seq: 9, .. })), "{gap:?}");
    assert_eq!(journal.read(&tenant(), run(SHARD, 1), 1).await.unwrap().len(), 2);
    claim(journal, SHARD).await;
    assert_eq!(append_here(journal, part(1, 3)).await.unwrap(), [Settled::Stale]);
}

pub async fn positions_have_no_gaps(journal: &impl Journal) {
    let (epoch, other) = (claim(journal, SHARD).await, claim(journal, Shard(8)).await);
    for n in 1..=5 {
        let part = |shard, epoch, runs| Part { shard, epoch, runs };
        let runs = vec![plain(run(SHARD, n), epoch, 1, 2), plain(run(SHARD, n + 100), epoch, 1, 1)];
        let others = vec![plain(run(Shard(8), n), other, 1, 1)];
        let bad = vec![plain(run(SHARD, n), epoch, 9, 1)];
        let parts = vec![part(SHARD, epoch, runs), part(Shard(8), other, others)];
        append(journal, parts).await.unwrap();
        append(journal, vec![part(SHARD, epoch, bad)]).await.unwrap_err();
    }
    let positions = async |shard, after, limit| {
        let tail = journal.tail(shard, after, limit).await.unwrap();
        tail.into_iter().map(|(pos, _)| pos).collect::<Vec<_>>()
    };
    assert_eq!(positions(SHARD, 0, 100).await, Vec::from_iter(1..=10));
    assert_eq!(positions(SHARD, 3, 4).await, [4, 5, 6, 7]);
    assert_eq!(positions(SHARD, u64::MAX, 4).await, [0_u64; 0]);
    assert_eq!(positions(Shard(8), 0, 100).await, Vec::from_iter(1..=5));
    assert_eq!(positions(Shard(6), 0, 100).await, [0_u64; 0]);
}

pub async fn reading_starts_at_the_entry_that_holds_the_event(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let id = run(SHARD, 1);
    for (first, count) in [(1, 3), (4, 1), (5, 6)] {
        add(journal, SHARD, epoch, vec![plain(id, epoch, first, count)]).await;
    }
    for (from, firsts) in [
        (0, &[1, 4, 5][..]),
        (1, &[1, 4, 5]),
        (3, &[1, 4, 5]),
        (4, &[4, 5]),
        (5, &[5]),
        (10, &[5]),
        (11, &[]),
        (u64::MAX, &[]),
    ] {
        let read = journal.read(&tenant(), id, from).await.unwrap();
        let read: Vec<_> = read.iter().map(|entry| entry.first_seq).collect();
        assert_eq!(read, firsts, "from {from}");
    }
}

pub async fn pages_hold_a_thousand_entries(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let id = run(SHARD, 1);
    let entries = (1..=2_100).map(|seq| plain(id, epoch, seq, 1)).collect();
    add(journal, SHARD, epoch, entries).await;
    let mut from = 1;
    let mut pages = Vec::new();
    loop {
        let page = journal.read(&tenant(), id, from).await.unwrap();
        let Some(last) = page.last() else { break };
        from = last.first_seq + u64::from(last.count);
        pages.push(page.len());
    }
    assert_eq!(pages, [1000, 1000, 100]);
    assert_eq!(journal.tail(SHARD, 0, 5_000).await.unwrap().len(), 1000);
    let bodies = (1..=2_100).map(|seq| plain(id, epoch, seq, 1).entry.body.len() as u64);
    assert_eq!(journal.bytes(&tenant(), id).await.unwrap(), bodies.sum::<u64>());
}

pub async fn an_entry_that_does_not_continue_its_run_is_refused_with_all_of_its_append(
    journal: &impl Journal,
) {
    let (epoch, other) = (claim(journal, SHARD).await, claim(journal, Shard(8)).await);
    let (a, b) = (run(SHARD, 1), run(Shard(8), 2));
    add(journal, SHARD, epoch, vec![plain(a, epoch, 1, 3)]).await;
    let mut foreign = plain(a, epoch, 4, 1);
    foreign.entry.tenant = Tenant::new("other");
    let mut late_key = plain(a, epoch, 4, 1);
    late_key.key = Some(key("k", "c"));
    let mut wrong_row = plain(a, epoch, 4, 1);
    wrong_row.rows.push(Row::Run(row(b, "running")));
    for (bad, seq) in [
        (plain(a, epoch, 3, 1), 3),
        (plain(a, epoch, 5, 1), 5),
        (plain(a, epoch, 4, 0), 4),
        (plain(a, Epoch(epoch.0 + 1), 4, 1), 4),
        (plain(b, epoch, 1, 1), 1),
        (foreign, 4),
        (late_key, 4),
        (wrong_row, 4),
        (plain(run(SHARD, 3), epoch, 2, 1), 2),
        (plain(run(SHARD, 3), epoch, 0, 1), 0),
    ] {
        let good = Part { shard: Shard(8), epoch: other, runs: vec![first(b, other, "running")] };
        let runs = vec![plain(run(SHARD, 9), epoch, 1, 1), bad];
        let outcome = append(journal, vec![good, Part { shard: SHARD, epoch, runs }]).await;
        assert!(matches!(outcome, Err(Error::Corrupt { seq: at, .. }) if at == seq), "{outcome:?}");
    }
    assert_eq!(journal.tail(Shard(8), 0, 10).await.unwrap(), []);
    assert_eq!(journal.tail(SHARD, 0, 10).await.unwrap().len(), 1);
    assert_eq!(journal.run(&tenant(), b).await.unwrap(), None);
    add(journal, SHARD, epoch, vec![plain(a, epoch, 4, 1)]).await;
}

pub async fn a_stale_part_leaves_the_others_alone(journal: &impl Journal) {
    let old = claim(journal, SHARD).await;
    let epoch = claim(journal, SHARD).await;
    let other = claim(journal, Shard(8)).await;
    let part = |shard, epoch, n| {
        let runs = vec![first(run(shard, n), epoch, "running")];
        Part { shard, epoch, runs }
    };
    let parts = vec![part(SHARD, old, 1), part(Shard(8), other, 2), part(SHARD, epoch, 3)];
    let done = Settled::Done { left_out: Vec::new() };
    assert_eq!(append(journal, parts).await.unwrap(), [Settled::Stale, done.clone(), done]);
    assert_eq!(journal.run(&tenant(), run(SHARD, 1)).await.unwrap(), None);
    assert_eq!(journal.runs(&tenant(), &RunQuery::default()).await.unwrap().len(), 1);
    let all = RunQuery { limit: 10, ..RunQuery::default() };
    assert_eq!(journal.runs(&tenant(), &all).await.unwrap().len(), 2);
}

pub async fn a_submit_key_makes_one_run(journal: &impl Journal) {
    let (epoch, other) = (claim(journal, SHARD).await, claim(journal, Shard(8)).await);
    let submit = |shard, n, epoch, content| {
        let mut addition = first(run(shard, n), epoch, "running");
        addition.key = Some(key("order-1", content));
        addition
    };
    let twin = Twin { run: run(SHARD, 1), content: Digest::of(b"a"), pruned_at: None };
    let parts = vec![
        Part {
            shard: SHARD,
            epoch,
            runs: vec![submit(SHARD, 1, epoch, "a"), submit(SHARD, 2, epoch, "a")],
        },
        Part {
            shard: Shard(8),
            epoch: other,
            runs: vec![submit(Shard(8), 3, other, "b"), plain(run(Shard(8), 4), other, 1, 1)],
        },
    ];
    let settled = append(journal, parts).await.unwrap();
    let left_out = |at| Settled::Done { left_out: vec![(at, twin.clone())] };
    assert_eq!(settled, [left_out(1), left_out(0)]);
    assert_eq!(journal.submitted(&tenant(), "order-1").await.unwrap(), Some(twin.clone()));
    assert_eq!(journal.submitted(&tenant(), "order-2").await.unwrap(), None);
    // Asked again after an unknown outcome, a run is its own twin.
    let again = vec![Part { shard: SHARD, epoch, runs: vec![submit(SHARD, 1, epoch, "a")] }];
    assert_eq!(append(journal, again).await.unwrap(), [left_out(0)]);
    assert_eq!(journal.tail(SHARD, 0, 10).await.unwrap().len(), 1);
    assert_eq!(journal.tail(Shard(8), 0, 10).await.unwrap().len(), 1);
}

pub async fn a_run_that_is_left_out_leaves_no_rows(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let mut addition = first(run(SHARD, 1), epoch, "running");
    addition.key = Some(key("k", "c"));
    add(journal, SHARD, epoch, vec![addition]).await;
    let payload = Payload::new(Bytes::from_static(b"of the second"));
    let mut addition = first(run(SHARD, 2), epoch, "running");
    addition.key = Some(key("k", "c"));
    addition.rows.push(Row::Payload(payload.clone()));
    append(journal, vec![Part { shard: SHARD, epoch, runs: vec![addition] }]).await.unwrap();
    assert_eq!(journal.run(&tenant(), run(SHARD, 2)).await.unwrap(), None);
    assert!(journal.payload(&tenant(), payload.digest).await.unwrap().is_none());
    assert_eq!(journal.bytes(&tenant(), run(SHARD, 2)).await.unwrap(), 0);
}

pub async fn keys_and_runs_of_one_tenant_are_nothing_to_another(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let other = Tenant::new("other");
    let id = run(SHARD, 1);
    let mut addition = first(id, epoch, "running");
    addition.key = Some(key("k", "c"));
    add(journal, SHARD, epoch, vec![addition]).await;
    assert_eq!(journal.read(&other, id, 1).await.unwrap(), []);
    assert_eq!(journal.run(&other, id).await.unwrap(), None);
    assert_eq!(journal.submitted(&other, "k").await.unwrap(), None);
    assert_eq!(journal.bytes(&other, id).await.unwrap(), 0);
    assert_eq!(journal.ending_with(&other, "7", 9).await.unwrap(), []);
    assert_eq!(
        journal.runs(&other, &RunQuery { limit: 9, ..RunQuery::default() }).await.unwrap(),
        []
    );
    let mut addition = plain(run(SHARD, 2), epoch, 1, 1);
    addition.entry.tenant = other.clone();
    addition.key = Some(key("k", "c"));
    add(journal, SHARD, epoch, vec![addition]).await;
    assert_eq!(journal.submitted(&other, "k").await.unwrap().unwrap().run, run(SHARD, 2));
}

pub async fn the_list_of_runs_is_newest_first_in_pages(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let status = |n| if n % 3 == 0 { "failed" } else { "running" };
    let mut runs: Vec<_> = (1..=2_500).map(|n| first(run(SHARD, n), epoch, status(n))).collect();
    if let Some(Row::Run(row)) = runs[5].rows.first_mut() {
        row.workflow = "rare".into();
    }
    add(journal, SHARD, epoch, runs).await;
    let list = async |query: RunQuery| {
        let rows = journal.runs(&tenant(), &query).await.unwrap();
        rows.into_iter().map(|row| row.run).collect::<Vec<_>>()
    };
    let ids = |ns: &[u32]| ns.iter().map(|n| run(SHARD, *n)).collect::<Vec<_>>();
    let query = RunQuery { limit: 3, ..RunQuery::default() };
    assert_eq!(list(query.clone()).await, ids(&[2_500, 2_499, 2_498]));
    let before = Some(run(SHARD, 2_498));
    let next = RunQuery { before, ..query.clone() };
    assert_eq!(list(next.clone()).await, ids(&[2_497, 2_496, 2_495]));
    let failed = RunQuery { status: Some("failed".into()), ..next };
    assert_eq!(list(failed).await, ids(&[2_496, 2_493, 2_490]));
    let rare = RunQuery { workflow: Some("rare".into()), ..query.clone() };
    assert_eq!(list(rare).await, ids(&[6]));
    assert_eq!(list(RunQuery { limit: 9_999, ..query }).await.len(), 1000);
    // A later row takes the place of the one before.
    let mut ended = plain(run(SHARD, 1), epoch, 2, 1);
    ended.rows.push(Row::Run(row(run(SHARD, 1), "completed")));
    add(journal, SHARD, epoch, vec![ended]).await;
    let found = journal.run(&tenant(), run(SHARD, 1)).await.unwrap();
    assert_eq!(found, Some(row(run(SHARD, 1), "completed")));
}

pub async fn runs_are_found_by_the_end_of_their_ids(journal: &impl Journal) {
    let (epoch, other) = (claim(journal, SHARD).await, claim(journal, Shard(0x17)).await);
    let (a, b, c) = (run(SHARD, 1), run(SHARD, 2), run(Shard(0x17), 3));
    add(journal, SHARD, epoch, vec![first(a, epoch, "running"), first(b, epoch, "running")]).await;
    add(journal, Shard(0x17), other, vec![first(c, other, "running")]).await;
    let find =
        async |suffix: &str, limit| journal.ending_with(&tenant(), suffix, limit).await.unwrap();
    assert_eq!(find("07", 9).await, [b, a]);
    assert_eq!(find("07", 1).await, [b]);
    assert_eq!(find("7", 9).await, [c, b, a]);
    assert_eq!(find("x7", 9).await, []);
    for id in [a, b, c] {
        let text = id.to_string();
        assert_eq!(find(&text, 9).await, [id]);
        assert_eq!(find(&text[10..].to_uppercase(), 9).await, [id]);
    }
}

pub async fn open_runs_are_known_by_shard(journal: &impl Journal) {
    let (epoch, other) = (claim(journal, SHARD).await, claim(journal, Shard(8)).await);
    let runs = (1..=1_500).map(|n| first(run(SHARD, n), epoch, "running")).collect();
    add(journal, SHARD, epoch, runs).await;
    add(journal, Shard(8), other, vec![first(run(Shard(8), 1), other, "running")]).await;
    let mut ended = plain(run(SHARD, 1), epoch, 2, 1);
    ended.rows.push(Row::Run(row(run(SHARD, 1), "completed")));
    add(journal, SHARD, epoch, vec![ended, first(run(SHARD, 1_501), epoch, "failed")]).await;
    let counts = journal.open_counts().await.unwrap();
    assert_eq!(counts, [(SHARD, 1_499), (Shard(8), 1)]);
    let open = journal.open_runs(SHARD).await.unwrap();
    let expected: Vec<_> = (2..=1_500).map(|n| row(run(SHARD, n), "running")).collect();
    assert_eq!(open, expected);
    assert_eq!(journal.open_runs(Shard(9)).await.unwrap(), []);
}

pub async fn a_reference_needs_its_payload(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let payload = Payload::new(Bytes::from_static(b"a payload"));
    let refer = |n, len| {
        let mut addition = plain(run(SHARD, n), epoch, 1, 1);
        addition.rows.push(Row::Reference { digest: payload.digest, len });
        vec![Part { shard: SHARD, epoch, runs: vec![addition] }]
    };
    let missing = append(journal, refer(1, 9)).await;
    assert!(matches!(missing, Err(Error::Corrupt { .. })), "{missing:?}");
    let mut bringer = plain(run(SHARD, 2), epoch, 1, 1);
    bringer.rows.push(Row::Payload(payload.clone()));
    add(journal, SHARD, epoch, vec![bringer]).await;
    append(journal, refer(3, 9)).await.unwrap();
    let too_long = append(journal, refer(4, 10)).await;
    assert!(matches!(too_long, Err(Error::Corrupt { .. })), "{too_long:?}");
    assert_eq!(journal.tail(SHARD, 0, 9).await.unwrap().len(), 2);
}

pub async fn payloads_are_seen_through_references_alone(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let payload = Payload::new(Bytes::from_static(b"a secret of the first tenant"));
    let mut addition = plain(run(SHARD, 1), epoch, 1, 1);
    addition.rows.push(Row::Payload(payload.clone()));
    add(journal, SHARD, epoch, vec![addition]).await;
    let content = journal.payload(&tenant(), payload.digest).await.unwrap().unwrap();
    assert_eq!(bytes_of(content), payload.bytes);
    let other = Tenant::new("other");
    assert!(journal.payload(&other, payload.digest).await.unwrap().is_none());
    let mut thief = plain(run(SHARD, 2), epoch, 1, 1);
    thief.entry.tenant = other.clone();
    thief.rows.push(Row::Reference { digest: payload.digest, len: payload.bytes.len() as u64 });
    let outcome = append(journal, vec![Part { shard: SHARD, epoch, runs: vec![thief] }]).await;
    assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{outcome:?}");
    assert!(journal.payload(&other, payload.digest).await.unwrap().is_none());
}

pub async fn a_staged_payload_is_there_once_finished(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let mut whole = Vec::new();
    let mut staged = journal.stage().await.unwrap();
    for n in 0..40_u8 {
        let piece = vec![n; 64 << 10];
        whole.extend_from_slice(&piece);
        staged.write(piece.into()).await.unwrap();
    }
    let (digest, len) = staged.finish().await.unwrap();
    assert_eq!((digest, len), (Digest::of(&whole), whole.len() as u64));
    assert!(journal.payload(&tenant(), digest).await.unwrap().is_none(), "not referred to yet");
    let mut addition = plain(run(SHARD, 1), epoch, 1, 1);
    addition.rows.push(Row::Reference { digest, len });
    add(journal, SHARD, epoch, vec![addition]).await;
    let content = journal.payload(&tenant(), digest).await.unwrap().unwrap();
    assert!(bytes_of(content) == whole);
    let mut again = journal.stage().await.unwrap();
    again.write(whole.into()).await.unwrap();
    assert_eq!(again.finish().await.unwrap(), (digest, len));
}

pub async fn a_staged_payload_that_is_dropped_is_nothing(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let mut staged = journal.stage().await.unwrap();
    staged.write(Bytes::from_static(b"half of it")).await.unwrap();
    drop(staged);
    let mut addition = plain(run(SHARD, 1), epoch, 1, 1);
    addition.rows.push(Row::Reference { digest: Digest::of(b"half of it"), len: 10 });
    let outcome = append(journal, vec![Part { shard: SHARD, epoch, runs: vec![addition] }]).await;
    assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{outcome:?}");
}

pub async fn a_run_knows_how_many_bytes_it_takes(journal: &impl Journal) {
    let epoch = claim(journal, SHARD).await;
    let payload = Payload::new(vec![1; 5_000].into());
    let mut entries = [plain(run(SHARD, 1), epoch, 1, 1), plain(run(SHARD, 1), epoch, 2, 1)];
    for addition in &mut entries {
        addition.rows.push(Row::Payload(payload.clone()));
    }
    let bodies: usize = entries.iter().map(|addition| addition.entry.body.len()).sum();
    add(journal, SHARD, epoch, entries.into()).await;
    assert_eq!(journal.bytes(&tenant(), run(SHARD, 1)).await.unwrap(), bodies as u64 + 5_000);
    assert_eq!(journal.bytes(&tenant(), run(SHARD, 2)).await.unwrap(), 0);
}
