//! Quantised weights times activations: which rows and tokens go together, on which thread.
//!
//! Few tokens: strips are multiplied straight from memory, which is read once and decides the speed. Many tokens: strips of
//! sixteen rows are read out into panels that stay in the cache while all tokens pass by.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::compute::Compute;
use crate::cpu::Isa;
use crate::format::Format;
use crate::format::iq4_nl::IQ4NL;
use crate::format::iq4_xs::IQ4XS;
use crate::format::q2_k::Q2K;
use crate::format::q3_k::Q3K;
use crate::format::q4_0::Q4_0;
use crate::format::q4_1::Q4_1;
use crate::format::q4_k::Q4K;
use crate::format::q5_0::Q5_0;
use crate::format::q5_1::Q5_1;
use crate::format::q5_k::Q5K;
use crate::format::q6_k::Q6K;
use crate::format::q8_0::Q8_0;
use crate::format::q8_k::Q8K;
use crate::matmul::multiply::{ByPanel, Panel, by_strip};
use crate::matmul::packed::{Packed, Tile as Tokens};
use crate::matrix::Matrix;
use crate::pool::tiles::{Grid, Tile};
use crate::simd::{Body, Simd};
use crate::strip::by_block::ByBlock;
use crate::strip::{Kind, Strip};

/// Up to so many tokens are multiplied straight from memory.
pub(crate) const FEW: usize = 4;

/// Bytes of weights that a thread takes at a time with few tokens: some microseconds of reading, so that claiming is cheap
/// and a core that is lost keeps little back.
const SHARE_BYTES: usize = 1 << 18;

/// Bytes of panels at a time with many tokens: a part of the second cache, beside the tokens that pass by.
const PANEL_BYTES: usize = 1 << 18;

thread_local! {
    /// Panels that a thread keeps from call to call.
    static PANELS: RefCell<Vec<Panel>> = const { RefCell::new(Vec::new()) };
    /// Room to interleave a strip in.
    static STRIP: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Each `out`: `[tokens, rows]` of its matrix. The strips of all matrices are shared out together.
pub(crate) fn matmul(
    compute: &Compute,
    packed: &Packed,
    tokens: usize,
    products: &mut [(&Matrix, &mut [f32])],
) {
    let few = tokens <= FEW;
    let strips: usize = products.iter().map(|(weights, _)| weights.rows().div_ceil(16)).sum();
    // At least four pieces for each thread, if there are as many strips.
    let most = strips / (4 * compute.pool().threads());
    let mut matrices = Vec::with_capacity(products.len());
    let mut grids = Vec::with_capacity(products.len());
    for (weights, out) in products {
        compute.isa().run(Prepare { format: weights.format(), packed });
        let rows = weights.rows();
        let fit = match few {
            true => SHARE_BYTES / (16 * weights.bytes().len() / rows),
            false => PANEL_BYTES / (16 * weights.cols()),
        };
        matrices.push(*weights);
        grids.push(Grid { out, width: rows, row_step: tokens, column_step: 16 * fit.min(most).max(1) });
    }
    compute.pool().tiles(&mut grids, |index, tile| {
        let isa = compute.isa();
        isa.run(Share { isa, weights: matrices[index], packed, few, out: tile });
    });
}

/// Something to do with a format as strips.
trait WithStrip<S: Simd> {
    fn with<F: Strip<S>>(self, simd: S);
}

/// The one place where a format becomes a type of strips.
#[inline(always)]
fn with_strip<S: Simd, W: WithStrip<S>>(simd: S, format: Format, with: W) {
    match format {
        Format::Q4_0 => with.with::<Q4_0>(simd),
        Format::Q4_1 => with.with::<Q4_1>(simd),
        Format::Q5_0 => with.with::<Q5_0>(simd),
        Format::Q5_1 => with.with::<Q5_1>(simd),
        Format::Q8_0 => with.with::<Q8_0>(simd),
        Format::IQ4NL => with.with::<IQ4NL>(simd),
        Format::Q4K => with.with::<Q4K>(simd),
        Format::Q5K => with.with::<Q5K>(simd),
        Format::Q6K => with.with::<Q6K>(simd),
        Format::Q2K => with.with::<ByBlock<Q2K, true, true>>(simd),
        Format::Q3K => with.with::<ByBlock<Q3K, true, false>>(simd),
        Format::Q8K => with.with::<ByBlock<Q8K, false, false>>(simd),
        Format::IQ4XS => with.with::<ByBlock<IQ4XS, false, false>>(simd),
        Format::F32 | Format::F16 | Format::BF16 => panic!("{} is not multiplied in integers", format.name()),
    }
}

struct Prepare<'a> {
    format: Format,
    packed: &'a Packed,
}

