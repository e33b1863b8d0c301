//! Keys of nodes and the codes by which they come in. Whoever a key belongs to, this table says, and no certificate.
//! Who waits to come in: `tickets.rs` beside it.

use std::collections::{BTreeMap, HashSet};

use sqlx::Row;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::WallMs;

use crate::identity::ca::Issued;
use crate::identity::enrol::{Offer, Pattern};
use crate::store::connection::{Readers, StoredRow, Writer};

/// A code or token, as its maker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRow {
    /// What it is worth.
    pub offer: Offer,
    /// Whether it is a token, good for several nodes.
    pub is_token: bool,
    /// Who made it.
    pub made_by: String,
}

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOwner {
    /// The node's number.
    pub node: i64,
    /// Its name.
    pub name: String,
    /// Until when its newest certificate counts.
    pub not_after_ms: WallMs,
}

/// A key as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// SHA-256 of its public half.
    pub id: Hash,
    /// Whose it is.
    pub owner: KeyOwner,
    /// Its newest certificate's number.
    pub serial: String,
    /// When it last had a certificate from here.
    pub seen_ms: WallMs,
    /// Since when it is out.
    pub denied_ms: Option<WallMs>,
    /// Why.
    pub why: Option<String>,
}

/// The word in the store for what an enrolment is.
fn kind(row: &EnrolmentRow) -> &'static str {
    match (row.is_token, row.offer.replaces) {
        (true, _) => "token",
        (false, true) => "replacement",
        (false, false) => "code",
    }
}

/// Keeps a code by the digest of its secret.
pub async fn add_enrolment(writer: &mut Writer, row: &EnrolmentRow, hash: &Hash) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO enrolments (id, kind, hash, name, labels, uses, used, approve, until_ms, made_by) \
         VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9)",
    );
    let Offer { id, name, pattern, labels, approve, uses, until_ms, .. } = &row.offer;
    let query = query.bind(id).bind(kind(row)).bind(hash.as_bytes().as_slice());
    // A code has a name, a token a pattern of names.
    let name = name.as_ref().map(NodeId::as_str).or(pattern.as_ref().map(Pattern::as_str));
    let query = query.bind(name).bind(labels_text(labels)?).bind(*uses).bind(i64::from(*approve));
    query.bind(*until_ms).bind(&row.made_by).execute(writer).await?;
    Ok(())
}

/// Labels, as the store has them.
pub fn labels_text(labels: &BTreeMap<String, String>) -> Result<String, sqlx::Error> {
    serde_json::to_string(labels).map_err(|error| sqlx::Error::Encode(error.into()))
}

const ENROLMENT: &str =
    "SELECT id, kind, name, labels, uses, used, approve, until_ms, made_by FROM enrolments";

/// The code whose secret has this digest.
pub async fn find_enrolment(writer: &mut Writer, hash: &Hash) -> Result<Option<EnrolmentRow>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{ENROLMENT} WHERE hash = $1"));
    let query = sqlx::query(sql).bind(hash.as_bytes().as_slice());
    query.fetch_optional(writer).await?.as_ref().map(enrolment).transpose()
}

/// The code with this id.
pub async fn enrolment_by_id(writer: &mut Writer, id: &str) -> Result<Option<EnrolmentRow>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{ENROLMENT} WHERE id = $1"));
    sqlx::query(sql).bind(id).fetch_optional(writer).await?.as_ref().map(enrolment).transpose()
}

/// All that were not taken back.
pub async fn enrolments(readers: &Readers) -> Result<Vec<EnrolmentRow>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{ENROLMENT} ORDER BY until_ms DESC, id"));
    sqlx::query(sql).fetch_all(readers).await?.iter().map(enrolment).collect()
}

fn enrolment(row: &StoredRow) -> Result<EnrolmentRow, sqlx::Error> {
    let kind: String = row.try_get("kind")?;
    let is_token = kind == "token";
    let name: Option<String> = row.try_get("name")?;
    let (pattern, name) = if is_token { (name, None) } else { (None, name) };
    let labels: String = row.try_get("labels")?;
    let offer = Offer {
        id: row.try_get("id")?,
        replaces: kind == "replacement",
        name: name.and_then(|name| NodeId::new(&name).ok()),
        pattern: pattern.and_then(|pattern| Pattern::new(&pattern)),
        labels: serde_json::from_str(&labels).unwrap_or_default(),
        approve: row.try_get::<i64, _>("approve")? != 0,
        uses: row.try_get("uses")?,
        used: row.try_get("used")?,
        until_ms: row.try_get("until_ms")?,
    };
    Ok(EnrolmentRow { offer, is_token, made_by: row.try_get("made_by")? })
}

/// A code was used.
pub async fn use_enrolment(writer: &mut Writer, id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE enrolments SET used = used + 1 WHERE id = $1").bind(id).execute(writer).await?;
    Ok(())
}

/// Takes a code back. False if there is none.
pub async fn remove_enrolment(writer: &mut Writer, id: &str) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("DELETE FROM enrolments WHERE id = $1").bind(id);
    Ok(query.execute(writer).await?.rows_affected() > 0)
}

