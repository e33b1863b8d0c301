//! Nodes, their journals and their streams: who there is, and how far the hub has each stream.

use sqlx::Row;
use wire::batch::Watermark;
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{JournalId, NodeId, StreamName};
use wire::world::WallMs;

use crate::store::connection::{Readers, StoredRow, Writer};

/// A node's row.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRow {
    /// Its number in the store.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When the hub first heard of it.
    pub first_seen_ms: WallMs,
    /// When the hub last heard of it.
    pub last_seen_ms: WallMs,
    /// Whether the hub has given it up for silent.
    pub silent: bool,
    /// When it was told to come again, from its last check-in on.
    pub next_ms: i64,
    /// When it last checked in; a node that only sent records never has.
    pub checked_in_ms: Option<WallMs>,
    /// The program's version.
    pub version: Option<String>,
    /// The journal it last checked in with.
    pub journal: Option<String>,
    /// How far it trusts its clock.
    pub clock: Option<String>,
    /// Its wall clock less ours, at its last check-in.
    pub clock_offset_ms: Option<i64>,
    /// How many sources it has.
    pub sources: i64,
    /// How many of them run.
    pub sources_running: i64,
    /// In which ways it knows more than this hub, and gets no documents, if that is so.
    pub conflict: Option<String>,
    /// What it follows that this hub does not know, as [`crate::store::recovery::strange`] reads it.
    pub strange: Option<String>,
    /// The last check-in as it was sent.
    pub checkin: Option<String>,
}

/// What a check-in changes.
#[derive(Debug, Clone)]
pub struct CheckInRow<'a> {
    /// The hub's time.
    pub now_ms: WallMs,
    /// When the node shall come again.
    pub next_ms: u64,
    /// See [`NodeRow::version`].
    pub version: &'a str,
    /// The run of its process.
    pub boot: String,
    /// See [`NodeRow::journal`].
    pub journal: String,
    /// See [`NodeRow::clock`].
    pub clock: &'static str,
    /// See [`NodeRow::clock_offset_ms`].
    pub clock_offset_ms: i64,
    /// See [`NodeRow::sources`].
    pub sources: i64,
    /// See [`NodeRow::sources_running`].
    pub sources_running: i64,
    /// See [`NodeRow::checkin`].
    pub checkin: &'a str,
}

/// One stream of one journal, as the writer needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRow {
    /// Its number in the store.
    pub id: i64,
    /// Its node's number.
    pub node: i64,
    /// Its class; it keeps the first.
    pub class: Class,
    /// How far the hub has it.
    pub watermark: Watermark,
}

/// The number of a node, if the store knows it.
pub async fn find(writer: &mut Writer, name: &NodeId) -> Result<Option<i64>, sqlx::Error> {
    let row = sqlx::query("SELECT id FROM nodes WHERE name = $1").bind(name.as_str());
    row.fetch_optional(writer).await?.map(|row| row.try_get(0)).transpose()
}

/// Takes in a node that the store does not know.
pub async fn add(
    writer: &mut Writer,
    name: &NodeId,
    now_ms: WallMs,
    next_ms: u64,
) -> Result<i64, sqlx::Error> {
    sqlx::query(
        "INSERT INTO nodes (name, first_seen_ms, last_seen_ms, next_ms) VALUES ($1, $2, $2, $3) RETURNING id",
    )
    .bind(name.as_str())
    .bind(now_ms)
    .bind(next_ms as i64)
    .fetch_one(writer)
    .await?
    .try_get(0)
}

/// How many nodes there are.
pub async fn count(writer: &mut Writer) -> Result<i64, sqlx::Error> {
    sqlx::query("SELECT COUNT(*) FROM nodes").fetch_one(writer).await?.try_get(0)
}

/// The node was heard of.
pub async fn seen(writer: &mut Writer, node: i64, now_ms: WallMs) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE nodes SET last_seen_ms = $2, silent = 0 WHERE id = $1")
        .bind(node)
        .bind(now_ms)
        .execute(writer)
        .await?;
    Ok(())
}

/// The node checked in.
pub async fn checked_in(writer: &mut Writer, node: i64, row: &CheckInRow<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE nodes SET last_seen_ms = $2, checked_in_ms = $2, silent = 0, next_ms = $3, version = $4, \
         boot = $5, journal = $6, clock = $7, clock_offset_ms = $8, sources = $9, sources_running = $10, \
         checkin = $11 WHERE id = $1",
    )
    .bind(node)
    .bind(row.now_ms)
    .bind(row.next_ms as i64)
    .bind(row.version)
    .bind(&row.boot)
    .bind(&row.journal)
    .bind(row.clock)
    .bind(row.clock_offset_ms)
    .bind(row.sources)
    .bind(row.sources_running)
    .bind(row.checkin)
    .execute(writer)
    .await?;
    Ok(())
}

