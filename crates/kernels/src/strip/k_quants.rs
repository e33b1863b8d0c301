//! Q4_K, Q5_K and Q6_K as lanes: 256 numbers whose groups have scales of their own, read once for all sixteen rows.

use crate::format::block::Block;
use crate::format::q4_k::Q4K;
use crate::format::q5_k::Q5K;
use crate::format::q6_k::Q6K;
use crate::interleave::Interleaved;
use crate::simd::Simd;
use crate::strip::{Group, Of, Strip, high, loaded, low};

/// The scales and minima of Q4_K and Q5_K, multiplied out.
pub(crate) struct Scales<S: Simd> {
    scales: [S::F; 8],
    minima: [S::F; 8],
    /// The 32 bytes that two groups share, from the even one on.
    shared: [S::I; 8],
}

/// Byte `i` of each lane, as a float.
#[inline(always)]
fn byte<S: Simd>(simd: S, of: S::I, i: u32) -> S::F {
    simd.to_f(simd.and(simd.shift_down(of, 8 * i), simd.splat_i(0xff)))
}

/// The upper two bits of each byte, as bits 4 and 5.
#[inline(always)]
fn upper_two<S: Simd>(simd: S, bytes: S::I) -> S::I {
    simd.and(simd.shift_down(bytes, 2), simd.splat_i(0x3030_3030))
}

/// The first four units of a block: d, dmin and twelve bytes of scales, see `format/scales_k4.rs`.
#[inline(always)]
fn scales<S: Simd>(simd: S, units: &[[u8; 64]; 4]) -> Scales<S> {
    let [both, first, second, third] = loaded(simd, units);
    let (d, dmin) = (simd.half_to_f(both), simd.half_to_f(simd.shift_down(both, 16)));
    let six = simd.splat_i(0x3f3f_3f3f);
    // Four numbers to a lane, a byte each.
    let scale_bytes = [simd.and(first, six), simd.or(low(simd, third), upper_two(simd, first))];
    let minimum_bytes = [simd.and(second, six), simd.or(high(simd, third), upper_two(simd, second))];
    let mut out = Scales { scales: [d; 8], minima: [dmin; 8], shared: [both; 8] };
    for i in 0..8 {
        out.scales[i] = simd.mul(d, byte(simd, scale_bytes[i / 4], i as u32 % 4));
        out.minima[i] = simd.mul(dmin, byte(simd, minimum_bytes[i / 4], i as u32 % 4));
    }
    out
}

/// The codes of group `index`, whose 32 bytes hold two groups, the even one below, the odd one above.
#[inline(always)]
fn four_bits<S: Simd>(simd: S, shared: &[S::I; 8], index: usize) -> [S::I; 8] {
    let mut codes = *shared;
    for code in &mut codes {
        *code = if index.is_multiple_of(2) { low(simd, *code) } else { high(simd, *code) };
    }
    codes
}

impl<S: Simd> Strip<S> for Q4K {
    const LEN: usize = 256;
    const BYTES: usize = <Q4K as Block>::BYTES;
    const OFFSET: i32 = 0;
    const DIRECT: bool = true;
    type Kind = Of<false, true, false>;
    type Block = Scales<S>;

    #[inline(always)]
    fn block(simd: S, strip: &Interleaved<'_>, at: usize) -> Scales<S> {
        scales(simd, strip.units::<Q4K, _>(at, 0))
    }

    #[inline(always)]
    fn group(simd: S, strip: &Interleaved<'_>, at: usize, block: &mut Scales<S>, index: usize) -> Group<S> {
        if index.is_multiple_of(2) {
            block.shared = loaded(simd, strip.units::<Q4K, _>(at, 4 + index / 2 * 8));
        }
        let codes = four_bits(simd, &block.shared, index);
        Group { codes, scales: [block.scales[index]; 2], minima: [block.minima[index]; 2] }
    }
}

