//! Several hubs on one database and one depot: nothing is lost or done twice, whichever of them dies or hangs, and whenever.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[path = "../fleet/mod.rs"]
mod fleet;
mod leases;
mod rollout;
mod turns;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleet::FakeNode;
use hub::config::{DepotConfig, HubConfig};
use hub::server::{Hub, Running};
use hub::store;
use hub::store::database::Store;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use wire::batch::{BatchAnswer, CONTENT_TYPE};
use wire::checkin::{CheckIn, CheckInAnswer};
use wire::class::Class;
use wire::record::GapReason;
use wire::world::System;

const NODES: u64 = 8;
const LOST: u64 = 7;
const RECORDS: u64 = 300;
const BATCH: usize = 15;

/// A hub in a runtime of its own, so that it can end in the middle of whatever it does.
struct Replica {
    runtime: Runtime,
    running: Running,
}

impl Replica {
    /// `shared`: the folder of the depot; it names the database too. `None` where there is no PostgreSQL.
    fn start(shared: &Path, name: &str) -> Option<Replica> {
        let runtime = runtime();
        let config = runtime.block_on(fleet::config(shared));
        config.database.as_ref()?;
        let depot = DepotConfig { folder: Some(shared.join("depot")), ..DepotConfig::default() };
        let config = HubConfig { data: shared.join(name), depot, ..config };
        let running = runtime.block_on(Hub::start(config, System::new())).unwrap();
        Some(Replica { runtime, running })
    }

    /// Ends it as a power cut does.
    fn kill(self) {
        self.runtime.shutdown_background();
    }

    fn stop(self) {
        self.runtime.block_on(self.running.stop());
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Another process that writes.
async fn open(shared: &Path, name: &str) -> Option<Store> {
    let database = fleet::config(shared).await.database?;
    Some(store::open(&shared.join(name), Some(&database)).await.unwrap())
}

/// Both hubs, and which of them a node asks next. One that does not answer is not asked again.
#[derive(Clone)]
struct Hubs {
    http: reqwest::Client,
    urls: Vec<String>,
    turn: usize,
}

impl Hubs {
    fn new(replicas: &[&Replica]) -> Hubs {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Hubs { http, urls: replicas.iter().map(|replica| replica.running.url()).collect(), turn: 0 }
    }

    /// What one of them says, and the other if `both` are asked at once. Busy ones are asked again.
    async fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
        kind: &str,
        body: &[u8],
        both: bool,
    ) -> Vec<T> {
        loop {
            self.turn += 1;
            let first = self.turn % self.urls.len();
            let mut asked: Vec<String> = vec![self.urls[first].clone()];
            if both && self.urls.len() > 1 {
                asked.push(self.urls[1 - first].clone());
            }
            let one = async |url: &String| {
                let request = self.http.post(format!("{url}{path}")).header("content-type", kind);
                let answer = request.body(body.to_vec()).send().await.ok()?;
                let status = answer.status();
                assert!(status == 200 || status == 503, "{status} {}", answer.text().await.unwrap());
                Some((status == 200).then_some(answer.bytes().await.ok()?))
            };
            let answers = futures_util::future::join_all(asked.iter().map(one)).await;
            let mut good = Vec::new();
            for (url, answer) in asked.into_iter().zip(answers) {
                match answer {
                    None => self.urls.retain(|other| *other != url),
                    Some(bytes) => good.extend(bytes.map(|it| serde_json::from_slice(&it).unwrap())),
                }
            }
            assert!(!self.urls.is_empty(), "no hub is left");
            if !good.is_empty() {
                return good;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn send(&mut self, node: &mut FakeNode, stream: &str, both: bool) {
        let json = serde_json::to_vec(&node.batch(stream, BATCH)).unwrap();
        let body = zstd::encode_all(&json[..], 3).unwrap();
        let answers: Vec<BatchAnswer> = self.ask("/api/v1/records", CONTENT_TYPE, &body, both).await;
        let newest = answers.iter().max_by_key(|answer| answer.watermark.seq).unwrap();
        node.acknowledge(stream, newest);
    }

    async fn check_in(&mut self, checkin: &CheckIn, both: bool) -> Vec<CheckInAnswer> {
        let body = serde_json::to_vec(checkin).unwrap();
        self.ask("/api/v1/checkin", "application/json", &body, both).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.urls[0])).send().await.unwrap();
        answer.json().await.unwrap()
    }
}

/// Sends all it has, now here, now there, now to both at once; counts its batches.
async fn tell_all(mut node: FakeNode, mut hubs: Hubs, told: Arc<AtomicUsize>) -> FakeNode {
    for turn in 0_usize.. {
        let Some(first) = node.streams["metrics"].unsent.first().map(|record| record.seq) else { break };
        hubs.send(&mut node, "metrics", turn.is_multiple_of(3)).await;
        let answers = hubs.check_in(&node.checkin(5), turn.is_multiple_of(4)).await;
        let settled = node.streams["metrics"].unsent.first().map_or(LOST + RECORDS, |record| record.seq - 1);
        assert!(settled + 1 > first, "what was sent is settled");
        for answer in answers {
            assert_eq!(answer.watermarks[0].seq, settled, "both know what either has answered");
        }
        told.fetch_add(1, Ordering::Relaxed);
    }
    node
}

fn node(seed: u64) -> FakeNode {
    let mut node = FakeNode::new("", &format!("node-{seed}"), seed);
    for n in 0..LOST + RECORDS {
        if n == LOST {
            node.lose("metrics", GapReason::ByteCap);
        }
        node.write_text("metrics", Class::Metric, "note", 1000 + n as i64, &format!("{{\"n\":{n}}}"));
    }
    node
}

#[test]
fn every_record_is_there_once_although_a_hub_dies() {
    let shared = tempfile::tempdir().unwrap();
    let nodes_at = runtime();
    if nodes_at.block_on(fleet::config(shared.path())).database.is_none() {
        return;
    }
    // Both make the tables, at once.
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| Replica::start(shared.path(), "other"));
        (Replica::start(shared.path(), "one"), other.join().unwrap())
    });
    let (Some(one), Some(other)) = (one, other) else { return };
    let (hubs, told) = (Hubs::new(&[&one, &other]), Arc::new(AtomicUsize::new(0)));
    let telling: Vec<_> =
        (0..NODES).map(|seed| nodes_at.spawn(tell_all(node(seed), hubs.clone(), told.clone()))).collect();
    let batches = NODES as usize * (RECORDS as usize / BATCH);
    let wait = |most: usize| {
        while told.load(Ordering::Relaxed) < most && !telling.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait(batches / 4);
    // As a server that starts anew does, or one that ends what took too long.
    nodes_at.block_on(throw_out(shared.path()));
    wait(batches / 2);
    other.kill();
    let nodes = nodes_at.block_on(async { futures_util::future::join_all(telling).await });
    let nodes: Vec<FakeNode> = nodes.into_iter().map(Result::unwrap).collect();
    // One that takes its place says the same.
    let other = Replica::start(shared.path(), "another").unwrap();
    for replica in [&one, &other] {
        nodes_at.block_on(all_is_there(&nodes, Hubs::new(&[replica])));
    }
    one.stop();
    other.stop();
}

