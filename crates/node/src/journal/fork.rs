//! Gives a journal a new life after the hub has seen another future of it: a snapshot of the machine was restored, or
//! its disk was copied.
//!
//! Under a new id, what the hub has not settled is numbered from 1 again and chained anew, so it reaches the hub whole
//! whatever the other future wrote. What the hub has settled is there under the old id, and leaves the journal. What
//! both futures have and the hub took from the other one is there under both ids: nobody can tell it apart any more.
//! Streams that never left the node keep their numbers.

use rusqlite::{Connection, params};
use wire::hash::Hash;
use wire::id::{JournalId, StreamName};

use super::database::{self, DatabaseError, signed};
use super::position::{self, Position};
use super::row;

/// About how many bytes of bodies are held in memory at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What a fork did, to be journalled as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkReport {
    /// The id before.
    pub old: JournalId,
    /// The id from now on.
    pub new: JournalId,
    /// What became of each stream that may leave the node.
    pub streams: Vec<ForkedStream>,
}

/// One stream of a [`ForkReport`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkedStream {
    /// The stream.
    pub stream: StreamName,
    /// The last number that the hub has settled under the old id; record `settled + n` is now record `n`.
    pub settled: u64,
    /// How many records go on, those lost to a gap included.
    pub carried: u64,
    /// The old number of the first record that did not fit its chain: it was altered on this node.
    pub broken: Option<u64>,
}

impl std::fmt::Display for ForkReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the hub has another future of journal {}; it goes on as {}", self.old, self.new)?;
        for ForkedStream { stream, settled, carried, broken } in &self.streams {
            write!(f, "; {stream}: {settled} settled, {carried} carried over")?;
            if let Some(seq) = broken {
                write!(f, ", altered at {seq}")?;
            }
        }
        Ok(())
    }
}

/// Forks, in one transaction that is on the disk when this returns.
pub(crate) fn fork(conn: &Connection, new: JournalId) -> Result<ForkReport, DatabaseError> {
    database::write_durably(conn, |conn| {
        let old = database::journal_id(conn)?;
        let mut streams = Vec::new();
        for mut position in position::load_all(conn)? {
            if position.leaves || position.acked > 0 {
                streams.push(renumber(conn, &mut position)?);
                position::save(conn, &position)?;
            }
        }
        database::set_meta(conn, "journal", &new.to_string())?;
        Ok(ForkReport { old, new, streams })
    })
}

fn renumber(conn: &Connection, position: &mut Position) -> Result<ForkedStream, DatabaseError> {
    let settled = position.acked;
    if settled >= position.first {
        let gone: i64 = conn.query_row(
            "SELECT coalesce(sum(octet_length(body)), 0) FROM records WHERE stream = ?1 AND seq <= ?2",
            params![position.id, signed(settled)],
            |row| row.get(0),
        )?;
        conn.execute(
            "DELETE FROM records WHERE stream = ?1 AND seq <= ?2",
            params![position.id, signed(settled)],
        )?;
        position.bytes = position.bytes.saturating_sub(database::unsigned(gone));
        position.first = settled + 1;
        position.before = position.acked_hash;
    }
    // The chain as it was, to see whether it held, and as it is to be.
    let mut was = position.before;
    let mut is = if position.first == settled + 1 { Hash::GENESIS } else { position.before };
    let before = is;
    let mut broken = None;
    let mut next = position.first;
    let mut update = conn.prepare("UPDATE records SET seq = ?2, hash = ?3 WHERE at = ?1")?;
    while next <= position.last {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        row::each(conn, position, next, position.last, |kept| {
            bytes += kept.record.body.get().len();
            chunk.push(kept);
            bytes < CHUNK_BYTES
        })?;
        if chunk.is_empty() {
            let why = format!("record {next} of {} is not there", position.stream);
            return Err(DatabaseError::Damaged { why });
        }
        for mut kept in chunk {
            let seq = kept.record.seq;
            if broken.is_none() && (seq != next || row::hash_after(was, position, &kept.record) != kept.hash)
            {
                broken = Some(seq);
            }
            was = kept.hash;
            kept.record.seq = seq - settled;
            is = row::hash_after(is, position, &kept.record);
            update.execute(params![kept.at, signed(kept.record.seq), is.as_bytes()])?;
            next = seq + 1;
        }
    }
    position.first -= settled;
    position.before = before;
    position.last -= settled;
    position.head = is;
    (position.durable, position.durable_hash) = (position.last, position.head);
    (position.acked, position.acked_hash) = (0, Hash::GENESIS);
    Ok(ForkedStream { stream: position.stream.clone(), settled, carried: position.last, broken })
}
