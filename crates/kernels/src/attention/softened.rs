//! The running softmax of a tile of queries over one segment of positions, and how two segments are joined.
//!
//! State of a row: `[maximum, sum, 0 …]` ([`HEAD`] floats), then the weighted values, padded to sixteens.

use std::ops::Range;

use crate::attention::item::{HEAD, Item};
use crate::page::PAGE;
use crate::simd::{Body, Simd, exp};

/// Memory that a thread keeps between tiles.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[head_dim][PAGE]`
    keys: Vec<f32>,
    /// `[PAGE][value_stride]`
    values: Vec<f32>,
    /// Blocks of `[head_dim][rows of the block]`.
    queries: Vec<f32>,
    /// `[rows][PAGE]`: scores, then weights.
    scores: Vec<[f32; PAGE]>,
    spare: Vec<Vec<f32>>,
}

impl Scratch {
    /// A buffer of that size, contents unspecified.
    pub(super) fn state(&mut self, size: usize) -> Vec<f32> {
        let mut state = self.spare.pop().unwrap_or_default();
        state.resize(size, 0.0);
        state
    }

    /// Keeps a buffer for the next time.
    pub(super) fn keep(&mut self, state: Vec<f32>) {
        self.spare.push(state);
    }
}

/// Computes the state of an item's rows over a span of positions inside one segment.
pub(super) struct Segment<'a> {
    pub(super) item: &'a Item<'a>,
    pub(super) span: Range<usize>,
    /// `[rows * state]`, overwritten.
    pub(super) part: &'a mut [f32],
    pub(super) scratch: &'a mut Scratch,
}

impl Body for Segment<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Segment { item, span, part, scratch } = self;
        let (a, rows, dim) = (item.attention, item.rows(), item.attention.head_dim);
        let (state, stride) = (a.state(), a.state() - HEAD);
        Join::begin(part, state);
        scratch.keys.resize(dim * PAGE, 0.0);
        scratch.values.resize(PAGE * stride, 0.0);
        scratch.scores.resize(rows, [0.0; PAGE]);
        pack_queries::<S>(item, &mut scratch.queries);
        for index in span.start / PAGE..span.end.div_ceil(PAGE) {
            let page = &item.asker.pages[index];
            let positions = index * PAGE..(index + 1) * PAGE;
            let slots = positions.start.max(span.start) - positions.start
                ..positions.end.min(span.end) - positions.start;
            let next = item.asker.pages.get(index + 1).unwrap_or(page);
            page.decode_keys(simd, item.asker.layer, item.kv_head, next, &mut scratch.keys);
            let keys = scratch.keys.as_chunks::<PAGE>().0;
            for (first, count) in blocks::<S>(rows) {
                let queries = &scratch.queries[first * dim..][..count * dim];
                let scores = &mut scratch.scores[first..][..count];
                match count {
                    6 => score::<S, 6>(simd, queries, keys, scores),
                    4 => score::<S, 4>(simd, queries, keys, scores),
                    3 => score::<S, 3>(simd, queries, keys, scores),
                    2 => score::<S, 2>(simd, queries, keys, scores),
                    _ => score::<S, 1>(simd, queries, keys, scores),
                }
            }
            for (row, (scores, state)) in
                scratch.scores.iter_mut().zip(part.chunks_exact_mut(state)).enumerate()
            {
                let visible = item.visible(row);
                let start = visible.start.clamp(positions.start, positions.end) - positions.start;
                let end = visible.end.clamp(positions.start, positions.end) - positions.start;
                soften(simd, scores, state, a.scale, a.softcap, start..end);
            }
            page.decode_values(simd, item.asker.layer, item.kv_head, slots.end, next, &mut scratch.values);
            for (first, count) in blocks::<S>(rows) {
                let weights = &scratch.scores[first..][..count];
                let part = &mut part[first * state..][..count * state];
                let values = &scratch.values[..slots.end * stride];
                match count {
                    6 => weigh::<S, 6>(simd, weights, values, slots.clone(), part),
                    4 => weigh::<S, 4>(simd, weights, values, slots.clone(), part),
                    3 => weigh::<S, 3>(simd, weights, values, slots.clone(), part),
                    2 => weigh::<S, 2>(simd, weights, values, slots.clone(), part),
                    _ => weigh::<S, 1>(simd, weights, values, slots.clone(), part),
                }
            }
        }
    }
}

