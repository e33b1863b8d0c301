//! Sixteen rows of a quantised matrix at once, 32 columns at a time: how each format's blocks become lanes.
//!
//! Stands between [`interleave`](crate::interleave) (how the bytes lie) and `multiply` (lanes in, sums out). A lane is a row. What
//! comes out is what [`Block::unpack`](crate::format::block::Block) says, so all formats and paths share one multiplication.

use crate::interleave::Interleaved;
use crate::simd::Simd;

pub(crate) mod by_block;
pub(crate) mod k_quants;
pub(crate) mod simple;

/// 32 columns of sixteen rows.
#[derive(Clone, Copy)]
pub(crate) struct Group<S: Simd> {
    /// Value j: columns `4 j … 4 j + 3`; each number plus [`Strip::OFFSET`], see [`Kind::WIDE`].
    pub(crate) codes: [S::I; 8],
    /// For each half of 16 columns, if the format's groups are that short; otherwise only the first counts.
    pub(crate) scales: [S::F; 2],
    /// Like `scales`; only for formats that have minima.
    pub(crate) minima: [S::F; 2],
}

/// What the multiplication has to know of a format: it is compiled once for each kind, not for each format.
pub(crate) trait Kind {
    /// Each 16 columns have a scale of their own, rather than each 32.
    const SHORT: bool;
    /// There are minima.
    const MINIMA: bool;
    /// Codes need all 8 bits, and are as [`Simd::UNSIGNED`] says; otherwise they are below 64.
    const WIDE: bool;
}

/// The kind of these properties.
pub(crate) struct Of<const SHORT: bool, const MINIMA: bool, const WIDE: bool>;

impl<const SHORT: bool, const MINIMA: bool, const WIDE: bool> Kind for Of<SHORT, MINIMA, WIDE> {
    const SHORT: bool = SHORT;
    const MINIMA: bool = MINIMA;
    const WIDE: bool = WIDE;
}

/// A format as sixteen rows are read from it.
pub(crate) trait Strip<S: Simd> {
    /// Columns of a block.
    const LEN: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// What the multiplication has to know.
    type Kind: Kind;
    /// What was added to each number to make its code.
    const OFFSET: i32;
    /// Few tokens are multiplied straight from the strip; otherwise by way of a panel, which costs less to compile.
    const DIRECT: bool;
    /// What is read once for a block.
    type Block;

    /// Reads what the groups of block `at` share.
    fn block(simd: S, strip: &Interleaved<'_>, at: usize) -> Self::Block;

    /// Reads 32 columns, group `index` of block `at`.
    fn group(simd: S, strip: &Interleaved<'_>, at: usize, block: &mut Self::Block, index: usize) -> Group<S>;
}

/// The offset of wide codes.
pub(crate) const fn wide_offset<S: Simd>() -> i32 {
    if S::UNSIGNED { 128 } else { 0 }
}

/// Signed bytes as wide codes.
#[inline(always)]
pub(crate) fn widened<S: Simd>(simd: S, signed: S::I) -> S::I {
    if S::UNSIGNED { simd.xor(signed, simd.splat_i(i32::from_le_bytes([0x80; 4]))) } else { signed }
}

/// The lower four bits of each byte.
#[inline(always)]
pub(crate) fn low<S: Simd>(simd: S, bytes: S::I) -> S::I {
    simd.and(bytes, simd.splat_i(0x0f0f_0f0f))
}

/// The upper four bits of each byte.
#[inline(always)]
pub(crate) fn high<S: Simd>(simd: S, bytes: S::I) -> S::I {
    low(simd, simd.shift_down(bytes, 4))
}

/// Units as lanes.
#[inline(always)]
pub(crate) fn loaded<S: Simd, const N: usize>(simd: S, units: &[[u8; 64]; N]) -> [S::I; N] {
    let mut lanes = [simd.splat_i(0); N];
    for (lane, unit) in lanes.iter_mut().zip(units) {
        *lane = simd.load_i(unit);
    }
    lanes
}

/// Four units as 32 codes: the lower halves of the bytes, then the upper ones.
#[inline(always)]
pub(crate) fn nibbles<S: Simd>(simd: S, units: &[[u8; 64]; 4]) -> [S::I; 8] {
    let [a, b, c, d] = loaded(simd, units);
    [
        low(simd, a),
        low(simd, b),
        low(simd, c),
        low(simd, d),
        high(simd, a),
        high(simd, b),
        high(simd, c),
        high(simd, d),
    ]
}
