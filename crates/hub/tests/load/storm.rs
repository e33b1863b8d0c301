//! A fleet that comes back all at once: a day without a hub, full outboxes, tickets that are worth nothing any more, and some
//! certificates that have run out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use wire::class::Class;
use wire::world::{Entropy as _, System};

use crate::node::{Node, World};
use crate::proof::{self, Found};
use crate::stand::{self, Fleet, Running, usage};
use crate::steady::{come_again, metrics, report};
use crate::tally::Tally;

/// How it is to be.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    pub nodes: usize,
    /// Everybody comes within this.
    pub window: Duration,
    /// Records in each outbox, and how many of them are audit; a tenth of the rest are events.
    pub outbox: u64,
    pub audit: u64,
    pub period: Duration,
    /// It is over by then, at the latest.
    pub patience: Duration,
}

/// What came of it.
pub struct Outcome {
    pub world: Arc<World>,
    pub found: Found,
    pub peak_bytes: u64,
    /// From the beginning until all audit records were in, and until everything was.
    pub audit: Duration,
    pub all: Duration,
}

pub async fn play(folder: &Path, storm: Storm, arguments: &[&str]) -> Outcome {
    let expired_every = 20;
    let fleet = Fleet { nodes: storm.nodes, expired_every, check_in_ms: storm.period.as_millis() as u64 };
    let owns = stand::settle(folder, fleet).await;
    let hub = Running::start(folder, arguments);
    let world = |hub: &Running| {
        Arc::new(World {
            door: hub.nodes.into(),
            believer: stand::believer(folder),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            tally: Tally::default(),
            began: Instant::now(),
            trial: Duration::from_secs(1),
        })
    };
    // The day before: everybody is there once and gets a ticket; the hub is started anew, and takes none of them.
    let before = world(&hub);
    let (http, few) = (reqwest::Client::new(), Arc::new(Semaphore::new(16)));
    let coming = owns.into_iter().enumerate().map(|(n, own)| {
        let mut node = Node::new(n, own, &before, &http);
        let few = few.clone();
        tokio::spawn(async move {
            let _turn = few.acquire().await.unwrap();
            if n % expired_every != 0 {
                node.measure(2);
                node.visit(true).await.unwrap();
            }
            node
        })
    });
    let coming: Vec<_> = coming.collect();
    let mut nodes = Vec::with_capacity(storm.nodes);
    for node in coming {
        nodes.push(node.await.unwrap());
    }
    hub.stop();
    stand::a_day_passes(folder).await;
    let hub = Running::start(folder, arguments);
    let (world, began) = (world(&hub), usage(hub.pid()));
    let own = usage(std::process::id());
    println!(
        "{} nodes within {} s, {} records each, of which {} audit; one certificate in {expired_every} has run out",
        storm.nodes,
        storm.window.as_secs(),
        storm.outbox,
        storm.audit
    );
    let coming: Vec<_> = nodes
        .into_iter()
        .enumerate()
        .map(|(n, mut node)| {
            node.enter(&world);
            node.is_expired = n % expired_every == 0;
            let rest = storm.outbox - storm.audit;
            node.outbox = vec![
                ("decisions", Class::Audit, storm.audit),
                ("events", Class::Event, rest / 10),
                ("metrics", Class::Metric, rest - rest / 10),
            ];
            tokio::spawn(come_back(node, storm, world.clone()))
        })
        .collect();
    let mut nodes = Vec::with_capacity(storm.nodes);
    let mut ended = Vec::with_capacity(storm.nodes);
    for one in coming {
        let (node, at) = one.await.unwrap();
        nodes.push(node);
        ended.push(at);
    }
    let all = ended.into_iter().max().unwrap_or_default();
    let (hub_took, own_took) = (usage(hub.pid()), usage(std::process::id()));
    let metrics = metrics(folder, &hub).await;
    hub.stop();
    let tally = &world.tally;
    print!("{}", tally.table([0; 3], tally.places(), all.as_secs_f64()));
    report(tally, &metrics);
    let (_, [half, most, last]) = tally.audits.since(..);
    let (_, own_audits) = tally.own_audits.since(..);
    println!("audit of all in after: {:.1} s (half {:.1}, 99 % {:.1})", last / 1e3, half / 1e3, most / 1e3);
    println!(
        "audit of each in, from its coming: p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms; everything in after {:.0} s",
        own_audits[0],
        own_audits[1],
        own_audits[2],
        all.as_secs_f64()
    );
    println!(
        "processor: hub {:.0} s, generator {:.0} s; hub's memory at its peak {:.0} MB",
        hub_took.cpu_s - began.cpu_s,
        own_took.cpu_s - own.cpu_s,
        hub_took.peak_bytes as f64 / 1e6
    );
    let read = Instant::now();
    let found = proof::read_back(folder, &nodes).await;
    println!(
        "read back in {:.0} s: {} records of {} streams, whole and single",
        read.elapsed().as_secs_f64(),
        found.records,
        found.streams
    );
    let audit = Duration::from_secs_f64(last / 1e3);
    Outcome { world, found, peak_bytes: hub_took.peak_bytes, audit, all }
}

/// Comes, and comes again until everything is told; when that was.
async fn come_back(mut node: Node, storm: Storm, world: Arc<World>) -> (Node, Duration) {
    let came = world.began + storm.window.mul_f64(System::new().unit());
    sleep_until(came).await;
    node.next = came;
    let mut is_audited = false;
    loop {
        let check_in = Instant::now() >= node.next;
        let visited = node.visit(check_in).await;
        come_again(&mut node, visited);
        if !is_audited && !node.owes_audit() {
            is_audited = true;
            world.tally.audits.add(world.began.elapsed());
            world.tally.own_audits.add(came.elapsed());
        }
        if !node.owes() {
            return (node, world.began.elapsed());
        }
        assert!(world.began.elapsed() < storm.patience, "the hub does not take the rest");
        let ready = node.ready().unwrap_or(node.next);
        // Whoever was sent away comes with what is next.
        let wake = if node.was_sent_away { node.next } else { ready.min(node.next) };
        sleep_until(wake).await;
    }
}
