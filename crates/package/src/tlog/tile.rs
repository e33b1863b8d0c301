//! The files of a log: tiles of hashes, and bundles of entries, by names that say where they stand and how full they are.
//!
//! `tile/<level>/<number>[.p/<width>]`, the number in parts of three digits, all but the last with an `x` in front; and
//! `tile/entries/<number>[.p/<width>]`, each entry behind its length in two bytes, the higher first.

use std::fmt;

use wire::hash::Hash;

use crate::form::decimal;
use crate::tlog::TILE_WIDTH;

/// The highest level: 2^63 entries stand below it.
const LEVEL_MAX: u8 = 63;

/// The longest name that is read.
const NAME_MAX_BYTES: usize = 100;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Hashes of complete subtrees of `256^level` entries.
    Hashes(u8),
    /// Entries.
    Entries,
}

/// One file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub content: Content,
    /// Which of its level, from 0.
    pub number: u64,
    /// How many hashes or entries it holds: 1 to [`TILE_WIDTH`].
    pub width: u64,
}

/// A file that is not what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Another length than the hashes have that the name tells of.
    #[error("a tile of {width} hashes cannot have {found} bytes")]
    Length {
        /// Hashes.
        width: u64,
        /// Bytes.
        found: usize,
    },
    /// An entry that ends beyond the file, or bytes behind the last.
    #[error("the bundle of {width} entries breaks at byte {at}")]
    Broken {
        /// Entries.
        width: u64,
        /// Where.
        at: usize,
    },
    /// An entry whose length does not fit two bytes.
    #[error("an entry of {bytes} bytes is longer than the 65535 that a log takes")]
    EntryTooLong {
        /// Its bytes.
        bytes: usize,
    },
}

impl Tile {
    /// Reads a name. `None` for every other name, also for another way of writing the same one.
    pub fn parse(name: &str) -> Option<Tile> {
        if name.len() > NAME_MAX_BYTES {
            return None;
        }
        let (content, rest) = name.strip_prefix("tile/")?.split_once('/')?;
        let content = match content {
            "entries" => Content::Entries,
            level => Content::Hashes(u8::try_from(decimal(level)?).ok().filter(|level| *level <= LEVEL_MAX)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH),
            Some((number, width)) => {
                (number, decimal(width).filter(|width| (1..TILE_WIDTH).contains(width))?)
            }
        };
        let mut parts = number.rsplit('/');
        let (mut value, mut place) = (three(parts.next()?)?, 1000u64);
        for part in parts {
            value = three(part.strip_prefix('x')?)?.checked_mul(place)?.checked_add(value)?;
            place = place.saturating_mul(1000);
        }
        let tile = Tile { content, number: value, width };
        (tile.to_string() == name).then_some(tile)
    }

    /// The tiles that a log of `size` entries has and one of `old` has not: of hashes, lowest level first, and of entries.
    pub fn new_of(old: u64, size: u64) -> Vec<Tile> {
        let mut tiles = grown(Content::Entries, old, size);
        let (mut level, mut before, mut now) = (0, old, size);
        while now > 0 {
            tiles.extend(grown(Content::Hashes(level), before, now));
            (level, before, now) = (level + 1, before / TILE_WIDTH, now / TILE_WIDTH);
        }
        tiles
    }

    /// Its hashes.
    pub fn hashes(&self, bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
        let wrong = TileError::Length { width: self.width, found: bytes.len() };
        if bytes.len() as u64 != self.width * 32 {
            return Err(wrong);
        }
        bytes.chunks_exact(32).map(Hash::from_slice).collect::<Option<_>>().ok_or(wrong)
    }

    /// Its entries.
    pub fn entries<'a>(&self, bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, TileError> {
        let mut rest = bytes;
        let mut entries = Vec::new();
        let broken = |rest: &[u8]| TileError::Broken { width: self.width, at: bytes.len() - rest.len() };
        for _ in 0..self.width.min(TILE_WIDTH) {
            let (length, behind) = rest.split_first_chunk::<2>().ok_or_else(|| broken(rest))?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (entry, behind) = behind.split_at_checked(length).ok_or_else(|| broken(rest))?;
            entries.push(entry);
            rest = behind;
        }
        if rest.is_empty() { Ok(entries) } else { Err(broken(rest)) }
    }
}

/// The bytes of hashes in a tile.
pub fn hashes_to_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The bytes of entries in a bundle.
pub fn entries_to_bytes<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, TileError> {
    let mut bytes = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length =
            u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong { bytes: entry.len() })?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    Ok(bytes)
}

