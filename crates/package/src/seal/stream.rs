//! A file sealed in chunks of 1 MiB, so that it opens piece by piece, in any order and in parallel.
//!
//! ```text
//! "SVSEAL1\0"              what it is
//! u32 chunk_bytes, u32 0   little-endian; of plain bytes, 1 MiB
//! u64 plain_bytes          of the whole file
//! [16] salt, [32] commitment
//! then for each chunk      ciphertext, [16] tag
//! ```
//!
//! A chunk's nonce says which it is and whether it is the last, and the header is its associated data; the key depends
//! on the salt. So a chunk opens at its own place in its own file only. A file without bytes has one chunk without
//! bytes: its length, too, is vouched for. What `Opener` gives out was checked before.

use std::io::{ErrorKind, Read, Write};
use std::ops::Range;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use wire::world::Entropy;
use zeroize::{Zeroize, Zeroizing};

use crate::form::BLOB_MAX_BYTES;
use crate::seal::content::ContentKey;

/// Bytes before the first chunk.
pub const HEADER_BYTES: usize = 72;
/// Plain bytes of each chunk but the last.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Bytes that a chunk grows by.
pub const TAG_BYTES: usize = 16;

const MAGIC: &[u8; 8] = b"SVSEAL1\0";
const SALT: Range<usize> = 24..40;
const COMMITMENT: Range<usize> = 40..72;

