//! The paths of 256 bits: sixteen lanes are two registers. AVX2 with FMA and F16C is all that they need; what newer processors
//! multiply in one instruction stands in `avx_vnni`.

use std::arch::x86_64::*;

use crate::cpu::Avx2;
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

/// Sixteen bytes of row `first` and of the fourth behind it.
#[inline(always)]
fn both(rows: &Rows<'_>, first: usize, at: usize) -> __m256i {
    let (a, b) = (sixteen_bytes(rows, first, at), sixteen_bytes(rows, first + 4, at));
    proven!(_mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), b))
}

/// Sixteen bytes of each of eight rows, transposed: [`Simd::transpose`] for half of the lanes.
#[inline(always)]
fn transpose_eight(rows: &Rows<'_>, first: usize, at: usize) -> [__m256i; 4] {
    let (a, b) = (both(rows, first, at), both(rows, first + 1, at));
    let (c, d) = (both(rows, first + 2, at), both(rows, first + 3, at));
    proven!({
        let (ab, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    })
}

/// [`Simd::sixteens`] for half of the lanes.
#[inline(always)]
fn sixteens_half(a: __m256i, byte: i32, bits: i32) -> __m256i {
    proven!({
        let places = _mm256_set_epi32(
            0x0c0c_0c0c,
            0x0808_0808,
            0x0404_0404,
            0,
            0x0c0c_0c0c,
            0x0808_0808,
            0x0404_0404,
            0,
        );
        let spread = _mm256_shuffle_epi8(a, _mm256_add_epi8(places, _mm256_set1_epi32(byte)));
        let bits = _mm256_set1_epi32(bits);
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bits), bits);
        _mm256_and_si256(set, _mm256_set1_epi8(16))
    })
}

/// [`Simd::half_to_f`] for half of the lanes.
#[inline(always)]
fn half_to_f_half(a: __m256i) -> __m256 {
    proven!({
        let low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
        let packed = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
        _mm256_cvtph_ps(packed)
    })
}

/// A token of AVX2, and what its path does in its own way: multiply bytes. All else is the same.
pub(crate) trait TwoRegisters: Copy + Send + Sync + 'static {
    /// [`Simd::UNSIGNED`]
    const UNSIGNED: bool;
    /// [`Simd::enter`]
    fn enter<B: Body>(self, body: B) -> B::Output;
    /// [`Simd::dot8`] for half of the lanes.
    fn dot8_half<const WIDE: bool>(
        self,
        sum: __m256i,
        a: __m256i,
        b: __m256i,
        x: __m256i,
        y: __m256i,
    ) -> __m256i;
}

/// Compiles the body with the instructions that the token proves; one function for each body, wherever it is entered.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn enter<B: Body>(token: Avx2, body: B) -> B::Output {
    body.run(token)
}

impl TwoRegisters for Avx2 {
    const UNSIGNED: bool = false;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        proven!(enter(self, body))
    }

    #[inline(always)]
    fn dot8_half<const WIDE: bool>(
        self,
        sum: __m256i,
        a: __m256i,
        b: __m256i,
        x: __m256i,
        y: __m256i,
    ) -> __m256i {
        proven!({
            let ones = _mm256_set1_epi16(1);
            if WIDE {
                // |w| ≤ 128 and |x| ≤ 127: a pair of products stays below 2¹⁵, two pairs may not.
                let ax = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(x, a));
                let by = _mm256_maddubs_epi16(_mm256_abs_epi8(b), _mm256_sign_epi8(y, b));
                let both = _mm256_add_epi32(_mm256_madd_epi16(ax, ones), _mm256_madd_epi16(by, ones));
                _mm256_add_epi32(sum, both)
            } else {
                // w ≤ 63: two pairs of products stay below 2¹⁵ (4 · 63 · 127 = 32 004).
                let both = _mm256_add_epi16(_mm256_maddubs_epi16(a, x), _mm256_maddubs_epi16(b, y));
                _mm256_add_epi32(sum, _mm256_madd_epi16(both, ones))
            }
        })
    }
}

impl<P: TwoRegisters> Simd for P {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type Register = __m256;

