//! The tables, and how a database of an older version becomes one of this version: the steps it lacks, in order,
//! in a transaction with its number. A step that was ever released is never changed.
//!
//! Names (nodes, journals, streams, sources) are stored once and referred to by number, so that a record's row is
//! little more than its body.

use sqlx::{AssertSqlSafe, Connection, Row, raw_sql};

use crate::store::connection::{Readers, Writer};

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

const STEPS: [&str; 7] = [RECORDS, ROLLOUTS, KEEPING, RECOVERY, FACTORY, EXPERIMENTS, STRANGE];

/// Nodes, their records, and what follows from them.
const RECORDS: &str = r"
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
";

/// Who may do what, what nodes are, rollouts, and the log of every act. `turn` has one row, which every transaction that
/// writes takes first; a rollout's `state` is the whole of it as JSON, its other columns are for finding it.
const ROLLOUTS: &str = r"
CREATE TABLE turn (
    id BIGINT PRIMARY KEY,
    holder TEXT NOT NULL,
    before TEXT NOT NULL,
    count BIGINT NOT NULL,
    last_record BIGINT NOT NULL,
    last_audit BIGINT NOT NULL,
    desired BIGINT NOT NULL
);
INSERT INTO turn (id, holder, before, count, last_record, last_audit, desired)
    VALUES (1, '', '', 0, (SELECT COALESCE(MAX(id), 0) FROM records), 0, 0);
