//! The hash chain of a stream: each record's hash covers the hash before it, so a record cannot be changed, removed
//! or slipped in without every later hash changing.
//!
//! The hash is SHA-256 over a text header, one field a line, and the body. An auditor can check it with `sha256sum`:
//!
//! ```text
//! selvedge-record/1
//! <hash of the record before, or 64 zeros>
//! <stream> <seq> <class> <kind>
//! <boot> <mono_ns> <wall_ms> <clock>
//! <body>
//! ```

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::class::Class;
use crate::id::StreamName;
use crate::record::Stamp;

/// A SHA-256 hash; 64 lower-case hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first record of a stream has before it.
    pub const GENESIS: Hash = Hash([0; 32]);

    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes 32 bytes as a hash; `None` if there are more or fewer.
    pub fn from_slice(bytes: &[u8]) -> Option<Hash> {
        bytes.try_into().ok().map(Hash)
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Hash> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Hash(bytes))
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Hash::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a hash is 64 lower-case hexadecimal digits"))
    }
}

/// The part of a record that its hash covers beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// The record's stream.
    pub stream: &'a StreamName,
    /// The stream's class.
    pub class: Class,
    /// The record's place in the stream.
    pub seq: u64,
    /// What the body is.
    pub kind: &'a str,
    /// When it was written.
    pub stamp: Stamp,
}

/// The hash of a record that follows `before`.
pub fn link(before: Hash, link: Link<'_>, body: &str) -> Hash {
    let Link { stream, class, seq, kind, stamp: Stamp { boot, mono_ns, wall_ms, clock } } = link;
    let mut header = String::with_capacity(256);
    // Writing to a String cannot fail.
    let _ = write!(
        header,
        "selvedge-record/1\n{before}\n{stream} {seq} {class} {kind}\n{boot} {mono_ns} {wall_ms} {}\n",
        clock.as_str()
    );
    Hash(Sha256::new().chain_update(header.as_bytes()).chain_update(body.as_bytes()).finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BootId;
    use crate::world::{ClockQuality, Simulated};

    fn sample(seq: u64, wall_ms: i64, body: &str) -> Hash {
        let stream = StreamName::new("decisions").unwrap();
        let boot = BootId::random(&mut Simulated::new(1));
        let stamp = Stamp { boot, mono_ns: 5, wall_ms, clock: ClockQuality::Checked };
        link(Hash::GENESIS, Link { stream: &stream, class: Class::Audit, seq, kind: "decision", stamp }, body)
    }

    #[test]
    fn hex_round_trip() {
        let hash = Hash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        assert_eq!(Hash::parse("ba78"), None);
        assert_eq!(Hash::parse(&"G".repeat(64)), None);
    }

    /// The form is public: changing it breaks every journal in the field.
    #[test]
    fn the_hashed_form_is_golden() {
        let text = "selvedge-record/1\n0000000000000000000000000000000000000000000000000000000000000000\n\
             decisions 1 audit decision\nc15c0289ec2d0a9167ec8e65a18debbe 5 10 checked\n{\"a\":1}";
        assert_eq!(sample(1, 10, "{\"a\":1}"), Hash::of(text.as_bytes()));
    }

    #[test]
    fn every_part_changes_the_hash() {
        let base = sample(1, 10, "{}");
        assert_ne!(base, sample(2, 10, "{}"));
        assert_ne!(base, sample(1, 11, "{}"));
        assert_ne!(base, sample(1, 10, "{ }"));
    }
}
