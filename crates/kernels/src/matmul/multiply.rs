//! The integer kernel: sixteen rows of weights (lanes) times a tile of tokens, one order of arithmetic for all formats.
//!
//! Per 32 columns: `part = scale · Σ codes − minimum · Σ activations` (for each half, if groups are short), and
//! `total += d · part`, each operation rounded once: [`block::dot`](crate::format::block::dot), sixteen times at once. That
//! weights come from a panel or straight from a strip, and how many tokens go together, changes no bit.

use std::marker::PhantomData;

use crate::interleave::Interleaved;
use crate::matmul::packed::Tile;
use crate::simd::{Body, Simd};
use crate::strip::{Kind, Place, Scales, Strip};

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
        for at in 0..strip.blocks() {
            strip.ask_ahead(simd, at);
            let block = F::block(simd, strip, at);
            for index in 0..F::LEN / 32 {
                let group = Place { bundle: index / F::BUNDLE, of: index % F::BUNDLE };
                let place = at * (F::LEN / 32) + index;
                for (pair, to) in self.codes[place * 8..][..8].as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    let [a, b] = simd.woven(F::eight(simd, strip, (at, &block), group, pair));
                    simd.store_i(a, &mut to[0].0);
                    simd.store_i(b, &mut to[1].0);
                }
                let Scales { scales, minima } = F::scales(simd, strip, (at, &block), group);
                for half in 0..halves {
                    simd.store(scales[half], &mut self.scales[place * halves + half].0);
                    if F::Kind::MINIMA {
                        simd.store(minima[half], &mut self.minima[place * halves + half].0);
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

/// The most groups of a bundle.
const LARGEST_BUNDLE: usize = 8;

/// Where the weights of a bundle of groups come from.
trait Bundle<S: Simd> {
    /// How many groups it has: see [`Strip::BUNDLE`].
    const GROUPS: usize;
    /// Whether weights are [woven](Simd::woven), and two tokens are multiplied at once.
    const WOVEN: bool;

    /// See [`Strip::eight`].
    fn eight(&self, simd: S, group: usize, pair: usize) -> [S::I; 2];

    /// See [`Strip::scales`].
    fn scales(&self, simd: S, group: usize) -> Scales<S>;
}

/// Adds the groups of a bundle to the totals, 32 columns each. `first`: which of all groups of a row is the bundle's first.
#[inline(always)]
fn add<S: Simd, K: Kind, B: Bundle<S>, const T: usize>(
    simd: S,
    totals: &mut [S::F; T],
    bundle: &B,
    x: &Activations<'_, T>,
    first: usize,
) {
    let halves = if K::SHORT { 2 } else { 1 };
    let mut parts = [[simd.splat(0.0); T]; LARGEST_BUNDLE];
    for half in 0..halves {
        let mut sums = [[simd.splat_i(0); T]; LARGEST_BUNDLE];
        if !K::MINIMA {
            for (group, sums) in sums.iter_mut().enumerate().take(B::GROUPS) {
                let starts = &x.starts[(first + group) * halves + half];
                for t in 0..T {
                    sums[t] = simd.splat_i(starts[t]);
                }
            }
        }
        if B::WOVEN {
            for pair in 0..T / 2 {
                let (t, u) = (2 * pair, 2 * pair + 1);
                [sums[0][t], sums[0][u]] = simd.woven([sums[0][t], sums[0][u]]);
            }
        }
        // Pair by pair, not group by group: so the bytes that groups share are read once, one after the other.
        for pair in half * (4 / halves)..(half + 1) * (4 / halves) {
            for (group, sums) in sums.iter_mut().enumerate().take(B::GROUPS) {
                let [a, b] = bundle.eight(simd, group, pair);
                let codes = &x.codes[first + group];
                let (x, y) = (&codes[2 * pair], &codes[2 * pair + 1]);
                if B::WOVEN {
                    add_woven::<S, K, T>(simd, sums, [a, b], x, y);
                    continue;
                }
                for t in 0..T {
                    sums[t] = if K::WIDE {
                        simd.dot8::<true>(sums[t], a, b, x[t], y[t])
                    } else {
                        simd.dot8::<false>(sums[t], a, b, x[t], y[t])
                    };
                }
            }
        }
        if B::WOVEN {
            for pair in 0..T / 2 {
                let (t, u) = (2 * pair, 2 * pair + 1);
                [sums[0][t], sums[0][u]] = simd.unwoven([sums[0][t], sums[0][u]]);
            }
        }
        for (group, (parts, codes)) in parts.iter_mut().zip(sums).enumerate().take(B::GROUPS) {
            let Scales { scales, minima } = bundle.scales(simd, group);
            for t in 0..T {
                let product = simd.mul(scales[half], simd.to_f(codes[t]));
                parts[t] = if half == 0 { product } else { simd.add(parts[t], product) };
            }
            if K::MINIMA {
                let sums = &x.sums[(first + group) * halves + half];
                for t in 0..T {
                    parts[t] = simd.sub(parts[t], simd.mul(minima[half], simd.splat(sums[t])));
                }
            }
        }
    }
    for (group, parts) in parts.into_iter().enumerate().take(B::GROUPS) {
        let d = &x.scales[first + group];
        for t in 0..T {
            totals[t] = simd.add(totals[t], simd.mul(simd.splat(d[t]), parts[t]));
        }
    }
}

/// Adds eight columns to the sums of each token, which are woven in pairs as the weights are; `x` and `y`: four codes of each
/// token, and the next four.
#[inline(always)]
fn add_woven<S: Simd, K: Kind, const T: usize>(
    simd: S,
    sums: &mut [S::I; T],
    weights: [S::I; 2],
    x: &[i32; T],
    y: &[i32; T],
) {
    for pair in 0..T / 2 {
        let (t, u) = (2 * pair, 2 * pair + 1);
        let (two, x, y) = ([sums[t], sums[u]], &[x[t], x[u]], &[y[t], y[u]]);
        [sums[t], sums[u]] = if K::WIDE {
            simd.dot8_two::<true>(two, weights, x, y)
        } else {
            simd.dot8_two::<false>(two, weights, x, y)
        };
    }
    if T % 2 == 1 {
        let ([a, b], last) = (simd.unwoven(weights), T - 1);
        sums[last] = if K::WIDE {
            simd.dot8::<true>(sums[last], a, b, x[last], y[last])
        } else {
            simd.dot8::<false>(sums[last], a, b, x[last], y[last])
        };
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
            let group = OfPanel::<K> { codes, panel, place, kind: PhantomData };
            add::<S, K, _, T>(simd, &mut totals, &group, &x, place);
        }
        stored(simd, totals)
    }
}

/// A group of a panel, by itself.
struct OfPanel<'a, K> {
    codes: &'a [Line; 8],
    panel: &'a Panel,
    place: usize,
    kind: PhantomData<K>,
}

impl<S: Simd, K: Kind> Bundle<S> for OfPanel<'_, K> {
    const GROUPS: usize = 1;
    const WOVEN: bool = S::PAIRS;

    #[inline(always)]
    fn eight(&self, simd: S, _: usize, pair: usize) -> [S::I; 2] {
        [simd.load_i(&self.codes[2 * pair].0), simd.load_i(&self.codes[2 * pair + 1].0)]
    }

    #[inline(always)]
    fn scales(&self, simd: S, _: usize) -> Scales<S> {
        let scales = of_halves::<S, K>(simd, &self.panel.scales, self.place);
        let minima = if K::MINIMA { of_halves::<S, K>(simd, &self.panel.minima, self.place) } else { scales };
        Scales { scales, minima }
    }
}

