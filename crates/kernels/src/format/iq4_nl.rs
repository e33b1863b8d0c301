//! IQ4_NL: 32 numbers of 4 bits, with one scale, on levels that lie closer together around zero. `w = d · level[code]`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale, f16 |
//! | 2–17 | `qs` | byte j: number j below, number j + 16 above |

use crate::format::block::{Block, half_at, nibbles};
use crate::format::encode::{Encode, Importance, join_nibbles, put_half, square_sum, weigh};
use crate::format::levels::{level, nearest_code, scale};

/// The format's name as a type.
pub struct IQ4NL;

const QS: usize = 2;
const _: () = assert!(IQ4NL::BYTES == QS + 16);

impl Block for IQ4NL {
    const LEN: usize = 32;
    const BYTES: usize = 18;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = true;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = half_at(bytes, 0);
        min[0] = 0.0;
        let (low, high) = q[..Self::LEN].split_at_mut(16);
        nibbles(&bytes[QS..Self::BYTES], low, high, level);
    }
}

impl Encode for IQ4NL {
    const HALVES: &'static [usize] = &[0];

    fn pack(values: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let values: &[f32; Self::LEN] = values.as_array().expect("a block of values");
        let weights = match importance {
            Some(Importance { columns, .. }) => {
                weigh(values, columns, square_sum(values) * (2.0 / Self::LEN as f32))
            }
            None => values.map(|x| x * x),
        };
        let d = scale(values, &weights);
        put_half(out, 0, d);
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        join_nibbles(&values.map(|x| nearest_code(inverse * x)), &mut out[QS..]);
    }
}
