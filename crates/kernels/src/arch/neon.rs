//! The paths of NEON: sixteen lanes are four registers. The dot product is all that they need; newer processors multiply two
//! rows with two tokens in one instruction, `smmla`.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::cpu::{I8mm, Neon};
use crate::simd::{Body, Rows, Simd};

/// One or more instructions of this file's set.
macro_rules! proven {
    ($instructions:expr) => {{
        // SAFETY: whoever gets here holds a token, which exists only where the processor has these instructions; pointers
        // come from references to arrays of exactly what is read or written.
        unsafe { $instructions }
    }};
}

/// The sixteen bytes at `at` of one of the rows.
#[inline(always)]
fn sixteen_bytes(rows: &Rows<'_>, row: usize, at: usize) -> int32x4_t {
    assert!(at + 16 <= rows.stride() && row < 16, "inside a row");
    // SAFETY: `Rows` holds sixteen rows of `stride` bytes, and the range lies in one of them.
    unsafe { vreinterpretq_s32_u8(vld1q_u8(rows.bytes().as_ptr().add(row * rows.stride() + at))) }
}

/// Sixteen bytes of each of four rows, transposed: [`Simd::transpose`] for a quarter of the lanes.
#[inline(always)]
fn transpose_four(rows: &Rows<'_>, first: usize, at: usize) -> [int32x4_t; 4] {
    let (a, b) = (sixteen_bytes(rows, first, at), sixteen_bytes(rows, first + 1, at));
    let (c, d) = (sixteen_bytes(rows, first + 2, at), sixteen_bytes(rows, first + 3, at));
    proven!({
        let (ab, ab_odd) = (vreinterpretq_s64_s32(vtrn1q_s32(a, b)), vreinterpretq_s64_s32(vtrn2q_s32(a, b)));
        let (cd, cd_odd) = (vreinterpretq_s64_s32(vtrn1q_s32(c, d)), vreinterpretq_s64_s32(vtrn2q_s32(c, d)));
        [
            vreinterpretq_s32_s64(vtrn1q_s64(ab, cd)),
            vreinterpretq_s32_s64(vtrn1q_s64(ab_odd, cd_odd)),
            vreinterpretq_s32_s64(vtrn2q_s64(ab, cd)),
            vreinterpretq_s32_s64(vtrn2q_s64(ab_odd, cd_odd)),
        ]
    })
}

/// [`Simd::sixteens`] for a quarter of the lanes.
#[inline(always)]
fn sixteens_quarter(a: int32x4_t, byte: u8, bits: i32) -> int32x4_t {
    proven!({
        let places = vreinterpretq_u8_u32(vld1q_u32([0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c].as_ptr()));
        let spread = vqtbl1q_u8(vreinterpretq_u8_s32(a), vaddq_u8(places, vdupq_n_u8(byte)));
        let set = vtstq_u8(spread, vreinterpretq_u8_s32(vdupq_n_s32(bits)));
        vreinterpretq_s32_u8(vandq_u8(set, vdupq_n_u8(16)))
    })
}

/// The lower halves of two.
#[inline(always)]
fn two_low(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    proven!(vcombine_f32(vget_low_f32(a), vget_low_f32(b)))
}

/// The upper halves of two.
#[inline(always)]
fn two_high(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    proven!(vcombine_f32(vget_high_f32(a), vget_high_f32(b)))
}

/// A token of NEON and what its path does in its own way. All else is the same.
pub(crate) trait FourRegisters: Copy + Send + Sync + 'static {
    /// [`Simd::PAIRS`]: the token proves `smmla`.
    const PAIRS: bool;
    /// [`Simd::enter`]
    fn enter<B: Body>(self, body: B) -> B::Output;
}

impl FourRegisters for Neon {
    const PAIRS: bool = false;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        /// Compiles the body with the instructions that the token proves; one function for each body, wherever it is entered.
        #[inline(never)]
        #[target_feature(enable = "neon,dotprod")]
        fn enter<B: Body>(token: Neon, body: B) -> B::Output {
            body.run(token)
        }
        proven!(enter(self, body))
    }
}

impl FourRegisters for I8mm {
    const PAIRS: bool = true;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        /// Like that of [`Neon`].
        #[inline(never)]
        #[target_feature(enable = "neon,dotprod,i8mm")]
        fn enter<B: Body>(token: I8mm, body: B) -> B::Output {
            body.run(token)
        }
        proven!(enter(self, body))
    }
}

