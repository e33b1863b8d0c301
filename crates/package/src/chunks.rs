//! The hashes of a blob's pieces: what came can be proven piece by piece, as it comes, and in parallel when it is loaded.
//!
//! The list is a blob itself, a layer of the manifest, and so under the same signature. All numbers are little-endian:
//!
//! ```text
//!  0  "SVCHUNK1"
//!  8  u32 bytes of a chunk: a power of two, 4 KiB to 16 MiB
//! 12  u32 0
//! 16  u64 bytes of the blob
//! 24  SHA-256 of the blob
//! 56  SHA-256 of each chunk; the last one may be shorter
//! ```

use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};
use wire::hash::Hash;

use crate::digest::Digest;

/// The size of chunks that we write.
pub const CHUNK_BYTES: u32 = 1 << 20;

/// Lists are written for blobs larger than this.
pub const LISTED_FROM_BYTES: u64 = 1 << 20;

const MAGIC: &[u8; 8] = b"SVCHUNK1";
const HEAD_BYTES: usize = 56;
const HASH_BYTES: usize = 32;
const SMALLEST: u32 = 4 << 10;
const LARGEST: u32 = 16 << 20;

/// The most chunks of a blob: 16 TiB in chunks of 1 MiB.
const CHUNKS_MAX: u64 = 1 << 24;

/// The longest list: 512 MiB. Callers bound what they read by the size of the blob that is listed.
pub const LIST_MAX_BYTES: u64 = HEAD_BYTES as u64 + CHUNKS_MAX * HASH_BYTES as u64;

/// The longest list of a blob: that of the smallest chunks.
pub fn list_bytes(blob_bytes: u64) -> u64 {
    let chunks = blob_bytes.div_ceil(u64::from(SMALLEST)).min(CHUNKS_MAX);
    HEAD_BYTES as u64 + chunks * HASH_BYTES as u64
}

/// A list that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunksError {
    /// Something else.
    #[error("this is no list of chunks: {why}")]
    Malformed {
        /// What is wrong.
        why: &'static str,
    },
    /// A list of a later version.
    #[error("this list of chunks is of a later version")]
    Unsupported,
    /// Chunks that we would not make.
    #[error("chunks of {chunk_bytes} bytes: must be a power of two, {SMALLEST} to {LARGEST}")]
    ChunkSize {
        /// The size of a chunk.
        chunk_bytes: u32,
    },
    /// Not as long as its head says.
    #[error("this list of chunks has {found_bytes} bytes and should have {expected_bytes}")]
    Length {
        /// What the head asks for.
        expected_bytes: u64,
        /// What is there.
        found_bytes: u64,
    },
    /// A blob of more chunks than are read.
    #[error(
        "a blob of {blob_bytes} bytes has too many chunks of {chunk_bytes} bytes: at most {CHUNKS_MAX} are read"
    )]
    TooMany {
        /// The size of the blob.
        blob_bytes: u64,
        /// The size of a chunk.
        chunk_bytes: u32,
    },
}

/// Bytes that are not those of the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongChunk {
    /// A chunk with other bytes.
    #[error("chunk {index} of {blob} is damaged")]
    Bytes {
        /// Which chunk.
        index: usize,
        /// Of which blob.
        blob: Digest,
    },
    /// A chunk, or a blob, of another length.
    #[error("{found_bytes} bytes instead of {expected_bytes}, at chunk {index} of {blob}")]
    Length {
        /// Which chunk; the number of chunks if it is about the blob, or about a chunk behind its end.
        index: usize,
        /// Of which blob.
        blob: Digest,
        /// What the list says.
        expected_bytes: u64,
        /// What is there.
        found_bytes: u64,
    },
}

/// The hashes of a blob's pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    blob: Digest,
    blob_bytes: u64,
    chunk_bytes: u32,
    hashes: Vec<Hash>,
}

impl Chunks {
    /// Reads a list. As many bytes as there are, no more, are kept in memory.
    pub fn parse(bytes: &[u8]) -> Result<Chunks, ChunksError> {
        let malformed = |why| ChunksError::Malformed { why };
        let (head, hashes) = bytes.split_at_checked(HEAD_BYTES).ok_or(malformed("it is too short"))?;
        let (magic, head) = head.split_at(8);
        if magic != MAGIC {
            let later = magic.starts_with(b"SVCHUNK");
            return Err(if later { ChunksError::Unsupported } else { malformed("it begins otherwise") });
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (chunk_bytes, zero) = (number(0), number(4));
        let blob_bytes = u64::from(number(8)) | u64::from(number(12)) << 32;
        let blob = Hash::from_slice(&head[16..]).ok_or(malformed("it has no hash of the blob"))?;
        if zero != 0 {
            return Err(ChunksError::Unsupported);
        }
        let count = count(blob_bytes, chunk_bytes)?;
        let (expected_bytes, found_bytes) =
            (HEAD_BYTES as u64 + count * HASH_BYTES as u64, bytes.len() as u64);
        if found_bytes != expected_bytes {
            return Err(ChunksError::Length { expected_bytes, found_bytes });
        }
        let hashes = hashes.chunks_exact(HASH_BYTES).filter_map(Hash::from_slice).collect();
        Ok(Chunks { blob: blob.into(), blob_bytes, chunk_bytes, hashes })
    }

    /// The list as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.hashes.len() * HASH_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.chunk_bytes.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(&self.blob_bytes.to_le_bytes());
        bytes.extend_from_slice(self.blob.hash().as_bytes());
        for hash in &self.hashes {
            bytes.extend_from_slice(hash.as_bytes());
        }
        bytes
    }

