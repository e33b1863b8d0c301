//! The machine's disk.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::disk::{Create, Disk, DiskFile, Entry};

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

/// An open file of this machine.
#[derive(Debug)]
pub struct OpenFile(File);

impl OpenFile {
    /// The file itself, so that the very bytes that were checked can be mapped into memory.
    pub fn as_std(&self) -> &File {
        &self.0
    }
}

/// A lock file, locked.
#[derive(Debug)]
pub struct HeldLock {
    file: File,
    path: PathBuf,
}

impl Disk for System {
    type File = OpenFile;
    type Lock = HeldLock;

    /// A plain file alone: to open a pipe waits for whoever writes to it, and a device has no end.
    fn open(&self, path: &Path) -> io::Result<OpenFile> {
        let file = open_at_once(path)?;
        match file.metadata()?.is_file() {
            true => Ok(OpenFile(file)),
            false => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a plain file")),
        }
    }

    fn create(&self, path: &Path, how: Create) -> io::Result<OpenFile> {
        let mut options = File::options();
        options.read(true).write(true);
        match how {
            Create::New => options.create_new(true),
            Create::Keep => options.create(true).truncate(false),
            Create::Truncate => options.create(true).truncate(true),
            Create::Private => options.create_new(true),
        };
        #[cfg(unix)]
        if how == Create::Private {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        options.open(path).map(OpenFile)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "a file is only moved within its folder");
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        match fs::create_dir(path) {
            // Somebody else was quicker.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    /// A file system that cannot sync a folder says so by `EINVAL`: then nothing more can be done.
    #[cfg(unix)]
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        match File::open(path)?.sync_all() {
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    /// A folder cannot be synced on this system.
    #[cfg(not(unix))]
    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Of the entry itself: a link is not followed.
            let facts = match entry.metadata() {
                Ok(facts) => facts,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(Entry { name, is_file: facts.is_file(), size_bytes: facts.len() });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    #[cfg(unix)]
    fn free_bytes(&self, path: &Path) -> Option<u64> {
        let disk = rustix::fs::statvfs(path).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    }

    #[cfg(not(unix))]
    fn free_bytes(&self, _path: &Path) -> Option<u64> {
        None
    }

    fn lock(&self, path: &Path) -> io::Result<Option<HeldLock>> {
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Its last holder may have removed the file after we opened it: then we hold what nobody sees.
            if stands_at(&file, path)? {
                return Ok(Some(HeldLock { file, path: path.to_owned() }));
            }
        }
    }
}

#[cfg(unix)]
fn open_at_once(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let at_once = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    File::options().read(true).custom_flags(at_once).open(path)
}

#[cfg(not(unix))]
fn open_at_once(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn stands_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok(there.dev() == ours.dev() && there.ino() == ours.ino()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file that is open cannot be removed on this system.
#[cfg(not(unix))]
fn stands_at(_file: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        // A file that stays costs nothing: the next holder removes it.
        let _ = fs::remove_file(&self.path);
        // Closing alone is not enough: a child process that is just being started holds a copy until it is another program.
        let _ = self.file.unlock();
    }
}

impl DiskFile for OpenFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, into, at)
    }

    #[cfg(windows)]
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, into, at)
    }

    #[cfg(unix)]
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, at)
    }

    #[cfg(windows)]
    fn write_at(&self, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = std::os::windows::fs::FileExt::seek_write(&self.0, bytes, at)?;
            bytes = &bytes[written..];
            at += written as u64;
        }
        Ok(())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn freeze(&self) -> io::Result<()> {
        let mut rights = self.0.metadata()?.permissions();
        rights.set_readonly(true);
        self.0.set_permissions(rights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        fs::write(&path, b"left by a power cut").unwrap();
        let held = System.lock(&path).unwrap().unwrap();
        assert!(System.lock(&path).unwrap().is_none());
        drop(held);
        assert!(!path.exists());
        drop(System.lock(&path).unwrap().unwrap());
    }

    #[test]
    fn locks_taken_in_a_crowd_are_never_held_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let Some(held) = System.lock(&path).unwrap() else { continue };
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
    }

    #[test]
    fn an_open_file_stays_when_another_takes_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        for (path, bytes) in [(&a, b"one"), (&b, b"two")] {
            System.create(path, Create::New).unwrap().write_at(0, bytes).unwrap();
        }
        assert!(System.create(&a, Create::New).is_err());
        let open = System.open(&a).unwrap();
        System.rename(&b, &a).unwrap();
        let mut read = [0; 3];
        assert_eq!((open.read_at(0, &mut read).unwrap(), &read), (3, b"one"));
        open.freeze().unwrap();
        let names: Vec<String> =
            System.list(folder.path()).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["a"]);
    }
}
