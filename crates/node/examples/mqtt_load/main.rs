//! How many messages a second a node takes from a broker:
//! `cargo run --release -p node --example mqtt_load -- RATE SECONDS [RESTARTS]`.
//!
//! Starts a mosquitto and a node (as a process of its own, so that its CPU is its own), publishes at QoS 1 at the rate, and
//! counts what is in the journal at the end: raw readings, a detector over them, and a rule whose decisions say how long a message
//! took. A message carries the time at which it was due, whether or not it could be sent then. With RESTARTS the broker is stopped
//! and started, the node is stopped and started, the node is killed and started, in turn, at equal distances. Publisher, broker and
//! node share the machine.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench says what it measures, and stops at any fault"
)]

mod count;
mod peers;
mod publisher;

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use node::agent::start;
use node::config::Config;
use wire::world::{Clock as _, System};

use crate::count::{Count, decisions, quantile};
use crate::peers::{Mosquitto, NodeProcess, pause};
use crate::publisher::{Plan, publish};

/// Nothing new in the journal for so long: nothing more comes.
const QUIET: u32 = 20;
const GLANCE: Duration = Duration::from_millis(500);

/// Decisions so soon after a restart began are told apart.
const AFTERMATH_MS: i64 = 15_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "--node") {
        return node(Path::new(&arguments[2]));
    }
    let number =
        |at: usize, default: u64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    load(number(1, 10_000), number(2, 10), number(3, 0));
}

/// The node's process: until its input closes.
fn node(dir: &Path) {
    let config = Config::load(&dir.join("node.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let running = start(config, System::new()).unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let status = running.status();
    println!(
        "  this life of the node: {} readings taken, {} refused; arrived to on disk p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms",
        status.sources[0].readings,
        status.sources[0].refused,
        status.decided.p50_us as f64 / 1e3,
        status.decided.p99_us as f64 / 1e3,
        status.decided.max_us as f64 / 1e3,
    );
    running.stop().unwrap();
}

fn load(rate: u64, seconds: u64, restarts: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (world, total) = (System::new(), rate * seconds);
    let mut mosquitto = Mosquitto::start(dir.path());
    let mut node = NodeProcess::prepare(dir.path(), mosquitto.port());
    node.start();
    pause(Duration::from_secs(1));

    let plan = Plan { port: mosquitto.port(), rate, total, began_ms: world.wall_ms() };
    let began_ns = world.mono_ns();
    let publishing = std::thread::spawn(move || publish(&plan));
    let mut shaken = Vec::new();
    for number in 0..restarts {
        let at_s = seconds * (number + 1) / (restarts + 1);
        let gone_s = (world.mono_ns() - began_ns) / 1_000_000_000;
        pause(Duration::from_secs(at_s.saturating_sub(gone_s)));
        shaken.push(world.wall_ms());
        let what = match number % 3 {
            0 => mosquitto.again(),
            1 => node.again(),
            _ => node.killed(),
        };
        println!("after {at_s} s: {what}");
    }
    let published = publishing.join().unwrap();
    let took_s = (world.mono_ns() - began_ns) as f64 / 1e9;
    let cpu = [node.cpu_s(), mosquitto.cpu_s(), published.cpu_s];

    // What is queued gets there; counted by what the journal has.
    let (mut count, mut quiet) = (Count::of(dir.path(), total), 0);
    let ended_ns = world.mono_ns();
    while quiet < QUIET && count.distinct < total {
        quiet = if count.read() { 0 } else { quiet + 1 };
        pause(GLANCE);
    }
    let drained_s = (world.mono_ns() - ended_ns) as f64 / 1e9;
    let peak = node.peak_mib();
    node.stop();
    mosquitto.stop();
    count.read();

    println!("sent {total} in {took_s:.1} s: {:.0} a second (asked for {rate})", total as f64 / took_s);
    println!(
        "in the journal: {} of them, {} more than once, {} lost; the last within {drained_s:.1} s of the end",
        count.distinct,
        count.twice,
        total - count.distinct
    );
    let decided = decisions(dir.path());
    let is_shaken = |at_ms: i64| shaken.iter().any(|from| (*from..*from + AFTERMATH_MS).contains(&at_ms));
    let (aftermath, calm): (Vec<_>, Vec<_>) = decided.iter().partition(|(at_ms, _)| is_shaken(*at_ms));
    tell("due to its decision", &calm);
    tell("the same within 15 s of a restart", &aftermath);
    for minute in 0..seconds.div_ceil(60) as i64 {
        let from = plan.began_ms + minute * 60_000;
        let within: Vec<_> =
            calm.iter().filter(|(at, _)| (from..from + 60_000).contains(at)).copied().collect();
        tell(&format!("  minute {}", minute + 1), &within);
    }
    let share = |cpu: f64| cpu / took_s;
    println!(
        "CPU while publishing: node {:.2} of a core, broker {:.2}, publisher {:.2}; the node's peak {peak} MiB",
        share(cpu[0]),
        share(cpu[1]),
        share(cpu[2])
    );
}

fn tell(what: &str, of: &[(i64, i64)]) {
    if of.is_empty() {
        return;
    }
    let mut took: Vec<i64> = of.iter().map(|(_, took_ms)| *took_ms).collect();
    took.sort_unstable();
    println!(
        "{what}: p50 {} ms, p99 {} ms, longest {} ms, of {}",
        quantile(&took, 0.5),
        quantile(&took, 0.99),
        quantile(&took, 1.0),
        took.len()
    );
}
