//! Q2_K: 256 numbers of 2 bits in groups of 16, each with a scale and a minimum of 4 bits. `w = d·s·code − dmin·m`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–15 | `scales` | byte g: scale of group g below, minimum above |
//! | 16–79 | `qs` | 32 bytes for each half of 128 numbers; bits 2k, 2k + 1 of byte j: number 32k + j of the half |
//! | 80–81 | `d` | scale of the scales, f16 |
//! | 82–83 | `dmin` | scale of the minima, f16 |

use crate::format::block::{Block, half_at};
use crate::format::encode::{Encode, Importance, join_pairs};
use crate::format::groups::{Spec, choose};
use crate::format::search::Steps;

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

const SPEC: Spec = Spec {
    top: 3,
    scale_top: 15,
    steps: Steps { first: -0.5, step: 0.1, count: 15, absolute: true },
    weight: |size, _| size,
    spread: 1.0,
    d: D,
    dmin: DMIN,
};

impl Encode for Q2K {
    const HALVES: &'static [usize] = &[D, DMIN];

    fn pack(values: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let codes = choose::<16, 16>(&SPEC, values, importance, out);
        for ((out, scale), minimum) in out.iter_mut().zip(codes.scales).zip(codes.minima) {
            *out = scale | minimum << 4;
        }
        for (codes, out) in codes.numbers.chunks_exact(128).zip(out[QS..D].chunks_exact_mut(32)) {
            join_pairs(codes, out);
        }
    }
}
