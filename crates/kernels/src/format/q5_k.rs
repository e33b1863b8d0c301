//! Q5_K: 256 numbers of 5 bits in groups of 32, each with a scale and a minimum of 6 bits. `w = d·s·code − dmin·m`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale of the scales, f16 |
//! | 2–3 | `dmin` | scale of the minima, f16 |
//! | 4–15 | `scales` | 8 scales and 8 minima, see `scales_k4` |
//! | 16–47 | `qh` | bit g of byte j: the fifth bit of number 32g + j |
//! | 48–175 | `qs` | 32 bytes for each 64 numbers; byte j: lower bits of number j below, of number j + 32 above |

use crate::format::block::{Block, half_at, nibbles};
use crate::format::scales_k4;

/// The format's name as a type.
pub struct Q5K;

const DMIN: usize = 2;
const SCALES: usize = 4;
const QH: usize = SCALES + scales_k4::BYTES;
const QS: usize = QH + 32;
const _: () = assert!(Q5K::BYTES == QS + 128);

impl Block for Q5K {
    const LEN: usize = 256;
    const BYTES: usize = 176;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = false;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        let (d, dmin) = (half_at(bytes, 0), half_at(bytes, DMIN));
        let (scales, minima) = scales_k4::unpack(&bytes[SCALES..QH]);
        for g in 0..8 {
            scale[g] = d * f32::from(scales[g]);
            min[g] = dmin * f32::from(minima[g]);
        }
        for (q, bytes) in q[..Self::LEN].chunks_exact_mut(64).zip(bytes[QS..Self::BYTES].chunks_exact(32)) {
            let (low, high) = q.split_at_mut(32);
            nibbles(bytes, low, high, |code| code as i8);
        }
        for (g, q) in q[..Self::LEN].chunks_exact_mut(32).enumerate() {
            for (q, byte) in q.iter_mut().zip(&bytes[QH..QS]) {
                *q |= (byte >> g & 1) as i8 * 16;
            }
        }
    }
}
