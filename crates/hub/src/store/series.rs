//! What charts are made of: where the summaries of a source are, and the anomalies its models found.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::Row;
use wire::world::WallMs;

use crate::store::connection::{ROWS_AT_ONCE, Readers, StoredRow, Writer, insert_rows};

/// The number of a node's source; takes it in if it is new.
pub async fn source(writer: &mut Writer, node: i64, name: &str) -> Result<i64, sqlx::Error> {
    let known = sqlx::query("SELECT id FROM sources WHERE node = $1 AND name = $2").bind(node).bind(name);
    if let Some(row) = known.fetch_optional(&mut *writer).await? {
        return row.try_get(0);
    }
    let new = sqlx::query("INSERT INTO sources (node, name) VALUES ($1, $2) RETURNING id");
    new.bind(node).bind(name).fetch_one(writer).await?.try_get(0)
}

/// That a record is a summary of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSummary {
    /// The source's number.
    pub source: i64,
    /// The time of the last reading.
    pub to_ms: WallMs,
    /// The record's number.
    pub record: i64,
}

/// Notes where the summaries of sources are.
pub async fn add_summaries(writer: &mut Writer, summaries: &[NewSummary]) -> Result<(), sqlx::Error> {
    for rows in summaries.chunks(ROWS_AT_ONCE) {
        let mut query = sqlx::query(insert_rows("summaries (source, to_ms, record)", 3, rows.len()));
        for NewSummary { source, to_ms, record } in rows {
            query = query.bind(source).bind(to_ms).bind(record);
        }
        query.execute(&mut *writer).await?;
    }
    Ok(())
}

/// One end of an anomaly.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeEnd<'a> {
    /// The source's number.
    pub source: i64,
    /// Its node's number.
    pub node: i64,
    /// The model that found it.
    pub model: &'a str,
    /// When it began.
    pub since_ms: WallMs,
    /// The time of this end.
    pub at_ms: WallMs,
    /// The highest score so far.
    pub score: f64,
    /// The probability that goes with it.
    pub probability: Option<f64>,
    /// Which channels drove it, as JSON.
    pub channels: String,
    /// The record that says so.
    pub record: i64,
}

/// An anomaly begins. One that never ended, because its node was cut off, ends where it began.
pub async fn begin_episode(writer: &mut Writer, end: &EpisodeEnd<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE episodes SET ended_ms = since_ms WHERE source = $1 AND model = $2 AND ended_ms IS NULL",
    )
    .bind(end.source)
    .bind(end.model)
    .execute(&mut *writer)
    .await?;
    insert_episode(writer, end, None).await
}

/// An anomaly ends.
pub async fn end_episode(writer: &mut Writer, end: &EpisodeEnd<'_>) -> Result<(), sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE episodes SET ended_ms = $3, score = $4, probability = $5, channels = $6 \
         WHERE source = $1 AND model = $2 AND ended_ms IS NULL",
    )
    .bind(end.source)
    .bind(end.model)
    .bind(end.at_ms)
    .bind(end.score)
    .bind(end.probability)
    .bind(&end.channels)
    .execute(&mut *writer)
    .await?;
    if updated.rows_affected() == 0 {
        // Its beginning was lost in a gap.
        insert_episode(writer, end, Some(end.at_ms)).await?;
    }
    Ok(())
}

async fn insert_episode(
    writer: &mut Writer,
    end: &EpisodeEnd<'_>,
    ended_ms: Option<WallMs>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO episodes (source, node, model, since_ms, ended_ms, score, probability, channels, record) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(end.source)
    .bind(end.node)
    .bind(end.model)
    .bind(end.since_ms)
    .bind(ended_ms)
    .bind(end.score)
    .bind(end.probability)
    .bind(&end.channels)
    .bind(end.record)
    .execute(writer)
    .await?;
    Ok(())
}

/// The sources of a node, with the time of the last summary of each: `(name, latest_ms)`.
pub async fn sources(readers: &Readers, node: i64) -> Result<Vec<(String, Option<WallMs>)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT name, (SELECT MAX(to_ms) FROM summaries WHERE source = sources.id) FROM sources \
         WHERE node = $1 ORDER BY name LIMIT 256",
    );
    rows.bind(node)
        .fetch_all(readers)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// The bodies of the summaries of a source that end within a stretch of time, oldest first, as they come.
