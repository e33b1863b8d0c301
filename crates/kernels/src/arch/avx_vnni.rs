//! The path of AVX2 with AVX-VNNI, which multiplies and adds four bytes to a lane in one instruction, `vpdpbusd`.
//!
//! AVX-512 VNNI has the same instruction in another encoding, on processors that most tests run on. So tests of this crate
//! take this path in that encoding, and only there. It has not been run in its own encoding on a processor that has it.

use std::arch::x86_64::*;

#[cfg(not(test))]
use _mm256_dpbusd_avx_epi32 as dpbusd;
#[cfg(test)]
use _mm256_dpbusd_epi32 as dpbusd;

use crate::arch::avx2::TwoRegisters;
use crate::cpu::AvxVnni;
use crate::simd::Body;

/// Compiles the body with the instructions that the token proves; one function for each body, wherever it is entered.
#[inline(never)]
#[cfg_attr(not(test), target_feature(enable = "avx2,fma,f16c,avxvnni"))]
#[cfg_attr(test, target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni"))]
fn enter<B: Body>(token: AvxVnni, body: B) -> B::Output {
    body.run(token)
}

impl TwoRegisters for AvxVnni {
    const UNSIGNED: bool = true;

    #[inline(always)]
    fn enter<B: Body>(self, body: B) -> B::Output {
        // SAFETY: the token exists only where the processor has these instructions.
        unsafe { enter(self, body) }
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
        // SAFETY: the token proves the instruction, which touches registers alone.
        unsafe { dpbusd(dpbusd(sum, a, x), b, y) }
    }
}
