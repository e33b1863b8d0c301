//! Activations as the integer kernel reads them: tiles of a few tokens, side by side, number by number.
//!
//! Quantised once per input, whatever the number of matrices that it meets; what a format wants besides (sums, times its
//! offset) is worked out when the first matrix of such a format comes, and kept.

use std::sync::OnceLock;

use crate::cpu::Isa;
use crate::quantised::{RowMut, SHARED, SUMMED, quantise_row};
use crate::simd::{Body, Simd};

/// Numbers of tokens that a tile can have, apart from the largest of a path.
const SIZES: [usize; 4] = [8, 4, 2, 1];

/// The tokens of an input in tiles.
#[derive(Debug)]
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
    /// `values`: `[tokens, cols]`; tiles of at most `largest` tokens.
    pub(crate) fn new(
        isa: Isa,
        pool: &crate::pool::Pool,
        values: &[f32],
        cols: usize,
        largest: usize,
    ) -> Packed {
        let tokens = values.len() / cols;
        let mut tiles = Vec::with_capacity(tokens / largest + SIZES.len());
        let mut first = 0;
        while first < tokens {
            let left = tokens - first;
            let fits = |size: &&usize| **size <= left && **size <= largest;
            let size = if left >= largest { largest } else { SIZES.iter().find(fits).copied().unwrap_or(1) };
            tiles.push(Tile { first, tokens: size, ..Tile::default() });
            first += size;
        }
        let fill = |tile: &mut Tile| isa.run(Fill { tile, values, cols });
        if values.len() < 1 << 14 {
            tiles.iter_mut().for_each(fill);
        } else {
            pool.rows(&mut tiles, 1, |_, tile| tile.iter_mut().for_each(fill));
        }
        Packed { tiles }
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
    pub(crate) fn starts(&self, short: bool, offset: i32) -> &[i32] {
        let place = if offset == 0 { 0 } else { offset.trailing_zeros() as usize };
        self.starts[usize::from(short)][place]
            .get_or_init(|| self.summed(short).map(|sum| -offset * sum).collect())
    }

    /// The sums as floats: `[cols / 16]` or `[cols / 32]`, each `[tokens]`.
    pub(crate) fn float_sums(&self, short: bool) -> &[f32] {
        self.float_sums[usize::from(short)].get_or_init(|| self.summed(short).map(|sum| sum as f32).collect())
    }

    fn summed(&self, short: bool) -> Box<dyn Iterator<Item = i32> + '_> {
        if short {
            return Box::new(self.sums.iter().copied());
        }
        let pairs = self.sums.chunks_exact(2 * self.tokens);
        Box::new(pairs.flat_map(|pair| (0..self.tokens).map(|t| pair[t] + pair[self.tokens + t])))
    }
}

/// Quantises the tokens of a tile and puts them side by side.
struct Fill<'a> {
    tile: &'a mut Tile,
    values: &'a [f32],
    cols: usize,
}

impl Body for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Fill { tile, values, cols } = self;
        let (tokens, padded) = (tile.tokens, cols.next_multiple_of(SHARED));
        tile.codes.resize(padded / 4 * tokens, 0);
        tile.scales.resize(padded / SHARED * tokens, 0.0);
        tile.sums.resize(padded / SUMMED * tokens, 0);
        let (mut q, mut d, mut sums) =
            (vec![0; padded], vec![0.0; padded / SHARED], vec![0; padded / SUMMED]);
        for t in 0..tokens {
            let values = &values[(tile.first + t) * cols..][..cols];
            quantise_row(values, RowMut { q: &mut q, d: &mut d, sums: &mut sums });
            for (to, four) in tile.codes[t..].iter_mut().step_by(tokens).zip(q.as_chunks::<4>().0) {
                *to = i32::from_le_bytes(four.map(i8::cast_unsigned));
            }
            for (to, d) in tile.scales[t..].iter_mut().step_by(tokens).zip(&d) {
                *to = *d;
            }
            for (to, sum) in tile.sums[t..].iter_mut().step_by(tokens).zip(&sums) {
                *to = i32::from(*sum);
            }
        }
    }
}