    /// Makes the list of all that a reader gives, in one pass.
    ///
    /// # Panics
    /// If `chunk_bytes` is not a power of two from 4 KiB to 16 MiB.
    pub fn of(mut reader: impl Read, chunk_bytes: u32) -> io::Result<(Digest, Chunks)> {
        assert!(count(0, chunk_bytes).is_ok(), "{chunk_bytes} is no size of a chunk");
        let (mut whole, mut blob_bytes, mut hashes) = (Sha256::new(), 0, Vec::new());
        let mut chunk = Vec::with_capacity(chunk_bytes as usize);
        loop {
            chunk.clear();
            reader.by_ref().take(u64::from(chunk_bytes)).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                break;
            }
            whole.update(&chunk);
            hashes.push(Hash::of(&chunk));
            blob_bytes += chunk.len() as u64;
        }
        let blob = Digest::from(Hash::from(whole));
        Ok((blob, Chunks { blob, blob_bytes, chunk_bytes, hashes }))
    }

    /// The blob that is listed.
    pub fn blob(&self) -> Digest {
        self.blob
    }

    /// Its size.
    pub fn blob_bytes(&self) -> u64 {
        self.blob_bytes
    }

    /// The size of each chunk but the last.
    pub fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// How many chunks there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether the blob is empty.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Where a chunk lies in the blob; empty, at the end, for an index behind the last.
    pub fn range(&self, index: usize) -> Range<u64> {
        let border = |index: u64| index.saturating_mul(u64::from(self.chunk_bytes)).min(self.blob_bytes);
        border(index as u64)..border((index as u64).saturating_add(1))
    }

    /// Whether these are the bytes of a chunk.
    pub fn check(&self, index: usize, bytes: &[u8]) -> Result<(), WrongChunk> {
        let Range { start, end } = self.range(index);
        let (expected_bytes, found_bytes) = (end - start, bytes.len() as u64);
        match self.hashes.get(index) {
            Some(hash) if expected_bytes == found_bytes && Hash::of(bytes) == *hash => Ok(()),
            Some(_) if expected_bytes == found_bytes => Err(WrongChunk::Bytes { index, blob: self.blob }),
            _ => Err(WrongChunk::Length { index, blob: self.blob, expected_bytes, found_bytes }),
        }
    }

    /// Whether these are the bytes of the blob, chunk by chunk on `threads` threads (at least one). `done` is told the
    /// bytes of each right chunk, from any thread. The error is that of the first wrong chunk found.
    pub fn check_all(
        &self,
        bytes: &[u8],
        threads: usize,
        done: impl Fn(u64) + Sync,
    ) -> Result<(), WrongChunk> {
        let found_bytes = bytes.len() as u64;
        if found_bytes != self.blob_bytes {
            let (index, blob, expected_bytes) = (self.len(), self.blob, self.blob_bytes);
            return Err(WrongChunk::Length { index, blob, expected_bytes, found_bytes });
        }
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), WrongChunk> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= self.len() {
                    return Ok(());
                }
                let Range { start, end } = self.range(index);
                let chunk = &bytes[start as usize..end as usize];
                if let Err(wrong) = self.check(index, chunk) {
                    next.store(self.len(), Ordering::Relaxed); // the others need not go on
                    return Err(wrong);
                }
                done(chunk.len() as u64);
            }
        };
        let threads = threads.clamp(1, self.len().max(1));
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut found = work();
            for other in others {
                let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                found = found.and(other);
            }
            found
        })
    }
}

