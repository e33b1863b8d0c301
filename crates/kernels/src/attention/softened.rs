//! The softmax of a tile of queries over one segment of positions, and how two segments are joined.
//!
//! State of a row: `[maximum, sum, 0 …]` ([`HEAD`] floats), then the weighted values, padded to sixteens. A few rows at a
//! time: all their scores, which stay in the nearest cache, then their weights, then the values, summed in registers. Many
//! rows read keys and values from panels of f32, filled once for all of them; few read them from the pages.

use std::ops::Range;

use crate::attention::item::{HEAD, Item, SEGMENT};
use crate::page::{Codes, Numbers, PAGE, Singles, Stored};
use crate::simd::{Body, Simd, exp};

/// Up to so many rows read the pages themselves.
const FEW: usize = 8;

/// The scores of a row over a segment, then its weights, by sixteens.
type Scores = [[f32; 16]; SEGMENT / 16];

/// Memory that a thread keeps between tiles.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[pages][head_dim][PAGE]`
    keys: Vec<f32>,
    /// `[positions][value_stride]`
    values: Vec<f32>,
    /// Those of a page's head, where its numbers have scales.
    scales: Vec<f32>,
    /// Blocks of `[head_dim][rows of the block]`.
    queries: Vec<f32>,
    /// One for each row of a block.
    scores: Vec<Scores>,
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

/// How many rows of so many go together: what the registers hold of sums, and of what few rows widen on the way.
#[inline(always)]
fn most<S: Simd>(rows: usize) -> usize {
    match S::MANY_REGISTERS {
        true if rows <= FEW => 4,
        true => 6,
        false => 3,
    }
}

/// Puts the queries of each block of rows side by side, number by number, scaled; before the segments of an item.
pub(super) struct Pack<'a> {
    pub(super) item: &'a Item<'a>,
    pub(super) scratch: &'a mut Scratch,
}

impl Body for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Pack { item, scratch: Scratch { queries, .. } } = self;
        let dim = item.attention.head_dim;
        queries.resize(item.rows() * dim, 0.0);
        for (first, count) in blocks(item.rows(), most::<S>(item.rows())) {
            let block = &mut queries[first * dim..][..count * dim];
            for row in 0..count {
                for (to, x) in block[row..].iter_mut().step_by(count).zip(item.query(first + row)) {
                    *to = *x * item.attention.scale;
                }
            }
        }
    }
}

/// Computes the state of an item's rows over a span of positions inside one segment; its queries have been packed.
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
        let (rows, dim, state) = (item.rows(), item.attention.head_dim, item.attention.state());
        let stride = state - HEAD;
        let Scratch { keys, values, scales, queries, scores, .. } = scratch;
        Join::begin(part, state);
        let first_page = span.start / PAGE;
        let pages = first_page..span.end.div_ceil(PAGE);
        let few = rows <= FEW;
        if !few {
            keys.resize(pages.len() * dim * PAGE, 0.0);
            values.resize(pages.len() * PAGE * stride, 0.0);
            let panels = keys.chunks_exact_mut(dim * PAGE).zip(values.chunks_exact_mut(PAGE * stride));
            for (page, (keys, values)) in pages.clone().zip(panels) {
                widen::<S, true>(simd, item.keys(page), scales, keys);
                widen::<S, false>(simd, item.values(page), scales, values);
            }
        }
        let most = most::<S>(rows);
        scores.resize(scores.len().max(most), [[0.0; 16]; SEGMENT / 16]);
        for (first, count) in blocks(rows, most) {
            let seen =
                item.visible(first).start.max(span.start)..item.visible(first + count - 1).end.min(span.end);
            if seen.is_empty() {
                continue;
            }
            let own = seen.start / PAGE..seen.end.div_ceil(PAGE);
            let base = first_page * PAGE;
            let mut block = Block {
                count,
                queries: &queries[first * dim..][..count * dim],
                scores: &mut scores[..count],
                stride,
                part: &mut part[first * state..][..count * state],
            };
            if few {
                // Short sequences are over before what is asked for on the way has come.
                item.ask_for_values(simd, own.clone());
            }
            for page in own.clone() {
                let to = (page - first_page) * (PAGE / 16);
                if few {
                    match item.keys(page) {
                        Stored::F32(keys) => block.score(simd, keys, to),
                        Stored::F16(keys) => block.score(simd, keys, to),
                        Stored::Q8(keys) => block.score(simd, Codes::<true>::new(simd, keys, scales), to),
                    }
                } else {
                    let keys = &keys[(page - first_page) * dim * PAGE..][..dim * PAGE];
                    block.score(simd, Singles(keys.as_chunks().0), to);
                }
            }
            let sixteens = (own.start - first_page) * (PAGE / 16)..(own.end - first_page) * (PAGE / 16);
            for row in 0..count {
                let visible = item.visible(first + row);
                let visible = visible.start.clamp(seen.start, seen.end) - base
                    ..visible.end.clamp(seen.start, seen.end) - base;
                let state = &mut block.part[row * state..][..state];
                soften(
                    simd,
                    &mut block.scores[row],
                    sixteens.clone(),
                    item.attention.softcap,
                    visible,
                    state,
                );
            }
            if !few {
                let slots = seen.start - base..seen.end - base;
                block.weigh(simd, Singles(values.as_chunks().0), 0, slots);
                continue;
            }
            for page in own {
                let slots =
                    seen.start.max(page * PAGE) - page * PAGE..seen.end.min((page + 1) * PAGE) - page * PAGE;
                let from = page * PAGE - base;
                match item.values(page) {
                    Stored::F32(values) => block.weigh(simd, values, from, slots),
                    Stored::F16(values) => block.weigh(simd, values, from, slots),
                    Stored::Q8(values) => {
                        block.weigh(simd, Codes::<false>::new(simd, values, scales), from, slots);
                    }
                }
            }
        }
    }
}

