//! Opens a journal's folder: one process at a time, and always with a usable database at the end. One that is damaged
//! or too new is set aside, for a person to look at, and a new journal begun under a new id.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use wire::class::Class;
use wire::id::JournalId;
use wire::record::GapReason;
use wire::world::Entropy;

use super::database::{self, DatabaseError, FILE};
use super::evict::evict_block;
use super::position;
use super::settings::{MAX_BYTES_LEAST, Settings};

/// The log beside the database may grow to this share of the cap before a commit brings it in.
const LOG_SHARE: u64 = 8;
const LOG_BYTES_LEAST: u64 = 4 << 20;
const LOG_BYTES_MOST: u64 = 32 << 20;

/// How many databases set aside are kept; a failing disk must not fill itself with them.
const SET_ASIDE_MAX: u32 = 3;

/// A journal that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Too small a cap.
    #[error("max_bytes is {max_bytes}, a journal needs at least {MAX_BYTES_LEAST}")]
    CapTooSmall {
        /// The cap.
        max_bytes: u64,
    },
    /// The folder or a file in it cannot be used.
    #[error("cannot use {path}; check that the disk is there and may be written")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Two nodes on one journal.
    #[error("another process uses the journal in {dir}; give each node its own folder")]
    InUse {
        /// The journal's folder.
        dir: PathBuf,
    },
    /// The database cannot be used, and it is not damaged.
    #[error("cannot open the journal in {dir}")]
    Database {
        /// The journal's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: DatabaseError,
    },
}

/// A database that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now. What lies beside it under the same name with `-wal` belongs to it.
    pub path: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

impl std::fmt::Display for SetAside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SetAside { path, why } = self;
        write!(f, "the journal could not be used ({why}); it is kept as {}", path.display())
    }
}

/// An opened folder.
pub(crate) struct Found {
    pub(crate) conn: Connection,
    pub(crate) id: JournalId,
    pub(crate) clean: Option<bool>,
    /// It is to be looked at while it is used.
    pub(crate) unchecked: bool,
    pub(crate) set_aside: Option<SetAside>,
    pub(crate) lock: File,
}

/// Opens the journal in `dir`, whatever is there.
pub(crate) fn open(dir: &Path, settings: &Settings, entropy: &mut dyn Entropy) -> Result<Found, OpenError> {
    if settings.max_bytes < MAX_BYTES_LEAST {
        return Err(OpenError::CapTooSmall { max_bytes: settings.max_bytes });
    }
    std::fs::create_dir_all(dir).map_err(|source| OpenError::File { path: dir.to_owned(), source })?;
    let lock = lock(dir)?;
    let fresh = JournalId::random(entropy);
    let failed = |source| OpenError::Database { dir: dir.to_owned(), source };
    let (ready, set_aside) = match prepare(dir, settings, fresh) {
        Ok(ready) => (ready, None),
        Err(error @ (DatabaseError::Damaged { .. } | DatabaseError::Newer { .. })) => {
            let (conn, id, set_aside) = replace(dir, settings, &error, fresh)?;
            (Ready { conn, id, clean: None, unchecked: false }, Some(set_aside))
        }
        Err(error) => return Err(failed(error)),
    };
    let Ready { conn, id, clean, unchecked } = ready;
    Ok(Found { conn, id, clean, unchecked, set_aside, lock })
}

/// Sets the database aside and begins a new one. No connection of this journal's owner may be open to the old one.
pub(crate) fn replace(
    dir: &Path,
    settings: &Settings,
    error: &DatabaseError,
    fresh: JournalId,
) -> Result<(Connection, JournalId, SetAside), OpenError> {
    let set_aside = set_aside(dir, error)?;
    let failed = |source| OpenError::Database { dir: dir.to_owned(), source };
    let Ready { conn, id, .. } = prepare(dir, settings, fresh).map_err(failed)?;
    Ok((conn, id, set_aside))
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("journal.lock");
    let failed = |source| OpenError::File { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whether some process holds the journal in `dir`; `None`: nothing is there to hold, or it cannot be looked at.
pub fn is_held(dir: &Path) -> Option<bool> {
    let file = File::open(dir.join("journal.lock")).ok()?;
    match file.try_lock_shared() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    }
}

/// A database that can be used.
struct Ready {
    conn: Connection,
    id: JournalId,
    clean: Option<bool>,
    unchecked: bool,
}

/// Opens the database and makes it ready: whole (as far as is known, if it is large), on the disk, within its cap, marked as in use.
fn prepare(dir: &Path, settings: &Settings, fresh: JournalId) -> Result<Ready, DatabaseError> {
    let (conn, id) = database::open(dir, fresh)?;
    let clean = database::meta(&conn, "clean")?.map(|word| word == "yes");
    let unchecked = clean == Some(false) && database::file_bytes(&conn)? > settings.check_at_once_bytes;
    if clean == Some(false) && !unchecked || database::meta(&conn, "suspect")?.is_some() {
        database::quick_check(&conn)?;
    }
    let log_bytes = (settings.max_bytes / LOG_SHARE).clamp(LOG_BYTES_LEAST, LOG_BYTES_MOST);
    database::bring_at(&conn, log_bytes)?;
    for mut position in position::load_all(&conn)? {
        let leaves = settings.policy.leaves(&position.stream, position.class);
        if position.leaves != leaves {
            position.leaves = leaves;
            database::write(&conn, |conn| position::save(conn, &position))?;
        }
    }
    if database::file_bytes(&conn)? > settings.max_bytes {
        database::write(&conn, |conn| fit(conn, settings.max_bytes))?;
        database::shrink(&conn)?;
    }
    database::write_durably(&conn, |conn| database::set_meta(conn, "clean", "no"))?;
    make_durable(&conn)?;
    Ok(Ready { conn, id, clean, unchecked })
}

/// Drops what a lowered cap has no room for. Audit records that the hub lacks stay, even so.
fn fit(conn: &Connection, max_bytes: u64) -> Result<(), DatabaseError> {
    let mut positions = position::load_all(conn)?;
    while database::used_bytes(conn)? > max_bytes
        && evict_block(conn, &mut positions, Class::Event, 64 << 10, GapReason::ByteCap)?.is_some()
    {}
    Ok(())
}

/// Puts everything committed so far on the disk, and says so in the streams' rows.
pub(crate) fn make_durable(conn: &Connection) -> Result<(), DatabaseError> {
    database::write_durably(conn, |conn| {
        conn.prepare_cached("UPDATE streams SET durable = last, durable_hash = head WHERE durable < last")?
            .execute(params![])?;
        Ok(())
    })
}

/// Moves the database out of the way: `journal.damaged-1`, or `journal.newer-1`, with the log that belongs to it.
fn set_aside(dir: &Path, error: &DatabaseError) -> Result<SetAside, OpenError> {
    let word = if matches!(error, DatabaseError::Newer { .. }) { "newer" } else { "damaged" };
    let name = |number: u32, end: &str| dir.join(format!("journal.{word}-{number}{end}"));
    let number = (1..=SET_ASIDE_MAX).find(|number| !name(*number, "").exists()).unwrap_or(SET_ASIDE_MAX);
    // The log goes first: alone, it would be played into the new database.
    for end in ["-wal", ""] {
        let (from, to) = (dir.join(format!("{FILE}{end}")), name(number, end));
        match std::fs::rename(&from, &to) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::File { path: from, source });
            }
            _ => {}
        }
    }
    // An index of the log that is gone; SQLite makes it anew.
    std::fs::remove_file(dir.join(format!("{FILE}-shm"))).ok();
    Ok(SetAside { path: name(number, ""), why: error.to_string() })
}
