//! What the documents of a package have in common: JSON from strangers, read with limits, and the words for what is wrong.
//!
//! A name twice in one object means one thing to one reader and another to the next, so annotations have each key once.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The largest manifest, index, config or golden set that is read.
pub const DOCUMENT_MAX_BYTES: usize = 4 << 20;

/// The most layers of a manifest, and the most manifests of an index.
pub const ENTRIES_MAX: usize = 256;

/// The most bytes of one set of annotations, keys and values together.
pub const ANNOTATIONS_MAX_BYTES: usize = 64 << 10;

/// The largest blob: what OCI's sizes can hold.
pub const BLOB_MAX_BYTES: u64 = i64::MAX as u64;

/// Strings with names, in the order of the names.
pub type Annotations = BTreeMap<String, String>;

/// A document of a package that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// Longer than anything honest.
    #[error("this {what} has {bytes} bytes, more than {max_bytes} are not read")]
    TooLong {
        /// Which document.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The most that is read.
        max_bytes: usize,
    },
    /// Not the JSON that it should be.
    #[error("this is no {what}")]
    Json {
        /// Which document.
        what: &'static str,
        /// What is wrong, and where.
        #[source]
        source: serde_json::Error,
    },
    /// Well formed, of a form that this version does not know.
    #[error("the {what} {found:?} is not supported, only {known} is")]
    Unsupported {
        /// What is foreign.
        what: &'static str,
        /// What stands there.
        found: String,
        /// What this version reads.
        known: &'static str,
    },
    /// More than anything honest has.
    #[error("{found} {what}, at most {most} are read")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// The most that are read.
        most: usize,
    },
    /// What has to be there once is there again.
    #[error("two {what} are called {name:?}")]
    Twice {
        /// Of what.
        what: &'static str,
        /// The name that both have.
        name: String,
    },
    /// Something that must be there is not.
    #[error("{key} is missing")]
    Missing {
        /// The key of the annotation or field.
        key: &'static str,
    },
    /// A value that means nothing.
    #[error("{key} is {found:?}: {why}")]
    Value {
        /// The key of the annotation or field.
        key: &'static str,
        /// The beginning of the value.
        found: String,
        /// What it should be.
        why: String,
    },
    /// What is said of something in two places differs.
    #[error("the index and the manifest of {variant} disagree about {key}")]
    Disagree {
        /// The variant.
        variant: String,
        /// The annotation.
        key: String,
    },
    /// A manifest that the index does not name.
    #[error("the index names no manifest {digest}")]
    NotNamed {
        /// The manifest.
        digest: Digest,
    },
}

/// A value that means nothing, with its beginning.
pub fn wrong_value(key: &'static str, found: &str, why: impl std::fmt::Display) -> FormError {
    FormError::Value { key, found: found.chars().take(120).collect(), why: why.to_string() }
}

/// Reads a document of at most [`DOCUMENT_MAX_BYTES`].
pub fn read<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, FormError> {
    if bytes.len() > DOCUMENT_MAX_BYTES {
        return Err(FormError::TooLong { what, bytes: bytes.len(), max_bytes: DOCUMENT_MAX_BYTES });
    }
    serde_json::from_slice(bytes).map_err(|source| FormError::Json { what, source })
}

/// Writes a document: compact, its keys in the order of the type, so that equal things are equal bytes.
pub fn write<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).expect("text, numbers and lists can be written as JSON")
}

/// A number as it stands in names and annotations: digits alone, no zero in front.
pub fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Refuses more annotations than anything honest has.
pub fn check_annotations(annotations: &Annotations) -> Result<(), FormError> {
    let found = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    match found {
        0..=ANNOTATIONS_MAX_BYTES => Ok(()),
        _ => Err(FormError::TooMany { what: "bytes of annotations", found, most: ANNOTATIONS_MAX_BYTES }),
    }
}

/// Reads annotations, each key once. `null` is none: Go's tools write it so.
pub fn annotations<'de, D: Deserializer<'de>>(from: D) -> Result<Annotations, D::Error> {
    struct Once;

    impl<'de> Visitor<'de> for Once {
        type Value = Annotations;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_unit<E: Error>(self) -> Result<Annotations, E> {
            Ok(Annotations::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
            let mut read = Annotations::new();
            while let Some((key, value)) = map.next_entry::<String, String>()? {
                if read.contains_key(&key) {
                    return Err(A::Error::custom(format_args!("the annotation {key:?} stands there twice")));
                }
                read.insert(key, value);
            }
            Ok(read)
        }
    }

    from.deserialize_any(Once)
}

/// Reads a list for which Go's tools write `null` when it is empty.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Noted {
        #[serde(default, deserialize_with = "annotations")]
        annotations: Annotations,
    }

    #[test]
    fn a_key_twice_is_refused() {
        let read = |text: &str| read::<Noted>("note", text.as_bytes());
        assert_eq!(read(r#"{"annotations":{"a":"1","b":"2"}}"#).unwrap().annotations.len(), 2);
        assert!(read(r#"{"annotations":null}"#).unwrap().annotations.is_empty());
        assert!(read("{}").unwrap().annotations.is_empty());
        assert!(matches!(read(r#"{"annotations":{"a":"1","a":"2"}}"#), Err(FormError::Json { .. })));
        assert!(matches!(read(r#"{"annotations":{"a":1}}"#), Err(FormError::Json { .. })));
        assert!(matches!(read(&" ".repeat(DOCUMENT_MAX_BYTES + 1)), Err(FormError::TooLong { .. })));
    }

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("18446744073709551615"), Some(u64::MAX));
        for text in ["", "+7", "-7", "007", "7 ", "18446744073709551616", "٧"] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }
}
