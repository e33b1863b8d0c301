//! What a metadata entry of a GGUF file holds: a number, a truth, a text, or a typed array of one of these.
//!
//! Stands below `metadata`. An array of texts is one buffer and its ends, because a vocabulary of 256 000 tokens must
//! not cost 256 000 allocations. Always: what was read is written back byte for byte, also text that is not UTF-8.

use std::borrow::Cow;

/// The type of a value or of an array's items; the number is the one in the file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    /// All kinds, by number.
    pub const ALL: [Kind; 13] = [
        Kind::U8,
        Kind::I8,
        Kind::U16,
        Kind::I16,
        Kind::U32,
        Kind::I32,
        Kind::F32,
        Kind::Bool,
        Kind::String,
        Kind::Array,
        Kind::U64,
        Kind::I64,
        Kind::F64,
    ];

    /// The kind that a file means by `number`.
    pub fn from_number(number: u32) -> Option<Kind> {
        Kind::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// As people write it: `u32`, `string`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::U8 => "u8",
            Kind::I8 => "i8",
            Kind::U16 => "u16",
            Kind::I16 => "i16",
            Kind::U32 => "u32",
            Kind::I32 => "i32",
            Kind::F32 => "f32",
            Kind::Bool => "bool",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::U64 => "u64",
            Kind::I64 => "i64",
            Kind::F64 => "f64",
        }
    }

    /// The fewest bytes an item of this kind takes in a file: what bounds a count before anything is allocated.
    pub fn least_bytes(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 => 8,
            Kind::String => 8,
            Kind::Array => 12,
        }
    }
}

/// One metadata value.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// A text that is not UTF-8, as it is in the file. It can be carried along, not read.
    Bytes(Vec<u8>),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// The type in the file.
    pub fn kind(&self) -> Kind {
        match self {
            Value::U8(_) => Kind::U8,
            Value::I8(_) => Kind::I8,
            Value::U16(_) => Kind::U16,
            Value::I16(_) => Kind::I16,
            Value::U32(_) => Kind::U32,
            Value::I32(_) => Kind::I32,
            Value::F32(_) => Kind::F32,
            Value::Bool(_) => Kind::Bool,
            Value::String(_) | Value::Bytes(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::U64(_) => Kind::U64,
            Value::I64(_) => Kind::I64,
            Value::F64(_) => Kind::F64,
        }
    }

    /// The type for people: `u32`, `array of string`, `string that is not UTF-8`.
    pub fn describe(&self) -> String {
        match self {
            Value::Array(array) => format!("array of {}", array.kind().name()),
            Value::Bytes(_) => "string that is not UTF-8".to_owned(),
            other => other.kind().name().to_owned(),
        }
    }

    /// The number, if this is an integer of any width.
    pub fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(value) => value.into(),
            Value::I8(value) => value.into(),
            Value::U16(value) => value.into(),
            Value::I16(value) => value.into(),
            Value::U32(value) => value.into(),
            Value::I32(value) => value.into(),
            Value::U64(value) => value.into(),
            Value::I64(value) => value.into(),
            _ => return None,
        })
    }
}

macro_rules! value_from {
    ($($kind:ident: $type:ty),*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Value {
                Value::$kind(value)
            }
        })*
    };
}

value_from!(U8: u8, I8: i8, U16: u16, I16: i16, U32: u32, I32: i32, F32: f32, Bool: bool, String: String, Array: Array, U64: u64, I64: i64, F64: f64);

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::String(value.to_owned())
    }
}

/// An array, whose items all have one type. An array of arrays is refused by the reader: llama.cpp has none either.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Strings(Strings),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Array {
    /// The type of the items.
    pub fn kind(&self) -> Kind {
        match self {
            Array::U8(_) => Kind::U8,
            Array::I8(_) => Kind::I8,
            Array::U16(_) => Kind::U16,
            Array::I16(_) => Kind::I16,
            Array::U32(_) => Kind::U32,
            Array::I32(_) => Kind::I32,
            Array::F32(_) => Kind::F32,
            Array::Bool(_) => Kind::Bool,
            Array::Strings(_) => Kind::String,
            Array::U64(_) => Kind::U64,
            Array::I64(_) => Kind::I64,
            Array::F64(_) => Kind::F64,
        }
    }

    /// How many items.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(items) => items.len(),
            Array::I8(items) => items.len(),
            Array::U16(items) => items.len(),
            Array::I16(items) => items.len(),
            Array::U32(items) => items.len(),
            Array::I32(items) => items.len(),
            Array::F32(items) => items.len(),
            Array::Bool(items) => items.len(),
            Array::Strings(items) => items.len(),
            Array::U64(items) => items.len(),
            Array::I64(items) => items.len(),
            Array::F64(items) => items.len(),
        }
    }

    /// True if there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items, if they are integers of any width that all fit into `T`.
    pub fn integers<T>(&self) -> Option<Vec<T>>
    where
        T: TryFrom<u8>
            + TryFrom<i8>
            + TryFrom<u16>
            + TryFrom<i16>
            + TryFrom<u32>
            + TryFrom<i32>
            + TryFrom<u64>
            + TryFrom<i64>,
    {
        fn all<S: Copy, T: TryFrom<S>>(items: &[S]) -> Option<Vec<T>> {
            items.iter().map(|&item| T::try_from(item).ok()).collect()
        }
        match self {
            Array::U8(items) => all(items),
            Array::I8(items) => all(items),
            Array::U16(items) => all(items),
            Array::I16(items) => all(items),
            Array::U32(items) => all(items),
            Array::I32(items) => all(items),
            Array::U64(items) => all(items),
            Array::I64(items) => all(items),
            Array::F32(_) | Array::F64(_) | Array::Bool(_) | Array::Strings(_) => None,
        }
    }
}

