//! A node as the hub sees it: connections with tickets, check-ins, facts by difference, records that wait while the hub wants
//! quiet, a release that is tried and committed, calls that wait for news.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use package::trust::eckey::EcKey;
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use serde_json::{Map, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use wire::batch::{BatchAnswer, CONTENT_TYPE};
use wire::body::{Behaviour, Install};
use wire::checkin::{
    AcceptedVersion, CandidateState, CheckIn, CheckInAnswer, CurrentState, Inventory, Quiet, SlotState,
    StreamState,
};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{BootId, StreamName};
use wire::world::{Clock as _, Entropy as _, System};

use crate::fleet::FakeNode;
use crate::stand::{self, BEFORE, Own};
use crate::tally::Tally;

const SUMMARY: &str = r#"{"source":"pump","from_ms":1795234717149,"to_ms":1795234727149,"count":100,"channels":[{"channel":"pressure_bar","min":5.1,"mean":5.2,"max":5.3},{"channel":"flow_l_min","min":180.5,"mean":182.1,"max":184.2},{"channel":"vibration_mm_s","min":1.9,"mean":2.1,"max":2.4}],"models":[{"model":"health","score":0.25,"probability":0.01}]}"#;

/// How many records go into one batch at most.
const BATCH: usize = 100;

/// What all nodes share.
pub struct World {
    pub door: std::sync::Mutex<SocketAddr>,
    pub believer: Arc<WebPkiServerVerifier>,
    pub provider: Arc<CryptoProvider>,
    pub tally: Tally,
    pub began: Instant,
    /// How long a candidate is tried.
    pub trial: Duration,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub enum Failed {
    /// 503: come again after so long.
    Later(Duration),
    /// No connection, or one that broke.
    Broken,
    /// Another answer than any node should get.
    Odd,
}

pub struct Node {
    pub fake: FakeNode,
    own: Own,
    tls: Arc<ClientConfig>,
    world: Arc<World>,
    hub: Option<String>,
    revision: Option<u64>,
    accepted: Vec<AcceptedVersion>,
    release: u64,
    candidate: Option<(u64, Instant)>,
    /// The number of the state of its facts that it told, and whether the hub has it.
    facts: (u64, bool),
    /// Records that lie in its outbox and are not written out here yet, by stream.
    pub outbox: Vec<(&'static str, Class, u64)>,
    quiet: [Option<Instant>; 4],
    visits: u64,
    pub next: Instant,
    /// Until when it holds a call, if it does.
    pub bell: Arc<Notify>,
    held: Option<tokio::task::JoinHandle<()>>,
    pub is_expired: bool,
    /// Its last visit came to nothing; it waits until it checks in again.
    pub was_sent_away: bool,
}

impl Node {
    pub fn new(n: usize, own: Own, world: &Arc<World>, http: &reqwest::Client) -> Node {
        let tls = stand::tls(&own, &world.believer, &world.provider);
        Node {
            fake: FakeNode::with(http.clone(), "", stand::name(n).as_str(), 1000 + n as u64),
            own,
            tls,
            world: world.clone(),
            hub: None,
            revision: None,
            accepted: Vec::new(),
            release: BEFORE,
            candidate: None,
            facts: (0, false),
            outbox: Vec::new(),
            quiet: [None; 4],
            visits: 0,
            next: Instant::now(),
            bell: Arc::default(),
            held: None,
            is_expired: false,
            was_sent_away: false,
        }
    }

    /// Goes on elsewhere, as after a day without power: another run, the same journal.
    pub fn enter(&mut self, world: &Arc<World>) {
        self.world = world.clone();
        self.held = None;
        self.quiet = [None; 4];
        self.facts = (0, false);
        self.fake.boot = BootId::random(&mut System::new());
    }

    /// Whether audit records are not told yet.
    pub fn owes_audit(&self) -> bool {
        let written = self.fake.streams.values().filter(|stream| !stream.unsent.is_empty());
        let lying = self.outbox.iter().filter(|(_, _, count)| *count > 0).map(|(_, class, _)| *class);
        written.map(|stream| stream.class).chain(lying).any(|class| class == Class::Audit)
    }

    /// Writes so many summaries.
    pub fn measure(&mut self, count: u64) {
        let wall_ms = System::new().wall_ms();
        for _ in 0..count {
            self.fake.write_text("metrics", Class::Metric, "summary", wall_ms, SUMMARY);
        }
    }

    /// How its model behaved.
    pub fn behave(&mut self) {
        let wall_ms = System::new().wall_ms();
        let behaviour = Behaviour {
            id: format!("{}-b-{}", self.fake.boot, self.visits),
            model: "smollm2".into(),
            manifest: Hash::of(&self.release.to_be_bytes()),
            rollout: None,
            from_ms: wall_ms - 600_000,
            to_ms: wall_ms,
            answered: 812,
            failed: 0,
            abstained: None,
            latency_ms: Some(serde_json::from_value(json!({"p50": 18, "p95": 41, "n": 812})).unwrap()),
            rss_bytes: Some(900_000_000),
            joules: None,
            drift: None,
            restarts: 0,
            shadow: None,
        };
        self.fake.write("behaviour", Class::Metric, wall_ms, &behaviour);
    }

    /// Whether something is not told yet.
    pub fn owes(&self) -> bool {
        self.fake.streams.values().any(|stream| !stream.unsent.is_empty())
            || self.outbox.iter().any(|(_, _, count)| *count > 0)
    }

    /// When it may next tell something that it owes; `None` if it owes nothing.
    pub fn ready(&self) -> Option<Instant> {
        let written = self.fake.streams.values().filter(|stream| !stream.unsent.is_empty());
        let written = written.map(|stream| stream.class);
        let lying = self.outbox.iter().filter(|(_, _, count)| *count > 0).map(|(_, class, _)| *class);
        let now = Instant::now();
        written.chain(lying).map(|class| self.quiet[class as usize].unwrap_or(now)).min()
    }

    fn says(&mut self) -> CheckIn {
        let wall_ms = System::new().wall_ms();
        let (seq, is_held) = self.facts;
        let inventory = if !is_held {
            let set = json!({
                "arch": "x86_64", "os": "linux", "kernel": "6.1.0-18-amd64", "cpu": "Intel(R) Atom(TM) x6425E",
                "cores": 4, "isa": ["avx2", "fma", "sse4.2"], "ram": 8_230_100_992_u64, "disk": 51_200_000_000_u64,
                "version": "0.1.0", "flow": "pump", "link": "up", "site": "oslo", "line": "2", "relay": false,
                "model.smollm2": self.release, "variant.smollm2": "q4_k_m"
            });
            self.facts.0 = seq + 1;
            Inventory {
                seq: seq + 1,
                base: 0,
                set: serde_json::from_value(set).unwrap(),
                ..Inventory::default()
            }
        } else if self.visits.is_multiple_of(50) {
            let set = json!({ "disk": 51_200_000_000 - self.visits * 4096, "model.smollm2": self.release });
            self.facts.0 = seq + 1;
            Inventory {
                seq: seq + 1,
                base: seq,
                set: serde_json::from_value(set).unwrap(),
                ..Inventory::default()
            }
        } else {
            Inventory { seq, base: seq, ..Inventory::default() }
        };
        let (manifest, variant) = (Hash::of(&self.release.to_be_bytes()), "q4_k_m".into());
        let candidate =
            |(release, _)| CandidateState { release, phase: "trial".into(), misses: 0, extra: Map::new() };
        let slot = SlotState {
            model: "smollm2".into(),
            current: Some(CurrentState { release: self.release, variant, manifest, extra: Map::new() }),
            previous: None,
            candidate: self.candidate.map(candidate),
            spare: None,
            safe: None,
            waits: None,
            extra: Map::new(),
        };
        let mut said = CheckIn {
            hub: self.hub.clone(),
            revision: self.revision,
            accepted: self.accepted.clone(),
            slots: vec![slot],
            inventory: Some(inventory),
            ..self.fake.checkin(wall_ms)
        };
        for (name, class, count) in &self.outbox {
            let stream = StreamName::new(name).unwrap();
            match said.streams.iter_mut().find(|state| state.stream == stream) {
                Some(state) => state.last += count,
                None => said.streams.push(StreamState {
                    stream,
                    class: *class,
                    last: *count,
                    acked: 0,
                    head: None,
                    extra: Map::new(),
                }),
            }
        }
        said
    }

    fn hears(&mut self, answer: CheckInAnswer) {
        self.facts.1 = !answer.full;
        if answer.full {
            self.facts.0 += 1;
        }
        assert_eq!(answer.paused, None);
        self.hub = answer.hub;
        for watermark in answer.watermarks {
            let stream = watermark.stream.to_string();
            if self.fake.streams.contains_key(&stream) {
                let settled = BatchAnswer { outcome: wire::batch::Outcome::Stored, watermark };
                self.fake.acknowledge(&stream, &settled);
            }
        }
        let now = Instant::now();
        self.quiet = [None; 4];
        for Quiet { class, ms } in answer.quiet {
            self.quiet[class as usize] = Some(now + Duration::from_millis(ms));
        }
        let jitter = 0.9 + 0.2 * System::new().unit();
        self.next = now + Duration::from_millis(answer.next_ms).mul_f64(jitter);
        if let Some(desired) = answer.desired {
            self.revision = self.revision.max(Some(desired.revision));
            for document in desired.documents {
                let said: serde_json::Value = serde_json::from_slice(document.bytes()).unwrap();
                let signed = &said["signed"];
                let (id, version) = (signed["id"].as_str().unwrap(), signed["version"].as_u64().unwrap());
                self.accepted.push(AcceptedVersion { id: id.to_owned(), version, rollout: None });
                let release = signed["models"][0]["release"].as_u64().unwrap();
                self.candidate = Some((release, now + self.world.trial));
                // It says at once that it has it.
                self.next = now + Duration::from_secs(1);
            }
        }
        if answer.poll_ms == 0 {
            if let Some(held) = self.held.take() {
                held.abort();
            }
        } else if self.held.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let (tls, world, bell, revision) =
                (self.tls.clone(), self.world.clone(), self.bell.clone(), self.revision);
            self.held = Some(tokio::spawn(async move {
                let Ok(mut link) = Link::new(&tls, &world).await else { return };
                let path = format!("/api/v1/wait?revision={}", revision.unwrap_or(0));
                let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
                let Ok(answer) = link.sender.send_request(request).await else { return };
                if answer.status() == 200 {
                    world.tally.rung.fetch_add(1, Relaxed);
                    bell.notify_one();
                }
            }));
        }
    }

    /// Ends a trial whose time has come.
    fn try_out(&mut self) {
        let Some((release, until)) = self.candidate else { return };
        if Instant::now() < until {
            return;
        }
        let install = Install {
            id: format!("{}-{release}-smollm2", self.fake.boot),
            model: "smollm2".into(),
            release,
            variant: None,
            index: Hash::of(&release.to_be_bytes()),
            manifest: None,
            outcome: "committed".to_owned(),
            phase: None,
            why: String::new(),
            attempt: 1,
            load_ms: None,
            p95_ms: None,
            rss_bytes: None,
            joules: None,
            rollout: None,
            kernel_same: Some(true),
        };
        (self.release, self.candidate) = (release, None);
        self.fake.write("installs", Class::Audit, System::new().wall_ms(), &install);
        self.world.tally.installs.fetch_add(1, Relaxed);
    }

    /// Goes to the hub: checks in if it is time, sends what it may, and goes.
    pub async fn visit(&mut self, check_in: bool) -> Result<(), Failed> {
        if self.is_expired {
            self.renew().await?;
        }
        self.visits += 1;
        self.try_out();
        let mut link = Link::new(&self.tls, &self.world).await?;
        if check_in {
            let body = serde_json::to_vec(&self.says()).unwrap();
            let (answer, took) = link.post(&self.world, "/api/v1/checkin", "application/json", body).await?;
            self.world.tally.check_ins.add(took);
            self.hears(serde_json::from_slice(&answer).unwrap());
        }
        loop {
            let now = Instant::now();
            let may = |class: Class| self.quiet[class as usize].is_none_or(|until| until <= now);
            let written = self.fake.streams.iter().filter(|(_, stream)| !stream.unsent.is_empty());
            let written = written.map(|(name, stream)| (stream.class, name.clone()));
            let lying = self.outbox.iter().filter(|(_, _, count)| *count > 0);
            let lying = lying.map(|(name, class, _)| (*class, (*name).to_owned()));
            let Some((class, stream)) = written.chain(lying).filter(|(class, _)| may(*class)).min() else {
                return Ok(());
            };
            self.write_out(&stream, class);
            let batch = self.fake.batch(&stream, BATCH);
            let count = batch.records.len() as u64;
            let body = zstd::bulk::compress(&serde_json::to_vec(&batch).unwrap(), 1).unwrap();
            let (answer, took) = link.post(&self.world, "/api/v1/records", CONTENT_TYPE, body).await?;
            let answer: BatchAnswer = serde_json::from_slice(&answer).unwrap();
            self.world.tally.batches.add(took);
            self.world.tally.records.fetch_add(count, Relaxed);
            self.fake.acknowledge(&stream, &answer);
        }
    }

    /// Brings the next batch of a stream out of the outbox.
    fn write_out(&mut self, stream: &str, class: Class) {
        let unsent = self.fake.streams.get(stream).map_or(0, |stream| stream.unsent.len());
        let Some(lying) = self.outbox.iter_mut().find(|(name, _, count)| *name == stream && *count > 0)
        else {
            return;
        };
        let count = lying.2.min(BATCH.saturating_sub(unsent) as u64);
        lying.2 -= count;
        let (kind, body) = match class {
            Class::Metric | Class::Raw => ("summary", SUMMARY),
            Class::Audit | Class::Event => ("note", r#"{"text":"the valve of line 2 was opened by hand"}"#),
        };
        let wall_ms = System::new().wall_ms();
        for _ in 0..count {
            self.fake.write_text(stream, class, kind, wall_ms, body);
        }
    }

    async fn renew(&mut self) -> Result<(), Failed> {
        let mut link = Link::new(&self.tls, &self.world).await?;
        let next = EcKey::draw(&mut System::new());
        let ask = json!({ "csr": BASE64_STANDARD.encode(stand::csr(&next)) });
        let body = serde_json::to_vec(&ask).unwrap();
        let (answer, _) = link.post(&self.world, "/api/v1/identity/renew", "application/json", body).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let der = BASE64_STANDARD.decode(answer["certificate"].as_str().unwrap()).unwrap();
        self.own = Own { key: next, certificate: der.into() };
        self.tls = stand::tls(&self.own, &self.world.believer, &self.world.provider);
        self.is_expired = false;
        self.world.tally.renewals.fetch_add(1, Relaxed);
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.abort();
        }
    }
}

/// One connection.
struct Link {
    sender: SendRequest<Body>,
}

impl Link {
    async fn new(tls: &Arc<ClientConfig>, world: &World) -> Result<Link, Failed> {
        let (began, door) = (Instant::now(), *world.door.lock().unwrap());
        let made = timeout(Duration::from_secs(20), async {
            let stream = TcpStream::connect(door).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(tls.clone()).connect(ServerName::try_from("localhost").unwrap(), stream).await
        });
        let Ok(Ok(stream)) = made.await else { return Err(broken(world)) };
        let Ok((sender, connection)) = handshake(TokioIo::new(stream)).await else {
            return Err(broken(world));
        };
        tokio::spawn(connection);
        world.tally.connects.add(began.elapsed());
        Ok(Link { sender })
    }

    /// What the hub answers, and after how long.
    async fn post(
        &mut self,
        world: &World,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<(Vec<u8>, Duration), Failed> {
        let request = Request::post(path).header("host", "localhost").header("content-type", content_type);
        let request = request.body(Body::from(body)).unwrap();
        let began = Instant::now();
        let asked = timeout(Duration::from_secs(60), async {
            self.sender.ready().await.ok()?;
            let answer = self.sender.send_request(request).await.ok()?;
            let (head, body) = answer.into_parts();
            Some((head, to_bytes(Body::new(body), 2 << 20).await.ok()?))
        });
        let Ok(Some((head, body))) = asked.await else { return Err(broken(world)) };
        if head.status == 200 {
            return Ok((body.to_vec(), began.elapsed()));
        }
        let retry = head.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        match retry {
            Some(seconds) if head.status == 503 => {
                world.tally.busy.fetch_add(1, Relaxed);
                let seconds: f64 = seconds;
                Err(Failed::Later(Duration::from_secs_f64(
                    seconds * (1.0 + 0.1 * System::new().unit()) + System::new().unit(),
                )))
            }
            _ => {
                world.tally.odd.fetch_add(1, Relaxed);
                eprintln!("{path}: {} {}", head.status, String::from_utf8_lossy(&body));
                Err(Failed::Odd)
            }
        }
    }
}

fn broken(world: &World) -> Failed {
    world.tally.broken.fetch_add(1, Relaxed);
    Failed::Broken
}
