//! What nodes say they are, what labels they were given here, and in which order both changed.

use sqlx::Row;

use crate::store::connection::{Readers, StoredRow, Writer};

/// What the store holds of a node's facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldFacts {
    /// The run of its process that told them.
    pub boot: Option<String>,
    /// The number of the state, as the node counts them in that run.
    pub seq: i64,
    /// The facts, as JSON.
    pub facts: Option<String>,
    /// The labels that were set here, as JSON; absent if none ever were.
    pub labels: Option<String>,
}

/// A node whose facts or labels changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFacts {
    /// Its number in the store.
    pub node: i64,
    /// The number of the change; the newest has the largest.
    pub change: i64,
    /// See [`HeldFacts::facts`].
    pub facts: Option<String>,
    /// See [`HeldFacts::labels`].
    pub labels: Option<String>,
}

/// The next number of a change. One writes at a time, so nobody else draws the same.
const NEXT_CHANGE: &str = "(SELECT COALESCE(MAX(facts_seq), 0) + 1 FROM nodes)";

/// What the store holds of a node.
pub async fn held(writer: &mut Writer, node: i64) -> Result<HeldFacts, sqlx::Error> {
    let query = sqlx::query("SELECT facts_boot, inventory, facts, labels FROM nodes WHERE id = $1");
    let row = query.bind(node).fetch_one(writer).await?;
    Ok(HeldFacts {
        boot: row.try_get("facts_boot")?,
        seq: row.try_get("inventory")?,
        facts: row.try_get("facts")?,
        labels: row.try_get("labels")?,
    })
}

/// Keeps what a node said: the run, its number there, and the facts if they are other than before.
pub async fn keep(
    writer: &mut Writer,
    node: i64,
    boot: &str,
    seq: i64,
    facts: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE nodes SET facts_boot = $2, inventory = $3 WHERE id = $1")
        .bind(node)
        .bind(boot)
        .bind(seq)
        .execute(&mut *writer)
        .await?;
    let Some(facts) = facts else { return Ok(()) };
    let sql = format!("UPDATE nodes SET facts = $2, facts_seq = {NEXT_CHANGE} WHERE id = $1");
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(node).bind(facts).execute(writer).await?;
    Ok(())
}

/// Sets the labels of a node.
pub async fn label(writer: &mut Writer, node: i64, labels: &str) -> Result<(), sqlx::Error> {
    let sql = format!("UPDATE nodes SET labels = $2, facts_seq = {NEXT_CHANGE} WHERE id = $1");
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(node).bind(labels).execute(writer).await?;
    Ok(())
}

/// All nodes whose facts or labels changed after the change with this number, 0 being before all; in order of changes.
pub async fn changed(readers: &Readers, after: i64) -> Result<Vec<ChangedFacts>, sqlx::Error> {
    let query =
        sqlx::query("SELECT id, facts_seq, facts, labels FROM nodes WHERE facts_seq > $1 ORDER BY facts_seq");
    let read = |row: StoredRow| {
        Ok(ChangedFacts {
            node: row.try_get("id")?,
            change: row.try_get("facts_seq")?,
            facts: row.try_get("facts")?,
            labels: row.try_get("labels")?,
        })
    };
    query.bind(after).fetch_all(readers).await?.into_iter().map(read).collect()
}
