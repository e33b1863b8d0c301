//! The path of plain Rust: sixteen lanes as an array. The definition that the other paths are compared with.

use half::{bf16, f16};

use crate::cpu::Scalar;
use crate::simd::{Body, Simd};

#[inline(always)]
fn lanes<A: Copy, T: Copy + Default>(a: &[A; 16], f: impl Fn(A) -> T) -> [T; 16] {
    let mut out = [T::default(); 16];
    for i in 0..16 {
        out[i] = f(a[i]);
    }
    out
}

#[inline(always)]
fn pairs(a: [f32; 16], b: [f32; 16], f: impl Fn(f32, f32) -> f32) -> [f32; 16] {
    let mut out = [0.0; 16];
    for i in 0..16 {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Simd for Scalar {
    type F = [f32; 16];

    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        body.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; 16]
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Self::F {
        *from
    }

    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; 16]) {
        *to = value;
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        pairs(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        pairs(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        pairs(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        pairs(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        let mut out = [0.0; 16];
        for i in 0..16 {
            out[i] = a[i].mul_add(b[i], c[i]);
        }
        out
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        pairs(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        pairs(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        let mut out = [0.0; 16];
        for i in 0..16 {
            out[i] = if a[i] < b[i] { yes[i] } else { no[i] };
        }
        out
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        lanes(&a, f32::abs)
    }

    #[inline(always)]
    fn into_exponent(self, a: Self::F, add: i32) -> Self::F {
        lanes(&a, |a| f32::from_bits((a.to_bits() << 23).wrapping_add(add.cast_unsigned())))
    }

    #[inline(always)]
    fn from_f16(self, from: &[u16; 16]) -> Self::F {
        lanes(from, |bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn to_f16(self, value: Self::F, to: &mut [u16; 16]) {
        *to = lanes(&value, |value| f16::from_f32(value).to_bits());
    }

    #[inline(always)]
    fn from_bf16(self, from: &[u16; 16]) -> Self::F {
        lanes(from, |bits| bf16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn from_i8(self, from: &[i8; 16]) -> Self::F {
        lanes(from, f32::from)
    }

    #[inline(always)]
    fn to_i8(self, value: Self::F, to: &mut [i8; 16]) {
        *to = lanes(&value, |value| value.round_ties_even() as i8);
    }
}
