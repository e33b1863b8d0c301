//! What a journal drops when it is full, in which order, and that every loss is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use node::journal::reader::Reader;
use node::journal::verify::verify;
use node::journal::{Counts, Durability, Journal, JournalError, Settings};
use wire::batch::{Outcome, Watermark};
use wire::class::Class;
use wire::record::GapReason;
use wire::world::{Entropy, Simulated};

use crate::stand::{FakeHub, batch, body, capped, draft, folder, open, stamp, stream};

/// Appends one record and commits it.
fn put(journal: &mut Journal, world: &mut Simulated, name: &str, class: Class, n: u64, bytes: usize) {
    journal.append([draft(name, class, &body(n, bytes))], stamp(world)).unwrap();
    journal.commit(Durability::Relaxed).unwrap();
}

/// `(first kept, last)` of a stream.
fn span(journal: &Journal, name: &str) -> (u64, u64) {
    let positions = journal.outbox().unwrap().positions().unwrap();
    let position = positions.into_iter().find(|position| position.stream.as_str() == name).unwrap();
    (position.first, position.last)
}

#[test]
fn the_file_never_outgrows_its_cap_whatever_the_bodies() {
    for bytes in [30, 300, 1100, 2060, 4000, 4100, 9000] {
        let (dir, mut world) = (folder(), Simulated::new(bytes as u64));
        let cap = 512 << 10;
        let mut journal = open(&dir, cap, &mut world);
        let mut most = 0;
        for n in 0..(3 * cap / (bytes as u64 + 160)) {
            // Mixed with small ones of another class, which are evicted later.
            let bytes = if n % 3 == 0 { 40 } else { bytes };
            let (name, class) = if n % 3 == 0 { ("e", Class::Event) } else { ("r", Class::Raw) };
            journal.append([draft(name, class, &body(n, bytes))], stamp(&mut world)).unwrap();
            if n % 7 == 0 {
                journal.commit(Durability::Relaxed).unwrap();
                most = most.max(std::fs::metadata(dir.path().join("journal.sqlite")).unwrap().len());
            }
        }
        journal.commit(Durability::Relaxed).unwrap();
        let used = journal.used_bytes().unwrap();
        assert!(most <= cap && used <= cap, "{bytes}: {most} {used}");
        // And it is used: more than two thirds of it are bodies and their rows.
        let records: u64 = ["e", "r"].map(|name| span(&journal, name)).iter().map(|(f, l)| l + 1 - f).sum();
        let kept: u64 = journal.outbox().unwrap().positions().unwrap().iter().map(|p| p.bytes).sum();
        assert!(kept + records * 110 > cap * 6 / 10 || bytes == 2060, "{bytes}: {kept} in {records}");
        let reader = Reader::open(dir.path()).unwrap();
        assert!(verify(&reader).unwrap().iter().all(|check| check.broken.is_none()), "{bytes}");
    }
}

#[test]
fn what_the_hub_has_goes_first_then_the_least_precious_then_the_oldest() {
    let (dir, mut world) = (folder(), Simulated::new(3));
    let mut journal = open(&dir, 256 << 10, &mut world);
    let classes = [("d", Class::Audit), ("e", Class::Event), ("m", Class::Metric), ("r", Class::Raw)];
    for n in 0..30 {
        for (name, class) in classes {
            put(&mut journal, &mut world, name, class, n, 1000);
        }
    }
    // The hub has the first twenty decisions.
    journal.commit(Durability::Full).unwrap();
    let outbox = journal.outbox().unwrap();
    let run = outbox.next_run(&stream("d"), 1 << 20, 20).unwrap().unwrap();
    outbox.settle(&[Watermark { stream: stream("d"), seq: 20, hash: run.head }], false).unwrap();
    // Nothing had to go yet; now room is needed for decisions only.
    assert_eq!(journal.counts(), Counts { records: 120, ..Counts::default() });
    let mut firsts = Vec::new();
    let mut n = 30;
    loop {
        let new = [draft("d", Class::Audit, &body(n, 1000))];
        journal.append(new, stamp(&mut world)).unwrap();
        match journal.commit(Durability::Relaxed) {
            Ok(_) => {}
            Err(JournalError::Full { refused: 1, .. }) => break,
            Err(error) => panic!("{error}"),
        }
        firsts.push(classes.map(|(name, _)| span(&journal, name).0));
        n += 1;
    }
    let full = |name: usize, first: u64| firsts.iter().position(|firsts| firsts[name] == first).unwrap();
    // Acked decisions, then raw, then metrics, then events; each to its end before the next begins.
    let raw_begins = firsts.iter().position(|firsts| firsts[3] > 1).unwrap();
    let metric_begins = firsts.iter().position(|firsts| firsts[2] > 1).unwrap();
    let event_begins = firsts.iter().position(|firsts| firsts[1] > 1).unwrap();
    assert!(full(0, 21) <= raw_begins && full(3, 31) <= metric_begins && full(2, 31) <= event_begins);
    assert!(raw_begins < metric_begins && metric_begins < event_begins);
    // No decision that the hub lacks was dropped, and the one that did not fit is counted, not numbered.
    assert_eq!(span(&journal, "d"), (21, n));
    assert_eq!(journal.counts().refused, 1);
    assert_eq!(journal.counts().evicted_acked, 20);
    // The less precious are numbered and lost at once: the gap says so.
    put(&mut journal, &mut world, "m", Class::Metric, 99, 1000);
    journal.commit(Durability::Full).unwrap();
    let run = outbox.next_run(&stream("m"), 1 << 20, 20).unwrap().unwrap();
    let gap = run.gap.unwrap();
    assert_eq!((gap.first, gap.last, gap.reason), (1, 31, GapReason::ByteCap));
    assert!(run.records.is_empty());
    // When the hub takes decisions, there is room again.
    let run = outbox.next_run(&stream("d"), 1 << 20, 50).unwrap().unwrap();
    let seq = run.records.last().unwrap().seq;
    outbox.settle(&[Watermark { stream: stream("d"), seq, hash: run.head }], false).unwrap();
    put(&mut journal, &mut world, "d", Class::Audit, n, 1000);
    assert_eq!(span(&journal, "d").1, n + 1);
}

