//! One record as a row of the database, there and back.

use rusqlite::{Connection, Row, params};
use serde_json::value::RawValue;
use wire::chain::{Link, link};
use wire::hash::Hash;
use wire::id::{BootId, PartName};
use wire::record::{Draft, Record, Stamp};
use wire::world::ClockQuality;

use super::database::{DatabaseError, signed, unsigned};
use super::position::Position;

/// What a record's row takes beside its body, about: its hash, its times, its kind and its place in the index.
pub(crate) const ROW_BYTES: u64 = 160;

/// The body of a record that was erased; see `journal::erase`.
pub(crate) const BLANK: &str = "{\"erased\":true}";

/// A record with its place.
pub(crate) struct Kept {
    /// Its place in the order of writing.
    pub(crate) at: i64,
    /// The record.
    pub(crate) record: Record,
    /// The chain's hash at it.
    pub(crate) hash: Hash,
}

/// The hash of a draft as the next record of its stream.
pub(crate) fn hash_next(position: &Position, draft: &Draft, stamp: Stamp) -> Hash {
    let (stream, class, seq) = (&position.stream, position.class, position.last + 1);
    let kind = draft.kind.as_str();
    link(position.head, Link { stream, class, seq, kind, stamp }, draft.body.get())
}

/// The hash that a kept record has after `before`.
pub(crate) fn hash_after(before: Hash, position: &Position, record: &Record) -> Hash {
    let (stream, class, seq) = (&position.stream, position.class, record.seq);
    let (kind, stamp) = (record.kind.as_str(), record.stamp());
    link(before, Link { stream, class, seq, kind, stamp }, record.body.get())
}

/// Writes a draft as record `seq` of the stream in row `stream`.
pub(crate) fn insert(
    conn: &Connection,
    stream: i64,
    seq: u64,
    hash: &Hash,
    draft: &Draft,
    stamp: Stamp,
) -> Result<(), DatabaseError> {
    conn.prepare_cached(
        "INSERT INTO records (stream, seq, kind, boot, mono_ns, wall_ms, clock, hash, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        stream,
        signed(seq),
        draft.kind.as_str(),
        boot_bytes(stamp.boot),
        signed(stamp.mono_ns),
        stamp.wall_ms,
        stamp.clock.as_str(),
        hash.as_bytes(),
        draft.body.get(),
    ])?;
    Ok(())
}

/// Gives the kept records from `first` to `last`, oldest first, to `take` until it answers `false`.
pub(crate) fn each(
    conn: &Connection,
    position: &Position,
    first: u64,
    last: u64,
    mut take: impl FnMut(Kept) -> bool,
) -> Result<(), DatabaseError> {
    let mut select = conn.prepare_cached(
        "SELECT at, seq, kind, boot, mono_ns, wall_ms, clock, hash, body FROM records \
         WHERE stream = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq",
    )?;
    let mut rows = select.query(params![position.id, signed(first), signed(last)])?;
    while let Some(row) = rows.next()? {
        let kept = from_row(row).map_err(|why| match why {
            Unreadable::Sqlite(error) => DatabaseError::from(error),
            Unreadable::Field(field) => {
                let seq = row.get::<_, i64>(1).unwrap_or(0);
                DatabaseError::Damaged { why: format!("{field} of record {seq} of {}", position.stream) }
            }
        })?;
        if !take(kept) {
            break;
        }
    }
    Ok(())
}

enum Unreadable {
    Sqlite(rusqlite::Error),
    Field(&'static str),
}

impl From<rusqlite::Error> for Unreadable {
    fn from(error: rusqlite::Error) -> Unreadable {
        Unreadable::Sqlite(error)
    }
}

fn from_row(row: &Row<'_>) -> Result<Kept, Unreadable> {
    let text = |at: usize, field| -> Result<&str, Unreadable> {
        row.get_ref(at)?.as_str().map_err(|_| Unreadable::Field(field))
    };
    let blob = |at: usize, field| -> Result<&[u8], Unreadable> {
        row.get_ref(at)?.as_blob().map_err(|_| Unreadable::Field(field))
    };
    let body = RawValue::from_string(text(8, "the body")?.to_owned());
    let record = Record {
        seq: unsigned(row.get(1)?),
        kind: PartName::new(text(2, "the kind")?).map_err(|_| Unreadable::Field("the kind"))?,
        boot: boot_id(blob(3, "the boot")?).ok_or(Unreadable::Field("the boot"))?,
        mono_ns: unsigned(row.get(4)?),
        wall_ms: row.get(5)?,
        clock: ClockQuality::parse(text(6, "the clock")?).ok_or(Unreadable::Field("the clock"))?,
        body: body.map_err(|_| Unreadable::Field("the body"))?,
    };
    let hash = Hash::from_slice(blob(7, "the hash")?).ok_or(Unreadable::Field("the hash"))?;
    Ok(Kept { at: row.get(0)?, record, hash })
}

fn boot_bytes(boot: BootId) -> [u8; 16] {
    // An id displays as 32 hexadecimal digits, always.
    u128::from_str_radix(&boot.to_string(), 16).unwrap_or_default().to_be_bytes()
}

fn boot_id(bytes: &[u8]) -> Option<BootId> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    BootId::parse(&format!("{:032x}", u128::from_be_bytes(bytes))).ok()
}
