//! The folder `identity` in the node's data: `node.key`, `node.pem` and `hub.json`.
//!
//! Always: what stands there is a key with a certificate that the hub made for it, or neither. A next pair is durable before the
//! one before is touched, and the hub knows its key before it is durable here, so a cut at any step leaves one that counts.

use std::path::{Path, PathBuf};

use package::disk::FileError;
use package::trust::eckey::{EcKey, unwrap, wrap};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use wire::id::NodeId;
use wire::world::{Entropy, WallMs};
use zeroize::Zeroizing;

use crate::durable;

const KEY: &str = "node.key";
const PEM: &str = "node.pem";
const HUB: &str = "hub.json";
const NEXT: &str = ".next";
const LABEL: &str = "CERTIFICATE";

/// The largest of them.
const FILE_MAX_BYTES: u64 = 32 << 10;

/// Why there is no identity to speak with.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// What stands in one is not what should.
    #[error("{} does not hold what it should; remove the folder and enrol the node again", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
}

/// What the hub said when it took this node in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubFacts {
    /// Where it was, `https://host:port`.
    pub url: String,
    /// What this node is called there.
    pub node: NodeId,
    /// The authority that its certificates end in, DER in base64.
    pub authority: String,
    /// The key that it signs time with, 64 hex digits.
    pub time_key: String,
}

/// When a certificate counts; it stands beside it, in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// From when.
    pub not_before_ms: WallMs,
    /// Until when.
    pub not_after_ms: WallMs,
}

/// A key and the certificate for it.
#[derive(Debug)]
pub struct Pair {
    /// The key.
    pub key: EcKey,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// When it counts.
    pub life: Life,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// The one in the node's data folder.
    pub fn of(data: &Path) -> Files {
        Files { folder: data.join("identity") }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the hub said, and the newest pair; `None` if this node was never taken in. Ends what a cut had begun.
    pub fn open(&self) -> Result<Option<(HubFacts, Pair)>, FilesError> {
        let Some(bytes) = durable::read(&self.path(HUB), FILE_MAX_BYTES)? else { return Ok(None) };
        let facts = serde_json::from_slice(&bytes).map_err(|_| self.damaged(HUB))?;
        self.settle()?;
        let key = self.key(KEY)?.ok_or_else(|| self.damaged(KEY))?;
        let (certificate, life) = self.certificate(PEM)?.ok_or_else(|| self.damaged(PEM))?;
        if public_of(&certificate).as_deref() != Some(key.public()) {
            return Err(self.damaged(PEM));
        }
        Ok(Some((facts, Pair { key, certificate, life })))
    }

    /// What the hub said, and when the certificate counts; changes nothing, so that anybody may look while the node runs.
    pub fn look(&self) -> Result<Option<(HubFacts, Life)>, FilesError> {
        let Some(bytes) = durable::read(&self.path(HUB), FILE_MAX_BYTES)? else { return Ok(None) };
        let facts = serde_json::from_slice(&bytes).map_err(|_| self.damaged(HUB))?;
        let (_, life) = self.certificate(PEM)?.ok_or_else(|| self.damaged(PEM))?;
        Ok(Some((facts, life)))
    }

    /// The key for the next certificate: the one that was drawn before and not answered, or a new one. It is durable.
    pub fn next_key(&self, entropy: &mut dyn Entropy) -> Result<EcKey, FilesError> {
        let name = format!("{KEY}{NEXT}");
        if let Some(key) = self.key(&name)? {
            return Ok(key);
        }
        durable::make_folder(&self.folder)?;
        let key = EcKey::draw(entropy);
        durable::write_private(&self.path(&name), key.pem().as_bytes())?;
        Ok(key)
    }

    /// The hub has made a certificate for the next key: it is this node's from now on. `facts`: what the hub said when it took
    /// the node in; by their file it is one, so they come before the pair moves and after it is whole.
    pub fn take(&self, certificate: &[u8], life: Life, facts: Option<&HubFacts>) -> Result<Pair, FilesError> {
        let mut text = wrap(LABEL, certificate);
        text.push_str(&serde_json::to_string(&life).unwrap_or_default());
        durable::write(&self.path(&format!("{PEM}{NEXT}")), text.as_bytes())?;
        if let Some(facts) = facts {
            durable::write(&self.path(HUB), &serde_json::to_vec_pretty(facts).unwrap_or_default())?;
        }
        self.settle()?;
        let key = self.key(KEY)?.ok_or_else(|| self.damaged(KEY))?;
        let (certificate, life) = self.certificate(PEM)?.ok_or_else(|| self.damaged(PEM))?;
        if public_of(&certificate).as_deref() != Some(key.public()) {
            return Err(self.damaged(PEM));
        }
        Ok(Pair { key, certificate, life })
    }

    /// Moves a next pair that is whole into its place: the key first, the certificate last.
    fn settle(&self) -> Result<(), FilesError> {
        let (next_key, next_pem) = (format!("{KEY}{NEXT}"), format!("{PEM}{NEXT}"));
        let Some((certificate, _)) = self.certificate(&next_pem)? else { return Ok(()) };
        let public = public_of(&certificate);
        let is_for = |key: &Option<EcKey>| key.as_ref().map(EcKey::public) == public.as_deref();
        if is_for(&self.key(&next_key)?) {
            durable::rename(&self.path(&next_key), &self.path(KEY))?;
        } else if !is_for(&self.key(KEY)?) {
            return Err(self.damaged(&next_pem));
        }
        Ok(durable::rename(&self.path(&next_pem), &self.path(PEM))?)
    }

    fn damaged(&self, name: &str) -> FilesError {
        FilesError::Damaged { path: self.path(name) }
    }

    fn text(&self, name: &str) -> Result<Option<Zeroizing<String>>, FilesError> {
        let Some(bytes) = durable::read(&self.path(name), FILE_MAX_BYTES)? else { return Ok(None) };
        String::from_utf8(bytes).map(|text| Some(Zeroizing::new(text))).map_err(|_| self.damaged(name))
    }

    fn key(&self, name: &str) -> Result<Option<EcKey>, FilesError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        EcKey::read(&text).map(Some).ok_or_else(|| self.damaged(name))
    }