    const REGISTERS: usize = 2;
    const REGISTER_FILE: usize = 16;
    const VECTORS: bool = true;
    const UNSIGNED: bool = <P as TwoRegisters>::UNSIGNED;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        TwoRegisters::enter(self, body)
    }

    #[inline(always)]
    fn load_register(self, from: &[f32; 16], register: usize) -> Self::Register {
        let from = &from.as_chunks::<8>().0[register];
        proven!(_mm256_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn store_register(self, value: Self::Register, to: &mut [f32; 16], register: usize) {
        let to = &mut to.as_chunks_mut::<8>().0[register];
        proven!(_mm256_storeu_ps(to.as_mut_ptr(), value));
    }

    #[inline(always)]
    fn mul_add_register(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register {
        proven!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn sum_four(self, [a, b, c, d]: [Self::F; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        proven!({
            // Lanes i and i + 8, then i and i + 4 of two in one register, then i and i + 2 of four, then i and i + 1.
            let (a, b) = (_mm256_add_ps(a[0], a[1]), _mm256_add_ps(b[0], b[1]));
            let (c, d) = (_mm256_add_ps(c[0], c[1]), _mm256_add_ps(d[0], d[1]));
            let ac =
                _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, c), _mm256_permute2f128_ps::<0x31>(a, c));
            let bd =
                _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(b, d), _mm256_permute2f128_ps::<0x31>(b, d));
            let all = _mm256_add_ps(_mm256_shuffle_ps::<0x44>(ac, bd), _mm256_shuffle_ps::<0xee>(ac, bd));
            let all = _mm256_add_ps(_mm256_permute_ps::<0b10_00>(all), _mm256_permute_ps::<0b11_01>(all));
            let sum = _mm_movelh_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            _mm_storeu_ps(sums.as_mut_ptr(), sum);
        });
        sums
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
        let add = proven!(_mm256_set1_epi32(add));
        proven!([
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32::<23>(_mm256_castps_si256(a[0])), add)),
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32::<23>(_mm256_castps_si256(a[1])), add)),
        ])
    }

    #[inline(always)]
    fn widen_f16(self, from: &[u16; 16]) -> Self::F {
        proven!([
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast::<__m128i>().add(0))),
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast::<__m128i>().add(1)))
        ])
    }

    #[inline(always)]
    fn narrow_f16(self, value: Self::F, to: &mut [u16; 16]) {
        proven!({
            let [low, high] = [
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value[0]),
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value[1]),
            ];
            _mm_storeu_si128(to.as_mut_ptr().cast(), low);
            _mm_storeu_si128(to.as_mut_ptr().cast::<__m128i>().add(1), high);
        });
    }

    #[inline(always)]
    fn widen_bf16(self, from: &[u16; 16]) -> Self::F {
        proven!([
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(
                from.as_ptr().cast::<__m128i>().add(0)
            )))),
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(
                from.as_ptr().cast::<__m128i>().add(1)
            )))),
        ])
    }

    #[inline(always)]
    fn widen_i8(self, from: &[i8; 16]) -> Self::F {
        proven!([
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().add(8).cast()))),
        ])
    }

    #[inline(always)]
    fn narrow_i8(self, value: Self::F, to: &mut [i8; 16]) {
        proven!({
            let [low, high] = [_mm256_cvtps_epi32(value[0]), _mm256_cvtps_epi32(value[1])];
            // Packing works within the halves of a register, so the order must be mended.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        });
    }

    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        proven!([_mm256_set1_epi32(value); 2])
    }

    #[inline(always)]
    fn load_i(self, from: &[u8; 64]) -> Self::I {
        proven!([
            _mm256_loadu_si256(from.as_ptr().cast::<__m256i>().add(0)),
            _mm256_loadu_si256(from.as_ptr().cast::<__m256i>().add(1))
        ])
    }

    #[inline(always)]
    fn store_i(self, value: Self::I, to: &mut [u8; 64]) {
        proven!({
            _mm256_storeu_si256(to.as_mut_ptr().cast(), value[0]);
            _mm256_storeu_si256(to.as_mut_ptr().cast::<__m256i>().add(1), value[1]);
        });
    }

    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        proven!([_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])])
    }

    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        proven!([_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])])
    }

    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        proven!([_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])])
    }

    #[inline(always)]
    fn shift_down(self, a: Self::I, bits: u32) -> Self::I {
        let bits = proven!(_mm_cvtsi32_si128(bits.cast_signed()));
        proven!([_mm256_srl_epi32(a[0], bits), _mm256_srl_epi32(a[1], bits),])
    }

    #[inline(always)]
    fn shift_up(self, a: Self::I, bits: u32) -> Self::I {
        let bits = proven!(_mm_cvtsi32_si128(bits.cast_signed()));
        proven!([_mm256_sll_epi32(a[0], bits), _mm256_sll_epi32(a[1], bits),])
    }

    #[inline(always)]
    fn sixteens(self, a: Self::I, quarter: usize) -> Self::I {
        // The byte that holds the four bits, to all bytes of the lane; then each tests its own bit.
        let byte = 0x0101_0101 * (quarter / 2) as i32;
        let bits = if quarter.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010_u32.cast_signed() };
        [sixteens_half(a[0], byte, bits), sixteens_half(a[1], byte, bits)]
    }

    #[inline(always)]
    fn look_up(self, a: Self::I, table: &[u8; 16]) -> Self::I {
        let table = proven!(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())));
        proven!([_mm256_shuffle_epi8(table, a[0]), _mm256_shuffle_epi8(table, a[1]),])
    }

    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        proven!([_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])])
    }

    #[inline(always)]
    fn half_to_f(self, a: Self::I) -> Self::F {
        [half_to_f_half(a[0]), half_to_f_half(a[1])]
    }

    #[inline(always)]
    fn transpose(self, rows: &Rows<'_>, at: usize) -> [Self::I; 4] {
        let (low, high) = (transpose_eight(rows, 0, at), transpose_eight(rows, 8, at));
        [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]], [low[3], high[3]]]
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 32]) -> Self::F {
        let (low, high) = from.split_at(16);
        proven!([
            _mm256_cvtph_ps(_mm_loadu_si128(low.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(high.as_ptr().cast())),
        ])
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], at: usize) {
        // A hint reads nothing, so the address need not be one of ours.
        proven!(_mm_prefetch::<_MM_HINT_T1>(from.as_ptr().wrapping_add(at).cast()));
    }

    #[inline(always)]
    fn dot8<const WIDE: bool>(self, sum: Self::I, a: Self::I, b: Self::I, x: i32, y: i32) -> Self::I {
        let (x, y) = proven!((_mm256_set1_epi32(x), _mm256_set1_epi32(y)));
        [self.dot8_half::<WIDE>(sum[0], a[0], b[0], x, y), self.dot8_half::<WIDE>(sum[1], a[1], b[1], x, y)]
    }
}
