//! A blob on its way into the store: it comes in pieces and over many lives, and stands under its digest only when it is
//! whole, proven and durable.
//!
//! What an earlier life left is proven again, chunk by chunk, before anybody relies on it: the part itself is the only
//! record of how far it got. Its last, half chunk is kept and continued, and proven when it is whole. The order of writing:
//!
//! 1. the lock, then room and quota, before anything is asked of a network;
//! 2. `.<hex>.part` grows, each chunk read back and checked as it becomes whole, synced every 64 MiB;
//! 3. the part is synced, its whole digest checked;
//! 4. it is moved to `<hex>`, the folder synced; only now made read-only, since a power cut may undo the move, and a part
//!    that nobody may write could not be continued; the lock is let go.
//!
//! All of this blocks: callers keep it off async threads.

use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wire::hash::Hash;

use crate::chunks::Chunks;
use crate::digest::Digest;
use crate::disk::room::NoRoom;
use crate::disk::{Create, Disk, DiskFile, FileError, read_full, sync_folder_of};
use crate::store::Store;
use crate::store::missing::Missing;

/// How much may be written before it is made durable: what a power cut can cost.
const SETTLE_BYTES: u64 = 64 << 20;

/// How much is read at a time where there are no chunks.
const PASS_BYTES: u64 = 1 << 20;

/// A blob that the store shall have.
#[derive(Debug, Clone)]
pub struct Want {
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The hashes of its pieces. Without them only the whole can be proven, at the end.
    pub chunks: Option<Arc<Chunks>>,
}

/// Why a blob does not come in.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Another process, or another task of this one, brings it in.
    #[error("{digest} is being brought in already; wait for that")]
    Busy {
        /// Which.
        digest: Digest,
    },
    /// Nothing to do.
    #[error("{digest} is here already")]
    There {
        /// Which.
        digest: Digest,
    },
    /// The disk is full, or would be.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The store would outgrow its quota.
    #[error(
        "{needed_bytes} more bytes do not fit into the quota: {used_bytes} of {quota_bytes} bytes are used; raise it, or \
         remove models"
    )]
    Quota {
        /// What is still to come.
        needed_bytes: u64,
        /// Blobs and parts of the store.
        used_bytes: u64,
        /// What it may take.
        quota_bytes: u64,
    },
    /// Bytes behind the blob's end.
    #[error("bytes up to {found} came for a blob of {expected} bytes")]
    WrongSize {
        /// What the manifest says.
        expected: u64,
        /// Where the bytes end.
        found: u64,
    },
    /// All bytes came, and they are others. They are gone now.
    #[error("the bytes of {expected} have the digest {found}; they were thrown away")]
    WrongDigest {
        /// What the manifest says.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A list of chunks that belongs to another blob.
    #[error("the list of chunks for {digest} ({size} bytes) describes {listed} ({listed_size} bytes)")]
    ForeignChunks {
        /// The blob wanted.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// The blob that the list describes.
        listed: Digest,
        /// Its bytes.
        listed_size: u64,
    },
    /// Finished before everything came.
    #[error("{missing_bytes} bytes of {digest} are still to come")]
    Incomplete {
        /// Which.
        digest: Digest,
        /// How many.
        missing_bytes: u64,
    },
    /// A file refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a piece of a blob made whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Chunks that are whole now, and right.
    pub whole_chunks: u32,
    /// Chunks that became whole and are wrong: they are missing again.
    pub wrong_chunks: Vec<usize>,
}

/// A blob on its way in. Dropped, it keeps its part.
#[derive(Debug)]
pub struct Ingest<'s, D: Disk> {
    store: &'s Store<D>,
    want: Want,
    file: D::File,
    missing: Missing,
    /// What an earlier life left and nobody looked at yet.
    unchecked: Range<u64>,
    /// The hash of everything before this byte, as far as chunks were proven in order.
    hasher: Sha256,
    hashed_bytes: u64,
    unsettled_bytes: u64,
    /// Whether the part's name is durable.
    is_named: bool,
    /// A chunk, read back.
    buffer: Vec<u8>,
    _promise: Promise<'s, D>,
    _lock: D::Lock,
}

/// Room of the store that is kept for a blob, until dropped.
#[derive(Debug)]
struct Promise<'s, D: Disk> {
    store: &'s Store<D>,
    digest: Digest,
}

