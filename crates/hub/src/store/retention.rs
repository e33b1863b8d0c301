//! What is cut: whole buckets of records, a few rows at a time, with all that was made of them; and what else has had its time.
//!
//! Of each stream the hash at the end of what was cut stays, so that a chain that begins in the middle can still be checked.

use std::ops::Range;

use sqlx::Row;
use wire::world::WallMs;

use crate::store::connection::{Readers, Writer};

/// How the keeping of records stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping {
    /// When it was last looked at, by the database's time.
    pub ran_ms: Option<WallMs>,
    /// How many records were ever cut.
    pub cut: i64,
    /// Samples before this day have no hours any more.
    pub folded: i64,
    /// Why nothing is cut; empty if nothing stands in the way.
    pub waits: String,
}

/// How it stands.
pub async fn keeping(readers: &Readers) -> Result<Keeping, sqlx::Error> {
    let row = sqlx::query("SELECT ran_ms, cut, folded, waits FROM keeping WHERE id = 1");
    let row = row.fetch_one(readers).await?;
    Ok(Keeping {
        ran_ms: row.try_get("ran_ms")?,
        cut: row.try_get("cut")?,
        folded: row.try_get("folded")?,
        waits: row.try_get("waits")?,
    })
}

/// It was looked at.
pub async fn ran(writer: &mut Writer, now_ms: WallMs) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE keeping SET ran_ms = $1 WHERE id = 1").bind(now_ms).execute(writer).await?;
    Ok(())
}

/// Why nothing is cut; empty if nothing stands in the way.
pub async fn waits(writer: &mut Writer, why: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE keeping SET waits = $1 WHERE id = 1").bind(why).execute(writer).await?;
    Ok(())
}

/// Samples before this day have no hours any more.
pub async fn folded(writer: &mut Writer, day: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE keeping SET folded = $1 WHERE id = 1").bind(day).execute(writer).await?;
    Ok(())
}

/// How many of the nodes that were heard of since `since_ms` have about the hub's time, and how many these are: `(agree, heard)`.
pub async fn clocks(readers: &Readers, since_ms: WallMs, off_ms: i64) -> Result<(i64, i64), sqlx::Error> {
    let query = sqlx::query(
        "SELECT CAST(COALESCE(SUM(CASE WHEN clock_offset_ms BETWEEN -$2 AND $2 THEN 1 ELSE 0 END), 0) AS BIGINT), \
         COUNT(*) FROM nodes WHERE checked_in_ms >= $1 AND clock_offset_ms IS NOT NULL",
    );
    let row = query.bind(since_ms).bind(off_ms).fetch_one(readers).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The oldest bucket of these that has a record.
pub async fn oldest(readers: &Readers, buckets: &Range<i64>) -> Result<Option<i64>, sqlx::Error> {
    let query = sqlx::query("SELECT MIN(bucket) FROM records WHERE bucket >= $1 AND bucket < $2");
    query.bind(buckets.start).bind(buckets.end).fetch_one(readers).await?.try_get(0)
}

/// The records of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The number of the first.
    pub first: i64,
    /// The number of the last.
    pub last: i64,
    /// How many there are.
    pub count: i64,
}

/// The records of a bucket; `None` if there are none.
pub async fn span(readers: &Readers, bucket: i64) -> Result<Option<Span>, sqlx::Error> {
    let row = sqlx::query("SELECT MIN(id), MAX(id), COUNT(*) FROM records WHERE bucket = $1").bind(bucket);
    let row = row.fetch_one(readers).await?;
    let (first, last): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let count = row.try_get(2)?;
    Ok(first.zip(last).map(|(first, last)| Span { first, last, count }))
}

/// The number of the last of the next `most` records of a bucket from `from` on; `None` if there are none.
pub async fn next(readers: &Readers, bucket: i64, from: i64, most: i64) -> Result<Option<i64>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT MAX(id) FROM (SELECT id FROM records WHERE bucket = $1 AND id >= $2 ORDER BY id LIMIT $3) AS next",
    );
    query.bind(bucket).bind(from).bind(most).fetch_one(readers).await?.try_get(0)
}

/// Some records of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The bucket.
    pub bucket: i64,
    /// The number of the first.
    pub first: i64,
    /// The number of the last.
    pub last: i64,
    /// Whether the records themselves stay, to go at once with their table.
    pub only_made: bool,
    /// Up to which number losses may go.
    pub gaps_to: i64,
}

