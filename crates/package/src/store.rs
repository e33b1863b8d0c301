//! Blobs on this machine, each under its digest, each there whole or not at all.
//!
//! The store is an OCI image layout: `oci-layout`, `blobs/sha256/<hex>`. A blob on its way in lies beside them as
//! `.<hex>.part`, held by the lock `.<hex>.lock`; [`ingest`] brings it in, [`collect`] takes out what nobody needs. Packages
//! that share a blob share its file. Bytes are not believed for lying here: who loads them checks them again.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wire::hash::Hash;

use crate::digest::Digest;
use crate::disk::{Disk, FileError, make_folders, read_whole, remove, write_whole};

pub mod collect;
pub mod ingest;
pub mod missing;

/// What makes a folder an OCI image layout.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The blobs of this machine.
#[derive(Debug)]
pub struct Store<D: Disk> {
    disk: D,
    root: PathBuf,
    blobs: PathBuf,
    quota_bytes: u64,
    /// The sizes that the blobs on their way in through this very store will have.
    promised: Mutex<BTreeMap<Digest, u64>>,
}

/// What a file among the blobs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Blob(Digest),
    Part(Digest),
    Lock(Digest),
}

/// How much the store has and awaits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Blobs and parts, these as large as they will be.
    pub(crate) used_bytes: u64,
    /// What of that is not written yet.
    pub(crate) awaited_bytes: u64,
}

impl<D: Disk> Store<D> {
    /// Opens the store in the folder `root`, or begins one there. Blobs and parts together stay within `quota_bytes`.
    pub fn open(disk: D, root: &Path, quota_bytes: u64) -> Result<Store<D>, FileError> {
        let blobs = root.join("blobs").join("sha256");
        make_folders(&disk, &blobs)?;
        let layout = root.join("oci-layout");
        if read_whole(&disk, &layout, 1 << 10)?.as_deref() != Some(LAYOUT) {
            write_whole(&disk, &layout, LAYOUT)?;
        }
        // A process may have died after it moved a blob to its place, and before that was durable: others may rely on it now.
        disk.sync_folder(&blobs).map_err(FileError::at(&blobs))?;
        let promised = Mutex::new(BTreeMap::new());
        Ok(Store { disk, root: root.to_owned(), blobs, quota_bytes, promised })
    }

    /// Whether a blob is here.
    pub fn has(&self, digest: &Digest) -> Result<bool, FileError> {
        Ok(self.open_blob(digest)?.is_some())
    }

    /// Opens a blob; `None` if it is not here. It stays readable when it is collected.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<D::File>, FileError> {
        let path = self.blob_path(digest);
        match self.disk.open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::at(&path)(error)),
        }
    }

    /// Opens a blob that is on its way in, or is here by now; `None` if nothing of it is here. What stands in a part is not
    /// proven: whoever hands it on says so, or hands it to somebody who proves it.
    pub fn open_arriving(&self, digest: &Digest) -> Result<Option<D::File>, FileError> {
        let path = self.part_path(digest);
        match self.disk.open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => self.open_blob(digest),
            Err(error) => Err(FileError::at(&path)(error)),
        }
    }

    /// The blobs that are here, whole or in part, and how many bytes of each.
    pub fn listed(&self) -> Result<BTreeMap<Digest, u64>, FileError> {
        let mut listed = BTreeMap::new();
        for (kind, size_bytes) in self.files()? {
            match kind {
                Kind::Blob(digest) | Kind::Part(digest) => {
                    let most = listed.entry(digest).or_insert(0);
                    *most = size_bytes.max(*most);
                }
                Kind::Lock(_) => {}
            }
        }
        Ok(listed)
    }

    /// Reads a blob of at most `max_bytes` that is kept in memory: an index, a manifest, a chunk list. `None` if it is not
    /// here; bytes that do not have the digest any more are an error.
    pub fn read_small(&self, digest: &Digest, max_bytes: u64) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.blob_path(digest);
        let Some(bytes) = read_whole(&self.disk, &path, max_bytes)? else { return Ok(None) };
        if Digest::of(&bytes) != *digest {
            let why = io::Error::new(
                ErrorKind::InvalidData,
                "its bytes are damaged: remove it, and it is brought again",
            );
            return Err(FileError::at(&path)(why));
        }
        Ok(Some(bytes))
    }

    /// Removes a blob whose bytes are damaged, so that it is brought again.
    pub fn discard(&self, digest: &Digest) -> Result<(), FileError> {
        remove(&self.disk, &self.blob_path(digest))
    }

    /// What the store takes of its quota: blobs, parts, and what is still to come of parts that this process brings in.
    pub fn used_bytes(&self) -> Result<u64, FileError> {
        Ok(self.usage(&self.promised())?.used_bytes)
    }

    /// What the store may take.
    pub fn quota_bytes(&self) -> u64 {
        self.quota_bytes
    }

    /// How many bytes more it may take: within its quota, and so that `keep_free` bytes of the disk stay free.
    pub fn room_bytes(&self, keep_free: u64) -> Result<u64, FileError> {
        let usage = self.usage(&self.promised())?;
        let quota_bytes = self.quota_bytes.saturating_sub(usage.used_bytes);
        let free_bytes =
            self.disk.free_bytes(&self.blobs).map_or(u64::MAX, |free| free.saturating_sub(keep_free));
        Ok(quota_bytes.min(free_bytes.saturating_sub(usage.awaited_bytes)))
    }

    /// Where a blob lies, for people.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    pub(crate) fn part_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(format!(".{}.part", digest.hex()))
    }

    pub(crate) fn lock_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(format!(".{}.lock", digest.hex()))
    }

    pub(crate) fn disk(&self) -> &D {
        &self.disk
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blobs(&self) -> &Path {
        &self.blobs
    }

    pub(crate) fn promised(&self) -> MutexGuard<'_, BTreeMap<Digest, u64>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much there is beside what was promised, and with it.
    pub(crate) fn usage(&self, promised: &BTreeMap<Digest, u64>) -> Result<Usage, FileError> {
        let mut usage = Usage::default();
        let mut promised = promised.clone();
        for (kind, size_bytes) in self.files()? {
            let will_be = match kind {
                Kind::Blob(digest) => {
                    promised.remove(&digest);
                    size_bytes
                }
                Kind::Part(digest) => promised.remove(&digest).unwrap_or(0).max(size_bytes),
                Kind::Lock(_) => 0,
            };
            usage.add(will_be, will_be.saturating_sub(size_bytes));
        }
        for will_be in promised.into_values() {
            usage.add(will_be, will_be);
        }
        Ok(usage)
    }

    /// Our own files among the blobs, and how long they are; what somebody else put there is none of ours.
    pub(crate) fn files(&self) -> Result<Vec<(Kind, u64)>, FileError> {
        let entries = self.disk.list(&self.blobs).map_err(FileError::at(&self.blobs))?;
        let ours = entries.into_iter().filter(|entry| entry.is_file);
        Ok(ours.filter_map(|entry| Some((Kind::of(&entry.name)?, entry.size_bytes))).collect())
    }
}