/// A file that was not sealed, or cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No sealed file at all.
    #[error("this is no sealed file: {why}")]
    Form {
        /// What is wrong.
        why: &'static str,
    },
    /// A sealed file of a form that this version does not know.
    #[error("a sealed file with chunks of {chunk_bytes} bytes is not supported, only {CHUNK_BYTES} are")]
    Unsupported {
        /// The size of its chunks.
        chunk_bytes: u32,
    },
    /// More than a blob can hold.
    #[error("{plain_bytes} bytes are more than a sealed file can hold")]
    TooLarge {
        /// How many were to be sealed.
        plain_bytes: u64,
    },
    /// Bytes are missing at its end.
    #[error("the file was cut short: it has {found} bytes, its header speaks of {expected}")]
    Short {
        /// How many there should be.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// Bytes follow its end.
    #[error("something was added to the file: it has {found} bytes, its header speaks of {expected}")]
    Long {
        /// How many there should be.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// The commitment is another key's.
    #[error("the key is not this file's, or the file's header was changed")]
    Key,
    /// A chunk that is not the one it should be.
    #[error("chunk {index} was changed, stands in another's place, or is from a file with another header")]
    Chunk {
        /// Which one, from 0.
        index: u64,
    },
    /// A chunk of another length.
    #[error("chunk {index} has {expected} sealed bytes, not {found}")]
    Length {
        /// Which one, from 0.
        index: u64,
        /// How many it has.
        expected: u64,
        /// How many were given.
        found: usize,
    },
    /// A chunk behind the last one.
    #[error("there is no chunk {index}: the file has {chunks}")]
    NoChunk {
        /// Which one was asked for, from 0.
        index: u64,
        /// How many there are.
        chunks: u64,
    },
    /// The source of the bytes ended before it should.
    #[error("the source ended before its {expected} bytes had come")]
    Ended {
        /// How many were announced.
        expected: u64,
    },
    /// The source of the bytes goes on after it should end.
    #[error("the source has more than the {expected} bytes that were announced; nothing whole was written")]
    GoesOn {
        /// How many were announced.
        expected: u64,
    },
    /// The source failed.
    #[error("the bytes could not be read")]
    Read(#[source] std::io::Error),
    /// The destination failed.
    #[error("the bytes could not be written")]
    Write(#[source] std::io::Error),
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

/// How long a sealed file is.
///
/// # Errors
/// [`SealError::TooLarge`] if that is more than a blob can hold.
pub fn sealed_bytes(plain_bytes: u64) -> Result<u64, SealError> {
    let tags = chunk_count(plain_bytes).checked_mul(TAG_BYTES as u64);
    let sealed = tags.and_then(|tags| tags.checked_add(plain_bytes)?.checked_add(HEADER_BYTES as u64));
    sealed.filter(|bytes| *bytes <= BLOB_MAX_BYTES).ok_or(SealError::TooLarge { plain_bytes })
}

fn chunk_count(plain_bytes: u64) -> u64 {
    plain_bytes.div_ceil(CHUNK_BYTES as u64).max(1)
}

/// The first bytes of a sealed file, and what follows from them.
struct Header {
    bytes: [u8; HEADER_BYTES],
    plain_bytes: u64,
    sealed_bytes: u64,
}

impl Header {
    fn new(plain_bytes: u64, salt: [u8; 16], commitment: [u8; 32]) -> Result<Header, SealError> {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&(CHUNK_BYTES as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&plain_bytes.to_le_bytes());
        bytes[SALT].copy_from_slice(&salt);
        bytes[COMMITMENT].copy_from_slice(&commitment);
        Ok(Header { bytes, plain_bytes, sealed_bytes: sealed_bytes(plain_bytes)? })
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, SealError> {
        if bytes[..8] != *MAGIC {
            return Err(SealError::Form { why: "it does not begin as sealed files do" });
        }
        let chunk_bytes = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if chunk_bytes != CHUNK_BYTES as u32 {
            return Err(SealError::Unsupported { chunk_bytes });
        }
        if bytes[12..16] != [0; 4] {
            return Err(SealError::Form { why: "four bytes of its header must be zero and are not" });
        }
        let plain_bytes = bytes[16..24].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(Header { bytes: *bytes, plain_bytes, sealed_bytes: sealed_bytes(plain_bytes)? })
    }

    /// Where a chunk's plain bytes stand in the plain file.
    fn plain_range(&self, index: u64) -> Range<u64> {
        let start = index * CHUNK_BYTES as u64;
        start..self.plain_bytes.min(start + CHUNK_BYTES as u64)
    }

    fn plain_len(&self, index: u64) -> usize {
        let range = self.plain_range(index);
        (range.end - range.start) as usize
    }

    /// A chunk's index, then 1 for the last one and 0 for the others.
    fn nonce(&self, index: u64) -> Nonce {
        let is_last = index + 1 == chunk_count(self.plain_bytes);
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&index.to_le_bytes());
        nonce[8..].copy_from_slice(&u32::from(is_last).to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals one file.
pub struct Sealer {
    header: Header,
    cipher: LessSafeKey,
}

impl Sealer {
    /// For a file of `plain_bytes`, which stand in its header; the salt comes from `chance`.
    pub fn new(key: &ContentKey, plain_bytes: u64, chance: &mut dyn Entropy) -> Result<Sealer, SealError> {
        let mut salt = [0; 16];
        chance.fill(&mut salt);
        let commitment = key.commitment().map_err(|_| SealError::Crypto)?;
        let header = Header::new(plain_bytes, salt, commitment)?;
        let cipher = key.cipher(&salt).map_err(|_| SealError::Crypto)?;
        Ok(Sealer { header, cipher })
    }

    /// How long the sealed file will be.
    pub fn sealed_bytes(&self) -> u64 {
        self.header.sealed_bytes
    }

    /// Reads the plain file to its end and writes the sealed one, a chunk at a time. Only once: a nonce seals one chunk.
    ///
    /// # Errors
    /// [`SealError::Ended`] and [`SealError::GoesOn`] if `plain` has another length than was announced; what was
    /// written until then lacks its last chunk and opens nowhere.
    pub fn seal(self, plain: &mut dyn Read, sealed: &mut dyn Write) -> Result<(), SealError> {
        let Sealer { header, cipher } = self;
        let expected = header.plain_bytes;
        let mut buffer = Zeroizing::new(vec![0; header.plain_len(0)]);
        sealed.write_all(&header.bytes).map_err(SealError::Write)?;
        for index in 0..chunk_count(expected) {
            let chunk = &mut buffer[..header.plain_len(index)];
            fill(plain, chunk, expected)?;
            if header.plain_range(index).end == expected && !is_at_end(plain)? {
                return Err(SealError::GoesOn { expected });
            }
            let tag = cipher.seal_in_place_separate_tag(header.nonce(index), Aad::from(header.bytes), chunk);
            let tag = tag.map_err(|_| SealError::Crypto)?;
            sealed
                .write_all(chunk)
                .and_then(|()| sealed.write_all(tag.as_ref()))
                .map_err(SealError::Write)?;
        }
        Ok(())
    }
}

/// Opens one sealed file, in any order, from any thread.
pub struct Opener {
    header: Header,
    cipher: LessSafeKey,
}

impl Opener {
    /// For a file that begins with `header` and is `sealed_bytes` long.
    pub fn new(
        key: &ContentKey,
        header: &[u8; HEADER_BYTES],
        sealed_bytes: u64,
    ) -> Result<Opener, SealError> {
        let header = Header::parse(header)?;
        let (expected, found) = (header.sealed_bytes, sealed_bytes);
        if found < expected {
            return Err(SealError::Short { expected, found });
        }
        if found > expected {
            return Err(SealError::Long { expected, found });
        }
        if key.commitment().map_err(|_| SealError::Crypto)? != header.bytes[COMMITMENT] {
            return Err(SealError::Key);
        }
        let cipher = key.cipher(&header.bytes[SALT]).map_err(|_| SealError::Crypto)?;
        Ok(Opener { header, cipher })
    }

    /// How long the plain file is. No chunk has vouched for it yet; the sealed file's own length has.
    pub fn plain_bytes(&self) -> u64 {
        self.header.plain_bytes
    }

    /// How many chunks there are; at least one.
    pub fn chunks(&self) -> u64 {
        chunk_count(self.header.plain_bytes)
    }

    /// Where a chunk's bytes stand in the plain file.
    pub fn plain_range(&self, index: u64) -> Result<Range<u64>, SealError> {
        let chunks = self.chunks();
        if index >= chunks {
            return Err(SealError::NoChunk { index, chunks });
        }
        Ok(self.header.plain_range(index))
    }

    /// Where a chunk stands in the sealed file, its tag included.
    pub fn sealed_range(&self, index: u64) -> Result<Range<u64>, SealError> {
        let plain = self.plain_range(index)?;
        let before = HEADER_BYTES as u64 + index * TAG_BYTES as u64;
        Ok(plain.start + before..plain.end + before + TAG_BYTES as u64)
    }

    /// Opens the chunk `index`, whose sealed bytes are given, into `plain`, which has exactly its length.
    ///
    /// # Errors
    /// [`SealError::Chunk`] if it is not that chunk of that file; then `plain` holds zeros.
    pub fn open(&self, index: u64, sealed: &[u8], plain: &mut [u8]) -> Result<(), SealError> {
        let range = self.sealed_range(index)?;
        let (expected, found) = (range.end - range.start, sealed.len());
        let split = sealed.split_last_chunk::<TAG_BYTES>().filter(|_| found as u64 == expected);
        let (text, tag) = split.ok_or(SealError::Length { index, expected, found })?;
        assert_eq!(plain.len(), text.len(), "room for exactly the chunk");
        let (nonce, head) = (self.header.nonce(index), Aad::from(self.header.bytes));
        self.cipher.open_separate_gather(nonce, head, text, tag, plain).map_err(|_| {
            plain.zeroize();
            SealError::Chunk { index }
        })
    }

    /// Opens all chunks in their order, from a source that stands behind the header. Each is written once it was
    /// checked; whether the whole is there is known when this returns.
    pub fn open_all(&self, sealed: &mut dyn Read, plain: &mut dyn Write) -> Result<(), SealError> {
        let most = self.header.plain_len(0);
        let mut text = vec![0; most + TAG_BYTES];
        let mut buffer = Zeroizing::new(vec![0; most]);
        let expected = self.header.sealed_bytes;
        for index in 0..self.chunks() {
            let length = self.header.plain_len(index);
            let (text, chunk) = (&mut text[..length + TAG_BYTES], &mut buffer[..length]);
            fill(sealed, text, expected)?;
            self.open(index, text, chunk)?;
            plain.write_all(chunk).map_err(SealError::Write)?;
        }
        if is_at_end(sealed)? { Ok(()) } else { Err(SealError::GoesOn { expected }) }
    }
}

/// Reads a whole chunk of a source that has `expected` bytes altogether.
fn fill(from: &mut dyn Read, chunk: &mut [u8], expected: u64) -> Result<(), SealError> {
    from.read_exact(chunk).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => SealError::Ended { expected },
        _ => SealError::Read(error),
    })
}

fn is_at_end(from: &mut dyn Read) -> Result<bool, SealError> {
    match from.read_exact(&mut [0]) {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(true),
        Err(error) => Err(SealError::Read(error)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::world::Simulated;

    use super::*;

    fn key(seed: u64) -> ContentKey {
        ContentKey::draw(&mut Simulated::new(seed))
    }

    fn plain(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    fn sealed(plain: &[u8], seed: u64) -> Vec<u8> {
        let sealer = Sealer::new(&key(seed), plain.len() as u64, &mut Simulated::new(seed + 100)).unwrap();
        let (mut sealed, expected) = (Vec::new(), sealer.sealed_bytes());
        sealer.seal(&mut &plain[..], &mut sealed).unwrap();
        assert_eq!(sealed.len() as u64, expected);
        sealed
    }

    fn opener(file: &[u8], seed: u64) -> Result<Opener, SealError> {
        Opener::new(&key(seed), file.first_chunk().unwrap(), file.len() as u64)
    }

    /// All plain bytes of a file that was sealed with the key 1.
    fn opened(file: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut plain = Vec::new();
        opener(file, 1)?.open_all(&mut &file[HEADER_BYTES..], &mut plain)?;
        Ok(plain)
    }

    fn chunk<'a>(opener: &Opener, file: &'a [u8], index: u64) -> &'a [u8] {
        let range = opener.sealed_range(index).unwrap();
        &file[range.start as usize..range.end as usize]
    }

    #[test]
    fn lengths_around_the_border() {
        for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES] {
            let plain = plain(len);
            let file = sealed(&plain, 1);
            assert!(opened(&file).unwrap() == plain, "{len} bytes");
            let opener = opener(&file, 1).unwrap();
            let mut backwards = vec![0; len];
            for index in (0..opener.chunks()).rev() {
                let range = opener.plain_range(index).unwrap();
                let room = &mut backwards[range.start as usize..range.end as usize];
                opener.open(index, chunk(&opener, &file, index), room).unwrap();
            }
            assert!(backwards == plain, "{len} bytes from the end");
        }
    }

    #[test]
    fn the_form_is_pinned() {
        let file = sealed(b"weights", 1);
        assert_eq!(file[..24], *b"SVSEAL1\0\0\0\x10\0\0\0\0\0\x07\0\0\0\0\0\0\0");
        assert_eq!(file.len(), 72 + 7 + 16);
        assert!(!file.windows(7).any(|bytes| bytes == b"weights"));
        assert_ne!(file[SALT], sealed(b"weights", 2)[SALT]);
    }

    #[test]
    fn a_file_cut_or_extended() {
        let file = sealed(&plain(3 * CHUNK_BYTES), 1);
        let is_short = |result| matches!(result, Err(SealError::Short { .. }));
        assert!(is_short(opened(&file[..file.len() - 1])));
        assert!(is_short(opened(&file[..file.len() - CHUNK_BYTES - TAG_BYTES])));
        assert!(matches!(opened(&[&file[..], &[0]].concat()), Err(SealError::Long { .. })));
        // Cut at a border, with a header that fits: the first chunk, last in neither, does not know that header.
        let mut cut = file[..file.len() - CHUNK_BYTES - TAG_BYTES].to_vec();
        cut[16..24].copy_from_slice(&(2 * CHUNK_BYTES as u64).to_le_bytes());
        assert!(matches!(opened(&cut), Err(SealError::Chunk { index: 0 })));
        // A source that does not keep to the length that was told.
        let opener = opener(&file, 1).unwrap();
        let run = |bytes: &[u8]| opener.open_all(&mut &bytes[HEADER_BYTES..], &mut Vec::new());
        assert!(matches!(run(&file[..file.len() - 1]), Err(SealError::Ended { .. })));
        assert!(matches!(run(&[&file[..], &[0]].concat()), Err(SealError::GoesOn { .. })));
    }

    #[test]
    fn chunks_of_another_place_or_file() {
        let file = sealed(&plain(3 * CHUNK_BYTES), 1);
        let opener = opener(&file, 1).unwrap();
        let mut room = vec![7; CHUNK_BYTES];
        let mut is_refused = |index, bytes: &[u8]| {
            let refused = matches!(opener.open(index, bytes, &mut room), Err(SealError::Chunk { index: i }) if i == index);
            refused && room.iter().all(|byte| *byte == 0)
        };
        assert!(is_refused(0, chunk(&opener, &file, 1)));
        assert!(is_refused(1, chunk(&opener, &file, 2)));
        assert!(is_refused(2, chunk(&opener, &file, 1)));
        // The same key and plain bytes, another salt.
        let sealer = Sealer::new(&key(1), 3 << 20, &mut Simulated::new(5)).unwrap();
        let mut other = Vec::new();
        sealer.seal(&mut &plain(3 * CHUNK_BYTES)[..], &mut other).unwrap();
        assert!(is_refused(0, chunk(&opener, &other, 0)));
        assert!(matches!(opener.open(3, &[], &mut []), Err(SealError::NoChunk { index: 3, chunks: 3 })));
        assert!(matches!(opener.open(0, &[0; 15], &mut []), Err(SealError::Length { found: 15, .. })));
    }

    #[test]
    fn the_last_chunk_is_the_last() {
        // One chunk of a longer file and the only chunk of a shorter one differ in the flag alone, if key, salt, header
        // and place are the same: here the first is sealed as if it were not the last.
        let (key, chance) = (key(1), &mut Simulated::new(101));
        let Sealer { header, cipher } = Sealer::new(&key, 3, chance).unwrap();
        let forge = |last: u8| {
            let mut nonce = [0; 12];
            nonce[8] = last;
            let (mut chunk, nonce) = (b"abc".to_vec(), Nonce::assume_unique_for_key(nonce));
            cipher.seal_in_place_append_tag(nonce, Aad::from(header.bytes), &mut chunk).unwrap();
            opened(&[&header.bytes[..], &chunk].concat())
        };
        assert_eq!(forge(1).unwrap(), b"abc");
        assert!(matches!(forge(0), Err(SealError::Chunk { index: 0 })));
    }

    #[test]
    fn another_key() {
        let file = sealed(b"abc", 1);
        assert!(matches!(opener(&file, 2), Err(SealError::Key)));
        // With the other key's commitment in the header, the chunk still refuses it.
        let mut changed = file.clone();
        changed[COMMITMENT].copy_from_slice(&key(2).commitment().unwrap());
        let opener = opener(&changed, 2).unwrap();
        assert!(matches!(
            opener.open(0, &file[HEADER_BYTES..], &mut [0; 3]),
            Err(SealError::Chunk { index: 0 })
        ));
    }

    #[test]
    fn sources_of_another_length() {
        let seal = |announced, bytes: &[u8]| {
            let sealer = Sealer::new(&key(1), announced, &mut Simulated::new(1)).unwrap();
            let mut sealed = Vec::new();
            let result = sealer.seal(&mut &bytes[..], &mut sealed);
            assert_eq!(sealed.len(), HEADER_BYTES, "no chunk was written");
            result
        };
        assert!(matches!(seal(4, b"abc"), Err(SealError::Ended { expected: 4 })));
        assert!(matches!(seal(2, b"abc"), Err(SealError::GoesOn { expected: 2 })));
        assert!(matches!(seal(0, b"abc"), Err(SealError::GoesOn { expected: 0 })));
        let huge = Sealer::new(&key(1), u64::MAX, &mut Simulated::new(1));
        assert!(matches!(huge, Err(SealError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn every_bit_counts(len in 0_usize..300, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let plain = plain(len);
            let mut file = sealed(&plain, 1);
            prop_assert_eq!(opened(&file).unwrap(), plain);
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
            let refused = opened(&file).unwrap_err();
            let is_fitting = match at {
                0..8 | 12..16 => matches!(refused, SealError::Form { .. }),
                8..12 => matches!(refused, SealError::Unsupported { .. }),
                16..24 => matches!(
                    refused,
                    SealError::Short { .. } | SealError::Long { .. } | SealError::TooLarge { .. }
                ),
                40..72 => matches!(refused, SealError::Key),
                _ => matches!(refused, SealError::Chunk { index: 0 }),
            };
            prop_assert!(is_fitting, "byte {} gives: {}", at, refused);
        }

        #[test]
        fn no_header_makes_it_panic(header in any::<[u8; 32]>(), length in any::<u64>()) {
            let mut bytes = [0; HEADER_BYTES];
            bytes[16..48].copy_from_slice(&header);
            bytes[..12].copy_from_slice(b"SVSEAL1\0\0\0\x10\0");
            bytes[COMMITMENT].copy_from_slice(&key(1).commitment().unwrap());
            for length in [length, sealed_bytes(u64::from_le_bytes(*header.first_chunk().unwrap())).unwrap_or(0)] {
                let Ok(opener) = Opener::new(&key(1), &bytes, length) else { continue };
                let last = opener.chunks() - 1;
                prop_assert_eq!(opener.sealed_range(last).unwrap().end, length);
                prop_assert!(opener.sealed_range(last + 1).is_err());
            }
        }
    }
}
