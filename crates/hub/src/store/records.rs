//! Records and gaps: written once, in order, and read back byte for byte.

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row};
use wire::chain::{Link, link};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{BootId, StreamName};
use wire::record::{Gap, GapReason, Record, Stamp};
use wire::world::{ClockQuality, WallMs};

use crate::store::connection::{ROWS_AT_ONCE, Readers, StoredRow, Writer, insert_rows};

/// A record on its way into the store.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// The number the writer gave it; grows with arrival.
    pub id: i64,
    /// The record.
    pub record: &'a Record,
    /// Its place in the chain.
    pub hash: Hash,
}

/// Inserts records of one stream, into a bucket of its class.
pub async fn insert(
    writer: &mut Writer,
    node: i64,
    stream: i64,
    bucket: i64,
    records: &[NewRecord<'_>],
) -> Result<(), sqlx::Error> {
    const INTO: &str = "records (id, node, stream, seq, kind, boot, mono_ns, wall_ms, clock, hash, body, \
         bucket)";
    for rows in records.chunks(ROWS_AT_ONCE) {
        let mut query = sqlx::query(insert_rows(INTO, 12, rows.len()));
        for NewRecord { id, record, hash } in rows {
            query = query
                .bind(id)
                .bind(node)
                .bind(stream)
                .bind(record.seq as i64)
                .bind(record.kind.as_str())
                .bind(record.boot.to_string())
                .bind(record.mono_ns as i64)
                .bind(record.wall_ms)
                .bind(record.clock.as_str())
                .bind(hash.as_bytes().as_slice())
                .bind(record.body.get())
                .bind(bucket);
        }
        query.execute(&mut *writer).await?;
    }
    Ok(())
}

/// Notes a loss.
pub async fn insert_gap(
    writer: &mut Writer,
    node: i64,
    stream: i64,
    gap: &Gap,
    now_ms: WallMs,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO gaps (node, stream, first, last, reason, hash, noted_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(node)
    .bind(stream)
    .bind(gap.first as i64)
    .bind(gap.last as i64)
    .bind(reason_word(gap.reason))
    .bind(gap.hash.as_bytes().as_slice())
    .bind(now_ms)
    .execute(writer)
    .await?;
    Ok(())
}

/// The word for a gap's reason, as in its encoding.
pub fn reason_word(reason: GapReason) -> &'static str {
    match reason {
        GapReason::ByteCap => "byte-cap",
        GapReason::DiskFull => "disk-full",
        GapReason::Retired => "retired",
        GapReason::Erased => "erased",
        GapReason::Expired => "expired",
        GapReason::Other => "other",
    }
}

/// The chain's hash at `seq`, from the record there, the gap that ends there, or what was left of what was cut.
pub async fn hash_at(writer: &mut Writer, stream: i64, seq: u64) -> Result<Option<Hash>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT hash FROM records WHERE stream = $1 AND seq = $2 \
         UNION ALL SELECT hash FROM gaps WHERE stream = $1 AND last = $2 \
         UNION ALL SELECT base_hash FROM streams WHERE id = $1 AND base_seq = $2 AND base_hash IS NOT NULL",
    );
    let row = query.bind(stream).bind(seq as i64).fetch_optional(writer).await?;
    Ok(row.map(|row| row.try_get::<Vec<u8>, _>(0)).transpose()?.and_then(|hash| Hash::from_slice(&hash)))
}

/// A record as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRow {
    /// Its number in the store; grows with arrival.
    pub id: i64,
    /// Whose it is.
    pub node: String,
    /// From which life of the journal.
    pub journal: String,
    /// Of which stream.
    pub stream: String,
    /// The stream's class.
    pub class: String,
    /// Its place in the stream.
    pub seq: i64,
    /// What the body is.
    pub kind: String,
    /// The run of the node process that wrote it.
    pub boot: String,
    /// Nanoseconds since that run began.
    pub mono_ns: i64,
    /// The node's wall time.
    pub wall_ms: WallMs,
    /// How far that can be trusted.
    pub clock: String,
    /// Its place in the chain.
    pub hash: Vec<u8>,
    /// The body as written.
    pub body: String,
}

impl RecordRow {
    /// Hashes it as its node did: the hash, and the header for whoever wants to do it by hand. `None` if the row does not even
    /// read as a record.
    pub fn hash_again(&self, previous: Hash) -> Option<(Hash, String)> {
        let stream = StreamName::new(&self.stream).ok()?;
        let (class, clock) = (Class::parse(&self.class)?, ClockQuality::parse(&self.clock)?);
        let boot = BootId::parse(&self.boot).ok()?;
        let (seq, mono_ns) = (u64::try_from(self.seq).ok()?, u64::try_from(self.mono_ns).ok()?);
        let stamp = Stamp { boot, mono_ns, wall_ms: self.wall_ms, clock };
        let hash = link(previous, Link { stream: &stream, class, seq, kind: &self.kind, stamp }, &self.body);
        let header = format!(
            "selvedge-record/1\n{previous}\n{stream} {seq} {class} {}\n{boot} {mono_ns} {} {}\n",
            self.kind,
            self.wall_ms,
            clock.as_str()
        );
        Some((hash, header))
    }
}

