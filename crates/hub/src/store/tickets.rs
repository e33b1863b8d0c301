//! Who waits for a person to be let in, and devices that came in by their maker's certificate.

use std::collections::BTreeMap;

use sqlx::Row;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::WallMs;

use crate::identity::enrol::Standing;
use crate::store::connection::{Readers, StoredRow, Writer};
use crate::store::identity::labels_text;

/// Somebody who asked with a token and was told to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketRow {
    /// By which it asks again.
    pub id: String,
    /// The token, by its id.
    pub enrolment: String,
    /// SHA-256 of its public key.
    pub key: Hash,
    /// What it will be called.
    pub name: NodeId,
    /// What it says of itself, as JSON.
    pub facts: String,
    /// What it gets with the token.
    pub labels: BTreeMap<String, String>,
    /// What was said of it.
    pub standing: Standing,
    /// When it asked first.
    pub made_ms: WallMs,
}

/// Keeps one. `csr`: its request for a certificate, DER.
pub async fn add(writer: &mut Writer, row: &TicketRow, csr: &[u8]) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO tickets (id, enrolment, csr, spki, name, facts, state, answer, made_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    );
    let query = query.bind(&row.id).bind(&row.enrolment).bind(csr).bind(row.key.as_bytes().as_slice());
    let query = query.bind(row.name.as_str()).bind(&row.facts).bind(row.standing.as_str());
    let labels = labels_text(&row.labels)?.into_bytes();
    query.bind(labels).bind(row.made_ms).execute(writer).await?;
    Ok(())
}

const TICKET: &str = "SELECT id, enrolment, spki, name, facts, state, answer, made_ms FROM tickets";

fn ticket(row: &StoredRow) -> Result<TicketRow, sqlx::Error> {
    let odd = |what: &str| sqlx::Error::Decode(what.into());
    let (key, labels): (Vec<u8>, Vec<u8>) = (row.try_get("spki")?, row.try_get("answer")?);
    let name: String = row.try_get("name")?;
    let standing: String = row.try_get("state")?;
    Ok(TicketRow {
        id: row.try_get("id")?,
        enrolment: row.try_get("enrolment")?,
        key: Hash::from_slice(&key).ok_or_else(|| odd("an id of a key has 32 bytes"))?,
        name: NodeId::new(&name).map_err(|error| sqlx::Error::Decode(error.into()))?,
        facts: row.try_get("facts")?,
        labels: serde_json::from_slice(&labels).unwrap_or_default(),
        standing: Standing::parse(&standing).ok_or_else(|| odd("a ticket stands in no known way"))?,
        made_ms: row.try_get("made_ms")?,
    })
}

/// The ticket with this id.
pub async fn find(writer: &mut Writer, id: &str) -> Result<Option<TicketRow>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{TICKET} WHERE id = $1"));
    sqlx::query(sql).bind(id).fetch_optional(writer).await?.as_ref().map(ticket).transpose()
}

/// What this key got for this token.
pub async fn of_key(
    writer: &mut Writer,
    enrolment: &str,
    key: &Hash,
) -> Result<Option<TicketRow>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{TICKET} WHERE enrolment = $1 AND spki = $2"));
    let query = sqlx::query(sql).bind(enrolment).bind(key.as_bytes().as_slice());
    query.fetch_optional(writer).await?.as_ref().map(ticket).transpose()
}

/// Those who stand so, or all; the newest first.
pub async fn list(
    readers: &Readers,
    standing: Option<Standing>,
    limit: i64,
) -> Result<Vec<TicketRow>, sqlx::Error> {
    let sql = format!("{TICKET} WHERE $1 IS NULL OR state = $1 ORDER BY made_ms DESC, id LIMIT $2");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(standing.map(Standing::as_str)).bind(limit);
    query.fetch_all(readers).await?.iter().map(ticket).collect()
}

/// How many wait.
pub async fn waiting(writer: &mut Writer) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("SELECT COUNT(*) FROM tickets WHERE state = 'waiting'").fetch_one(writer).await?;
    row.try_get(0)
}

/// Somebody said so.
pub async fn settle(writer: &mut Writer, id: &str, standing: Standing) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE tickets SET state = $2 WHERE id = $1").bind(id).bind(standing.as_str());
    query.execute(writer).await?;
    Ok(())
}

/// Forgets tickets from before.
pub async fn forget_before(writer: &mut Writer, ms: WallMs) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM tickets WHERE made_ms < $1").bind(ms).execute(writer).await?;
    Ok(())
}

/// Forgets those who wait by a token that was taken back.
pub async fn forget_waiting(writer: &mut Writer, enrolment: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::query("DELETE FROM tickets WHERE enrolment = $1 AND state = 'waiting'");
    query.bind(enrolment).execute(writer).await?;
    Ok(())
}

/// The key with which a maker's device came in, if it did.
pub async fn device(writer: &mut Writer, maker: &Hash, serial: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let query = sqlx::query("SELECT spki FROM factory WHERE maker = $1 AND serial = $2");
    let row = query.bind(maker.as_bytes().as_slice()).bind(serial).fetch_optional(writer).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// A maker's device came in.
pub async fn add_device(
    writer: &mut Writer,
    maker: &Hash,
    serial: &str,
    key: &Hash,
    now_ms: WallMs,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query("INSERT INTO factory (maker, serial, spki, made_ms) VALUES ($1, $2, $3, $4)");
    let query = query.bind(maker.as_bytes().as_slice()).bind(serial).bind(key.as_bytes().as_slice());
    query.bind(now_ms).execute(writer).await?;
    Ok(())
}
