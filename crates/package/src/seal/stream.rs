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

use std::cmp::Ordering;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use wire::world::Entropy;
use zeroize::{Zeroize, Zeroizing};

use crate::form::BLOB_MAX_BYTES;
use crate::seal::content::{ContentKey, SALT_BYTES, SealKey};

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
    fn new(plain_bytes: u64, salt: [u8; SALT_BYTES], commitment: [u8; 32]) -> Result<Header, SealError> {
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

    /// The header of a file that is `found` bytes long.
    fn of(bytes: &[u8; HEADER_BYTES], found: u64) -> Result<Header, SealError> {
        let header = Header::parse(bytes)?;
        let expected = header.sealed_bytes;
        match found.cmp(&expected) {
            Ordering::Less => Err(SealError::Short { expected, found }),
            Ordering::Equal => Ok(header),
            Ordering::Greater => Err(SealError::Long { expected, found }),
        }
    }

    fn salt(&self) -> [u8; SALT_BYTES] {
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&self.bytes[SALT]);
        salt
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

/// Whether a file that begins with `header` and is `sealed_bytes` long is a sealed one, as far as that can be told without a key.
pub fn check_form(header: &[u8; HEADER_BYTES], sealed_bytes: u64) -> Result<(), SealError> {
    Header::of(header, sealed_bytes).map(drop)
}

/// The content key of a file that was sealed with `key`, for further grants.
///
/// # Errors
/// [`SealError::Key`] if another key has sealed it.
pub fn content_key(
    key: &SealKey,
    header: &[u8; HEADER_BYTES],
    sealed_bytes: u64,
) -> Result<ContentKey, SealError> {
    let content = key.content(&Header::of(header, sealed_bytes)?.salt()).map_err(|_| SealError::Crypto)?;
    Opener::new(&content, header, sealed_bytes).map(|_| content)
}

/// Seals one file.
pub struct Sealer {
    header: Header,
    cipher: LessSafeKey,
}

impl Sealer {
    /// For a file of `plain_bytes`, which stand in its header; the salt comes from `chance`.
    pub fn new(key: &ContentKey, plain_bytes: u64, chance: &mut dyn Entropy) -> Result<Sealer, SealError> {
        let mut salt = [0; SALT_BYTES];
        chance.fill(&mut salt);
        Sealer::salted(key, plain_bytes, salt)
    }

    /// The same with a content key of this file alone, which grows from `key` and is given, too.
    pub fn with_own_key(
        key: &SealKey,
        plain_bytes: u64,
        chance: &mut dyn Entropy,
    ) -> Result<(Sealer, ContentKey), SealError> {
        let mut salt = [0; SALT_BYTES];
        chance.fill(&mut salt);
        let content = key.content(&salt).map_err(|_| SealError::Crypto)?;
        Ok((Sealer::salted(&content, plain_bytes, salt)?, content))
    }

    fn salted(key: &ContentKey, plain_bytes: u64, salt: [u8; SALT_BYTES]) -> Result<Sealer, SealError> {
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
        let mut chunk = Zeroizing::new(Vec::with_capacity(self.header.plain_len(0) + TAG_BYTES));
        sealed.write_all(&self.header.bytes).map_err(SealError::Write)?;
        for index in 0..chunk_count(self.header.plain_bytes) {
            self.chunk(index, plain, &mut chunk)?;
            sealed.write_all(&chunk).map_err(SealError::Write)?;
        }
        Ok(())
    }

    /// The sealed file, read instead of written: `plain` is read and sealed a chunk at a time. What is wrong with it stands in
    /// the errors of reading.
    pub fn reader<R: Read>(self, plain: R) -> SealingReader<R> {
        let chunk = Zeroizing::new(self.header.bytes.to_vec());
        SealingReader { sealer: self, plain, next: 0, chunk, at: 0 }
    }

    /// Seals a chunk, with its tag behind it. After an error plain bytes may stand there.
    fn chunk(&self, index: u64, plain: &mut dyn Read, chunk: &mut Vec<u8>) -> Result<(), SealError> {
        let Sealer { header, cipher } = self;
        let expected = header.plain_bytes;
        chunk.resize(header.plain_len(index), 0);
        fill(plain, chunk, expected)?;
        if header.plain_range(index).end == expected && !is_at_end(plain)? {
            return Err(SealError::GoesOn { expected });
        }
        let tag = cipher.seal_in_place_separate_tag(header.nonce(index), Aad::from(header.bytes), chunk);
        chunk.extend_from_slice(tag.map_err(|_| SealError::Crypto)?.as_ref());
        Ok(())
    }
}

/// A file as it is sealed, see [`Sealer::reader`].
pub struct SealingReader<R> {
    sealer: Sealer,
    plain: R,
    /// The chunk that is sealed next.
    next: u64,
    /// What is given out, from `at` on.
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
}

impl<R: Read> Read for SealingReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let chunks = chunk_count(self.sealer.header.plain_bytes);
        if self.at == self.chunk.len() && self.next < chunks && !into.is_empty() {
            self.at = 0;
            let sealed = self.sealer.chunk(self.next, &mut self.plain, &mut self.chunk);
            if let Err(error) = sealed {
                self.chunk.zeroize();
                return Err(io::Error::other(error));
            }
            self.next += 1;
        }
        let came = into.len().min(self.chunk.len() - self.at);
        into[..came].copy_from_slice(&self.chunk[self.at..self.at + came]);
        self.at += came;
        Ok(came)
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
        let header = Header::of(header, sealed_bytes)?;
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

    /// Opens a whole file that is in memory, header and all, on `threads` threads (at least one).
    ///
    /// `plain`: exactly as long as the plain file; after an error it is worth nothing.
    pub fn open_whole(&self, sealed: &[u8], plain: &mut [u8], threads: usize) -> Result<(), SealError> {
        assert_eq!(sealed.len() as u64, self.header.sealed_bytes, "the file that the header is of");
        assert_eq!(plain.len() as u64, self.header.plain_bytes, "room for exactly the plain file");
        if plain.is_empty() {
            return self.open(0, &sealed[HEADER_BYTES..], plain);
        }
        let pieces = Mutex::new((0..).zip(plain.chunks_mut(CHUNK_BYTES)));
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<(), SealError> {
            while let Some((index, piece)) = next() {
                let range = self.sealed_range(index)?;
                let opened = self.open(index, &sealed[range.start as usize..range.end as usize], piece);
                if opened.is_err() {
                    while next().is_some() {} // the others need not go on
                    return opened;
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let first = work();
            let join = |other: thread::ScopedJoinHandle<'_, _>| {
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            others.into_iter().map(join).fold(first, Result::and)
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
    fn read_sealed_and_opened_on_threads() {
        for len in [0, 1, CHUNK_BYTES, 5 * CHUNK_BYTES + 7] {
            let bytes = plain(len);
            let sealer = Sealer::new(&key(1), len as u64, &mut Simulated::new(101)).unwrap();
            let mut file = Vec::new();
            sealer.reader(&bytes[..]).read_to_end(&mut file).unwrap();
            assert!(file == sealed(&bytes, 1), "{len} bytes, read as they are written");
            let opener = opener(&file, 1).unwrap();
            for threads in [0, 1, 3] {
                let mut room = vec![0; len];
                opener.open_whole(&file, &mut room, threads).unwrap();
                assert!(room == bytes, "{len} bytes on {threads} threads");
                let last = file.len() - 1;
                file[last] ^= 1;
                let refused = opener.open_whole(&file, &mut room, threads);
                assert!(matches!(refused, Err(SealError::Chunk { index }) if index == opener.chunks() - 1));
                file[last] ^= 1;
            }
        }
        let read = |announced| {
            let sealer = Sealer::new(&key(1), announced, &mut Simulated::new(1)).unwrap();
            sealer.reader(&b"abc"[..]).read_to_end(&mut Vec::new()).unwrap_err().to_string()
        };
        assert!(read(4).contains("ended before") && read(2).contains("more than"));
    }

    #[test]
    fn each_file_has_a_key_of_its_own() {
        let (ours, other) = (SealKey::draw(&mut Simulated::new(1)), SealKey::draw(&mut Simulated::new(2)));
        let seal = |seed| {
            let sealer = Sealer::with_own_key(&ours, 3, &mut Simulated::new(seed)).unwrap();
            let mut file = Vec::new();
            sealer.0.seal(&mut &b"abc"[..], &mut file).unwrap();
            (file, sealer.1)
        };
        let ((file, key), (second, _)) = (seal(3), seal(4));
        let head = |file: &[u8]| *file.first_chunk().unwrap();
        let found = content_key(&ours, &head(&file), file.len() as u64).unwrap();
        assert_eq!(found.bytes(), key.bytes());
        assert_ne!(content_key(&ours, &head(&second), file.len() as u64).unwrap().bytes(), key.bytes());
        let opens = |key| Opener::new(key, &head(&second), second.len() as u64);
        assert!(matches!(opens(&key), Err(SealError::Key)), "a grant of one file opens no other");
        let refused = content_key(&other, &head(&file), file.len() as u64);
        assert!(matches!(refused, Err(SealError::Key)));
        assert!(check_form(&head(&file), file.len() as u64).is_ok());
        assert!(matches!(check_form(&head(&file), 3), Err(SealError::Short { .. })));
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
