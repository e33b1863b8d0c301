//! A hub in a process of its own, so that what it takes is apart from what those take who ask it; and a fleet that it has let
//! in before: keys, certificates, and a rollout that is under way.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hub::config::HubConfig;
use hub::config::nodes::NodesConfig;
use hub::identity::ca::{Ca, Request};
use hub::rollout::execute::{Granted, Wish};
use hub::rollout::plan::{Gate, Lane, Plan, Rate, Target, Wave};
use hub::rollout::step::Order;
use hub::rollout::{documents, text};
use hub::server::Hub;
use hub::store;
use hub::store::database::Store;
use hub::store::{identity, nodes};
use hub::write::{self, Names, Written};
use package::name::ModelName;
use package::trust::canonical::{Value, to_json};
use package::trust::eckey::{EcKey, unwrap};
use rcgen::{CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivateSec1KeyDer};
use rustls::{ClientConfig, RootCertStore};
use sqlx::Connection as _;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::{Clock as _, System};

const DAY_MS: i64 = 86_400_000;

/// Says to a process that it shall be the hub of this folder.
const FOLDER: &str = "SELVEDGE_LOAD_HUB";

/// The release that the fleet runs, and the one that goes about.
pub const BEFORE: u64 = 6;
pub const AFTER: u64 = 7;

/// If this process was started to be a hub: is it, until its input ends.
pub fn be_hub_if_asked() -> bool {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return false };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = HubConfig::parse(&std::fs::read_to_string(folder.join("hub.toml")).unwrap()).unwrap();
        let hub = Hub::start(config, System::new()).await.unwrap();
        let (part, whole) = (folder.join("addresses.part"), folder.join("addresses"));
        std::fs::write(&part, format!("{} {}", hub.addr, hub.nodes_addr.unwrap())).unwrap();
        std::fs::rename(part, whole).unwrap();
        let asked = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        asked.await.unwrap().unwrap();
        hub.stop().await;
    });
    true
}

/// The hub.
pub struct Running {
    child: Child,
    pub people: SocketAddr,
    pub nodes: SocketAddr,
}

impl Running {
    /// `arguments`: by which this program comes to [`be_hub_if_asked`].
    pub fn start(folder: &Path, arguments: &[&str]) -> Running {
        let addresses = folder.join("addresses");
        let _ = std::fs::remove_file(&addresses);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..600 {
            if let Ok(text) = std::fs::read_to_string(&addresses) {
                let (people, nodes) = text.split_once(' ').unwrap();
                return Running { child, people: people.parse().unwrap(), nodes: nodes.parse().unwrap() };
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        child.kill().unwrap();
        panic!("the hub does not start: {}", child.wait().unwrap());
    }

    pub fn stop(mut self) {
        let mut input = self.child.stdin.take().unwrap();
        input.write_all(b"\n").unwrap();
        drop(input);
        assert!(self.child.wait().unwrap().success(), "the hub ended badly");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// What a process took so far: seconds of the processor, bytes that it holds, and the most that it held.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu_s: f64,
    pub rss_bytes: u64,
    pub peak_bytes: u64,
}

pub fn usage(pid: u32) -> Usage {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    Usage {
        cpu_s: (ticks(11) + ticks(12)) / 100.0,
        rss_bytes: kib("VmRSS:") * 1024,
        peak_bytes: kib("VmHWM:") * 1024,
    }
}

/// A node's key with its certificate.
pub struct Own {
    pub key: EcKey,
    pub certificate: CertificateDer<'static>,
}

/// How a fleet is to be.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    pub nodes: usize,
    /// One certificate in so many has run out; 0: none.
    pub expired_every: usize,
    pub check_in_ms: u64,
}

pub fn name(n: usize) -> NodeId {
    NodeId::new(&format!("node-{n:05}")).unwrap()
}

/// Makes the hub's folder: settings, keys, and a store that knows the fleet; the nodes' keys come back.
pub async fn settle(folder: &Path, fleet: Fleet) -> Vec<Own> {
    let any = "127.0.0.1:0".parse().unwrap();
    let config = HubConfig {
        listen: any,
        data: folder.to_owned(),
        check_in_ms: fleet.check_in_ms,
        nodes: Some(NodesConfig { listen: any, names: Vec::new(), connections_max: 2048 }),
        ..HubConfig::default()
    };
    std::fs::write(folder.join("hub.toml"), toml::to_string(&config).unwrap()).unwrap();
    let (mut world, mut store) = (System::new(), store::open(folder, None).await.unwrap());
    let now_ms = world.wall_ms();
    let ca = Ca::open_or_make(&folder.join("keys"), &mut world, now_ms).unwrap();
    let mut transaction = store.writer.begin().await.unwrap();
    let mut owns = Vec::with_capacity(fleet.nodes);
    for n in 0..fleet.nodes {
        let key = EcKey::draw(&mut world);
        let request = Request::read(&csr(&key)).unwrap();
        let expired = fleet.expired_every > 0 && n % fleet.expired_every == 0;
        let made_ms = if expired { now_ms - 10 * DAY_MS } else { now_ms };
        let issued = ca.issue(&request, &name(n), 5 * DAY_MS, made_ms, &mut world).unwrap();
        let node = nodes::add(&mut transaction, &name(n), now_ms, fleet.check_in_ms).await.unwrap();
        identity::put_key(&mut transaction, &request.id(), node, &issued, made_ms).await.unwrap();
        owns.push(Own { key, certificate: issued.certificate.into() });
    }
    transaction.commit().await.unwrap();
    close(store).await;
    owns
}

/// All nodes were last heard a day ago.
pub async fn a_day_passes(folder: &Path) {
    let mut store = store::open(folder, None).await.unwrap();
    let silent = "UPDATE nodes SET silent = 1, last_seen_ms = last_seen_ms - 86400000, \
        checked_in_ms = checked_in_ms - 86400000";
    sqlx::query(silent).execute(&mut store.writer).await.unwrap();
    close(store).await;
}

async fn close(store: Store) {
    store.writer.close().await.unwrap();
    store.readers.close().await;
}

/// A request for a certificate for this key, DER.
pub fn csr(key: &EcKey) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(&Signing(key)).unwrap().der().to_vec()
}

struct Signing<'a>(&'a EcKey);

