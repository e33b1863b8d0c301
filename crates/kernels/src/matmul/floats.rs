//! F32, F16 and BF16 weights times activations, in f32.
//!
//! A result is sixteen partial sums (column c in lane c mod 16) added up in one order; what follows only decides how many
//! results are worked on at a time. Few tokens: weights are widened on their way from memory, which decides the speed. Many:
//! rows are widened into a panel once, and four of them meet a tile of tokens whose partial sums fill the registers.

use std::cell::RefCell;

use crate::compute::Compute;
use crate::format::Format;
use crate::matmul::multiply::Lanes;
use crate::matrix::Matrix;
use crate::pool::tiles::Tile;
use crate::simd::{Body, Simd, load_part};

/// Bytes of weights that a thread takes at a time with few tokens.
const SHARE_BYTES: usize = 1 << 17;

/// Bytes of a page of memory.
const PAGE: usize = 4096;

/// Rows that a thread takes at a time with many tokens: of some thousand columns they fit into a second cache as f32, beside
/// the tokens that pass by.
const SHARE_ROWS: usize = 32;

/// Rows that go together.
const ROWS: usize = 4;

/// Sixteens of columns that tokens pass by at a time: of four rows, as much as a first cache holds; half of it where they are
/// read again for each register.
const fn piece(registers: usize) -> usize {
    if registers == 1 { 128 } else { 64 }
}

/// Tiles of tokens that pass by at a time: a piece of their columns stays in the second cache.
const TILES: usize = 8;

/// Tokens of a tile on a path with 32 registers, of which their partial sums with four rows take 24.
const TOKENS_OF_32: usize = 6;

/// The same with 16 registers, of which 12.
const TOKENS_OF_16: usize = 3;

/// From so many tokens on there are panels: a tile can be filled on every path.
const MANY: usize = TOKENS_OF_32;

thread_local! {
    /// What a thread keeps from call to call: widened rows, and partial sums.
    static SPARE: RefCell<(Vec<Four>, Vec<Four>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Sixteen columns of four rows, or sixteen partial sums of four results.
type Four = [Lanes; ROWS];

/// `values`: `[tokens, cols]`, `out`: `[tokens, rows]`.
pub(super) fn matmul(compute: &Compute, weights: &Matrix, values: &[f32], out: &mut [f32]) {
    let rows = weights.rows();
    let most = rows.div_ceil(4 * compute.pool().threads()).next_multiple_of(ROWS);
    let fit = match values.len() / weights.cols() {
        MANY.. => SHARE_ROWS,
        _ => (SHARE_BYTES * rows / weights.bytes().len()).next_multiple_of(ROWS),
    };
    compute.pool().columns(out, rows, fit.min(most), |out| compute.isa().run(Share { weights, values, out }));
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
fn share<S: Simd, N: Numbers>(simd: S, share: Share<'_, '_>, numbers: N) {
    match share.out.rows().end {
        MANY.. if S::REGISTER_FILE == 32 => many::<S, N, TOKENS_OF_32>(simd, share, numbers),
        MANY.. => many::<S, N, TOKENS_OF_16>(simd, share, numbers),
        _ => few(simd, share, numbers),
    }
}

/// Tiles of `T` tokens, of which there are as many or more.
#[inline(always)]
fn many<S: Simd, N: Numbers, const T: usize>(simd: S, share: Share<'_, '_>, numbers: N) {
    let Share { weights, values, mut out } = share;
    let (cols, rows, tokens) = (weights.cols(), out.columns(), out.rows().end);
    let (fours, steps) = (rows.len().div_ceil(ROWS), cols.div_ceil(16));
    let (mut panel, mut sums) = SPARE.take();
    let nothing = [Lanes([0.0; 16]); ROWS];
    panel.resize(panel.len().max(fours * steps), nothing);
    sums.resize(sums.len().max(fours * TILES * T), nothing);
    for row in rows.clone() {
        let (four, r) = ((row - rows.start) / ROWS, (row - rows.start) % ROWS);
        let bytes = &weights.row(row)[..cols * N::BYTES];
        for (i, to) in panel[four * steps..][..steps].iter_mut().enumerate() {
            simd.store(sixteen(simd, numbers, bytes, i), &mut to[r].0);
        }
    }
    // The last tile overlaps the one before it: the same results twice.
    let first_token = |tile: usize| (tile * T).min(tokens - T);
    let tiles = tokens.div_ceil(T);
    for first in (0..tiles).step_by(TILES) {
        let some = first..tiles.min(first + TILES);
        for begin in (0..steps).step_by(piece(S::REGISTERS)) {
            let end = steps.min(begin + piece(S::REGISTERS));
            for four in 0..fours {
                let piece = &panel[four * steps..][begin..end];
                let place = four * ROWS..rows.len().min(four * ROWS + ROWS);
                for tile in some.clone() {
                    let token = first_token(tile);
                    let values = &values[token * cols..][..T * cols];
                    let sums = &mut sums[four * TILES * T..].as_chunks_mut::<T>().0[tile - first];
                    for register in 0..S::REGISTERS {
                        // Entered anew, so that the formats share what is compiled.
                        simd.enter(AddPiece::<T> { register, piece, begin, values, sums: &mut *sums });
                    }
                    if end < steps {
                        continue;
                    }
                    for (t, [a, b, c, d]) in sums.iter().enumerate() {
                        let four = [simd.load(&a.0), simd.load(&b.0), simd.load(&c.0), simd.load(&d.0)];
                        let results = simd.sum_four(four);
                        let out = &mut out.row(token + t)[place.clone()];
                        out.copy_from_slice(&results[..out.len()]);
                    }
                }
            }
        }
    }
    SPARE.set((panel, sums));
}

/// Adds the products of four rows with `T` tokens, over the columns of a piece; those of the first piece to nothing. Of the
/// sixteen lanes, those of one register: so as many results as possible are worked on at a time.
struct AddPiece<'a, const T: usize> {
    register: usize,
    /// `[columns / 16]`
    piece: &'a [Four],
    /// Which of all sixteens of columns is the piece's first.
    begin: usize,
    /// `[T, cols]`
    values: &'a [f32],
    sums: &'a mut [Four; T],
}

impl<const T: usize> Body for AddPiece<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let AddPiece { register, piece, begin, values, sums } = self;
        let cols = values.len() / T;
        let (before, last) = piece.split_at(piece.len().min(cols / 16 - begin));
        let mut x: [&[[f32; 16]]; T] = [&[]; T];
        let mut rest = [[0.0; 16]; T];
        for t in 0..T {
            let (sixteens, short) = values[t * cols..][..cols].as_chunks();
            x[t] = &sixteens[begin..][..before.len()];
            rest[t][..short.len()].copy_from_slice(short);
        }
        let mut parts = [[simd.load_register(&[0.0; 16], register); ROWS]; T];
        if begin > 0 {
            for t in 0..T {
                for r in 0..ROWS {
                    parts[t][r] = simd.load_register(&sums[t][r].0, register);
                }
            }
        }
        for (i, weights) in before.iter().enumerate() {
            let mut now = [&rest[0]; T];
            for t in 0..T {
                now[t] = &x[t][i];
            }
            add_sixteen(simd, weights, now, register, &mut parts);
        }
        if let [weights] = last {
            let mut now = [&rest[0]; T];
            for t in 0..T {
                now[t] = &rest[t];
            }
            add_sixteen(simd, weights, now, register, &mut parts);
        }
        for t in 0..T {
            for r in 0..ROWS {
                simd.store_register(parts[t][r], &mut sums[t][r].0, register);
            }
        }
    }
}

