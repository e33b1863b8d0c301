//! TLS to the hub: 1.3 only, hybrid key agreement first, this node's certificate shown, and nobody believed but the hub's authority.

use std::sync::{Arc, PoisonError, RwLock};

use package::trust::eckey::EcKey;
use reqwest::ClientBuilder;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue, WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivateSec1KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore, SignatureScheme,
};
use wire::identity::Code;

use crate::identity::files::{Pair, public_of};
use crate::judged::Judged;
use crate::via::Via;

/// How many tickets are kept: for one hub.
const TICKETS: usize = 16;

/// Settings of TLS to the hub, and the way there, for whoever asks it anything. Clones share the certificate that is shown, and who
/// is believed.
#[derive(Debug, Clone)]
pub struct HubTls {
    settings: Arc<ClientConfig>,
    shown: Arc<Shown>,
    pinned: Arc<Verifier<Pinned>>,
    tickets: Arc<Tickets>,
    via: Option<Arc<Via>>,
}

impl HubTls {
    /// Of a node that has not come in yet: nobody is believed, so nothing is said to anybody. Certificates are judged by the time
    /// of `judged`, which hears where only dates do not fit.
    pub fn closed(judged: Arc<Judged>) -> Result<HubTls, Error> {
        let (shown, tickets) = (Arc::new(Shown::default()), Arc::new(Tickets::default()));
        let pinned = Verifier::new(Pinned { inner: RwLock::new(None), judged: judged.clone() });
        let mut settings = tls13(judged, pinned.clone())?.with_client_cert_resolver(shown.clone());
        settings.resumption = Resumption::store(tickets.clone());
        Ok(HubTls { settings: Arc::new(settings), shown, pinned, tickets, via: None })
    }

    /// The same, where relays are on the way.
    #[must_use]
    pub fn through(self, via: Option<Arc<Via>>) -> HubTls {
        HubTls { via, ..self }
    }

    /// The relays on the way, if there are any.
    pub fn via(&self) -> Option<&Arc<Via>> {
        self.via.as_ref()
    }

    /// Has a client ask the hub and nobody else.
    pub fn client(&self, builder: ClientBuilder) -> ClientBuilder {
        client(builder, self.settings(), self.via.as_ref())
    }

    /// Believes only `authority` from now on, and shows `pair`.
    pub fn open(&self, pair: &Pair, authority: CertificateDer<'static>) -> Result<(), Error> {
        let verifier = only(authority)?;
        *self.pinned.judge.inner.write().unwrap_or_else(PoisonError::into_inner) = Some(verifier);
        self.show(pair)
    }

    /// Another certificate from now on. Tickets stand for the one before, so they go.
    pub fn show(&self, pair: &Pair) -> Result<(), Error> {
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Some(certified(pair)?);
        self.tickets.forget();
        Ok(())
    }

    /// The hub refused whoever came. A ticket of a connection with the certificate before may have arrived after that one was
    /// replaced: the next connection shows what is shown now.
    pub fn refused(&self) {
        self.tickets.forget();
    }

    /// As reqwest takes them.
    pub fn settings(&self) -> ClientConfig {
        (*self.settings).clone()
    }
}

/// Has a client ask the hub with these settings, by the relays on the way there.
pub(crate) fn client(
    builder: ClientBuilder,
    settings: ClientConfig,
    via: Option<&Arc<Via>>,
) -> ClientBuilder {
    let builder = builder.tls_backend_preconfigured(settings);
    match via {
        Some(via) => builder.proxy(via.proxy()),
        None => builder,
    }
}

/// For the one call by which a node with a wrong clock asks the time: dates are not looked at, and no certificate is shown.
pub fn undated(authority: CertificateDer<'static>, judged: Arc<Judged>) -> Result<ClientConfig, Error> {
    let verifier = Verifier::new(Undated(only(authority)?));
    Ok(tls13(judged, verifier)?.with_no_client_auth())
}

/// For coming in with the certificate of the device's maker: the hub is the one whose authority the device was told.
pub fn by_maker(
    shown: Arc<CertifiedKey>,
    authority: CertificateDer<'static>,
    judged: Arc<Judged>,
) -> Result<ClientConfig, Error> {
    let verifier = Verifier::new(Undated(only(authority)?));
    let shown = Arc::new(Shown(RwLock::new(Some(shown))));
    Ok(tls13(judged, verifier)?.with_client_cert_resolver(shown))
}

