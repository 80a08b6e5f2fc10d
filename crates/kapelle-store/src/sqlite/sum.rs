//! Checksums of rows whose content nothing else vouches for: lines of the list, submit keys,
//! references, accounts, records and shards have a sum. Entries have their chain, and payloads their digest.
//!
//! **Invariant:** a row whose sum is wrong is never an answer.

use kapelle_core::Digester;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Row};

/// Teaches `conn` the SQL function `row_sum(column, …)`.
pub(super) fn register(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("row_sum", -1, flags, |row| Ok(sum(row)))
}

fn sum(row: &Context<'_>) -> i64 {
    let mut digester = Digester::default();
    for column in 0..row.len() {
        let mut add = |kind: &[u8; 1], bytes: &[u8]| {
            digester.update(kind);
            digester.update(&(bytes.len() as u64).to_le_bytes());
            digester.update(bytes);
        };
        match row.get_raw(column) {
            ValueRef::Null => add(b"n", &[]),
            ValueRef::Integer(number) => add(b"i", &number.to_le_bytes()),
            ValueRef::Real(number) => add(b"r", &number.to_le_bytes()),
            ValueRef::Text(text) => add(b"t", text),
            ValueRef::Blob(bytes) => add(b"b", bytes),
        }
    }
    let digest = digester.finish();
    let (first, _) = digest.as_bytes().split_first_chunk().expect("there are 32 bytes");
    i64::from_le_bytes(*first)
}

/// The columns of a table that its sums are over, and the comparison, which must be true.
pub(super) const SHARD: &str = "sum = row_sum(shard, epoch, owner)";
pub(super) const SUBMIT: &str = "sum = row_sum(tenant, key, run, content, pruned_at)";
pub(super) const PRUNED: &str = "sum = row_sum(place, pos)";
pub(super) const RUN: &str = "sum = row_sum(tenant, run, shard, workflow, task_id, status, open,
     created_at, updated_at, ended_at)";
pub(super) const ACCOUNT: &str = "sum = row_sum(tenant, account, day, tokens, nanos, unpriced, ms)";
pub(super) const GRANT: &str =
    "sum = row_sum(tenant, account, run, step, attempt, ordinal, day, tokens,
     nanos, unpriced, ms)";
pub(super) const RECORD: &str = "sum = row_sum(tenant, kind, id, version, body)";
pub(super) const REFERENCE: &str = "sum = row_sum(digest, tenant, run, len)";

/// Refuses a row whose comparison, at `index`, says no.
pub(super) fn check(row: &Row<'_>, index: usize, what: &str) -> rusqlite::Result<()> {
    if row.get_ref(index)? == ValueRef::Integer(1) { Ok(()) } else { Err(wrong(index, what)) }
}

/// The error that `what`, read from the column `index`, is wrong.
pub(super) fn wrong(index: usize, what: &str) -> rusqlite::Error {
    let why = format!("{what} is not what was written");
    rusqlite::Error::FromSqlConversionFailure(index, Type::Integer, why.into())
}
