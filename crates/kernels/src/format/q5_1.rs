//! Q5_1: 32 numbers of 5 bits above a smallest one. `w = d · code + m`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale, f16 |
//! | 2–3 | `m` | smallest number, f16; its negative is the minimum of [`Block`] |
//! | 4–7 | `qh` | bit i (little-endian): the fifth bit of number i |
//! | 8–23 | `qs` | byte j: the lower bits of number j below, of number j + 16 above |

use crate::format::block::{Block, fifth_bits, half_at, nibbles};
use crate::format::encode::{Encode, Importance, join_fifth_bits, join_nibbles, put_half, weigh};
use crate::format::search::{WEIGHTED, affine};

/// The format's name as a type.
pub struct Q5_1;

const M: usize = 2;
const QH: usize = 4;
const QS: usize = 8;
const _: () = assert!(Q5_1::BYTES == QS + 16);

impl Block for Q5_1 {
    const LEN: usize = 32;
    const BYTES: usize = 24;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = false;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = half_at(bytes, 0);
        min[0] = -half_at(bytes, M);
        let (low, high) = q[..Self::LEN].split_at_mut(16);
        nibbles(&bytes[QS..Self::BYTES], low, high, |code| code as i8);
        fifth_bits(&bytes[QH..QS], &mut q[..Self::LEN]);
    }
}

impl Encode for Q5_1 {
    const HALVES: &'static [usize] = &[0, M];

    /// Without importance, the smallest and the largest number become the first and the last code.
    fn pack(values: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let mut codes = [0; Self::LEN];
        let values: &[f32; Self::LEN] = values.as_array().expect("a block of values");
        match importance {
            Some(Importance { columns, row_mean_square }) => {
                let weights = weigh(values, columns, row_mean_square);
                let fit = affine(31.0, values, &weights, &WEIGHTED, &mut codes);
                put_half(out, 0, fit.scale);
                put_half(out, M, -fit.minimum);
            }
            None => {
                // Not `f32::min`: which zero it picks of two is open, and the bytes show it.
                let (mut lowest, mut highest) = (f32::MAX, f32::MIN);
                for x in values {
                    lowest = if *x < lowest { *x } else { lowest };
                    highest = if *x > highest { *x } else { highest };
                }
                let d = (highest - lowest) / 31.0;
                let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
                put_half(out, 0, d);
                put_half(out, M, lowest);
                for (code, x) in codes.iter_mut().zip(values) {
                    *code = (((x - lowest) * inverse + 0.5) as u8).min(31);
                }
            }
        }
        join_fifth_bits(&codes, &mut out[QH..QS]);
        join_nibbles(&codes, &mut out[QS..]);
    }
}
