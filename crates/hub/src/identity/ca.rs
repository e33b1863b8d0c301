//! The hub's authority: a folder with its key and certificate, and what it issues.
//!
//! P-256, because every tool, load balancer and TPM speaks it: a certificate is only believed now, so a later quantum
//! computer has nothing to gain from it. Keys grow from `wire::world::Entropy`; the library draws none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use package::trust::eckey::{EcKey, unwrap, wrap};
use package::trust::sign::Ed25519Signer;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber, SigningKey,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use wire::hash::Hash;
use wire::id::NodeId;
use wire::identity::CSR_MAX_BYTES;
use wire::world::{Entropy, WallMs};
use zeroize::Zeroizing;

const DAY_MS: i64 = 86_400_000;

/// How long the authority lasts: ten years.
const CA_LIFE_MS: i64 = 3653 * DAY_MS;

/// How long the hub's own certificate lasts. It is made anew at each start, and at a third of it.
pub const SERVER_LIFE_MS: i64 = 90 * DAY_MS;

/// Clocks differ: certificates count from an hour before they are made.
const EARLY_MS: i64 = 3_600_000;

/// The largest file of the folder.
const FILE_MAX_BYTES: u64 = 16 << 10;

/// The latest time a certificate can name: the last day of 9999.
const LATEST_S: u64 = 253_402_214_400;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The folder or a file in it.
    #[error("cannot use {}; the folder of keys must belong to the hub's user", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What stands in a file.
    #[error("{} does not hold what it should; restore the folder of keys from a backup", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// The library did not make a certificate.
    #[error("no certificate could be made")]
    Issue(#[from] rcgen::Error),
}

/// What is not a request for a certificate of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Too much.
    #[error("the request has {0} bytes, more than {CSR_MAX_BYTES}")]
    TooLarge(usize),
    /// Not one, or not signed by its own key.
    #[error("this is no request for a certificate whose key its sender has ({0})")]
    Bad(String),
    /// Another kind of key.
    #[error("the key is not one of P-256")]
    OtherKey,
}

/// A request whose sender has the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    key: rcgen::PublicKey,
}

impl Request {
    /// Reads a request, DER. Only the key is taken from it: names and what a certificate is good for come from the hub.
    pub fn read(der: &[u8]) -> Result<Request, CsrError> {
        if der.len() > CSR_MAX_BYTES {
            return Err(CsrError::TooLarge(der.len()));
        }
        let read = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der));
        let key = read.map_err(|error| CsrError::Bad(error.to_string()))?.public_key;
        let is_point = key.der_bytes().len() == 65 && key.der_bytes()[0] == 4;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || !is_point {
            return Err(CsrError::OtherKey);
        }
        Ok(Request { key })
    }

    /// SHA-256 of the public key: by this the hub knows whose it is.
    pub fn id(&self) -> Hash {
        Hash::of(&self.key.subject_public_key_info())
    }
}

/// A certificate that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// DER.
    pub certificate: Vec<u8>,
    /// Its number, as hex.
    pub serial: String,
    /// From when it counts.
    pub not_before_ms: WallMs,
    /// Until when.
    pub not_after_ms: WallMs,
}

/// The authority of a hub.
pub struct Ca {
    issuer: Issuer<'static, Own>,
    certificate: CertificateDer<'static>,
    time: Ed25519Signer,
}

