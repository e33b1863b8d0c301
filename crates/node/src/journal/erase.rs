//! Erases what stands in records, and leaves the chain whole: bodies are blanked, hashes stay, and a record of its own names each
//! record that was blanked, with its hash.
//!
//! The record comes first. A power cut between the two leaves bodies that were to be blanked, never bodies that were blanked without
//! a word. What the hub has not taken yet reaches it as a gap, since nobody can reckon the hash of a body that is gone.

use std::collections::{BTreeMap, HashMap};

use rusqlite::params;
use serde::{Deserialize, Serialize};
use wire::body::Body;
use wire::class::Class;
use wire::hash::Hash;
use wire::id::StreamName;
use wire::record::Stamp;

use super::database::{self, DatabaseError, signed};
use super::position;
use super::reader::Reader;
use super::row::{self, BLANK};
use super::{Durability, Journal, JournalError};

/// The most records that one record of an erasure names: about 100 bytes each.
const NAMED_MAX: usize = 1_000;

/// Records were blanked: the body of records of kind `erased`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Whom they were about, as a pseudonym.
    pub subject: String,
    /// Who asked for it, and why.
    pub why: String,
    /// Sequence numbers and hashes, by stream.
    pub records: BTreeMap<StreamName, Vec<(u64, Hash)>>,
}

impl Body for Erased {
    const KIND: &'static str = "erased";
}

impl Journal {
    /// Blanks all records whose body is meant; gives how many they were. Nothing else may be pending.
    pub fn erase(
        &mut self,
        subject: &str,
        why: &str,
        stamp: Stamp,
        mut is_meant: impl FnMut(&str) -> bool,
    ) -> Result<u64, JournalError> {
        self.refresh()?;
        let mut found = Vec::new();
        for position in &self.positions {
            row::each(&self.conn, position, position.first, position.last, |kept| {
                let body = kept.record.body.get();
                if kept.record.kind.as_str() != Erased::KIND && body != BLANK && is_meant(body) {
                    let body_bytes = body.len() as u64;
                    found.push((
                        position.stream.clone(),
                        position.id,
                        kept.record.seq,
                        kept.hash,
                        body_bytes,
                    ));
                }
                true
            })?;
        }
        let audit = StreamName::new("audit").expect("our own streams have good names");
        for named in found.chunks(NAMED_MAX) {
            let mut records: BTreeMap<StreamName, Vec<(u64, Hash)>> = BTreeMap::new();
            for (stream, _, seq, hash, _) in named {
                records.entry(stream.clone()).or_default().push((*seq, *hash));
            }
            let erased = Erased { subject: subject.to_owned(), why: why.to_owned(), records };
            self.append([erased.draft(&audit, Class::Audit)], stamp)?;
        }
        self.commit(Durability::Full)?;
        // What is blanked is overwritten in the file, and not only unlinked.
        self.conn.pragma_update(None, "secure_delete", "ON").map_err(DatabaseError::from)?;
        database::write_durably(&self.conn, |conn| {
            for (_, stream, seq, _, _) in &found {
                conn.prepare_cached("UPDATE records SET body = ?3 WHERE stream = ?1 AND seq = ?2")?
                    .execute(params![stream, signed(*seq), BLANK])?;
            }
            for mut position in position::load_all(conn)? {
                let of_it = found.iter().filter(|(stream, ..)| *stream == position.stream);
                let less: u64 = of_it.map(|(.., bytes)| bytes.saturating_sub(BLANK.len() as u64)).sum();
                if less > 0 {
                    position.bytes = position.bytes.saturating_sub(less);
                    position::save(conn, &position)?;
                }
            }
            Ok(())
        })?;
        self.seen = None;
        // Pages that were split long ago hold copies in their unused bytes: only a file that is written anew has none.
        self.conn.execute_batch("VACUUM").map_err(DatabaseError::from)?;
        // The log beside the file holds the old pages until it is written back.
        let mut checkpoint =
            self.conn.prepare("PRAGMA wal_checkpoint(TRUNCATE)").map_err(DatabaseError::from)?;
        let busy: i64 = checkpoint.query_row([], |row| row.get(0)).map_err(DatabaseError::from)?;
        if busy != 0 {
            tracing::warn!(
                "another process reads the journal: pages of what was erased stay in its log for now"
            );
        }
        Ok(found.len() as u64)
    }
}

/// The records that erasures of this journal name.
pub(crate) fn named(reader: &Reader) -> Result<HashMap<(StreamName, u64), Hash>, DatabaseError> {
    let mut all = HashMap::new();
    for position in reader.positions()?.iter().filter(|position| position.stream.as_str() == "audit") {
        reader.each(position, |record, _| {
            if record.kind.as_str() == Erased::KIND
                && let Ok(erased) = serde_json::from_str::<Erased>(record.body.get())
            {
                for (stream, records) in erased.records {
                    all.extend(records.into_iter().map(|(seq, hash)| ((stream.clone(), seq), hash)));
                }
            }
            true
        })?;
    }
    Ok(all)
}
