//! TLS of the people's door: a certificate that others made, in files that may change while the door is open.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use wire::world::Clock;
use zeroize::Zeroizing;

use crate::config::people::TlsConfig;
use crate::server::tls::Wall;

/// The largest of the files.
const FILE_MAX_BYTES: u64 = 256 << 10;

/// Why there is no certificate for people.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// A file.
    #[error("cannot read {} of [tls]; the hub's user must be able to", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What stands in it.
    #[error("{} of [tls] does not hold what it should, as PEM", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The two do not belong together, or are of no kind that TLS takes.
    #[error("key and cert of [tls] are not a pair that TLS takes")]
    Pair(#[from] rustls::Error),
}

/// The certificate that people see.
#[derive(Debug)]
pub struct Shown {
    files: TlsConfig,
    certified: Arc<Certified>,
    /// The files' times and lengths when they were read.
    seen: RwLock<Seen>,
}

type Seen = [Option<(SystemTime, u64)>; 2];

impl Shown {
    /// Reads it.
    pub fn open(files: &TlsConfig) -> Result<Shown, PeopleError> {
        let seen = look(files);
        let certified = Arc::new(Certified(RwLock::new(read(files)?)));
        Ok(Shown { files: files.clone(), certified, seen: RwLock::new(seen) })
    }

    /// Reads it again if the files changed. Where they hold no pair, as between the writing of one and of the other, what was
    /// read before goes on, and they are looked at again when they change again.
    pub fn keep(&self) -> Result<(), PeopleError> {
        let seen = look(&self.files);
        if *self.seen.read().unwrap_or_else(PoisonError::into_inner) == seen {
            return Ok(());
        }
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = seen;
        let next = read(&self.files)?;
        *self.certified.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        tracing::info!(file = %self.files.cert.display(), "people see another certificate from now on");
        Ok(())
    }

    /// The settings of the people's door.
    pub fn settings(&self, clock: Arc<dyn Clock + Sync>) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_details(provider, Arc::new(Wall(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut settings = builder.with_no_client_auth().with_cert_resolver(self.certified.clone());
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        settings.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(settings)
    }
}

#[derive(Debug)]
struct Certified(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certified {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn look(files: &TlsConfig) -> Seen {
    [&files.cert, &files.key].map(|path| {
        let met = fs::metadata(path).ok()?;
        Some((met.modified().ok()?, met.len()))
    })
}

fn read(files: &TlsConfig) -> Result<Arc<CertifiedKey>, PeopleError> {
    let no_pem = |path: &Path| {
        let path = path.to_owned();
        move |source| PeopleError::Pem { path, source }
    };
    let chain = CertificateDer::pem_slice_iter(&bytes(&files.cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(no_pem(&files.cert))?;
    if chain.is_empty() {
        return Err(no_pem(&files.cert)(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?).map_err(no_pem(&files.key))?;
    let certified = CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(&key)?);
    certified.keys_match()?;
    Ok(Arc::new(certified))
}

fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, PeopleError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(FILE_MAX_BYTES).read_to_end(&mut bytes));
    read.map_err(|source| PeopleError::File { path: path.to_owned(), source })?;
    Ok(bytes)
}
