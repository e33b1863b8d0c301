//! Numbers to blocks: what all encoders share, and what none of them takes.
//!
//! The encoders write what llama.cpp's quantiser writes, byte for byte, with and without an importance matrix; `search`
//! says how. What cannot be held is refused here, so that no file gets a scale that is infinite or a block that silently
//! lost its numbers.

use crate::format::block::Block;
use crate::format::float::{narrow, widen};

/// Numbers beyond this fit no format of blocks, and sums of their powers would leave f32.
const LARGEST_VALUE: f32 = 1e9;

/// Mean squares of activations; the searches multiply them with values and codes and must stay within f32.
const LARGEST_IMPORTANCE: f32 = 1e20;

/// Numbers that a format cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CannotEncode {
    /// A row has to be a whole number of blocks.
    #[error("{values} numbers are no whole number of blocks of {block_len}")]
    PartialBlock {
        /// Numbers that were given.
        values: usize,
        /// Numbers in a block.
        block_len: usize,
    },
    /// NaN or infinite.
    #[error("number {index} is not finite")]
    NotFinite {
        /// Which of the values.
        index: usize,
    },
    /// Too large for the format's scales, or for f16.
    #[error("the numbers from {index} on are too large for this format")]
    TooLarge {
        /// The first number of the block.
        index: usize,
    },
    /// An importance matrix of another model, or of another tensor.
    #[error("{columns} numbers with an importance for {importance}")]
    WrongImportance {
        /// Numbers in the row.
        columns: usize,
        /// Numbers in the importance matrix's row.
        importance: usize,
    },
    /// Importance is a mean of squares: finite and not negative.
    #[error("the importance of column {index} is negative, too large or not a number")]
    BadImportance {
        /// Which column.
        index: usize,
    },
}

/// How much each number of a block weighs.
#[derive(Clone, Copy)]
pub struct Importance<'a> {
    /// Of the block's columns, `[LEN]`.
    pub columns: &'a [f32],
    /// Mean of the squares of the whole row's numbers.
    pub row_mean_square: f32,
}

/// A block format that can be written.
pub trait Encode: Block {
    /// Where the f16 scales lie in a block: these can overflow.
    const HALVES: &'static [usize];

    /// Writes one block: `values`: `[LEN]`, at most 1e9 in size; `out`: `[BYTES]`.
    fn pack(values: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]);
}

/// Encodes one row, or several if there is no importance. `out` holds as many numbers as `values` are.
pub(crate) fn encode<B: Encode>(
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), CannotEncode> {
    refuse(values, importance)?;
    let row_mean_square = match importance {
        Some(_) => square_sum(values) / values.len() as f32,
        None => 0.0,
    };
    let mut importance = importance.map(|columns| columns.chunks_exact(B::LEN));
    for (block, (values, out)) in values.chunks_exact(B::LEN).zip(out.chunks_exact_mut(B::BYTES)).enumerate()
    {
        let columns = importance.as_mut().and_then(Iterator::next);
        B::pack(values, columns.map(|columns| Importance { columns, row_mean_square }), out);
        let overflown = |at: &usize| out[at + 1] & 0x7c == 0x7c;
        if B::HALVES.iter().any(overflown) {
            return Err(CannotEncode::TooLarge { index: block * B::LEN });
        }
    }
    Ok(())
}

fn refuse(values: &[f32], importance: Option<&[f32]>) -> Result<(), CannotEncode> {
    let fits = |x: &f32| x.abs() <= LARGEST_VALUE;
    if let Some(index) = first_not(values, fits) {
        let finite = values[index].is_finite();
        return Err(if finite {
            CannotEncode::TooLarge { index }
        } else {
            CannotEncode::NotFinite { index }
        });
    }
    let Some(importance) = importance else { return Ok(()) };
    if importance.len() != values.len() {
        return Err(CannotEncode::WrongImportance { columns: values.len(), importance: importance.len() });
    }
    match first_not(importance, |x| (0.0..=LARGEST_IMPORTANCE).contains(x)) {
        Some(index) => Err(CannotEncode::BadImportance { index }),
        None => Ok(()),
    }
}

/// The first that is not as it should be. All are looked at before one is looked for: that vectorises.
fn first_not(values: &[f32], good: impl Fn(&f32) -> bool) -> Option<usize> {
    if values.iter().fold(true, |all, x| all & good(x)) { None } else { values.iter().position(|x| !good(x)) }
}

/// Refuses numbers that are finite, but not after `narrow`: what F16 and BF16 ask for. NaN and infinity stay what they are.
pub(crate) fn refuse_overflow(values: &[f32], largest: f32) -> Result<(), CannotEncode> {
    match first_not(values, |x| x.abs() < largest || !x.is_finite()) {
        Some(index) => Err(CannotEncode::TooLarge { index }),
        None => Ok(()),
    }
}

/// `importance · sqrt(spread + x²)`: columns count by how large their inputs are, and large numbers more than small ones,
/// but small ones not nothing.
#[inline(always)]
pub(crate) fn weigh<const N: usize>(x: &[f32; N], columns: &[f32], spread: f32) -> [f32; N] {
    let mut weights = [0.0; N];
    for ((weight, x), column) in weights.iter_mut().zip(x).zip(columns) {
        *weight = column * (spread + x * x).sqrt();
    }
    weights
}

/// The sum of squares, in order.
#[inline(always)]
pub(crate) fn square_sum(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x * x)
}

/// Sums, in order.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x)
}

/// Codes of 4 bits, the first half of them below and the second above; `out` has a byte for two codes.
#[inline(always)]
pub(crate) fn join_nibbles(codes: &[u8], out: &mut [u8]) {
    let (low, high) = codes.split_at(codes.len() / 2);
    for ((low, high), out) in low.iter().zip(high).zip(out) {
        *out = low & 15 | high << 4;
    }
}

/// The fifth bit of each code, 8 to a byte, in order.
#[inline(always)]
pub(crate) fn join_fifth_bits(codes: &[u8], out: &mut [u8]) {
    for (codes, out) in codes.chunks_exact(8).zip(out) {
        *out = codes.iter().enumerate().fold(0, |byte, (bit, code)| byte | (code >> 4 & 1) << bit);
    }
}

/// The lower two bits of 128 codes in 32 bytes: bits 2k, 2k + 1 of byte j are of code 32k + j.
#[inline(always)]
pub(crate) fn join_pairs(codes: &[u8], out: &mut [u8]) {
    for (j, out) in out.iter_mut().enumerate() {
        *out = codes[j] & 3 | (codes[j + 32] & 3) << 2 | (codes[j + 64] & 3) << 4 | (codes[j + 96] & 3) << 6;
    }
}

/// Writes an f16 at byte `at` and says what it reads back as.
#[inline(always)]
pub(crate) fn put_half(out: &mut [u8], at: usize, value: f32) -> f32 {
    let bits = narrow(value);
    out[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    widen(bits)
}
