//! Names for what may not be named: keyed hashes, the same for the same word as long as the key is the same.

use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wire::world::Entropy;
use zeroize::Zeroizing;

/// The key's file in the data folder.
pub const FILE: &str = "pseudonyms.key";

const KEY_BYTES: usize = 32;

/// The key is missing or cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file.
    #[error("the key of the pseudonyms {} cannot be kept", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its file is something else.
    #[error(
        "{} is no key: it has {KEY_BYTES} bytes; if it is lost, remove it, and nobody finds a name behind old pseudonyms again",
        path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// There is none, and nothing may be made here.
    #[error("there is no key of pseudonyms in {}: this node's policy hides nothing", data.display())]
    None {
        /// The data folder.
        data: PathBuf,
    },
}

/// A key, and the names that it gives.
#[derive(Clone)]
pub struct Pseudonyms {
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonyms")
    }
}

impl PartialEq for Pseudonyms {
    fn eq(&self, other: &Pseudonyms) -> bool {
        *self.key == *other.key
    }
}

impl Pseudonyms {
    /// The key in a data folder.
    pub fn open(data: &Path) -> Result<Pseudonyms, KeyError> {
        let path = data.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let bytes = Zeroizing::new(bytes);
                let key =
                    <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| KeyError::Form { path })?;
                Ok(Pseudonyms { key: Zeroizing::new(key) })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(KeyError::None { data: data.to_owned() })
            }
            Err(source) => Err(KeyError::File { path, source }),
        }
    }

    /// The key in a data folder; a new one if there is none.
    pub fn open_or_make(data: &Path, entropy: &mut dyn Entropy) -> Result<Pseudonyms, KeyError> {
        match Pseudonyms::open(data) {
            Err(KeyError::None { .. }) => {}
            found => return found,
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        entropy.fill(&mut *key);
        let path = data.join(FILE);
        write(&path, &*key).map_err(|source| KeyError::File { path, source })?;
        Ok(Pseudonyms { key })
    }

    /// The name that stands for a word: `p-` and 16 hexadecimal digits.
    pub fn of(&self, word: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("a key of any length will do");
        mac.update(word.as_bytes());
        let bytes = mac.finalize().into_bytes();
        let mut name = "p-".to_owned();
        for byte in &bytes[..8] {
            name.push_str(&format!("{byte:02x}"));
        }
        name
    }
}

/// Writes a file that only its owner reads, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let beside = crate::durable::beside(path);
    // Of a life that ended half way.
    drop(std::fs::remove_file(&beside));
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::world::Simulated;

    #[test]
    fn the_same_word_has_the_same_name_under_one_key() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut world = Simulated::new(1);
        let first = Pseudonyms::open_or_make(one.path(), &mut world).unwrap();
        let again = Pseudonyms::open_or_make(one.path(), &mut world).unwrap();
        let elsewhere = Pseudonyms::open_or_make(other.path(), &mut world).unwrap();
        assert_eq!(first.of("patient-17"), again.of("patient-17"));
        assert_ne!(first.of("patient-17"), elsewhere.of("patient-17"));
        assert_ne!(first.of("patient-17"), first.of("patient-18"));
        assert_eq!(first.of("").len(), 18);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(one.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(one.path().join(FILE), "short").unwrap();
        assert!(matches!(Pseudonyms::open(one.path()), Err(KeyError::Form { .. })));
    }

    /// RFC 4231, case 2 has a key of other length; this is the same function at 32 bytes, reckoned with Python's `hmac`.
    #[test]
    fn a_name_is_golden() {
        let pseudonyms = Pseudonyms { key: Zeroizing::new([7; KEY_BYTES]) };
        assert_eq!(pseudonyms.of("patient-17"), GOLDEN);
    }

    const GOLDEN: &str = "p-e595e8c812717dfd";
}
