//! Makes room: drops the oldest records that the hub has, then the least precious ones that it has not.
//!
//! Drops in blocks, in the transaction of the write that needs the room, and moves the stream's `first` with them, so
//! that what the hub lacks is a gap it will hear of. Audit records that the hub lacks are never dropped; those that the policy
//! keeps here go for the sake of newer ones.

use rusqlite::{Connection, OptionalExtension, params};
use wire::class::Class;
use wire::hash::Hash;
use wire::record::GapReason;

use super::database::{DatabaseError, signed};
use super::position::{Position, save};

/// What one block took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evicted {
    /// How many records.
    pub(crate) records: u64,
    /// Whether the hub has them.
    pub(crate) acked: bool,
}

/// Drops one block of about `block_bytes` to make room for a record of class `for_class`. `None` if nothing may go.
pub(crate) fn evict_block(
    conn: &Connection,
    positions: &mut [Position],
    for_class: Class,
    block_bytes: u64,
    reason: GapReason,
) -> Result<Option<Evicted>, DatabaseError> {
    if let Some(index) = oldest(conn, positions, |p| p.acked >= p.first)? {
        let position = &mut positions[index];
        let records = drop_oldest(conn, position, position.acked, block_bytes)?;
        save(conn, position)?;
        return Ok(Some(Evicted { records, acked: true }));
    }
    // The least precious first; never for the sake of something less precious, and never audit.
    for class in Class::ALL.into_iter().rev() {
        if class < for_class {
            continue;
        }
        // Evidence that leaves waits for the hub. What never leaves would wait for ever, and makes room for newer evidence.
        let may =
            |p: &Position| p.class == class && p.last >= p.first && !(class == Class::Audit && p.leaves);
        if let Some(index) = oldest(conn, positions, may)? {
            let position = &mut positions[index];
            let records = drop_oldest(conn, position, position.last, block_bytes)?;
            position.reason = reason;
            save(conn, position)?;
            return Ok(Some(Evicted { records, acked: false }));
        }
    }
    Ok(None)
}

/// The stream whose oldest kept record is the oldest of all, among those that `may`.
fn oldest(
    conn: &Connection,
    positions: &[Position],
    may: impl Fn(&Position) -> bool,
) -> Result<Option<usize>, DatabaseError> {
    let mut select = conn.prepare_cached("SELECT at FROM records WHERE stream = ?1 AND seq = ?2")?;
    let mut oldest: Option<(i64, usize)> = None;
    for (index, position) in positions.iter().enumerate().filter(|(_, position)| may(position)) {
        let at =
            select.query_row(params![position.id, signed(position.first)], |row| row.get(0)).optional()?;
        let at: i64 = at.ok_or_else(|| missing(position, position.first))?;
        if oldest.is_none_or(|(least, _)| at < least) {
            oldest = Some((at, index));
        }
    }
    Ok(oldest.map(|(_, index)| index))
}

/// Drops the oldest kept records of a stream up to `upto`, at least one, until `block_bytes` are gone or the rest is
/// younger than a sixteenth of what the journal spans: other streams have records as old.
fn drop_oldest(
    conn: &Connection,
    position: &mut Position,
    upto: u64,
    block_bytes: u64,
) -> Result<u64, DatabaseError> {
    let (first_at, last_at): (i64, i64) = conn
        .prepare_cached("SELECT (SELECT min(at) FROM records), (SELECT max(at) FROM records)")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut select = conn.prepare_cached(
        "SELECT at, seq, octet_length(body), hash FROM records WHERE stream = ?1 AND seq BETWEEN ?2 AND ?3 \
         ORDER BY seq",
    )?;
    let mut rows = select.query(params![position.id, signed(position.first), signed(upto)])?;
    let mut young_at = None;
    let (mut bytes, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        let at: i64 = row.get(0)?;
        let young_at = *young_at.get_or_insert(at + (last_at - first_at) / 16);
        if last.is_some() && (bytes >= block_bytes || at > young_at) {
            break;
        }
        let hash = Hash::from_slice(row.get_ref(3)?.as_bytes().map_err(rusqlite::Error::from)?);
        last = Some((row.get::<_, i64>(1)?, hash.ok_or_else(|| missing(position, position.first))?));
        bytes += u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
    }
    drop(rows);
    let (seq, hash) = last.ok_or_else(|| missing(position, position.first))?;
    let gone = conn
        .prepare_cached("DELETE FROM records WHERE stream = ?1 AND seq BETWEEN ?2 AND ?3")?
        .execute(params![position.id, signed(position.first), seq])?;
    position.first = u64::try_from(seq).unwrap_or(0) + 1;
    position.before = hash;
    position.bytes = position.bytes.saturating_sub(bytes);
    Ok(gone as u64)
}

fn missing(position: &Position, seq: u64) -> DatabaseError {
    DatabaseError::Damaged { why: format!("record {seq} of {} is not there", position.stream) }
}
