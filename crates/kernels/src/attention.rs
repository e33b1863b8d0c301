//! Queries against the keys and values of a sequence: softmax(q·k) v, without ever holding a whole row of scores.
//!
//! Positions are taken a page at a time, with a running maximum and sum (online softmax: Milakov and Gimelshein 2018), in
//! segments of 512 positions that are then joined. The order of all arithmetic depends on positions alone, so a query's
//! result has the same bits alone or in a batch, on one thread or many, and whether or not its segments were shared out.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use crate::attention::item::{Asker, HEAD, Item};
use crate::attention::softened::{Join, Scratch, Segment};
use crate::compute::Compute;
use crate::page::{PAGE, Page};
use crate::pool::tiles::{Grid, Tile};

mod item;
mod softened;

pub use item::Attention;

/// Rows (tokens × the heads that share a key) taken together: enough that reading a page pays.
const TILE_ROWS: usize = 48;

/// Queries of consecutive positions of one sequence.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// `[tokens, heads * head_dim]`.
    pub queries: &'a [f32],
    /// Position of the first query.
    pub first: usize,
    /// Positions that the pages hold, those of the queries included.
    pub len: usize,
    /// `PAGE` positions each, from position 0.
    pub pages: &'a [Arc<Page>],
    /// Which of the pages' layers.
    pub layer: usize,
    /// Like `queries`; overwritten.
    pub out: &'a mut [f32],
}

thread_local! {
    /// Kept from call to call: a tile needs some tens of kilobytes.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Attends to each sequence's pages with its queries, in parallel over sequences, heads of keys, tiles of queries, and, where
/// that is too little for the threads, segments of positions.
///
/// # Panics
/// If shapes disagree.
pub fn attend(compute: &Compute, attention: &Attention, sequences: &mut [Sequence<'_>]) {
    sequences.iter().for_each(|sequence| check(attention, sequence));
    let width = attention.heads * attention.head_dim;
    let step = (TILE_ROWS / attention.group()).max(1);
    let mut askers = Vec::with_capacity(sequences.len());
    let mut grids = Vec::with_capacity(sequences.len());
    for Sequence { queries, first, len, pages, layer, out } in sequences {
        askers.push(Asker { queries, first: *first, len: *len, pages, layer: *layer });
        grids.push(Grid { out, width, row_step: step, column_step: width / attention.kv_heads });
    }
    let tiles = |asker: &Asker<'_>| (asker.queries.len() / width).div_ceil(step) * attention.kv_heads;
    let items: usize = askers.iter().map(tiles).sum();
    let threads = compute.pool().threads();
    let shares = if threads > 1 && items < 2 * threads {
        by_segments(compute, attention, &askers, step)
    } else {
        vec![]
    };
    compute.pool().tiles(&mut grids, |index, mut tile| {
        let kv_head = tile.columns().start / tile.columns().len();
        let item = Item { attention, asker: &askers[index], kv_head, tokens: tile.rows() };
        SCRATCH.with_borrow_mut(|scratch| {
            let size = item.rows() * attention.state();
            let (mut whole, mut part) = (scratch.state(size), scratch.state(size));
            let given = shares.iter().find(|share| share.is_of(index, &item)).map(|share| &share.states);
            Join::begin(&mut whole, attention.state());
            for (i, span) in item.segments().enumerate() {
                let part = match given {
                    Some(states) => &states[i * size..][..size],
                    None => {
                        compute.isa().run(Segment { item: &item, span, part: &mut part, scratch });
                        &part[..]
                    }
                };
                compute.isa().run(Join { part, whole: &mut whole, state: attention.state() });
            }
            hand_out(&item, &whole, &mut tile);
            scratch.keep(whole);
            scratch.keep(part);
        });
    });
}

/// The segments of one item, computed beforehand: `states`: `[segments][rows * state]`.
struct Share {
    sequence: usize,
    kv_head: usize,
    tokens: Range<usize>,
    states: Vec<f32>,
}

impl Share {
    fn is_of(&self, sequence: usize, item: &Item<'_>) -> bool {
        (self.sequence, self.kv_head, &self.tokens) == (sequence, item.kv_head, &item.tokens)
    }
}

/// Computes the segments of every item that has more than one, each a piece of work of its own.
fn by_segments(compute: &Compute, attention: &Attention, askers: &[Asker<'_>], step: usize) -> Vec<Share> {
    let width = attention.heads * attention.head_dim;
    let mut shares = Vec::new();
    for (sequence, asker) in askers.iter().enumerate() {
        let tokens = asker.queries.len() / width;
        for start in (0..tokens).step_by(step) {
            for kv_head in 0..attention.kv_heads {
                let item = Item { attention, asker, kv_head, tokens: start..(start + step).min(tokens) };
                let segments = item.segments().count();
                if segments > 1 {
                    let states = vec![0.0; segments * item.rows() * attention.state()];
                    shares.push(Share { sequence, kv_head, tokens: item.tokens, states });
                }
            }
        }
    }
    let plan: Vec<_> =
        shares.iter().map(|share| (share.sequence, share.kv_head, share.tokens.clone())).collect();
    let mut grids: Vec<Grid<'_, f32>> = shares
        .iter_mut()
        .map(|share| {
            let width = share.tokens.len() * attention.group() * attention.state();
            Grid { out: &mut share.states, width, row_step: 1, column_step: width }
        })
        .collect();
    compute.pool().tiles(&mut grids, |index, mut tile| {
        let (sequence, kv_head, tokens) = plan[index].clone();
        let item = Item { attention, asker: &askers[sequence], kv_head, tokens };
        let number = tile.rows().start;
        if let Some(span) = item.segments().nth(number) {
            SCRATCH.with_borrow_mut(|scratch| {
                compute.isa().run(Segment { item: &item, span, part: tile.row(number), scratch });
            });
        }
    });
    shares
}

/// Divides the weighted values by the sum of the weights, into the results.
fn hand_out(item: &Item<'_>, whole: &[f32], tile: &mut Tile<'_, f32>) {
    let (a, group) = (item.attention, item.attention.group());
    for (row, state) in whole.chunks_exact(a.state()).enumerate() {
        let out = &mut tile.row(item.tokens.start + row / group)[row % group * a.head_dim..][..a.head_dim];
        // Nothing seen, nothing said: only a window of no positions can do that.
        let inverse = if state[1] > 0.0 { 1.0 / state[1] } else { 0.0 };
        for (out, value) in out.iter_mut().zip(&state[HEAD..]) {
            *out = value * inverse;
        }
    }
}

fn check(attention: &Attention, sequence: &Sequence<'_>) {
    let Attention { heads, kv_heads, head_dim, .. } = *attention;
    assert!(kv_heads > 0 && head_dim > 0 && heads > 0 && heads.is_multiple_of(kv_heads), "{attention:?}");
    let Sequence { queries, first, len, pages, layer, out } = sequence;
    let tokens = queries.len() / (heads * head_dim);
    assert!(
        queries.len() == tokens * heads * head_dim && out.len() == queries.len(),
        "whole queries, as many results"
    );
    assert!(
        first + tokens <= *len && *len <= pages.len() * PAGE,
        "{tokens} queries from {first} on, {len} held"
    );
    for shape in pages.iter().map(|page| page.shape()) {
        assert!(
            shape.kv_heads == kv_heads && shape.head_dim == head_dim && *layer < shape.layers,
            "{shape:?}"
        );
    }
}

#[cfg(test)]
mod tests;
