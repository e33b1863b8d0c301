//! Alerts: what fires, what has fired, and which records say why. At most one alert fires per node, origin, rule and
//! source; raising it again counts.

use sqlx::{AssertSqlSafe, Row};
use wire::world::WallMs;

use crate::store::connection::{Readers, StoredRow, Writer};

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A rule on the node.
    Node,
    /// The hub's own watch.
    Hub,
}

impl Origin {
    /// The word in the store and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Node => "node",
            Origin::Hub => "hub",
        }
    }
}

/// What an alert is known by while it fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertKey {
    /// Who says so.
    pub origin: Origin,
    /// Which rule.
    pub rule: String,
    /// About what: a source, or for the hub's own rules a stream or nothing.
    pub source: String,
}

/// An alert to raise.
#[derive(Debug, Clone, PartialEq)]
pub struct Raise {
    /// See [`AlertKey`].
    pub key: AlertKey,
    /// `info`, `warning` or `critical`.
    pub severity: &'static str,
    /// When the condition began to hold.
    pub since_ms: WallMs,
    /// When it had held for long enough.
    pub fired_ms: WallMs,
    /// The condition, as written.
    pub condition: String,
    /// Why, in words.
    pub why: String,
    /// The value it was judged on.
    pub value: Option<f64>,
    /// The calibrated probability that it is right.
    pub confidence: Option<f64>,
    /// The model behind it.
    pub model: Option<String>,
    /// How many things it stands for.
    pub count: i64,
    /// The record that explains it.
    pub record: Option<i64>,
}

impl Raise {
    /// A warning by one of the hub's own rules, about one thing.
    pub fn by_hub(rule: &str, source: &str, why: String, now_ms: WallMs) -> Raise {
        Raise {
            key: AlertKey { origin: Origin::Hub, rule: rule.to_owned(), source: source.to_owned() },
            severity: "warning",
            since_ms: now_ms,
            fired_ms: now_ms,
            condition: String::new(),
            why,
            value: None,
            confidence: None,
            model: None,
            count: 1,
            record: None,
        }
    }
}

/// Raises an alert, or counts it up if it fires already. True if it is new.
pub async fn raise(
    writer: &mut Writer,
    node: i64,
    alert: &Raise,
    now_ms: WallMs,
) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE alerts SET count = count + $5, seen_ms = $6, why = $7, value = $8, confidence = $9 \
         WHERE node = $1 AND origin = $2 AND rule = $3 AND source = $4 AND cleared_ms IS NULL",
    )
    .bind(node)
    .bind(alert.key.origin.as_str())
    .bind(&alert.key.rule)
    .bind(&alert.key.source)
    .bind(alert.count)
    .bind(now_ms)
    .bind(&alert.why)
    .bind(alert.value)
    .bind(alert.confidence)
    .execute(&mut *writer)
    .await?;
    if updated.rows_affected() > 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO alerts (node, origin, rule, source, severity, since_ms, fired_ms, seen_ms, condition, why, \
         value, confidence, model, count, record) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(node)
    .bind(alert.key.origin.as_str())
    .bind(&alert.key.rule)
    .bind(&alert.key.source)
    .bind(alert.severity)
    .bind(alert.since_ms)
    .bind(alert.fired_ms)
    .bind(now_ms)
    .bind(&alert.condition)
    .bind(&alert.why)
    .bind(alert.value)
    .bind(alert.confidence)
    .bind(&alert.model)
    .bind(alert.count)
    .bind(alert.record)
    .execute(writer)
    .await?;
    Ok(true)
}

/// Raises an alert that stands for the fleet: it fires once, on whichever node was first, and counts what it stands for now.
pub async fn raise_for_fleet(
    writer: &mut Writer,
    node: i64,
    alert: &Raise,
    now_ms: WallMs,
) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE alerts SET count = $4, seen_ms = $5, why = $6 \
         WHERE origin = $1 AND rule = $2 AND source = $3 AND cleared_ms IS NULL",
    );
    let updated = updated.bind(alert.key.origin.as_str()).bind(&alert.key.rule).bind(&alert.key.source);
    let updated = updated.bind(alert.count).bind(now_ms).bind(&alert.why).execute(&mut *writer).await?;
    if updated.rows_affected() > 0 { Ok(false) } else { raise(writer, node, alert, now_ms).await }
}

/// Clears an alert if it fires. True if it did.
pub async fn clear(
    writer: &mut Writer,
    node: i64,
    key: &AlertKey,
    cleared_ms: WallMs,
    record: Option<i64>,
    now_ms: WallMs,
) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE alerts SET cleared_ms = $5, clear_record = $6, seen_ms = $7 \
         WHERE node = $1 AND origin = $2 AND rule = $3 AND source = $4 AND cleared_ms IS NULL",
    )
    .bind(node)
    .bind(key.origin.as_str())
    .bind(&key.rule)
    .bind(&key.source)
    .bind(cleared_ms)
    .bind(record)
    .bind(now_ms)
    .execute(writer)
    .await?;
    Ok(updated.rows_affected() > 0)
}

