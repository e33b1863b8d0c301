//! Tensors as ONNX keeps them in files of their own, beside its cases.
#![allow(clippy::unwrap_used, reason = "a test may stop at any fault")]
#![allow(dead_code, reason = "each test uses its part of this")]

use half::f16;
use net::protobuf::{Message, Value, numbers};
use net::tensor::{Data, Tensor};

/// A tensor and its name, from a file of one tensor; `None` if it is no tensor that we have.
pub(crate) fn read_tensor(bytes: &[u8]) -> Option<(String, Tensor)> {
    let (mut dims, mut kind, mut name, mut raw) = (Vec::new(), 0, String::new(), None);
    let (mut fixed, mut whole, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for field in Message::new(bytes).fields() {
        match field.ok()? {
            (1, value) => dims.extend(numbers(value).map(|size| size.unwrap() as usize)),
            (2, Value::Varint(number)) => kind = number,
            (4 | 10, Value::Bytes(packed)) => fixed.extend_from_slice(packed.bytes()),
            (4 | 10, Value::Fixed(one)) => fixed.extend_from_slice(one),
            (5 | 7 | 11, value) => whole.extend(numbers(value).map(|number| number.unwrap() as i64)),
            (6, Value::Bytes(text)) => texts.push(String::from_utf8(text.bytes().to_vec()).ok()?),
            (8, Value::Bytes(text)) => name = String::from_utf8(text.bytes().to_vec()).ok()?,
            (9, Value::Bytes(bytes)) => raw = Some(bytes.bytes().to_vec()),
            _ => {}
        }
    }
    /// From raw bytes, or from packed fixed numbers, or from whole numbers.
    macro_rules! list {
        ($type:ty) => {{
            const SIZE: usize = size_of::<$type>();
            let bytes = raw.as_ref().unwrap_or(&fixed);
            match bytes.is_empty() {
                false => bytes
                    .chunks_exact(SIZE)
                    .map(|one| <$type>::from_le_bytes(one.try_into().unwrap()))
                    .collect(),
                true => whole.iter().map(|number| *number as $type).collect(),
            }
        }};
    }
    let data = match kind {
        1 => Data::F32(list!(f32)),
        2 => Data::U8(list!(u8)),
        3 => Data::I8(list!(i8)),
        4 => Data::U16(list!(u16)),
        5 => Data::I16(list!(i16)),
        6 => Data::I32(list!(i32)),
        7 => Data::I64(list!(i64)),
        8 => Data::Text(texts),
        9 => Data::Bool({
            let bytes: Vec<u8> = list!(u8);
            bytes.into_iter().map(|byte| byte != 0).collect()
        }),
        10 => Data::F16({
            let bits: Vec<u16> = list!(u16);
            bits.into_iter().map(f16::from_bits).collect()
        }),
        11 => Data::F64(list!(f64)),
        12 => Data::U32(list!(u32)),
        13 => Data::U64(list!(u64)),
        _ => return None,
    };
    Some((name, Tensor::new(dims, data).ok()?))
}
