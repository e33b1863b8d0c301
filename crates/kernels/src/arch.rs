//! The instruction sets: each file one path, opened only by the value that proves the processor can.
//!
//! Each implements [`Simd`](crate::simd) for its token of [`cpu`](crate::cpu); what is computed stands elsewhere, once.
#![allow(
    unsafe_code,
    reason = "instructions that not every processor has; each file says why its own may be used"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
