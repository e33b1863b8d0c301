//! Q4_K: 256 numbers of 4 bits in groups of 32, each with a scale and a minimum of 6 bits. `w = d·s·code − dmin·m`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale of the scales, f16 |
//! | 2–3 | `dmin` | scale of the minima, f16 |
//! | 4–15 | `scales` | 8 scales and 8 minima, see `scales_k4` |
//! | 16–143 | `qs` | 32 bytes for each 64 numbers; byte j: number j below, number j + 32 above |

use crate::format::block::{Block, half_at, nibbles};
use crate::format::encode::{Encode, Importance, join_nibbles};
use crate::format::groups::{Spec, choose};
use crate::format::scales_k4;
use crate::format::search::Steps;

/// The format's name as a type.
pub struct Q4K;

const DMIN: usize = 2;
const SCALES: usize = 4;
const QS: usize = SCALES + scales_k4::BYTES;
const _: () = assert!(Q4K::BYTES == QS + 128);

impl Block for Q4K {
    const LEN: usize = 256;
    const BYTES: usize = 144;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = false;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        let (d, dmin) = (half_at(bytes, 0), half_at(bytes, DMIN));
        let (scales, minima) = scales_k4::unpack(&bytes[SCALES..QS]);
        for g in 0..8 {
            scale[g] = d * f32::from(scales[g]);
            min[g] = dmin * f32::from(minima[g]);
        }
        for (q, bytes) in q[..Self::LEN].chunks_exact_mut(64).zip(bytes[QS..Self::BYTES].chunks_exact(32)) {
            let (low, high) = q.split_at_mut(32);
            nibbles(bytes, low, high, |code| code as i8);
        }
    }
}

const SPEC: Spec = Spec {
    top: 15,
    scale_top: 63,
    steps: Steps { first: -1.0, step: 0.1, count: 20, absolute: false },
    weight: |size, group_root| group_root + size,
    spread: 2.0,
    d: 0,
    dmin: DMIN,
};

impl Encode for Q4K {
    const HALVES: &'static [usize] = &[0, DMIN];

    fn pack(values: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let codes = choose::<8, 32>(&SPEC, values, importance, out);
        scales_k4::pack(&codes.scales, &codes.minima, &mut out[SCALES..QS]);
        for (codes, out) in codes.numbers.chunks_exact(64).zip(out[QS..].chunks_exact_mut(32)) {
            join_nibbles(codes, out);
        }
    }
}
