//! What the hub keeps, in SQLite or PostgreSQL: one file per theme. Statements are plain SQL with `$1` parameters that both
//! read; only `sqlite`, `postgres` and `schema` know which it is.
//!
//! Functions that write take the one [`connection::Writer`] inside a transaction that the caller began; functions that
//! read take the [`connection::Readers`].

pub mod alerts;
pub mod answers;
pub mod archives;
pub mod audit;
pub mod buckets;
pub mod checkpoint;
pub mod connection;
pub mod database;
pub mod experiments;
pub mod facts;
pub mod groups;
pub mod identity;
pub mod leases;
pub mod nodes;
pub mod operators;
pub mod partitions;
pub mod postgres;
pub mod records;
pub mod recovery;
pub mod replicas;
pub mod retention;
pub mod rollouts;
pub mod samples;
pub mod schema;
pub mod series;
pub mod sqlite;
pub mod tickets;
pub mod time;
pub mod turn;
pub mod upkeep;

use std::fs::{File, TryLockError};
use std::path::Path;

use self::connection::Readers;
use self::database::{OpenError, Store};
use crate::config::database::DatabaseUrl;

/// Opens the database that was asked for; without one, the file in the hub's folder. The folder is made if it is not there, and
/// belongs to this hub until the store is dropped.
pub async fn open(folder: &Path, server: Option<&DatabaseUrl>) -> Result<Store, OpenError> {
    let lock = lock(folder)?;
    let store = match server {
        Some(url) => postgres::open(url).await?,
        None => sqlite::open(folder).await?,
    };
    Ok(Store { lock: Some(lock), ..store })
}

/// Opens it only to look, beside hubs that may run on it.
pub async fn look(folder: &Path, server: Option<&DatabaseUrl>) -> Result<Readers, OpenError> {
    match server {
        Some(url) => postgres::look(url).await,
        None => sqlite::look(folder).await,
    }
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let cannot = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Folder { path, source }
    };
    std::fs::create_dir_all(folder).map_err(cannot(folder))?;
    let path = folder.join("hub.lock");
    let lock = File::create(&path).map_err(cannot(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(cannot(&path)(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_has_one_hub() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), None).await.unwrap();
        assert!(matches!(open(folder.path(), None).await, Err(OpenError::InUse(_))));
        drop(first);
        open(folder.path(), None).await.unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(open(&file, None).await, Err(OpenError::Folder { .. })));
    }
}
