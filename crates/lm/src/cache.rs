//! Keys and values of one sequence, in pages that sequences may share.
//!
//! A fork costs a pointer a page. The page that both sequences go on writing is copied by the first that writes, so
//! neither sees the other.

use std::sync::Arc;

use kernels::page::{PAGE, Page, PageShape};

/// Keys and values of the tokens that a sequence has put through the model so far.
#[derive(Clone)]
pub struct Cache {
    shape: PageShape,
    pages: Vec<Arc<Page>>,
    len: usize,
    reach: usize,
}

/// A sequence that would outgrow what it was begun for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a sequence of {wanted} tokens does not fit the {reach} that it was begun for")]
pub struct Outgrown {
    /// Tokens it would have.
    pub wanted: usize,
    /// Tokens it may have.
    pub reach: usize,
}

impl Cache {
    /// An empty sequence that may grow to `reach` tokens. Nothing is allocated before it grows.
    pub fn new(shape: PageShape, reach: usize) -> Cache {
        Cache { shape, pages: Vec::new(), len: 0, reach }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens that the sequence may grow to.
    pub fn reach(&self) -> usize {
        self.reach
    }

    /// Bytes of the pages held, shared ones included.
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.shape.bytes()
    }

    /// Pages that are still to be allocated, or copied from those shared, before the sequence has reached its end.
    pub(crate) fn pages_to_come(&self) -> usize {
        let shares_last = self.pages.last().is_some_and(|page| Arc::strong_count(page) > 1);
        let own = self.pages.len() - usize::from(shares_last && !self.len.is_multiple_of(PAGE));
        self.reach.div_ceil(PAGE) - own
    }

    /// Forgets all but the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            self.pages.truncate(len.div_ceil(PAGE));
        }
    }

    /// A sequence of its own with the same first `len` tokens, which may grow to `reach`.
    pub fn fork(&self, len: usize, reach: usize) -> Cache {
        let mut fork = Cache { reach, ..self.clone() };
        fork.truncate(len);
        fork
    }

    /// Goes on with the first `tokens` of a page that another sequence wrote. Only whole pages may lie before it.
    pub(crate) fn share(&mut self, page: Arc<Page>, tokens: usize) {
        assert!(self.len.is_multiple_of(PAGE) && tokens <= PAGE, "a page begins where one ended");
        self.pages.push(page);
        self.len += tokens;
    }

    /// Makes room for more tokens, whose keys and values [`write`](Cache::write) then gives layer by layer.
    pub(crate) fn grow(&mut self, tokens: usize) -> Result<(), Outgrown> {
        let wanted = self.len.saturating_add(tokens);
        if wanted > self.reach {
            return Err(Outgrown { wanted, reach: self.reach });
        }
        while self.pages.len() * PAGE < wanted {
            self.pages.push(Arc::new(Page::new(self.shape)));
        }
        self.len = wanted;
        Ok(())
    }

    /// Stores keys and values of one token in one layer; each `[kv_heads * head_dim]`.
    pub(crate) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        assert!(position < self.len, "a position that was not grown to");
        let page = Arc::make_mut(&mut self.pages[position / PAGE]);
        page.write(layer, position % PAGE, keys, values);
    }

    pub(crate) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }
}
