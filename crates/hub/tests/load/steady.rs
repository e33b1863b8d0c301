//! A fleet on an ordinary day: check-ins, records, facts that change, a rollout under way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use wire::world::{Entropy as _, System};

use crate::node::{Failed, Node, World};
use crate::proof::{self, Found};
use crate::stand::{self, Fleet, Running, usage};
use crate::tally::Tally;

/// How a day is to be.
#[derive(Debug, Clone, Copy)]
pub struct Day {
    pub nodes: usize,
    /// How often a node checks in.
    pub period: Duration,
    /// Records a second, of all nodes.
    pub records: u64,
    pub lasts: Duration,
    /// How long a release is tried, and a wave looked at.
    pub trial: Duration,
    /// How often a line is printed.
    pub print: Duration,
}

/// What came of it.
pub struct Outcome {
    pub world: Arc<World>,
    pub found: Found,
    pub peak_bytes: u64,
}

pub async fn play(folder: &Path, day: Day, arguments: &[&str]) -> Outcome {
    let fleet = Fleet { nodes: day.nodes, expired_every: 0, check_in_ms: day.period.as_millis() as u64 };
    let owns = stand::settle(folder, fleet).await;
    stand::roll_out(folder, day.nodes, day.trial.as_secs() as u32).await;
    let hub = Running::start(folder, arguments);
    let world = Arc::new(World {
        door: hub.nodes.into(),
        believer: stand::believer(folder),
        provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        tally: Tally::default(),
        began: Instant::now(),
        trial: day.trial,
    });
    let (began, end) = (usage(hub.pid()), world.began + day.lasts);
    let own = usage(std::process::id());
    println!(
        "{} nodes every {} s, {} records/s, for {} s; hub {:.0} MB before anybody came",
        day.nodes,
        day.period.as_secs(),
        day.records,
        day.lasts.as_secs(),
        began.rss_bytes as f64 / 1e6
    );
    let http = reqwest::Client::new();
    let living: Vec<_> = owns
        .into_iter()
        .enumerate()
        .map(|(n, own)| tokio::spawn(live(Node::new(n, own, &world, &http), day, world.clone(), end)))
        .collect();
    let printing = tokio::spawn(print(world.clone(), hub.pid(), day.print, end));
    let tally = world.clone();
    let ending = tokio::spawn(async move {
        sleep_until(end).await;
        tally.tally.places()
    });
    let mut nodes = Vec::with_capacity(day.nodes);
    for one in living {
        nodes.push(one.await.unwrap());
    }
    let seconds = world.began.elapsed().as_secs_f64();
    printing.abort();
    let ended = ending.await.unwrap();
    let (hub_took, own_took) = (usage(hub.pid()), usage(std::process::id()));
    let metrics = metrics(folder, &hub).await;
    hub.stop();
    let lasted = day.lasts.as_secs_f64();
    print!("the day:\n{}", world.tally.table([0; 3], ended, lasted));
    println!("then everybody told the rest at once, in {:.0} s:", seconds - lasted);
    print!("{}", world.tally.table(ended, world.tally.places(), seconds - lasted));
    report(&world.tally, &metrics);
    println!(
        "processor: hub {:.0} s, generator {:.0} s, of {seconds:.0} s; hub's memory at its peak {:.0} MB",
        hub_took.cpu_s - began.cpu_s,
        own_took.cpu_s - own.cpu_s,
        hub_took.peak_bytes as f64 / 1e6
    );
    let read = Instant::now();
    let found = proof::read_back(folder, &nodes).await;
    println!(
        "read back in {:.0} s: {} records of {} streams, whole and single; members {:?}",
        read.elapsed().as_secs_f64(),
        found.records,
        found.streams,
        found.members
    );
    Outcome { world, found, peak_bytes: hub_took.peak_bytes }
}

