//! What a journal promises of numbering, chaining, reopening and reading back.

use crate::stand::{body, capped, draft, folder, open, stamp, stream};
use node::journal::reader::Reader;
use node::journal::verify::verify;
use node::journal::{Durability, Journal, JournalError, OpenError, Settings};
use node::policy::{Policy, Say};
use wire::batch::Watermark;
use wire::class::Class;
use wire::hash::Hash;
use wire::record::{BODY_MAX_BYTES, GapReason};
use wire::world::{Clock, Simulated};

#[test]
fn numbers_run_from_one_across_restarts_and_the_chain_holds() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut id = None;
    for run in 0..4 {
        let opened = Journal::open(dir.path(), capped(1 << 20), &mut world).unwrap();
        // The first has no run before it, the second follows a crash, the third a clean end.
        assert_eq!(opened.clean, [None, Some(false), Some(true), Some(false)][run]);
        let mut journal = opened.journal;
        assert_eq!(*id.get_or_insert(journal.id()), journal.id());
        for n in 0..5 {
            let n = run as u64 * 5 + n;
            let drafts =
                [draft("decisions", Class::Audit, &body(n, 50)), draft("readings.a", Class::Raw, "[1]")];
            world.advance_ms(10);
            journal.append(drafts, stamp(&mut world)).unwrap();
            journal.commit(Durability::Relaxed).unwrap();
        }
        if run == 1 {
            journal.close().unwrap();
        }
    }
    let reader = Reader::open(dir.path()).unwrap();
    let records = reader.records(&stream("decisions"), 0, 100).unwrap();
    assert_eq!(records.len(), 20);
    for (n, (record, _)) in records.iter().enumerate() {
        assert_eq!((record.seq, record.body.get()), (n as u64 + 1, body(n as u64, 50).as_str()));
    }
    let latest = reader.latest(&stream("decisions"), 3).unwrap();
    assert_eq!(latest.iter().map(|(record, _)| record.seq).collect::<Vec<_>>(), [18, 19, 20]);
    assert!(reader.records(&stream("other"), 0, 10).unwrap().is_empty());
    for check in verify(&reader).unwrap() {
        assert_eq!((check.first, check.last, check.records, check.broken), (1, 20, 20, None));
    }
}

#[test]
fn bad_drafts_are_refused_whole_and_the_others_are_kept() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 1 << 20, &mut world);
    journal.append([draft("a", Class::Event, "1")], stamp(&mut world)).unwrap();
    let large = body(1, BODY_MAX_BYTES + 100);
    let error = journal
        .append([draft("a", Class::Event, "2"), draft("a", Class::Metric, "3")], stamp(&mut world))
        .unwrap_err();
    assert!(matches!(error, JournalError::OtherClass { has: Class::Event, wants: Class::Metric, .. }));
    let error = journal.append([draft("a", Class::Event, &large)], stamp(&mut world)).unwrap_err();
    assert!(matches!(error, JournalError::TooLarge { .. }), "{error}");
    journal.append([draft("a", Class::Event, "4")], stamp(&mut world)).unwrap();
    assert_eq!(journal.commit(Durability::Relaxed).unwrap().records, 2);
    assert_eq!(journal.counts().refused, 3);
    drop(journal);
    // The class is remembered.
    let mut journal = open(&dir, 1 << 20, &mut world);
    assert!(journal.append([draft("a", Class::Metric, "5")], stamp(&mut world)).is_err());
    let reader = Reader::open(dir.path()).unwrap();
    let bodies: Vec<String> =
        reader.records(&stream("a"), 0, 9).unwrap().iter().map(|(r, _)| r.body.get().into()).collect();
    assert_eq!(bodies, ["1", "4"]);
}

#[test]
fn only_what_survives_a_power_cut_is_sent() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 1 << 20, &mut world);
    let outbox = journal.outbox().unwrap();
    let sent = || outbox.next_run(&stream("m"), 1 << 20, 10).unwrap().map(|run| run.records.len());
    world.advance_ms(500);
    journal.append([draft("m", Class::Metric, "1")], stamp(&mut world)).unwrap();
    assert_eq!(journal.durable_due(), Some(world.mono_ns() + 1_000_000_000));
    assert!(!journal.commit(Durability::Relaxed).unwrap().durable);
    assert_eq!(sent(), None);
    world.advance_ms(300);
    journal.append([draft("m", Class::Metric, "2")], stamp(&mut world)).unwrap();
    journal.commit(Durability::Relaxed).unwrap();
    // The oldest record sets the time.
    assert_eq!(journal.durable_due(), Some(1_500_000_000));
    // An audit record takes all others with it.
    journal.append([draft("d", Class::Audit, "1")], stamp(&mut world)).unwrap();
    assert!(journal.commit(Durability::Relaxed).unwrap().durable);
    assert_eq!((journal.durable_due(), sent()), (None, Some(2)));
    journal.append([draft("m", Class::Metric, "3")], stamp(&mut world)).unwrap();
    journal.commit(Durability::Relaxed).unwrap();
    assert_eq!(sent(), Some(2));
    journal.commit(Durability::Full).unwrap();
    assert_eq!(sent(), Some(3));
    // The end of the process is no power cut: the next run makes it durable.
    journal.append([draft("m", Class::Metric, "4")], stamp(&mut world)).unwrap();
    journal.commit(Durability::Relaxed).unwrap();
    drop(journal);
    let _journal = open(&dir, 1 << 20, &mut world);
    assert_eq!(sent(), Some(4));
}

