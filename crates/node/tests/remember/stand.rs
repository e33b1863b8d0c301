//! What the tests of the journal and of sync stand on: a folder that is quick to write, drafts, and a hub that keeps
//! the wire's rules and nothing more.

use std::collections::BTreeMap;

use node::journal::outbox::Run;
use node::journal::{Journal, Settings};
use serde_json::value::RawValue;
use tempfile::TempDir;
use wire::PROTOCOL;
use wire::batch::{Batch, BatchAnswer, Outcome, Watermark};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{BootId, JournalId, NodeId, PartName, StreamName};
use wire::record::{Draft, Gap};
use wire::record::{Record, Stamp};
use wire::world::{Clock, ClockQuality, Simulated};

/// A folder in memory where the system has one: these tests write and sync a lot.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

pub(crate) fn draft(name: &str, class: Class, body: &str) -> Draft {
    let body = RawValue::from_string(body.to_owned()).unwrap();
    Draft { stream: stream(name), class, kind: PartName::new("note").unwrap(), body }
}

/// A body that says `number` and is about `bytes` long.
pub(crate) fn body(number: u64, bytes: usize) -> String {
    format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(bytes.saturating_sub(24)))
}

pub(crate) fn stamp(world: &mut Simulated) -> Stamp {
    let boot = BootId::random(&mut Simulated::new(1));
    Stamp { boot, mono_ns: world.mono_ns(), wall_ms: world.wall_ms(), clock: ClockQuality::Unchecked }
}

/// Settings with a cap; disk space is no matter.
pub(crate) fn capped(max_bytes: u64) -> Settings {
    Settings { max_bytes, min_free_bytes: 0, ..Settings::default() }
}

/// Opens the journal in a folder.
pub(crate) fn open(dir: &TempDir, max_bytes: u64, world: &mut Simulated) -> Journal {
    let opened = Journal::open(dir.path(), capped(max_bytes), world).unwrap();
    assert_eq!(opened.set_aside, None);
    opened.journal
}

/// Copies a journal that nobody is writing to, log included.
pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    for file in ["journal.sqlite", "journal.sqlite-wal"] {
        match std::fs::copy(from.join(file), to.join(file)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::remove_file(to.join(file)).ok();
            }
            copied => {
                copied.unwrap();
            }
        }
    }
    std::fs::remove_file(to.join("journal.sqlite-shm")).ok();
}

pub(crate) fn batch(run: Run) -> Batch {
    Batch {
        v: PROTOCOL,
        node: NodeId::new("pump-1").unwrap(),
        journal: run.journal,
        stream: run.stream,
        class: run.class,
        gap: run.gap,
        records: run.records,
        head: run.head,
    }
}

/// What a hub holds of one stream of one journal.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    pub(crate) records: Vec<Record>,
    pub(crate) gaps: Vec<Gap>,
}

/// A hub by the wire's rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeHub {
    pub(crate) streams: BTreeMap<(JournalId, StreamName), Held>,
}

impl FakeHub {
    pub(crate) fn take(&mut self, batch: &Batch) -> BatchAnswer {
        let (first, last) = batch.range().unwrap();
        // What a node sends travels as JSON.
        let text = serde_json::to_string(batch).unwrap();
        let batch: Batch = serde_json::from_str(&text).unwrap();
        let new = Held { seq: 0, hash: Hash::GENESIS, records: Vec::new(), gaps: Vec::new() };
        let held = self.streams.entry((batch.journal, batch.stream.clone())).or_insert(new);
        let mark = Watermark { stream: batch.stream.clone(), seq: held.seq, hash: held.hash };
        if first > held.seq + 1 {
            return BatchAnswer { outcome: Outcome::Ahead, watermark: mark };
        }
        if last < held.seq {
            return BatchAnswer { outcome: Outcome::Stored, watermark: mark };
        }
        let Some(fresh) = batch.continue_chain(&mark) else {
            return BatchAnswer { outcome: Outcome::Forked, watermark: mark };
        };
        if let Some(gap) = batch.gap.as_ref().filter(|gap| gap.last > held.seq) {
            held.gaps.push(Gap { first: gap.first.max(held.seq + 1), ..gap.clone() });
        }
        held.records.extend(fresh.into_iter().map(|(record, _)| record.clone()));
        (held.seq, held.hash) = (last, batch.head);
        let watermark = Watermark { stream: batch.stream.clone(), seq: held.seq, hash: held.hash };
        BatchAnswer { outcome: Outcome::Stored, watermark }
    }

    pub(crate) fn watermarks(&self, journal: JournalId) -> Vec<Watermark> {
        let of_journal = self.streams.iter().filter(|((id, _), _)| *id == journal);
        of_journal
            .map(|((_, stream), held)| Watermark { stream: stream.clone(), seq: held.seq, hash: held.hash })
            .collect()
    }

    /// The bodies held of a stream, over all journals, in order within each.
    pub(crate) fn bodies(&self, name: &str) -> Vec<String> {
        let of_stream = self.streams.iter().filter(|((_, stream), _)| stream.as_str() == name);
        of_stream
            .flat_map(|(_, held)| held.records.iter().map(|record| record.body.get().to_owned()))
            .collect()
    }
}

impl Held {
    /// Every number from 1 to `seq` is held once or lost once, in order. Says what is not so.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut spans: Vec<(u64, u64)> = self.records.iter().map(|record| (record.seq, record.seq)).collect();
        spans.extend(self.gaps.iter().map(|gap| (gap.first, gap.last)));
        spans.sort_unstable();
        let mut next = 1;
        for (first, last) in spans {
            if first != next {
                return Err(format!("{first}..={last} stands where {next} should be"));
            }
            next = last + 1;
        }
        if next != self.seq + 1 {
            return Err(format!("it ends at {} and not at {}", next - 1, self.seq));
        }
        if self.records.windows(2).any(|pair| pair[0].seq >= pair[1].seq) {
            return Err("records came out of order".into());
        }
        Ok(())
    }
}