/// Clears every firing alert of one of the hub's own rules on a node, except those about `keep`. How many there were.
pub async fn clear_hub_rule(
    writer: &mut Writer,
    node: i64,
    rule: &str,
    keep: &str,
    now_ms: WallMs,
) -> Result<u64, sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE alerts SET cleared_ms = $4, seen_ms = $4 \
         WHERE node = $1 AND origin = 'hub' AND rule = $2 AND source <> $3 AND cleared_ms IS NULL",
    );
    Ok(updated.bind(node).bind(rule).bind(keep).bind(now_ms).execute(writer).await?.rows_affected())
}

/// Clears every firing alert of one of the hub's own rules about `source`, on whichever node it fires.
pub async fn clear_hub_source(
    writer: &mut Writer,
    rule: &str,
    source: &str,
    now_ms: WallMs,
) -> Result<(), sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE alerts SET cleared_ms = $3, seen_ms = $3 \
         WHERE origin = 'hub' AND rule = $1 AND source = $2 AND cleared_ms IS NULL",
    );
    updated.bind(rule).bind(source).bind(now_ms).execute(writer).await?;
    Ok(())
}

/// Clears every firing alert of one of the hub's own rules that was last raised before `seen_ms`.
pub async fn expire_hub_rule(
    writer: &mut Writer,
    rule: &str,
    seen_ms: WallMs,
    now_ms: WallMs,
) -> Result<u64, sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE alerts SET cleared_ms = $3 \
         WHERE origin = 'hub' AND rule = $1 AND cleared_ms IS NULL AND seen_ms < $2",
    );
    Ok(updated.bind(rule).bind(seen_ms).bind(now_ms).execute(writer).await?.rows_affected())
}

/// An alert as a reader sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRow {
    /// Its number in the store; grows with arrival.
    pub id: i64,
    /// Whose it is.
    pub node: String,
    /// `node` or `hub`.
    pub origin: String,
    /// See [`AlertKey::rule`].
    pub rule: String,
    /// See [`AlertKey::source`].
    pub source: String,
    /// See [`Raise::severity`].
    pub severity: String,
    /// See [`Raise::since_ms`].
    pub since_ms: WallMs,
    /// See [`Raise::fired_ms`].
    pub fired_ms: WallMs,
    /// When it was cleared; absent while it fires.
    pub cleared_ms: Option<WallMs>,
    /// See [`Raise::condition`].
    pub condition: String,
    /// See [`Raise::why`].
    pub why: String,
    /// See [`Raise::value`].
    pub value: Option<f64>,
    /// See [`Raise::confidence`].
    pub confidence: Option<f64>,
    /// See [`Raise::model`].
    pub model: Option<String>,
    /// See [`Raise::count`].
    pub count: i64,
    /// Where the record that explains it stands: journal, stream, sequence number.
    pub record: Option<(String, String, i64)>,
    /// Who has seen it, when, and what they say; absent until somebody has.
    pub acked: Option<Acked>,
}

/// That somebody has seen an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    /// Who: `operator:<name>`.
    pub by: String,
    /// When.
    pub at_ms: WallMs,
    /// What they say.
    pub note: String,
}

/// Keeps that somebody has seen an alert, in the place of whoever did before. The node that it is about; `None` if there is no
/// such alert.
pub async fn ack(writer: &mut Writer, id: i64, acked: &Acked) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query("UPDATE alerts SET acked_by = $2, acked_ms = $3, note = $4 WHERE id = $1");
    query.bind(id).bind(&acked.by).bind(acked.at_ms).bind(&acked.note).execute(&mut *writer).await?;
    let query = sqlx::query("SELECT n.name FROM alerts a JOIN nodes n ON n.id = a.node WHERE a.id = $1");
    query.bind(id).fetch_optional(writer).await?.map(|row| row.try_get(0)).transpose()
}

/// Which alerts are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// Of this node.
    pub node: Option<String>,
    /// Only those that fire, or only those that do not.
    pub firing: Option<bool>,
    /// With a smaller number than this.
    pub before: Option<i64>,
}

const SELECT: &str = "SELECT a.id, n.name AS node, a.origin, a.rule, a.source, a.severity, a.since_ms, a.fired_ms, \
     a.cleared_ms, a.condition, a.why, a.value, a.confidence, a.model, a.count, a.acked_by, a.acked_ms, a.note, j.name AS journal, s.name AS stream, \
     r.seq FROM alerts a JOIN nodes n ON n.id = a.node LEFT JOIN records r ON r.id = a.record \
     LEFT JOIN streams s ON s.id = r.stream LEFT JOIN journals j ON j.id = s.journal";

