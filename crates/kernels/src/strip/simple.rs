//! The formats of one scale for 32 numbers: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and IQ4_NL, as lanes.

use crate::format::block::Block;
use crate::format::iq4_nl::IQ4NL;
use crate::format::levels::LEVELS;
use crate::format::q4_0::Q4_0;
use crate::format::q4_1::Q4_1;
use crate::format::q5_0::Q5_0;
use crate::format::q5_1::Q5_1;
use crate::format::q8_0::Q8_0;
use crate::simd::{Rows, Simd};
use crate::strip::{Group, Of, Strip, nibbles, thirty_two, wide_offset, widened};

/// 32 codes with the scale at the block's first two bytes.
#[inline(always)]
fn scaled<S: Simd>(simd: S, rows: &Rows<'_>, at: usize, codes: [S::I; 8]) -> Group<S> {
    Group { codes, scales: [simd.halves(rows, at); 2], minima: [simd.splat(0.0); 2] }
}

/// The same, with what is added to each number behind the scale. A block says `+ m` where a group says `− minimum`.
#[inline(always)]
fn scaled_from<S: Simd>(simd: S, rows: &Rows<'_>, at: usize, codes: [S::I; 8]) -> Group<S> {
    let minimum = simd.sub(simd.splat(-0.0), simd.halves(rows, at + 2));
    Group { minima: [minimum; 2], ..scaled(simd, rows, at, codes) }
}

/// Adds a fifth bit to each code, from the 32 bits at `at`.
#[inline(always)]
fn with_fifth_bits<S: Simd>(simd: S, rows: &Rows<'_>, at: usize, codes: [S::I; 8]) -> [S::I; 8] {
    // The bits are transposed along with twelve bytes that are not needed: bits, then codes, follow each other.
    let bits = simd.transpose(rows, at)[0];
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
    fn block(_: S, _: &Rows<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, rows: &Rows<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        scaled(simd, rows, at, nibbles(simd, rows, at + 2))
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
    fn block(_: S, _: &Rows<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, rows: &Rows<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        scaled_from(simd, rows, at, nibbles(simd, rows, at + 4))
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
    fn block(_: S, _: &Rows<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, rows: &Rows<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        let codes = nibbles(simd, rows, at + 6);
        scaled(simd, rows, at, with_fifth_bits(simd, rows, at + 2, codes))
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
    fn block(_: S, _: &Rows<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, rows: &Rows<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        let codes = nibbles(simd, rows, at + 8);
        scaled_from(simd, rows, at, with_fifth_bits(simd, rows, at + 4, codes))
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
    fn block(_: S, _: &Rows<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, rows: &Rows<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        let mut codes = thirty_two(simd, rows, at + 2);
        for code in &mut codes {
            *code = widened(simd, *code);
        }
        scaled(simd, rows, at, codes)
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
    fn block(_: S, _: &Rows<'_>, _: usize) {}

    #[inline(always)]
    fn group(simd: S, rows: &Rows<'_>, at: usize, (): &mut (), _: usize) -> Group<S> {
        let mut codes = nibbles(simd, rows, at + 2);
        for code in &mut codes {
            *code = simd.look_up(*code, &level_codes::<S>());
        }
        scaled(simd, rows, at, codes)
    }
}