    fn certificate(&self, name: &str) -> Result<Option<(CertificateDer<'static>, Life)>, FilesError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let damaged = || self.damaged(name);
        let (pem, life) = text.split_at(text.rfind('{').ok_or_else(damaged)?);
        let der = unwrap(LABEL, pem).ok_or_else(damaged)?;
        let life = serde_json::from_str(life).map_err(|_| damaged())?;
        Ok(Some((CertificateDer::from(der), life)))
    }
}

/// The public key of a certificate, DER.
pub fn public_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate).ok()?;
    Some(parsed.subject_public_key_info().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::fatal;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
    use wire::world::Simulated;

    const LIFE: Life = Life { not_before_ms: 1, not_after_ms: 2 };

    /// A certificate for a key, by whoever.
    fn certificate(key: &EcKey) -> Vec<u8> {
        let request = crate::identity::csr::csr(key).unwrap();
        let request = rcgen::CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        assert_eq!(request.public_key.der_bytes(), key.point());
        let authority = KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(CertificateParams::default(), authority);
        request.signed_by(&issuer).unwrap().der().to_vec()
    }

    fn facts() -> HubFacts {
        let node = NodeId::new("pump-7").unwrap();
        HubFacts { url: "https://hub".into(), node, authority: String::new(), time_key: String::new() }
    }

    #[test]
    fn in_or_not_and_never_between_whatever_is_cut() {
        let mut world = Simulated::new(1);
        let key = EcKey::draw(&mut world);
        let (first, second) = (certificate(&key), EcKey::draw(&mut world));
        let second_certificate = certificate(&second);
        // How far the first and the second pair came, at each cut.
        let mut seen = Vec::new();
        for cut in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let files = Files::of(folder.path());
            durable::make_folder(files.folder()).unwrap();
            let next = files.path("node.key.next");
            durable::write_private(&next, key.pem().as_bytes()).unwrap();
            let work = || {
                files.take(&first, LIFE, Some(&facts()))?;
                durable::write_private(&next, second.pem().as_bytes())?;
                files.take(&second_certificate, LIFE, None)
            };
            let ended = !fatal::after(cut, || drop(work()));
            let held = files.open().unwrap();
            let public = held.as_ref().map(|(_, pair)| pair.key.public().to_vec());
            let state = match public {
                None => {
                    // It asks again with the same key, so the hub gives the same answer.
                    assert_eq!(files.next_key(&mut world).unwrap().public(), key.public());
                    0
                }
                Some(public) if public == key.public() => 1,
                Some(public) => {
                    assert_eq!(public, second.public());
                    2
                }
            };
            assert!(seen.last().is_none_or(|last| *last <= state), "{seen:?} then {state}");
            seen.push(state);
            if ended {
                break;
            }
        }
        assert!(seen.contains(&0) && seen.contains(&1) && seen.ends_with(&[2]), "{seen:?}");
    }

    #[test]
    fn what_does_not_fit_is_damage() {
        let mut world = Simulated::new(1);
        let folder = tempfile::tempdir().unwrap();
        let files = Files::of(folder.path());
        assert!(files.open().unwrap().is_none());
        let key = files.next_key(&mut world).unwrap();
        assert_eq!(files.next_key(&mut world).unwrap().public(), key.public());
        let other = certificate(&EcKey::draw(&mut world));
        assert!(matches!(files.take(&other, LIFE, Some(&facts())), Err(FilesError::Damaged { .. })));
        std::fs::remove_file(files.path("node.pem.next")).unwrap();
        files.take(&certificate(&key), LIFE, Some(&facts())).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(files.path(KEY)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
        std::fs::write(files.path(KEY), "-----BEGIN EC PRIVATE KEY-----\n\n-----END EC PRIVATE KEY-----\n")
            .unwrap();
        assert!(matches!(files.open(), Err(FilesError::Damaged { .. })));
    }
}