/// What each half of 32 columns has, or both have.
#[inline(always)]
fn of_halves<S: Simd, K: Kind>(simd: S, all: &[Lanes], place: usize) -> [S::F; 2] {
    let halves = if K::SHORT { 2 } else { 1 };
    let all = &all[place * halves..][..halves];
    [simd.load(&all[0].0), simd.load(&all[halves - 1].0)]
}

/// A bundle as it lies in a strip.
struct OfStrip<'a, S: Simd, F: Strip<S>> {
    strip: &'a Interleaved<'a>,
    at: usize,
    block: &'a F::Block,
    bundle: usize,
}

impl<S: Simd, F: Strip<S>> Bundle<S> for OfStrip<'_, S, F> {
    const GROUPS: usize = F::BUNDLE;
    const WOVEN: bool = false;

    #[inline(always)]
    fn eight(&self, simd: S, of: usize, pair: usize) -> [S::I; 2] {
        F::eight(simd, self.strip, (self.at, self.block), Place { bundle: self.bundle, of }, pair)
    }

    #[inline(always)]
    fn scales(&self, simd: S, of: usize) -> Scales<S> {
        F::scales(simd, self.strip, (self.at, self.block), Place { bundle: self.bundle, of })
    }
}

/// A strip times `T` tokens: `[token][row]`.
#[inline(always)]
pub(crate) fn by_strip<S: Simd, F: Strip<S>, const T: usize>(
    simd: S,
    strip: &Interleaved<'_>,
    tile: &Tile,
) -> [[f32; 16]; T] {
    let x = Activations::<T>::of::<F::Kind>(tile, F::OFFSET);
    let mut totals = [simd.splat(0.0); T];
    for at in 0..strip.blocks() {
        let block = F::block(simd, strip, at);
        for bundle in 0..F::LEN / 32 / F::BUNDLE {
            let groups = OfStrip::<S, F> { strip, at, block: &block, bundle };
            add::<S, F::Kind, _, T>(simd, &mut totals, &groups, &x, at * (F::LEN / 32) + bundle * F::BUNDLE);
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
