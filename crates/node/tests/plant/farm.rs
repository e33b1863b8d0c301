//! The farm of `examples/soil-moisture`, heard by a real broker: ChirpStack's uplinks come in as they are due, four days in forty
//! seconds, and its decisions and shift reports come out. Its valve needs the guard, which is another program: it is left out here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use node::agent::{Running, start_with};
use node::config::Config;
use node::mqtt::broker::Version;
use node::specimen::farm::{DOWN_H, Farm, HOURS, RAIN_H};
use serde_json::Value;
use wire::world::{Clock, Entropy, MonoNs, System, WallMs};

use crate::broker::mosquitto;
use crate::reports::model;
use crate::stand::{QUICK, folder, reasons, records, until};

/// 2026-01-01.
const START_MS: WallMs = 1_767_225_600_000;
/// So many seconds of the farm pass in one of ours.
const SPEED: u64 = 8_640;
const HOUR_MS: f64 = 3_600_000.0;

/// Uplinks that are published together span no more, however far behind we are: the probes stay beside each other.
const STEP_MS: i64 = 1_800_000;

/// A clock on the wall that stands, and then runs faster.
#[derive(Clone)]
struct Fast {
    system: System,
    begun_ns: Arc<AtomicU64>,
}

impl Fast {
    fn begin(&self) {
        self.begun_ns.store(self.system.mono_ns(), Relaxed);
    }
}

impl Clock for Fast {
    fn wall_ms(&self) -> WallMs {
        let since_ns = self.system.mono_ns().saturating_sub(self.begun_ns.load(Relaxed));
        START_MS + (since_ns * SPEED / 1_000_000) as WallMs
    }

    fn mono_ns(&self) -> MonoNs {
        self.system.mono_ns()
    }
}

impl Entropy for Fast {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.system.fill(bytes);
    }
}

/// The example's flow without its valve, and with a second report that a model writes.
fn flow(writer: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/soil-moisture/flow.toml");
    let text = fs::read_to_string(file).unwrap().replace("then = { valve = \"open\" }\n", "");
    let (before, valve) = text.split_once("# A valve with a radio of its own").unwrap();
    let (_, after) = valve.split_once("[report.shift]").unwrap();
    let told = format!(
        "[report.told]\nevery = \"8h\"\nbegins = \"06:00\"\n[report.told.writer]\nurl = \"{writer}\"\nmodel = \"tiny\"\n"
    );
    format!("{before}{told}[report.shift]{after}")
}