/// The files that stand for places `old` to `now` of a level.
fn grown(content: Content, old: u64, now: u64) -> Vec<Tile> {
    let numbers = old / TILE_WIDTH..now.div_ceil(TILE_WIDTH);
    let tile = |number: u64| {
        let width = (now - number * TILE_WIDTH).min(TILE_WIDTH);
        Tile { content, number, width }
    };
    numbers.map(tile).filter(|tile| tile.number * TILE_WIDTH + tile.width > old).collect()
}

fn three(part: &str) -> Option<u64> {
    (part.len() == 3 && part.bytes().all(|digit| digit.is_ascii_digit())).then(|| part.parse().ok())?
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Hashes(level) => write!(f, "tile/{level}/")?,
            Content::Entries => f.write_str("tile/entries/")?,
        }
        let mut place = 1;
        while self.number / place >= 1000 {
            place *= 1000;
        }
        while place > 1 {
            write!(f, "x{:03}/", self.number / place % 1000)?;
            place /= 1000;
        }
        write!(f, "{:03}", self.number % 1000)?;
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{Tree, leaf_hash};

    #[test]
    fn names_are_read_as_they_are_written() {
        for (name, content, number, width) in [
            ("tile/0/000", Content::Hashes(0), 0, 256),
            ("tile/0/x001/x234/067", Content::Hashes(0), 1_234_067, 256),
            ("tile/3/999.p/1", Content::Hashes(3), 999, 1),
            ("tile/63/x001/000.p/255", Content::Hashes(63), 1000, 255),
            ("tile/entries/x001/234", Content::Entries, 1234, 256),
            ("tile/entries/x018/x446/x744/x073/x709/x551/615", Content::Entries, u64::MAX, 256),
        ] {
            let tile = Tile { content, number, width };
            assert_eq!(tile.to_string(), name);
            assert_eq!(Tile::parse(name), Some(tile));
        }
        for name in [
            "",
            "tile/0",
            "tile/0/0",
            "tile/0/00a",
            "tile/00/000",
            "tile/64/000",
            "tile/+1/000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/data/000",
            "tile/0/../000",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
        ] {
            assert_eq!(Tile::parse(name), None, "{name}");
        }
    }

    #[test]
    fn what_a_log_publishes_is_what_it_has_grown_by() {
        let mut tree = Tree::default();
        let mut kept = std::collections::BTreeMap::new();
        let mut old = 0;
        for size in [1, 2, 255, 256, 257, 600, 65_536, 66_000] {
            while tree.size() < size {
                for (level, number, hashes) in tree.push(leaf_hash(&tree.size().to_be_bytes())) {
                    kept.insert((Content::Hashes(level), number, 256), hashes);
                }
            }
            for (level, number, hashes) in tree.partial() {
                kept.insert((Content::Hashes(level), number, hashes.len() as u64), hashes);
            }
            for tile in Tile::new_of(old, size) {
                let key = (tile.content, tile.number, tile.width);
                assert!(tile.content == Content::Entries || kept.contains_key(&key), "{tile} of {size}");
            }
            assert_eq!(Tile::new_of(size, size), []);
            old = size;
        }
        let names: Vec<String> = Tile::new_of(255, 513).iter().map(Tile::to_string).collect();
        let expected = [
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002.p/1",
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/1",
            "tile/1/000.p/2",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn files_hold_what_their_names_say() {
        let hashes = [leaf_hash(b"a"), leaf_hash(b"b")];
        let tile = Tile::parse("tile/0/000.p/2").unwrap();
        let bytes = hashes_to_bytes(&hashes);
        assert_eq!(tile.hashes(&bytes).unwrap(), hashes);
        assert!(tile.hashes(&bytes[1..]).is_err() && tile.hashes(&bytes.repeat(2)).is_err());
        let bundle = Tile::parse("tile/entries/000.p/2").unwrap();
        let bytes = entries_to_bytes(&["one", ""]).unwrap();
        assert_eq!(bytes, b"\0\x03one\0\0");
        assert_eq!(bundle.entries(&bytes).unwrap(), [&b"one"[..], b""]);
        for wrong in [&b""[..], b"\0\x03one", b"\0\x03one\0", b"\0\x03one\0\x01", b"\0\x03one\0\0\0"] {
            assert!(matches!(bundle.entries(wrong), Err(TileError::Broken { .. })), "{wrong:?}");
        }
        assert!(entries_to_bytes(&[vec![0; 65_535]]).is_ok());
        assert_eq!(entries_to_bytes(&[vec![0; 65_536]]), Err(TileError::EntryTooLong { bytes: 65_536 }));
    }
}
