//! Remembers: takes drafts, numbers them, chains them, and keeps them on disk until the hub has them.
//!
//! Stands between `agent` (gives drafts) and `sync` (takes records). What always holds:
//!
//! - Sequence numbers of a stream run from 1 without holes, and each record's hash covers the one before it.
//! - A relaxed commit survives the end of the process at any instant; a full one survives a power cut. Audit records
//!   are always committed in full, everything else follows within [`DURABLE_WITHIN_NS`] if the owner asks
//!   [`Journal::durable_due`]. Only what survives a power cut is sent.
//! - The database file never outgrows `max_bytes`, counted in pages in use, and does not grow at all while the disk has
//!   less than `min_free_bytes`. Its write-ahead log is beside it, usually below 4 MiB, at most an eighth of `max_bytes` or 32 MiB. What must be dropped
//!   (`journal::evict`) leaves a gap that the hub hears of. When audit records that the hub has not taken fill the
//!   cap, new ones are refused: [`JournalError::Full`].
//! - The database is the one shared state: the journal belongs to one thread, the uplink works on its own connection
//!   (`journal::outbox`). Writers wait for each other only as long as one small transaction takes, readers never.

mod beside;
mod database;
pub mod erase;
mod evict;
mod expire;
pub mod fork;
mod open;
pub mod outbox;
pub mod position;
pub mod reader;
mod row;
pub mod settings;
mod shrink;
pub mod verify;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Release};

use package::disk::Disk;
use package::disk::system::System;
use rusqlite::Connection;
use tokio::sync::Notify;
use wire::class::Class;
use wire::id::{JournalId, StreamName};
use wire::record::{BODY_MAX_BYTES, Draft, GapReason, Stamp};
use wire::world::{Entropy, MonoNs};

use self::beside::Beside;
pub use self::database::DatabaseError;
pub use self::open::{OpenError, SetAside, is_held};
use self::outbox::{Door, Outbox};
use self::position::Position;
use self::row::ROW_BYTES;
pub use self::settings::Settings;

/// The most streams a journal has: a check-in names them all.
pub const STREAMS_MAX: usize = 1000;

/// How long a record that is not audit may wait until it survives a power cut.
pub const DURABLE_WITHIN_NS: MonoNs = 1_000_000_000;

/// The most bytes held in memory between two commits. More pile up only if the disk fails.
const PENDING_MAX_BYTES: u64 = 4 << 20;

/// While the disk is short of space the file may still grow to this.
const SHORT_BYTES: u64 = 1 << 20;

/// How sure a commit must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives the end of the process.
    Relaxed,
    /// Survives a power cut.
    Full,
}

/// Records that could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A stream keeps the class of its first record.
    #[error("stream {stream} has class {has}, a record of class {wants} cannot join it")]
    OtherClass {
        /// The stream.
        stream: StreamName,
        /// Its class.
        has: Class,
        /// The draft's.
        wants: Class,
    },
    /// A body above the limit.
    #[error("a record for {stream} has {bytes} bytes, the limit is {BODY_MAX_BYTES}")]
    TooLarge {
        /// The stream.
        stream: StreamName,
        /// The bytes of its body.
        bytes: usize,
    },
    /// One stream too many.
    #[error("stream {stream} would be one more than the {STREAMS_MAX} that a journal may have")]
    TooManyStreams {
        /// The stream.
        stream: StreamName,
    },
    /// The disk has refused for so long that memory is used up.
    #[error("{bytes} bytes wait for a disk that does not take them; later records are refused until it does")]
    Backed {
        /// Bytes that wait.
        bytes: u64,
    },
    /// Audit records that the hub has not taken fill the cap.
    #[error(
        "the journal is full of audit records that the hub has not taken ({max_bytes} bytes): {refused} refused; \
         connect the hub, or raise the journal's max_bytes"
    )]
    Full {
        /// How many audit records of this commit were refused. The rest of it is committed.
        refused: u64,
        /// The cap.
        max_bytes: u64,
    },
    /// The database is damaged, and no new one could be begun in its place. Nothing was lost of what is pending.
    #[error("the journal is damaged and could not be replaced")]
    Replace(#[from] OpenError),
    /// The database failed. Nothing of this commit was taken, and nothing was lost: all of it waits for the next one.
    #[error("the commit failed and will be tried again")]
    Database(#[from] DatabaseError),
}

/// A journal that has just been opened.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// Whether the run before closed it; `None` if there was none.
    pub clean: Option<bool>,
    /// What was found in its place and could not be used. To be reported.
    pub set_aside: Option<SetAside>,
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Records committed by it.
    pub records: u64,
    /// Whether everything committed so far survives a power cut.
    pub durable: bool,
}

