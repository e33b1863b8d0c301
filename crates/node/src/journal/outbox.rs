//! The uplink's side of the journal: what waits to be sent, and what the hub has settled. Its own connection; writes
//! here are small and rare, so the journal's owner hardly waits for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use wire::batch::Watermark;
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{JournalId, StreamName};
use wire::record::{Gap, GapReason, Record};

use super::database::{self, DatabaseError, signed};
use super::fork::{self, ForkReport};
use super::position::{self, Position};
use super::row::{self, BLANK, ROW_BYTES};

/// A run of one stream, right after what the hub has settled.
#[derive(Debug)]
pub struct Run {
    /// The life of the journal it is from.
    pub journal: JournalId,
    /// The stream.
    pub stream: StreamName,
    /// Its class.
    pub class: Class,
    /// What was lost before the records.
    pub gap: Option<Gap>,
    /// The records, oldest first, without holes.
    pub records: Vec<Record>,
    /// The chain's hash at the end of the run.
    pub head: Hash,
}

/// What the hub's watermarks did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// Streams in which the hub has something that this journal never wrote: it was restored from a copy, or its
    /// twin is in the field. Only a fork helps.
    pub strangers: Vec<StreamName>,
    /// Streams in which the hub has lost what it once had: it was restored from a backup.
    pub rewound: Vec<StreamName>,
}

/// Where a journal's outbox is opened, also after its owner has begun a new database.
#[derive(Debug, Clone)]
pub struct Door {
    dir: PathBuf,
    /// How many databases the owner has begun.
    begun: Arc<AtomicU64>,
}

impl Door {
    pub(crate) fn new(dir: &Path, begun: Arc<AtomicU64>) -> Door {
        Door { dir: dir.to_owned(), begun }
    }

    /// Opens the journal's present database.
    pub fn open(&self) -> Result<Outbox, DatabaseError> {
        let opened = self.begun.load(Acquire);
        let conn = database::join(&self.dir, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Ok(Outbox { conn, door: self.clone(), opened })
    }
}

/// The uplink's connection to a journal.
#[derive(Debug)]
pub struct Outbox {
    conn: Connection,
    door: Door,
    /// Which of the owner's databases this is.
    opened: u64,
}

impl Outbox {
    /// Whether this still is the journal's present database.
    pub fn is_present(&self) -> bool {
        self.door.begun.load(Acquire) == self.opened
    }

    /// Where another one is opened.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// The id of the journal's present life.
    pub fn journal(&self) -> Result<JournalId, DatabaseError> {
        database::journal_id(&self.conn)
    }

    /// Where all streams stand.
    pub fn positions(&self) -> Result<Vec<Position>, DatabaseError> {
        position::load_all(&self.conn)
    }

    /// What comes after the settled part of a stream: a gap, records, or both; `None` if nothing waits. At most
    /// `max_records`, and about `max_bytes` on the wire before compression, but at least one.
    pub fn next_run(
        &self,
        stream: &StreamName,
        max_bytes: usize,
        max_records: usize,
    ) -> Result<Option<Run>, DatabaseError> {
        let run = self.read_run(stream, max_bytes, max_records);
        if matches!(run, Err(DatabaseError::Damaged { .. })) {
            // The next start looks at every page, even after a clean end. If even this fails, so will the owner.
            database::write(&self.conn, |conn| database::set_meta(conn, "suspect", "yes")).ok();
        }
        run
    }

