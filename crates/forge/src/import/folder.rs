//! The folder that a model comes in: its files by name, read whole and within bounds.
//!
//! Always: only regular files inside the folder are opened, whatever names its JSON gives; nothing larger than its limit
//! is read into memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

/// The most a text or JSON file may hold. The largest real one, Gemma's tokenizer.json, has 33 MB.
pub const TEXT_MAX_BYTES: u64 = 256 << 20;

/// A folder or file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A path that leads to no folder.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// What was given.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that should be small.
    #[error("{} has {bytes} bytes, the limit is {TEXT_MAX_BYTES}", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
    },
    /// A text file that is none.
    #[error("{} is not UTF-8", path.display())]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
    },
    /// A JSON file that is none, or says something else than it should.
    #[error("{} cannot be understood", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A file the import cannot do without.
    #[error("{} is missing: is this the folder of a Hugging Face model?", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// A name that leads out of the folder.
    #[error("the folder names a file {name:?}, which does not lie in it")]
    Outside {
        /// The name.
        name: String,
    },
}

/// A folder with a model in it.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Takes a path that leads to a folder.
    pub fn open(path: &Path) -> Result<Folder, FolderError> {
        if path.is_dir() {
            Ok(Folder { path: path.to_owned() })
        } else {
            Err(FolderError::NotAFolder { path: path.to_owned() })
        }
    }

    /// The last name of the folder's path.
    pub fn name(&self) -> Option<String> {
        let whole = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        Some(whole.file_name()?.to_string_lossy().into_owned())
    }

    /// The path of a file that a stranger named; not whether it is there.
    pub fn path_of(&self, name: &str) -> Result<PathBuf, FolderError> {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if inside && !name.is_empty() {
            Ok(self.path.join(name))
        } else {
            Err(FolderError::Outside { name: name.chars().take(80).collect() })
        }
    }

    /// True if there is a regular file of that name.
    pub fn has(&self, name: &str) -> bool {
        self.path_of(name).is_ok_and(|path| path.is_file())
    }

    /// The names of the regular files, sorted.
    pub fn files(&self) -> Result<Vec<String>, FolderError> {
        let io = |source| FolderError::Io { path: self.path.clone(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            if let Ok(name) = name.into_string()
                && self.has(&name)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The bytes of a file, if it is there.
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.path_of(name)?;
        if !path.is_file() {
            return Ok(None);
        }
        let io = |source| FolderError::Io { path: path.clone(), source };
        let mut content = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(TEXT_MAX_BYTES + 1).read_to_end(&mut content))
            .map_err(io)?;
        let bytes = content.len() as u64;
        if bytes > TEXT_MAX_BYTES {
            return Err(FolderError::TooLarge { path, bytes });
        }
        Ok(Some(content))
    }

    /// The text of a file, if it is there.
    pub fn text(&self, name: &str) -> Result<Option<String>, FolderError> {
        let Some(bytes) = self.bytes(name)? else {
            return Ok(None);
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(FolderError::NotUtf8 { path: self.path.join(name) }),
        }
    }

    /// A JSON file, if it is there.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FolderError> {
        let Some(bytes) = self.bytes(name)? else {
            return Ok(None);
        };
        let json = |source| FolderError::Json { path: self.path.join(name), source };
        serde_json::from_slice(&bytes).map(Some).map_err(json)
    }

    /// The error of a file that must be there.
    pub fn missing(&self, name: &str) -> FolderError {
        FolderError::Missing { path: self.path.join(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_are_refused() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("config.json"), "{\"a\": 1}").unwrap();
        let folder = Folder::open(place.path()).unwrap();
        for name in ["../config.json", "/etc/passwd", "a/../../b", "", ".", "./x"] {
            assert!(matches!(folder.path_of(name), Err(FolderError::Outside { .. })), "{name:?}");
            assert!(!folder.has(name));
        }
        assert!(folder.has("config.json"));
        assert_eq!(folder.files().unwrap(), ["config.json"]);
        let read: Option<serde_json::Value> = folder.json("config.json").unwrap();
        assert_eq!(read.unwrap()["a"], 1);
        assert!(folder.text("absent").unwrap().is_none());
        std::fs::write(place.path().join("broken"), b"{\xff").unwrap();
        assert!(matches!(folder.text("broken"), Err(FolderError::NotUtf8 { .. })));
        assert!(matches!(folder.json::<u8>("broken"), Err(FolderError::Json { .. })));
        assert!(matches!(
            Folder::open(&place.path().join("config.json")),
            Err(FolderError::NotAFolder { .. })
        ));
    }
}
