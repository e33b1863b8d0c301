//! Holds the chains of nodes against records as they come: each is hashed again behind the one before it.

use std::collections::{BTreeMap, HashMap};

use wire::hash::Hash;

use crate::store::records::RecordRow;

/// How many faults are told.
const TOLD: usize = 20;

/// A stream: node, journal, name.
pub type Stream = (String, String, String);

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Records whose hash is right.
    pub records: u64,
    /// Losses that nodes told of.
    pub gaps: u64,
    /// Streams.
    pub chains: u64,
    /// How many of them begin in the middle, with a record that cannot be checked: what was before it is not here.
    pub begin_late: u64,
    /// Records that are there again, or before what was cut.
    pub again: u64,
    /// How many records do not fit their chain.
    pub wrong: u64,
    /// The first of them, in words.
    pub faults: Vec<String>,
}

/// Chains as far as they were looked at: all losses first, then records as they came.
#[derive(Debug, Default)]
pub struct Chains {
    /// The losses of each stream, by the first number that is lost.
    gaps: HashMap<Stream, BTreeMap<i64, (i64, Option<Hash>)>>,
    /// What each stream has come to.
    ends: HashMap<Stream, (i64, Hash)>,
    found: Verified,
}

impl Chains {
    /// Of a stream these were lost, and the chain's hash at the last of them is this.
    pub fn gap(&mut self, stream: Stream, (first, last): (i64, i64), hash: Option<Hash>) {
        self.found.gaps += 1;
        self.gaps.entry(stream).or_default().insert(first, (last, hash));
    }

    /// Of a stream everything up to this number was cut, and the chain's hash there is this.
    pub fn cut(&mut self, stream: Stream, seq: i64, hash: Hash) {
        self.ends.insert(stream, (seq, hash));
    }

    /// The next record.
    pub fn record(&mut self, record: &RecordRow) {
        let stream = (record.node.clone(), record.journal.clone(), record.stream.clone());
        let Some(hash) = Hash::from_slice(&record.hash) else { return self.wrong(record, "has no hash") };
        let end = self.ends.get(&stream).copied();
        let (mut seq, mut before) = end.map_or((0, Some(Hash::GENESIS)), |(seq, hash)| (seq, Some(hash)));
        if end.is_some() && record.seq <= seq {
            if record.seq == seq && Some(hash) != before {
                return self.wrong(record, "is there twice, with two hashes");
            }
            self.found.again += 1;
            return;
        }
        let gaps = self.gaps.get(&stream);
        while seq + 1 < record.seq
            && let Some((last, hash)) = gaps.and_then(|gaps| gaps.get(&(seq + 1)))
            && *last > seq
        {
            (seq, before) = (*last, *hash);
        }
        if end.is_none()
            && seq + 1 != record.seq
            && let Some((_, told)) =
                gaps.and_then(|gaps| gaps.values().find(|(last, _)| last + 1 == record.seq))
        {
            (seq, before) = (record.seq - 1, *told);
        }
        self.ends.insert(stream, (record.seq, hash));
        match before {
            Some(before) if seq + 1 == record.seq => {
                match record.hash_again(before).is_some_and(|(again, _)| again == hash) {
                    true => self.found.records += 1,
                    false => self.wrong(record, "has another hash than its content"),
                }
            }
            _ if end.is_none() => self.found.begin_late += 1,
            _ => self.wrong(record, "does not follow what is before it, and no loss is told of"),
        }
    }

    /// What a stream has come to; losses behind its last record count.
    pub fn at(&self, stream: &Stream) -> Option<(i64, Hash)> {
        let (mut seq, mut hash) = self.ends.get(stream).copied().unwrap_or((0, Hash::GENESIS));
        while let Some((last, Some(told))) = self.gaps.get(stream).and_then(|gaps| gaps.get(&(seq + 1)))
            && *last > seq
        {
            (seq, hash) = (*last, *told);
        }
        (seq > 0).then_some((seq, hash))
    }

    /// What was found.
    pub fn end(self) -> Verified {
        Verified { chains: self.ends.len() as u64, ..self.found }
    }

    fn wrong(&mut self, record: &RecordRow, what: &str) {
        self.found.wrong += 1;
        if self.found.faults.len() < TOLD {
            let RecordRow { node, journal, stream, seq, .. } = record;
            self.found.faults.push(format!("{node}/{journal}/{stream}/{seq} {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: i64, before: Hash) -> (RecordRow, Hash) {
        let mut row = RecordRow {
            id: seq,
            node: "a".into(),
            journal: "j".into(),
            stream: "s".into(),
            class: "raw".into(),
            seq,
            kind: "note".into(),
            boot: "00000000000000000000000000000001".into(),
            mono_ns: 1,
            wall_ms: 1,
            clock: "off".into(),
            hash: Vec::new(),
            body: seq.to_string(),
        };
        let (hash, _) = row.hash_again(before).unwrap();
        row.hash = hash.as_bytes().to_vec();
        (row, hash)
    }

    #[test]
    fn what_follows_and_what_does_not() {
        fn check(records: &[&RecordRow], prepare: impl FnOnce(&mut Chains), expected: (u64, u64, u64, u64)) {
            let mut chains = Chains::default();
            prepare(&mut chains);
            records.iter().for_each(|record| chains.record(record));
            let Verified { records, again, begin_late, wrong, .. } = chains.end();
            assert_eq!((records, again, begin_late, wrong), expected);
        }
        let stream = || ("a".to_owned(), "j".to_owned(), "s".to_owned());
        let lost = Hash::of(b"lost");
        let (one, hash) = record(1, Hash::GENESIS);
        let (two, two_hash) = record(2, hash);
        let (five, _) = record(5, lost);
        let none = |_: &mut Chains| {};
        let gap = |chains: &mut Chains| chains.gap(stream(), (3, 4), Some(lost));
        check(&[&one, &two], none, (2, 0, 0, 0));
        check(&[&one, &two, &two], none, (2, 1, 0, 0));
        check(&[&one, &two, &five], gap, (3, 0, 0, 0));
        check(&[&one, &two, &five], none, (2, 0, 0, 1));
        check(&[&two], none, (0, 0, 1, 0));
        check(&[&five], gap, (1, 0, 0, 0));
        check(&[&one, &two], |chains| chains.cut(stream(), 1, hash), (1, 1, 0, 0));
        check(&[&five], |chains| (gap(chains), chains.cut(stream(), 2, two_hash)).1, (1, 0, 0, 0));
        let edited = RecordRow { body: "9".into(), ..two.clone() };
        check(&[&one, &edited], none, (1, 0, 0, 1));
        let other = RecordRow { hash: lost.as_bytes().to_vec(), ..two.clone() };
        check(&[&one, &two, &other], none, (2, 0, 0, 1));
    }
}
