//! F32, F16 and BF16 weights times activations, in f32.
//!
//! A result is sixteen partial sums (column c in lane c mod 16) added up in one order; the register blocks below only decide
//! how many results are worked on at a time. Weights are read as they lie in the file.

use crate::compute::Compute;
use crate::format::Format;
use crate::matrix::Matrix;
use crate::pool::tiles::Tile;
use crate::simd::{Body, Simd, load_part};

/// Bytes of weights that a thread takes at a time: they stay in the second cache while the tokens pass by.
const SHARE_BYTES: usize = 1 << 17;

/// `values`: `[tokens, cols]`, `out`: `[tokens, rows]`.
pub(super) fn matmul(compute: &Compute, weights: &Matrix, values: &[f32], out: &mut [f32]) {
    let rows = weights.rows();
    let most = rows.div_ceil(4 * compute.pool().threads());
    let step = (SHARE_BYTES * rows / weights.bytes().len()).min(most).next_multiple_of(4).max(4);
    compute.pool().columns(out, rows, step, |out| compute.isa().run(Share { weights, values, out }));
}

/// The rows that one thread has claimed.
struct Share<'a, 't> {
    weights: &'a Matrix,
    values: &'a [f32],
    out: Tile<'t, f32>,
}

impl Body for Share<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.weights.format() {
            Format::F16 => share(simd, self, Half),
            Format::BF16 => share(simd, self, Brain),
            _ => share(simd, self, Single),
        }
    }
}

/// How sixteen numbers of a row are read.
trait Numbers: Copy {
    const BYTES: usize;
    /// `bytes` has sixteen numbers.
    fn load<S: Simd>(self, simd: S, bytes: &[u8]) -> S::F;
}

#[derive(Clone, Copy)]
struct Single;

#[derive(Clone, Copy)]
struct Half;

#[derive(Clone, Copy)]
struct Brain;

impl Numbers for Single {
    const BYTES: usize = 4;

    #[inline(always)]
    fn load<S: Simd>(self, simd: S, bytes: &[u8]) -> S::F {
        let mut lanes = [0.0; 16];
        for (lane, bytes) in lanes.iter_mut().zip(bytes.as_chunks().0) {
            *lane = f32::from_le_bytes(*bytes);
        }
        simd.load(&lanes)
    }
}

#[inline(always)]
fn words(bytes: &[u8]) -> [u16; 16] {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u16::from_le_bytes(*bytes);
    }
    words
}

impl Numbers for Half {
    const BYTES: usize = 2;

    #[inline(always)]
    fn load<S: Simd>(self, simd: S, bytes: &[u8]) -> S::F {
        simd.widen_f16(&words(bytes))
    }
}

impl Numbers for Brain {
    const BYTES: usize = 2;

    #[inline(always)]
    fn load<S: Simd>(self, simd: S, bytes: &[u8]) -> S::F {
        simd.widen_bf16(&words(bytes))
    }
}

#[inline(always)]
fn share<S: Simd, N: Numbers>(simd: S, mut share: Share<'_, '_>, numbers: N) {
    let columns = share.out.columns();
    let tokens = share.out.rows().end;
    let mut row = columns.start;
    while row < columns.end {
        let place = (row, row - columns.start);
        let mut token = 0;
        let four = row + 4 <= columns.end;
        while token < tokens {
            let left = tokens - token;
            token += match (four, left) {
                (true, 6..) if S::MANY_REGISTERS => {
                    block::<S, N, 4, 6>(simd, &mut share, numbers, place, token)
                }
                (true, 2..) => block::<S, N, 4, 2>(simd, &mut share, numbers, place, token),
                (true, _) => block::<S, N, 4, 1>(simd, &mut share, numbers, place, token),
                (false, 4..) => block::<S, N, 1, 4>(simd, &mut share, numbers, place, token),
                (false, _) => block::<S, N, 1, 1>(simd, &mut share, numbers, place, token),
            };
        }
        row += if four { 4 } else { 1 };
    }
}

/// `R` rows times `T` tokens; gives `T`.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "row and token count through several arrays")]
fn block<S: Simd, N: Numbers, const R: usize, const T: usize>(
    simd: S,
    share: &mut Share<'_, '_>,
    numbers: N,
    (row, column): (usize, usize),
    token: usize,
) -> usize {
    let cols = share.weights.cols();
    let whole = cols / 16;
    let mut weights: [&[u8]; R] = [&[]; R];
    for (r, weights) in weights.iter_mut().enumerate() {
        *weights = &share.weights.row(row + r)[..cols * N::BYTES];
    }
    let mut values: [&[f32]; T] = [&[]; T];
    for (t, values) in values.iter_mut().enumerate() {
        *values = &share.values[(token + t) * cols..][..cols];
    }
    let mut sums = [[simd.splat(0.0); T]; R];
    for i in 0..whole {
        let mut x = [simd.splat(0.0); T];
        for t in 0..T {
            x[t] = simd.load(&values[t].as_chunks().0[i]);
        }
        for r in 0..R {
            let w = numbers.load(simd, &weights[r][i * 16 * N::BYTES..][..16 * N::BYTES]);
            for t in 0..T {
                sums[r][t] = simd.mul_add(w, x[t], sums[r][t]);
            }
        }
    }
    if cols > whole * 16 {
        for r in 0..R {
            let mut rest = [0; 64];
            let bytes = &weights[r][whole * 16 * N::BYTES..];
            rest[..bytes.len()].copy_from_slice(bytes);
            let w = numbers.load(simd, &rest[..16 * N::BYTES]);
            for t in 0..T {
                let x = load_part(simd, &values[t][whole * 16..], 0.0);
                sums[r][t] = simd.mul_add(w, x, sums[r][t]);
            }
        }
    }
    for t in 0..T {
        let out = &mut share.out.row(token + t)[column..column + R];
        for r in 0..R {
            out[r] = simd.sum(sums[r][t]);
        }
    }
    T
}
