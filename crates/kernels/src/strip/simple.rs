//! The formats of one scale for 32 numbers: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and IQ4_NL, as lanes.

use crate::format::iq4_nl::IQ4NL;
use crate::format::levels::LEVELS;
use crate::format::q4_0::Q4_0;
use crate::format::q4_1::Q4_1;
use crate::format::q5_0::Q5_0;
use crate::format::q5_1::Q5_1;
use crate::format::q8_0::Q8_0;
use crate::interleave::Interleaved;
use crate::simd::Simd;
use crate::strip::{Of, Place, Scales, Strip, high, loaded, low, wide_offset, widened};

/// Eight of the 32 codes that four units hold: the lower halves of all bytes, then the upper ones.
#[inline(always)]
fn nibbles<S: Simd>(simd: S, units: &[[u8; 64]; 4], pair: usize) -> [S::I; 2] {
    let (a, b) = (simd.load_i(&units[pair % 2 * 2]), simd.load_i(&units[pair % 2 * 2 + 1]));
    if pair < 2 { [low(simd, a), low(simd, b)] } else { [high(simd, a), high(simd, b)] }
}

/// Adds a fifth bit to eight codes, from a unit of 32 bits.
#[inline(always)]
fn with_fifth_bits<S: Simd>(simd: S, bits: &[u8; 64], pair: usize, [a, b]: [S::I; 2]) -> [S::I; 2] {
    let bits = simd.load_i(bits);
    [simd.or(a, simd.sixteens(bits, 2 * pair)), simd.or(b, simd.sixteens(bits, 2 * pair + 1))]
}

/// From a unit that holds the scale and what is added to each number. A block says `+ m` where a group says `− minimum`.
#[inline(always)]
fn scale_and_minimum<S: Simd>(simd: S, both: &[u8; 64]) -> Scales<S> {
    let both = simd.load_i(both);
    let minimum = simd.sub(simd.splat(-0.0), simd.half_to_f(simd.shift_down(both, 16)));
    Scales { scales: [simd.half_to_f(both); 2], minima: [minimum; 2] }
}

impl<S: Simd> Strip<S> for Q4_0 {
    const LEN: usize = 32;
    const OFFSET: i32 = 8;
    const DIRECT: bool = true;
    const BUNDLE: usize = 1;
    type Kind = Of<false, false, false>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn eight(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place, pair: usize) -> [S::I; 2] {
        nibbles(simd, strip.units::<Q4_0, _>(at, 0), pair)
    }

    #[inline(always)]
    fn scales(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place) -> Scales<S> {
        Scales::one(simd, simd.halves(strip.halves::<Q4_0>(at)))
    }
}

impl<S: Simd> Strip<S> for Q4_1 {
    const LEN: usize = 32;
    const OFFSET: i32 = 0;
    const DIRECT: bool = true;
    const BUNDLE: usize = 1;
    type Kind = Of<false, true, false>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn eight(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place, pair: usize) -> [S::I; 2] {
        nibbles(simd, strip.units::<Q4_1, _>(at, 1), pair)
    }

    #[inline(always)]
    fn scales(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place) -> Scales<S> {
        scale_and_minimum(simd, &strip.units::<Q4_1, 1>(at, 0)[0])
    }
}

impl<S: Simd> Strip<S> for Q5_0 {
    const LEN: usize = 32;
    const OFFSET: i32 = 16;
    const DIRECT: bool = true;
    const BUNDLE: usize = 1;
    type Kind = Of<false, false, false>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn eight(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place, pair: usize) -> [S::I; 2] {
        let [bits, codes @ ..] = strip.units::<Q5_0, 5>(at, 0);
        with_fifth_bits(simd, bits, pair, nibbles(simd, codes, pair))
    }

    #[inline(always)]
    fn scales(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place) -> Scales<S> {
        Scales::one(simd, simd.halves(strip.halves::<Q5_0>(at)))
    }
}

impl<S: Simd> Strip<S> for Q5_1 {
    const LEN: usize = 32;
    const OFFSET: i32 = 0;
    const DIRECT: bool = true;
    const BUNDLE: usize = 1;
    type Kind = Of<false, true, false>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn eight(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place, pair: usize) -> [S::I; 2] {
        let [_, bits, codes @ ..] = strip.units::<Q5_1, 6>(at, 0);
        with_fifth_bits(simd, bits, pair, nibbles(simd, codes, pair))
    }

    #[inline(always)]
    fn scales(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place) -> Scales<S> {
        scale_and_minimum(simd, &strip.units::<Q5_1, 1>(at, 0)[0])
    }
}

impl<S: Simd> Strip<S> for Q8_0 {
    const LEN: usize = 32;
    const OFFSET: i32 = wide_offset::<S>();
    const DIRECT: bool = true;
    const BUNDLE: usize = 1;
    type Kind = Of<false, false, true>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn eight(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place, pair: usize) -> [S::I; 2] {
        let [a, b] = loaded(simd, strip.units::<Q8_0, 2>(at, 2 * pair));
        [widened(simd, a), widened(simd, b)]
    }

    #[inline(always)]
    fn scales(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place) -> Scales<S> {
        Scales::one(simd, simd.halves(strip.halves::<Q8_0>(at)))
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
    const OFFSET: i32 = wide_offset::<S>();
    const DIRECT: bool = true;
    const BUNDLE: usize = 1;
    type Kind = Of<false, false, true>;
    type Block = ();

    #[inline(always)]
    fn block(_: S, _: &Interleaved<'_>, _: usize) {}

    #[inline(always)]
    fn eight(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place, pair: usize) -> [S::I; 2] {
        let [a, b] = nibbles(simd, strip.units::<IQ4NL, _>(at, 0), pair);
        let levels = const { level_codes::<S>() };
        [simd.look_up(a, &levels), simd.look_up(b, &levels)]
    }

    #[inline(always)]
    fn scales(simd: S, strip: &Interleaved<'_>, (at, ()): (usize, &()), _: Place) -> Scales<S> {
        Scales::one(simd, simd.halves(strip.halves::<IQ4NL>(at)))
    }
}
