//! How numbers lie in a file: the block formats of GGUF, one file each.
//!
//! A format is a length, a number of bytes, and how to read them ([`block::Block`]); decoding, the defining dot product and
//! every faster path follow from that. [`Format`] is the same as a value, for what is only known when a file is open.
//! Files hold formats by name and number; which number means which format is the business of the file's reader.

pub mod block;
pub mod encode;
pub mod float;
mod groups;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod levels;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
pub mod q8_k;
mod scales_k4;
mod search;

use block::Block;
use encode::CannotEncode;
use iq4_nl::IQ4NL;
use iq4_xs::IQ4XS;
use q2_k::Q2K;
use q3_k::Q3K;
use q4_0::Q4_0;
use q4_1::Q4_1;
use q4_k::Q4K;
use q5_0::Q5_0;
use q5_1::Q5_1;
use q5_k::Q5K;
use q6_k::Q6K;
use q8_0::Q8_0;
use q8_k::Q8K;

use crate::quantised::Row;

/// How numbers lie in a file.
#[allow(missing_docs, reason = "the names are the documentation; each has a file of its own")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    IQ4NL,
    IQ4XS,
}

/// `in_blocks!(format, B => quantised, float => other)`: the first expression with `B` as the format's [`Block`] type, or
/// the second for the three formats that have no blocks.
macro_rules! in_blocks {
    ($format:expr, $block:ident => $quantised:expr, $($float:pat => $other:expr),+ $(,)?) => {
        match $format {
            Format::Q4_0 => { type $block = Q4_0; $quantised }
            Format::Q4_1 => { type $block = Q4_1; $quantised }
            Format::Q5_0 => { type $block = Q5_0; $quantised }
            Format::Q5_1 => { type $block = Q5_1; $quantised }
            Format::Q8_0 => { type $block = Q8_0; $quantised }
            Format::Q2K => { type $block = Q2K; $quantised }
            Format::Q3K => { type $block = Q3K; $quantised }
            Format::Q4K => { type $block = Q4K; $quantised }
            Format::Q5K => { type $block = Q5K; $quantised }
            Format::Q6K => { type $block = Q6K; $quantised }
            Format::Q8K => { type $block = Q8K; $quantised }
            Format::IQ4NL => { type $block = IQ4NL; $quantised }
            Format::IQ4XS => { type $block = IQ4XS; $quantised }
            $($float => $other,)+
        }
    };
}

impl Format {
    /// Every format, in the order of the enum.
    pub const ALL: [Format; 16] = [
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q2K,
        Format::Q3K,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
        Format::Q8K,
        Format::IQ4NL,
        Format::IQ4XS,
    ];

    /// The name as users know it, `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::BF16 => "BF16",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q5_0 => "Q5_0",
            Format::Q5_1 => "Q5_1",
            Format::Q8_0 => "Q8_0",
            Format::Q2K => "Q2_K",
            Format::Q3K => "Q3_K",
            Format::Q4K => "Q4_K",
            Format::Q5K => "Q5_K",
            Format::Q6K => "Q6_K",
            Format::Q8K => "Q8_K",
            Format::IQ4NL => "IQ4_NL",
            Format::IQ4XS => "IQ4_XS",
        }
    }

    /// The format of that name, in any case.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// Integers with scales, not floating-point numbers one by one.
    pub fn is_quantised(self) -> bool {
        !matches!(self, Format::F32 | Format::F16 | Format::BF16)
    }

    /// Numbers in a block: 1, 32 or 256.
    pub fn block_len(self) -> usize {
        in_blocks!(self, B => B::LEN, Format::F32 | Format::F16 | Format::BF16 => 1)
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        in_blocks!(self, B => B::BYTES, Format::F32 => 4, Format::F16 | Format::BF16 => 2)
    }

    /// Bytes of a row of `cols` numbers; `None` if that is no whole number of blocks, or more than memory can hold.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        cols.is_multiple_of(self.block_len())
            .then(|| (cols / self.block_len()).checked_mul(self.block_bytes()))?
    }

    /// Multiplies out whole blocks: `out` holds as many numbers as `bytes` do, which the caller has made sure of.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        self.assert_lengths(bytes, out.len());
        in_blocks!(self, B => block::decode::<B>(bytes, out),
            Format::F32 => float::decode_single(bytes, out),
            Format::F16 => float::decode_half(bytes, out),
            Format::BF16 => float::decode_brain(bytes, out),
        );
    }

    /// The dot product of a row with quantised activations, for formats in blocks: the definition that faster paths are
    /// compared with, see [`block::dot`]. `x` is as long as the row.
    pub fn dot(self, bytes: &[u8], x: Row<'_>) -> f32 {
        self.assert_lengths(bytes, x.q.len());
        in_blocks!(self, B => block::dot::<B>(bytes, x),
            Format::F32 | Format::F16 | Format::BF16 => panic!("{} is not multiplied in integers", self.name()))
    }

    /// Writes `values` to `out`, which holds as many numbers. Bytes are those of llama.cpp's quantiser.
    ///
    /// `importance`: how much an error in each column counts, the row of an importance matrix; `values` is one row then.
    /// Without it each format has its own idea of what counts, and `values` may be any number of rows. A group whose
    /// columns all count nothing may become zeros: whoever has an importance of zero only because an input was never seen
    /// says 1 instead.
    pub fn encode(
        self,
        values: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), CannotEncode> {
        if !values.len().is_multiple_of(self.block_len()) {
            return Err(CannotEncode::PartialBlock { values: values.len(), block_len: self.block_len() });
        }
        self.assert_lengths(out, values.len());
        in_blocks!(self, B => encode::encode::<B>(values, importance, out),
            Format::F32 => {
                float::encode_single(values, out);
                Ok(())
            },
            Format::F16 => encode::refuse_overflow(values, float::HALF_END).map(|()| float::encode_half(values, out)),
            Format::BF16 => encode::refuse_overflow(values, float::BRAIN_END).map(|()| float::encode_brain(values, out)),
        )
    }

    fn assert_lengths(self, bytes: &[u8], numbers: usize) {
        assert!(
            self.row_bytes(numbers) == Some(bytes.len()),
            "{} bytes of {} are no {numbers} numbers",
            bytes.len(),
            self.name()
        );
    }
}