CREATE TABLE words (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE operators (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    disabled BIGINT NOT NULL DEFAULT 0,
    subject TEXT UNIQUE,
    made_ms BIGINT NOT NULL
);
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    operator BIGINT NOT NULL,
    hash BLOB NOT NULL,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    made_ms BIGINT NOT NULL,
    until_ms BIGINT,
    used_day BIGINT,
    revoked BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX tokens_of_operator ON tokens (operator);
CREATE TABLE enrolments (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    name TEXT,
    labels TEXT NOT NULL,
    uses BIGINT NOT NULL,
    used BIGINT NOT NULL DEFAULT 0,
    approve BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    made_by TEXT NOT NULL
);
CREATE TABLE tickets (
    id TEXT PRIMARY KEY,
    enrolment TEXT,
    csr BLOB NOT NULL,
    spki BLOB NOT NULL,
    name TEXT NOT NULL,
    facts TEXT NOT NULL,
    state TEXT NOT NULL,
    answer BLOB,
    made_ms BIGINT NOT NULL
);
CREATE TABLE keys (
    id BLOB PRIMARY KEY,
    node BIGINT NOT NULL,
    not_before_ms BIGINT NOT NULL,
    not_after_ms BIGINT NOT NULL,
    serial TEXT NOT NULL,
    seen_ms BIGINT,
    denied_ms BIGINT,
    why TEXT
);
CREATE INDEX keys_of_node ON keys (node);
ALTER TABLE nodes ADD COLUMN facts TEXT;
ALTER TABLE nodes ADD COLUMN facts_boot TEXT;
ALTER TABLE nodes ADD COLUMN inventory BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN facts_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN labels TEXT;
ALTER TABLE nodes ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN told BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN conflict TEXT;
ALTER TABLE nodes ADD COLUMN box_until_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN box BIGINT NOT NULL DEFAULT 0;
CREATE INDEX nodes_by_change ON nodes (facts_seq);
CREATE TABLE groups_saved (
    name TEXT PRIMARY KEY,
    expression TEXT NOT NULL,
    made_by TEXT NOT NULL,
    changed_ms BIGINT NOT NULL
);
CREATE TABLE plans (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    kind TEXT NOT NULL,
    made_ms BIGINT NOT NULL
);
CREATE TABLE documents (
    plan TEXT NOT NULL,
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    body BLOB NOT NULL,
    until_ms BIGINT NOT NULL,
    released_ms BIGINT,
    PRIMARY KEY (id, version)
);
CREATE INDEX documents_of_plan ON documents (plan);
CREATE TABLE rollouts (
    id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    phase TEXT NOT NULL,
    active BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    state TEXT NOT NULL,
    changed_ms BIGINT NOT NULL
);
CREATE INDEX rollouts_active ON rollouts (active);
CREATE TABLE approvals (
    rollout TEXT NOT NULL,
    operator TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (rollout, operator)
);
CREATE TABLE members (
    rollout TEXT NOT NULL,
    node BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    standing TEXT NOT NULL,
    version BIGINT NOT NULL,
    done BIGINT NOT NULL DEFAULT 0,
    offered_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    why TEXT NOT NULL DEFAULT '',
    kernel_same BIGINT,
    record BIGINT,
    PRIMARY KEY (rollout, node)
);
CREATE INDEX members_of_node ON members (node);
CREATE INDEX members_by_standing ON members (rollout, standing);
CREATE TABLE samples (
    model TEXT NOT NULL,
    node BIGINT NOT NULL,
    day BIGINT NOT NULL,
    manifest TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (model, node, day, manifest)
);
CREATE TABLE commands (
    id INTEGER PRIMARY KEY,
    node BIGINT NOT NULL,
    what TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    acked_ms BIGINT,
    answer TEXT
);
CREATE INDEX commands_open ON commands (node, acked_ms);
CREATE TABLE refused (
    model TEXT NOT NULL,
    release_index TEXT NOT NULL,
    node BIGINT NOT NULL,
    why TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (release_index, node)
);
CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    who TEXT NOT NULL,
    act TEXT NOT NULL,
    about TEXT NOT NULL,
    body TEXT NOT NULL,
    leaf BLOB NOT NULL
);
CREATE INDEX audit_about ON audit (about, id);
CREATE TABLE checkpoints (
    size BIGINT PRIMARY KEY,
    root BLOB NOT NULL,
    note TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE TABLE answers (
    key TEXT PRIMARY KEY,
    operator TEXT NOT NULL,
    route TEXT NOT NULL,
    hash BLOB NOT NULL,
    status BIGINT NOT NULL,
    body TEXT NOT NULL,
    until_ms BIGINT NOT NULL
);
ALTER TABLE streams ADD COLUMN base_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE streams ADD COLUMN base_hash BLOB;
ALTER TABLE streams ADD COLUMN head BLOB;
ALTER TABLE streams ADD COLUMN head_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE alerts ADD COLUMN acked_by TEXT;
ALTER TABLE alerts ADD COLUMN acked_ms BIGINT;
ALTER TABLE alerts ADD COLUMN note TEXT;
";

/// Several hubs, and what goes when it is old. A record lies in the bucket of its class and of the time when it came (see
/// [`crate::store::buckets`]); those that are there already lie in that of the newest. PostgreSQL has a table for each bucket, so
/// that one is dropped as a whole.
const KEEPING: &str = r"
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    fence BIGINT NOT NULL
);
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    version TEXT NOT NULL,
    began_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL
);
CREATE TABLE days (
    first BIGINT PRIMARY KEY,
    day BIGINT NOT NULL
);
CREATE TABLE keeping (
    id BIGINT PRIMARY KEY,
    ran_ms BIGINT,
    cut BIGINT NOT NULL,
    folded BIGINT NOT NULL,
    waits TEXT NOT NULL
);
INSERT INTO keeping (id, cut, folded, waits) VALUES (1, 0, 0, '');
CREATE TABLE archives (
    path TEXT PRIMARY KEY,
    class TEXT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    count BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    hash TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE INDEX archives_of_class ON archives (class, last);
CREATE TABLE moving AS SELECT day, 100000 + day - day % 28 AS audit, 200000 + day - day % 7 AS event,
    300000 + day - day % 3 AS metric, 400000 + day AS raw
    FROM (SELECT COALESCE(MAX(last_seen_ms), 0) / 86400000 AS day FROM nodes) AS newest;
INSERT INTO days (first, day) SELECT 1, day FROM moving WHERE EXISTS (SELECT 1 FROM records);
--only sqlite
ALTER TABLE records ADD COLUMN bucket BIGINT NOT NULL DEFAULT 0;
UPDATE records SET bucket = COALESCE((SELECT CASE s.class WHEN 'audit' THEN m.audit WHEN 'event' THEN m.event
    WHEN 'metric' THEN m.metric ELSE m.raw END FROM streams s, moving m WHERE s.id = records.stream), 0);
--only postgres
ALTER TABLE records RENAME TO records_before;
DROP INDEX records_of_node;
DROP INDEX records_of_node_and_kind;
DROP INDEX records_of_kind;
CREATE TABLE records (
    id BIGINT NOT NULL,
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
    bucket BIGINT NOT NULL,
    UNIQUE (stream, seq, bucket)
) PARTITION BY LIST (bucket);
CREATE TABLE records_default PARTITION OF records DEFAULT;
DO $$ DECLARE b BIGINT; BEGIN
    FOR b IN SELECT unnest(ARRAY[audit, event, metric, raw]) FROM moving WHERE day > 0 LOOP
        EXECUTE format('CREATE TABLE records_b%s PARTITION OF records FOR VALUES IN (%s)', b, b);
    END LOOP;
END $$;
INSERT INTO records (id, node, stream, seq, kind, boot, mono_ns, wall_ms, clock, hash, body, bucket)
    SELECT r.id, r.node, r.stream, r.seq, r.kind, r.boot, r.mono_ns, r.wall_ms, r.clock, r.hash, r.body,
    CASE s.class WHEN 'audit' THEN m.audit WHEN 'event' THEN m.event WHEN 'metric' THEN m.metric WHEN 'raw' THEN m.raw
    ELSE 0 END FROM records_before r LEFT JOIN streams s ON s.id = r.stream CROSS JOIN moving m;
DROP TABLE records_before;
CREATE INDEX records_by_id ON records (id);
CREATE INDEX records_of_node ON records (node, id);
CREATE INDEX records_of_node_and_kind ON records (node, kind, id);
CREATE INDEX records_of_kind ON records (kind, id);
--only both
CREATE INDEX records_by_bucket ON records (bucket, id);
CREATE INDEX summaries_of_record ON summaries (record);
CREATE INDEX episodes_of_record ON episodes (record);
CREATE INDEX alerts_of_record ON alerts (record);
CREATE INDEX samples_by_day ON samples (day);
DROP TABLE moving;
";

/// Keys that knock and that the table does not know, and what is looked for once a backup was restored.
const RECOVERY: &str = r"
CREATE TABLE strangers (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    serial TEXT NOT NULL,
    not_before_ms BIGINT NOT NULL,
    not_after_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL
);
ALTER TABLE keys ADD COLUMN readmitted_ms BIGINT;
CREATE INDEX keys_readmitted ON keys (node) WHERE readmitted_ms IS NOT NULL;
CREATE INDEX nodes_ahead ON nodes (name) WHERE conflict IS NOT NULL;
";

/// Devices that came in by their maker's certificate, each once.
const FACTORY: &str = r"
CREATE TABLE factory (
    maker BLOB NOT NULL,
    serial TEXT NOT NULL,
    spki BLOB NOT NULL,
    made_ms BIGINT NOT NULL,
    PRIMARY KEY (maker, serial)
);
CREATE INDEX tickets_of_key ON tickets (enrolment, spki);
";

/// Experiments lie among plans, rollouts, members and documents; `sheets` has what each node told of its arm, as JSON.
const EXPERIMENTS: &str = r"
CREATE TABLE sheets (
    experiment TEXT NOT NULL,
    node BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (experiment, node)
);
";

/// What nodes follow that this hub does not know: `id:version`, one behind the other.
const STRANGE: &str = r"
ALTER TABLE nodes ADD COLUMN strange TEXT;
CREATE INDEX nodes_strange ON nodes (name) WHERE strange IS NOT NULL;
";

/// Which database it is. The steps are written for SQLite; PostgreSQL has other words for four things in them. Where that is not
/// enough, a line says for whom the lines below it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// A step in its words. Text is compared byte by byte everywhere, so that pages of names have one order.
    fn text(self, step: &str) -> String {
        let mine = match self {
            Dialect::Sqlite => "sqlite",
            Dialect::Postgres => "postgres",
        };
        let (mut text, mut is_mine) = (String::with_capacity(step.len()), true);
        for line in step.lines() {
            match line.strip_prefix("--only ") {
                Some(whose) => is_mine = whose == mine || whose == "both",
                None if is_mine => text.extend([line, "\n"]),
                None => {}
            }
        }
        match self {
            Dialect::Sqlite => text,
            Dialect::Postgres => text
                .replace("INTEGER PRIMARY KEY", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
                .replace(" BLOB", " BYTEA")
                .replace(" TEXT", " TEXT COLLATE \"C\"")
                .replace(" WITHOUT ROWID", ""),
        }
    }

    /// What keeps others from migrating at the same time, until the transaction ends, however long it takes.
    fn alone(self) -> Option<&'static str> {
        match self {
            Dialect::Sqlite => None,
            Dialect::Postgres => Some(
                "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(7305796)",
            ),
        }
    }
}