/// Cuts a piece, with what was made of it.
pub async fn cut(writer: &mut Writer, piece: &Piece) -> Result<(), sqlx::Error> {
    let Piece { bucket, first, last, only_made, gaps_to } = *piece;
    const OF: &str = "(SELECT id FROM records WHERE bucket = $1 AND id >= $2 AND id <= $3)";
    let ends = sqlx::query(
        "SELECT r.stream, r.seq, r.hash FROM records r JOIN (SELECT stream, MAX(seq) AS seq FROM records \
         WHERE bucket = $1 AND id >= $2 AND id <= $3 GROUP BY stream) AS ends \
         ON ends.stream = r.stream AND ends.seq = r.seq WHERE r.bucket = $1",
    );
    for end in ends.bind(bucket).bind(first).bind(last).fetch_all(&mut *writer).await? {
        let (stream, seq): (i64, i64) = (end.try_get(0)?, end.try_get(1)?);
        let base =
            sqlx::query("UPDATE streams SET base_seq = $2, base_hash = $3 WHERE id = $1 AND base_seq < $2");
        base.bind(stream).bind(seq).bind(end.try_get::<Vec<u8>, _>(2)?).execute(&mut *writer).await?;
        // The newest stays, so that no number is given twice.
        let gaps = sqlx::query(
            "DELETE FROM gaps WHERE stream = $1 AND last <= $2 AND id <= $3 AND id < (SELECT MAX(id) FROM gaps)",
        );
        gaps.bind(stream).bind(seq).bind(gaps_to).execute(&mut *writer).await?;
    }
    for made in [
        "summaries WHERE record IN",
        "episodes WHERE record IN",
        "alerts WHERE cleared_ms IS NOT NULL AND record IN",
    ] {
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {made} {OF}"));
        sqlx::query(sql).bind(bucket).bind(first).bind(last).execute(&mut *writer).await?;
    }
    if only_made {
        return Ok(());
    }
    let query = sqlx::query("DELETE FROM records WHERE bucket = $1 AND id >= $2 AND id <= $3");
    let gone = query.bind(bucket).bind(first).bind(last).execute(&mut *writer).await?.rows_affected();
    count_cut(writer, gone as i64).await
}

/// So many records are gone.
pub async fn count_cut(writer: &mut Writer, count: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE keeping SET cut = cut + $1 WHERE id = 1").bind(count).execute(writer).await?;
    Ok(())
}

/// What is cut by its time alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// Alerts without a record, cleared before this time.
    Alerts,
    /// Samples of days before this one.
    Samples,
    /// Refusals of releases from before.
    Refused,
    /// Answers that counted until then.
    Answers,
    /// Codes that counted until then.
    Enrolments,
    /// Wishes to come in from before.
    Tickets,
}

impl Old {
    /// All of them.
    pub const ALL: [Old; 6] =
        [Old::Alerts, Old::Samples, Old::Refused, Old::Answers, Old::Enrolments, Old::Tickets];

    /// Its table, the columns that name a row, and which rows are too old.
    fn sql(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Old::Alerts => ("alerts", "id", "record IS NULL AND cleared_ms < $1"),
            Old::Samples => ("samples", "model, node, day, manifest", "day < $1"),
            Old::Refused => ("refused", "release_index, node", "at_ms < $1"),
            Old::Answers => ("answers", "key", "until_ms < $1"),
            Old::Enrolments => ("enrolments", "id", "until_ms < $1"),
            Old::Tickets => ("tickets", "id", "made_ms < $1"),
        }
    }
}

/// Removes at most `most` of what is older than `before`. How many there were.
pub async fn remove(writer: &mut Writer, old: Old, before: i64, most: i64) -> Result<u64, sqlx::Error> {
    let (table, names, which) = old.sql();
    let sql = format!(
        "DELETE FROM {table} WHERE ({names}) IN (SELECT {names} FROM {table} WHERE {which} LIMIT $2)"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(before).bind(most);
    Ok(query.execute(writer).await?.rows_affected())
}

/// Since when the oldest rollout under way has offered something.
pub async fn offered_since(readers: &Readers) -> Result<Option<WallMs>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT MIN(m.offered_ms) FROM members m JOIN rollouts r ON r.id = m.rollout WHERE r.active = 1",
    );
    query.fetch_one(readers).await?.try_get(0)
}
