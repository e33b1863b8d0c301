//! What a GGUF file says about itself: keys and values in the order of the file, with typed getters.
//!
//! Every getter comes twice: `u32(key)` wants the key to be there, `find_u32(key)` gives `None` if it is not. A value of
//! the wrong type is an error in both, and the error names the key, what was wanted and what stands there. Integers
//! are read from any width that fits, because writers disagree on widths.

use std::borrow::Cow;

use super::value::{Array, Strings, Value};

/// A key that is missing, or holds something else than was asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MetadataError {
    /// The file does not say it.
    #[error("the file has no metadata entry {key:?}")]
    Missing {
        /// What was asked for.
        key: String,
    },
    /// The file says something of another type.
    #[error("the metadata entry {key:?} is of type {found}, wanted is {wanted}")]
    WrongType {
        /// What was asked for.
        key: String,
        /// The type that was asked for.
        wanted: &'static str,
        /// The type in the file.
        found: String,
    },
    /// An integer that is too large or negative.
    #[error("the metadata entry {key:?} is {found}, which is no {wanted}")]
    OutOfRange {
        /// What was asked for.
        key: String,
        /// The type that was asked for.
        wanted: &'static str,
        /// The number in the file.
        found: i128,
    },
}

/// Keys and values, in the order of the file. No key stands twice.
#[derive(Clone, Default, Debug)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    /// Indices into `entries`, sorted by key.
    by_key: Vec<u32>,
}

impl Metadata {
    /// Nothing said yet.
    pub fn new() -> Metadata {
        Metadata::default()
    }

    /// Takes the entries of a file; the first key that stands twice is the error.
    pub fn from_entries(entries: Vec<(String, Value)>) -> Result<Metadata, String> {
        let count = u32::try_from(entries.len()).map_err(|_| "more than 2^32 entries".to_owned())?;
        let mut by_key: Vec<u32> = (0..count).collect();
        by_key.sort_by(|&a, &b| entries[a as usize].0.cmp(&entries[b as usize].0));
        for pair in by_key.windows(2) {
            let [first, second] = [&entries[pair[0] as usize].0, &entries[pair[1] as usize].0];
            if first == second {
                return Err(first.clone());
            }
        }
        Ok(Metadata { entries, by_key })
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let place = self.place(key).ok()?;
        Some(&self.entries[self.by_key[place] as usize].1)
    }

