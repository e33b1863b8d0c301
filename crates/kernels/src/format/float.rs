//! Numbers that are not in blocks: F32, F16 and BF16, little-endian, one after the other.
//!
//! [`widen`] is also how every block format reads its scales.

use half::{bf16, f16};

/// From here on a number rounds to an infinite f16.
pub const HALF_END: f32 = 65_520.0;

/// From here on a number rounds to an infinite bf16: half a step below 2^128.
pub const BRAIN_END: f32 = f32::from_bits(0x7f7f_8000);

/// The f32 with the value of an f16. Exact; branch-free and without denormal arithmetic, so that it vectorises and costs
/// the same for the small scales of K-quants, which are often denormal as f16.
#[inline(always)]
pub fn widen(bits: u16) -> f32 {
    /// What the exponent of an f32 counts more than that of an f16: 127 - 15, in place.
    const REBIAS: u32 = 112 << 23;
    let magnitude = u32::from(bits & 0x7fff);
    let normal = (magnitude << 13) + REBIAS;
    // An f16 without exponent counts in steps of 2^-24.
    let denormal = (magnitude as f32 * f32::from_bits((127 - 24) << 23)).to_bits();
    let special = (magnitude << 13) | 0x7f80_0000;
    let small = if magnitude < 0x0400 { denormal } else { normal };
    let value = if magnitude >= 0x7c00 { special } else { small };
    f32::from_bits(value | u32::from(bits & 0x8000) << 16)
}

/// The f32 with the value of a bf16: its upper half.
#[inline(always)]
pub fn widen_brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest f16, ties to even; infinite from 65 520 on.
#[inline]
pub fn narrow(value: f32) -> u16 {
    f16::from_f32(value).to_bits()
}

/// The nearest bf16, ties to even.
#[inline]
pub fn narrow_brain(value: f32) -> u16 {
    bf16::from_f32(value).to_bits()
}

/// F32 as it lies in a file to numbers; `bytes` has 4 for each number.
pub fn decode_single(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f32::from_le_bytes(*bytes);
    }
}

/// F16 as it lies in a file to numbers; `bytes` has 2 for each number.
pub fn decode_half(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = widen(u16::from_le_bytes(*bytes));
    }
}

/// BF16 as it lies in a file to numbers; `bytes` has 2 for each number.
pub fn decode_brain(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = widen_brain(u16::from_le_bytes(*bytes));
    }
}

/// Numbers to F32 as it lies in a file.
pub fn encode_single(values: &[f32], out: &mut [u8]) {
    for (value, out) in values.iter().zip(out.as_chunks_mut().0) {
        *out = value.to_le_bytes();
    }
}

/// Numbers to F16 as it lies in a file.
pub fn encode_half(values: &[f32], out: &mut [u8]) {
    for (value, out) in values.iter().zip(out.as_chunks_mut().0) {
        *out = narrow(*value).to_le_bytes();
    }
}

/// Numbers to BF16 as it lies in a file.
pub fn encode_brain(values: &[f32], out: &mut [u8]) {
    for (value, out) in values.iter().zip(out.as_chunks_mut().0) {
        *out = narrow_brain(*value).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_as_the_half_crate_says() {
        for bits in 0..=u16::MAX {
            for (ours, wanted) in [
                (widen(bits), f16::from_bits(bits).to_f32()),
                (widen_brain(bits), bf16::from_bits(bits).to_f32()),
            ] {
                assert!(
                    ours.to_bits() == wanted.to_bits() || (ours.is_nan() && wanted.is_nan()),
                    "{bits:#06x}: {ours}"
                );
            }
        }
    }

    #[test]
    fn every_half_survives_the_round_trip() {
        for bits in (0..=u16::MAX).filter(|bits| !f16::from_bits(*bits).is_nan()) {
            assert_eq!(narrow(widen(bits)), bits);
        }
        for bits in (0..=u16::MAX).filter(|bits| !bf16::from_bits(*bits).is_nan()) {
            assert_eq!(narrow_brain(widen_brain(bits)), bits);
        }
    }

    #[test]
    fn narrowing_takes_the_nearest_and_ties_to_even() {
        for (value, wanted) in [
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (65_519.0, 0x7bff),
            (65_520.0, 0x7c00),
            (3.0e-8, 1),
            (-2.9e-8, 0x8000),
        ] {
            assert_eq!(narrow(value), wanted, "{value}");
        }
        for (value, wanted) in [(1.0 + 1.0 / 256.0, 0x3f80), (1.0 + 3.0 / 256.0, 0x3f82), (1e-40, 1)] {
            assert_eq!(narrow_brain(value), wanted, "{value}");
        }
    }
}