/// What a journal did since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records committed.
    pub records: u64,
    /// Records refused: bad drafts, a full journal, a failing disk.
    pub refused: u64,
    /// Records dropped that the hub had.
    pub evicted_acked: u64,
    /// Records dropped that it had not: lost, but for their gap.
    pub evicted_unsent: u64,
}

/// Tells how many bytes are free on the journal's disk; `None` where that cannot be known.
pub type FreeBytes = Box<dyn FnMut() -> Option<u64> + Send>;

/// What the system says of the disk of a folder.
pub fn free_bytes(dir: &Path) -> FreeBytes {
    let dir = dir.to_owned();
    Box::new(move || System.free_bytes(&dir))
}

/// The journal of one node. Blocks; belongs to one thread.
pub struct Journal {
    conn: Connection,
    dir: PathBuf,
    settings: Settings,
    free: FreeBytes,
    id: JournalId,
    positions: Vec<Position>,
    index: HashMap<StreamName, usize>,
    /// Classes of all streams, those of pending drafts included.
    classes: HashMap<StreamName, Class>,
    /// What `data_version` was when `positions` were read; `None` if they must be read again.
    seen: Option<i64>,
    pending: Vec<(Draft, Stamp)>,
    pending_bytes: u64,
    /// When the oldest committed record was written that a power cut could still take.
    undurable_since: Option<MonoNs>,
    bell: Arc<Notify>,
    /// The id of the journal that is begun if this one turns out to be damaged; drawn beforehand, used once.
    spare: Option<JournalId>,
    /// Databases begun; the outbox looks at it.
    begun: Arc<AtomicU64>,
    set_aside: Option<SetAside>,
    counts: Counts,
    beside: Beside,
    /// Held as long as the journal is open: two nodes on one journal would write over each other.
    _lock: File,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("dir", &self.dir).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Room for one more record, or not.
enum Room {
    Yes,
    No(GapReason),
}

impl Journal {
    /// Opens the journal in `dir`, making both if they are not there. A database that is damaged or newer than this
    /// program is set aside, and a new journal begun.
    pub fn open(dir: &Path, settings: Settings, entropy: &mut dyn Entropy) -> Result<Opened, OpenError> {
        Journal::open_with(dir, settings, free_bytes(dir), entropy)
    }

    /// The same, where the disk's free space is told by `free`.
    pub fn open_with(
        dir: &Path,
        settings: Settings,
        free: FreeBytes,
        entropy: &mut dyn Entropy,
    ) -> Result<Opened, OpenError> {
        let found = open::open(dir, &settings, entropy)?;
        let mut journal = Journal {
            conn: found.conn,
            dir: dir.to_owned(),
            settings,
            free,
            id: found.id,
            positions: Vec::new(),
            index: HashMap::new(),
            classes: HashMap::new(),
            seen: None,
            pending: Vec::new(),
            pending_bytes: 0,
            undurable_since: None,
            bell: Arc::new(Notify::new()),
            spare: Some(JournalId::random(entropy)),
            begun: Arc::new(AtomicU64::new(1)),
            set_aside: None,
            counts: Counts::default(),
            beside: Beside::new(dir, found.unchecked),
            _lock: found.lock,
        };
        journal.refresh().map_err(|source| OpenError::Database { dir: dir.to_owned(), source })?;
        Ok(Opened { journal, clean: found.clean, set_aside: found.set_aside })
    }

