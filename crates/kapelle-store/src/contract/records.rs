//! What is promised of records.

use kapelle_core::Tenant;
use kapelle_core::port::record::{RECORDS_MAX, Record, Records};
use serde_json::json;

use super::tenant;

fn named(id: &str, version: u64) -> Record {
    let (kind, id) = ("key".into(), id.into());
    Record { tenant: tenant(), kind, id, version, body: json!({ "says": version }) }
}

async fn names(records: &impl Records, after: &str) -> Vec<String> {
    let found = records.records(&tenant(), "key", after).await.unwrap();
    found.into_iter().map(|record| record.id.into()).collect()
}

pub async fn a_record_takes_the_place_of_the_one_that_was_seen(records: &impl Records) {
    assert!(records.put_record(named("a", 0)).await.unwrap());
    assert!(!records.put_record(named("a", 0)).await.unwrap());
    assert!(!records.put_record(named("a", 2)).await.unwrap());
    assert!(records.put_record(named("a", 1)).await.unwrap());
    assert!(!records.put_record(named("b", 1)).await.unwrap());
    let kept = records.record(&tenant(), "key", "a").await.unwrap().unwrap();
    assert_eq!(kept, Record { version: 2, ..named("a", 1) });
    assert!(records.remove_record(&tenant(), "key", "a").await.unwrap());
    assert!(!records.remove_record(&tenant(), "key", "a").await.unwrap());
    assert_eq!(records.record(&tenant(), "key", "a").await.unwrap(), None);
    assert!(records.put_record(named("a", 0)).await.unwrap());
}

pub async fn records_are_told_by_name_in_pages(records: &impl Records) {
    for n in 0..=RECORDS_MAX {
        assert!(records.put_record(named(&format!("{n:04}"), 0)).await.unwrap());
    }
    let first = names(records, "").await;
    assert_eq!((first.len(), first[0].as_str()), (RECORDS_MAX, "0000"));
    assert_eq!(names(records, &first[RECORDS_MAX - 1]).await, ["1000"]);
}

pub async fn records_of_one_tenant_are_nothing_to_another(records: &impl Records) {
    let other = Tenant::new("other");
    assert!(records.put_record(named("a", 0)).await.unwrap());
    assert_eq!(records.record(&other, "key", "a").await.unwrap(), None);
    assert_eq!(records.records(&other, "key", "").await.unwrap(), []);
    assert!(!records.remove_record(&other, "key", "a").await.unwrap());
    let theirs = Record { tenant: other.clone(), ..named("a", 0) };
    assert!(records.put_record(theirs).await.unwrap());
    assert!(records.remove_record(&other, "key", "a").await.unwrap());
    // Nor are those of one kind something to another.
    assert_eq!(records.record(&tenant(), "agent", "a").await.unwrap(), None);
    assert_eq!(names(records, "").await, ["a"]);
}
