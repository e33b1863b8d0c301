//! What a hub needs to know once its database was restored from a backup: which nodes are ahead of it, which keys knock that its
//! table does not know, and how far the log had come.

use std::collections::{HashMap, HashSet};

use sqlx::Row;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::WallMs;

use crate::store::connection::{Readers, StoredRow, Writer};
use crate::store::nodes;

/// The word under which the size of the largest log is kept that was adopted.
const LOG: &str = "adopted log";

/// How soon a node that was just let in is expected.
const FIRST_MS: u64 = 60_000;

/// A node that knows more than this hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AheadRow {
    /// Its name.
    pub node: String,
    /// In which ways, in words.
    pub why: String,
    /// When it was last heard of.
    pub seen_ms: WallMs,
    /// Its last check-in.
    pub checkin: Option<String>,
}

/// All of them, by name.
pub async fn ahead(readers: &Readers) -> Result<Vec<AheadRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT name, conflict, last_seen_ms, checkin FROM nodes WHERE conflict IS NOT NULL ORDER BY name",
    );
    let read = |row: StoredRow| {
        Ok(AheadRow {
            node: row.try_get(0)?,
            why: row.try_get(1)?,
            seen_ms: row.try_get(2)?,
            checkin: row.try_get(3)?,
        })
    };
    rows.fetch_all(readers).await?.into_iter().map(read).collect()
}

/// How many there are.
pub async fn count_ahead(readers: &Readers) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("SELECT COUNT(*) FROM nodes WHERE conflict IS NOT NULL");
    row.fetch_one(readers).await?.try_get(0)
}

/// A rollout or an experiment that a node follows and that this hub does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strange {
    /// Its id.
    pub id: String,
    /// The highest version of its documents that the node has.
    pub version: u32,
}

/// Reads what a node's row says of them.
pub fn strange(text: &str) -> Vec<Strange> {
    let one = |word: &str| {
        let (id, version) = word.split_once(':')?;
        Some(Strange { id: id.to_owned(), version: version.parse().ok()? })
    };
    text.split(' ').filter_map(one).collect()
}

/// What a node follows that this hub does not know; nothing: it knows all.
pub async fn note(writer: &mut Writer, node: i64, all: &[Strange]) -> Result<(), sqlx::Error> {
    let words: Vec<String> = all.iter().map(|one| format!("{}:{}", one.id, one.version)).collect();
    let text = (!words.is_empty()).then(|| words.join(" "));
    let query = sqlx::query("UPDATE nodes SET strange = $2 WHERE id = $1");
    query.bind(node).bind(text).execute(writer).await?;
    Ok(())
}

/// All of it, by node.
pub async fn noted(writer: &mut Writer) -> Result<HashMap<i64, Vec<Strange>>, sqlx::Error> {
    let rows = sqlx::query("SELECT id, strange FROM nodes WHERE strange IS NOT NULL");
    let read = |row: StoredRow| Ok((row.try_get(0)?, strange(&row.try_get::<String, _>(1)?)));
    rows.fetch_all(writer).await?.into_iter().map(read).collect()
}

/// The same for readers, by name.
pub async fn read_noted(readers: &Readers) -> Result<Vec<(String, Vec<Strange>)>, sqlx::Error> {
    let rows = sqlx::query("SELECT name, strange FROM nodes WHERE strange IS NOT NULL ORDER BY name");
    let read = |row: StoredRow| Ok((row.try_get(0)?, strange(&row.try_get::<String, _>(1)?)));
    rows.fetch_all(readers).await?.into_iter().map(read).collect()
}

/// How many nodes follow what this hub does not know.
pub async fn count_strange(readers: &Readers) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("SELECT COUNT(*) FROM nodes WHERE strange IS NOT NULL");
    row.fetch_one(readers).await?.try_get(0)
}

