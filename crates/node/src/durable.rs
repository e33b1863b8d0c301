//! Small files of the node, over [`package::disk`]: whole after a kill at any step, which tests try step by step.

use std::fs;
use std::path::{Path, PathBuf};

use package::disk::system::System;
use package::disk::{self, FileError};

/// Replaces a file. At any instant the old content or the new one stands there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    step(path)?;
    disk::write_whole(&System, path, bytes)?;
    step(path)
}

/// The same for a file that its owner alone reads.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    step(path)?;
    disk::write_private(&System, path, bytes)?;
    step(path)
}

/// Where the next content of a file lies until it is whole.
pub fn beside(path: &Path) -> PathBuf {
    disk::beside(path)
}

/// Moves a file within its folder, replacing what stands there, and brings the move to the disk.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    step(to)?;
    fs::rename(from, to).map_err(FileError::at(to))?;
    step(to)?;
    disk::sync_folder_of(&System, to)
}

/// Removes a file if it is there, and brings that to the disk.
pub fn remove(path: &Path) -> Result<(), FileError> {
    step(path)?;
    disk::remove(&System, path)
}

/// Makes a folder, and those above it.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    step(path)?;
    fs::create_dir_all(path).map_err(FileError::at(path))?;
    disk::sync_folder_of(&System, path)
}

/// Reads a file of at most `max_bytes`; `None` if there is none.
pub fn read(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, FileError> {
    disk::read_whole(&System, path, max_bytes)
}

/// Where a test may end the process: see `fatal`.
#[cfg(not(test))]
fn step(_path: &Path) -> Result<(), FileError> {
    Ok(())
}

#[cfg(test)]
fn step(path: &Path) -> Result<(), FileError> {
    fatal::step().map_err(FileError::at(path))
}

/// A process that dies between two steps: from a given step on, nothing reaches the disk any more.
#[cfg(test)]
pub(crate) mod fatal {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static DIED: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `work`, which dies at its `steps`-th step; says whether it did.
    pub(crate) fn after(steps: u32, work: impl FnOnce()) -> bool {
        LEFT.set(Some(steps));
        work();
        LEFT.take();
        DIED.take()
    }

    pub(super) fn step() -> std::io::Result<()> {
        match LEFT.get() {
            Some(0) => {
                DIED.set(true);
                Err(std::io::Error::other("the process is dead"))
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_old_or_new_at_every_step() {
        let mut steps = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.toml");
            write(&path, b"old").unwrap();
            fs::write(beside(&path), b"of a process that was killed half way").unwrap();
            let died = fatal::after(steps, || drop(write(&path, b"new")));
            let there = read(&path, 10).unwrap().unwrap();
            assert!(there == b"old" || there == b"new");
            if !died {
                assert_eq!(there, b"new");
                break;
            }
            steps += 1;
        }
        assert_eq!(steps, 2);
    }

    #[test]
    fn reading_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(read(&path, 3).unwrap(), None);
        fs::write(&path, b"four").unwrap();
        assert!(read(&path, 3).is_err());
        assert_eq!(read(&path, 4).unwrap().as_deref(), Some(&b"four"[..]));
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