/// At most `limit`.
pub fn summaries<'a>(
    readers: &'a Readers,
    node: i64,
    source: &'a str,
    from_ms: WallMs,
    to_ms: WallMs,
    limit: u32,
) -> BoxStream<'a, Result<String, sqlx::Error>> {
    let query = sqlx::query(
        "SELECT r.body FROM summaries s JOIN records r ON r.id = s.record \
         WHERE s.source = (SELECT id FROM sources WHERE node = $1 AND name = $2) \
         AND s.to_ms >= $3 AND s.to_ms <= $4 ORDER BY s.to_ms, s.record LIMIT $5",
    );
    let rows = query.bind(node).bind(source).bind(from_ms).bind(to_ms).bind(i64::from(limit)).fetch(readers);
    rows.and_then(|row| async move { row.try_get(0) }).boxed()
}

/// An anomaly as a reader sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeRow {
    /// Its number in the store.
    pub id: i64,
    /// Whose it is.
    pub node: String,
    /// Where the readings came from.
    pub source: String,
    /// The model that found it.
    pub model: String,
    /// When it began.
    pub since_ms: WallMs,
    /// When it ended; absent while it lasts.
    pub ended_ms: Option<WallMs>,
    /// The highest score; 1 is the model's threshold.
    pub score: f64,
    /// The probability that goes with it.
    pub probability: Option<f64>,
    /// Which channels drove it, as JSON.
    pub channels: String,
    /// Where the record that says so stands: journal, stream, sequence number.
    pub record: (String, String, i64),
}

const EPISODES: &str = "SELECT e.id, n.name AS node, o.name AS source, e.model, e.since_ms, e.ended_ms, e.score, \
     e.probability, e.channels, j.name AS journal, s.name AS stream, r.seq \
     FROM episodes e JOIN sources o ON o.id = e.source JOIN nodes n ON n.id = e.node \
     JOIN records r ON r.id = e.record JOIN streams s ON s.id = r.stream JOIN journals j ON j.id = s.journal";

/// The anomalies of a source that touch a stretch of time, oldest first; the newest `limit` of them.
pub async fn episodes(
    readers: &Readers,
    node: i64,
    source: &str,
    from_ms: WallMs,
    to_ms: WallMs,
    limit: u32,
) -> Result<Vec<EpisodeRow>, sqlx::Error> {
    let sql = format!(
        "{EPISODES} WHERE e.source = (SELECT id FROM sources WHERE node = $1 AND name = $2) AND e.since_ms <= $4 \
         AND (e.ended_ms IS NULL OR e.ended_ms >= $3) ORDER BY e.since_ms DESC LIMIT $5"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(node).bind(source);
    let rows = query.bind(from_ms).bind(to_ms).bind(i64::from(limit)).fetch_all(readers).await?;
    rows.iter().rev().map(episode_row).collect()
}

/// The newest anomalies of the fleet, newest first.
pub async fn latest_episodes(readers: &Readers, limit: u32) -> Result<Vec<EpisodeRow>, sqlx::Error> {
    let query = sqlx::query(sqlx::AssertSqlSafe(format!("{EPISODES} ORDER BY e.id DESC LIMIT $1")));
    query.bind(i64::from(limit)).fetch_all(readers).await?.iter().map(episode_row).collect()
}

fn episode_row(row: &StoredRow) -> Result<EpisodeRow, sqlx::Error> {
    Ok(EpisodeRow {
        id: row.try_get("id")?,
        node: row.try_get("node")?,
        source: row.try_get("source")?,
        model: row.try_get("model")?,
        since_ms: row.try_get("since_ms")?,
        ended_ms: row.try_get("ended_ms")?,
        score: row.try_get("score")?,
        probability: row.try_get("probability")?,
        channels: row.try_get("channels")?,
        record: (row.try_get("journal")?, row.try_get("stream")?, row.try_get("seq")?),
    })
}