/// Whether there is any.
pub async fn is_behind(writer: &mut Writer) -> Result<bool, sqlx::Error> {
    let row = sqlx::query("SELECT 1 FROM nodes WHERE conflict IS NOT NULL LIMIT 1");
    Ok(row.fetch_optional(writer).await?.is_some())
}

/// The plan that documents of this id follow from: of its waves, or of its canaries.
pub async fn plan_of(writer: &mut Writer, id: &str) -> Result<Option<String>, sqlx::Error> {
    let row =
        sqlx::query("SELECT id FROM plans WHERE id = $1 UNION SELECT plan FROM documents WHERE id = $1");
    row.bind(id).fetch_optional(writer).await?.map(|row| row.try_get(0)).transpose()
}

/// The same, for readers.
pub async fn read_plan_of(readers: &Readers, id: &str) -> Result<Option<String>, sqlx::Error> {
    let row =
        sqlx::query("SELECT id FROM plans WHERE id = $1 UNION SELECT plan FROM documents WHERE id = $1");
    row.bind(id).fetch_optional(readers).await?.map(|row| row.try_get(0)).transpose()
}

/// What a node's records say of installations, oldest first: `(record, body)`.
pub async fn installs(writer: &mut Writer, node: i64) -> Result<Vec<(i64, String)>, sqlx::Error> {
    let rows = sqlx::query("SELECT id, body FROM records WHERE node = $1 AND kind = 'install' ORDER BY id");
    rows.bind(node)
        .fetch_all(writer)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// How far this hub has come: the number of the newest change to what nodes shall do, and of the newest entry of its log.
pub async fn stands(readers: &Readers) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query("SELECT desired, last_audit FROM turn WHERE id = 1").fetch_one(readers).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The hub's id, if it has one.
pub async fn hub_id(readers: &Readers) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::query("SELECT value FROM words WHERE name = 'hub'").fetch_optional(readers).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// The size of the largest log that was adopted; 0: none was.
pub async fn adopted_log(writer: &mut Writer) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("SELECT value FROM words WHERE name = $1").bind(LOG).fetch_optional(writer).await?;
    let value = row.map(|row| row.try_get::<String, _>(0)).transpose()?;
    Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
}

/// Nodes saw a log of that size: that they did is no news any more.
pub async fn adopt_log(writer: &mut Writer, size: i64) -> Result<(), sqlx::Error> {
    let size = size.max(adopted_log(writer).await?);
    let put = "INSERT INTO words (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2";
    sqlx::query(put).bind(LOG).bind(size.to_string()).execute(writer).await?;
    Ok(())
}

/// The word under which it is kept which entries of the log were brought back.
const LOST: &str = "lost log";

/// The entries behind `from` and up to `to` were brought back from the published log.
pub async fn note_lost(writer: &mut Writer, from: u64, to: u64) -> Result<(), sqlx::Error> {
    let put = "INSERT INTO words (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2";
    sqlx::query(put).bind(LOST).bind(format!("{from} {to}")).execute(writer).await?;
    Ok(())
}

/// Somebody has seen which.
pub async fn forget_lost(writer: &mut Writer) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM words WHERE name = $1").bind(LOST).execute(writer).await?;
    Ok(())
}

/// Which entries were brought back, and nobody has adopted since: behind the first number, up to the second.
pub async fn lost(readers: &Readers) -> Result<Option<(i64, i64)>, sqlx::Error> {
    let row =
        sqlx::query("SELECT value FROM words WHERE name = $1").bind(LOST).fetch_optional(readers).await?;
    let value = row.map(|row| row.try_get::<String, _>(0)).transpose()?;
    Ok(value.and_then(|value| {
        let (from, to) = value.split_once(' ')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    }))
}

/// A key with a certificate of this hub's authority that the table of keys does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrangerRow {
    /// SHA-256 of its public half.
    pub key: Hash,
    /// The name in its certificate.
    pub name: String,
    /// The certificate's number.
    pub serial: String,
    /// From when it counts.
    pub not_before_ms: WallMs,
    /// Until when.
    pub not_after_ms: WallMs,
    /// When it last knocked.
    pub seen_ms: WallMs,
}

