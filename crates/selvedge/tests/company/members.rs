//! Nodes as a hub sees them: they write records, check in, do as they are told, and watch that nobody is told too early.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hub::rollout::offer::place;
use hub::rollout::plan::Plan;
use serde::de::DeserializeOwned;
use wire::batch::{BatchAnswer, CONTENT_TYPE};
use wire::body::Install;
use wire::checkin::{AcceptedVersion, CandidateState, CheckIn, CheckInAnswer, CurrentState, SlotState};
use wire::class::Class;
use wire::hash::Hash;
use wire::world::{Clock as _, Entropy as _, MonoNs, Simulated, System};

use crate::borrowed::fleet::FakeNode;

/// How many records go in a batch.
const BATCH: usize = 20;

pub(crate) fn name(at: usize) -> String {
    format!("pump-{at:03}")
}

/// What all nodes know of each other, which no hub does.
pub(crate) struct Shared {
    clock: System,
    http: reqwest::Client,
    trial_ms: f64,
    plan: OnceLock<Arc<Plan>>,
    /// Who has told, or is about to tell, that it committed the release.
    committed: Vec<AtomicBool>,
    over: AtomicBool,
}

impl Shared {
    pub(crate) fn new(nodes: usize, trial_ms: f64) -> Shared {
        let committed = (0..nodes).map(|_| AtomicBool::new(false)).collect();
        let (plan, over) = (OnceLock::new(), AtomicBool::new(false));
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Shared { clock: System::new(), http, trial_ms, plan, committed, over }
    }

    pub(crate) fn begin(&self, plan: Arc<Plan>) {
        self.plan.set(plan).unwrap();
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    fn plan(&self) -> &Plan {
        self.plan.get().expect("a plan")
    }

    /// A node has got the document of a wave: everybody of the waves before has told that all is well.
    fn may_open(&self, wave: u32) {
        let plan = self.plan();
        let before = if wave > 1 { plan.ring_to(wave - 1) } else { 0 };
        for (at, committed) in self.committed.iter().enumerate() {
            let is_before = place(plan, &name(at)) < before;
            assert!(!is_before || committed.load(Ordering::SeqCst), "wave {wave} before {}", name(at));
        }
    }
}

pub(crate) struct Member {
    pub(crate) node: FakeNode,
    /// The number of the offer, and the wave.
    pub(crate) handed: Option<(u64, u32)>,
    at: usize,
    world: Simulated,
    url: String,
    shared: Arc<Shared>,
    hub: Option<String>,
    revision: Option<u64>,
    accepted: Vec<AcceptedVersion>,
    release: u64,
    /// What it tries, and until when.
    candidate: Option<(u64, MonoNs)>,
}

impl Member {
    pub(crate) fn new(at: usize, url: &str, shared: Arc<Shared>) -> Member {
        Member {
            node: FakeNode::new("", &name(at), at as u64),
            handed: None,
            at,
            world: Simulated::new(at as u64 ^ 0xfee1),
            url: url.to_owned(),
            shared,
            hub: Some("00".repeat(16)),
            revision: None,
            accepted: Vec::new(),
            release: 6,
            candidate: None,
        }
    }

    /// Checks in for the first time.
    pub(crate) async fn introduce(&mut self) {
        self.check_in().await;
    }