/// How many chunks a blob has.
fn count(blob_bytes: u64, chunk_bytes: u32) -> Result<u64, ChunksError> {
    if !chunk_bytes.is_power_of_two() || !(SMALLEST..=LARGEST).contains(&chunk_bytes) {
        return Err(ChunksError::ChunkSize { chunk_bytes });
    }
    match blob_bytes.div_ceil(u64::from(chunk_bytes)) {
        count @ 0..=CHUNKS_MAX => Ok(count),
        _ => Err(ChunksError::TooMany { blob_bytes, chunk_bytes }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use proptest::prelude::*;

    use super::*;

    fn listed(bytes: &[u8]) -> Chunks {
        let (digest, chunks) = Chunks::of(bytes, SMALLEST).unwrap();
        assert_eq!(digest, Digest::of(bytes));
        chunks
    }

    #[test]
    fn a_list_lies_as_its_page_says() {
        let bytes = vec![7; 4097];
        let list = listed(&bytes).to_bytes();
        assert_eq!((list.len(), list_bytes(4097)), (56 + 2 * 32, 56 + 2 * 32));
        assert_eq!(list[..16], *b"SVCHUNK1\0\x10\0\0\0\0\0\0");
        assert_eq!(list[16..24], 4097_u64.to_le_bytes());
        assert_eq!(list[24..56], *Hash::of(&bytes).as_bytes());
        assert_eq!(list[56..88], *Hash::of(&bytes[..4096]).as_bytes());
        assert_eq!(list[88..], *Hash::of(&[7]).as_bytes());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let list = listed(&[7; 4097]).to_bytes();
        fn check(list: &[u8], at: usize, value: &[u8]) -> ChunksError {
            let mut list = list.to_vec();
            list[at..at + value.len()].copy_from_slice(value);
            Chunks::parse(&list).unwrap_err()
        }
        assert!(matches!(check(&list, 0, b"GGUF"), ChunksError::Malformed { .. }));
        assert_eq!(check(&list, 7, b"2"), ChunksError::Unsupported);
        assert_eq!(check(&list, 12, &[1]), ChunksError::Unsupported);
        for size in [0, 1, 2048, 4097, 32 << 20, u32::MAX] {
            assert_eq!(check(&list, 8, &size.to_le_bytes()), ChunksError::ChunkSize { chunk_bytes: size });
        }
        for size in [0_u64, 4096, 8193] {
            assert!(matches!(check(&list, 16, &size.to_le_bytes()), ChunksError::Length { .. }), "{size}");
        }
        for size in [u64::MAX, 1 << 40] {
            assert!(matches!(check(&list, 16, &size.to_le_bytes()), ChunksError::TooMany { .. }), "{size}");
        }
        for end in 0..list.len() {
            assert!(Chunks::parse(&list[..end]).is_err(), "{end}");
        }
        assert!(matches!(Chunks::parse(&[&list[..], &[0]].concat()), Err(ChunksError::Length { .. })));
    }

    /// Borders beyond 2^32 and 2^31, where others overflowed.
    #[test]
    fn chunks_of_large_blobs_lie_where_they_should() {
        let blob_bytes = (5 << 30) + 1;
        let hashes = vec![Hash::GENESIS; 5121];
        let chunks = Chunks { blob: Digest::of(b""), blob_bytes, chunk_bytes: CHUNK_BYTES, hashes };
        assert_eq!(Chunks::parse(&chunks.to_bytes()).unwrap(), chunks);
        assert_eq!(chunks.range(4096), 1 << 32..(1 << 32) + (1 << 20));
        assert_eq!(chunks.range(5120), 5 << 30..blob_bytes);
        assert_eq!(chunks.range(5121), blob_bytes..blob_bytes);
        assert_eq!(chunks.range(usize::MAX), blob_bytes..blob_bytes);
    }

    #[test]
    fn an_empty_blob_has_no_chunks() {
        let chunks = listed(b"");
        assert!(chunks.is_empty());
        assert_eq!(chunks.check_all(b"", 4, |_| ()), Ok(()));
        assert!(chunks.check(0, b"").is_err());
        assert_eq!(Chunks::parse(&chunks.to_bytes()), Ok(chunks));
    }

    proptest! {
        #[test]
        fn one_wrong_bit_is_found(len in 1_usize..40_000, at in any::<prop::sample::Index>(), threads in 0_usize..5) {
            let mut bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let chunks = listed(&bytes);
            prop_assert_eq!(Chunks::parse(&chunks.to_bytes()), Ok(chunks.clone()));
            let told = AtomicU64::new(0);
            let tell = |bytes| {
                told.fetch_add(bytes, Ordering::Relaxed);
            };
            prop_assert_eq!(chunks.check_all(&bytes, threads, tell), Ok(()));
            prop_assert_eq!(told.into_inner(), len as u64);
            let at = at.index(len);
            bytes[at] ^= 4;
            let (index, blob) = (at / SMALLEST as usize, chunks.blob());
            prop_assert_eq!(chunks.check_all(&bytes, threads, |_| ()), Err(WrongChunk::Bytes { index, blob }));
            let range = chunks.range(index);
            let chunk = &bytes[range.start as usize..range.end as usize];
            prop_assert_eq!(chunks.check(index, chunk), Err(WrongChunk::Bytes { index, blob }));
            let short = chunks.check(index, &chunk[1..]);
            let is_length = matches!(short, Err(WrongChunk::Length { .. }));
            prop_assert!(is_length);
            let longer = [&bytes[..], &[0]].concat();
            let is_length = matches!(chunks.check_all(&longer, threads, |_| ()), Err(WrongChunk::Length { .. }));
            prop_assert!(is_length);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Chunks::parse(&bytes);
            let _ = Chunks::parse(&[&MAGIC[..], &bytes].concat());
        }
    }
}