impl Usage {
    fn add(&mut self, used_bytes: u64, awaited_bytes: u64) {
        self.used_bytes = self.used_bytes.saturating_add(used_bytes);
        self.awaited_bytes = self.awaited_bytes.saturating_add(awaited_bytes);
    }
}

impl Kind {
    fn of(name: &str) -> Option<Kind> {
        let digest = |hex: &str| Hash::parse(hex).map(Digest::from);
        match name.strip_prefix('.') {
            None => digest(name).map(Kind::Blob),
            Some(hidden) => match hidden.split_once('.')? {
                (hex, "part") => digest(hex).map(Kind::Part),
                (hex, "lock") => digest(hex).map(Kind::Lock),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::{Cut, Simulated};
    use crate::disk::{Create, DiskFile};

    #[test]
    fn a_store_is_a_layout_after_any_cut() {
        for point in 0.. {
            let disk = Simulated::new();
            disk.dies_at(point);
            let done = Store::open(disk.clone(), Path::new("/data/packages"), 100).is_ok();
            disk.cut(Cut::Hostile, point);
            Store::open(disk.clone(), Path::new("/data/packages"), 100).unwrap();
            let layout = read_whole(&disk, Path::new("/data/packages/oci-layout"), 100).unwrap();
            assert_eq!(layout.as_deref(), Some(LAYOUT));
            if done {
                break;
            }
        }
    }

    #[test]
    fn only_our_files_count() {
        let disk = Simulated::new();
        let store = Store::open(disk.clone(), Path::new("/p"), 100).unwrap();
        let (blob, part, promised) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        let put = |path: PathBuf, bytes: &[u8]| {
            disk.create(&path, Create::New).unwrap().write_at(0, bytes).unwrap();
        };
        put(store.blob_path(&blob), b"1");
        put(store.part_path(&part), b"22");
        put(store.blobs().join("README"), b"somebody else's");
        put(store.blobs().join(format!(".{}.old", blob.hex())), b"somebody else's");
        assert_eq!(store.used_bytes().unwrap(), 3);
        assert_eq!(store.listed().unwrap(), BTreeMap::from([(blob, 1), (part, 2)]));
        let arriving =
            |digest: Digest| store.open_arriving(&digest).unwrap().map(|file| file.size_bytes().unwrap());
        assert_eq!([blob, part, promised].map(arriving), [Some(1), Some(2), None]);
        store.promised().extend([(part, 10), (promised, 20), (blob, 5)]);
        let usage = store.usage(&store.promised()).unwrap();
        assert_eq!(usage, Usage { used_bytes: 31, awaited_bytes: 28 });
    }

    #[test]
    fn damaged_bytes_are_not_read() {
        let disk = Simulated::new();
        let store = Store::open(disk.clone(), Path::new("/p"), 100).unwrap();
        let digest = Digest::of(b"whole");
        assert_eq!(store.read_small(&digest, 10).unwrap(), None);
        write_whole(&disk, &store.blob_path(&digest), b"whole").unwrap();
        assert_eq!(store.read_small(&digest, 10).unwrap().as_deref(), Some(&b"whole"[..]));
        assert!(store.read_small(&digest, 4).is_err() && store.has(&digest).unwrap());
        write_whole(&disk, &store.blob_path(&digest), b"whale").unwrap();
        assert!(store.read_small(&digest, 10).is_err());
    }
}
