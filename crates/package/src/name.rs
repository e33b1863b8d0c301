//! What a package is called: the model `smollm2`, its release `7`, its variant `q4_k_m`.
//!
//! Names go into paths, URLs, registries and log lines, so they are checked once, and then safe by type: lower case, no
//! `/`, no `..`. The alphabet is that of an OCI repository's part. A stranger's name is refused, never mended.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::form::decimal;

/// The most characters of a name.
const NAME_MAX: usize = 64;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or too long, or with characters that a path, a URL or a registry could misread.
    #[error(
        "{name:?} cannot be the name of a {what}: use 1 to {NAME_MAX} of a-z, 0-9, and between them single '.', '_' or \
         '-', as in smollm2-135m"
    )]
    Name {
        /// Of what.
        what: &'static str,
        /// The beginning of the name.
        name: String,
    },
    /// Not `models/<model>/<release>`.
    #[error("{path:?} is no release: it must be models/, a model's name, / and a number")]
    Target {
        /// The beginning of the path.
        path: String,
    },
}

/// Whether a text is one part of an OCI repository's name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
pub fn is_part(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut between = text.split(letter).filter(|run| !run.is_empty());
    let runs = between.all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|c| c == b'-'));
    runs && text.starts_with(letter) && text.ends_with(letter)
}

/// A checked name.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks a name.
            pub fn new(name: &str) -> Result<$name, NameError> {
                if name.len() <= NAME_MAX && is_part(name) {
                    return Ok($name(name.into()));
                }
                Err(NameError::Name { what: $what, name: name.chars().take(2 * NAME_MAX).collect() })
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                $name::new(name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                $name::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// What a model is called, over all its releases.
    ModelName, "model"
}

name! {
    /// What a variant is called in its release.
    VariantName, "variant"
}

/// The path of a release as a TUF target: `models/<model>/<release>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetPath {
    /// The model.
    pub model: ModelName,
    /// The release: a number that only grows.
    pub release: u64,
}

impl TargetPath {
    /// Reads what `Display` writes.
    pub fn parse(path: &str) -> Result<TargetPath, NameError> {
        let read = || {
            let (model, release) = path.strip_prefix("models/")?.split_once('/')?;
            Some(TargetPath { model: ModelName::new(model).ok()?, release: decimal(release)? })
        };
        read().ok_or_else(|| NameError::Target { path: path.chars().take(2 * NAME_MAX).collect() })
    }
}

impl std::fmt::Display for TargetPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "models/{}/{}", self.model, self.release)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_may_name_a_model() {
        for good in ["a", "smollm2", "smollm2-135m", "q4_k_m", "a.b", "a__b", "a---b", "7", &"a".repeat(64)] {
            assert_eq!(ModelName::new(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in
            ["", ".", "..", "../x", "a/b", "a..b", "a_-b", "a___b", "-a", "a-", ".a", "A", "a b", "a:b"]
        {
            assert!(ModelName::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["a\0", "a\n", "näh", "a\\b", "a%2e", "~a", &"a".repeat(65)] {
            assert!(VariantName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_release_has_one_path() {
        let path = TargetPath::parse("models/smollm2/7").unwrap();
        assert_eq!((path.model.as_str(), path.release), ("smollm2", 7));
        assert_eq!(path.to_string(), "models/smollm2/7");
        for bad in ["models/smollm2/07", "models/smollm2/+7", "models/smollm2", "models//7", "x/smollm2/7"] {
            assert!(TargetPath::parse(bad).is_err(), "{bad:?}");
        }
        for bad in
            ["models/../7", "models/a/b/7", "models/smollm2/7/", "/models/smollm2/7", "models/smollm2/-1"]
        {
            assert!(TargetPath::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_safe_in_a_path(name in "[a-z0-9A-Z./:_\\\\-]{0,12}") {
            if let Ok(name) = ModelName::new(&name) {
                prop_assert!(!name.as_str().contains(['/', '\\', ':']) && !name.as_str().contains(".."));
                let path = TargetPath { model: name, release: 3 };
                prop_assert_eq!(TargetPath::parse(&path.to_string()), Ok(path));
            }
        }
    }
}
