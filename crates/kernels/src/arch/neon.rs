//! The path of NEON with the dot product: sixteen lanes are four registers.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::cpu::Neon;
use crate::format::float::{narrow, widen};
use crate::simd::{Body, Rows, Simd};

/// One or more instructions of this file's set.
macro_rules! proven {
    ($instructions:expr) => {{
        // SAFETY: whoever gets here holds a token, which exists only where the processor has these instructions; pointers
        // come from references to arrays of exactly what is read or written.
        unsafe { $instructions }
    }};
}

/// The sixteen bytes at `at` of each row.
#[inline(always)]
fn sixteen_bytes(rows: &Rows<'_>, at: usize) -> impl Fn(usize) -> int32x4_t {
    assert!(at + 16 <= rows.stride(), "inside a row");
    let (start, stride) = (rows.bytes().as_ptr(), rows.stride());
    // SAFETY: `Rows` holds sixteen rows of `stride` bytes, `row` is below 16 by its callers here, and the range lies in a row.
    move |row| unsafe { vreinterpretq_s32_u8(vld1q_u8(start.add(row * stride + at))) }
}

/// The two bytes at `at` of each row.
#[inline(always)]
fn halves(rows: &Rows<'_>, at: usize) -> [u16; 16] {
    assert!(at + 2 <= rows.stride(), "inside a row");
    let (start, stride) = (rows.bytes().as_ptr(), rows.stride());
    // SAFETY: as above, for two bytes; nothing asks for alignment.
    std::array::from_fn(|row| unsafe { start.add(row * stride + at).cast::<u16>().read_unaligned() })
}

/// Compiles the body with the instructions that the token proves; one function for each body, wherever it is entered.
#[inline(never)]
#[target_feature(enable = "neon,dotprod")]
fn enter<B: Body>(token: Neon, body: B) -> B::Output {
    body.run(token)
}

