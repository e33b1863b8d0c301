//! Q8_K: 256 numbers of 8 bits, with one f32 scale. `w = d · code`
//!
//! ggml's form of activations for its K-quant kernels; files seldom hold it.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0–3 | `d` | scale, f32 |
//! | 4–259 | `qs` | the codes, i8 |
//! | 260–291 | `bsums` | sums of 16 codes each, i16; they follow from `qs` and are not read |

use crate::format::block::{Block, signed};
use crate::format::encode::{Encode, Importance};
use crate::format::search::{farthest, nearest};

/// The format's name as a type.
pub struct Q8K;

const QS: usize = 4;
const SUMS: usize = QS + 256;
const _: () = assert!(Q8K::BYTES == SUMS + 2 * 16);

impl Block for Q8K {
    const LEN: usize = 256;
    const BYTES: usize = 292;
    const GROUP: usize = 32;
    const SYMMETRIC: bool = true;

    #[inline(always)]
    fn unpack(bytes: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
        scale[..8].fill(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        min[..8].fill(0.0);
        signed(&bytes[QS..SUMS], &mut q[..Self::LEN]);
    }
}

impl Encode for Q8K {
    const HALVES: &'static [usize] = &[];

    /// The number farthest from zero becomes −127. Importance changes nothing.
    fn pack(values: &[f32], _importance: Option<Importance<'_>>, out: &mut [u8]) {
        let farthest = farthest(values);
        if farthest == 0.0 {
            out.fill(0);
            return;
        }
        let inverse = -127.0 / farthest;
        out[..QS].copy_from_slice(&(1.0 / inverse).to_le_bytes());
        let (codes, sums) = out[QS..].split_at_mut(SUMS - QS);
        for (code, x) in codes.iter_mut().zip(values) {
            *code = nearest(inverse * x).min(127) as u8;
        }
        for (sum, codes) in sums.as_chunks_mut().0.iter_mut().zip(codes.chunks_exact(16)) {
            *sum = codes.iter().map(|code| i16::from(*code as i8)).sum::<i16>().to_le_bytes();
        }
    }
}
