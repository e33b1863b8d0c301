//! SQLite: a file in the hub's folder.

use std::path::Path;

use sqlx::ConnectOptions as _;
use sqlx::any::AnyConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::store::connection::Readers;
use crate::store::database::{OpenError, Store, Way, is_ready, ready};
use crate::store::schema::Dialect;

/// A commit is on disk; 32 MiB of cache (in KiB, negative) because this connection touches every index; a checkpoint gives
/// the space of a burst back, and is for [`crate::store::checkpoint`] until the log has 32 MiB.
const WRITING: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA foreign_keys = OFF; PRAGMA cache_size = -32768; PRAGMA journal_size_limit = 67108864; \
    PRAGMA wal_autocheckpoint = 8192";

const READING: &str = "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -4096";

/// How many connections read. More only wait for each other on a disk.
const READERS: u32 = 4;

/// Opens the file in a folder, making it if it is not there.
pub async fn open(folder: &Path) -> Result<Store, OpenError> {
    let path = std::path::absolute(folder.join("hub.sqlite"))
        .map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
    let name = path.display().to_string();
    let broken = |source| OpenError::Database { name: name.clone(), source };
    let file = SqliteConnectOptions::new().filename(&path);
    let way = way(&file.clone().create_if_missing(true), WRITING).map_err(broken)?;
    let mut writer = way.connect().await.map_err(broken)?;
    ready(&mut writer, Dialect::Sqlite, &name).await?;
    let reading = self::way(&file.read_only(true), READING).map_err(broken)?;
    let readers = reading.pool(READERS).await.map_err(broken)?;
    Ok(Store { writer, readers, way, lock: None })
}

/// Opens the file in a folder only to look at it, beside a hub that may run on it.
pub async fn look(folder: &Path) -> Result<Readers, OpenError> {
    let path = std::path::absolute(folder.join("hub.sqlite"))
        .map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
    let name = path.display().to_string();
    let broken = |source| OpenError::Database { name: name.clone(), source };
    let reading =
        way(&SqliteConnectOptions::new().filename(&path).read_only(true), READING).map_err(broken)?;
    let readers = reading.pool(READERS).await.map_err(broken)?;
    is_ready(&readers, &name).await?;
    Ok(readers)
}

fn way(options: &SqliteConnectOptions, told: &'static str) -> Result<Way, sqlx::Error> {
    sqlx::any::install_default_drivers();
    Ok(Way { options: AnyConnectOptions::from_url(&options.to_url_lossy())?, told })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hub.sqlite"), b"not a database, but long enough to look at")
            .unwrap();
        assert!(matches!(open(folder.path()).await, Err(OpenError::Database { .. })));
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
