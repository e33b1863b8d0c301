//! What is erased, and what is kept no longer: the chain is whole, the hub hears of it, and nothing of it is left in the file.

use std::collections::BTreeMap;

use node::journal::outbox::Outbox;
use node::journal::reader::Reader;
use node::journal::verify::verify;
use node::journal::{Durability, Journal, Settings};
use node::policy::{Policy, Say};
use rusqlite::Connection;
use wire::class::Class;
use wire::record::{GapReason, Stamp};
use wire::world::{ClockQuality, Simulated};

use super::stand::{FakeHub, batch, capped, draft, folder, open, stamp, stream};

/// Sends all that waits to a hub that keeps the wire's rules.
fn send(outbox: &Outbox, hub: &mut FakeHub) {
    for position in outbox.positions().unwrap() {
        while let Some(run) = outbox.next_run(&position.stream, 1 << 20, 3).unwrap() {
            let answer = hub.take(&batch(run));
            outbox.settle(&[answer.watermark], false).unwrap();
        }
    }
}

#[test]
fn what_is_erased_leaves_its_hash() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 4 << 20, &mut world);
    let mut hub = FakeHub::default();
    let notes = |from: u64, to: u64| {
        (from..to).map(|n| {
            let who = if n % 3 == 0 { "kim" } else { "lou" };
            draft(
                "notes",
                Class::Audit,
                &format!("{{\"who\":\"{who}\",\"n\":{n},\"word\":\"secret-{who}\"}}"),
            )
        })
    };
    journal.append(notes(1, 8), stamp(&mut world)).unwrap();
    journal.commit(Durability::Full).unwrap();
    let outbox = journal.outbox().unwrap();
    send(&outbox, &mut hub);
    journal.append(notes(8, 20), stamp(&mut world)).unwrap();
    journal.commit(Durability::Full).unwrap();
    // Of 19 notes 6 are kim's: 3 and 6 are at the hub already, 9, 12, 15 and 18 are not.
    let now = stamp(&mut world);
    let erased = journal.erase("p-kim", "asked", now, |body| body.contains("\"kim\"")).unwrap();
    assert_eq!(erased, 6);
    assert_eq!(journal.erase("p-kim", "asked again", now, |body| body.contains("\"kim\"")).unwrap(), 0);
    let reader = Reader::open(dir.path()).unwrap();
    let check = verify(&reader).unwrap();
    let of = |name: &str| check.iter().find(|check| check.stream.as_str() == name).unwrap();
    assert_eq!((of("notes").erased, &of("notes").broken), (6, &None));
    // The journal goes on, and the hub gets the rest, with a gap for each that it had not.
    journal.append(notes(20, 23), stamp(&mut world)).unwrap();
    journal.commit(Durability::Full).unwrap();
    send(&outbox, &mut hub);
    let held = hub.streams.iter().find(|((_, name), _)| name.as_str() == "notes").unwrap().1;
    held.check().unwrap();
    assert_eq!(held.seq, 22);
    let gaps: Vec<_> = held.gaps.iter().map(|gap| (gap.first, gap.last, gap.reason)).collect();
    assert_eq!(gaps, [9, 12, 15, 18].map(|seq| (seq, seq, GapReason::Erased)));
    drop((reader, outbox));
    journal.close().unwrap();
    let files = ["journal.sqlite", "journal.sqlite-wal"].map(|name| std::fs::read(dir.path().join(name)));
    let all: Vec<u8> = files.into_iter().flatten().flatten().collect();
    let text = String::from_utf8_lossy(&all);
    // Note 21 is kim's, and came later.
    assert_eq!(text.matches("secret-kim").count(), 1);
    assert!(text.matches("secret-lou").count() >= 14);
}

#[test]
fn nothing_else_passes_for_erased() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 4 << 20, &mut world);
    let notes = (0..6).map(|n| draft("notes", Class::Audit, &format!("{{\"n\":{n}}}")));
    journal.append(notes, stamp(&mut world)).unwrap();
    journal.commit(Durability::Full).unwrap();
    let now = stamp(&mut world);
    assert_eq!(journal.erase("p-1", "asked", now, |body| body == "{\"n\":2}").unwrap(), 1);
    journal.close().unwrap();
    let broken = || {
        let check = verify(&Reader::open(dir.path()).unwrap()).unwrap();
        check.iter().find_map(|check| check.broken.as_ref().map(|broken| broken.seq))
    };
    assert_eq!(broken(), None);
    // Somebody blanks another record by hand.
    let conn = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    let blank = "UPDATE records SET body = '{\"erased\":true}' WHERE seq = ?1 AND kind = 'note'";
    conn.execute(blank, [5]).unwrap();
    assert_eq!(broken(), Some(5));
}

