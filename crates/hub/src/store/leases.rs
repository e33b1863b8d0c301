//! Which of several hubs does what one of them is enough for. A lease runs out by itself, by the database's time; whoever has it
//! saves the others work, and nothing depends on there being only one.

use sqlx::Row;
use wire::world::WallMs;

use crate::store::connection::Writer;

/// How long a lease holds unless it is taken again.
pub const LEASE_MS: i64 = 15_000;

/// Takes a lease, or keeps it, as the hub process `me`: its fence, which grows whenever it changes hands; `None` while another
/// has it.
pub async fn take(
    writer: &mut Writer,
    name: &str,
    me: &str,
    now_ms: WallMs,
) -> Result<Option<i64>, sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO leases (name, holder, until_ms, fence) VALUES ($1, $2, $3, 1) ON CONFLICT (name) DO UPDATE SET \
         fence = leases.fence + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END, \
         holder = excluded.holder, until_ms = excluded.until_ms \
         WHERE leases.holder = excluded.holder OR leases.until_ms < $4 RETURNING fence",
    );
    let query = query.bind(name).bind(me).bind(now_ms.saturating_add(LEASE_MS)).bind(now_ms);
    query.fetch_optional(writer).await?.map(|row| row.try_get(0)).transpose()
}

/// Gives back all that `me` has.
pub async fn give(writer: &mut Writer, me: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE leases SET until_ms = 0 WHERE holder = $1").bind(me).execute(writer).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::connection::in_memory;
    use crate::store::schema::{self, Dialect};

    #[tokio::test]
    async fn a_lease_changes_hands_when_it_runs_out_or_is_given() {
        let mut writer = in_memory().await;
        schema::migrate(&mut writer, Dialect::Sqlite).await.unwrap();
        let mut found = Vec::new();
        for (me, now_ms) in [("a", 0), ("b", 1), ("a", 10_000), ("b", 25_000), ("b", 25_001), ("a", 25_002)] {
            found.push(take(&mut writer, "tick", me, now_ms).await.unwrap());
        }
        assert_eq!(found, [Some(1), None, Some(1), None, Some(2), None]);
        give(&mut writer, "a").await.unwrap();
        assert_eq!(take(&mut writer, "tick", "a", 25_003).await.unwrap(), None, "it had nothing to give");
        give(&mut writer, "b").await.unwrap();
        assert_eq!(take(&mut writer, "tick", "a", 25_004).await.unwrap(), Some(3));
        assert_eq!(take(&mut writer, "audit", "b", 25_004).await.unwrap(), Some(1));
    }
}
