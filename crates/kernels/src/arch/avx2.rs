//! The path of AVX2 with FMA and F16C: sixteen lanes are two registers.

use std::arch::x86_64::*;

use crate::cpu::Avx2;
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
#[target_feature(enable = "avx2,fma,f16c")]
fn enter<B: Body>(token: Avx2, body: B) -> B::Output {
    body.run(token)
}

impl Simd for Avx2 {
    type F = [__m256; 2];

    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        proven!(enter(self, body))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        proven!([_mm256_set1_ps(value); 2])
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Self::F {
        proven!([_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))])
    }

    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; 16]) {
        proven!({
            _mm256_storeu_ps(to.as_mut_ptr(), value[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), value[1]);
        });
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        proven!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        proven!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn if_less(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        proven!([
            _mm256_blendv_ps(no[0], yes[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
            _mm256_blendv_ps(no[1], yes[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1]))
        ])
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        let sign = proven!(_mm256_set1_ps(-0.0));
        proven!([_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])])
    }

    #[inline(always)]
    fn into_exponent(self, a: Self::F, add: i32) -> Self::F {
        a.map(|a| {
            proven!({
                let moved = _mm256_slli_epi32::<23>(_mm256_castps_si256(a));
                _mm256_castsi256_ps(_mm256_add_epi32(moved, _mm256_set1_epi32(add)))
            })
        })
    }

    #[inline(always)]
    fn from_f16(self, from: &[u16; 16]) -> Self::F {
        proven!([
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast::<__m128i>().add(0))),
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast::<__m128i>().add(1)))
        ])
    }

    #[inline(always)]
    fn to_f16(self, value: Self::F, to: &mut [u16; 16]) {
        for (i, value) in value.into_iter().enumerate() {
            proven!({
                let bits = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value);
                _mm_storeu_si128(to.as_mut_ptr().cast::<__m128i>().add(i), bits);
            });
        }
    }

    #[inline(always)]
    fn from_bf16(self, from: &[u16; 16]) -> Self::F {
        [0, 1].map(|i| {
            proven!({
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast::<__m128i>().add(i)));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            })
        })
    }

    #[inline(always)]
    fn from_i8(self, from: &[i8; 16]) -> Self::F {
        [0, 8].map(|i| {
            proven!(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().add(i).cast()))))
        })
    }

    #[inline(always)]
    fn to_i8(self, value: Self::F, to: &mut [i8; 16]) {
        proven!({
            let [low, high] = [_mm256_cvtps_epi32(value[0]), _mm256_cvtps_epi32(value[1])];
            // Packing works within the halves of a register, so the order must be mended.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        });
    }
}