    /// Until the test is over: writes, sends, checks in, obeys.
    pub(crate) async fn live(mut self) -> Member {
        while !self.shared.over.load(Ordering::SeqCst) {
            for _ in 0..1 + (self.world.unit() * 3.0) as u32 {
                self.node.write_text("metrics", Class::Metric, "note", 5, r#"{"level":7}"#);
            }
            self.send().await;
            self.check_in().await;
            if let Some((release, until_ns)) = self.candidate
                && self.shared.clock.mono_ns() >= until_ns
            {
                self.commit(release);
            }
            let ms = 400.0 + self.world.unit() * 800.0;
            tokio::time::sleep(Duration::from_millis(ms as u64)).await;
        }
        self.send().await;
        let last = self.check_in().await;
        for watermark in last.watermarks {
            let state = &self.node.streams[watermark.stream.as_str()];
            assert_eq!((watermark.seq, watermark.hash), (state.seq, state.head), "{}", self.node.name);
        }
        self
    }

    fn commit(&mut self, release: u64) {
        (self.release, self.candidate) = (release, None);
        self.shared.committed[self.at].store(true, Ordering::SeqCst);
        let install = Install {
            id: format!("{}-1-tiny", self.node.boot),
            model: "tiny".into(),
            release,
            variant: None,
            index: self.shared.plan().what[0].index,
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
        self.node.write("installs", Class::Audit, 5, &install);
    }

    /// Sends all that is unsent.
    async fn send(&mut self) {
        let streams: Vec<String> = self.node.streams.keys().cloned().collect();
        for stream in streams {
            while !self.node.streams[&stream].unsent.is_empty() {
                let json = serde_json::to_vec(&self.node.batch(&stream, BATCH)).unwrap();
                let body = zstd::encode_all(&json[..], 3).unwrap();
                let answer: BatchAnswer = self.ask("/api/v1/records", CONTENT_TYPE, body).await;
                self.node.acknowledge(&stream, &answer);
            }
        }
    }

    fn said(&self) -> CheckIn {
        let extra = serde_json::Map::new;
        let (manifest, variant) = (Hash::GENESIS, "f32".into());
        let candidate =
            |(release, _)| CandidateState { release, phase: "trial".into(), misses: 0, extra: extra() };
        let slot = SlotState {
            model: "tiny".into(),
            current: Some(CurrentState { release: self.release, variant, manifest, extra: extra() }),
            previous: None,
            candidate: self.candidate.map(candidate),
            spare: None,
            safe: None,
            waits: None,
            extra: extra(),
        };
        CheckIn {
            hub: self.hub.clone(),
            revision: self.revision,
            accepted: self.accepted.clone(),
            slots: vec![slot],
            ..self.node.checkin(5)
        }
    }

    async fn check_in(&mut self) -> CheckInAnswer {
        let body = serde_json::to_vec(&self.said()).unwrap();
        let mut answer: CheckInAnswer = self.ask("/api/v1/checkin", "application/json", body).await;
        assert_eq!(answer.paused, None, "{}", self.node.name);
        self.hub = answer.hub.take();
        let Some(desired) = answer.desired.take() else { return answer };
        self.revision = self.revision.max(Some(desired.revision));
        for document in desired.documents {
            let said: serde_json::Value = serde_json::from_slice(document.bytes()).unwrap();
            let signed = &said["signed"];
            let version = signed["version"].as_u64().unwrap();
            let wave = u32::try_from(version).unwrap();
            self.shared.may_open(wave);
            assert!(place(self.shared.plan(), &name(self.at)) < self.shared.plan().ring_to(wave));
            let offer = (desired.revision, wave);
            assert_eq!(*self.handed.get_or_insert(offer), offer, "one offer, whoever says it");
            self.accepted = vec![AcceptedVersion {
                id: signed["id"].as_str().unwrap().to_owned(),
                version,
                rollout: signed["rollout"].as_str().map(str::to_owned),
            }];
            let trial_ns = self.world.unit() * self.shared.trial_ms * 1e6;
            let until_ns = self.shared.clock.mono_ns() + trial_ns as u64;
            self.candidate = signed["models"][0]["release"].as_u64().map(|release| (release, until_ns));
        }
        answer
    }

    /// Asks until a hub answers: whoever is killed or busy is asked again.
    async fn ask<T: DeserializeOwned>(&self, path: &str, kind: &str, body: Vec<u8>) -> T {
        loop {
            let request = self.shared.http.post(format!("{}{path}", self.url)).header("content-type", kind);
            if let Ok(answer) = request.body(body.clone()).send().await {
                let status = answer.status();
                match answer.bytes().await {
                    Ok(bytes) if status == 200 => return serde_json::from_slice(&bytes).unwrap(),
                    Ok(bytes) => assert_eq!(status, 503, "{path}: {}", String::from_utf8_lossy(&bytes)),
                    Err(_) => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
