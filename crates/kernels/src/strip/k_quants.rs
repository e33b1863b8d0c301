//! Q4_K, Q5_K and Q6_K as lanes: 256 numbers whose groups have scales of their own, read once for all sixteen rows.

use crate::format::q4_k::Q4K;
use crate::format::q5_k::Q5K;
use crate::format::q6_k::Q6K;
use crate::interleave::Interleaved;
use crate::simd::Simd;
use crate::strip::{Of, Place, Scales, Strip, high, loaded, low, nibble};

/// The scales and minima of Q4_K and Q5_K, multiplied out.
pub(crate) struct Multiplied<S: Simd> {
    scales: [S::F; 8],
    minima: [S::F; 8],
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
fn multiplied<S: Simd>(simd: S, units: &[[u8; 64]; 4]) -> Multiplied<S> {
    let [both, first, second, third] = loaded(simd, units);
    let (d, dmin) = (simd.half_to_f(both), simd.half_to_f(simd.shift_down(both, 16)));
    let six = simd.splat_i(0x3f3f_3f3f);
    // Four numbers to a lane, a byte each.
    let scale_bytes = [simd.and(first, six), simd.or(low(simd, third), upper_two(simd, first))];
    let minimum_bytes = [simd.and(second, six), simd.or(high(simd, third), upper_two(simd, second))];
    let mut out = Multiplied { scales: [d; 8], minima: [dmin; 8] };
    for i in 0..8 {
        out.scales[i] = simd.mul(d, byte(simd, scale_bytes[i / 4], i as u32 % 4));
        out.minima[i] = simd.mul(dmin, byte(simd, minimum_bytes[i / 4], i as u32 % 4));
    }
    out
}

impl<S: Simd> Multiplied<S> {
    #[inline(always)]
    fn of(&self, index: usize) -> Scales<S> {
        Scales { scales: [self.scales[index]; 2], minima: [self.minima[index]; 2] }
    }
}

/// Eight of the 64 codes that eight units hold: the first group's in the lower halves of the bytes, the second's in the upper.
#[inline(always)]
fn four_bits<S: Simd>(simd: S, units: &[[u8; 64]; 8], of: usize, pair: usize) -> [S::I; 2] {
    let (a, b) = (simd.load_i(&units[2 * pair]), simd.load_i(&units[2 * pair + 1]));
    if of == 0 { [low(simd, a), low(simd, b)] } else { [high(simd, a), high(simd, b)] }
}

impl<S: Simd> Strip<S> for Q4K {
    const LEN: usize = 256;
    const OFFSET: i32 = 0;
    const DIRECT: bool = true;
    const BUNDLE: usize = 2;
    type Kind = Of<false, true, false>;
    type Block = Multiplied<S>;

    #[inline(always)]
    fn block(simd: S, strip: &Interleaved<'_>, at: usize) -> Multiplied<S> {
        multiplied(simd, strip.units::<Q4K, _>(at, 0))
    }

    #[inline(always)]
    fn eight(
        simd: S,
        strip: &Interleaved<'_>,
        (at, _): (usize, &Multiplied<S>),
        group: Place,
        pair: usize,
    ) -> [S::I; 2] {
        four_bits(simd, strip.units::<Q4K, _>(at, 4 + group.bundle * 8), group.of, pair)
    }

    #[inline(always)]
    fn scales(_: S, _: &Interleaved<'_>, (_, block): (usize, &Multiplied<S>), group: Place) -> Scales<S> {
        block.of(2 * group.bundle + group.of)
    }
}

impl<S: Simd> Strip<S> for Q5K {
    const LEN: usize = 256;
    const OFFSET: i32 = 0;
    const DIRECT: bool = true;
    const BUNDLE: usize = 8;
    type Kind = Of<false, true, false>;
    type Block = Multiplied<S>;

    #[inline(always)]
    fn block(simd: S, strip: &Interleaved<'_>, at: usize) -> Multiplied<S> {
        multiplied(simd, strip.units::<Q5K, _>(at, 0))
    }

    #[inline(always)]
    fn eight(
        simd: S,
        strip: &Interleaved<'_>,
        (at, _): (usize, &Multiplied<S>),
        group: Place,
        pair: usize,
    ) -> [S::I; 2] {
        // Four columns of each group are five lines, see `interleave`: their fifth bits, then two groups to a line.
        let lines = strip.units::<Q5K, 10>(at, 4 + 10 * pair);
        let mut codes = [simd.splat_i(0); 2];
        for (code, lines) in codes.iter_mut().zip(lines.as_chunks::<5>().0) {
            let lower = nibble(simd, simd.load_i(&lines[1 + group.of / 2]), group.of);
            let fifth = simd.load_i(&lines[0]);
            let fifth = match group.of {
                0..4 => simd.shift_up(fifth, 4 - group.of as u32),
                _ => simd.shift_down(fifth, group.of as u32 - 4),
            };
            *code = simd.or(lower, simd.and(fifth, simd.splat_i(0x1010_1010)));
        }
        codes
    }

    #[inline(always)]
    fn scales(_: S, _: &Interleaved<'_>, (_, block): (usize, &Multiplied<S>), group: Place) -> Scales<S> {
        block.of(group.of)
    }
}

impl<S: Simd> Strip<S> for Q6K {
    const LEN: usize = 256;
    const OFFSET: i32 = 32;
    const DIRECT: bool = true;
    const BUNDLE: usize = 4;
    type Kind = Of<true, false, false>;
    /// The scale of the block.
    type Block = S::F;

    #[inline(always)]
    fn block(simd: S, strip: &Interleaved<'_>, at: usize) -> S::F {
        simd.halves(strip.halves::<Q6K>(at))
    }

    #[inline(always)]
    fn eight(
        simd: S,
        strip: &Interleaved<'_>,
        (at, _): (usize, &S::F),
        group: Place,
        pair: usize,
    ) -> [S::I; 2] {
        // Four columns of each group are three lines, see `interleave`: groups 0 and 2 in the first, 1 and 3 in the second,
        // two bits of each in the third.
        let lines = strip.units::<Q6K, 6>(at, 4 + 24 * group.bundle + 6 * pair);
        let mut codes = [simd.splat_i(0); 2];
        for (code, lines) in codes.iter_mut().zip(lines.as_chunks::<3>().0) {
            let lower = nibble(simd, simd.load_i(&lines[group.of % 2]), group.of / 2);
            let upper = simd.load_i(&lines[2]);
            let upper = match group.of {
                0 => simd.shift_up(upper, 4),
                1 => simd.shift_up(upper, 2),
                2 => upper,
                _ => simd.shift_down(upper, 2),
            };
            *code = simd.or(lower, simd.and(upper, simd.splat_i(0x3030_3030)));
        }
        codes
    }

    #[inline(always)]
    fn scales(simd: S, strip: &Interleaved<'_>, (at, d): (usize, &S::F), group: Place) -> Scales<S> {
        // Of four scales to a lane, a group has two: signed bytes. Flipping the sign bit and taking 128 off extends them.
        let unit = simd.load_i(&strip.units::<Q6K, 1>(at, 2 * group.bundle + group.of / 2)[0]);
        let packed = simd.shift_down(unit, 16 * (group.of as u32 % 2));
        let flipped = simd.xor(packed, simd.splat_i(0x8080));
        let mut scales = [byte(simd, flipped, 0), byte(simd, flipped, 1)];
        for scale in &mut scales {
            *scale = simd.mul(*d, simd.sub(*scale, simd.splat(128.0)));
        }
        Scales { scales, minima: [simd.splat(0.0); 2] }
    }
}