/// This version's schema.
pub fn newest() -> i64 {
    STEPS.len() as i64
}

/// The schema of a database that is there.
pub async fn found(readers: &Readers) -> Result<i64, sqlx::Error> {
    let query = sqlx::query("SELECT value FROM meta WHERE name = 'schema'");
    query.fetch_one(readers).await?.try_get(0)
}

/// Brings the database up to this version, in one transaction.
pub async fn migrate(writer: &mut Writer, dialect: Dialect) -> Result<Migrated, sqlx::Error> {
    advance(writer, dialect, newest()).await
}

/// Brings the database up to the version `known`, as a program that knew no more would.
pub async fn advance(writer: &mut Writer, dialect: Dialect, known: i64) -> Result<Migrated, sqlx::Error> {
    let mut transaction = writer.begin().await?;
    if let Some(alone) = dialect.alone() {
        raw_sql(alone).execute(&mut *transaction).await?;
    }
    sqlx::query("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL)")
        .execute(&mut *transaction)
        .await?;
    let row = sqlx::query("SELECT value FROM meta WHERE name = 'schema'");
    let row = row.fetch_optional(&mut *transaction).await?;
    let found = row.map_or(Ok(0), |row| row.try_get::<i64, _>(0))?;
    if found > known {
        return Ok(Migrated::Newer { found, known });
    }
    if found < known {
        let missing = usize::try_from(known - found).unwrap_or(0);
        for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)).take(missing) {
            raw_sql(AssertSqlSafe(dialect.text(step))).execute(&mut *transaction).await?;
        }
        let note = "INSERT INTO meta (name, value) VALUES ('schema', $1) ON CONFLICT (name) DO UPDATE SET value = $1";
        sqlx::query(note).bind(known).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(Migrated::Ready)
}

