//! What every journal checks of an addition before it is written, the same for all adapters.

use kapelle_core::port::journal::{Addition, Error, History, Part, Row, RunQuery, RunRow};
use kapelle_core::{Digest, RunId, Tenant};

/// The end of a run as a store knows it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) tenant: Tenant,
    /// The number of its last event.
    pub(crate) seq: u64,
}

/// Whether `addition` may follow `head` in `part`; payloads are not looked at.
pub(crate) fn addition(part: &Part, addition: &Addition, head: Option<&Head>) -> Result<(), Error> {
    let entry = &addition.entry;
    let after = head.map_or(0, |head| head.seq);
    let wrong = if entry.run.shard() != part.shard {
        "its run belongs to another shard"
    } else if entry.epoch != part.epoch {
        "it was made under another epoch"
    } else if entry.count == 0 {
        "it holds no event"
    } else if entry.first_seq != after + 1 {
        "it does not continue its run"
    } else if head.is_some_and(|head| head.tenant != entry.tenant) {
        "its run belongs to another tenant"
    } else if addition.key.is_some() && entry.first_seq != 1 {
        "only a run's first entry has a submit key"
    } else if !addition.rows.iter().all(|row| belongs(row, entry.run, &entry.tenant)) {
        "a row of it belongs to another run"
    } else {
        return Ok(());
    };
    Err(corrupt(addition, wrong))
}

fn belongs(row: &Row, run: RunId, tenant: &Tenant) -> bool {
    match row {
        Row::Run(row) => row.run == run && row.tenant == *tenant,
        Row::Payload(_) | Row::Reference { .. } | Row::Note(_) => true,
    }
}

/// The refusal of an addition that is a bug of the caller.
pub(crate) fn corrupt(addition: &Addition, message: impl Into<String>) -> Error {
    let entry = &addition.entry;
    Error::Corrupt { run: entry.run, seq: entry.first_seq, message: message.into().into() }
}

/// Whether a run is all there, as its chain says, and has ended.
pub(crate) fn history(history: &History) -> Result<(), Error> {
    let History { entries, row, rows: _ } = history;
    let (mut next, mut hash) = (1, [0; 32]);
    for entry in entries {
        let is_its = entry.run == row.run && entry.tenant == row.tenant;
        let follows =
            entry.first_seq == next && entry.count > 0 && entry.chained(&hash) == entry.hash;
        if !is_its || !follows {
            return Err(not_whole(row.run, next, "it does not continue its run"));
        }
        (next, hash) = (next + u64::from(entry.count), entry.hash);
    }
    if entries.is_empty() || row.open {
        return Err(not_whole(row.run, next, "its run has not ended"));
    }
    Ok(())
}

fn not_whole(run: RunId, seq: u64, message: &str) -> Error {
    Error::Corrupt { run, seq, message: message.into() }
}

/// The refusal of an addition that refers to a payload that is not there.
pub(crate) fn missing(addition: &Addition, digest: Digest, len: u64) -> Error {
    corrupt(addition, format!("it refers to `{digest}` of {len} bytes, which is not in the store"))
}

/// Whether the list of runs that `query` asks for shows `row`; its place and its tenant aside.
pub(crate) fn wanted(row: &RunRow, query: &RunQuery) -> bool {
    query.status.as_ref().is_none_or(|status| row.status == *status)
        && query.workflow.as_ref().is_none_or(|workflow| row.workflow == *workflow)
}

/// Whether the id of `run` ends with `suffix`, as people abbreviate it.
pub(crate) fn ends_with(run: RunId, suffix: &str) -> bool {
    let digits = |text: &str| text.to_ascii_lowercase().replace('-', "");
    digits(&run.to_string()).ends_with(&digits(suffix))
}