impl<'s, D: Disk> Ingest<'s, D> {
    /// Begins, or goes on with what an earlier life left. At least `keep_free` bytes of the disk stay free.
    pub fn begin(store: &'s Store<D>, want: Want, keep_free: u64) -> Result<Ingest<'s, D>, IngestError> {
        let Want { digest, size, .. } = want;
        if let Some(chunks) = &want.chunks
            && (chunks.blob(), chunks.blob_bytes()) != (digest, size)
        {
            let (listed, listed_size) = (chunks.blob(), chunks.blob_bytes());
            return Err(IngestError::ForeignChunks { digest, size, listed, listed_size });
        }
        let (disk, path) = (store.disk(), store.part_path(&digest));
        let lock_path = store.lock_path(&digest);
        let lock = disk.lock(&lock_path).map_err(FileError::at(&lock_path))?;
        let lock = lock.ok_or(IngestError::Busy { digest })?;
        if store.has(&digest)? {
            return Err(IngestError::There { digest });
        }
        let left = match disk.open(&path).and_then(|part| part.size_bytes()) {
            Ok(left) => left,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(FileError::at(&path)(error).into()),
        };
        let promise = Promise::make(store, &want, size.saturating_sub(left), keep_free)?;
        let file = disk.create(&path, Create::Keep).map_err(FileError::at(&path))?;
        if left > size {
            file.set_size(size).map_err(FileError::at(&path))?;
        }
        Ok(Ingest {
            store,
            file,
            missing: Missing::all(size),
            unchecked: 0..left.min(size),
            hasher: Sha256::new(),
            hashed_bytes: 0,
            unsettled_bytes: 0,
            is_named: false,
            buffer: Vec::new(),
            _promise: promise,
            _lock: lock,
            want,
        })
    }

    /// Proves what an earlier life left, about `step_bytes` at a time (at least a chunk). Gives the bytes that are left to
    /// prove; `None`: none. Until then too much is [missing](Ingest::missing), which costs only a transfer.
    pub fn check(&mut self, step_bytes: u64) -> Result<Option<u64>, IngestError> {
        let Some(chunks) = self.want.chunks.clone() else {
            self.missing.come(std::mem::take(&mut self.unchecked));
            return Ok(None);
        };
        let until = self.unchecked.start.saturating_add(step_bytes.max(1)).min(self.unchecked.end);
        while self.unchecked.start < until {
            let index = index_of(&chunks, self.unchecked.start);
            let range = chunks.range(index);
            if range.end > self.unchecked.end {
                // Half a chunk: proven when it is whole.
                self.missing.come(std::mem::take(&mut self.unchecked));
                break;
            }
            if self.prove(&chunks, index)? {
                self.missing.come(range.clone());
            }
            self.unchecked.start = range.end;
        }
        let left = self.unchecked.end - self.unchecked.start;
        Ok(Some(left).filter(|left| *left > 0))
    }

    /// What is still to come: ascending, to the byte. Whoever brings it in ascending order loses least in a power cut.
    pub fn missing(&self) -> &[Range<u64>] {
        self.missing.ranges()
    }

    /// Takes bytes that belong at byte `at`. What is here already stays as it is.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<Progress, IngestError> {
        let end = at.saturating_add(bytes.len() as u64);
        if end > self.want.size {
            return Err(IngestError::WrongSize { expected: self.want.size, found: end });
        }
        let new: Vec<Range<u64>> = self.missing.within(at..end).collect();
        let mut progress = Progress::default();
        for range in new {
            let piece = &bytes[(range.start - at) as usize..(range.end - at) as usize];
            let path = || self.store.part_path(&self.want.digest);
            self.file.write_at(range.start, piece).map_err(|error| FileError::at(&path())(error))?;
            self.missing.come(range.clone());
            self.unsettled_bytes += piece.len() as u64;
            let Some(chunks) = self.want.chunks.clone() else { continue };
            for index in index_of(&chunks, range.start)..=index_of(&chunks, range.end - 1) {
                let chunk = chunks.range(index);
                if self.missing.within(chunk.clone()).next().is_some() {
                    continue;
                }
                if self.prove(&chunks, index)? {
                    progress.whole_chunks += 1;
                } else {
                    self.missing.lose(chunk);
                    progress.wrong_chunks.push(index);
                }
            }
        }
        if self.unsettled_bytes >= SETTLE_BYTES {
            self.settle()?;
        }
        Ok(progress)
    }

