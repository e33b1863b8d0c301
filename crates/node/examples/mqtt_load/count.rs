//! What the journal has: each message once, and how long each decision took.

use std::path::{Path, PathBuf};

use node::journal::reader::Reader;
use serde_json::Value;
use wire::id::StreamName;

/// Which messages are in the journal.
pub(crate) struct Count {
    data: PathBuf,
    after: u64,
    /// A bit for each message.
    seen: Vec<u64>,
    pub(crate) distinct: u64,
    /// Those that came once more.
    pub(crate) twice: u64,
}

impl Count {
    /// Of the node in `dir`, to which `total` messages were sent.
    pub(crate) fn of(dir: &Path, total: u64) -> Count {
        let seen = vec![0; total.div_ceil(64) as usize];
        Count { data: dir.join("data"), after: 0, seen, distinct: 0, twice: 0 }
    }

    /// Reads on to the end of what is there; true if there was something.
    pub(crate) fn read(&mut self) -> bool {
        let Ok(reader) = Reader::open(&self.data) else { return false };
        let (stream, before) = (StreamName::new("readings.plant").unwrap(), self.after);
        loop {
            let records = reader.run(&stream, self.after, u64::MAX, 1_000, 64 << 20).unwrap();
            let Some(last) = records.last() else { return self.after > before };
            self.after = last.seq;
            for record in &records {
                let body: Value = serde_json::from_str(record.body.get()).unwrap();
                let at = body["channels"].as_array().unwrap().iter().position(|name| name == "n").unwrap();
                for n in body["values"][at].as_array().unwrap() {
                    self.note(n.as_f64().unwrap() as u64);
                }
            }
        }
    }

    fn note(&mut self, n: u64) {
        let (place, bit) = ((n / 64) as usize, 1 << (n % 64));
        match self.seen[place] & bit {
            0 => self.distinct += 1,
            _ => self.twice += 1,
        }
        self.seen[place] |= bit;
    }
}

/// Of each decision: when its message was due, and how many milliseconds later it was written.
pub(crate) fn decisions(dir: &Path) -> Vec<(i64, i64)> {
    let reader = Reader::open(&dir.join("data")).unwrap();
    let records = reader.records(&StreamName::new("decisions").unwrap(), 0, usize::MAX).unwrap();
    let decision = |(record, _): &(wire::record::Record, wire::hash::Hash)| {
        let body: Value = serde_json::from_str(record.body.get()).unwrap();
        let at_ms = body["at_ms"].as_i64().unwrap();
        (at_ms, record.wall_ms - at_ms)
    };
    records.iter().map(decision).collect()
}

/// The value below which this share of a sorted list lies; 0 of none.
pub(crate) fn quantile(sorted: &[i64], share: f64) -> i64 {
    sorted.get(((sorted.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(0)
}