    /// Sets a key: in its place if it is there, at the end if not.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        match self.place(key) {
            Ok(place) => self.entries[self.by_key[place] as usize].1 = value.into(),
            Err(place) => {
                let index = u32::try_from(self.entries.len()).expect("nobody sets 2^32 keys");
                self.entries.push((key.to_owned(), value.into()));
                self.by_key.insert(place, index);
            }
        }
    }

    /// Takes a key out; the order of the others stays.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let place = self.place(key).ok()?;
        let index = self.by_key.remove(place);
        for other in &mut self.by_key {
            *other -= u32::from(*other > index);
        }
        Some(self.entries.remove(index as usize).1)
    }

    /// Where in `by_key` the key stands, or would.
    fn place(&self, key: &str) -> Result<usize, usize> {
        self.by_key.binary_search_by(|&index| self.entries[index as usize].0.as_str().cmp(key))
    }

    /// A text; an error if there is none.
    pub fn string(&self, key: &str) -> Result<&str, MetadataError> {
        present(key, self.find_string(key)?)
    }

    /// A text, if there is one.
    pub fn find_string(&self, key: &str) -> Result<Option<&str>, MetadataError> {
        self.find(key, "string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer of any width that fits; an error if there is none.
    pub fn u32(&self, key: &str) -> Result<u32, MetadataError> {
        present(key, self.find_u32(key)?)
    }

    /// An integer of any width that fits, if there is one.
    pub fn find_u32(&self, key: &str) -> Result<Option<u32>, MetadataError> {
        self.find_integer(key, "u32")
    }

    /// An integer of any width that fits; an error if there is none.
    pub fn u64(&self, key: &str) -> Result<u64, MetadataError> {
        present(key, self.find_u64(key)?)
    }

    /// An integer of any width that fits, if there is one.
    pub fn find_u64(&self, key: &str) -> Result<Option<u64>, MetadataError> {
        self.find_integer(key, "u64")
    }

    /// A number with a fraction (an f64 is rounded); an error if there is none.
    pub fn f32(&self, key: &str) -> Result<f32, MetadataError> {
        present(key, self.find_f32(key)?)
    }

    /// A number with a fraction (an f64 is rounded), if there is one.
    pub fn find_f32(&self, key: &str) -> Result<Option<f32>, MetadataError> {
        self.find(key, "f32", |value| match *value {
            Value::F32(number) => Some(number),
            Value::F64(number) => Some(number as f32),
            _ => None,
        })
    }

    /// A truth; an error if there is none.
    pub fn bool(&self, key: &str) -> Result<bool, MetadataError> {
        present(key, self.find_bool(key)?)
    }

    /// A truth, if there is one.
    pub fn find_bool(&self, key: &str) -> Result<Option<bool>, MetadataError> {
        self.find(key, "bool", |value| match *value {
            Value::Bool(truth) => Some(truth),
            _ => None,
        })
    }

    /// An array of texts; an error if there is none.
    pub fn strings(&self, key: &str) -> Result<&Strings, MetadataError> {
        present(key, self.find_strings(key)?)
    }

    /// An array of texts, if there is one.
    pub fn find_strings(&self, key: &str) -> Result<Option<&Strings>, MetadataError> {
        self.find(key, "array of string", |value| match value {
            Value::Array(Array::Strings(strings)) => Some(strings),
            _ => None,
        })
    }

    /// An array of f32; an error if there is none.
    pub fn f32s(&self, key: &str) -> Result<&[f32], MetadataError> {
        present(key, self.find_f32s(key)?)
    }

    /// An array of f32, if there is one.
    pub fn find_f32s(&self, key: &str) -> Result<Option<&[f32]>, MetadataError> {
        self.find(key, "array of f32", |value| match value {
            Value::Array(Array::F32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// An array of integers that all fit an i32; an error if there is none.
    pub fn i32s(&self, key: &str) -> Result<Cow<'_, [i32]>, MetadataError> {
        present(key, self.find_i32s(key)?)
    }

    /// An array of integers that all fit an i32, if there is one.
    pub fn find_i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>, MetadataError> {
        self.find(key, "array of i32", |value| match value {
            Value::Array(Array::I32(numbers)) => Some(Cow::Borrowed(numbers.as_slice())),
            Value::Array(array) => array.integers().map(Cow::Owned),
            _ => None,
        })
    }

    /// An array of integers that all fit a u32; an error if there is none.
    pub fn u32s(&self, key: &str) -> Result<Cow<'_, [u32]>, MetadataError> {
        present(key, self.find_u32s(key)?)
    }

    /// An array of integers that all fit a u32, if there is one.
    pub fn find_u32s(&self, key: &str) -> Result<Option<Cow<'_, [u32]>>, MetadataError> {
        self.find(key, "array of u32", |value| match value {
            Value::Array(Array::U32(numbers)) => Some(Cow::Borrowed(numbers.as_slice())),
            Value::Array(array) => array.integers().map(Cow::Owned),
            _ => None,
        })
    }

    /// An array of truths, written as such or as integers; `None` if the key is not there.
    pub fn find_bools(&self, key: &str) -> Result<Option<Vec<bool>>, MetadataError> {
        self.find(key, "array of bool", |value| match value {
            Value::Array(Array::Bool(truths)) => Some(truths.clone()),
            Value::Array(array) => {
                Some(array.integers::<i64>()?.into_iter().map(|number| number != 0).collect())
            }
            _ => None,
        })
    }

    fn find<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        pick: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, MetadataError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match pick(value) {
            Some(picked) => Ok(Some(picked)),
            None => Err(MetadataError::WrongType { key: key.to_owned(), wanted, found: value.describe() }),
        }
    }

    fn find_integer<T: TryFrom<i128>>(
        &self,
        key: &str,
        wanted: &'static str,
    ) -> Result<Option<T>, MetadataError> {
        let Some(found) = self.find(key, wanted, Value::integer)? else {
            return Ok(None);
        };
        let fitting = T::try_from(found);
        fitting.map(Some).map_err(|_| MetadataError::OutOfRange { key: key.to_owned(), wanted, found })
    }
}

/// Order counts: it is what a file is written in.
impl PartialEq for Metadata {
    fn eq(&self, other: &Metadata) -> bool {
        self.entries == other.entries
    }
}

fn present<T>(key: &str, found: Option<T>) -> Result<T, MetadataError> {
    found.ok_or_else(|| MetadataError::Missing { key: key.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Metadata {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", "llama");
        metadata.set("llama.block_count", 22_u32);
        metadata.set("small", Value::U8(7));
        metadata.set("below", Value::I64(-1));
        metadata.set("eps", 1e-5_f32);
        metadata.set("wide", 0.5_f64);
        metadata.set("yes", true);
        metadata.set("scores", Array::F32(vec![0.0, -1.5]));
        metadata.set("types", Array::U32(vec![1, 2]));
        metadata.set("tokens", Array::Strings(["a", "b"].iter().collect()));
        metadata.set("broken", Value::Bytes(vec![0xff]));
        metadata
    }

    #[test]
    fn getters_read_what_is_there() {
        let metadata = sample();
        assert_eq!(metadata.string("general.architecture"), Ok("llama"));
        assert_eq!(metadata.u32("llama.block_count"), Ok(22));
        assert_eq!((metadata.u32("small"), metadata.u64("small")), (Ok(7), Ok(7)));
        assert_eq!((metadata.f32("eps"), metadata.f32("wide")), (Ok(1e-5), Ok(0.5)));
        assert_eq!(metadata.bool("yes"), Ok(true));
        assert_eq!(metadata.f32s("scores"), Ok(&[0.0, -1.5][..]));
        assert_eq!(metadata.i32s("types").as_deref(), Ok(&[1, 2][..]));
        assert_eq!(metadata.u32s("types").as_deref(), Ok(&[1, 2][..]));
        assert_eq!(metadata.find_bools("types"), Ok(Some(vec![true, true])));
        assert_eq!(metadata.strings("tokens").map(Strings::len), Ok(2));
        assert_eq!(metadata.find_u32("absent"), Ok(None));
    }

    #[test]
    fn errors_name_the_key_and_both_types() {
        let metadata = sample();
        let cases = [
            (metadata.u32("absent").unwrap_err(), "the file has no metadata entry \"absent\""),
            (metadata.u32("eps").unwrap_err(), "the metadata entry \"eps\" is of type f32, wanted is u32"),
            (metadata.find_u32("below").unwrap_err(), "the metadata entry \"below\" is -1, which is no u32"),
            (
                metadata.string("small").unwrap_err(),
                "the metadata entry \"small\" is of type u8, wanted is string",
            ),
            (
                metadata.string("broken").unwrap_err(),
                "the metadata entry \"broken\" is of type string that is not UTF-8, wanted is string",
            ),
            (
                metadata.strings("types").unwrap_err(),
                "the metadata entry \"types\" is of type array of u32, wanted is array of string",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn setting_and_removing_keep_the_order() {
        let mut metadata = sample();
        metadata.set("small", 9_u32);
        assert_eq!(metadata.iter().nth(2), Some(("small", &Value::U32(9))));
        assert_eq!(metadata.remove("small"), Some(Value::U32(9)));
        assert_eq!(metadata.remove("small"), None);
        metadata.set("added", 1_u32);
        let keys: Vec<&str> = metadata.iter().map(|(key, _)| key).collect();
        let expected =
            "general.architecture llama.block_count below eps wide yes scores types tokens broken added";
        assert_eq!(keys.join(" "), expected);
        for (key, value) in metadata.iter() {
            assert_eq!(metadata.get(key), Some(value), "{key}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_named() {
        let twice = ["b", "a", "c", "a"].map(|key| (key.to_owned(), Value::Bool(true)));
        assert_eq!(Metadata::from_entries(twice.to_vec()), Err("a".to_owned()));
    }
}
