//! Activations as the integer kernel reads them: tiles of a few tokens, side by side, number by number.
//!
//! Quantised once per input, whatever the number of matrices that it meets; what a format wants besides (sums, times its
//! offset) is worked out when the first matrix of such a format comes, and from then on with every filling. The memory is
//! kept from input to input.

use std::sync::OnceLock;

use crate::compute::Compute;
use crate::quantised::{Rounded, SHARED, SUMMED, padded, quantise};
use crate::simd::{Body, Simd};

/// Numbers of tokens that a tile can have, apart from the largest of a path.
const SIZES: [usize; 4] = [8, 4, 2, 1];

/// Numbers below which waking threads costs more than it gives.
const WORTH_SHARING: usize = 1 << 14;

/// Finishes rows one by one on the thread that then rounds them to int8, while they are in its cache.
pub(crate) trait Make: Sync {
    /// Finishes row `index`: `row` is what lies in the input, `beside` the same row of what changes with it.
    fn row<S: Simd>(&self, simd: S, index: usize, row: &mut [f32], beside: &mut [f32]);
}

/// Rows that are finished already.
pub(crate) struct Finished;

impl Make for Finished {
    #[inline(always)]
    fn row<S: Simd>(&self, _: S, _: usize, _: &mut [f32], _: &mut [f32]) {}
}

/// Rows on their way, `[tokens, cols]`, and rows that change with them: `[tokens, any]`, or nothing at all.
pub(crate) struct Rows<'a> {
    pub(crate) cols: usize,
    pub(crate) rows: &'a mut [f32],
    pub(crate) beside: &'a mut [f32],
}

impl<'a> Rows<'a> {
    fn tokens(&self) -> usize {
        self.rows.len() / self.cols
    }

    /// Cuts off the first `tokens` rows.
    fn take(&mut self, tokens: usize) -> Rows<'a> {
        let width = self.beside.len() / self.tokens();
        let (rows, rest) = std::mem::take(&mut self.rows).split_at_mut(tokens * self.cols);
        let (beside, beside_rest) = std::mem::take(&mut self.beside).split_at_mut(tokens * width);
        (self.rows, self.beside) = (rest, beside_rest);
        Rows { cols: self.cols, rows, beside }
    }

    /// Finishes all rows, and no more.
    pub(crate) fn make(mut self, compute: &Compute, make: &impl Make) {
        if self.rows.len() < WORTH_SHARING {
            return compute.isa().run(MakeRows { first: 0, rows: self, make });
        }
        let step = self.tokens().div_ceil(8 * compute.pool().threads());
        let mut parts = Vec::new();
        while !self.rows.is_empty() {
            let tokens = self.tokens().min(step);
            parts.push(Some(self.take(tokens)));
        }
        compute.pool().rows(&mut parts, 1, |index, part| {
            let rows = part[0].take().expect("each part is visited once");
            compute.isa().run(MakeRows { first: index * step, rows, make });
        });
    }
}

/// Finishes rows, `first` being the number of the first.
struct MakeRows<'a, M> {
    first: usize,
    rows: Rows<'a>,
    make: &'a M,
}

impl<M: Make> Body for MakeRows<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let MakeRows { first, mut rows, make } = self;
        for index in 0..rows.tokens() {
            let Rows { rows, beside, .. } = rows.take(1);
            make.row(simd, first + index, rows, beside);
        }
    }
}

/// The tokens of an input in tiles.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub(crate) tiles: Vec<Tile>,
}

/// A few tokens. All arrays have the tokens innermost: what lies at `[i][t]` is of token `first + t`.
#[derive(Debug, Default)]
pub(crate) struct Tile {
    /// The first of its tokens.
    pub(crate) first: usize,
    /// How many.
    pub(crate) tokens: usize,
    /// `[cols / 4][tokens]`: four codes each.
    pub(crate) codes: Vec<i32>,
    /// `[cols / 32][tokens]`
    pub(crate) scales: Vec<f32>,
    /// `[cols / 16][tokens]`: the sums of the codes.
    sums: Vec<i32>,
    /// Sums times −2ⁿ, what an integer sum starts from; for each n; over 32 columns, over 16.
    starts: [[OnceLock<Vec<i32>>; 8]; 2],
    /// Sums as floats; of 32 columns, of 16.
    float_sums: [OnceLock<Vec<f32>>; 2],
}

impl Packed {
    /// Finishes rows and takes them in; tiles of at most `largest` tokens.
    pub(crate) fn fill(&mut self, compute: &Compute, mut rows: Rows<'_>, largest: usize, make: &impl Make) {
        let tokens = rows.tokens();
        let mut first = 0;
        let mut count = 0;
        while first < tokens {
            let left = tokens - first;
            let fits = |size: &&usize| **size <= left && **size <= largest;
            let size = if left >= largest { largest } else { SIZES.iter().find(fits).copied().unwrap_or(1) };
            if count == self.tiles.len() {
                self.tiles.push(Tile::default());
            }
            (self.tiles[count].first, self.tiles[count].tokens) = (first, size);
            first += size;
            count += 1;
        }
        self.tiles.truncate(count);
        if rows.rows.len() < WORTH_SHARING {
            for tile in &mut self.tiles {
                let rows = rows.take(tile.tokens);
                compute.isa().run(Fill { tile, rows, make });
            }
            return;
        }
        let tiles = self.tiles.iter_mut();
        let mut parts: Vec<_> = tiles
            .map(|tile| {
                let rows = rows.take(tile.tokens);
                Some(Fill { tile, rows, make })
            })
            .collect();
        compute.pool().rows(&mut parts, 1, |_, part| {
            compute.isa().run(part[0].take().expect("each tile is visited once"));
        });
    }