fn run(dir: &Path, world: Fast) -> Running {
    let config = Config::load(&dir.join("node.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    start_with(config, world, QUICK).unwrap()
}

/// When a rule said this, in hours of the farm.
fn times(decisions: &[Value], rule: &str, state: &str) -> Vec<f64> {
    let said = decisions.iter().filter(|it| it["rule"] == rule && it["state"] == state);
    said.map(|it| (it["at_ms"].as_i64().unwrap() - START_MS) as f64 / HOUR_MS).collect()
}

#[test]
fn a_farm_is_heard_decided_on_and_told_of() {
    const SAYS: &str = "The farm is as it always is.";
    let Some(broker) = mosquitto(false) else { return };
    let (url, asked) = model(SAYS, "stop");
    let dir = folder(&flow(&url));
    let node = fs::read_to_string(dir.path().join("node.toml")).unwrap();
    let params = format!("[params]\nbroker = \"mqtt://127.0.0.1:{}\"\n", broker.port);
    fs::write(dir.path().join("node.toml"), node + &params).unwrap();
    let made = Farm::new(7, START_MS);
    let world = Fast { system: System::new(), begun_ns: Arc::new(AtomicU64::new(u64::MAX)) };
    let node = run(dir.path(), world.clone());
    until("both connections", || {
        let sources = node.status().sources;
        sources.len() == 2 && sources.iter().all(|source| source.state == "running")
    });

    // What is due is published when it is due, by the farm's clock.
    world.begin();
    let mut uplinks = made.uplinks.iter().peekable();
    while uplinks.peek().is_some() {
        let first_ms = uplinks.peek().map_or(0, |uplink| uplink.sample.t_ms);
        let now_ms = world.wall_ms().min(first_ms + STEP_MS);
        let due: Vec<(String, String)> =
            std::iter::from_fn(|| uplinks.next_if(|uplink| uplink.sample.t_ms <= now_ms))
                .map(|uplink| (uplink.topic(), uplink.payload()))
                .collect();
        // It waits a little even if none is due.
        broker.publish(Version::V5, &due);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let readings = || node.status().sources.iter().map(|source| source.readings).sum::<u64>();
    until("all uplinks", || readings() == made.uplinks.len() as u64);
    let told = |report: &str| -> Vec<Value> {
        records(dir.path(), "reports").into_iter().filter(|it| it["report"] == report).collect()
    };
    let shifts = ((HOURS - 6.0) / 8.0) as usize;
    until("the reports", || told("shift").len() >= shifts && told("told").len() >= shifts);
    node.stop().unwrap();

    let decisions = records(dir.path(), "decisions");
    let near = |rule: &str, state: &str, expected: &[(f64, f64)]| {
        let times = times(&decisions, rule, state);
        assert_eq!(times.len(), expected.len(), "{rule} {state}: {times:?}");
        for (at_h, (from_h, to_h)) in times.iter().zip(expected) {
            assert!((from_h..=to_h).contains(&at_h), "{rule} {state}: {times:?}");
        }
    };
    near("dry_north", "firing", &[(made.dry_from_h, made.dry_from_h + 4.0)]);
    near("dry_north", "cleared", &[(RAIN_H, RAIN_H + 2.0)]);
    near("silent_south", "firing", &[(DOWN_H.0 + 1.0, DOWN_H.0 + 3.5)]);
    near("silent_south", "cleared", &[(DOWN_H.1, DOWN_H.1 + 1.5)]);
    near("silent_north", "firing", &[]);
    near("battery_north", "firing", &[]);
    assert_eq!(times(&decisions, "battery_south", "firing").len(), 1);
    assert!(!reasons(dir.path()).contains("refused"), "{}", reasons(dir.path()));

    let shifts = told("shift");
    let ends: BTreeSet<i64> = shifts.iter().map(|it| it["to_ms"].as_i64().unwrap()).collect();
    assert_eq!(ends.len(), shifts.len(), "each shift is told once");
    assert!(ends.iter().all(|end| (end - START_MS - 6 * 3_600_000) % (8 * 3_600_000) == 0), "{ends:?}");
    let text = |words: &str| shifts.iter().filter(|it| it["text"].as_str().unwrap().contains(words)).count();
    assert_eq!(text("The farm, 202"), shifts.len());
    assert!(shifts.iter().all(|it| it["writer"] == "template"), "{shifts:?}");
    assert_eq!(text("The rule silent_south (warning) fired once, "), 1, "{shifts:?}");
    assert!(text("The rule dry_north (warning) fired ") >= 1, "{shifts:?}");
    assert!(text("soil moisture in the north (%): ") >= shifts.len() - 1, "{shifts:?}");
    assert_eq!(text("battery.south"), 0, "it has no name for people");

    // What a model writes of the same shifts, and what it was given.
    let written = told("told");
    assert!(written.iter().all(|it| it["writer"] == "model" && it["text"] == SAYS), "{written:?}");
    let asked = asked.lock().unwrap();
    assert!(asked.len() >= written.len());
    assert!(asked.iter().any(|it| it["messages"][1]["content"].as_str().unwrap().contains("dry_north")));
    let passed = fs::read_to_string(dir.path().join("shifts.jsonl")).unwrap();
    assert!(passed.lines().count() >= 2 * (shifts.len() - 1), "{passed}");
}
