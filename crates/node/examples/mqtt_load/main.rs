//! How many messages a second a node takes from a broker: `cargo run --release -p node --example mqtt_load -- RATE SECONDS`.
//!
//! Starts a mosquitto and a node (as a process of its own, so that its CPU is its own), publishes at QoS 1 at the rate, and
//! counts what is in the journal at the end: raw readings, a detector over them, and a rule whose decisions say how long a message took from
//! the publisher's clock to the journal. Publisher and broker share the machine with the node.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench says what it measures, and stops at any fault"
)]

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use node::agent::start;
use node::config::Config;
use node::journal::reader::Reader;
use node::mqtt::broker::{Broker, Version};
use node::mqtt::{Event, Link, Session};
use serde_json::Value;
use wire::id::StreamName;
use wire::world::{Clock as _, System};

/// Each so many messages the rule changes its mind.
const TURN: u64 = 1_000;
/// Messages handed over before their answers are waited for.
const AHEAD: usize = 2_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "--node") {
        return node(Path::new(&arguments[2]));
    }
    let number =
        |at: usize, default: u64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    load(number(1, 10_000), number(2, 10));
}

/// The node's process: until its input closes.
fn node(dir: &Path) {
    let config = Config::load(&dir.join("node.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let running = start(config, System::new()).unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let status = running.status();
    println!(
        "node: {} readings taken, {} refused, RSS {} MiB",
        status.sources[0].readings,
        status.sources[0].refused,
        status.rss_bytes.unwrap_or(0) >> 20
    );
    running.stop().unwrap();
}

fn load(rate: u64, seconds: u64) {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::write(
        dir.path().join("mosquitto.conf"),
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n"),
    )
    .unwrap();
    let mut mosquitto = Command::new("/usr/sbin/mosquitto")
        .arg("-c")
        .arg(dir.path().join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        pause(Duration::from_millis(20));
    }
    fs::write(
        dir.path().join("node.toml"),
        "[node]\nname = \"load\"\n[journal]\nmin_free_bytes = \"0\"\nmax_bytes = \"8GiB\"\n",
    )
    .unwrap();
    fs::write(
        dir.path().join("flow.toml"),
        format!(
            "[source.plant]\ntype = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"plant/#\"]\n\
             values = {{ n = \"n\", p = \"p\", t = \"t\" }}\ntime = \"ts\"\n\
             [model.health]\ntype = \"subspace\"\ninputs = [\"source.plant\"]\n\
             [rule.turn]\ninputs = [\"source.plant\"]\nwhen = \"plant.t > 0.5\"\n"
        ),
    )
    .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--node")
        .arg(dir.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    pause(Duration::from_secs(1));
    let world = System::new();
    let (cpu_before, began_ns) = (cpu_s(child.id()), world.mono_ns());
    let sent = publish(port, rate, seconds);
    let publishing = (world.mono_ns() - began_ns) as f64 / 1e9;
    // What is queued gets there; counted by what the journal has.
    let data = dir.path().join("data");
    let mut held = 0;
    for _ in 0..120 {
        pause(Duration::from_millis(500));
        let now = numbers(&data).len() as u64;
        if now >= sent || now == held {
            held = now;
            break;
        }
        held = now;
    }
    let cpu = cpu_s(child.id()) - cpu_before;
    drop(child.stdin.take());
    child.wait().unwrap();
    mosquitto.kill().unwrap();
    mosquitto.wait().unwrap();
    let found = numbers(&data);
    let distinct: HashSet<u64> = found.iter().copied().collect();
    let mut latencies = latencies(&data);
    latencies.sort_unstable();
    let at =
        |share: f64| latencies.get(((latencies.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(-1);
    println!("sent {sent} in {publishing:.1} s: {:.0} a second (asked for {rate})", sent as f64 / publishing);
    println!(
        "in the journal: {} of them ({held} before the node stopped), {} twice, {} lost",
        distinct.len(),
        found.len() - distinct.len(),
        sent - distinct.len() as u64
    );
    println!(
        "publisher's clock to decision: p50 {} ms, p99 {} ms, of {}",
        at(0.5),
        at(0.99),
        latencies.len()
    );
    println!("node: {cpu:.1} s of CPU, {:.2} of a core while publishing", cpu / publishing);
}

/// Publishes at the rate; how many the broker has taken.
fn publish(port: u16, rate: u64, seconds: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let broker = Broker {
            host: "127.0.0.1".to_owned(),
            port,
            version: Version::V5,
            tls: None,
            user: None,
            password_file: None,
        };
        let mut link = Link::open(&broker, "load", Session::Clean, None).unwrap();
        while !matches!(link.next().await.unwrap(), Event::Connected { .. }) {}
        let world = System::new();
        let (began_ns, total) = (world.mono_ns(), rate * seconds);
        let (mut n, mut waiting) = (0u64, std::collections::VecDeque::new());
        while n < total {
            let due = (((world.mono_ns() - began_ns) as f64 / 1e9 * rate as f64) as u64).min(total);
            while n < due && waiting.len() < AHEAD {
                let since = world.wall_ms();
                let turn = u64::from(n / TURN % 2 == 1);
                let wave = (n as f64 / 50.0).sin();
                let payload = format!("{{\"ts\":{since},\"n\":{n},\"p\":{wave:.4},\"t\":{turn}}}");
                waiting.push_back(
                    link.publish("plant/1".to_owned(), payload.into_bytes(), false).await.unwrap(),
                );
                n += 1;
            }
            match waiting.pop_front() {
                Some(sent) => {
                    let mut taken = std::pin::pin!(sent.taken());
                    loop {
                        tokio::select! {
                            biased;
                            taken = &mut taken => break taken.unwrap(),
                            event = link.next() => drop(event.unwrap()),
                        }
                    }
                }
                None => tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                    event = link.next() => drop(event.unwrap()),
                },
            }
        }
        for sent in waiting {
            let mut taken = std::pin::pin!(sent.taken());
            loop {
                tokio::select! {
                    biased;
                    taken = &mut taken => break taken.unwrap(),
                    event = link.next() => drop(event.unwrap()),
                }
            }
        }
        n
    })
}

/// The number of each message that is in the journal.
fn numbers(data: &Path) -> Vec<u64> {
    let Ok(reader) = Reader::open(data) else { return Vec::new() };
    let mut numbers = Vec::new();
    let (stream, mut after) = (StreamName::new("readings.plant").unwrap(), 0);
    loop {
        let records = reader.run(&stream, after, u64::MAX, 1_000, 64 << 20).unwrap();
        let Some(last) = records.last() else { return numbers };
        after = last.seq;
        for record in &records {
            let body: Value = serde_json::from_str(record.body.get()).unwrap();
            let at = body["channels"].as_array().unwrap().iter().position(|name| name == "n").unwrap();
            numbers.extend(body["values"][at].as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as u64));
        }
    }
}

/// From the time in the message to that of its decision, in milliseconds.
fn latencies(data: &Path) -> Vec<i64> {
    let Ok(reader) = Reader::open(data) else { return Vec::new() };
    let records = reader.records(&StreamName::new("decisions").unwrap(), 0, usize::MAX).unwrap();
    let latency = |(record, _): &(wire::record::Record, wire::hash::Hash)| {
        let body: Value = serde_json::from_str(record.body.get()).unwrap();
        record.wall_ms - body["at_ms"].as_i64().unwrap()
    };
    records.iter().map(latency).collect()
}

/// What a process has used, in seconds.
fn cpu_s(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        |at: usize| after.split_whitespace().nth(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn pause(pause: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(tokio::time::sleep(pause));
}
