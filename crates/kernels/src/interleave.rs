//! Sixteen rows of blocks interleaved, so that lanes are loads: how quantised weights lie in memory.
//!
//! A *strip* is sixteen rows. Blocks are cut into units of four bytes, and unit `u` of a block, of all sixteen rows, is one
//! line of 64 bytes: lane r is row r. Where four does not divide a block, its scale in half precision, first or last, stands
//! outside of the units: sixteen to a block, behind all lines of the strip. It takes as many bytes as the rows did, but for
//! padding to whole lines. Kernels read nothing else; a matrix in rows is interleaved on the way, or once for good.

use crate::format::Format;
use crate::simd::{Body, Rows, Simd};

/// Lanes, and rows of a strip.
pub(crate) const LANES: usize = 16;

/// Bytes of the largest block that is interleaved: of Q8_K.
pub(crate) const LARGEST_BLOCK: usize = 292;

/// Where the parts of a block go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of a block.
    block: usize,
    /// Where its units begin: behind the scale, if that comes first.
    units_at: usize,
    /// How many units it has.
    units: usize,
    /// Where the scale is that no unit holds.
    half_at: Option<usize>,
}

impl Layout {
    /// Of a quantised format; `None` for floats, which stay in rows.
    pub(crate) fn of(format: Format) -> Option<Layout> {
        if !format.is_quantised() {
            return None;
        }
        let block = format.block_bytes();
        let half_at = match (block % 4, format) {
            (0, _) => None,
            (_, Format::Q3K | Format::Q6K) => Some(block - 2),
            _ => Some(0),
        };
        let units_at = if half_at == Some(0) { 2 } else { 0 };
        Some(Layout { block, units_at, units: block / 4, half_at })
    }

    /// Bytes of a strip of rows of `row_bytes`, a multiple of 64.
    pub(crate) fn strip_bytes(&self, row_bytes: usize) -> usize {
        (LANES * row_bytes).next_multiple_of(64)
    }
}

/// A strip to read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interleaved<'a> {
    layout: Layout,
    /// `[blocks][units]`
    lines: &'a [[u8; 64]],
    /// `[blocks]`, or nothing.
    halves: &'a [[u8; 32]],
    blocks: usize,
}

impl<'a> Interleaved<'a> {
    /// `strip`: what [`interleave`] wrote of sixteen rows of `row_bytes`.
    #[inline(always)]
    pub(crate) fn new(layout: Layout, strip: &'a [u8], row_bytes: usize) -> Interleaved<'a> {
        let blocks = row_bytes / layout.block;
        let (lines, halves) = strip.split_at(blocks * layout.units * 64);
        let lines = lines.as_chunks().0;
        let halves = &halves.as_chunks().0[..if layout.half_at.is_some() { blocks } else { 0 }];
        Interleaved { layout, lines, halves, blocks }
    }

    /// Blocks of a row.
    #[inline(always)]
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// `N` units of a block, from `unit` on; the number of units of a block is the caller's to know, as a constant.
    #[inline(always)]
    pub(crate) fn units<const N: usize>(&self, units: usize, block: usize, unit: usize) -> &'a [[u8; 64]; N] {
        let from = block * units + unit;
        self.lines[from..from + N].as_chunks().0.first().expect("N lines")
    }

    /// The scales of a block.
    #[inline(always)]
    pub(crate) fn halves(&self, block: usize) -> &'a [u8; 32] {
        &self.halves[block]
    }

    /// The lines, to ask for what comes next.
    #[inline(always)]
    pub(crate) fn lines(&self) -> &'a [[u8; 64]] {
        self.lines
    }

    /// One row's block, as in a file.
    #[inline(always)]
    pub(crate) fn block(&self, block: usize, row: usize, out: &mut [u8]) {
        let Layout { units_at, units, half_at, .. } = self.layout;
        let lines = &self.lines[block * units..][..units];
        for (out, line) in out[units_at..].as_chunks_mut::<4>().0.iter_mut().zip(lines) {
            out.copy_from_slice(&line[4 * row..4 * row + 4]);
        }
        if let Some(at) = half_at {
            out[at..at + 2].copy_from_slice(&self.halves[block][2 * row..2 * row + 2]);
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
        let Interleave { layout: Layout { block, units_at, units, half_at }, rows, out } = self;
        let blocks = rows.stride() / block;
        let (lines, halves) = out.split_at_mut(blocks * units * 64);
        for (at, lines) in lines.as_chunks_mut::<64>().0.chunks_exact_mut(units).enumerate() {
            let from = at * block + units_at;
            let mut unit = 0;
            while unit < units {
                // The last four overlap those before where four does not divide the units.
                unit = unit.min(units - 4);
                let four = simd.transpose(&rows, from + 4 * unit);
                for (line, lanes) in lines[unit..unit + 4].iter_mut().zip(four) {
                    simd.store_i(lanes, line);
                }
                unit += 4;
            }
        }
        let Some(half_at) = half_at else { return };
        for (at, halves) in halves.as_chunks_mut::<32>().0.iter_mut().take(blocks).enumerate() {
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
            let Some(layout) = Layout::of(format) else { continue };
            let row_bytes = 3 * format.block_bytes();
            let bytes: Vec<u8> = (0..16 * row_bytes).map(|i| (i * 31 % 251) as u8).collect();
            for isa in Isa::all_here() {
                let mut strip = vec![0; layout.strip_bytes(row_bytes)];
                isa.run(Interleave { layout, rows: Rows::new(&bytes), out: &mut strip });
                let strip = Interleaved::new(layout, &strip, row_bytes);
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
