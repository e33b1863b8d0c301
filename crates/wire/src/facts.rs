//! What a node says it is: names and values, told to the hub as differences, judged by selectors on both sides.
//!
//! Bounded wherever they come from: at most [`FACTS_MAX`] facts of [`FACTS_MAX_BYTES`] together, no text longer than
//! [`TEXT_MAX_BYTES`], no number that is not finite. A difference is applied whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most facts of one node.
pub const FACTS_MAX: usize = 256;
/// The most bytes of all names and values of one node.
pub const FACTS_MAX_BYTES: usize = 16 << 10;
/// The most bytes of one text.
pub const TEXT_MAX_BYTES: usize = 512;
/// The most characters of a fact's name.
pub const NAME_MAX: usize = 128;

/// Words of the selector language: a name that is one of them could not be asked for.
const WORDS: [&str; 5] = ["all", "has", "in", "true", "false"];
/// What only the node itself says; a label of that name is asked for as `label.<name>`.
const RESERVED: [&str; 16] = [
    "name",
    "arch",
    "os",
    "kernel",
    "cores",
    "cpu",
    "isa",
    "ram",
    "disk",
    "accelerator",
    "version",
    "flow",
    "link",
    "relay",
    "can",
    "cannot",
];
/// Families of facts that only the node itself says: a release, a variant, a label, a bill of materials.
const RESERVED_FAMILIES: [&str; 5] = ["model.", "variant.", "trial.", "label.", "bom."];
/// What only the hub knows.
const HUB: [&str; 4] = ["state", "seen", "conflict", "strange"];
/// The hub's saved groups.
const HUB_FAMILY: &str = "group.";

/// Facts that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFacts {
    /// A name outside the alphabet, or a word of the language.
    #[error(
        "{name:?} cannot name a fact: 1 to {NAME_MAX} of a-z, A-Z, 0-9, '_', '-' and '.', a letter first, and none of {}",
        WORDS.join(", ")
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A number that is infinite or none at all.
    #[error("the fact {name} is not a finite number")]
    Number {
        /// Its name.
        name: FactName,
    },
    /// A text longer than a fact may be.
    #[error("the fact {name} has a text of {len} bytes; {TEXT_MAX_BYTES} are allowed")]
    Text {
        /// Its name.
        name: FactName,
        /// Its length in bytes.
        len: usize,
    },
    /// Too many facts, or too large ones.
    #[error("{facts} facts of {bytes} bytes together; a node may have {FACTS_MAX} of {FACTS_MAX_BYTES}")]
    TooMany {
        /// How many.
        facts: usize,
        /// Their bytes.
        bytes: usize,
    },
}

/// The name of a fact: `site`, `ram`, `model.smollm2`, `label.line`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FactName(Box<str>);

impl FactName {
    /// Checks and keeps a name.
    pub fn new(name: &str) -> Result<Self, BadFacts> {
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
        let goes_on = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if begins && goes_on && name.len() <= NAME_MAX && !WORDS.contains(&name) {
            Ok(Self(name.into()))
        } else {
            // A stranger's name is not repeated at any length.
            Err(BadFacts::Name { name: name.chars().take(NAME_MAX).collect() })
        }
    }

    /// The fact that says what a label is: `label.<name>`.
    pub fn of_label(label: &str) -> Result<Self, BadFacts> {
        Self::new(&format!("label.{label}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The label that this fact says, if it says one.
    pub fn label(&self) -> Option<&str> {
        self.0.strip_prefix("label.")
    }

    /// The model whose candidate is on trial, if this fact says that one is.
    pub fn trial(&self) -> Option<&str> {
        self.0.strip_prefix("trial.")
    }

    /// The saved group that this fact is about, if it is about one.
    pub fn group(&self) -> Option<&str> {
        self.0.strip_prefix(HUB_FAMILY)
    }

    /// Whether only the hub knows it: a node cannot judge it, so it has no place in what is signed.
    pub fn is_hubs(&self) -> bool {
        HUB.contains(&self.as_str()) || self.group().is_some()
    }

    /// Whether a label of the same name is asked for by its long name only.
    pub fn is_reserved(&self) -> bool {
        self.is_hubs()
            || RESERVED.contains(&self.as_str())
            || RESERVED_FAMILIES.iter().any(|family| self.0.starts_with(family))
    }
}

impl std::fmt::Display for FactName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for FactName {
    type Err = BadFacts;
    fn from_str(name: &str) -> Result<Self, BadFacts> {
        Self::new(name)
    }
}

impl Serialize for FactName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FactName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// One value. As JSON: a text, a number, a list of texts, or true and false.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// `"aarch64"`.
    Text(String),
    /// Bytes, seconds, hertz, watts, or a plain count; finite.
    Number(f64),
    /// `["avx2", "fma"]`.
    List(Vec<String>),
    /// Whether it is so.
    Truth(bool),
}

impl Fact {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(list) => list.iter().map(|text| text.len() + 1).sum(),
            Self::Number(_) => 8,
            Self::Truth(_) => 1,
        }
    }

