//! Q3_K: 256 numbers of 3 bits around zero in groups of 16, each with a scale of 6 bits. `w = d · (s − 32) · (code − 4)`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–31 | `hmask` | bit k of byte j: the third bit of number 32k + j |
//! | 32–95 | `qs` | 32 bytes for each half of 128 numbers; bits 2k, 2k + 1 of byte j: number 32k + j of the half |
//! | 96–107 | `scales` | 16 × 6 bits, see `scale_code` |
//! | 108–109 | `d` | scale of the scales, f16 |

use crate::format::block::{Block, half_at};
use crate::format::encode::{Encode, Importance, join_pairs, put_half, square_sum, sum, weigh};
use crate::format::search::{descend, farthest, nearest, symmetric};

/// The format's name as a type.
pub struct Q3K;

const QS: usize = 32;
const SCALES: usize = QS + 64;
const D: usize = SCALES + 12;
const _: () = assert!(Q3K::BYTES == D + 2);

/// The scale of group `g`, 0..64: its lower 4 bits lie in byte `g % 8` (below for the first eight groups, above for the
/// others), its upper 2 bits in byte `8 + g % 4` at bit `2 · (g / 4)`.
#[inline(always)]
fn scale_code(scales: &[u8; 12], g: usize) -> u8 {
    let low = scales[g % 8] >> (4 * (g / 8)) & 15;
    let high = scales[8 + g % 4] >> (2 * (g / 4)) & 3;
    low | high << 4
}

impl Block for Q3K {
    const LEN: usize = 256;
    const BYTES: usize = 110;
    const GROUP: usize = 16;
    const SYMMETRIC: bool = true;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        let d = half_at(bytes, D);
        let mut codes = [0; 12];
        codes.copy_from_slice(&bytes[SCALES..D]);
        for (g, scale) in scale[..16].iter_mut().enumerate() {
            *scale = d * f32::from(scale_code(&codes, g) as i8 - 32);
        }
        min[..16].fill(0.0);
        let masks = &bytes[..QS];
        for (half, (q, bytes)) in
            q[..Self::LEN].chunks_exact_mut(128).zip(bytes[QS..SCALES].chunks_exact(32)).enumerate()
        {
            for (k, q) in q.chunks_exact_mut(32).enumerate() {
                for ((q, byte), mask) in q.iter_mut().zip(bytes).zip(masks) {
                    let third = mask >> (4 * half + k) & 1;
                    *q = (byte >> (2 * k) & 3 | third << 2) as i8 - 4;
                }
            }
        }
    }
}

impl Encode for Q3K {
    const HALVES: &'static [usize] = &[D];

    fn pack(values: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let groups = values.as_chunks::<16>().0;
        let (mut numbers, mut scales, mut scale_codes) = ([0; Self::LEN], [0.0; 16], [0; 16]);
        let d = if let Some(Importance { columns, .. }) = importance {
            let spread = 2.0 * square_sum(values) / Self::LEN as f32;
            let mut weights = [0.0; 16];
            for (g, (x, numbers)) in groups.iter().zip(numbers.as_chunks_mut().0).enumerate() {
                let each = weigh(x, &columns[g * Self::GROUP..], spread);
                scales[g] = symmetric(4.0, x, &each, numbers);
                weights[g] = sum(&each);
            }
            symmetric(32.0, &scales, &weights, &mut scale_codes)
        } else {
            for ((x, numbers), scale) in groups.iter().zip(numbers.as_chunks_mut().0).zip(&mut scales) {
                *scale = descend(4, x, numbers);
            }
            code_scales(&scales, &mut scale_codes)
        };
        let d = put_half(out, D, d);
        pack_scales(&scale_codes, &mut out[SCALES..D]);

        // Once more, for the scales that will be read back. Where a scale became zero, any codes do; these are the ones
        // that the search left.
        for ((x, numbers), scale) in groups.iter().zip(numbers.as_chunks_mut::<16>().0).zip(scale_codes) {
            let scale = d * f32::from(scale as i8 - 32);
            if scale != 0.0 {
                for (code, x) in numbers.iter_mut().zip(x) {
                    *code = (nearest(x / scale).clamp(-4, 3) + 4) as u8;
                }
            }
        }
        for (j, mask) in out[..QS].iter_mut().enumerate() {
            *mask = (0..8).fold(0, |byte, k| byte | (numbers[32 * k + j] >> 2) << k);
        }
        for (numbers, out) in numbers.chunks_exact(128).zip(out[QS..SCALES].chunks_exact_mut(32)) {
            join_pairs(numbers, out);
        }
    }
}

/// Gives the scale farthest from zero the code 0, −32 steps, and the others what follows; returns the step.
fn code_scales(scales: &[f32; 16], codes: &mut [u8; 16]) -> f32 {
    let farthest = farthest(scales);
    if farthest == 0.0 {
        return 0.0;
    }
    let inverse = -32.0 / farthest;
    for (code, scale) in codes.iter_mut().zip(scales) {
        *code = (nearest(inverse * scale).clamp(-32, 31) + 32) as u8;
    }
    1.0 / inverse
}

/// The way back from [`scale_code`].
fn pack_scales(codes: &[u8; 16], out: &mut [u8]) {
    out.fill(0);
    for (g, code) in codes.iter().enumerate() {
        out[g % 8] |= (code & 15) << (4 * (g / 8));
        out[8 + g % 4] |= code >> 4 << (2 * (g / 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_read_as_they_were_packed() {
        for g in 0..16 {
            for code in 0..64 {
                let mut codes = [21; 16];
                codes[g] = code;
                let mut packed = [0; 12];
                pack_scales(&codes, &mut packed);
                assert_eq!(std::array::from_fn(|g| scale_code(&packed, g)), codes);
            }
        }
    }
}