/// Marks a node as silent.
pub async fn silence(writer: &mut Writer, node: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE nodes SET silent = 1 WHERE id = $1").bind(node).execute(writer).await?;
    Ok(())
}

/// How many nodes are not silent.
pub async fn count_awake(writer: &mut Writer) -> Result<i64, sqlx::Error> {
    sqlx::query("SELECT COUNT(*) FROM nodes WHERE silent = 0").fetch_one(writer).await?.try_get(0)
}

/// What the silence watch looks at: `(id, name, last_seen_ms, next_ms)` of nodes that are not silent and were not
/// heard of since `before_ms`.
pub async fn quiet(
    writer: &mut Writer,
    before_ms: WallMs,
) -> Result<Vec<(i64, String, WallMs, i64)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, name, last_seen_ms, next_ms FROM nodes WHERE silent = 0 AND last_seen_ms < $1",
    );
    let read = |row: StoredRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    rows.bind(before_ms).fetch_all(writer).await?.into_iter().map(read).collect()
}

/// The number of a journal, and of its node.
pub async fn find_journal(
    writer: &mut Writer,
    node: i64,
    journal: JournalId,
) -> Result<Option<i64>, sqlx::Error> {
    let query = sqlx::query("SELECT id FROM journals WHERE node = $1 AND name = $2");
    let row = query.bind(node).bind(journal.to_string()).fetch_optional(writer).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Takes in a journal that the store does not know.
pub async fn add_journal(
    writer: &mut Writer,
    node: i64,
    journal: JournalId,
    now_ms: WallMs,
) -> Result<i64, sqlx::Error> {
    sqlx::query("INSERT INTO journals (node, name, first_seen_ms) VALUES ($1, $2, $3) RETURNING id")
        .bind(node)
        .bind(journal.to_string())
        .bind(now_ms)
        .fetch_one(writer)
        .await?
        .try_get(0)
}

/// How many journals a node has had.
pub async fn count_journals(writer: &mut Writer, node: i64) -> Result<i64, sqlx::Error> {
    sqlx::query("SELECT COUNT(*) FROM journals WHERE node = $1")
        .bind(node)
        .fetch_one(writer)
        .await?
        .try_get(0)
}

/// The streams of a journal, by name.
pub async fn streams(writer: &mut Writer, journal: i64) -> Result<Vec<StreamRow>, sqlx::Error> {
    let query =
        sqlx::query("SELECT id, node, name, class, seq, hash FROM streams WHERE journal = $1 ORDER BY name");
    query.bind(journal).fetch_all(writer).await?.iter().map(stream_row).collect()
}

/// Takes in a stream that the store does not know, from its beginning.
pub async fn add_stream(
    writer: &mut Writer,
    node: i64,
    journal: i64,
    stream: &StreamName,
    class: Class,
) -> Result<StreamRow, sqlx::Error> {
    let id = sqlx::query(
        "INSERT INTO streams (node, journal, name, class, seq, hash) VALUES ($1, $2, $3, $4, 0, $5) RETURNING id",
    )
    .bind(node)
    .bind(journal)
    .bind(stream.as_str())
    .bind(class.as_str())
    .bind(Hash::GENESIS.as_bytes().as_slice())
    .fetch_one(writer)
    .await?
    .try_get(0)?;
    Ok(StreamRow {
        id,
        node,
        class,
        watermark: Watermark { stream: stream.clone(), seq: 0, hash: Hash::GENESIS },
    })
}

/// Moves a stream's watermark.
pub async fn settle(writer: &mut Writer, stream: i64, seq: u64, hash: Hash) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE streams SET seq = $2, hash = $3 WHERE id = $1")
        .bind(stream)
        .bind(seq as i64)
        .bind(hash.as_bytes().as_slice())
        .execute(writer)
        .await?;
    Ok(())
}

/// Keeps what a node says that a stream has come to, and the hash there, unless it said more before.
pub async fn put_head(writer: &mut Writer, stream: i64, seq: u64, head: Hash) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE streams SET head_seq = $2, head = $3 WHERE id = $1 AND head_seq < $2");
    let seq = i64::try_from(seq).unwrap_or(i64::MAX);
    query.bind(stream).bind(seq).bind(head.as_bytes().as_slice()).execute(writer).await?;
    Ok(())
}

