//! The key of the log: Ed25519, made at the first start, in a file that only the hub's user reads.
//!
//! Its public half lies beside it, for those who check the log: who has it needs to believe nobody.

use std::path::{Path, PathBuf};

use package::disk::system::System;
use package::disk::{FileError, read_whole, write_private, write_whole};
use package::tlog::note::{NoteError, NoteKey, NoteSigner};
use package::trust::hex::{from_hex, to_hex};
use wire::hash::Hash;
use zeroize::Zeroizing;

use crate::config::AuditConfig;

/// The longest key file: 64 digits, and room for a line's end.
const FILE_MAX_BYTES: u64 = 100;

/// A key that the log cannot be signed with.
#[derive(Debug, thiserror::Error)]
pub enum LogKeyError {
    /// Its file, or that of its public half.
    #[error(transparent)]
    File(#[from] FileError),
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

/// The key of the settings, or the one in `data`; if there is none, `new` becomes it.
pub fn open(config: &AuditConfig, data: &Path, new: Zeroizing<[u8; 32]>) -> Result<NoteSigner, LogKeyError> {
    let path = path(config, data);
    let seed = match read_whole(&System, &path, FILE_MAX_BYTES)? {
        Some(text) => {
            let text = Zeroizing::new(text);
            let digits = std::str::from_utf8(&text).ok().map(str::trim_end);
            let seed = digits.and_then(from_hex).map(Zeroizing::new);
            seed.and_then(|seed| Some(Zeroizing::new(<[u8; 32]>::try_from(&seed[..]).ok()?)))
                .ok_or_else(|| LogKeyError::NotAKey { path: path.clone() })?
        }
        None => {
            let text = Zeroizing::new(format!("{}\n", to_hex(&*new)));
            write_private(&System, &path, text.as_bytes())?;
            new
        }
    };
    let nameless = NoteSigner::from_seed("log", &seed).map_err(LogKeyError::Name)?;
    // Without a name of its own, a log is called after its key.
    let digits: String = Hash::of(nameless.key().public()).to_string().chars().take(16).collect();
    let name = config.origin.clone().unwrap_or_else(|| format!("selvedge/{digits}"));
    let signer = NoteSigner::from_seed(&name, &seed).map_err(LogKeyError::Name)?;
    let public = format!("{}\n", signer.key());
    let beside = path.with_extension("pub");
    if read_whole(&System, &beside, 4096)?.as_deref() != Some(public.as_bytes()) {
        write_whole(&System, &beside, public.as_bytes())?;
    }
    Ok(signer)
}

fn path(config: &AuditConfig, data: &Path) -> PathBuf {
    config.key_file.clone().unwrap_or_else(|| data.join("audit.key"))
}

/// The public half, from the file beside the key.
pub fn public(config: &AuditConfig, data: &Path) -> Result<NoteKey, LogKeyError> {
    let path = path(config, data).with_extension("pub");
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
        let config = AuditConfig::default();
        let first = open(&config, data, new(1)).unwrap();
        let again = open(&config, data, new(2)).unwrap();
        assert_eq!(first.key(), again.key());
        assert!(first.key().name().starts_with("selvedge/"));
        let mode = std::fs::metadata(data.join("audit.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let public = std::fs::read_to_string(data.join("audit.pub")).unwrap();
        assert_eq!(&NoteKey::parse(public.trim_end()).unwrap(), first.key());
        assert_eq!(&super::public(&config, data).unwrap(), first.key());
        let named = AuditConfig { origin: Some("example.org/log".into()), ..AuditConfig::default() };
        assert_eq!(open(&named, data, new(3)).unwrap().key().name(), "example.org/log");
        let wrong = AuditConfig { origin: Some("two words".into()), ..AuditConfig::default() };
        assert!(matches!(open(&wrong, data, new(3)), Err(LogKeyError::Name(_))));
        std::fs::write(data.join("audit.key"), "letter").unwrap();
        assert!(matches!(open(&config, data, new(3)), Err(LogKeyError::NotAKey { .. })));
    }
}
