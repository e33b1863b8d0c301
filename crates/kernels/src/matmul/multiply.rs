//! The integer kernel: sixteen rows of weights (lanes) times a tile of tokens, one order of arithmetic for all formats.
//!
//! Per 32 columns: `part = scale · Σ codes − minimum · Σ activations` (for each half, if groups are short), and
//! `total += d · part`, each operation rounded once: [`block::dot`](crate::format::block::dot), sixteen times at once. That
//! weights come from a panel or straight from a strip, and how many tokens go together, changes no bit.

use std::marker::PhantomData;

use crate::interleave::{Interleaved, Parts};
use crate::matmul::packed::Tile;
use crate::simd::{Body, Simd};
use crate::strip::{Group, Kind, Strip};

/// Bytes in line with what a register loads.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

/// Floats in line with what a register loads.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Lanes(pub(crate) [f32; 16]);

/// Sixteen rows read out of their blocks, for use with many tokens.
#[derive(Default)]
pub(crate) struct Panel {
    /// `[cols / 4]`
    codes: Vec<Line>,
    /// `[cols / 32]`, or `[cols / 16]` for short groups.
    scales: Vec<Lanes>,
    /// Like `scales`, for formats that have minima.
    minima: Vec<Lanes>,
}

impl Panel {
    /// Reads sixteen rows.
    #[inline(always)]
    pub(crate) fn fill<S: Simd, F: Strip<S>>(&mut self, simd: S, strip: &Interleaved<'_>) {
        let groups = strip.blocks() * (F::LEN / 32);
        let halves = if F::Kind::SHORT { 2 } else { 1 };
        self.codes.resize(groups * 8, Line([0; 64]));
        self.scales.resize(groups * halves, Lanes([0.0; 16]));
        self.minima.resize(if F::Kind::MINIMA { groups * halves } else { 0 }, Lanes([0.0; 16]));
        let per_block = F::LEN / 32;
        for at in 0..strip.blocks() {
            let mut block = F::block(simd, strip, at);
            for index in 0..per_block {
                let group = F::group(simd, strip, at, &mut block, index);
                let place = at * per_block + index;
                for (to, codes) in self.codes[place * 8..place * 8 + 8].iter_mut().zip(group.codes) {
                    simd.store_i(codes, &mut to.0);
                }
                for half in 0..halves {
                    simd.store(group.scales[half], &mut self.scales[place * halves + half].0);
                    if F::Kind::MINIMA {
                        simd.store(group.minima[half], &mut self.minima[place * halves + half].0);
                    }
                }
            }
        }
    }
}

/// What the tokens of a tile bring along for a format.
struct Activations<'a, const T: usize> {
    codes: &'a [[[i32; T]; 8]],
    scales: &'a [[f32; T]],
    starts: &'a [[i32; T]],
    sums: &'a [[f32; T]],
}

impl<'a, const T: usize> Activations<'a, T> {
    #[inline(always)]
    fn of<K: Kind>(tile: &'a Tile, offset: i32) -> Activations<'a, T> {
        assert_eq!(tile.tokens, T, "the tile is as wide as its kernel");
        Activations {
            codes: tile.codes.as_chunks().0.as_chunks().0,
            scales: tile.scales.as_chunks().0,
            starts: if K::MINIMA { &[] } else { tile.starts(K::SHORT, offset).as_chunks().0 },
            sums: if K::MINIMA { tile.float_sums(K::SHORT).as_chunks().0 } else { &[] },
        }
    }
}

/// Adds 32 columns to the totals. `codes(j)`: four columns of sixteen rows.
#[inline(always)]
fn add_group<S: Simd, K: Kind, const T: usize>(
    simd: S,
    totals: &mut [S::F; T],
    codes: impl Fn(usize) -> S::I,
    scales: [S::F; 2],
    minima: [S::F; 2],
    x: &Activations<'_, T>,
    place: usize,
) {
    let halves = if K::SHORT { 2 } else { 1 };
    let x_codes = &x.codes[place];
    let mut parts = [simd.splat(0.0); T];
    for half in 0..halves {
        let mut sums = [simd.splat_i(0); T];
        if !K::MINIMA {
            let starts = &x.starts[place * halves + half];
            for t in 0..T {
                sums[t] = simd.splat_i(starts[t]);
            }
        }
        for pair in 0..4 / halves {
            let j = half * 4 + 2 * pair;
            let (a, b) = (codes(j), codes(j + 1));
            for t in 0..T {
                let (x, y) = (x_codes[j][t], x_codes[j + 1][t]);
                sums[t] = if K::WIDE {
                    simd.dot8::<true>(sums[t], a, b, x, y)
                } else {
                    simd.dot8::<false>(sums[t], a, b, x, y)
                };
            }
        }
        for t in 0..T {
            let product = simd.mul(scales[half], simd.to_f(sums[t]));
            parts[t] = if half == 0 { product } else { simd.add(parts[t], product) };
        }
        if K::MINIMA {
            let sums = &x.sums[place * halves + half];
            for t in 0..T {
                parts[t] = simd.sub(parts[t], simd.mul(minima[half], simd.splat(sums[t])));
            }
        }
    }
    let d = &x.scales[place];
    for t in 0..T {
        totals[t] = simd.add(totals[t], simd.mul(simd.splat(d[t]), parts[t]));
    }
}

/// Sixteen rows of a panel times `T` tokens: `[token][row]`.
pub(crate) struct ByPanel<'a, K, const T: usize> {
    pub(crate) panel: &'a Panel,
    pub(crate) tile: &'a Tile,
    /// [`Strip::OFFSET`] of the panel's format.
    pub(crate) offset: i32,
    pub(crate) kind: PhantomData<K>,
}

