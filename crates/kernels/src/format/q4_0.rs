//! Q4_0: 32 numbers of 4 bits around zero, with one scale. `w = d · (code − 8)`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale, f16 |
//! | 2–17 | `qs` | byte j: number j below, number j + 16 above |

use crate::format::block::{Block, half_at, nibbles};

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