    /// Makes durable what came so far. After an error nobody knows what is on the disk: the part is gone.
    pub fn settle(&mut self) -> Result<(), IngestError> {
        let (disk, path) = (self.store.disk(), self.store.part_path(&self.want.digest));
        let mut settled = self.file.sync().map_err(FileError::at(&path));
        if !self.is_named {
            settled = settled.and_then(|()| sync_folder_of(disk, &path));
        }
        if let Err(error) = settled {
            self.missing = Missing::all(self.want.size);
            drop(disk.remove(&path));
            return Err(error.into());
        }
        (self.is_named, self.unsettled_bytes) = (true, 0);
        Ok(())
    }

    /// Makes the part a blob: durable, proven as a whole, under its name.
    pub fn finish(mut self) -> Result<Digest, IngestError> {
        let digest = self.want.digest;
        let missing_bytes = self.missing.bytes();
        if missing_bytes > 0 {
            return Err(IngestError::Incomplete { digest, missing_bytes });
        }
        self.settle()?;
        let (disk, part, blob) =
            (self.store.disk(), self.store.part_path(&digest), self.store.blob_path(&digest));
        let found = self.whole_digest()?;
        if found != digest {
            disk.remove(&part).map_err(FileError::at(&part))?;
            return Err(IngestError::WrongDigest { expected: digest, found });
        }
        disk.rename(&part, &blob).map_err(FileError::at(&blob))?;
        if let Err(error) = sync_folder_of(disk, &blob) {
            // Nobody may rely on a name that is not durable.
            drop(disk.remove(&blob));
            return Err(error.into());
        }
        self.file.freeze().map_err(FileError::at(&blob))?;
        Ok(digest)
    }

    /// Reads a whole chunk back and checks it; in order, it also goes into the hash of the whole.
    fn prove(&mut self, chunks: &Chunks, index: usize) -> Result<bool, FileError> {
        let range = chunks.range(index);
        if !self.read_back(range.clone())? || chunks.check(index, &self.buffer).is_err() {
            return Ok(false);
        }
        if self.hashed_bytes == range.start {
            self.hasher.update(&self.buffer);
            self.hashed_bytes = range.end;
        }
        Ok(true)
    }

    /// The digest of all bytes; those that were not hashed in order are read once more.
    fn whole_digest(&mut self) -> Result<Digest, FileError> {
        while self.hashed_bytes < self.want.size {
            let range = self.hashed_bytes..self.want.size.min(self.hashed_bytes + PASS_BYTES);
            if !self.read_back(range.clone())? {
                break; // somebody cut the file: the digest is another one
            }
            self.hasher.update(&self.buffer);
            self.hashed_bytes = range.end;
        }
        Ok(Hash::from(std::mem::take(&mut self.hasher)).into())
    }

    /// Reads bytes of the part into the buffer; `false` if they are not all there.
    fn read_back(&mut self, range: Range<u64>) -> Result<bool, FileError> {
        self.buffer.resize((range.end - range.start) as usize, 0);
        let came = read_full(&self.file, range.start, &mut self.buffer);
        let came = came.map_err(|error| FileError::at(&self.store.part_path(&self.want.digest))(error))?;
        Ok(came == self.buffer.len())
    }
}

impl<D: Disk> Store<D> {
    /// Takes a blob that is in memory: an index, a manifest, a chunk list.
    pub fn put_small(&self, bytes: &[u8], keep_free: u64) -> Result<Digest, IngestError> {
        let digest = Digest::of(bytes);
        let want = Want { digest, size: bytes.len() as u64, chunks: None };
        let mut ingest = match Ingest::begin(self, want, keep_free) {
            Err(IngestError::There { .. }) => return Ok(digest),
            begun => begun?,
        };
        ingest.write(0, bytes)?;
        ingest.finish()
    }
}

impl<'s, D: Disk> Promise<'s, D> {
    /// Promises room for a blob of which `needed_bytes` are still to come, if it fits beside all that was promised before.
    fn make(
        store: &'s Store<D>,
        want: &Want,
        needed_bytes: u64,
        keep_free: u64,
    ) -> Result<Promise<'s, D>, IngestError> {
        let mut promised = store.promised();
        let usage = store.usage(&promised)?;
        let quota_bytes = store.quota_bytes();
        if usage.used_bytes.saturating_add(needed_bytes) > quota_bytes {
            let used_bytes = usage.used_bytes;
            return Err(IngestError::Quota { needed_bytes, used_bytes, quota_bytes });
        }
        let all_bytes = usage.awaited_bytes.saturating_add(needed_bytes);
        NoRoom::unless(store.blobs(), all_bytes, store.disk().free_bytes(store.blobs()), keep_free)?;
        promised.insert(want.digest, want.size);
        Ok(Promise { store, digest: want.digest })
    }
}

