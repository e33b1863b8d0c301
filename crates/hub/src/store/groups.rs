//! Saved groups: names for expressions. They are for people; what is signed has the expression itself.

use sqlx::Row;
use wire::world::WallMs;

use crate::store::connection::{Readers, StoredRow, Writer};

/// A saved group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// Its name.
    pub name: String,
    /// Which nodes are meant.
    pub expression: String,
    /// Who changed it last.
    pub made_by: String,
    /// When.
    pub changed_ms: WallMs,
}

/// Saves a group, in the place of one of the same name.
pub async fn save(writer: &mut Writer, group: &GroupRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO groups_saved (name, expression, made_by, changed_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (name) DO UPDATE SET expression = excluded.expression, made_by = excluded.made_by, \
         changed_ms = excluded.changed_ms",
    )
    .bind(&group.name)
    .bind(&group.expression)
    .bind(&group.made_by)
    .bind(group.changed_ms)
    .execute(writer)
    .await?;
    Ok(())
}

/// Removes a group; false if there was none.
pub async fn remove(writer: &mut Writer, name: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("DELETE FROM groups_saved WHERE name = $1").bind(name).execute(writer).await?;
    Ok(done.rows_affected() > 0)
}

/// How many there are.
pub async fn count(writer: &mut Writer) -> Result<i64, sqlx::Error> {
    sqlx::query("SELECT COUNT(*) FROM groups_saved").fetch_one(writer).await?.try_get(0)
}

/// One group, for whoever writes.
pub async fn find(writer: &mut Writer, name: &str) -> Result<Option<GroupRow>, sqlx::Error> {
    let query = sqlx::query("SELECT name, expression, made_by, changed_ms FROM groups_saved WHERE name = $1");
    query.bind(name).fetch_optional(writer).await?.as_ref().map(group_row).transpose()
}

/// All groups, by name.
pub async fn list(readers: &Readers) -> Result<Vec<GroupRow>, sqlx::Error> {
    let query = sqlx::query("SELECT name, expression, made_by, changed_ms FROM groups_saved ORDER BY name");
    query.fetch_all(readers).await?.iter().map(group_row).collect()
}

fn group_row(row: &StoredRow) -> Result<GroupRow, sqlx::Error> {
    Ok(GroupRow {
        name: row.try_get("name")?,
        expression: row.try_get("expression")?,
        made_by: row.try_get("made_by")?,
        changed_ms: row.try_get("changed_ms")?,
    })
}
