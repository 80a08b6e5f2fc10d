//! Whether a memory's file is as it should be, for somebody who changes nothing in it.

use std::path::Path;

use kapelle_core::port::agent::Failure;
use rusqlite::Connection;

use super::fault::Stop;
use super::tables;
use super::write::digest;

/// How closely a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Whether it can be opened: a moment's work.
    Outside,
    /// To its last byte: that the database is whole, and each entry what was stored.
    Whole,
}

/// How many entries the memory at `path` has; `None` if there is no file. What is wrong with it is
/// told as to a step: the message ends with what to do. Blocks.
pub fn look(path: &Path, depth: Depth) -> Result<Option<u64>, Failure> {
    if !std::fs::metadata(path).is_ok_and(|found| found.len() > 0) {
        return Ok(None);
    }
    let entries = tables::open_looker(path).and_then(|conn| entries(&conn, depth));
    entries.map(Some).map_err(|stop| stop.tell(&path.display().to_string()))
}

fn entries(conn: &Connection, depth: Depth) -> Result<u64, Stop> {
    tables::check_level(conn)?;
    let count = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    // Whoever was about to make it ended before: the next one does.
    if count("SELECT count(*) FROM sqlite_schema")? == 0 {
        return Ok(0);
    }
    let entries = count("SELECT coalesce(sum(entries), 0) FROM space")?;
    if depth == Depth::Whole {
        check_all(conn)?;
    }
    u64::try_from(entries).map_err(|_| Stop::Damaged("it has less than no entries".into()))
}

fn check_all(conn: &Connection) -> Result<(), Stop> {
    let said: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        return Err(Stop::Damaged(said));
    }
    let mut all = conn.prepare("SELECT id, text, source, title, digest FROM entry")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let (text, source, title): (String, Option<String>, Option<String>) =
            (row.get(1)?, row.get(2)?, row.get(3)?);
        let kept: Vec<u8> = row.get(4)?;
        if kept != digest(&text, source.as_deref(), title.as_deref()).as_bytes() {
            return Err(Stop::Damaged(format!("entry {id} is not what was stored")));
        }
    }
    Ok(())
}
