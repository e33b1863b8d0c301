//! A run of one stream on its way up, and the hub's answer. At least once on the wire, exactly once in the hub's
//! store: the hub takes what lies beyond its watermark, ignores the rest, and answers with the new watermark.
//!
//! On the wire a batch is JSON, compressed with zstd.

use serde::{Deserialize, Serialize};

use crate::chain::{Link, link};
use crate::class::Class;
use crate::hash::Hash;
use crate::id::{JournalId, NodeId, StreamName};
use crate::record::{Gap, Record};

/// The content type of a compressed batch.
pub const CONTENT_TYPE: &str = "application/vnd.selvedge.batch+json+zstd";

/// The most a batch may be once decompressed, in bytes. Nodes aim at a quarter of it.
pub const BATCH_MAX_BYTES: usize = 2 * 1024 * 1024;

/// The most records in a batch.
pub const BATCH_MAX_RECORDS: usize = 4096;

/// A contiguous run of one stream: first what was lost, if anything, then records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Batch {
    /// The protocol version of the writer.
    pub v: u32,
    /// Whose records.
    pub node: NodeId,
    /// From which life of its journal.
    pub journal: JournalId,
    /// Of which stream.
    pub stream: StreamName,
    /// The stream's class.
    pub class: Class,
    /// Records dropped right before `records`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// Records, oldest first, without holes.
    pub records: Vec<Record>,
    /// The chain's hash after the last of them.
    pub head: Hash,
}

/// How far a hub has one stream: everything up to `seq` is in its store, or known to be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The stream.
    pub stream: StreamName,
    /// The last sequence number that is settled; 0 before the first.
    pub seq: u64,
    /// The chain's hash at `seq`.
    pub hash: Hash,
}

/// What the hub answers to a batch, whether it took it or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// What became of the batch.
    pub outcome: Outcome,
    /// Where the hub now stands in this stream: the node goes on from here.
    pub watermark: Watermark,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Stored, or stored before.
    Stored,
    /// It begins beyond the watermark: the hub lacks records before it. Go back to the watermark.
    Ahead,
    /// It does not continue the chain that the hub holds: this journal was altered or restored from a copy.
    Forked,
}

/// A batch that no honest node writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    /// Neither a gap nor a record.
    #[error("the batch is empty")]
    Empty,
    /// Too many records.
    #[error("the batch has {count} records, the limit is {BATCH_MAX_RECORDS}")]
    TooMany {
        /// How many there were.
        count: usize,
    },
    /// Sequence numbers with a hole, or out of order.
    #[error("record {found} stands where {expected} should be")]
    OutOfOrder {
        /// The sequence number that should be here.
        expected: u64,
        /// The one that is.
        found: u64,
    },
    /// A gap that ends before it begins, or a sequence number 0.
    #[error("the gap {first}..={last} is not a range of sequence numbers")]
    BadGap {
        /// Its beginning.
        first: u64,
        /// Its end.
        last: u64,
    },
}

impl Batch {
    /// The sequence numbers the batch settles, `(first, last)`, both inside. Checks order and limits.
    pub fn range(&self) -> Result<(u64, u64), BadBatch> {
        if self.records.len() > BATCH_MAX_RECORDS {
            return Err(BadBatch::TooMany { count: self.records.len() });
        }
        if let Some(Gap { first, last, .. }) = self.gap
            && (first == 0 || last < first || last == u64::MAX)
        {
            return Err(BadBatch::BadGap { first, last });
        }
        let first_record = self.records.first().map(|record| record.seq);
        let first = self.gap.as_ref().map(|gap| gap.first).or(first_record).ok_or(BadBatch::Empty)?;
        let mut expected = self.gap.as_ref().map_or(first.max(1), |gap| gap.last + 1);
        for record in &self.records {
            if record.seq != expected || expected == u64::MAX {
                return Err(BadBatch::OutOfOrder { expected, found: record.seq });
            }
            expected += 1;
        }
        Ok((first, expected - 1))
    }

