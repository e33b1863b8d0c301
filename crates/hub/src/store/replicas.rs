//! The hubs on one database: a row for each, which it writes again and again as long as it lives.

use std::collections::BTreeMap;

use sqlx::Row;
use wire::world::WallMs;

use crate::store::connection::{StoredRow, Writer};

/// How often a hub says that it is there.
pub const BEAT_MS: i64 = 5_000;

/// After how long without a word a hub counts as gone.
pub const GONE_MS: i64 = 3 * BEAT_MS;

/// For how long a hub that is gone is remembered.
const REMEMBERED_MS: i64 = 86_400_000;

/// A hub process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    /// What it drew when it started.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// Its program's version.
    pub version: String,
    /// When it started, by the database's time.
    pub began_ms: WallMs,
    /// When it was last there, by the database's time.
    pub seen_ms: WallMs,
    /// The leases it has.
    pub leases: Vec<String>,
}

/// Says that the hub process `id` is there; forgets those that are long gone.
pub async fn beat(
    writer: &mut Writer,
    id: &str,
    address: &str,
    version: &str,
    now_ms: WallMs,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO replicas (id, address, version, began_ms, seen_ms) VALUES ($1, $2, $3, $4, $4) \
         ON CONFLICT (id) DO UPDATE SET seen_ms = excluded.seen_ms",
    );
    query.bind(id).bind(address).bind(version).bind(now_ms).execute(&mut *writer).await?;
    let old = sqlx::query("DELETE FROM replicas WHERE seen_ms < $1");
    old.bind(now_ms.saturating_sub(REMEMBERED_MS)).execute(writer).await?;
    Ok(())
}

/// The hub process `id` stops.
pub async fn leave(writer: &mut Writer, id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM replicas WHERE id = $1").bind(id).execute(writer).await?;
    Ok(())
}

/// All that were there today, by their start.
pub async fn list(reader: &mut Writer, now_ms: WallMs) -> Result<Vec<ReplicaRow>, sqlx::Error> {
    let leases = sqlx::query("SELECT holder, name FROM leases WHERE until_ms >= $1 ORDER BY name");
    let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in leases.bind(now_ms).fetch_all(&mut *reader).await? {
        held.entry(row.try_get("holder")?).or_default().push(row.try_get("name")?);
    }
    let rows = sqlx::query(
        "SELECT id, address, version, began_ms, seen_ms FROM replicas ORDER BY began_ms, id LIMIT 100",
    );
    let read = |row: StoredRow| {
        let id: String = row.try_get("id")?;
        Ok(ReplicaRow {
            leases: held.remove(&id).unwrap_or_default(),
            id,
            address: row.try_get("address")?,
            version: row.try_get("version")?,
            began_ms: row.try_get("began_ms")?,
            seen_ms: row.try_get("seen_ms")?,
        })
    };
    rows.fetch_all(reader).await?.into_iter().map(read).collect()
}
