//! A download that is not yet a model: `download.part`, and `download.toml` which says what it is a part of.

use std::path::Path;

use package::disk::FileError;
use serde::{Deserialize, Serialize};
use wire::hash::Hash;

use crate::durable;
use crate::shelf::facts::Origin;

/// The bytes so far, in the model's folder.
pub const PART_FILE: &str = "download.part";

/// What they are a part of.
pub const PART_STATE_FILE: &str = "download.toml";

/// The largest state that is read back.
const STATE_MAX_BYTES: u64 = 64 << 10;

/// What a part is a part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartState {
    /// The hash of the full address: an address may carry what must not be kept.
    pub source_key: Hash,
    /// The server's mark of the content; strong ones only, as others allow no ranges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The size of the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// The hash of the whole, as the repository says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Hash>,
    /// How many bytes are certainly on the disk, power cut or not.
    pub synced_bytes: u64,
    /// For people, and for listings.
    pub origin: Origin,
}

impl PartState {
    /// Reads the state in a model's folder. `None` if there is none, or nothing that helps: a damaged state costs a new
    /// beginning, no more.
    pub fn read(folder: &Path) -> Result<Option<PartState>, FileError> {
        let bytes = durable::read(&folder.join(PART_STATE_FILE), STATE_MAX_BYTES)?;
        Ok(bytes.and_then(|bytes| toml::from_str(str::from_utf8(&bytes).ok()?).ok()))
    }

    /// Writes the state into a model's folder.
    pub fn write(&self, folder: &Path) -> Result<(), FileError> {
        let path = folder.join(PART_STATE_FILE);
        let text = toml::to_string(self)
            .map_err(|error| FileError { path: path.clone(), source: std::io::Error::other(error) })?;
        durable::write(&path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_state_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(PartState::read(folder.path()).unwrap(), None);
        let state = PartState {
            source_key: Hash::of(b"x"),
            etag: Some("\"a\\b\"".into()),
            total_bytes: Some(7),
            sha256: None,
            synced_bytes: 3,
            origin: Origin::default(),
        };
        state.write(folder.path()).unwrap();
        assert_eq!(PartState::read(folder.path()).unwrap(), Some(state));
        for damage in [&b"\xff"[..], b"synced_bytes = -1", b""] {
            std::fs::write(folder.path().join(PART_STATE_FILE), damage).unwrap();
            assert_eq!(PartState::read(folder.path()).unwrap(), None);
        }
    }
}
