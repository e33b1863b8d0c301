//! Puts a hub under the load of a large fleet and prints what it answered, how fast.
//!
//! `cargo run --release -p hub --example load -- http://127.0.0.1:8420 10000 60 3000 30`: so many nodes that check in
//! once in so many seconds, and together so many records a second in batches of 50, for so many seconds. With `-` for
//! the address it starts a hub of its own in a temporary folder.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example talks to its reader and may end")]

#[path = "../tests/fleet/mod.rs"]
mod fleet;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fleet::FakeNode;
use hub::config::HubConfig;
use hub::server::Hub;
use tokio::sync::Mutex;
use wire::batch::BatchAnswer;
use wire::class::Class;
use wire::world::{Clock, Entropy, System};

const BATCH: u64 = 50;
const BODY: &str = r#"{"source":"pump","from_ms":1795234717149,"to_ms":1795234727149,"count":100,"channels":[{"channel":"pressure_bar","min":5.1,"mean":5.2,"max":5.3},{"channel":"flow_l_min","min":180.5,"mean":182.1,"max":184.2},{"channel":"vibration_mm_s","min":1.9,"mean":2.1,"max":2.4}],"models":[{"model":"health","score":0.25,"probability":0.01}]}"#;

#[derive(Default)]
struct Tally {
    check_ins: Mutex<Vec<u64>>,
    batches: Mutex<Vec<u64>>,
    records: AtomicU64,
    busy: AtomicU64,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (url, _hub) = match arguments.first().map(String::as_str) {
        Some("-") | None => {
            let listen = "127.0.0.1:0".parse().unwrap();
            let config = HubConfig { listen, data: folder.path().to_owned(), ..HubConfig::default() };
            let hub = Hub::start(config, System::new()).await.unwrap();
            (hub.url(), Some(hub))
        }
        Some(url) => (url.to_owned(), None),
    };
    let (nodes, period_s, records, seconds) =
        (number(1, 10_000), number(2, 60), number(3, 3000), number(4, 30));
    let clock = System::new();
    let tally = Arc::new(Tally::default());
    let http = reqwest::Client::builder().pool_max_idle_per_host(256).build().unwrap();
    let end_ns = clock.mono_ns() + seconds * 1_000_000_000;

    // Each task stands for a share of the nodes, in turn, at the pace of all of them.
    let tasks = 64.min(nodes);
    let mut running = Vec::new();
    for task in 0..tasks {
        let (url, http, tally) = (url.clone(), http.clone(), tally.clone());
        running.push(tokio::spawn(async move {
            let share: Vec<u64> = (task..nodes).step_by(tasks as usize).collect();
            let pause = Duration::from_secs_f64(period_s as f64 / share.len() as f64);
            tokio::time::sleep(pause.mul_f64(System::new().unit())).await;
            let mut tick = tokio::time::interval(pause);
            for n in share.iter().cycle() {
                tick.tick().await;
                let began = clock.mono_ns();
                if began > end_ns {
                    break;
                }
                let node = FakeNode::with(http.clone(), &url, &format!("node-{n:05}"), 1000 + n);
                let body = serde_json::to_vec(&node.checkin(clock.wall_ms())).unwrap();
                let answer = node.post("/api/v1/checkin", "application/json", body).await;
                if answer.status() == 503 {
                    tally.busy.fetch_add(1, Relaxed);
                    continue;
                }
                assert_eq!(answer.status(), 200);
                answer.bytes().await.unwrap();
                tally.check_ins.lock().await.push(clock.mono_ns() - began);
            }
        }));
    }
    let senders = 16;
    for sender in 0..if records == 0 { 0 } else { senders } {
        let (url, http, tally) = (url.clone(), http.clone(), tally.clone());
        running.push(tokio::spawn(async move {
            let pause = Duration::from_secs_f64((BATCH * senders) as f64 / records as f64);
            tokio::time::sleep(pause.mul_f64(sender as f64 / senders as f64)).await;
            let mut tick = tokio::time::interval(pause);
            let share = (sender..nodes).step_by(senders as usize);
            let mut mine: Vec<FakeNode> = share
                .map(|n| {
                    FakeNode::with(
                        http.clone(),
                        &url,
                        &format!("node-{n:05}"),
                        900_000 + n + clock.wall_ms() as u64 % 1_000_000_000,
                    )
                })
                .collect();
            let count = mine.len();
            for at in (0..count).cycle() {
                tick.tick().await;
                if clock.mono_ns() > end_ns {
                    break;
                }
                let node = &mut mine[at];
                for _ in 0..BATCH {
                    node.write_text("metrics", Class::Metric, "summary", clock.wall_ms(), BODY);
                }
                let batch = node.batch("metrics", BATCH as usize);
                let began = clock.mono_ns();
                let answer = node.send(&batch).await;
                if answer.status() == 503 {
                    tally.busy.fetch_add(1, Relaxed);
                    continue;
                }
                let answer: BatchAnswer = answer.json().await.unwrap();
                tally.batches.lock().await.push(clock.mono_ns() - began);
                tally.records.fetch_add(BATCH, Relaxed);
                node.acknowledge("metrics", &answer);
            }
        }));
    }
    for task in running {
        task.await.unwrap();
    }
    for (what, times) in [("check-ins", &tally.check_ins), ("batches", &tally.batches)] {
        let mut times = times.lock().await;
        times.sort_unstable();
        let at = |share: f64| {
            times.get(((times.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(0) as f64 / 1e6
        };
        let rate = times.len() as f64 / seconds as f64;
        println!("{what}: {rate:.0}/s, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0));
    }
    println!(
        "records: {:.0}/s; sent away busy: {}",
        tally.records.load(Relaxed) as f64 / seconds as f64,
        tally.busy.load(Relaxed)
    );
}