    fn check(&self, name: &FactName) -> Result<(), BadFacts> {
        let longest = match self {
            Self::Number(number) if !number.is_finite() => {
                return Err(BadFacts::Number { name: name.clone() });
            }
            Self::Number(_) | Self::Truth(_) => 0,
            Self::Text(text) => text.len(),
            Self::List(list) => list.iter().map(String::len).max().unwrap_or(0),
        };
        if longest > TEXT_MAX_BYTES {
            return Err(BadFacts::Text { name: name.clone(), len: longest });
        }
        Ok(())
    }
}

impl Serialize for Fact {
    /// A whole number is written without a point, as a person would.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        const EXACT: f64 = (1_u64 << 53) as f64;
        match self {
            Self::Text(text) => to.serialize_str(text),
            Self::Number(number) if number.fract() == 0.0 && number.abs() < EXACT => {
                to.serialize_i64(*number as i64)
            }
            Self::Number(number) => to.serialize_f64(*number),
            Self::List(list) => list.serialize(to),
            Self::Truth(truth) => to.serialize_bool(*truth),
        }
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::List(list) => f.pad(&list.join(", ")),
            Self::Truth(truth) => write!(f, "{truth}"),
        }
    }
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<f64> for Fact {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Fact {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

/// All that is known of one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Facts(BTreeMap<FactName, Fact>);

/// What makes older facts into newer ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Facts that are new or other than before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<FactName, Fact>,
    /// Facts that are no more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub drop: BTreeSet<FactName>,
}

impl Delta {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.drop.is_empty()
    }
}

impl Facts {
    /// What is said under exactly this name.
    pub fn get(&self, name: &FactName) -> Option<&Fact> {
        self.0.get(name)
    }

    /// What an expression means by a name: the fact, else the label of that name, unless the name is reserved.
    pub fn find(&self, name: &FactName) -> Option<&Fact> {
        let said = self.0.get(name);
        if said.is_some() || name.is_reserved() {
            return said;
        }
        FactName::of_label(name.as_str()).ok().and_then(|label| self.0.get(&label))
    }

    /// Says one thing, in place of what was said before under this name.
    pub fn set(&mut self, name: FactName, fact: Fact) -> Result<(), BadFacts> {
        self.apply(Delta { set: BTreeMap::from([(name, fact)]), ..Delta::default() })
    }

    /// Says it no more.
    pub fn drop(&mut self, name: &FactName) -> Option<Fact> {
        self.0.remove(name)
    }

    /// In order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&FactName, &Fact)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What makes these facts into `newer`.
    pub fn delta(&self, newer: &Self) -> Delta {
        Delta {
            set: newer.iter().filter(|(name, fact)| self.get(name) != Some(fact)).map(owned).collect(),
            drop: self.0.keys().filter(|name| newer.get(name).is_none()).cloned().collect(),
        }
    }

    /// Makes these facts into the newer ones; on an error they stay as they were.
    pub fn apply(&mut self, delta: Delta) -> Result<(), BadFacts> {
        for (name, fact) in &delta.set {
            fact.check(name)?;
        }
        let (mut facts, mut bytes) = (delta.set.len(), delta.set.iter().map(size_bytes).sum::<usize>());
        for stays in
            self.0.iter().filter(|(name, _)| !delta.set.contains_key(name) && !delta.drop.contains(name))
        {
            facts += 1;
            bytes += size_bytes(stays);
        }
        if facts > FACTS_MAX || bytes > FACTS_MAX_BYTES {
            return Err(BadFacts::TooMany { facts, bytes });
        }
        self.0.retain(|name, _| !delta.drop.contains(name));
        self.0.extend(delta.set);
        Ok(())
    }
}