#[test]
fn what_is_kept_no_longer_goes_by_its_age() {
    const DAY: i64 = 86_400_000;
    const NOW: i64 = 1_800_000_000_000;
    let (dir, mut world) = (folder(), Simulated::new(1));
    let keep_ms = BTreeMap::from([(Class::Metric, 7 * DAY as u64), (Class::Audit, 200 * DAY as u64)]);
    let settings = Settings { policy: Policy { keep_ms, ..Policy::default() }, ..capped(4 << 20) };
    let mut journal = Journal::open(dir.path(), settings, &mut world).unwrap().journal;
    let at =
        |wall_ms: i64, clock: ClockQuality, world: &mut Simulated| Stamp { wall_ms, clock, ..stamp(world) };
    let unchecked = ClockQuality::Unchecked;
    // A year ago, in 1970, ten days ago, in 1970, today.
    for wall_ms in [NOW - 365 * DAY, 5_000, NOW - 10 * DAY, 6_000, NOW] {
        for (name, class) in [("m", Class::Metric), ("a", Class::Audit), ("e", Class::Event)] {
            journal.append([draft(name, class, "1")], at(wall_ms, unchecked, &mut world)).unwrap();
        }
    }
    journal.commit(Durability::Full).unwrap();
    let kept = || -> BTreeMap<String, (u64, u64)> {
        let positions = Reader::open(dir.path()).unwrap().positions().unwrap();
        positions.into_iter().map(|p| (p.stream.to_string(), (p.first, p.last))).collect()
    };
    assert_eq!(journal.expire(at(5_000, unchecked, &mut world)).unwrap(), 0, "a clock that was never set");
    assert_eq!(journal.expire(at(NOW, ClockQuality::Off, &mut world)).unwrap(), 0, "a clock that is wrong");
    assert_eq!(journal.expire(at(NOW, unchecked, &mut world)).unwrap(), 3);
    assert_eq!(
        kept(),
        BTreeMap::from([("a", (1, 5)), ("e", (1, 5)), ("m", (4, 5))].map(|(n, p)| (n.to_owned(), p)))
    );
    // Evidence goes by a clock that was confirmed, and nothing goes twice.
    assert_eq!(journal.expire(at(NOW, ClockQuality::Checked, &mut world)).unwrap(), 1);
    assert_eq!(journal.expire(at(NOW, ClockQuality::Checked, &mut world)).unwrap(), 0);
    assert!(verify(&Reader::open(dir.path()).unwrap()).unwrap().iter().all(|check| check.broken.is_none()));
    let run = journal.outbox().unwrap().next_run(&stream("m"), 1 << 20, 10).unwrap().unwrap();
    let gap = run.gap.unwrap();
    assert_eq!((gap.first, gap.last, gap.reason), (1, 3, GapReason::Expired));
    // The journal goes on.
    journal.append([draft("m", Class::Metric, "2")], at(NOW, unchecked, &mut world)).unwrap();
    journal.commit(Durability::Full).unwrap();
    assert_eq!(kept()["m"], (4, 6));
}

#[test]
fn evidence_that_never_leaves_makes_room_for_newer_evidence() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let policy = Policy { usual: Say { leaves: Vec::new(), ..Say::usual() }, ..Policy::default() };
    let settings = Settings { policy, ..capped(256 << 10) };
    let mut journal = Journal::open(dir.path(), settings, &mut world).unwrap().journal;
    for n in 0..2_000 {
        journal.append([draft("a", Class::Audit, &super::stand::body(n, 400))], stamp(&mut world)).unwrap();
        journal.commit(Durability::Relaxed).unwrap();
    }
    let position = Reader::open(dir.path()).unwrap().positions().unwrap().remove(0);
    assert_eq!(position.last, 2_000);
    assert!(position.first > 1);
}
