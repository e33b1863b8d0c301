//! The door to files: all that the store, the trust state and the slots do to a disk, as a trait, so that a simulated disk
//! can lose power at every step.
//!
//! [`system::System`] is the machine's disk, [`simulated::Simulated`] one that forgets what was not brought to it. [`room`]
//! says whether a file still fits, [`checked`] whether a small one is as it was written. Durable is what was synced, and nothing else: bytes by [`DiskFile::sync`], names
//! by [`Disk::sync_folder`] of the folder they stand in. The functions here keep that order, so that callers need not.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

pub mod checked;
pub mod room;
pub mod simulated;
pub mod system;

/// What a disk can do. A call that fails may have been carried out in part.
pub trait Disk: Send + Sync {
    /// An open file; it stays readable when its name is moved or removed.
    type File: DiskFile;
    /// A lock, held until dropped or until the process ends, however that ends.
    type Lock: Send;

    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file for reading and writing.
    fn create(&self, path: &Path, how: Create) -> io::Result<Self::File>;

    /// Moves a file within its folder, in one instant; what stands at `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder, in one that is there; no error if it is there already.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes durable which names stand in a folder.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// What stands in a folder, by name. Names that are not UTF-8 are left out: none of ours.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Bytes that can still be written on the disk that holds `path`; `None` where that cannot be known.
    fn free_bytes(&self, path: &Path) -> Option<u64>;

    /// Takes the lock that the file at `path` stands for; `None` if somebody has it. The file is there only while it is held,
    /// or after a power cut: then whoever takes and drops the lock removes it.
    fn lock(&self, path: &Path) -> io::Result<Option<Self::Lock>>;
}

/// What an open file can do.
pub trait DiskFile: Send + Sync {
    /// How long it is, in bytes.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Reads from byte `at` on; gives how many bytes came, 0 at the end.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` from byte `at` on. What lies between the end and `at` reads as zeros.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or lengthens it by zeros.
    fn set_size(&self, bytes: u64) -> io::Result<()>;

    /// Makes the bytes durable. After an error nobody knows which are, and a later success says nothing of those.
    fn sync(&self) -> io::Result<()>;

    /// Takes everybody's right to write to it, so that no accident does.
    fn freeze(&self) -> io::Result<()>;
}

/// How a file is opened for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// It must not be there.
    New,
    /// What is there stays.
    Keep,
    /// What is there goes.
    Truncate,
    /// It must not be there, and only this user may read or write it, where the system knows users.
    Private,
}

/// A file or folder in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// Whether it is a plain file: no folder, no link, no device.
    pub is_file: bool,
    /// A file's length.
    pub size_bytes: u64,
}

/// A file or folder refused.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used", path.display())]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError { path, source }
    }
}

/// Replaces a file. At any instant, power cut or not, the old content stands under the name or the new one; after `Ok` the
/// new one. After an error it may be either.
pub fn write_whole(disk: &impl Disk, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write(disk, path, bytes, Create::Truncate)
}

/// The same for a file that nobody else may read.
pub fn write_private(disk: &impl Disk, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    // What an earlier life began may be open to others.
    remove(disk, &beside(path))?;
    write(disk, path, bytes, Create::Private)
}

fn write(disk: &impl Disk, path: &Path, bytes: &[u8], how: Create) -> Result<(), FileError> {
    let beside = beside(path);
    let written = (|| {
        let file = disk.create(&beside, how)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        drop(file);
        disk.rename(&beside, path)
    })();
    if let Err(error) = written {
        // The first failure is the one to tell.
        drop(disk.remove(&beside));
        return Err(FileError::at(path)(error));
    }
    sync_folder_of(disk, path)
}

/// Where the next content of a file lies until it is whole.
pub fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    PathBuf::from(beside)
}

/// Reads a file of at most `max_bytes`; `None` if there is none.
pub fn read_whole(disk: &impl Disk, path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::at(path)(error)),
    };
    let size_bytes = file.size_bytes().map_err(FileError::at(path))?;
    if size_bytes > max_bytes {
        let why = format!("it has {size_bytes} bytes, more than the {max_bytes} that are read");
        return Err(FileError::at(path)(io::Error::new(ErrorKind::InvalidData, why)));
    }
    let mut bytes = vec![0; usize::try_from(size_bytes).unwrap_or(usize::MAX)];
    let came = read_full(&file, 0, &mut bytes).map_err(FileError::at(path))?;
    bytes.truncate(came);
    Ok(Some(bytes))
}

