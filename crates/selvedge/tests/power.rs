//! Kills a node, the real process, two hundred times at random instants while it works, with the hub away now and
//! then. Afterwards every record that the node ever committed is in the hub's store once and in order, or told as lost.
//!
//! Stops by itself: after so many lives, and the end of each is a kill. Reads both databases directly, so that neither
//! side's own view can hide a fault.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hub::config::HubConfig;
use hub::server::{Hub, Running};
use node::journal::reader::Reader;
use node::journal::verify::verify;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use wire::hash::Hash;
use wire::world::{Clock, Entropy, Simulated, System};

/// Lives of the node in each test.
const LIVES: u32 = 200;

/// The longest that the node may take to do what a test waits for.
const PATIENCE_NS: u64 = 60_000_000_000;

/// A record as the hub's store has it: the chain's hash and the body.
type Row = (Vec<u8>, String);

/// What the hub holds of one stream.
#[derive(Debug, Default)]
struct Held {
    rows: BTreeMap<u64, Row>,
    gaps: Vec<(u64, u64)>,
}

struct Plant {
    folder: TempDir,
    runtime: Runtime,
    hub: Option<Running>,
    addr: SocketAddr,
    dice: Simulated,
    /// A life lasts so long at most. Set by how long the node takes to begin on this machine, at this hour.
    life_ms: f64,
}

