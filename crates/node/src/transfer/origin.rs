//! Where blobs come from, as the plan sees it: who can be asked, and how it may fail.
//!
//! An origin is believed nothing: what it gives is proven by the store, chunk by chunk.

use std::ops::Range;
use std::pin::Pin;

use package::digest::Digest;

/// An origin, by its place in the list that a transfer was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OriginId(pub usize);

/// What an origin does, some time later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A blob, as an origin is asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Whether it is an index or a manifest: registries keep those in another place.
    pub is_manifest: bool,
}

/// Somebody who may have blobs.
pub trait Origin: Send + Sync {
    /// What people call it: an address without secrets, a folder.
    fn name(&self) -> &str;

    /// Whether it costs nothing to ask: on this machine, or next to it. Then no rate is kept.
    fn is_near(&self) -> bool;

    /// Asks for the bytes `range` of a blob; `None`: for all of it.
    fn read<'a>(&'a self, wanted: &'a Wanted, range: Option<Range<u64>>) -> Later<'a, Result<Reply, Fault>>;
}

/// The bytes of a blob, as they come.
pub struct Reply {
    /// What comes: the range, or all of the blob from who knows no ranges.
    pub range: Range<u64>,
    /// The bytes.
    pub body: Box<dyn Body>,
}

/// Bytes that come one piece after the other.
pub trait Body: Send {
    /// The next piece; `None`: no more.
    fn next(&mut self) -> Later<'_, Result<Option<Vec<u8>>, Fault>>;
}

/// How an origin failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection.
    #[error("it cannot be reached ({why})")]
    Unreachable {
        /// Why.
        why: String,
    },
    /// The bytes ended early.
    #[error("it broke off ({why})")]
    Reset {
        /// Why.
        why: String,
    },
    /// Next to nothing comes.
    #[error("next to nothing came from it")]
    Slow,
    /// It is busy, or in trouble of the moment.
    #[error("it wants to be left alone ({why})")]
    Busy {
        /// Why.
        why: String,
        /// For how long, if it says so.
        asked_ms: Option<u64>,
    },
    /// It sent all of a blob of which a part was asked for, and too much of that is here already.
    #[error("it sent the whole file where a part was asked for (it knows no HTTP ranges)")]
    WholeForRange,
    /// It sent another part than was asked for, or a blob of another size.
    #[error("it answers with other bytes than it was asked for ({why})")]
    WrongRange {
        /// What is wrong.
        why: String,
    },
    /// Its bytes do not have the hash that they must have.
    #[error("its bytes {} to {} are wrong", range.start, range.end)]
    WrongBytes {
        /// The chunk; the whole blob where it has no list of chunks.
        range: Range<u64>,
    },
    /// It does not have the blob.
    #[error("it does not have the blob")]
    NotThere,
    /// It gives nothing to us.
    #[error("it refuses ({why})")]
    Denied {
        /// Why.
        why: String,
    },
}
