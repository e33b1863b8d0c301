//! Puts a file of this machine on the shelf: as a copy, or as a link that costs no disk.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use lm::gguf::{Gguf, GgufError};
use package::disk::FileError;
use package::disk::room::NoRoom;
use sha2::{Digest, Sha256};
use wire::hash::Hash;
use wire::world::WallMs;

use crate::shelf::facts::{Facts, Origin, Weights};
use crate::shelf::look::{HEAD_BYTES, NotAModel, look};
use crate::shelf::name::ModelName;
use crate::shelf::place::{COPY_FILE, Place, PlaceError};
use crate::shelf::{Entry, Shelf, ShelfError, modified_ms};

/// How much is copied between two looks at the time.
const COPY_STEP_BYTES: usize = 1 << 20;

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct Import {
    /// The file.
    pub file: PathBuf,
    /// The model's name; `None`: after the file.
    pub name: Option<ModelName>,
    /// Keep the path instead of a copy: the file must stay where it is.
    pub link: bool,
    /// Take the place of another model of the same name.
    pub replace: bool,
}

/// Why a file did not come onto the shelf.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is none that we run.
    #[error("{} is not a model", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What it is.
        source: NotAModel,
    },
    /// The file begins like a model, but is none that can be read.
    #[error("{} cannot be read as a model", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<GgufError>,
    },
    /// The first of several files, which a copy of one would leave behind.
    #[error("{} is the first of {count} files of one model: import it with --link, or merge them first", path.display())]
    Split {
        /// The file.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// A folder, a pipe, a device.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// Another model has the name.
    #[error("there is already a model {name}; choose another name, or replace it")]
    Taken {
        /// The name.
        name: ModelName,
    },
    /// It does not fit.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Somebody writes to the file.
    #[error("{} changed while it was copied", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// The caller stopped it.
    #[error("the import was stopped")]
    Stopped,
    /// The shelf refused.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
}

impl From<FileError> for ImportError {
    fn from(error: FileError) -> ImportError {
        ImportError::Shelf(error.into())
    }
}

impl From<PlaceError> for ImportError {
    fn from(error: PlaceError) -> ImportError {
        ImportError::Shelf(error.into())
    }
}

impl Shelf {
    /// Puts a file on the shelf. `progress` hears how many bytes are copied, and gives false to stop. The copy is hashed;
    /// a link is not, because reading the file is what a link saves.
    pub fn import(
        &self,
        import: &Import,
        added_ms: WallMs,
        progress: impl FnMut(u64) -> bool,
    ) -> Result<Entry, ImportError> {
        // A link must hold wherever the next process stands.
        let path = fs::canonicalize(&import.file).map_err(FileError::at(&import.file))?;
        if !path.is_file() {
            return Err(ImportError::NotAFile { path });
        }
        let mut file = File::open(&path).map_err(FileError::at(&path))?;
        let found = file.metadata().map_err(FileError::at(&path))?;
        let head = read_head(&mut file).map_err(FileError::at(&path))?;
        look(&head).map_err(|source| ImportError::NotAModel { path: path.clone(), source })?;
        let parts = Gguf::open(&path).map(|header| header.part_count());
        let count = parts
            .map_err(|source| ImportError::Unreadable { path: path.clone(), source: Box::new(source) })?;
        if count > 1 && !import.link {
            return Err(ImportError::Split { path, count });
        }

        let shown = import.file.to_string_lossy();
        let name = import.name.clone().unwrap_or_else(|| ModelName::of_file(&shown));
        let place = self.take(&name)?;
        if !import.replace && place.facts().map_err(PlaceError::from)?.is_some() {
            return Err(ImportError::Taken { name });
        }
        let origin = Origin { file: path.to_str().map(str::to_owned), ..Origin::default() };
        let weights = Weights::Link { path: path.clone(), modified_ms: modified_ms(&found) };
        let size_bytes = found.len();
        let mut facts = Facts { name, weights, size_bytes, sha256: None, added_ms, origin };
        if import.link {
            place.link(&facts)?;
        } else {
            place.make_folder()?;
            self.room().need(place.folder(), size_bytes)?;
            let copy = place.folder().join(COPY_FILE);
            let copied = self.copy(&place, &head, &mut file, &path, size_bytes, progress);
            match copied {
                Ok(sha256) => place.put(&copy, &mut facts, sha256)?,
                Err(error) => {
                    // Half a copy helps nobody: the next import begins anew.
                    let _ = fs::remove_file(&copy);
                    return Err(error);
                }
            }
        }
        Ok(Entry::new(place.folder(), facts))
    }