/// For coming in: the hub is the one whose authority the code names. The code is an hour old, whatever the clock says.
pub fn by_code(code: Code, judged: Arc<Judged>) -> Result<ClientConfig, Error> {
    Ok(tls13(judged, Verifier::new(ByCode(code)))?.with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn tls13(
    judged: Arc<Judged>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, Error> {
    let builder = ClientConfig::builder_with_details(provider(), judged);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// Believes one authority.
fn only(authority: CertificateDer<'static>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    built.map_err(|error| Error::General(error.to_string()))
}

fn certified(pair: &Pair) -> Result<Arc<CertifiedKey>, Error> {
    let key = signing(&pair.key)?;
    Ok(Arc::new(CertifiedKey::new(vec![pair.certificate.clone()], key)))
}

fn signing(key: &EcKey) -> Result<Arc<dyn rustls::sign::SigningKey>, Error> {
    let der = PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(key.der().to_vec()));
    aws_lc_rs::sign::any_supported_type(&der)
}

/// The certificate that is shown, if there is one.
#[derive(Debug, Default)]
struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Tickets that can be forgotten.
#[derive(Debug)]
struct Tickets(RwLock<ClientSessionMemoryCache>);

impl Default for Tickets {
    fn default() -> Tickets {
        Tickets(RwLock::new(ClientSessionMemoryCache::new(TICKETS)))
    }
}

impl Tickets {
    fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ClientSessionMemoryCache::new(TICKETS);
    }

    fn with<T>(&self, work: impl FnOnce(&ClientSessionMemoryCache) -> T) -> T {
        work(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.with(|store| store.set_kx_hint(name, group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(|store| store.kx_hint(name))
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(|store| store.set_tls12_session(name, value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|store| store.tls12_session(name))
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.with(|store| store.remove_tls12_session(name));
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(|store| store.insert_tls13_ticket(name, value));
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(|store| store.take_tls13_ticket(name))
    }
}

/// The time at which a certificate that fails for its dates only would have been good.
fn date_that_fits(error: &Error) -> Option<UnixTime> {
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => Some(*not_after),
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            Some(*not_before)
        }
        _ => None,
    }
}

/// Who the hub is: of the three ways to look at its certificate each says only this.
trait Judge: std::fmt::Debug + Send + Sync {
    fn judge(&self, sent: &Sent<'_>, now: UnixTime) -> Result<ServerCertVerified, Error>;
}

/// What the hub sent of itself.
struct Sent<'a> {
    leaf: &'a CertificateDer<'a>,
    chain: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    ocsp: &'a [u8],
}

impl Sent<'_> {
    /// An authority vouches for it at this time.
    fn verify_at(&self, by: &WebPkiServerVerifier, at: UnixTime) -> Result<ServerCertVerified, Error> {
        by.verify_server_cert(self.leaf, self.chain, self.name, self.ocsp, at)
    }

    /// The same, at whatever time.
    fn verify_at_any_time(
        &self,
        by: &WebPkiServerVerifier,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verify_at(by, now);
        match verified.as_ref().err().and_then(date_that_fits) {
            Some(then) => self.verify_at(by, then),
            None => verified,
        }
    }
}

/// A judge as rustls asks for it. Signatures are checked the same, whoever judges.
#[derive(Debug)]
struct Verifier<J> {
    judge: J,
    schemes: Arc<CryptoProvider>,
}

impl<J: Judge> Verifier<J> {
    fn new(judge: J) -> Arc<Verifier<J>> {
        Arc::new(Verifier { judge, schemes: provider() })
    }
}

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge.judge(&Sent { leaf, chain, name, ocsp }, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = &self.schemes.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signed, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = &self.schemes.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signed, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.signature_verification_algorithms.supported_schemes()
    }
}

/// The chain ends in the one authority, and counts now; where it would have counted at another time, the time is doubted.
#[derive(Debug)]
struct Pinned {
    inner: RwLock<Option<Arc<WebPkiServerVerifier>>>,
    judged: Arc<Judged>,
}

impl Judge for Pinned {
    fn judge(&self, sent: &Sent<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner).clone();
        let inner = inner.ok_or_else(|| Error::General("this node has not come in yet".to_owned()))?;
        let verified = sent.verify_at(&inner, now);
        if verified.is_err() && sent.verify_at_any_time(&inner, now).is_ok() {
            self.judged.doubt();
        }
        verified
    }
}

/// The chain ends in the one authority, at whatever time.
#[derive(Debug)]
struct Undated(Arc<WebPkiServerVerifier>);

impl Judge for Undated {
    fn judge(&self, sent: &Sent<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
        sent.verify_at_any_time(&self.0, now)
    }
}

/// The chain ends in the authority whose digest stands in the code.
#[derive(Debug)]
struct ByCode(Code);

impl Judge for ByCode {
    fn judge(&self, sent: &Sent<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
        let meant = |sent: &&CertificateDer<'_>| public_of(sent).is_some_and(|key| self.0.is_authority(&key));
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = sent.chain.iter().find(meant).ok_or_else(unknown)?;
        let authority = only(authority.clone().into_owned())?;
        sent.verify_at_any_time(&authority, now)
    }
}
