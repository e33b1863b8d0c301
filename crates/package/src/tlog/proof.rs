//! That an entry is in a log, and that a later log has all of an earlier one: proofs of at most 64 hashes (RFC 6962 §2.1; checked as
//! RFC 9162 §2.1.3 and §2.1.4 say).
//!
//! They are made from hashes of complete subtrees, which tiles hold: `at(level, number)` gives that over the entries
//! `number · 2^level` and on.

use wire::hash::Hash;

use crate::tlog::{TILE_HEIGHT, empty_root, node_hash};

/// The most hashes of a proof.
pub const HASHES_MAX: usize = 64;

/// A proof that proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// An entry that the tree has not.
    #[error("a log of {size} entries has no entry {index}")]
    NoSuchEntry {
        /// Which was asked for.
        index: u64,
        /// Entries.
        size: u64,
    },
    /// A later log with fewer entries.
    #[error("the log had {old} entries, and has {size} now: entries are gone")]
    Shrunk {
        /// Before.
        old: u64,
        /// Now.
        size: u64,
    },
    /// The hashes lead to another root.
    #[error("the log is not the one whose root is known")]
    OtherRoot,
}

/// The entries of a part of a tree: from here to before there.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    /// Where RFC 6962 cuts it: the left part is complete, and larger than half.
    fn middle(self) -> u64 {
        let half = (self.to - self.from).next_power_of_two() / 2;
        self.from + half
    }

    /// The hash over it.
    fn hash<E>(self, at: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
        let length = self.to - self.from;
        if length.is_power_of_two() {
            let level = length.trailing_zeros();
            return at(level, self.from >> level);
        }
        let middle = self.middle();
        let left = Span { to: middle, ..self }.hash(at)?;
        let right = Span { from: middle, ..self }.hash(at)?;
        Ok(node_hash(&left, &right))
    }
}

/// The root of the tree of the first `size` entries.
pub fn root<E>(size: u64, at: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    if size == 0 { Ok(empty_root()) } else { Span { from: 0, to: size }.hash(at) }
}

/// The hashes beside the way from entry `index` up to the root over `size` entries. `index` must be below `size`.
pub fn inclusion<E>(
    size: u64,
    index: u64,
    at: &mut impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    assert!(index < size, "entry {index} of {size}");
    let (mut span, mut proof) = (Span { from: 0, to: size }, Vec::new());
    while span.to - span.from > 1 {
        let middle = span.middle();
        let (own, other) = cut(span, index < middle, middle);
        proof.push(other.hash(at)?);
        span = own;
    }
    proof.reverse();
    Ok(proof)
}

/// The hashes from which the roots over `old` and over `size` entries both follow. `old` must not be above `size`.
pub fn consistency<E>(
    old: u64,
    size: u64,
    at: &mut impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    assert!(old <= size, "{old} entries of {size}");
    let (mut span, mut proof) = (Span { from: 0, to: size }, Vec::new());
    if old == 0 {
        return Ok(proof);
    }
    while span.to != old {
        let middle = span.middle();
        let (own, other) = cut(span, old <= middle, middle);
        proof.push(other.hash(at)?);
        span = own;
    }
    if span.from > 0 {
        proof.push(span.hash(at)?); // else it is the old root, which is known
    }
    proof.reverse();
    Ok(proof)
}

/// The part that is followed, and the other.
fn cut(span: Span, is_left: bool, middle: u64) -> (Span, Span) {
    let (left, right) = (Span { to: middle, ..span }, Span { from: middle, ..span });
    if is_left { (left, right) } else { (right, left) }
}

/// Whether the entry with the hash `leaf` is number `index` of the log of `size` entries under `root`.
pub fn check_inclusion(
    root: &Hash,
    size: u64,
    index: u64,
    leaf: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::NoSuchEntry { index, size });
    }
    let (mut own, mut last, mut found) = (index, size - 1, *leaf);
    for other in proof {
        if last == 0 {
            return Err(ProofError::OtherRoot);
        }
        if own & 1 == 1 || own == last {
            found = node_hash(other, &found);
            up_to_a_right_one(&mut own, &mut last);
        } else {
            found = node_hash(&found, other);
        }
        (own, last) = (own >> 1, last >> 1);
    }
    if last == 0 && found == *root { Ok(()) } else { Err(ProofError::OtherRoot) }
}

/// Whether the log of `size` entries under `root` begins with all of the log of `old` entries under `old_root`.
pub fn check_consistency(
    old: u64,
    old_root: &Hash,
    size: u64,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let sound = |holds: bool| if holds { Ok(()) } else { Err(ProofError::OtherRoot) };
    if old > size {
        return Err(ProofError::Shrunk { old, size });
    }
    if old == size {
        return sound(proof.is_empty() && old_root == root);
    }
    if old == 0 {
        return sound(proof.is_empty() && *old_root == empty_root());
    }
    let (mut own, mut last) = (old - 1, size - 1);
    while own & 1 == 1 {
        (own, last) = (own >> 1, last >> 1);
    }
    let (first, rest) = match (old.is_power_of_two(), proof) {
        (true, all) => (old_root, all),
        (false, [first, rest @ ..]) => (first, rest),
        (false, []) => return Err(ProofError::OtherRoot),
    };
    let (mut before, mut now) = (*first, *first);
    for other in rest {
        if last == 0 {
            return Err(ProofError::OtherRoot);
        }
        if own & 1 == 1 || own == last {
            (before, now) = (node_hash(other, &before), node_hash(other, &now));
            up_to_a_right_one(&mut own, &mut last);
        } else {
            now = node_hash(&now, other);
        }
        (own, last) = (own >> 1, last >> 1);
    }
    sound(last == 0 && before == *old_root && now == *root)
}

