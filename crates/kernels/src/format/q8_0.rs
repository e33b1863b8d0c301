//! Q8_0: 32 numbers of 8 bits, with one scale. `w = d · code`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale, f16 |
//! | 2–33 | `qs` | the codes, i8 |

use crate::format::block::{Block, half_at, signed};

/// The format's name as a type.
pub struct Q8_0;

const QS: usize = 2;
const _: () = assert!(Q8_0::BYTES == QS + 32);

impl Block for Q8_0 {
    const LEN: usize = 32;
    const BYTES: usize = 34;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = true;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        scale[0] = half_at(bytes, 0);
        min[0] = 0.0;
        signed(&bytes[QS..Self::BYTES], &mut q[..Self::LEN]);
    }
}