/// A key has a certificate, its first or another one.
pub async fn put_key(
    writer: &mut Writer,
    id: &Hash,
    node: i64,
    issued: &Issued,
    now_ms: WallMs,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO keys (id, node, not_before_ms, not_after_ms, serial, seen_ms) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET not_before_ms = $3, not_after_ms = $4, serial = $5, seen_ms = $6",
    );
    let query = query.bind(id.as_bytes().as_slice()).bind(node);
    let query = query.bind(issued.not_before_ms).bind(issued.not_after_ms).bind(&issued.serial).bind(now_ms);
    query.execute(writer).await?;
    Ok(())
}

const KEY: &str = "SELECT k.id, k.node, n.name, k.not_after_ms, k.serial, k.seen_ms, k.denied_ms, k.why \
     FROM keys k JOIN nodes n ON n.id = k.node";

fn key(row: &StoredRow) -> Result<KeyRow, sqlx::Error> {
    let id: Vec<u8> = row.try_get("id")?;
    let id =
        Hash::from_slice(&id).ok_or_else(|| sqlx::Error::Decode("an id of a key has 32 bytes".into()))?;
    let owner = KeyOwner {
        node: row.try_get("node")?,
        name: row.try_get("name")?,
        not_after_ms: row.try_get("not_after_ms")?,
    };
    Ok(KeyRow {
        id,
        owner,
        serial: row.try_get("serial")?,
        seen_ms: row.try_get("seen_ms")?,
        denied_ms: row.try_get("denied_ms")?,
        why: row.try_get("why")?,
    })
}

/// One key, inside a transaction.
pub async fn find_key(writer: &mut Writer, id: &Hash) -> Result<Option<KeyRow>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{KEY} WHERE k.id = $1"));
    let query = sqlx::query(sql).bind(id.as_bytes().as_slice());
    query.fetch_optional(writer).await?.as_ref().map(key).transpose()
}

/// Whose a key is; also if it is out.
pub async fn owner(readers: &Readers, id: &Hash) -> Result<Option<KeyOwner>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{KEY} WHERE k.id = $1"));
    let query = sqlx::query(sql).bind(id.as_bytes().as_slice());
    Ok(query.fetch_optional(readers).await?.as_ref().map(key).transpose()?.map(|row| row.owner))
}

/// Keys, newest first: of one node, or the newest of all.
pub async fn keys(readers: &Readers, node: Option<&str>, limit: i64) -> Result<Vec<KeyRow>, sqlx::Error> {
    let sql = format!("{KEY} WHERE $1 IS NULL OR n.name = $1 ORDER BY k.seen_ms DESC, k.id LIMIT $2");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(node).bind(limit);
    query.fetch_all(readers).await?.iter().map(key).collect()
}

/// Whether a node has a key that is not out and whose certificate still counts.
pub async fn is_living(writer: &mut Writer, node: i64, now_ms: WallMs) -> Result<bool, sqlx::Error> {
    let sql = "SELECT COUNT(*) FROM keys WHERE node = $1 AND denied_ms IS NULL AND not_after_ms > $2";
    let row = sqlx::query(sql).bind(node).bind(now_ms).fetch_one(writer).await?;
    Ok(row.try_get::<i64, _>(0)? > 0)
}

/// Denies all keys of a node, that one apart. How many.
pub async fn deny_node(
    writer: &mut Writer,
    node: i64,
    spare: Option<&Hash>,
    why: &str,
    now_ms: WallMs,
) -> Result<u64, sqlx::Error> {
    let query = sqlx::query(
        "UPDATE keys SET denied_ms = $2, why = $3 WHERE node = $1 AND denied_ms IS NULL AND id <> $4",
    );
    // No key has an id of another length.
    let spare = spare.map_or(&[][..], |spare| spare.as_bytes().as_slice());
    Ok(query.bind(node).bind(now_ms).bind(why).bind(spare).execute(writer).await?.rows_affected())
}

/// Denies one key. False if it is unknown or out already.
pub async fn deny_key(
    writer: &mut Writer,
    id: &Hash,
    why: &str,
    now_ms: WallMs,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("UPDATE keys SET denied_ms = $2, why = $3 WHERE id = $1 AND denied_ms IS NULL");
    let query = query.bind(id.as_bytes().as_slice()).bind(now_ms).bind(why);
    Ok(query.execute(writer).await?.rows_affected() > 0)
}

/// Lets a key in again. False if it was not out.
pub async fn pardon(writer: &mut Writer, id: &Hash) -> Result<bool, sqlx::Error> {
    let sql = "UPDATE keys SET denied_ms = NULL, why = NULL WHERE id = $1 AND denied_ms IS NOT NULL";
    let query = sqlx::query(sql).bind(id.as_bytes().as_slice());
    Ok(query.execute(writer).await?.rows_affected() > 0)
}

/// All keys that are out.
pub async fn denied(readers: &Readers) -> Result<HashSet<Hash>, sqlx::Error> {
    let rows = sqlx::query("SELECT id FROM keys WHERE denied_ms IS NOT NULL").fetch_all(readers).await?;
    let id = |row: &StoredRow| Ok(Hash::from_slice(&row.try_get::<Vec<u8>, _>(0)?));
    let ids: Result<Vec<Option<Hash>>, sqlx::Error> = rows.iter().map(id).collect();
    Ok(ids?.into_iter().flatten().collect())
}
