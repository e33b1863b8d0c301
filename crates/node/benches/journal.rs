//! How fast the journal takes records, what a commit costs, and what the uplink's reads cost beside it.
//!
//! `cargo bench -p node --bench journal -- [DIR]`; `DIR` is a folder on the disk to be measured, a temporary one by
//! default. Prints a table: records/s, MB/s of bodies, microseconds of a commit (median, p99).

#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use node::journal::outbox::Outbox;
use node::journal::{Durability, Journal, Settings};
use serde_json::value::RawValue;
use wire::batch::Watermark;
use wire::class::Class;
use wire::id::{BootId, PartName, StreamName};
use wire::record::{Draft, Stamp};
use wire::world::{Clock, ClockQuality, System};

struct Case {
    name: &'static str,
    class: Class,
    body_bytes: usize,
    group: usize,
    durability: Durability,
    records: usize,
    /// An uplink reads and settles meanwhile.
    uplink: bool,
}

fn main() {
    let dir = std::env::args().skip(1).find(|word| !word.starts_with('-')).map(PathBuf::from);
    let small = Case {
        name: "small, groups of 100",
        class: Class::Metric,
        body_bytes: 120,
        group: 100,
        durability: Durability::Relaxed,
        records: 200_000,
        uplink: false,
    };
    let cases = [
        Case { name: "small, one by one", group: 1, records: 50_000, ..small },
        Case { name: "small, beside an uplink", records: 1_000_000, uplink: true, ..small },
        Case { name: "windows of 4 kB, groups of 10", body_bytes: 4000, group: 10, records: 30_000, ..small },
        Case { name: "windows of 4 kB, one by one", body_bytes: 4000, group: 1, records: 20_000, ..small },
        Case {
            name: "windows of 4 kB, beside an uplink",
            body_bytes: 4000,
            group: 1,
            records: 60_000,
            uplink: true,
            ..small
        },
        Case { name: "decisions, one by one, on disk", class: Class::Audit, group: 1, records: 500, ..small },
        small,
    ];
    println!("{:36} {:>10} {:>8} {:>10} {:>10}", "", "records/s", "MB/s", "median us", "p99 us");
    for case in cases {
        run(&case, dir.as_deref());
    }
}

fn run(case: &Case, dir: Option<&std::path::Path>) {
    let folder = dir.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a folder for the bench");
    let mut world = System::new();
    let opened = Journal::open(folder.path(), Settings::default(), &mut world).expect("a journal");
    let mut journal = opened.journal;
    let boot = BootId::random(&mut world);
    let stop = Arc::new(AtomicBool::new(false));
    let reader = case.uplink.then(|| {
        let (outbox, stop) = (journal.outbox().expect("an outbox"), stop.clone());
        std::thread::spawn(move || send_all(&outbox, &stop))
    });

    let stream = StreamName::new("summary.pump").expect("a name");
    let kind = PartName::new("summary").expect("a name");
    let body = format!("{{\"pad\":\"{}\"}}", "x".repeat(case.body_bytes.saturating_sub(10)));
    let drafts: Vec<Draft> = (0..case.group)
        .map(|_| Draft {
            stream: stream.clone(),
            class: case.class,
            kind: kind.clone(),
            body: RawValue::from_string(body.clone()).expect("JSON"),
        })
        .collect();

    let mut commits_ns = Vec::new();
    let begin = world.mono_ns();
    for _ in 0..case.records / case.group {
        let now = world.mono_ns();
        let stamp = Stamp { boot, mono_ns: now, wall_ms: world.wall_ms(), clock: ClockQuality::Unchecked };
        journal.append(drafts.iter().cloned(), stamp).expect("good drafts");
        let due = journal.durable_due().is_some_and(|due| due <= now);
        journal.commit(if due { Durability::Full } else { case.durability }).expect("a commit");
        commits_ns.push(world.mono_ns() - now);
    }
    let seconds = (world.mono_ns() - begin) as f64 / 1e9;
    stop.store(true, Relaxed);
    let sent = reader.map(|reader| reader.join().expect("the uplink's thread"));

    commits_ns.sort_unstable();
    let at = |share: f64| commits_ns[((commits_ns.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    let rate = case.records as f64 / seconds;
    println!(
        "{:36} {rate:>10.0} {:>8.1} {:>10.1} {:>10.1}{}",
        case.name,
        rate * case.body_bytes as f64 / 1e6,
        at(0.5),
        at(0.99),
        sent.map_or(String::new(), |sent| format!("   ({sent} sent meanwhile)"))
    );
}

/// Reads and settles as an uplink to a hub that answers at once.
fn send_all(outbox: &Outbox, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Relaxed) {
        let mut idle = true;
        for position in outbox.positions().expect("positions") {
            if let Some(run) = outbox.next_run(&position.stream, 256 << 10, 4096).expect("a run") {
                let seq = run.records.last().map_or(position.durable, |record| record.seq);
                let mark = Watermark { stream: position.stream, seq, hash: run.head };
                outbox.settle(&[mark], false).expect("settled");
                sent += run.records.len() as u64;
                idle = false;
            }
        }
        if idle {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    sent
}