    /// Works out what a format wants, so that no thread waits for another that does.
    pub(crate) fn prepare(&self, short: bool, minima: bool, offset: i32) {
        for tile in &self.tiles {
            if minima {
                tile.float_sums(short);
            } else {
                tile.starts(short, offset);
            }
        }
    }
}

impl Tile {
    /// What integer sums start from if codes of weights are `offset` (0 or a power of two) too large: `[cols / 16]` or
    /// `[cols / 32]`, each `[tokens]`.
    #[inline(always)]
    pub(crate) fn starts(&self, short: bool, offset: i32) -> &[i32] {
        let place = if offset == 0 { 0 } else { offset.trailing_zeros() as usize };
        self.starts[usize::from(short)][place].get_or_init(|| {
            let mut starts = Vec::new();
            sum_up(&self.sums, self.tokens, short, &mut starts, |sum| -offset * sum);
            starts
        })
    }

    /// The sums as floats: `[cols / 16]` or `[cols / 32]`, each `[tokens]`.
    #[inline(always)]
    pub(crate) fn float_sums(&self, short: bool) -> &[f32] {
        self.float_sums[usize::from(short)].get_or_init(|| {
            let mut sums = Vec::new();
            sum_up(&self.sums, self.tokens, short, &mut sums, |sum| sum as f32);
            sums
        })
    }

    /// Room for rows of `cols` numbers.
    fn resize(&mut self, cols: usize) {
        let padded = cols.next_multiple_of(SHARED);
        self.codes.resize(padded / 4 * self.tokens, 0);
        self.scales.resize(padded / SHARED * self.tokens, 0.0);
        self.sums.resize(padded / SUMMED * self.tokens, 0);
    }

    /// Takes in the row of token `t`.
    #[inline(always)]
    fn take<S: Simd>(&mut self, simd: S, t: usize, row: &[f32]) {
        let (whole, rest) = row.as_chunks();
        for (index, values) in whole.iter().enumerate() {
            self.put(t, index, &quantise(simd, values));
        }
        if let Some(values) = padded(rest) {
            self.put(t, whole.len(), &quantise(simd, &values));
        }
    }

    /// Puts block `index` of token `t` beside those of the others.
    #[inline(always)]
    fn put(&mut self, t: usize, index: usize, block: &Rounded) {
        let tokens = self.tokens;
        let codes = &mut self.codes[index * 8 * tokens..][..8 * tokens];
        for i in 0..8 {
            let q = &block.q[4 * i..4 * i + 4];
            codes[i * tokens + t] = i32::from_le_bytes([q[0] as u8, q[1] as u8, q[2] as u8, q[3] as u8]);
        }
        self.scales[index * tokens + t] = block.d;
        let sums = &mut self.sums[index * 2 * tokens..][..2 * tokens];
        (sums[t], sums[tokens + t]) = (i32::from(block.sums[0]), i32::from(block.sums[1]));
    }

    /// Works out again what was wanted of the rows before.
    #[inline(always)]
    fn keep_up(&mut self) {
        let Tile { tokens, sums, starts, float_sums, .. } = self;
        for (short, starts) in starts.iter_mut().enumerate() {
            for (place, starts) in starts.iter_mut().enumerate() {
                if let Some(starts) = starts.get_mut() {
                    let offset = if place == 0 { 0 } else { 1 << place };
                    sum_up(sums, *tokens, short == 1, starts, |sum| -offset * sum);
                }
            }
        }
        for (short, float_sums) in float_sums.iter_mut().enumerate() {
            if let Some(float_sums) = float_sums.get_mut() {
                sum_up(sums, *tokens, short == 1, float_sums, |sum| sum as f32);
            }
        }
    }
}

/// `of` each sum of 16 columns, if `short`, or of 32.
#[inline(always)]
fn sum_up<T: Copy + Default>(
    sums: &[i32],
    tokens: usize,
    short: bool,
    out: &mut Vec<T>,
    of: impl Fn(i32) -> T,
) {
    if short {
        out.resize(sums.len(), T::default());
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = of(*sum));
        return;
    }
    out.resize(sums.len() / 2, T::default());
    for (out, pair) in out.chunks_exact_mut(tokens).zip(sums.chunks_exact(2 * tokens)) {
        let (first, second) = pair.split_at(tokens);
        for ((out, first), second) in out.iter_mut().zip(first).zip(second) {
            *out = of(first + second);
        }
    }
}

/// Finishes the rows of a tile, and takes each in.
struct Fill<'a, M> {
    tile: &'a mut Tile,
    rows: Rows<'a>,
    make: &'a M,
}

impl<M: Make> Body for Fill<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Fill { tile, mut rows, make } = self;
        tile.resize(rows.cols);
        for t in 0..tile.tokens {
            let Rows { rows, beside, .. } = rows.take(1);
            make.row(simd, tile.first + t, rows, beside);
            tile.take(simd, t, rows);
        }
        tile.keep_up();
    }
}
