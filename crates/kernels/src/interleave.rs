//! Sixteen rows of blocks interleaved, so that lanes are loads: how quantised weights lie in memory.
//!
//! A *strip* is sixteen rows. Blocks are cut into units of four bytes, and unit `u` of a block, of all sixteen rows, is one
//! line of 64 bytes: lane r is row r. Where four does not divide a block, its scale in half precision, first or last, is in
//! no unit: the scales of two blocks are a line before the units of both. So a strip is read from end to end, which is what
//! memory is fast at, and takes as many bytes as its rows did, but for padding to whole lines. Kernels read nothing else; a
//! matrix in rows is interleaved on the way, or once for good.

use crate::format::Format;
use crate::format::block::Block;
use crate::simd::{Body, Rows, Simd};

/// Lanes, and rows of a strip.
pub(crate) const LANES: usize = 16;

/// How many lines ahead memory is asked: a page of the machine, at whose end it stops to guess what comes.
const AHEAD: usize = 64;

/// Bytes of the largest block that is interleaved: of Q8_K.
pub(crate) const LARGEST_BLOCK: usize = 292;

/// Where the parts of a block go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of a block.
    block: usize,
    /// Where its units begin: behind the scale, if that comes first.
    units_at: usize,
    /// Where the scale is that no unit holds.
    half_at: Option<usize>,
    parts: Parts,
    order: Order,
}

/// In which order the units of a block have their lines: that in which kernels read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As in the block.
    Kept,
    /// Of Q5_K: d, dmin and scales; then what four columns of all groups are made of, eight times: a unit of fifth bits, four of
    /// lower bits.
    FiveBits,
    /// Of Q6_K: the scales; then, for each half of the block, what four columns of its four groups are made of, eight times:
    /// two units of lower bits, one of upper bits.
    SixBits,
}

impl Order {
    /// The line of a unit, counted from the block's first.
    #[inline(always)]
    const fn line_of(self, unit: usize) -> usize {
        match (self, unit) {
            (Order::Kept, _) => unit,
            (Order::FiveBits, 0..4) => unit,
            (Order::FiveBits, 4..12) => 4 + (unit - 4) * 5,
            (Order::FiveBits, _) => 4 + (unit - 12) % 8 * 5 + 1 + (unit - 12) / 8,
            (Order::SixBits, 0..32) => 4 + unit / 16 * 24 + unit % 8 * 3 + unit / 8 % 2,
            (Order::SixBits, 32..48) => 4 + (unit - 32) / 8 * 24 + unit % 8 * 3 + 2,
            (Order::SixBits, _) => unit - 48,
        }
    }
}

/// What lines a block becomes: of a format that a kernel is compiled for, a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    units: usize,
    halves: bool,
}

impl Parts {
    /// Of a block of so many bytes.
    const fn of(block_bytes: usize) -> Parts {
        Parts { units: block_bytes / 4, halves: !block_bytes.is_multiple_of(4) }
    }

    /// Lines of two blocks.
    const fn pair(self) -> usize {
        2 * self.units + self.halves as usize
    }

    /// Lines of so many blocks.
    const fn lines(self, blocks: usize) -> usize {
        blocks * self.units + if self.halves { blocks.div_ceil(2) } else { 0 }
    }

    /// The first line of a block's units.
    #[inline(always)]
    const fn units_of(self, block: usize) -> usize {
        block / 2 * self.pair() + self.halves as usize + block % 2 * self.units
    }

    /// The line with a block's scales.
    #[inline(always)]
    const fn halves_of(self, block: usize) -> usize {
        block / 2 * self.pair()
    }
}

impl Layout {
    /// Of a quantised format; `None` for floats, which stay in rows.
    fn of(format: Format) -> Option<Layout> {
        if !format.is_quantised() {
            return None;
        }
        let block = format.block_bytes();
        let parts = Parts::of(block);
        let half_at = match format {
            _ if !parts.halves => None,
            Format::Q3K | Format::Q6K => Some(block - 2),
            _ => Some(0),
        };
        let units_at = if half_at == Some(0) { 2 } else { 0 };
        let order = match format {
            Format::Q5K => Order::FiveBits,
            Format::Q6K => Order::SixBits,
            _ => Order::Kept,
        };
        Some(Layout { block, units_at, half_at, parts, order })
    }
}

/// What the strips of a matrix have in common, worked out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strips {
    pub(crate) layout: Layout,
    /// Bytes of a strip, a multiple of 64.
    pub(crate) bytes: usize,
    /// Blocks of a row.
    blocks: usize,
}

