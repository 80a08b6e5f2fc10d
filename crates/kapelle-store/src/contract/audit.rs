//! What is promised of the audit log.

use kapelle_core::port::Journal;
use kapelle_core::port::audit::{Audit, Noted};
use kapelle_core::port::journal::{Part, Row, Settled, SubmitKey};
use kapelle_core::{Digest, Shard, Tenant};

use super::{append, claim, first, run, tenant};

pub async fn what_is_noted_is_chained_and_told_newest_first(log: &impl Audit) {
    assert_eq!(log.notes(&tenant(), None, 10).await.unwrap(), []);
    let mut wanted = Vec::new();
    let mut last = (0, [0; 32]);
    for n in 1..=5 {
        let body = format!("{{\"n\":{n}}}").into_boxed_str();
        log.note(&tenant(), body.clone()).await.unwrap();
        let noted = Noted::after((last.0, &last.1), tenant(), body);
        last = (noted.seq, noted.hash);
        wanted.insert(0, noted);
    }
    assert_eq!(log.notes(&tenant(), None, 10).await.unwrap(), wanted);
    assert_eq!(log.notes(&tenant(), None, 2).await.unwrap(), wanted[..2]);
    assert_eq!(log.notes(&tenant(), Some(4), 10).await.unwrap(), wanted[2..]);
    assert!(wanted[0].follows((4, &wanted[1].hash)));
    let other = Noted { body: "{}".into(), ..wanted[0].clone() };
    assert!(!other.follows((4, &wanted[1].hash)) && !wanted[0].follows((3, &wanted[1].hash)));
}

pub async fn notes_of_one_tenant_are_nothing_to_another(log: &impl Audit) {
    let other = Tenant::new("other");
    log.note(&tenant(), "ours".into()).await.unwrap();
    log.note(&other, "theirs".into()).await.unwrap();
    log.note(&tenant(), "ours again".into()).await.unwrap();
    let ours = log.notes(&tenant(), None, 10).await.unwrap();
    let theirs = log.notes(&other, None, 10).await.unwrap();
    assert_eq!(ours.iter().map(|noted| noted.seq).collect::<Vec<_>>(), [3, 1]);
    assert_eq!((theirs.len(), &*theirs[0].body), (1, "theirs"));
    // The chain is one.
    assert!(theirs[0].follows((1, &ours[1].hash)) && ours[0].follows((2, &theirs[0].hash)));
}

pub async fn a_note_is_on_disk_with_its_entry_or_not_at_all(store: &(impl Journal + Audit)) {
    let shard = Shard(3);
    let epoch = claim(store, shard).await;
    let submit = |n: u32| {
        let mut first = first(run(shard, n), epoch, "running");
        first.key = Some(SubmitKey { key: "once".into(), content: Digest::of(b"same") });
        first.rows.push(Row::Note(format!("made {n}").into()));
        vec![Part { shard, epoch, runs: vec![first] }]
    };
    store.note(&tenant(), "before".into()).await.unwrap();
    append(store, submit(1)).await.unwrap();
    let twin = append(store, submit(2)).await.unwrap();
    assert!(matches!(&twin[..], [Settled::Done { left_out }] if left_out.len() == 1), "{twin:?}");
    let mut wrong = submit(3);
    wrong[0].runs[0].entry.count = 0;
    wrong[0].runs[0].key = None;
    append(store, wrong).await.unwrap_err();
    store.note(&tenant(), "after".into()).await.unwrap();
    let noted = store.notes(&tenant(), None, 10).await.unwrap();
    let bodies: Vec<_> = noted.iter().map(|noted| &*noted.body).collect();
    assert_eq!(bodies, ["after", "made 1", "before"]);
    assert!(noted[0].follows((2, &noted[1].hash)) && noted[1].follows((1, &noted[2].hash)));
}