/// Has the server end every other connection, whatever it is at.
async fn throw_out(shared: &Path) {
    let store = open(shared, "thrower").await.unwrap();
    let end = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let ended: i64 = sqlx::query_scalar(end).fetch_one(&store.readers).await.unwrap();
    assert!(ended >= 2, "{ended}");
}

async fn all_is_there(nodes: &[FakeNode], mut hubs: Hubs) {
    let (mut ids, mut before) = (Vec::new(), String::new());
    let mut seqs = std::collections::BTreeMap::<String, Vec<u64>>::new();
    loop {
        let page = hubs.get(&format!("/api/v1/records?limit=200{before}")).await;
        for record in page["records"].as_array().unwrap() {
            ids.push(record["id"].as_u64().unwrap());
            let node = record["node"].as_str().unwrap().to_owned();
            seqs.entry(node).or_default().push(record["seq"].as_u64().unwrap());
        }
        let Some(next) = page["next_before"].as_i64() else { break };
        before = format!("&before={next}");
    }
    // Numbers without a hole, and each node's records in its order.
    assert_eq!(ids, (1..=NODES * RECORDS).rev().collect::<Vec<_>>());
    for node in nodes {
        assert_eq!(seqs[node.name.as_str()], (LOST + 1..=LOST + RECORDS).rev().collect::<Vec<_>>());
        let answer = hubs.check_in(&node.checkin(5), false).await.remove(0);
        let state = &node.streams["metrics"];
        assert_eq!((answer.watermarks[0].seq, answer.watermarks[0].hash), (state.seq, state.head));
        let (name, journal) = (&node.name, node.journal);
        let proof = hubs.get(&format!("/api/v1/records/{name}/{journal}/metrics/{}", state.seq)).await;
        assert_eq!(proof["verified"], true, "{proof}");
    }
    let overview = hubs.get("/api/v1/overview").await;
    assert_eq!((&overview["records"], &overview["nodes"]), (&(NODES * RECORDS).into(), &NODES.into()));
    let alerts = hubs.get("/api/v1/alerts?limit=200").await;
    let alerts = alerts["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), NODES as usize, "{alerts:?}");
    for alert in alerts {
        assert_eq!((&alert["rule"], &alert["count"]), (&"records-lost".into(), &LOST.into()));
    }
}
