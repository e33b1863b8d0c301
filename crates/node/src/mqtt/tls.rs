//! Settings of TLS to a broker. Files are read at each connection, so that a certificate that was renewed is shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::broker::Tls;

/// Why TLS cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{} cannot be used", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file without a certificate.
    #[error("{} has no certificate", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The system believes nobody.
    #[error("this machine has no list of authorities that it believes: name the broker's by `ca_file`")]
    NoAuthorities,
    /// What was read does not fit together.
    #[error("the certificates cannot be used")]
    Rustls(#[from] rustls::Error),
}

/// The settings as rustls takes them.
pub(super) fn settings(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            for authority in certificates(file)? {
                roots.add(authority)?;
            }
        }
        None => {
            // Those that cannot be read are left out; without any there is nobody to believe.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoAuthorities);
            }
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let settings = match &tls.own {
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| TlsError::File { file: key.clone(), source })?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(settings))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |source| TlsError::File { file: file.to_path_buf(), source };
    let read: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(refuse)?.collect::<Result<_, _>>().map_err(refuse)?;
    if read.is_empty() { Err(TlsError::Empty { file: file.to_path_buf() }) } else { Ok(read) }
}
