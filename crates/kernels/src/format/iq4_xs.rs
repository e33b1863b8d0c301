//! IQ4_XS: 256 numbers of 4 bits on the levels of IQ4_NL, in groups of 32 with a scale of 6 bits. `w = d·(s − 32)·level[code]`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale of the scales, f16 |
//! | 2–3 | `scales_h` | bits 2g, 2g + 1 (little-endian): upper 2 bits of the scale of group g |
//! | 4–7 | `scales_l` | byte g / 2: lower 4 bits of the scale of group g, below for even g, above for odd |
//! | 8–135 | `qs` | 16 bytes for each group; byte j: number j below, number j + 16 above |

use crate::format::block::{Block, half_at, nibbles};
use crate::format::levels::level;

/// The format's name as a type.
pub struct IQ4XS;

const HIGH: usize = 2;
const LOW: usize = 4;
const QS: usize = 8;
const _: () = assert!(IQ4XS::BYTES == QS + 128);

impl Block for IQ4XS {
    const LEN: usize = 256;
    const BYTES: usize = 136;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = true;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        let d = half_at(bytes, 0);
        let high = u16::from_le_bytes([bytes[HIGH], bytes[HIGH + 1]]);
        for (g, scale) in scale[..8].iter_mut().enumerate() {
            let low = bytes[LOW + g / 2] >> (4 * (g % 2)) & 15;
            let upper = (high >> (2 * g) & 3) as u8;
            let code = low | upper << 4;
            *scale = d * f32::from(code as i8 - 32);
        }
        min[..8].fill(0.0);
        for (q, bytes) in q[..Self::LEN].chunks_exact_mut(32).zip(bytes[QS..Self::BYTES].chunks_exact(16)) {
            let (low, high) = q.split_at_mut(16);
            nibbles(bytes, low, high, level);
        }
    }
}