#[test]
fn something_less_precious_never_drops_something_more_precious() {
    let (dir, mut world) = (folder(), Simulated::new(4));
    let mut journal = open(&dir, 128 << 10, &mut world);
    while journal.counts().evicted_unsent == 0 {
        put(&mut journal, &mut world, "e", Class::Event, 1, 1000);
    }
    let before = span(&journal, "e");
    for n in 0..50 {
        put(&mut journal, &mut world, "m", Class::Metric, n, 3000);
        put(&mut journal, &mut world, "r", Class::Raw, n, 3000);
    }
    assert_eq!(span(&journal, "e"), before);
    assert_eq!(span(&journal, "m").1, 50);
}

/// What was lost before it was on the disk must not be told yet: after a power cut its numbers are used again.
#[test]
fn a_gap_ends_where_the_disk_does() {
    let (dir, mut world) = (folder(), Simulated::new(7));
    let mut journal = open(&dir, 128 << 10, &mut world);
    put(&mut journal, &mut world, "m", Class::Metric, 0, 100);
    let mut n = 0;
    while journal.counts().refused == 0 {
        n += 1;
        journal.append([draft("d", Class::Audit, &body(n, 1000))], stamp(&mut world)).unwrap();
        journal.commit(Durability::Full).ok();
    }
    // From here on, metrics are numbered and lost at once.
    for n in 1..4 {
        put(&mut journal, &mut world, "m", Class::Metric, n, 100);
    }
    let outbox = journal.outbox().unwrap();
    let mut hub = FakeHub::default();
    let run = outbox.next_run(&stream("m"), 1 << 20, 10).unwrap().unwrap();
    assert_eq!((run.gap.as_ref().map(|gap| (gap.first, gap.last)), run.records.len()), (Some((1, 1)), 0));
    outbox.settle(&[hub.take(&batch(run)).watermark], false).unwrap();
    assert!(outbox.next_run(&stream("m"), 1 << 20, 10).unwrap().is_none());
    journal.commit(Durability::Full).unwrap();
    let run = outbox.next_run(&stream("m"), 1 << 20, 10).unwrap().unwrap();
    assert_eq!(run.gap.as_ref().map(|gap| (gap.first, gap.last)), Some((2, 4)));
    let settled = outbox.settle(&[hub.take(&batch(run)).watermark], false).unwrap();
    assert!(settled.strangers.is_empty());
}

