//! Sixteen rows of a quantised matrix at once, 32 columns at a time: how each format's blocks become lanes.
//!
//! Stands between [`interleave`](crate::interleave) (how the bytes lie) and `multiply` (lanes in, sums out). A lane is a row. What
//! comes out is what [`Block::unpack`](crate::format::block::Block) says, so all formats and paths share one multiplication.

use crate::interleave::Interleaved;
use crate::simd::Simd;

pub(crate) mod by_block;
pub(crate) mod k_quants;
pub(crate) mod simple;

/// What 32 columns of sixteen rows are scaled with.
#[derive(Clone, Copy)]
pub(crate) struct Scales<S: Simd> {
    /// For each half of 16 columns, if the format's groups are that short; otherwise only the first counts.
    pub(crate) scales: [S::F; 2],
    /// Like `scales`; only for formats that have minima.
    pub(crate) minima: [S::F; 2],
}

impl<S: Simd> Scales<S> {
    /// One scale for all 32 columns, and no minimum.
    #[inline(always)]
    pub(crate) fn one(simd: S, scale: S::F) -> Scales<S> {
        Scales { scales: [scale; 2], minima: [simd.splat(0.0); 2] }
    }
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
    /// What the multiplication has to know.
    type Kind: Kind;
    /// What was added to each number to make its code.
    const OFFSET: i32;
    /// Few tokens are multiplied straight from the strip; otherwise by way of a panel, which costs less to compile.
    const DIRECT: bool;
    /// How many groups of 32 columns share bytes: a bundle, whose groups are read side by side.
    const BUNDLE: usize;
    /// What is read once for a block.
    type Block;

    /// Reads what the groups of block `at` share.
    fn block(simd: S, strip: &Interleaved<'_>, at: usize) -> Self::Block;

    /// Reads columns `8 pair … 8 pair + 7` of a group, four to a value: each number plus [`Strip::OFFSET`], see [`Kind::WIDE`].
    fn eight(
        simd: S,
        strip: &Interleaved<'_>,
        block: (usize, &Self::Block),
        group: Place,
        pair: usize,
    ) -> [S::I; 2];

    /// Reads the scales of a group.
    fn scales(simd: S, strip: &Interleaved<'_>, block: (usize, &Self::Block), group: Place) -> Scales<S>;
}

/// Which group of a block.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The bundle that it is in.
    pub(crate) bundle: usize,
    /// Which of the bundle.
    pub(crate) of: usize,
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

/// Lower or upper four bits, as `half` is even or odd.
#[inline(always)]
pub(crate) fn nibble<S: Simd>(simd: S, bytes: S::I, half: usize) -> S::I {
    if half.is_multiple_of(2) { low(simd, bytes) } else { high(simd, bytes) }
}
