//! Storing and forgetting.
//!
//! **Invariant:** an entry is known by the key of the call that stores it and its number in it:
//! whoever stores it again finds that it is there.

use kapelle_core::port::agent::{Failure, FailureKind};
use kapelle_core::{Digest, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::fault::Stop;
use super::features::{LEN, features};
use super::input::{Forget, Given, Of, Store, Which};
use super::stems::Stems;
use crate::text::Terms;

/// How many entries that are over go with one write. No call stores as many.
const FREED_MAX: u32 = 1000;

/// What is stored, with all that can be worked out before the file is locked.
pub(super) struct Prepared<'a> {
    store: &'a Store,
    at: Timestamp,
    expires: Timestamp,
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    given: &'a Given,
    language: &'static str,
    stems: String,
    features: [u8; LEN],
    digest: Digest,
}

/// Reads the texts that are to be stored.
pub(super) fn prepare(store: &Store, now: Timestamp) -> Prepared<'_> {
    let mut terms = Terms::default();
    let entries = store.entries.iter().map(|given| entry(given, &mut terms)).collect();
    let expires = store.ttl.map_or(Timestamp(i64::MAX), |ttl| now.after(ttl.0));
    Prepared { store, at: now, expires, entries }
}

fn entry<'a>(given: &'a Given, terms: &mut Terms) -> Entry<'a> {
    let title = given.title.as_deref().unwrap_or_default();
    let text = format!("{title}\n{}", given.text);
    let stems = Stems::of(&text, given.language.as_deref(), terms);
    Entry {
        given,
        language: stems.language.code(),
        features: features(stems.all.iter().map(String::as_str)),
        stems: stems.all.join(" "),
        digest: digest(&given.text, given.source.as_deref(), given.title.as_deref()),
    }
}

/// What an entry is checked against when it is read, and by which equal ones are known.
pub(super) fn digest(text: &str, source: Option<&str>, title: Option<&str>) -> Digest {
    let all = serde_json::to_vec(&(text, source, title)).expect("texts are JSON");
    Digest::of(&all)
}

/// Removes entries that are over by `now`, the oldest first.
pub(super) fn free(conn: &Connection, now: Timestamp) -> Result<(), Stop> {
    let mut statement = conn.prepare_cached(
        "DELETE FROM entry WHERE id IN
            (SELECT id FROM entry WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
    )?;
    statement.execute(params![now.0, FREED_MAX])?;
    Ok(())
}

/// Stores what is not there yet; the numbers of all.
pub(super) fn store(
    conn: &Connection,
    prepared: &Prepared<'_>,
    entries_max: u32,
) -> Result<Vec<i64>, Stop> {
    if prepared.entries.is_empty() {
        return Ok(Vec::new());
    }
    let space = make_space(conn, &prepared.store.of)?;
    let (mut ids, mut is_new) = (Vec::with_capacity(prepared.entries.len()), false);
    for (n, entry) in (0..).zip(&prepared.entries) {
        let (id, new) = insert(conn, space, prepared, n, entry)?;
        is_new |= new;
        ids.push(id);
    }
    let all: u32 =
        conn.query_row("SELECT entries FROM space WHERE id = ?1", [space], |row| row.get(0))?;
    if is_new && all > entries_max {
        let namespace = &prepared.store.of.namespace;
        let message = format!(
            "the namespace `{namespace}` would have {all} entries, over {entries_max}: forget \
             some, or store with a `ttl`"
        );
        let failure = Failure::new(FailureKind::Refused, "memory_full", message);
        return Err(Stop::Refused(failure));
    }
    Ok(ids)
}

/// The number of an entry, and whether it is new.
fn insert(
    conn: &Connection,
    space: i64,
    prepared: &Prepared<'_>,
    n: u32,
    entry: &Entry<'_>,
) -> Result<(i64, bool), Stop> {
    let Prepared { store, at, expires, .. } = prepared;
    let (author, given, trust) = (&store.author, entry.given, store.trust.number());
    let mut statement = conn.prepare_cached(
        "INSERT INTO entry (space, expires, trust, at, key, n, run, workflow, step, digest, source,
                            title, text)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (key, n) DO NOTHING",
    )?;
    let inserted = statement.execute(params![
        space,
        expires.0,
        trust,
        at.0,
        author.key,
        n,
        author.run,
        author.workflow,
        author.step,
        entry.digest.as_bytes(),
        given.source,
        given.title,
        given.text,
    ])?;
    if inserted == 0 {
        let mut known = conn.prepare_cached("SELECT id FROM entry WHERE key = ?1 AND n = ?2")?;
        let id = known.query_row(params![author.key, n], |row| row.get(0))?;
        return Ok((id, false));
    }
    let id = conn.last_insert_rowid();
    let place = place(space, id);
    conn.prepare_cached("INSERT INTO words (rowid, stems) VALUES (?1, ?2)")?
        .execute(params![place, entry.stems])?;
    conn.prepare_cached("INSERT INTO vector VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        place,
        expires.0,
        trust,
        entry.features
    ])?;
    conn.prepare_cached("INSERT INTO language VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![space, entry.language])?;
    Ok((id, true))
}

/// The number of an entry's words and of its vector: those of a namespace are side by side.
pub(super) const fn place(space: i64, entry: i64) -> i64 {
    space << 40 | entry
}

/// The number of a namespace; `None` if there is nothing in it.
pub(super) fn space(conn: &Connection, of: &Of) -> Result<Option<i64>, Stop> {
    let mut statement =
        conn.prepare_cached("SELECT id FROM space WHERE tenant = ?1 AND name = ?2")?;
    Ok(statement.query_row(params![of.tenant, of.namespace], |row| row.get(0)).optional()?)
}

fn make_space(conn: &Connection, of: &Of) -> Result<i64, Stop> {
    if let Some(known) = space(conn, of)? {
        return Ok(known);
    }
    conn.prepare_cached("INSERT INTO space (tenant, name) VALUES (?1, ?2)")?
        .execute(params![of.tenant, of.namespace])?;
    Ok(conn.last_insert_rowid())
}

/// Removes what is to be forgotten; how many entries that were.
pub(super) fn forget(conn: &Connection, forget: &Forget) -> Result<usize, Stop> {
    let Some(space) = space(conn, &forget.of)? else { return Ok(0) };
    let all = "DELETE FROM entry WHERE space = ?1";
    let forgotten = match &forget.which {
        Which::All => conn.execute(all, params![space])?,
        Which::Run(run) => conn.execute(&format!("{all} AND run = ?2"), params![space, run])?,
        Which::Source(source) => {
            conn.execute(&format!("{all} AND source = ?2"), params![space, source])?
        }
        Which::Ids(ids) => {
            let mut statement =
                conn.prepare_cached("DELETE FROM entry WHERE id = ?2 AND space = ?1")?;
            ids.iter().map(|id| statement.execute(params![space, id])).sum::<Result<_, _>>()?
        }
    };
    Ok(forgotten)
}
