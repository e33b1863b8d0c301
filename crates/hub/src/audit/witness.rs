//! The nodes as witnesses: each carries the largest checkpoints of the log that it saw, and names the newest when it checks in. The
//! hub shows that its log has all of that one, or says that it forked.
//!
//! Roots are reckoned from the published tiles, a few kilobytes, once for each size that somebody names; no check-in waits long for
//! a depot that does not answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use package::tlog::note::{Checkpoint, NOTE_MAX_BYTES, NoteKey};
use package::tlog::tile::{Content, Tile};
use package::tlog::{TILE_HEIGHT, TILE_WIDTH, Tree};
use tokio::time::timeout;
use wire::hash::Hash;

use crate::depot::{Depot, Key};

/// The name of the checkpoint in a log.
pub const CHECKPOINT: &str = "checkpoint";

/// How long the newest checkpoint is good for; this hub or another publishes once a minute.
const GOOD_S: u64 = 5;
/// How long a check-in waits for the depot.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most sizes whose roots are remembered.
const ROOTS_MAX: usize = 1024;

/// What came of holding the log to a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The log has all of it.
    Whole,
    /// It cannot be said: the log is not published as far, or the depot does not answer.
    Unknown,
    /// The log had other entries then.
    Forked,
}

/// The published log, as check-ins need it.
#[derive(Debug)]
pub struct Witness {
    key: NoteKey,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    newest: Option<(String, Checkpoint)>,
    asked_s: Option<u64>,
    roots: BTreeMap<u64, Hash>,
    told_s: Option<u64>,
}

impl Witness {
    /// Of the log with this key.
    pub fn new(key: NoteKey) -> Witness {
        Witness { key, last: Mutex::default() }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest checkpoint, a signed note, unless it is the one that the node named.
    pub async fn news(&self, depot: &Depot, named: Option<&str>, now_s: u64) -> Option<String> {
        self.refresh(depot, now_s).await;
        let last = self.last();
        let (note, checkpoint) = last.newest.as_ref()?;
        (named != Some(&checkpoint.brief())).then(|| note.clone())
    }

    async fn refresh(&self, depot: &Depot, now_s: u64) {
        {
            let mut last = self.last();
            if last.asked_s.is_some_and(|asked_s| now_s.saturating_sub(asked_s) < GOOD_S) {
                return;
            }
            // While this one asks, the others go on.
            last.asked_s = Some(now_s);
        }
        let key = Key::log(CHECKPOINT);
        let Ok(Ok(Some(note))) = timeout(PATIENCE, depot.read(&key, NOTE_MAX_BYTES as u64)).await else {
            return;
        };
        let Ok(checkpoint) = Checkpoint::open(&note, &self.key) else { return };
        let mut last = self.last();
        // Roots of a log that was set back, or put elsewhere, are not those of this one.
        let is_other = last.newest.as_ref().is_some_and(|(_, before)| before.size > checkpoint.size);
        if is_other {
            last.roots.clear();
        }
        last.newest = Some((String::from_utf8_lossy(&note).into_owned(), checkpoint));
    }

    /// Whether the log has all of what a node saw.
    pub async fn judge(&self, depot: &Depot, named: &str, now_s: u64) -> Verdict {
        let Some((size, root)) = Checkpoint::read_brief(named) else { return Verdict::Unknown };
        self.refresh(depot, now_s).await;
        let (now, known) = {
            let last = self.last();
            let Some((_, now)) = &last.newest else { return Verdict::Unknown };
            let known = if now.size == size { Some(now.root) } else { last.roots.get(&size).copied() };
            (now.size, known)
        };
        if size > now {
            return Verdict::Unknown;
        }
        let found = match known {
            Some(found) => found,
            None => match timeout(PATIENCE, root_at(depot, size, now)).await {
                Ok(Some(found)) => {
                    let mut last = self.last();
                    if last.roots.len() >= ROOTS_MAX {
                        last.roots.clear();
                    }
                    last.roots.insert(size, found);
                    found
                }
                _ => return Verdict::Unknown,
            },
        };
        if found == root { Verdict::Whole } else { Verdict::Forked }
    }

    /// Whether a fork is to be told now: once a minute, however many nodes saw it.
    pub fn is_news(&self, now_s: u64) -> bool {
        let mut last = self.last();
        let is_news = last.told_s.is_none_or(|told_s| now_s.saturating_sub(told_s) >= 60);
        if is_news {
            last.told_s = Some(now_s);
        }
        is_news
    }
}

/// The root over the first `size` entries of the published log, which has `now`.
async fn root_at(depot: &Depot, size: u64, now: u64) -> Option<Hash> {
    let widths = Tree::widths(now);
    let mut levels = Vec::new();
    for (level, width) in Tree::widths(size).into_iter().enumerate() {
        if width == 0 {
            levels.push(Vec::new());
            continue;
        }
        let below = TILE_HEIGHT * (level as u32 + 1);
        let number = size >> below;
        // The tile may have grown since, or be full.
        let grown = if now >> below == number { *widths.get(level)? } else { TILE_WIDTH };
        let tile = Tile { content: Content::Hashes(level as u8), number, width: grown };
        let bytes = depot.read(&Key::log(&tile.to_string()), TILE_WIDTH * 32).await.ok()??;
        let mut hashes = tile.hashes(&bytes).ok()?;
        hashes.truncate(width as usize);
        levels.push(hashes);
    }
    Some(Tree::of(size, levels).ok()?.root())
}

#[cfg(test)]
mod tests {
    use package::tlog::note::NoteSigner;