/// Keeps one that knocked.
pub async fn put_stranger(writer: &mut Writer, row: &StrangerRow) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO strangers (id, name, serial, not_before_ms, not_after_ms, seen_ms) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET seen_ms = $6",
    );
    let query = query.bind(row.key.as_bytes().as_slice()).bind(&row.name).bind(&row.serial);
    query.bind(row.not_before_ms).bind(row.not_after_ms).bind(row.seen_ms).execute(writer).await?;
    Ok(())
}

const STRANGERS: &str = "SELECT s.id, s.name, s.serial, s.not_before_ms, s.not_after_ms, s.seen_ms FROM strangers s \
     WHERE NOT EXISTS (SELECT 1 FROM keys k WHERE k.id = s.id)";

fn stranger(row: &StoredRow) -> Result<StrangerRow, sqlx::Error> {
    let key: Vec<u8> = row.try_get(0)?;
    Ok(StrangerRow {
        key: Hash::from_slice(&key)
            .ok_or_else(|| sqlx::Error::Decode("an id of a key has 32 bytes".into()))?,
        name: row.try_get(1)?,
        serial: row.try_get(2)?,
        not_before_ms: row.try_get(3)?,
        not_after_ms: row.try_get(4)?,
        seen_ms: row.try_get(5)?,
    })
}

/// All that knocked and are not known, by name.
pub async fn strangers(readers: &Readers, limit: i64) -> Result<Vec<StrangerRow>, sqlx::Error> {
    let sql = format!("{STRANGERS} ORDER BY s.name, s.id LIMIT $1");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(limit).fetch_all(readers).await?;
    rows.iter().map(stranger).collect()
}

/// Lets one in under the name in its certificate: the node's number and name. `None` if it did not knock, or is known.
pub async fn readmit(
    writer: &mut Writer,
    key: &Hash,
    now_ms: WallMs,
) -> Result<Option<(i64, String)>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{STRANGERS} AND s.id = $1"));
    let row = sqlx::query(sql).bind(key.as_bytes().as_slice()).fetch_optional(&mut *writer).await?;
    let Some(row) = row.as_ref().map(stranger).transpose()? else { return Ok(None) };
    let Ok(name) = NodeId::new(&row.name) else { return Ok(None) };
    let node = match nodes::find(writer, &name).await? {
        Some(node) => node,
        None => nodes::add(writer, &name, now_ms, FIRST_MS).await?,
    };
    let query = sqlx::query(
        "INSERT INTO keys (id, node, not_before_ms, not_after_ms, serial, seen_ms, readmitted_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
    );
    let query = query.bind(key.as_bytes().as_slice()).bind(node).bind(row.not_before_ms);
    query.bind(row.not_after_ms).bind(&row.serial).bind(now_ms).execute(&mut *writer).await?;
    let gone = sqlx::query("DELETE FROM strangers WHERE id = $1").bind(key.as_bytes().as_slice());
    gone.execute(writer).await?;
    Ok(Some((node, row.name)))
}

/// Nodes whose key was let in again, and that were not believed since.
pub async fn readmitted(writer: &mut Writer) -> Result<HashSet<i64>, sqlx::Error> {
    let rows = sqlx::query("SELECT node FROM keys WHERE readmitted_ms IS NOT NULL").fetch_all(writer).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Nodes that were ahead are believed now: which hub they followed before is no news any more. To be called after their
/// conflicts are known and before they are cleared.
pub async fn settle_readmitted(writer: &mut Writer) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "UPDATE keys SET readmitted_ms = NULL WHERE readmitted_ms IS NOT NULL AND node IN \
         (SELECT id FROM nodes WHERE conflict IS NOT NULL)",
    );
    query.execute(writer).await?;
    Ok(())
}