impl Plant {
    /// A node with a fast source, and a hub.
    fn new(journal: &str, policy: &str, rate_hz: u32) -> Plant {
        let folder = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut plant = Plant {
            folder,
            runtime,
            hub: None,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            dice: Simulated::new(u64::from(rate_hz)),
            life_ms: 0.0,
        };
        plant.start_hub();
        let node = format!(
            "[node]\nname = \"phoenix\"\ndata = \"data\"\n[hub]\nurl = \"http://{}\"\n[journal]\n{journal}\n{policy}\n",
            plant.addr
        );
        std::fs::write(plant.path("node.toml"), node).unwrap();
        plant.write_flow(&format!("rate_hz = {rate_hz}.0"));
        plant
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A rule that noise alone fires and clears all the time: audit records, each on the disk at once.
    fn write_flow(&self, rate: &str) {
        let flow = format!(
            "[source.pump]\ntype = \"simulated\"\nsummary = \"10ms\"\nquiet = \"0s\"\n{rate}\n\n\
             [rule.shaky]\ninputs = [\"source.pump\"]\nwhen = \"pump.vibration_mm_s > 1.95\"\n"
        );
        std::fs::write(self.path("flow.toml"), flow).unwrap();
    }

    fn start_hub(&mut self) {
        let config =
            HubConfig { listen: self.addr, data: self.path("hub"), check_in_ms: 500, ..HubConfig::default() };
        let hub = self.runtime.block_on(Hub::start(config, System::new())).unwrap();
        self.addr = hub.addr;
        self.hub = Some(hub);
    }

    fn stop_hub(&mut self) {
        if let Some(hub) = self.hub.take() {
            self.runtime.block_on(hub.stop());
        }
    }

    fn start_node(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_selvedge"))
            .args(["node", "--config"])
            .arg(self.path("node.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// One life: it begins, works, and is killed. On Unix `kill` is SIGKILL, which nothing can catch.
    fn live(&mut self) {
        let mut child = self.start_node();
        std::thread::sleep(Duration::from_micros((self.dice.unit() * self.life_ms * 1e3) as u64));
        assert_eq!(child.try_wait().unwrap(), None, "the node ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The last number of each stream in the journal.
    fn lasts(&self) -> BTreeMap<String, u64> {
        let Ok(reader) = Reader::open(&self.path("data")) else { return BTreeMap::new() };
        reader.positions().unwrap().into_iter().map(|p| (p.stream.to_string(), p.last)).collect()
    }

    /// Lets the node work until `done`, and kills it.
    fn live_until(&self, done: impl Fn(&Plant) -> bool) -> Duration {
        let (clock, mut child) = (System::new(), self.start_node());
        while !done(self) {
            assert!(clock.mono_ns() < PATIENCE_NS, "it never comes: {:?}", self.positions());
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        Duration::from_nanos(clock.mono_ns())
    }

    /// Kills the node [`LIVES`] times; the hub is away for the last `away` lives of every 40. What was committed stays
    /// committed.
    fn kill_often(&mut self, away: u32) {
        let begun = self.live_until(|plant| plant.lasts().contains_key("readings.pump"));
        self.life_ms = (begun.as_secs_f64() * 1e3 * 2.0).clamp(120.0, 400.0);
        let mut before = self.lasts();
        for life in 0..LIVES {
            match life % 40 {
                0 if self.hub.is_none() => self.start_hub(),
                at if at == 40 - away => self.stop_hub(),
                _ => {}
            }
            self.live();
            let lasts = self.lasts();
            for (stream, last) in &before {
                assert!(lasts.get(stream) >= Some(last), "{stream} went back from {last}: {lasts:?}");
            }
            before = lasts;
        }
        // Each life that got far enough to be one has left a record of its start.
        assert!(before["audit"] > u64::from(LIVES / 8), "the node hardly worked: {before:?}");
    }

    /// Lets a quiet node send what is left, and ends it.
    fn drain(&mut self) {
        if self.hub.is_none() {
            self.start_hub();
        }
        self.write_flow("rate_hz = 0.001");
        let calm = Cell::new(0);
        self.live_until(|plant| {
            let level = plant.positions().iter().all(|(_, acked, last)| acked == last);
            calm.set(if level { calm.get() + 1 } else { 0 });
            calm.get() > 50
        });
        self.stop_hub();
    }

    fn has_gap(&self) -> bool {
        let reader = Reader::open(&self.path("data")).unwrap();
        reader.positions().unwrap().iter().any(|position| position.gap().is_some())
    }

    /// Of each stream that leaves the node: name, what the hub has settled, the last number.
    fn positions(&self) -> Vec<(String, u64, u64)> {
        let Ok(reader) = Reader::open(&self.path("data")) else { return Vec::new() };
        let positions = reader.positions().unwrap();
        positions.into_iter().filter(|p| p.leaves).map(|p| (p.stream.to_string(), p.acked, p.last)).collect()
    }
}

/// The hub's store, read from its file. One life of the journal only: a kill is no reason for another.
fn held(hub: &Path) -> BTreeMap<String, Held> {
    let store =
        Connection::open_with_flags(hub.join("hub.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let journals: u64 =
        store.query_row("SELECT count(*) FROM journals", [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    assert_eq!(journals, 1, "the journal was forked");
    let mut held = BTreeMap::<String, Held>::new();
    let mut records = store
        .prepare("SELECT s.name, r.seq, r.hash, r.body FROM records r JOIN streams s ON s.id = r.stream")
        .unwrap();
    let mut rows = records.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let stream = held.entry(row.get(0).unwrap()).or_default();
        let twice = stream
            .rows
            .insert(row.get::<_, i64>(1).unwrap() as u64, (row.get(2).unwrap(), row.get(3).unwrap()));
        assert!(twice.is_none(), "a record is there twice");
    }
    let mut gaps = store
        .prepare("SELECT s.name, g.first, g.last FROM gaps g JOIN streams s ON s.id = g.stream")
        .unwrap();
    let mut rows = gaps.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let stream = held.entry(row.get(0).unwrap()).or_default();
        stream.gaps.push((row.get::<_, i64>(1).unwrap() as u64, row.get::<_, i64>(2).unwrap() as u64));
    }
    held
}

/// Holds the journal against the store. Gives how many records the hub has, and how many were lost.
fn account(plant: &Plant) -> (usize, u64) {
    let reader = Reader::open(&plant.path("data")).unwrap();
    for check in verify(&reader).unwrap() {
        assert_eq!(check.broken, None, "{check:?}");
    }
    let mut held = held(&plant.path("hub"));
    let (mut kept, mut lost) = (0, 0);
    for position in reader.positions().unwrap() {
        let name = position.stream.to_string();
        let Some(Held { rows, gaps }) = held.remove(&name) else {
            assert!(!position.leaves || position.last == 0, "{name} never reached the hub");
            continue;
        };
        assert!(position.leaves, "{name} left the node");
        // Records and gaps cover 1..=last, and nothing twice.
        let mut spans: Vec<(u64, u64)> = rows.keys().map(|seq| (*seq, *seq)).collect();
        spans.extend(&gaps);
        spans.sort_unstable();
        let mut next = 1;
        for (first, last) in spans {
            assert_eq!(first, next, "{name}: a hole or an overlap");
            next = last + 1;
        }
        assert_eq!(next, position.last + 1, "{name}: the end is missing");
        // What the node still has is what the hub has, byte for byte, in the same place.
        for (record, hash) in reader.records(&position.stream, 0, usize::MAX).unwrap() {
            let in_gap = gaps.iter().any(|(first, last)| (*first..=*last).contains(&record.seq));
            match rows.get(&record.seq) {
                Some((its_hash, body)) => {
                    assert_eq!(body, record.body.get(), "{name} {}", record.seq);
                    assert_eq!(Hash::from_slice(its_hash), Some(hash), "{name} {}", record.seq);
                }
                None => assert!(in_gap, "{name} {} is not at the hub", record.seq),
            }
        }
        kept += rows.len();
        lost += gaps.iter().map(|(first, last)| last - first + 1).sum::<u64>();
    }
    assert!(held.is_empty(), "the hub has streams that the node has not: {:?}", held.keys());
    (kept, lost)
}

#[test]
fn two_hundred_kills_lose_nothing_and_double_nothing() {
    let mut plant = Plant::new("max_bytes = \"256MiB\"", "", 3_000);
    plant.kill_often(12);
    plant.drain();
    let (kept, lost) = account(&plant);
    assert!(kept > 0 && lost == 0, "{kept} kept, {lost} lost");
}

/// Raw readings leave this node, more than its journal holds while the hub is away.
#[test]
fn two_hundred_kills_on_a_tiny_disk_account_for_every_record() {
    let mut plant = Plant::new(
        "max_bytes = \"1MiB\"",
        "[policy]\nleaves = [\"audit\", \"event\", \"metric\", \"raw\"]",
        4_000,
    );
    plant.kill_often(32);
    // The hub is away; however slow the machine, something has to go before it is back.
    plant.live_until(Plant::has_gap);
    plant.drain();
    let (kept, lost) = account(&plant);
    assert!(kept > 0 && lost > 0, "{kept} kept, {lost} lost");
}
