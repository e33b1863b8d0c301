//! The keys that a hub may hold: timestamp's, and snapshot's, so that it can say for its authors that nothing newer is hidden.
//!
//! They can hide what is new for a while and approve nothing: whoever takes over a hub has no more than that.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use package::trust::keyfile::{KeyFileError, unlock};
use package::trust::metadata::{RoleKeys, RoleName, Root};
use package::trust::sign::{HYBRID_SECRET_BYTES, HybridSigner, SignError, Signer};
use zeroize::Zeroizing;

use crate::config::TufConfig;

/// The longest key file, and the longest file with a passphrase.
const FILE_MAX_BYTES: u64 = 64 << 10;

/// A key that the hub cannot sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read.
    #[error("cannot read {}, which [tuf] in the hub's config names", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody said the passphrase.
    #[error(
        "{} is locked with a passphrase: name a file with it as passphrase_file in [tuf], or in SELVEDGE_PASSPHRASE_FILE",
        path.display()
    )]
    NoPassphrase {
        /// The key file.
        path: PathBuf,
    },
    /// It does not open.
    #[error("{} cannot be opened", path.display())]
    Locked {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: KeyFileError,
    },
    /// A key of another kind.
    #[error(
        "{} holds a key of the kind {kind:?}; roles have hybrid keys, which `selvedge trust key new` makes",
        path.display()
    )]
    Kind {
        /// The key file.
        path: PathBuf,
        /// What it holds.
        kind: String,
    },
    /// No key.
    #[error("{} holds no key", path.display())]
    Sign {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: SignError,
    },
    /// The root gives the role other keys.
    #[error(
        "{} is {id}, which root version {version} does not list for {role}: name {role}'s key in [tuf], or let root \
         rotate to this one",
        path.display()
    )]
    NotItsKey {
        /// The key file.
        path: PathBuf,
        /// The beginning of the key's id.
        id: String,
        /// Whose it should be.
        role: RoleName,
        /// Of the newest root.
        version: u64,
    },
    /// More must sign than there are here.
    #[error("{role} needs {threshold} signatures, and the hub holds one key: let root ask for one")]
    Threshold {
        /// Of which role.
        role: RoleName,
        /// How many must sign.
        threshold: u64,
    },
}

struct Held {
    path: PathBuf,
    signer: HybridSigner,
}

/// The keys that the hub holds.
pub struct OnlineKeys {
    timestamp: Held,
    snapshot: Option<Held>,
}

impl std::fmt::Debug for OnlineKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = |held: &Held| held.path.display().to_string();
        write!(f, "OnlineKeys({}, {:?})", path(&self.timestamp), self.snapshot.as_ref().map(path))
    }
}

impl OnlineKeys {
    /// Unlocks what the settings name; `None` if they name nothing. Takes a second for each key.
    pub fn open(config: &TufConfig) -> Result<Option<OnlineKeys>, KeyError> {
        let Some(timestamp) = &config.online_key else { return Ok(None) };
        let passphrase = config.passphrase_file.as_deref();
        let timestamp = Held::open(timestamp, passphrase)?;
        let snapshot = config.snapshot_key.as_deref().map(|path| Held::open(path, passphrase)).transpose()?;
        Ok(Some(OnlineKeys { timestamp, snapshot }))
    }

    /// Whether snapshot's is among them.
    pub fn sign_snapshots(&self) -> bool {
        self.snapshot.is_some()
    }

    /// All that can sign.
    pub fn signers(&self) -> Vec<&dyn Signer> {
        let all = [Some(&self.timestamp), self.snapshot.as_ref()].into_iter().flatten();
        all.map(|held| &held.signer as &dyn Signer).collect()
    }

    /// Whether a root lets them sign what they are here for.
    pub fn check(&self, root: &Root) -> Result<(), KeyError> {
        let version = root.head.version;
        self.timestamp.check(RoleName::timestamp(), &root.timestamp, version)?;
        let snapshot = self.snapshot.as_ref();
        snapshot.map_or(Ok(()), |held| held.check(RoleName::snapshot(), &root.snapshot, version))
    }
}

impl Held {
    fn open(path: &Path, passphrase: Option<&Path>) -> Result<Held, KeyError> {
        let locked = read(path)?;
        let asked = || KeyError::NoPassphrase { path: path.to_owned() };
        let said = read(passphrase.ok_or_else(asked)?)?;
        let said = std::str::from_utf8(&said).ok().and_then(|said| said.lines().next()).ok_or_else(asked)?;
        let secret =
            unlock(&locked, said).map_err(|source| KeyError::Locked { path: path.to_owned(), source })?;
        let seed = <[u8; HYBRID_SECRET_BYTES]>::try_from(secret.bytes.as_slice()).map(Zeroizing::new);
        match seed {
            Ok(seed) if secret.kind == "hybrid" => {
                let signer = HybridSigner::from_seed(&seed);
                let signer = signer.map_err(|source| KeyError::Sign { path: path.to_owned(), source })?;
                Ok(Held { path: path.to_owned(), signer })
            }
            _ => Err(KeyError::Kind { path: path.to_owned(), kind: secret.kind.clone() }),
        }
    }

    fn check(&self, role: RoleName, keys: &RoleKeys, version: u64) -> Result<(), KeyError> {
        if !keys.ids.contains(&self.signer.id()) {
            let id = self.signer.id().to_string().chars().take(12).collect();
            return Err(KeyError::NotItsKey { path: self.path.clone(), id, role, version });
        }
        match keys.threshold {
            0 | 1 => Ok(()),
            threshold => Err(KeyError::Threshold { role, threshold }),
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    Ok(bytes)
}
