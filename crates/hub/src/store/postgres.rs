//! PostgreSQL: a server that several hubs share. They take turns (see [`crate::store::turn`]); no hub keeps a turn longer than
//! the times below, however it dies.

use crate::config::database::DatabaseUrl;
use crate::store::connection::Readers;
use crate::store::database::{OpenError, Store};

/// Connects to the database, and makes its tables if they are not there.
pub async fn open(url: &DatabaseUrl) -> Result<Store, OpenError> {
    with::open(url).await
}

/// Connects only to look, beside hubs that may run on it.
pub async fn look(url: &DatabaseUrl) -> Result<Readers, OpenError> {
    with::look(url).await
}

#[cfg(feature = "postgres")]
mod with {
    use sqlx::Connection as _;
    use sqlx::any::AnyConnectOptions;

    use crate::config::database::DatabaseUrl;
    use crate::store::connection::{Readers, Writer};
    use crate::store::database::{OpenError, Store, Way, is_ready, ready};
    use crate::store::schema::Dialect;
    use crate::store::{partitions, time, turn};

    const WRITING: &str = "SET synchronous_commit = on; SET lock_timeout = '5s'; SET statement_timeout = '30s'; \
        SET idle_in_transaction_session_timeout = '10s'";

    const READING: &str = "SET default_transaction_read_only = on; SET statement_timeout = '30s'";

    /// Whoever only looks may look for long.
    const LOOKING: &str = "SET default_transaction_read_only = on";

    /// How many connections of a hub read.
    const READERS: u32 = 8;

    pub(super) async fn open(url: &DatabaseUrl) -> Result<Store, OpenError> {
        sqlx::any::install_default_drivers();
        let name = url.to_string();
        let broken = |source| OpenError::Server { name: name.clone(), source };
        let options: AnyConnectOptions = url.secret().parse().map_err(broken)?;
        let way = Way { options: options.clone(), told: WRITING };
        let mut writer = way.connect().await.map_err(broken)?;
        ready(&mut writer, Dialect::Postgres, &name).await?;
        partition(&mut writer).await.map_err(broken)?;
        let readers = Way { options, told: READING }.pool(READERS).await.map_err(broken)?;
        Ok(Store { writer, readers, way, lock: None })
    }

    pub(super) async fn look(url: &DatabaseUrl) -> Result<Readers, OpenError> {
        sqlx::any::install_default_drivers();
        let name = url.to_string();
        let broken = |source| OpenError::Server { name: name.clone(), source };
        let options: AnyConnectOptions = url.secret().parse().map_err(broken)?;
        let readers = Way { options, told: LOOKING }.pool(READERS).await.map_err(broken)?;
        is_ready(&readers, &name).await?;
        Ok(readers)
    }

    /// Makes the tables of records that come now.
    async fn partition(writer: &mut Writer) -> Result<(), sqlx::Error> {
        let mut transaction = writer.begin().await?;
        turn::wait(&mut transaction).await?;
        let now_ms = time::now(&mut transaction, 0).await?;
        partitions::make(&mut transaction, now_ms).await?;
        transaction.commit().await
    }
}

#[cfg(not(feature = "postgres"))]
mod with {
    use crate::config::database::DatabaseUrl;
    use crate::store::connection::Readers;
    use crate::store::database::{OpenError, Store};

    pub(super) async fn open(_: &DatabaseUrl) -> Result<Store, OpenError> {
        Err(OpenError::Absent)
    }

    pub(super) async fn look(_: &DatabaseUrl) -> Result<Readers, OpenError> {
        Err(OpenError::Absent)
    }
}
