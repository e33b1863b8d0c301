//! Walks the chains of a journal and says whether every record still is what was written.

use std::collections::HashMap;

use wire::hash::Hash;
use wire::id::StreamName;

use super::database::DatabaseError;
use super::erase;
use super::position::Position;
use super::reader::Reader;
use super::row::{self, BLANK};

/// What was found in one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamCheck {
    /// The stream.
    pub stream: StreamName,
    /// The first kept record's number.
    pub first: u64,
    /// The last record's number.
    pub last: u64,
    /// How many records were walked.
    pub records: u64,
    /// How many of them were erased: their bodies are gone, their hashes are not.
    pub erased: u64,
    /// Where the chain breaks first, if it does.
    pub broken: Option<Broken>,
}

/// The first break of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The record's number.
    pub seq: u64,
    /// What is wrong there.
    pub why: &'static str,
}

/// Walks every stream from its oldest kept record to its newest.
pub fn verify(reader: &Reader) -> Result<Vec<StreamCheck>, DatabaseError> {
    reader.at_one_instant(|| {
        let positions = reader.positions()?;
        let erased = Erasures { named: erase::named(reader)?, is_whole: is_whole(&positions) };
        positions.iter().map(|position| verify_stream(reader, position, &erased)).collect()
    })
}

/// Walks the newest `most` records of every stream: from the hash of the one before them.
pub fn verify_tail(reader: &Reader, most: u64) -> Result<Vec<StreamCheck>, DatabaseError> {
    reader.at_one_instant(|| {
        let positions = reader.positions()?;
        let erased = Erasures { named: erase::named(reader)?, is_whole: is_whole(&positions) };
        let checks = positions.into_iter().map(|mut position| {
            let kept = position.last.saturating_add(1).saturating_sub(position.first);
            if kept > most {
                // The one before the tail is believed; everything after it hangs on it.
                let seq = position.last - most;
                if let Some(hash) = reader.hash_at(&position, seq)? {
                    (position.first, position.before) = (seq + 1, hash);
                }
            }
            verify_stream(reader, &position, &erased)
        });
        checks.collect()
    })
}

/// What is known of records that were erased.
struct Erasures {
    /// By stream and number, the hash.
    named: HashMap<(StreamName, u64), Hash>,
    /// Every erasure there ever was is still told of.
    is_whole: bool,
}

/// Whether the stream with erasures has all its records.
fn is_whole(positions: &[Position]) -> bool {
    positions
        .iter()
        .filter(|position| position.stream.as_str() == "audit")
        .all(|position| position.first == 1)
}

fn verify_stream(
    reader: &Reader,
    position: &Position,
    erasures: &Erasures,
) -> Result<StreamCheck, DatabaseError> {
    let mut erased = 0;
    let mut hash = position.before;
    let mut next = position.first;
    let mut broken = None;
    reader.each(position, |record, kept_hash| {
        hash = row::hash_after(hash, position, &record);
        if record.body.get() == BLANK && hash != kept_hash {
            let named = erasures.named.get(&(position.stream.clone(), record.seq));
            if named.map_or(!erasures.is_whole, |named| *named == kept_hash) {
                // The next record's hash covers this one, and so does the record of the erasure.
                hash = kept_hash;
                erased += 1;
            }
        }
        if record.seq != next {
            broken = Some(Broken { seq: next, why: "the record is missing" });
        } else if hash != kept_hash {
            broken = Some(Broken { seq: next, why: "the record, or its hash, was altered" });
        }
        next = record.seq + 1;
        broken.is_none()
    })?;
    if broken.is_none() && next != position.last + 1 {
        broken = Some(Broken { seq: next, why: "the record is missing" });
    }
    if broken.is_none() && hash != position.head {
        broken = Some(Broken { seq: position.last, why: "the stream's head is another" });
    }
    let records = next - position.first;
    Ok(StreamCheck {
        stream: position.stream.clone(),
        first: position.first,
        last: position.last,
        records,
        erased,
        broken,
    })
}
