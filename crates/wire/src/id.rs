//! The names of things that meet on the wire. A name from a stranger is checked once, here, and is safe afterwards
//! in a path, a URL, a log line and a page.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::world::Entropy;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// Empty, or longer than a name may be.
    #[error("{what} must have 1 to {max} characters, this one has {len}")]
    Length {
        /// Which kind of name.
        what: &'static str,
        /// The most characters allowed.
        max: usize,
        /// How many there were.
        len: usize,
    },
    /// A character outside the alphabet of names.
    #[error(
        "{what} may have a-z, 0-9, '-', '_' and '.', and begins with a letter or digit; found {found:?} at {at}"
    )]
    Character {
        /// Which kind of name.
        what: &'static str,
        /// The offending character.
        found: char,
        /// Its position, from 0.
        at: usize,
    },
    /// Not 32 hexadecimal digits.
    #[error("{what} must be 32 lower-case hexadecimal digits")]
    Hex {
        /// Which kind of name.
        what: &'static str,
    },
}

/// The most characters of a [`NodeId`] or one part of a [`StreamName`].
const NAME_MAX: usize = 64;

fn check_name(what: &'static str, name: &str, max: usize) -> Result<(), BadId> {
    let len = name.chars().count();
    if len == 0 || len > max {
        return Err(BadId::Length { what, max, len });
    }
    for (at, found) in name.chars().enumerate() {
        let letter = found.is_ascii_lowercase() || found.is_ascii_digit();
        if !(letter || at > 0 && matches!(found, '-' | '_' | '.')) {
            return Err(BadId::Character { what, found, at });
        }
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Box<str>);

        impl $type {
            /// Checks and keeps a name.
            pub fn new(name: &str) -> Result<Self, BadId> {
                check_name($what, name, $max)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = BadId;
            fn from_str(name: &str) -> Result<Self, BadId> {
                Self::new(name)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// One node of the fleet, as its operator named it: `pump-station-7`.
    NodeId, "a node's name", NAME_MAX
}

name! {
    /// A part of a flow: a source, a model, a rule. `pump_health`.
    PartName, "a part's name", NAME_MAX
}

name! {
    /// An ordered run of records in one journal: `decisions`, `readings.pump`.
    StreamName, "a stream's name", 2 * NAME_MAX
}

macro_rules! random_id {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(u128);

        impl $type {
            /// Draws a new one; 128 random bits, so two never meet.
            pub fn random(entropy: &mut dyn Entropy) -> Self {
                let mut bytes = [0; 16];
                entropy.fill(&mut bytes);
                Self(u128::from_be_bytes(bytes))
            }

            /// Reads the 32 hexadecimal digits that `Display` writes.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                let hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                let value = if hex { u128::from_str_radix(text, 16).ok() } else { None };
                value.map(Self).ok_or(BadId::Hex { what: $what })
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($type), "({:032x})"), self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id! {
    /// One life of a journal. A journal that was lost, or restored from a copy, goes on under a new one, so that
    /// sequence numbers are never used twice.
    JournalId, "a journal's id"
}

random_id! {
    /// One run of the node process. Monotonic times are comparable within it.
    BootId, "a boot's id"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Simulated;

    #[test]
    fn names() {
        fn check(name: &str, good: bool) {
            assert_eq!(NodeId::new(name).is_ok(), good, "{name:?}");
        }
        check("pump-station-7", true);
        check("a", true);
        check("7.oslo_2", true);
        check("", false);
        check("-a", false);
        check("../etc", false);
        check("Pump", false);
        check("a b", false);
        check("<script>", false);
        check("é", false);
        check(&"a".repeat(64), true);
        check(&"a".repeat(65), false);
    }

    #[test]
    fn a_bad_name_is_refused_while_reading() {
        let error = serde_json::from_str::<NodeId>("\"A\"").unwrap_err().to_string();
        assert!(error.contains("found 'A' at 0"), "{error}");
        assert!(serde_json::from_str::<NodeId>("\"ok\"").is_ok());
    }

    #[test]
    fn random_ids_survive_a_round_trip() {
        let mut world = Simulated::new(1);
        let id = JournalId::random(&mut world);
        assert_eq!(JournalId::parse(&id.to_string()), Ok(id));
        assert_ne!(id, JournalId::random(&mut world));
        assert!(JournalId::parse("xyz").is_err());
        assert!(JournalId::parse(&"A".repeat(32)).is_err());
    }
}
