//! A log that can only grow, and prove it: a Merkle tree over entries (RFC 6962), cut into tiles that any file server gives
//! (<https://c2sp.org/tlog-tiles>), under a signed checkpoint (<https://c2sp.org/tlog-checkpoint>). Pure.
//!
//! [`Tree`] is what whoever writes a log keeps of it: the right edge. [`tile`] says which files a log consists of, [`proof`] that
//! an entry is in it and that a later log has all of an earlier one, [`note`] who says so.
//!
//! Always holds: entry `n` is the leaf `n`, from 0; a tile that is full never changes; a partial one has the number of its hashes
//! in its name.

use wire::hash::Hash;

pub mod note;
pub mod proof;
pub mod tile;

/// Hashes of a full tile.
pub const TILE_WIDTH: u64 = 256;

/// Tiles of one level stand on this many levels of the tree.
pub const TILE_HEIGHT: u32 = 8;

/// The hash of an entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash::of(&[&[0], entry].concat())
}

/// The hash over two subtrees.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left.as_bytes());
    bytes[33..].copy_from_slice(right.as_bytes());
    Hash::of(&bytes)
}

/// The root of a tree without entries.
pub fn empty_root() -> Hash {
    Hash::of(b"")
}

/// The root over complete subtrees of one size, 1 to 256 of them.
pub fn root_of(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [one] => *one,
        several => {
            let (left, right) = several.split_at(several.len().next_power_of_two() / 2);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The right edge of a growing tree: the hashes of its last tile on each level. At most 64 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// From the leaves up; fewer than [`TILE_WIDTH`] on each level.
    levels: Vec<Vec<Hash>>,
}

/// A tile that is full, or as full as it is: level and number in its level, and its hashes.
pub type Filled = (u8, u64, Vec<Hash>);

/// An edge that cannot be that of a tree of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the last tile of level {level} of a log of {size} entries must have {expected} hashes, not {found}")]
pub struct WrongEdge {
    /// Entries.
    pub size: u64,
    /// The level.
    pub level: usize,
    /// Hashes that it must have.
    pub expected: u64,
    /// Hashes that were given.
    pub found: usize,
}

impl Tree {
    /// The tree of `size` entries whose last tiles, from the leaves up, are these; an empty one where that level's number of hashes
    /// is a multiple of [`TILE_WIDTH`].
    pub fn of(size: u64, levels: Vec<Vec<Hash>>) -> Result<Tree, WrongEdge> {
        let widths = Tree::widths(size);
        for level in 0..widths.len().max(levels.len()) {
            let expected = widths.get(level).copied().unwrap_or(0);
            let found = levels.get(level).map_or(0, Vec::len);
            if found as u64 != expected {
                return Err(WrongEdge { size, level, expected, found });
            }
        }
        Ok(Tree { size, levels })
    }

    /// How many hashes the last tile of each level has in a tree of `size` entries, from the leaves up.
    pub fn widths(size: u64) -> Vec<u64> {
        let mut widths = Vec::new();
        let mut left = size;
        while left > 0 {
            widths.push(left % TILE_WIDTH);
            left /= TILE_WIDTH;
        }
        widths
    }

    /// Entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends the hash of an entry. The tiles that are full now, lowest first.
    pub fn push(&mut self, leaf: Hash) -> Vec<Filled> {
        let mut full = Vec::new();
        let mut hash = leaf;
        self.size += 1;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let tile = &mut self.levels[level];
            tile.push(hash);
            if (tile.len() as u64) < TILE_WIDTH {
                break;
            }
            let hashes = std::mem::take(tile);
            hash = root_of(&hashes);
            let number = (self.size >> (TILE_HEIGHT * (level as u32 + 1))) - 1;
            full.push((level as u8, number, hashes));
        }
        full
    }

    /// The tiles at the right edge that are not full, lowest first.
    pub fn partial(&self) -> Vec<Filled> {
        let levels = self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty());
        let tile = |(level, hashes): (usize, &Vec<Hash>)| {
            let number = self.size >> (TILE_HEIGHT * (level as u32 + 1));
            (level as u8, number, hashes.clone())
        };
        levels.map(tile).collect()
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for hashes in &self.levels {
            // Complete subtrees from right to left, each larger than all right of it.
            let mut rest = &hashes[..];
            while !rest.is_empty() {
                let (others, subtree) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
                let left = root_of(subtree);
                root = Some(root.map_or(left, |right| node_hash(&left, &right)));
                rest = others;
            }
        }
        root.unwrap_or_else(empty_root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962's definition, word for word.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            several => {
                let mut split = 1;
                while split * 2 < several.len() {
                    split *= 2;
                }
                node_hash(&defined(&several[..split]), &defined(&several[split..]))
            }
        }
    }

    #[test]
    fn the_vectors_of_certificate_transparency() {
        // Inputs and roots as certificate-transparency's own tests have them.
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::default();
        assert_eq!(
            tree.root().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (input, root) in inputs.iter().zip(roots) {
            tree.push(leaf_hash(input));
            assert_eq!(tree.root().to_string(), root);
        }
    }

    #[test]
    fn the_edge_gives_the_root_and_comes_back() {
        let leaves: Vec<Hash> = (0..70_000u32).map(|at| leaf_hash(&at.to_be_bytes())).collect();
        let mut tree = Tree::default();
        let mut full = Vec::new();
        for (at, leaf) in leaves.iter().enumerate() {
            full.extend(tree.push(*leaf));
            let size = at + 1;
            if size <= 600 || [65_535, 65_536, 65_537, 70_000].contains(&size) {
                assert_eq!(tree.root(), defined(&leaves[..size]), "{size}");
                let again = Tree::of(size as u64, tree.levels.clone());
                assert_eq!(again.as_ref(), Ok(&tree));
                assert_eq!(Tree::widths(size as u64).len(), tree.levels.len());
                for (level, number, hashes) in tree.partial() {
                    let below = (number * TILE_WIDTH) << (TILE_HEIGHT * u32::from(level));
                    let end = (hashes.len() as u64) << (TILE_HEIGHT * u32::from(level));
                    assert!(below + end <= size as u64 && below + end + (1 << (8 * level)) > size as u64);
                }
            }
        }
        assert_eq!(full.len(), 70_000 / 256 + 1);
        assert_eq!((full[255].0, full[255].1, full[256].0, full[256].1), (0, 255, 1, 0));
        assert_eq!(root_of(&full[256].2), defined(&leaves[..65_536]));
        let mut wrong = tree.levels.clone();
        wrong[0].pop();
        assert!(Tree::of(70_000, wrong).is_err());
        assert!(Tree::of(70_000, vec![]).is_err() && Tree::of(0, vec![vec![leaves[0]]]).is_err());
    }
}