    use super::*;
    use crate::audit::publish::publish;
    use crate::store;
    use crate::store::audit::{Entry, append};

    #[tokio::test]
    async fn what_nodes_saw_is_in_the_log_or_it_forked() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store::open(folder.path(), None).await.unwrap();
        let depot = Depot::memory();
        let signer = NoteSigner::from_seed("selvedge/test", &[1; 32]).unwrap();
        let witness = Witness::new(signer.key().clone());
        assert_eq!(witness.news(&depot, None, 0).await, None);
        let (mut seen, mut at_ms) = (Vec::new(), 0);
        for size in [1, 2, 255, 256, 300, 700] {
            while at_ms < size {
                at_ms += 1;
                let word = |text: &str| text.to_owned();
                let (who, act, about) = (word("hub"), word("heads"), word("5"));
                let entry = Entry { at_ms, who, act, about, why: String::new(), before: None, after: None };
                append(&mut store.writer, &entry).await.unwrap();
            }
            seen.push(publish(&store.readers, &depot, &signer).await.unwrap().unwrap());
        }
        for checkpoint in &seen {
            assert_eq!(
                witness.judge(&depot, &checkpoint.brief(), 100).await,
                Verdict::Whole,
                "{checkpoint:?}"
            );
            let other = Checkpoint { root: Hash::of(b"another"), ..checkpoint.clone() };
            assert_eq!(witness.judge(&depot, &other.brief(), 100).await, Verdict::Forked, "{checkpoint:?}");
        }
        let newest = seen.pop().unwrap();
        let ahead = Checkpoint { size: newest.size + 1, ..newest.clone() };
        assert_eq!(witness.judge(&depot, &ahead.brief(), 100).await, Verdict::Unknown);
        assert_eq!(witness.judge(&depot, "many roots", 100).await, Verdict::Unknown);
        assert_eq!(witness.news(&depot, Some(&newest.brief()), 100).await, None, "it has that one");
        let note = witness.news(&depot, Some("1 AAAA"), 100).await.unwrap();
        assert_eq!(Checkpoint::open(note.as_bytes(), signer.key()).unwrap(), newest);
        assert!(witness.is_news(0) && !witness.is_news(59) && witness.is_news(60));
    }
}
