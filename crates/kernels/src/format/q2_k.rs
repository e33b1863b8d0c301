//! Q2_K: 256 numbers of 2 bits in groups of 16, each with a scale and a minimum of 4 bits. `w = d·s·code − dmin·m`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–15 | `scales` | byte g: scale of group g below, minimum above |
//! | 16–79 | `qs` | 32 bytes for each half of 128 numbers; bits 2k, 2k + 1 of byte j: number 32k + j of the half |
//! | 80–81 | `d` | scale of the scales, f16 |
//! | 82–83 | `dmin` | scale of the minima, f16 |

use crate::format::block::{Block, half_at};

/// The format's name as a type.
pub struct Q2K;

const QS: usize = 16;
const D: usize = QS + 64;
const DMIN: usize = D + 2;
const _: () = assert!(Q2K::BYTES == DMIN + 2);

impl Block for Q2K {
    const LEN: usize = 256;
    const BYTES: usize = 84;
    const GROUP: usize = 16;
    const SYMMETRIC: bool = false;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        let (d, dmin) = (half_at(bytes, D), half_at(bytes, DMIN));
        for ((byte, scale), min) in bytes[..QS].iter().zip(&mut scale[..16]).zip(&mut min[..16]) {
            *scale = d * f32::from(byte & 15);
            *min = dmin * f32::from(byte >> 4);
        }
        for (q, bytes) in q[..Self::LEN].chunks_exact_mut(128).zip(bytes[QS..D].chunks_exact(32)) {
            for (k, q) in q.chunks_exact_mut(32).enumerate() {
                for (q, byte) in q.iter_mut().zip(bytes) {
                    *q = (byte >> (2 * k) & 3) as i8;
                }
            }
        }
    }
}
