//! What attention is, and the queries that are answered together.

use std::ops::Range;
use std::sync::Arc;

use crate::page::{Page, Stored};
use crate::simd::Simd;

/// Positions whose softmax is one; longer stretches are joined from these, which threads can share.
pub(super) const SEGMENT: usize = 256;

/// How many pages ahead memory is asked for: about as long as it takes to answer.
const AHEAD: usize = 2;

/// Floats before the weighted values in a row's state: a whole vector, so that what follows stays in line.
pub(super) const HEAD: usize = 16;

/// What attention is, for a layer.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Heads that ask.
    pub heads: usize,
    /// Heads that have keys and values; `heads` is a multiple.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores s become `cap · tanh(s / cap)`.
    pub softcap: Option<f32>,
    /// A query sees the last so many positions, its own included.
    pub window: Option<usize>,
    /// A query does not see positions after its own.
    pub causal: bool,
}

/// A sequence without its results.
pub(super) struct Asker<'a> {
    pub(super) queries: &'a [f32],
    pub(super) first: usize,
    pub(super) len: usize,
    pub(super) pages: &'a [Arc<Page>],
    pub(super) layer: usize,
}

/// The queries of some tokens that share a head of keys: `tokens × group` rows, token by token.
pub(super) struct Item<'a> {
    pub(super) attention: &'a Attention,
    pub(super) asker: &'a Asker<'a>,
    pub(super) kv_head: usize,
    /// Counted from the sequence's first query.
    pub(super) tokens: Range<usize>,
}

impl Attention {
    /// Heads that share a head of keys.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The positions that a query at `position` sees.
    #[inline(always)]
    pub(super) fn visible(&self, position: usize, len: usize) -> Range<usize> {
        let end = if self.causal { (position + 1).min(len) } else { len };
        let start = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        start.min(end)..end
    }

    /// Floats of one row's state: running maximum and sum, and the weighted values so far.
    pub(super) fn state(&self) -> usize {
        HEAD + self.head_dim.next_multiple_of(16)
    }
}

impl<'a> Item<'a> {
    pub(super) fn rows(&self) -> usize {
        self.tokens.len() * self.attention.group()
    }

    /// A row's query, `[head_dim]`.
    pub(super) fn query(&self, row: usize) -> &'a [f32] {
        let (a, group) = (self.attention, self.attention.group());
        let head = self.kv_head * group + row % group;
        let token = self.tokens.start + row / group;
        &self.asker.queries[(token * a.heads + head) * a.head_dim..][..a.head_dim]
    }

    /// The keys of a page.
    #[inline(always)]
    pub(super) fn keys(&self, page: usize) -> Stored<'a> {
        let pages = self.asker.pages;
        pages[page].keys(self.asker.layer, self.kv_head, &pages[(page + AHEAD).min(pages.len() - 1)])
    }

    /// The values of a page.
    #[inline(always)]
    pub(super) fn values(&self, page: usize) -> Stored<'a> {
        let pages = self.asker.pages;
        pages[page].values(self.asker.layer, self.kv_head, &pages[(page + AHEAD).min(pages.len() - 1)])
    }

    /// Asks memory for the values of the first of some pages: those that no page before them asks for.
    #[inline(always)]
    pub(super) fn ask_for_values<S: Simd>(&self, simd: S, pages: Range<usize>) {
        for page in pages.take(AHEAD) {
            self.asker.pages[page].ask_for_values(simd, self.asker.layer, self.kv_head);
        }
    }

    /// The positions that a row sees.
    #[inline(always)]
    pub(super) fn visible(&self, row: usize) -> Range<usize> {
        let token = self.tokens.start + row / self.attention.group();
        self.attention.visible(self.asker.first + token, self.asker.len)
    }

    /// The positions that any row sees.
    pub(super) fn seen(&self) -> Range<usize> {
        self.visible(0).start..self.visible(self.rows() - 1).end
    }

    /// What is seen, cut where segments end.
    pub(super) fn segments(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let seen = self.seen();
        let whole = seen.start / SEGMENT..seen.end.div_ceil(SEGMENT);
        whole.map(move |i| seen.start.max(i * SEGMENT)..seen.end.min((i + 1) * SEGMENT))
    }
}
