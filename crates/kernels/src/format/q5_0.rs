//! Q5_0: 32 numbers of 5 bits around zero, with one scale. `w = d · (code − 16)`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale, f16 |
//! | 2–5 | `qh` | bit i (little-endian): the fifth bit of number i |
//! | 6–21 | `qs` | byte j: the lower bits of number j below, of number j + 16 above |

use crate::format::block::{Block, fifth_bits, half_at, nibbles};

/// The format's name as a type.
pub struct Q5_0;

const QH: usize = 2;
const QS: usize = 6;
const _: () = assert!(Q5_0::BYTES == QS + 16);

impl Block for Q5_0 {
    const LEN: usize = 32;
    const BYTES: usize = 22;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = true;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = half_at(bytes, 0);
        min[0] = 0.0;
        let (low, high) = q[..Self::LEN].split_at_mut(16);
        nibbles(&bytes[QS..Self::BYTES], low, high, |code| code as i8 - 16);
        fifth_bits(&bytes[QH..QS], &mut q[..Self::LEN]);
    }
}
