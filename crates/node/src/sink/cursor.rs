//! How far a sink is: which records of which streams it has passed on. Kept in the data folder, so that a restart goes on there.
//!
//! Pure but for the file. What was evicted before the sink came to it is a gap, which is passed on as such.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use package::disk::FileError;
use serde::{Deserialize, Serialize};
use wire::id::{JournalId, PartName, StreamName};

use crate::durable;
use crate::journal::position::Position;

/// The largest cursor that is read back: a journal has a thousand streams.
const MAX_BYTES: u64 = 1 << 20;

/// Where a sink begins that has never run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With what comes from now on.
    Now,
    /// With the oldest record that the journal has.
    Beginning,
}

/// How far a sink is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The life of the journal it counts in.
    journal: JournalId,
    /// The last record of each stream that was passed on, or need not be. A stream that is not here is at its beginning.
    streams: BTreeMap<StreamName, u64>,
}

/// What comes next in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The stream.
    pub stream: StreamName,
    /// Whether the data policy lets it leave the node.
    pub leaves: bool,
    /// Records that are gone: first and last.
    pub gap: Option<(u64, u64)>,
    /// The records after this one,
    pub after: u64,
    /// up to this one; equal to `after` if there are none.
    pub last: u64,
}

impl Cursor {
    /// Of a sink that begins here and now.
    pub fn begin(journal: JournalId, from: From, positions: &[Position]) -> Cursor {
        let streams = match from {
            From::Beginning => BTreeMap::new(),
            From::Now => {
                positions.iter().map(|position| (position.stream.clone(), position.durable)).collect()
            }
        };
        Cursor { journal, streams }
    }

    /// In another life of the journal numbers begin anew, and so does the sink: what it passes on twice it names alike.
    pub fn follow(&mut self, journal: JournalId) {
        if self.journal != journal {
            *self = Cursor { journal, streams: BTreeMap::new() };
        }
    }

    /// What waits, stream by stream, the most precious class first. Only what survives a power cut is passed on: nobody
    /// shall hear of what never was.
    pub fn waiting(&self, positions: &[Position]) -> Vec<Next> {
        let mut ordered: Vec<&Position> = positions.iter().collect();
        ordered.sort_by_key(|position| position.class);
        let next = |position: &&Position| {
            let seen = self.streams.get(&position.stream).copied().unwrap_or(0);
            if seen >= position.durable {
                return None;
            }
            let lost = (position.first - 1).min(position.durable);
            let gap = (lost > seen).then_some((seen + 1, lost));
            let after = seen.max(lost);
            let (stream, leaves) = (position.stream.clone(), position.leaves);
            Some(Next { stream, leaves, gap, after, last: position.durable })
        };
        ordered.iter().filter_map(next).collect()
    }

    /// A stream is passed on up to `seq`.
    pub fn pass(&mut self, stream: &StreamName, seq: u64) {
        let seen = self.streams.entry(stream.clone()).or_insert(0);
        *seen = (*seen).max(seq);
    }

    fn place(data: &Path, sink: &PartName) -> PathBuf {
        data.join("sinks").join(format!("{sink}.json"))
    }

    /// The cursor of a sink that has run before. One that cannot be read is as none.
    pub fn load(data: &Path, sink: &PartName) -> Result<Option<Cursor>, FileError> {
        let bytes = durable::read(&Cursor::place(data, sink), MAX_BYTES)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Keeps it.
    pub fn save(&self, data: &Path, sink: &PartName) -> Result<(), FileError> {
        durable::make_folder(&data.join("sinks"))?;
        // A map of names and numbers.
        let bytes = serde_json::to_vec(self).expect("a cursor is plain data");
        durable::write(&Cursor::place(data, sink), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::class::Class;

    fn position(stream: &str, class: Class, first: u64, durable: u64) -> Position {
        let mut position = Position::empty(&StreamName::new(stream).unwrap(), class, true);
        (position.first, position.last, position.durable) = (first, durable + 1, durable);
        position
    }

    fn shown(next: &[Next]) -> Vec<String> {
        next.iter().map(|it| format!("{} {:?} {}..{}", it.stream, it.gap, it.after, it.last)).collect()
    }

    #[test]
    fn what_waits() {
        let life = JournalId::parse("00000000000000000000000000000001").unwrap();
        let mut positions =
            vec![position("events", Class::Event, 1, 4), position("decisions", Class::Audit, 3, 5)];
        let mut cursor = Cursor::begin(life, From::Beginning, &positions);
        assert_eq!(shown(&cursor.waiting(&positions)), ["decisions Some((1, 2)) 2..5", "events None 0..4"]);
        cursor.pass(&positions[0].stream, 4);
        cursor.pass(&positions[1].stream, 2);
        assert_eq!(shown(&cursor.waiting(&positions)), ["decisions None 2..5"]);
        positions[1] = position("decisions", Class::Audit, 10, 8);
        assert_eq!(shown(&cursor.waiting(&positions)), ["decisions Some((3, 8)) 8..8"]);

        let cursor = Cursor::begin(life, From::Now, &positions);
        assert!(cursor.waiting(&positions).is_empty());
        positions.push(position("summary.a", Class::Metric, 1, 2));
        assert_eq!(
            shown(&cursor.waiting(&positions)),
            ["summary.a None 0..2"],
            "a stream that is new is new"
        );
    }

    #[test]
    fn it_is_kept_and_follows_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let name = PartName::new("ops").unwrap();
        assert_eq!(Cursor::load(dir.path(), &name).unwrap(), None);
        let life = |last| JournalId::parse(&format!("0000000000000000000000000000000{last}")).unwrap();
        let mut cursor = Cursor::begin(life(1), From::Beginning, &[]);
        cursor.pass(&StreamName::new("events").unwrap(), 7);
        cursor.save(dir.path(), &name).unwrap();
        let mut again = Cursor::load(dir.path(), &name).unwrap().unwrap();
        assert_eq!(again, cursor);
        again.follow(life(1));
        assert_eq!(again, cursor);
        again.follow(life(2));
        assert_eq!(again, Cursor::begin(life(2), From::Beginning, &[]));
    }
}