/// Reads numbers into a panel.
#[inline(always)]
fn widen<S: Simd, const KEYS: bool>(simd: S, stored: Stored<'_>, scales: &mut Vec<f32>, panel: &mut [f32]) {
    match stored {
        Stored::F32(numbers) => copy(simd, numbers, panel),
        Stored::F16(numbers) => copy(simd, numbers, panel),
        Stored::Q8(numbers) => copy(simd, Codes::<KEYS>::new(simd, numbers, scales), panel),
    }
}

#[inline(always)]
fn copy<S: Simd, N: Numbers>(simd: S, numbers: N, panel: &mut [f32]) {
    for (place, to) in panel.as_chunks_mut().0.iter_mut().enumerate() {
        simd.store(numbers.sixteen(simd, place), to);
    }
}

/// Rows in blocks of nearly one size, at most `most`: (first, count).
#[inline(always)]
fn blocks(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(most);
    (0..count).map(move |i| (i * rows / count, (i + 1) * rows / count - i * rows / count))
}

/// Rows whose sums fit the registers.
struct Block<'a> {
    count: usize,
    /// `[head_dim][count]`
    queries: &'a [f32],
    /// `[count]`
    scores: &'a mut [Scores],
    stride: usize,
    /// `[count]` states.
    part: &'a mut [f32],
}

impl Block<'_> {
    /// Scores of the positions of a page, to the sixteens from `to` on. `keys`: `[head_dim][PAGE]`.
    #[inline(always)]
    fn score<S: Simd, N: Numbers>(&mut self, simd: S, keys: N, to: usize) {
        match self.count {
            6 => simd.enter(Score::<N, 6> { block: self, keys, to }),
            5 => simd.enter(Score::<N, 5> { block: self, keys, to }),
            4 => simd.enter(Score::<N, 4> { block: self, keys, to }),
            3 => simd.enter(Score::<N, 3> { block: self, keys, to }),
            2 => simd.enter(Score::<N, 2> { block: self, keys, to }),
            _ => simd.enter(Score::<N, 1> { block: self, keys, to }),
        }
    }

    /// Adds the weighted values of `slots` to each row's. `values`: `[slots][value_stride]`, the weights of the first being
    /// number `from`.
    #[inline(always)]
    fn weigh<S: Simd, N: Numbers>(&mut self, simd: S, values: N, from: usize, slots: Range<usize>) {
        match self.count {
            6 => simd.enter(Weigh::<N, 6> { block: self, values, from, slots }),
            5 => simd.enter(Weigh::<N, 5> { block: self, values, from, slots }),
            4 => simd.enter(Weigh::<N, 4> { block: self, values, from, slots }),
            3 => simd.enter(Weigh::<N, 3> { block: self, values, from, slots }),
            2 => simd.enter(Weigh::<N, 2> { block: self, values, from, slots }),
            _ => simd.enter(Weigh::<N, 1> { block: self, values, from, slots }),
        }
    }
}

/// `scores[r][position] = Σ queries[i][r] · keys[i][position]`.
struct Score<'b, 'a, N, const R: usize> {
    block: &'b mut Block<'a>,
    keys: N,
    to: usize,
}

