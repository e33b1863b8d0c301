//! Q8_0: 32 numbers of 8 bits, with one scale. `w = d · code`
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–1 | `d` | scale, f16 |
//! | 2–33 | `qs` | the codes, i8 |

use crate::format::block::{Block, half_at, signed};
use crate::format::encode::{Encode, Importance, put_half};

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

impl Encode for Q8_0 {
    const HALVES: &'static [usize] = &[0];

    /// The number farthest from zero becomes ±127. Importance changes nothing.
    fn pack(values: &[f32], _importance: Option<Importance<'_>>, out: &mut [u8]) {
        let largest = values.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        let d = largest / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        put_half(out, 0, d);
        for (out, x) in out[QS..].iter_mut().zip(values) {
            *out = round_away(x * inverse) as u8;
        }
    }
}

/// Rounds halves away from zero. The largest f32 below a half, because adding a half itself would lift 0.49999997 to 1.
fn round_away(x: f32) -> i8 {
    (x + 0.499_999_97_f32.copysign(x)) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_away_from_zero() {
        for steps in -254..=254i16 {
            let half = f32::from(steps) / 2.0;
            for x in [half.next_down(), half, half.next_up()] {
                assert_eq!(f32::from(round_away(x)), x.round(), "{x}");
            }
        }
    }
}
