//! Devices that come with a certificate of their maker: which makers there are, and which of their devices are meant.
//!
//! A device shows the certificate that it got in the factory (IEEE 802.1AR calls it IDevID) once, to come in; what it is
//! from then on, the hub's own certificate for a new key says. Always: the serial number stands on a list that the hub's
//! operator keeps, and each comes in once.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use package::trust::eckey::unwrap;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::WallMs;
use x509_parser::oid_registry::OID_X509_SERIALNUMBER;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::nodes::{FactoryConfig, SERIAL};
use crate::identity::ca::spki;
use crate::identity::enrol::Refused;

/// The largest list of serial numbers: half a million devices.
const LIST_MAX_BYTES: u64 = 16 << 20;
/// The largest file of an authority.
const AUTHORITY_MAX_BYTES: u64 = 64 << 10;
/// The longest serial number.
const SERIAL_MAX: usize = 64;

/// Why the hub does not know a maker.
#[derive(Debug, thiserror::Error)]
pub enum FactoryError {
    /// A file of it.
    #[error("cannot read {} of [[identity.factory]]", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What stands in it.
    #[error("{} of [[identity.factory]] is no certificate of an authority, as PEM", path.display())]
    Authority {
        /// Which.
        path: PathBuf,
    },
}

/// The makers that the hub knows.
#[derive(Debug, Default)]
pub struct Factories(Vec<Factory>);

#[derive(Debug)]
struct Factory {
    /// SHA-256 of the authority's public key.
    maker: Hash,
    root: CertificateDer<'static>,
    verifier: Arc<dyn ClientCertVerifier>,
    serials: PathBuf,
    name: String,
}

/// A device, as its maker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// SHA-256 of the public key of the maker's authority.
    pub maker: Hash,
    /// Its serial number: that in the certificate's subject, or else the certificate's own, in lower case.
    pub serial: String,
    /// What it will be called.
    pub name: NodeId,
}

impl Factories {
    /// Reads the authorities. Lists are read whenever somebody comes, so that they can be written while the hub runs.
    pub fn open(configs: &[FactoryConfig]) -> Result<Factories, FactoryError> {
        configs.iter().map(Factory::open).collect::<Result<_, _>>().map(Factories)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose certificates the nodes' door lets through, beside the hub's own.
    pub fn roots(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter().map(|factory| &factory.root)
    }

    /// The device whose certificates these are, its own first. Reads a list: not for a thread that others wait for.
    pub fn device(&self, chain: &[CertificateDer<'_>], now_ms: WallMs) -> Result<Device, Refused> {
        let (leaf, between) = chain.split_first().ok_or(Refused::Maker)?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms.try_into().unwrap_or(0)));
        let is_from = |factory: &&Factory| factory.verifier.verify_client_cert(leaf, between, now).is_ok();
        let factory = self.0.iter().find(is_from).ok_or(Refused::Maker)?;
        let serial = serial(leaf).ok_or(Refused::Maker)?;
        if !is_listed(&factory.serials, &serial) {
            return Err(Refused::Serial);
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
        let serial_in_name: String = serial.chars().map(plain).collect();
        let name =
            NodeId::new(&factory.name.replace(SERIAL, &serial_in_name)).map_err(|_| Refused::NoName)?;
        Ok(Device { maker: factory.maker, serial, name })
    }
}

impl Factory {
    fn open(config: &FactoryConfig) -> Result<Factory, FactoryError> {
        let path = &config.ca;
        let text = read(path, AUTHORITY_MAX_BYTES)
            .map_err(|source| FactoryError::File { path: path.clone(), source })?;
        let bad = || FactoryError::Authority { path: path.clone() };
        let root = CertificateDer::from(unwrap("CERTIFICATE", &text).ok_or_else(bad)?);
        let maker = Hash::of(&spki(&root).ok_or_else(bad)?);
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).map_err(|_| bad())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|_| bad())?;
        // A list that is not there would refuse every device, one at a time.
        read(&config.serials, LIST_MAX_BYTES)
            .map_err(|source| FactoryError::File { path: config.serials.clone(), source })?;
        Ok(Factory { maker, root, verifier, serials: config.serials.clone(), name: config.name.clone() })
    }
}