/// Adds the products of sixteen columns, those that lie in one register.
#[inline(always)]
fn add_sixteen<S: Simd, const T: usize>(
    simd: S,
    weights: &Four,
    values: [&[f32; 16]; T],
    register: usize,
    parts: &mut [[S::Register; ROWS]; T],
) {
    // The values of all tokens and the weights of one row: with the sums, these just fit into 16 registers.
    let mut x = [parts[0][0]; T];
    for t in 0..T {
        x[t] = simd.load_register(values[t], register);
    }
    for r in 0..ROWS {
        let w = simd.load_register(&weights[r].0, register);
        for t in 0..T {
            parts[t][r] = simd.mul_add_register(w, x[t], parts[t][r]);
        }
    }
}

/// Sixteen numbers of a row, the `index`-th; zeros behind its end.
#[inline(always)]
fn sixteen<S: Simd, N: Numbers>(simd: S, numbers: N, row: &[u8], index: usize) -> S::F {
    let bytes = &row[index * 16 * N::BYTES..];
    if bytes.len() >= 16 * N::BYTES {
        return numbers.load(simd, &bytes[..16 * N::BYTES]);
    }
    let mut rest = [0; 64];
    rest[..bytes.len()].copy_from_slice(bytes);
    numbers.load(simd, &rest[..16 * N::BYTES])
}

/// Tokens so few that weights are used as they come from memory.
#[inline(always)]
fn few<S: Simd, N: Numbers>(simd: S, mut share: Share<'_, '_>, numbers: N) {
    let columns = share.out.columns();
    let tokens = share.out.rows().end;
    let mut row = columns.start;
    while row < columns.end {
        let place = (row, row - columns.start);
        let mut token = 0;
        let four = row + ROWS <= columns.end;
        while token < tokens {
            token += match (four, tokens - token) {
                (true, 2..) => block::<S, N, ROWS, 2>(simd, &mut share, numbers, place, token),
                (true, _) => block::<S, N, ROWS, 1>(simd, &mut share, numbers, place, token),
                (false, _) => block::<S, N, 1, 1>(simd, &mut share, numbers, place, token),
            };
        }
        row += if four { ROWS } else { 1 };
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
    // What lies in place of these rows when they are done, and a page more: rows are too short, and too many at once, for a
    // processor to look ahead by itself. Of 576 columns they are read twice as fast.
    let ahead = (row + R) * cols * N::BYTES + PAGE;
    let mut sums = [[simd.splat(0.0); T]; R];
    for i in 0..whole {
        let sixteens = i * R * 16 * N::BYTES..(i + 1) * R * 16 * N::BYTES;
        for line in sixteens.step_by(64) {
            simd.prefetch(share.weights.bytes(), ahead + line);
        }
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
