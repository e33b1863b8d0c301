//! An open database: one connection that writes, some that read, and why it may not open.
//!
//! Always: what is committed is on disk, because a commit is what a node is told.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Connection as _, raw_sql};

use crate::store::connection::{Readers, Writer};
use crate::store::schema::{self, Dialect, Migrated};

/// An open store. A folder stays locked against a second hub until this is dropped.
#[derive(Debug)]
pub struct Store {
    /// See [`Writer`].
    pub writer: Writer,
    /// See [`Readers`].
    pub readers: Readers,
    /// How the writer comes back when its connection is lost.
    pub way: Way,
    /// Held, not used.
    pub lock: Option<File>,
}

/// How one connects: where to, and what each new connection is told first.
#[derive(Clone)]
pub struct Way {
    /// Which database, and as whom.
    pub options: AnyConnectOptions,
    /// Statements for a new connection.
    pub told: &'static str,
}

/// Never the address: there may be a password in it.
impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Way {
    /// A connection that writes.
    pub async fn connect(&self) -> Result<Writer, sqlx::Error> {
        let mut writer = Writer::connect_with(&self.options).await?;
        raw_sql(self.told).execute(&mut writer).await?;
        Ok(writer)
    }

    /// At most `most` connections that read.
    pub async fn pool(&self, most: u32) -> Result<Readers, sqlx::Error> {
        let told = self.told;
        let pool = AnyPoolOptions::new().max_connections(most).acquire_timeout(Duration::from_secs(10));
        let pool = pool.after_connect(move |reader, _| {
            Box::pin(async move { raw_sql(told).execute(reader).await.map(|_| ()) })
        });
        pool.connect_with(self.options.clone()).await
    }
}

/// Makes the tables what this version wants. `name` is what the database is called in errors.
pub async fn ready(writer: &mut Writer, dialect: Dialect, name: &str) -> Result<(), OpenError> {
    let broken = |source| OpenError::Database { name: name.to_owned(), source };
    match schema::migrate(writer, dialect).await.map_err(broken)? {
        Migrated::Ready => Ok(()),
        Migrated::Newer { found, known } => Err(OpenError::Newer { name: name.to_owned(), found, known }),
    }
}

/// Whether the tables are what this version wants, without touching them.
pub async fn is_ready(readers: &Readers, name: &str) -> Result<(), OpenError> {
    let broken = |source| OpenError::Database { name: name.to_owned(), source };
    let known = schema::newest();
    match schema::found(readers).await.map_err(broken)? {
        found if found > known => Err(OpenError::Newer { name: name.to_owned(), found, known }),
        found if found < known => Err(OpenError::Older { name: name.to_owned(), found, known }),
        _ => Ok(()),
    }
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
    /// The file does not open.
    #[error("cannot open the database {name}; if it is damaged, restore it from a backup")]
    Database {
        /// The file.
        name: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The server does not answer, or not us.
    #[error(
        "cannot use the database {name}; check that it runs, that it has this user, and that the user may make tables"
    )]
    Server {
        /// Where, without its password.
        name: String,
        /// Why.
        source: sqlx::Error,
    },
    /// A program without this.
    #[error("this selvedge was built without PostgreSQL: build it with `--features postgres`")]
    Absent,
    /// An older program wrote it.
    #[error(
        "the database {name} has schema {found}, this program wants {known}: start the hub once, it brings it up"
    )]
    Older {
        /// The database.
        name: String,
        /// Its schema.
        found: i64,
        /// The one wanted here.
        known: i64,
    },
    /// A newer program wrote it.
    #[error("the database {name} has schema {found}, this program knows up to {known}; use a newer program")]
    Newer {
        /// The database.
        name: String,
        /// Its schema.
        found: i64,
        /// The newest one known here.
        known: i64,
    },
}

/// What was open cannot be read any more.
pub fn unreadable(source: sqlx::Error) -> OpenError {
    OpenError::Database { name: "of this hub".to_owned(), source }
}
