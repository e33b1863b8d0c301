//! How much room the disk has.

use std::path::Path;

/// Tells how many bytes are free on the journal's disk; `None` where that cannot be known.
pub type FreeBytes = Box<dyn FnMut() -> Option<u64> + Send>;

/// The free space of the disk that holds `path`, for a process without special rights.
#[cfg(unix)]
pub fn free_bytes_at(path: &Path) -> FreeBytes {
    let path = path.to_owned();
    Box::new(move || {
        let disk = rustix::fs::statvfs(&path).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    })
}

/// Not known on this system: the floor for free space is not kept.
#[cfg(not(unix))]
pub fn free_bytes_at(_path: &Path) -> FreeBytes {
    Box::new(|| None)
}
