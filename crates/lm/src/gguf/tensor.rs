//! What a GGUF file says of one tensor, and every tensor type that GGUF has a number for.
//!
//! Stands below `header`. Types that we do not compute keep their number and name, so that a model can be refused by
//! name with what is supported.

use std::fmt;

use kernels::format::Format;

/// A tensor as its file describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tensor {
    /// `blk.0.attn_q.weight`.
    pub name: String,
    /// One to four dimensions, none of them zero. `dims[0]` is the columns, which lie side by side in memory.
    pub dims: Vec<u64>,
    /// How the numbers are written.
    pub format: TensorFormat,
    /// Where it begins, counted from the beginning of the data of its part, in bytes.
    pub offset: u64,
    /// How long it is. Of a type without a known block size: how much room the file leaves for it.
    pub bytes: u64,
    /// Which part of a split model holds it; 0 if the model is one file.
    pub part: u16,
}

impl Tensor {
    /// Numbers in the tensor. No overflow: the reader has checked the product.
    pub fn len(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Always false: a tensor without numbers is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers that lie side by side.
    pub fn columns(&self) -> u64 {
        self.dims[0]
    }

    /// How many rows of [`columns`](Tensor::columns), over all other dimensions.
    pub fn rows(&self) -> u64 {
        self.dims[1..].iter().product()
    }
}

/// A tensor type of GGUF: one we compute, one we only know by name, or one nobody has told us about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TensorFormat {
    /// A format of `kernels`.
    Known(Format),
    /// A type that GGUF has or had, and we do not compute.
    Named(Named),
    /// A number newer than this program.
    Unknown(u32),
}

/// A tensor type that we do not compute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Named {
    number: u32,
    name: &'static str,
    /// Numbers and bytes of a block; `None` for types that llama.cpp has removed.
    block: Option<(u64, u64)>,
}

/// The formats that `kernels` computes, with their numbers in a file.
const KNOWN: [(u32, Format); 16] = [
    (0, Format::F32),
    (1, Format::F16),
    (2, Format::Q4_0),
    (3, Format::Q4_1),
    (6, Format::Q5_0),
    (7, Format::Q5_1),
    (8, Format::Q8_0),
    (10, Format::Q2K),
    (11, Format::Q3K),
    (12, Format::Q4K),
    (13, Format::Q5K),
    (14, Format::Q6K),
    (15, Format::Q8K),
    (20, Format::IQ4NL),
    (23, Format::IQ4XS),
    (30, Format::BF16),
];

/// The others. Numbers and sizes as in ggml.h and gguf-py's `GGML_QUANT_SIZES`, September 2026.
const NAMED: [Named; 27] = [
    Named::removed(4, "Q4_2"),
    Named::removed(5, "Q4_3"),
    Named::new(9, "Q8_1", 32, 36),
    Named::new(16, "IQ2_XXS", 256, 66),
    Named::new(17, "IQ2_XS", 256, 74),
    Named::new(18, "IQ3_XXS", 256, 98),
    Named::new(19, "IQ1_S", 256, 50),
    Named::new(21, "IQ3_S", 256, 110),
    Named::new(22, "IQ2_S", 256, 82),
    Named::new(24, "I8", 1, 1),
    Named::new(25, "I16", 1, 2),
    Named::new(26, "I32", 1, 4),
    Named::new(27, "I64", 1, 8),
    Named::new(28, "F64", 1, 8),
    Named::new(29, "IQ1_M", 256, 56),
    Named::removed(31, "Q4_0_4_4"),
    Named::removed(32, "Q4_0_4_8"),
    Named::removed(33, "Q4_0_8_8"),
    Named::new(34, "TQ1_0", 256, 54),
    Named::new(35, "TQ2_0", 256, 66),
    Named::removed(36, "IQ4_NL_4_4"),
    Named::removed(37, "IQ4_NL_4_8"),
    Named::removed(38, "IQ4_NL_8_8"),
    Named::new(39, "MXFP4", 32, 17),
    Named::new(40, "NVFP4", 64, 36),
    Named::new(41, "Q1_0", 128, 18),
    Named::new(42, "Q2_0", 64, 18),
];

impl Named {
    const fn new(number: u32, name: &'static str, block_len: u64, block_bytes: u64) -> Named {
        Named { number, name, block: Some((block_len, block_bytes)) }
    }

    const fn removed(number: u32, name: &'static str) -> Named {
        Named { number, name, block: None }
    }
}

impl TensorFormat {
    /// The type that a file means by `number`.
    pub fn from_number(number: u32) -> TensorFormat {
        if let Some((_, format)) = KNOWN.iter().find(|known| known.0 == number) {
            return TensorFormat::Known(*format);
        }
        match NAMED.iter().find(|named| named.number == number) {
            Some(named) => TensorFormat::Named(*named),
            None => TensorFormat::Unknown(number),
        }
    }

    /// The number in the file.
    pub fn number(self) -> u32 {
        match self {
            TensorFormat::Known(format) => {
                let known = KNOWN.iter().find(|known| known.1 == format);
                known.map(|known| known.0).expect("the table has every format, a test looks")
            }
            TensorFormat::Named(named) => named.number,
            TensorFormat::Unknown(number) => number,
        }
    }

    /// The format, if we compute it.
    pub fn known(self) -> Option<Format> {
        match self {
            TensorFormat::Known(format) => Some(format),
            TensorFormat::Named(_) | TensorFormat::Unknown(_) => None,
        }
    }

    /// Numbers and bytes of a block, if anybody knows.
    pub fn block(self) -> Option<(u64, u64)> {
        match self {
            TensorFormat::Known(format) => Some((format.block_len() as u64, format.block_bytes() as u64)),
            TensorFormat::Named(named) => named.block,
            TensorFormat::Unknown(_) => None,
        }
    }
}

impl fmt::Display for TensorFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorFormat::Known(format) => f.write_str(format.name()),
            TensorFormat::Named(named) => f.write_str(named.name),
            TensorFormat::Unknown(number) => write!(f, "type {number}"),
        }
    }
}

impl From<Format> for TensorFormat {
    fn from(format: Format) -> TensorFormat {
        TensorFormat::Known(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_one_meaning_and_comes_back() {
        for number in 0..64 {
            let format = TensorFormat::from_number(number);
            assert_eq!(format.number(), number);
            assert_eq!(matches!(format, TensorFormat::Unknown(_)), number > 42, "{number} is {format}");
        }
        for format in Format::ALL {
            assert_eq!(TensorFormat::from_number(TensorFormat::from(format).number()).known(), Some(format));
        }
    }

    #[test]
    fn types_are_printed_as_llama_cpp_calls_them() {
        let names: Vec<String> =
            [0, 12, 16, 20, 31, 39, 99].map(|number| TensorFormat::from_number(number).to_string()).into();
        assert_eq!(names, ["F32", "Q4_K", "IQ2_XXS", "IQ4_NL", "Q4_0_4_4", "MXFP4", "type 99"]);
    }
}
