//! Reads a journal without owning it: for the command line and the node's own pages, also while the node runs.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use wire::hash::Hash;
use wire::id::{JournalId, StreamName};
use wire::record::Record;

use super::database::{self, DatabaseError};
use super::position::{self, Position};
use super::row;

/// A read-only connection to a journal.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
}

impl Reader {
    /// Opens a journal that is there.
    pub fn open(dir: &Path) -> Result<Reader, DatabaseError> {
        Ok(Reader { conn: database::join(dir, OpenFlags::SQLITE_OPEN_READ_ONLY)? })
    }

    /// The id of the journal's present life.
    pub fn journal(&self) -> Result<JournalId, DatabaseError> {
        database::journal_id(&self.conn)
    }

    /// Where all streams stand.
    pub fn positions(&self) -> Result<Vec<Position>, DatabaseError> {
        position::load_all(&self.conn)
    }

    /// Up to `limit` kept records of a stream that come after number `after`, oldest first, each with its hash.
    /// Empty for a stream that is not there.
    pub fn records(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(Record, Hash)>, DatabaseError> {
        database::read(&self.conn, |conn| {
            let mut records = Vec::new();
            if let Some(position) = position::load(conn, stream)? {
                let first = position.first.max(after.saturating_add(1));
                row::each(conn, &position, first, position.last, |kept| {
                    if records.len() < limit {
                        records.push((kept.record, kept.hash));
                    }
                    records.len() < limit
                })?;
            }
            Ok(records)
        })
    }

    /// Kept records of a stream after number `after` and up to `last`, oldest first: at most `max_records`, and about
    /// `max_bytes` of bodies, but at least one if there is one.
    pub fn run(
        &self,
        stream: &StreamName,
        after: u64,
        last: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, DatabaseError> {
        database::read(&self.conn, |conn| {
            let (mut records, mut bytes) = (Vec::new(), 0);
            if let Some(position) = position::load(conn, stream)? {
                let first = position.first.max(after.saturating_add(1));
                row::each(conn, &position, first, last.min(position.last), |kept| {
                    bytes += kept.record.body.get().len();
                    records.push(kept.record);
                    records.len() < max_records && bytes < max_bytes
                })?;
            }
            Ok(records)
        })
    }

    /// The newest `limit` records of a stream, oldest first, each with its hash.
    pub fn latest(&self, stream: &StreamName, limit: usize) -> Result<Vec<(Record, Hash)>, DatabaseError> {
        let last = position::load(&self.conn, stream)?.map_or(0, |position| position.last);
        self.records(stream, last.saturating_sub(limit as u64), limit)
    }

    /// Gives every kept record of a stream, with its hash, to `take`, oldest first.
    pub(crate) fn each(
        &self,
        position: &Position,
        mut take: impl FnMut(Record, Hash) -> bool,
    ) -> Result<(), DatabaseError> {
        row::each(&self.conn, position, position.first, position.last, |kept| take(kept.record, kept.hash))
    }

    /// The hash of one record; `None` if it is not kept.
    pub(crate) fn hash_at(&self, position: &Position, seq: u64) -> Result<Option<Hash>, DatabaseError> {
        let mut found = None;
        row::each(&self.conn, position, seq, seq, |kept| {
            found = Some(kept.hash);
            false
        })?;
        Ok(found)
    }

    /// Holds the journal still, to this reader's eye, during `work`.
    pub(crate) fn at_one_instant<T>(
        &self,
        work: impl FnOnce() -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        database::read(&self.conn, |_| work())
    }
}