impl Strips {
    /// Of rows of `row_bytes`; `None` for floats.
    pub(crate) fn of(format: Format, row_bytes: usize) -> Option<Strips> {
        let layout = Layout::of(format)?;
        let blocks = row_bytes / layout.block;
        Some(Strips { layout, bytes: 64 * layout.parts.lines(blocks), blocks })
    }
}

/// A strip to read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interleaved<'a> {
    layout: Layout,
    lines: &'a [[u8; 64]],
    blocks: usize,
}

impl<'a> Interleaved<'a> {
    /// `strip`: what [`Interleave`] wrote of sixteen rows.
    #[inline(always)]
    pub(crate) fn new(strips: Strips, strip: &'a [u8]) -> Interleaved<'a> {
        Interleaved { layout: strips.layout, lines: strip.as_chunks().0, blocks: strips.blocks }
    }

    /// Blocks of a row.
    #[inline(always)]
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// `N` lines of a block, from `line` on: its units in the order of the layout.
    #[inline(always)]
    pub(crate) fn units<B: Block, const N: usize>(&self, block: usize, line: usize) -> &'a [[u8; 64]; N] {
        let from = const { Parts::of(B::BYTES) }.units_of(block) + line;
        self.lines[from..from + N].as_chunks().0.first().expect("N lines")
    }

    /// The scales of a block.
    #[inline(always)]
    pub(crate) fn halves<B: Block>(&self, block: usize) -> &'a [u8; 32] {
        &self.lines[const { Parts::of(B::BYTES) }.halves_of(block)].as_chunks().0[block % 2]
    }

    /// Asks memory for as many lines as a block has, [`AHEAD`] behind it: in this strip or the next.
    #[inline(always)]
    pub(crate) fn ask_ahead<S: Simd>(&self, simd: S, block: usize) {
        for line in self.layout.parts.units_of(block)..self.layout.parts.units_of(block + 1) {
            simd.prefetch(self.lines, line + AHEAD);
        }
    }

    /// One row's block, as in a file.
    #[inline(always)]
    pub(crate) fn block(&self, block: usize, row: usize, out: &mut [u8]) {
        let Layout { units_at, half_at, parts, order, .. } = self.layout;
        let lines = &self.lines[parts.units_of(block)..][..parts.units];
        for (unit, bytes) in out[units_at..].as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *bytes = lines[order.line_of(unit)].as_chunks().0[row];
        }
        if let Some(at) = half_at {
            let halves = &self.lines[parts.halves_of(block)][block % 2 * 32..];
            out[at..at + 2].copy_from_slice(&halves[2 * row..2 * row + 2]);
        }
    }
}

/// Interleaves sixteen rows: `out`: [`Layout::strip_bytes`].
pub(crate) struct Interleave<'a> {
    pub(crate) layout: Layout,
    pub(crate) rows: Rows<'a>,
    pub(crate) out: &'a mut [u8],
}

impl Body for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Interleave { layout: Layout { block, units_at, half_at, parts, order }, rows, out } = self;
        let lines = out.as_chunks_mut::<64>().0;
        for at in 0..rows.stride() / block {
            let from = at * block + units_at;
            let behind = parts.units_of(at);
            for first in (0..parts.units).step_by(4) {
                // The last four overlap those before where four does not divide the units.
                let first = first.min(parts.units - 4);
                let four = simd.transpose(&rows, from + 4 * first);
                for (unit, lanes) in (first..).zip(four) {
                    simd.store_i(lanes, &mut lines[behind + order.line_of(unit)]);
                }
            }
            let Some(half_at) = half_at else { continue };
            let halves = &mut lines[parts.halves_of(at)].as_chunks_mut::<32>().0[at % 2];
            for (row, half) in halves.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let from = row * rows.stride() + at * block + half_at;
                half.copy_from_slice(&rows.bytes()[from..from + 2]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn rows_come_back_as_they_were() {
        for format in Format::ALL {
            let row_bytes = 3 * format.block_bytes();
            let Some(strips) = Strips::of(format, row_bytes) else { continue };
            let layout = strips.layout;
            let bytes: Vec<u8> = (0..16 * row_bytes).map(|i| (i * 31 % 251) as u8).collect();
            for isa in Isa::all_here() {
                let mut strip = vec![0; strips.bytes];
                isa.run(Interleave { layout, rows: Rows::new(&bytes), out: &mut strip });
                let strip = Interleaved::new(strips, &strip);
                for (index, expected) in bytes.chunks_exact(format.block_bytes()).enumerate() {
                    let mut out = [0; LARGEST_BLOCK];
                    let out = &mut out[..expected.len()];
                    strip.block(index % 3, index / 3, out);
                    assert_eq!(out, expected, "{} {isa}", format.name());
                }
            }
        }
    }
}
