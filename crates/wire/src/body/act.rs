//! What an actuator was asked, by whom, and what came of it: the body of records of kind `act`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Body;
use crate::id::PartName;
use crate::world::WallMs;

/// The most bytes of a word that an actuator is set to.
pub const WORD_MAX_BYTES: usize = 256;

/// What an actuator is set to: a word such as `closed`, or a number in its own unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// In the actuator's own unit; finite.
    Number(f64),
    /// One of its words.
    Word(String),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Number(number) => write!(f, "{number}"),
            Setting::Word(word) => f.write_str(word),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Actor {
    /// What kind of asker.
    pub kind: ActorKind,
    /// The rule's name, the person's, the agent's; of the node itself: empty.
    pub name: String,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ActorKind::Node => f.write_str("the node"),
            kind => write!(f, "{} {}", kind.as_str(), self.name),
        }
    }
}

/// Kinds of askers. Declared from the weakest to the strongest word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// A program that was let in: a language model with tools.
    Agent,
    /// A rule of the flow.
    Rule,
    /// A person.
    Person,
    /// The node itself, which only ever brings an actuator back to its safe state.
    Node,
}

impl ActorKind {
    /// The word used in encodings and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            ActorKind::Agent => "agent",
            ActorKind::Rule => "rule",
            ActorKind::Person => "person",
            ActorKind::Node => "node",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The device took it; it may still be on its way to a number far off.
    Done,
    /// It would have been done: the actuator is on a dry run.
    Dry,
    /// A rule asks, and something stands before it: it gets its turn by itself.
    Waits,
    /// It is not done.
    Refused,
    /// The device did not take it, or does not confirm it.
    Failed,
    /// The word of whoever asked no longer stands.
    Over,
}

impl Outcome {
    /// The word used in encodings and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Dry => "dry",
            Outcome::Waits => "waits",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Over => "over",
        }
    }
}

/// An actuator was asked something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// The actuator.
    pub actuator: PartName,
    /// Who asked.
    pub who: Actor,
    /// What for.
    pub asked: Setting,
    /// What came of it.
    pub outcome: Outcome,
    /// Why: the asker's reason if it was done, the envelope's if it was not.
    pub why: String,
    /// What the device says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// Until when it stands if nobody renews it; absent where nothing stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<WallMs>,
    /// Refusals before this one that have no record of their own.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub untold: u64,
}

impl Body for Act {
    const KIND: &'static str = "act";
}

/// What a device said after it was set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// What it was set to: on the way to a far number the first step.
    pub set: Setting,
    /// What it says that it is; absent where it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Setting>,
    /// How long it took to set it and to read it back, in milliseconds.
    pub took_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changing this text breaks journals in the field: add optional fields only.
    #[test]
    fn the_encoding_is_golden() {
        let act = Act {
            actuator: PartName::new("valve").unwrap(),
            who: Actor { kind: ActorKind::Person, name: "kim".into() },
            asked: Setting::Word("closed".into()),
            outcome: Outcome::Done,
            why: "a leak at the north gate".into(),
            receipt: Some(Receipt {
                set: Setting::Word("closed".into()),
                read: Some(Setting::Number(1.5)),
                took_ms: 12,
            }),
            until_ms: Some(600_000),
            untold: 0,
        };
        let text = serde_json::to_string(&act).unwrap();
        let golden = "{\"actuator\":\"valve\",\"who\":{\"kind\":\"person\",\"name\":\"kim\"},\"asked\":\"closed\",\
             \"outcome\":\"done\",\"why\":\"a leak at the north gate\",\"receipt\":{\"set\":\"closed\",\"read\":1.5,\
             \"took_ms\":12},\"until_ms\":600000}";
        assert_eq!(text, golden);
        assert_eq!(serde_json::from_str::<Act>(&text).unwrap(), act);
    }
}