    fn read_run(
        &self,
        stream: &StreamName,
        max_bytes: usize,
        max_records: usize,
    ) -> Result<Option<Run>, DatabaseError> {
        database::read(&self.conn, |conn| {
            let Some(position) = position::load(conn, stream)?.filter(|position| position.unsent() > 0)
            else {
                return Ok(None);
            };
            let mut gap = position.gap();
            let (first, mut head) = gap
                .as_ref()
                .map_or((position.acked + 1, position.acked_hash), |gap| (gap.last + 1, gap.hash));
            let mut records: Vec<Record> = Vec::new();
            let (mut bytes, mut begun) = (0, first);
            row::each(conn, &position, first, position.durable, |kept| {
                if kept.record.body.get() == BLANK {
                    // Nobody can reckon its hash any more: the hub hears of it as a gap, which begins a run.
                    if records.is_empty() {
                        let (seq, hash) = (kept.record.seq, kept.hash);
                        let begin = gap.as_ref().map_or(seq, |gap| gap.first);
                        let reason = gap.as_ref().map_or(GapReason::Erased, |gap| gap.reason);
                        gap = Some(Gap { first: begin, last: seq, reason, hash });
                        (begun, head) = (seq + 1, hash);
                        return true;
                    }
                    return false;
                }
                bytes += kept.record.body.get().len() + ROW_BYTES as usize;
                if !records.is_empty() && (bytes > max_bytes || records.len() >= max_records) {
                    return false;
                }
                head = kept.hash;
                records.push(kept.record);
                true
            })?;
            let holes = records.iter().zip(begun..).any(|(record, seq)| record.seq != seq);
            if holes || gap.is_none() && records.is_empty() {
                let why = format!("records of {stream} are missing after {}", first - 1);
                return Err(DatabaseError::Damaged { why });
            }
            let journal = database::journal_id(conn)?;
            Ok(Some(Run { journal, stream: stream.clone(), class: position.class, gap, records, head }))
        })
    }

    /// Takes the hub's word for where it stands. With `complete`, streams without a watermark stand at 0.
    pub fn settle(&self, watermarks: &[Watermark], complete: bool) -> Result<Settled, DatabaseError> {
        let mut settled = Settled::default();
        let before = position::load_all(&self.conn)?;
        let nothing =
            watermarks.iter().filter(|mark| mark.seq > 0 && before.iter().all(|p| p.stream != mark.stream));
        settled.strangers.extend(nothing.map(|mark| mark.stream.clone()));
        for position in before {
            let Some((seq, hash)) = watermarks
                .iter()
                .find(|mark| mark.stream == position.stream)
                .map(|mark| (mark.seq, mark.hash))
                .or_else(|| complete.then_some((0, Hash::GENESIS)))
            else {
                continue;
            };
            if (seq, hash) == (position.acked, position.acked_hash) {
                continue;
            }
            // The journal's owner may have changed it since; what it does not write is safe to write from here.
            match database::write(&self.conn, |conn| settle_one(conn, &position.stream, seq, hash))? {
                Moved::On => {}
                Moved::Back => settled.rewound.push(position.stream),
                Moved::Nowhere => settled.strangers.push(position.stream),
            }
        }
        Ok(settled)
    }

    /// Gives the journal a new life under the id `new`; see `journal::fork`.
    pub fn fork(&self, new: JournalId) -> Result<ForkReport, DatabaseError> {
        fork::fork(&self.conn, new)
    }
}

enum Moved {
    On,
    Back,
    Nowhere,
}

fn settle_one(conn: &Connection, stream: &StreamName, seq: u64, hash: Hash) -> Result<Moved, DatabaseError> {
    let Some(mut position) = position::load(conn, stream)? else {
        return Ok(Moved::Nowhere);
    };
    if seq > position.last || hash_at(conn, &position, seq)?.is_some_and(|ours| ours != hash) {
        return Ok(Moved::Nowhere);
    }
    let back = seq < position.acked;
    if back && position.first > seq + 1 {
        // It had them once; they are no longer here.
        position.reason = GapReason::Retired;
    }
    (position.acked, position.acked_hash) = (seq, hash);
    position::save(conn, &position)?;
    Ok(if back { Moved::Back } else { Moved::On })
}

/// Our hash at `seq`, if it is still known.
fn hash_at(conn: &Connection, position: &Position, seq: u64) -> Result<Option<Hash>, DatabaseError> {
    if seq == 0 {
        return Ok(Some(Hash::GENESIS));
    }
    if seq + 1 == position.first {
        return Ok(Some(position.before));
    }
    if seq == position.acked {
        return Ok(Some(position.acked_hash));
    }
    let mut select = conn.prepare_cached("SELECT hash FROM records WHERE stream = ?1 AND seq = ?2")?;
    let bytes: Option<Vec<u8>> =
        select.query_row(params![position.id, signed(seq)], |row| row.get(0)).optional()?;
    Ok(bytes.and_then(|bytes| Hash::from_slice(&bytes)))
}