    /// The id of this life of the journal. A fork (`journal::fork`) gives it another.
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// Takes drafts into memory; the next [`Journal::commit`] writes them. All of them, or none if one is bad.
    pub fn append(
        &mut self,
        drafts: impl IntoIterator<Item = Draft>,
        stamp: Stamp,
    ) -> Result<(), JournalError> {
        let (kept, kept_bytes) = (self.pending.len(), self.pending_bytes);
        for draft in drafts {
            let (draft, original) = self.settings.policy.pass(draft);
            let mut checked = self.check(&draft);
            if let Some(original) = original {
                checked = checked.and_then(|()| self.check(&original));
                self.pending_bytes += original.body.get().len() as u64 + ROW_BYTES;
                self.pending.push((original, stamp));
            }
            self.pending_bytes += draft.body.get().len() as u64 + ROW_BYTES;
            self.pending.push((draft, stamp));
            if let Err(error) = checked {
                self.counts.refused += (self.pending.len() - kept) as u64;
                self.pending.truncate(kept);
                self.pending_bytes = kept_bytes;
                return Err(error);
            }
        }
        Ok(())
    }

    fn check(&mut self, draft: &Draft) -> Result<(), JournalError> {
        let Draft { stream, class: wants, body, .. } = draft;
        if self.pending_bytes > PENDING_MAX_BYTES {
            return Err(JournalError::Backed { bytes: self.pending_bytes });
        }
        if body.get().len() > BODY_MAX_BYTES {
            return Err(JournalError::TooLarge { stream: stream.clone(), bytes: body.get().len() });
        }
        match self.classes.get(stream) {
            Some(has) if has != wants => {
                Err(JournalError::OtherClass { stream: stream.clone(), has: *has, wants: *wants })
            }
            Some(_) => Ok(()),
            None if self.classes.len() >= STREAMS_MAX => {
                Err(JournalError::TooManyStreams { stream: stream.clone() })
            }
            None => {
                self.classes.insert(stream.clone(), *wants);
                Ok(())
            }
        }
    }

    /// Writes everything appended since the last commit, in one transaction. An audit record among it makes the commit
    /// full, and so does `durability`; a full commit covers all commits before it.
    pub fn commit(&mut self, durability: Durability) -> Result<Committed, JournalError> {
        if let Some(why) = self.beside.damage()
            && self.spare.is_some()
        {
            self.replace(why)?;
        }
        let audit = self.pending.iter().any(|(draft, _)| draft.class == Class::Audit);
        let group = std::mem::take(&mut self.pending);
        let (mut records, mut refused) = (0, 0);
        if !group.is_empty() {
            let written = match self.write_group(&group) {
                // Once a life: a disk that damages one after another needs a person.
                Err(DatabaseError::Damaged { why }) if self.spare.is_some() => {
                    self.replace(why).and_then(|()| Ok(self.write_group(&group)?))
                }
                written => written.map_err(JournalError::from),
            };
            match written {
                Ok(outcome) => (records, refused) = outcome,
                Err(error) => {
                    self.pending = group;
                    // What the failed transaction did to the positions in memory is undone by reading them again.
                    self.seen = None;
                    return Err(error);
                }
            }
            self.beside.wrote(std::mem::take(&mut self.pending_bytes));
            self.counts.records += records;
            self.counts.refused += refused;
            let oldest = group.first().map(|(_, stamp)| stamp.mono_ns);
            self.undurable_since = self.undurable_since.or(oldest);
        }
        if (audit || durability == Durability::Full) && self.undurable_since.is_some() {
            match self.make_durable() {
                Err(DatabaseError::Damaged { why }) if self.spare.is_some() => self.replace(why)?,
                done => done?,
            }
        }
        if refused > 0 {
            return Err(JournalError::Full { refused, max_bytes: self.settings.max_bytes });
        }
        Ok(Committed { records, durable: self.undurable_since.is_none() })
    }