#[cfg(test)]
mod tests {
    use wire::class::Class;

    use super::*;
    use crate::store::buckets;
    use crate::store::connection::in_memory;
    use crate::store::turn;

    #[tokio::test]
    async fn a_database_of_every_older_version_becomes_one_of_this() {
        for from in 0..STEPS.len() {
            let mut writer = in_memory().await;
            advance(&mut writer, Dialect::Sqlite, from as i64).await.unwrap();
            // Written by a hub that knew no buckets.
            let is_old = (1..=2).contains(&from);
            if is_old {
                // A metric that came on the 22nd of November 2026.
                for sql in [
                    "INSERT INTO nodes (id, name, first_seen_ms, last_seen_ms, next_ms) VALUES (1, 'a', 0, 1795305600000, 0)",
                    "INSERT INTO streams (id, node, journal, name, class, seq, hash) VALUES (1, 1, 1, 'm', 'metric', 1, '')",
                    "INSERT INTO records (id, node, stream, seq, kind, boot, mono_ns, wall_ms, clock, hash, body) \
                     VALUES (41, 1, 1, 1, 'note', '', 0, 0, 'off', '', '')",
                ] {
                    sqlx::query(sql).execute(&mut writer).await.unwrap();
                }
            }
            assert_eq!(migrate(&mut writer, Dialect::Sqlite).await.unwrap(), Migrated::Ready);
            assert_eq!(migrate(&mut writer, Dialect::Sqlite).await.unwrap(), Migrated::Ready, "told twice");
            let turn = turn::take(&mut writer, "me").await.unwrap();
            assert_eq!(
                turn.last_record,
                if from == 1 { 41 } else { 0 },
                "numbers go on behind what is there"
            );
            if is_old {
                let bucket: i64 =
                    sqlx::query_scalar("SELECT bucket FROM records").fetch_one(&mut writer).await.unwrap();
                let day = buckets::newest_day(&mut writer).await.unwrap().unwrap();
                assert_eq!((day, bucket), (20_779, buckets::bucket(Class::Metric, day)));
            }
        }
    }
}