impl<S: Simd> Strip<S> for Q5K {
    const LEN: usize = 256;
    const BYTES: usize = <Q5K as Block>::BYTES;
    const OFFSET: i32 = 0;
    const DIRECT: bool = true;
    type Kind = Of<false, true, false>;
    type Block = (Scales<S>, [S::I; 8]);

    #[inline(always)]
    fn block(simd: S, strip: &Interleaved<'_>, at: usize) -> Self::Block {
        (scales(simd, strip.units::<Q5K, _>(at, 0)), loaded(simd, strip.units::<Q5K, _>(at, 4)))
    }

    #[inline(always)]
    fn group(
        simd: S,
        strip: &Interleaved<'_>,
        at: usize,
        (block, fifth): &mut Self::Block,
        index: usize,
    ) -> Group<S> {
        if index.is_multiple_of(2) {
            block.shared = loaded(simd, strip.units::<Q5K, _>(at, 12 + index / 2 * 8));
        }
        let mut codes = four_bits(simd, &block.shared, index);
        for (code, fifth) in codes.iter_mut().zip(fifth) {
            // Bit `index` of each byte is the fifth bit of its code.
            let bit = simd.and(simd.shift_down(*fifth, index as u32), simd.splat_i(0x0101_0101));
            *code = simd.or(*code, simd.shift_up(bit, 4));
        }
        Group { codes, scales: [block.scales[index]; 2], minima: [block.minima[index]; 2] }
    }
}

impl<S: Simd> Strip<S> for Q6K {
    const LEN: usize = 256;
    const BYTES: usize = <Q6K as Block>::BYTES;
    const OFFSET: i32 = 32;
    const DIRECT: bool = true;
    type Kind = Of<true, false, false>;
    type Block = SixBits<S>;

    #[inline(always)]
    fn block(simd: S, strip: &Interleaved<'_>, at: usize) -> SixBits<S> {
        let nothing = [simd.splat_i(0); 8];
        let d = simd.halves(strip.halves::<Q6K>(at));
        let scales = loaded(simd, strip.units::<Q6K, _>(at, 0));
        SixBits { d, scales, lower: [nothing; 2], upper: nothing }
    }

    #[inline(always)]
    fn group(simd: S, strip: &Interleaved<'_>, at: usize, block: &mut SixBits<S>, index: usize) -> Group<S> {
        // A half of 128 numbers has 64 bytes of lower bits (columns 0–63 below, 64–127 above) and 32 of upper bits.
        let (half, k) = (index / 4, index % 4);
        if k == 0 {
            block.lower = [
                loaded(simd, strip.units::<Q6K, _>(at, 4 + 24 * half)),
                loaded(simd, strip.units::<Q6K, _>(at, 12 + 24 * half)),
            ];
            block.upper = loaded(simd, strip.units::<Q6K, _>(at, 20 + 24 * half));
        }
        let mut codes = block.lower[k % 2];
        for (code, upper) in codes.iter_mut().zip(block.upper) {
            let lower = if k < 2 { low(simd, *code) } else { high(simd, *code) };
            let upper = simd.and(simd.shift_down(upper, 2 * k as u32), simd.splat_i(0x0303_0303));
            *code = simd.or(lower, simd.shift_up(upper, 4));
        }
        // Scales 2 · index and 2 · index + 1 are signed bytes: flipping the sign bit and taking 128 off extends them.
        let packed = simd.shift_down(block.scales[index / 2], 16 * (index as u32 % 2));
        let flipped = simd.xor(packed, simd.splat_i(0x8080));
        let mut scales = [byte(simd, flipped, 0), byte(simd, flipped, 1)];
        for scale in &mut scales {
            *scale = simd.mul(block.d, simd.sub(*scale, simd.splat(128.0)));
        }
        Group { codes, scales, minima: [simd.splat(0.0); 2] }
    }
}

/// A block of Q6_K, and the bytes that the groups of its half at hand share.
pub(crate) struct SixBits<S: Simd> {
    d: S::F,
    /// Sixteen scales, four to a lane of each.
    scales: [S::I; 4],
    lower: [[S::I; 8]; 2],
    upper: [S::I; 8],
}
