//! Q6_K: 256 numbers of 6 bits around zero in groups of 16, each with a scale of 8 bits. `w = d · s · (code − 32)`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–127 | `ql` | 64 bytes for each half of 128 numbers; byte j: lower 4 bits of number j below, of number j + 64 above |
//! | 128–191 | `qh` | 32 bytes for each half; bits 2k, 2k + 1 of byte j: upper 2 bits of number 32k + j |
//! | 192–207 | `scales` | scale of each group, i8 |
//! | 208–209 | `d` | scale of the scales, f16 |

use crate::format::block::{Block, half_at, nibbles};
use crate::format::encode::{Encode, Importance, put_half};
use crate::format::search::{DUST, farthest, nearest, symmetric};

/// The format's name as a type.
pub struct Q6K;

const QH: usize = 128;
const SCALES: usize = QH + 64;
const D: usize = SCALES + 16;
const _: () = assert!(Q6K::BYTES == D + 2);

impl Block for Q6K {
    const LEN: usize = 256;
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const SYMMETRIC: bool = true;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        let d = half_at(bytes, D);
        for (scale, byte) in scale[..16].iter_mut().zip(&bytes[SCALES..D]) {
            *scale = d * f32::from(*byte as i8);
        }
        min[..16].fill(0.0);
        let halves = bytes[..QH].chunks_exact(64).zip(bytes[QH..SCALES].chunks_exact(32));
        for (q, (low_bits, high_bits)) in q[..Self::LEN].chunks_exact_mut(128).zip(halves) {
            let (low, high) = q.split_at_mut(64);
            nibbles(low_bits, low, high, |code| code as i8 - 32);
            for (k, q) in q.chunks_exact_mut(32).enumerate() {
                for (q, byte) in q.iter_mut().zip(high_bits) {
                    *q += (byte >> (2 * k) & 3) as i8 * 16;
                }
            }
        }
    }
}

impl Encode for Q6K {
    const HALVES: &'static [usize] = &[D];

    /// The scale farthest from zero becomes −128 steps.
    fn pack(values: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let groups = values.as_chunks::<16>().0;
        let (mut numbers, mut scales) = ([0; Self::LEN], [0.0; 16]);
        for (g, (x, numbers)) in groups.iter().zip(numbers.as_chunks_mut().0).enumerate() {
            let weights = match importance {
                Some(importance) => {
                    *importance.columns[g * Self::GROUP..].first_chunk().expect("a column for each number")
                }
                None => x.map(|x| x * x),
            };
            scales[g] = symmetric(32.0, x, &weights, numbers);
        }
        let farthest = farthest(&scales);
        if farthest.abs() < DUST {
            out.fill(0);
            return;
        }
        let inverse = -128.0 / farthest;
        let d = put_half(out, D, 1.0 / inverse);
        for (g, (x, numbers)) in groups.iter().zip(numbers.as_chunks_mut::<16>().0).enumerate() {
            let code = nearest(inverse * scales[g]).min(127) as i8;
            out[SCALES + g] = code as u8;
            let scale = d * f32::from(code);
            // Where the scale became zero, any codes do; the search's are left.
            if scale != 0.0 {
                for (number, x) in numbers.iter_mut().zip(x) {
                    *number = (nearest(x / scale).clamp(-32, 31) + 32) as u8;
                }
            }
        }
        for (half, numbers) in numbers.chunks_exact(128).enumerate() {
            for (j, out) in out[64 * half..][..64].iter_mut().enumerate() {
                *out = numbers[j] & 15 | numbers[j + 64] << 4;
            }
            for (j, out) in out[QH + 32 * half..][..32].iter_mut().enumerate() {
                *out = (0..4).fold(0, |byte, k| byte | numbers[32 * k + j] >> 4 << (2 * k));
            }
        }
    }
}
