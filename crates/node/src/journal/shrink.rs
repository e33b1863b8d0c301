//! Makes the journal smaller while the node runs: when others fill the disk, and when memory is short.

use wire::class::Class;
use wire::record::GapReason;

use super::Journal;
use super::database::{self, DatabaseError};
use super::evict::evict_block;
use super::settings::MAX_BYTES_LEAST;

/// What is dropped in one transaction.
const BLOCK_BYTES: u64 = 256 << 10;

impl Journal {
    /// What the journal keeps however short the disk is: an eighth of its cap.
    pub fn floor_bytes(&self) -> u64 {
        (self.settings.max_bytes / 8).max(MAX_BYTES_LEAST)
    }

    /// Goes down to its floor, and gives the room back to the disk: first what the hub has, then raw readings and metrics that
    /// it has not, which leaves gaps. Events and audit records that the hub lacks stay. Gives the bytes that the file lost.
    pub fn shrink(&mut self) -> Result<u64, DatabaseError> {
        let floor_bytes = self.floor_bytes();
        let before = database::file_bytes(&self.conn)?;
        self.refresh()?;
        while database::used_bytes(&self.conn)? > floor_bytes {
            let Journal { conn, positions, counts, .. } = self;
            let reason = GapReason::DiskFull;
            let evicted = database::write(conn, |conn| {
                evict_block(conn, positions, Class::Metric, BLOCK_BYTES, reason)
            });
            match evicted {
                Ok(Some(evicted)) if evicted.acked => counts.evicted_acked += evicted.records,
                Ok(Some(evicted)) => counts.evicted_unsent += evicted.records,
                Ok(None) => break,
                Err(error) => {
                    // What the failed transaction did to the positions in memory is undone by reading them again.
                    self.seen = None;
                    return Err(error);
                }
            }
        }
        database::shrink(&self.conn)?;
        database::fold(&self.conn)?;
        Ok(before.saturating_sub(database::file_bytes(&self.conn)?))
    }

    /// Gives SQLite's page cache back.
    pub fn drop_caches(&self) -> Result<(), DatabaseError> {
        database::drop_caches(&self.conn)
    }
}