impl<N: Numbers, const R: usize> Body for Score<'_, '_, N, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Score { block, keys, to } = self;
        let mut sums = [[simd.splat(0.0); 2]; R];
        for (i, query) in block.queries.as_chunks::<R>().0.iter().enumerate() {
            let (low, high) = (keys.sixteen(simd, 2 * i), keys.sixteen(simd, 2 * i + 1));
            for r in 0..R {
                let x = simd.splat(query[r]);
                sums[r] = [simd.mul_add(x, low, sums[r][0]), simd.mul_add(x, high, sums[r][1])];
            }
        }
        for (scores, sums) in block.scores.iter_mut().zip(sums) {
            simd.store(sums[0], &mut scores[to]);
            simd.store(sums[1], &mut scores[to + 1]);
        }
    }
}

/// Scores to weights, in place, 0 where not visible; their maximum and sum to the state. `visible` counts from the first of
/// the scores.
#[inline(always)]
fn soften<S: Simd>(
    simd: S,
    scores: &mut Scores,
    sixteens: Range<usize>,
    softcap: Option<f32>,
    visible: Range<usize>,
    state: &mut [f32],
) {
    if let Some(cap) = softcap {
        // tanh y = 1 − 2 / (e²ʸ + 1)
        let (one, two) = (simd.splat(1.0), simd.splat(2.0));
        for s in &mut scores[sixteens.clone()] {
            let above = exp(simd, simd.mul(simd.load(s), simd.splat(2.0 / cap)));
            simd.store(simd.mul(simd.sub(one, simd.div(two, simd.add(above, one))), simd.splat(cap)), s);
        }
    }
    for hidden in [16 * sixteens.start..visible.start, visible.end..16 * sixteens.end] {
        for score in &mut scores.as_flattened_mut()[hidden] {
            *score = f32::NEG_INFINITY;
        }
    }
    let scores = &mut scores[sixteens];
    let mut most = simd.splat(f32::NEG_INFINITY);
    for s in scores.iter() {
        most = simd.max(simd.load(s), most);
    }
    state[0] = simd.largest(most);
    let mut sum = simd.splat(0.0);
    if state[0] == f32::NEG_INFINITY {
        for s in scores.iter_mut() {
            simd.store(sum, s);
        }
        return;
    }
    let most = simd.splat(state[0]);
    for s in scores.iter_mut() {
        let weight = exp(simd, simd.sub(simd.load(s), most));
        sum = simd.add(sum, weight);
        simd.store(weight, s);
    }
    state[1] = simd.sum(sum);
}

/// See [`Block::weigh`].
struct Weigh<'b, 'a, N, const R: usize> {
    block: &'b mut Block<'a>,
    values: N,
    from: usize,
    slots: Range<usize>,
}

impl<N: Numbers, const R: usize> Body for Weigh<'_, '_, N, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let mut column = 0;
        while column < self.block.stride {
            if column + 32 <= self.block.stride {
                self.columns::<S, 2>(simd, column);
                column += 32;
            } else {
                self.columns::<S, 1>(simd, column);
                column += 16;
            }
        }
    }
}

impl<N: Numbers, const R: usize> Weigh<'_, '_, N, R> {
    /// Those of `16 * C` columns.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "row and column count through several arrays")]
    fn columns<S: Simd, const C: usize>(&mut self, simd: S, column: usize) {
        let Weigh { block, values, from, slots } = self;
        let (stride, state) = (block.stride, block.stride + HEAD);
        let mut sums = [[simd.splat(0.0); C]; R];
        for r in 0..R {
            let old = block.part[r * state + HEAD + column..][..16 * C].as_chunks().0;
            for c in 0..C {
                sums[r][c] = simd.load(&old[c]);
            }
        }
        let weights: &[Scores; R] = block.scores.first_chunk().expect("a row of weights for each row");
        for slot in slots.clone() {
            let mut numbers = [simd.splat(0.0); C];
            for c in 0..C {
                numbers[c] = values.sixteen(simd, slot * (stride / 16) + column / 16 + c);
            }
            let at = (*from + slot) % SEGMENT;
            for r in 0..R {
                let x = simd.splat(weights[r].as_flattened()[at]);
                for c in 0..C {
                    sums[r][c] = simd.mul_add(x, numbers[c], sums[r][c]);
                }
            }
        }
        for r in 0..R {
            let new = block.part[r * state + HEAD + column..][..16 * C].as_chunks_mut().0;
            for c in 0..C {
                simd.store(sums[r][c], &mut new[c]);
            }
        }
    }
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
