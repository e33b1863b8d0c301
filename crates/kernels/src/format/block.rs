//! What a block of quantised numbers says, in one shape for all formats, and what follows from it: decoding and the
//! dot product that every faster path is compared with.
//!
//! A block is `w[i] = scale[i / GROUP] * q[i] - min[i / GROUP]` in f32, one rounding per operation and in this order.
//! That order is ggml's, so numbers decode to the same bits in both.

use crate::format::float::widen;
use crate::quantised::{Row, SHARED, SUMMED};

/// Numbers in the longest block of any format.
pub const MAX_LEN: usize = 256;

/// Groups in the block with the most groups.
pub const MAX_GROUPS: usize = 16;

/// A block format: how its bytes are to be read.
pub trait Block {
    /// Numbers in a block: 32 or 256.
    const LEN: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Numbers that share a scale and a minimum: 16 or 32.
    const GROUP: usize;
    /// All minima are zero.
    const SYMMETRIC: bool;

    /// Reads a block: `bytes`: `[BYTES]`, `q`: `[LEN]`, `scale` and `min`: `[LEN / GROUP]`; longer slices are left
    /// alone behind that, shorter ones panic. Any bytes are a block; scales may come out infinite or NaN.
    ///
    /// `#[inline(always)]` in each format: it takes on the instruction set of the function that it is put into.
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]);
}

/// Multiplies whole blocks out: `out` has `LEN` numbers for each `BYTES` of `bytes`.
#[inline(always)]
pub fn decode<B: Block>(bytes: &[u8], out: &mut [f32]) {
    let mut q = [0; MAX_LEN];
    let (mut scale, mut min) = ([0.0; MAX_GROUPS], [0.0; MAX_GROUPS]);
    for (bytes, out) in bytes.chunks_exact(B::BYTES).zip(out.chunks_exact_mut(B::LEN)) {
        B::unpack(bytes, &mut q, &mut scale, &mut min);
        for (group, out) in out.chunks_exact_mut(B::GROUP).enumerate() {
            let (scale, min) = (scale[group], min[group]);
            for (out, q) in out.iter_mut().zip(&q[group * B::GROUP..]) {
                *out = scale * f32::from(*q) - min;
            }
        }
    }
}

/// The dot product of a row of blocks with quantised activations, as the int8 kernels define it: per 32 activations an
/// exact integer sum for each group, times the group's scale, less the group's minimum times the sum of the
/// activations' codes, times the activations' scale; these parts are added in f32, in order.
///
/// `bytes` and `x` are equally long, in numbers.
#[inline(always)]
pub fn dot<B: Block>(bytes: &[u8], x: Row<'_>) -> f32 {
    let mut q = [0; MAX_LEN];
    let (mut scale, mut min) = ([0.0; MAX_GROUPS], [0.0; MAX_GROUPS]);
    let mut total = 0.0;
    let blocks = bytes.chunks_exact(B::BYTES);
    for (((bytes, xq), xd), sums) in blocks
        .zip(x.q.chunks_exact(B::LEN))
        .zip(x.d.chunks_exact(B::LEN / SHARED))
        .zip(x.sums.chunks_exact(B::LEN / SUMMED))
    {
        B::unpack(bytes, &mut q, &mut scale, &mut min);
        for (shared, d) in xd.iter().enumerate() {
            let mut part = 0.0;
            let first = shared * SHARED / B::GROUP;
            for group in first..first + SHARED / B::GROUP {
                let numbers = group * B::GROUP..(group + 1) * B::GROUP;
                let codes = q[numbers.clone()].iter().zip(&xq[numbers]);
                let product: i32 = codes.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
                part += scale[group] * product as f32;
                if !B::SYMMETRIC {
                    let sums = &sums[group * B::GROUP / SUMMED..(group + 1) * B::GROUP / SUMMED];
                    part -= min[group] * sums.iter().map(|sum| i32::from(*sum)).sum::<i32>() as f32;
                }
            }
            total += d * part;
        }
    }
    total
}

/// The f16 at byte `at`.
#[inline(always)]
pub(crate) fn half_at(bytes: &[u8], at: usize) -> f32 {
    widen(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// The two halves of each byte: the lower ones to `low`, the upper ones to `high`; all three equally long.
#[inline(always)]
pub(crate) fn nibbles(bytes: &[u8], low: &mut [i8], high: &mut [i8], read: impl Fn(u8) -> i8) {
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = read(byte & 15);
        *high = read(byte >> 4);
    }
}

/// Adds 16 to each of 32 codes whose bit is set in the 4 bytes, bit i for code i.
#[inline(always)]
pub(crate) fn fifth_bits(bytes: &[u8], q: &mut [i8]) {
    for (q, byte) in q.chunks_exact_mut(8).zip(bytes) {
        for (q, bit) in q.iter_mut().zip([1, 2, 4, 8, 16, 32, 64, 128]) {
            *q += if byte & bit == 0 { 0 } else { 16 };
        }
    }
}

/// Bytes as signed codes; both equally long.
#[inline(always)]
pub(crate) fn signed(bytes: &[u8], q: &mut [i8]) {
    for (q, byte) in q.iter_mut().zip(bytes) {
        *q = *byte as i8;
    }
}