fn owned((name, fact): (&FactName, &Fact)) -> (FactName, Fact) {
    (name.clone(), fact.clone())
}

fn size_bytes((name, fact): (&FactName, &Fact)) -> usize {
    name.as_str().len() + fact.size_bytes()
}

impl<'de> Deserialize<'de> for Facts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let set = BTreeMap::deserialize(from)?;
        let mut facts = Self::default();
        facts.apply(Delta { set, ..Delta::default() }).map_err(serde::de::Error::custom)?;
        Ok(facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FactName {
        FactName::new(text).unwrap()
    }

    fn facts(json: &str) -> Facts {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_are_checked_and_know_whose_they_are() {
        for good in ["a", "site", "model.smollm2", "label.line", "A-1_b.c", &"n".repeat(128)] {
            assert!(FactName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "1a", ".a", "a b", "a\"", "ö", "all", "in", "true", &"n".repeat(129)] {
            assert!(FactName::new(bad).is_err(), "{bad}");
        }
        assert!(name("seen").is_hubs() && name("group.oslo").is_hubs() && !name("site").is_hubs());
        assert!(name("ram").is_reserved() && name("model.x").is_reserved() && !name("site").is_reserved());
        assert_eq!((name("label.x").label(), name("group.g").group()), (Some("x"), Some("g")));
    }

    #[test]
    fn values_are_written_as_a_person_would_and_read_again() {
        let text =
            r#"{"accelerator":["cuda"],"disk":51200000000,"label.site":"oslo","load":0.5,"relay":true}"#;
        assert_eq!(serde_json::to_string(&facts(text)).unwrap(), text);
        for wrong in [r#"{"a":null}"#, r#"{"a":[1]}"#, r#"{"a":{}}"#, r#"{"in":1}"#, r#"{"a":1e999}"#] {
            assert!(serde_json::from_str::<Facts>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_difference_makes_the_older_into_the_newer() {
        let mut older = facts(r#"{"a":1,"b":"x","c":true}"#);
        let newer = facts(r#"{"a":2,"b":"x","d":["y"]}"#);
        let delta = older.delta(&newer);
        assert_eq!(serde_json::to_string(&delta).unwrap(), r#"{"set":{"a":2,"d":["y"]},"drop":["c"]}"#);
        older.apply(delta).unwrap();
        assert_eq!(older, newer);
        assert!(older.delta(&newer).is_empty());
    }

    #[test]
    fn what_is_too_much_changes_nothing() {
        let mut known = facts(r#"{"a":1}"#);
        let before = known.clone();
        for number in [f64::NAN, f64::INFINITY] {
            assert_eq!(known.set(name("b"), number.into()), Err(BadFacts::Number { name: name("b") }));
        }
        assert!(matches!(
            known.set(name("b"), Fact::Text("x".repeat(513))),
            Err(BadFacts::Text { len: 513, .. })
        ));
        let many: Facts = (0..255).fold(Facts::default(), |mut all, at| {
            all.set(name(&format!("n{at}")), true.into()).unwrap();
            all
        });
        assert!(known.apply(Facts::default().delta(&many)).is_ok());
        assert_eq!(known.len(), 256);
        assert!(matches!(known.set(name("z"), true.into()), Err(BadFacts::TooMany { facts: 257, .. })));
        // One goes as another comes.
        known.apply(Delta { set: [(name("z"), true.into())].into(), drop: [name("n0")].into() }).unwrap();
        let long: BTreeMap<_, _> =
            (0..40).map(|at| (name(&format!("l{at}")), Fact::Text("x".repeat(500)))).collect();
        let mut small = before.clone();
        assert!(matches!(
            small.apply(Delta { set: long, ..Delta::default() }),
            Err(BadFacts::TooMany { .. })
        ));
        assert_eq!(small, before);
    }

    #[test]
    fn a_label_has_its_own_name_but_never_a_reserved_one() {
        let facts = facts(r#"{"arch":"x86_64","label.site":"oslo","label.ram":"much","label.arch":"mine"}"#);
        assert_eq!(facts.find(&name("site")), Some(&"oslo".into()));
        assert_eq!(facts.find(&name("label.site")), Some(&"oslo".into()));
        assert_eq!((facts.find(&name("ram")), facts.find(&name("arch"))), (None, Some(&"x86_64".into())));
    }
}