    /// Copies `head` and the rest of `file` into the place; gives the hash.
    fn copy(
        &self,
        place: &Place,
        head: &[u8],
        file: &mut File,
        path: &Path,
        size_bytes: u64,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<Hash, ImportError> {
        let to = place.folder().join(COPY_FILE);
        let mut copy = File::create(&to).map_err(FileError::at(&to))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; COPY_STEP_BYTES];
        let mut count = head.len();
        buffer[..count].copy_from_slice(head);
        let mut done = 0;
        while count > 0 {
            copy.write_all(&buffer[..count]).map_err(FileError::at(&to))?;
            hasher.update(&buffer[..count]);
            done += count as u64;
            // A file that grows as it is read would fill the disk.
            if done > size_bytes {
                return Err(ImportError::Changing { path: path.to_owned() });
            }
            if !progress(done) {
                return Err(ImportError::Stopped);
            }
            count = file.read(&mut buffer).map_err(FileError::at(path))?;
        }
        if done != size_bytes {
            return Err(ImportError::Changing { path: path.to_owned() });
        }
        copy.sync_all().map_err(FileError::at(&to))?;
        Ok(Hash::from(hasher))
    }
}

fn read_head(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    match file.take(HEAD_BYTES as u64).read_to_end(&mut head) {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(head),
    }
}

#[cfg(test)]
mod tests {
    use package::disk::room::Room;

    use super::*;
    use crate::shelf::State;
    use crate::why::why;

    fn model(len: usize) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.resize(24, 0);
        bytes.extend((24..len).map(|at| at as u8));
        bytes
    }

    #[test]
    fn a_copy_is_ours_and_a_link_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("Tiny-Q4_0.gguf");
        let bytes = model(3 << 20);
        fs::write(&file, &bytes).unwrap();
        let shelf = Shelf::new(folder.path().join("models"));
        let mut import = Import { file: file.clone(), name: None, link: false, replace: false };
        let mut seen = Vec::new();
        let copy = shelf
            .import(&import, 7, |done| {
                seen.push(done);
                true
            })
            .unwrap();
        assert_eq!(copy.facts.name.as_str(), "tiny:q4_0");
        assert_eq!((copy.facts.added_ms, copy.facts.sha256), (7, Some(Hash::of(&bytes))));
        assert_eq!(fs::read(&copy.path).unwrap(), bytes);
        assert!(seen.len() >= 3 && seen.last() == Some(&(bytes.len() as u64)));
        assert_eq!(shelf.get(&copy.facts.name).unwrap().as_ref(), Some(&copy));

        assert!(matches!(shelf.import(&import, 8, |_| true), Err(ImportError::Taken { .. })));
        import.replace = true;
        import.link = true;
        let link = shelf.import(&import, 8, |_| true).unwrap();
        assert_eq!((link.path.clone(), link.state), (fs::canonicalize(&file).unwrap(), State::Ready));
        assert!(!copy.path.exists(), "the copy that it replaced is gone");
        shelf.remove(&link.facts.name).unwrap();
        assert!(file.exists(), "what was linked is not ours to remove");
    }

    #[test]
    fn a_linked_file_that_changes_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.gguf");
        fs::write(&file, model(100)).unwrap();
        let shelf = Shelf::new(folder.path().join("models"));
        let import = Import { file: file.clone(), name: None, link: true, replace: false };
        let name = shelf.import(&import, 0, |_| true).unwrap().facts.name;
        let state = || shelf.get(&name).unwrap().unwrap().state;
        assert_eq!(state(), State::Ready);
        File::options().write(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(state(), State::Changed);
        fs::write(&file, model(101)).unwrap();
        assert_eq!(state(), State::Changed);
        fs::remove_file(&file).unwrap();
        assert_eq!(state(), State::Missing);
    }

    #[test]
    fn what_is_no_model_or_does_not_fit_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("models");
        let shelf = Shelf::new(&root).with_room(Room::new(|_| Some(1000), 0));
        let check = |file: &Path, expected: &str, go_on: bool| {
            let import = Import { file: file.into(), name: None, link: false, replace: false };
            let error = why(&shelf.import(&import, 0, |_| go_on).unwrap_err());
            assert!(error.contains(expected), "{error}");
            let listing = shelf.list().unwrap();
            assert!(listing.models.is_empty() && listing.unfinished.is_empty());
            let left = fs::read_dir(&root).map_or(0, Iterator::count);
            assert!(left <= 1, "only the locks are left");
        };
        let file = folder.path().join("a.gguf");
        fs::write(&file, "<html>").unwrap();
        check(&file, "HTML page", true);
        // Its counts promise a tensor, and nothing follows.
        fs::write(&file, [&b"GGUF\x03\0\0\0\x01\0\0\0"[..], &[0; 12]].concat()).unwrap();
        check(&file, "cannot be read as a model", true);
        fs::write(&file, model(1001)).unwrap();
        check(&file, "not enough room", true);
        fs::write(&file, model(1000)).unwrap();
        check(&file, "stopped", false);
        check(folder.path(), "is not a file", true);
        check(&folder.path().join("none"), "cannot be used", true);
    }
}
