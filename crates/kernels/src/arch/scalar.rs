//! The path of plain Rust: sixteen lanes as an array. The definition that the other paths are compared with.

use half::{bf16, f16};

use crate::cpu::Scalar;
use crate::format::float::widen;
use crate::simd::{Body, Rows, Simd};

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
    type I = [i32; 16];
    type Register = [f32; 16];

    const REGISTERS: usize = 1;
    const REGISTER_FILE: usize = 16;
    const VECTORS: bool = false;
    const UNSIGNED: bool = false;

    #[inline(never)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        body.run(self)
    }

    #[inline(always)]
    fn load_register(self, from: &[f32; 16], _: usize) -> Self::Register {
        *from
    }

    #[inline(always)]
    fn store_register(self, value: Self::Register, to: &mut [f32; 16], _: usize) {
        *to = value;
    }

    #[inline(always)]
    fn mul_add_register(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register {
        self.mul_add(a, b, c)
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
    fn widen_f16(self, from: &[u16; 16]) -> Self::F {
        lanes(from, |bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn narrow_f16(self, value: Self::F, to: &mut [u16; 16]) {
        *to = lanes(&value, |value| f16::from_f32(value).to_bits());
    }

    #[inline(always)]
    fn widen_bf16(self, from: &[u16; 16]) -> Self::F {
        lanes(from, |bits| bf16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn widen_i8(self, from: &[i8; 16]) -> Self::F {
        lanes(from, f32::from)
    }

    #[inline(always)]
    fn narrow_i8(self, value: Self::F, to: &mut [i8; 16]) {
        *to = lanes(&value, |value| value.round_ties_even() as i8);
    }

    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        [value; 16]
    }

    #[inline(always)]
    fn load_i(self, from: &[u8; 64]) -> Self::I {
        lanes(from.as_chunks().0.first_chunk().expect("sixteen fours"), i32::from_le_bytes)
    }

    #[inline(always)]
    fn store_i(self, value: Self::I, to: &mut [u8; 64]) {
        for (to, lane) in to.as_chunks_mut().0.iter_mut().zip(value) {
            *to = lane.to_le_bytes();
        }
    }

    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] & b[i])
    }

    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] ^ b[i])
    }

    #[inline(always)]
    fn shift_down(self, a: Self::I, bits: u32) -> Self::I {
        lanes(&a, |a| (a.cast_unsigned() >> bits).cast_signed())
    }

    #[inline(always)]
    fn shift_up(self, a: Self::I, bits: u32) -> Self::I {
        lanes(&a, |a| a << bits)
    }

    #[inline(always)]
    fn sixteens(self, a: Self::I, quarter: usize) -> Self::I {
        lanes(&a, |a| {
            let bits = a >> (4 * quarter);
            i32::from_le_bytes([0, 1, 2, 3].map(|i| (bits >> i & 1) as u8 * 16))
        })
    }

    #[inline(always)]
    fn look_up(self, a: Self::I, table: &[u8; 16]) -> Self::I {
        lanes(&a, |a| i32::from_le_bytes(a.to_le_bytes().map(|code| table[usize::from(code & 15)])))
    }

    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        lanes(&a, |a| a as f32)
    }

    #[inline(always)]
    fn half_to_f(self, a: Self::I) -> Self::F {
        lanes(&a, |a| widen(a as u16))
    }

    #[inline(always)]
    fn transpose(self, rows: &Rows<'_>, at: usize) -> [Self::I; 4] {
        let rows: [[[u8; 4]; 4]; 16] = std::array::from_fn(|row| {
            let bytes = &rows.row(row)[at..at + 16];
            std::array::from_fn(|j| std::array::from_fn(|i| bytes[4 * j + i]))
        });
        std::array::from_fn(|j| std::array::from_fn(|row| i32::from_le_bytes(rows[row][j])))
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 32]) -> Self::F {
        std::array::from_fn(|row| widen(u16::from_le_bytes([from[2 * row], from[2 * row + 1]])))
    }

    #[inline(always)]
    fn prefetch<T>(self, _: &[T], _: usize) {}

    #[inline(always)]
    fn dot8<const WIDE: bool>(self, sum: Self::I, a: Self::I, b: Self::I, x: i32, y: i32) -> Self::I {
        let four = |w: i32, x: i32| -> i32 {
            let (w, x) = (w.to_le_bytes(), x.to_le_bytes());
            (0..4).map(|i| i32::from(w[i] as i8) * i32::from(x[i] as i8)).sum()
        };
        std::array::from_fn(|i| sum[i] + four(a[i], x) + four(b[i], y))
    }
}
