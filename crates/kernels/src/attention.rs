//! Queries against the keys and values of a sequence: softmax(q·k) v, without ever holding a whole row of scores.
//!
//! Positions are taken in segments of 256, each with a maximum and sum of its own, which are then joined (online softmax:
//! Milakov and Gimelshein 2018). The order of all arithmetic depends on positions alone, so a query's
//! result has the same bits alone or in a batch, on one thread or many, and whether or not its segments were shared out.

use std::cell::RefCell;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use crate::attention::item::{Asker, HEAD, Item};
use crate::attention::softened::{Join, Pack, Scratch, Segment};
use crate::compute::Compute;
use crate::cpu::Isa;
use crate::page::{PAGE, Page};
use crate::pool::tiles::{Grid, Tile};
use crate::simd::{Body, Simd};

mod item;
mod softened;

pub use item::Attention;

/// Rows (tokens × the heads that share a key) taken together: enough that filling panels pays.
const TILE_ROWS: usize = 192;

/// Multiplications below which waking threads costs more than it gives: about five microseconds.
const WORTH_SHARING: usize = 1 << 18;

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
    let tiles = |one: &Sequence<'_>| (one.queries.len() / width).div_ceil(step) * attention.kv_heads;
    let products: usize = sequences.iter().map(|one| 2 * one.queries.len() * one.len).sum();
    let threads = compute.pool().threads();
    let worth_sharing = threads > 1 && products > WORTH_SHARING;
    let by_segments = worth_sharing && sequences.iter().map(tiles).sum::<usize>() < 2 * threads;
    // Where there is nothing left to share a tile has all heads: of one token it is not even a job for the threads.
    let kv_heads = if worth_sharing && !by_segments { 1 } else { attention.kv_heads };
    let mut askers = Vec::with_capacity(sequences.len());
    let mut grids = Vec::with_capacity(sequences.len());
    for Sequence { queries, first, len, pages, layer, out } in sequences {
        askers.push(Asker { queries, first: *first, len: *len, pages, layer: *layer });
        let column_step = width / attention.kv_heads * kv_heads;
        grids.push(Grid { out, width, row_step: step, column_step });
    }
    let shares = if by_segments { Shares::of(compute, attention, &askers, step) } else { Shares::default() };
    compute.pool().tiles(&mut grids, |index, mut tile| {
        let columns = attention.group() * attention.head_dim;
        for kv_head in tile.columns().start / columns..tile.columns().end / columns {
            let item = Item { attention, asker: &askers[index], kv_head, tokens: tile.rows() };
            SCRATCH.with_borrow_mut(|scratch| {
                answer(compute, &item, shares.get(index, &item), scratch, &mut tile);
            });
        }
    });
}

/// Computes one item's results; `given`: the states of its segments, if they have been computed.
fn answer(
    compute: &Compute,
    item: &Item<'_>,
    given: Option<&[f32]>,
    scratch: &mut Scratch,
    tile: &mut Tile<'_, f32>,
) {
    let (size, state) = (item.rows() * item.attention.state(), item.attention.state());
    let (mut whole, mut part) = (scratch.state(size), scratch.state(size));
    let mut segments = item.segments().enumerate();
    if given.is_none() {
        compute.isa().run(Pack { item, scratch });
    }
    match (given, segments.next()) {
        (Some(states), _) => whole.copy_from_slice(&states[..size]),
        (None, Some((_, span))) => compute.isa().run(Segment { item, span, part: &mut whole, scratch }),
        (None, None) => Join::begin(&mut whole, state),
    }
    for (i, span) in segments {
        let part = match given {
            Some(states) => &states[i * size..][..size],
            None => {
                compute.isa().run(Segment { item, span, part: &mut part, scratch });
                &part[..]
            }
        };
        compute.isa().run(Join { part, whole: &mut whole, state });
    }
    hand_out(item, &whole, tile);
    scratch.keep(whole);
    scratch.keep(part);
}

/// The segments of items that have more than one, computed beforehand, each a piece of work of its own.
#[derive(Default)]
struct Shares {
    shares: Vec<Share>,
}

/// Of one item.
struct Share {
    sequence: usize,
    kv_head: usize,
    tokens: Range<usize>,
    /// `[segments][rows * state]`
    states: Vec<f32>,
}

impl Shares {
    fn of(compute: &Compute, attention: &Attention, askers: &[Asker<'_>], step: usize) -> Shares {
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
                    compute.isa().run(Pack { item: &item, scratch });
                    compute.isa().run(Segment { item: &item, span, part: tile.row(number), scratch });
                });
            }
        });
        Shares { shares }
    }

    fn get(&self, sequence: usize, item: &Item<'_>) -> Option<&[f32]> {
        let is_of = |share: &&Share| {
            (share.sequence, share.kv_head, &share.tokens) == (sequence, item.kv_head, &item.tokens)
        };
        self.shares.iter().find(is_of).map(|share| share.states.as_slice())
    }
}

/// Divides the weighted values by the sum of the weights, into the results.
fn hand_out(item: &Item<'_>, whole: &[f32], tile: &mut Tile<'_, f32>) {
    let (a, group) = (item.attention, item.attention.group());
    for (row, state) in whole.chunks_exact(a.state()).enumerate() {
        let head = item.kv_head * group + row % group;
        let column = head * a.head_dim - tile.columns().start;
        let out = &mut tile.row(item.tokens.start + row / group)[column..][..a.head_dim];
        // Nothing seen, nothing said: only a window of no positions can do that.
        let inverse = if state[1] > 0.0 { 1.0 / state[1] } else { 0.0 };
        for (out, value) in out.iter_mut().zip(&state[HEAD..]) {
            *out = value * inverse;
        }
    }
}

/// Does nothing but this path's multiplications and additions of f32, from registers, and tells how many operations that
/// was: timed, it is the peak that attention to many positions can be compared with.
pub fn float_peak(isa: Isa, rounds: usize) -> usize {
    struct Peak(usize);
    impl Body for Peak {
        type Output = usize;

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> usize {
            let (a, b) = (simd.load(&black_box([0.5; 16])), simd.load(&black_box([0.25; 16])));
            let mut sums = [simd.splat(0.0); 12];
            for _ in 0..self.0 {
                for sum in &mut sums {
                    *sum = simd.mul_add(a, *sum, b);
                }
            }
            for sum in sums {
                black_box(simd.sum(sum));
            }
            self.0 * 12 * 16 * 2
        }
    }
    isa.run(Peak(rounds))
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
