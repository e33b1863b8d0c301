//! The tables, and how a database of an older version becomes one of this version: the steps it lacks, in order,
//! each in a transaction with its number. A step that was ever released is never changed.
//!
//! Names (nodes, journals, streams, sources) are stored once and referred to by number, so that a record's row is
//! little more than its body.

use sqlx::{Connection, Row};

use crate::store::connection::Writer;

/// What [`migrate`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The database is as this version wants it.
    Ready,
    /// A newer version wrote it.
    Newer {
        /// Its schema.
        found: i64,
        /// The newest known here.
        known: i64,
    },
}

const STEPS: [&str; 1] = [r"
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    first_seen_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL,
    silent BIGINT NOT NULL DEFAULT 0,
    next_ms BIGINT NOT NULL,
    checked_in_ms BIGINT,
    version TEXT,
    boot TEXT,
    journal TEXT,
    clock TEXT,
    clock_offset_ms BIGINT,
    sources BIGINT NOT NULL DEFAULT 0,
    sources_running BIGINT NOT NULL DEFAULT 0,
    checkin TEXT
);
CREATE INDEX nodes_by_silence ON nodes (silent, last_seen_ms);
CREATE TABLE journals (
    id INTEGER PRIMARY KEY,
    node BIGINT NOT NULL,
    name TEXT NOT NULL,
    first_seen_ms BIGINT NOT NULL,
    UNIQUE (node, name)
);
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    node BIGINT NOT NULL,
    journal BIGINT NOT NULL,
    name TEXT NOT NULL,
    class TEXT NOT NULL,
    seq BIGINT NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (journal, name)
);
CREATE INDEX streams_of_node ON streams (node, name);
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    node BIGINT NOT NULL,
    stream BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    boot TEXT NOT NULL,
    mono_ns BIGINT NOT NULL,
    wall_ms BIGINT NOT NULL,
    clock TEXT NOT NULL,
    hash BLOB NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (stream, seq)
);
CREATE INDEX records_of_node ON records (node, id);
CREATE INDEX records_of_node_and_kind ON records (node, kind, id);
CREATE INDEX records_of_kind ON records (kind, id);
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    node BIGINT NOT NULL,
    stream BIGINT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    reason TEXT NOT NULL,
    hash BLOB NOT NULL,
    noted_ms BIGINT NOT NULL,
    UNIQUE (stream, first)
);
CREATE INDEX gaps_of_node ON gaps (node, id);
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    node BIGINT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (node, name)
);
CREATE TABLE summaries (
    source BIGINT NOT NULL,
    to_ms BIGINT NOT NULL,
    record BIGINT NOT NULL,
    PRIMARY KEY (source, to_ms, record)
) WITHOUT ROWID;
CREATE TABLE episodes (
    id INTEGER PRIMARY KEY,
    source BIGINT NOT NULL,
    node BIGINT NOT NULL,
    model TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    score DOUBLE PRECISION NOT NULL,
    probability DOUBLE PRECISION,
    channels TEXT NOT NULL,
    record BIGINT NOT NULL
);
CREATE INDEX episodes_of_source ON episodes (source, since_ms);
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY,
    node BIGINT NOT NULL,
    origin TEXT NOT NULL,
    rule TEXT NOT NULL,
    source TEXT NOT NULL,
    severity TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    fired_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    cleared_ms BIGINT,
    condition TEXT NOT NULL,
    why TEXT NOT NULL,
    value DOUBLE PRECISION,
    confidence DOUBLE PRECISION,
    model TEXT,
    count BIGINT NOT NULL,
    record BIGINT,
    clear_record BIGINT
);
CREATE UNIQUE INDEX alerts_firing ON alerts (node, origin, rule, source) WHERE cleared_ms IS NULL;
CREATE INDEX alerts_of_node ON alerts (node, id);
"];

/// Brings the database up to this version.
pub async fn migrate(writer: &mut Writer) -> Result<Migrated, sqlx::Error> {
    let known = STEPS.len() as i64;
    sqlx::query("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL)")
        .execute(&mut *writer)
        .await?;
    let row =
        sqlx::query("SELECT value FROM meta WHERE name = 'schema'").fetch_optional(&mut *writer).await?;
    let found = row.map_or(Ok(0), |row| row.try_get::<i64, _>(0))?;
    if found > known {
        return Ok(Migrated::Newer { found, known });
    }
    for (step, sql) in STEPS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let mut transaction = writer.begin().await?;
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('schema', $1) ON CONFLICT (name) DO UPDATE SET value = $1",
        )
        .bind(step as i64 + 1)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
    }
    Ok(Migrated::Ready)
}
