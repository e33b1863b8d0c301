//! Where a stream stands: how far it is written, on disk, settled at the hub, and what was dropped.
//!
//! Always `acked <= last`, `durable <= last` and `first <= last + 1`. What the hub lacks and the node no longer has is
//! the run between `acked` and `first`: the stream's one gap.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::StreamName;
use wire::record::{Gap, GapReason};

use super::database::{DatabaseError, signed, unsigned};

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Its row.
    pub(crate) id: i64,
    /// Its name.
    pub stream: StreamName,
    /// Its class, that of its first record.
    pub class: Class,
    /// Whether the data policy lets it leave the node.
    pub leaves: bool,
    /// The oldest kept record; `last + 1` if none is kept.
    pub first: u64,
    /// The chain's hash before it.
    pub before: Hash,
    /// The newest record; 0 before the first.
    pub last: u64,
    /// The chain's hash at `last`.
    pub head: Hash,
    /// The newest record that survives a power cut. Only these are sent: numbers that were sent and then lost would
    /// be used twice.
    pub durable: u64,
    /// The chain's hash at `durable`.
    pub durable_hash: Hash,
    /// The newest record that the hub has settled.
    pub acked: u64,
    /// The chain's hash at `acked`.
    pub acked_hash: Hash,
    /// Why records between `acked` and `first` are gone.
    pub reason: GapReason,
    /// Bytes of the kept bodies.
    pub bytes: u64,
}

impl Position {
    /// A stream that has no records yet.
    pub fn empty(stream: &StreamName, class: Class, leaves: bool) -> Position {
        Position {
            id: 0,
            stream: stream.clone(),
            class,
            leaves,
            first: 1,
            before: Hash::GENESIS,
            last: 0,
            head: Hash::GENESIS,
            durable: 0,
            durable_hash: Hash::GENESIS,
            acked: 0,
            acked_hash: Hash::GENESIS,
            reason: GapReason::ByteCap,
            bytes: 0,
        }
    }

    /// How many records wait to be sent, those lost included: the hub learns of them too.
    pub fn unsent(&self) -> u64 {
        if self.leaves { self.durable.saturating_sub(self.acked) } else { 0 }
    }

    /// About how many bytes of bodies wait to be sent.
    pub fn unsent_bytes(&self) -> u64 {
        let kept = (self.last + 1).saturating_sub(self.first);
        self.bytes / kept.max(1) * self.unsent().min(kept)
    }

    /// What the hub lacks and the node no longer has. Never beyond `durable`.
    pub fn gap(&self) -> Option<Gap> {
        let (last, hash) = if self.first > self.durable {
            (self.durable, self.durable_hash)
        } else {
            (self.first - 1, self.before)
        };
        let first = self.acked + 1;
        (last >= first).then_some(Gap { first, last, reason: self.reason, hash })
    }
}

const COLUMNS: &str = "id, name, class, leaves, first, before, last, head, durable, durable_hash, acked, \
     acked_hash, reason, bytes";

/// All streams, in the order in which they began.
pub(crate) fn load_all(conn: &Connection) -> Result<Vec<Position>, DatabaseError> {
    let mut select = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM streams ORDER BY id"))?;
    let mut rows = select.query([])?;
    let mut positions = Vec::new();
    while let Some(row) = rows.next()? {
        positions.push(from_row(row)?);
    }
    Ok(positions)
}

/// One stream; `None` if there is none of this name.
pub(crate) fn load(conn: &Connection, stream: &StreamName) -> Result<Option<Position>, DatabaseError> {
    let mut select = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM streams WHERE name = ?1"))?;
    select.query_row([stream.as_str()], |row| Ok(from_row(row))).optional()?.transpose()
}

/// Writes a new stream's row and gives its id.
pub(crate) fn insert(conn: &Connection, position: &Position) -> Result<i64, DatabaseError> {
    let p = position;
    conn.prepare_cached(
        "INSERT INTO streams (name, class, leaves, first, before, last, head, durable, durable_hash, acked, \
         acked_hash, reason, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        p.stream.as_str(),
        p.class.as_str(),
        p.leaves,
        signed(p.first),
        p.before.as_bytes(),
        signed(p.last),
        p.head.as_bytes(),
        signed(p.durable),
        p.durable_hash.as_bytes(),
        signed(p.acked),
        p.acked_hash.as_bytes(),
        reason_word(p.reason),
        signed(p.bytes),
    ])?;
    Ok(conn.last_insert_rowid())
}

/// Writes everything of a stream that changes.
pub(crate) fn save(conn: &Connection, position: &Position) -> Result<(), DatabaseError> {
    let p = position;
    conn.prepare_cached(
        "UPDATE streams SET leaves = ?2, first = ?3, before = ?4, last = ?5, head = ?6, durable = ?7, \
         durable_hash = ?8, acked = ?9, acked_hash = ?10, reason = ?11, bytes = ?12 WHERE id = ?1",
    )?
    .execute(params![
        p.id,
        p.leaves,
        signed(p.first),
        p.before.as_bytes(),
        signed(p.last),
        p.head.as_bytes(),
        signed(p.durable),
        p.durable_hash.as_bytes(),
        signed(p.acked),
        p.acked_hash.as_bytes(),
        reason_word(p.reason),
        signed(p.bytes),
    ])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> Result<Position, DatabaseError> {
    let number = |at: usize| row.get::<_, i64>(at).map(unsigned);
    let hash = |at: usize| -> Result<Hash, DatabaseError> {
        Hash::from_slice(row.get_ref(at)?.as_bytes().map_err(rusqlite::Error::from)?)
            .ok_or_else(|| DatabaseError::Damaged { why: "a stream's hash has not 32 bytes".into() })
    };
    let name: String = row.get(1)?;
    let stream =
        StreamName::new(&name).map_err(|bad| DatabaseError::Damaged { why: format!("{name:?}: {bad}") })?;
    let class: String = row.get(2)?;
    let class = Class::parse(&class)
        .ok_or_else(|| DatabaseError::Damaged { why: format!("{stream} has class {class:?}") })?;
    let position = Position {
        id: row.get(0)?,
        stream,
        class,
        leaves: row.get(3)?,
        first: number(4)?,
        before: hash(5)?,
        last: number(6)?,
        head: hash(7)?,
        durable: number(8)?,
        durable_hash: hash(9)?,
        acked: number(10)?,
        acked_hash: hash(11)?,
        reason: reason(row.get_ref(12)?.as_str().unwrap_or_default()),
        bytes: number(13)?,
    };
    let Position { first, last, durable, acked, .. } = position;
    if first == 0 || first > last + 1 || durable > last || acked > last {
        let why = format!(
            "{} stands at first {first}, last {last}, durable {durable}, acked {acked}",
            position.stream
        );
        return Err(DatabaseError::Damaged { why });
    }
    Ok(position)
}

fn reason_word(reason: GapReason) -> &'static str {
    match reason {
        GapReason::ByteCap => "byte-cap",
        GapReason::DiskFull => "disk-full",
        GapReason::Retired => "retired",
        GapReason::Erased => "erased",
        GapReason::Expired => "expired",
        GapReason::Other => "other",
    }
}

fn reason(word: &str) -> GapReason {
    let all =
        [GapReason::ByteCap, GapReason::DiskFull, GapReason::Retired, GapReason::Erased, GapReason::Expired];
    all.into_iter().find(|reason| reason_word(*reason) == word).unwrap_or(GapReason::Other)
}