impl Ca {
    /// Opens the folder of keys, or makes it with new ones.
    pub fn open_or_make(folder: &Path, entropy: &mut dyn Entropy, now_ms: WallMs) -> Result<Ca, CaError> {
        make_folder(folder)?;
        let (key_path, path) = (folder.join("ca.key"), folder.join("ca.pem"));
        let key = match read(&key_path)? {
            Some(text) => EcKey::read(&text).ok_or(CaError::Damaged { path: key_path })?,
            None => {
                let text = place(&key_path, &EcKey::draw(entropy).pem())?;
                EcKey::read(&text).ok_or(CaError::Damaged { path: key_path })?
            }
        };
        let key = Own(key);
        let text = match read(&path)? {
            Some(text) => text,
            None => place(&path, &wrap("CERTIFICATE", &authority(&key, entropy, now_ms)?))?,
        };
        let der = unwrap("CERTIFICATE", &text).ok_or(CaError::Damaged { path: path.clone() })?;
        let certificate = CertificateDer::from(der);
        if spki(&certificate).as_deref() != Some(key.0.public()) {
            return Err(CaError::Damaged { path });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| CaError::Damaged { path })?;
        Ok(Ca { issuer, certificate, time: time_key(&folder.join("time.key"), entropy)? })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its public key, DER: what codes pin.
    pub fn public(&self) -> &[u8] {
        self.issuer.key().0.public()
    }

    /// The key that signs time.
    pub fn time(&self) -> &Ed25519Signer {
        &self.time
    }

    /// A node's certificate. Its name is there for people and logs; the table of keys says who it is.
    pub fn issue(
        &self,
        request: &Request,
        node: &NodeId,
        life_ms: i64,
        now_ms: WallMs,
        entropy: &mut dyn Entropy,
    ) -> Result<Issued, CaError> {
        let mut params = params(node.as_str(), now_ms, life_ms, entropy);
        let uri = format!("selvedge://node/{node}").try_into()?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let serial = params.serial_number.as_ref().map_or_else(String::new, ToString::to_string);
        let certificate = params.signed_by(&request.key, &self.issuer)?.der().to_vec();
        let (not_before_ms, not_after_ms) = (now_ms - EARLY_MS, now_ms + life_ms);
        Ok(Issued { certificate, serial: serial.replace(':', ""), not_before_ms, not_after_ms })
    }

    /// The hub's own certificate under these names and addresses, with a new key.
    pub fn server(
        &self,
        names: &[String],
        now_ms: WallMs,
        entropy: &mut dyn Entropy,
    ) -> Result<(CertificateDer<'static>, EcKey), CaError> {
        let key = Own(EcKey::draw(entropy));
        let mut params = params("selvedge hub", now_ms, SERVER_LIFE_MS, entropy);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok((certificate, key.0))
    }
}

/// SubjectPublicKeyInfo of a certificate.
pub fn spki(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate).ok()?;
    Some(parsed.subject_public_key_info().to_vec())
}

/// A key of ours as rcgen wants it.
struct Own(EcKey);

impl PublicKeyData for Own {
    fn der_bytes(&self) -> &[u8] {
        self.0.point()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Own {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

fn authority(
    key: &Own,
    entropy: &mut dyn Entropy,
    now_ms: WallMs,
) -> Result<CertificateDer<'static>, CaError> {
    let mut params = params("selvedge hub authority", now_ms, CA_LIFE_MS, entropy);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params.self_signed(key)?.der().clone())
}

fn params(name: &str, now_ms: WallMs, life_ms: i64, entropy: &mut dyn Entropy) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |ms: i64| {
        let seconds = u64::try_from(ms / 1000).unwrap_or(0).min(LATEST_S);
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    (params.not_before, params.not_after) = (at(now_ms - EARLY_MS), at(now_ms + life_ms));
    let mut serial = [0; 16];
    entropy.fill(&mut serial);
    // Positive, and of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

/// The key that signs time: the seed of Ed25519 as PEM.
fn time_key(path: &Path, entropy: &mut dyn Entropy) -> Result<Ed25519Signer, CaError> {
    const LABEL: &str = "SELVEDGE TIME KEY";
    let mut seed = Zeroizing::new([0; 32]);
    let damaged = || CaError::Damaged { path: path.to_owned() };
    let text = match read(path)? {
        Some(text) => text,
        None => {
            entropy.fill(&mut *seed);
            place(path, &Zeroizing::new(wrap(LABEL, &*seed)))?
        }
    };
    let bytes = Zeroizing::new(unwrap(LABEL, &text).ok_or_else(damaged)?);
    *seed = bytes.as_slice().try_into().map_err(|_| damaged())?;
    Ed25519Signer::from_seed(&seed).map_err(|_| damaged())
}

/// Makes the folder of keys if it is not there.
pub fn make_folder(folder: &Path) -> Result<(), CaError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| CaError::File { path: folder.to_owned(), source })
}

