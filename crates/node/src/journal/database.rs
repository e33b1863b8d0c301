//! The journal's database: one SQLite file in WAL mode, its tables, and how a connection to it is set up.
//!
//! Plain tables, so that anybody can look with `sqlite3`. Pages that become free are used again, and the file is
//! made smaller only when its cap was lowered, so flash is not worn by growing and shrinking.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use wire::id::JournalId;

/// The file's name in the journal's folder.
pub(crate) const FILE: &str = "journal.sqlite";

/// Bytes of a page.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// The version of the tables below, kept in the file's `user_version`.
const SCHEMA: i64 = 1;

/// How long a connection waits for another one's transaction before it gives up.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- One row a stream. Numbers are sequence numbers, from 1; a hash is the chain's at that number.
CREATE TABLE streams (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    class        TEXT NOT NULL,
    leaves       INTEGER NOT NULL,  -- whether the data policy lets it leave the node
    first        INTEGER NOT NULL,  -- the oldest kept record; last + 1 if none is kept
    before       BLOB NOT NULL,     -- hash of the record before it
    last         INTEGER NOT NULL,  -- the newest record
    head         BLOB NOT NULL,
    durable      INTEGER NOT NULL,  -- the newest that survives a power cut; only these are sent
    durable_hash BLOB NOT NULL,
    acked        INTEGER NOT NULL,  -- the newest that the hub has settled
    acked_hash   BLOB NOT NULL,
    reason       TEXT NOT NULL,     -- why records between acked and first are gone
    bytes        INTEGER NOT NULL   -- bytes of the kept bodies
);

-- `at` is the order of writing over all streams, which is the order of age.
CREATE TABLE records (
    at      INTEGER PRIMARY KEY,
    stream  INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    boot    BLOB NOT NULL,
    mono_ns INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    clock   TEXT NOT NULL,
    hash    BLOB NOT NULL,
    body    TEXT NOT NULL,
    UNIQUE (stream, seq)
);
";

/// Work on the database that failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file is not what was written into it.
    #[error("the journal's database is damaged ({why}); the node sets it aside when it next starts")]
    Damaged {
        /// What gave it away.
        why: String,
    },
    /// The file was made by a newer program.
    #[error("the journal has schema {found}, this program knows up to {SCHEMA}; use the newer program")]
    Newer {
        /// The schema it has.
        found: i64,
    },
    /// The file system cannot hold a write-ahead log.
    #[error(
        "the journal's file system allows only journal mode {mode:?}; use a local disk, not a network share"
    )]
    NoWal {
        /// The mode that SQLite fell back to.
        mode: String,
    },
    /// Another connection held the write lock for ten seconds.
    #[error("the journal's database is locked by another process; end that one")]
    Locked(#[source] rusqlite::Error),
    /// No room on the disk.
    #[error("the disk that holds the journal is full; free some space")]
    DiskFull(#[source] rusqlite::Error),
    /// It cannot be opened at all.
    #[error("cannot open {path}; check that the folder exists and may be written")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Anything else that SQLite says.
    #[error("the journal's database cannot be read or written")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> DatabaseError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                DatabaseError::Damaged { why: error.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => DatabaseError::Locked(error),
            Some(ErrorCode::DiskFull) => DatabaseError::DiskFull(error),
            _ => DatabaseError::Sqlite(error),
        }
    }
}

/// Opens the file in `dir` for writing, making it and its tables if there is none. Gives the journal's id too;
/// `fresh` is drawn from for a new one.
pub(crate) fn open(dir: &Path, fresh: JournalId) -> Result<(Connection, JournalId), DatabaseError> {
    let conn = connect(dir, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    // Before the first table, or it has no effect.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(DatabaseError::NoWal { mode });
    }
    // 4 MiB, so that a long transaction does not leave a large file behind.
    conn.pragma_update(None, "journal_size_limit", 4 << 20)?;
    let schema: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match schema {
        0 => write(&conn, |conn| {
            conn.execute_batch(TABLES)?;
            set_meta(conn, "journal", &fresh.to_string())?;
            conn.pragma_update(None, "user_version", SCHEMA)?;
            Ok(())
        })?,
        SCHEMA => {}
        found => return Err(DatabaseError::Newer { found }),
    }
    let id = journal_id(&conn)?;
    Ok((conn, id))
}

/// A further connection to a file that [`open`] has made.
pub(crate) fn join(dir: &Path, flags: OpenFlags) -> Result<Connection, DatabaseError> {
    let conn = connect(dir, flags)?;
    let found: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found != SCHEMA {
        return Err(DatabaseError::Newer { found });
    }
    Ok(conn)
}

fn connect(dir: &Path, flags: OpenFlags) -> Result<Connection, DatabaseError> {
    let path = dir.join(FILE);
    let conn = Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|source| DatabaseError::Open { path, source })?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(32);
    // 512 KiB a connection; the whole node is to fit in 12 MiB.
    conn.pragma_update(None, "cache_size", -512)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    relax(&conn)?;
    Ok(conn)
}