pub fn report(tally: &Tally, metrics: &[(String, f64)]) {
    let metric =
        |name: &str| metrics.iter().find(|(known, _)| known == name).map_or(0.0, |(_, value)| *value);
    let shaken = |end: &str| metric(&format!("hub_handshakes_total{{end=\"{end}\"}}"));
    let (full, resumed, failed) = (shaken("full"), shaken("resumed"), shaken("failed"));
    println!(
        "records acknowledged {}; busy {}; odd answers {}; broken connections {}; installs {}; renewals {}; rung {}",
        tally.get(&tally.records),
        tally.get(&tally.busy),
        tally.get(&tally.odd),
        tally.get(&tally.broken),
        tally.get(&tally.installs),
        tally.get(&tally.renewals),
        tally.get(&tally.rung)
    );
    println!(
        "handshakes: {full:.0} full, {resumed:.0} resumed ({:.1} %), {failed:.0} failed; calls held {:.0}",
        100.0 * resumed / (full + resumed).max(1.0),
        metric("hub_waits_held")
    );
}

/// The hub's own numbers.
pub async fn metrics(folder: &Path, hub: &Running) -> Vec<(String, f64)> {
    let token = std::fs::read_to_string(folder.join("first-admin.token")).unwrap();
    let ask = reqwest::Client::new().get(format!("http://{}/metrics", hub.people)).bearer_auth(token.trim());
    let text = ask.send().await.unwrap().text().await.unwrap();
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

async fn live(mut node: Node, day: Day, world: Arc<World>, end: Instant) -> Node {
    let mut chance = System::new();
    let rate = day.records as f64 / day.nodes as f64;
    node.next = Instant::now() + day.period.mul_f64(chance.unit());
    let (mut written, mut behaved) =
        (Instant::now(), Instant::now() + Duration::from_secs(600).mul_f64(chance.unit()));
    loop {
        let ready = node.ready().filter(|_| !node.was_sent_away);
        let wake = ready.map_or(node.next, |ready| ready.min(node.next)).min(end);
        let bell = node.bell.clone();
        let is_rung = tokio::select! {
            () = sleep_until(wake) => false,
            () = bell.notified() => true,
        };
        let now = Instant::now();
        if now >= end {
            break;
        }
        let due = ((now - written).as_secs_f64() * rate) as u64;
        node.measure(due);
        written += Duration::from_secs_f64(due as f64 / rate.max(1e-9));
        if now >= behaved {
            node.behave();
            behaved += Duration::from_secs(600);
        }
        let check_in = is_rung || now >= node.next;
        let visited = node.visit(check_in).await;
        come_again(&mut node, visited);
    }
    node.measure(((end - written).as_secs_f64() * rate) as u64);
    // What is written is told, and known to be.
    while node.owes() {
        let visited = node.visit(true).await;
        assert!(
            world.began.elapsed() < day.lasts + Duration::from_secs(120),
            "the hub does not take the rest"
        );
        if visited.is_err() || node.owes() {
            sleep(Duration::from_secs(1)).await;
        }
    }
    node
}

/// When a node that was sent away comes again.
pub fn come_again(node: &mut Node, visited: Result<(), Failed>) {
    node.was_sent_away = visited.is_err();
    match visited {
        Ok(()) => {}
        Err(Failed::Later(wait)) => node.next = Instant::now() + wait,
        Err(Failed::Broken) => {
            node.next = Instant::now() + Duration::from_secs_f64(1.0 + 2.0 * System::new().unit());
        }
        Err(Failed::Odd) => node.next = Instant::now() + Duration::from_secs(30),
    }
}

async fn print(world: Arc<World>, pid: u32, every: Duration, end: Instant) {
    let (mut places, mut before) = (world.tally.places(), usage(pid).cpu_s);
    while Instant::now() + every / 2 < end {
        sleep(every).await;
        let [_, from_check_ins, from_batches] = places;
        let (check_ins, [half, most, all]) = world.tally.check_ins.since(from_check_ins..);
        let (batches, [_, batch_most, _]) = world.tally.batches.since(from_batches..);
        let now = usage(pid);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "{:>5.0} s: {:.0} check-ins/s p50 {half:.1} p99 {most:.1} max {all:.0} ms; {:.0} batches/s p99 {batch_most:.1} ms; \
             hub {:.0} % of a core, {:.0} MB; load {}",
            world.began.elapsed().as_secs_f64(),
            check_ins as f64 / every.as_secs_f64(),
            batches as f64 / every.as_secs_f64(),
            100.0 * (now.cpu_s - before) / every.as_secs_f64(),
            now.rss_bytes as f64 / 1e6,
            load.split(' ').next().unwrap_or_default()
        );
        (places, before) = (world.tally.places(), now.cpu_s);
    }
}
