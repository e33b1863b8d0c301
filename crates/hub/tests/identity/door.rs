//! A hub with a door for nodes, and devices that knock at it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hub::config::HubConfig;
use hub::config::nodes::NodesConfig;
use hub::config::people::TlsConfig;
use hub::server::{Hub, Running};
use package::trust::eckey::{EcKey, unwrap, wrap};
use rcgen::{CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};
use reqwest::{Client, Method};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivateSec1KeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use wire::identity::{PROOF_HEADER, ticket_path};
use wire::world::{Clock, Simulated};

pub const DAY_MS: u64 = 86_400_000;

/// A hub whose nodes' certificates count for a day.
pub struct Stand {
    pub hub: Running,
    pub folder: tempfile::TempDir,
    pub world: Simulated,
    /// The first admin's token; empty where there is none.
    pub admin: String,
    /// What people's programs believe beside.
    pub believed: Option<CertificateDer<'static>>,
}

/// A certificate for this machine, which nobody vouches for, in two files of `folder`.
pub fn certificate(folder: &Path, seed: u64) -> (TlsConfig, CertificateDer<'static>) {
    let key = Own(EcKey::draw(&mut Simulated::new(seed)));
    let made = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let made = made.self_signed(&key).unwrap();
    let files = TlsConfig { cert: folder.join("people.pem"), key: folder.join("people.key") };
    std::fs::write(&files.cert, wrap("CERTIFICATE", made.der())).unwrap();
    std::fs::write(&files.key, key.0.pem().as_str()).unwrap();
    (files, made.der().clone())
}

impl Stand {
    pub async fn new() -> Stand {
        Stand::with(1).await
    }

    /// Another seed, another authority.
    pub async fn with(seed: u64) -> Stand {
        Stand::set(seed, tempfile::tempdir().unwrap(), |_| ()).await
    }

    /// A hub with the authority of another, and a database that knows nothing.
    pub async fn restored(other: &Stand, seed: u64) -> Stand {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("keys")).unwrap();
        for file in std::fs::read_dir(other.folder.path().join("keys")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join("keys").join(file.file_name())).unwrap();
        }
        Stand::set(seed, folder, |_| ()).await
    }

    /// With settings that `change` makes.
    pub async fn set(seed: u64, folder: tempfile::TempDir, change: impl FnOnce(&mut HubConfig)) -> Stand {
        let any = "127.0.0.1:0".parse().unwrap();
        let mut config = HubConfig { listen: any, data: folder.path().to_owned(), ..HubConfig::default() };
        config.nodes =
            Some(NodesConfig { listen: any, names: vec!["hub.example.org".into()], connections_max: 64 });
        config.identity.node_days = 1;
        change(&mut config);
        let world = Simulated::new(seed);
        let hub = Hub::start(config, world.clone()).await.unwrap();
        let admin = std::fs::read_to_string(folder.path().join("first-admin.token")).unwrap_or_default();
        Stand { hub, folder, world, admin: admin.trim().to_owned(), believed: None }
    }

    /// The address of the nodes' door.
    pub fn nodes_url(&self) -> String {
        format!("https://{}", self.hub.nodes_addr.unwrap())
    }

    /// Asks at the people's door with a token; status and body.
    pub async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.hub.url());
        let request = self.client(None).request(method, url).bearer_auth(token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        told(request.send().await.unwrap()).await
    }

    /// Makes a code.
    pub async fn code(&self, ask: Value) -> String {
        let (status, made) = self.ask(&self.admin, Method::POST, "/api/v1/enrolments", Some(ask)).await;
        assert_eq!(status, 201, "{made}");
        made["code"].as_str().unwrap().to_owned()
    }

    /// A device that has come in under this name, and speaks with its certificate.
    pub async fn enrolled(&self, name: &str, seed: u64) -> Device {
        let mut device = Device::new(seed);
        let (status, answer) = device.enrol(self, &self.code(json!({ "name": name })).await, None).await;
        assert_eq!(status, 201, "{answer}");
        device.take(&answer["certificate"]);
        device
    }

    pub fn authority(&self) -> CertificateDer<'static> {
        let pem = std::fs::read_to_string(self.folder.path().join("keys/ca.pem")).unwrap();
        unwrap("CERTIFICATE", &pem).unwrap().into()
    }

    /// A client that believes this hub, at both doors, with this certificate.
    pub fn client(&self, shown: Option<(&CertificateDer<'static>, &EcKey)>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority()).unwrap();
        self.believed.iter().for_each(|certificate| roots.add(certificate.clone()).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let time = Arc::new(Time(self.world.clone()));
        let builder = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(key.der().to_vec()));
                builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let timeout = Duration::from_secs(20);
        Client::builder().tls_backend_preconfigured(config).timeout(timeout).build().unwrap()
    }
}

pub async fn told(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The word of a refusal.
pub fn word((status, body): (u16, Value)) -> (u16, String) {
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[derive(Debug)]
struct Time(Simulated);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.wall_ms() as u64)))
    }
}

/// A key, and the certificate for it.
pub struct Device {
    pub key: Own,
    pub certificate: Option<CertificateDer<'static>>,
}

pub struct Own(pub EcKey);

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
        Ok(self.0.sign(message).unwrap())
    }
}

impl Device {
    pub fn new(seed: u64) -> Device {
        Device { key: Own(EcKey::draw(&mut Simulated::new(1_000 + seed))), certificate: None }
    }

    pub fn csr(&self) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        BASE64_STANDARD.encode(params.serialize_request(&self.key).unwrap().der())
    }

    pub fn take(&mut self, certificate: &Value) {
        let der = BASE64_STANDARD.decode(certificate.as_str().unwrap()).unwrap();
        self.certificate = Some(der.into());
    }

    pub fn client(&self, stand: &Stand) -> Client {
        stand.client(self.certificate.as_ref().map(|certificate| (certificate, &self.key.0)))
    }

    pub async fn enrol(&self, stand: &Stand, code: &str, name: Option<&str>) -> (u16, Value) {
        let mut ask = json!({ "code": code, "csr": self.csr() });
        if let Some(name) = name {
            ask["name"] = name.into();
        }
        let url = format!("{}/api/v1/enrol", stand.nodes_url());
        told(stand.client(None).post(url).json(&ask).send().await.unwrap()).await
    }

    /// Asks what became of a ticket.
    pub async fn asks_again(&self, stand: &Stand, ticket: &str) -> (u16, Value) {
        let url = format!("{}{}", stand.nodes_url(), ticket_path(ticket));
        told(stand.client(None).get(url).header(PROOF_HEADER, self.csr()).send().await.unwrap()).await
    }

    /// Asks for a certificate for the key of `next` with the one of this device.
    pub async fn renew(&self, stand: &Stand, next: &Device) -> (u16, Value) {
        let url = format!("{}/api/v1/identity/renew", stand.nodes_url());
        told(self.client(stand).post(url).json(&json!({ "csr": next.csr() })).send().await.unwrap()).await
    }
}
