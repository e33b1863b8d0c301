//! The database file: opened once for writing and a few times for reading.
//!
//! Always: one process has it (a lock file sees to that), one connection writes, and what is committed is on disk
//! (`synchronous=FULL`), because a commit is what a node is told.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::store::connection::{Readers, Writer};
use crate::store::schema;

/// An open store. It stays locked against a second hub until this is dropped.
#[derive(Debug)]
pub struct Store {
    /// See [`Writer`].
    pub writer: Writer,
    /// See [`Readers`].
    pub readers: Readers,
    /// Held, not used.
    pub lock: File,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made or written.
    #[error("cannot use the data folder {path}; check that it exists and that this user may write to it")]
    Folder {
        /// The folder, or the lock file in it.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another hub has it.
    #[error("another hub is using {0}; stop it, or choose another folder with --data")]
    InUse(PathBuf),
    /// SQLite does not open it.
    #[error("cannot open the database {path}; if it is damaged, restore it from a backup")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// A newer program wrote it.
    #[error("the database {path} has schema {found}, this program knows up to {known}; use a newer program")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest one known here.
        known: i64,
    },
}

/// Opens the store in a folder, making both if they are not there.
pub async fn open(folder: &Path) -> Result<Store, OpenError> {
    let cannot = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Folder { path, source }
    };
    std::fs::create_dir_all(folder).map_err(cannot(folder))?;
    let lock_path = folder.join("hub.lock");
    let lock = File::create(&lock_path).map_err(cannot(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::InUse(folder.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => return Err(cannot(&lock_path)(source)),
    }
    let path = folder.join("hub.sqlite");
    let broken = |source| OpenError::Database { path: path.clone(), source };
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(false)
        // In KiB, negative: 32 MiB for the connection that touches every index, 4 MiB for each reader.
        .pragma("cache_size", "-32768")
        // A checkpoint gives the space of a burst back.
        .pragma("journal_size_limit", "67108864");
    let mut writer = Writer::connect_with(&options.clone().create_if_missing(true)).await.map_err(broken)?;
    match schema::migrate(&mut writer).await.map_err(broken)? {
        schema::Migrated::Ready => {}
        schema::Migrated::Newer { found, known } => return Err(OpenError::Newer { path, found, known }),
    }
    let reading = options.read_only(true).pragma("cache_size", "-4096");
    let pool = SqlitePoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(10));
    let readers = pool.connect_with(reading).await.map_err(broken)?;
    Ok(Store { writer, readers, lock })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_has_one_hub() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).await.unwrap();
        assert!(matches!(open(folder.path()).await, Err(OpenError::InUse(_))));
        drop(first);
        open(folder.path()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hub.sqlite"), b"not a database, but long enough to look at")
            .unwrap();
        assert!(matches!(open(folder.path()).await, Err(OpenError::Database { .. })));
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(open(&file).await, Err(OpenError::Folder { .. })));
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path()).await.unwrap();
        sqlx::query("UPDATE meta SET value = value + 100 WHERE name = 'schema'")
            .execute(&mut store.writer)
            .await
            .unwrap();
        drop(store);
        assert!(matches!(open(folder.path()).await, Err(OpenError::Newer { .. })));
    }
}
