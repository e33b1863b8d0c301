//! Which records lie in the archive, file by file; and the records of a day on their way there.

use sqlx::Row;
use wire::world::WallMs;

use crate::store::connection::{Readers, StoredRow, Writer};
use crate::store::records::{RecordRow, SELECT, record_row};

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveRow {
    /// Where it lies in the depot.
    pub path: String,
    /// The class of its records.
    pub class: String,
    /// It has all records of its class from this number on …
    pub first: i64,
    /// … to this one.
    pub last: i64,
    /// How many these are.
    pub count: i64,
    /// Its size.
    pub bytes: i64,
    /// Its SHA-256, 64 hexadecimal digits.
    pub hash: String,
    /// When it was written.
    pub at_ms: WallMs,
}

/// Notes a file that begins behind `reaches`; false if there is one by now that goes further.
pub async fn add(writer: &mut Writer, row: &ArchiveRow, reaches: i64) -> Result<bool, sqlx::Error> {
    let newest = sqlx::query("SELECT COALESCE(MAX(last), 0) FROM archives WHERE class = $1").bind(&row.class);
    if newest.fetch_one(&mut *writer).await?.try_get::<i64, _>(0)? != reaches {
        return Ok(false);
    }
    let query = sqlx::query(
        "INSERT INTO archives (path, class, first, last, count, bytes, hash, at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (path) DO NOTHING",
    );
    let query = query.bind(&row.path).bind(&row.class).bind(row.first).bind(row.last).bind(row.count);
    let done = query.bind(row.bytes).bind(&row.hash).bind(row.at_ms).execute(writer).await?;
    Ok(done.rows_affected() > 0)
}

/// Up to which number the archive has everything of a dataset: `audit` … `raw`, or `gaps`; 0 if it has nothing.
pub async fn reaches(readers: &Readers, class: &str) -> Result<i64, sqlx::Error> {
    let query = sqlx::query("SELECT COALESCE(MAX(last), 0) FROM archives WHERE class = $1");
    query.bind(class).fetch_one(readers).await?.try_get(0)
}

/// How many files and bytes the archive has.
pub async fn size(readers: &Readers) -> Result<(i64, i64), sqlx::Error> {
    let query = sqlx::query("SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM archives");
    let row = query.fetch_one(readers).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The records of a bucket with numbers in `first..=last`, oldest first, at most `limit`.
pub async fn records(
    readers: &Readers,
    bucket: i64,
    (first, last): (i64, i64),
    limit: i64,
) -> Result<Vec<RecordRow>, sqlx::Error> {
    let sql = format!("{SELECT} WHERE r.bucket = $1 AND r.id >= $2 AND r.id <= $3 ORDER BY r.id LIMIT $4");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(bucket).bind(first).bind(last).bind(limit);
    query.fetch_all(readers).await?.iter().map(record_row).collect()
}

/// A loss on its way into the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossRow {
    /// Its number in the store.
    pub id: i64,
    /// Whose records were lost.
    pub node: String,
    /// From which life of the journal.
    pub journal: String,
    /// From which stream.
    pub stream: String,
    /// The stream's class.
    pub class: String,
    /// The first lost sequence number.
    pub first: i64,
    /// The last lost sequence number.
    pub last: i64,
    /// Why.
    pub reason: String,
    /// The chain's hash at `last`.
    pub hash: Vec<u8>,
    /// When the hub learnt of it.
    pub noted_ms: WallMs,
}

/// Losses behind the number `after`, by their numbers, at most `limit`.
pub async fn gaps(readers: &Readers, after: i64, limit: i64) -> Result<Vec<LossRow>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT g.id, n.name AS node, j.name AS journal, s.name AS stream, s.class, g.first, g.last, g.reason, g.hash, \
         g.noted_ms FROM gaps g JOIN streams s ON s.id = g.stream JOIN journals j ON j.id = s.journal \
         JOIN nodes n ON n.id = g.node WHERE g.id > $1 ORDER BY g.id LIMIT $2",
    );
    let read = |row: StoredRow| {
        Ok(LossRow {
            id: row.try_get("id")?,
            node: row.try_get("node")?,
            journal: row.try_get("journal")?,
            stream: row.try_get("stream")?,
            class: row.try_get("class")?,
            first: row.try_get("first")?,
            last: row.try_get("last")?,
            reason: row.try_get("reason")?,
            hash: row.try_get("hash")?,
            noted_ms: row.try_get("noted_ms")?,
        })
    };
    let rows = query.bind(after).bind(limit).fetch_all(readers).await?;
    rows.into_iter().map(read).collect()
}