/// Which records are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Of this node.
    pub node: Option<String>,
    /// Of streams of this name.
    pub stream: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// With a smaller number than this.
    pub before: Option<i64>,
}

pub(in crate::store) const SELECT: &str = "SELECT r.id, n.name AS node, j.name AS journal, s.name AS stream, s.class, r.seq, r.kind, \
     r.boot, r.mono_ns, r.wall_ms, r.clock, r.hash, r.body \
     FROM records r JOIN streams s ON s.id = r.stream JOIN journals j ON j.id = s.journal \
     JOIN nodes n ON n.id = r.node";

/// How many records one page looks through when no index helps: about 0.1 s of work.
const SCAN_MAX: i64 = 200_000;

/// The newest records that pass the filter, newest first, and where the next page begins if there may be one.
///
/// Bodies together stay below `bytes_max`, except that there is always at least one record if one passes. A page of a
/// filter that no index serves may be short, or empty, and still have a next one.
pub async fn list(
    readers: &Readers,
    filter: &RecordFilter,
    limit: u32,
    bytes_max: usize,
) -> Result<(Vec<RecordRow>, Option<i64>), sqlx::Error> {
    let newest = sqlx::query("SELECT COALESCE(MAX(id), 0) FROM records").fetch_one(readers).await?;
    let before = filter.before.unwrap_or(i64::MAX).min(newest.try_get::<i64, _>(0)?.saturating_add(1));
    let scan = if filter.stream.is_some() { SCAN_MAX } else { i64::MAX };
    let after = before.saturating_sub(scan).saturating_sub(1).max(0);
    let mut sql = format!("{SELECT} WHERE r.id < $1 AND r.id > $2");
    let mut words = Vec::new();
    let mut also = |condition: &str, word: &Option<String>| {
        if let Some(word) = word {
            words.push(word.clone());
            sql.push_str(&condition.replace("$?", &format!("${}", words.len() + 2)));
        }
    };
    also(" AND r.node = (SELECT id FROM nodes WHERE name = $?)", &filter.node);
    also(" AND r.kind = $?", &filter.kind);
    also(" AND s.name = $?", &filter.stream);
    sql.push_str(&format!(" ORDER BY r.id DESC LIMIT ${}", words.len() + 3));
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(before).bind(after);
    for word in words {
        query = query.bind(word);
    }
    let mut rows = query.bind(i64::from(limit)).fetch(readers);
    let mut records: Vec<RecordRow> = Vec::new();
    let mut bytes = 0;
    let mut more = false;
    while let Some(row) = rows.try_next().await? {
        let record = record_row(&row)?;
        bytes += record.body.len();
        if bytes > bytes_max && !records.is_empty() {
            more = true;
            break;
        }
        records.push(record);
    }
    more |= records.len() >= limit as usize;
    let next = if more { records.last().map(|record| record.id) } else { (after > 0).then_some(after + 1) };
    Ok((records, next))
}

/// Records behind the number `after`, oldest first, at most `limit`.
pub async fn after(readers: &Readers, after: i64, limit: i64) -> Result<Vec<RecordRow>, sqlx::Error> {
    let query = sqlx::query(AssertSqlSafe(format!("{SELECT} WHERE r.id > $1 ORDER BY r.id LIMIT $2")));
    query.bind(after).bind(limit).fetch_all(readers).await?.iter().map(record_row).collect()
}

/// One record by its number.
pub async fn by_id(readers: &Readers, id: i64) -> Result<Option<RecordRow>, sqlx::Error> {
    let query = sqlx::query(AssertSqlSafe(format!("{SELECT} WHERE r.id = $1"))).bind(id);
    query.fetch_optional(readers).await?.as_ref().map(record_row).transpose()
}

/// One record by its place.
pub async fn get(
    readers: &Readers,
    node: &str,
    journal: &str,
    stream: &str,
    seq: i64,
) -> Result<Option<RecordRow>, sqlx::Error> {
    let sql = format!(
        "{SELECT} WHERE r.seq = $4 AND r.stream = (SELECT s2.id FROM streams s2 JOIN journals j2 ON \
         j2.id = s2.journal JOIN nodes n2 ON n2.id = j2.node WHERE n2.name = $1 AND j2.name = $2 AND s2.name = $3)"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(node).bind(journal).bind(stream).bind(seq);
    query.fetch_optional(readers).await?.as_ref().map(record_row).transpose()
}

/// What stands in the chain beside a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// `record`, `gap`, or `cut`: what was too old to keep.
    pub what: String,
    /// The first sequence number of it.
    pub first: i64,
    /// The last sequence number of it.
    pub last: i64,
    /// The chain's hash at `last`.
    pub hash: Vec<u8>,
}