/// Goes up as long as the own subtree is a left one: at the right edge it stands for its parent.
fn up_to_a_right_one(own: &mut u64, last: &mut u64) {
    while *own & 1 == 0 && *own != 0 {
        (*own, *last) = (*own >> 1, *last >> 1);
    }
}

/// The tile of hashes that a complete subtree is reckoned from: its level, its number, and which of its hashes.
pub fn tile_of(level: u32, number: u64) -> (u8, u64, std::ops::Range<usize>) {
    let (tile_level, above) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
    let first = number << above;
    let begin = (first % 256) as usize;
    (tile_level as u8, first / 256, begin..begin + (1 << above))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::tlog::{Tree, leaf_hash, root_of};

    /// Hashes of complete subtrees, as tiles would give them.
    struct Tiles(Vec<Vec<Vec<Hash>>>);

    impl Tiles {
        fn of(size: u64) -> (Tiles, Vec<Hash>) {
            let (mut tree, mut tiles, mut roots) = (Tree::default(), Tiles(vec![Vec::new(); 4]), Vec::new());
            roots.push(tree.root());
            for at in 0..size {
                for (level, number, hashes) in tree.push(leaf(at)) {
                    assert_eq!(tiles.0[usize::from(level)].len() as u64, number);
                    tiles.0[usize::from(level)].push(hashes);
                }
                roots.push(tree.root());
            }
            for (level, _, hashes) in tree.partial() {
                tiles.0[usize::from(level)].push(hashes);
            }
            (tiles, roots)
        }

        fn at(&self, level: u32, number: u64) -> Result<Hash, Infallible> {
            let (level, number, range) = tile_of(level, number);
            Ok(root_of(&self.0[usize::from(level)][number as usize][range]))
        }
    }

    fn leaf(at: u64) -> Hash {
        leaf_hash(&at.to_be_bytes())
    }

    #[test]
    fn every_proof_up_to_three_hundred_holds() {
        let (tiles, roots) = Tiles::of(300);
        let at = &mut |level, number| tiles.at(level, number);
        for size in 0..=300u64 {
            let now = &roots[size as usize];
            assert_eq!(root(size, at), Ok(*now));
            for index in 0..size {
                let Ok(proof) = inclusion(size, index, at);
                assert_eq!(
                    check_inclusion(now, size, index, &leaf(index), &proof),
                    Ok(()),
                    "{index} of {size}"
                );
                assert!(check_inclusion(now, size, index, &leaf(index + 1), &proof).is_err());
                assert!(
                    size == 1
                        || check_inclusion(now, size, (index + 1) % size, &leaf(index), &proof).is_err()
                );
            }
            for old in 0..=size {
                let before = &roots[old as usize];
                let Ok(proof) = consistency(old, size, at);
                assert_eq!(check_consistency(old, before, size, now, &proof), Ok(()), "{old} of {size}");
                assert!(proof.len() <= 10);
                if old > 0 && old < size {
                    let other = &roots[old as usize - 1];
                    assert!(check_consistency(old, other, size, now, &proof).is_err(), "{old} of {size}");
                    assert!(check_consistency(old, before, size, before, &proof).is_err(), "{old} of {size}");
                }
            }
        }
        assert!(matches!(check_consistency(2, &roots[2], 1, &roots[1], &[]), Err(ProofError::Shrunk { .. })));
        assert!(matches!(
            check_inclusion(&roots[1], 1, 1, &leaf(1), &[]),
            Err(ProofError::NoSuchEntry { .. })
        ));
    }

    #[test]
    fn one_flipped_bit_is_refused() {
        let (tiles, roots) = Tiles::of(300);
        let at = &mut |level, number| tiles.at(level, number);
        let flip = |hash: &Hash, bit: usize| {
            let mut bytes = *hash.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Hash::from_slice(&bytes).unwrap()
        };
        for (size, index) in [(1, 0), (2, 1), (255, 17), (256, 255), (257, 256), (300, 299)] {
            let now = &roots[size as usize];
            let Ok(proof) = inclusion(size, index, at);
            for place in 0..proof.len() {
                for bit in 0..256 {
                    let mut wrong = proof.clone();
                    wrong[place] = flip(&wrong[place], bit);
                    assert!(check_inclusion(now, size, index, &leaf(index), &wrong).is_err());
                }
            }
            assert!(check_inclusion(&flip(now, 7), size, index, &leaf(index), &proof).is_err());
            assert!(check_inclusion(now, size, index, &flip(&leaf(index), 7), &proof).is_err());
            let longer = [&proof[..], &[leaf(9)]].concat();
            assert!(check_inclusion(now, size, index, &leaf(index), &longer).is_err());
            if let Some((_, shorter)) = proof.split_last() {
                assert!(check_inclusion(now, size, index, &leaf(index), shorter).is_err());
            }
        }
        for (old, size) in [(1, 2), (3, 7), (128, 300), (255, 256), (256, 257), (299, 300)] {
            let (before, now) = (&roots[old as usize], &roots[size as usize]);
            let Ok(proof) = consistency(old, size, at);
            for place in 0..proof.len() {
                for bit in 0..256 {
                    let mut wrong = proof.clone();
                    wrong[place] = flip(&wrong[place], bit);
                    assert!(check_consistency(old, before, size, now, &wrong).is_err(), "{old} of {size}");
                }
            }
            assert!(check_consistency(old, &flip(before, 7), size, now, &proof).is_err());
            assert!(check_consistency(old, before, size, &flip(now, 7), &proof).is_err());
            assert!(check_consistency(old, before, size, now, &[&proof[..], &[leaf(9)]].concat()).is_err());
            assert!(check_consistency(old, before, size, now, &proof[1..]).is_err());
        }
    }
}
