//! Drops records that the data policy keeps no longer, by the age that their wall time says.
//!
//! Wall times lie: a node without a clock of its own wakes up in 1970. A time before [`PLAUSIBLE_MS`] says nothing, and a record with
//! such a time is as old as the one behind it. Nothing expires by a clock that is known to be wrong.

use rusqlite::{Connection, params};
use wire::class::Class;
use wire::hash::Hash;
use wire::record::{GapReason, Stamp};
use wire::world::{ClockQuality, WallMs};

use super::database::{self, DatabaseError, signed, unsigned};
use super::position::{self, Position};
use super::{Journal, JournalError};

/// 2024-01-01: no record of this program is older.
const PLAUSIBLE_MS: WallMs = 1_704_067_200_000;

impl Journal {
    /// Drops what is too old at `stamp`; gives how many records that were.
    pub fn expire(&mut self, stamp: Stamp) -> Result<u64, JournalError> {
        let keep_ms = self.settings.policy.keep_ms.clone();
        if keep_ms.is_empty() || stamp.wall_ms < PLAUSIBLE_MS || stamp.clock == ClockQuality::Off {
            return Ok(0);
        }
        let dropped = database::write(&self.conn, |conn| {
            let mut dropped = 0;
            for mut position in position::load_all(conn)? {
                let Some(keep_ms) = keep_ms.get(&position.class) else { continue };
                // Evidence goes only by a clock that somebody has confirmed.
                if position.class == Class::Audit && stamp.clock != ClockQuality::Checked {
                    continue;
                }
                let before_ms = stamp.wall_ms.saturating_sub_unsigned(*keep_ms);
                if let Some(upto) = last_expired(conn, &position, before_ms)? {
                    dropped += drop_upto(conn, &mut position, upto)?;
                }
            }
            Ok(dropped)
        })?;
        if dropped > 0 {
            self.seen = None;
        }
        Ok(dropped)
    }
}

/// The last record of the run from the oldest on in which all are older than `before_ms`.
fn last_expired(
    conn: &Connection,
    position: &Position,
    before_ms: WallMs,
) -> Result<Option<u64>, DatabaseError> {
    let young: Option<i64> = conn
        .prepare_cached("SELECT min(seq) FROM records WHERE stream = ?1 AND wall_ms >= ?2")?
        .query_row(params![position.id, before_ms], |row| row.get(0))?;
    // What follows the first young record is younger, whatever its clock said.
    let mut select = conn.prepare_cached(
        "SELECT max(seq) FROM records WHERE stream = ?1 AND wall_ms BETWEEN ?2 AND ?3 AND seq < ?4",
    )?;
    let old: Option<i64> = select
        .query_row(params![position.id, PLAUSIBLE_MS, before_ms - 1, young.unwrap_or(i64::MAX)], |row| {
            row.get(0)
        })?;
    Ok(old.map(unsigned))
}

fn drop_upto(conn: &Connection, position: &mut Position, upto: u64) -> Result<u64, DatabaseError> {
    let (bytes, hash): (i64, Vec<u8>) = conn
        .prepare_cached(
            "SELECT (SELECT sum(octet_length(body)) FROM records WHERE stream = ?1 AND seq <= ?2), hash \
             FROM records WHERE stream = ?1 AND seq = ?2",
        )?
        .query_row(params![position.id, signed(upto)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let hash = Hash::from_slice(&hash).ok_or_else(|| DatabaseError::Damaged {
        why: format!("the hash of record {upto} of {}", position.stream),
    })?;
    let gone = conn
        .prepare_cached("DELETE FROM records WHERE stream = ?1 AND seq <= ?2")?
        .execute(params![position.id, signed(upto)])?;
    if upto > position.acked {
        position.reason = GapReason::Expired;
    }
    (position.first, position.before) = (upto + 1, hash);
    position.bytes = position.bytes.saturating_sub(unsigned(bytes));
    position::save(conn, position)?;
    Ok(gone as u64)
}
