//! Whether a file still fits on the disk.
//!
//! A disk filled to the last byte takes the journal and everything else down with it: something is always kept free.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::Disk;
use crate::disk::system::System;

/// What is kept free, unless told otherwise.
pub const KEEP_FREE_BYTES: u64 = 64 << 20;

/// A file does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough room at {}: {needed_bytes} bytes are needed, {free_bytes} are free, of which {keep_bytes} stay free",
    path.display()
)]
pub struct NoRoom {
    /// Where.
    pub path: PathBuf,
    /// What is still to be written.
    pub needed_bytes: u64,
    /// What the disk has.
    pub free_bytes: u64,
    /// What is left free in any case.
    pub keep_bytes: u64,
}

impl NoRoom {
    /// An error unless `needed_bytes` more fit beside what is at `path` and what stays free. Where the free space cannot be
    /// known, everything fits.
    pub fn unless(
        path: &Path,
        needed_bytes: u64,
        free_bytes: Option<u64>,
        keep_bytes: u64,
    ) -> Result<(), NoRoom> {
        match free_bytes {
            Some(free_bytes) if needed_bytes > free_bytes.saturating_sub(keep_bytes) => {
                Err(NoRoom { path: path.to_owned(), needed_bytes, free_bytes, keep_bytes })
            }
            _ => Ok(()),
        }
    }
}

/// Tells the free bytes of the disk that holds a path; `None` where that cannot be known.
type FreeBytes = dyn Fn(&Path) -> Option<u64> + Send + Sync;

/// A disk's room, for who writes past [`Disk`].
#[derive(Clone)]
pub struct Room {
    free_bytes: Arc<FreeBytes>,
    keep_bytes: u64,
}

impl Room {
    /// The room of the machine's disk.
    pub fn of_the_disk() -> Room {
        Room::new(|path| System.free_bytes(path), KEEP_FREE_BYTES)
    }

    /// Room as `free_bytes` tells it, of which `keep_bytes` stay free.
    pub fn new(free_bytes: impl Fn(&Path) -> Option<u64> + Send + Sync + 'static, keep_bytes: u64) -> Room {
        Room { free_bytes: Arc::new(free_bytes), keep_bytes }
    }

    /// Whether `needed_bytes` more fit beside what is at `path`.
    pub fn need(&self, path: &Path, needed_bytes: u64) -> Result<(), NoRoom> {
        NoRoom::unless(path, needed_bytes, (self.free_bytes)(path), self.keep_bytes)
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("keep_bytes", &self.keep_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_kept_free() {
        fn check(free: Option<u64>, needed: u64, expected: bool) {
            let room = Room::new(move |_| free, 10);
            assert_eq!(room.need(Path::new("/x"), needed).is_ok(), expected, "{free:?} {needed}");
        }
        check(Some(100), 90, true);
        check(Some(100), 91, false);
        check(Some(5), 1, false);
        check(Some(5), 0, true);
        check(None, u64::MAX, true);
        assert!(Room::of_the_disk().need(Path::new("/"), u64::MAX).is_err() || cfg!(not(unix)));
    }
}