#[test]
fn random_nights_on_a_tiny_disk_account_for_every_record() {
    for seed in 0..40 {
        let (dir, mut world) = (folder(), Simulated::new(seed));
        let mut journal = open(&dir, 96 << 10, &mut world);
        let mut hub = FakeHub::default();
        let names = [("d", Class::Audit), ("e", Class::Event), ("m", Class::Metric), ("n", Class::Metric)];
        let mut written = std::collections::BTreeMap::<&str, Vec<String>>::new();
        for n in 0..400u64 {
            let (name, class) = names[(world.unit() * 4.0) as usize];
            let bytes = 30 + (world.unit() * world.unit() * 5000.0) as usize;
            let text = body(n, bytes);
            journal.append([draft(name, class, &text)], stamp(&mut world)).unwrap();
            match journal.commit(Durability::Relaxed) {
                Ok(_) => written.entry(name).or_default().push(text),
                Err(JournalError::Full { refused: 1, .. }) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
            if world.unit() < 0.02 {
                let outbox = journal.outbox().unwrap();
                let name = stream(names[(world.unit() * 4.0) as usize].0);
                if let Some(run) = outbox.next_run(&name, 8000, 100).unwrap() {
                    let answer = hub.take(&batch(run));
                    outbox.settle(&[answer.watermark], false).unwrap();
                }
            }
        }
        journal.commit(Durability::Full).unwrap();
        let outbox = journal.outbox().unwrap();
        for (name, _) in names {
            while let Some(run) = outbox.next_run(&stream(name), 64 << 10, 100).unwrap() {
                let answer = hub.take(&batch(run));
                assert_eq!(answer.outcome, Outcome::Stored, "seed {seed} {name}");
                let settled = outbox.settle(&[answer.watermark], false).unwrap();
                assert!(settled.strangers.is_empty() && settled.rewound.is_empty(), "seed {seed} {name}");
            }
            let Some(written) = written.get(name) else { continue };
            let held = &hub.streams[&(journal.id(), stream(name))];
            held.check().unwrap_or_else(|why| panic!("seed {seed} {name}: {why}"));
            assert_eq!(held.seq, written.len() as u64, "seed {seed} {name}");
            for record in &held.records {
                assert_eq!(record.body.get(), written[record.seq as usize - 1], "seed {seed} {name}");
            }
        }
        assert!(used_fits(&journal), "seed {seed}");
    }
}

fn used_fits(journal: &Journal) -> bool {
    journal.used_bytes().unwrap() <= 96 << 10
}

#[test]
fn while_the_disk_is_short_the_file_does_not_grow_but_the_newest_is_kept() {
    let (dir, mut world) = (folder(), Simulated::new(5));
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let told = free.clone();
    let settings = Settings { min_free_bytes: 1 << 30, ..capped(16 << 20) };
    let journal =
        Journal::open_with(dir.path(), settings, Box::new(move || Some(told.load(Relaxed))), &mut world);
    let mut journal = journal.unwrap().journal;
    let file = || std::fs::metadata(dir.path().join("journal.sqlite")).unwrap().len();
    for n in 0..600 {
        put(&mut journal, &mut world, "m", Class::Metric, n, 4000);
    }
    assert_eq!(span(&journal, "m").0, 1);
    free.store(1 << 29, Relaxed);
    put(&mut journal, &mut world, "m", Class::Metric, 600, 4000);
    let (used, kept) = (journal.used_bytes().unwrap(), file());
    for n in 601..1200 {
        put(&mut journal, &mut world, "m", Class::Metric, n, 4000);
    }
    assert!(journal.used_bytes().unwrap() <= used.max(kept) + (64 << 10), "{used}");
    let (first, last) = span(&journal, "m");
    assert!(first > 500 && last == 1200, "{first}");
    journal.commit(Durability::Full).unwrap();
    let run = journal.outbox().unwrap().next_run(&stream("m"), 1000, 1).unwrap().unwrap();
    assert_eq!(run.gap.map(|gap| gap.reason), Some(GapReason::DiskFull));
    // Room again, growth again.
    free.store(u64::MAX, Relaxed);
    for n in 1200..1800 {
        put(&mut journal, &mut world, "m", Class::Metric, n, 4000);
    }
    assert_eq!(span(&journal, "m").0, first);
}

#[test]
fn a_lowered_cap_makes_the_file_smaller() {
    let (dir, mut world) = (folder(), Simulated::new(6));
    let mut journal = open(&dir, 4 << 20, &mut world);
    for n in 0..500 {
        put(&mut journal, &mut world, "m", Class::Metric, n, 4000);
    }
    drop(journal);
    let journal = open(&dir, 256 << 10, &mut world);
    assert!(journal.used_bytes().unwrap() <= 256 << 10);
    let (first, last) = span(&journal, "m");
    assert!(first > 400 && last == 500, "{first}");
    journal.close().unwrap();
    let len = std::fs::metadata(dir.path().join("journal.sqlite")).unwrap().len();
    assert!(len <= 256 << 10, "{len}");
}

#[test]
fn a_journal_that_makes_room_keeps_what_is_precious_and_tells_its_gaps() {
    let (dir, mut world) = (folder(), Simulated::new(9));
    let mut journal = open(&dir, 4 << 20, &mut world);
    for n in 0..600 {
        put(&mut journal, &mut world, "r", Class::Raw, n, 2_000);
        put(&mut journal, &mut world, "m", Class::Metric, n, 1_000);
        if n % 6 == 0 {
            put(&mut journal, &mut world, "e", Class::Event, n, 1_000);
        }
    }
    let file = || std::fs::metadata(dir.path().join("journal.sqlite")).unwrap().len();
    let gave = journal.shrink().unwrap();
    assert!(gave > 1 << 20, "{gave}");
    assert!(
        journal.used_bytes().unwrap() <= journal.floor_bytes()
            && file() <= journal.floor_bytes() + (64 << 10)
    );
    assert_eq!(span(&journal, "e"), (1, 100), "events stay");
    assert!(span(&journal, "r").0 > 1 && journal.counts().evicted_unsent > 0);
    assert_eq!(journal.shrink().unwrap(), 0, "it is at its floor");
    // It goes on, and what is kept is whole.
    put(&mut journal, &mut world, "r", Class::Raw, 600, 2_000);
    assert_eq!(span(&journal, "r").1, 601);
    let checks = verify(&Reader::open(dir.path()).unwrap()).unwrap();
    assert!(checks.iter().all(|check| check.broken.is_none()), "{checks:?}");
    journal.drop_caches().unwrap();
}