/// Reads from byte `at` on until `into` is full or the file ends; gives how many bytes came.
pub fn read_full(file: &impl DiskFile, at: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut came = 0;
    while came < into.len() {
        match file.read_at(at + came as u64, &mut into[came..]) {
            Ok(0) => break,
            Ok(bytes) => came += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(came)
}

/// Removes a file if it is there, and makes that durable.
pub fn remove(disk: &impl Disk, path: &Path) -> Result<(), FileError> {
    match disk.remove(path) {
        Ok(()) => sync_folder_of(disk, path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::at(path)(error)),
    }
}

/// Makes a folder and those above it, durably: also when an earlier life made them and died before they were.
pub fn make_folders(disk: &impl Disk, path: &Path) -> Result<(), FileError> {
    let mut folders: Vec<&Path> = path.ancestors().filter(|folder| folder.file_name().is_some()).collect();
    folders.reverse();
    for folder in folders {
        disk.make_folder(folder).map_err(FileError::at(folder))?;
        match sync_folder_of(disk, folder) {
            // A folder above that may be passed but not read: then it is not ours to make durable.
            Err(error) if error.source.kind() == ErrorKind::PermissionDenied => {}
            done => done?,
        }
    }
    Ok(())
}

/// Makes durable that a file came, was moved or went: this stands in its folder.
pub fn sync_folder_of(disk: &impl Disk, path: &Path) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_folder(folder).map_err(FileError::at(folder))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::simulated::{Cut, Simulated};
    use super::system::System;
    use super::*;

    fn is_bounded(disk: &impl Disk, folder: &Path) {
        let path = folder.join("a/b/c");
        make_folders(disk, &folder.join("a/b")).unwrap();
        make_folders(disk, &folder.join("a/b")).unwrap();
        assert_eq!(read_whole(disk, &path, 3).unwrap(), None);
        write_whole(disk, &path, b"four").unwrap();
        assert!(read_whole(disk, &path, 3).is_err());
        assert_eq!(read_whole(disk, &path, 4).unwrap().as_deref(), Some(&b"four"[..]));
        write_whole(disk, &path, b"").unwrap();
        assert_eq!(read_whole(disk, &path, 4).unwrap().as_deref(), Some(&b""[..]));
        remove(disk, &path).unwrap();
        remove(disk, &path).unwrap();
        assert_eq!(disk.list(&folder.join("a/b")).unwrap(), []);
    }

    #[test]
    fn private_files_are_whole_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        // What a cut left, open to all.
        std::fs::write(beside(&path), b"half").unwrap();
        for bytes in [&b"one"[..], b"two"] {
            write_private(&System, &path, bytes).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            assert!(!beside(&path).exists());
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let disk = Simulated::new();
        make_folders(&disk, Path::new("/data")).unwrap();
        write_private(&disk, Path::new("/data/secret"), b"one").unwrap();
        assert_eq!(read_whole(&disk, Path::new("/data/secret"), 3).unwrap().as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn reading_is_bounded() {
        is_bounded(&Simulated::new(), Path::new("/data"));
        is_bounded(&System, tempfile::tempdir().unwrap().path());
    }

    proptest! {
        #[test]
        fn a_file_is_old_or_new_after_any_cut(
            old in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9000)),
            new in proptest::collection::vec(any::<u8>(), 0..9000),
            seed in any::<u64>(),
        ) {
            let path = Path::new("/data/state");
            for cut in [Cut::Ordered, Cut::Hostile] {
                for point in 0.. {
                    let disk = Simulated::new();
                    make_folders(&disk, Path::new("/data")).unwrap();
                    if let Some(old) = &old {
                        write_whole(&disk, path, old).unwrap();
                    }
                    disk.dies_at(disk.points() + point);
                    let done = write_whole(&disk, path, &new).is_ok();
                    disk.cut(cut, seed);
                    let there = read_whole(&disk, path, 10_000).unwrap();
                    prop_assert!(there.as_ref() == Some(&new) || !done && there == old, "{point} {cut:?}");
                    if done {
                        prop_assert_eq!(point, 5, "create, write, sync, rename, sync of the folder");
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn what_fails_once_or_finds_no_room_leaves_a_file_whole() {
        let path = Path::new("/data/state");
        for point in 0..5 {
            let disk = Simulated::new();
            make_folders(&disk, Path::new("/data")).unwrap();
            write_whole(&disk, path, b"old").unwrap();
            disk.fails_at(disk.points() + point);
            assert!(write_whole(&disk, path, b"new").is_err(), "{point}");
            let there = read_whole(&disk, path, 10).unwrap().unwrap();
            assert_eq!(there, if point < 4 { b"old" } else { b"new" });
            assert_eq!(disk.list(Path::new("/data")).unwrap().len(), 1, "{point}: nothing is left beside");
        }
        let disk = Simulated::new();
        make_folders(&disk, Path::new("/data")).unwrap();
        write_whole(&disk, path, b"old").unwrap();
        disk.full_at(5);
        let error = write_whole(&disk, path, b"new").unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::StorageFull);
        assert_eq!(disk.free_bytes(path), Some(2));
        assert_eq!(read_whole(&disk, path, 10).unwrap().as_deref(), Some(&b"old"[..]));
    }
}