/// What stands before and after a record of the store.
pub async fn neighbours(
    readers: &Readers,
    id: i64,
) -> Result<(Option<Neighbour>, Option<Neighbour>), sqlx::Error> {
    const BEFORE: &str = "SELECT 'record' AS what, b.seq AS first, b.seq AS last, b.hash FROM records r \
         JOIN records b ON b.stream = r.stream AND b.seq = r.seq - 1 WHERE r.id = $1 \
         UNION ALL SELECT 'gap', g.first, g.last, g.hash FROM records r \
         JOIN gaps g ON g.stream = r.stream AND g.last = r.seq - 1 WHERE r.id = $1 \
         UNION ALL SELECT 'cut', 1, s.base_seq, s.base_hash FROM records r JOIN streams s ON s.id = r.stream \
         AND s.base_seq = r.seq - 1 WHERE r.id = $1 AND s.base_hash IS NOT NULL";
    const AFTER: &str = "SELECT 'record' AS what, a.seq AS first, a.seq AS last, a.hash FROM records r \
         JOIN records a ON a.stream = r.stream AND a.seq = r.seq + 1 WHERE r.id = $1 \
         UNION ALL SELECT 'gap', g.first, g.last, g.hash FROM records r \
         JOIN gaps g ON g.stream = r.stream AND g.first = r.seq + 1 WHERE r.id = $1";
    let read = |row: StoredRow| {
        Ok::<_, sqlx::Error>(Neighbour {
            what: row.try_get("what")?,
            first: row.try_get("first")?,
            last: row.try_get("last")?,
            hash: row.try_get("hash")?,
        })
    };
    let before = sqlx::query(BEFORE).bind(id).fetch_optional(readers).await?.map(read).transpose()?;
    let after = sqlx::query(AFTER).bind(id).fetch_optional(readers).await?.map(read).transpose()?;
    Ok((before, after))
}

pub(in crate::store) fn record_row(row: &StoredRow) -> Result<RecordRow, sqlx::Error> {
    Ok(RecordRow {
        id: row.try_get("id")?,
        node: row.try_get("node")?,
        journal: row.try_get("journal")?,
        stream: row.try_get("stream")?,
        class: row.try_get("class")?,
        seq: row.try_get("seq")?,
        kind: row.try_get("kind")?,
        boot: row.try_get("boot")?,
        mono_ns: row.try_get("mono_ns")?,
        wall_ms: row.try_get("wall_ms")?,
        clock: row.try_get("clock")?,
        hash: row.try_get("hash")?,
        body: row.try_get("body")?,
    })
}

/// A loss as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRow {
    /// Its number in the store.
    pub id: i64,
    /// Whose records were lost.
    pub node: String,
    /// From which life of the journal.
    pub journal: String,
    /// From which stream.
    pub stream: String,
    /// The first lost sequence number.
    pub first: i64,
    /// The last lost sequence number.
    pub last: i64,
    /// Why.
    pub reason: String,
    /// When the hub learnt of it.
    pub noted_ms: WallMs,
}

/// The newest losses, newest first, of one node or of all.
pub async fn gaps(
    readers: &Readers,
    node: Option<&str>,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<GapRow>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT g.id, n.name AS node, j.name AS journal, s.name AS stream, g.first, g.last, g.reason, g.noted_ms \
         FROM gaps g JOIN streams s ON s.id = g.stream JOIN journals j ON j.id = s.journal \
         JOIN nodes n ON n.id = g.node WHERE ($1 IS NULL OR n.name = $1) AND g.id < $2 ORDER BY g.id DESC LIMIT $3",
    );
    let read = |row: StoredRow| {
        Ok(GapRow {
            id: row.try_get("id")?,
            node: row.try_get("node")?,
            journal: row.try_get("journal")?,
            stream: row.try_get("stream")?,
            first: row.try_get("first")?,
            last: row.try_get("last")?,
            reason: row.try_get("reason")?,
            noted_ms: row.try_get("noted_ms")?,
        })
    };
    let rows =
        query.bind(node).bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit)).fetch_all(readers).await?;
    rows.into_iter().map(read).collect()
}

/// How many records the store holds: their numbers are given in order, and those that were cut are counted.
pub async fn total(readers: &Readers) -> Result<i64, sqlx::Error> {
    let query =
        sqlx::query("SELECT t.last_record - k.cut FROM turn t, keeping k WHERE t.id = 1 AND k.id = 1");
    query.fetch_one(readers).await?.try_get(0)
}