impl<K: Kind, const T: usize> Body for ByPanel<'_, K, T> {
    type Output = [[f32; 16]; T];

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> [[f32; 16]; T] {
        let ByPanel { panel, tile, offset, .. } = self;
        let x = Activations::<T>::of::<K>(tile, offset);
        let mut totals = [simd.splat(0.0); T];
        for (place, codes) in panel.codes.as_chunks::<8>().0.iter().enumerate() {
            let scales = of_halves::<S, K>(simd, &panel.scales, place);
            let minima = if K::MINIMA { of_halves::<S, K>(simd, &panel.minima, place) } else { scales };
            add_group::<S, K, T>(simd, &mut totals, |j| simd.load_i(&codes[j].0), scales, minima, &x, place);
        }
        stored(simd, totals)
    }
}

/// What each half of 32 columns has, or both have.
#[inline(always)]
fn of_halves<S: Simd, K: Kind>(simd: S, all: &[Lanes], place: usize) -> [S::F; 2] {
    let halves = if K::SHORT { 2 } else { 1 };
    let all = &all[place * halves..][..halves];
    [simd.load(&all[0].0), simd.load(&all[halves - 1].0)]
}

/// One block of sixteen rows, on its way into the totals.
struct Add<'a, S: Simd, F: Strip<S>, const T: usize> {
    simd: S,
    strip: &'a Interleaved<'a>,
    at: usize,
    shared: &'a mut F::Block,
    totals: &'a mut [S::F; T],
    x: &'a Activations<'a, T>,
}

impl<S: Simd, F: Strip<S>, const T: usize> Add<'_, S, F, T> {
    #[inline(always)]
    fn group(&mut self, index: usize, first: usize) {
        let Group { codes, scales, minima } = F::group(self.simd, self.strip, self.at, self.shared, index);
        let place = first + index;
        add_group::<S, F::Kind, T>(self.simd, self.totals, |j| codes[j], scales, minima, self.x, place);
    }
}

/// Lines between what is read and what is asked for: beyond the page at hand, where a processor stops looking ahead by
/// itself.
const AHEAD: usize = 512;

/// A strip times `T` tokens: `[token][row]`.
#[inline(always)]
pub(crate) fn by_strip<S: Simd, F: Strip<S>, const T: usize>(
    simd: S,
    strip: &Interleaved<'_>,
    tile: &Tile,
) -> [[f32; 16]; T] {
    let x = Activations::<T>::of::<F::Kind>(tile, F::OFFSET);
    let mut totals = [simd.splat(0.0); T];
    let per_block = F::LEN / 32;
    let parts = const { Parts::of(F::BYTES) };
    for at in 0..strip.blocks() {
        if F::LEN == 256 {
            // The work on such a block is long enough for the processor to lose track of what is read next; short blocks
            // are read faster without being asked for.
            for line in parts.units_of(at)..parts.units_of(at + 1) {
                simd.prefetch(strip.lines(), line + AHEAD);
            }
        }
        let mut shared = F::block(simd, strip, at);
        let mut add = Add::<S, F, T> { simd, strip, at, shared: &mut shared, totals: &mut totals, x: &x };
        let first = at * per_block;
        if F::LEN == 256 && T == 1 {
            // Written out: with a constant index what a block shares stays in registers (Q6_K: three times as fast). Only for
            // one token, because it takes the compiler as many times as long.
            add.group(0, first);
            add.group(1, first);
            add.group(2, first);
            add.group(3, first);
            add.group(4, first);
            add.group(5, first);
            add.group(6, first);
            add.group(7, first);
        } else {
            for index in 0..per_block {
                add.group(index, first);
            }
        }
    }
    stored(simd, totals)
}

#[inline(always)]
fn stored<S: Simd, const T: usize>(simd: S, totals: [S::F; T]) -> [[f32; 16]; T] {
    let mut out = [[0.0; 16]; T];
    for t in 0..T {
        simd.store(totals[t], &mut out[t]);
    }
    out
}
