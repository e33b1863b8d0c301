//! Q5_1: 32 numbers of 5 bits above a smallest one. `w = d · code + m`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale, f16 |
//! | 2–3 | `m` | smallest number, f16; its negative is the minimum of [`Block`] |
//! | 4–7 | `qh` | bit i (little-endian): the fifth bit of number i |
//! | 8–23 | `qs` | byte j: the lower bits of number j below, of number j + 16 above |

use crate::format::block::{Block, fifth_bits, half_at, nibbles};

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
