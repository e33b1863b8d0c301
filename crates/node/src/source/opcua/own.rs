//! The certificate that a node shows to OPC UA servers, with its key: made once, kept in the node's data folder.
//!
//! Servers know their clients by certificates that a person let in, so it must stay the same for years. It names the node (`urn:selvedge:node:…`), as the
//! standard wants.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use opcua::crypto::{CertificateStore, X509Data};
use wire::hash::Hash;
use wire::world::WallMs;

/// What every policy here takes, and small boards compute in time.
const KEY_BITS: u32 = 2_048;
/// Nobody visits plants to renew certificates: 20 years.
const DAYS: u32 = 20 * 365;
/// A clock that shows less has never been set: 2020.
const SET_MS: WallMs = 1_577_836_800_000;

/// Sources have threads of their own, and the certificate is the node's.
static MAKING: Mutex<()> = Mutex::new(());

/// A certificate and its key, in their folder.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// The certificate, DER.
    pub(super) certificate: PathBuf,
    /// Its SHA-256 digest.
    pub(super) digest: Hash,
}

/// Where the certificate is in its folder; the library wants both paths so.
pub(super) const CERTIFICATE: &str = "own/cert.der";
/// Where its key is.
pub(super) const KEY: &str = "private/private.pem";

/// What the node is called among OPC UA's applications.
pub(super) fn application_uri(node: &str) -> String {
    format!("urn:selvedge:node:{node}")
}

/// The node's certificate, made if there is none. `now_ms`: by the node's clock, since a certificate begins to be good some day.
pub(super) fn own(folder: &Path, node: &str, now_ms: WallMs) -> Result<Own, String> {
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    if CertificateStore::read_cert(&certificate).is_err() || CertificateStore::read_pkey(&key).is_err() {
        make(&certificate, &key, node, now_ms).map_err(|why| {
            format!("a certificate of the node's own cannot be made in {}: {why}", folder.display())
        })?;
    }
    let der = fs::read(&certificate).map_err(|error| format!("{}: {error}", certificate.display()))?;
    Ok(Own { certificate, digest: Hash::of(&der) })
}

fn make(certificate: &Path, key: &Path, node: &str, now_ms: WallMs) -> Result<(), String> {
    if now_ms < SET_MS {
        return Err("the node's clock was never set, and a certificate says since when it is good".to_owned());
    }
    // Half of a pair from before would go with no other half.
    let _ = fs::remove_file(key);
    let text = |error: std::io::Error| error.to_string();
    for (folder, mode) in [(certificate.parent(), 0o755), (key.parent(), 0o700)] {
        if let Some(folder) = folder {
            DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(text)?;
        }
    }
    let data = X509Data {
        key_size: KEY_BITS,
        common_name: format!("Selvedge node {node}"),
        organization: "Selvedge".to_owned(),
        organizational_unit: String::new(),
        country: String::new(),
        state: String::new(),
        alt_host_names: X509Data::alt_host_names(&application_uri(node), None, false, false, false),
        certificate_duration_days: DAYS,
    };
    CertificateStore::create_certificate_and_key(&data, true, certificate, key)?;
    fs::set_permissions(key, Permissions::from_mode(0o600)).map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day in 2026.
    const NOW: WallMs = 1_790_000_000_000;

    #[test]
    fn it_is_made_once_and_by_a_clock_that_was_set() {
        let dir = tempfile::tempdir().unwrap();
        let told = own(dir.path(), "oslo-7", 9_000).unwrap_err();
        assert!(told.contains("clock was never set"), "{told}");
        let first = own(dir.path(), "oslo-7", NOW).unwrap();
        assert_eq!(own(dir.path(), "oslo-7", NOW).unwrap().digest, first.digest);
        let mode = fs::metadata(dir.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A power cut left half a key: both are made anew.
        fs::write(dir.path().join(KEY), "-----BEGIN").unwrap();
        let second = own(dir.path(), "oslo-7", NOW).unwrap();
        assert_ne!(second.digest, first.digest);
        assert!(CertificateStore::read_pkey(&dir.path().join(KEY)).is_ok());
    }
}
