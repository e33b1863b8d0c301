//! Files that a power cut leaves whole: written beside their place, brought to the disk, moved, and the move itself
//! brought to the disk. At any instant the old content stands under the name, or the new one. Errors name the path.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

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

/// Who may read a file that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Whom the system lets.
    Usual,
    /// Its owner alone.
    Owner,
}

/// Replaces the file at `path` by what `write` writes. Until that is whole and on disk it lies at `beside`, in the same
/// folder; if anything fails it is removed from there, and what was at `path` before is still there.
pub fn replace<E: From<FileError>>(
    path: &Path,
    beside: &Path,
    readers: Readers,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if readers == Readers::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let file = options.open(beside).map_err(FileError::at(beside))?;
    let replaced = (|| {
        let mut buffer = BufWriter::with_capacity(1 << 20, file);
        write(&mut buffer)?;
        let file = buffer.into_inner().map_err(|error| FileError::at(beside)(error.into_error()))?;
        file.sync_all().map_err(FileError::at(beside))?;
        drop(file);
        Ok::<_, E>(fs::rename(beside, path).map_err(FileError::at(path))?)
    })();
    if replaced.is_err() {
        // The first failure is the one to tell; a second one here would hide it.
        drop(fs::remove_file(beside));
    }
    replaced?;
    Ok(sync_folder_of(path)?)
}

/// Brings to the disk that a file came, was moved or went: this stands in its folder. Where a folder cannot be opened as a
/// file, nothing can be done.
pub fn sync_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder) {
        Ok(file) => file.sync_all().map_err(FileError::at(folder)),
        Err(_) => Ok(()),
    }
}
