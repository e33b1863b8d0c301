//! Q4_0: 32 numbers of 4 bits around zero, with one scale. `w = d · (code − 8)`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale, f16 |
//! | 2–17 | `qs` | byte j: number j below, number j + 16 above |

use crate::format::block::{Block, half_at, nibbles};
use crate::format::encode::{Encode, Importance, join_nibbles, put_half, weigh};
use crate::format::search::{farthest, symmetric};

/// The format's name as a type.
pub struct Q4_0;

const QS: usize = 2;
const _: () = assert!(Q4_0::BYTES == QS + 16);

impl Block for Q4_0 {
    const LEN: usize = 32;
    const BYTES: usize = 18;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = true;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = half_at(bytes, 0);
        min[0] = 0.0;
        let (low, high) = q[..Self::LEN].split_at_mut(16);
        nibbles(&bytes[QS..Self::BYTES], low, high, |code| code as i8 - 8);
    }
}

impl Encode for Q4_0 {
    const HALVES: &'static [usize] = &[0];

    /// Without importance, the number farthest from zero becomes exactly −8 steps.
    fn pack(values: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let mut codes = [0; Self::LEN];
        let values: &[f32; Self::LEN] = values.as_array().expect("a block of values");
        match importance {
            Some(Importance { columns, row_mean_square }) => {
                let weights = weigh(values, columns, row_mean_square);
                let d = symmetric(8.0, values, &weights, &mut codes);
                put_half(out, 0, d);
            }
            None => {
                let d = farthest(values) / -8.0;
                let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
                put_half(out, 0, d);
                for (code, x) in codes.iter_mut().zip(values) {
                    *code = ((x * inverse + 8.5) as u8).min(15);
                }
            }
        }
        join_nibbles(&codes, &mut out[QS..]);
    }
}