impl Simd for Neon {
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];

    const MANY_REGISTERS: bool = false;
    const UNSIGNED: bool = false;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        proven!(enter(self, body))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        proven!([vdupq_n_f32(value); 4])
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Self::F {
        let each = |i: usize| proven!(vld1q_f32(from.as_ptr().add(4 * i)));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; 16]) {
        for (i, value) in value.into_iter().enumerate() {
            proven!(vst1q_f32(to.as_mut_ptr().add(4 * i), value));
        }
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        let each = |i: usize| proven!(vaddq_f32(a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        let each = |i: usize| proven!(vsubq_f32(a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        let each = |i: usize| proven!(vmulq_f32(a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        let each = |i: usize| proven!(vdivq_f32(a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        let each = |i: usize| proven!(vfmaq_f32(c[i], a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        let each = |i: usize| proven!(vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        let each = |i: usize| proven!(vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        let each = |i: usize| proven!(vbslq_f32(vcltq_f32(a[i], b[i]), yes[i], no[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        let each = |i: usize| proven!(vabsq_f32(a[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn into_exponent(self, a: Self::F, add: i32) -> Self::F {
        let each = |i: usize| {
            proven!(vreinterpretq_f32_s32(vaddq_s32(
                vshlq_n_s32::<23>(vreinterpretq_s32_f32(a[i])),
                vdupq_n_s32(add)
            )))
        };
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn from_f16(self, from: &[u16; 16]) -> Self::F {
        // The conversion instruction wants a type that is not stable; the integer steps are exact too.
        let wide = from.map(widen);
        self.load(&wide)
    }

    #[inline(always)]
    fn to_f16(self, value: Self::F, to: &mut [u16; 16]) {
        let mut lanes = [0.0; 16];
        self.store(value, &mut lanes);
        *to = lanes.map(narrow);
    }

    #[inline(always)]
    fn from_bf16(self, from: &[u16; 16]) -> Self::F {
        let each =
            |i: usize| proven!(vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.as_ptr().add(4 * i)))));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn from_i8(self, from: &[i8; 16]) -> Self::F {
        proven!({
            let bytes = vld1q_s8(from.as_ptr());
            let words = [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)];
            let [a, b] =
                words.map(|w| [vcvtq_f32_s32(vmovl_s16(vget_low_s16(w))), vcvtq_f32_s32(vmovl_high_s16(w))]);
            [a[0], a[1], b[0], b[1]]
        })
    }

    #[inline(always)]
    fn to_i8(self, value: Self::F, to: &mut [i8; 16]) {
        proven!({
            let [a, b, c, d] = value.map(|value| vqmovn_s32(vcvtnq_s32_f32(value)));
            let low = vqmovn_s16(vcombine_s16(a, b));
            vst1q_s8(to.as_mut_ptr(), vqmovn_high_s16(low, vcombine_s16(c, d)));
        });
    }

    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        proven!([vdupq_n_s32(value); 4])
    }

    #[inline(always)]
    fn load_i(self, from: &[u8; 64]) -> Self::I {
        let each = |i: usize| proven!(vreinterpretq_s32_u8(vld1q_u8(from.as_ptr().add(16 * i))));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn store_i(self, value: Self::I, to: &mut [u8; 64]) {
        for (i, value) in value.into_iter().enumerate() {
            proven!(vst1q_u8(to.as_mut_ptr().add(16 * i), vreinterpretq_u8_s32(value)));
        }
    }

    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        let each = |i: usize| proven!(vandq_s32(a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        let each = |i: usize| proven!(vorrq_s32(a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        let each = |i: usize| proven!(veorq_s32(a[i], b[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn shift_down(self, a: Self::I, bits: u32) -> Self::I {
        let by = -bits.cast_signed();
        let each = |i: usize| {
            proven!(vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a[i]), vdupq_n_s32(by))))
        };
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn shift_up(self, a: Self::I, bits: u32) -> Self::I {
        let each = |i: usize| proven!(vshlq_s32(a[i], vdupq_n_s32(bits.cast_signed())));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn sixteens(self, a: Self::I, quarter: usize) -> Self::I {
        // The byte that holds the four bits, to all bytes of the lane; then each tests its own bit.
        let byte = quarter as u8 / 2;
        let bits = if quarter.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010_u32.cast_signed() };
        a.map(|a| {
            proven!({
                let lanes =
                    vreinterpretq_u8_u32(vld1q_u32([0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c].as_ptr()));
                let spread = vqtbl1q_u8(vreinterpretq_u8_s32(a), vaddq_u8(lanes, vdupq_n_u8(byte)));
                let set = vtstq_u8(spread, vreinterpretq_u8_s32(vdupq_n_s32(bits)));
                vreinterpretq_s32_u8(vandq_u8(set, vdupq_n_u8(16)))
            })
        })
    }

    #[inline(always)]
    fn look_up(self, a: Self::I, table: &[u8; 16]) -> Self::I {
        a.map(|a| {
            proven!(vreinterpretq_s32_u8(vqtbl1q_u8(vld1q_u8(table.as_ptr()), vreinterpretq_u8_s32(a))))
        })
    }

    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        let each = |i: usize| proven!(vcvtq_f32_s32(a[i]));
        [each(0), each(1), each(2), each(3)]
    }

    #[inline(always)]
    fn half_to_f(self, a: Self::I) -> Self::F {
        let mut bytes = [0; 64];
        self.store_i(a, &mut bytes);
        let lanes = bytes.as_chunks::<4>().0;
        self.from_f16(&std::array::from_fn(|i| u16::from_le_bytes([lanes[i][0], lanes[i][1]])))
    }

    #[inline(always)]
    fn transpose(self, rows: &Rows<'_>, at: usize) -> [Self::I; 4] {
        let row = sixteen_bytes(rows, at);
        let quarters = [0, 4, 8, 12].map(|first| {
            let [a, b, c, d] = [row(first), row(first + 1), row(first + 2), row(first + 3)];
            proven!({
                let (ab, ab_odd) = (vtrn1q_s32(a, b), vtrn2q_s32(a, b));
                let (cd, cd_odd) = (vtrn1q_s32(c, d), vtrn2q_s32(c, d));
                let low = |x: int32x4_t, y: int32x4_t| {
                    vreinterpretq_s32_s64(vtrn1q_s64(vreinterpretq_s64_s32(x), vreinterpretq_s64_s32(y)))
                };
                let high = |x: int32x4_t, y: int32x4_t| {
                    vreinterpretq_s32_s64(vtrn2q_s64(vreinterpretq_s64_s32(x), vreinterpretq_s64_s32(y)))
                };
                [low(ab, cd), low(ab_odd, cd_odd), high(ab, cd), high(ab_odd, cd_odd)]
            })
        });
        std::array::from_fn(|j| std::array::from_fn(|quarter| quarters[quarter][j]))
    }

    #[inline(always)]
    fn halves(self, rows: &Rows<'_>, at: usize) -> Self::F {
        self.from_f16(&halves(rows, at))
    }

    #[inline(always)]
    fn prefetch(self, _: &Rows<'_>, _: usize) {
        // The instruction has no stable name; the processors with it follow sixteen rows by themselves.
    }

    #[inline(always)]
    fn dot8<const WIDE: bool>(self, sum: Self::I, a: Self::I, b: Self::I, x: i32, y: i32) -> Self::I {
        let (x, y) = proven!((vdupq_n_s32(x), vdupq_n_s32(y)));
        let each = |i: usize| sdot(self, sdot(self, sum[i], a[i], x), b[i], y);
        [each(0), each(1), each(2), each(3)]
    }
}

/// Adds to each lane the products of its four signed bytes in `a` and in `b`. The intrinsic, `vdotq_s32`, is not stable yet
/// (rust-lang/rust#117224).
#[inline(always)]
fn sdot(_: Neon, mut sum: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
    // SAFETY: the token proves the dot product; only the named registers are touched.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
