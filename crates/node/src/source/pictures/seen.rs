//! Which files of a folder were looked at, over restarts, and which are due: each once, when it has come to rest.
//!
//! A file is known by its name, its size and when it was last changed: one that is written anew is another. It is at rest when it is
//! the same at two looks; whoever uploads slowly is waited for. What is remembered is eight bytes of a hash for each file that is
//! still in the folder, so memory is bounded by [`FILES_MAX`].
//!
//! Deciding is pure; [`Store`] keeps what is remembered in a file of lines, to which is added as pictures are looked at, and which is
//! written anew when half of it speaks of files that are gone. A line that was cut off by a power cut is no line: its file is looked
//! at again.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use package::disk::FileError;
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::WallMs;

use crate::durable;

/// The most files of a folder.
pub const FILES_MAX: usize = 100_000;
/// The largest file of what is remembered: each line has 17 bytes, and it is written anew before it has twice as many lines.
const BYTES_MAX: u64 = 17 * (3 * FILES_MAX as u64 + SPARE as u64);
/// So many lines more than needed are no reason to write it anew.
const SPARE: usize = 4_096;

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last changed.
    pub changed_ms: WallMs,
}

impl Entry {
    /// What it is known by.
    pub fn mark(&self) -> u64 {
        let text = format!("{}\n{}\n{}", self.bytes, self.changed_ms, self.name);
        let hash = Hash::of(text.as_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
    }
}

/// What is known of a folder.
#[derive(Debug, Default)]
pub struct Seen {
    /// Looked at, and still there.
    done: HashSet<u64>,
    /// Under way: handed out, and not done yet.
    taken: HashSet<u64>,
    /// As the folder was at the look before.
    before: HashSet<u64>,
}

impl Seen {
    /// Takes what is in the folder now; gives what is due, the oldest first.
    pub fn look(&mut self, mut entries: Vec<Entry>) -> Vec<Entry> {
        let now: HashSet<u64> = entries.iter().map(Entry::mark).collect();
        self.done.retain(|mark| now.contains(mark));
        entries.retain(|entry| {
            let mark = entry.mark();
            self.before.contains(&mark) && !self.done.contains(&mark) && !self.taken.contains(&mark)
        });
        self.before = now;
        entries.sort_by(|a, b| (a.changed_ms, &a.name).cmp(&(b.changed_ms, &b.name)));
        entries
    }

    /// A file is being looked at.
    pub fn take(&mut self, mark: u64) {
        self.taken.insert(mark);
    }

    /// It was looked at.
    pub fn finish(&mut self, mark: u64) {
        self.taken.remove(&mark);
        self.done.insert(mark);
    }

    /// Nothing of what is there now shall be looked at.
    pub fn skip(&mut self, entries: &[Entry]) {
        self.done.extend(entries.iter().map(Entry::mark));
    }
}

/// Keeps what is remembered, in the data folder.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
    to: Option<File>,
    lines: usize,
}

impl Store {
    /// Of a source.
    pub fn new(data: &Path, source: &PartName) -> Store {
        Store { file: data.join("sources").join(format!("{source}.seen")), to: None, lines: 0 }
    }

    /// What was looked at in an earlier life; `None` if there was none.
    pub fn load(&mut self) -> Result<Option<Seen>, FileError> {
        let Some(bytes) = durable::read(&self.file, BYTES_MAX)? else { return Ok(None) };
        let line = |line: &[u8]| {
            let text = std::str::from_utf8(line).ok().filter(|text| text.len() == 16)?;
            u64::from_str_radix(text, 16).ok()
        };
        let done: HashSet<u64> = bytes.split(|byte| *byte == b'\n').filter_map(line).collect();
        // Whatever stands there is written anew before anything is added to it: half a line would spoil the next one.
        self.lines = usize::MAX;
        Ok(Some(Seen { done, ..Seen::default() }))
    }

