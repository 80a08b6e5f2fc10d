//! The tables, how they come to be, and how a connection to them is opened.
//!
//! **Invariants:** a file of a newer level, of another application, or that is no database is left
//! as it is, byte for byte. An entry, its words and its vector come and go together (triggers). The
//! number of an entry is never given again.
//!
//! A new level is a new text at the end of [`LEVELS`]; those before are never changed.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::fault::Stop;

/// What makes a file of the level before one of the next, the first from nothing.
///
/// `words` has no text of its own, only an index of stems. Its rowid, as a vector's, is the entry's
/// place, `space << 40 | entry`: all of a namespace are one stretch, which a search reads and no more.
/// A namespace's `state` is another one after each change, in any file: what was read under it holds.
const LEVELS: &[&str] = &["
CREATE TABLE space (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    entries INTEGER NOT NULL DEFAULT 0,
    state INTEGER NOT NULL DEFAULT (random()),
    UNIQUE (tenant, name)
) STRICT;
CREATE TABLE language (
    space INTEGER NOT NULL,
    code TEXT NOT NULL,
    PRIMARY KEY (space, code)
) STRICT, WITHOUT ROWID;
CREATE TABLE entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    space INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    trust INTEGER NOT NULL,
    at INTEGER NOT NULL,
    key TEXT NOT NULL,
    n INTEGER NOT NULL,
    run TEXT NOT NULL,
    workflow TEXT NOT NULL,
    step TEXT NOT NULL,
    digest BLOB NOT NULL,
    source TEXT,
    title TEXT,
    text TEXT NOT NULL,
    UNIQUE (key, n)
) STRICT;
CREATE INDEX entry_space ON entry (space);
CREATE INDEX entry_expires ON entry (expires);
CREATE TABLE vector (
    id INTEGER PRIMARY KEY,
    expires INTEGER NOT NULL,
    trust INTEGER NOT NULL,
    features BLOB NOT NULL
) STRICT;
CREATE VIRTUAL TABLE words USING fts5(
    stems, content = '', contentless_delete = 1, tokenize = 'ascii'
);
CREATE TRIGGER entry_stored AFTER INSERT ON entry BEGIN
    UPDATE space SET entries = entries + 1, state = random() WHERE id = new.space;
END;
CREATE TRIGGER entry_gone AFTER DELETE ON entry BEGIN
    DELETE FROM words WHERE rowid = old.space << 40 | old.id;
    DELETE FROM vector WHERE id = old.space << 40 | old.id;
    UPDATE space SET entries = entries - 1, state = random() WHERE id = old.space;
END;
CREATE TRIGGER space_empty AFTER UPDATE ON space WHEN new.entries = 0 BEGIN
    DELETE FROM language WHERE space = old.id;
    DELETE FROM space WHERE id = old.id;
END;
"];

/// Marks a database as ours: `Kapm`.
const APPLICATION: u32 = 0x4b61_706d;
/// How long a connection waits for a lock.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait between two tries where SQLite does not wait by itself.
const PAUSE: Duration = Duration::from_millis(10);

fn level() -> u32 {
    u32::try_from(LEVELS.len()).expect("a handful")
}

/// Opens the database at `path` for its writer, made if there is none.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Stop> {
    look_at(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags)?;
    prepare(&conn)?;
    // Before the switch to a log: so its first page says from the start whose it is.
    raise(&mut conn)?;
    switch_to_log(&conn)?;
    // What is in the log after an unclean end was perhaps never synced. This does it.
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    Ok(conn)
}

/// Opens a database that is nowhere but in this process.
pub(super) fn open_in_memory() -> Result<Connection, Stop> {
    let mut conn = Connection::open_in_memory()?;
    prepare(&conn)?;
    raise(&mut conn)?;
    Ok(conn)
}

/// Opens the database at `path`, which a writer has made ready, for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Stop> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    prepare(&conn)?;
    Ok(conn)
}

/// Opens the database at `path` for somebody who leaves everything as it is: where nothing is in a
/// log, not even the files are made through which those at work know of each other.
pub(super) fn open_looker(path: &Path) -> Result<Connection, Stop> {
    look_at(path)?;
    if has_more_beside(path) {
        return open_reader(path);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(immutable(path), flags)?)
}

/// Refuses a file of a newer version: it may have become one while it was open.
pub(super) fn check_level(conn: &Connection) -> Result<(), Stop> {
    let found = conn.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?;
    if found > level() { Err(Stop::Newer(found)) } else { Ok(()) }
}

fn prepare(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(PATIENCE)?;
    conn.set_prepared_statement_cache_capacity(32);
    // What a search among 10,000 entries reads stays in memory until the next one.
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;
         PRAGMA journal_size_limit = 16777216",
    )
}

/// Refuses a file that is no memory of ours, without touching it.
fn look_at(path: &Path) -> Result<(), Stop> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() > 0 => {}
        _ => return Ok(()),
    }
    // Through SQLite, not by hand: closing a descriptor of our own would drop the locks that another
    // connection of this process holds on the file.
    let look = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let conn = Connection::open_with_flags(immutable(path), flags)?;
        let read = |pragma| conn.query_row(pragma, [], |row| row.get::<_, u32>(0));
        Ok::<_, rusqlite::Error>((read("PRAGMA application_id")?, read("PRAGMA user_version")?))
    };
    let (application, found) = match look() {
        Ok(found) => found,
        // Somebody died in the middle of writing to it: `raise` looks again, with the journal.
        Err(error) if is_unreadable(&error) && has_more_beside(path) => return Ok(()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(Stop::Foreign);
        }
        Err(error) => return Err(error.into()),
    };
    match (application, found) {
        (APPLICATION, found) if found > level() => Err(Stop::Newer(found)),
        (APPLICATION, _) | (0, 0) => Ok(()),
        _ => Err(Stop::Foreign),
    }
}

fn is_unreadable(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether a log or a journal belongs to the database at `path`.
fn has_more_beside(path: &Path) -> bool {
    ["-wal", "-journal"].iter().any(|ending| {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending);
        std::fs::metadata(beside).is_ok_and(|found| found.len() > 0)
    })
}

/// The URI under which SQLite reads `path` and nothing beside it.
fn immutable(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            write!(uri, "%{byte:02X}").expect("writing to a string");
        }
    }
    uri + "?immutable=1"
}

/// Brings the tables to this version's level.
fn raise(conn: &mut Connection) -> Result<(), Stop> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    check_level(&transaction)?;
    let read = |sql| transaction.query_row(sql, [], |row| row.get::<_, u32>(0));
    let found = read("PRAGMA user_version")?;
    let is_ours = match found {
        0 => read("SELECT count(*) FROM sqlite_schema")? == 0,
        _ => read("PRAGMA application_id")? == APPLICATION,
    };
    if !is_ours {
        return Err(Stop::Foreign);
    }
    if found == level() {
        return Ok(());
    }
    for text in LEVELS.iter().skip(found as usize) {
        transaction.execute_batch(text)?;
    }
    let mark = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {}", level());
    transaction.execute_batch(&mark)?;
    Ok(transaction.commit()?)
}

/// Makes the log the way to write. Here SQLite does not wait for others that look at a new file.
fn switch_to_log(conn: &Connection) -> Result<(), Stop> {
    let begin = Instant::now();
    loop {
        let switched =
            conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        match switched {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && begin.elapsed() < PATIENCE =>
            {
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                let why = "its file system cannot share a log; choose a folder on a local disk";
                return Err(Stop::Unusable(why));
            }
        }
    }
}
