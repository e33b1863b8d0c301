//! Keys that are out, in memory: asked at each request, because a resumed connection shows no certificate again.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use wire::hash::Hash;

/// The list. It is read from the store every two seconds, and at once where somebody was denied here.
#[derive(Debug, Default)]
pub struct Denied(RwLock<HashSet<Hash>>);

impl Denied {
    /// Takes what the store says.
    pub fn learn(&self, keys: HashSet<Hash>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Whether this key is out.
    pub fn has(&self, key: &Hash) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}