    /// Sets a damaged database aside and begins a new one under a new id, where it is.
    fn replace(&mut self, why: String) -> Result<(), JournalError> {
        let Some(spare) = self.spare.take() else { return Ok(()) };
        tracing::error!(why, "the journal is damaged; it is set aside and a new one begun");
        // Both are closed before their file is moved.
        self.beside = Beside::new(&self.dir, false);
        self.conn = Connection::open_in_memory().map_err(DatabaseError::from)?;
        let error = DatabaseError::Damaged { why };
        let (conn, id, set_aside) = open::replace(&self.dir, &self.settings, &error, spare)?;
        (self.conn, self.id, self.set_aside) = (conn, id, Some(set_aside));
        (self.seen, self.undurable_since) = (None, None);
        self.begun.fetch_add(1, Release);
        Ok(())
    }

    /// A database that was found damaged at work and set aside, told once. To be reported.
    pub fn take_set_aside(&mut self) -> Option<SetAside> {
        self.set_aside.take()
    }

    /// The file takes no more pages than it has, as on a disk that is full; or any again.
    #[cfg(test)]
    pub(crate) fn fill_disk(&self, is_full: bool) {
        let pages: i64 = match is_full {
            true => {
                self.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a pragma is answered")
            }
            false => 1 << 30,
        };
        self.conn
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .expect("a pragma is answered");
    }

    /// When to call [`Journal::commit`] with [`Durability::Full`], if nothing else calls it before.
    pub fn durable_due(&self) -> Option<MonoNs> {
        let pending = self.pending.first().map(|(_, stamp)| stamp.mono_ns);
        self.undurable_since.or(pending).map(|since| since + DURABLE_WITHIN_NS)
    }

    /// Rings when records have become fit to be sent.
    pub fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }

    /// Another connection to the same journal, for the uplink.
    pub fn outbox(&self) -> Result<Outbox, DatabaseError> {
        Door::new(&self.dir, self.begun.clone()).open()
    }