/// A file of the folder; `None` if it is not there.
pub fn read(path: &Path) -> Result<Option<Zeroizing<String>>, CaError> {
    let failed = |source| CaError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Writes a file that nobody else reads, whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<(), CaError> {
    let failed = |source| CaError::File { path: path.to_owned(), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let steps = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    steps().map_err(failed)
}

/// Writes a file that nobody else reads, unless it is there: of several hubs that share the folder one is first, and what it
/// wrote stands for all. What the file holds now.
pub fn place(path: &Path, text: &str) -> Result<Zeroizing<String>, CaError> {
    let failed = |source| CaError::File { path: path.to_owned(), source };
    let mut beside = path.as_os_str().to_owned();
    // Named after what is in it, so that two hubs do not write into one file.
    beside.push(format!(".{:.16}", Hash::of(text.as_bytes()).to_string()));
    let beside = PathBuf::from(beside);
    write(&beside, text)?;
    let linked = match fs::hard_link(&beside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    };
    fs::remove_file(&beside).map_err(failed)?;
    linked.map_err(failed)?;
    read(path)?.ok_or_else(|| CaError::Damaged { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use rustls::pki_types::UnixTime;
    use rustls::server::WebPkiClientVerifier;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;
    use wire::world::{Clock as _, Simulated};

    fn request(world: &mut Simulated) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // What a node asks for beside its key is not heard.
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serialize_request(&Own(EcKey::draw(world))).unwrap().der().to_vec()
    }

    #[test]
    fn the_folder_is_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        let (mut world, keys) = (Simulated::new(1), folder.path().join("keys"));
        let now_ms = world.wall_ms();
        let first = Ca::open_or_make(&keys, &mut world, now_ms).unwrap();
        let again = Ca::open_or_make(&keys, &mut Simulated::new(9), 0).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        assert_eq!(first.public(), again.public());
        for entry in fs::read_dir(&keys).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
        }
        // A key beside another's certificate is nobody's.
        write(&keys.join("ca.key"), &EcKey::draw(&mut world).pem()).unwrap();
        assert!(matches!(Ca::open_or_make(&keys, &mut world, 0), Err(CaError::Damaged { .. })));
        write(&keys.join("ca.key"), "nothing").unwrap();
        assert!(matches!(Ca::open_or_make(&keys, &mut world, 0), Err(CaError::Damaged { .. })));
    }

    #[test]
    fn hubs_that_make_a_folder_at_once_have_one_authority() {
        let folder = tempfile::tempdir().unwrap();
        let public = |seed: u64| {
            let ca = Ca::open_or_make(folder.path(), &mut Simulated::new(seed), 0).unwrap();
            (ca.public().to_vec(), ca.certificate().to_vec())
        };
        let made: Vec<_> = std::thread::scope(|scope| {
            let hubs: Vec<_> = (0..8).map(|seed| scope.spawn(move || public(seed))).collect();
            hubs.into_iter().map(|hub| hub.join().unwrap()).collect()
        });
        assert!(made.iter().all(|one| *one == made[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside");
    }

    #[test]
    fn a_node_s_certificate_is_one_for_its_key_and_time_and_no_authority() {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Simulated::new(1);
        let now_ms = world.wall_ms();
        let ca = Ca::open_or_make(folder.path(), &mut world, now_ms).unwrap();
        let request = Request::read(&request(&mut world)).unwrap();
        let node = NodeId::new("pump-7").unwrap();
        let issued = ca.issue(&request, &node, DAY_MS, now_ms, &mut world).unwrap();
        let leaf = CertificateDer::from(issued.certificate);
        assert_eq!(spki(&leaf).map(|spki| Hash::of(&spki)), Some(request.id()));
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let at = |ms: i64| UnixTime::since_unix_epoch(Duration::from_millis(ms as u64));
        let good = |chain: &[CertificateDer<'static>], leaf: &CertificateDer<'static>, ms| {
            verifier.verify_client_cert(leaf, chain, at(ms)).is_ok()
        };
        assert!(good(&[], &leaf, now_ms) && good(&[], &leaf, now_ms + DAY_MS - 1000));
        assert!(!good(&[], &leaf, now_ms + DAY_MS + 1000));
        assert!(!good(&[], &leaf, now_ms - EARLY_MS - 1000));
        let (server, _) =
            ca.server(&["hub.example.org".into(), "10.0.0.1".into()], now_ms, &mut world).unwrap();
        assert!(!good(&[], &server, now_ms), "the hub's certificate is no node's");
    }

    #[test]
    fn only_good_requests_are_read() {
        let mut world = Simulated::new(1);
        let good = request(&mut world);
        assert!(Request::read(&good).is_ok());
        for at in [0, 10, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Request::read(&bad).is_err(), "{at}");
        }
        assert_eq!(Request::read(&[0; 5000]), Err(CsrError::TooLarge(5000)));
        assert!(matches!(Request::read(&[]), Err(CsrError::Bad(_))));
    }
}
