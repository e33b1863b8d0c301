//! Which packages' blobs the relay keeps: those used last, within a quota. Decided purely.

use std::collections::BTreeMap;

use package::digest::Digest;

/// A blob that is larger than all that may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are more than the cache may hold ({quota_bytes})")]
pub struct TooLarge {
    /// Its bytes, or how many of it do not fit beside those on their way.
    pub bytes: u64,
    /// The quota.
    pub quota_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    bytes: u64,
    /// Greater: later.
    used: u64,
    /// It is on its way here, and so stays.
    is_coming: bool,
}

/// What is kept.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    quota_bytes: u64,
    turn: u64,
    entries: BTreeMap<Digest, Entry>,
}

impl Keep {
    /// What an earlier life left, the least recently used first; what is more than the quota goes with the first that comes.
    pub fn new(quota_bytes: u64, left: impl IntoIterator<Item = (Digest, u64)>) -> Keep {
        let mut keep = Keep { quota_bytes, turn: 0, entries: BTreeMap::new() };
        for (digest, bytes) in left {
            keep.turn += 1;
            keep.entries.insert(digest, Entry { bytes, used: keep.turn, is_coming: false });
        }
        keep
    }

    /// Somebody asked for a blob.
    pub fn used(&mut self, digest: &Digest) {
        self.turn += 1;
        if let Some(entry) = self.entries.get_mut(digest) {
            entry.used = self.turn;
        }
    }

    /// A blob of so many bytes is about to come. Gives what has to go for it, the least recently used first.
    pub fn begin(&mut self, digest: Digest, bytes: u64) -> Result<Vec<Digest>, TooLarge> {
        let quota_bytes = self.quota_bytes;
        let coming: u64 = self
            .entries
            .iter()
            .filter(|(it, entry)| entry.is_coming && **it != digest)
            .map(|(_, entry)| entry.bytes)
            .sum();
        if bytes.saturating_add(coming) > quota_bytes {
            return Err(TooLarge { bytes, quota_bytes });
        }
        self.turn += 1;
        self.entries.insert(digest, Entry { bytes, used: self.turn, is_coming: true });
        let mut gone = Vec::new();
        while self.bytes() > quota_bytes {
            let kept = self.entries.iter().filter(|(_, entry)| !entry.is_coming);
            let Some(oldest) = kept.min_by_key(|(_, entry)| entry.used).map(|(digest, _)| *digest) else {
                break;
            };
            self.entries.remove(&oldest);
            gone.push(oldest);
        }
        Ok(gone)
    }

    /// It came, or did not: what came of it is kept, to go on from there.
    pub fn end(&mut self, digest: &Digest) {
        if let Some(entry) = self.entries.get_mut(digest) {
            entry.is_coming = false;
        }
    }

    /// Nothing of it is here.
    pub fn gone(&mut self, digest: &Digest) {
        self.entries.remove(digest);
    }

    /// What is kept and what comes, in bytes.
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.bytes).fold(0, u64::saturating_add)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All, the least recently used first.
    pub fn in_order(&self) -> Vec<Digest> {
        let mut order: Vec<(u64, Digest)> =
            self.entries.iter().map(|(digest, entry)| (entry.used, *digest)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, digest)| digest).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob(number: u8) -> Digest {
        Digest::of(&[number])
    }

    #[test]
    fn the_least_recently_used_goes() {
        let mut keep = Keep::new(100, [(blob(1), 40), (blob(2), 40)]);
        assert_eq!(keep.begin(blob(3), 20).unwrap(), []);
        keep.end(&blob(3));
        keep.used(&blob(1));
        assert_eq!(keep.begin(blob(4), 40).unwrap(), [blob(2)], "one is enough");
        let too_large = |bytes| Err(TooLarge { bytes, quota_bytes: 100 });
        assert_eq!(keep.begin(blob(5), 61), too_large(61), "40 are on their way");
        assert_eq!(keep.begin(blob(5), 60).unwrap(), [blob(3), blob(1)], "what is on its way stays");
        keep.end(&blob(4));
        keep.end(&blob(5));
        assert_eq!(keep.in_order(), [blob(4), blob(5)]);
        assert_eq!(keep.begin(blob(6), 101), too_large(101));
        keep.gone(&blob(4));
        assert_eq!((keep.len(), keep.bytes(), keep.is_empty()), (1, 60, false));
        // It goes on from where it stopped: its own bytes are not counted twice.
        assert_eq!(keep.begin(blob(5), 90).unwrap(), []);
    }

    proptest! {
        #[test]
        fn the_quota_holds_and_what_comes_stays(events in prop::collection::vec((0_u8..4, 0_u8..12, 0_u64..60), 1..200)) {
            let mut keep = Keep::new(100, []);
            let mut coming = std::collections::BTreeSet::new();
            for (what, who, bytes) in events {
                let who = blob(who);
                match what {
                    0 | 1 => {
                        if let Ok(gone) = keep.begin(who, bytes) {
                            prop_assert!(gone.iter().all(|gone| !coming.contains(gone)));
                            coming.insert(who);
                        }
                    }
                    2 => {
                        keep.end(&who);
                        coming.remove(&who);
                    }
                    _ => keep.used(&who),
                }
                prop_assert!(keep.bytes() <= 100);
                let kept = keep.in_order();
                prop_assert!(coming.iter().all(|coming| kept.contains(coming)));
            }
        }
    }
}