impl Body for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        with_strip(simd, self.format, self);
    }
}

impl<S: Simd> WithStrip<S> for Prepare<'_> {
    #[inline(always)]
    fn with<F: Strip<S>>(self, _: S) {
        self.packed.prepare(F::Kind::SHORT, F::Kind::MINIMA, F::OFFSET);
    }
}

/// The rows that one thread has claimed.
struct Share<'a, 't> {
    isa: Isa,
    weights: &'a Matrix,
    packed: &'a Packed,
    few: bool,
    out: Tile<'t, f32>,
}

impl Body for Share<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        with_strip(simd, self.weights.format(), self);
    }
}

impl<S: Simd> WithStrip<S> for Share<'_, '_> {
    #[inline(always)]
    fn with<F: Strip<S>>(mut self, simd: S) {
        let columns = self.out.columns();
        let firsts = columns.clone().step_by(16);
        // Taken out and put back rather than borrowed: a closure would be compiled without this path's instructions.
        let mut spare = STRIP.take();
        if F::DIRECT && S::VECTORS && self.few {
            for first in firsts {
                let strip = self.weights.strip(self.isa, first, &mut spare);
                for tokens in &self.packed.tiles {
                    let out = (&mut self.out, first - columns.start, tokens.first);
                    match tokens.tokens {
                        1 => hand_out(out, by_strip::<S, F, 1>(simd, &strip, tokens)),
                        2 => hand_out(out, by_strip::<S, F, 2>(simd, &strip, tokens)),
                        _ => hand_out(out, by_strip::<S, F, 4>(simd, &strip, tokens)),
                    }
                }
            }
            STRIP.set(spare);
            return;
        }
        let mut panels = PANELS.take();
        panels.resize_with(panels.len().max(firsts.len()), Panel::default);
        for (first, panel) in firsts.clone().zip(panels.iter_mut()) {
            panel.fill::<S, F>(simd, &self.weights.strip(self.isa, first, &mut spare));
        }
        for tokens in &self.packed.tiles {
            for (first, panel) in firsts.clone().zip(panels.iter()) {
                let out = (&mut self.out, first - columns.start, tokens.first);
                match tokens.tokens {
                    1 => hand_out(out, panel_times::<S, F, 1>(simd, panel, tokens)),
                    2 => hand_out(out, panel_times::<S, F, 2>(simd, panel, tokens)),
                    4 => hand_out(out, panel_times::<S, F, 4>(simd, panel, tokens)),
                    8 if S::MANY_REGISTERS => hand_out(out, panel_times::<S, F, 8>(simd, panel, tokens)),
                    LARGEST if S::MANY_REGISTERS => {
                        hand_out(out, panel_times::<S, F, LARGEST>(simd, panel, tokens));
                    }
                    other => unreachable!("there are no tiles of {other} tokens"),
                }
            }
        }
        PANELS.set(panels);
        STRIP.set(spare);
    }
}

/// Entered anew, so that formats of one kind share what is compiled.
#[inline(always)]
fn panel_times<S: Simd, F: Strip<S>, const T: usize>(
    simd: S,
    panel: &Panel,
    tile: &Tokens,
) -> [[f32; 16]; T] {
    simd.enter(ByPanel::<F::Kind, T> { panel, tile, offset: F::OFFSET, kind: PhantomData })
}

/// The most tokens of a tile on a path with many registers: twelve sums and twelve totals, and room for the weights.
const LARGEST: usize = 12;

/// The most tokens of a tile on this path.
pub(crate) fn largest_tile(many_registers: bool) -> usize {
    if many_registers { LARGEST } else { FEW }
}

/// Sixteen results (fewer at the lower end of the matrix) of each token to their place: (tile, column in it, first token).
#[inline(always)]
fn hand_out<const T: usize>(
    (tile, column, first): (&mut Tile<'_, f32>, usize, usize),
    results: [[f32; 16]; T],
) {
    for (t, results) in results.iter().enumerate() {
        let row = &mut tile.row(first + t)[column..];
        match row.first_chunk_mut() {
            Some(sixteen) => *sixteen = *results,
            None => row.copy_from_slice(&results[..row.len()]),
        }
    }
}
