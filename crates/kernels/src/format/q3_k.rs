//! Q3_K: 256 numbers of 3 bits around zero in groups of 16, each with a scale of 6 bits. `w = d · (s − 32) · (code − 4)`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–31 | `hmask` | bit k of byte j: the third bit of number 32k + j |
//! | 32–95 | `qs` | 32 bytes for each half of 128 numbers; bits 2k, 2k + 1 of byte j: number 32k + j of the half |
//! | 96–107 | `scales` | 16 × 6 bits, see [`scale_code`] |
//! | 108–109 | `d` | scale of the scales, f16 |

use crate::format::block::{Block, half_at};

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
