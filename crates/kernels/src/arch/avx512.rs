//! The path of AVX-512 with VNNI: sixteen lanes are one register.

use std::arch::x86_64::*;

use crate::cpu::Avx512;
use crate::simd::{Body, Simd};

/// One or more instructions of this file's set.
macro_rules! proven {
    ($instructions:expr) => {
        // SAFETY: whoever gets here holds a token, which exists only where the processor has these instructions; pointers
        // come from references to arrays of exactly what is read or written.
        unsafe { $instructions }
    };
}

/// Compiles the body with the instructions that the token proves.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn enter<B: Body>(token: Avx512, body: B) -> B::Output {
    body.run(token)
}

impl Simd for Avx512 {
    type F = __m512;

    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        proven!(enter(self, body))
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
    fn from_f16(self, from: &[u16; 16]) -> Self::F {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn to_f16(self, value: Self::F, to: &mut [u16; 16]) {
        proven!(_mm256_storeu_si256(
            to.as_mut_ptr().cast(),
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value)
        ));
    }

    #[inline(always)]
    fn from_bf16(self, from: &[u16; 16]) -> Self::F {
        proven!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }

    #[inline(always)]
    fn from_i8(self, from: &[i8; 16]) -> Self::F {
        proven!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))))
    }

    #[inline(always)]
    fn to_i8(self, value: Self::F, to: &mut [i8; 16]) {
        proven!(_mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(value))));
    }
}
