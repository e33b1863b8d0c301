//! IQ4_XS: 256 numbers of 4 bits on the levels of IQ4_NL, in groups of 32 with a scale of 6 bits. `w = d·(s − 32)·level[code]`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale of the scales, f16 |
//! | 2–3 | `scales_h` | bits 2g, 2g + 1 (little-endian): upper 2 bits of the scale of group g |
//! | 4–7 | `scales_l` | byte g / 2: lower 4 bits of the scale of group g, below for even g, above for odd |
//! | 8–135 | `qs` | 16 bytes for each group; byte j: number j below, number j + 16 above |

use crate::format::block::{Block, half_at, nibbles};
use crate::format::encode::{Encode, Importance, join_nibbles, put_half, square_sum, weigh};
use crate::format::levels::{level, nearest_code, scale};
use crate::format::search::{farthest, nearest};

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

impl Encode for IQ4XS {
    const HALVES: &'static [usize] = &[0];

    /// The scale farthest from zero becomes −32 steps.
    fn pack(values: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let groups = values.as_chunks::<32>().0;
        let spread = square_sum(values) * (2.0 / Self::LEN as f32);
        let mut scales = [0.0; 8];
        for (g, (x, found)) in groups.iter().zip(&mut scales).enumerate() {
            let weights = match importance {
                Some(Importance { columns, .. }) => weigh(x, &columns[g * Self::GROUP..], spread),
                None => x.map(|x| x * x),
            };
            *found = scale(x, &weights);
        }
        // Numbers are coded for this step as it is, not for the f16 that will be read back: as ggml does.
        let d = -farthest(&scales) / 32.0;
        put_half(out, 0, d);
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let mut high = 0u16;
        out[LOW..QS].fill(0);
        for (g, x) in groups.iter().enumerate() {
            let code = nearest(inverse * scales[g]).clamp(-32, 31);
            let scale = d * code as f32;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let code = (code + 32) as u8;
            out[LOW + g / 2] |= (code & 15) << (4 * (g % 2));
            high |= u16::from(code >> 4) << (2 * g);
            join_nibbles(&x.map(|x| nearest_code(inverse * x)), &mut out[QS + 16 * g..][..16]);
        }
        out[HIGH..LOW].copy_from_slice(&high.to_le_bytes());
    }
}
