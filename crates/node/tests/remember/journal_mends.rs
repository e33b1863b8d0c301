//! What a journal does when its file is damaged, too new, altered, or a copy that the hub has overtaken.

use std::collections::BTreeSet;

use node::journal::reader::Reader;
use node::journal::verify::{Broken, verify};
use node::journal::{Durability, Journal, Settings};
use wire::batch::{Outcome, Watermark};
use wire::class::Class;
use wire::id::JournalId;
use wire::world::Simulated;

use crate::stand::{FakeHub, batch, body, capped, copy, draft, folder, open, stamp, stream};

fn write(journal: &mut Journal, world: &mut Simulated, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let drafts = [draft("d", Class::Audit, &body(n, 200)), draft("r", Class::Raw, &body(n, 200))];
        journal.append(drafts, stamp(world)).unwrap();
    }
    journal.commit(Durability::Full).unwrap();
}

/// Sends `batches` of stream `d`, forking when the hub says so. Gives how often.
fn send(journal: &Journal, hub: &mut FakeHub, world: &mut Simulated, batches: usize) -> usize {
    let outbox = journal.outbox().unwrap();
    let mut forks = 0;
    let marks = hub.watermarks(outbox.journal().unwrap());
    if !outbox.settle(&marks, true).unwrap().strangers.is_empty() {
        outbox.fork(JournalId::random(world)).unwrap();
        forks += 1;
    }
    for _ in 0..batches {
        let Some(run) = outbox.next_run(&stream("d"), 2000, 4).unwrap() else { break };
        let answer = hub.take(&batch(run));
        let settled = outbox.settle(&[answer.watermark], false).unwrap();
        if answer.outcome == Outcome::Forked || !settled.strangers.is_empty() {
            outbox.fork(JournalId::random(world)).unwrap();
            forks += 1;
        }
    }
    forks
}

#[test]
fn a_damaged_file_is_set_aside_and_said_so() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Damage); 4] = [
        ("not a database", |bytes| bytes[..16].copy_from_slice(b"not a database!!")),
        ("cut short", |bytes| bytes.truncate(5000)),
        ("a page overwritten", |bytes| bytes[4096..40_000].fill(0xaa)),
        ("a stream's row", |bytes| {
            let at = bytes.windows(6).rposition(|window| window == b"dmetri").unwrap();
            bytes[at + 1..at + 7].copy_from_slice(b"golden");
        }),
    ];
    for (what, damage) in cases {
        let (dir, mut world) = (folder(), Simulated::new(1));
        let mut journal = open(&dir, 1 << 20, &mut world);
        let id = journal.id();
        journal
            .append((0..40).map(|n| draft("d", Class::Metric, &body(n, 1000))), stamp(&mut world))
            .unwrap();
        journal.commit(Durability::Full).unwrap();
        drop(journal);
        let file = dir.path().join("journal.sqlite");
        let mut bytes = std::fs::read(&file).unwrap();
        damage(&mut bytes);
        std::fs::write(&file, &bytes).unwrap();
        let opened = Journal::open(dir.path(), capped(1 << 20), &mut world).unwrap();
        let aside = opened.set_aside.unwrap_or_else(|| panic!("{what}: nothing set aside"));
        assert!(aside.path.ends_with("journal.damaged-1") && aside.why.contains("damaged"), "{aside:?}");
        assert_eq!(
            std::fs::read(&aside.path).unwrap().len(),
            bytes.len(),
            "{what}: kept for a person to look at"
        );
        assert_ne!(opened.journal.id(), id, "{what}");
        // And it works.
        let mut journal = opened.journal;
        write(&mut journal, &mut world, 0..3);
        drop(journal);
        let reader = Reader::open(dir.path()).unwrap();
        assert_eq!(reader.records(&stream("d"), 0, 10).unwrap().len(), 3, "{what}");
    }
}

