//! The path of AVX-512 with VNNI: sixteen lanes are one register.

use std::arch::x86_64::*;

use crate::cpu::Avx512;
use crate::simd::{Body, Rows, Simd};

/// One or more instructions of this file's set.
macro_rules! proven {
    ($instructions:expr) => {
        // SAFETY: whoever gets here holds a token, which exists only where the processor has these instructions; pointers
        // come from references to arrays of exactly what is read or written.
        unsafe { $instructions }
    };
}

/// The sixteen bytes at `at` of one of the rows.
#[inline(always)]
fn sixteen_bytes(rows: &Rows<'_>, row: usize, at: usize) -> __m128i {
    assert!(at + 16 <= rows.stride() && row < 16, "inside a row");
    // SAFETY: `Rows` holds sixteen rows of `stride` bytes, and the range lies in one of them.
    unsafe { _mm_loadu_si128(rows.bytes().as_ptr().add(row * rows.stride() + at).cast()) }
}

/// Sixteen bytes of rows `first`, and 4, 8 and 12 behind it.
#[inline(always)]
fn every_fourth(rows: &Rows<'_>, first: usize, at: usize) -> __m512i {
    let (a, b) = (sixteen_bytes(rows, first, at), sixteen_bytes(rows, first + 4, at));
    let (c, d) = (sixteen_bytes(rows, first + 8, at), sixteen_bytes(rows, first + 12, at));
    proven!({
        let x = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
        _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(x, c), d)
    })
}

/// Compiles the body with the instructions that the token proves; one function for each body, wherever it is entered.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn enter<B: Body>(token: Avx512, body: B) -> B::Output {
    body.run(token)
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type Register = __m512;

    const REGISTERS: usize = 1;
    const REGISTER_FILE: usize = 32;
    const VECTORS: bool = true;
    const UNSIGNED: bool = true;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        proven!(enter(self, body))
    }

    #[inline(always)]
    fn load_register(self, from: &[f32; 16], _: usize) -> Self::Register {
        self.load(from)
    }

    #[inline(always)]
    fn store_register(self, value: Self::Register, to: &mut [f32; 16], _: usize) {
        self.store(value, to);
    }

    #[inline(always)]
    fn mul_add_register(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register {
        self.mul_add(a, b, c)
    }

    #[inline(always)]
    fn sum_four(self, [a, b, c, d]: [Self::F; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        proven!({
            // Lanes i and i + 8 of two in one register, then i and i + 4 of four; then i and i + 2, i and i + 1 of each.
            let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
            let all =
                _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
            let all = _mm512_add_ps(all, _mm512_permute_ps::<0b01_00_11_10>(all));
            let all = _mm512_add_ps(all, _mm512_permute_ps::<0b10_11_00_01>(all));
            let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
            let sum = _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, all));
            _mm_storeu_ps(sums.as_mut_ptr(), sum);
        });
        sums
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        proven!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Self::F {
        proven!(_mm512_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; 16]) {
        proven!(_mm512_storeu_ps(to.as_mut_ptr(), value));
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        proven!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        proven!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        proven!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        proven!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        proven!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        proven!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        proven!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        proven!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes))
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        proven!(_mm512_abs_ps(a))
    }

    #[inline(always)]
    fn into_exponent(self, a: Self::F, add: i32) -> Self::F {
        proven!({
            let moved = _mm512_slli_epi32::<23>(_mm512_castps_si512(a));
            _mm512_castsi512_ps(_mm512_add_epi32(moved, _mm512_set1_epi32(add)))
        })
    }

    #[inline(always)]
    fn widen_f16(self, from: &[u16; 16]) -> Self::F {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn narrow_f16(self, value: Self::F, to: &mut [u16; 16]) {
        proven!(_mm256_storeu_si256(
            to.as_mut_ptr().cast(),
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value)
        ));
    }

    #[inline(always)]
    fn widen_bf16(self, from: &[u16; 16]) -> Self::F {
        proven!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }

    #[inline(always)]
    fn widen_i8(self, from: &[i8; 16]) -> Self::F {
        proven!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))))
    }

    #[inline(always)]
    fn narrow_i8(self, value: Self::F, to: &mut [i8; 16]) {
        proven!(_mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(value))));
    }

    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        proven!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn load_i(self, from: &[u8; 64]) -> Self::I {
        proven!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn store_i(self, value: Self::I, to: &mut [u8; 64]) {
        proven!(_mm512_storeu_si512(to.as_mut_ptr().cast(), value));
    }

    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        proven!(_mm512_and_si512(a, b))
    }

    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        proven!(_mm512_or_si512(a, b))
    }

    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        proven!(_mm512_xor_si512(a, b))
    }

    #[inline(always)]
    fn shift_down(self, a: Self::I, bits: u32) -> Self::I {
        proven!(_mm512_srl_epi32(a, _mm_cvtsi32_si128(bits.cast_signed())))
    }

    #[inline(always)]
    fn shift_up(self, a: Self::I, bits: u32) -> Self::I {
        proven!(_mm512_sll_epi32(a, _mm_cvtsi32_si128(bits.cast_signed())))
    }

    #[inline(always)]
    fn sixteens(self, a: Self::I, quarter: usize) -> Self::I {
        // The byte that holds the four bits, to all bytes of the lane; then each tests its own bit.
        let byte = 0x0101_0101 * (quarter / 2) as i32;
        let bits = if quarter.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010_u32.cast_signed() };
        proven!({
            let lanes = _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0);
            let spread = _mm512_shuffle_epi8(a, _mm512_add_epi8(lanes, _mm512_set1_epi32(byte)));
            let set = _mm512_test_epi8_mask(spread, _mm512_set1_epi32(bits));
            _mm512_maskz_mov_epi8(set, _mm512_set1_epi8(16))
        })
    }

    #[inline(always)]
    fn look_up(self, a: Self::I, table: &[u8; 16]) -> Self::I {
        proven!(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), a))
    }

    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        proven!(_mm512_cvtepi32_ps(a))
    }

    #[inline(always)]
    fn half_to_f(self, a: Self::I) -> Self::F {
        proven!(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)))
    }

    #[inline(always)]
    fn transpose(self, rows: &Rows<'_>, at: usize) -> [Self::I; 4] {
        let (a, b) = (every_fourth(rows, 0, at), every_fourth(rows, 1, at));
        let (c, d) = (every_fourth(rows, 2, at), every_fourth(rows, 3, at));
        proven!({
            let (ab, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        })
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 32]) -> Self::F {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], at: usize) {
        // A hint reads nothing, so the address need not be one of ours.
        proven!(_mm_prefetch::<_MM_HINT_T1>(from.as_ptr().wrapping_add(at).cast()));
    }

    #[inline(always)]
    fn dot8<const WIDE: bool>(self, sum: Self::I, a: Self::I, b: Self::I, x: i32, y: i32) -> Self::I {
        proven!({
            let sum = _mm512_dpbusd_epi32(sum, a, _mm512_set1_epi32(x));
            _mm512_dpbusd_epi32(sum, b, _mm512_set1_epi32(y))
        })
    }
}
