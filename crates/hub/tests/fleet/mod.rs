//! A made-up node that speaks to a hub as a real one does: numbered, chained records in compressed batches, check-ins.
//! For tests and for the example that fills a hub to look at.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test uses a part of it"
)]

pub mod cluster;

use std::collections::BTreeMap;
use std::path::Path;

use hub::config::HubConfig;
use wire::batch::{BATCH_MAX_RECORDS, Batch, BatchAnswer, CONTENT_TYPE};
use wire::body::Body;
use wire::chain::{Link, link};
use wire::checkin::{CheckIn, CheckInAnswer, SourceState, StreamState};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{BootId, JournalId, NodeId, PartName, StreamName};
use wire::record::{Gap, GapReason, Record};
use wire::world::{ClockQuality, Simulated};

/// The settings of a hub that keeps what it keeps in this folder, or, in the tests called `postgres`, in a database server.
pub async fn config(folder: &Path) -> HubConfig {
    HubConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: folder.to_owned(),
        database: cluster::database(folder).await,
        ..HubConfig::default()
    }
}

pub struct FakeNode {
    pub url: String,
    pub token: Option<String>,
    pub name: NodeId,
    pub journal: JournalId,
    pub boot: BootId,
    pub streams: BTreeMap<String, FakeStream>,
    pub sources: Vec<SourceState>,
    http: reqwest::Client,
    mono_ns: u64,
}

/// What one stream has written and not sent.
pub struct FakeStream {
    pub class: Class,
    pub seq: u64,
    pub before: Hash,
    pub head: Hash,
    pub unsent: Vec<Record>,
    pub gap: Option<Gap>,
}

impl FakeNode {
    pub fn new(url: &str, name: &str, seed: u64) -> FakeNode {
        FakeNode::with(reqwest::Client::new(), url, name, seed)
    }

    /// A node that shares connections with others.
    pub fn with(http: reqwest::Client, url: &str, name: &str, seed: u64) -> FakeNode {
        let mut world = Simulated::new(seed);
        FakeNode {
            url: url.to_owned(),
            token: None,
            name: NodeId::new(name).unwrap(),
            journal: JournalId::random(&mut world),
            boot: BootId::random(&mut world),
            streams: BTreeMap::new(),
            sources: Vec::new(),
            http,
            mono_ns: 0,
        }
    }

    /// Writes a record of one of the known bodies.
    pub fn write(&mut self, stream: &str, class: Class, wall_ms: i64, body: &impl Body) -> u64 {
        let draft = body.draft(&StreamName::new(stream).unwrap(), class);
        self.write_text(stream, class, draft.kind.as_str(), wall_ms, draft.body.get())
    }

    /// Writes a record with any body.
    pub fn write_text(&mut self, stream: &str, class: Class, kind: &str, wall_ms: i64, body: &str) -> u64 {
        self.mono_ns += 1_000_000;
        let name = StreamName::new(stream).unwrap();
        let state = self.streams.entry(stream.to_owned()).or_insert(FakeStream {
            class,
            seq: 0,
            before: Hash::GENESIS,
            head: Hash::GENESIS,
            unsent: Vec::new(),
            gap: None,
        });
        state.seq += 1;
        let body = serde_json::value::RawValue::from_string(body.to_owned()).unwrap();
        let record = Record {
            seq: state.seq,
            kind: PartName::new(kind).unwrap(),
            boot: self.boot,
            mono_ns: self.mono_ns,
            wall_ms,
            clock: ClockQuality::Checked,
            body,
        };
        let (seq, stamp) = (record.seq, record.stamp());
        state.head = link(state.head, Link { stream: &name, class, seq, kind, stamp }, record.body.get());
        state.unsent.push(record);
        seq
    }

    /// Loses all unsent records of a stream, as a full disk would.
    pub fn lose(&mut self, stream: &str, reason: GapReason) {
        let state = self.streams.get_mut(stream).unwrap();
        let first = state.gap.as_ref().map_or(state.unsent[0].seq, |gap| gap.first);
        state.gap = Some(Gap { first, last: state.seq, reason, hash: state.head });
        state.unsent.clear();
        state.before = state.head;
    }

