//! What names bytes: `sha256:` and their hash.
//!
//! OCI allows other algorithms. One is enough for us, and a second would be a second way to be wrong: others are told
//! apart from nonsense, and refused.

use std::cmp::Ordering;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wire::hash::Hash;

/// What stands before the hash.
const PREFIX: &str = "sha256:";

/// A text that names no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Well formed, but of an algorithm that this version does not compute.
    #[error("digests of the algorithm {algorithm} are not supported, only sha256 is")]
    Unsupported {
        /// The algorithm's name.
        algorithm: String,
    },
    /// No digest at all.
    #[error("{text:?} is no digest: it must be sha256: and 64 lower-case hexadecimal digits")]
    Malformed {
        /// The beginning of the text.
        text: String,
    },
}

/// The SHA-256 of some bytes, as their name. Ordered by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(Hash);

impl Digest {
    /// The name of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Hash::of(bytes))
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Result<Digest, DigestError> {
        if let Some(hash) = text.strip_prefix(PREFIX).and_then(Hash::parse) {
            return Ok(Digest(hash));
        }
        let foreign = text.split_once(':').filter(|(algorithm, encoded)| {
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+._-".contains(c);
            let name = (1..=32).contains(&algorithm.len()) && algorithm.chars().all(known);
            let code = |c: char| c.is_ascii_alphanumeric() || "=_-".contains(c);
            name && *algorithm != "sha256" && !encoded.is_empty() && encoded.chars().all(code)
        });
        Err(match foreign {
            Some((algorithm, _)) => DigestError::Unsupported { algorithm: algorithm.to_owned() },
            None => DigestError::Malformed { text: text.chars().take(80).collect() },
        })
    }

    /// The 64 digits behind `sha256:`; the name of a blob's file.
    pub fn hex(&self) -> String {
        self.0.to_string()
    }

    /// The hash itself.
    pub fn hash(&self) -> Hash {
        self.0
    }
}

impl From<Hash> for Digest {
    fn from(hash: Hash) -> Digest {
        Digest(hash)
    }
}

impl Ord for Digest {
    fn cmp(&self, other: &Digest) -> Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl PartialOrd for Digest {
    fn partial_cmp(&self, other: &Digest) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({})", self.0)
    }
}

impl std::str::FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        Digest::parse(text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Digest::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let empty = Digest::of(b"{}");
        let text = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(empty.to_string(), text);
        assert_eq!(Digest::parse(text), Ok(empty));
        assert_eq!(empty.hex(), text[7..]);
    }

    #[test]
    fn foreign_is_not_wrong() {
        let unsupported = |text: &str| matches!(Digest::parse(text), Err(DigestError::Unsupported { .. }));
        let malformed = |text: &str| matches!(Digest::parse(text), Err(DigestError::Malformed { .. }));
        assert!(unsupported(&format!("sha512:{}", "0".repeat(128))));
        assert!(unsupported("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8"));
        let hex = "0".repeat(64);
        for text in ["", ":", "sha256:", "sha256:../../etc/passwd", "sha512:../x", "abc", &hex] {
            assert!(malformed(text), "{text:?}");
        }
        assert!(malformed(&format!("sha256:{}", "A".repeat(64))));
        assert!(malformed(&format!("SHA256:{hex}")));
        assert!(malformed(&format!("sha256:{hex}0")));
    }
}