    /// Brings to the disk that these were looked at, too.
    pub fn add(&mut self, seen: &Seen, marks: &[u64]) -> Result<(), FileError> {
        if self.to.is_none() || self.lines > 2 * seen.done.len() + SPARE {
            return self.write(seen);
        }
        let text: String = marks.iter().map(|mark| format!("{mark:016x}\n")).collect();
        let to = self.to.as_mut().expect("it was asked before");
        let added = to.write_all(text.as_bytes()).and_then(|()| to.sync_data());
        self.lines += marks.len();
        added.map_err(|error| {
            // What stands there now may end in the middle of a line.
            self.to = None;
            FileError::at(&self.file)(error)
        })
    }

    /// Writes all of it anew.
    pub fn write(&mut self, seen: &Seen) -> Result<(), FileError> {
        self.to = None;
        if let Some(folder) = self.file.parent() {
            durable::make_folder(folder)?;
        }
        let mut marks: Vec<u64> = seen.done.iter().copied().collect();
        marks.sort_unstable();
        let text: String = marks.iter().map(|mark| format!("{mark:016x}\n")).collect();
        durable::write(&self.file, text.as_bytes())?;
        self.to = Some(OpenOptions::new().append(true).open(&self.file).map_err(FileError::at(&self.file))?);
        self.lines = marks.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, bytes: u64, changed_ms: WallMs) -> Entry {
        Entry { name: name.to_owned(), bytes, changed_ms }
    }

    fn names(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn each_file_is_due_once_when_it_rests_and_the_oldest_first() {
        let mut seen = Seen::default();
        let all = || vec![entry("b.jpg", 10, 5), entry("a.jpg", 10, 7), entry("c.jpg", 10, 5)];
        assert!(seen.look(all()).is_empty(), "nobody knows yet whether they rest");
        let due = seen.look(all());
        assert_eq!(names(&due), ["b.jpg", "c.jpg", "a.jpg"]);
        seen.take(due[0].mark());
        seen.finish(due[1].mark());
        assert_eq!(names(&seen.look(all())), ["a.jpg"], "one is under way, one is done");
        seen.finish(due[0].mark());
        // A file that grows is not at rest, and another one afterwards.
        let grown = |bytes| vec![entry("b.jpg", bytes, 8), entry("a.jpg", 10, 7)];
        assert_eq!(names(&seen.look(grown(20))), ["a.jpg"]);
        assert_eq!(names(&seen.look(grown(30))), ["a.jpg"]);
        assert_eq!(names(&seen.look(grown(30))), ["a.jpg", "b.jpg"]);
        assert!(seen.done.is_empty(), "what is gone is forgotten");
    }

    #[test]
    fn another_life_knows_what_was_looked_at_also_after_half_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let name = PartName::new("camera").unwrap();
        let store = || Store::new(folder.path(), &name);
        let mut first = store();
        assert!(first.load().unwrap().is_none());
        let mut seen = Seen::default();
        for at in 0..40 {
            let mark = entry("a.jpg", at, 0).mark();
            seen.finish(mark);
            first.add(&seen, &[mark]).unwrap();
        }
        let file = folder.path().join("sources/camera.seen");
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 40);
        std::fs::write(&file, &text[..text.len() - 5]).unwrap();
        let mut second = store();
        let mut again = second.load().unwrap().unwrap();
        assert_eq!(again.done.len(), 39);
        let mark = entry("z.jpg", 1, 1).mark();
        again.finish(mark);
        second.add(&again, &[mark]).unwrap();
        let third = store().load().unwrap().unwrap();
        assert_eq!(third.done, again.done, "half a line spoils none");
        assert_eq!(third.done.len(), 40);
    }

    #[test]
    fn what_is_gone_does_not_pile_up_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(folder.path(), &PartName::new("camera").unwrap());
        let mut seen = Seen::default();
        for at in 0..3 * SPARE as u64 {
            let mark = entry("a.jpg", at, 0).mark();
            seen.finish(mark);
            // Removed at once, as `after = "delete"` does.
            seen.done.clear();
            if at % 64 == 0 {
                store.add(&seen, &[mark; 64]).unwrap();
            }
        }
        assert!(store.lines <= SPARE + 64, "{}", store.lines);
    }
}
