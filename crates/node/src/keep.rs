//! Keeps on disk what models have learnt: `models/<name>.json` in the node's data folder.
//!
//! A file is whole or not there: it is written beside its place, brought to the disk, and moved. A power cut at any
//! instant leaves the old state or the new one.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use wire::id::PartName;

/// The largest state that is read back; a detector's has a tenth of it.
const STATE_MAX_BYTES: u64 = 16 << 20;

/// Why a state could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A file or folder refused.
    #[error("{} cannot be used", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Larger than any state.
    #[error("{} is larger than {STATE_MAX_BYTES} bytes: it is no model's state", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

fn place(data: &Path, model: &PartName) -> PathBuf {
    data.join("models").join(format!("{model}.json"))
}

/// What a model had learnt, if anything is there.
pub fn load(data: &Path, model: &PartName) -> Result<Option<Vec<u8>>, KeepError> {
    let path = place(data, model);
    let fail = |source| KeepError::Io { path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut bytes = Vec::new();
    file.take(STATE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > STATE_MAX_BYTES {
        return Err(KeepError::TooLarge { path });
    }
    Ok(Some(bytes))
}

/// Keeps what a model has learnt.
pub fn save(data: &Path, model: &PartName, bytes: &[u8]) -> Result<(), KeepError> {
    let path = place(data, model);
    let beside = path.with_extension("json.new");
    let folder = data.join("models");
    let fail = |path: &Path| {
        let path = path.to_path_buf();
        move |source| KeepError::Io { path, source }
    };
    fs::create_dir_all(&folder).map_err(fail(&folder))?;
    let mut file = File::create(&beside).map_err(fail(&beside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail(&beside))?;
    fs::rename(&beside, &path).map_err(fail(&path))?;
    // The move itself is on disk only when the folder is. Where a folder cannot be opened as a file, nothing can be done.
    match File::open(&folder) {
        Ok(folder_file) => folder_file.sync_all().map_err(fail(&folder)),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let data = tempfile::tempdir().unwrap();
        let model = PartName::new("pump_health").unwrap();
        assert_eq!(load(data.path(), &model).unwrap(), None);
        save(data.path(), &model, b"one").unwrap();
        save(data.path(), &model, b"two").unwrap();
        assert_eq!(load(data.path(), &model).unwrap().as_deref(), Some(&b"two"[..]));
        let files: Vec<_> =
            fs::read_dir(data.path().join("models")).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(files, ["pump_health.json"]);
    }

    #[test]
    fn a_file_too_large_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let model = PartName::new("m").unwrap();
        save(data.path(), &model, b"").unwrap();
        File::options()
            .write(true)
            .open(place(data.path(), &model))
            .unwrap()
            .set_len(STATE_MAX_BYTES + 1)
            .unwrap();
        assert!(matches!(load(data.path(), &model), Err(KeepError::TooLarge { .. })));
    }
}