impl<P: FourRegisters> Simd for P {
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    type Register = float32x4_t;

    const REGISTERS: usize = 4;
    const REGISTER_FILE: usize = 32;
    const VECTORS: bool = true;
    const UNSIGNED: bool = false;
    const PAIRS: bool = <P as FourRegisters>::PAIRS;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        FourRegisters::enter(self, body)
    }

    #[inline(always)]
    fn load_register(self, from: &[f32; 16], register: usize) -> Self::Register {
        let from = &from.as_chunks::<4>().0[register];
        proven!(vld1q_f32(from.as_ptr()))
    }

    #[inline(always)]
    fn store_register(self, value: Self::Register, to: &mut [f32; 16], register: usize) {
        let to = &mut to.as_chunks_mut::<4>().0[register];
        proven!(vst1q_f32(to.as_mut_ptr(), value));
    }

    #[inline(always)]
    fn mul_add_register(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register {
        proven!(vfmaq_f32(c, a, b))
    }

    #[inline(always)]
    fn sum_four(self, values: [Self::F; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        proven!({
            // Lanes i and i + 8, then i and i + 4; then i and i + 2 of two in one register, i and i + 1 of four.
            let mut fours = [vdupq_n_f32(0.0); 4];
            for (four, v) in fours.iter_mut().zip(values) {
                *four = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            }
            let [a, b, c, d] = fours;
            let ab = vaddq_f32(two_low(a, b), two_high(a, b));
            let cd = vaddq_f32(two_low(c, d), two_high(c, d));
            vst1q_f32(sums.as_mut_ptr(), vaddq_f32(vuzp1q_f32(ab, cd), vuzp2q_f32(ab, cd)));
        });
        sums
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        proven!([vdupq_n_f32(value); 4])
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Self::F {
        proven!([
            vld1q_f32(from.as_ptr()),
            vld1q_f32(from.as_ptr().add(4)),
            vld1q_f32(from.as_ptr().add(4 * 2)),
            vld1q_f32(from.as_ptr().add(4 * 3)),
        ])
    }

    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; 16]) {
        for (i, value) in value.into_iter().enumerate() {
            proven!(vst1q_f32(to.as_mut_ptr().add(4 * i), value));
        }
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1]), vaddq_f32(a[2], b[2]), vaddq_f32(a[3], b[3]),])
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1]), vsubq_f32(a[2], b[2]), vsubq_f32(a[3], b[3]),])
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1]), vmulq_f32(a[2], b[2]), vmulq_f32(a[3], b[3]),])
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1]), vdivq_f32(a[2], b[2]), vdivq_f32(a[3], b[3]),])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        proven!([
            vfmaq_f32(c[0], a[0], b[0]),
            vfmaq_f32(c[1], a[1], b[1]),
            vfmaq_f32(c[2], a[2], b[2]),
            vfmaq_f32(c[3], a[3], b[3]),
        ])
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([
            vbslq_f32(vcltq_f32(a[0], b[0]), a[0], b[0]),
            vbslq_f32(vcltq_f32(a[1], b[1]), a[1], b[1]),
            vbslq_f32(vcltq_f32(a[2], b[2]), a[2], b[2]),
            vbslq_f32(vcltq_f32(a[3], b[3]), a[3], b[3]),
        ])
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([
            vbslq_f32(vcgtq_f32(a[0], b[0]), a[0], b[0]),
            vbslq_f32(vcgtq_f32(a[1], b[1]), a[1], b[1]),
            vbslq_f32(vcgtq_f32(a[2], b[2]), a[2], b[2]),
            vbslq_f32(vcgtq_f32(a[3], b[3]), a[3], b[3]),
        ])
    }

    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        proven!([
            vbslq_f32(vcltq_f32(a[0], b[0]), yes[0], no[0]),
            vbslq_f32(vcltq_f32(a[1], b[1]), yes[1], no[1]),
            vbslq_f32(vcltq_f32(a[2], b[2]), yes[2], no[2]),
            vbslq_f32(vcltq_f32(a[3], b[3]), yes[3], no[3]),
        ])
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        proven!([vabsq_f32(a[0]), vabsq_f32(a[1]), vabsq_f32(a[2]), vabsq_f32(a[3]),])
    }

    #[inline(always)]
    fn into_exponent(self, a: Self::F, add: i32) -> Self::F {
        proven!([
            vreinterpretq_f32_s32(vaddq_s32(
                vshlq_n_s32::<23>(vreinterpretq_s32_f32(a[0])),
                vdupq_n_s32(add)
            )),
            vreinterpretq_f32_s32(vaddq_s32(
                vshlq_n_s32::<23>(vreinterpretq_s32_f32(a[1])),
                vdupq_n_s32(add)
            )),
            vreinterpretq_f32_s32(vaddq_s32(
                vshlq_n_s32::<23>(vreinterpretq_s32_f32(a[2])),
                vdupq_n_s32(add)
            )),
            vreinterpretq_f32_s32(vaddq_s32(
                vshlq_n_s32::<23>(vreinterpretq_s32_f32(a[3])),
                vdupq_n_s32(add)
            )),
        ])
    }

    #[inline(always)]
    fn widen_f16(self, from: &[u16; 16]) -> Self::F {
        proven!([
            widen_four(vld1_u16(from.as_ptr())),
            widen_four(vld1_u16(from.as_ptr().add(4))),
            widen_four(vld1_u16(from.as_ptr().add(4 * 2))),
            widen_four(vld1_u16(from.as_ptr().add(4 * 3))),
        ])
    }

    #[inline(always)]
    fn narrow_f16(self, value: Self::F, to: &mut [u16; 16]) {
        for (i, value) in value.into_iter().enumerate() {
            proven!(vst1_u16(to.as_mut_ptr().add(4 * i), narrow_four(value)));
        }
    }

    #[inline(always)]
    fn widen_bf16(self, from: &[u16; 16]) -> Self::F {
        proven!([
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.as_ptr().add(0)))),
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.as_ptr().add(4)))),
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.as_ptr().add(8)))),
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.as_ptr().add(12)))),
        ])
    }

    #[inline(always)]
    fn widen_i8(self, from: &[i8; 16]) -> Self::F {
        proven!({
            let bytes = vld1q_s8(from.as_ptr());
            let (a, b) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))),
                vcvtq_f32_s32(vmovl_high_s16(a)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))),
                vcvtq_f32_s32(vmovl_high_s16(b)),
            ]
        })
    }

    #[inline(always)]
    fn narrow_i8(self, value: Self::F, to: &mut [i8; 16]) {
        proven!({
            let (a, b) = (vcvtnq_s32_f32(value[0]), vcvtnq_s32_f32(value[1]));
            let (c, d) = (vcvtnq_s32_f32(value[2]), vcvtnq_s32_f32(value[3]));
            let low = vqmovn_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)));
            vst1q_s8(to.as_mut_ptr(), vqmovn_high_s16(low, vcombine_s16(vqmovn_s32(c), vqmovn_s32(d))));
        });
    }

    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        proven!([vdupq_n_s32(value); 4])
    }

    #[inline(always)]
    fn load_i(self, from: &[u8; 64]) -> Self::I {
        proven!([
            vreinterpretq_s32_u8(vld1q_u8(from.as_ptr())),
            vreinterpretq_s32_u8(vld1q_u8(from.as_ptr().add(16))),
            vreinterpretq_s32_u8(vld1q_u8(from.as_ptr().add(16 * 2))),
            vreinterpretq_s32_u8(vld1q_u8(from.as_ptr().add(16 * 3))),
        ])
    }

    #[inline(always)]
    fn store_i(self, value: Self::I, to: &mut [u8; 64]) {
        for (i, value) in value.into_iter().enumerate() {
            proven!(vst1q_u8(to.as_mut_ptr().add(16 * i), vreinterpretq_u8_s32(value)));
        }
    }

    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        proven!([vandq_s32(a[0], b[0]), vandq_s32(a[1], b[1]), vandq_s32(a[2], b[2]), vandq_s32(a[3], b[3]),])
    }

    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        proven!([vorrq_s32(a[0], b[0]), vorrq_s32(a[1], b[1]), vorrq_s32(a[2], b[2]), vorrq_s32(a[3], b[3]),])
    }

    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        proven!([veorq_s32(a[0], b[0]), veorq_s32(a[1], b[1]), veorq_s32(a[2], b[2]), veorq_s32(a[3], b[3]),])
    }

    #[inline(always)]
    fn shift_down(self, a: Self::I, bits: u32) -> Self::I {
        let by = -bits.cast_signed();
        proven!([
            vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a[0]), vdupq_n_s32(by))),
            vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a[1]), vdupq_n_s32(by))),
            vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a[2]), vdupq_n_s32(by))),
            vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a[3]), vdupq_n_s32(by))),
        ])
    }

    #[inline(always)]
    fn shift_up(self, a: Self::I, bits: u32) -> Self::I {
        proven!([
            vshlq_s32(a[0], vdupq_n_s32(bits.cast_signed())),
            vshlq_s32(a[1], vdupq_n_s32(bits.cast_signed())),
            vshlq_s32(a[2], vdupq_n_s32(bits.cast_signed())),
            vshlq_s32(a[3], vdupq_n_s32(bits.cast_signed())),
        ])
    }

    #[inline(always)]
    fn sixteens(self, a: Self::I, quarter: usize) -> Self::I {
        // The byte that holds the four bits, to all bytes of the lane; then each tests its own bit.
        let byte = quarter as u8 / 2;
        let bits = if quarter.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010_u32.cast_signed() };
        [
            sixteens_quarter(a[0], byte, bits),
            sixteens_quarter(a[1], byte, bits),
            sixteens_quarter(a[2], byte, bits),
            sixteens_quarter(a[3], byte, bits),
        ]
    }

    #[inline(always)]
    fn look_up(self, a: Self::I, table: &[u8; 16]) -> Self::I {
        let table = proven!(vld1q_u8(table.as_ptr()));
        proven!([
            vreinterpretq_s32_u8(vqtbl1q_u8(table, vreinterpretq_u8_s32(a[0]))),
            vreinterpretq_s32_u8(vqtbl1q_u8(table, vreinterpretq_u8_s32(a[1]))),
            vreinterpretq_s32_u8(vqtbl1q_u8(table, vreinterpretq_u8_s32(a[2]))),
            vreinterpretq_s32_u8(vqtbl1q_u8(table, vreinterpretq_u8_s32(a[3]))),
        ])
    }

    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        proven!([vcvtq_f32_s32(a[0]), vcvtq_f32_s32(a[1]), vcvtq_f32_s32(a[2]), vcvtq_f32_s32(a[3]),])
    }

    #[inline(always)]
    fn half_to_f(self, a: Self::I) -> Self::F {
        proven!([
            widen_four(vmovn_u32(vreinterpretq_u32_s32(a[0]))),
            widen_four(vmovn_u32(vreinterpretq_u32_s32(a[1]))),
            widen_four(vmovn_u32(vreinterpretq_u32_s32(a[2]))),
            widen_four(vmovn_u32(vreinterpretq_u32_s32(a[3]))),
        ])
    }

    #[inline(always)]
    fn transpose(self, rows: &Rows<'_>, at: usize) -> [Self::I; 4] {
        let (a, b) = (transpose_four(rows, 0, at), transpose_four(rows, 4, at));
        let (c, d) = (transpose_four(rows, 8, at), transpose_four(rows, 12, at));
        [
            [a[0], b[0], c[0], d[0]],
            [a[1], b[1], c[1], d[1]],
            [a[2], b[2], c[2], d[2]],
            [a[3], b[3], c[3], d[3]],
        ]
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 32]) -> Self::F {
        let mut halves = [0; 16];
        for (half, bytes) in halves.iter_mut().zip(from.as_chunks::<2>().0) {
            *half = u16::from_le_bytes(*bytes);
        }
        self.widen_f16(&halves)
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], at: usize) {
        let place = from.as_ptr().wrapping_add(at);
        // SAFETY: a hint reads nothing, so the address need not be one of ours. Its intrinsic is not stable yet
        // (rust-lang/rust#117217).
        unsafe { asm!("prfm pldl2keep, [{}]", in(reg) place, options(readonly, nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn dot8<const WIDE: bool>(self, sum: Self::I, a: Self::I, b: Self::I, x: i32, y: i32) -> Self::I {
        let (x, y) = proven!((vdupq_n_s32(x), vdupq_n_s32(y)));
        [
            sdot(self, sdot(self, sum[0], a[0], x), b[0], y),
            sdot(self, sdot(self, sum[1], a[1], x), b[1], y),
            sdot(self, sdot(self, sum[2], a[2], x), b[2], y),
            sdot(self, sdot(self, sum[3], a[3], x), b[3], y),
        ]
    }

    #[inline(always)]
    fn woven(self, two: [Self::I; 2]) -> [Self::I; 2] {
        let [a, b] = two;
        match P::PAIRS {
            true => [zipped([a[0], a[1]], [b[0], b[1]]), zipped([a[2], a[3]], [b[2], b[3]])],
            false => two,
        }
    }

    #[inline(always)]
    fn unwoven(self, two: [Self::I; 2]) -> [Self::I; 2] {
        let [a, b] = two;
        let ([c, d], [e, f]) = (unzipped([a[0], a[1]]), unzipped([a[2], a[3]]));
        let ([g, h], [i, j]) = (unzipped([b[0], b[1]]), unzipped([b[2], b[3]]));
        if P::PAIRS { [[c, e, g, i], [d, f, h, j]] } else { two }
    }

    #[inline(always)]
    fn dot8_two<const WIDE: bool>(
        self,
        sums: [Self::I; 2],
        [a, b]: [Self::I; 2],
        x: &[i32; 2],
        y: &[i32; 2],
    ) -> [Self::I; 2] {
        if !P::PAIRS {
            return [
                self.dot8::<WIDE>(sums[0], a, b, x[0], y[0]),
                self.dot8::<WIDE>(sums[1], a, b, x[1], y[1]),
            ];
        }
        // Eight bytes of one token, then of the other.
        let tokens = proven!({
            let (x, y) = (vld1_s32(x.as_ptr()), vld1_s32(y.as_ptr()));
            vcombine_s32(vzip1_s32(x, y), vzip2_s32(x, y))
        });
        let mut out = sums;
        for i in 0..4 {
            out[0][i] = smmla(self, sums[0][i], a[i], tokens);
            out[1][i] = smmla(self, sums[1][i], b[i], tokens);
        }
        out
    }
}

/// Lanes of two by turns: so are two rows, eight bytes of each, of four bytes of four rows and the next four.
#[inline(always)]
fn zipped(a: [int32x4_t; 2], b: [int32x4_t; 2]) -> [int32x4_t; 4] {
    proven!([vzip1q_s32(a[0], b[0]), vzip2q_s32(a[0], b[0]), vzip1q_s32(a[1], b[1]), vzip2q_s32(a[1], b[1])])
}

/// Undoes [`zipped`], for half of it.
#[inline(always)]
fn unzipped([a, b]: [int32x4_t; 2]) -> [int32x4_t; 2] {
    proven!([vuzp1q_s32(a, b), vuzp2q_s32(a, b)])
}

/// Half precision to single.
#[inline(always)]
fn widen_four(half: uint16x4_t) -> float32x4_t {
    proven!(vcvt_f32_f16(vreinterpret_f16_u16(half)))
}

/// Single precision to half, to the nearest, ties to even: how Rust leaves the processor.
#[inline(always)]
fn narrow_four(wide: float32x4_t) -> uint16x4_t {
    proven!(vreinterpret_u16_f16(vcvt_f16_f32(wide)))
}

/// Adds to each lane the products of its four signed bytes in `a` and in `b`. The intrinsic, `vdotq_s32`, is not stable yet
/// (rust-lang/rust#117224).
#[inline(always)]
fn sdot(_: impl FourRegisters, mut sum: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
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

/// Adds to lanes 0 to 3 the products of eight signed bytes: of row 0 with token 0 and 1, of row 1 with token 0 and 1. The
/// intrinsic, `vmmlaq_s32`, is not stable yet (rust-lang/rust#117223).
#[inline(always)]
fn smmla(_: impl FourRegisters, mut sum: int32x4_t, rows: int32x4_t, tokens: int32x4_t) -> int32x4_t {
    // SAFETY: only a path of pairs gets here, whose token proves the instruction; only the named registers are touched.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sum:v}.4s, {rows:v}.16b, {tokens:v}.16b",
            sum = inout(vreg) sum,
            rows = in(vreg) rows,
            tokens = in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