impl PublicKeyData for Signing<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.point()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signing<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).unwrap())
    }
}

/// Believes the hub of this folder.
pub fn believer(folder: &Path) -> Arc<WebPkiServerVerifier> {
    let pem = std::fs::read_to_string(folder.join("keys/ca.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(unwrap("CERTIFICATE", &pem).unwrap().into()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

/// TLS as a node speaks it; each has tickets of its own.
pub fn tls(
    own: &Own,
    believer: &Arc<WebPkiServerVerifier>,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Arc<ClientConfig> {
    let key = PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(own.key.der().to_vec()));
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let builder = builder.with_webpki_verifier(believer.clone());
    let mut config = builder.with_client_auth_cert(vec![own.certificate.clone()], key).unwrap();
    config.resumption = Resumption::in_memory_sessions(1);
    Arc::new(config)
}

/// A release to everybody in two waves, the first of a tenth; signed by nobody in particular, and started.
pub async fn roll_out(folder: &Path, nodes: usize, soak_s: u32) {
    let target = |release: u64| {
        let (model, index) = (ModelName::new("smollm2").unwrap(), Hash::of(&release.to_be_bytes()));
        Target { model, release, index, size: 2300, variant: None }
    };
    let gate = Gate { min_reports: nodes as u32 / 20, soak_s, ..Gate::of_first_wave() };
    let waves = [205, 2048].map(|to| Wave { to, gate: gate.clone() });
    let mut plan = Plan {
        what: vec![target(AFTER)],
        revert: vec![target(BEFORE)],
        group: "ram >= 1GiB && site == \"oslo\"".to_owned(),
        canary: Vec::new(),
        waves: waves.to_vec(),
        hold_out_percent: 0,
        budget: Vec::new(),
        rate: Rate::default(),
        when: None,
        lane: Lane::Normal,
        valid_s: 30 * 86_400,
        revert_on_stop: true,
        approvals: 0,
        allow_rollback: false,
        created_by: "ann".to_owned(),
        created_ms: System::new().wall_ms() / 1000 * 1000,
        note: String::new(),
        targets_version: 1,
        salt: [0; 8],
    };
    plan.salt = text::salt(&plan);
    let id = text::id(&plan);
    // As long as a hybrid signature is.
    let signature = Value::object([("keyid", "00".repeat(32).into()), ("sig", "5a".repeat(2600).into())]);
    let signed = |planned: documents::Planned| {
        let signatures = ("signatures", Value::List(vec![signature.clone()]));
        (planned.kind, to_json(&Value::object([("signed", planned.value), signatures])))
    };
    let documents = documents::of(&plan).into_iter().map(signed).collect();
    let who = || "operator:ann".to_owned();
    let wishes = [
        Wish::Create { plan: Box::new(plan.clone()), who: who() },
        Wish::Sign { id, documents, who: who() },
        Wish::Order { id, order: Order::Start, who: who(), why: String::new(), revision: None },
    ];
    let mut store = store::open(folder, None).await.unwrap();
    let (mut names, now_ms) = (Names::default(), System::new().wall_ms());
    for wish in wishes {
        let mut transaction = store.writer.begin().await.unwrap();
        let last_record = write::begin(&mut transaction, &mut names, "author").await.unwrap();
        let granted = names.rollouts.grant(&mut transaction, &wish, now_ms).await.unwrap();
        assert!(matches!(granted, Ok(Granted::Rollout(_))), "{granted:?}");
        write::end(&mut transaction, &mut names, last_record, now_ms, &mut Written::default()).await.unwrap();
        transaction.commit().await.unwrap();
    }
    close(store).await;
}
