//! How a journal is kept.

use crate::policy::Policy;

/// The smallest cap that can be set, in bytes.
pub const MAX_BYTES_LEAST: u64 = 96 * 1024;

/// Half a second of a slow card.
const CHECK_AT_ONCE_BYTES: u64 = 16 << 20;

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most bytes the database file may have, at least [`MAX_BYTES_LEAST`]. Counted in pages.
    pub max_bytes: u64,
    /// The file does not grow while its disk has less free space than this.
    pub min_free_bytes: u64,
    /// After a run that did not end in order, a database of up to so many bytes is looked at before it is used; a larger one while it
    /// is.
    pub check_at_once_bytes: u64,
    /// What leaves the node, and in which words.
    pub policy: Policy,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_bytes: 64 << 20,
            min_free_bytes: 64 << 20,
            check_at_once_bytes: CHECK_AT_ONCE_BYTES,
            policy: Policy::default(),
        }
    }
}
