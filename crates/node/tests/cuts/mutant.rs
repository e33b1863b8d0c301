//! Disks that the night is played on: the real simulated one, and three that are used wrongly, on which it must fail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use package::disk::simulated::{HeldLock, OpenFile, Simulated};
use package::disk::{Create, Disk, DiskFile, Entry};

/// A disk over a simulated one.
pub(crate) trait Over: Disk + Clone {
    /// As one process has it.
    fn over(disk: &Simulated) -> Self;
    /// The process ends in order.
    fn flush(&self) {}
}

impl Over for Simulated {
    fn over(disk: &Simulated) -> Simulated {
        disk.clone()
    }
}

/// Folders are never synced.
pub(crate) const NO_FOLDERS: u8 = 0;
/// A file is moved to its place before its bytes are synced.
pub(crate) const RENAME_FIRST: u8 = 1;
/// The slots' state reaches its place only when the next one is written: what is done by it is done before.
pub(crate) const EFFECTS_FIRST: u8 = 2;

/// A disk that is used wrongly, in one way.
#[derive(Clone)]
pub(crate) struct Mutant<const WAY: u8> {
    disk: Simulated,
    /// A move that was not made yet.
    held: Arc<Mutex<Option<(PathBuf, PathBuf)>>>,
}

/// A file of it.
pub(crate) struct MutantFile<const WAY: u8>(OpenFile);

impl<const WAY: u8> Over for Mutant<WAY> {
    fn over(disk: &Simulated) -> Self {
        Mutant { disk: disk.clone(), held: Arc::default() }
    }

    fn flush(&self) {
        if let Some((from, to)) = self.held.lock().unwrap().take() {
            let _ = self.disk.rename(&from, &to);
            let _ = self.disk.sync_folder(to.parent().unwrap());
        }
    }
}

impl<const WAY: u8> Disk for Mutant<WAY> {
    type File = MutantFile<WAY>;
    type Lock = HeldLock;

    fn open(&self, path: &Path) -> io::Result<MutantFile<WAY>> {
        self.disk.open(path).map(MutantFile)
    }

    fn create(&self, path: &Path, how: Create) -> io::Result<MutantFile<WAY>> {
        self.flush();
        self.disk.create(path, how).map(MutantFile)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if WAY == EFFECTS_FIRST && to.parent().is_some_and(|folder| folder.ends_with("slots")) {
            *self.held.lock().unwrap() = Some((from.to_owned(), to.to_owned()));
            return Ok(());
        }
        self.disk.rename(from, to)?;
        match WAY {
            RENAME_FIRST => self.disk.create(to, Create::Keep)?.sync(),
            _ => Ok(()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.make_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if WAY == NO_FOLDERS { Ok(()) } else { self.disk.sync_folder(path) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = self.disk.list(path)?;
        // As it would look if the move had been made.
        if let Some((from, _)) = &*self.held.lock().unwrap() {
            entries.retain(|entry| path.join(&entry.name) != *from);
        }
        Ok(entries)
    }

    fn free_bytes(&self, path: &Path) -> Option<u64> {
        self.disk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<HeldLock>> {
        self.disk.lock(path)
    }
}

impl<const WAY: u8> DiskFile for MutantFile<WAY> {
    fn size_bytes(&self) -> io::Result<u64> {
        self.0.size_bytes()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(at, into)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(at, bytes)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.0.set_size(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if WAY == RENAME_FIRST { Ok(()) } else { self.0.sync() }
    }

    fn freeze(&self) -> io::Result<()> {
        self.0.freeze()
    }
}
