//! Any format as lanes, by way of its definition: each row's block is unpacked, then the codes are put side by side.
//!
//! For formats that are rare enough to do without a reader of their own. Codes are wide.

use crate::format::block::{Block, MAX_GROUPS, MAX_LEN};
use crate::interleave::Interleaved;
use crate::simd::Simd;
use crate::strip::{Of, Place, Scales, Strip, wide_offset, widened};

/// A format, read by its [`Block`]; whether it is short and has minima is said again, because a kind is a type.
pub(crate) struct ByBlock<B, const SHORT: bool, const MINIMA: bool>(std::marker::PhantomData<B>);

/// The most bytes of a block of these: Q8_K.
const MAX_BYTES: usize = 292;

/// A block of each row.
pub(crate) struct Unpacked {
    /// Each 4 codes of the sixteen rows.
    codes: [[u8; 64]; MAX_LEN / 4],
    scales: [[f32; 16]; MAX_GROUPS],
    minima: [[f32; 16]; MAX_GROUPS],
}

impl<S: Simd, B: Block, const SHORT: bool, const MINIMA: bool> Strip<S> for ByBlock<B, SHORT, MINIMA> {
    const LEN: usize = B::LEN;
    const OFFSET: i32 = {
        assert!(SHORT == (B::GROUP == 16) && MINIMA != B::SYMMETRIC);
        if MINIMA { 0 } else { wide_offset::<S>() }
    };
    const DIRECT: bool = false;
    const BUNDLE: usize = 1;
    type Kind = Of<SHORT, MINIMA, true>;
    type Block = Unpacked;

    #[inline(always)]
    fn block(_: S, strip: &Interleaved<'_>, at: usize) -> Unpacked {
        let mut out = Unpacked {
            codes: [[0; 64]; MAX_LEN / 4],
            scales: [[0.0; 16]; MAX_GROUPS],
            minima: [[0.0; 16]; MAX_GROUPS],
        };
        let mut q = [0; MAX_LEN];
        let (mut scale, mut min) = ([0.0; MAX_GROUPS], [0.0; MAX_GROUPS]);
        let mut bytes = [0; MAX_BYTES];
        for row in 0..16 {
            strip.block(at, row, &mut bytes[..B::BYTES]);
            B::unpack(&bytes[..B::BYTES], &mut q, &mut scale, &mut min);
            for (to, codes) in out.codes.iter_mut().zip(q[..B::LEN].as_chunks::<4>().0) {
                to[4 * row..4 * row + 4].copy_from_slice(&codes.map(i8::cast_unsigned));
            }
            for group in 0..B::LEN / B::GROUP {
                out.scales[group][row] = scale[group];
                out.minima[group][row] = min[group];
            }
        }
        out
    }

    #[inline(always)]
    fn eight(
        simd: S,
        _: &Interleaved<'_>,
        (_, block): (usize, &Unpacked),
        group: Place,
        pair: usize,
    ) -> [S::I; 2] {
        let codes = &block.codes[group.bundle * 8 + 2 * pair..][..2];
        let codes = [simd.load_i(&codes[0]), simd.load_i(&codes[1])];
        if MINIMA { codes } else { [widened(simd, codes[0]), widened(simd, codes[1])] }
    }

    #[inline(always)]
    fn scales(simd: S, _: &Interleaved<'_>, (_, block): (usize, &Unpacked), group: Place) -> Scales<S> {
        let index = group.bundle;
        let (first, second) = if SHORT { (2 * index, 2 * index + 1) } else { (index, index) };
        Scales {
            scales: [simd.load(&block.scales[first]), simd.load(&block.scales[second])],
            minima: [simd.load(&block.minima[first]), simd.load(&block.minima[second])],
        }
    }
}