/// From here on a commit survives the end of the process, and a power cut only after a checkpoint.
pub(crate) fn relax(conn: &Connection) -> Result<(), DatabaseError> {
    Ok(conn.pragma_update(None, "synchronous", "NORMAL")?)
}

/// One transaction that is on the disk, with everything committed before it, when this returns. Other connections see
/// it only then.
pub(crate) fn write_durably<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    conn.pragma_update(None, "synchronous", "FULL")?;
    let result = write(conn, work);
    relax(conn)?;
    result
}

/// One write transaction; an error undoes it.
pub(crate) fn write<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    begin(conn)?;
    let result = work(conn);
    let ended = end(conn, result.is_ok());
    let value = result?;
    ended.map(|()| value)
}

/// Begins a write transaction.
pub(crate) fn begin(conn: &Connection) -> Result<(), DatabaseError> {
    step(conn, "BEGIN IMMEDIATE")
}

/// Ends the transaction: keeps what it did if that was `good`, undoes it otherwise or if it cannot be kept.
pub(crate) fn end(conn: &Connection, good: bool) -> Result<(), DatabaseError> {
    let kept = if good { step(conn, "COMMIT") } else { Ok(()) };
    // SQLite has already undone it after some errors. If undoing fails too, the next BEGIN will say so.
    if !conn.is_autocommit() {
        step(conn, "ROLLBACK").ok();
    }
    kept
}

/// One read transaction: everything in it is seen at the same instant.
pub(crate) fn read<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    step(conn, "BEGIN DEFERRED")?;
    let result = work(conn);
    let ended = step(conn, "COMMIT");
    let value = result?;
    ended.map(|()| value)
}

fn step(conn: &Connection, sql: &str) -> Result<(), DatabaseError> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Looks at every page. Costs a read of the whole file.
pub(crate) fn quick_check(conn: &Connection) -> Result<(), DatabaseError> {
    let said: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said == "ok" { Ok(()) } else { Err(DatabaseError::Damaged { why: said }) }
}

/// Bytes of the pages in use.
pub(crate) fn used_bytes(conn: &Connection) -> Result<u64, DatabaseError> {
    let free: i64 = conn.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
    Ok(file_bytes(conn)?.saturating_sub(unsigned(free) * PAGE_BYTES))
}

/// Bytes of the file, those free inside it included.
pub(crate) fn file_bytes(conn: &Connection) -> Result<u64, DatabaseError> {
    let pages: i64 = conn.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))?;
    Ok(unsigned(pages) * PAGE_BYTES)
}

/// Gives free pages back to the disk.
pub(crate) fn shrink(conn: &Connection) -> Result<(), DatabaseError> {
    let mut vacuum = conn.prepare("PRAGMA incremental_vacuum")?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Folds the write-ahead log into the database, as far as nobody reads from it, and cuts it.
pub(crate) fn fold(conn: &Connection) -> Result<(), DatabaseError> {
    Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}

/// Brings as much of the write-ahead log into the database as can be without waiting for anybody.
pub(crate) fn bring(conn: &Connection) -> Result<(), DatabaseError> {
    Ok(conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}

/// From here on a commit brings the log in when it has so many bytes. Its file keeps them: one that is cut and grows again costs the file
/// system a commit of its own each time that it is synced.
pub(crate) fn bring_at(conn: &Connection, bytes: u64) -> Result<(), DatabaseError> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    conn.pragma_update(None, "wal_autocheckpoint", number(bytes / PAGE_BYTES))?;
    Ok(conn.pragma_update(None, "journal_size_limit", number(bytes + bytes / 4))?)
}

/// Gives back the pages that SQLite keeps in memory.
pub(crate) fn drop_caches(conn: &Connection) -> Result<(), DatabaseError> {
    let mut shrink = conn.prepare("PRAGMA shrink_memory")?;
    let mut rows = shrink.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// A number that changes when another connection has committed.
pub(crate) fn data_version(conn: &Connection) -> Result<i64, DatabaseError> {
    Ok(conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
}

/// The id of the journal's present life.
pub(crate) fn journal_id(conn: &Connection) -> Result<JournalId, DatabaseError> {
    let text = meta(conn, "journal")?.ok_or_else(|| DatabaseError::Damaged { why: "it has no id".into() })?;
    JournalId::parse(&text).map_err(|bad| DatabaseError::Damaged { why: bad.to_string() })
}

/// Reads one of the journal's own settings.
pub(crate) fn meta(conn: &Connection, key: &str) -> Result<Option<String>, DatabaseError> {
    let mut select = conn.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(select.query_row([key], |row| row.get(0)).optional()?)
}

/// Writes one of the journal's own settings.
pub(crate) fn set_meta(conn: &Connection, key: &str, value: &str) -> Result<(), DatabaseError> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute(params![key, value])?;
    Ok(())
}

/// SQLite's numbers are signed. A negative one where none can be is damage that the chain will show; it reads as 0.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The inverse; what does not fit (after 292 years of nanoseconds) stays at the end.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