/// Rows in blocks that the registers hold: (first, count), counts of 6, 4, 3, 2 or 1.
#[inline(always)]
fn blocks<S: Simd>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let sizes: &[usize] = if S::MANY_REGISTERS { &[6, 4, 3, 2, 1] } else { &[3, 2, 1] };
    let mut first = 0;
    std::iter::from_fn(move || {
        let count = *sizes.iter().find(|size| first + **size <= rows)?;
        first += count;
        Some((first - count, count))
    })
}

/// The queries of each block side by side, number by number.
#[inline(always)]
fn pack_queries<S: Simd>(item: &Item<'_>, packed: &mut Vec<f32>) {
    let dim = item.attention.head_dim;
    packed.resize(item.rows() * dim, 0.0);
    for (first, count) in blocks::<S>(item.rows()) {
        let block = &mut packed[first * dim..][..count * dim];
        for row in 0..count {
            for (to, x) in block[row..].iter_mut().step_by(count).zip(item.query(first + row)) {
                *to = *x;
            }
        }
    }
}

/// `scores[r][slot] = Σ queries[i][r] · keys[i][slot]`.
#[inline(always)]
fn score<S: Simd, const R: usize>(
    simd: S,
    queries: &[f32],
    keys: &[[f32; PAGE]],
    scores: &mut [[f32; PAGE]],
) {
    let mut sums = [[simd.splat(0.0); 2]; R];
    for (query, keys) in queries.as_chunks::<R>().0.iter().zip(keys) {
        let keys = keys.as_chunks().0;
        let (low, high) = (simd.load(&keys[0]), simd.load(&keys[1]));
        for r in 0..R {
            let x = simd.splat(query[r]);
            sums[r] = [simd.mul_add(x, low, sums[r][0]), simd.mul_add(x, high, sums[r][1])];
        }
    }
    for (scores, sums) in scores.iter_mut().zip(sums) {
        let scores = scores.as_chunks_mut().0;
        simd.store(sums[0], &mut scores[0]);
        simd.store(sums[1], &mut scores[1]);
    }
}

/// Scores to weights, in place, where visible (0 elsewhere), carrying the running maximum and sum on.
#[inline(always)]
fn soften<S: Simd>(
    simd: S,
    scores: &mut [f32; PAGE],
    state: &mut [f32],
    scale: f32,
    softcap: Option<f32>,
    visible: Range<usize>,
) {
    if visible.is_empty() {
        *scores = [0.0; PAGE];
        return;
    }
    let lanes = scores.as_chunks_mut().0;
    let scale = simd.splat(scale);
    let mut scaled = [simd.mul(simd.load(&lanes[0]), scale), simd.mul(simd.load(&lanes[1]), scale)];
    if let Some(cap) = softcap {
        // tanh y = 1 − 2 / (e²ʸ + 1)
        let (one, two) = (simd.splat(1.0), simd.splat(2.0));
        for s in &mut scaled {
            let above = exp(simd, simd.mul(*s, simd.splat(2.0 / cap)));
            *s = simd.mul(simd.sub(one, simd.div(two, simd.add(above, one))), simd.splat(cap));
        }
    }
    if visible != (0..PAGE) {
        simd.store(scaled[0], &mut lanes[0]);
        simd.store(scaled[1], &mut lanes[1]);
        let all = lanes.as_flattened_mut();
        all[..visible.start].fill(f32::NEG_INFINITY);
        all[visible.end..].fill(f32::NEG_INFINITY);
        scaled = [simd.load(&lanes[0]), simd.load(&lanes[1])];
    }
    let most = simd.largest(simd.max(scaled[0], scaled[1]));
    if most > state[0] {
        rescale(simd, state, most);
    }
    if state[0] == f32::NEG_INFINITY {
        *scores = [0.0; PAGE];
        return;
    }
    let most = simd.splat(state[0]);
    let weights = [exp(simd, simd.sub(scaled[0], most)), exp(simd, simd.sub(scaled[1], most))];
    state[1] += simd.sum(simd.add(weights[0], weights[1]));
    simd.store(weights[0], &mut lanes[0]);
    simd.store(weights[1], &mut lanes[1]);
}

