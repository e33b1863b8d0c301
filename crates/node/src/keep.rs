//! Keeps on disk what models have learnt: `models/<name>.json` in the node's data folder. A power cut at any instant
//! leaves the old state or the new one.

use std::path::{Path, PathBuf};

use package::disk::FileError;
use wire::id::PartName;

use crate::durable;

/// The largest state that is read back; a detector's has a tenth of it.
const STATE_MAX_BYTES: u64 = 16 << 20;

fn place(data: &Path, model: &PartName) -> PathBuf {
    data.join("models").join(format!("{model}.json"))
}

/// What a model had learnt, if anything is there.
pub fn load(data: &Path, model: &PartName) -> Result<Option<Vec<u8>>, FileError> {
    durable::read(&place(data, model), STATE_MAX_BYTES)
}

/// Keeps what a model has learnt.
pub fn save(data: &Path, model: &PartName, bytes: &[u8]) -> Result<(), FileError> {
    durable::make_folder(&data.join("models"))?;
    durable::write(&place(data, model), bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

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
        assert!(load(data.path(), &model).is_err());
    }
}
