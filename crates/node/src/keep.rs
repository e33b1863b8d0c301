//! Keeps on disk what was learnt: `models/<name>.json` of models and `sensors/<source>.json` of sensors' habits, in the node's data
//! folder. A power cut at any instant leaves the old state or the new one.

use std::path::{Path, PathBuf};

use package::disk::FileError;
use wire::id::PartName;

use crate::durable;

/// The largest state that is read back; a detector's has a tenth of it.
const STATE_MAX_BYTES: u64 = 16 << 20;

/// Of what something was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A model.
    Model,
    /// The sensors of a source.
    Sensors,
}

impl Of {
    fn folder(self, data: &Path) -> PathBuf {
        data.join(match self {
            Of::Model => "models",
            Of::Sensors => "sensors",
        })
    }

    fn place(self, data: &Path, name: &PartName) -> PathBuf {
        self.folder(data).join(format!("{name}.json"))
    }

    /// What was learnt, if anything is there.
    pub fn load(self, data: &Path, name: &PartName) -> Result<Option<Vec<u8>>, FileError> {
        durable::read(&self.place(data, name), STATE_MAX_BYTES)
    }

    /// Keeps what was learnt.
    pub fn save(self, data: &Path, name: &PartName, bytes: &[u8]) -> Result<(), FileError> {
        durable::make_folder(&self.folder(data))?;
        durable::write(&self.place(data, name), bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let data = tempfile::tempdir().unwrap();
        let model = PartName::new("pump_health").unwrap();
        assert_eq!(Of::Model.load(data.path(), &model).unwrap(), None);
        Of::Model.save(data.path(), &model, b"one").unwrap();
        Of::Model.save(data.path(), &model, b"two").unwrap();
        assert_eq!(Of::Model.load(data.path(), &model).unwrap().as_deref(), Some(&b"two"[..]));
        let files: Vec<_> =
            fs::read_dir(data.path().join("models")).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(files, ["pump_health.json"]);
        assert_eq!(Of::Sensors.load(data.path(), &model).unwrap(), None);
    }

    #[test]
    fn a_file_too_large_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let model = PartName::new("m").unwrap();
        Of::Model.save(data.path(), &model, b"").unwrap();
        File::options()
            .write(true)
            .open(Of::Model.place(data.path(), &model))
            .unwrap()
            .set_len(STATE_MAX_BYTES + 1)
            .unwrap();
        assert!(Of::Model.load(data.path(), &model).is_err());
    }
}
