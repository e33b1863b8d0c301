//! A tensor: numbers or words, and the shape they have.
//!
//! What `network` takes and gives, whichever runtime computes. Row-major, and always whole: the product of the shape is the
//! number of elements.

use std::ops::Range;

use half::f16;

/// The most dimensions of a tensor.
pub const RANK_MAX: usize = 16;

/// Elements, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `float32`
    F32(Vec<f32>),
    /// `float64`
    F64(Vec<f64>),
    /// `float16`
    F16(Vec<f16>),
    /// `int8`
    I8(Vec<i8>),
    /// `int16`
    I16(Vec<i16>),
    /// `int32`
    I32(Vec<i32>),
    /// `int64`
    I64(Vec<i64>),
    /// `uint8`
    U8(Vec<u8>),
    /// `uint16`
    U16(Vec<u16>),
    /// `uint32`
    U32(Vec<u32>),
    /// `uint64`
    U64(Vec<u64>),
    /// `bool`
    Bool(Vec<bool>),
    /// `string`
    Text(Vec<String>),
}

/// The words of ONNX for the kinds of elements that a tensor can have.
pub const KINDS: [&str; 13] = [
    "float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "bool", "string",
];

/// A shape that its elements do not fill.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// Other elements than places.
    #[error("a tensor of shape {shape:?} with {elements} elements")]
    Unequal {
        /// The shape.
        shape: Vec<usize>,
        /// Elements that are there.
        elements: usize,
    },
    /// More dimensions than [`RANK_MAX`], or more elements than can be counted.
    #[error("a tensor of {rank} dimensions that is larger than any honest one")]
    TooLarge {
        /// Its dimensions.
        rank: usize,
    },
}

/// Numbers or words with a shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Default for Tensor {
    /// One without elements.
    fn default() -> Tensor {
        Tensor { shape: vec![0], data: Data::F32(Vec::new()) }
    }
}

impl Data {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(list) => list.len(),
            Data::F64(list) => list.len(),
            Data::F16(list) => list.len(),
            Data::I8(list) => list.len(),
            Data::I16(list) => list.len(),
            Data::I32(list) => list.len(),
            Data::I64(list) => list.len(),
            Data::U8(list) => list.len(),
            Data::U16(list) => list.len(),
            Data::U32(list) => list.len(),
            Data::U64(list) => list.len(),
            Data::Bool(list) => list.len(),
            Data::Text(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The word of ONNX for its kind: `float32`.
    pub fn kind(&self) -> &'static str {
        match self {
            Data::F32(_) => "float32",
            Data::F64(_) => "float64",
            Data::F16(_) => "float16",
            Data::I8(_) => "int8",
            Data::I16(_) => "int16",
            Data::I32(_) => "int32",
            Data::I64(_) => "int64",
            Data::U8(_) => "uint8",
            Data::U16(_) => "uint16",
            Data::U32(_) => "uint32",
            Data::U64(_) => "uint64",
            Data::Bool(_) => "bool",
            Data::Text(_) => "string",
        }
    }

    /// Zeros of a kind, or empty texts; `None` for a kind that is none of [`KINDS`].
    pub fn zeros(kind: &str, count: usize) -> Option<Data> {
        Some(match kind {
            "float32" => Data::F32(vec![0.0; count]),
            "float64" => Data::F64(vec![0.0; count]),
            "float16" => Data::F16(vec![f16::ZERO; count]),
            "int8" => Data::I8(vec![0; count]),
            "int16" => Data::I16(vec![0; count]),
            "int32" => Data::I32(vec![0; count]),
            "int64" => Data::I64(vec![0; count]),
            "uint8" => Data::U8(vec![0; count]),
            "uint16" => Data::U16(vec![0; count]),
            "uint32" => Data::U32(vec![0; count]),
            "uint64" => Data::U64(vec![0; count]),
            "bool" => Data::Bool(vec![false; count]),
            "string" => Data::Text(vec![String::new(); count]),
            _ => return None,
        })
    }

    /// Numbers as a kind wants them: rounded to the nearest for whole numbers, not 0 is true; `None` for `string` and unknown kinds.
    pub fn of_numbers(kind: &str, numbers: &[f64]) -> Option<Data> {
        /// Rust's casts go to the nearest value that the type has.
        macro_rules! cast {
            ($to:ty) => {
                numbers.iter().map(|number| number.round() as $to).collect()
            };
        }
        Some(match kind {
            "float32" => Data::F32(numbers.iter().map(|number| *number as f32).collect()),
            "float64" => Data::F64(numbers.to_vec()),
            "float16" => Data::F16(numbers.iter().map(|number| f16::from_f64(*number)).collect()),
            "int8" => Data::I8(cast!(i8)),
            "int16" => Data::I16(cast!(i16)),
            "int32" => Data::I32(cast!(i32)),
            "int64" => Data::I64(cast!(i64)),
            "uint8" => Data::U8(cast!(u8)),
            "uint16" => Data::U16(cast!(u16)),
            "uint32" => Data::U32(cast!(u32)),
            "uint64" => Data::U64(cast!(u64)),
            "bool" => Data::Bool(numbers.iter().map(|number| *number != 0.0).collect()),
            _ => return None,
        })
    }