/// Many texts in one buffer: a vocabulary, a list of merges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Strings {
    /// All texts, one after the other; what is not UTF-8 has become U+FFFD here and is kept in `raw`.
    text: String,
    /// Where in `text` each ends.
    ends: Vec<usize>,
    /// The bytes as they were, if any text was not UTF-8: all texts, and where each ends.
    raw: Option<Box<(Vec<u8>, Vec<usize>)>>,
}

impl Strings {
    /// No texts, with room for `count` of `bytes` in all.
    pub fn with_capacity(count: usize, bytes: usize) -> Strings {
        Strings { text: String::with_capacity(bytes), ends: Vec::with_capacity(count), raw: None }
    }

    /// How many texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// True if every text was UTF-8, so that [`get`](Strings::get) and [`bytes`](Strings::bytes) agree.
    pub fn is_utf8(&self) -> bool {
        self.raw.is_none()
    }

    /// The text at `index`, U+FFFD where it was not UTF-8. `None` past the end.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.text.get(start..end)
    }

    /// The bytes at `index` as they were in the file. `None` past the end.
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        let Some(raw) = &self.raw else {
            return self.get(index).map(str::as_bytes);
        };
        let (bytes, ends) = &**raw;
        let end = *ends.get(index)?;
        let start = if index == 0 { 0 } else { ends[index - 1] };
        bytes.get(start..end)
    }

    /// The texts in order, as [`get`](Strings::get) gives them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = &self.text[start..end];
            start = end;
            text
        })
    }

    /// Adds a text.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
        if let Some(raw) = &mut self.raw {
            raw.0.extend_from_slice(text.as_bytes());
            raw.1.push(raw.0.len());
        }
    }

    /// Adds a text that may not be UTF-8.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        match String::from_utf8_lossy(bytes) {
            Cow::Borrowed(text) => self.push(text),
            Cow::Owned(text) => {
                let raw = self
                    .raw
                    .get_or_insert_with(|| Box::new((self.text.clone().into_bytes(), self.ends.clone())));
                raw.0.extend_from_slice(bytes);
                raw.1.push(raw.0.len());
                self.text.push_str(&text);
                self.ends.push(self.text.len());
            }
        }
    }
}

impl<T: AsRef<str>> FromIterator<T> for Strings {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Strings {
        let mut strings = Strings::default();
        for text in texts {
            strings.push(text.as_ref());
        }
        strings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_went_in() {
        let given: [&[u8]; 7] =
            [b"a", b"", "grün".as_bytes(), b"\xff\xfe", b"<0x0A>", "▁the".as_bytes(), b"\xe2\x96"];
        let mut strings = Strings::with_capacity(given.len(), 32);
        for (index, bytes) in given.iter().enumerate() {
            strings.push_bytes(bytes);
            assert_eq!(strings.is_utf8(), index < 3);
        }
        strings.push("last");
        assert_eq!(strings.len(), 8);
        for (index, bytes) in given.iter().enumerate() {
            assert_eq!(strings.bytes(index), Some(*bytes), "text {index}");
            assert_eq!(strings.get(index), Some(&*String::from_utf8_lossy(bytes)), "text {index}");
        }
        assert_eq!((strings.get(7), strings.bytes(7)), (Some("last"), Some(&b"last"[..])));
        assert_eq!((strings.get(8), strings.bytes(8)), (None, None));
        assert!(strings.iter().enumerate().all(|(index, text)| strings.get(index) == Some(text)));
    }

    #[test]
    fn integers_of_any_width_are_read_if_they_fit() {
        assert_eq!(Array::I64(vec![0, 7]).integers::<u32>(), Some(vec![0, 7]));
        assert_eq!(Array::I32(vec![0, -1]).integers::<u32>(), None);
        assert_eq!(Array::U64(vec![1 << 31]).integers::<i32>(), None);
        assert_eq!(Array::F32(vec![1.0]).integers::<i32>(), None);
        assert_eq!(Array::Bool(vec![true]).integers::<u8>(), None);
    }

    #[test]
    fn kinds_know_their_numbers() {
        for (number, kind) in (0..).zip(Kind::ALL) {
            assert_eq!(kind as u32, number);
            assert_eq!(Kind::from_number(number), Some(kind));
        }
        assert_eq!(Kind::from_number(13), None);
    }
}
