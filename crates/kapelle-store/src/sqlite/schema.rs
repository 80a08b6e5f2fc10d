//! The tables, how they come to be, and how a connection to them is opened.
//!
//! **Invariants:** a file of a newer level, of another application or that is no database is left
//! as it is, byte for byte; `tenant` is in every key. An entry's rowid is `shard << 48 | pos`, so
//! one b-tree is all shards in order; the one other index of the hot path is (run, first event).
//!
//! A new level is a new text at the end of [`LEVELS`]; those before are never changed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kapelle_core::port::journal::Error;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::ends::Ends;
use super::fault::{Fault, Phase, classify};
use super::{pages, sum};

/// What makes a store of the level before one of the next, the first from nothing.
const LEVELS: &[&str] = &[
    "
CREATE TABLE shard (
    shard INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    owner TEXT
) STRICT;
WITH RECURSIVE every(shard) AS (VALUES (0) UNION ALL SELECT shard + 1 FROM every WHERE shard < 255)
INSERT INTO shard SELECT shard, 0, NULL FROM every;
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    run BLOB NOT NULL,
    first_seq INTEGER NOT NULL,
    count INTEGER NOT NULL,
    at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    level INTEGER NOT NULL,
    hash BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX entry_run ON entry (run, first_seq);
CREATE TABLE submit (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    run BLOB NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE run (
    tenant TEXT NOT NULL,
    run BLOB NOT NULL,
    shard INTEGER NOT NULL,
    workflow TEXT NOT NULL,
    task_id TEXT,
    status TEXT NOT NULL,
    open INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended_at INTEGER,
    PRIMARY KEY (tenant, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_open ON run (shard, tenant, run) WHERE open = 1;
CREATE TABLE payload (
    tenant TEXT NOT NULL,
    digest BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT;
CREATE TABLE payload_ref (
    digest BLOB NOT NULL,
    tenant TEXT NOT NULL,
    run BLOB NOT NULL,
    len INTEGER NOT NULL,
    PRIMARY KEY (digest, tenant, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX payload_ref_run ON payload_ref (run);
",
    "
ALTER TABLE shard ADD COLUMN sum INTEGER;
ALTER TABLE submit ADD COLUMN sum INTEGER;
ALTER TABLE run ADD COLUMN sum INTEGER;
ALTER TABLE payload_ref ADD COLUMN sum INTEGER;
UPDATE shard SET sum = row_sum(shard, epoch, owner);
UPDATE submit SET sum = row_sum(tenant, key, run, content);
UPDATE run SET sum = row_sum(tenant, run, shard, workflow, task_id, status, open, created_at,
    updated_at, ended_at);
UPDATE payload_ref SET sum = row_sum(digest, tenant, run, len);
",
    "
ALTER TABLE submit ADD COLUMN pruned_at INTEGER;
UPDATE submit SET sum = row_sum(tenant, key, run, content, pruned_at)
    WHERE sum = row_sum(tenant, key, run, content);
CREATE INDEX submit_run ON submit (run);
CREATE INDEX submit_pruned ON submit (pruned_at) WHERE pruned_at IS NOT NULL;
CREATE TABLE pruned (
    place INTEGER PRIMARY KEY,
    pos INTEGER NOT NULL,
    sum INTEGER
) STRICT;
",
    // Pages have sums, which a version that knows nothing of them would not keep. A store that was
    // made before has none, and goes on without.
    "",
    "
CREATE TABLE account (
    tenant TEXT NOT NULL,
    account TEXT NOT NULL,
    day INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    nanos INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    sum INTEGER,
    PRIMARY KEY (tenant, account, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE account_grant (
    tenant TEXT NOT NULL,
    account TEXT NOT NULL,
    run BLOB NOT NULL,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    day INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    nanos INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    sum INTEGER,
    PRIMARY KEY (tenant, run, step, attempt, ordinal, account)
) STRICT, WITHOUT ROWID;
",
    "
ALTER TABLE account ADD COLUMN ms INTEGER NOT NULL DEFAULT 0;
UPDATE account SET sum = row_sum(tenant, account, day, tokens, nanos, unpriced, ms)
    WHERE sum = row_sum(tenant, account, day, tokens, nanos, unpriced);
ALTER TABLE account_grant ADD COLUMN ms INTEGER NOT NULL DEFAULT 0;
UPDATE account_grant SET sum = row_sum(tenant, account, run, step, attempt, ordinal, day, tokens,
    nanos, unpriced, ms)
    WHERE sum = row_sum(tenant, account, run, step, attempt, ordinal, day, tokens, nanos, unpriced);
",
    "
CREATE TABLE record (
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL,
    sum INTEGER,
    PRIMARY KEY (tenant, kind, id)
) STRICT, WITHOUT ROWID;
",
    // Its rows are chained, which vouches for them.
    "
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    hash BLOB NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX audit_tenant ON audit (tenant, seq);
",
];

/// Marks a database as ours: `Kapl`.
const APPLICATION: u32 = 0x4b61_706c;
/// How long a connection waits for a lock.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The level of this version's tables.
pub(super) fn level() -> u32 {
    u32::try_from(LEVELS.len()).expect("a handful")
}

/// Opens the database at `path` for its writer, made if there is none; leaves one as it is that
/// has less than `ends` vouch for. Holds the turn meanwhile.
pub(super) fn open_writer(path: &Path, file: &Arc<str>, ends: &Ends) -> Result<Connection, Error> {
    look_at(path, file)?;
    ends.expect_database(path, file)?;
    let open = || {
        let conn = open_with(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Else a statement near a partial index is prepared anew for each value it is given.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        conn.busy_timeout(PATIENCE)?;
        conn.set_prepared_statement_cache_capacity(64);
        sum::register(&conn)?;
        if conn.query_row("PRAGMA page_count", [], |row| row.get::<_, u32>(0))? == 0 {
            // Said before there is a page, which the pragma makes: each has room for its sum, and what
            // pruning frees can be given back to the disk.
            pages::reserve(&conn);
            conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        // Pages of large transactions stay in memory, and those that every commit touches too.
        conn.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384",
        )?;
        Ok(conn)
    };
    let failed = |error| refusal(&error, file);
    let mut conn = open().map_err(failed)?;
    if conn.is_readonly("main").map_err(failed)? {
        return Err(read_only(file));
    }
    // With what the log gives as it is: emptied, all behind a damaged place of it would be gone.
    ends.compare(&conn, file)?;
    // Raised before the file is switched to WAL: so its first page says from the start whose it is.
    raise(&mut conn, file)?;
    let mode = switch_to_log(&conn).map_err(failed)?;
    if mode != "wal" {
        let message = "its file system cannot share a log; choose a folder on a local disk".into();
        return Err(Error::Unavailable { file: Arc::clone(file), message });
    }
    // After an unclean end the log may hold what no sync vouched for. If others have the store
    // open, this does what it can and leaves the rest to them.
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0").map_err(failed)?;
    empty_log(&conn).map_err(failed)?;
    Ok(conn)
}

/// Makes the log the way to write, durably; the mode it is in then.
fn switch_to_log(conn: &Connection) -> rusqlite::Result<String> {
    let mut statement = conn.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mode = rows.next()?.map(|row| row.get(0)).transpose()?.unwrap_or_default();
    // It is committed after its row: who does not ask for the end does not hear of a failure.
    rows.next()?;
    Ok(mode)
}

/// Opens a file of SQLite by the way that looks at the sums of its pages.
fn open_with(path: impl AsRef<Path>, flags: OpenFlags) -> rusqlite::Result<Connection> {
    Connection::open_with_flags_and_vfs(path, flags, pages::name())
}

/// Opens the database at `path`, which another connection has made ready, to copy its log.
pub(super) fn open_copier(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = open_with(path, flags)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0")?;
    Ok(conn)
}

/// Copies the log into the database and empties it, if no reader is in the way for long; whether.
pub(super) fn empty_log(conn: &Connection) -> rusqlite::Result<bool> {
    conn.busy_timeout(Duration::from_millis(100))?;
    let emptied =
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0));
    conn.busy_timeout(PATIENCE)?;
    emptied
}

/// Opens the database at `path` for reading.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = open_with(path, flags)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.busy_timeout(PATIENCE)?;
    conn.set_prepared_statement_cache_capacity(64);
    sum::register(&conn)?;
    Ok(conn)
}

/// The level of the tables that `conn` sees.
pub(super) fn level_of(conn: &Connection) -> rusqlite::Result<u32> {
    conn.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))
}

/// The level of the store that `conn` sees in its transaction; `Err` if it is newer than ours.
pub(super) fn check_level(
    conn: &Connection,
    file: &Arc<str>,
) -> rusqlite::Result<Result<(), Error>> {
    let store = level_of(conn)?;
    Ok(if store > level() { Err(newer(file, store)) } else { Ok(()) })
}

/// Refuses a file that is not a store of ours, without touching it.
pub(super) fn look_at(path: &Path, file: &Arc<str>) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() > 0 => {}
        _ => return Ok(()),
    }
    // Through SQLite, not by hand: closing a descriptor of our own would drop the locks that another
    // connection of this process holds on the file.
    let look = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let conn = open_with(immutable(path), flags)?;
        let read = |pragma| conn.query_row(pragma, [], |row| row.get::<_, u32>(0));
        Ok((read("PRAGMA application_id")?, read("PRAGMA user_version")?))
    };
    let (application, store) = match look() {
        Ok(found) => found,
        // Somebody died in the middle of writing to it: only an opener who takes the log or the
        // journal into account sees what it is. `raise` looks again.
        Err(error) if is_unreadable(&error) && has_more_beside(path) => return Ok(()),
        Err(error) => return Err(refusal(&error, file)),
    };
    if application != APPLICATION && (application, store) != (0, 0) {
        return Err(not_ours(file));
    }
    if store > level() {
        return Err(newer(file, store));
    }
    Ok(())
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
fn raise(conn: &mut Connection, file: &Arc<str>) -> Result<(), Error> {
    let failed = |error: rusqlite::Error| refusal(&error, file);
    let behavior = rusqlite::TransactionBehavior::Immediate;
    let transaction = conn.transaction_with_behavior(behavior).map_err(failed)?;
    check_level(&transaction, file).map_err(failed)??;
    let read = |sql| transaction.query_row(sql, [], |row| row.get::<_, u32>(0)).map_err(failed);
    let store = read("PRAGMA user_version")?;
    if store > 0 && read("PRAGMA application_id")? != APPLICATION {
        return Err(not_ours(file));
    }
    if store == level() {
        return Ok(());
    }
    if store == 0 && read("SELECT count(*) FROM sqlite_schema")? > 0 {
        return Err(not_ours(file));
    }
    for text in LEVELS.iter().skip(store as usize) {
        transaction.execute_batch(text).map_err(failed)?;
    }
    let mark = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {}", level());
    transaction.execute_batch(&mark).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn newer(file: &Arc<str>, store: u32) -> Error {
    Error::Newer { file: Arc::clone(file), store, ours: level() }
}

fn not_ours(file: &Arc<str>) -> Error {
    let message = "it is a database of another application, or its head is damaged: restore it from a backup, or choose another folder".into();
    Error::Unavailable { file: Arc::clone(file), message }
}

fn read_only(file: &Arc<str>) -> Error {
    let message = "it is read-only; make it writable, or choose another folder".into();
    Error::Unavailable { file: Arc::clone(file), message }
}

/// An error met while opening. Nothing was promised yet, so nothing is poisoned.
fn refusal(error: &rusqlite::Error, file: &Arc<str>) -> Error {
    match classify(error, Phase::Open, file) {
        Fault::Refused(error) | Fault::Ghost(error) | Fault::Poison(error) => error,
        Fault::Damaged(message) => {
            Error::Unavailable { file: Arc::clone(file), message: message.into() }
        }
    }
}
