//! The formats of one scale for 32 numbers: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and IQ4_NL, as lanes.

use crate::format::block::Block;
use crate::format::iq4_nl::IQ4NL;
use crate::format::levels::LEVELS;
use crate::format::q4_0::Q4_0;
use crate::format::q4_1::Q4_1;
use crate::format::q5_0::Q5_0;
use crate::format::q5_1::Q5_1;
use crate::format::q8_0::Q8_0;
use crate::interleave::Interleaved;
use crate::simd::Simd;
use crate::strip::{Group, Of, Strip, loaded, nibbles, wide_offset, widened};

/// 32 codes with the block's scale.
#[inline(always)]
fn scaled<S: Simd>(simd: S, scale: S::F, codes: [S::I; 8]) -> Group<S> {
    Group { codes, scales: [scale; 2], minima: [simd.splat(0.0); 2] }
}

/// The same, from a unit that holds the scale and what is added to each number. A block says `+ m` where a group says
/// `− minimum`.
#[inline(always)]
fn scaled_from<S: Simd>(simd: S, both: &[u8; 64], codes: [S::I; 8]) -> Group<S> {
    let both = simd.load_i(both);
    let minimum = simd.sub(simd.splat(-0.0), simd.half_to_f(simd.shift_down(both, 16)));
    Group { minima: [minimum; 2], ..scaled(simd, simd.half_to_f(both), codes) }
}

/// Adds a fifth bit to each code, from a unit of 32 bits.
#[inline(always)]
fn with_fifth_bits<S: Simd>(simd: S, bits: &[u8; 64], codes: [S::I; 8]) -> [S::I; 8] {
    let bits = simd.load_i(bits);
    let mut out = codes;
    for (quarter, (out, code)) in out.iter_mut().zip(codes).enumerate() {
        *out = simd.or(code, simd.sixteens(bits, quarter));
    }
    out
}

impl<S: Simd> Strip<S> for Q4_0 {
    const LEN: usize = 32;
    const BYTES: usize = <Q4_0 as Block>::BYTES;
    const OFFSET: i32 = 8;
    const DIRECT: bool = true;
    type Kind = Of<false, false, false>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, strip: &Interleaved<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        scaled(simd, simd.halves(strip.halves::<Q4_0>(at)), nibbles(simd, strip.units::<Q4_0, _>(at, 0)))
    }
}

impl<S: Simd> Strip<S> for Q4_1 {
    const LEN: usize = 32;
    const BYTES: usize = <Q4_1 as Block>::BYTES;
    const OFFSET: i32 = 0;
    const DIRECT: bool = true;
    type Kind = Of<false, true, false>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, strip: &Interleaved<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        let [both, codes @ ..] = strip.units::<Q4_1, 5>(at, 0);
        scaled_from(simd, both, nibbles(simd, codes))
    }
}

impl<S: Simd> Strip<S> for Q5_0 {
    const LEN: usize = 32;
    const BYTES: usize = <Q5_0 as Block>::BYTES;
    const OFFSET: i32 = 16;
    const DIRECT: bool = true;
    type Kind = Of<false, false, false>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, strip: &Interleaved<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        let [bits, codes @ ..] = strip.units::<Q5_0, 5>(at, 0);
        let codes = with_fifth_bits(simd, bits, nibbles(simd, codes));
        scaled(simd, simd.halves(strip.halves::<Q5_0>(at)), codes)
    }
}

impl<S: Simd> Strip<S> for Q5_1 {
    const LEN: usize = 32;
    const BYTES: usize = <Q5_1 as Block>::BYTES;
    const OFFSET: i32 = 0;
    const DIRECT: bool = true;
    type Kind = Of<false, true, false>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, strip: &Interleaved<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        let [both, bits, codes @ ..] = strip.units::<Q5_1, 6>(at, 0);
        scaled_from(simd, both, with_fifth_bits(simd, bits, nibbles(simd, codes)))
    }
}

impl<S: Simd> Strip<S> for Q8_0 {
    const LEN: usize = 32;
    const BYTES: usize = <Q8_0 as Block>::BYTES;
    const OFFSET: i32 = wide_offset::<S>();
    const DIRECT: bool = true;
    type Kind = Of<false, false, true>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, strip: &Interleaved<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        let mut codes = loaded(simd, strip.units::<Q8_0, 8>(at, 0));
        for code in &mut codes {
            *code = widened(simd, *code);
        }
        scaled(simd, simd.halves(strip.halves::<Q8_0>(at)), codes)
    }
}

/// The levels of IQ4_NL, as wide codes.
const fn level_codes<S: Simd>() -> [u8; 16] {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < 16 {
        codes[i] = LEVELS[i].cast_unsigned().wrapping_add(wide_offset::<S>() as u8);
        i += 1;
    }
    codes
}

impl<S: Simd> Strip<S> for IQ4NL {
    const LEN: usize = 32;
    const BYTES: usize = <IQ4NL as Block>::BYTES;
    const OFFSET: i32 = wide_offset::<S>();
    const DIRECT: bool = true;
    type Kind = Of<false, false, true>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, strip: &Interleaved<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        let mut codes = nibbles(simd, strip.units::<IQ4NL, _>(at, 0));
        for code in &mut codes {
            *code = simd.look_up(*code, &level_codes::<S>());
        }
        scaled(simd, simd.halves(strip.halves::<IQ4NL>(at)), codes)
    }
}
