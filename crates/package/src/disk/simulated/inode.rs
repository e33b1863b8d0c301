//! What becomes of a file's bytes when the power goes.

use std::collections::BTreeSet;

use wire::world::{self, Entropy};

/// What a file system writes at once, unless the power goes.
pub(super) const PAGE_BYTES: usize = 4096;

/// What a disk writes at once, even then.
pub(super) const SECTOR_BYTES: usize = 512;

/// A file's bytes: as a process sees them, and as they are certain.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    /// Pages that the next sync brings to the disk.
    dirty: BTreeSet<usize>,
    /// Pages that a failed sync left out, and that no later one brings.
    forgotten: BTreeSet<usize>,
    pub(super) frozen: bool,
}

impl Inode {
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len();
        let old = self.live.len();
        if end > old {
            self.set_size(end);
        }
        self.live[at..end].copy_from_slice(bytes);
        self.touch(at, end);
    }

    pub(super) fn set_size(&mut self, size: usize) {
        let old = self.live.len();
        self.live.resize(size, 0);
        self.touch(old.min(size), old.max(size));
    }

    fn touch(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        for page in from / PAGE_BYTES..to.div_ceil(PAGE_BYTES) {
            self.dirty.insert(page);
            self.forgotten.remove(&page);
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            let range = page_of(page, self.live.len());
            self.durable[range.clone()].copy_from_slice(&self.live[range]);
        }
    }

    pub(super) fn sync_in_vain(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.forgotten.append(&mut dirty);
    }

    /// The power goes: what was not certain becomes something.
    pub(super) fn lose(&mut self, chance: &mut world::Simulated) {
        let mut unsure = std::mem::take(&mut self.dirty);
        unsure.append(&mut self.forgotten);
        let (short, long) =
            (self.live.len().min(self.durable.len()), self.live.len().max(self.durable.len()));
        let size = match below(chance, 3) {
            0 => self.durable.len(),
            1 => self.live.len(),
            _ => short + below(chance, long - short + 1),
        };
        let mut new = std::mem::take(&mut self.live);
        new.resize(size, 0);
        self.durable.resize(size, 0);
        for page in unsure {
            let range = page_of(page, size);
            if range.is_empty() {
                continue;
            }
            let sectors = range.len().div_ceil(SECTOR_BYTES);
            let border = (range.start + below(chance, sectors + 1) * SECTOR_BYTES).min(range.end);
            match below(chance, 5) {
                0 => self.durable[range.clone()].copy_from_slice(&new[range]),
                1 => {}
                2 => self.durable[range].fill(0),
                3 => self.durable[range.start..border].copy_from_slice(&new[range.start..border]),
                _ => self.durable[border..range.end].copy_from_slice(&new[border..range.end]),
            }
        }
        self.live = self.durable.clone();
    }
}

/// The bytes of a page in a file of `size` bytes.
fn page_of(page: usize, size: usize) -> std::ops::Range<usize> {
    let from = (page * PAGE_BYTES).min(size);
    from..(from + PAGE_BYTES).min(size)
}

/// A number less than `bound`, which is at least 1.
pub(super) fn below(chance: &mut world::Simulated, bound: usize) -> usize {
    // The product is less than `bound`: a unit is at most 1 - 2⁻⁵³.
    ((chance.unit() * bound as f64) as usize).min(bound - 1)
}
