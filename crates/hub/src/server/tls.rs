//! TLS of the nodes' door: 1.3 only, hybrid key agreement first, certificates on both ends.
//!
//! A node's certificate that has only run out is let through, because by it alone a node that was off for long can renew; the
//! guard allows it nothing else. A node without one is let through, because it wants to enrol; and so is one with its maker's.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivateSec1KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use wire::world::{Clock, Entropy, WallMs};

use crate::config::nodes::NodesConfig;
use crate::identity::ca::{Ca, CaError, SERVER_LIFE_MS};
use crate::identity::factory::Factories;

/// The hub's own certificate, which changes while the door is open.
pub struct Own {
    names: Vec<String>,
    certified: Arc<Certified>,
    /// Until when it is not made anew.
    fresh_ms: RwLock<WallMs>,
}

impl Own {
    /// The first one.
    pub fn make(
        ca: &Ca,
        nodes: &NodesConfig,
        entropy: &mut dyn Entropy,
        clock: &dyn Clock,
    ) -> Result<Own, HubCertificateError> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let listen = nodes.listen.ip();
        let more = nodes.names.iter().cloned();
        for name in more.chain((!listen.is_unspecified()).then(|| listen.to_string())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let now_ms = clock.wall_ms();
        let certified = Arc::new(Certified(RwLock::new(certify(ca, &names, now_ms, entropy)?)));
        Ok(Own { names, certified, fresh_ms: RwLock::new(now_ms + SERVER_LIFE_MS / 3) })
    }

    /// Makes it anew if a third of its life is over.
    pub fn keep(
        &self,
        ca: &Ca,
        entropy: &mut dyn Entropy,
        clock: &dyn Clock,
    ) -> Result<(), HubCertificateError> {
        let now_ms = clock.wall_ms();
        if now_ms < *self.fresh_ms.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(());
        }
        let next = certify(ca, &self.names, now_ms, entropy)?;
        *self.certified.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        *self.fresh_ms.write().unwrap_or_else(PoisonError::into_inner) = now_ms + SERVER_LIFE_MS / 3;
        Ok(())
    }

    /// The settings of the nodes' door.
    pub fn settings(
        &self,
        ca: &Ca,
        factories: &Factories,
        clock: Arc<dyn Clock + Sync>,
    ) -> Result<ServerConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate().clone())?;
        for maker in factories.roots() {
            roots.add(maker.clone())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.allow_unauthenticated().build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        let builder = ServerConfig::builder_with_details(provider, Arc::new(Wall(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut settings = builder
            .with_client_cert_verifier(Arc::new(AlsoExpired(verifier)))
            .with_cert_resolver(self.certified.clone());
        settings.ticketer = aws_lc_rs::Ticketer::new()?;
        // A node has one connection after the other, and each gives it the ticket for the next.
        settings.send_tls13_tickets = 1;
        Ok(settings)
    }
}

/// Why the hub has no certificate for its door.
#[derive(Debug, thiserror::Error)]
pub enum HubCertificateError {
    /// It was not made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// TLS does not take it.
    #[error("TLS does not take the hub's own certificate")]
    Tls(#[from] Error),
}

/// The certificate with the authority's behind it, so that nodes which know only a digest of that can check the chain.
fn certify(
    ca: &Ca,
    names: &[String],
    now_ms: WallMs,
    entropy: &mut dyn Entropy,
) -> Result<Arc<CertifiedKey>, HubCertificateError> {
    let (certificate, key) = ca.server(names, now_ms, entropy)?;
    let der = PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(key.der().to_vec()));
    let key = aws_lc_rs::sign::any_supported_type(&der)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate, ca.certificate().clone()], key)))
}

#[derive(Debug)]
struct Certified(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certified {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The hub's wall clock, as rustls asks for it.
pub struct Wall(pub Arc<dyn Clock + Sync>);

impl std::fmt::Debug for Wall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wall")
    }
}

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        let ms = u64::try_from(self.0.wall_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

/// Takes certificates that would have been good while they counted. Whether one has run out, the table of keys says.
#[derive(Debug)]
struct AlsoExpired(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AlsoExpired {
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.0.verify_client_cert(leaf, chain, now) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                self.0.verify_client_cert(leaf, chain, not_after)
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
