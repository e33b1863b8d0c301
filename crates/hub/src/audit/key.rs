//! The key of the log: Ed25519, made at the first start, in a file that only the hub's user reads. Where hubs share a folder of
//! keys it lies there, so that they have one.
//!
//! Its public half lies beside it, for those who check the log: who has it needs to believe nobody.

use std::path::PathBuf;

use package::disk::system::System;
use package::disk::{FileError, read_whole, write_whole};
use package::tlog::note::{NoteError, NoteKey, NoteSigner};
use package::trust::hex::{from_hex, to_hex};
use wire::hash::Hash;
use zeroize::Zeroizing;

use crate::config::HubConfig;
use crate::identity::ca::{self, CaError};

/// A key that the log cannot be signed with.
#[derive(Debug, thiserror::Error)]
pub enum LogKeyError {
    /// Its file.
    #[error(transparent)]
    File(#[from] CaError),
    /// That of its public half.
    #[error(transparent)]
    Public(#[from] FileError),
    /// It is none.
    #[error("{} holds no key of an audit log: 64 hexadecimal digits", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The settings name a log that cannot be called so.
    #[error("origin in [audit] of the hub's config cannot be the name of a log")]
    Name(#[source] NoteError),
}

/// The key of the settings, the one in the folder of keys that hubs share, or the one in `data`; if there is none, `new` becomes it.
pub fn open(config: &HubConfig, new: &Zeroizing<[u8; 32]>) -> Result<NoteSigner, LogKeyError> {
    let path = path(config);
    let text = match ca::read(&path)? {
        Some(text) => text,
        None => {
            config.identity.keys.as_deref().map_or(Ok(()), ca::make_folder)?;
            ca::place(&path, &Zeroizing::new(format!("{}\n", to_hex(&**new))))?
        }
    };
    let seed = from_hex(text.trim_end()).map(Zeroizing::new);
    let seed = seed.and_then(|seed| Some(Zeroizing::new(<[u8; 32]>::try_from(&seed[..]).ok()?)));
    let seed = seed.ok_or_else(|| LogKeyError::NotAKey { path: path.clone() })?;
    let nameless = NoteSigner::from_seed("log", &seed).map_err(LogKeyError::Name)?;
    // Without a name of its own, a log is called after its key.
    let digits: String = Hash::of(nameless.key().public()).to_string().chars().take(16).collect();
    let name = config.audit.origin.clone().unwrap_or_else(|| format!("selvedge/{digits}"));
    let signer = NoteSigner::from_seed(&name, &seed).map_err(LogKeyError::Name)?;
    let public = format!("{}\n", signer.key());
    let beside = path.with_extension("pub");
    let is_there =
        || read_whole(&System, &beside, 4096).map(|held| held.as_deref() == Some(public.as_bytes()));
    if !is_there()?
        && let Err(error) = write_whole(&System, &beside, public.as_bytes())
        // Another hub may have been at it.
        && !is_there()?
    {
        return Err(error.into());
    }
    Ok(signer)
}

fn path(config: &HubConfig) -> PathBuf {
    let folder = config.identity.keys.as_ref().unwrap_or(&config.data);
    config.audit.key_file.clone().unwrap_or_else(|| folder.join("audit.key"))
}

/// The public half, from the file beside the key.
pub fn public(config: &HubConfig) -> Result<NoteKey, LogKeyError> {
    let path = path(config).with_extension("pub");
    let text = read_whole(&System, &path, 4096)?.unwrap_or_default();
    let key = std::str::from_utf8(&text).ok().and_then(|text| NoteKey::parse(text.trim_end()).ok());
    key.ok_or(LogKeyError::NotAKey { path })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let new = |byte| Zeroizing::new([byte; 32]);
        let config = || HubConfig { data: data.to_owned(), ..HubConfig::default() };
        let first = open(&config(), &new(1)).unwrap();
        let again = open(&config(), &new(2)).unwrap();
        assert_eq!(first.key(), again.key());
        assert!(first.key().name().starts_with("selvedge/"));
        let mode = std::fs::metadata(data.join("audit.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let public = std::fs::read_to_string(data.join("audit.pub")).unwrap();
        assert_eq!(&NoteKey::parse(public.trim_end()).unwrap(), first.key());
        assert_eq!(&super::public(&config()).unwrap(), first.key());
        let named = |origin: &str| {
            let mut config = config();
            config.audit.origin = Some(origin.to_owned());
            open(&config, &new(3))
        };
        assert_eq!(named("example.org/log").unwrap().key().name(), "example.org/log");
        assert!(matches!(named("two words"), Err(LogKeyError::Name(_))));
        std::fs::write(data.join("audit.key"), "letter").unwrap();
        assert!(matches!(open(&config(), &new(3)), Err(LogKeyError::NotAKey { .. })));
    }

    #[test]
    fn hubs_that_share_a_folder_of_keys_have_one() {
        let folder = tempfile::tempdir().unwrap();
        let hub = |name: &str, byte| {
            let mut config = HubConfig { data: folder.path().join(name), ..HubConfig::default() };
            config.identity.keys = Some(folder.path().join("keys"));
            open(&config, &Zeroizing::new([byte; 32])).unwrap().key().clone()
        };
        assert_eq!(hub("one", 1), hub("other", 2));
        assert!(folder.path().join("keys/audit.pub").exists());
    }
}
