//! Q4_1: 32 numbers of 4 bits above a smallest one. `w = d · code + m`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale, f16 |
//! | 2–3 | `m` | smallest number, f16; its negative is the minimum of [`Block`] |
//! | 4–19 | `qs` | byte j: number j below, number j + 16 above |

use crate::format::block::{Block, half_at, nibbles};

/// The format's name as a type.
pub struct Q4_1;

const M: usize = 2;
const QS: usize = 4;
const _: () = assert!(Q4_1::BYTES == QS + 16);

impl Block for Q4_1 {
    const LEN: usize = 32;
    const BYTES: usize = 20;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = false;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = half_at(bytes, 0);
        min[0] = -half_at(bytes, M);
        let (low, high) = q[..Self::LEN].split_at_mut(16);
        nibbles(&bytes[QS..Self::BYTES], low, high, |code| code as i8);
    }
}