    /// What it did since it was opened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes of the database's pages in use.
    pub fn used_bytes(&self) -> Result<u64, DatabaseError> {
        database::used_bytes(&self.conn)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Commits what is pending, in full, and marks the end of this run as a clean one.
    pub fn close(mut self) -> Result<(), JournalError> {
        let committed = self.commit(Durability::Full);
        // What was not looked at to the end is looked at after the next start.
        if !matches!(committed, Err(JournalError::Database(_))) && !self.beside.is_checking() {
            database::write_durably(&self.conn, |conn| database::set_meta(conn, "clean", "yes"))?;
        }
        committed.map(|_| ())
    }

    /// Writes a group: `(committed, refused)`.
    fn write_group(&mut self, group: &[(Draft, Stamp)]) -> Result<(u64, u64), DatabaseError> {
        database::begin(&self.conn)?;
        let outcome = self.write_rows(group);
        let ended = database::end(&self.conn, outcome.is_ok());
        let outcome = outcome?;
        ended?;
        let Rows { committed, refused, evicted_acked, evicted_unsent } = outcome;
        self.counts.evicted_acked += evicted_acked;
        self.counts.evicted_unsent += evicted_unsent;
        Ok((committed, refused))
    }

    fn write_rows(&mut self, group: &[(Draft, Stamp)]) -> Result<Rows, DatabaseError> {
        self.refresh()?;
        let mut rows = Rows::default();
        let mut changed = vec![false; self.positions.len()];
        let (cap_bytes, reason) = self.cap()?;
        let mut used_bytes = database::used_bytes(&self.conn)?;
        for (draft, stamp) in group {
            let index = self.position_of(draft)?;
            changed.resize(self.positions.len(), false);
            let hash = row::hash_next(&self.positions[index], draft, *stamp);
            // Twice its bytes: a body of a little more than half a page takes a whole one.
            let body_bytes = draft.body.get().len() as u64;
            let needs_bytes = 2 * (body_bytes + ROW_BYTES);
            let room =
                self.make_room(draft.class, needs_bytes, &mut used_bytes, cap_bytes, reason, &mut rows)?;
            let position = &mut self.positions[index];
            match room {
                Room::Yes => {
                    row::insert(&self.conn, position.id, position.last + 1, &hash, draft, *stamp)?;
                    position.bytes += body_bytes;
                }
                Room::No(_) if draft.class == Class::Audit => {
                    rows.refused += 1;
                    continue;
                }
                // Numbered and lost at once: a gap says so, a missing number could not.
                Room::No(reason) => {
                    (position.first, position.before) = (position.last + 2, hash);
                    position.reason = reason;
                    rows.evicted_unsent += 1;
                }
            }
            position.last += 1;
            position.head = hash;
            changed[index] = true;
            rows.committed += 1;
        }
        for (position, _) in self.positions.iter().zip(changed).filter(|(_, changed)| *changed) {
            position::save(&self.conn, position)?;
        }
        Ok(rows)
    }

    /// Evicts until `needs_bytes` fit, or nothing more may go.
    fn make_room(
        &mut self,
        class: Class,
        needs_bytes: u64,
        used_bytes: &mut u64,
        cap_bytes: u64,
        reason: GapReason,
        rows: &mut Rows,
    ) -> Result<Room, DatabaseError> {
        if *used_bytes + needs_bytes > cap_bytes {
            // What was added to it is an upper bound; look.
            *used_bytes = database::used_bytes(&self.conn)?;
        }
        // A block is worth the work, and small beside what is kept.
        let block_bytes = (cap_bytes / 64).clamp(4096, 1 << 20);
        while *used_bytes + needs_bytes > cap_bytes {
            let Some(evicted) =
                evict::evict_block(&self.conn, &mut self.positions, class, block_bytes, reason)?
            else {
                return Ok(Room::No(reason));
            };
            let counter = if evicted.acked { &mut rows.evicted_acked } else { &mut rows.evicted_unsent };
            *counter += evicted.records;
            *used_bytes = database::used_bytes(&self.conn)?;
        }
        *used_bytes += needs_bytes;
        Ok(Room::Yes)
    }

    /// The bytes the file may have now, and why not more.
    fn cap(&mut self) -> Result<(u64, GapReason), DatabaseError> {
        let max_bytes = self.settings.max_bytes;
        if (self.free)().is_none_or(|free| free >= self.settings.min_free_bytes) {
            return Ok((max_bytes, GapReason::ByteCap));
        }
        let file_bytes = database::file_bytes(&self.conn)?.max(SHORT_BYTES);
        let reason = if file_bytes < max_bytes { GapReason::DiskFull } else { GapReason::ByteCap };
        Ok((file_bytes.min(max_bytes), reason))
    }

    /// The place of a draft's stream in `positions`; a new stream gets its row.
    fn position_of(&mut self, draft: &Draft) -> Result<usize, DatabaseError> {
        if let Some(index) = self.index.get(&draft.stream) {
            return Ok(*index);
        }
        let leaves = self.settings.policy.leaves(&draft.stream, draft.class);
        let mut position = Position::empty(&draft.stream, draft.class, leaves);
        position.id = position::insert(&self.conn, &position)?;
        self.positions.push(position);
        self.index.insert(draft.stream.clone(), self.positions.len() - 1);
        Ok(self.positions.len() - 1)
    }

    /// Reads the positions again if another connection has changed them.
    fn refresh(&mut self) -> Result<(), DatabaseError> {
        let version = database::data_version(&self.conn)?;
        if self.seen == Some(version) {
            return Ok(());
        }
        self.positions = position::load_all(&self.conn)?;
        self.index = self.positions.iter().enumerate().map(|(index, p)| (p.stream.clone(), index)).collect();
        self.classes.extend(self.positions.iter().map(|p| (p.stream.clone(), p.class)));
        self.id = database::journal_id(&self.conn)?;
        self.seen = Some(version);
        Ok(())
    }

    /// One small transaction on the disk, and with it every commit before it.
    fn make_durable(&mut self) -> Result<(), DatabaseError> {
        open::make_durable(&self.conn)?;
        for position in &mut self.positions {
            (position.durable, position.durable_hash) = (position.last, position.head);
        }
        self.undurable_since = None;
        self.bell.notify_one();
        Ok(())
    }
}

/// What writing a group did.
#[derive(Debug, Default)]
struct Rows {
    committed: u64,
    refused: u64,
    evicted_acked: u64,
    evicted_unsent: u64,
}