#[test]
fn a_large_file_is_looked_at_while_it_is_used() {
    let settings = || Settings { check_at_once_bytes: 0, ..capped(8 << 20) };
    for is_damaged in [false, true] {
        let (dir, mut world) = (folder(), Simulated::new(1));
        let mut journal = open(&dir, 8 << 20, &mut world);
        let id = journal.id();
        for _ in 0..10 {
            let drafts = (0..100).map(|n| draft("m", Class::Metric, &body(n, 1000)));
            journal.append(drafts, stamp(&mut world)).unwrap();
            journal.commit(Durability::Full).unwrap();
        }
        // As after a power cut: it was not closed.
        drop(journal);
        let file = dir.path().join("journal.sqlite");
        let mut bytes = std::fs::read(&file).unwrap();
        if is_damaged {
            bytes[400_000..440_000].fill(0xaa);
            std::fs::write(&file, &bytes).unwrap();
        }
        let opened = Journal::open(dir.path(), settings(), &mut world).unwrap();
        assert_eq!((opened.clean, opened.set_aside), (Some(false), None), "nobody waited");
        let (mut journal, mut aside) = (opened.journal, None);
        for n in 0..2_000 {
            write(&mut journal, &mut world, n..n + 1);
            aside = journal.take_set_aside();
            if aside.is_some() || !is_damaged && n > 200 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!((aside.is_some(), journal.id() != id), (is_damaged, is_damaged), "{aside:?}");
        journal.close().unwrap();
        let opened = Journal::open(dir.path(), settings(), &mut world).unwrap();
        assert_eq!(opened.clean, Some(true), "it is known to be whole");
    }
}

#[cfg(unix)]
#[test]
fn damage_found_at_work_is_set_aside_at_once_and_what_is_pending_is_kept() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 1 << 20, &mut world);
    let (id, outbox) = (journal.id(), journal.outbox().unwrap());
    write(&mut journal, &mut world, 0..50);
    // Another connection has the log written into the file, so that there is something to damage.
    let conn = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(conn);
    let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("journal.sqlite")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xaa; 60_000], 4096).unwrap();
    // The pages in the cache are older than this one's transaction: it looks at the file again.
    let conn = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    conn.execute_batch("PRAGMA user_version = 1").unwrap();
    drop(conn);
    journal.append([draft("d", Class::Audit, "\"kept\"")], stamp(&mut world)).unwrap();
    assert_eq!(journal.commit(Durability::Relaxed).unwrap().records, 1);
    let aside = journal.take_set_aside().unwrap();
    assert!(aside.path.ends_with("journal.damaged-1"), "{aside:?}");
    assert_eq!(journal.take_set_aside(), None);
    assert_ne!(journal.id(), id);
    // The uplink goes over to the new one.
    assert!(!outbox.is_present());
    let outbox = outbox.door().open().unwrap();
    let run = outbox.next_run(&stream("d"), 1000, 10).unwrap().unwrap();
    assert_eq!((run.journal, run.records[0].seq, run.records[0].body.get()), (journal.id(), 1, "\"kept\""));
    // Everything goes on in it.
    write(&mut journal, &mut world, 0..5);
    let positions = outbox.positions().unwrap();
    assert_eq!(positions.iter().map(|p| p.last).collect::<Vec<_>>(), [6, 5]);
    journal.close().unwrap();
    assert!(open(&dir, 1 << 20, &mut world).id() != id);
}

#[test]
fn no_more_than_three_are_kept_aside() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    for _ in 0..5 {
        std::fs::write(dir.path().join("journal.sqlite"), vec![7; 10_000]).unwrap();
        let opened = Journal::open(dir.path(), capped(1 << 20), &mut world).unwrap();
        assert!(opened.set_aside.is_some());
    }
    let kept = std::fs::read_dir(dir.path()).unwrap();
    let kept = kept.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"));
    assert_eq!(kept.count(), 3);
}

#[test]
fn a_journal_of_a_newer_program_is_kept_for_it() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 1 << 20, &mut world);
    write(&mut journal, &mut world, 0..3);
    journal.close().unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let opened = Journal::open(dir.path(), capped(1 << 20), &mut world).unwrap();
    let aside = opened.set_aside.unwrap();
    assert!(aside.path.ends_with("journal.newer-1") && aside.why.contains("99"), "{aside:?}");
}

#[test]
fn an_altered_record_is_found() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 1 << 20, &mut world);
    write(&mut journal, &mut world, 0..20);
    journal.close().unwrap();
    let check = |sql: &str, seq: u64, why: &str| {
        let altered = folder();
        copy(dir.path(), altered.path());
        let conn = rusqlite::Connection::open(altered.path().join("journal.sqlite")).unwrap();
        assert_eq!(conn.execute(sql, []).unwrap(), 1);
        drop(conn);
        let checks = verify(&Reader::open(altered.path()).unwrap()).unwrap();
        let broken: Vec<&Broken> = checks.iter().filter_map(|check| check.broken.as_ref()).collect();
        assert_eq!((broken[0].seq, broken[0].why.contains(why)), (seq, true), "{sql}: {broken:?}");
        assert_eq!(broken.len(), 1);
    };
    check("UPDATE records SET body = '{}' WHERE stream = 1 AND seq = 7", 7, "altered");
    check("UPDATE records SET wall_ms = wall_ms + 1 WHERE stream = 2 AND seq = 20", 20, "altered");
    check("DELETE FROM records WHERE stream = 1 AND seq = 7", 7, "missing");
    check("DELETE FROM records WHERE stream = 1 AND seq = 20", 20, "missing");
    check("UPDATE streams SET head = zeroblob(32) WHERE id = 1", 20, "head");
}