    /// The next batch of a stream, with at most so many records.
    pub fn batch(&self, stream: &str, records_max: usize) -> Batch {
        let state = &self.streams[stream];
        let name = StreamName::new(stream).unwrap();
        let records: Vec<Record> = state.unsent.iter().take(records_max).cloned().collect();
        let mut head = state.gap.as_ref().map_or(state.before, |gap| gap.hash);
        for record in &records {
            let (class, seq, stamp, kind) = (state.class, record.seq, record.stamp(), record.kind.as_str());
            head = link(head, Link { stream: &name, class, seq, kind, stamp }, record.body.get());
        }
        Batch {
            v: 1,
            node: self.name.clone(),
            journal: self.journal,
            stream: name,
            class: state.class,
            gap: state.gap.clone(),
            records,
            head,
        }
    }

    /// Sends everything that is unsent and forgets what the hub has.
    pub async fn sync(&mut self) {
        let streams: Vec<String> = self.streams.keys().cloned().collect();
        for stream in streams {
            while !self.streams[&stream].unsent.is_empty() || self.streams[&stream].gap.is_some() {
                let batch = self.batch(&stream, BATCH_MAX_RECORDS / 8);
                let answer = self.send(&batch).await.bytes().await.unwrap();
                let answer: BatchAnswer = serde_json::from_slice(&answer).unwrap();
                self.acknowledge(&stream, &answer);
            }
        }
    }

    pub fn acknowledge(&mut self, stream: &str, answer: &BatchAnswer) {
        let state = self.streams.get_mut(stream).unwrap();
        state.unsent.retain(|record| record.seq > answer.watermark.seq);
        state.gap = state.gap.take().filter(|gap| gap.last > answer.watermark.seq);
        state.before = answer.watermark.hash;
    }

    pub async fn send(&self, batch: &Batch) -> reqwest::Response {
        let json = serde_json::to_vec(batch).unwrap();
        self.post("/api/v1/records", CONTENT_TYPE, zstd::encode_all(&json[..], 3).unwrap()).await
    }

    pub async fn post(&self, path: &str, content_type: &str, body: Vec<u8>) -> reqwest::Response {
        let request =
            self.http.post(format!("{}{path}", self.url)).header("content-type", content_type).body(body);
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        request.send().await.unwrap()
    }

    pub fn checkin(&self, wall_ms: i64) -> CheckIn {
        let stream = |(name, state): (&String, &FakeStream)| StreamState {
            stream: StreamName::new(name).unwrap(),
            class: state.class,
            last: state.seq,
            acked: state.unsent.first().map_or(state.seq, |record| record.seq - 1),
            head: None,
            extra: serde_json::Map::new(),
        };
        CheckIn {
            v: 1,
            node: self.name.clone(),
            journal: self.journal,
            boot: self.boot,
            version: "0.1.0".into(),
            uptime_ms: self.mono_ns / 1_000_000,
            wall_ms,
            clock: ClockQuality::Checked,
            flow: Some(Hash::of(b"flow")),
            sources: self.sources.clone(),
            streams: self.streams.iter().map(stream).collect(),
            rss_bytes: Some(9_400_000),
            journal_bytes: Some(1_700_000),
            slots: Vec::new(),
            trust: None,
            hub: None,
            revision: None,
            nonce: None,
            inventory: None,
            accepted: Vec::new(),
            acks: Vec::new(),
            checkpoint: None,
            models: Vec::new(),
            extra: serde_json::Map::new(),
        }
    }

    pub async fn check_in(&self, wall_ms: i64) -> CheckInAnswer {
        let body = serde_json::to_vec(&self.checkin(wall_ms)).unwrap();
        let answer = self.post("/api/v1/checkin", "application/json", body).await;
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }
}
