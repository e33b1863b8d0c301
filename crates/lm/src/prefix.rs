//! Sequences kept after their answer, so that the next one with the same beginning need not be read again.
//!
//! A chat sends its whole history with each turn, and an agent the same long instructions: with the pages of the last
//! sequences kept, only what is new goes through the model. Pages are shared, so a kept sequence costs what no one else
//! holds; the count here is an upper bound, and the oldest go first.

use std::sync::Arc;

use crate::adapter::Adapter;
use crate::cache::Cache;
use crate::network::Network;

/// Sequences that ended and may begin again.
pub struct Prefixes {
    kept: Vec<Kept>,
    /// Bytes of pages to keep at most.
    limit: usize,
}

struct Kept {
    tokens: Vec<u32>,
    cache: Cache,
    adapter: Option<Arc<Adapter>>,
}

impl Prefixes {
    /// Keeps at most `limit` bytes of pages.
    pub fn new(limit: usize) -> Prefixes {
        Prefixes { kept: Vec::new(), limit }
    }

    /// Bytes of all pages kept.
    pub fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.cache.bytes()).sum()
    }

    /// A sequence that holds the longest known beginning of `prompt`, and how many tokens that is. At least the last token
    /// of the prompt is left, as its logits are wanted.
    pub fn begin(
        &mut self,
        network: &Network,
        prompt: &[u32],
        adapter: Option<&Arc<Adapter>>,
        reach: usize,
    ) -> Option<(Cache, usize)> {
        let most = prompt.len().saturating_sub(1);
        let usable = |kept: &Kept| {
            let same = match (&kept.adapter, adapter) {
                (None, None) => true,
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                _ => false,
            };
            same && network.same_angles(kept.cache.reach(), reach)
        };
        let shared = |kept: &Kept| {
            let shared = kept.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            shared.min(most)
        };
        let candidates = self.kept.iter().enumerate().filter(|(_, kept)| usable(kept));
        let (index, len) = candidates
            .map(|(index, kept)| (index, shared(kept)))
            .max_by_key(|(index, len)| (*len, *index))?;
        if len == 0 {
            return None;
        }
        // What was used last is dropped last.
        let kept = self.kept.remove(index);
        let cache = kept.cache.fork(len, reach);
        self.kept.push(kept);
        Some((cache, len))
    }

    /// Keeps a sequence that ended. One that is the beginning of another is not kept beside it.
    pub fn keep(&mut self, tokens: Vec<u32>, mut cache: Cache, adapter: Option<Arc<Adapter>>) {
        let len = tokens.len().min(cache.len());
        cache.truncate(len);
        if len == 0 || cache.bytes() > self.limit {
            return;
        }
        let mut tokens = tokens;
        tokens.truncate(len);
        let same =
            |one: &Option<Arc<Adapter>>| one.as_ref().map(Arc::as_ptr) == adapter.as_ref().map(Arc::as_ptr);
        self.kept.retain(|kept| !(same(&kept.adapter) && tokens.starts_with(&kept.tokens)));
        self.kept.push(Kept { tokens, cache, adapter });
        let mut bytes = self.bytes();
        while bytes > self.limit {
            bytes -= self.kept.remove(0).cache.bytes();
        }
    }

    /// Gives all pages back.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}