#[test]
fn a_restored_copy_forks_and_everything_reaches_the_hub() {
    // How far the hub was when the copy was taken, how much was written and sent after, and before the copy's own.
    for (sent, after, sent_after, own) in
        [(0, 10, 0, 5), (1, 10, 1, 5), (2, 10, 9, 40), (9, 3, 9, 5), (1, 4, 9, 0)]
    {
        let (dir, kept, mut world, mut hub) = (folder(), folder(), Simulated::new(own), FakeHub::default());
        let mut journal = open(&dir, 1 << 20, &mut world);
        write(&mut journal, &mut world, 0..20);
        send(&journal, &mut hub, &mut world, sent);
        drop(journal);
        copy(dir.path(), kept.path());
        // The future that is lost.
        let mut journal = open(&dir, 1 << 20, &mut world);
        write(&mut journal, &mut world, 100..100 + after);
        send(&journal, &mut hub, &mut world, sent_after);
        drop(journal);
        // The copy comes back, and has its own.
        copy(kept.path(), dir.path());
        let mut journal = open(&dir, 1 << 20, &mut world);
        write(&mut journal, &mut world, 200..200 + own);
        let case = format!("{sent} {after} {sent_after} {own}");
        let forks = send(&journal, &mut hub, &mut world, 100);
        assert!(forks <= 1, "{case}");
        // What the copy wrote is at the hub, whole; each number of each life once.
        let held: BTreeSet<String> = hub.bodies("d").into_iter().collect();
        for n in (0..20).chain(200..200 + own) {
            assert!(held.contains(&body(n, 200)), "{case}: {n}, {forks} forks");
        }
        for held in hub.streams.values() {
            held.check().unwrap();
        }
        // The journal's owner goes on under the new id, and the chain holds.
        write(&mut journal, &mut world, 300..303);
        assert_eq!(send(&journal, &mut hub, &mut world, 100), 0, "{case}");
        let lives: BTreeSet<JournalId> = hub.streams.keys().map(|(id, _)| *id).collect();
        assert_eq!(lives.len(), forks + 1, "{case}");
        assert!(lives.contains(&journal.id()), "{case}");
        assert!(hub.bodies("d").contains(&body(302, 200)));
        let checks = verify(&Reader::open(dir.path()).unwrap()).unwrap();
        assert!(checks.iter().all(|check| check.broken.is_none()), "{case}: {checks:?}");
        // Raw never left, so it keeps its numbers.
        let raw = checks.iter().find(|check| check.stream == stream("r")).unwrap();
        assert_eq!((raw.first, raw.last), (1, 23 + own), "{case}");
    }
}

#[test]
fn a_fork_carries_the_gap_and_tells_of_an_altered_record() {
    let (dir, mut world) = (folder(), Simulated::new(1));
    let mut journal = open(&dir, 128 << 10, &mut world);
    let outbox = journal.outbox().unwrap();
    for n in 0..200 {
        journal.append([draft("m", Class::Metric, &body(n, 1500))], stamp(&mut world)).unwrap();
        journal.commit(Durability::Full).unwrap();
        if n == 9 {
            let run = outbox.next_run(&stream("m"), 1 << 20, 100).unwrap().unwrap();
            outbox.settle(&[Watermark { stream: stream("m"), seq: 10, hash: run.head }], false).unwrap();
        }
    }
    let before = outbox.next_run(&stream("m"), 1 << 20, 1000).unwrap().unwrap();
    let gap = before.gap.unwrap();
    assert_eq!(gap.first, 11);
    let altered = gap.last + 3;
    let conn = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    conn.execute("UPDATE records SET body = '[]' WHERE seq = ?1", [altered as i64]).unwrap();
    drop(conn);
    let report = outbox.fork(JournalId::random(&mut world)).unwrap();
    assert_eq!(report.old, before.journal);
    assert_eq!((report.streams[0].settled, report.streams[0].carried), (10, 190));
    assert_eq!(report.streams[0].broken, Some(altered));
    assert!(report.to_string().contains(&format!("altered at {altered}")), "{report}");
    // Numbered from 1, the loss included, and a hub takes all of it.
    let mut hub = FakeHub::default();
    while let Some(run) = outbox.next_run(&stream("m"), 20_000, 1000).unwrap() {
        let answer = hub.take(&batch(run));
        assert_eq!(answer.outcome, Outcome::Stored);
        outbox.settle(&[answer.watermark], false).unwrap();
    }
    let held = &hub.streams[&(report.new, stream("m"))];
    held.check().unwrap();
    assert_eq!((held.seq, held.gaps[0].last), (190, gap.last - 10));
    assert_eq!(held.records.len() as u64, 190 - held.gaps[0].last);
}
