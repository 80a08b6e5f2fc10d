//! What every journal promises, as tests: `journal_contract!` runs them against an adapter.
//!
//! [`journal_contract!`](crate::journal_contract) takes an async closure that makes an empty
//! journal, or what dereferences to one. What only a journal on disk promises (reopening, levels) is tested where it is made.
//! `compare` is the other half: two adapters, one random history, equal answers.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "these are tests, and their names say what they test"
)]

pub mod accounts;
mod audit;
pub mod compare;
mod importing;
mod promises;
mod pruning;
mod records;

use std::io::Read as _;

use bytes::Bytes;
use kapelle_core::port::journal::{
    Addition, Content, Entry, Error, Journal, LEVEL, Part, Row, RunRow, Settled, SubmitKey,
};
use kapelle_core::{Digest, Epoch, NodeId, RunId, Shard, Tenant, Timestamp};
use tokio::sync::oneshot;

pub use accounts::*;
pub use audit::*;
pub use importing::*;
pub use promises::*;
pub use pruning::*;
pub use records::*;

/// Makes a test of every promise of a journal, run against what the async closure makes.
#[macro_export]
macro_rules! journal_contract {
    ($make:expr) => {
        $crate::journal_contract!(@ $make,
            a_claimed_shard_has_an_owner_and_a_new_epoch,
            a_claim_of_what_another_has_claimed_wins_nothing,
            a_new_claim_fences_the_old_writer,
            a_released_shard_takes_no_appends,
            a_late_release_harms_no_new_owner,
            entries_come_back_as_they_were_written,
            hash_chains_hold_after_a_round_trip,
            an_idle_caller_is_told_the_same,
            positions_have_no_gaps,
            reading_starts_at_the_entry_that_holds_the_event,
            pages_hold_a_thousand_entries,
            an_entry_that_does_not_continue_its_run_is_refused_with_all_of_its_append,
            a_stale_part_leaves_the_others_alone,
            a_submit_key_makes_one_run,
            a_run_that_is_left_out_leaves_no_rows,
            keys_and_runs_of_one_tenant_are_nothing_to_another,
            the_list_of_runs_is_newest_first_in_pages,
            runs_are_found_by_the_end_of_their_ids,
            open_runs_are_known_by_shard,
            a_reference_needs_its_payload,
            payloads_are_seen_through_references_alone,
            a_staged_payload_is_there_once_finished,
            a_staged_payload_that_is_dropped_is_nothing,
            a_run_knows_how_many_bytes_it_takes,
            a_run_that_is_pruned_goes_with_all_that_is_its_own,
            what_has_not_ended_is_not_pruned,
            a_pruned_run_keeps_its_key_for_thirty_days,
            positions_of_pruned_entries_are_not_given_again,
            a_run_is_taken_in_as_it_is_whoever_owns_its_shard,
            what_is_no_whole_run_is_not_taken_in,
            a_call_is_granted_what_it_may_use_once,
            a_call_is_granted_by_all_accounts_or_by_none,
            time_that_calls_took_counts_as_well,
            what_was_used_takes_the_place_of_a_grant_once,
            a_limit_counts_what_is_spent_in_its_time,
            accounts_of_one_tenant_are_nothing_to_another,
            all_who_ask_at_once_stay_within_the_limit,
            a_record_takes_the_place_of_the_one_that_was_seen,
            records_are_told_by_name_in_pages,
            records_of_one_tenant_are_nothing_to_another,
            what_is_noted_is_chained_and_told_newest_first,
            notes_of_one_tenant_are_nothing_to_another,
            a_note_is_on_disk_with_its_entry_or_not_at_all,
        );
    };
    (@ $make:expr, $($promise:ident,)*) => {
        mod contract {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() {
                    let make = $make;
                    $crate::contract::$promise(&*make().await).await;
                }
            )*
        }
    };
}

/// The tenant of most tests.
pub fn tenant() -> Tenant {
    Tenant::default()
}

/// The `n`-th run of a shard; later ones are newer.
pub fn run(shard: Shard, n: u32) -> RunId {
    let mut random = [0; 10];
    random[4..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
    RunId::new(Timestamp(1_700_000_000_000_000 + i64::from(n) * 1_000), random, shard)
}

/// Claims one shard, whoever has it.
pub async fn claim(journal: &impl Journal, shard: Shard) -> Epoch {
    let seen = journal.shards().await.unwrap()[usize::from(shard.0)].epoch;
    let won = journal.claim(&[(shard, seen)], &NodeId::new("me")).await.unwrap();
    assert_eq!(won.len(), 1, "nobody else claims");
    won[0].1
}

/// An entry of `count` events from `first_seq` on that follows the one with the hash `previous`.
pub fn entry(
    run: RunId,
    epoch: Epoch,
    (first_seq, count): (u64, u32),
    previous: &[u8; 32],
) -> Entry {
    let mut entry = Entry {
        tenant: tenant(),
        run,
        first_seq,
        count,
        at: Timestamp(1_700_000_000_000_000 + i64::try_from(first_seq).unwrap()),
        epoch,
        level: LEVEL,
        body: Bytes::from(format!("[{{\"seq\":{first_seq},\"count\":{count}}}]")),
        hash: [0; 32],
    };
    entry.hash = entry.chained(previous);
    entry
}

/// An addition without rows: `count` events from `first_seq` on.
pub fn plain(run: RunId, epoch: Epoch, first_seq: u64, count: u32) -> Addition {
    let entry = entry(run, epoch, (first_seq, count), &[0; 32]);
    Addition { key: None, entry, rows: Vec::new() }
}

/// A run's first entry with its line in the list.
pub fn first(run: RunId, epoch: Epoch, status: &str) -> Addition {
    let mut addition = plain(run, epoch, 1, 1);
    addition.rows.push(Row::Run(row(run, status)));
    addition
}

/// A run's line in the list; open while its status is `running`.
pub fn row(run: RunId, status: &str) -> RunRow {
    let open = status == "running";
    RunRow {
        tenant: tenant(),
        run,
        workflow: "flow".into(),
        task_id: None,
        status: status.into(),
        open,
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
        ended_at: (!open).then_some(Timestamp(3)),
    }
}

/// A submit key for what has this content.
pub fn key(key: &str, content: &str) -> SubmitKey {
    SubmitKey { key: key.into(), content: Digest::of(content.as_bytes()) }
}

/// Appends and waits for the end.
pub async fn append(journal: &impl Journal, parts: Vec<Part>) -> Result<Vec<Settled>, Error> {
    let (settled, outcome) = oneshot::channel();
    journal.append(parts, Box::new(move |outcome| drop(settled.send(outcome))));
    outcome.await.expect("every append is settled")
}

/// As [`append`], by a caller who has nothing else to do.
pub async fn append_here(journal: &impl Journal, parts: Vec<Part>) -> Result<Vec<Settled>, Error> {
    let (settled, outcome) = oneshot::channel();
    journal.append_here(parts, Box::new(move |outcome| drop(settled.send(outcome))));
    outcome.await.expect("every append is settled")
}

/// Appends to one shard and expects it to be done but for what is left out.
pub async fn add(journal: &impl Journal, shard: Shard, epoch: Epoch, runs: Vec<Addition>) {
    let settled = append(journal, vec![Part { shard, epoch, runs }]).await.unwrap();
    assert_eq!(settled, [Settled::Done { left_out: Vec::new() }]);
}

/// The whole content.
pub fn bytes_of(mut content: Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    content.reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, content.len);
    bytes
}
