//! What time it is for all hubs on one database: the server's own time, so that no hub's clock decides alone.

use sqlx::Row;
use wire::world::WallMs;

use crate::store::connection::Writer;

/// Whether the database is a server, which other hubs may share.
pub fn is_shared(connection: &Writer) -> bool {
    connection.backend_name() == "PostgreSQL"
}

/// The database's time; of a file, which one hub has for itself, that hub's.
pub async fn now(connection: &mut Writer, hub_ms: WallMs) -> Result<WallMs, sqlx::Error> {
    if !is_shared(connection) {
        return Ok(hub_ms);
    }
    let query = sqlx::query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)");
    query.fetch_one(connection).await?.try_get(0)
}