    /// As numbers, whatever they are stored as; `None` for texts.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        /// What `f64` holds, or the nearest that it has.
        macro_rules! cast {
            ($list:expr) => {
                $list.iter().map(|number| *number as f64).collect()
            };
        }
        Some(match self {
            Data::F32(list) => cast!(list),
            Data::F64(list) => list.clone(),
            Data::F16(list) => list.iter().map(|number| number.to_f64()).collect(),
            Data::I8(list) => cast!(list),
            Data::I16(list) => cast!(list),
            Data::I32(list) => cast!(list),
            Data::I64(list) => cast!(list),
            Data::U8(list) => cast!(list),
            Data::U16(list) => cast!(list),
            Data::U32(list) => cast!(list),
            Data::U64(list) => cast!(list),
            Data::Bool(list) => list.iter().map(|is| f64::from(u8::from(*is))).collect(),
            Data::Text(_) => return None,
        })
    }
}

impl Data {
    /// Adds those of another; `false`, and nothing is added, if they are of another kind.
    pub(crate) fn extend(&mut self, more: &Data) -> bool {
        macro_rules! joined {
            ($($kind:ident),*) => {
                match (self, more) {
                    $((Data::$kind(list), Data::$kind(more)) => list.extend_from_slice(more),)*
                    _ => return false,
                }
            };
        }
        joined!(F32, F64, F16, I8, I16, I32, I64, U8, U16, U32, U64, Bool, Text);
        true
    }

    /// Those of a range, which must lie within them.
    pub(crate) fn part(&self, range: Range<usize>) -> Data {
        macro_rules! part {
            ($($kind:ident),*) => {
                match self {
                    $(Data::$kind(list) => Data::$kind(list[range].to_vec()),)*
                }
            };
        }
        part!(F32, F64, F16, I8, I16, I32, I64, U8, U16, U32, U64, Bool, Text)
    }
}

/// The number of elements of a shape, if it can be counted and has at most [`RANK_MAX`] dimensions.
pub fn elements(shape: &[usize]) -> Option<usize> {
    if shape.len() > RANK_MAX {
        return None;
    }
    // A product with a zero in it is zero, but the others must still be countable: runtimes multiply in their own order.
    let counted =
        shape.iter().filter(|size| **size != 0).try_fold(1usize, |count, size| count.checked_mul(*size))?;
    Some(if shape.contains(&0) { 0 } else { counted })
}

impl Tensor {
    /// Elements in this shape.
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Tensor, TensorError> {
        match elements(&shape) {
            None => Err(TensorError::TooLarge { rank: shape.len() }),
            Some(count) if count == data.len() => Ok(Tensor { shape, data }),
            Some(_) => Err(TensorError::Unequal { elements: data.len(), shape }),
        }
    }

    /// `float32` in this shape.
    pub fn of_f32(shape: &[usize], list: Vec<f32>) -> Result<Tensor, TensorError> {
        Tensor::new(shape.to_vec(), Data::F32(list))
    }

    /// Sizes, slowest first; empty for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements, row-major.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Its parts.
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }

    /// Its elements, if they are `float32`.
    pub fn f32s(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(list) => Some(list),
            _ => None,
        }
    }

    /// Bytes of its elements; texts by their letters.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::F64(list) => list.len() * 8,
            Data::I64(list) => list.len() * 8,
            Data::U64(list) => list.len() * 8,
            Data::F32(list) => list.len() * 4,
            Data::I32(list) => list.len() * 4,
            Data::U32(list) => list.len() * 4,
            Data::F16(list) => list.len() * 2,
            Data::I16(list) => list.len() * 2,
            Data::U16(list) => list.len() * 2,
            Data::I8(_) | Data::U8(_) | Data::Bool(_) => self.data.len(),
            Data::Text(list) => list.iter().map(String::len).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_whole() {
        let two = || Data::F32(vec![1.0, 2.0]);
        assert_eq!(Tensor::new(vec![1, 2], two()).unwrap().shape(), [1, 2]);
        assert_eq!(Tensor::new(vec![], Data::I64(vec![7])).unwrap().bytes(), 8);
        assert!(Tensor::new(vec![0, 9], Data::U8(vec![])).is_ok());
        for shape in
            [vec![3], vec![], vec![0, 2], vec![usize::MAX, 2], vec![usize::MAX, 0, 2], vec![1; RANK_MAX + 1]]
        {
            assert!(Tensor::new(shape.clone(), two()).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn numbers_become_what_a_kind_wants() {
        for kind in KINDS {
            let zeros = Data::zeros(kind, 3).unwrap();
            assert_eq!((zeros.kind(), zeros.len()), (kind, 3));
            let there = Data::of_numbers(kind, &[0.0, 1.0, 3.0]);
            match there.map(|data| data.numbers().unwrap()) {
                Some(back) if kind == "bool" => assert_eq!(back, [0.0, 1.0, 1.0]),
                Some(back) => assert_eq!(back, [0.0, 1.0, 3.0], "{kind}"),
                None => assert_eq!(kind, "string"),
            }
        }
        assert_eq!(
            Data::of_numbers("uint8", &[-1.0, 300.0, f64::NAN, 1.5]),
            Some(Data::U8(vec![0, 255, 0, 2]))
        );
        assert_eq!(Data::zeros("complex64", 1), None);
    }
}