fn stream_row(row: &StoredRow) -> Result<StreamRow, sqlx::Error> {
    let unreadable = |what: &str| sqlx::Error::Decode(format!("the store holds a bad {what}").into());
    let name = StreamName::new(row.try_get("name")?).map_err(|_| unreadable("stream name"))?;
    let class = Class::parse(row.try_get("class")?).ok_or_else(|| unreadable("class"))?;
    let hash = Hash::from_slice(row.try_get("hash")?).ok_or_else(|| unreadable("hash"))?;
    let watermark = Watermark { stream: name, seq: row.try_get::<i64, _>("seq")? as u64, hash };
    Ok(StreamRow { id: row.try_get("id")?, node: row.try_get("node")?, class, watermark })
}

/// All nodes by name, without their check-ins.
pub async fn all(readers: &Readers) -> Result<Vec<NodeRow>, sqlx::Error> {
    const SQL: &str = "SELECT id, name, first_seen_ms, last_seen_ms, silent, next_ms, checked_in_ms, version, \
         journal, clock, clock_offset_ms, sources, sources_running, conflict, strange, CAST(NULL AS TEXT) AS checkin \
         FROM nodes ORDER BY name";
    sqlx::query(SQL).fetch_all(readers).await?.iter().map(node_row).collect()
}

/// One node.
pub async fn get(readers: &Readers, name: &NodeId) -> Result<Option<NodeRow>, sqlx::Error> {
    const SQL: &str = "SELECT id, name, first_seen_ms, last_seen_ms, silent, next_ms, checked_in_ms, version, \
         journal, clock, clock_offset_ms, sources, sources_running, conflict, strange, checkin FROM nodes WHERE name = $1";
    let row = sqlx::query(SQL).bind(name.as_str()).fetch_optional(readers).await?;
    row.as_ref().map(node_row).transpose()
}

fn node_row(row: &StoredRow) -> Result<NodeRow, sqlx::Error> {
    Ok(NodeRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        first_seen_ms: row.try_get("first_seen_ms")?,
        last_seen_ms: row.try_get("last_seen_ms")?,
        silent: row.try_get::<i64, _>("silent")? != 0,
        next_ms: row.try_get("next_ms")?,
        checked_in_ms: row.try_get("checked_in_ms")?,
        version: row.try_get("version")?,
        journal: row.try_get("journal")?,
        clock: row.try_get("clock")?,
        clock_offset_ms: row.try_get("clock_offset_ms")?,
        sources: row.try_get("sources")?,
        sources_running: row.try_get("sources_running")?,
        conflict: row.try_get("conflict")?,
        strange: row.try_get("strange")?,
        checkin: row.try_get("checkin")?,
    })
}

/// Where a node stands in a rollout, and what is to be said of it; `None` if it was not offered.
pub async fn standing(
    readers: &Readers,
    node: &str,
    rollout: &str,
) -> Result<Option<(String, String)>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT m.standing, m.why FROM members m JOIN nodes n ON n.id = m.node WHERE n.name = $1 AND m.rollout = $2",
    );
    let row = row.bind(node).bind(rollout).fetch_optional(readers).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// How many nodes there are, and how many of them are silent.
pub async fn tally(readers: &Readers) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query("SELECT COUNT(*), CAST(COALESCE(SUM(silent), 0) AS BIGINT) FROM nodes")
        .fetch_one(readers)
        .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// One stream of a node, as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    /// The life of the journal it belongs to.
    pub journal: String,
    /// Its name.
    pub stream: String,
    /// Its class.
    pub class: String,
    /// How far the hub has it.
    pub seq: i64,
}

/// The streams of a node, newest journal first.
pub async fn streams_of(readers: &Readers, node: i64) -> Result<Vec<StreamView>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT j.name AS journal, s.name AS stream, s.class, s.seq FROM streams s JOIN journals j \
         ON j.id = s.journal WHERE s.node = $1 ORDER BY j.id DESC, s.name LIMIT 500",
    );
    let read = |row: StoredRow| {
        Ok(StreamView {
            journal: row.try_get("journal")?,
            stream: row.try_get("stream")?,
            class: row.try_get("class")?,
            seq: row.try_get("seq")?,
        })
    };
    rows.bind(node).fetch_all(readers).await?.into_iter().map(read).collect()
}
