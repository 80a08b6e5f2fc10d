//! What becomes of an audit log that somebody has changed.

use kapelle_core::port::audit::Audit as _;

use super::*;

async fn noted(count: u64) -> Stored {
    let stored = Stored::new();
    for n in 1..=count {
        stored.note(&tenant(), format!("{{\"n\":{n}}}").into()).await.unwrap();
    }
    stored
}

/// What a walk finds after `sql` was done by hand: how many entries are in order, and the fault.
async fn found(sql: &str) -> (u64, String) {
    let mut stored = noted(5).await;
    let whole = stored.audit(None).await.unwrap();
    assert_eq!((whole.entries, &whole.fault), (5, &None));
    stored.store = None;
    stored.tamper(sql);
    let audited = Sqlite::inspect(stored.dir.path()).unwrap().unwrap().audit(None).await.unwrap();
    (audited.entries, audited.fault.unwrap_or_default())
}

#[tokio::test]
async fn a_changed_entry_of_the_audit_log_is_named() {
    let not = |n: u64| (n - 1, format!("audit entry {n} is not what was noted"));
    assert_eq!(found("UPDATE audit SET body = '{\"n\":9}' WHERE seq = 3").await, not(3));
    assert_eq!(found("UPDATE audit SET tenant = 'other' WHERE seq = 1").await, not(1));
    assert_eq!(found("UPDATE audit SET hash = zeroblob(32) WHERE seq = 4").await, not(4));
    assert_eq!(found("UPDATE audit SET hash = x'00' WHERE seq = 2").await, not(2));
    let swapped = "UPDATE audit SET seq = 9 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;
                   UPDATE audit SET seq = 3 WHERE seq = 9";
    assert_eq!(found(swapped).await, not(2));
}

#[tokio::test]
async fn a_removed_entry_of_the_audit_log_is_named() {
    let gap = "audit entry 3 is missing: entry 4 comes next".to_owned();
    assert_eq!(found("DELETE FROM audit WHERE seq = 3").await, (2, gap));
    let lost =
        |n: u64| (n, format!("what was noted is missing: the audit log ends with entry {n} of 5"));
    assert_eq!(found("DELETE FROM audit WHERE seq > 3").await, lost(3));
    assert_eq!(found("DELETE FROM audit").await, lost(0));
    let added = "INSERT INTO audit SELECT 6, tenant, hash, body FROM audit WHERE seq = 5";
    assert_eq!(found(added).await, (5, "audit entry 6 is not what was noted".to_owned()));
}

#[tokio::test]
async fn a_store_whose_audit_log_lost_its_end_is_not_gone_on_with() {
    let mut stored = noted(3).await;
    stored.store = None;
    stored.tamper("DELETE FROM audit WHERE seq = 3");
    let refused = refusal(stored.dir.path()).to_string();
    assert!(refused.contains("the audit log ends with entry 2 of 3"), "{refused}");
}

#[tokio::test]
async fn a_log_that_was_chained_anew_is_found_by_a_hash_that_was_kept_elsewhere() {
    let mut stored = noted(3).await;
    let kept = stored.audit(None).await.unwrap();
    stored.note(&tenant(), "{}".into()).await.unwrap();
    let kept = Some((kept.entries, kept.hash));
    assert_eq!(stored.audit(kept).await.unwrap().fault, None);
    let missing = stored.audit(Some((9, [1; 32]))).await.unwrap().fault.unwrap();
    assert!(missing.contains("entry 9") && missing.contains("entry 4 is the last"), "{missing}");
    // All of it is written again, in order, as if nothing had been noted before.
    stored.store = None;
    stored.tamper("DELETE FROM audit");
    fs::remove_file(stored.dir.path().join("ends")).unwrap();
    stored.reopen();
    for n in 1..=4 {
        stored.note(&tenant(), format!("{{\"other\":{n}}}").into()).await.unwrap();
    }
    assert_eq!(stored.audit(None).await.unwrap().fault, None);
    let told = stored.audit(kept).await.unwrap().fault.unwrap();
    assert_eq!(told, "audit entry 3 is not the one whose hash was kept elsewhere");
}