/// One alert.
pub async fn one(readers: &Readers, id: i64) -> Result<Option<AlertRow>, sqlx::Error> {
    let query = sqlx::query(AssertSqlSafe(format!("{SELECT} WHERE a.id = $1"))).bind(id);
    query.fetch_optional(readers).await?.as_ref().map(alert_row).transpose()
}

/// The newest alerts that pass the filter, newest first.
pub async fn list(readers: &Readers, filter: &AlertFilter, limit: u32) -> Result<Vec<AlertRow>, sqlx::Error> {
    // Written out, not as a parameter, so that the index of what fires can serve it.
    let firing = match filter.firing {
        Some(true) => " AND a.cleared_ms IS NULL",
        Some(false) => " AND a.cleared_ms IS NOT NULL",
        None => "",
    };
    let node =
        if filter.node.is_some() { " AND a.node = (SELECT id FROM nodes WHERE name = $3)" } else { "" };
    let sql = format!("{SELECT} WHERE a.id < $1{firing}{node} ORDER BY a.id DESC LIMIT $2");
    let mut query =
        sqlx::query(AssertSqlSafe(sql)).bind(filter.before.unwrap_or(i64::MAX)).bind(i64::from(limit));
    if let Some(node) = &filter.node {
        query = query.bind(node);
    }
    query.fetch_all(readers).await?.iter().map(alert_row).collect()
}

/// The alerts of one source of a node that fired or still fire within a stretch of the node's time, oldest first.
pub async fn within(
    readers: &Readers,
    node: i64,
    source: &str,
    from_ms: WallMs,
    to_ms: WallMs,
    limit: u32,
) -> Result<Vec<AlertRow>, sqlx::Error> {
    let sql = format!(
        "{SELECT} WHERE a.node = $1 AND a.origin = 'node' AND a.source = $2 AND a.since_ms <= $4 \
         AND (a.cleared_ms IS NULL OR a.cleared_ms >= $3) ORDER BY a.id DESC LIMIT $5"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(node).bind(source);
    let rows = query.bind(from_ms).bind(to_ms).bind(i64::from(limit)).fetch_all(readers).await?;
    rows.iter().rev().map(alert_row).collect()
}

/// How many alerts fire on a node.
pub async fn count_firing(readers: &Readers, node: i64) -> Result<i64, sqlx::Error> {
    let query = sqlx::query("SELECT COUNT(*) FROM alerts WHERE node = $1 AND cleared_ms IS NULL");
    query.bind(node).fetch_one(readers).await?.try_get(0)
}

/// How many alerts fire, by severity.
pub async fn firing(readers: &Readers) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT severity, COUNT(*) FROM alerts WHERE cleared_ms IS NULL GROUP BY severity ORDER BY severity",
    );
    rows.fetch_all(readers).await?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// How many alerts fire on each node that has any: `(node, alerts)`.
pub async fn firing_by_node(readers: &Readers) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT n.name, COUNT(*) FROM alerts a JOIN nodes n ON n.id = a.node \
         WHERE a.cleared_ms IS NULL GROUP BY n.name",
    );
    rows.fetch_all(readers).await?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

fn alert_row(row: &StoredRow) -> Result<AlertRow, sqlx::Error> {
    let journal: Option<String> = row.try_get("journal")?;
    let stream: Option<String> = row.try_get("stream")?;
    let seq: Option<i64> = row.try_get("seq")?;
    let acked_by: Option<String> = row.try_get("acked_by")?;
    let acked_ms: Option<WallMs> = row.try_get("acked_ms")?;
    let note: Option<String> = row.try_get("note")?;
    Ok(AlertRow {
        id: row.try_get("id")?,
        node: row.try_get("node")?,
        origin: row.try_get("origin")?,
        rule: row.try_get("rule")?,
        source: row.try_get("source")?,
        severity: row.try_get("severity")?,
        since_ms: row.try_get("since_ms")?,
        fired_ms: row.try_get("fired_ms")?,
        cleared_ms: row.try_get("cleared_ms")?,
        condition: row.try_get("condition")?,
        why: row.try_get("why")?,
        value: row.try_get("value")?,
        confidence: row.try_get("confidence")?,
        model: row.try_get("model")?,
        count: row.try_get("count")?,
        record: journal.zip(stream).zip(seq).map(|((journal, stream), seq)| (journal, stream, seq)),
        acked: acked_by.zip(acked_ms).map(|(by, at_ms)| Acked { by, at_ms, note: note.unwrap_or_default() }),
    })
}
