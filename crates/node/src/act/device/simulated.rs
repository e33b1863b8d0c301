//! A device that does not exist: a line in a file, which tests and first steps can look at.

use std::path::{Path, PathBuf};

use wire::body::act::{Setting, WORD_MAX_BYTES};

use super::face::{Device, DeviceError};
use crate::act::limits::Allowed;
use crate::durable;

/// The file.
pub(super) struct File {
    path: PathBuf,
    allowed: Allowed,
}

impl File {
    pub(super) fn new(path: &Path, allowed: &Allowed) -> File {
        File { path: path.to_owned(), allowed: allowed.clone() }
    }

    fn failed(&self, error: impl std::error::Error + Send + Sync + 'static) -> DeviceError {
        DeviceError::File { path: self.path.clone(), source: std::io::Error::other(error) }
    }
}

impl Device for File {
    fn set(&mut self, to: &Setting) -> Result<(), DeviceError> {
        durable::write(&self.path, format!("{to}\n").as_bytes()).map_err(|error| self.failed(error))
    }

    fn read(&mut self) -> Result<Option<Setting>, DeviceError> {
        let bytes =
            durable::read(&self.path, WORD_MAX_BYTES as u64 + 1).map_err(|error| self.failed(error))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        self.allowed.read(&text).map(Some).map_err(|why| DeviceError::Answer { why })
    }
}
