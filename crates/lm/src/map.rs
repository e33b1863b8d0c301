//! A file as memory: the one memory map of the house.
//!
//! Stands between the disk and `gguf`. What is mapped costs no copy and no waiting: pages come when they are touched, may
//! leave when memory is short, and are given back when weights were taken out of them for good ([`crate::weights`]). The
//! price is stated, not hidden: while a map lives, the file must not be
//! shortened. If it is, touching a page past the new end ends the process with SIGBUS (on Windows the system refuses
//! to shorten it instead); if it is overwritten, the numbers change under the reader. Replace a model by renaming a
//! new file over it, as our own writer does: the old map then keeps the old file. Where strangers can write to the file,
//! use [`read`], which costs a copy and has neither problem.
#![allow(unsafe_code, reason = "this file is the room for the memory map, see ARCHITECTURE.md")]

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

/// A file that cannot become memory.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was opened.
        path: PathBuf,
    },
    /// More than this machine can address.
    #[error("{} has {bytes} bytes, more than this machine can address", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
    },
}

/// A mapped file. Clones share the map; it goes when the last clone and the last [`Bytes`] of it go.
#[derive(Clone, Debug)]
pub struct Map {
    map: Arc<Mmap>,
    bytes: Bytes,
}

/// A map as the owner of [`Bytes`].
struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Map {
    /// Maps the whole file for reading. What is appended to it later is not seen.
    pub fn open(path: &Path) -> Result<Map, MapError> {
        Map::of_file(&open(path)?, path)
    }

    /// Maps a whole file that is open for reading, whatever stands under its name by now; `path` is what errors call it.
    pub fn of_file(file: &File, path: &Path) -> Result<Map, MapError> {
        let length = length_of(file, path)?;
        let io = |source| MapError::Io { doing: "map", path: path.to_owned(), source };
        // SAFETY: the mapping is private to us and read-only. That nobody shortens or rewrites the file is the one thing
        // the type system cannot promise; the head of this file says so to whoever maps. Numbers and texts read from
        // the map are plain bytes, valid for any content, and every check of the header is made on values that were
        // copied out of it.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(file) }.map_err(io)?;
        let map = Arc::new(map);
        let bytes = Bytes::from_owner(Owner(Arc::clone(&map)));
        Ok(Map { map, bytes })
    }

    /// The whole file. Slices of it keep the map alive.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Tells the system that `start..start + length` will be read soon, so that it reads ahead in the background.
    /// Returns at once. A hint: where the system takes none, or the range is not inside the file, nothing happens.
    pub fn will_need(&self, start: usize, length: usize) {
        self.advise(start, length, Hint::WillNeed);
    }

    /// Tells the system that the file will be read once, from front to back.
    pub fn sequential(&self) {
        self.advise(0, self.bytes.len(), Hint::Sequential);
    }

    /// Gives back the memory of the whole pages inside `start..start + length`; read again, they come from the file again.
    #[cfg(unix)]
    pub fn done_with(&self, start: usize, length: usize) {
        let Some(end) = start.checked_add(length).filter(|end| *end <= self.bytes.len()) else { return };
        // The map begins on a page. Pages of 64 KiB are the largest that processors of our kind use for files.
        const PAGE: usize = 1 << 16;
        let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        if first >= last {
            return;
        }
        // SAFETY: the map is a read-only map of a file, so pages that go come back with the same bytes.
        let done = unsafe {
            self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, first, last - first)
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the system takes no pages back");
        }
    }

    /// Nothing: there is no such advice here.
    #[cfg(not(unix))]
    pub fn done_with(&self, _start: usize, _length: usize) {}

    #[cfg(unix)]
    fn advise(&self, start: usize, length: usize, hint: Hint) {
        let inside = start.checked_add(length).is_some_and(|end| end <= self.bytes.len());
        if !inside || length == 0 {
            return;
        }
        let advice = match hint {
            Hint::WillNeed => memmap2::Advice::WillNeed,
            Hint::Sequential => memmap2::Advice::Sequential,
        };
        if let Err(error) = self.map.advise_range(advice, start, length) {
            tracing::debug!(%error, "the system takes no advice on a mapped file");
        }
    }

    #[cfg(not(unix))]
    fn advise(&self, _start: usize, _length: usize, _hint: Hint) {}
}

/// What the system is told about a mapped range.
enum Hint {
    WillNeed,
    Sequential,
}

/// Reads a whole file into memory.
pub fn read(path: &Path) -> Result<Bytes, MapError> {
    let mut file = open(path)?;
    let mut bytes = Vec::with_capacity(length_of(&file, path)?);
    let io = |source| MapError::Io { doing: "read", path: path.to_owned(), source };
    file.read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes.into())
}

/// Opens a regular file.
fn open(path: &Path) -> Result<File, MapError> {
    let io = |source| MapError::Io { doing: "open", path: path.to_owned(), source };
    // Asked before opening: opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(MapError::NotAFile { path: path.to_owned() });
    }
    File::open(path).map_err(io)
}

/// How long a regular file is.
fn length_of(file: &File, path: &Path) -> Result<usize, MapError> {
    let io = |source| MapError::Io { doing: "open", path: path.to_owned(), source };
    let facts = file.metadata().map_err(io)?;
    if !facts.is_file() {
        return Err(MapError::NotAFile { path: path.to_owned() });
    }
    let bytes = facts.len();
    match usize::try_from(bytes) {
        // No slice of Rust may be longer than isize::MAX.
        Ok(length) if isize::try_from(length).is_ok() => Ok(length),
        _ => Err(MapError::TooLarge { path: path.to_owned(), bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_and_a_read_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in
            [("empty", Vec::new()), ("short", b"GGUF".to_vec()), ("pages", vec![7; 10_000])]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, &content).unwrap();
            let map = Map::open(&path).unwrap();
            map.sequential();
            map.will_need(0, content.len());
            map.will_need(content.len(), 1);
            map.will_need(usize::MAX, 2);
            assert_eq!(map.bytes(), &content);
            assert_eq!(read(&path).unwrap(), content);
            let tail = map.bytes().slice(content.len() / 2..);
            drop(map);
            std::fs::remove_file(&path).unwrap();
            assert_eq!(tail, content[content.len() / 2..], "a slice keeps the map of a removed file");
        }
    }

    #[test]
    fn a_file_that_is_open_is_mapped_whatever_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("model"), folder.path().join("other"));
        std::fs::write(&path, b"checked").unwrap();
        std::fs::write(&other, b"another").unwrap();
        let file = File::open(&path).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(Map::of_file(&file, &path).unwrap().bytes(), &b"checked"[..]);
        assert_eq!(Map::open(&path).unwrap().bytes(), &b"another"[..]);
    }

    #[test]
    fn what_is_no_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.gguf");
        assert!(matches!(Map::open(&missing), Err(MapError::Io { doing: "open", .. })));
        let error = Map::open(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is not a regular file", folder.path().display()));
        assert!(matches!(read(folder.path()), Err(MapError::NotAFile { .. })));
    }
}