impl<D: Disk> Drop for Promise<'_, D> {
    fn drop(&mut self) {
        self.store.promised().remove(&self.digest);
    }
}

/// Which chunk a byte is in.
fn index_of(chunks: &Chunks, at: u64) -> usize {
    usize::try_from(at / u64::from(chunks.chunk_bytes())).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::simulated::{Cut, Simulated};
    use crate::disk::system::System;

    const CHUNK: u64 = 4096;

    fn blob(chunks: u64) -> Vec<u8> {
        (0..chunks * CHUNK - 100).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn want(bytes: &[u8]) -> Want {
        let (digest, chunks) = Chunks::of(bytes, CHUNK as u32).unwrap();
        Want { digest, size: bytes.len() as u64, chunks: Some(Arc::new(chunks)) }
    }

    fn whole_only(bytes: &[u8]) -> Want {
        Want { chunks: None, ..want(bytes) }
    }

    fn open(disk: &Simulated) -> Result<Store<Simulated>, FileError> {
        Store::open(disk.clone(), Path::new("/p"), 1 << 20)
    }

    /// One life of a transfer that brings what is missing in pieces; gives how many bytes it brought.
    fn live(store: &Store<impl Disk>, want: Want, bytes: &[u8], pieces: usize) -> Result<u64, IngestError> {
        let mut brought = 0;
        let mut ingest = match Ingest::begin(store, want, 0) {
            Err(IngestError::There { .. }) => return Ok(0),
            begun => begun?,
        };
        while ingest.check(2 * CHUNK)?.is_some() {}
        let mut wrong = 0;
        while let Some(range) = ingest.missing().first().cloned() {
            let range = range.start as usize..range.end.min(range.start + pieces as u64) as usize;
            brought += range.len() as u64;
            wrong += ingest.write(range.start as u64, &bytes[range])?.wrong_chunks.len();
            assert!(wrong <= 2, "only what a cut tore is wrong");
        }
        ingest.finish()?;
        Ok(brought)
    }

    fn only(range: Range<u64>) -> Vec<Range<u64>> {
        vec![range]
    }

    fn holds(store: &Store<impl Disk>, digest: &Digest, bytes: &[u8]) -> bool {
        store.read_small(digest, 1 << 20).unwrap().is_some_and(|there| there == bytes)
    }

    #[test]
    fn a_blob_comes_in_on_the_machines_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(System, &folder.path().join("packages"), 1 << 20).unwrap();
        for bytes in [blob(5), b"x".to_vec(), Vec::new()] {
            let want = want(&bytes);
            assert_eq!(live(&store, want.clone(), &bytes, 1000).unwrap(), bytes.len() as u64);
            assert!(holds(&store, &want.digest, &bytes));
            assert!(std::fs::metadata(store.blob_path(&want.digest)).unwrap().permissions().readonly());
        }
        assert_eq!(store.put_small(b"small", 0).unwrap(), Digest::of(b"small"));
        assert_eq!(store.put_small(b"small", 0).unwrap(), Digest::of(b"small"));
        assert_eq!(store.used_bytes().unwrap(), blob(5).len() as u64 + 1 + 5);
        let hidden =
            store.disk().list(store.blobs()).unwrap().iter().filter(|e| e.name.starts_with('.')).count();
        assert_eq!(hidden, 0, "no part and no lock is left");
    }

    /// The power goes at every point of an ingest, and again while the next life goes on with what it left.
    #[test]
    fn a_cut_at_any_point_costs_little_and_never_shows_a_blob_that_is_not_whole() {
        let bytes = blob(6);
        let mut cuts = 0;
        for (want, seeds) in [(want(&bytes), 12_u64), (whole_only(&bytes), 4)] {
            for (how, seed) in
                [Cut::Ordered, Cut::Hostile].into_iter().flat_map(|how| (0..seeds).map(move |s| (how, s)))
            {
                for point in 0.. {
                    let disk = Simulated::new();
                    disk.dies_at(point);
                    let done =
                        open(&disk).is_ok_and(|store| live(&store, want.clone(), &bytes, 1500).is_ok());
                    disk.cut(how, seed);
                    cuts += 1;
                    if done {
                        assert!(holds(&open(&disk).unwrap(), &want.digest, &bytes), "finished is durable");
                        break;
                    }
                    disk.dies_at((point * 7 + seed) % 31);
                    let again =
                        open(&disk).is_ok_and(|store| live(&store, want.clone(), &bytes, 1500).is_ok());
                    disk.cut(how, seed ^ 1);
                    cuts += 1;
                    let store = open(&disk).unwrap();
                    if again || store.has(&want.digest).unwrap() {
                        assert!(
                            holds(&store, &want.digest, &bytes),
                            "{how:?} {seed} {point} {:#?}",
                            disk.story()
                        );
                    }
                    let brought = match live(&store, want.clone(), &bytes, 1500) {
                        Err(IngestError::WrongDigest { .. }) if want.chunks.is_none() => {
                            live(&store, want.clone(), &bytes, 1500).unwrap()
                        }
                        brought => brought.unwrap(),
                    };
                    assert!(brought <= bytes.len() as u64 + 2 * CHUNK, "{brought}");
                    assert!(holds(&store, &want.digest, &bytes));
                    assert_eq!(store.used_bytes().unwrap(), bytes.len() as u64, "no part is left");
                }
            }
        }
        assert!(cuts > 1000, "{cuts}");
    }

    #[test]
    fn a_process_that_ends_loses_no_byte() {
        let bytes = blob(6);
        let want = want(&bytes);
        let points = {
            let disk = Simulated::new();
            live(&open(&disk).unwrap(), want.clone(), &bytes, 1500).unwrap();
            disk.points()
        };
        for (point, seed) in (0..points).flat_map(|point| (0..8).map(move |seed| (point, seed))) {
            let disk = Simulated::new();
            disk.dies_at(point);
            if let Ok(store) = open(&disk) {
                let _ = live(&store, want.clone(), &bytes, 1500);
            }
            disk.end_process();
            let there = disk.open(&Path::new("/p/blobs/sha256").join(format!(".{}.part", want.digest.hex())));
            let there = there.map_or(0, |part| part.size_bytes().unwrap());
            let store = open(&disk).unwrap();
            let brought = match store.has(&want.digest).unwrap() {
                true => bytes.len() as u64,
                false => live(&store, want.clone(), &bytes, 1500).unwrap() + there,
            };
            assert_eq!(brought, bytes.len() as u64, "{point}");
            disk.cut(Cut::Hostile, seed);
            assert!(holds(&open(&disk).unwrap(), &want.digest, &bytes), "{point} {seed}");
        }
    }

    #[test]
    fn a_wrong_chunk_is_missing_again_and_only_that() {
        let bytes = blob(4);
        let disk = Simulated::new();
        let store = open(&disk).unwrap();
        let mut ingest = Ingest::begin(&store, want(&bytes), 0).unwrap();
        let mut lies = bytes.clone();
        lies[5000] ^= 1;
        let progress = ingest.write(0, &lies).unwrap();
        assert_eq!(progress, Progress { whole_chunks: 3, wrong_chunks: vec![1] });
        assert_eq!(ingest.missing(), only(CHUNK..2 * CHUNK));
        assert!(matches!(ingest.write(bytes.len() as u64, b"x"), Err(IngestError::WrongSize { .. })));
        drop(ingest);
        let mut ingest = Ingest::begin(&store, want(&bytes), 0).unwrap();
        assert_eq!(ingest.missing(), only(0..bytes.len() as u64), "nothing is believed");
        assert_eq!(ingest.check(1).unwrap(), Some(bytes.len() as u64 - CHUNK));
        while ingest.check(1).unwrap().is_some() {}
        assert_eq!(ingest.missing(), only(CHUNK..2 * CHUNK), "a wrong chunk that was left is found");
        // What is proven cannot be overwritten.
        let progress = ingest.write(0, &[0; CHUNK as usize]).unwrap();
        assert_eq!(progress, Progress::default());
        let half = CHUNK as usize + 10;
        ingest.write(CHUNK, &bytes[CHUNK as usize..half]).unwrap();
        assert_eq!(ingest.missing(), only(half as u64..2 * CHUNK), "a half chunk is continued");
        ingest.write(0, &bytes).unwrap();
        ingest.finish().unwrap();
    }

    #[test]
    fn other_bytes_of_the_right_length_never_get_the_name() {
        let disk = Simulated::new();
        let store = open(&disk).unwrap();
        let mut ingest = Ingest::begin(&store, whole_only(b"right"), 0).unwrap();
        ingest.write(0, b"wrong").unwrap();
        assert!(matches!(ingest.finish(), Err(IngestError::WrongDigest { .. })));
        assert_eq!(store.used_bytes().unwrap(), 0, "and they are gone");
        let mut ingest = Ingest::begin(&store, whole_only(b"right"), 0).unwrap();
        ingest.write(0, b"ri").unwrap();
        assert!(matches!(ingest.finish(), Err(IngestError::Incomplete { missing_bytes: 3, .. })));
        let foreign = Want { chunks: want(b"other").chunks, ..want(b"right") };
        assert!(matches!(Ingest::begin(&store, foreign, 0), Err(IngestError::ForeignChunks { .. })));
    }

    #[test]
    fn a_blob_comes_in_once_at_a_time() {
        let disk = Simulated::new();
        let store = open(&disk).unwrap();
        let held = Ingest::begin(&store, want(b"x"), 0).unwrap();
        assert!(matches!(Ingest::begin(&store, want(b"x"), 0), Err(IngestError::Busy { .. })));
        drop(Ingest::begin(&store, want(b"y"), 0).unwrap());
        drop(held);
        store.put_small(b"x", 0).unwrap();
        assert!(matches!(Ingest::begin(&store, want(b"x"), 0), Err(IngestError::There { .. })));
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_begins_with_figures() {
        let bytes = blob(2);
        let disk = Simulated::new();
        let store = Store::open(disk.clone(), Path::new("/p"), 10_000).unwrap();
        disk.full_at(LAYOUT_BYTES);
        match Ingest::begin(&store, want(&bytes), 7) {
            Err(IngestError::NoRoom(NoRoom { needed_bytes: 8092, free_bytes: 0, keep_bytes: 7, .. })) => {}
            other => panic!("{other:?}"),
        }
        disk.full_at(1 << 20);
        let first = Ingest::begin(&store, want(&bytes), 0).unwrap();
        assert_eq!(store.used_bytes().unwrap(), 8092, "promised");
        match Ingest::begin(&store, want(&blob(1)), 0) {
            Err(IngestError::Quota { needed_bytes: 3996, used_bytes: 8092, quota_bytes: 10_000 }) => {}
            other => panic!("{other:?}"),
        }
        disk.full_at(LAYOUT_BYTES + 9000);
        assert!(matches!(Ingest::begin(&store, want(&[1; 1000]), 0), Err(IngestError::NoRoom(_))));
        drop(first);
        drop(Ingest::begin(&store, want(&[1; 1000]), 0).unwrap());
        // A disk that fills up under way costs nothing that was written.
        let mut ingest = Ingest::begin(&store, want(&blob(1)), 0).unwrap();
        disk.full_at(LAYOUT_BYTES + 3000);
        assert!(matches!(ingest.write(0, &blob(1)), Err(IngestError::File(_))));
        drop(ingest);
        disk.full_at(1 << 20);
        assert_eq!(live(&store, want(&blob(1)), &blob(1), 1000).unwrap(), 996);
    }

    /// As long as the file that makes a folder a layout.
    const LAYOUT_BYTES: u64 = 30;

    #[test]
    fn a_disk_that_fails_once_costs_a_transfer_never_a_blob() {
        let bytes = blob(3);
        let disk = Simulated::new();
        let store = open(&disk).unwrap();
        let before = disk.points();
        live(&store, want(&bytes), &bytes, 1500).unwrap();
        for point in before..disk.points() {
            for seed in 0..8 {
                let disk = Simulated::new();
                let store = open(&disk).unwrap();
                disk.fails_at(point);
                assert!(live(&store, want(&bytes), &bytes, 1500).is_err(), "{point}");
                live(&store, want(&bytes), &bytes, 1500).unwrap();
                disk.cut(Cut::Hostile, seed);
                assert!(
                    holds(&open(&disk).unwrap(), &want(&bytes).digest, &bytes),
                    "{point} {:#?}",
                    disk.story()
                );
            }
        }
    }
}