/// A device's serial number: where IEEE 802.1AR has it, in the subject, or else the certificate's own.
fn serial(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, read) = X509Certificate::from_der(leaf).ok()?;
    let of_device = read.subject().iter_by_oid(&OID_X509_SERIALNUMBER).next();
    let text = match of_device {
        Some(attribute) => attribute.as_str().ok()?.to_owned(),
        None => read.raw_serial_as_string(),
    };
    let serial = normal(&text);
    ((1..=SERIAL_MAX).contains(&serial.len()) && serial.is_ascii()).then_some(serial)
}

/// Upper case and colons are how somebody wrote it.
fn normal(serial: &str) -> String {
    serial.trim().replace(':', "").to_ascii_lowercase()
}

/// Whether it stands on the list: a serial number a line, `#` before remarks.
fn is_listed(list: &Path, serial: &str) -> bool {
    match read(list, LIST_MAX_BYTES) {
        Ok(text) => text.lines().any(|line| normal(line.split('#').next().unwrap_or_default()) == serial),
        Err(error) => {
            tracing::error!(%error, file = %list.display(), "the list of serial numbers cannot be read");
            false
        }
    }
}

fn read(path: &Path, max_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(max_bytes).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use package::trust::eckey::wrap;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};

    struct Maker {
        issuer: Issuer<'static, KeyPair>,
        certificate: CertificateDer<'static>,
    }

    fn maker() -> Maker {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "maker");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Maker { issuer: Issuer::new(params, key), certificate }
    }

    fn device(maker: &Maker, subject: Option<&str>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        if let Some(serial) = subject {
            params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 5]), serial);
        }
        params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xff]));
        params.signed_by(&KeyPair::generate().unwrap(), &maker.issuer).unwrap().der().clone()
    }

    #[test]
    fn a_maker_s_device_is_known_by_its_serial_number_and_by_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (maker(), maker());
        let (ca, serials) = (folder.path().join("maker.pem"), folder.path().join("allowed.txt"));
        std::fs::write(&ca, wrap("CERTIFICATE", &ours.certificate)).unwrap();
        let config = FactoryConfig { ca, serials: serials.clone(), name: "sn-{serial}".into() };
        let open = || Factories::open(std::slice::from_ref(&config));
        assert!(matches!(open(), Err(FactoryError::File { .. })), "the list is not there");
        std::fs::write(&serials, "# of the first batch\nAB-12/3 # pump\n0A:FF\n").unwrap();
        let factories = open().unwrap();
        let now_ms = 1_800_000_000_000;
        let found = |chain: &[CertificateDer<'_>]| factories.device(chain, now_ms);
        let known = found(&[device(&ours, Some("AB-12/3"))]).unwrap();
        assert_eq!((known.serial.as_str(), known.name.as_str()), ("ab-12/3", "sn-ab-12-3"));
        assert_eq!(known.maker, Hash::of(&spki(&ours.certificate).unwrap()));
        assert_eq!(found(&[device(&ours, None)]).unwrap().name.as_str(), "sn-0aff");
        assert_eq!(found(&[device(&ours, Some("AB-12/4"))]), Err(Refused::Serial));
        assert_eq!(found(&[device(&ours, Some("# of the first batch"))]), Err(Refused::Serial));
        assert_eq!(found(&[device(&ours, Some(""))]), Err(Refused::Maker));
        assert_eq!(found(&[device(&theirs, Some("AB-12/3"))]), Err(Refused::Maker));
        assert_eq!(found(&[]), Err(Refused::Maker));
        assert_eq!(factories.device(&[device(&ours, None)], 0), Err(Refused::Maker), "before its time");
        std::fs::write(&config.ca, "nothing").unwrap();
        assert!(matches!(open(), Err(FactoryError::Authority { .. })));
    }
}