/// Takes a new maximum: what was summed so far counts for less.
#[inline(always)]
fn rescale<S: Simd>(simd: S, state: &mut [f32], most: f32) {
    let factor = exp_of(simd, state[0] - most);
    state[0] = most;
    state[1] *= factor;
    for values in state[HEAD..].as_chunks_mut().0 {
        simd.store(simd.mul(simd.load(values), simd.splat(factor)), values);
    }
}

#[inline(always)]
fn exp_of<S: Simd>(simd: S, x: f32) -> f32 {
    let mut lanes = [0.0; 16];
    simd.store(exp(simd, simd.splat(x)), &mut lanes);
    lanes[0]
}

/// Adds `weights[r][slot] · values[slot]` over the slots to each row's values.
#[inline(always)]
fn weigh<S: Simd, const R: usize>(
    simd: S,
    weights: &[[f32; PAGE]],
    values: &[f32],
    slots: Range<usize>,
    part: &mut [f32],
) {
    let state = part.len() / R;
    let stride = state - HEAD;
    let mut column = 0;
    while column < stride {
        if column + 32 <= stride {
            weigh_columns::<S, R, 2>(simd, weights, values, stride, column, slots.clone(), part);
            column += 32;
        } else {
            weigh_columns::<S, R, 1>(simd, weights, values, stride, column, slots.clone(), part);
            column += 16;
        }
    }
}

/// [`weigh`] for `16 * C` columns.
#[inline(always)]
fn weigh_columns<S: Simd, const R: usize, const C: usize>(
    simd: S,
    weights: &[[f32; PAGE]],
    values: &[f32],
    stride: usize,
    column: usize,
    slots: Range<usize>,
    part: &mut [f32],
) {
    let state = stride + HEAD;
    let mut sums = [[simd.splat(0.0); C]; R];
    for r in 0..R {
        let old = part[r * state + HEAD + column..][..16 * C].as_chunks().0;
        for c in 0..C {
            sums[r][c] = simd.load(&old[c]);
        }
    }
    let weights: &[[f32; PAGE]; R] = weights.first_chunk().expect("a row of weights for each row");
    for slot in slots {
        let row = values[slot * stride + column..][..16 * C].as_chunks().0;
        let mut values = [simd.splat(0.0); C];
        for c in 0..C {
            values[c] = simd.load(&row[c]);
        }
        for r in 0..R {
            let x = simd.splat(weights[r][slot % PAGE]);
            for c in 0..C {
                sums[r][c] = simd.mul_add(x, values[c], sums[r][c]);
            }
        }
    }
    for r in 0..R {
        let new = part[r * state + HEAD + column..][..16 * C].as_chunks_mut().0;
        for c in 0..C {
            simd.store(sums[r][c], &mut new[c]);
        }
    }
}

/// Joins the state over a further segment to the state so far, row by row.
pub(super) struct Join<'a> {
    pub(super) part: &'a [f32],
    pub(super) whole: &'a mut [f32],
    /// Floats of a row.
    pub(super) state: usize,
}

impl Join<'_> {
    /// The state over no positions at all.
    pub(super) fn begin(whole: &mut [f32], state: usize) {
        whole.fill(0.0);
        for row in whole.chunks_exact_mut(state) {
            row[0] = f32::NEG_INFINITY;
        }
    }
}

impl Body for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (part, whole) in self.part.chunks_exact(self.state).zip(self.whole.chunks_exact_mut(self.state)) {
            if part[0] == f32::NEG_INFINITY {
                continue;
            }
            if part[0] > whole[0] {
                rescale(simd, whole, part[0]);
            }
            let factor = exp_of(simd, part[0] - whole[0]);
            whole[1] += part[1] * factor;
            let (values, more) = (whole[HEAD..].as_chunks_mut().0, part[HEAD..].as_chunks().0);
            for (values, more) in values.iter_mut().zip(more) {
                simd.store(simd.mul_add(simd.load(more), simd.splat(factor), simd.load(values)), values);
            }
        }
    }
}