    /// Follows the chain from `watermark` through the records beyond it, giving each with its hash.
    /// `None` if the batch does not continue the watermark, or does not end in its own `head`.
    ///
    /// The batch's [`Batch::range`] must be good, must not begin beyond the watermark and must reach to it: a batch that
    /// ends before it says nothing about what follows.
    pub fn continue_chain(&self, watermark: &Watermark) -> Option<Vec<(&Record, Hash)>> {
        let mut hash = watermark.hash;
        let mut at = watermark.seq;
        if let Some(gap) = &self.gap
            && gap.last > at
        {
            (hash, at) = (gap.hash, gap.last);
        }
        let mut fresh = Vec::with_capacity(self.records.len());
        for record in self.records.iter().filter(|record| record.seq > at) {
            let (stream, class, seq, stamp) = (&self.stream, self.class, record.seq, record.stamp());
            hash =
                link(hash, Link { stream, class, seq, kind: record.kind.as_str(), stamp }, record.body.get());
            fresh.push((record, hash));
        }
        (hash == self.head).then_some(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BootId, PartName};
    use crate::record::GapReason;
    use crate::world::{ClockQuality, Simulated};
    use serde_json::value::RawValue;

    fn batch(gap: Option<(u64, u64)>, seqs: &[u64]) -> Batch {
        let mut world = Simulated::new(3);
        let stream = StreamName::new("decisions").unwrap();
        let boot = BootId::random(&mut world);
        let mut head = Hash::GENESIS;
        let gap =
            gap.map(|(first, last)| Gap { first, last, reason: GapReason::ByteCap, hash: Hash::of(b"lost") });
        if let Some(gap) = &gap {
            head = gap.hash;
        }
        let records: Vec<Record> = seqs
            .iter()
            .map(|&seq| Record {
                seq,
                kind: PartName::new("decision").unwrap(),
                boot,
                mono_ns: seq * 10,
                wall_ms: 1_767_225_600_000 + seq as i64,
                clock: ClockQuality::Unchecked,
                body: RawValue::from_string(format!(r#"{{"rule":"hot","new_field":[{seq}]}}"#)).unwrap(),
            })
            .collect();
        for record in &records {
            let (class, seq, stamp) = (Class::Audit, record.seq, record.stamp());
            head =
                link(head, Link { stream: &stream, class, seq, kind: "decision", stamp }, record.body.get());
        }
        let journal = JournalId::random(&mut world);
        Batch {
            v: 1,
            node: NodeId::new("pump-1").unwrap(),
            journal,
            stream,
            class: Class::Audit,
            gap,
            records,
            head,
        }
    }

    fn mark(seq: u64, hash: Hash) -> Watermark {
        Watermark { stream: StreamName::new("decisions").unwrap(), seq, hash }
    }

    #[test]
    fn ranges() {
        fn check(gap: Option<(u64, u64)>, seqs: &[u64], expected: Result<(u64, u64), BadBatch>) {
            assert_eq!(batch(gap, seqs).range(), expected, "{gap:?} {seqs:?}");
        }
        check(None, &[1, 2, 3], Ok((1, 3)));
        check(Some((1, 9)), &[10, 11], Ok((1, 11)));
        check(Some((4, 9)), &[], Ok((4, 9)));
        check(None, &[], Err(BadBatch::Empty));
        check(None, &[1, 3], Err(BadBatch::OutOfOrder { expected: 2, found: 3 }));
        check(None, &[0], Err(BadBatch::OutOfOrder { expected: 1, found: 0 }));
        check(Some((1, 9)), &[12], Err(BadBatch::OutOfOrder { expected: 10, found: 12 }));
        check(Some((9, 1)), &[2], Err(BadBatch::BadGap { first: 9, last: 1 }));
        check(Some((0, 1)), &[2], Err(BadBatch::BadGap { first: 0, last: 1 }));
        check(Some((1, u64::MAX)), &[], Err(BadBatch::BadGap { first: 1, last: u64::MAX }));
    }

    #[test]
    fn the_chain_continues_or_it_does_not() {
        let whole = batch(None, &[1, 2, 3]);
        let fresh = whole.continue_chain(&mark(0, Hash::GENESIS)).unwrap();
        assert_eq!(fresh.len(), 3);
        // The same batch again, after its first two records were taken: only the third is fresh.
        assert_eq!(whole.continue_chain(&mark(2, fresh[1].1)).unwrap().len(), 1);
        assert_eq!(whole.continue_chain(&mark(3, fresh[2].1)).unwrap().len(), 0);
        // Another past.
        assert!(whole.continue_chain(&mark(2, Hash::of(b"else"))).is_none());
        // A changed record.
        let mut altered = batch(None, &[1, 2, 3]);
        altered.records[1].body = RawValue::from_string("{}".into()).unwrap();
        assert!(altered.continue_chain(&mark(0, Hash::GENESIS)).is_none());
        // Past a gap the chain starts at the gap's hash, whatever the hub had before it.
        let gap = batch(Some((1, 9)), &[10, 11]);
        assert_eq!(gap.continue_chain(&mark(4, Hash::of(b"four"))).unwrap().len(), 2);
    }

    /// Changing this text breaks nodes in the field: add optional fields only.
    #[test]
    fn the_encoding_is_golden() {
        let batch = batch(Some((1, 1)), &[2]);
        insta::assert_snapshot!("batch", serde_json::to_string_pretty(&batch).unwrap());
    }

    #[test]
    fn a_newer_writer_is_understood_and_its_bodies_are_kept_verbatim() {
        let mut value = serde_json::to_value(batch(None, &[1])).unwrap();
        value["v"] = 2.into();
        value["compression_hint"] = "fast".into();
        let back: Batch = serde_json::from_str(&value.to_string()).unwrap();
        assert_eq!(back.records[0].body.get(), value["records"][0]["body"].to_string());
    }
}