#[test]
fn a_run_keeps_to_its_limits_and_gives_at_least_one_record() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 4 << 20, &mut world);
    let drafts = (0..100).map(|n| draft("m", Class::Metric, &body(n, 1000)));
    journal.append(drafts, stamp(&mut world)).unwrap();
    journal.commit(Durability::Full).unwrap();
    let outbox = journal.outbox().unwrap();
    let count = |bytes, records| {
        outbox.next_run(&stream("m"), bytes, records).unwrap().map_or(0, |run| run.records.len())
    };
    assert_eq!(count(1, 100), 1);
    assert_eq!(count(1 << 20, 7), 7);
    assert_eq!(count(1 << 20, 1000), 100);
    assert!((8..=9).contains(&count(10_000, 1000)));
    assert!(outbox.next_run(&stream("none"), 1 << 20, 10).unwrap().is_none());
}

fn all_leaves() -> Policy {
    Policy { usual: Say { leaves: Class::ALL.to_vec(), ..Say::usual() }, ..Policy::default() }
}

#[test]
fn raw_stays_unless_the_policy_lets_it_leave() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 1 << 20, &mut world);
    journal.append([draft("raw", Class::Raw, "1")], stamp(&mut world)).unwrap();
    journal.commit(Durability::Full).unwrap();
    assert!(journal.outbox().unwrap().next_run(&stream("raw"), 1000, 10).unwrap().is_none());
    drop(journal);
    let settings = Settings { policy: all_leaves(), ..capped(1 << 20) };
    let journal = Journal::open(dir.path(), settings, &mut world).unwrap().journal;
    assert!(journal.outbox().unwrap().next_run(&stream("raw"), 1000, 10).unwrap().is_some());
}

#[test]
fn the_hubs_word_is_taken_as_far_as_it_can_be_true() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 1 << 20, &mut world);
    journal.append((0..10).map(|n| draft("m", Class::Metric, &body(n, 9))), stamp(&mut world)).unwrap();
    journal.commit(Durability::Full).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let hashes: Vec<Hash> =
        reader.records(&stream("m"), 0, 10).unwrap().into_iter().map(|(_, hash)| hash).collect();
    let outbox = journal.outbox().unwrap();
    let check = |seq: u64, hash: Hash, strangers: bool, rewound: bool, acked: u64| {
        let mark = Watermark { stream: stream("m"), seq, hash };
        let settled = outbox.settle(&[mark], false).unwrap();
        assert_eq!(!settled.strangers.is_empty(), strangers, "strangers at {seq}");
        assert_eq!(!settled.rewound.is_empty(), rewound, "rewound at {seq}");
        assert_eq!(outbox.positions().unwrap()[0].acked, acked, "acked at {seq}");
    };
    check(4, hashes[3], false, false, 4);
    check(4, hashes[3], false, false, 4);
    check(7, Hash::of(b"other"), true, false, 4);
    check(11, Hash::of(b"future"), true, false, 4);
    check(10, hashes[9], false, false, 10);
    check(2, hashes[1], false, true, 2);
    check(0, Hash::GENESIS, false, true, 0);
    check(3, hashes[2], false, false, 3);
    // A hub that says nothing of a stream has nothing of it, if it was asked for all.
    assert!(outbox.settle(&[], false).unwrap().rewound.is_empty());
    assert_eq!(outbox.settle(&[], true).unwrap().rewound, [stream("m")]);
    // A stream that we never had, but the hub has.
    let mark = Watermark { stream: stream("who"), seq: 1, hash: Hash::of(b"") };
    assert_eq!(outbox.settle(&[mark], false).unwrap().strangers, [stream("who")]);
    // The run goes on right after what is settled, with nothing lost.
    let run = outbox.next_run(&stream("m"), 1 << 20, 100).unwrap().unwrap();
    assert_eq!((run.gap, run.records[0].seq, run.head), (None, 1, hashes[9]));
}

#[test]
fn what_a_restored_hub_asks_for_and_the_node_no_longer_has_is_a_gap() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 128 << 10, &mut world);
    let outbox = journal.outbox().unwrap();
    // Everything is settled as it comes, so everything is evicted as acked in the end.
    for n in 0..400 {
        journal.append([draft("m", Class::Metric, &body(n, 1000))], stamp(&mut world)).unwrap();
        journal.commit(Durability::Full).unwrap();
        let run = outbox.next_run(&stream("m"), 1 << 20, 100).unwrap().unwrap();
        let seq = run.records.last().unwrap().seq;
        outbox.settle(&[Watermark { stream: stream("m"), seq, hash: run.head }], false).unwrap();
    }
    assert_eq!(journal.counts().evicted_unsent, 0);
    assert!(journal.counts().evicted_acked > 250);
    outbox.settle(&[], true).unwrap();
    let run = outbox.next_run(&stream("m"), 1 << 20, 1000).unwrap().unwrap();
    let gap = run.gap.unwrap();
    assert_eq!((gap.first, gap.reason), (1, GapReason::Retired));
    assert_eq!(run.records[0].seq, gap.last + 1);
    assert_eq!(gap.count() + run.records.len() as u64, 400);
}

#[test]
fn one_process_at_a_time() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let journal = open(&dir, 1 << 20, &mut world);
    let second = Journal::open(dir.path(), capped(1 << 20), &mut world);
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    drop(journal);
    open(&dir, 1 << 20, &mut world);
    let small = Journal::open(dir.path(), capped(1000), &mut world);
    assert!(matches!(small, Err(OpenError::CapTooSmall { .. })), "{small:?}");
}
